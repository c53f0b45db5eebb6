//! Commands as arguments of the script, and its answers.

use redis::{Cmd, Value};

use crate::cluster::listing;
use crate::cluster::store::{
    Command, Lease, Member, NodeReport, Nodes, Placement, Profile, Release, Renewal, Reply, SessionUpdate, Snapshot,
    StoredSession,
};
#[cfg(target_os = "linux")]
use crate::limits::LEASES_PER_COMMAND;
use crate::limits::{LISTED_BYTES, LISTED_NODES, LISTING_BYTES, LISTING_NODES, SNAPSHOT_BYTES, SUBJECT_BYTES};
use crate::wire::signaling::RoomName;

/// Bytes of a node's name and of its URL that are taken from the store.
const NODE_BYTES: usize = 64;
const URL_BYTES: usize = 2_048;
/// Values of a node among the nodes.
const NODE_PARTS: usize = 10;

/// Adds the arguments of a command.
pub(super) fn write(call: &mut Cmd, command: &Command) {
    match command {
        Command::Renew { member, profile, ttl_ms, takes_over, secret } => {
            let Profile { url, region, load, takes_rooms, is_draining, rooms, players } = profile;
            call.arg("renew").arg(member.to_string()).arg(*ttl_ms).arg(u8::from(*takes_over)).arg(secret);
            call.arg(url).arg(region).arg(*load).arg(u8::from(*takes_rooms)).arg(u8::from(*is_draining));
            call.arg(*rooms).arg(*players);
        }
        Command::Acquire { room, member, keeps, falls_back, region, grace_ms } => {
            call.arg("acquire").arg(room.as_str()).arg(member.to_string());
            call.arg(u8::from(*keeps)).arg(u8::from(*falls_back)).arg(region).arg(*grace_ms);
        }
        Command::Reassert { member, leases } => {
            call.arg("reassert").arg(member.to_string());
            leases.iter().for_each(|Lease { room, epoch }| _ = call.arg(room.as_str()).arg(*epoch));
        }
        Command::Release { member, leases } => {
            call.arg("release").arg(member.to_string());
            for Release { lease, has_ended } in leases {
                call.arg(lease.room.as_str()).arg(lease.epoch).arg(u8::from(*has_ended));
            }
        }
        Command::Move { member, lease, region, snapshot, ttl_ms } => {
            call.arg("move").arg(member.to_string()).arg(lease.room.as_str()).arg(lease.epoch);
            call.arg(region).arg(&**snapshot).arg(*ttl_ms);
        }
        Command::SaveSnapshots { member, snapshots, ttl_ms } => {
            call.arg("snapshots").arg(member.to_string()).arg(*ttl_ms);
            for (Lease { room, epoch }, bytes) in snapshots {
                call.arg(room.as_str()).arg(*epoch).arg(&**bytes);
            }
        }
        Command::FindSnapshot { room } => _ = call.arg("snapshot").arg(room.as_str()),
        Command::Leave { member } => _ = call.arg("leave").arg(member.to_string()),
        Command::SaveSessions { updates, ttl_ms } => {
            call.arg("save").arg(*ttl_ms);
            for SessionUpdate { socket_id, epoch, session } in updates {
                call.arg(socket_id).arg(*epoch);
                match session {
                    None => _ = call.arg("").arg("").arg("").arg(""),
                    Some(StoredSession { room, user_id, tokens }) => {
                        // A user ID may be empty.
                        let user = user_id.as_ref().map_or(String::new(), |id| format!(":{id}"));
                        call.arg(room.as_str()).arg(user);
                        tokens.iter().for_each(|token| _ = call.arg(token.as_ref().map_or(&[][..], |token| token)));
                    }
                }
            }
        }
        Command::FindSession { socket_id } => _ = call.arg("find").arg(socket_id),
        Command::Publish { member, rooms, ttl_ms } => {
            call.arg("publish").arg(member.to_string()).arg(*ttl_ms).arg(listing::write(rooms, LISTING_BYTES));
        }
        Command::ListRooms { member } => {
            call.arg("rooms").arg(member.to_string()).arg(LISTED_BYTES).arg(LISTING_NODES);
        }
        Command::ListNodes => _ = call.arg("nodes").arg(LISTED_NODES),
    }
}

