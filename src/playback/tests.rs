use std::collections::BTreeMap;

use serde_json::json;

use super::*;
use crate::client;
use crate::games::{Arena, Relay, arena};
use crate::sim::{ClientId, Node, Path, Simulation};

const SECOND: Duration = Duration::from_secs(1);

/// A recorded room, and what a player of it was sent who was there from the beginning.
struct Recorded {
    bytes: &'static [u8],
    events: Vec<client::Event>,
}

/// The recording of a room in which Ann and Ben are from the beginning and Cy comes after two seconds, and goes after
/// five; it has six seconds. `act` is called 20 times a second.
fn record<G: Game>(
    factory: impl FnMut(&RoomInfo) -> Result<G, Refusal> + 'static,
    mut act: impl FnMut(&mut Simulation<G>, &[ClientId]),
) -> Recorded {
    let mut sim = Simulation::new(1, factory);
    let file = Rc::new(RefCell::new(Vec::new()));
    let written = Rc::clone(&file);
    sim.server.record(move |_| {
        let written = Rc::clone(&written);
        Box::new(move |block| written.borrow_mut().extend_from_slice(block))
    });
    let mut players = vec![sim.join("old", "Ann"), sim.join("old", "Ben")];
    for second in 0..6 {
        match second {
            2 => players.push(sim.join("old", "Cy")),
            5 => sim.leave(players[2]),
            _ => {}
        }
        sim.run_every(SECOND / 20, SECOND, |sim| act(sim, &players));
    }
    let events = sim[players[0]].events.iter().map(|(_, event)| event.clone()).collect();
    drop(sim);
    Recorded { bytes: file.take().leak(), events }
}

fn arena() -> Recorded {
    let mut at = 0_u8;
    record(
        |room| Ok(Arena::new(room)),
        move |sim, players| {
            at = at.wrapping_add(7);
            let x = f32::from(at) - 128.0;
            players.iter().for_each(|&player| {
                sim.send(player, &arena::Steer(x, -x, at < 20));
            });
        },
    )
}

/// A server that plays it.
fn play<G: Game>(
    bytes: &'static [u8],
    factory: impl FnMut(&RoomInfo) -> Result<G, Refusal> + 'static,
) -> Simulation<Playback<G>> {
    let recording = Rc::new(Recording::new(bytes, factory).unwrap());
    let mut sim = Simulation::new(2, move |_| Playback::new(Rc::clone(&recording)));
    sim.server.number_players_from(FIRST_SPECTATOR);
    sim
}

fn play_arena(bytes: &'static [u8]) -> Simulation<Playback<Arena>> {
    play(bytes, |room| Ok(Arena::new(room)))
}

/// Joins as one who commands.
fn join_bar<G: Game>(sim: &mut Simulation<Playback<G>>) -> ClientId {
    sim.join_with("show", |config| config.data = json!({ "playback": true }))
}

fn control<G: Game>(sim: &mut Simulation<Playback<G>>, bar: ClientId, control: serde_json::Value) {
    sim.command(bar, &json!({ "playback": control }));
    sim.run(SECOND / 5);
}

fn statuses<G: Game>(sim: &Simulation<Playback<G>>, bar: ClientId) -> Vec<Status> {
    let events = sim[bar].events.iter();
    let statuses = events.filter_map(|(_, event)| match event {
        client::Event::Event { value, reliable: true, .. } => {
            let Event::Playback(status) = msgpack::decode(value).ok()?;
            Some(status)
        }
        _ => None,
    });
    statuses.collect()
}

fn status<G: Game>(sim: &Simulation<Playback<G>>, bar: ClientId) -> Status {
    statuses(sim, bar).pop().expect("a status was told")
}

/// The states that a client got, with their ticks.
fn states(events: &[client::Event]) -> Vec<(u32, arena::State)> {
    let states = events.iter().filter_map(|event| match event {
        client::Event::State { tick, value, .. } => Some((*tick, msgpack::decode(value).unwrap())),
        _ => None,
    });
    states.collect()
}

fn seen<G: Game>(sim: &Simulation<Playback<G>>, spectator: ClientId) -> Vec<(u32, arena::State)> {
    let events: Vec<_> = sim[spectator].events.iter().map(|(_, event)| event.clone()).collect();
    states(&events)
}

