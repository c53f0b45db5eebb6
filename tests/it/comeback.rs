//! Native clients that lose their websocket, their data channel or their server, and reconnect by themselves.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use rtcade::client::{Client, Config, Event, Message, Status};
use rtcade::game::{Batch, Context, Game, Incoming, Join, Lane, Leave, PlayerId, Refusal, Target, Tick};
use rtcade::hooks::{Hooks, Visitor};
use rtcade::limits;
use rtcade::server::Transports;
use rtcade::sim::{ClientId, Node, Path, Simulation};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

/// Says each tick's number, and repeats to everybody what anybody commands.
struct Echo {
    is_silent: bool,
}

impl Game for Echo {
    type Input = u32;
    type Command = u32;
    type State = u32;
    type Event = u32;
    type Welcome = ();
    type JoinData = ();

    fn join(&mut self, _: &mut Context<Echo>, _: PlayerId, _: &Join<()>) -> Result<(), Refusal> {
        Ok(())
    }

    fn leave(&mut self, _: &mut Context<Echo>, _: PlayerId, _: Leave) {}

    fn tick(&mut self, ctx: &mut Context<Echo>, tick: Tick, batch: Batch<'_, Echo>) {
        for message in batch {
            if let Incoming::Command { command, .. } = message {
                ctx.event(Target::All, &command, Lane::Reliable).unwrap();
            }
        }
        if !self.is_silent {
            ctx.state(&tick.number).unwrap();
        }
    }
}

fn echo() -> Simulation<Echo> {
    Simulation::new(1, |_| Ok(Echo { is_silent: false }))
}

/// What happened to a client, states and events of the game aside, from `since` on.
fn story(sim: &Simulation<Echo>, client: ClientId, since: Duration) -> Vec<&Event> {
    let of_game = |event: &&Event| matches!(event, Event::State { .. } | Event::Event { .. });
    let events = sim[client].events.iter().filter(|(at, _)| *at >= since);
    events.map(|(_, event)| event).filter(|event| !of_game(event)).collect()
}

/// The longest time without a state from `since` on.
fn longest_gap(sim: &Simulation<Echo>, client: ClientId, since: Duration) -> Duration {
    let states = sim[client].events.iter().filter(|(_, event)| matches!(event, Event::State { .. }));
    let mut times: Vec<_> = states.map(|&(at, _)| at).filter(|&at| at >= since).collect();
    times.push(sim.elapsed());
    times.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap()
}

fn assert_newer_and_newer(sim: &Simulation<Echo>, client: ClientId) {
    let states = sim[client].states::<u32>();
    assert!(states.is_sorted_by(|one, other| one.0 < other.0));
    assert_eq!(sim[client].client.stats().stale_states, 0);
}

/// Players who are told states over the data channel, over the websocket, and not at all.
fn transports(sim: &Simulation<Echo>) -> (usize, usize, usize) {
    let Transports { webrtc, websocket, away, .. } = sim.server.transports(sim.now());
    (webrtc, websocket, away)
}

/// The websocket of a simulation opens at once; over a real network TCP and the upgrade take a round trip each.
#[test]
fn a_join_takes_one_round_trip_and_its_channel_few_more() {
    let round_trip = SECOND;
    let mut sim = echo();
    sim.set_paths(move || Path::new(round_trip / 2));
    let ada = sim.join("far", "Ada");
    sim.run(20 * SECOND);
    let at = |is_it: fn(&Event) -> bool| sim[ada].events.iter().find(|(_, event)| is_it(event)).unwrap().0;
    let tick = limits::TICK_MS * MS;
    let joined = at(|event| matches!(event, Event::Joined { .. }));
    let first_state = at(|event| matches!(event, Event::State { .. }));
    let open = at(|event| matches!(event, Event::Open));
    assert!(joined <= round_trip + tick && first_state <= round_trip + 2 * tick, "{joined:?}, {first_state:?}");
    assert!(open <= 6 * round_trip + 3 * tick, "{open:?}");
}

