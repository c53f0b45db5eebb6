//! Servers that share the store in memory, and clients that follow them.

#![expect(clippy::disallowed_methods, reason = "an Instant can't be made otherwise; only differences matter")]

use serde_json::{Value, json};

use super::*;
use crate::cluster::{NodeConfig, Table};
use crate::games::Relay;
use crate::server::{Config, Connect, ConnectionId, Disconnect, Signal};

const MS: Duration = Duration::from_millis(1);

pub(in crate::server) struct World<G: Game> {
    pub(in crate::server) servers: Vec<Server<G>>,
    make: fn() -> G,
    /// Those whose requests reach the store.
    pub(in crate::server) reach: Vec<bool>,
    table: Table,
    pub(in crate::server) now: Instant,
    clock: Duration,
    connections: u64,
}

/// What a client has got.
pub(in crate::server) type Received = Vec<Signal>;

impl World<Relay> {
    fn new(nodes: u8) -> World<Relay> {
        World::with(nodes, || Relay)
    }
}

impl<G: Game> World<G> {
    pub(in crate::server) fn with(nodes: u8, make: fn() -> G) -> World<G> {
        let (now, clock) = (Instant::now(), Duration::from_secs(1_700_000_000));
        let (servers, reach) = (Vec::new(), vec![true; nodes.into()]);
        let mut world = World { servers, make, reach, table: Table::new(1), now, clock, connections: 0 };
        world.servers = (0..nodes).map(|number| world.server(number, 0)).collect();
        // The store has just begun, and waits for owners of rooms.
        world.run(6_000);
        world
    }

    /// The process of a node, which has been started some times before.
    fn server(&self, number: u8, before: u8) -> Server<G> {
        let mut config = Config::new([number + 10 * before; 32]);
        config.unix_time = self.clock;
        let make = self.make;
        let mut server = Server::new(config, self.now, move |_| Ok(make()));
        let node = NodeConfig::new(format!("node-{number}"), format!("ws://node-{number}"));
        server.join_cluster(Cluster::new(node, [number + 10 * before + 100; 32], self.now));
        server
    }

    /// Replaces the process of a node.
    pub(in crate::server) fn restart(&mut self, number: u8) {
        self.servers[usize::from(number)] = self.server(number, 1);
        self.run(1_000);
    }

    pub(in crate::server) fn apply(&mut self, command: Command) -> Reply {
        self.table.apply(u64::try_from(self.clock.as_millis()).expect("some years"), command)
    }

    /// The name of the node that the store has as the owner.
    pub(in crate::server) fn owner(&self, room: &RoomName) -> Option<&str> {
        self.table.owner(room).map(|(owner, _)| &*owner.node)
    }

    pub(in crate::server) fn run(&mut self, millis: u32) {
        for _ in 0..millis / 10 {
            self.now += 10 * MS;
            self.clock += 10 * MS;
            for number in 0..self.servers.len() {
                if self.servers[number].poll_timeout().is_some_and(|due| due <= self.now) {
                    self.servers[number].handle_timeout(self.now);
                }
                self.exchange(number);
            }
        }
    }

    pub(in crate::server) fn exchange(&mut self, number: usize) {
        let (server, now) = (&mut self.servers[number], self.now);
        while let Some(Request { id, command }) = server.poll_store_request(now) {
            let millis = u64::try_from(self.clock.as_millis()).expect("some years");
            let reply = self.reach[number].then(|| self.table.apply(millis, command));
            server.handle_store_reply(now, id, reply);
        }
    }

    pub(in crate::server) fn open(&mut self, node: usize, room: &str) -> ConnectionId {
        self.connections += 1;
        let id = ConnectionId(self.connections);
        let remote = "127.0.0.1:5000".parse().expect("an address");
        let connect = Connect::new(RoomName::parse(room), remote, "127.0.0.1".parse().expect("an address"));
        self.servers[node].handle_connect(self.now, id, connect);
        id
    }

    pub(in crate::server) fn ask(&mut self, node: usize, id: ConnectionId, action: &str, data: &Value) -> Received {
        self.servers[node].handle_text(self.now, id, &json!({ "a": action, "d": data }).to_string());
        self.exchange(node);
        self.run(100);
        self.receive(node, id)
    }

    pub(in crate::server) fn receive(&mut self, node: usize, id: ConnectionId) -> Received {
        std::iter::from_fn(|| self.servers[node].poll_signal(id)).collect()
    }