/// Reads the answer to a command; `None` if it can't be one.
pub(super) fn read(command: &Command, answer: Value) -> Option<Reply> {
    let Value::Array(parts) = answer else { return None };
    let parts: Option<Vec<Vec<u8>>> = parts.into_iter().map(bytes).collect();
    let parts = parts?;
    let parts: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
    let reply = match (command, &*parts) {
        (Command::Renew { .. }, &[secret, store_time, since]) => Reply::Renewed {
            renewal: optional(since, number)?.map_or(Renewal::Taken, Renewal::Since),
            secret: secret.try_into().ok()?,
            store_time: number(store_time)?,
        },
        (Command::Acquire { .. } | Command::Move { .. }, &[b"recovering"]) => Reply::Acquired(Placement::Recovering),
        (Command::Acquire { .. } | Command::Move { .. }, &[b"full"]) => Reply::Acquired(Placement::Full),
        (Command::Acquire { .. } | Command::Move { .. }, &[b"at", owner, url, epoch, has_snapshot]) => {
            Reply::Acquired(Placement::At {
                owner: member(owner)?,
                url: text(url, URL_BYTES)?.to_owned(),
                epoch: number(epoch)?,
                has_snapshot: has_snapshot == b"1",
            })
        }
        (Command::FindSnapshot { .. }, &[]) => Reply::Snapshot(None),
        (Command::FindSnapshot { .. }, &[age_ms, bytes]) if bytes.len() <= SNAPSHOT_BYTES => {
            Reply::Snapshot(Some(Snapshot { bytes: bytes.to_vec(), age_ms: number(age_ms)? }))
        }
        (Command::Reassert { leases, .. }, epochs) if epochs.len() == leases.len() => {
            Reply::Reasserted(epochs.iter().map(|epoch| optional(epoch, number)).collect::<Option<_>>()?)
        }
        (Command::FindSession { .. }, &[]) => Reply::Session(None),
        (Command::FindSession { .. }, &[room, user, token, former]) => {
            Reply::Session(Some(read_session(room, user, token, former)?))
        }
        (Command::ListRooms { .. }, texts) => Reply::Rooms(listing::read(texts)),
        (Command::ListNodes, &[store_time, count, ref nodes @ ..]) if nodes.len() % NODE_PARTS == 0 => {
            let nodes: Option<Vec<NodeReport>> = nodes.chunks(NODE_PARTS).map(node).collect();
            let mut nodes = nodes?;
            nodes.sort_by(|one, other| one.member.cmp(&other.member));
            Reply::Nodes(Nodes { store_time: number(store_time)?, count: number(count)?.try_into().ok()?, nodes })
        }
        (
            Command::Release { .. }
            | Command::Leave { .. }
            | Command::SaveSessions { .. }
            | Command::SaveSnapshots { .. }
            | Command::Publish { .. },
            &[],
        ) => Reply::Done,
        _ => return None,
    };
    Some(reply)
}

