//! Players who seek at the nodes of a cluster, and follow them.

use super::super::super::nodes::tests::{Received, World, closed, data};
use super::*;
use crate::wire::codes::CLOSE_REDIRECTED;

fn pool(context: &str) -> RoomName {
    RoomName::of_pool(context).unwrap()
}

fn tickets(world: &World<Open>, node: usize) -> (u64, [u64; 3]) {
    let figures = world.servers[node].cluster().unwrap().figures();
    (figures.tickets, figures.refused_tickets)
}

impl World<Open> {
    fn seek(&mut self, node: usize, context: &str, ticket: &Value) -> (ConnectionId, Received) {
        let id = self.open(node, "");
        let received = self.ask(node, id, "seek", &json!({ "context": context, "version": 0, "ticket": ticket }));
        (id, received)
    }

    /// A player who is not sent to another node.
    fn wait(&mut self, node: usize, context: &str, ticket: &Value) -> ConnectionId {
        let (id, received) = self.seek(node, context, ticket);
        assert_eq!(closed(&received), None, "{received:?}");
        id
    }

    fn sent_to(&mut self, node: usize, context: &str, url: &str) -> Value {
        let (_, received) = self.seek(node, context, &Value::Null);
        redirect(&received, url)
    }

    /// The room that both get when others could come long enough.
    fn pair(&mut self, node: usize, two: [ConnectionId; 2]) -> String {
        self.run(1_500);
        let [one, other] = two.map(|id| room(&self.receive(node, id)));
        assert_eq!(one, other);
        one
    }

    fn waiting(&self, node: usize) -> usize {
        self.servers[node].seekers.count
    }
}

/// The ticket with which a player is sent to this address.
fn redirect(received: &Received, url: &str) -> Value {
    let sent = data(received, "eventRedirect").unwrap_or_else(|| panic!("no redirect in {received:?}"));
    assert_eq!((&sent["d"]["url"], closed(received)), (&json!(url), Some(CLOSE_REDIRECTED)));
    sent["d"]["ticket"].clone()
}

fn room(received: &Received) -> String {
    let reply = data(received, "seekR").unwrap_or_else(|| panic!("no reply in {received:?}"));
    reply["d"]["roomId"].as_str().unwrap_or_else(|| panic!("no room in {reply}")).to_owned()
}

#[test]
fn players_of_two_nodes_are_paired_and_play_at_one() {
    let mut world = World::with(2, || Open);
    let ada = world.wait(0, "chess", &Value::Null);
    assert_eq!(world.owner(&pool("chess")), Some("node-0"));
    let ticket = world.sent_to(1, "chess", "ws://node-0/api");
    let bob = world.wait(0, "chess", &ticket);
    assert_eq!(tickets(&world, 0), (1, [0; 3]));
    let room = world.pair(0, [ada, bob]);
    world.run(100);
    assert_eq!((world.waiting(0), world.owner(&pool("chess"))), (0, None), "nobody waits there any more");

    let joined = world.ask(0, ada, "join", &json!({ "roomId": room }));
    assert_eq!(data(&joined, "joinR").unwrap()["d"]["roomSize"], 1);
    let (_, sent) = world.join(1, &room, json!({}));
    let ticket = redirect(&sent, &format!("ws://node-0/r/{room}"));
    let (_, joined) = world.join(0, &room, json!({ "ticket": ticket }));
    assert_eq!(data(&joined, "joinR").unwrap()["d"]["roomSize"], 2);
}

#[test]
fn a_pool_is_no_room_and_each_context_has_its_own() {
    let mut world = World::with(2, || Open);
    for (context, node) in [("chess", 0), ("go", 1), ("lobby", 0)] {
        world.wait(node, context, &Value::Null);
    }
    let id = world.open(1, "");
    let refused = world.ask(1, id, "join", &json!({ "roomId": "seek:chess" }));
    assert_eq!(data(&refused, "joinR").unwrap()["e"], "bad_room");
    let (_, joined) = world.join(1, "lobby", json!({}));
    assert_eq!(data(&joined, "joinR").unwrap()["s"], true, "the room is not where the pool is");
    let cluster = world.servers[0].cluster().unwrap();
    assert_eq!((cluster.figures().leases, cluster.moves().count()), (0, 0), "pools don't count as rooms");
}

