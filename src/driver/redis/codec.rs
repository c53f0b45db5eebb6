//! Commands as arguments of the script, and its answers.

use redis::{Cmd, Value};

use crate::cluster::store::{Command, Lease, Member, Placement, Profile, Renewal, Reply, SessionUpdate, StoredSession};
#[cfg(target_os = "linux")]
use crate::limits::LEASES_PER_COMMAND;
use crate::limits::SUBJECT_BYTES;
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
        (Command::FindSession { .. }, &[room, user, token, former]) => {
            Reply::Session(Some(read_session(room, user, token, former)?))
        }
        (Command::Release { .. } | Command::Leave { .. } | Command::SaveSessions { .. }, &[]) => Reply::Done,
        _ => return None,
    };
    Some(reply)
}

/// Reads the arguments of a command; `None` if they can't be those of one.
#[cfg(target_os = "linux")]
pub(super) fn read_command(arguments: &[Vec<u8>]) -> Option<Command> {
    let arguments: Vec<&[u8]> = arguments.iter().map(Vec::as_slice).collect();
    let command = match *arguments {
        [b"renew", of, ttl_ms, takes_over, secret, url, region, load, takes_rooms, rooms, players] => Command::Renew {
            member: member(of)?,
            profile: Profile {
                url: text(url, URL_BYTES)?.to_owned(),
                region: text(region, usize::MAX)?.to_owned(),
                load: text(load, usize::MAX)?.parse().ok()?,
                takes_rooms: flag(takes_rooms)?,
                rooms: number(rooms)?.try_into().ok()?,
                players: number(players)?.try_into().ok()?,
            },
            ttl_ms: number(ttl_ms)?,
            takes_over: flag(takes_over)?,
            secret: secret.try_into().ok()?,
        },
        [b"acquire", room, of, keeps, falls_back, region, grace_ms] => Command::Acquire {
            room: room_name(room)?,
            member: member(of)?,
            keeps: flag(keeps)?,
            falls_back: flag(falls_back)?,
            region: text(region, usize::MAX)?.to_owned(),
            grace_ms: number(grace_ms)?,
        },
        [b"reassert", of, ref leases @ ..] => Command::Reassert { member: member(of)?, leases: read_leases(leases)? },
        [b"release", of, ref leases @ ..] => Command::Release { member: member(of)?, leases: read_leases(leases)? },
        [b"leave", of] => Command::Leave { member: member(of)? },
        [b"save", ttl_ms, ref updates @ ..] if updates.len() <= LEASES_PER_COMMAND * 6 => {
            let (updates, []) = updates.as_chunks::<6>() else { return None };
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
            Command::SaveSessions {
                updates: updates.iter().map(update).collect::<Option<_>>()?,
                ttl_ms: number(ttl_ms)?,
            }
        }
        [b"find", socket_id] => Command::FindSession { socket_id: text(socket_id, usize::MAX)?.to_owned() },
        _ => return None,
    };
    Some(command)
}

#[cfg(target_os = "linux")]
fn read_leases(leases: &[&[u8]]) -> Option<Vec<Lease>> {
    let (leases, []) = leases.as_chunks::<2>() else { return None };
    if leases.len() > LEASES_PER_COMMAND {
        return None;
    }
    leases.iter().map(|[room, epoch]| Some(Lease { room: room_name(room)?, epoch: number(epoch)? })).collect()
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
        Reply::Acquired(Placement::At { owner, url, epoch }) => {
            vec![b"at".to_vec(), owner.to_string().into_bytes(), url.clone().into_bytes(), number(epoch)]
        }
        Reply::Reasserted(epochs) => epochs.iter().map(|epoch| epoch.as_ref().map_or(Vec::new(), number)).collect(),
        Reply::Session(None) | Reply::Done => Vec::new(),
        Reply::Session(Some(StoredSession { room, user_id, tokens })) => {
            let user = user_id.as_ref().map_or(String::new(), |id| format!(":{id}"));
            let token = |token: &Option<[u8; 32]>| token.map_or(Vec::new(), |token| token.to_vec());
            vec![room.as_str().into(), user.into_bytes(), token(&tokens[0]), token(&tokens[1])]
        }
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

fn room_name(bytes: &[u8]) -> Option<RoomName> {
    RoomName::parse(text(bytes, usize::MAX)?)
}

fn digest(bytes: &[u8]) -> Option<[u8; 32]> {
    bytes.try_into().ok()
}

fn member(bytes: &[u8]) -> Option<Member> {
    let (node, incarnation) = text(bytes, NODE_BYTES + 17)?.rsplit_once('#')?;
    Some(Member { node: node.into(), incarnation: u64::from_str_radix(incarnation, 16).ok()? })
}
