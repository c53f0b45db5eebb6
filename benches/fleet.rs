//! What a large fleet asks of its store: nodes with many rooms, their store in memory, under virtual time.
//!
//! `cargo bench --bench fleet -- NODES ROOMS MINUTES`; 1,000 nodes, 500,000 rooms and 60 minutes otherwise. Each room has
//! two players and ends after 20 minutes on average; another one follows. Rooms are not saved. Once the fleet is full,
//! the commands are counted. A node in a hundred is killed in the middle, and its rooms are asked for at other nodes.

#![allow(clippy::unwrap_used, reason = "a bench whose setup fails should stop")]
#![allow(clippy::disallowed_methods, reason = "an Instant can't be made otherwise; only differences matter")]
#![allow(clippy::print_stdout, reason = "it reports")]
#![allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss, reason = "of figures")]

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::time::{Duration, Instant};

use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rtcade::cluster::store::{Command, SessionUpdate, StoredSession};
use rtcade::cluster::{Cluster, Event, Location, NodeConfig, Request, Table};
use rtcade::wire::signaling::RoomName;

const SEED: u64 = 18;
const ROOM_LIFE_MS: f64 = 20.0 * 60_000.0;
const PLAYERS_PER_ROOM: u32 = 2;
/// How often the session of a player who plays on is saved again.
const SESSION_MS: u64 = 100_000;
/// The rooms of a fleet that starts come within this time.
const FILL_MS: u64 = 10 * 60_000;
const TICK_MS: u64 = 50;

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Due {
    Node(u32),
    /// A room with this number is asked for at a node.
    Begin(u32, u32),
    /// The sessions of a room are saved again, or the room ends.
    Refresh(u32, u32),
    Kill,
}

struct Room {
    node: u32,
    ends: u64,
}

#[derive(Default)]
struct Asked {
    commands: BTreeMap<&'static str, u64>,
    sessions: u64,
    /// Commands in the busiest second.
    busiest: u64,
    second: (u64, u64),
}

struct Fleet {
    rng: ChaCha8Rng,
    epoch: Instant,
    now: u64,
    table: Table,
    in_table: Duration,
    nodes: Vec<Cluster>,
    is_alive: Vec<bool>,
    /// When each node is woken next.
    woken: Vec<u64>,
    rooms: BTreeMap<u32, Room>,
    due: BinaryHeap<Reverse<(u64, Due)>>,
    asked: Asked,
    /// Rooms of nodes that were killed, and when they were found again.
    lost: BTreeMap<u32, u64>,
    found_after: Vec<u64>,
}

fn name(room: u32) -> RoomName {
    RoomName::parse(&format!("room-{room}")).unwrap()
}

impl Fleet {
    fn new(nodes: u32) -> Fleet {
        let (mut rng, epoch) = (ChaCha8Rng::seed_from_u64(SEED), Instant::now());
        let node = |number: u32| {
            let mut seed = [0; 32];
            rng.fill_bytes(&mut seed);
            let mut node =
                Cluster::new(NodeConfig::new(format!("node-{number}"), format!("wss://{number}.example")), seed, epoch);
            node.handle_load(0.3, 1_000);
            node
        };
        let clusters: Vec<Cluster> = (0..nodes).map(node).collect();
        let mut fleet = Fleet {
            rng,
            epoch,
            now: 0,
            table: Table::new(SEED),
            in_table: Duration::ZERO,
            is_alive: vec![true; clusters.len()],
            woken: vec![u64::MAX; clusters.len()],
            nodes: clusters,
            rooms: BTreeMap::new(),
            due: BinaryHeap::new(),
            asked: Asked::default(),
            lost: BTreeMap::new(),
            found_after: Vec::new(),
        };
        // They are started one after the other.
        for number in 0..nodes {
            let at = fleet.rng.random_range(0..5_000);
            fleet.wake_at(number, at);
        }
        fleet
    }

    fn instant(&self) -> Instant {
        self.epoch + Duration::from_millis(self.now)
    }

    fn push(&mut self, at: u64, due: Due) {
        self.due.push(Reverse((at, due)));
    }

    fn wake_at(&mut self, node: u32, at: u64) {
        if at < self.woken[node as usize] {
            self.woken[node as usize] = at;
            self.push(at, Due::Node(node));
        }
    }

