//! The options for operators: metrics, and the admin page.

use std::env;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use clap::Args;

use super::address::{self, Address};
use crate::driver::{Admin, AdminToken, BindError, Options};
#[cfg(feature = "cluster")]
use crate::driver::{Broker, Node, Store, host_name};

const AGONES_PORT: &str = "AGONES_SDK_HTTP_PORT";
const AGONES_DEFAULT_PORT: u16 = 9358;

#[derive(Clone, Debug, Args)]
pub(super) struct Operators {
    /// Address for the metrics, unencrypted. Otherwise /metrics is on the port of the game, for this machine only.
    ///
    /// It serves /metrics, /healthz and /readyz to everybody who reaches it.
    #[arg(long, value_name = "ADDR:PORT", value_parser = address::with_port)]
    pub(super) metrics: Option<Address>,
    /// Address for the admin page and its API, as in 127.0.0.1:9090. Requires a token.
    ///
    /// With a TLS certificate it speaks https, unless it is a loopback address.
    #[arg(long, value_name = "ADDR:PORT", value_parser = address::with_port)]
    pub(super) admin: Option<Address>,
    /// Token of the admin page, 16 to 256 characters. Other users of this machine see it in the list of processes.
    ///
    /// Use --admin-token-file or the environment variable RTCADE_ADMIN__TOKEN instead.
    #[arg(long, value_name = "TOKEN")]
    admin_token: Option<String>,
    /// File with the token of the admin page.
    #[arg(long, value_name = "FILE")]
    admin_token_file: Option<PathBuf>,
    /// Report to Agones, as a game server in one of its pods: ready, healthy, in use, and ended.
    ///
    /// The port of its sidecar is in the environment variable AGONES_SDK_HTTP_PORT, which Agones sets. Players get
    /// the address that Agones has for the server, unless --public-addr is set.
    #[arg(long)]
    pub(super) agones: bool,
    /// Broker (RabbitMQ) that gets events of joins, leaves and rooms, as in amqp://user:password@host:5672/vhost.
    ///
    /// Other users of this machine see the password in the list of processes: use --amqp-file or the environment
    /// variable RTCADE_EVENTS__AMQP instead.
    #[cfg(feature = "cluster")]
    #[arg(long, value_name = "URL")]
    amqp: Option<String>,
    /// File with the URL of the broker.
    #[cfg(feature = "cluster")]
    #[arg(long, value_name = "FILE")]
    amqp_file: Option<PathBuf>,
    /// Name of this server in its events and in its cluster. Default: the host name, in a cluster with the port.
    #[cfg(feature = "cluster")]
    #[arg(long, value_name = "NAME")]
    node: Option<String>,
    /// Redis over which several servers share their rooms, as in redis://user:password@host:6379/0.
    ///
    /// Other users of this machine see the password in the list of processes: use --redis-file or the environment
    /// variable RTCADE_CLUSTER__REDIS instead.
    #[cfg(feature = "cluster")]
    #[arg(long, value_name = "URL")]
    redis: Option<String>,
    /// File with the URL of Redis.
    #[cfg(feature = "cluster")]
    #[arg(long, value_name = "FILE")]
    redis_file: Option<PathBuf>,
    /// Name of the cluster: servers with the same one share their rooms.
    #[cfg(feature = "cluster")]
    #[arg(long, value_name = "NAME", default_value = "rtcade")]
    cluster: String,
    /// Where clients reach this server, as in wss://node-1.example.com. Default: its first address, and its port,
    /// or those that Agones has.
    #[cfg(feature = "cluster")]
    #[arg(long, value_name = "URL", value_parser = Node::parse_url)]
    node_url: Option<String>,
    /// Region of this server: rooms are placed in the region of the player's server, if it has a place.
    #[cfg(feature = "cluster")]
    #[arg(long, value_name = "NAME", default_value = "")]
    region: String,
    /// CPU use in percent of a core up to which this server keeps the rooms that it is asked for.
    #[cfg(feature = "cluster")]
    #[arg(long, value_name = "PERCENT", default_value = "60", value_parser = percent)]
    soft_limit: f64,
    /// CPU use in percent of a core from which no room is placed on this server.
    #[cfg(feature = "cluster")]
    #[arg(long, value_name = "PERCENT", default_value = "90", value_parser = percent)]
    hard_limit: f64,
}