#[test]
fn spectators_see_what_the_players_saw_in_order_and_greeted_like_them() {
    let recorded = arena();
    let mut sim = play_arena(recorded.bytes);
    let spectator = sim.join("show", "Zoe");
    sim.run(7 * SECOND);
    let (then, now) = (states(&recorded.events), seen(&sim, spectator));
    assert!(then.len() > 170 && now.len() >= then.len(), "{} of {} states", now.len(), then.len());
    for ((then_tick, then), (_, now)) in then.iter().zip(&now) {
        assert_eq!(then, now, "recorded tick {then_tick}");
    }
    assert!(now.is_sorted_by(|(a, _), (b, _)| a < b), "ticks rise");
    let joined = |events: &[client::Event]| {
        let joined = events.iter().find_map(|event| match event {
            client::Event::Joined { player, welcome } => Some((*player, welcome.clone())),
            _ => None,
        });
        joined.unwrap()
    };
    let events: Vec<_> = sim[spectator].events.iter().map(|(_, event)| event.clone()).collect();
    let (player, welcome) = joined(&events);
    assert!(player >= FIRST_SPECTATOR);
    assert_eq!(welcome, joined(&recorded.events).1);
    let effects = |events: &[client::Event]| {
        let effects = events.iter().filter_map(|event| match event {
            client::Event::Event { value, .. } => Some(value.clone()),
            _ => None,
        });
        effects.collect::<Vec<_>>()
    };
    let then = effects(&recorded.events);
    assert!(!then.is_empty());
    assert_eq!(effects(&events)[..then.len()], then);
}

#[test]
fn the_recorded_players_are_shown_and_the_spectators_are_not() {
    fn names(sessions: &serde_json::Value) -> Vec<(u64, &str)> {
        let sessions = sessions.as_array().unwrap().iter();
        sessions.map(|info| (info["player"].as_u64().unwrap(), info["name"].as_str().unwrap())).collect()
    }
    let recorded = arena();
    let mut sim = play_arena(recorded.bytes);
    let early = sim.join("show", "early");
    sim.run(SECOND);
    let bar = join_bar(&mut sim);
    assert_eq!(names(&sim[early].heard("joinR").unwrap()["d"]["sessions"]), [(1, "Ann"), (2, "Ben")]);
    sim.run(2 * SECOND);
    let late = sim.join("show", "late");
    sim.run(SECOND);
    let reply = &sim[late].heard("joinR").unwrap()["d"];
    assert_eq!(names(&reply["sessions"]), [(1, "Ann"), (2, "Ben"), (3, "Cy")]);
    assert_eq!(reply["roomSize"], 3);
    control(&mut sim, bar, json!({ "seek": 30 }));
    control(&mut sim, bar, json!({ "seek": 100 }));
    let come_and_gone = |client: ClientId| {
        let events = sim[client].events.iter().filter_map(|(_, event)| match event {
            client::Event::PlayerJoined { player, name } => Some(format!("+{player} {name}")),
            client::Event::PlayerLeft { player, .. } => Some(format!("-{player}")),
            _ => None,
        });
        events.collect::<Vec<_>>()
    };
    assert_eq!(come_and_gone(early).last_chunk(), Some(&["+3 Cy", "-3", "+3 Cy"].map(str::to_owned)));
    assert!(come_and_gone(early).iter().all(|change| !change.contains(&FIRST_SPECTATOR.to_string()[..9])));
    assert_eq!(come_and_gone(late).last_chunk(), Some(&["-3", "+3 Cy"].map(str::to_owned)));
}

#[test]
fn it_pauses_seeks_and_changes_its_speed() {
    let recorded = arena();
    let then: BTreeMap<u32, arena::State> = states(&recorded.events).into_iter().collect();
    let tick_of = |state: &arena::State| then.iter().find(|(_, then)| *then == state).map(|(&tick, _)| tick);
    let mut sim = play_arena(recorded.bytes);
    let (spectator, bar) = (sim.join("show", "Zoe"), join_bar(&mut sim));
    sim.run(SECOND);

    control(&mut sim, bar, json!("pause"));
    let paused = status(&sim, bar);
    let before = seen(&sim, spectator).len();
    sim.run(SECOND);
    assert!(paused.paused && (20..50).contains(&paused.tick), "{paused:?}");
    assert_eq!(status(&sim, bar), paused);
    let while_paused = seen(&sim, spectator).split_off(before);
    assert!(while_paused.len() > 25, "a page is sent the state while it stands");
    assert!(while_paused.iter().all(|(_, state)| *state == then[&paused.tick]));

    for target in [150, 20, 21, 100] {
        control(&mut sim, bar, json!({ "seek": target }));
        let Status { tick, seeking, paused, .. } = status(&sim, bar);
        assert_eq!((tick, seeking, paused), (target, None, true));
        let (_, state) = seen(&sim, spectator).pop().unwrap();
        assert_eq!(tick_of(&state), Some(target));
    }

    for (percent, step, ticks) in [(1_000, 10, 1), (200, 2, 1), (50, 1, 2)] {
        control(&mut sim, bar, json!("pause"));
        control(&mut sim, bar, json!({ "seek": 20 }));
        control(&mut sim, bar, json!({ "speed": percent }));
        let before = seen(&sim, spectator).len();
        control(&mut sim, bar, json!("play"));
        let moving = seen(&sim, spectator).split_off(before);
        let moving: Vec<_> = moving.iter().map(|(tick, state)| (*tick, tick_of(state).unwrap())).collect();
        let moving: Vec<_> = moving.into_iter().skip_while(|&(_, tick)| tick == 20).collect();
        assert!(moving.len() >= 2, "at {percent} %: {moving:?}");
        for pair in moving.windows(2) {
            assert_eq!((pair[1].0 - pair[0].0, pair[1].1 - pair[0].1), (ticks, step), "at {percent} %: {moving:?}");
        }
    }

    control(&mut sim, bar, json!({ "speed": 1_000 }));
    sim.run(SECOND);
    let end = status(&sim, bar);
    assert!(end.paused && end.tick == end.last && end.tick > 175, "{end:?}");
    assert_eq!(end.end.as_deref(), Some("The room closed at this point."));
    assert_eq!(end.differs, None);
    control(&mut sim, bar, json!("play"));
    let again = status(&sim, bar);
    assert!(!again.paused && again.end.is_none() && again.tick < 100, "{again:?}");
}

