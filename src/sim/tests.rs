use super::*;
use crate::game::{Batch, Context, Join, Leave, PlayerId, Tick};
use crate::games::{Arena, Relay, arena};
use crate::limits;

const MS: Duration = Duration::from_millis(1);

fn relay() -> Simulation<Relay> {
    Simulation::new(7, |_| Ok(Relay))
}

#[test]
fn what_is_on_its_way_keeps_the_path_it_left_on() {
    let mut sim = relay();
    let ada = sim.join("keeps", "Ada");
    sim.run(Duration::from_secs(1));
    sim.send(ada, &());
    sim.set_path(ada, Path::new(25 * MS).with(&Node::Blackout(Duration::ZERO..Duration::MAX)));
    let Traffic { sent, delivered, .. } = sim[ada].up();
    sim.run(Duration::from_secs(1));
    assert!(sim[ada].up().sent > sent, "the input is repeated");
    assert_eq!(sim[ada].up().delivered, sent);
    assert!(sent > delivered);
}

#[test]
fn round_trips_are_those_of_the_path_however_long_datagrams_wait_for_the_server() {
    for turn_length in [0, 8, 25] {
        let mut sim = relay();
        sim.set_turn_length(turn_length * MS);
        let ada = sim.join("waits", "Ada");
        sim.run_every(7 * MS, Duration::from_secs(10), |sim| {
            sim.send(ada, &());
        });
        let of_client = sim[ada].client.stats().rtt_ms;
        assert!((of_client - 50.0).abs() < 0.001, "{of_client} ms with turns of {turn_length} ms");
        let of_server = sim.server.links().next().expect("one player").rtt_us;
        assert!((50_000..51_000).contains(&of_server), "{of_server} µs with turns of {turn_length} ms");
    }
}

/// A game with ticks of its own length.
struct Brisk;

impl Game for Brisk {
    type Input = ();
    type Command = ();
    type State = u32;
    type Event = ();
    type Welcome = ();
    type JoinData = ();

    const TICK: Duration = Duration::from_millis(20);

    fn join(&mut self, _: &mut Context<Self>, _: PlayerId, _: &Join<()>) -> Result<(), Refusal> {
        Ok(())
    }

    fn leave(&mut self, _: &mut Context<Self>, _: PlayerId, _: Leave) {}

    fn tick(&mut self, ctx: &mut Context<Self>, _: Tick, batch: Batch<'_, Self>) {
        ctx.state(&u32::try_from(batch.len()).unwrap()).unwrap();
    }
}

#[test]
fn a_game_sets_its_tick_length_and_the_configuration_another() {
    let ticks = |configure: fn(&mut Config)| {
        let mut sim = Simulation::with_config(1, configure, |_| Ok(Brisk));
        let ada = sim.join("brisk", "Ada");
        sim.run(Duration::from_secs(2));
        let before = sim[ada].client.stats().frames;
        sim.run(Duration::from_secs(1));
        (sim[ada].client.tick_length(), sim[ada].client.stats().frames - before)
    };
    let (length, frames) = ticks(|_| {});
    assert_eq!(length, Some(20 * MS));
    assert!((50..=53).contains(&frames), "{frames} frames a second");
    assert_eq!(ticks(|config| config.tick = 100 * MS).0, Some(100 * MS));
}

/// A player's thread may come late, and send at once what was due meanwhile.
#[test]
fn inputs_that_are_sent_at_once_all_reach_the_game() {
    for (inputs, bytes) in [(30, 1), (12, 300)] {
        let mut sim = relay();
        let ada = sim.join("bursts", "Ada");
        sim.run(Duration::from_secs(1));
        let sent: Vec<u32> = (0..inputs).map(|_| sim.send(ada, &"x".repeat(bytes))).collect();
        sim.run(Duration::from_secs(1));
        let ticks = sim[ada].events.iter().filter_map(|(_, event)| match event {
            crate::client::Event::Tick { inputs, .. } => Some(inputs),
            _ => None,
        });
        let fanned_out: Vec<u32> = ticks.flatten().map(|input| input.number).collect();
        assert_eq!(fanned_out, sent, "of {bytes} bytes");
    }
}

