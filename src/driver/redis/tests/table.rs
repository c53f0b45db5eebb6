//! The script and the store in memory do the same.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha20Rng;

use super::*;
use crate::cluster::Table;
use crate::cluster::store::{ListedRoom, NodeReport, Nodes, Release};
use crate::limits::LISTED_ROOMS;

const ROOMS: usize = 8;

/// What is known of one of the two stores, whose clocks differ.
#[derive(Clone, Default)]
pub(super) struct Known {
    epochs: BTreeMap<RoomName, u64>,
    since: BTreeMap<Member, u64>,
    store_time: u64,
}

/// The newest process that has the name of a node.
#[derive(Clone, Copy)]
pub(super) struct Newest {
    pub(super) incarnation: u64,
    pub(super) has_left: bool,
    /// Whether its lease is over.
    pub(super) has_lapsed: bool,
}

impl Newest {
    pub(super) const NONE: Newest = Newest { incarnation: 10, has_left: true, has_lapsed: false };
}

/// By node.
pub(super) type Current = [Newest; 3];

/// Three nodes, so that which one of two others is the less busy does not depend on chance: their loads are never the
/// same.
pub(super) fn any_command(rng: &mut ChaCha20Rng, current: &Current, known: &Known) -> Command {
    let mut below = |bound: usize| rng.next_u32() as usize % bound;
    let of = below(3);
    // Mostly the process that is there, else one before it.
    let Newest { incarnation: newest, has_left, has_lapsed } = current[of];
    let incarnation = if below(5) == 0 { newest - 1 - below(2) as u64 } else { newest };
    let member = node(["a", "b", "c"][of], incarnation);
    let lease = |below: &mut dyn FnMut(usize) -> usize| {
        let room = room(below(ROOMS));
        let epoch = known.epochs.get(&room).copied().unwrap_or(5) + below(3) as u64 - 1;
        Lease { room, epoch }
    };
    match below(24) {
        0..3 => {
            // Once a successor has ended, what comes of a former process's rooms depends on how many were forgotten.
            let is_new = has_left || below(4) == 0;
            let member = match is_new {
                true => node(&member.node, newest + 1),
                false if has_lapsed => node(&member.node, newest),
                false => member,
            };
            let profile = Profile {
                url: format!("ws://{}:{}", member.node, member.incarnation),
                region: if of == 2 { "there" } else { "here" }.to_owned(),
                load: [0.1, 0.413, 0.777][of],
                takes_rooms: below(4) > 0,
                is_draining: below(4) == 0,
                rooms: below(9),
                players: below(9),
            };
            // The lease of a process that is not heard of lapses.
            let ttl_ms = if below(4) == 0 && member.incarnation >= newest { 0 } else { 600_000 };
            let takes_over = is_new;
            Command::Renew { member, profile, ttl_ms, takes_over, secret: [u8::try_from(below(256)).unwrap(); 32] }
        }
        3..9 => {
            let region = ["here", "there", "elsewhere"][below(3)].to_owned();
            let (keeps, falls_back) = (below(2) == 0, below(2) == 0);
            let grace_ms = if below(6) == 0 { 1_000_000_000 } else { 0 };
            Command::Acquire { room: room(below(ROOMS)), member, keeps, falls_back, region, grace_ms }
        }
        9..11 => Command::Reassert { member, leases: (0..3).map(|_| lease(&mut below)).collect() },
        11..13 => {
            // Whether a process that has ended still has the room depends on how many of its rooms were forgotten.
            let is_there = !has_left && member.incarnation == newest;
            let release = |_| Release { lease: lease(&mut below), has_ended: below(2) == 0 && is_there };
            Command::Release { member, leases: (0..2).map(release).collect() }
        }
        13 if below(3) == 0 => Command::Leave { member },
        16 | 17 => {
            let (region, snapshot) =
                (["here", "there"][below(2)].to_owned(), vec![u8::try_from(below(256)).unwrap(); below(9)]);
            let ttl_ms = if below(5) == 0 { 0 } else { 600_000 };
            Command::Move { member, lease: lease(&mut below), region, snapshot, ttl_ms }
        }
        18 => {
            let mut snapshot = || (lease(&mut below), vec![u8::try_from(below(256)).unwrap(); below(9)]);
            Command::SaveSnapshots { member, snapshots: vec![snapshot(), snapshot()], ttl_ms: 600_000 }
        }
        19 => Command::FindSnapshot { room: room(below(ROOMS)) },
        13 | 14 => {
            let update = |below: &mut dyn FnMut(usize) -> usize| {
                let user_id = [None, Some(String::new()), Some("ü:x y\r\n".to_owned())][below(3)].clone();
                let token = |number: usize| (number > 0).then_some([u8::try_from(number + 9).unwrap(); 32]);
                let tokens = [token(below(5)), token(below(5))];
                let session = StoredSession { room: room(below(ROOMS)), user_id, tokens };
                let session = (below(4) > 0).then_some(session);
                SessionUpdate { socket_id: format!("s-{}", below(3)), epoch: below(4) as u64, session }
            };
            let ttl_ms = if below(5) == 0 { 0 } else { 600_000 };
            Command::SaveSessions { updates: (0..2).map(|_| update(&mut below)).collect(), ttl_ms }
        }
        15 => find(&format!("s-{}", below(3))),
        20 | 21 => {
            let listed = |number: usize| ListedRoom {
                name: room(number),
                title: [None, Some("Ein \"Titel\" ☃".to_owned())][number % 2].clone(),
                players: number,
                max_players: 5,
                locked: number.is_multiple_of(3),
                started_ms: 1_700_000_000_000,
                tick_us: 33_000,
            };
            // Sometimes more than a share of what is read.
            let count = [0, 3, LISTED_ROOMS][below(3)];
            let rooms = (0..count).map(|number| listed(of + 3 * number)).collect();
            Command::Publish { member, rooms, ttl_ms: 600_000 }
        }
        22 => Command::ListRooms { member },
        _ => Command::ListNodes,
    }
}