#[test]
fn the_channel_plays_on_while_the_websocket_comes_back() {
    let mut sim = echo();
    let ada = sim.join("plays", "Ada");
    sim.run(2 * SECOND);
    let lost = sim.elapsed();
    sim.break_websocket(ada);
    assert_eq!(sim[ada].client.status(), Status::Dropped);
    sim.run(2 * SECOND);
    assert_eq!(story(&sim, ada, lost), [&Event::Dropped, &Event::Resumed]);
    assert_eq!(sim[ada].client.status(), Status::Open);
    assert!(longest_gap(&sim, ada, lost - SECOND) <= 40 * MS);
    assert_newer_and_newer(&sim, ada);
}

/// Remembers when players were lost.
struct Watch(Rc<RefCell<u32>>);

impl Hooks for Watch {
    fn dropped(&mut self, _: &Visitor<'_>) {
        *self.0.borrow_mut() += 1;
    }
}

/// Whenever that happens between two heartbeats, which are sparse while the data channel delivers.
#[test]
fn who_vanishes_is_missed_within_5_s_on_both_ends() {
    for late in (0..4_000).step_by(400) {
        let mut sim = echo();
        let lost = Rc::new(RefCell::new(0));
        sim.server.set_hooks(Watch(Rc::clone(&lost)));
        let ada = sim.join("vanishes", "Ada");
        sim.run(10 * SECOND + late * MS);
        assert_eq!((*lost.borrow(), transports(&sim)), (0, (1, 0, 0)));
        sim.set_path(ada, Path::new(25 * MS).with(&Node::Blackout(Duration::ZERO..Duration::MAX)));
        let gone = sim.elapsed();
        sim.run(5 * SECOND);
        assert_eq!(*lost.borrow(), 1, "vanished {late} ms after the tenth second");
        sim.run(2 * SECOND);
        assert!(story(&sim, ada, gone).contains(&&Event::Dropped), "vanished {late} ms after the tenth second");
    }
}

#[test]
fn what_is_reliable_arrives_once_and_in_order_whatever_breaks() {
    let mut sim = echo();
    let ada = sim.join("orders", "Ada");
    let bob = sim.join("orders", "Bob");
    sim.run(2 * SECOND);
    for command in 1..=200_u32 {
        sim.command(ada, &command);
        if command % 25 == 0 {
            sim.break_websocket(if command % 50 == 0 { ada } else { bob });
        }
        sim.run(50 * MS);
    }
    sim.run(3 * SECOND);
    for client in [ada, bob] {
        let told: Vec<u32> = sim[client].events_of::<u32>().into_iter().map(|(_, command)| command).collect();
        assert!(told.iter().copied().eq(1..=200), "{told:?}");
    }
    assert!(sim[ada].connections().count() > 3);
}

#[test]
fn a_channel_that_falls_silent_is_passed_by_and_used_again() {
    let mut sim = echo();
    let ada = sim.join("moves", "Ada");
    sim.run(2 * SECOND);
    let blocked = sim.elapsed();
    sim.set_path(ada, Path::new(25 * MS).with(&Node::NoUdp));
    sim.run(10 * SECOND);
    assert!(longest_gap(&sim, ada, blocked) < 2 * SECOND, "{:?}", longest_gap(&sim, ada, blocked));
    assert_eq!(transports(&sim), (0, 1, 0));
    let (datagrams, free) = (sim[ada].down().delivered, sim.elapsed());
    sim.set_path(ada, Path::new(25 * MS));
    sim.run(5 * SECOND);
    assert!(longest_gap(&sim, ada, free) <= 100 * MS, "{:?}", longest_gap(&sim, ada, free));
    assert!(sim[ada].down().delivered - datagrams > 100, "states come over UDP again");
    assert_eq!(transports(&sim), (1, 0, 0));
    assert!(story(&sim, ada, blocked).is_empty(), "the room was open all the time");
    assert_newer_and_newer(&sim, ada);
}

fn play(sim: &mut Simulation<Echo>) {
    let clients: Vec<_> = sim.clients().collect();
    clients.into_iter().for_each(|client| {
        sim.send(client, &1_u32);
    });
}