/// Reads the arguments of a command; `None` if they can't be those of one.
#[cfg(target_os = "linux")]
pub(super) fn read_command(arguments: &[Vec<u8>]) -> Option<Command> {
    let arguments: Vec<&[u8]> = arguments.iter().map(Vec::as_slice).collect();
    let command = match *arguments {
        [b"renew", of, ttl_ms, takes_over, secret, url, region, load, takes_rooms, draining, rooms, players] => {
            Command::Renew {
                member: member(of)?,
                profile: Profile {
                    url: text(url, URL_BYTES)?.to_owned(),
                    region: text(region, usize::MAX)?.to_owned(),
                    load: text(load, usize::MAX)?.parse().ok()?,
                    takes_rooms: flag(takes_rooms)?,
                    is_draining: flag(draining)?,
                    rooms: number(rooms)?.try_into().ok()?,
                    players: number(players)?.try_into().ok()?,
                },
                ttl_ms: number(ttl_ms)?,
                takes_over: flag(takes_over)?,
                secret: secret.try_into().ok()?,
            }
        }
        [b"acquire", room, of, keeps, falls_back, region, grace_ms] => Command::Acquire {
            room: leased(room)?,
            member: member(of)?,
            keeps: flag(keeps)?,
            falls_back: flag(falls_back)?,
            region: text(region, usize::MAX)?.to_owned(),
            grace_ms: number(grace_ms)?,
        },
        [b"reassert", of, ref leases @ ..] => {
            Command::Reassert { member: member(of)?, leases: read_each(leases, |&[room, epoch]| lease(room, epoch))? }
        }
        [b"release", of, ref leases @ ..] => {
            let release = |&[room, epoch, has_ended]: &[&[u8]; 3]| {
                Some(Release { lease: lease(room, epoch)?, has_ended: flag(has_ended)? })
            };
            Command::Release { member: member(of)?, leases: read_each(leases, release)? }
        }
        [b"move", of, room, epoch, region, snapshot, ttl_ms] => Command::Move {
            member: member(of)?,
            lease: lease(room, epoch)?,
            region: text(region, usize::MAX)?.to_owned(),
            snapshot: read_snapshot(snapshot)?,
            ttl_ms: number(ttl_ms)?,
        },
        [b"snapshots", of, ttl_ms, ref snapshots @ ..] => {
            let snapshot = |&[room, epoch, bytes]: &[&[u8]; 3]| Some((lease(room, epoch)?, read_snapshot(bytes)?));
            let snapshots = snapshots.chunks(3).map(|of| snapshot(of.try_into().ok()?)).collect::<Option<_>>()?;
            Command::SaveSnapshots { member: member(of)?, snapshots, ttl_ms: number(ttl_ms)? }
        }
        [b"snapshot", room] => Command::FindSnapshot { room: room_name(room)? },
        [b"leave", of] => Command::Leave { member: member(of)? },
        [b"save", ttl_ms, ref updates @ ..] => {
            let update = |&[socket_id, epoch, room, user, token, former]: &[&[u8]; 6]| {
                let session = match room {
                    [] => None,
                    room => Some(read_session(room, user, token, former)?),
                };
                Some(SessionUpdate {
                    socket_id: text(socket_id, usize::MAX)?.to_owned(),
                    epoch: number(epoch)?,
                    session,
                })
            };
            Command::SaveSessions { updates: read_each(updates, update)?, ttl_ms: number(ttl_ms)? }
        }
        [b"find", socket_id] => Command::FindSession { socket_id: text(socket_id, usize::MAX)?.to_owned() },
        [b"publish", of, ttl_ms, rooms] => Command::Publish {
            member: member(of)?,
            rooms: listing::read_all(text(rooms, LISTING_BYTES)?)?,
            ttl_ms: number(ttl_ms)?,
        },
        // The limits are the same in all processes of this program.
        [b"rooms", of, _bytes, _nodes] => Command::ListRooms { member: member(of)? },
        [b"nodes", _count] => Command::ListNodes,
        _ => return None,
    };
    Some(command)
}

#[cfg(target_os = "linux")]
fn read_each<T, const N: usize>(arguments: &[&[u8]], read: impl Fn(&[&[u8]; N]) -> Option<T>) -> Option<Vec<T>> {
    let (each, []) = arguments.as_chunks::<N>() else { return None };
    (each.len() <= LEASES_PER_COMMAND).then(|| each.iter().map(read).collect())?
}

#[cfg(target_os = "linux")]
fn lease(room: &[u8], epoch: &[u8]) -> Option<Lease> {
    Some(Lease { room: leased(room)?, epoch: number(epoch)? })
}

#[cfg(target_os = "linux")]
fn read_snapshot(bytes: &[u8]) -> Option<Vec<u8>> {
    (bytes.len() <= SNAPSHOT_BYTES).then(|| bytes.to_vec())
}

/// Returns an answer as the script in Redis gives it.
#[cfg(target_os = "linux")]
pub(super) fn write_reply(reply: &Reply) -> Vec<u8> {
    let number = |number: &u64| number.to_string().into_bytes();
    let parts: Vec<Vec<u8>> = match reply {
        Reply::Renewed { renewal, secret, store_time } => {
            let since = if let Renewal::Since(since) = renewal { number(since) } else { Vec::new() };
            vec![secret.to_vec(), number(store_time), since]
        }
        Reply::Acquired(Placement::Recovering) => vec![b"recovering".to_vec()],
        Reply::Acquired(Placement::Full) => vec![b"full".to_vec()],
        Reply::Acquired(Placement::At { owner, url, epoch, has_snapshot }) => vec![
            b"at".to_vec(),
            owner.to_string().into_bytes(),
            url.clone().into_bytes(),
            number(epoch),
            number(&u64::from(*has_snapshot)),
        ],
        Reply::Reasserted(epochs) => epochs.iter().map(|epoch| epoch.as_ref().map_or(Vec::new(), number)).collect(),
        Reply::Session(None) | Reply::Snapshot(None) | Reply::Done => Vec::new(),
        Reply::Snapshot(Some(Snapshot { bytes, age_ms })) => vec![number(age_ms), bytes.clone()],
        Reply::Session(Some(StoredSession { room, user_id, tokens })) => {
            let user = user_id.as_ref().map_or(String::new(), |id| format!(":{id}"));
            let token = |token: &Option<[u8; 32]>| token.map_or(Vec::new(), |token| token.to_vec());
            vec![room.as_str().into(), user.into_bytes(), token(&tokens[0]), token(&tokens[1])]
        }
        Reply::Rooms(rooms) => vec![listing::write(rooms, LISTED_BYTES).into_bytes()],
        Reply::Nodes(Nodes { store_time, count, nodes }) => {
            let head = [number(store_time), number(&(*count as u64))];
            head.into_iter().chain(nodes.iter().flat_map(write_node)).collect()
        }
        Reply::Refused => return b"-ERR refused\r\n".to_vec(),
    };
    let mut bytes = format!("*{}\r\n", parts.len()).into_bytes();
    for part in parts {
        bytes.extend(format!("${}\r\n", part.len()).into_bytes());
        bytes.extend(part);
        bytes.extend(b"\r\n");
    }
    bytes
}