/// The inputs that a client got, each of which came in a tick of its own; no tick may be missing.
fn inputs(events: &[client::Event]) -> Vec<(u32, u32, Vec<u8>)> {
    let mut all = Vec::new();
    let mut next = None;
    for event in events {
        assert!(!matches!(event, client::Event::TicksLost { .. }), "{event:?}");
        if let client::Event::Tick { tick, inputs } = event {
            assert!(next.is_none_or(|next| next == *tick), "tick {tick} instead of {next:?}");
            next = Some(tick + 1);
            all.extend(inputs.iter().map(|input| (input.player, input.number, input.value.clone())));
        }
    }
    all
}

#[test]
fn inputs_that_were_fanned_out_come_each_once_and_in_order_at_any_speed() {
    let mut number = 0;
    let recorded = record(
        |_| Ok(Relay),
        move |sim, players| {
            number += 1;
            let long = "x".repeat(if number % 10 == 0 { 500 } else { 9 });
            players.iter().for_each(|&player| {
                sim.send(player, &(number, &long));
            });
        },
    );
    let then = inputs(&recorded.events);
    assert!(then.len() > 200);
    for percent in [50, 100, 400, 1_600] {
        let mut sim = play(recorded.bytes, |_| Ok(Relay));
        sim.set_paths(|| Path::new(SECOND / 50).with(&Node::Loss { permille: 200 }));
        let bar = join_bar(&mut sim);
        let spectator = sim.join("show", "Zoe");
        sim.run(SECOND / 2);
        control(&mut sim, bar, json!({ "speed": percent }));
        sim.run(14 * SECOND);
        let events: Vec<_> = sim[spectator].events.iter().map(|(_, event)| event.clone()).collect();
        let now = inputs(&events);
        assert!(now.len() >= then.len(), "at {percent} %: {} of {}", now.len(), then.len());
        assert!(now[..then.len()] == then, "at {percent} %");
    }
}

#[test]
fn what_pages_send_is_read_past() {
    let recorded = arena();
    let mut sim = play_arena(recorded.bytes);
    let (spectator, bar) = (sim.join("show", "Zoe"), join_bar(&mut sim));
    sim.run(SECOND);
    sim.send(spectator, &json!([100, 100, true]));
    for command in [json!({ "Say": [1, { "x": null }] }), json!("pause"), json!({ "playback": "pause" })] {
        sim.command(spectator, &command);
    }
    for command in [json!({ "playback": { "seek": -1 } }), json!({ "playback": "dance" }), json!(7)] {
        sim.command(bar, &command);
    }
    sim.run(SECOND);
    assert!(sim[spectator].client.is_open() && sim[bar].client.is_open());
    let status = status(&sim, bar);
    assert!(!status.paused && status.tick > 50, "{status:?}");
    assert_eq!(status.differs, None);
}

/// Tells every player their own number and how many ticks there have been, and fails in tick 60 if told to.
struct Moody {
    fails: bool,
}

impl Game for Moody {
    type Input = ();
    type Command = ();
    type State = (PlayerId, u32);
    type Event = ();
    type Welcome = PlayerId;
    type JoinData = IgnoredAny;

    fn join(&mut self, _: &mut Context<Moody>, player: PlayerId, _: &Join<IgnoredAny>) -> Result<PlayerId, Refusal> {
        Ok(player)
    }

