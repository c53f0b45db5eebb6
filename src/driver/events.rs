//! Publishes events for other services to a RabbitMQ broker, on a thread of its own.
//!
//! The loop only queues them, within limits. A queued event is delivered at least once, also if the broker restarts: it
//! is kept until the broker has confirmed it, and is sent again over the next connection otherwise.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::fmt;
use std::io;
use std::net::Ipv6Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use lapin::options::{BasicPublishOptions, ConfirmSelectOptions, ExchangeDeclareOptions};
use lapin::types::FieldTable;
use lapin::uri::{AMQPAuthority, AMQPUri};
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties, ExchangeKind, PublisherConfirm};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::{sleep, timeout};

use super::unix_time;
use crate::limits::{LIVE_EVENTS_QUEUED, LIVE_EVENTS_QUEUED_BYTES};
use crate::log_limit::Throttle;
use crate::server::{LiveEvent, LiveEventKind};

/// The durable topic exchange that consumers bind their queues to.
const EXCHANGE: &str = "live_events";
/// Events sent that the broker has not confirmed.
const WINDOW: usize = 256;
/// The share of the limits up to which `room.live` is queued: the next one, a minute later, replaces a missed one.
const LIVE_SHARE: usize = 8;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// The shortest and the longest wait before the next attempt to connect.
const RETRY: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(10));
/// How long a stopping server waits for the broker.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(5);
const LOG: Throttle = Throttle::new(10, Duration::from_secs(30));
const CLOSE_TIMEOUT: Duration = Duration::from_millis(500);
/// How often the state of a connection is looked at on which nothing happens.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// The delivery mode of messages that the broker keeps on disk.
const PERSISTENT: u8 = 2;

/// Where events for other services are published.
#[derive(Clone, PartialEq, Eq)]
pub struct Broker {
    uri: AMQPUri,
    /// The name of this server in its events.
    pub node: String,
}

impl Broker {
    /// Returns the broker at `url`, as in `amqp://user:password@host:5672/vhost`, or `amqps://` with TLS. Without a
    /// virtual host it is `/`. `node` has 1 to 64 letters, digits, `-`, `.` and `_`.
    ///
    /// # Errors
    /// A sentence, without the password.
    pub fn new(url: &str, node: impl Into<String>) -> Result<Broker, String> {
        let (url, node) = (url.trim(), node.into());
        let is_of_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
        if !(1..=64).contains(&node.len()) || !node.bytes().all(is_of_name) {
            return Err("the name of the node must have 1 to 64 letters, digits, -, . and _: set it with --node".into());
        }
        let unreadable =
            || "the URL of the broker can't be read: write it as in amqp://user:password@host:5672/vhost".to_owned();
        let mut uri: AMQPUri = url.parse().map_err(|_| unreadable())?;
        if uri.vhost.is_empty() {
            "/".clone_into(&mut uri.vhost);
        }
        // The parser takes an IPv6 address for localhost.
        let authority = url.split_once("://").and_then(|(_, rest)| rest.split(['/', '?']).next()).unwrap_or_default();
        let host = authority.rsplit('@').next().unwrap_or_default();
        if let Some(literal) = host.strip_prefix('[') {
            let literal = literal.split(']').next().unwrap_or_default();
            let address: Ipv6Addr = literal.parse().map_err(|_| unreadable())?;
            uri.authority.host = address.to_string();
        }
        Ok(Broker { uri, node })
    }
}

impl fmt::Debug for Broker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let authority = &self.uri.authority;
        f.debug_struct("Broker").field("host", &authority.host).field("port", &authority.port).finish_non_exhaustive()
    }
}

/// Events by what became of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Figures {
    pub(super) is_connected: bool,
    pub(super) queued: usize,
    /// Confirmed by the broker: joins, leaves and rooms.
    pub(super) published: [u64; 3],
    pub(super) dropped: [u64; 3],
}

#[derive(Debug, Default)]
struct Shared {
    is_connected: AtomicBool,
    queued: AtomicUsize,
    queued_bytes: AtomicUsize,
    published: [AtomicU64; 3],
    dropped: [AtomicU64; 3],
}

/// The loop's end.
pub(super) struct Publisher {
    shared: Arc<Shared>,
    sender: Option<UnboundedSender<LiveEvent>>,
    thread: Option<JoinHandle<()>>,
    /// Disconnected when the thread has ended.
    ended: mpsc::Receiver<Infallible>,
}

impl Publisher {
    /// # Errors
    /// The OS refuses a thread, or what it needs.
    pub(super) fn start(broker: Broker) -> io::Result<Publisher> {
        let shared = Arc::new(Shared::default());
        let (sender, receiver) = unbounded_channel();
        let (alive, ended) = mpsc::channel::<Infallible>();
        let alive = Alive { shared: Arc::clone(&shared), _ended: alive };
        let of_thread = Arc::clone(&shared);
        let thread = thread::Builder::new().name("events".to_owned()).spawn(move || {
            let _alive = alive;
            Deliveries::new(broker, of_thread, receiver).run();
        })?;
        Ok(Publisher { shared, sender: Some(sender), thread: Some(thread), ended })
    }