/// Replaces times and epochs by how they compare with those before.
pub(super) fn compared(reply: &Reply, command: &Command, known: &mut Known) -> String {
    match (reply, command) {
        (Reply::Renewed { renewal, secret, store_time }, Command::Renew { member, .. }) => {
            let is_later = *store_time >= std::mem::replace(&mut known.store_time, *store_time);
            let Renewal::Since(since) = *renewal else { return format!("taken, {secret:?}, {is_later}") };
            let before = known.since.insert(member.clone(), since);
            format!("{:?}, {secret:?}, {is_later}", before.map(|before| before.cmp(&since)))
        }
        (
            Reply::Acquired(Placement::At { owner, url, epoch, has_snapshot }),
            Command::Acquire { room, .. } | Command::Move { lease: Lease { room, .. }, .. },
        ) => {
            let before = known.epochs.insert(room.clone(), *epoch);
            format!("{owner}, {url}, {:?}, {has_snapshot}", before.map(|before| before.cmp(epoch)))
        }
        (Reply::Reasserted(epochs), Command::Reassert { leases, .. }) => {
            let mut compared = String::new();
            for (epoch, lease) in epochs.iter().zip(leases) {
                compared += &format!("{:?} ", epoch.map(|epoch| epoch.wrapping_sub(lease.epoch)));
                epoch.map(|epoch| known.epochs.insert(lease.room.clone(), epoch));
            }
            compared
        }
        // The stores have different clocks.
        (Reply::Snapshot(Some(snapshot)), _) => format!("{:?}", snapshot.bytes),
        (Reply::Nodes(Nodes { count, nodes, .. }), _) => {
            let of = |NodeReport { member, profile, .. }: &NodeReport| format!("{member}, {profile:?}; ");
            format!("{count} nodes: {}", nodes.iter().map(of).collect::<String>())
        }
        (reply, _) => format!("{reply:?}"),
    }
}

/// Waits until the time of Redis is past each epoch, as that of the table is, of which each step is later than the
/// last: an epoch is the time in milliseconds, unless that is not newer than the last one.
fn wait_past(known: &Known) {
    let newest = known.epochs.values().max().copied().unwrap_or_default();
    while SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() <= u128::from(newest) {
        thread::sleep(Duration::from_micros(100));
    }
}

#[test]
fn redis_and_the_table_give_the_same_answers() {
    const STEPS: u64 = 2_500;
    let Some(redis) = Redis::start("table", &[]) else { return };
    let first: u64 = std::env::var("STORE_SEED").ok().map_or(0, |seed| seed.parse().unwrap());
    let mut kinds = BTreeMap::<String, usize>::new();
    for seed in first..first + 4 {
        println!("STORE_SEED={seed}");
        let mut rng = ChaCha20Rng::seed_from_u64(seed);
        let mut asker = Asker::new(Store { prefix: format!("{{{seed}}}:"), ..redis.store() });
        let mut table = Table::new(seed);
        let (mut of_redis, mut of_table) = (Known::default(), Known::default());
        let mut current: Current = [Newest::NONE; 3];
        for step in 0..STEPS {
            let mut same_rng = rng.clone();
            let command = any_command(&mut rng, &current, &of_redis);
            let same = any_command(&mut same_rng, &current, &of_table);
            wait_past(&of_redis);
            let reply = asker.ask(command.clone()).unwrap_or_else(|| panic!("{step}: no answer to {command:?}"));
            let expected = table.apply(1_000_000 + step, same.clone());
            let (is, should_be) =
                (compared(&reply, &command, &mut of_redis), compared(&expected, &same, &mut of_table));
            assert_eq!(is, should_be, "step {step} of seed {seed}: {command:?}: {reply:?}, but {expected:?}");
            let kind = format!("{reply:?}").chars().take_while(|c| !c.is_ascii_digit()).take(26).collect();
            *kinds.entry(kind).or_default() += 1;
            let at = |member: &Member| usize::from(member.node.as_bytes()[0] - b'a');
            match (&command, &reply) {
                (Command::Renew { member, ttl_ms, .. }, Reply::Renewed { renewal: Renewal::Since(_), .. }) => {
                    let incarnation = member.incarnation;
                    current[at(member)] = Newest { incarnation, has_left: false, has_lapsed: *ttl_ms == 0 };
                }
                // Its name is free for a newer one.
                (Command::Leave { member }, _) if current[at(member)].incarnation == member.incarnation => {
                    current[at(member)].has_left = true;
                }
                _ => {}
            }
        }
    }
    println!("{kinds:#?}");
}
