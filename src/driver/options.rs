//! The options of a server, and why one can't start with them.

use std::borrow::Cow;
use std::fmt;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;

use super::admin::{Admin, AdminToken};
#[cfg(feature = "cluster")]
use super::events::Broker;
use super::gate::Origin;
#[cfg(all(feature = "cluster", target_os = "linux"))]
use super::link::Link;
#[cfg(feature = "cluster")]
use super::nodes::Node;
use super::tls::Tls;
use crate::auth::Keys;
use crate::limits;
use crate::server::Media;

/// The options of a server.
#[derive(Clone, Debug)]
pub struct Options {
    /// The TCP address. A wildcard address listens on both IPv4 and IPv6; port 0 picks a free port.
    pub listen: SocketAddr,
    /// The UDP address, if it differs from the TCP address.
    pub udp: Option<SocketAddr>,
    /// The certificate and key with which the TCP port speaks TLS; `None` for HTTP without encryption.
    pub tls: Option<Tls>,
    /// A second TCP address, which redirects unencrypted requests to TLS. Ignored without [`Options::tls`].
    pub https_redirect: Option<SocketAddr>,
    /// A TCP address for `/metrics`, `/healthz` and `/readyz` alone, without TLS and without a token. Without it the
    /// metrics are on the port of the game, for this machine only.
    pub metrics: Option<SocketAddr>,
    /// The page for operators and its API.
    pub admin: Option<Admin>,
    /// Where to publish events for other services.
    #[cfg(feature = "cluster")]
    pub events: Option<Broker>,
    /// The node that the server is, of a cluster.
    #[cfg(feature = "cluster")]
    pub node: Option<Node>,
    /// The parent process that listens instead, so that the addresses for TCP and UDP above are not used.
    #[cfg(all(feature = "cluster", target_os = "linux"))]
    pub link: Option<Link>,
    /// The address of the sidecar of Agones to report to: that this server is ready, healthy, in use, and ends. Players
    /// are given the address that Agones has for the server, unless [`Options::public_addresses`] has some.
    pub agones: Option<SocketAddr>,
    /// Addresses at which players reach the server, instead of the local ones. Port 0 stands for the UDP port.
    pub public_addresses: Vec<SocketAddr>,
    /// A directory of static files; its `index.html` is the page of every room.
    pub public: Option<PathBuf>,
    /// The page of every room without such a directory.
    pub page: Cow<'static, str>,
    /// The length of a tick, within [`limits::TICK_MS_RANGE`] milliseconds, instead of
    /// [`Game::TICK`](crate::game::Game::TICK).
    pub tick: Option<Duration>,
    /// The maximum number of players per room, 1 to [`limits::PLAYERS_PER_ROOM_MAX`].
    pub max_players: usize,
    /// The maximum number of rooms, 1 to [`limits::ROOMS`].
    pub max_rooms: usize,
    /// How long the place of a player whose websocket was lost is kept, within [`limits::GRACE_RANGE`].
    pub grace: Duration,
    /// Where to record rooms; `None` disables recording.
    pub record: Option<Record>,
    /// Joining requires a token signed with one of these keys. Without keys anyone may join.
    pub keys: Option<Keys>,
    /// The origins whose pages may open websockets and read responses; if empty, only the server's own. If a connection
    /// comes from a private address to a private address and `public_addresses` has no public one, the server's own
    /// pages are those under an IP address or `localhost`: another host name may be the result of DNS rebinding, and
    /// `/rooms`, `/metrics` and `/doctor.json` are refused to browsers that use it. Programs other than browsers are
    /// always allowed.
    pub origins: Vec<Origin>,
    /// Reverse proxies whose `X-Forwarded-For`, `X-Forwarded-Host` and `X-Forwarded-Proto` headers are trusted.
    pub trusted_proxies: Vec<IpNet>,
    /// How long an HTTP connection may wait for its next request, within [`limits::KEEP_ALIVE_RANGE`]. If the
    /// server is full, the connection is closed earlier.
    pub keep_alive: Duration,
    /// Serve the dev page (`?dev`) to everybody instead of to this machine only. It shapes the network of the page that
    /// it is opened in, and gives no access to the server.
    pub dev: bool,
    /// What the server forwards between the players of a room, see [`Config::media`](crate::server::Config::media).
    pub media: Media,
    /// How long the calls into a game may take in one tick; by default as long as a tick. A room whose game takes
    /// longer is logged, then ticks less often, then is closed ([`limits::STRIKES_CLOSED`]).
    pub tick_budget: Option<Duration>,
    /// How long a server that is asked to stop by [`Handle::drain`](super::Handle::drain) or by SIGTERM waits for its
    /// rooms to end; zero to close them at once.
    pub drain: Duration,
    /// Never sleep: data is received at once instead of up to a quarter of a tick later, at the cost of a whole CPU
    /// core.
    pub busy_poll: bool,
}

