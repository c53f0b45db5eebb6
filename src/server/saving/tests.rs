//! Rooms that go on at another node, and their players, who have everything once.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use serde::de::IgnoredAny;
use serde_json::{Value, json};

use super::super::nodes::tests::{Received, World, closed, data, joined};
use super::*;
use crate::cluster::About;
use crate::cluster::store::{Command, Lease, Member, Reply};
use crate::game::{Batch, Context, Incoming, Join, Lane, Refusal, Resumed, Target, Tick};
use crate::journal::{Journal, Replay, Verdict};
use crate::server::{ConnectionId, Disconnect, LiveEventKind, Signal};
use crate::wire::codes::CLOSE_REDIRECTED;
use crate::wire::frame::{Direction, Frame, Header, Kind, Transport};
use crate::wire::msgpack;

/// A game that keeps all that it has got, in order, and tells everybody of it.
#[derive(Default)]
struct Tally {
    got: Vec<u32>,
    reloads: u32,
}

thread_local! {
    /// What the games of this test do when they are saved.
    static SAVES: Cell<Saves> = const { Cell::new(Saves::All) };
}

#[derive(Clone, Copy)]
enum Saves {
    All,
    Nothing,
    TooMuch,
    Panics,
}

impl Game for Tally {
    type Input = u32;
    type Command = u32;
    type State = Vec<u32>;
    type Event = u32;
    type Welcome = u32;
    type JoinData = IgnoredAny;

    fn join(&mut self, ctx: &mut Context<Tally>, player: PlayerId, _: &Join<IgnoredAny>) -> Result<u32, Refusal> {
        ctx.listed(true);
        Ok(player.0)
    }

    fn leave(&mut self, _: &mut Context<Tally>, _: PlayerId, _: Leave) {}

    fn resume(&mut self, _: &mut Context<Tally>, _: PlayerId, resumed: Resumed) {
        self.reloads += u32::from(resumed.reloaded);
    }

    fn save(&self) -> Option<Vec<u8>> {
        match SAVES.get() {
            Saves::All => Some(msgpack::encode(&(&self.got, self.reloads), 1 << 20).expect("numbers")),
            Saves::Nothing => None,
            Saves::TooMuch => Some(vec![1; SNAPSHOT_BYTES]),
            Saves::Panics => panic!("this game can't be saved"),
        }
    }

    fn restore(&mut self, _: &mut Context<Tally>, saved: &[u8]) -> Result<(), Refusal> {
        (self.got, self.reloads) = msgpack::decode(saved).map_err(Refusal::new)?;
        Ok(())
    }

    fn tick(&mut self, ctx: &mut Context<Tally>, _: Tick, batch: Batch<'_, Tally>) {
        for message in batch {
            let (Incoming::Input { input: value, .. } | Incoming::Command { command: value, .. }) = message;
            self.got.push(value);
            ctx.event(Target::All, &value, Lane::Reliable).expect("a number");
        }
        ctx.state(&self.got).expect("numbers");
    }
}

/// A player over a websocket.
struct Player {
    node: usize,
    id: ConnectionId,
    socket_id: Value,
    resume: Value,
    /// The newest reliable frame received, and the events in them.
    last: u32,
    events: Vec<u32>,
    tick: u32,
    commands: u32,
}

type Nodes = World<Tally>;

fn nodes(count: u8) -> Nodes {
    SAVES.set(Saves::All);
    World::with(count, Tally::default)
}

impl Player {
    fn join(world: &mut Nodes, node: usize, room: &str) -> Player {
        let (id, received) = world.join(node, room, json!({}));
        let reply = joined(&received);
        let (socket_id, resume) = (reply["socketId"].clone(), reply["resume"].clone());
        Player { node, id, socket_id, resume, last: 0, events: Vec::new(), tick: 0, commands: 0 }
    }

    fn send(&self, world: &mut Nodes, header: Header, kind: Kind, body: &[u8]) {
        let mut bytes = Vec::new();
        Frame { kind, deflated: false, header, body }.encode(&mut bytes);
        let now = world.now;
        world.servers[self.node].handle_binary(now, self.id, &bytes);
    }

    /// Sends the commands up to this one from `first`; each is its number.
    fn command(&mut self, world: &mut Nodes, first: u32, last: u32) {
        for seq in first..=last {
            let body = msgpack::encode(&seq, 9).expect("a number");
            self.send(world, Header::Reliable { seq, tick: 0 }, Kind::Command, &body);
        }
        self.commands = last;
    }

