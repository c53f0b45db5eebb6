//! A state for each player.

use super::*;

/// The recipients and the states of a tick, in the order in which they are sent.
fn states(outputs: &[Output]) -> Vec<(Target, Value)> {
    let of = |output: &Output| match output {
        Output::Body { to, kind: Kind::State, body } => {
            let (_, state): (u32, Value) = msgpack::decode(body).unwrap();
            Some((*to, state))
        }
        _ => None,
    };
    outputs.iter().filter_map(of).collect()
}

fn sent_by(tick: impl FnMut(&mut Context<Probe>, &[Incoming<Probe>]) + 'static) -> (Vec<(Target, Value)>, u64) {
    let mut bench = Bench::new(tick);
    for name in ["one", "two", "three", "four"] {
        bench.join(name);
    }
    let outputs = bench.tick();
    (states(&outputs), bench.room.unsent())
}

#[test]
fn players_get_their_own_states_and_those_with_equal_ones_follow_one_another() {
    let (sent, unsent) = sent_by(|ctx, _| ctx.state_for_each(|player| json!(player.0 % 2)).unwrap());
    let one = |player| Target::One(PlayerId(player));
    let (even, odd) = (json!(0), json!(1));
    assert_eq!(sent, [(one(2), even.clone()), (one(4), even), (one(1), odd.clone()), (one(3), odd)]);
    assert_eq!(unsent, 0);
}

#[test]
fn states_that_are_all_equal_are_one_for_the_room() {
    let (sent, _) = sent_by(|ctx, _| ctx.state_for_each(|_| json!("fog")).unwrap());
    assert_eq!(sent, [(Target::All, json!("fog"))]);
}

#[test]
fn a_state_that_cannot_be_sent_is_one_players_loss() {
    let (sent, unsent) = sent_by(|ctx, _| {
        let too_large = "x".repeat(limits::STATE_BYTES);
        let sent = ctx.state_for_each(|player| if player.0 == 3 { json!(too_large) } else { json!("fog") });
        assert!(sent.is_err());
    });
    let one = |player| (Target::One(PlayerId(player)), json!("fog"));
    assert_eq!((sent, unsent), (vec![one(1), one(2), one(4)], 1), "player 3 must not get the state of the others");
}
