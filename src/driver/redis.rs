//! The store of a cluster in Redis (6.2 or later, or Valkey), on a thread of its own.
//!
//! The loop only queues requests, within a limit. The thread sends those that wait in one batch, each as a call of the
//! same script, and returns the answers. A connection on which an answer was late is closed, so that no answer is taken
//! for that of another request.
//!
//! | key, after `{NAME}:` | value |
//! |---|---|
//! | `node:NODE` | a hash: the process that has the node's name, its lease, and what others know about it |
//! | `nodes` | a set: the names of all nodes |
//! | `places`, `places:REGION` | sets: the names of those that take rooms |
//! | `listing` | a set: the names of those that list rooms |
//! | `listing:NODE#INCARNATION` | the rooms that a process lists: a line each |
//! | `room:ROOM` | a hash: the owner of the room, and the epoch of its lease |
//! | `rooms:NODE#INCARNATION` | a set: the rooms of a process |
//! | `ended` | a set: processes that have ended, and whose rooms are yet to be forgotten |
//! | `session:SOCKETID` | a hash: a player's session |
//! | `snapshot:ROOM` | a hash: the snapshot of a room, and when it was saved |
//! | `epoch` | the newest epoch of any room |
//! | `secret` | the key of tickets |
//! | `begun` | when the store was first used since it has been empty |

mod codec;
mod connection;
#[cfg(target_os = "linux")]
mod keeper;

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender, TrySendError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use redis::{Cmd, ConnectionAddr, ConnectionInfo, IntoConnectionInfo, Script, ServerErrorKind, Value};

pub(super) use self::connection::Cause;
use self::connection::{Connection, Failure};
#[cfg(target_os = "linux")]
pub(super) use self::keeper::Keeper;
#[cfg(target_os = "linux")]
use super::link::Link;
use crate::cluster::Request;
use crate::cluster::store::{Command, Nodes, Reply};
use crate::limits::STORE_REQUESTS;
use crate::log_limit::Throttle;

/// How long it may take to connect, and to answer a batch.
const PATIENCE: Duration = Duration::from_millis(500);
/// Requests in one batch.
const BATCH: usize = 64;
/// The shortest and the longest wait before the next attempt to connect.
const RETRY: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(2));
/// How long a stopping server waits for the store.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(1);
const SCRIPT: &str = include_str!("redis/store.lua");
const LOG: Throttle = Throttle::new(10, Duration::from_secs(30));

/// Where the nodes of a cluster agree.
#[derive(Clone)]
pub struct Store {
    place: Place,
    /// The prefix of all keys: a hash tag, so that they are in one slot of a Redis Cluster.
    prefix: String,
}

#[derive(Clone)]
enum Place {
    Redis(Box<ConnectionInfo>),
    /// The parent process, which answers as Redis.
    #[cfg(target_os = "linux")]
    Parent(Link),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Redis(info) => write!(f, "Redis at {}", info.addr()),
            #[cfg(target_os = "linux")]
            Place::Parent(_) => f.write_str("the parent process"),
        }
    }
}

impl Store {
    /// Returns the store of the parent process.
    #[cfg(target_os = "linux")]
    pub(crate) fn of_parent(link: Link) -> Store {
        Store { place: Place::Parent(link), prefix: String::new() }
    }

    /// Returns the store at `url`, as in `redis://user:password@host:6379/0`, or `rediss://` with TLS, or
    /// `unix:///path?db=0`. `cluster` is the name of the cluster, 1 to 64 letters, digits, `-`, `.` and `_`.
    ///
    /// # Errors
    /// A sentence, without the password.
    pub fn new(url: &str, cluster: &str) -> Result<Store, String> {
        let is_of_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
        if !(1..=64).contains(&cluster.len()) || !cluster.bytes().all(is_of_name) {
            return Err("the name of the cluster must have 1 to 64 letters, digits, -, . and _: set it with --cluster"
                .to_owned());
        }
        let info = url.trim().into_connection_info().map_err(|_| {
            "the URL of Redis can't be read: write it as in redis://user:password@host:6379/0".to_owned()
        })?;
        if matches!(info.addr(), ConnectionAddr::TcpTls { insecure: true, .. }) {
            return Err("the certificate of Redis has to be verified: write its URL without #insecure".to_owned());
        }
        Ok(Store { place: Place::Redis(Box::new(info)), prefix: format!("{{{cluster}}}:") })
    }

    /// Asks Redis for the nodes of the cluster, for a second at most.
    ///
    /// # Errors
    /// A sentence, without the password.
    pub(crate) fn nodes(&self) -> Result<Nodes, String> {
        let mut clerk = Clerk::new(self.clone(), Arc::default());
        let answered = clerk.ask(&[Request { id: 0, command: Command::ListNodes }]);
        let sentence = match answered.map(|mut replies| replies.pop()) {
            Ok(Some(Reply::Nodes(nodes))) => return Ok(nodes),
            Ok(_) => clerk.told.take().unwrap_or_default(),
            Err(Failure { sentence, .. }) => sentence,
        };
        Err(format!("{} can't be asked: {sentence}", self.place))
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store")
            .field("place", &self.place.to_string())
            .field("prefix", &self.prefix)
            .finish_non_exhaustive()
    }
}

