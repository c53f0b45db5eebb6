//! Nodes and their store under virtual time, with everything that may fail between them.

#![expect(clippy::disallowed_methods, reason = "an Instant can't be made otherwise; only differences matter")]

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fmt::Write;

use super::ticket::TicketFault;
use super::*;
use crate::limits::TICKET_LIFETIME;

const TTL: u64 = millis_of(LEASE_TTL);
const STEP: u64 = 10;

const fn millis_of(time: Duration) -> u64 {
    time.as_secs() * 1_000 + time.subsec_millis() as u64
}

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn room(number: usize) -> RoomName {
    RoomName::parse(&format!("room-{number}")).expect("it is a name")
}

/// On its way between a node and the store.
#[derive(Debug, PartialEq)]
enum Parcel {
    Command(Command),
    Reply(Option<Reply>),
}

#[derive(Debug)]
struct Posted {
    at: u64,
    number: u64,
    node: usize,
    incarnation: u64,
    id: u64,
    parcel: Parcel,
}

impl PartialEq for Posted {
    fn eq(&self, other: &Posted) -> bool {
        self.number == other.number
    }
}

impl Eq for Posted {}

impl PartialOrd for Posted {
    fn partial_cmp(&self, other: &Posted) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Posted {
    fn cmp(&self, other: &Posted) -> std::cmp::Ordering {
        (self.at, self.number).cmp(&(other.at, other.number))
    }
}

/// A room at a node, with a state that counts up.
#[derive(Clone, Copy, Debug)]
struct Hosted {
    epoch: u64,
    state: u64,
    is_moving: bool,
}

struct Node {
    cluster: Cluster,
    hosted: BTreeMap<RoomName, Hosted>,
    asked: BTreeMap<RoomName, u64>,
    last_answer: Option<(RoomName, Result<Location, Unlocated>)>,
    paused_until: u64,
    cut_until: u64,
    is_alive: bool,
}

impl Node {
    fn new(cluster: Cluster) -> Node {
        let (hosted, asked) = (BTreeMap::new(), BTreeMap::new());
        Node { cluster, hosted, asked, last_answer: None, paused_until: 0, cut_until: 0, is_alive: true }
    }
}

/// Some nodes and their store.
struct World {
    seed: u64,
    rng: ChaCha20Rng,
    epoch: Instant,
    now: u64,
    table: Table,
    /// The store's clock without its jumps is `now` after this.
    clock: u64,
    frozen_until: u64,
    slow_until: u64,
    /// Until when what the store has may differ from what nodes may believe.
    unsettled_until: u64,
    nodes: Vec<Node>,
    post: BinaryHeap<Reverse<Posted>>,
    posted: u64,
    trace: String,
    hosts: u64,
    /// The states with which rooms were moved, until they are hosted again.
    moved: BTreeMap<RoomName, u64>,
    moves: u64,
    /// The epochs with which rooms were last hosted.
    newest: BTreeMap<RoomName, u64>,
}

impl World {
    fn new(seed: u64, nodes: usize) -> World {
        let mut world = World {
            seed,
            rng: ChaCha20Rng::seed_from_u64(seed),
            epoch: Instant::now(),
            now: 0,
            table: Table::new(seed),
            clock: 1_700_000_000_000,
            frozen_until: 0,
            slow_until: 0,
            unsettled_until: 0,
            nodes: Vec::new(),
            post: BinaryHeap::new(),
            posted: 0,
            trace: String::new(),
            hosts: 0,
            moved: BTreeMap::new(),
            newest: BTreeMap::new(),
            moves: 0,
        };
        for number in 0..nodes {
            let cluster = world.process(number);
            world.nodes.push(Node::new(cluster));
        }
        world
    }

    fn process(&mut self, node: usize) -> Cluster {
        let mut seed = [0; 32];
        self.rng.fill_bytes(&mut seed);
        let config = NodeConfig::new(format!("node-{node}"), format!("ws://node-{node}:1234"));
        Cluster::new(config, seed, self.instant())
    }