#[test]
fn a_websocket_keeps_its_order() {
    let mut sim = relay();
    let ada = sim.connect("orderly");
    for (number, websocket) in [(1, 500 * MS), (2, MS), (3, 200 * MS)] {
        sim.set_path(ada, Path::new(websocket));
        sim.text(ada, &format!(r#"{{"a":"fly","i":{number}}}"#));
        sim.run(10 * MS);
    }
    sim.run(Duration::from_secs(1));
    let replies: Vec<_> = sim[ada].texts.iter().map(|text| text["i"].as_u64().unwrap()).collect();
    assert_eq!(replies, [1, 2, 3]);
}

#[test]
fn a_websocket_that_is_held_up_says_since_when() {
    let mut sim = relay();
    let ada = sim.connect("waits");
    sim.run(40 * MS);
    assert_eq!(sim[ada].websocket_waits_since(), None);
    sim.set_path(ada, Path::new(10 * MS).with(&Node::Blackout(Duration::ZERO..100 * MS)));
    for at in [40, 50] {
        assert_eq!(sim.elapsed(), at * MS);
        sim.text(ada, r#"{"a":"fly"}"#);
        assert_eq!(sim[ada].websocket_waits_since(), Some(40 * MS), "the oldest");
        sim.run(10 * MS);
    }
    // Sent again 220 ms after it was lost; the replies take as long as the requests.
    sim.run(200 * MS);
    assert_eq!(sim[ada].websocket_waits_since(), Some(40 * MS));
    sim.run(15 * MS);
    assert_eq!(sim[ada].websocket_waits_since(), Some(50 * MS), "the other, and the reply to the first");
    sim.run(20 * MS);
    assert_eq!(sim[ada].websocket_waits_since(), None);
    assert_eq!(sim[ada].texts.len(), 2);
}

#[test]
fn a_slow_websocket_carries_the_newest_state() {
    let mut sim = Simulation::new(7, |room| Ok(Arena::new(room)));
    let ada = sim.join("slow", "Ada");
    sim.run(Duration::from_secs(1));
    let states = |sim: &Simulation<Arena>| sim[ada].states::<arena::State>().len();
    sim.set_path(ada, Path::new(25 * MS).with(&Node::NoUdp));
    sim.run(Duration::from_secs(30));
    let before = states(&sim);
    sim.run(Duration::from_secs(20));
    assert!(states(&sim) - before >= 600, "all of them");
    let limit = Node::RateLimit(RateLimit::new(2_000, 100_000));
    sim.set_path(ada, Path { down: vec![Node::NoUdp, limit], ..Path::new(25 * MS) });
    sim.run(Duration::from_secs(20));
    let before = states(&sim);
    sim.run(Duration::from_secs(20));
    let seen = states(&sim) - before;
    assert!((100..400).contains(&seen), "{seen} of 600: what the link carries");
    let newest = sim[ada].states::<arena::State>().last().map(|&(tick, _)| tick).unwrap();
    // The room was made within its first tick.
    let age = sim.elapsed() - Duration::from_millis(limits::TICK_MS.into()) * newest;
    let expected = Duration::from_secs(4)..Duration::from_secs(12);
    assert!(expected.contains(&age), "{age:?} old: 16 KiB at 2 kB/s, and the state that waited for its turn");
}

#[test]
fn an_address_that_changes_costs_a_channel_nothing_but_the_time_until_the_server_hears_of_it() {
    let mut sim = relay();
    let ada = sim.join("moves", "Ada");
    sim.run(Duration::from_secs(2));
    let first = sim[ada].address();
    let delivered = |sim: &Simulation<Relay>| sim[ada].down().delivered;
    for moves in 1..=3u16 {
        if moves < 3 {
            sim.rebind(ada);
        } else {
            let up = vec![Node::Rebinding(sim.elapsed() + MS), Node::Latency(25 * MS)];
            sim.set_path(ada, Path { up, ..Path::new(25 * MS) });
            assert_eq!(sim[ada].address().port(), first.port() + 2, "a path alone changes no address");
        }
        let before = delivered(&sim);
        sim.run(50 * MS);
        // Something may arrive in the millisecond before the address changes.
        let arrived = delivered(&sim) - before;
        assert!(arrived <= u64::from(moves == 3), "what goes to the old address is lost");
        sim.run(Duration::from_secs(4));
        assert!(sim[ada].client.is_open());
        assert!(delivered(&sim) > before + 30, "{} arrived", delivered(&sim) - before);
        assert_eq!(sim[ada].address().port(), first.port() + moves);
    }
}

#[test]
fn what_a_player_saw_can_be_read() {
    let mut sim = Simulation::new(7, |room| Ok(Arena::new(room)));
    let ada = sim.join("seen", "Ada");
    assert_eq!(sim[ada].last_state::<arena::State>(), None);
    sim.run(Duration::from_secs(100));
    let states = sim[ada].states::<arena::State>();
    assert!(states.is_sorted_by(|one, other| one.0 < other.0), "newer and newer");
    assert_eq!(states.last().map(|(_, state)| state), sim[ada].last_state().as_ref());
    let won = |(_, event): &(u32, arena::Event)| matches!(event, arena::Event::Won { .. });
    assert_eq!(sim[ada].events_of::<arena::Event>().iter().filter(|event| won(event)).count(), 1);
}

#[test]
#[should_panic(expected = "can't be decoded as alloc::string::String: ")]
fn what_is_read_as_something_else_is_named() {
    let mut sim = Simulation::new(7, |room| Ok(Arena::new(room)));
    let ada = sim.join("seen", "Ada");
    sim.run(Duration::from_secs(1));
    let _ = sim[ada].last_state::<String>();
}

#[test]
fn clients_behind_one_bottleneck_share_it() {
    let mut sim = relay();
    let limit = RateLimit::new(4_000, 2_000);
    sim.set_paths(|| Path::new(25 * MS));
    let clients: Vec<_> = (0..4).map(|n| sim.join("narrow", &format!("bot {n}"))).collect();
    sim.run(Duration::from_secs(2));
    let delivered = |sim: &Simulation<Relay>| -> u64 { clients.iter().map(|&id| sim[id].down().delivered).sum() };
    let before = delivered(&sim);
    sim.run(Duration::from_secs(2));
    let wide = delivered(&sim) - before;
    for &id in &clients {
        let down = vec![Node::RateLimit(limit.clone()), Node::Latency(25 * MS)];
        sim.set_path(id, Path { down, ..Path::new(25 * MS) });
    }
    let before = delivered(&sim);
    sim.run(Duration::from_secs(2));
    let narrow = delivered(&sim) - before;
    // A datagram of the relay has more than 80 bytes with all its headers.
    assert!(narrow <= (2 * 4_000 + 2_000) / 80 && wide >= 4 * 60, "{narrow} instead of {wide}");
}