    /// Lets time pass for a client that answers heartbeats. Returns what else it has got.
    pub(in crate::server) fn stay(&mut self, node: usize, id: ConnectionId, millis: u32) -> Received {
        let mut received = Received::new();
        for _ in 0..millis / 500 {
            self.run(500);
            for signal in self.receive(node, id) {
                match signal {
                    Signal::Ping(payload) => self.servers[node].handle_pong(self.now, id, &payload.to_be_bytes()),
                    other => received.push(other),
                }
            }
        }
        received
    }

    pub(in crate::server) fn join(&mut self, node: usize, room: &str, mut data: Value) -> (ConnectionId, Received) {
        data["version"] = 0.into();
        let id = self.open(node, room);
        let received = self.ask(node, id, "join", &data);
        (id, received)
    }
}

/// The data of the first message of this action.
pub(in crate::server) fn data(received: &Received, action: &str) -> Option<Value> {
    received.iter().find_map(|signal| {
        let Signal::Text(text) = signal else { return None };
        let message: Value = serde_json::from_str(text).expect("it is JSON");
        (message["a"] == action).then_some(message)
    })
}

pub(in crate::server) fn joined(received: &Received) -> Value {
    let reply = data(received, "joinR").unwrap_or_else(|| panic!("no reply in {received:?}"));
    assert_eq!(reply["s"], true, "{reply}");
    reply["d"].clone()
}

pub(in crate::server) fn closed(received: &Received) -> Option<u16> {
    received.iter().find_map(|signal| match signal {
        Signal::Close { code, .. } => Some(*code),
        _ => None,
    })
}

fn former(reply: &Value) -> Value {
    json!({ "former": { "socketId": reply["socketId"], "resume": reply["resume"] } })
}

#[test]
fn a_player_is_sent_to_the_node_of_the_room_with_a_ticket() {
    let mut world = World::new(2);
    joined(&world.join(0, "a", json!({})).1);
    let (_, sent) = world.join(1, "a", json!({}));
    let redirect = data(&sent, "eventRedirect").expect("it is elsewhere")["d"].clone();
    assert_eq!(redirect["url"], "ws://node-0/r/a");
    assert_eq!(closed(&sent), Some(CLOSE_REDIRECTED));
    assert_eq!(joined(&world.join(0, "a", json!({ "ticket": redirect["ticket"] })).1)["roomSize"], 2);
    assert_eq!(world.servers[0].cluster().expect("a node").figures().tickets, 1);
    for ticket in [json!("forged"), json!(5), redirect["ticket"].clone()] {
        joined(&world.join(0, "a", json!({ "ticket": ticket })).1);
    }
    let figures = world.servers[0].cluster().expect("a node").figures();
    assert_eq!((figures.tickets, figures.refused_tickets), (1, [1, 0, 1]));
    assert_eq!(world.servers[1].counters().redirected, 1);
}

#[test]
fn nodes_behind_one_port_are_reached_where_the_client_has_reached_one() {
    for (number, url, headers, room, expected) in [
        (0, "?node=a", &[("host", "play.example.com:81")][..], true, "ws://play.example.com:81/r/a?node=a"),
        (1, "?node=a", &[("host", "h"), ("origin", "https://h")], false, "wss://h/api?node=a&pass="),
        (2, "?node=a", &[("host", "h"), ("x-forwarded-proto", "https")], true, "wss://h/r/a?node=a"),
        (3, "ws://m:1?node=a", &[("host", "h"), ("origin", "http://h")], true, "ws://m:1/r/a?node=a&pass="),
        (4, "ws://m:1", &[("host", "h")], true, "ws://m:1/r/a"),
    ] {
        let mut world = World::new(2);
        let now = world.now;
        world.servers[0].set_node_url(now, url.to_owned());
        world.run(100);
        joined(&world.join(0, "a", json!({})).1);
        let id = ConnectionId(1_000 + number);
        let remote = "127.0.0.1:5000".parse().expect("an address");
        let name = room.then(|| RoomName::parse("a").expect("a name"));
        let mut connect = Connect::new(name, remote, "127.0.0.1".parse().expect("an address"));
        connect.headers = headers.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect();
        world.servers[1].handle_connect(now + 200 * MS, id, connect);
        let sent = world.ask(1, id, "join", &json!({ "version": 0, "roomId": "a" }));
        let redirect = data(&sent, "eventRedirect").expect("it is elsewhere");
        let to = redirect["d"]["url"].as_str().expect("a URL");
        let is_right = if expected.ends_with('=') { to.starts_with(expected) } else { to == expected };
        assert!(is_right, "{to}, not {expected}");
    }
}