/// Where to record rooms, each into a file of its own; see [`crate::journal`].
#[derive(Clone, Debug)]
pub struct Record {
    /// The directory, created if it does not exist. No other server may record into it at the same time.
    pub directory: PathBuf,
    /// The maximum bytes of all recordings in it, including those of earlier runs. Above it the oldest are deleted; if
    /// all are still being written, the largest one ends.
    pub limit_bytes: u64,
}

impl Default for Options {
    /// Port 8080 of every address, the game's tick length, a placeholder page, no recording, no keys, the server's own
    /// origins.
    fn default() -> Options {
        Options {
            listen: (Ipv4Addr::UNSPECIFIED, 8080).into(),
            udp: None,
            tls: None,
            https_redirect: None,
            metrics: None,
            admin: None,
            #[cfg(feature = "cluster")]
            events: None,
            #[cfg(feature = "cluster")]
            node: None,
            #[cfg(all(feature = "cluster", target_os = "linux"))]
            link: None,
            agones: None,
            public_addresses: Vec::new(),
            public: None,
            page: include_str!("placeholder.html").into(),
            tick: None,
            max_players: limits::PLAYERS_PER_ROOM,
            max_rooms: limits::ROOMS,
            grace: limits::RESUME_GRACE,
            record: None,
            keys: None,
            origins: Vec::new(),
            trusted_proxies: Vec::new(),
            keep_alive: limits::KEEP_ALIVE,
            dev: false,
            media: Media::Off,
            tick_budget: None,
            drain: Duration::ZERO,
            busy_poll: false,
        }
    }
}

impl Options {
    /// Checks what has a range, with ticks of this length.
    pub(super) fn check(&self, tick: Duration) -> Result<(), BindError> {
        if !limits::is_tick_length(tick) {
            return Err(BindError::Tick(tick));
        }
        if !(1..=limits::PLAYERS_PER_ROOM_MAX).contains(&self.max_players) {
            return Err(BindError::MaxPlayers(self.max_players));
        }
        if !(1..=limits::ROOMS).contains(&self.max_rooms) {
            return Err(BindError::MaxRooms(self.max_rooms));
        }
        if !limits::GRACE_RANGE.contains(&self.grace) {
            return Err(BindError::Grace(self.grace));
        }
        if !limits::KEEP_ALIVE_RANGE.contains(&self.keep_alive) {
            return Err(BindError::KeepAlive(self.keep_alive));
        }
        Ok(())
    }
}

/// What a running server takes over when its configuration is read again.
#[derive(Clone, Debug)]
pub struct Reload {
    /// As [`Options::keys`], for later joins.
    pub keys: Option<Keys>,
    /// As [`Options::origins`].
    pub origins: Vec<Origin>,
    /// As [`Options::trusted_proxies`].
    pub trusted_proxies: Vec<IpNet>,
    /// As [`Options::max_players`], for rooms that are made later; values out of range are clamped.
    pub max_players: usize,
    /// The token of [`Options::admin`], if there is one.
    pub admin_token: Option<AdminToken>,
    /// As [`Options::max_rooms`], clamped likewise. Rooms that are open stay so.
    pub max_rooms: usize,
    /// As [`Options::grace`], for players whose websocket is lost later.
    pub grace: Duration,
}