    fn life(&mut self) -> u64 {
        (-self.rng.random::<f64>().max(1e-9).ln() * ROOM_LIFE_MS) as u64 + TICK_MS
    }

    fn run(&mut self, until: u64) {
        while let Some(&Reverse((at, due))) = self.due.peek()
            && at <= until
        {
            self.due.pop();
            self.now = at;
            match due {
                Due::Node(node) => {
                    if self.woken[node as usize] == at {
                        self.woken[node as usize] = u64::MAX;
                        let now = self.instant();
                        self.nodes[node as usize].handle_timeout(now);
                        self.turn(node);
                    }
                }
                Due::Begin(room, node) => self.begin(room, node),
                Due::Refresh(room, node) => self.refresh(room, node),
                Due::Kill => self.kill(),
            }
        }
        self.now = until;
    }

    fn begin(&mut self, room: u32, node: u32) {
        let node = if self.is_alive[node as usize] { node } else { self.any_node() };
        let now = self.instant();
        match self.nodes[node as usize].locate(now, &name(room)) {
            Some(at) => self.located(room, node, at.ok()),
            None => self.turn(node),
        }
    }

    fn located(&mut self, room: u32, node: u32, at: Option<Location>) {
        match at {
            Some(Location::Here) => {
                let is_new = self.nodes[node as usize].host(&name(room)).is_some() && !self.rooms.contains_key(&room);
                if is_new {
                    let ends = self.now + self.life();
                    self.rooms.insert(room, Room { node, ends });
                    if let Some(lost) = self.lost.remove(&room) {
                        self.found_after.push(self.now - lost);
                    }
                    self.save(room, node, true);
                    self.push(ends.min(self.now + SESSION_MS), Due::Refresh(room, node));
                }
            }
            Some(Location::There { owner, .. }) => {
                let owner = owner.node.strip_prefix("node-").unwrap().parse().unwrap();
                // The clients follow, or try again if that node was killed.
                match self.is_alive[owner as usize] {
                    true => self.push(self.now + 1, Due::Begin(room, owner)),
                    false => self.begin_later(room),
                }
            }
            None => self.begin_later(room),
        }
    }

    fn begin_later(&mut self, room: u32) {
        let node = self.any_node();
        self.push(self.now + 1_000, Due::Begin(room, node));
    }

    fn any_node(&mut self) -> u32 {
        loop {
            let node = self.rng.random_range(0..self.nodes.len() as u32);
            if self.is_alive[node as usize] {
                return node;
            }
        }
    }

    fn refresh(&mut self, room: u32, node: u32) {
        let Some(&Room { node: at, ends }) = self.rooms.get(&room) else { return };
        if at != node {
            return;
        }
        if ends > self.now {
            self.save(room, node, true);
            self.push(ends.min(self.now + SESSION_MS), Due::Refresh(room, node));
        } else {
            self.save(room, node, false);
            self.nodes[node as usize].release(&name(room));
            self.rooms.remove(&room);
            self.push(self.now + TICK_MS, Due::Begin(room, node));
        }
        self.turn(node);
    }

    fn save(&mut self, room: u32, node: u32, plays: bool) {
        let epoch = self.nodes[node as usize].epoch(&name(room)).unwrap();
        for player in 0..PLAYERS_PER_ROOM {
            let tokens = [Some([7; 32]), None];
            let session = plays.then(|| StoredSession { room: name(room), user_id: None, tokens });
            let socket_id = format!("{:032x}", room * PLAYERS_PER_ROOM + player);
            self.nodes[node as usize].save_session(SessionUpdate { socket_id, epoch, session });
        }
    }

    /// A node in a hundred is gone. Its players ask for their rooms elsewhere.
    fn kill(&mut self) {
        let killed: Vec<u32> = (0..self.nodes.len() as u32).step_by(100).collect();
        for &node in &killed {
            self.is_alive[node as usize] = false;
            self.woken[node as usize] = u64::MAX;
        }
        let rooms: Vec<u32> =
            self.rooms.iter().filter(|(_, room)| killed.contains(&room.node)).map(|(&room, _)| room).collect();
        for room in rooms {
            self.rooms.remove(&room);
            self.lost.insert(room, self.now);
            let (node, wait) = (self.any_node(), self.rng.random_range(0..1_000));
            self.push(self.now + wait, Due::Begin(room, node));
        }
    }