#[test]
fn a_player_who_comes_back_to_another_node_is_sent_on() {
    let mut world = World::new(2);
    let (_, received) = world.join(0, "a", json!({}));
    let reply = joined(&received);
    let id = world.open(1, "a");
    let wrong = json!({ "socketId": reply["socketId"], "resume": "guessed", "version": 0 });
    let refused = world.ask(1, id, "reconnect", &wrong);
    assert_eq!(data(&refused, "reconnectR").expect("a reply")["e"], "no_such_session");
    let id = world.open(1, "a");
    let right = json!({ "socketId": reply["socketId"], "resume": reply["resume"], "version": 0 });
    let sent = world.ask(1, id, "reconnect", &right);
    assert_eq!(data(&sent, "eventRedirect").expect("it is elsewhere")["d"]["url"], "ws://node-0/r/a");
    let id = world.open(0, "a");
    let resumed = world.ask(0, id, "reconnect", &right);
    assert_eq!(data(&resumed, "reconnectR").expect("a reply")["s"], true);
}

#[test]
fn players_of_a_dead_node_are_who_they_were_at_another() {
    let mut world = World::new(2);
    let (_, received) = world.join(0, "a", json!({}));
    let reply = joined(&received);
    world.reach[0] = false;
    world.run(6_000);
    let (_, received) = world.join(1, "a", json!({ "former": { "socketId": reply["socketId"], "resume": "guessed" } }));
    assert_ne!(joined(&received)["socketId"], reply["socketId"], "a guess is worth nothing");
    let (_, received) = world.join(1, "a", former(&reply));
    assert_eq!(joined(&received)["socketId"], reply["socketId"]);
    let (_, received) = world.join(1, "b", former(&reply));
    assert_ne!(joined(&received)["socketId"], reply["socketId"], "it was in another room");
    let (_, received) = world.join(1, "a", former(&reply));
    assert_ne!(joined(&received)["socketId"], reply["socketId"], "its token was used");
}

#[test]
fn a_node_that_has_lost_a_room_sends_its_players_away() {
    let mut world = World::new(2);
    let (id, received) = world.join(0, "a", json!({}));
    let reply = joined(&received);
    world.reach[0] = false;
    assert_eq!(closed(&world.stay(0, id, 6_000)), None, "its players go on without the store");
    joined(&world.join(0, "a", json!({})).1);
    joined(&world.join(1, "a", json!({})).1);
    world.reach[0] = true;
    assert_eq!(closed(&world.stay(0, id, 3_000)), Some(CLOSE_REDIRECTED));
    assert_eq!(world.servers[0].gauges().rooms, 0);
    let (_, received) = world.join(1, "a", former(&reply));
    assert_eq!(joined(&received)["socketId"], reply["socketId"], "the former owner has not ended the session");
}

#[test]
fn without_the_store_only_own_rooms_can_be_joined() {
    let mut world = World::new(1);
    joined(&world.join(0, "a", json!({})).1);
    world.reach[0] = false;
    world.run(3_000);
    joined(&world.join(0, "a", json!({})).1);
    let (_, refused) = world.join(0, "b", json!({}));
    let reply = data(&refused, "joinR").expect("a reply");
    assert_eq!((&reply["s"], &reply["e"]), (&json!(false), &json!("unavailable")));
    assert!(reply["retryAfter"].as_u64().is_some_and(|wait| wait > 0), "{reply}");
}

#[test]
fn a_node_that_stops_sends_its_players_to_others() {
    let mut world = World::new(2);
    let (id, received) = world.join(0, "a", json!({}));
    let reply = joined(&received);
    world.servers[0].handle_drain(world.now, Duration::from_secs(60));
    world.run(2_000);
    let (_, sent) = world.join(0, "b", json!({}));
    assert_eq!(data(&sent, "eventRedirect").expect("it takes no rooms")["d"]["url"], "ws://node-1/r/b");
    world.servers[0].handle_shutdown(world.now);
    assert_eq!(closed(&world.receive(0, id)), Some(CLOSE_REDIRECTED));
    let leave = world.servers[0].leave_cluster().expect("a node");
    world.apply(leave);
    world.servers[0].handle_disconnect(world.now, id, Disconnect::Lost);
    let (_, received) = world.join(1, "a", former(&reply));
    assert_eq!(joined(&received)["socketId"], reply["socketId"]);
}

#[test]
fn the_lease_of_a_room_that_has_ended_is_given_up() {
    let mut world = World::new(2);
    let room = RoomName::parse("a").expect("a name");
    let (id, received) = world.join(0, "a", json!({}));
    joined(&received);
    assert!(world.table.owner(&room).is_some());
    world.servers[0].handle_disconnect(world.now, id, Disconnect::Goodbye);
    world.run(60_000);
    assert_eq!(world.table.owner(&room), None);
}