    /// Sends a window of inputs; each is its number and a thousand.
    fn input(&self, world: &mut Nodes, first: u32, last: u32) {
        let values: Vec<Vec<u8>> = (first..=last).rev().map(|of| msgpack::encode(&(1_000 + of), 9).unwrap()).collect();
        let body = msgpack::encode_inputs(last, values.iter().map(|value| (0, value.as_slice())));
        self.send(world, Header::Unreliable { part: None, seq: 0, ack: 0 }, Kind::Input, &body);
    }

    /// Lets time pass, and takes what arrives. Each event must be new, and none be left out.
    fn stay(&mut self, world: &mut Nodes, millis: u32) -> Received {
        let received = world.stay(self.node, self.id, millis);
        self.take(&received);
        received
    }

    fn take(&mut self, received: &Received) {
        for signal in received {
            let Signal::Binary(bytes) = signal else { continue };
            let frame = Frame::parse(bytes, Direction::Down, Transport::WebSocket).expect("a frame");
            if let (Kind::ReliableEvent, Header::Reliable { seq, tick }) = (frame.kind, frame.header) {
                if seq <= self.last {
                    continue;
                }
                assert_eq!(seq, self.last + 1, "an event is missing");
                assert!(tick >= self.tick, "ticks count on");
                (self.last, self.tick) = (seq, tick);
                self.events.push(msgpack::decode(msgpack::decode_at_tick(frame.body).expect("a body").1).unwrap());
            }
        }
    }

    /// Comes back at a node. Returns the reply, or what else has come.
    fn reconnect(&mut self, world: &mut Nodes, node: usize, room: &str) -> Result<Value, Received> {
        self.follow(world, node, room, &Value::Null)
    }

    /// Comes with a ticket.
    fn follow(&mut self, world: &mut Nodes, node: usize, room: &str, ticket: &Value) -> Result<Value, Received> {
        self.node = node;
        self.id = world.open(node, room);
        let request = json!({
            "socketId": self.socket_id, "resume": self.resume, "version": 0, "last": self.last, "ticket": ticket,
        });
        let received = world.ask(node, self.id, "reconnect", &request);
        self.take(&received);
        match data(&received, "reconnectR") {
            Some(reply) if reply["s"] == true => {
                self.resume = reply["d"]["resume"].clone();
                Ok(reply["d"].clone())
            }
            _ => Err(received),
        }
    }
}

fn room_name(name: &str) -> RoomName {
    RoomName::parse(name).expect("a name")
}

/// The joins and leaves that other services have heard of since the last call.
fn live_events(world: &mut Nodes, node: usize) -> Vec<LiveEventKind> {
    let kinds = std::iter::from_fn(|| world.servers[node].poll_live_event()).map(|event| event.kind);
    kinds.filter(|kind| *kind != LiveEventKind::Live).collect()
}

fn got(world: &Nodes, node: usize, room: &str) -> (Vec<u32>, u32) {
    let server = &world.servers[node];
    let hosted = &server.rooms[server.by_name[&room_name(room)]];
    let game = hosted.room.game().expect("it plays");
    (game.got.clone(), game.reloads)
}

