//! The driver's part in a cluster: the store's thread, the load of this thread, and where clients reach the node.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::Waker;
use nix::time::{ClockId, clock_gettime};
use serde::Serialize;

use super::redis::{Agent, Figures, Store};
use crate::cluster::store::{NodeReport, Nodes};
use crate::cluster::{Cluster, Move, NodeConfig};
use crate::game::Game;
use crate::server::Server;

/// How often the load is measured.
const LOAD_INTERVAL: Duration = Duration::from_secs(1);
/// How long a stopping server keeps its rooms in the store.
const SAVE_TIMEOUT: Duration = Duration::from_secs(2);

/// A node of a cluster, see [`crate::cluster`].
#[derive(Clone, Debug)]
pub struct Node {
    /// Where the nodes agree.
    pub store: Store,
    /// The name, unique in the cluster: 1 to 64 letters, digits, `-`, `.` and `_`. By default the host name and the
    /// port.
    pub name: Option<String>,
    /// Where clients reach this node, as `wss://host:port` or `ws://host:port`, without a path. By default the first
    /// address that is announced to players, and the TCP port; with [`Options::agones`](super::Options::agones) those
    /// that Agones has.
    pub url: Option<String>,
    /// Rooms are placed in the region of the player's node, if there is a place.
    pub region: String,
    /// Up to this load (1 is a core's worth) the node takes the rooms that it is asked for.
    pub soft_load: f64,
    /// From this load on no room is placed on it.
    pub hard_load: f64,
}

impl Node {
    /// Returns a node with the default limits of [`NodeConfig`].
    #[must_use]
    pub fn new(store: Store) -> Node {
        let NodeConfig { region, soft_load, hard_load, .. } = NodeConfig::new("", "");
        Node { store, name: None, url: None, region, soft_load, hard_load }
    }

    /// Reads where clients reach a node: `https` stands for `wss`, and `http` for `ws`.
    ///
    /// # Errors
    /// A sentence.
    pub fn parse_url(text: &str) -> Result<String, String> {
        let wrong = || {
            format!("{text:?} is no URL of a node: write it as in https://node-1.example.com or ws://192.0.2.7:8080")
        };
        let (scheme, rest) = text.trim().split_once("://").ok_or_else(wrong)?;
        let scheme = match scheme {
            "http" | "ws" => "ws",
            "https" | "wss" => "wss",
            _ => return Err(wrong()),
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let is_authority = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:[]".contains(&byte);
        if !(1..=255).contains(&rest.len()) || !rest.bytes().all(is_authority) {
            return Err(wrong());
        }
        Ok(format!("{scheme}://{rest}"))
    }
}

/// Where clients reach a node whose operator doesn't say so.
pub(super) fn url(ip: IpAddr, port: u16, is_secure: bool) -> String {
    format!("{}://{}", scheme(is_secure), SocketAddr::new(ip, port))
}

pub(super) fn scheme(is_secure: bool) -> &'static str {
    if is_secure { "wss" } else { "ws" }
}

/// The node of a running server.
pub(super) struct Membership {
    agent: Option<Agent>,
    measured: Instant,
    used: Duration,
}

impl Membership {
    /// Makes the server a node. Without a URL of its own it has `url`, which may be empty until it is known.
    pub(super) fn begin<G: Game>(
        node: Node,
        server: &mut Server<G>,
        now: Instant,
        waker: Arc<Waker>,
        (url, port): (String, u16),
    ) -> io::Result<Membership> {
        let name = node.name.unwrap_or_else(|| format!("{}-{port}", host_name()));
        let mut config = NodeConfig::new(name, node.url.unwrap_or(url));
        (config.region, config.soft_load, config.hard_load) = (node.region, node.soft_load, node.hard_load);
        match config.url.as_str() {
            "" => log::info!("node {} of a cluster: it takes rooms once Agones has its address", config.name),
            url if url.starts_with('?') => log::info!("node {} of the cluster of this machine", config.name),
            url => log::info!("node {} of a cluster: clients reach it at {url}", config.name),
        }
        let mut seed = [0; 32];
        getrandom::fill(&mut seed).map_err(io::Error::other)?;
        server.join_cluster(Cluster::new(config, seed, now));
        let agent = Agent::start(node.store, move || {
            if let Err(error) = waker.wake() {
                log::error!("the loop can't be woken: {error}");
            }
        })?;
        Ok(Membership { agent: Some(agent), measured: now, used: cpu_time() })
    }

