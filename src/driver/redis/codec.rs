//! Commands as arguments of the script, and its answers.

use redis::{Cmd, Value};

use crate::cluster::store::{
    Command, Lease, Member, Placement, Profile, Release, Renewal, Reply, SessionUpdate, Snapshot, StoredSession,
};
use crate::limits::{SNAPSHOT_BYTES, SUBJECT_BYTES};
use crate::wire::signaling::RoomName;

/// Bytes of a node's name and of its URL that are taken from the store.
const NODE_BYTES: usize = 64;
const URL_BYTES: usize = 2_048;

/// Adds the arguments of a command.
pub(super) fn write(call: &mut Cmd, command: &Command) {
    match command {
        Command::Renew { member, profile, ttl_ms, takes_over, secret } => {
            let Profile { url, region, load, takes_rooms, rooms, players } = profile;
            call.arg("renew").arg(member.to_string()).arg(*ttl_ms).arg(u8::from(*takes_over)).arg(secret);
            call.arg(url).arg(region).arg(*load).arg(u8::from(*takes_rooms)).arg(*rooms).arg(*players);
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
        (Command::FindSession { .. }, &[room, user, token, former]) => Reply::Session(Some(StoredSession {
            room: RoomName::parse(text(room, usize::MAX)?)?,
            user_id: optional(user, |user| text(user, 1 + SUBJECT_BYTES)?.strip_prefix(':').map(str::to_owned))?,
            tokens: [optional(token, digest)?, optional(former, digest)?],
        })),
        (
            Command::Release { .. }
            | Command::Leave { .. }
            | Command::SaveSessions { .. }
            | Command::SaveSnapshots { .. },
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

fn member(bytes: &[u8]) -> Option<Member> {
    let (node, incarnation) = text(bytes, NODE_BYTES + 17)?.rsplit_once('#')?;
    Some(Member { node: node.into(), incarnation: u64::from_str_radix(incarnation, 16).ok()? })
}
