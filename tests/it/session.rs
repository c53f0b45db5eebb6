//! Players and rooms from end to end, under virtual time.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rtcade::client::Event;
use rtcade::game::{Batch, Context, Game, Incoming, Join, Lane, Leave, Link, PlayerId, Refusal, Target, Tick};
use rtcade::limits;
use rtcade::server::{Config, Connect, ConnectionId, Disconnect, Signal};
use rtcade::sim::{ClientId, Node, Path, SERVER, Simulation};

use crate::simulation;

const TICK: Duration = Duration::from_millis(33);
const ONE_WAY: Duration = Duration::from_millis(25);

/// Notes what it gets, and says a state every tick.
#[derive(Default)]
struct Ledger {
    inputs: Vec<(PlayerId, u32)>,
    commands: Vec<(PlayerId, String)>,
    left: Vec<(PlayerId, Leave)>,
}

impl Game for Ledger {
    type Input = u32;
    type Command = String;
    type State = Vec<u32>;
    type Event = String;
    type Welcome = [&'static str; 1];
    type JoinData = ();

    const INPUTS_PER_TICK: usize = rtcade::limits::INPUT_WINDOW;

    fn join(&mut self, _: &mut Context<Ledger>, _: PlayerId, join: &Join<()>) -> Result<[&'static str; 1], Refusal> {
        if join.name == "Mallory" { Err(Refusal::new("Not you.")) } else { Ok(["map"]) }
    }

    fn leave(&mut self, _: &mut Context<Ledger>, player: PlayerId, reason: Leave) {
        self.left.push((player, reason));
    }

    fn tick(&mut self, ctx: &mut Context<Ledger>, tick: Tick, batch: Batch<'_, Ledger>) {
        for message in batch {
            match message {
                Incoming::Input { player, input, .. } => self.inputs.push((player, input)),
                Incoming::Command { player, command, .. } if command == "panic" => panic!("{player} asked for it"),
                Incoming::Command { player, command, .. } if command == "kick me" => ctx.kick(player, "As you wish."),
                Incoming::Command { player, command, .. } => {
                    ctx.event(Target::All, &command, Lane::Reliable).expect("it is short");
                    self.commands.push((player, command));
                }
                _ => unreachable!("there are inputs and commands"),
            }
        }
        ctx.state(&vec![tick.number]).expect("it is short");
    }
}

fn ledger(seed: u64) -> Simulation<Ledger> {
    simulation(seed, |_| Ok(Ledger::default()))
}

fn lossy(percent: u16) -> Path {
    Path::new(ONE_WAY).with(&Node::Loss { permille: 10 * percent })
}

fn events<G: Game>(sim: &Simulation<G>, end: ClientId) -> impl Iterator<Item = &Event> {
    sim[end].events.iter().map(|(_, event)| event)
}

fn room(name: &str) -> rtcade::wire::signaling::RoomName {
    rtcade::wire::signaling::RoomName::parse(name).unwrap()
}

#[test]
fn inputs_arrive_once_and_in_order_while_datagrams_are_lost() {
    for seed in 0..8 {
        let mut sim = ledger(seed);
        sim.set_paths(|| lossy(5));
        let ends = [sim.join("lossy", "Ada"), sim.join("lossy", "Bob"), sim.join("lossy", "Cy")];
        sim.run(Duration::from_secs(10));
        for end in ends {
            assert!(sim[end].client.is_open(), "the channel of {end:?} opens under loss");
        }
        let mut sent = 0;
        sim.run_every(TICK, Duration::from_secs(60), |sim| {
            sent += 1;
            for end in ends {
                sim.send(end, &sent);
            }
        });
        sim.run(Duration::from_secs(1));
        let game = sim.game("lossy").unwrap();
        for player in 1..=3 {
            let got: Vec<u32> = game.inputs.iter().filter(|(of, _)| of.0 == player).map(|&(_, input)| input).collect();
            assert_eq!(got, (1..=sent).collect::<Vec<u32>>(), "none twice, none lost, in order");
        }
        for end in ends {
            assert_eq!(sim[end].client.unacknowledged(), 0);
            let states = events(&sim, end).filter(|event| matches!(event, Event::State { .. })).count();
            assert!(states > 1_700, "{states} of some 2,150 states are more loss than there was");
        }
        assert!(sim.server.counters().bad_frames == 0);
    }
}

/// Sends nothing of its own: every tick, everybody's inputs.
struct FanOut;

impl Game for FanOut {
    type Input = u32;
    type Command = ();
    type State = ();
    type Event = ();
    type Welcome = ();
    type JoinData = ();

    fn join(&mut self, _: &mut Context<FanOut>, _: PlayerId, _: &Join<()>) -> Result<(), Refusal> {
        Ok(())
    }

    fn leave(&mut self, _: &mut Context<FanOut>, _: PlayerId, _: Leave) {}