    /// Passes answers and requests between the server and the store.
    pub(super) fn exchange<G: Game>(&mut self, now: Instant, server: &mut Server<G>) {
        let Some(agent) = &mut self.agent else { return };
        let elapsed = now.saturating_duration_since(self.measured);
        if elapsed >= LOAD_INTERVAL {
            let used = cpu_time();
            server.handle_load(used.saturating_sub(self.used).as_secs_f64() / elapsed.as_secs_f64());
            (self.measured, self.used) = (now, used);
        }
        while let Some((id, reply)) = agent.poll() {
            server.handle_store_reply(now, id, reply);
        }
        while let Some(request) = server.poll_store_request(now) {
            agent.send(request);
        }
    }

    pub(super) fn figures(&self) -> Option<Figures> {
        self.agent.as_ref().map(Agent::figures)
    }

    /// Leaves the cluster, so that others need not wait for the end of the lease. Rooms that were saved are kept first.
    pub(super) fn leave<G: Game>(&mut self, now: Instant, server: &mut Server<G>) {
        self.exchange(now, server);
        let until = now + SAVE_TIMEOUT;
        while server.cluster().is_some_and(Cluster::has_unsaved)
            && let Some(left) = until.checked_duration_since(Instant::now())
            && let Some(agent) = &mut self.agent
        {
            agent.wait(left);
            self.exchange(Instant::now(), server);
        }
        if let (Some(agent), Some(command)) = (self.agent.take(), server.leave_cluster()) {
            agent.leave(command);
        }
    }
}

/// The nodes of a cluster, as operators see them.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ClusterStatus {
    pub(crate) nodes: Vec<NodeStatus>,
    /// The number of all nodes: there may be more than are listed.
    pub(crate) count: usize,
    /// Of the listed nodes that are not silent.
    pub(crate) rooms: usize,
    pub(crate) players: usize,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct NodeStatus {
    pub(crate) name: String,
    pub(crate) state: &'static str,
    pub(crate) url: String,
    pub(crate) region: String,
    /// 1 is a core's worth.
    pub(crate) load: f64,
    pub(crate) rooms: usize,
    pub(crate) players: usize,
    /// How long it has had its lease, and how long that lasts if it is not renewed.
    pub(crate) lease_age_ms: u64,
    pub(crate) lease_left_ms: u64,
}

impl From<&Nodes> for ClusterStatus {
    fn from(Nodes { store_time, count, nodes }: &Nodes) -> ClusterStatus {
        let node = |report: &NodeReport| NodeStatus {
            name: report.member.node.to_string(),
            state: report.state(*store_time),
            url: report.profile.url.clone(),
            region: report.profile.region.clone(),
            load: report.profile.load,
            rooms: report.profile.rooms,
            players: report.profile.players,
            lease_age_ms: store_time.saturating_sub(report.since),
            lease_left_ms: report.until.saturating_sub(*store_time),
        };
        let alive = || nodes.iter().filter(|report| report.until > *store_time).map(|report| &report.profile);
        let rooms = alive().map(|profile| profile.rooms).sum();
        let players = alive().map(|profile| profile.players).sum();
        ClusterStatus { nodes: nodes.iter().map(node).collect(), count: *count, rooms, players }
    }
}

/// The cluster as one of its nodes sees it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ClusterView {
    node: String,
    /// Whether the node reaches the store.
    connected: bool,
    leases: usize,
    lookups_waiting: usize,
    redirected: u64,
    rooms_lost: u64,
    lapses: u64,
    /// `None` if the store does not answer.
    status: Option<ClusterStatus>,
    moves: Vec<MoveView>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct MoveView {
    at_ms: u64,
    room: String,
    to: Option<String>,
}

/// Returns the cluster; `None` if the server is not a node of one.
pub(super) fn view<G: Game>(now: Instant, server: &Server<G>) -> Option<ClusterView> {
    let cluster = server.cluster()?;
    let figures = cluster.figures();
    let shown = |Move { at, room, to, .. }: &Move| MoveView {
        at_ms: u64::try_from(at.as_millis()).unwrap_or(u64::MAX),
        room: room.to_string(),
        to: to.as_deref().map(str::to_owned),
    };
    Some(ClusterView {
        node: cluster.member().node.to_string(),
        connected: figures.is_connected,
        leases: figures.leases,
        lookups_waiting: figures.lookups,
        redirected: server.counters().redirected,
        rooms_lost: figures.lost,
        lapses: figures.lapses,
        status: cluster.nodes(now).map(ClusterStatus::from),
        moves: cluster.moves().map(shown).collect(),
    })
}

/// The time that this thread has used of a core.
fn cpu_time() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map_or(Duration::ZERO, Duration::from)
}

/// The name of this machine, with the characters that the name of a node may have.
pub(crate) fn host_name() -> String {
    let name = nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok()).unwrap_or_default();
    let name: String = name.chars().filter(|c| c.is_ascii_alphanumeric() || "-._".contains(*c)).take(48).collect();
    if name.is_empty() { "rtcade".to_owned() } else { name }
}