/// Datagrams are lost one way alone; the websocket is as before.
fn cut(sim: &mut Simulation<Echo>, client: ClientId, way: &str) {
    let (whole, cut) = (vec![Node::Latency(25 * MS)], vec![Node::NoUdp, Node::Latency(25 * MS)]);
    let path = match way {
        "down" => Path { up: whole, down: cut },
        "up" => Path { up: cut, down: whole },
        _ => Path { up: cut.clone(), down: cut },
    };
    sim.set_path(client, path);
}

#[test]
fn a_channel_that_delivers_one_way_alone_is_passed_by_and_used_again() {
    for way in ["down", "up", "both"] {
        let mut sim = echo();
        let ada = sim.join("one-way", "Ada");
        sim.run(2 * SECOND);
        let lost = sim.elapsed();
        cut(&mut sim, ada, way);
        let mut slowest = Duration::ZERO;
        sim.run_every(33 * MS, 8 * SECOND, |sim| {
            sim.send(ada, &1_u32);
            if sim.elapsed() > lost + 2 * SECOND {
                slowest = slowest.max(MS * u32::try_from(sim[ada].client.unacknowledged()).unwrap());
            }
        });
        assert_eq!(transports(&sim), (0, 1, 0), "{way} {:?}", story(&sim, ada, lost));
        let gap = longest_gap(&sim, ada, lost);
        assert!(gap <= if way == "up" { 100 * MS } else { 500 * MS }, "{way}: {gap:?}");
        assert!(slowest <= 5 * MS, "{way}: inputs reach the game: {slowest:?}");
        let free = sim.elapsed();
        sim.set_path(ada, Path::new(25 * MS));
        sim.run_every(33 * MS, 3 * SECOND, play);
        assert_eq!(transports(&sim), (1, 0, 0), "{way}");
        assert!(longest_gap(&sim, ada, free) <= 100 * MS, "{way}: {:?}", longest_gap(&sim, ada, free));
        let (down, messages) = (sim[ada].down().delivered, sim[ada].websocket_up().sent);
        sim.run_every(33 * MS, 3 * SECOND, play);
        assert!(sim[ada].down().delivered >= down + 80, "{way}: states come over UDP again");
        assert!(sim[ada].websocket_up().sent < messages + 10, "{way}: and inputs go over it");
        assert_newer_and_newer(&sim, ada);
    }
}

#[test]
fn a_new_address_leaves_no_long_hole() {
    let mut sim = echo();
    let ada = sim.join("moves", "Ada");
    sim.run(3 * SECOND);
    for moves in 0..10 {
        let moved = sim.elapsed();
        sim.rebind(ada);
        sim.run((4_000 + 7 * moves) * MS);
        let gap = longest_gap(&sim, ada, moved - 100 * MS);
        assert!(gap <= 500 * MS, "{moves}: {gap:?}");
        assert_eq!(transports(&sim), (1, 0, 0), "{moves}: the channel is used again");
    }
    assert!(story(&sim, ada, 3 * SECOND).is_empty(), "the room was open all the time");
    assert_newer_and_newer(&sim, ada);
}

/// Of 900 ticks those at which the server had passed the channel by, on a path that loses both ways.
fn passed_by(is_silent: bool, plays: bool, permille: u16, one_way: Duration) -> usize {
    let mut sim = Simulation::new(3, move |_| Ok(Echo { is_silent }));
    let ada = sim.join("calm", "Ada");
    sim.run(5 * SECOND);
    assert!(sim[ada].client.is_open());
    sim.set_path(ada, Path::new(one_way).with(&Node::Loss { permille }));
    sim.run(2 * SECOND);
    let mut passed_by = 0;
    sim.run_every(33 * MS, 30 * SECOND, |sim| {
        passed_by += transports(sim).1;
        if plays {
            sim.send(ada, &1_u32);
        }
    });
    passed_by
}

#[test]
fn a_channel_that_delivers_is_not_passed_by_whatever_the_network_is_like() {
    for is_silent in [false, true] {
        for plays in [false, true] {
            assert_eq!(passed_by(is_silent, plays, 0, 400 * MS), 0, "far: {is_silent}, {plays}");
            let lossy = passed_by(is_silent, plays, 200, 25 * MS);
            let very_lossy = passed_by(is_silent, plays, 400, 25 * MS);
            // Where the game says nothing a few packets a second can all be lost, and the websocket carries no less.
            let few = if is_silent { 100 } else { 9 };
            assert!(lossy <= few && very_lossy <= 4 * few, "{is_silent}, {plays}: {lossy} and {very_lossy} of 900");
        }
    }
}