    fn tick(&mut self, ctx: &mut Context<FanOut>, _: Tick, _: Batch<'_, FanOut>) {
        ctx.fan_out_inputs();
    }
}

#[test]
fn every_player_gets_the_same_inputs_of_every_tick_whatever_is_lost() {
    for (seed, loss_percent) in [(1, 0), (2, 5), (3, 10), (4, 20)] {
        let mut sim = simulation(seed, |_| Ok(FanOut));
        sim.set_paths(move || lossy(loss_percent));
        let ends = [sim.join("lockstep", "Ada"), sim.join("lockstep", "Bob")];
        let mut number = 0;
        sim.run_every(TICK, Duration::from_secs(30), |sim| {
            number += 1;
            for end in ends {
                sim.send(end, &number);
            }
        });
        // What was lost last comes over the websocket, which had its own losses.
        sim.run(Duration::from_secs(10));
        let ticks: Vec<Vec<_>> = ends
            .iter()
            .map(|&end| {
                let ticks = events(&sim, end).filter_map(|event| match event {
                    Event::Tick { tick, inputs } => Some((*tick, inputs.clone())),
                    Event::TicksLost { .. } => panic!("ticks of the last ten seconds are never lost"),
                    _ => None,
                });
                ticks.collect()
            })
            .collect();
        for ticks in &ticks {
            let numbers: Vec<u32> = ticks.iter().map(|&(tick, _)| tick).collect();
            let expected: Vec<u32> = (numbers[0]..).take(numbers.len()).collect();
            assert_eq!(numbers, expected, "each tick once, in order");
            assert!(numbers.len() > 900, "{} ticks of some 990", numbers.len());
        }
        let first = ticks[0][0].0.max(ticks[1][0].0);
        let common: Vec<Vec<_>> =
            ticks.iter().map(|ticks| ticks.iter().filter(|(tick, _)| *tick >= first).take(900).collect()).collect();
        assert_eq!(common[0], common[1]);
        assert!(common[0].iter().any(|(_, inputs)| inputs.len() >= 2));
    }
}

#[test]
fn players_are_told_of_each_other() {
    let mut sim = ledger(1);
    let ada = sim.join("told", "Ada");
    sim.run(Duration::from_secs(1));
    let bob = sim.join("told", "Bob\u{202e}\n");
    sim.run(Duration::from_secs(2));
    let reply = sim[bob].heard("joinR").unwrap();
    assert_eq!(reply["s"], true);
    assert_eq!(reply["d"]["roomSize"], 2);
    assert_eq!(reply["d"]["welcome"], serde_json::json!(["map"]));
    assert_eq!(reply["d"]["tickMs"], 33.0);
    assert_eq!(reply["d"]["inputSeq"], 1);
    assert_eq!(reply["d"]["socketId"].as_str().unwrap().len(), 32);
    let joined = &sim[ada].heard("eventJoin").unwrap()["d"];
    assert_eq!((&joined["player"], &joined["name"]), (&2.into(), &"Bob".into()));
    assert_eq!(joined["roomSize"], 2);
    assert!(sim[bob].heard("eventJoin").is_none(), "nobody is told of their own coming");
    assert_eq!(sim[bob].heard("eventRoomUsers").unwrap()["d"]["sessions"].as_array().unwrap().len(), 2);
    sim.leave(bob);
    sim.run(Duration::from_secs(2));
    let left = &sim[ada].heard("eventLeave").unwrap()["d"];
    assert_eq!((&left["player"], &left["reason"], &left["roomSize"]), (&2.into(), &"left".into(), &1.into()));
    assert_eq!(sim.game("told").unwrap().left, [(PlayerId(2), Leave::Left)]);
    let gauges = sim.server.gauges();
    assert_eq!((gauges.connections, gauges.players, gauges.peers), (1, 1, 1));
}

#[test]
fn who_has_left_hears_nothing_more() {
    let mut sim = ledger(1);
    let ada = sim.join("deaf", "Ada");
    sim.set_path(ada, Path::new(Duration::from_millis(200)).with(&Node::NoUdp));
    sim.run(Duration::from_secs(2));
    sim.join("deaf", "Bob");
    sim.leave(ada);
    sim.run(Duration::from_secs(1));
    assert!(sim[ada].heard("eventJoin").is_some(), "it was on its way");
    assert_eq!(events(&sim, ada).last(), Some(&Event::Closed { code: 1000, reason: "left".to_owned() }));
}

#[test]
fn commands_and_reliable_events_arrive_in_order() {
    let mut sim = ledger(3);
    sim.set_paths(|| lossy(20));
    let ada = sim.join("reliable", "Ada");
    let bob = sim.join("reliable", "Bob");
    sim.run(Duration::from_secs(1));
    for n in 0..40 {
        sim.command(ada, &format!("order {n}"));
        sim.run(Duration::from_millis(20));
    }
    // One in five segments is lost, and holds up the others.
    sim.run(Duration::from_secs(20));
    let expected: Vec<String> = (0..40).map(|n| format!("order {n}")).collect();
    let got: Vec<String> = sim.game("reliable").unwrap().commands.iter().map(|(_, command)| command.clone()).collect();
    assert_eq!(got, expected);
    for end in [ada, bob] {
        let events: Vec<String> = events(&sim, end)
            .filter_map(|event| match event {
                Event::Event { value, reliable: true, .. } => rtcade::wire::msgpack::decode(value).ok(),
                _ => None,
            })
            .collect();
        assert_eq!(events, expected);
    }
}

#[test]
fn refusals_have_a_code_and_leave_others_alone() {
    let mut sim = Simulation::with_config(
        1,
        |config| config.max_players = 2,
        |info| {
            if info.name == "closed" { Err(Refusal::new("Closed today.")) } else { Ok(Ledger::default()) }
        },
    );
    let ada = sim.join("small", "Ada");
    sim.run(Duration::from_millis(200));
    let refused = [
        (sim.join("small", "Mallory"), "refused", "Not you."),
        (sim.join("closed", "Bob"), "refused", "Closed today."),
        (
            sim.join_with("small", |config| config.room = Some("other".into())),
            "bad_room",
            "differs from that of the URL",
        ),
        (sim.join_with("", |config| config.room = Some("no such/room".into())), "bad_room", "1 to 64"),
        (sim.join_with("", |config| config.room = Some("a".repeat(65))), "bad_room", "1 to 64"),
        (sim.join("", "Bob"), "bad_room", "names no room"),
    ];
    sim.run(Duration::from_millis(200));
    let bob = sim.join("small", "Bob");
    sim.run(Duration::from_millis(200));
    let one_too_many = (sim.join("small", "Cy"), "room_full", "takes 2 players");
    sim.run(Duration::from_millis(200));
    for (end, code, sentence) in refused.into_iter().chain([one_too_many]) {
        let reply = sim[end].heard("joinR").unwrap();
        assert_eq!((&reply["s"], &reply["e"]), (&false.into(), &code.into()));
        assert!(reply["m"].as_str().unwrap().contains(sentence), "{reply}");
        assert_eq!(sim[end].closed, Some((4100, code.to_owned())));
    }
    for end in [ada, bob] {
        assert!(sim[end].closed.is_none() && sim[end].client.is_open());
    }
    assert_eq!(sim.server.gauges().players, 2);
    assert_eq!(sim.server.counters().refused_requests, 7);
}

#[test]
fn requests_that_cannot_be_granted_get_a_reply_that_says_why() {
    let mut sim = ledger(1);
    let ada = sim.join("asks", "Ada");
    sim.run(Duration::from_millis(300));
    let long = format!(r#"{{"a":"join","d":{{"name":"{}"}}}}"#, "x".repeat(16 * 1024));
    let cases = [
        (r#"{"a":"fly","i":7}"#, "flyR", "unknown_action"),
        (r#"{"a":"reconnect","d":{"socketId":"x"}}"#, "reconnectR", "resume_required"),
        (r#"{"a":"reconnect","d":{"socketId":"x","resume":"y"}}"#, "reconnectR", "bad_request"),
        (r#"{"a":"join","d":{}}"#, "joinR", "bad_request"),
        (r#"{"a":"exchangeSdp","d":{"to":"server","sdp":"v=0"}}"#, "exchangeSdpR", "bad_sdp"),
        (r#"{"a":"exchangeSdp","d":{"to":"somebody","sdp":"v=0"}}"#, "exchangeSdpR", "no_such_player"),
        (r#"{"a":"exchangeSdp","d":{"to":5}}"#, "exchangeSdpR", "bad_request"),
        ("not JSON", "R", "bad_request"),
        (long.as_str(), "R", "too_large"),
    ];
    for (request, action, code) in cases {
        sim.text(ada, request);
        sim.run(Duration::from_millis(100));
        let reply = sim[ada].texts.iter().rev().find(|text| text["s"] == false).unwrap();
        assert_eq!((&reply["a"], &reply["e"]), (&action.into(), &code.into()), "{request}");
        assert!(!reply["m"].as_str().unwrap().is_empty());
    }
    assert_eq!(sim[ada].heard("flyR").unwrap()["i"], 7);
    sim.text(ada, r#"{"a":"exchangeCandidate","d":{"to":"server","candidate":{}}}"#);
    sim.run(Duration::from_millis(100));
    assert_eq!(sim[ada].heard("exchangeCandidateR").unwrap()["s"], true);
    assert!(sim[ada].client.is_open());

    for (request, code) in [("not JSON", "bad_request"), (long.as_str(), "too_large"), ("[]", "bad_request")] {
        let page = sim.connect("asks");
        sim.text(page, request);
        sim.run(Duration::from_millis(100));
        assert_eq!(sim[page].heard("joinR").unwrap()["e"], code, "who waits for the reply to join gets one");
    }

    let other = sim.connect("asks");
    sim.text(other, r#"{"a":"join","d":{"version":1}}"#);
    sim.run(Duration::from_millis(300));
    assert_eq!(sim[other].heard("joinR").unwrap()["e"], "version_mismatch");
}

#[test]
fn too_many_requests_are_refused_then_cost_the_connection() {
    let mut sim = ledger(1);
    let ada = sim.join("flood", "Ada");
    let bob = sim.join("flood", "Bob");
    sim.run(Duration::from_secs(2));
    for _ in 0..=limits::SIGNALS_PER_SECOND {
        sim.text(ada, r#"{"a":"fly"}"#);
    }
    sim.run(Duration::from_millis(100));
    let limited = |sim: &Simulation<Ledger>| sim[ada].texts.iter().filter(|text| text["e"] == "rate_limited").count();
    assert_eq!(limited(&sim), 1);
    assert!(sim[ada].closed.is_none());
    for _ in 0..2 * limits::SIGNALS_PER_SECOND {
        sim.text(ada, r#"{"a":"fly"}"#);
    }
    sim.run(Duration::from_millis(100));
    assert_eq!(sim[ada].closed.as_ref().unwrap().0, Leave::Flood.close_code());
    assert_eq!(sim[bob].heard("eventLeave").unwrap()["d"]["reason"], "flood");
}

#[test]
fn a_frame_that_cannot_be_read_costs_its_sender_alone() {
    let mut sim = ledger(1);
    let bob = sim.join("bad", "Bob");
    for bytes in
        [&[0xff][..], &[], &[0x01, 0, 0, 0, 0, 0xc1], &[0x21, 0, 0, 0, 0, 0xff, 0xff], &[0x04, 0, 0, 0, 0, 0x90]]
    {
        let ada = sim.join("bad", "Ada");
        sim.run(Duration::from_millis(300));
        sim.binary(ada, bytes);
        sim.run(Duration::from_millis(300));
        assert_eq!(sim[ada].closed.as_ref().unwrap().0, Leave::BadFrame.close_code(), "{bytes:?}");
        assert_eq!(sim[bob].heard("eventLeave").unwrap()["d"]["reason"], "bad_frame");
    }
    // Well formed, but not what this game takes.
    let ada = sim.join("bad", "Ada");
    sim.run(Duration::from_millis(300));
    sim.send(ada, &"no number");
    sim.run(Duration::from_millis(300));
    assert_eq!(sim[ada].closed.as_ref().unwrap().0, Leave::BadFrame.close_code());
    assert!(sim[bob].client.is_open());
    assert_eq!(sim.server.counters().bad_frames, 5);
}

#[test]
fn a_game_that_panics_closes_its_room_and_no_other_misses_a_tick() {
    let mut sim = ledger(1);
    let ada = sim.join("fails", "Ada");
    let bob = sim.join("fails", "Bob");
    let cy = sim.join("lives", "Cy");
    sim.run(Duration::from_secs(1));
    let states = |sim: &Simulation<Ledger>, end: ClientId| -> Vec<u32> {
        let ticks = events(sim, end).filter_map(|event| match event {
            Event::State { tick, .. } => Some(*tick),
            _ => None,
        });
        ticks.collect()
    };
    let before = states(&sim, cy).len();
    sim.command(ada, &"panic");
    sim.run(Duration::from_secs(1));
    for end in [ada, bob] {
        let (code, reason) = sim[end].closed.clone().unwrap();
        assert_eq!(code, Leave::RoomClosed.close_code());
        assert!(reason.contains("its game failed"), "{reason}");
    }
    let ticks = states(&sim, cy);
    assert!(ticks.len() - before >= 30);
    assert!(ticks.windows(2).all(|pair| pair[1] == pair[0] + 1));
    assert_eq!(sim.server.counters().missed_ticks, 0);
    assert_eq!(sim.server.counters().failed_rooms, 1);
    for end in [ada, bob] {
        assert_eq!(events(&sim, end).filter(|event| matches!(event, Event::Joined { .. })).count(), 2);
        assert!(sim[end].client.is_open(), "the name is free for a new room, into which they come back");
    }
    assert_eq!(sim.server.gauges().rooms, 2);
}

#[test]
fn a_kick_tells_the_player_why() {
    let mut sim = ledger(1);
    let ada = sim.join("kick", "Ada");
    sim.run(Duration::from_secs(1));
    sim.command(ada, &"kick me");
    sim.run(Duration::from_secs(1));
    assert_eq!(sim[ada].closed, Some((Leave::Kicked.close_code(), "As you wish.".to_owned())));
    assert_eq!(sim.game("kick").unwrap().left, [(PlayerId(1), Leave::Kicked)]);
}

#[test]
fn without_udp_the_same_frames_go_over_the_websocket() {
    let mut sim = ledger(1);
    let ada = sim.join("blocked", "Ada");
    sim.set_path(ada, Path::new(ONE_WAY).with(&Node::NoUdp));
    // The first offer has failed, and so has the next.
    sim.run(Duration::from_secs(45));
    assert!(!sim[ada].client.is_open());
    assert!(events(&sim, ada).any(|event| matches!(event, Event::ChannelClosed { .. })), "the player is told");
    for n in 1..=20u32 {
        sim.send(ada, &n);
        sim.run(Duration::from_millis(33));
    }
    sim.run(Duration::from_secs(1));
    let got: Vec<u32> = sim.game("blocked").unwrap().inputs.iter().map(|&(_, input)| input).collect();
    assert_eq!(got, (1..=20).collect::<Vec<u32>>());
    let states = events(&sim, ada).filter(|event| matches!(event, Event::State { .. })).count();
    assert!(states > 1_380, "{states} states in some 46 s");
    assert!(sim.server.gauges().peers <= 1, "one offer after the other");
}

#[test]
fn inputs_are_heard_as_soon_as_an_outage_ends_however_long_it_was() {
    // The server gives a channel up earlier than the client.
    for (seconds, channel_lives) in [(8, true), (18, false), (40, false)] {
        let mut sim = ledger(1);
        let ada = sim.join("outage", "Ada");
        sim.run(Duration::from_secs(2));
        sim.set_path(ada, Path::new(ONE_WAY).with(&Node::NoUdp));
        sim.run(Duration::from_secs(seconds));
        sim.set_path(ada, Path::new(ONE_WAY));
        sim.send(ada, &7);
        sim.run(Duration::from_millis(200));
        assert_eq!(sim.game("outage").unwrap().inputs, [(PlayerId(1), 7)], "after {seconds} s");
        assert_eq!(sim[ada].client.is_open(), channel_lives);
        let closed = events(&sim, ada).filter(|event| matches!(event, Event::ChannelClosed { .. })).count();
        assert_eq!(closed, usize::from(!channel_lives), "after {seconds} s");
    }
}

#[test]
fn a_new_offer_replaces_the_data_channel() {
    let mut sim = ledger(1);
    let ada = sim.join("again", "Ada");
    sim.run(Duration::from_secs(1));
    let request = serde_json::json!({"a": "exchangeSdp", "d": {"to": "server", "sdp": OFFER}});
    sim.text(ada, &request.to_string());
    sim.run(Duration::from_millis(200));
    let reply = sim[ada].heard("exchangeSdpR").unwrap();
    assert_eq!(reply["s"], true, "{reply}");
    let answer = reply["d"]["sdp"].as_str().unwrap();
    assert!(answer.contains("a=ice-lite") && answer.contains(" 10.0.0.1 8080 typ host"), "{answer}");
    assert!(!sim[ada].client.is_open(), "the old channel was closed, and its end told");
    assert_eq!(sim.server.gauges().peers, 1);
}

const OFFER: &str = "v=0\r\no=- 1 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0\r\n\
    m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\nc=IN IP4 0.0.0.0\r\na=ice-ufrag:abcd\r\n\
    a=ice-pwd:0123456789012345678901\r\na=fingerprint:sha-256 \
    00:01:02:03:04:05:06:07:08:09:0A:0B:0C:0D:0E:0F:10:11:12:13:14:15:16:17:18:19:1A:1B:1C:1D:1E:1F\r\n\
    a=setup:actpass\r\na=mid:0\r\na=sctp-port:5000\r\n";

#[test]
fn a_room_goes_when_it_has_been_empty_and_connections_that_do_not_join_go_too() {
    let mut sim = ledger(1);
    let ada = sim.join("gone", "Ada");
    let idle = sim.connect("gone");
    sim.run(limits::EMPTY_ROOM_LINGER);
    sim.leave(ada);
    sim.run(limits::EMPTY_ROOM_LINGER - Duration::from_secs(1));
    assert_eq!(sim.server.gauges().rooms, 1);
    sim.run(Duration::from_secs(2));
    assert_eq!(sim[idle].closed.as_ref().unwrap().0, Leave::Timeout.close_code());
    let gauges = sim.server.gauges();
    assert_eq!((gauges.rooms, gauges.peers, gauges.connections), (0, 0, 0));
    assert!(sim.server.poll_timeout().is_none(), "nothing is left to wait for");
}

#[test]
fn a_server_that_stops_tells_every_player() {
    let mut sim = ledger(1);
    let ends = [sim.join("stop", "Ada"), sim.join("stop", "Bob"), sim.join("other", "Cy")];
    sim.run(Duration::from_secs(1));
    sim.server.handle_shutdown(sim.now());
    sim.run(Duration::from_secs(1));
    for end in ends {
        assert_eq!(sim[end].closed.as_ref().unwrap().0, Leave::Shutdown.close_code());
    }
    let late = sim.join("stop", "Dan");
    sim.run(Duration::from_secs(1));
    assert_eq!(sim[late].closed.as_ref().unwrap().0, Leave::Shutdown.close_code());
}

/// Says states of so many bytes, the same or those of which nothing deflates.
struct Big(usize, bool);

impl Game for Big {
    type Input = u8;
    type Command = ();
    type State = Vec<u8>;
    type Event = ();
    type Welcome = ();
    type JoinData = ();

    fn join(&mut self, _: &mut Context<Big>, _: PlayerId, _: &Join<()>) -> Result<(), Refusal> {
        Ok(())
    }

    fn leave(&mut self, _: &mut Context<Big>, _: PlayerId, _: Leave) {}

    fn tick(&mut self, ctx: &mut Context<Big>, _: Tick, _: Batch<'_, Big>) {
        use rtcade::rand::Rng;
        // An array of small integers: one byte each, and three for its head.
        let Big(bytes, is_noise) = *self;
        let state: Vec<u8> =
            if is_noise { (0..bytes).map(|_| (ctx.rng().next_u32() & 0x7f) as u8).collect() } else { vec![7; bytes] };
        assert_eq!(ctx.state(&state).is_ok(), self.0 + 3 <= limits::STATE_BYTES);
    }
}

#[test]
fn the_largest_states_arrive_and_what_no_frame_takes_is_an_error_or_counted() {
    for (bytes, is_noise, arrives) in [
        (limits::STATE_BYTES - 3, false, true),
        (limits::STATE_BYTES - 2, false, false),
        (limits::UNRELIABLE_BODY_BYTES - limits::BODY_PREFIX_BYTES - 3, true, true),
        // For the game it is no error: that would depend on what players hold.
        (2 * limits::UNRELIABLE_BODY_BYTES, true, false),
        (limits::STATE_BYTES - 3, true, false),
    ] {
        let mut sim = simulation(1, move |_| Ok(Big(bytes, is_noise)));
        let ada = sim.join("big", "Ada");
        sim.run(Duration::from_secs(3));
        assert!(sim[ada].client.is_open());
        let sizes: Vec<usize> = events(&sim, ada)
            .filter_map(|event| match event {
                Event::State { value, .. } => Some(value.len()),
                _ => None,
            })
            .collect();
        assert_eq!(!sizes.is_empty(), arrives, "{bytes} bytes");
        assert!(sizes.iter().all(|&size| size == bytes + 3));
        assert_eq!(sim.server.counters().oversized_states > 0, is_noise && !arrives, "{bytes} bytes");
        assert_eq!(
            sim[ada].client.stats().missing,
            0,
            "what the 3× rule drops at first is dropped whole and unnumbered"
        );
    }
}

#[test]
fn of_more_than_a_player_gets_each_state_comes_whole_or_not_at_all() {
    for (tick_ms, bytes) in [(10_u64, 3_900), (5, 2_100)] {
        let tick = Duration::from_millis(tick_ms);
        let mut sim = Simulation::with_config(1, |config| config.tick = tick, move |_| Ok(Big(bytes, true)));
        let ada = sim.join("big", "Ada");
        sim.run(Duration::from_secs(3));
        let states = |sim: &Simulation<Big>| {
            u32::try_from(events(sim, ada).filter(|event| matches!(event, Event::State { .. })).count()).unwrap()
        };
        let dropped = |sim: &Simulation<Big>| sim.server.counters().dropped_frames;
        let (seen, before) = (states(&sim), dropped(&sim));
        sim.run(Duration::from_secs(2));
        let (seen, dropped) = (states(&sim) - seen, dropped(&sim) - before);
        // The states are noise of seven bits in eight, and are deflated by that.
        let fit = 2 * limits::DOWNLINK_BYTES_PER_SECOND / u32::try_from(bytes * 7 / 8 + 30).unwrap();
        assert!(seen.abs_diff(fit) <= fit / 20, "{tick_ms} ms, {bytes} bytes: {seen} of {fit}");
        let ticks = 2_000 / tick_ms;
        assert!(
            ticks.abs_diff(u64::from(seen) + dropped) <= 3,
            "each is counted once: {seen} and {dropped} of {ticks}"
        );
    }
}

#[test]
fn too_many_frames_are_dropped_then_cost_the_connection() {
    let mut sim = ledger(1);
    let ada = sim.join("frames", "Ada");
    let bob = sim.join("frames", "Bob");
    sim.run(Duration::from_secs(2));
    let ping = [&[0x02, 0, 0, 0, 0][..], &rtcade::wire::msgpack::encode_clock(1.0)].concat();
    for _ in 0..limits::FRAMES_PER_SECOND + 20 {
        sim.binary(ada, &ping);
    }
    sim.run(Duration::from_millis(500));
    // Those of its own count too, which acknowledge states.
    assert!((1..=40).contains(&sim.server.counters().excess_frames));
    assert!(sim[ada].closed.is_none());
    for _ in 0..3 * limits::FRAMES_PER_SECOND {
        sim.binary(ada, &ping);
    }
    sim.run(Duration::from_millis(500));
    assert_eq!(sim[ada].closed.as_ref().unwrap().0, Leave::Flood.close_code());
    assert!(sim[bob].client.is_open());
}

fn connect(sim: &mut Simulation<Ledger>, connection: u64, address: [u8; 4], room: Option<&str>) {
    let connect = Connect::new(room.map(self::room), (address, 40_000).into(), SERVER.ip());
    sim.server.handle_connect(sim.now(), ConnectionId(connection), connect);
}

fn next_close(sim: &mut Simulation<Ledger>, connection: u64) -> Option<(u16, String)> {
    std::iter::from_fn(|| sim.server.poll_signal(ConnectionId(connection))).find_map(|signal| match signal {
        Signal::Close { code, reason } => Some((code, reason)),
        _ => None,
    })
}

/// Reads what waits for a connection, as a browser does.
fn answer_pings(sim: &mut Simulation<Ledger>, connection: ConnectionId) {
    while let Some(signal) = sim.server.poll_signal(connection) {
        if let Signal::Ping(payload) = signal {
            sim.server.handle_pong(sim.now(), connection, &payload.to_be_bytes());
        }
    }
}

#[test]
fn one_address_has_so_many_connections_waiting_to_join_and_no_more() {
    let mut sim = ledger(1);
    let most = limits::UNJOINED_PER_ADDRESS as u64;
    let address = [10, 9, 9, 9];
    for connection in 0..most {
        connect(&mut sim, connection, address, Some("busy"));
        assert_eq!(next_close(&mut sim, connection), None);
    }
    connect(&mut sim, most, address, Some("busy"));
    assert_eq!(next_close(&mut sim, most), Some((4100, "rate_limited".to_owned())));
    connect(&mut sim, most + 1, [10, 9, 9, 8], Some("busy"));
    assert_eq!(next_close(&mut sim, most + 1), None, "others are not concerned");
    sim.server.handle_disconnect(sim.now(), ConnectionId(most), Disconnect::Goodbye);
    sim.server.handle_text(sim.now(), ConnectionId(0), r#"{"a":"join"}"#);
    sim.stand_still(Duration::from_millis(40));
    sim.server.handle_timeout(sim.now());
    connect(&mut sim, most + 2, address, Some("busy"));
    assert_eq!(next_close(&mut sim, most + 2), None, "who has joined no longer counts");
}

#[test]
fn one_address_has_so_many_players_and_no_more() {
    let mut sim = Simulation::with_config(1, |config| config.max_players = 1_024, |_| Ok(Ledger::default()));
    let most = limits::CONNECTIONS_PER_ADDRESS as u64;
    for connection in 0..most {
        connect(&mut sim, connection, [10, 9, 9, 9], Some("school"));
        sim.server.handle_text(sim.now(), ConnectionId(connection), r#"{"a":"join"}"#);
        sim.stand_still(Duration::from_secs(1) / limits::JOINS_PER_ADDRESS_PER_SECOND);
        (0..=connection).for_each(|there| answer_pings(&mut sim, ConnectionId(there)));
        sim.server.handle_timeout(sim.now());
        assert_eq!(next_close(&mut sim, connection), None);
    }
    connect(&mut sim, most, [10, 9, 9, 9], Some("school"));
    assert_eq!(next_close(&mut sim, most), Some((4100, "rate_limited".to_owned())));
    for connection in [0, most] {
        sim.server.handle_disconnect(sim.now(), ConnectionId(connection), Disconnect::Goodbye);
    }
    connect(&mut sim, most + 1, [10, 9, 9, 9], Some("school"));
    assert_eq!(next_close(&mut sim, most + 1), None, "a place is free again");
}

#[test]
fn the_answer_names_addresses_that_a_player_can_reach() {
    let (v4, other, loopback) = ([10, 0, 0, 1].into(), [10, 0, 0, 2].into(), [127, 0, 0, 1].into());
    let check = |interfaces: &[IpAddr], public: &[SocketAddr], local: IpAddr, expected: &[&str]| {
        let configure = |config: &mut Config| {
            config.interfaces = interfaces.to_vec();
            config.public = public.to_vec();
        };
        let mut sim = Simulation::with_config(1, configure, |_| Ok(Ledger::default()));
        let remote = SocketAddr::from(([10, 6, 0, 1], 40_000));
        sim.server.handle_connect(sim.now(), ConnectionId(0), Connect::new(Some(room("named")), remote, local));
        let join = serde_json::json!({"a": "join", "d": {"sdp": OFFER}});
        sim.server.handle_text(sim.now(), ConnectionId(0), &join.to_string());
        sim.stand_still(Duration::from_millis(40));
        sim.server.handle_timeout(sim.now());
        let Some(Signal::Text(reply)) = sim.server.poll_signal(ConnectionId(0)) else { panic!("no reply") };
        let reply: serde_json::Value = serde_json::from_str(&reply).unwrap();
        let answer = reply["d"]["sdp"].as_str().unwrap();
        let named: Vec<String> = answer
            .lines()
            .filter(|line| line.starts_with("a=candidate:"))
            .map(|line| line.split(' ').skip(4).take(2).collect::<Vec<_>>().join(" "))
            .collect();
        assert_eq!(named, expected, "from {local} with {interfaces:?}");
    };
    check(&[], &[], v4, &["10.0.0.1 8080"]);
    check(&[v4, other, loopback], &[], other, &["10.0.0.2 8080", "10.0.0.1 8080"]);
    // A proxy on this machine, or its user's own browser.
    check(&[v4, loopback], &[], loopback, &["127.0.0.1 8080", "10.0.0.1 8080"]);
    // UDP is bound elsewhere.
    check(&[v4], &[], other, &["10.0.0.1 8080"]);
    check(&[v4], &[], loopback, &["10.0.0.1 8080"]);
    check(&[v4], &[([192, 0, 2, 7], 9).into()], v4, &["192.0.2.7 9"]);
}

#[test]
fn a_server_has_so_many_rooms_and_no_more() {
    let mut sim = ledger(1);
    let join = |sim: &mut Simulation<Ledger>, n: u32| -> String {
        let [_, _, high, low] = n.to_be_bytes();
        connect(sim, n.into(), [10, 8, high, low], Some(&format!("room-{n}")));
        sim.server.handle_text(sim.now(), ConnectionId(n.into()), r#"{"a":"join"}"#);
        sim.stand_still(Duration::from_secs(1) / limits::JOINS_PER_SECOND);
        match sim.server.poll_signal(ConnectionId(n.into())) {
            Some(Signal::Text(text)) => text,
            _ => String::new(),
        }
    };
    let most = u32::try_from(limits::ROOMS).unwrap();
    for n in 0..most {
        assert_eq!(join(&mut sim, n), "", "a reply waits for the tick");
    }
    assert!(join(&mut sim, most).contains("room_full"));
    assert_eq!(sim.server.gauges().rooms, limits::ROOMS);
    // The rooms that are open stay so.
    sim.server.set_max_rooms(1);
    assert!(join(&mut sim, most + 1).contains("room_full"));
    assert_eq!(sim.server.gauges().rooms, limits::ROOMS);
    sim.server.set_max_rooms(usize::MAX);
    assert!(join(&mut sim, most + 2).contains("room_full"));
}

#[test]
fn a_socket_that_takes_nothing_is_given_up() {
    let mut sim = ledger(1);
    connect(&mut sim, 1000, [10, 7, 0, 1], Some("slow"));
    sim.server.handle_text(sim.now(), ConnectionId(1000), r#"{"a":"join"}"#);
    let ada = sim.join("slow", "Ada");
    sim.run(Duration::from_millis(100));
    // Each comes back to both as a reliable event, deflated to some three quarters; the first socket is never polled.
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let mut commands = 0;
    while sim[ada].heard("eventLeave").is_none() {
        commands += 1;
        let letters: String = (0..15_000).map(|_| char::from(b'0' + (rng.next_u32() % 64) as u8)).collect();
        sim.command(ada, &letters);
        if commands % 20 == 0 {
            // It is there, and takes nothing.
            sim.server.handle_text(sim.now(), ConnectionId(1000), "");
        }
        sim.run(Duration::from_millis(100));
        assert!(commands * 15_000 < 2 * limits::RELIABLE_QUEUE_BYTES, "the queue has a limit");
    }
    assert!(commands * 15_000 > limits::RELIABLE_QUEUE_BYTES, "{commands} commands were too many");
    assert_eq!(sim[ada].heard("eventLeave").unwrap()["d"]["reason"], "timeout");
    assert_eq!(next_close(&mut sim, 1000).unwrap().0, Leave::Timeout.close_code());
}

/// Keeps each new measurement of the first player's link.
struct Watch(Vec<Link>);

impl Game for Watch {
    type Input = u8;
    type Command = ();
    type State = u32;
    type Event = ();
    type Welcome = ();
    type JoinData = ();

    fn join(&mut self, _: &mut Context<Watch>, _: PlayerId, _: &Join<()>) -> Result<(), Refusal> {
        Ok(())
    }

    fn leave(&mut self, _: &mut Context<Watch>, _: PlayerId, _: Leave) {}

    fn tick(&mut self, ctx: &mut Context<Watch>, tick: Tick, _: Batch<'_, Watch>) {
        // Measured at multiples of a second; those of the first three, before the loss, don't count.
        if tick.number > 100 && tick.number.is_multiple_of(30) {
            self.0.push(ctx.link(PlayerId(1)));
        }
        ctx.state(&tick.number).expect("it fits");
    }
}

#[test]
fn the_game_is_told_how_its_players_are_connected() {
    let mut sim = simulation(7, |_| Ok(Watch(Vec::new())));
    let path = || Path::new(Duration::from_millis(40));
    sim.set_paths(path);
    sim.join("links", "Ada");
    sim.run(Duration::from_secs(3));
    sim.set_paths(move || path().with(&Node::Loss { permille: 100 }));
    sim.run(Duration::from_secs(60));
    let links = &sim.game("links").unwrap().0;
    let [down, up] = [|link: &Link| link.loss_down_permille, |link: &Link| link.loss_up_permille]
        .map(|loss| links.iter().map(|link| f64::from(loss(link))).sum::<f64>() / links.len() as f64);
    assert!((59..=63).contains(&links.len()), "once a second: {}", links.len());
    // Two packets a second go up.
    assert!((70.0..130.0).contains(&down) && (40.0..160.0).contains(&up), "{down} and {up} of 1,000 were lost");
    for link in links {
        assert!((80_000..=100_000).contains(&link.rtt_us) && link.jitter_us <= 40_000, "{link:?}");
    }
}

/// Gives players the names that they command.
struct Names;

impl Game for Names {
    type Input = ();
    type Command = String;
    type State = ();
    type Event = ();
    type Welcome = ();
    type JoinData = Option<bool>;

    fn join(&mut self, ctx: &mut Context<Names>, player: PlayerId, join: &Join<Option<bool>>) -> Result<(), Refusal> {
        if join.data == Some(true) {
            ctx.rename(player, "Named");
        }
        Ok(())
    }

    fn leave(&mut self, _: &mut Context<Names>, _: PlayerId, _: Leave) {}

    fn tick(&mut self, ctx: &mut Context<Names>, _: Tick, batch: Batch<'_, Names>) {
        for message in batch {
            let Incoming::Command { player, command, .. } = message else { continue };
            ctx.rename(player, &command);
        }
    }
}

#[test]
fn a_new_name_is_told_to_all_and_stays() {
    let mut sim = simulation(1, |_| Ok(Names));
    let ada = sim.join("names", "Ada");
    let bob = sim.join_with("names", |config| (config.name, config.data) = ("Bob".to_owned(), true.into()));
    sim.run(Duration::from_secs(1));
    sim.command(ada, &"Countess");
    sim.run(Duration::from_secs(1));
    for player in [ada, bob] {
        let renamed: Vec<_> = sim[player]
            .events
            .iter()
            .filter_map(|(_, event)| match event {
                Event::PlayerRenamed { player, name } => Some((*player, name.as_str())),
                _ => None,
            })
            .collect();
        assert_eq!(renamed, [(2, "Named"), (1, "Countess")]);
    }
    assert_eq!(sim[bob].client.others()[&1], "Countess");
    let late = sim.join("names", "Carl");
    sim.run(Duration::from_secs(1));
    let others: Vec<_> = sim[late].client.others().values().map(String::as_str).collect();
    assert_eq!(others, ["Countess", "Named"]);
}