/// What the thread has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Figures {
    pub(super) is_connected: bool,
    /// Connections made.
    pub(super) connections: u64,
    /// Requests that were carried out.
    pub(super) answered: u64,
    /// Those that were not, by [`Cause::ALL`].
    pub(super) failed: [u64; Cause::ALL.len()],
    /// Batches answered, and the time that took.
    pub(super) batches: u64,
    pub(super) waited: Duration,
}

#[derive(Debug, Default)]
struct Shared {
    is_connected: AtomicBool,
    connections: AtomicU64,
    answered: AtomicU64,
    failed: [AtomicU64; Cause::ALL.len()],
    batches: AtomicU64,
    waited_us: AtomicU64,
    is_leaving: AtomicBool,
}

impl Shared {
    fn count_failed(&self, cause: Cause, requests: usize) {
        self.failed[cause as usize].fetch_add(requests as u64, Ordering::Relaxed);
    }
}

/// The loop's end.
pub(super) struct Agent {
    shared: Arc<Shared>,
    requests: Option<SyncSender<Request>>,
    replies: Receiver<(u64, Option<Reply>)>,
    /// Answers that were taken from the thread, and failures of requests that it never got.
    taken: VecDeque<(u64, Option<Reply>)>,
    thread: Option<JoinHandle<()>>,
}

impl Agent {
    /// `wake` is called when there are answers.
    ///
    /// # Errors
    /// The OS refuses a thread.
    pub(super) fn start(store: Store, wake: impl Fn() + Send + 'static) -> io::Result<Agent> {
        let shared = Arc::new(Shared::default());
        let (requests, waiting) = mpsc::sync_channel(STORE_REQUESTS);
        let (answers, replies) = mpsc::channel();
        let mut clerk = Clerk::new(store, Arc::clone(&shared));
        let thread = thread::Builder::new().name("store".to_owned()).spawn(move || {
            while let Some(batch) = next_batch(&waiting) {
                let replies = clerk.carry_out(&batch);
                for (request, reply) in batch.into_iter().zip(replies) {
                    if answers.send((request.id, reply)).is_err() {
                        return;
                    }
                }
                wake();
            }
        })?;
        Ok(Agent { shared, requests: Some(requests), replies, taken: VecDeque::new(), thread: Some(thread) })
    }

    /// Queues a request. If too many wait, it has failed.
    pub(super) fn send(&mut self, request: Request) {
        let Some(requests) = &self.requests else { return };
        if let Err(TrySendError::Full(request) | TrySendError::Disconnected(request)) = requests.try_send(request) {
            self.shared.count_failed(Cause::Overload, 1);
            self.taken.push_back((request.id, None));
        }
    }

    /// Returns the next answer, or the failure of a request.
    pub(super) fn poll(&mut self) -> Option<(u64, Option<Reply>)> {
        self.taken.pop_front().or_else(|| self.replies.try_recv().ok())
    }

    /// Waits for the next answer.
    pub(super) fn wait(&mut self, timeout: Duration) {
        self.taken.extend(self.replies.recv_timeout(timeout).ok());
    }

    pub(super) fn figures(&self) -> Figures {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let Shared { is_connected, connections, answered, failed, batches, waited_us, is_leaving: _ } = &*self.shared;
        Figures {
            is_connected: is_connected.load(Ordering::Relaxed),
            connections: count(connections),
            answered: count(answered),
            failed: failed.each_ref().map(count),
            batches: count(batches),
            waited: Duration::from_micros(count(waited_us)),
        }
    }

    /// Sends a last command, and waits for the thread for a moment.
    pub(super) fn leave(mut self, command: Command) {
        self.shared.is_leaving.store(true, Ordering::Relaxed);
        self.send(Request { id: u64::MAX, command });
        self.requests = None;
        let until = Instant::now() + LEAVE_TIMEOUT;
        loop {
            match self.replies.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(_) => {}
                Err(RecvTimeoutError::Timeout) => return,
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            log::error!("the thread of the cluster's store failed");
        }
    }
}

/// Waits for requests; `None` if none follows.
fn next_batch(waiting: &Receiver<Request>) -> Option<Vec<Request>> {
    let first = waiting.recv().ok()?;
    Some(std::iter::once(first).chain(waiting.try_iter().take(BATCH - 1)).collect())
}

/// The thread's end.
struct Clerk {
    store: Store,
    /// By which Redis knows the script.
    hash: String,
    shared: Arc<Shared>,
    connection: Option<Connection>,
    /// The wait before the next attempt to connect.
    wait: Duration,
    next_attempt: Instant,
    /// Why there is no connection.
    cause: Cause,
    log: Throttle,
    /// Why requests fail, since the last batch of which none did.
    told: Option<String>,
}

impl Clerk {
    fn new(store: Store, shared: Arc<Shared>) -> Clerk {
        Clerk {
            store,
            hash: Script::new(SCRIPT).get_hash().to_owned(),
            shared,
            connection: None,
            wait: Duration::ZERO,
            next_attempt: Instant::now(),
            cause: Cause::Unreachable,
            log: LOG,
            told: None,
        }
    }