#[test]
fn a_room_of_a_node_that_drains_goes_on_at_another_and_everything_arrives_once() {
    let mut world = nodes(2);
    let recorded = Rc::new(RefCell::new(Vec::new()));
    let written = Rc::clone(&recorded);
    world.servers[1].record(move |_| {
        let written = Rc::clone(&written);
        Box::new(move |block: &[u8]| written.borrow_mut().extend_from_slice(block))
    });
    for server in &mut world.servers {
        server.make_live_events("a node");
    }
    let mut ann = Player::join(&mut world, 0, "a");
    let mut bob = Player::join(&mut world, 0, "a");
    assert_eq!(live_events(&mut world, 0), [LiveEventKind::Join; 2]);
    ann.command(&mut world, 1, 3);
    ann.input(&mut world, 1, 2);
    ann.stay(&mut world, 500);
    assert_eq!(ann.events, [1, 2, 3, 1_001, 1_002]);
    // Bob has seen nothing of it when the room moves; these have arrived and are not yet in a tick.
    ann.command(&mut world, 4, 5);
    ann.input(&mut world, 2, 3);
    let now = world.now;
    world.servers[0].handle_drain(now, Duration::from_secs(60));
    let sent = ann.stay(&mut world, 500);
    let redirect = data(&sent, "eventRedirect").expect("it is elsewhere")["d"].clone();
    assert_eq!((redirect["url"].as_str(), closed(&sent)), (Some("ws://node-1/r/a"), Some(CLOSE_REDIRECTED)));
    assert_eq!(data(&sent, "eventDrain"), None, "the room does not end");
    assert!(redirect["ticket"].is_string());
    assert_eq!(world.servers[0].gauges().rooms + world.servers[0].gauges().players, 0, "it is gone here");
    assert_eq!(world.servers[0].cluster().expect("a node").figures().moved, 1);
    // What was sent while the room moved, and what the client does not know to have arrived.
    let reply = ann.follow(&mut world, 1, "a", &redirect["ticket"]).expect("the session is known there");
    assert_eq!(world.servers[1].cluster().expect("a node").figures().tickets, 1);
    assert_eq!((&reply["player"], &reply["roomSize"], &reply["last"]), (&json!(1), &json!(2), &json!(5)));
    assert_eq!(reply["inputSeq"], 4);
    ann.command(&mut world, 4, 6);
    ann.input(&mut world, 1, 4);
    ann.stay(&mut world, 500);
    let all = [1, 2, 3, 1_001, 1_002, 4, 5, 1_003, 6, 1_004];
    assert_eq!(ann.events, all);
    bob.follow(&mut world, 1, "a", &json!("forged")).expect("so is Bob's");
    bob.stay(&mut world, 500);
    assert_eq!(bob.events, all, "what he had missed was kept");
    assert_eq!(got(&world, 1, "a"), (all.to_vec(), 0));
    assert_eq!(world.servers[1].counters().restored_rooms, 1);
    assert!(world.servers[0].is_drained());
    assert_eq!(live_events(&mut world, 0), [], "nobody has left the room");

    // Its recording begins with what was saved, and replays.
    world.servers[1].handle_shutdown(world.now);
    let recorded = recorded.borrow();
    let journal = Journal::parse(&recorded).expect("a recording");
    let mut replay = Replay::<Tally>::new(&journal, |_| Ok(Tally::default())).expect("a game");
    let mut ticks = 0;
    while let Some(step) = replay.step().expect("it is whole") {
        assert_eq!(step.verdict, Verdict::Same, "tick {}", step.tick.number);
        ticks += 1;
    }
    assert!(ticks > 20, "{ticks}");
}

#[test]
fn a_room_that_has_moved_is_noted_once_and_listed_at_its_tick() {
    let mut world = nodes(2);
    let mut ann = Player::join(&mut world, 0, "a");
    let _bob = Player::join(&mut world, 0, "a");
    ann.stay(&mut world, 5_000);
    let now = world.now;
    world.servers[0].handle_drain(now, Duration::from_secs(60));
    ann.stay(&mut world, 500);
    ann.reconnect(&mut world, 1, "a").expect("the session is known there");
    let cluster = world.servers[0].cluster().expect("a node");
    let moves: Vec<_> = cluster.moves().map(|it| (it.room.as_str(), it.to.as_deref())).collect();
    assert_eq!(moves, [("a", Some("node-1"))]);
    // The other node tells of it with its next renewal.
    ann.stay(&mut world, 3_000);
    let now = world.now;
    assert!(!world.servers[0].inquire(now, About::Rooms));
    world.run(100);
    let now = world.now;
    let [here, there] = [0, 1].map(|node: usize| world.servers[node].listing(now));
    assert_eq!((here.len(), there.len(), &here[0].name, &there[0].name), (1, 1, &"a".to_owned(), &"a".to_owned()));
    assert!(here[0].tick.abs_diff(there[0].tick) <= 1, "{} and {}", here[0].tick, there[0].tick);
}

