//! The store in the parent of a machine's nodes: a table in its memory, which answers as Redis does with the script.
//!
//! The nodes end with their parent, so the table knows all rooms from its beginning, and need not wait for owners that
//! claim theirs.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use redis::{Parser, Value};

use super::codec;
use crate::cluster::Table;
use crate::cluster::store::{Command, Member, Renewal, Reply};
use crate::driver::unix_time;
use crate::limits::SNAPSHOT_BYTES;
use crate::wire::signaling::RoomName;

/// Bytes of a request, which may have saved rooms.
const REQUEST_BYTES: u64 = 1024 * 1024 + SNAPSHOT_BYTES as u64;
const ERROR: &str = "ERR the parent of nodes carries out the commands of its nodes alone";

/// The table, and what is known of the nodes.
#[derive(Debug)]
pub(in crate::driver) struct Keeper(Mutex<Kept>);

#[derive(Debug)]
struct Kept {
    table: Table,
    /// The process that has the name of each node.
    members: BTreeMap<Arc<str>, Member>,
}

impl Keeper {
    pub(in crate::driver) fn new(seed: u64) -> Keeper {
        Keeper(Mutex::new(Kept { table: Table::new(seed), members: BTreeMap::new() }))
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The name of the node that has the room.
    pub(in crate::driver) fn owner(&self, room: &RoomName) -> Option<Arc<str>> {
        self.kept().table.owner(room).map(|(owner, _)| owner.node.clone())
    }

    /// How busy each node is that takes rooms, by name.
    pub(in crate::driver) fn loads(&self) -> Vec<(String, f64)> {
        let kept = self.kept();
        let nodes = kept.table.nodes(now()).filter(|(_, profile)| profile.takes_rooms);
        nodes.map(|(name, profile)| (name.to_owned(), profile.load)).collect()
    }

    /// The process that has this name has ended: its rooms are free.
    pub(in crate::driver) fn forget(&self, node: &str) {
        let mut kept = self.kept();
        if let Some(member) = kept.members.remove(node) {
            kept.table.apply(now(), Command::Leave { member });
        }
    }

    /// Answers on a connection of the node with this name, on a thread of its own, until the other end closes it or
    /// sends what is no request.
    pub(in crate::driver) fn serve(self: &Arc<Keeper>, node: &str, mut stream: UnixStream) -> io::Result<()> {
        let (keeper, node) = (Arc::clone(self), Arc::<str>::from(node));
        let serve = move || {
            let mut parser = Parser::new();
            loop {
                let mut limited = (&stream).take(REQUEST_BYTES);
                let answer = match parser.parse_value(&mut limited) {
                    Ok(request) => keeper.answer(&node, request),
                    Err(error) if limited.limit() == REQUEST_BYTES && error.is_io_error() => return,
                    Err(error) => {
                        log::warn!("node {node} has sent the store what can't be read: {error}");
                        return;
                    }
                };
                if stream.write_all(&answer).is_err() {
                    return;
                }
            }
        };
        thread::Builder::new().name("store".to_owned()).spawn(serve).map(drop)
    }

    fn answer(&self, node: &Arc<str>, request: Value) -> Vec<u8> {
        let command = arguments(request).and_then(|arguments| match &*arguments {
            [name, _script, _one, _prefix, arguments @ ..] if name == b"EVALSHA" => codec::read_command(arguments),
            _ => None,
        });
        match command.filter(|command| member(command).is_none_or(|member| member.node == *node)) {
            Some(command) => codec::write_reply(&self.apply(command)),
            None => format!("-{ERROR}\r\n").into_bytes(),
        }
    }

    fn apply(&self, mut command: Command) -> Reply {
        if let Command::Acquire { grace_ms, .. } = &mut command {
            *grace_ms = 0;
        }
        let renewed = match &command {
            Command::Renew { member, .. } => Some(member.clone()),
            _ => None,
        };
        let mut kept = self.kept();
        let reply = kept.table.apply(now(), command);
        if let (Some(member), Reply::Renewed { renewal: Renewal::Since(_), .. }) = (renewed, &reply) {
            kept.members.insert(member.node.clone(), member);
        }
        reply
    }
}

/// The node that asks.
fn member(command: &Command) -> Option<&Member> {
    match command {
        Command::Renew { member, .. }
        | Command::Acquire { member, .. }
        | Command::Reassert { member, .. }
        | Command::Release { member, .. }
        | Command::Move { member, .. }
        | Command::SaveSnapshots { member, .. }
        | Command::Publish { member, .. }
        | Command::ListRooms { member }
        | Command::Leave { member } => Some(member),
        Command::SaveSessions { .. }
        | Command::FindSession { .. }
        | Command::FindSnapshot { .. }
        | Command::ListNodes => None,
    }
}

fn arguments(request: Value) -> Option<Vec<Vec<u8>>> {
    let Value::Array(parts) = request else { return None };
    parts.into_iter().map(|part| if let Value::BulkString(bytes) = part { Some(bytes) } else { None }).collect()
}

fn now() -> u64 {
    u64::try_from(unix_time().as_millis()).unwrap_or(u64::MAX)
}