fn read_session(room: &[u8], user: &[u8], token: &[u8], former: &[u8]) -> Option<StoredSession> {
    Some(StoredSession {
        room: room_name(room)?,
        user_id: optional(user, |user| text(user, 1 + SUBJECT_BYTES)?.strip_prefix(':').map(str::to_owned))?,
        tokens: [optional(token, digest)?, optional(former, digest)?],
    })
}

fn bytes(value: Value) -> Option<Vec<u8>> {
    match value {
        Value::BulkString(bytes) => Some(bytes),
        _ => None,
    }
}

/// Reads what may be left out: then it is empty.
fn optional<T>(bytes: &[u8], read: impl FnOnce(&[u8]) -> Option<T>) -> Option<Option<T>> {
    if bytes.is_empty() { Some(None) } else { read(bytes).map(Some) }
}

fn text(bytes: &[u8], longest: usize) -> Option<&str> {
    std::str::from_utf8(bytes).ok().filter(|text| text.len() <= longest)
}

fn number(bytes: &[u8]) -> Option<u64> {
    text(bytes, usize::MAX)?.parse().ok()
}

#[cfg(target_os = "linux")]
fn flag(bytes: &[u8]) -> Option<bool> {
    match bytes {
        b"0" => Some(false),
        b"1" => Some(true),
        _ => None,
    }
}

#[cfg(target_os = "linux")]
fn leased(bytes: &[u8]) -> Option<RoomName> {
    RoomName::parse_leased(text(bytes, usize::MAX)?)
}

fn room_name(bytes: &[u8]) -> Option<RoomName> {
    RoomName::parse(text(bytes, usize::MAX)?)
}

fn digest(bytes: &[u8]) -> Option<[u8; 32]> {
    bytes.try_into().ok()
}

fn node(parts: &[&[u8]]) -> Option<NodeReport> {
    let &[of, since, until, url, region, load, takes_rooms, draining, rooms, players] = parts else { return None };
    let profile = Profile {
        url: text(url, URL_BYTES)?.to_owned(),
        region: text(region, usize::MAX)?.to_owned(),
        load: text(load, usize::MAX)?.parse().ok()?,
        takes_rooms: takes_rooms == b"1",
        is_draining: draining == b"1",
        rooms: number(rooms)?.try_into().ok()?,
        players: number(players)?.try_into().ok()?,
    };
    Some(NodeReport { member: member(of)?, profile, since: number(since)?, until: number(until)? })
}

#[cfg(target_os = "linux")]
fn write_node(NodeReport { member, profile, since, until }: &NodeReport) -> [Vec<u8>; NODE_PARTS] {
    let Profile { url, region, load, takes_rooms, is_draining, rooms, players } = profile;
    [
        member.to_string(),
        since.to_string(),
        until.to_string(),
        url.clone(),
        region.clone(),
        load.to_string(),
        u8::from(*takes_rooms).to_string(),
        u8::from(*is_draining).to_string(),
        rooms.to_string(),
        players.to_string(),
    ]
    .map(String::into_bytes)
}

fn member(bytes: &[u8]) -> Option<Member> {
    let (node, incarnation) = text(bytes, NODE_BYTES + 17)?.rsplit_once('#')?;
    Some(Member { node: node.into(), incarnation: u64::from_str_radix(incarnation, 16).ok()? })
}