#[test]
fn a_ticket_is_good_once_for_one_pool_at_one_node_and_not_for_long() {
    let mut world = World::with(2, || Open);
    world.wait(0, "go", &Value::Null);
    world.wait(1, "chess", &Value::Null);
    let of_go = world.sent_to(1, "go", "ws://node-0/api");
    world.join(0, "chess", json!({}));
    let (_, sent) = world.join(1, "chess", json!({}));
    let of_room = redirect(&sent, "ws://node-0/r/chess");
    for ticket in [json!("forged"), of_go.clone(), of_room] {
        let (_, received) = world.seek(0, "chess", &ticket);
        redirect(&received, "ws://node-1/api");
    }
    assert_eq!(tickets(&world, 0), (0, [3, 0, 0]));
    let (_, received) = world.seek(1, "go", &of_go);
    redirect(&received, "ws://node-0/api");
    assert_eq!(tickets(&world, 1), (0, [1, 0, 0]), "it is for another node");
    for _ in 0..2 {
        world.wait(0, "go", &of_go);
    }
    assert_eq!(tickets(&world, 0), (1, [3, 0, 1]));
    world.wait(0, "shogi", &Value::Null);
    let late = world.sent_to(1, "shogi", "ws://node-0/api");
    world.run(16_000);
    world.seek(0, "shogi", &late);
    assert_eq!(tickets(&world, 0), (1, [3, 1, 1]));
}

#[test]
fn those_who_waited_at_a_node_that_is_lost_meet_at_another() {
    let mut world = World::with(2, || Open);
    let cut_off = world.wait(0, "chess", &Value::Null);
    world.reach[0] = false;
    assert_eq!(closed(&world.stay(0, cut_off, 6_000)), None, "it waits on without the store");
    let ada = world.wait(1, "chess", &Value::Null);
    assert_eq!(world.owner(&pool("chess")), Some("node-1"));
    world.reach[0] = true;
    let ticket = redirect(&world.stay(0, cut_off, 3_000), "ws://node-1/api");
    let came = world.wait(1, "chess", &ticket);
    world.pair(1, [ada, came]);

    // The process has ended, and those who waited there seek again.
    let mut world = World::with(2, || Open);
    world.wait(0, "chess", &Value::Null);
    world.restart(0);
    let ada = world.wait(1, "chess", &Value::Null);
    let ticket = world.sent_to(0, "chess", "ws://node-1/api");
    let bob = world.wait(1, "chess", &ticket);
    world.pair(1, [ada, bob]);
}

#[test]
fn a_node_that_drains_sends_those_who_wait_to_another() {
    let mut world = World::with(2, || Open);
    let ada = world.wait(0, "chess", &Value::Null);
    let now = world.now;
    world.servers[0].handle_drain(now, Duration::from_mins(1));
    world.run(200);
    let ticket = redirect(&world.receive(0, ada), "ws://node-1/api");
    let ada = world.wait(1, "chess", &ticket);
    assert_eq!(tickets(&world, 1), (1, [0; 3]));
    let ticket = world.sent_to(0, "chess", "ws://node-1/api");
    let bob = world.wait(1, "chess", &ticket);
    world.pair(1, [ada, bob]);
    assert_eq!(world.waiting(0), 0);

    let mut world = World::with(1, || Open);
    let alone = world.wait(0, "chess", &Value::Null);
    let now = world.now;
    world.servers[0].handle_drain(now, Duration::from_mins(1));
    world.run(200);
    for received in [world.receive(0, alone), world.seek(0, "chess", &Value::Null).1] {
        let reply = data(&received, "seekR").unwrap();
        assert_eq!((&reply["s"], &reply["e"]), (&json!(false), &json!("draining")));
        assert!(reply["retryAfter"].as_u64() > Some(0), "{reply}");
    }
}

#[test]
fn without_the_store_each_node_pairs_its_own_and_then_they_find_each_other() {
    let mut world = World::with(2, || Open);
    world.reach = vec![false; 2];
    world.run(3_000);
    let two = [0, 0].map(|node| world.wait(node, "chess", &Value::Null));
    world.pair(0, two);

    let apart = [0, 1].map(|node| world.wait(node, "chess", &Value::Null));
    for (node, id) in apart.into_iter().enumerate() {
        assert_eq!(closed(&world.stay(node, id, 2_500)), None);
    }
    world.reach = vec![true; 2];
    let mut received = [Received::new(), Received::new()];
    for _ in 0..10 {
        for (node, id) in apart.into_iter().enumerate() {
            received[node].extend(world.stay(node, id, 500));
        }
    }
    let owner = received.iter().position(|received| closed(received).is_none()).expect("one waits on");
    assert_eq!(world.owner(&pool("chess")), Some(format!("node-{owner}").as_str()));
    let ticket = redirect(&received[1 - owner], &format!("ws://node-{owner}/api"));
    let other = world.wait(owner, "chess", &ticket);
    world.pair(owner, [apart[owner], other]);
}