    fn instant(&self) -> Instant {
        self.epoch + ms(self.now)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.rng.next_u64() % limit
    }

    fn pick(&mut self, count: usize) -> usize {
        usize::try_from(self.below(count as u64)).expect("it is below a usize")
    }

    fn note(&mut self, what: impl std::fmt::Display) {
        writeln!(self.trace, "{:>7} {what}", self.now).expect("memory");
    }

    #[track_caller]
    fn check(&self, is_right: bool, what: impl std::fmt::Display) {
        if !is_right {
            let lines: Vec<&str> = self.trace.lines().collect();
            let last = lines[lines.len().saturating_sub(120)..].join("\n");
            panic!("seed {}, at {} ms: {what}\n{last}", self.seed, self.now);
        }
    }

    /// Lets time pass for everybody who is not paused.
    fn step(&mut self) {
        self.now += STEP;
        while self.post.peek().is_some_and(|Reverse(posted)| posted.at <= self.now) {
            let Some(Reverse(posted)) = self.post.pop() else { break };
            self.deliver(posted);
        }
        for node in 0..self.nodes.len() {
            if self.is_running(node) && self.nodes[node].cluster.poll_timeout() <= Some(self.instant()) {
                let now = self.instant();
                self.nodes[node].cluster.handle_timeout(now);
                self.turn(node);
            }
        }
        for node in &self.nodes {
            let overdue = node.asked.iter().find(|&(_, &at)| {
                let since = at.max(node.paused_until);
                node.is_alive && node.paused_until <= self.now && since + millis_of(LOOKUP_TIMEOUT) + STEP < self.now
            });
            self.check(overdue.is_none(), format_args!("{} waits for {overdue:?}", node.cluster.member()));
        }
    }

    fn run(&mut self, millis: u64) {
        for _ in 0..millis / STEP {
            self.step();
        }
    }

    fn is_running(&self, node: usize) -> bool {
        self.nodes[node].is_alive && self.nodes[node].paused_until <= self.now
    }

    fn deliver(&mut self, posted: Posted) {
        let Posted { node, incarnation, id, parcel, .. } = posted;
        match parcel {
            Parcel::Command(_) if self.frozen_until > self.now => {
                self.post_at(self.frozen_until.saturating_add(posted.number % 3), node, incarnation, id, parcel);
            }
            Parcel::Command(command) => {
                let reply = self.table.apply(self.now + self.clock, command);
                let is_lost = self.nodes[node].cut_until > self.now;
                let reply = (!is_lost).then_some(reply);
                let delay = self.delay();
                self.post_at(self.now + delay, node, incarnation, id, Parcel::Reply(reply));
            }
            Parcel::Reply(_) if self.nodes[node].paused_until > self.now => {
                self.post_at(self.nodes[node].paused_until, node, incarnation, id, parcel);
            }
            Parcel::Reply(reply) => {
                let now = self.instant();
                if self.nodes[node].is_alive && self.nodes[node].cluster.member().incarnation == incarnation {
                    self.nodes[node].cluster.handle_reply(now, id, reply);
                    self.turn(node);
                }
            }
        }
    }

    fn delay(&mut self) -> u64 {
        let is_slow = self.slow_until > self.now;
        if is_slow { self.below(4_000) } else { self.below(30) }
    }

    fn post_at(&mut self, at: u64, node: usize, incarnation: u64, id: u64, parcel: Parcel) {
        self.posted += 1;
        self.post.push(Reverse(Posted { at, number: self.posted, node, incarnation, id, parcel }));
    }