#[test]
fn a_room_of_a_dead_node_goes_on_as_it_was_some_seconds_before() {
    let mut world = nodes(2);
    let mut ann = Player::join(&mut world, 0, "a");
    ann.command(&mut world, 1, 2);
    ann.stay(&mut world, 6_000);
    // Her token is newer than what is saved of the room, as are these.
    ann.reconnect(&mut world, 0, "a").expect("she is known");
    ann.command(&mut world, 3, 4);
    ann.stay(&mut world, 500);
    assert_eq!(ann.events, [1, 2, 3, 4]);
    world.reach[0] = false;
    world.servers[0].handle_disconnect(world.now, ann.id, Disconnect::Lost);
    world.run(6_000);
    ann.reconnect(&mut world, 1, "a").expect("the session is known there");
    assert_eq!(got(&world, 1, "a"), (vec![1, 2], 1), "the game sends her what she has to know");
    ann.command(&mut world, 3, 5);
    ann.stay(&mut world, 500);
    assert_eq!(got(&world, 1, "a").0, [1, 2, 3, 4, 5], "what was not acknowledged is sent again");
    assert_eq!(ann.events, [1, 2, 3, 4, 3, 4, 5], "the numbers of events go on");
}

#[test]
fn a_room_outlives_a_restart_of_its_only_node() {
    let mut world = nodes(1);
    let mut ann = Player::join(&mut world, 0, "a");
    let mut bob = Player::join(&mut world, 0, "a");
    ann.command(&mut world, 1, 2);
    ann.stay(&mut world, 500);
    bob.stay(&mut world, 500);
    let now = world.now;
    world.servers[0].handle_shutdown(now);
    world.exchange(0);
    assert!(!world.servers[0].cluster().expect("a node").has_unsaved(), "the driver would wait");
    let leave = world.servers[0].leave_cluster().expect("a node");
    world.apply(leave);
    world.restart(0);
    ann.reconnect(&mut world, 0, "a").expect("she is known");
    ann.command(&mut world, 3, 3);
    ann.stay(&mut world, 500);
    assert_eq!((ann.events.clone(), got(&world, 0, "a")), (vec![1, 2, 3], (vec![1, 2, 3], 0)));
    // Bob does not come back, and has left once the time for that is over. The room ends with Ann.
    world.stay(0, ann.id, 70_000);
    assert_eq!(world.servers[0].gauges().players, 1);
    world.servers[0].handle_disconnect(world.now, ann.id, Disconnect::Goodbye);
    world.run(60_000);
    assert_eq!(world.apply(Command::FindSnapshot { room: room_name("a") }), Reply::Snapshot(None));
}

#[test]
fn a_room_that_no_other_node_takes_stays_until_one_does() {
    let mut world = nodes(2);
    world.servers[1].handle_load(1.0);
    world.run(2_000);
    let mut ann = Player::join(&mut world, 0, "a");
    world.servers[0].handle_drain(world.now, Duration::from_secs(60));
    ann.command(&mut world, 1, 1);
    let received = ann.stay(&mut world, 3_000);
    assert_eq!((closed(&received), &*ann.events), (None, &[1][..]));
    assert!(data(&received, "eventDrain").is_some_and(|told| told["d"]["deadline"].as_u64() > Some(58_000)));
    world.reach[0] = false;
    ann.command(&mut world, 2, 2);
    let received = ann.stay(&mut world, 4_000);
    assert_eq!((closed(&received), &*ann.events), (None, &[1, 2][..]), "nor does it stand still without the store");
    world.reach[0] = true;
    world.servers[1].handle_load(0.1);
    let received = ann.stay(&mut world, 6_000);
    assert_eq!(closed(&received), Some(CLOSE_REDIRECTED));
    ann.reconnect(&mut world, 1, "a").expect("she is known there");
}

#[test]
fn a_player_who_joins_while_the_room_moves_is_sent_after_it() {
    let mut world = nodes(2);
    Player::join(&mut world, 0, "a");
    world.servers[0].handle_drain(world.now, Duration::from_secs(60));
    // The answer to the move is yet to come, so the room stands still.
    let request = loop {
        world.now += Duration::from_millis(1);
        let now = world.now;
        world.servers[0].handle_timeout(now);
        let Some(request) = world.servers[0].poll_store_request(now) else { continue };
        if matches!(request.command, Command::Move { .. }) {
            break request;
        }
        let reply = world.apply(request.command);
        world.servers[0].handle_store_reply(now, request.id, Some(reply));
    };
    let id = world.open(0, "a");
    let now = world.now;
    world.servers[0].handle_text(now, id, &json!({ "a": "join", "d": { "version": 0 } }).to_string());
    let located = std::iter::from_fn(|| world.servers[0].poll_store_request(now)).collect::<Vec<_>>();
    for request in located.into_iter().chain([request]) {
        let reply = world.apply(request.command);
        world.servers[0].handle_store_reply(now, request.id, Some(reply));
    }
    let sent = world.receive(0, id);
    assert_eq!(data(&sent, "eventRedirect").expect("it is elsewhere")["d"]["url"], "ws://node-1/r/a");
    assert_eq!(world.servers[0].gauges().rooms, 0);
}