    /// Returns an answer to each request, or `None` where it has failed.
    fn carry_out(&mut self, batch: &[Request]) -> Vec<Option<Reply>> {
        let is_waiting = self.connection.is_none() && Instant::now() < self.next_attempt;
        if is_waiting && !self.shared.is_leaving.load(Ordering::Relaxed) {
            self.shared.count_failed(self.cause, batch.len());
            return vec![None; batch.len()];
        }
        match self.ask(batch) {
            Ok(replies) => {
                let answered = replies.iter().filter(|reply| **reply != Reply::Refused).count();
                self.shared.answered.fetch_add(answered as u64, Ordering::Relaxed);
                if answered == batch.len()
                    && self.told.take().is_some()
                    && let Some(left_out) = self.log.take(Instant::now())
                {
                    log::warn!("{} answers again{left_out}", self.store.place);
                }
                replies.into_iter().map(Some).collect()
            }
            Err(Failure { cause, sentence }) => {
                self.connection = None;
                self.shared.is_connected.store(false, Ordering::Relaxed);
                self.wait = (self.wait * 2).clamp(RETRY.0, RETRY.1);
                self.next_attempt = Instant::now() + self.wait;
                self.cause = cause;
                self.shared.count_failed(cause, batch.len());
                self.tell(sentence);
                vec![None; batch.len()]
            }
        }
    }

    fn tell(&mut self, sentence: String) {
        if self.told.as_ref() == Some(&sentence) {
            return;
        }
        if let Some(left_out) = self.log.take(Instant::now()) {
            let place = &self.store.place;
            log::warn!("the nodes of the cluster can't agree, because of {place}: {sentence}{left_out}");
        }
        self.told = Some(sentence);
    }

    fn ask(&mut self, batch: &[Request]) -> Result<Vec<Reply>, Failure> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.connect()?,
        };
        let begun = Instant::now();
        let answers = self.call(&mut connection, batch, begun + PATIENCE)?;
        let took = u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.shared.waited_us.fetch_add(took, Ordering::Relaxed);
        self.shared.batches.fetch_add(1, Ordering::Relaxed);
        let mut replies = Vec::with_capacity(batch.len());
        for (request, answer) in batch.iter().zip(answers) {
            let reply = match answer {
                Value::ServerError(error) => Err(Failure::of_answer(&error)),
                answer => codec::read(&request.command, answer).ok_or_else(|| {
                    Failure::new(
                        Cause::Unreadable,
                        "a key has a value that can't be read: use a database for this cluster alone",
                    )
                }),
            };
            // Another connection may lead to another Redis, after a failover.
            if let Err(failure) = &reply
                && matches!(failure.cause, Cause::Denied | Cause::Unready)
            {
                return Err(failure.clone());
            }
            replies.push(reply.unwrap_or_else(|Failure { cause, sentence }| {
                self.shared.count_failed(cause, 1);
                self.tell(sentence);
                Reply::Refused
            }));
        }
        self.wait = Duration::ZERO;
        self.connection = Some(connection);
        self.shared.is_connected.store(true, Ordering::Relaxed);
        Ok(replies)
    }

    fn connect(&mut self) -> Result<Connection, Failure> {
        let connection = match &self.store.place {
            Place::Redis(info) => Connection::open(info, Instant::now() + PATIENCE)?,
            #[cfg(target_os = "linux")]
            Place::Parent(link) => Connection::to_parent(link)?,
        };
        self.shared.connections.fetch_add(1, Ordering::Relaxed);
        Ok(connection)
    }

    fn call(&self, connection: &mut Connection, batch: &[Request], until: Instant) -> Result<Vec<Value>, Failure> {
        let call = |request: &Request| {
            let mut call = redis::cmd("EVALSHA");
            call.arg(&self.hash).arg(1).arg(&self.store.prefix);
            codec::write(&mut call, &request.command);
            call
        };
        let calls: Vec<Cmd> = batch.iter().map(call).collect();
        let mut answers = connection.call(&calls, until)?;
        let lacks_script = |answer: &Value| {
            let Value::ServerError(error) = answer else { return false };
            error.kind() == Some(ServerErrorKind::NoScript)
        };
        let lacking: Vec<usize> = (0..answers.len()).filter(|&at| lacks_script(&answers[at])).collect();
        if lacking.is_empty() {
            return Ok(answers);
        }
        let mut load = redis::cmd("SCRIPT");
        load.arg("LOAD").arg(SCRIPT);
        let mut again = vec![load];
        again.extend(lacking.iter().map(|&at| calls[at].clone()));
        let mut of_again = connection.call(&again, until)?.into_iter();
        if let Some(Value::ServerError(error)) = of_again.next() {
            return Err(Failure::of_answer(&error));
        }
        for (at, answer) in lacking.into_iter().zip(of_again) {
            answers[at] = answer;
        }
        Ok(answers)
    }
}

impl Drop for Clerk {
    fn drop(&mut self) {
        self.shared.is_connected.store(false, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests;