impl Operators {
    /// Returns `options` with these.
    ///
    /// # Errors
    /// A host name can't be resolved, the admin page has no token, or the port of Agones' sidecar is none.
    pub(super) fn apply(&self, options: Options) -> Result<Options, BindError> {
        let metrics = self.metrics.as_ref().map(|address| address.first("--metrics")).transpose()?;
        let admin = match &self.admin {
            None => None,
            Some(address) => {
                let listen = address.first("--admin")?;
                let none = "the admin page needs a token: name a file with one with --admin-token-file FILE";
                let token = self.token().and_then(|token| token.ok_or_else(|| none.to_owned()));
                Some(Admin { listen, token: token.map_err(BindError::AdminToken)? })
            }
        };
        #[cfg(feature = "cluster")]
        let events = self.events().map_err(BindError::Broker)?;
        #[cfg(feature = "cluster")]
        let node = self.node().map_err(BindError::Node)?;
        #[cfg(feature = "cluster")]
        let options = Options { events, node, ..options };
        let agones = self.agones.then(sidecar).transpose().map_err(BindError::Agones)?;
        Ok(Options { metrics, admin, agones, ..options })
    }

    #[cfg(feature = "cluster")]
    fn events(&self) -> Result<Option<Broker>, String> {
        let Some(url) = secret(self.amqp.as_deref(), self.amqp_file.as_deref(), "--amqp-file")? else {
            return Ok(None);
        };
        Broker::new(&url, self.node.clone().unwrap_or_else(host_name)).map(Some)
    }

    #[cfg(feature = "cluster")]
    fn node(&self) -> Result<Option<Node>, String> {
        let (Some(url), cluster) = self.redis()? else { return Ok(None) };
        self.node_at(Store::new(&url, &cluster)?).map(Some)
    }

    /// A node with these options. The error is a sentence.
    #[cfg(feature = "cluster")]
    pub(super) fn node_at(&self, store: Store) -> Result<Node, String> {
        let mut node = Node::new(store);
        (node.name, node.url, node.region) = (self.node.clone(), self.node_url.clone(), self.region.clone());
        (node.soft_load, node.hard_load) = (self.soft_limit / 100.0, self.hard_limit / 100.0);
        if node.soft_load > node.hard_load {
            return Err("--soft-limit must not be above --hard-limit".to_owned());
        }
        Ok(node)
    }

    /// The name of this server, if it is given.
    #[cfg(all(feature = "cluster", target_os = "linux"))]
    pub(super) fn name(&self) -> Option<&str> {
        self.node.as_deref()
    }

    /// Returns the URL of Redis, and the name of the cluster. The error is a sentence.
    #[cfg(feature = "cluster")]
    pub(super) fn redis(&self) -> Result<(Option<String>, String), String> {
        let url = secret(self.redis.as_deref(), self.redis_file.as_deref(), "--redis-file")?;
        Ok((url, self.cluster.clone()))
    }

    /// Returns the token of the admin page. The error is a sentence.
    pub(super) fn token(&self) -> Result<Option<AdminToken>, String> {
        let text = secret(self.admin_token.as_deref(), self.admin_token_file.as_deref(), "--admin-token-file")?;
        text.map(|text| AdminToken::parse(&text)).transpose()
    }
}

#[cfg(feature = "cluster")]
fn percent(text: &str) -> Result<f64, String> {
    let percent = text.parse().ok().filter(|percent| (1.0..=100.0).contains(percent));
    percent.ok_or_else(|| "it must be a number from 1 to 100".to_owned())
}

/// The address of Agones' sidecar. The error is a sentence.
fn sidecar() -> Result<SocketAddr, String> {
    let port = match env::var_os(AGONES_PORT) {
        None => AGONES_DEFAULT_PORT,
        Some(port) => port.to_str().and_then(|port| port.parse().ok()).ok_or_else(|| {
            format!("{AGONES_PORT} is no port: Agones sets it in its pods; elsewhere leave --agones out")
        })?,
    };
    Ok((Ipv4Addr::LOCALHOST, port).into())
}

/// A secret that is given, or in a file that this option names. The error is a sentence.
pub(super) fn secret(given: Option<&str>, file: Option<&Path>, option: &str) -> Result<Option<String>, String> {
    match (given, file) {
        (Some(given), _) => Ok(Some(given.to_owned())),
        (None, Some(path)) => fs::read_to_string(path)
            .map(Some)
            .map_err(|error| format!("{} can't be read ({error}): name a file with {option} FILE", path.display())),
        (None, None) => Ok(None),
    }
}