/// A server can't start. The sentence names the cause and what to do.
#[derive(Debug)]
#[non_exhaustive]
pub enum BindError {
    /// The server can't listen on the address.
    Address {
        /// The command-line option for the address: `--listen`, `--udp`, `--https-redirect`, `--metrics` or
        /// `--admin`.
        option: &'static str,
        /// The address.
        address: SocketAddr,
        /// The cause.
        source: io::Error,
    },
    /// The sockets that the service manager has opened can't be used: why, and what to do.
    Passed(&'static str),
    /// So many nodes have no UDP port each.
    NodePorts(usize),
    /// A host name can't be resolved.
    Name {
        /// The command-line option for the address.
        option: &'static str,
        /// The name and the port.
        name: String,
        /// The cause.
        cause: String,
    },
    /// The directory of static files can't be read.
    Public {
        /// The directory.
        directory: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The TLS certificate or its key can't be used: a sentence.
    Tls(String),
    /// The admin page has no token, or it can't be used: a sentence.
    AdminToken(String),
    /// The URL of the broker can't be used: a sentence.
    Broker(String),
    /// The options of a node can't be used: a sentence.
    Node(String),
    /// The port of Agones' sidecar can't be used: a sentence.
    Agones(String),
    /// The directory of recordings can't be written.
    Record {
        /// The directory.
        directory: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The tick length is out of range ([`limits::TICK_MS_RANGE`]).
    Tick(Duration),
    /// The maximum number of players is 0 or more than [`limits::PLAYERS_PER_ROOM_MAX`].
    MaxPlayers(usize),
    /// The maximum number of rooms is 0 or more than [`limits::ROOMS`].
    MaxRooms(usize),
    /// The time for which a player's place is kept is out of range ([`limits::GRACE_RANGE`]).
    Grace(Duration),
    /// The keep-alive time is out of range ([`limits::KEEP_ALIVE_RANGE`]).
    KeepAlive(Duration),
    /// Another error of the OS.
    Os(io::Error),
}

impl BindError {
    /// Whether an option has a value that can't be used anywhere.
    pub(crate) fn is_misuse(&self) -> bool {
        use BindError::{AdminToken, Agones, Broker, Node, Tls};
        matches!(self, Tls(_) | AdminToken(_) | Broker(_) | Node(_) | Agones(_))
    }
}

impl fmt::Display for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BindError::Address { option, address, source } => {
                match source.kind() {
                    io::ErrorKind::AddrInUse => {
                        write!(f, "{address} is in use: stop the program that uses it, or choose another")
                    }
                    io::ErrorKind::PermissionDenied => {
                        write!(f, "{address} can't be used without privileges: choose a port from 1024 up")
                    }
                    io::ErrorKind::AddrNotAvailable => {
                        write!(f, "{address} is not an address of this machine: choose one of its own")
                    }
                    _ => write!(f, "{address} can't be listened on ({source}): choose another"),
                }?;
                write!(f, " with {option} ADDR:PORT")
            }
            BindError::Passed(sentence) => write!(f, "the sockets of the service manager can't be used: {sentence}"),
            BindError::NodePorts(nodes) => {
                let advice = "begin with a lower port with --udp ADDR:PORT";
                write!(f, "{nodes} nodes have no UDP port each up to {}: {advice}", u16::MAX)
            }
            BindError::Name { option, name, cause } => {
                write!(
                    f,
                    "{name} can't be resolved ({cause}): name a host that DNS knows, or an address, with {option}"
                )
            }
            BindError::Public { directory, source } => {
                let directory = directory.display();
                write!(f, "{directory} can't be read ({source}): name a directory that exists with --public DIR")
            }
            BindError::Record { directory, source } => {
                let directory = directory.display();
                write!(
                    f,
                    "{directory} can't be written ({source}): name a directory that is writable with --record DIR"
                )
            }
            BindError::Tls(sentence)
            | BindError::AdminToken(sentence)
            | BindError::Broker(sentence)
            | BindError::Node(sentence)
            | BindError::Agones(sentence) => f.write_str(sentence),
            BindError::Tick(tick) => {
                let (shortest, longest) = limits::TICK_MS_RANGE.into_inner();
                write!(f, "a tick can't last {tick:?}: choose {shortest} to {longest} ms with --tick-ms MS")
            }
            BindError::MaxPlayers(players) => {
                let most = limits::PLAYERS_PER_ROOM_MAX;
                write!(f, "a room can't have {players} players: choose 1 to {most} with --max-players N")
            }
            BindError::MaxRooms(rooms) => {
                let most = limits::ROOMS;
                write!(f, "a server can't have {rooms} rooms: choose 1 to {most} with --max-rooms N")
            }
            BindError::Grace(time) => {
                let (shortest, longest) = limits::GRACE_RANGE.into_inner();
                let (shortest, longest) = (shortest.as_secs(), longest.as_secs());
                write!(f, "a place can't be kept for {time:?}: choose {shortest} to {longest} s with --grace SECONDS")
            }
            BindError::KeepAlive(time) => {
                let (shortest, longest) = limits::KEEP_ALIVE_RANGE.into_inner();
                let (shortest, longest) = (shortest.as_secs(), longest.as_secs());
                write!(
                    f,
                    "a connection can't be kept open for {time:?}: choose {shortest} to {longest} s with --keep-alive S"
                )
            }
            BindError::Os(source) => write!(f, "the operating system refused to start the server: {source}"),
        }
    }
}

impl std::error::Error for BindError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            BindError::Address { source, .. }
            | BindError::Public { source, .. }
            | BindError::Record { source, .. }
            | BindError::Os(source) => Some(source),
            BindError::Passed(_)
            | BindError::NodePorts(_)
            | BindError::Name { .. }
            | BindError::Tls(_)
            | BindError::AdminToken(_)
            | BindError::Broker(_)
            | BindError::Node(_)
            | BindError::Agones(_)
            | BindError::Tick(_)
            | BindError::MaxPlayers(_)
            | BindError::MaxRooms(_)
            | BindError::Grace(_)
            | BindError::KeepAlive(_) => None,
        }
    }
}

impl From<io::Error> for BindError {
    fn from(source: io::Error) -> BindError {
        BindError::Os(source)
    }
}