    fn turn(&mut self, node: usize) {
        let now = self.instant();
        while let Some(event) = self.nodes[node].cluster.poll_event() {
            match event {
                Event::Located(room, at) => {
                    self.nodes[node].asked.remove(&room);
                    self.note(format_args!("node-{node} located {room}: {at:?}"));
                    self.nodes[node].last_answer = Some((room.clone(), at.clone()));
                    if at == Ok(Location::Here) {
                        self.host(node, room);
                    }
                }
                Event::Moved(room, at) => {
                    self.note(format_args!("node-{node} moved {room}: {at:?}"));
                    match (self.nodes[node].hosted.get_mut(&room), at) {
                        (Some(hosted), Err(_)) => hosted.is_moving = false,
                        (Some(_), Ok(_)) => {
                            let hosted = self.nodes[node].hosted.remove(&room).expect("it was there");
                            self.check(hosted.is_moving, format_args!("{room} did not stand still"));
                            // Before the former owner heard of it, the new one may have been asked for it, or the store
                            // may have lost it.
                            if self.newest.get(&room) == Some(&hosted.epoch) && self.unsettled_until <= self.now {
                                self.moved.insert(room, hosted.state);
                            }
                            self.moves += 1;
                        }
                        (None, _) => {}
                    }
                }
                Event::Lost(room) => {
                    self.note(format_args!("node-{node} lost {room}"));
                    self.nodes[node].hosted.remove(&room);
                }
                Event::Displaced => {
                    self.note(format_args!("node-{node} is displaced"));
                    self.nodes[node].is_alive = false;
                }
                Event::Session(..) | Event::Inquired => {}
            }
        }
        while let Some(Request { id, command }) = self.nodes[node].cluster.poll_request(now) {
            let incarnation = self.nodes[node].cluster.member().incarnation;
            if self.nodes[node].cut_until > self.now {
                // What the node hears of it: nothing, or the failure of the connection.
                if self.below(2) == 0 {
                    self.post_at(self.now + 500, node, incarnation, id, Parcel::Reply(None));
                }
            } else {
                let delay = self.delay();
                self.post_at(self.now + delay, node, incarnation, id, Parcel::Command(command));
            }
        }
    }

    fn host(&mut self, node: usize, room: RoomName) {
        if self.nodes[node].hosted.contains_key(&room) {
            return;
        }
        let Some((epoch, saved)) = self.nodes[node].cluster.host(&room) else {
            self.check(false, format_args!("node-{node} has no lease of {room}"));
            return;
        };
        self.hosts += 1;
        let others = self.nodes.iter().enumerate().filter(|&(other, node_of)| other != node && node_of.is_alive);
        let same = others.filter_map(|(other, of)| of.hosted.get(&room).map(|hosted| (other, hosted.epoch)));
        let same: Vec<_> = same.filter(|&(_, other)| other == epoch).collect();
        self.check(same.is_empty(), format_args!("node-{node} and {same:?} have epoch {epoch} of {room}"));
        if self.is_settled(node) {
            // The store may have carried out a late request of the same node.
            let owner = self.table.owner(&room);
            let is_own = owner.is_some_and(|(owner, at)| owner == self.nodes[node].cluster.member() && at >= epoch);
            self.check(is_own, format_args!("node-{node} serves {room} with epoch {epoch}, of {owner:?}"));
        }
        let state = saved.map_or(0, |saved| u64::from_le_bytes(saved.bytes.try_into().expect("eight bytes")));
        if let Some(moved) = self.moved.remove(&room) {
            self.check(state == moved, format_args!("{room} was moved with {moved}, and goes on with {state}"));
        }
        self.newest.insert(room.clone(), epoch);
        self.nodes[node].hosted.insert(room, Hosted { epoch, state, is_moving: false });
    }

    /// Whether a node can't know better than the store.
    fn is_settled(&self, node: usize) -> bool {
        let quiet = |until: u64| until.saturating_add(3_000) < self.now;
        quiet(self.nodes[node].cut_until)
            && [self.frozen_until, self.slow_until, self.unsettled_until].map(quiet) == [true; 3]
    }

    fn locate(&mut self, node: usize, room: RoomName) -> Option<Result<Location, Unlocated>> {
        let now = self.instant();
        self.nodes[node].last_answer = None;
        let answer = self.nodes[node].cluster.locate(now, &room);
        self.note(format_args!("node-{node} is asked for {room}: {answer:?}"));
        match &answer {
            Some(Ok(Location::Here)) => self.host(node, room),
            Some(_) => {}
            None => drop(self.nodes[node].asked.entry(room).or_insert(self.now)),
        }
        self.turn(node);
        answer
    }