    /// Passes on what a node has to say.
    fn turn(&mut self, node: u32) {
        let now = self.instant();
        loop {
            while let Some(Request { id, command }) = self.nodes[node as usize].poll_request(now) {
                self.count(&command);
                let begun = Instant::now();
                let reply = self.table.apply(1_700_000_000_000 + self.now, command);
                self.in_table += begun.elapsed();
                self.nodes[node as usize].handle_reply(now, id, Some(reply));
            }
            let Some(event) = self.nodes[node as usize].poll_event() else { break };
            if let Event::Located(room, at) = event {
                let number = room.as_str().strip_prefix("room-").unwrap().parse().unwrap();
                self.located(number, node, at.ok());
            }
        }
        if let Some(at) = self.nodes[node as usize].poll_timeout() {
            let at = (at.saturating_duration_since(self.epoch).as_micros() as u64).div_ceil(1_000).max(self.now + 1);
            self.wake_at(node, at);
        }
    }

    fn count(&mut self, command: &Command) {
        let kind = match command {
            Command::Renew { .. } => "renewals",
            Command::Acquire { .. } => "lookups of rooms",
            Command::Release { .. } => "releases",
            Command::SaveSessions { updates, .. } => {
                self.asked.sessions += updates.len() as u64;
                "saves of sessions"
            }
            _ => "others",
        };
        *self.asked.commands.entry(kind).or_default() += 1;
        let second = self.now / 1_000;
        let count = if self.asked.second.0 == second { self.asked.second.1 + 1 } else { 1 };
        self.asked.second = (second, count);
        self.asked.busiest = self.asked.busiest.max(count);
    }
}

fn main() {
    let arguments: Vec<u32> = std::env::args().filter_map(|argument| argument.parse().ok()).collect();
    let [nodes, rooms, minutes] = [0, 1, 2].map(|at| arguments.get(at).copied().unwrap_or([1_000, 500_000, 60][at]));
    let begun = Instant::now();
    let mut fleet = Fleet::new(nodes);
    // The store makes no rooms at first.
    for room in 0..rooms {
        let (node, at) = (fleet.any_node(), 6_000 + fleet.rng.random_range(0..FILL_MS));
        fleet.push(at, Due::Begin(room, node));
    }
    let full = 6_000 + FILL_MS + 60_000;
    fleet.run(full);
    println!(
        "seed {SEED}: {nodes} nodes with {} rooms after {} minutes; at most {} commands in a second",
        fleet.rooms.len(),
        full / 60_000,
        fleet.asked.busiest
    );
    (fleet.asked, fleet.in_table) = (Asked::default(), Duration::ZERO);
    let end = full + u64::from(minutes) * 60_000;
    fleet.push(full + u64::from(minutes) * 30_000, Due::Kill);
    fleet.run(end);

    let seconds = f64::from(minutes) * 60.0;
    let total: u64 = fleet.asked.commands.values().sum();
    println!("{minutes} minutes more, in each second on average:");
    for (kind, count) in &fleet.asked.commands {
        println!("  {kind:18} {:9.1}", *count as f64 / seconds);
    }
    println!("  {:18} {:9.1}, at most {}", "all commands", total as f64 / seconds, fleet.asked.busiest);
    println!("  {:18} {:9.1}", "sessions saved", fleet.asked.sessions as f64 / seconds);
    println!("the table took {:.1} µs for a command", fleet.in_table.as_secs_f64() * 1e6 / total as f64);
    fleet.found_after.sort_unstable();
    let found = fleet.found_after.len();
    let at = |share: usize| fleet.found_after.get((found * share / 100).min(found.saturating_sub(1))).copied();
    println!(
        "rooms of killed nodes: {found} found again, {} not; after {:?} ms (median), {:?} ms (p99), {:?} ms (last)",
        fleet.lost.len(),
        at(50),
        at(99),
        fleet.found_after.last()
    );
    println!("{} rooms at the end; {:.0} s of time", fleet.rooms.len(), begun.elapsed().as_secs_f64());
    assert!(fleet.lost.is_empty(), "rooms are not found again");
    assert_eq!(
        fleet.rooms.len() + fleet.due.iter().filter(|due| matches!(due.0.1, Due::Begin(..))).count(),
        rooms as usize
    );
}