    fn leave(&mut self, _: &mut Context<Moody>, _: PlayerId, _: Leave) {}

    fn tick(&mut self, ctx: &mut Context<Moody>, tick: Tick, _: Batch<'_, Moody>) {
        assert!(!self.fails || tick.number != 60, "as it was told to");
        let players: Vec<_> = ctx.players().map(|player| player.id).collect();
        for player in players {
            ctx.state_to(player, &(player, tick.number)).unwrap();
        }
    }
}

#[test]
fn what_single_players_saw_is_shown_of_one_of_them() {
    let recorded = record(|_| Ok(Moody { fails: false }), |_, _| {});
    let mut sim = play(recorded.bytes, |_| Ok(Moody { fails: false }));
    let (spectator, bar) = (sim.join("show", "Zoe"), join_bar(&mut sim));
    let newest = |sim: &Simulation<Playback<Moody>>, spectator: ClientId| {
        let states = sim[spectator].events.iter().rev();
        let mut states = states.filter_map(|(_, event)| match event {
            client::Event::State { value, .. } => Some(msgpack::decode::<(u32, u32)>(value).unwrap().0),
            _ => None,
        });
        states.next().unwrap()
    };
    sim.run(SECOND);
    assert_eq!(newest(&sim, spectator), 1);
    let Status { view, players, .. } = status(&sim, bar);
    assert_eq!((view, players), (Some(1), vec![(1, "Ann".to_owned()), (2, "Ben".to_owned())]));
    control(&mut sim, bar, json!({ "view": 2 }));
    assert_eq!((newest(&sim, spectator), status(&sim, bar).view), (2, Some(2)));
    let late = sim.join("show", "late");
    sim.run(SECOND);
    assert_eq!(sim[late].heard("joinR").unwrap()["d"]["welcome"], 2, "the welcome is that player's");
    control(&mut sim, bar, json!({ "view": 9 }));
    assert_eq!(newest(&sim, spectator), 1, "of whom isn't in, nothing is shown");
}

#[test]
fn it_stops_where_the_recording_does_and_says_why() {
    fn check<G: Game>(bytes: &[u8], game: fn(&RoomInfo) -> Result<G, Refusal>, ticks: std::ops::Range<u32>, why: &str) {
        let mut sim = play(bytes.to_vec().leak(), game);
        let bar = join_bar(&mut sim);
        sim.run(8 * SECOND);
        let end = status(&sim, bar);
        assert!(ticks.contains(&end.tick) && end.paused && end.last == end.tick, "{end:?}");
        assert!(end.end.as_ref().is_some_and(|end| end.contains(why)), "{end:?}");
        control(&mut sim, bar, json!({ "seek": 10 }));
        assert_eq!((status(&sim, bar).end, status(&sim, bar).differs), (None, None), "it can be looked at again");
    }
    fn game(room: &RoomInfo) -> Result<Arena, Refusal> {
        Ok(Arena::new(room))
    }
    let recorded = arena().bytes;
    check(recorded, game, 175..190, "The room closed at this point.");
    check(&recorded[..recorded.len() / 2], game, 60..120, "is incomplete");
    let mut damaged = recorded.to_vec();
    damaged[recorded.len() / 2] ^= 1;
    check(&damaged, game, 60..120, "can't be read any further: at byte");
    let failed = record(|_| Ok(Moody { fails: true }), |_, _| {}).bytes;
    check(failed, |_| Ok(Moody { fails: true }), 60..61, "The game failed at this point.");
}

#[test]
fn a_game_that_says_something_else_is_noted() {
    let recorded = record(|_| Ok(Moody { fails: true }), |_, _| {}).bytes;
    let mut sim = play(recorded, |_| Ok(Moody { fails: false }));
    let bar = join_bar(&mut sim);
    sim.run(4 * SECOND);
    assert_eq!(status(&sim, bar).differs, Some(60));
}

#[test]
fn what_cannot_be_played_is_refused() {
    fn check(bytes: &[u8], expected: &str) {
        let error = Recording::new(bytes.to_vec().leak(), |room| Ok(Arena::new(room))).err().unwrap();
        assert_eq!(error.to_string(), expected);
    }
    check(b"GIF89a, and more", "at byte 0: this is no recording of a room");
    let nobody = {
        let info = RoomInfo::new("empty", 1);
        let file = Rc::new(RefCell::new(Vec::new()));
        let written = Rc::clone(&file);
        let sink = Box::new(move |block: &[u8]| written.borrow_mut().extend_from_slice(block));
        drop(crate::journal::Recorder::new(&Header::new::<Arena>(&info, 4, Duration::ZERO), sink));
        file.take()
    };
    check(&nobody, "no player joins in the recording");
}