#[test]
fn a_game_that_can_not_be_saved_stays_until_it_ends() {
    for saves in [Saves::Nothing, Saves::TooMuch, Saves::Panics] {
        let mut world = nodes(2);
        SAVES.set(saves);
        world.servers[0].make_live_events("a node");
        let mut ann = Player::join(&mut world, 0, "a");
        assert_eq!(closed(&ann.stay(&mut world, 6_000)), None);
        world.servers[0].handle_drain(world.now, Duration::from_secs(60));
        let received = ann.stay(&mut world, 3_000);
        assert!(closed(&received).is_none() && data(&received, "eventDrain").is_some(), "{received:?}");
        world.servers[0].handle_shutdown(world.now);
        assert_eq!(closed(&world.receive(0, ann.id)), Some(CLOSE_REDIRECTED));
        assert_eq!(live_events(&mut world, 0), [LiveEventKind::Join, LiveEventKind::Leave]);
        world.exchange(0);
        assert_eq!(world.apply(Command::FindSnapshot { room: room_name("a") }), Reply::Snapshot(None));
    }
}

#[test]
fn what_is_no_saved_room_of_this_game_is_left_alone() {
    let mut world = nodes(1);
    let owner: Member = world.servers[0].cluster().expect("a node").member().clone();
    let mut ann = Player::join(&mut world, 0, "good");
    ann.stay(&mut world, 6_000);
    let Reply::Snapshot(Some(good)) = world.apply(Command::FindSnapshot { room: room_name("good") }) else {
        panic!("it was saved");
    };
    let with = |change: &dyn Fn(&mut SavedRoom<'_>)| {
        let mut saved: SavedRoom<'_> = postcard::from_bytes(&good.bytes).expect("it is one");
        change(&mut saved);
        postcard::to_extend(&saved, Vec::new()).expect("it is one")
    };
    let snapshots = [
        Vec::new(),
        b"nonsense".to_vec(),
        good.bytes[..good.bytes.len() / 2].to_vec(),
        with(&|saved| saved.format += 1),
        with(&|saved| saved.game = "another"),
        with(&|saved| saved.game_version += 1),
        with(&|saved| saved.tick_ns += 1),
        with(&|saved| saved.room.truncate(3)),
        with(&|saved| saved.welcomes[0].push('{')),
        with(&|saved| saved.data = vec![0xc1]),
    ];
    for (number, bytes) in snapshots.into_iter().enumerate() {
        // As another node has left it, that had the room before.
        let name = format!("bad-{number}");
        let room = room_name(&name);
        let mut lend = |command| world.apply(command);
        let (keeps, falls_back, region, grace_ms) = (true, true, String::new(), 0);
        let lender = Member { node: "lender".into(), incarnation: 1 };
        let profile =
            crate::cluster::store::Profile { url: "ws://lender".into(), takes_rooms: true, ..Default::default() };
        lend(Command::Renew { member: lender.clone(), profile, ttl_ms: 5_000, takes_over: true, secret: [0; 32] });
        let acquire =
            Command::Acquire { room: room.clone(), member: lender.clone(), keeps, falls_back, region, grace_ms };
        let Reply::Acquired(crate::cluster::store::Placement::At { epoch, .. }) = lend(acquire) else {
            panic!("taken")
        };
        let snapshots = vec![(Lease { room, epoch }, bytes)];
        lend(Command::SaveSnapshots { member: lender.clone(), snapshots, ttl_ms: 60_000 });
        lend(Command::Leave { member: lender });
        let player = Player::join(&mut world, 0, &name);
        assert_eq!(got(&world, 0, &name), (Vec::new(), 0), "{name} begins anew");
        assert_eq!(player.node, 0);
    }
    assert_eq!(world.servers[0].counters().restored_rooms, 0);
    assert_eq!(world.servers[0].cluster().expect("a node").member(), &owner);
}