/// A client that answers pings, and follows redirects.
struct Seeker {
    context: &'static str,
    node: usize,
    id: ConnectionId,
    room: Option<String>,
    /// Redirects in a row.
    redirects: u32,
    since: Instant,
}

impl Seeker {
    fn begin(world: &mut World<Open>, node: usize, context: &'static str) -> Seeker {
        let mut seeker = Seeker { context, node, id: ConnectionId(0), room: None, redirects: 0, since: world.now };
        seeker.go(world, node, &Value::Null);
        seeker
    }

    fn go(&mut self, world: &mut World<Open>, node: usize, ticket: &Value) {
        let text = json!({ "a": "seek", "d": { "context": self.context, "ticket": ticket } }).to_string();
        (self.node, self.id, self.since) = (node, world.open(node, ""), world.now);
        world.servers[node].handle_text(self.since, self.id, &text);
    }

    fn listen(&mut self, world: &mut World<Open>) {
        for signal in world.receive(self.node, self.id) {
            match signal {
                Signal::Ping(payload) => {
                    let now = world.now;
                    world.servers[self.node].handle_pong(now, self.id, &payload.to_be_bytes());
                }
                Signal::Text(text) => {
                    let Value::Object(message) = serde_json::from_str(&text).unwrap() else { panic!("{text}") };
                    if message["a"] == "eventSeek" {
                        continue;
                    }
                    if message["a"] == "seekR" {
                        self.room = Some(message["d"]["roomId"].as_str().expect(&text).to_owned());
                        continue;
                    }
                    let url = message["d"]["url"].as_str().expect(&text);
                    let number = url.strip_prefix("ws://node-").and_then(|rest| rest.strip_suffix("/api"));
                    let is_in_a_row = world.now - self.since < Duration::from_secs(5);
                    self.redirects = if is_in_a_row { self.redirects + 1 } else { 1 };
                    self.go(world, number.expect(url).parse().unwrap(), &message["d"]["ticket"]);
                }
                Signal::Close { code, .. } => assert_eq!(code, CLOSE_REDIRECTED),
                Signal::Binary(_) => {}
            }
        }
    }
}

#[test]
fn whatever_fails_those_who_wait_in_the_end_are_paired() {
    const NODES: u8 = 3;
    let mut redirects = 0;
    for seed in 0..30 {
        let mut rng = ChaCha20Rng::seed_from_u64(seed);
        let mut world = World::with(NODES, || Open);
        let mut seekers: Vec<Seeker> = Vec::new();
        let mut wait = |world: &mut World<Open>, seekers: &mut Vec<Seeker>, millis: u32| {
            for _ in 0..millis / 100 {
                world.run(100);
                for seeker in seekers.iter_mut().filter(|seeker| seeker.room.is_none()) {
                    seeker.listen(world);
                    redirects += seeker.redirects;
                    assert!(seeker.redirects <= limits::REDIRECTS, "seed {seed}: sent to and fro");
                }
            }
        };
        for _ in 0..25 {
            let node = rng.random_range(0..usize::from(NODES));
            if rng.random_ratio(1, 4) {
                world.reach[node] = !world.reach[node];
            } else {
                seekers.push(Seeker::begin(&mut world, node, ["a", "b"][rng.random_range(0..2)]));
            }
            wait(&mut world, &mut seekers, [0, 100, 1_000, 6_000][rng.random_range(0..4)]);
        }
        world.reach.fill(true);
        wait(&mut world, &mut seekers, 30_000);
        for context in ["a", "b"] {
            let (paired, left): (Vec<&Seeker>, Vec<&Seeker>) =
                seekers.iter().filter(|seeker| seeker.context == context).partition(|seeker| seeker.room.is_some());
            assert!(left.len() < 2, "seed {seed}: {} in {context} are not paired", left.len());
            for seeker in &paired {
                assert_eq!(paired.iter().filter(|other| other.room == seeker.room).count(), 2, "seed {seed}");
            }
        }
        let waiting: usize = (0..NODES.into()).map(|node| world.waiting(node)).sum();
        assert_eq!(waiting, seekers.iter().filter(|seeker| seeker.room.is_none()).count(), "seed {seed}");
    }
    assert!(redirects > 0, "nobody was redirected");
}