    /// Queues an event, or drops it if too many wait.
    pub(super) fn publish(&self, event: LiveEvent) {
        let kind = event.kind;
        let share = if kind == LiveEventKind::Live { LIVE_SHARE } else { 1 };
        let (queued, bytes) = (&self.shared.queued, &self.shared.queued_bytes);
        let has_place = queued.load(Ordering::Relaxed) < LIVE_EVENTS_QUEUED / share
            && bytes.load(Ordering::Relaxed) + event.body.len() <= LIVE_EVENTS_QUEUED_BYTES / share;
        let length = event.body.len();
        queued.fetch_add(1, Ordering::Relaxed);
        bytes.fetch_add(length, Ordering::Relaxed);
        let is_taken = has_place && self.sender.as_ref().is_some_and(|sender| sender.send(event).is_ok());
        if !is_taken {
            self.shared.release(length);
            self.shared.dropped[kind as usize].fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(super) fn figures(&self) -> Figures {
        let counts = |counters: &[AtomicU64; 3]| counters.each_ref().map(|counter| counter.load(Ordering::Relaxed));
        Figures {
            is_connected: self.shared.is_connected.load(Ordering::Relaxed),
            queued: self.shared.queued.load(Ordering::Relaxed),
            published: counts(&self.shared.published),
            dropped: counts(&self.shared.dropped),
        }
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        self.sender = None;
        let queued = || self.shared.queued.load(Ordering::Relaxed);
        let patience = if queued() == 0 { CLOSE_TIMEOUT } else { FLUSH_TIMEOUT };
        if let Err(RecvTimeoutError::Timeout) = self.ended.recv_timeout(patience) {
            if queued() > 0 {
                log::warn!("the broker does not take the last {} events: they are lost", queued());
            }
        } else if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            log::error!("the thread that publishes events failed");
        }
    }
}

impl Shared {
    fn release(&self, bytes: usize) {
        self.queued.fetch_sub(1, Ordering::Relaxed);
        self.queued_bytes.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// Owned by the thread: dropped when that ends for any reason.
struct Alive {
    shared: Arc<Shared>,
    _ended: mpsc::Sender<Infallible>,
}

impl Drop for Alive {
    fn drop(&mut self) {
        self.shared.is_connected.store(false, Ordering::Relaxed);
    }
}

/// The thread's end.
struct Deliveries {
    broker: Broker,
    shared: Arc<Shared>,
    receiver: UnboundedReceiver<LiveEvent>,
    /// Events to send before those of the queue: they were sent over a connection that is gone.
    again: VecDeque<LiveEvent>,
    /// Events sent, in order.
    unconfirmed: VecDeque<(LiveEvent, PublisherConfirm)>,
    /// The wait before the next attempt to connect.
    wait: Duration,
    /// Why events wait, since the last confirmation.
    told: Option<String>,
    /// Limits the lines about a broker that takes some events and refuses others.
    log: Throttle,
}

/// What happens next on a connection.
enum Next {
    Publish(LiveEvent),
    Confirmed,
    /// Nothing for a while.
    Idle,
    /// No event follows, and all are confirmed.
    Done,
}

impl Deliveries {
    fn new(broker: Broker, shared: Arc<Shared>, receiver: UnboundedReceiver<LiveEvent>) -> Deliveries {
        let (again, unconfirmed) = (VecDeque::new(), VecDeque::new());
        Deliveries { broker, shared, receiver, again, unconfirmed, wait: Duration::ZERO, told: None, log: LOG }
    }

    fn run(mut self) {
        loop {
            let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else {
                log::error!("events can't be published: the OS refuses what their thread needs");
                return;
            };
            let delivered = runtime.block_on(async {
                self.pause().await;
                self.deliver().await
            });
            self.shared.is_connected.store(false, Ordering::Relaxed);
            let sent = self.unconfirmed.drain(..).map(|(event, _)| event);
            self.again = sent.chain(std::mem::take(&mut self.again)).collect();
            // A connection that failed leaves tasks behind, which wait for ever.
            runtime.shutdown_background();
            let Err(error) = delivered else { return };
            self.wait = (self.wait * 2).clamp(RETRY.0, RETRY.1);
            let reason = error.to_string();
            if self.told.as_ref() != Some(&reason) {
                let AMQPAuthority { host, port, .. } = &self.broker.uri.authority;
                if let Some(left_out) = self.log.take(Instant::now()) {
                    log::warn!("events wait, because the broker at {host}:{port} can't be used: {reason}{left_out}");
                }
                self.told = Some(reason);
            }
        }
    }

    /// Waits before the next attempt, for a shorter time if no event follows.
    async fn pause(&mut self) {
        let pause = sleep(self.wait);
        tokio::pin!(pause);
        loop {
            tokio::select! {
                () = &mut pause => return,
                event = self.receiver.recv() => match event {
                    Some(event) => self.again.push_back(event),
                    None => return sleep(self.wait.min(RETRY.0)).await,
                },
            }
        }
    }

    fn has_ended(&self) -> bool {
        self.receiver.is_closed() && self.receiver.is_empty()
    }

    /// Delivers events over one connection. Returns once the last one is confirmed.
    async fn deliver(&mut self) -> lapin::Result<()> {
        if self.has_ended() && self.again.is_empty() {
            return Ok(());
        }
        let (connection, channel) = self.connect().await?;
        self.note_status(&connection);
        loop {
            match self.next().await? {
                Next::Publish(event) => {
                    let confirm = self.publish(&connection, &channel, &event).await;
                    match confirm {
                        Ok(confirm) => self.unconfirmed.push_back((event, confirm)),
                        Err(error) => {
                            self.again.push_front(event);
                            return Err(error);
                        }
                    }
                }
                Next::Confirmed => {
                    if let Some((event, _)) = self.unconfirmed.pop_front() {
                        self.shared.release(event.body.len());
                        self.shared.published[event.kind as usize].fetch_add(1, Ordering::Relaxed);
                    }
                    self.wait = Duration::ZERO;
                    if self.told.take().is_some()
                        && let Some(left_out) = self.log.take(Instant::now())
                    {
                        log::warn!("the broker takes events again{left_out}");
                    }
                }
                Next::Idle => self.note_status(&connection),
                Next::Done => {
                    // All are confirmed, however it ends.
                    let _ = timeout(CLOSE_TIMEOUT, connection.close(200, "the server stops".into())).await;
                    return Ok(());
                }
            }
            if !connection.status().connected() {
                return Err(io::Error::from(io::ErrorKind::ConnectionAborted).into());
            }
        }
    }

    /// Notes whether the broker takes events: it may be connected and block them, for lack of memory.
    fn note_status(&self, connection: &Connection) {
        let status = connection.status();
        let takes = status.connected() && !status.blocked();
        self.shared.is_connected.store(takes, Ordering::Relaxed);
    }

    /// Sends an event. While the broker blocks that, it waits.
    async fn publish(
        &self,
        connection: &Connection,
        channel: &Channel,
        event: &LiveEvent,
    ) -> lapin::Result<PublisherConfirm> {
        let properties = BasicProperties::default()
            .with_content_type("application/json".into())
            .with_delivery_mode(PERSISTENT)
            .with_message_id(event.id.as_str().into())
            .with_timestamp(unix_time().as_secs())
            .with_app_id(self.broker.node.as_str().into());
        let key = event.kind.routing_key().into();
        let options = BasicPublishOptions::default();
        let published = channel.basic_publish(EXCHANGE.into(), key, options, event.body.as_bytes(), properties);
        tokio::pin!(published);
        loop {
            tokio::select! {
                confirm = &mut published => return confirm,
                () = sleep(LOOK_INTERVAL) => self.note_status(connection),
            }
        }
    }

    async fn connect(&self) -> lapin::Result<(Connection, Channel)> {
        let name = format!("rtcade {}", self.broker.node);
        let connecting = async {
            let properties = ConnectionProperties::default().with_connection_name(name.as_str().into());
            let connection = Connection::connect_uri(self.broker.uri.clone(), properties).await?;
            let channel = connection.create_channel().await?;
            let durable = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
            channel.exchange_declare(EXCHANGE.into(), ExchangeKind::Topic, durable, FieldTable::default()).await?;
            channel.confirm_select(ConfirmSelectOptions::default()).await?;
            Ok((connection, channel))
        };
        match timeout(CONNECT_TIMEOUT, connecting).await {
            Ok(connected) => connected,
            Err(_) => Err(io::Error::from(io::ErrorKind::TimedOut).into()),
        }
    }

    async fn next(&mut self) -> lapin::Result<Next> {
        let may_publish = self.unconfirmed.len() < WINDOW;
        if may_publish && let Some(event) = self.again.pop_front() {
            return Ok(Next::Publish(event));
        }
        let has_ended = self.has_ended();
        if has_ended && self.unconfirmed.is_empty() {
            return Ok(Next::Done);
        }
        let oldest = self.unconfirmed.front_mut().map(|(_, confirm)| confirm);
        let has_unconfirmed = oldest.is_some();
        let confirmed = async {
            match oldest {
                Some(confirm) => confirm.await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            confirmation = confirmed, if has_unconfirmed => {
                if confirmation?.is_ack() {
                    Ok(Next::Confirmed)
                } else {
                    Err(io::Error::other("it refuses an event").into())
                }
            }
            event = self.receiver.recv(), if may_publish && !has_ended => {
                match event {
                    Some(event) => Ok(Next::Publish(event)),
                    None if !has_unconfirmed => Ok(Next::Done),
                    None => Ok(Next::Idle),
                }
            }
            () = sleep(LOOK_INTERVAL) => Ok(Next::Idle),
        }
    }
}

#[cfg(test)]
mod tests;