#[test]
fn a_channel_that_never_opened_is_offered_again() {
    let mut sim = echo();
    sim.set_paths(|| Path::new(25 * MS).with(&Node::NoUdp));
    let ada = sim.join("blocked", "Ada");
    sim.run(60 * SECOND);
    let closed = |event: &&Event| matches!(event, Event::ChannelClosed { message } if message.contains("UDP"));
    assert_eq!(story(&sim, ada, SECOND).iter().copied().filter(closed).count(), 1, "it is said once");
    assert_eq!(sim[ada].client.status(), Status::Open);
    sim.set_path(ada, Path::new(25 * MS));
    let free = sim.elapsed();
    sim.run(70 * SECOND);
    assert_eq!(story(&sim, ada, free), [&Event::Open]);
    assert!(longest_gap(&sim, ada, free) <= 100 * MS, "{:?}", longest_gap(&sim, ada, free));
    assert_newer_and_newer(&sim, ada);
}

#[test]
fn a_channel_that_ends_is_offered_again_at_once_and_then_less_and_less_often() {
    let mut sim = echo();
    let ada = sim.join("again", "Ada");
    sim.run(12 * SECOND);
    let is_closed = |event: &&(Duration, Event)| matches!(event.1, Event::ChannelClosed { .. });
    let lost = sim.elapsed();
    sim.set_path(ada, Path::new(25 * MS).with(&Node::NoUdp));
    while !sim[ada].events.iter().any(|event| is_closed(&event)) {
        sim.run(10 * MS);
    }
    let offers = |sim: &Simulation<Echo>| sim[ada].texts.iter().filter(|text| text["a"] == "exchangeSdpR").count();
    sim.run(200 * MS);
    assert_eq!(offers(&sim), 1, "at once");
    sim.run(limits::PEER_REACH_TIMEOUT + 9 * SECOND);
    assert_eq!(offers(&sim), 1);
    sim.run(2 * SECOND);
    assert_eq!(offers(&sim), 2, "then after ten seconds");
    assert_eq!(story(&sim, ada, lost).len(), 1, "it is said once");
    sim.set_path(ada, Path::new(25 * MS));
    sim.run(60 * SECOND);
    assert!(sim[ada].client.is_open());
}

#[test]
fn who_reaches_nobody_for_long_is_told_that_it_is_the_end() {
    let mut sim = echo();
    let ada = sim.join("alone", "Ada");
    sim.run(2 * SECOND);
    let lost = sim.elapsed();
    sim.set_path(ada, Path::new(25 * MS).with(&Node::Blackout(lost..Duration::MAX)));
    sim.run(120 * SECOND);
    let [Event::Dropped, Event::ChannelClosed { .. }, Event::Closed { code: 1006, reason }] =
        story(&sim, ada, lost)[..]
    else {
        panic!("{:?}", story(&sim, ada, lost));
    };
    assert!(!reason.is_empty());
    assert_eq!((sim[ada].client.status(), sim[ada].client.poll_timeout()), (Status::Closed, None));
    assert_eq!(sim.server.gauges().players, 0);
}

#[test]
fn a_server_that_was_started_again_gets_its_players_back_as_new_ones() {
    let mut sim = echo();
    let players = ["Ada", "Bob"].map(|name| sim.join("again", name));
    sim.run(2 * SECOND);
    let killed = sim.elapsed();
    sim.restart(SECOND);
    sim.run(5 * SECOND);
    assert_eq!(sim.server.gauges().players, 2);
    for player in players {
        let story = story(&sim, player, killed);
        let joined = story.iter().filter(|event| matches!(event, Event::Joined { .. })).count();
        assert_eq!(
            (story.first(), joined, story.contains(&&Event::Open)),
            (Some(&&Event::Dropped), 1, true),
            "{story:?}"
        );
        assert_eq!(sim[player].client.others().len(), 1);
        let before = sim[player].events_of::<u32>().len();
        sim.command(player, &7);
        sim.send(player, &7);
        sim.run(SECOND);
        assert_eq!((sim[player].events_of::<u32>().len(), sim[player].client.unacknowledged()), (before + 1, 0));
    }
}