    /// A client follows redirects. Returns the node that has the room.
    fn join(&mut self, node: usize, room: &RoomName) -> Option<usize> {
        let mut at = node;
        let mut ticket: Option<String> = None;
        for _ in 0..4 {
            let (now, unix_time) = (self.instant(), ms(self.now));
            if let Some(ticket) = ticket.take() {
                let _ = self.nodes[at].cluster.accept(now, unix_time, room, "", &ticket);
            }
            let mut answer = self.locate(at, room.clone());
            let from = self.now;
            while answer.is_none() {
                self.check(self.now < from + 20_000, format_args!("{room} is not located"));
                self.step();
                answer = self.nodes[at].last_answer.take_if(|(of, _)| of == room).map(|(_, answer)| answer);
            }
            match answer? {
                Ok(Location::Here) => return Some(at),
                Ok(Location::There { owner, epoch, .. }) => {
                    let next = self.nodes.iter().position(|of| of.is_alive && *of.cluster.member() == owner)?;
                    ticket = Some(self.nodes[at].cluster.sign(unix_time, room, "", &owner, epoch));
                    at = next;
                }
                Err(_) => return None,
            }
        }
        None
    }

    fn disturb(&mut self) {
        let node = self.pick(self.nodes.len());
        let until = self.now + 100 + self.below(3 * TTL);
        let what = self.below(9);
        self.note(format_args!("disturbance {what} of node-{node} until {until}"));
        match what {
            0 => self.nodes[node].cut_until = until,
            1 => self.nodes[node].paused_until = until,
            2 => self.frozen_until = until,
            3 => self.slow_until = until,
            4 => {
                self.table = Table::new(self.seed);
                self.moved.clear();
            }
            // The process is killed, and started again.
            5 => {
                let cluster = self.process(node);
                self.nodes[node] = Node::new(cluster);
            }
            6 => self.clock += self.now % (2 * TTL),
            7 => self.clock -= self.now % (2 * TTL),
            _ => {
                let now = self.instant();
                self.nodes[node].cluster.handle_suspension(now);
            }
        }
        if matches!(what, 4..=7) {
            self.unsettled_until = self.now + TTL;
        }
    }
}

/// Nodes and their store survive whatever happens between them, and agree once it is over.
#[test]
fn rooms_have_one_owner_after_every_disturbance() {
    let seeds = std::env::var("RTCADE_CLUSTER_SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(60);
    let (mut hosts, mut moves) = (0, 0);
    for seed in 0..seeds {
        let nodes = 2 + (seed % 3) as usize;
        let mut world = World::new(seed, nodes);
        for _ in 0..4_000 {
            if world.below(400) == 0 {
                world.disturb();
            }
            let node = world.pick(nodes);
            let room = room(world.pick(12));
            if world.is_running(node) {
                match world.below(20) {
                    0 => drop(world.locate(node, room)),
                    1 if world.nodes[node].hosted.get(&room).is_some_and(|hosted| !hosted.is_moving) => {
                        world.nodes[node].hosted.remove(&room);
                        world.note(format_args!("node-{node} gives up {room}"));
                        world.nodes[node].cluster.release(&room);
                        world.turn(node);
                    }
                    2 | 3 => world.save(node, &room),
                    4 | 5 => world.start_move(node, &room),
                    _ => world.play(node, &room),
                }
            }
            world.step();
        }
        // Everything is over, then each lease is verified, and a store without data waits for its owners.
        for node in &mut world.nodes {
            (node.paused_until, node.cut_until) = (0, 0);
        }
        (world.frozen_until, world.slow_until) = (world.now, world.now);
        world.run(3 * TTL);
        world.check_agreement();
        for number in 0..12 {
            let alive: Vec<usize> = (0..nodes).filter(|&node| world.nodes[node].is_alive).collect();
            let ends: Vec<_> = alive.into_iter().map(|node| world.join(node, &room(number))).collect();
            let same = ends.iter().all(|end| end.is_some() && *end == ends[0]);
            world.check(same, format_args!("clients who ask for room-{number} come to {ends:?}"));
        }
        world.check_agreement();
        hosts += world.hosts;
        moves += world.moves;
    }
    assert!(hosts > seeds * 50, "rooms were hosted only {hosts} times");
    assert!(moves > seeds * 5, "rooms were moved only {moves} times");
}

impl World {
    fn play(&mut self, node: usize, room: &RoomName) {
        if let Some(hosted) = self.nodes[node].hosted.get_mut(room).filter(|hosted| !hosted.is_moving) {
            hosted.state += 1;
        }
    }

    fn save(&mut self, node: usize, room: &RoomName) {
        let Node { cluster, hosted, .. } = &mut self.nodes[node];
        if let Some(hosted) = hosted.get(room).filter(|hosted| !hosted.is_moving)
            && cluster.takes_snapshots()
        {
            cluster.save_snapshot(room, hosted.state.to_le_bytes().to_vec());
            self.turn(node);
        }
    }

    fn start_move(&mut self, node: usize, room: &RoomName) {
        let Node { cluster, hosted, .. } = &mut self.nodes[node];
        if let Some(hosted) = hosted.get_mut(room).filter(|hosted| !hosted.is_moving)
            && cluster.can_move(room)
        {
            hosted.is_moving = true;
            cluster.move_room(room, hosted.state.to_le_bytes().to_vec());
            self.note(format_args!("node-{node} moves {room}"));
            self.turn(node);
        }
    }

    /// At most one node has each room, and it is the one that the store names.
    fn check_agreement(&self) {
        for node in self.nodes.iter().filter(|node| node.is_alive) {
            for room in node.hosted.keys() {
                let owner = self.table.owner(room).map(|(owner, _)| owner);
                let own = node.cluster.member();
                self.check(owner == Some(own), format_args!("{own} has {room}, which is of {owner:?}"));
            }
        }
    }
}

#[test]
fn a_killed_node_is_replaced_within_the_length_of_its_lease() {
    let mut world = World::new(1, 3);
    world.run(2 * TTL);
    let owner = world.join(0, &room(1)).expect("it is located");
    world.nodes[owner].is_alive = false;
    let asks = (owner + 1) % 3;
    let from = world.now;
    let next = loop {
        if let Some(next) = world.join(asks, &room(1)) {
            break next;
        }
        assert!(world.now <= from + TTL + STEP, "the room is not free");
        world.step();
    };
    assert_ne!(next, owner);
}

#[test]
fn a_room_goes_to_another_node_if_the_one_that_is_asked_is_busy() {
    let mut world = World::new(2, 4);
    world.run(2 * TTL);
    world.nodes[0].cluster.handle_load(0.7, 100);
    world.nodes[1].cluster.handle_load(0.95, 100);
    world.run(TTL);
    let ends: Vec<_> = (0..40).map(|number| world.join(0, &room(number)).expect("it is located")).collect();
    assert!(!ends.contains(&0), "the node is above its soft limit: {ends:?}");
    assert!(!ends.contains(&1), "the node is above its hard limit: {ends:?}");
    let of_third = ends.iter().filter(|&&end| end == 2).count();
    assert!((10..=30).contains(&of_third), "both free nodes get some: {of_third} of 40");
    world.nodes[0].cluster.handle_load(0.2, 100);
    assert_eq!(world.join(0, &room(100)), Some(0), "below its soft limit it keeps what it is asked for");
}

#[test]
fn a_node_that_drains_sends_rooms_elsewhere_and_keeps_its_own() {
    let mut world = World::new(3, 2);
    world.run(2 * TTL);
    assert_eq!(world.join(0, &room(1)), Some(0));
    let now = world.instant();
    world.nodes[0].cluster.handle_drain(now);
    world.run(TTL);
    assert_eq!(world.join(0, &room(2)), Some(1));
    assert_eq!(world.join(1, &room(1)), Some(0));
    assert_eq!(world.join(1, &room(3)), Some(1));
}

#[test]
fn a_node_gets_rooms_once_clients_can_reach_it() {
    let mut world = World::new(12, 2);
    let at = |world: &mut World, url: &str| {
        let now = world.instant();
        world.nodes[0].cluster.handle_url(now, url.to_owned());
        world.run(2 * TTL);
    };
    at(&mut world, "");
    assert_eq!(world.join(0, &room(1)), Some(1), "nobody could be sent to it");
    assert_eq!(world.join(1, &room(2)), Some(1));
    for url in ["ws://192.0.2.1:7100", "wss://192.0.2.2:7200"] {
        at(&mut world, url);
        assert_eq!(world.join(0, &room(3)), Some(0), "{url}");
        let mut answer = world.locate(1, room(3));
        for _ in 0..TTL / STEP {
            answer = answer.or_else(|| world.nodes[1].last_answer.take().map(|(_, answer)| answer));
            world.step();
        }
        assert!(matches!(&answer, Some(Ok(Location::There { url: told, .. })) if told == url), "{url}: {answer:?}");
    }
}

#[test]
fn rooms_go_on_while_the_store_is_away_and_others_are_refused() {
    let mut world = World::new(4, 2);
    world.run(2 * TTL);
    assert_eq!(world.join(0, &room(1)), Some(0));
    assert_eq!(world.join(0, &room(2)), Some(0));
    assert_eq!(world.join(1, &room(2)), Some(0));
    world.run(TTL + 2 * STEP);
    assert_eq!(world.join(1, &room(1)), Some(0));
    world.frozen_until = u64::MAX;
    world.run(2 * TTL);
    assert_eq!(world.locate(0, room(1)), Some(Ok(Location::Here)));
    assert_eq!(world.locate(0, room(3)), Some(Err(Unlocated::Unavailable)));
    assert!(!world.nodes[0].cluster.figures().is_connected);
    // Where a room was a moment before is known still, unless another node has sent the client here.
    assert!(matches!(world.locate(1, room(1)), Some(Ok(Location::There { owner, .. })) if &*owner.node == "node-0"));
    assert_eq!(world.locate(1, room(2)), Some(Err(Unlocated::Unavailable)), "it is too long ago");
    let now = world.instant();
    let _ = world.nodes[1].cluster.accept(now, ms(0), &room(1), "", "of another node");
    assert_eq!(world.locate(1, room(1)), Some(Err(Unlocated::Unavailable)));
}

#[test]
fn a_lookup_that_the_store_refuses_fails_alone() {
    let mut world = World::new(14, 1);
    world.run(2 * TTL);
    assert_eq!(world.join(0, &room(1)), Some(0));
    let before = world.nodes[0].cluster.figures();
    for number in 2..5 {
        assert_eq!(world.locate(0, room(number)), None);
    }
    let refused = |Reverse(mut posted): Reverse<Posted>| {
        if matches!(&posted.parcel, Parcel::Command(Command::Acquire { room: of, .. }) if *of == room(3)) {
            posted.parcel = Parcel::Reply(Some(Reply::Refused));
        }
        Reverse(posted)
    };
    world.post = std::mem::take(&mut world.post).into_iter().map(refused).collect();
    world.run(200);
    assert!(world.nodes[0].asked.is_empty());
    assert_eq!(world.nodes[0].hosted.keys().collect::<Vec<_>>(), [&room(1), &room(2), &room(4)]);
    let after = world.nodes[0].cluster.figures();
    assert_eq!((after.failed, after.located[2]), (before.failed + 1, before.located[2] + 1));
    assert_eq!((after.is_connected, after.lapses), (true, before.lapses), "no lease is in doubt");
}

#[test]
fn the_newer_of_two_processes_with_one_name_has_it() {
    let mut world = World::new(5, 2);
    world.run(2 * TTL);
    assert_eq!(world.join(0, &room(1)), Some(0));
    // The second process calls itself as the first.
    world.nodes[1].cluster = world.process(0);
    world.run(TTL);
    assert!(!world.nodes[0].is_alive, "the older one is told");
    assert!(world.nodes[1].is_alive);
    assert!(world.nodes[0].hosted.is_empty(), "its rooms are gone");
    assert_eq!(world.join(1, &room(1)), Some(1));
}

#[test]
fn tickets_are_good_once_for_what_they_were_signed_for() {
    let mut world = World::new(6, 2);
    world.run(2 * TTL);
    let (here, there) = (world.nodes[0].cluster.member().clone(), world.nodes[1].cluster.member().clone());
    let (unix_time, epoch) = (ms(world.now), world.now + world.clock);
    let now = world.instant();
    let mut sign =
        |owner: &Member, session: &str| world.nodes[0].cluster.sign(unix_time, &room(1), session, owner, epoch);
    let (good, other_node, of_session) = (sign(&there, ""), sign(&here, ""), sign(&there, "abc"));
    let old = sign(&there, "");
    let node = &mut world.nodes[1].cluster;
    let mut use_ticket =
        |ticket: &str, number: usize, session: &str, at: Duration| node.accept(now, at, &room(number), session, ticket);
    for forged in ["", ".", "1.2.3.4", &good[1..], &good[..good.len() - 1], &format!("f{good}"), &"x".repeat(512)] {
        assert_eq!(use_ticket(forged, 1, "", unix_time), Err(TicketFault::Forged), "{forged}");
    }
    assert_eq!(use_ticket(&other_node, 1, "", unix_time), Err(TicketFault::Forged), "of another node");
    assert_eq!(use_ticket(&good, 2, "", unix_time), Err(TicketFault::Forged), "of another room");
    assert_eq!(use_ticket(&good, 1, "abc", unix_time), Err(TicketFault::Forged), "of no session");
    assert_eq!(use_ticket(&old, 1, "", unix_time + TICKET_LIFETIME), Err(TicketFault::Expired));
    assert_eq!(use_ticket(&good, 1, "", unix_time), Ok(()));
    assert_eq!(use_ticket(&good, 1, "", unix_time), Err(TicketFault::Replayed));
    assert_eq!(use_ticket(&of_session, 1, "abc", unix_time), Ok(()));
    let figures = node.figures();
    assert_eq!((figures.tickets, figures.refused_tickets), (2, [10, 1, 1]));
    assert_eq!(node.locate(now, &room(1)), Some(Ok(Location::Here)), "a ticket is as good as an answer of the store");
}

#[test]
fn a_ticket_for_a_lease_that_was_given_up_proves_nothing() {
    let mut world = World::new(7, 2);
    world.run(2 * TTL);
    assert_eq!(world.join(1, &room(1)), Some(1));
    let (unix_time, owner) = (ms(world.now), world.nodes[1].cluster.member().clone());
    let epoch = world.nodes[1].cluster.epoch(&room(1)).expect("it has the room");
    let ticket = world.nodes[0].cluster.sign(unix_time, &room(1), "", &owner, epoch);
    world.nodes[1].cluster.release(&room(1));
    world.nodes[1].hosted.clear();
    world.turn(1);
    world.run(1_000);
    let now = world.instant();
    assert_eq!(world.nodes[1].cluster.accept(now, unix_time, &room(1), "", &ticket), Ok(()));
    assert_eq!(world.locate(1, room(1)), None, "the store is asked");
}

#[test]
fn sessions_are_found_by_every_node_and_the_newer_owner_wins() {
    let mut world = World::new(8, 2);
    world.run(2 * TTL);
    let session = |token: u8| StoredSession { room: room(1), user_id: None, tokens: [Some([token; 32]), None] };
    let update = |epoch: u64, session: Option<StoredSession>| SessionUpdate { socket_id: "s".into(), epoch, session };
    let saved = |world: &mut World, node: usize, update: SessionUpdate| {
        world.nodes[node].cluster.save_session(update);
        world.turn(node);
        world.run(200);
        let reply = world.table.apply(world.now + world.clock, Command::FindSession { socket_id: "s".into() });
        let Reply::Session(found) = reply else { panic!("{reply:?}") };
        found
    };
    assert_eq!(saved(&mut world, 0, update(10, Some(session(1)))), Some(session(1)));
    assert_eq!(saved(&mut world, 1, update(20, Some(session(2)))), Some(session(2)));
    assert_eq!(saved(&mut world, 0, update(10, None)), Some(session(2)), "a former owner can't end it");
    assert_eq!(saved(&mut world, 0, update(10, Some(session(1)))), Some(session(2)), "nor overwrite it");
    world.frozen_until = world.now + 2 * TTL;
    assert_eq!(saved(&mut world, 1, update(20, Some(session(3)))), Some(session(2)));
    world.run(4 * TTL);
    assert_eq!(saved(&mut world, 0, update(10, None)), Some(session(3)), "it is saved once the store is back");
    assert_eq!(saved(&mut world, 1, update(20, None)), None);
}

#[test]
fn the_store_is_told_of_rooms_that_change_and_asked_for_them_only_if_somebody_asks() {
    let mut world = World::new(13, 2);
    let listed = |number: usize, players: usize, started_ms: u64| store::ListedRoom {
        name: room(number),
        title: None,
        players,
        max_players: 4,
        locked: false,
        started_ms,
        tick_us: 33_000,
    };
    let (mut published, mut asked) = (0, 0);
    let mut run = |world: &mut World, millis: u64, rooms: &dyn Fn(u64) -> Vec<store::ListedRoom>| {
        (published, asked) = (0, 0);
        for _ in 0..millis / STEP {
            let (at, number, posted_before) = (world.now, world.nodes.len() - 1, world.posted);
            let cluster = &mut world.nodes[number].cluster;
            if cluster.wants_rooms() {
                cluster.publish(rooms(at));
            }
            world.turn(number);
            for Reverse(Posted { number: posted, parcel, .. }) in &world.post {
                let is_new = *posted > posted_before;
                match parcel {
                    Parcel::Command(Command::Publish { .. }) if is_new => published += 1,
                    Parcel::Command(Command::ListRooms { .. }) if is_new => asked += 1,
                    _ => {}
                }
            }
            world.step();
        }
        (published, asked)
    };
    assert_eq!(run(&mut world, 4 * TTL, &|_| Vec::new()), (0, 0), "there is nothing to tell");
    // The time at which a room was made is by a clock that is set now and then.
    assert_eq!(run(&mut world, 4 * TTL, &|now| vec![listed(1, 1, now)]), (1, 0));
    let now = world.instant();
    assert!(!world.nodes[0].cluster.inquire(now, About::Rooms), "it has to ask");
    world.turn(0);
    assert_eq!(run(&mut world, 500, &|_| vec![listed(1, 1, 0)]), (0, 0));
    let now = world.instant();
    assert!(world.nodes[0].cluster.inquire(now, About::Rooms), "it has asked a moment ago");
    assert_eq!(world.nodes[0].cluster.listed_rooms(now).iter().map(|room| &room.name).collect::<Vec<_>>(), [&room(1)]);
    let (often, _) = run(&mut world, 4 * TTL, &|now| vec![listed(1, usize::try_from(now).expect("it fits"), 0)]);
    assert!((2..=16).contains(&often), "{often} times in {} ms", 4 * TTL);
    assert_eq!(run(&mut world, TTL, &|_| Vec::new()), (1, 0), "it has no room any more");
    world.table = Table::new(1);
    world.unsettled_until = world.now + TTL;
    assert_eq!(run(&mut world, 2 * TTL, &|_| vec![listed(2, 0, 0)]).0, 1);
    world.table = Table::new(2);
    assert_eq!(run(&mut world, 2 * TTL, &|_| vec![listed(2, 0, 0)]).0, 1, "the store has lost what it had");
    let now = world.instant();
    assert!(world.nodes[0].cluster.listed_rooms(now).is_empty(), "it is too long ago");
    world.nodes[0].cluster.inquire(now, About::Rooms);
    world.turn(0);
    world.run(500);
    let now = world.instant();
    assert_eq!(world.nodes[0].cluster.listed_rooms(now).iter().map(|room| &room.name).collect::<Vec<_>>(), [&room(2)]);
}
