//! Commands as arguments of the script, and its answers.

use redis::{Cmd, Value};

use crate::cluster::listing;
use crate::cluster::store::{
    Command, Lease, Member, NodeReport, Nodes, Placement, Profile, Renewal, Reply, SessionUpdate, StoredSession,
};
use crate::limits::{LISTED_BYTES, LISTED_NODES, LISTING_NODES, SUBJECT_BYTES};
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
        Command::Reassert { member, leases } => write_leases(call, "reassert", member, leases),
        Command::Release { member, leases } => write_leases(call, "release", member, leases),
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
            call.arg("publish").arg(member.to_string()).arg(*ttl_ms).arg(listing::write(rooms));
        }
        Command::ListRooms { member } => {
            call.arg("rooms").arg(member.to_string()).arg(LISTED_BYTES).arg(LISTING_NODES);
        }
        Command::ListNodes => _ = call.arg("nodes").arg(LISTED_NODES),
    }
}

fn write_leases(call: &mut Cmd, name: &str, member: &Member, leases: &[Lease]) {
    call.arg(name).arg(member.to_string());
    for Lease { room, epoch } in leases {
        call.arg(room.as_str()).arg(*epoch);
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
        (Command::Acquire { .. }, &[b"recovering"]) => Reply::Acquired(Placement::Recovering),
        (Command::Acquire { .. }, &[b"full"]) => Reply::Acquired(Placement::Full),
        (Command::Acquire { .. }, &[b"at", owner, url, epoch]) => Reply::Acquired(Placement::At {
            owner: member(owner)?,
            url: text(url, URL_BYTES)?.to_owned(),
            epoch: number(epoch)?,
        }),
        (Command::Reassert { leases, .. }, epochs) if epochs.len() == leases.len() => {
            Reply::Reasserted(epochs.iter().map(|epoch| optional(epoch, number)).collect::<Option<_>>()?)
        }
        (Command::FindSession { .. }, &[]) => Reply::Session(None),
        (Command::FindSession { .. }, &[room, user, token, former]) => Reply::Session(Some(StoredSession {
            room: RoomName::parse(text(room, usize::MAX)?)?,
            user_id: optional(user, |user| text(user, 1 + SUBJECT_BYTES)?.strip_prefix(':').map(str::to_owned))?,
            tokens: [optional(token, digest)?, optional(former, digest)?],
        })),
        (Command::ListRooms { .. }, texts) => Reply::Rooms(listing::read(texts)),
        (Command::ListNodes, &[store_time, count, ref nodes @ ..]) if nodes.len() % NODE_PARTS == 0 => {
            let nodes: Option<Vec<NodeReport>> = nodes.chunks(NODE_PARTS).map(node).collect();
            let mut nodes = nodes?;
            nodes.sort_by(|one, other| one.member.cmp(&other.member));
            Reply::Nodes(Nodes { store_time: number(store_time)?, count: number(count)?.try_into().ok()?, nodes })
        }
        (
            Command::Release { .. } | Command::Leave { .. } | Command::SaveSessions { .. } | Command::Publish { .. },
            &[],
        ) => Reply::Done,
        _ => return None,
    };
    Some(reply)
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

fn member(bytes: &[u8]) -> Option<Member> {
    let (node, incarnation) = text(bytes, NODE_BYTES + 17)?.rsplit_once('#')?;
    Some(Member { node: node.into(), incarnation: u64::from_str_radix(incarnation, 16).ok()? })
}