#[test]
fn a_thousand_come_back_after_a_restart_at_the_pace_that_the_server_keeps() {
    const PLAYERS: usize = 1_000;
    let slow = |config: &mut rtcade::server::Config| {
        config.max_players = PLAYERS / 125;
        config.tick = 100 * MS;
    };
    let mut sim = Simulation::with_config(7, slow, |_| Ok(Echo { is_silent: true }));
    for player in 0..PLAYERS {
        sim.join_with(&format!("room-{}", player % 125), |config| config.locals.clear());
        sim.run(10 * MS);
    }
    sim.run(SECOND);
    assert_eq!(sim.server.gauges().players, PLAYERS);
    let down = 2 * SECOND;
    sim.restart(down);
    let up = sim.elapsed() + down;
    sim.run(down + 15 * SECOND);
    assert_eq!(sim.server.gauges().players, PLAYERS, "all are back");
    let joined = |(at, event): &(Duration, Event)| (*at > up && matches!(event, Event::Joined { .. })).then_some(*at);
    let mut times: Vec<_> = sim.clients().flat_map(|client| sim[client].events.iter().filter_map(joined)).collect();
    times.sort();
    assert_eq!(times.len(), PLAYERS, "each once");
    let (at_once, a_second) = (limits::JOINS_AT_ONCE as usize, limits::JOINS_PER_SECOND as usize);
    for (first, &from) in times.iter().enumerate() {
        for seconds in [1, 5] {
            let within = times[first..].iter().take_while(|&&at| at < from + seconds * SECOND).count();
            assert!(within <= at_once + a_second * seconds as usize, "{within} in {seconds} s");
        }
    }
    let refused = sim.server.counters().refused_joins.pace;
    assert!(refused < PLAYERS as u64, "hardly anybody is told to wait twice: {refused} refusals");
}

/// Answers the client's next request, and returns its action.
fn answer(client: &mut Client, now: &mut Instant, mut said: serde_json::Value) -> String {
    for _ in 0..100 {
        while let Some(message) = client.poll_message() {
            let Message::Text(text) = message else { continue };
            let request: serde_json::Value = serde_json::from_str(&text).unwrap();
            let action = request["a"].as_str().unwrap();
            said["a"] = format!("{action}R").into();
            said["i"] = request["i"].clone();
            client.handle_text(*now, &said.to_string());
            return action.to_owned();
        }
        *now = client.poll_timeout().unwrap();
        client.handle_timeout(*now);
    }
    panic!("the client asks for nothing");
}

#[test]
fn a_refused_join_is_final_although_the_websocket_is_lost_before_it_is_closed() {
    let mut now = echo().now();
    let mut client = Client::new(Config::new([1; 32]), now);
    let session = serde_json::json!({
        "socketId": "a", "player": 1, "roomSize": 1, "sessions": [], "tick": 0, "tickMs": 33, "inputSeq": 0,
        "resume": "b", "welcome": null,
    });
    let granted = serde_json::json!({ "s": true, "d": session });
    assert_eq!(answer(&mut client, &mut now, granted), "join");
    client.handle_disconnect(now, 1006, "lost");
    let unknown = serde_json::json!({ "s": false, "e": "no_such_session", "m": "Join again." });
    assert_eq!(answer(&mut client, &mut now, unknown), "reconnect");
    let refusal = serde_json::json!({ "s": false, "e": "refused", "m": "Not you." });
    assert_eq!(answer(&mut client, &mut now, refusal), "join");
    client.handle_disconnect(now, 1006, "lost");
    let events: Vec<Event> = std::iter::from_fn(|| client.poll_event()).collect();
    let refused = Event::Refused { code: "refused".to_owned(), message: "Not you.".to_owned() };
    assert_eq!(events[events.len() - 2..], [refused, Event::Closed { code: 1006, reason: "lost".to_owned() }]);
    assert_eq!(client.status(), Status::Closed);
}
