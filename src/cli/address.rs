//! Addresses as given on the command line: with an IP address or with a host name, which is resolved when it is used.

mod cloud;
mod stun;

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::time::Duration;

use crate::driver::{BindError, Handle};
use crate::server::ExternalError;

/// How often public addresses that may change are resolved again.
const RESOLVED_EVERY: Duration = Duration::from_mins(1);
/// Bytes of a host name (RFC 1035 §2.3.4).
const NAME_BYTES: usize = 253;
const PUBLIC_ADDR: &str = "--public-addr";
/// In place of a public address: what the metadata service of the cloud has.
const CLOUD: &str = "auto";
/// In front of a STUN server that knows the public address.
const STUN: &str = "stun:";

/// A host and a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Address {
    host: Host,
    port: u16,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Host {
    Ip(IpAddr),
    Name(String),
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::Ip(ip) => SocketAddr::new(*ip, self.port).fmt(f),
            Host::Name(name) => write!(f, "{name}:{}", self.port),
        }
    }
}

impl From<SocketAddr> for Address {
    fn from(address: SocketAddr) -> Address {
        Address { host: Host::Ip(address.ip()), port: address.port() }
    }
}

/// Parses a host and a port.
pub(super) fn with_port(text: &str) -> Result<Address, &'static str> {
    let named = || {
        let (name, port) = text.rsplit_once(':')?;
        Some(Address { host: Host::Name(host_name(name)?), port: port.parse().ok()? })
    };
    match text.parse::<SocketAddr>() {
        Ok(address) => Ok(address.into()),
        Err(_) => named().ok_or("expected an address or a host name, and a port, as in 0.0.0.0:8080 or localhost:8080"),
    }
}

/// A public address, or who knows it. Port 0 stands for the UDP port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Public {
    Address(Address),
    /// The metadata service of the cloud knows the address, to which this port belongs.
    Cloud {
        port: u16,
    },
    /// This STUN server knows the address.
    Stun(Address),
}

impl fmt::Display for Public {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Public::Address(address) => address.fmt(f),
            Public::Cloud { port: 0 } => f.write_str(CLOUD),
            Public::Cloud { port } => write!(f, "{CLOUD}:{port}"),
            Public::Stun(server) => write!(f, "{STUN}{server}"),
        }
    }
}

/// Parses a public address, or who knows it.
pub(super) fn public(text: &str) -> Result<Public, &'static str> {
    if text == CLOUD {
        return Ok(Public::Cloud { port: 0 });
    }
    if let Some(port) = text.strip_prefix(CLOUD).and_then(|rest| rest.strip_prefix(':')) {
        return port.parse().map(|port| Public::Cloud { port }).map_err(|_| "expected a port, as in auto:8080");
    }
    if let Some(server) = text.strip_prefix(STUN) {
        let sentence = "expected a STUN server and its port, as in stun:stun.example.com:3478";
        return with_port(server).map(Public::Stun).map_err(|_| sentence);
    }
    public_address(text).map(Public::Address)
}

/// Parses a host whose port defaults to 0.
fn public_address(text: &str) -> Result<Address, &'static str> {
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    let address = match bare.parse::<IpAddr>() {
        Ok(ip) => Some(SocketAddr::new(ip, 0).into()),
        Err(_) => with_port(text).ok().or_else(|| Some(Address { host: Host::Name(host_name(text)?), port: 0 })),
    };
    match address {
        Some(Address { host: Host::Ip(ip), .. }) if ip.is_unspecified() => {
            Err("players can't connect to a wildcard address; name the address they use")
        }
        Some(address) => Ok(address),
        None => Err("expected an address or a host name, with or without a port, as in 203.0.113.7 or \
            play.example.com:8080"),
    }
}

/// A name that isn't taken for a mistyped address.
fn host_name(text: &str) -> Option<String> {
    let is_label = |label: &str| {
        !label.is_empty() && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
    };
    let is_name = text.len() <= NAME_BYTES
        && text.split('.').all(is_label)
        && text.rsplit('.').next().is_some_and(|last| last.bytes().any(|byte| byte.is_ascii_alphabetic()));
    is_name.then(|| text.to_owned())
}

impl Address {
    fn is_name(&self) -> bool {
        matches!(self.host, Host::Name(_))
    }

    /// The addresses for this option, at least one, IPv4 first. Blocks while a name is resolved.
    fn resolve(&self, option: &'static str) -> Result<Vec<SocketAddr>, BindError> {
        let name = match &self.host {
            Host::Ip(ip) => return Ok(vec![SocketAddr::new(*ip, self.port)]),
            Host::Name(name) => name,
        };
        let unknown = |cause: String| BindError::Name { option, name: self.to_string(), cause };
        let found = (name.as_str(), self.port).to_socket_addrs().map_err(|error| unknown(error.to_string()))?;
        let mut addresses: Vec<SocketAddr> = found.collect();
        addresses.sort_by_key(SocketAddr::is_ipv6);
        addresses.dedup();
        if addresses.is_empty() { Err(unknown("it has no address".to_owned())) } else { Ok(addresses) }
    }

    /// The first address for this option. Blocks while a name is resolved.
    pub(super) fn first(&self, option: &'static str) -> Result<SocketAddr, BindError> {
        Ok(self.resolve(option)?.remove(0))
    }
}

impl Public {
    /// Whether it has a port of its own.
    #[cfg(feature = "cluster")]
    pub(super) fn has_port(&self) -> bool {
        match self {
            Public::Address(address) => address.port != 0,
            Public::Cloud { port } => *port != 0,
            Public::Stun(_) => false,
        }
    }

    /// Whether it stays the same for as long as the program runs.
    fn is_fixed(&self) -> bool {
        matches!(self, Public::Address(address) if !address.is_name())
    }

    /// The addresses, at least one. Blocks while a name is resolved or another machine is asked.
    fn resolve(&self) -> Result<Vec<SocketAddr>, BindError> {
        let (ip, port) = match self {
            Public::Address(address) => return address.resolve(PUBLIC_ADDR),
            Public::Cloud { port } => (cloud::public_address(cloud::SERVICE), *port),
            Public::Stun(server) => (stun::public_address(server.first(PUBLIC_ADDR)?), 0),
        };
        let unknown = |cause| BindError::Name { option: PUBLIC_ADDR, name: self.to_string(), cause };
        ip.map(|ip| vec![SocketAddr::new(ip, port)]).map_err(unknown)
    }
}

/// All public addresses. Blocks while names are resolved and other machines are asked.
pub(super) fn resolve_public(addresses: &[Public]) -> Result<Vec<SocketAddr>, BindError> {
    let resolved: Result<Vec<_>, _> = addresses.iter().map(Public::resolve).collect();
    Ok(resolved?.concat())
}

/// Resolves them from time to time on a thread of its own if they may change, and passes on what has changed.
#[expect(clippy::disallowed_methods, reason = "it is a thread of its own that sleeps")]
pub(super) fn watch(addresses: Vec<Public>, mut known: Vec<SocketAddr>, handle: Handle) {
    if addresses.iter().all(Public::is_fixed) {
        return;
    }
    let watch = move || {
        loop {
            std::thread::sleep(RESOLVED_EVERY);
            match resolve_public(&addresses) {
                Ok(resolved) if resolved == known => {}
                Ok(resolved) => match handle.set_public_addresses(resolved.clone()) {
                    Ok(()) => {
                        log::warn!("the public addresses are {resolved:?} now");
                        known = resolved;
                    }
                    Err(ExternalError::Stopped) => return,
                    Err(error) => log::warn!("the public addresses stay {known:?} for another minute: {error}"),
                },
                Err(error) => log::warn!("{error}; the public addresses stay {known:?}"),
            }
        }
    };
    if let Err(error) = std::thread::Builder::new().name("names".to_owned()).spawn(watch) {
        log::warn!("the public addresses are not resolved again: {error}");
    }
}

/// The URL of a server on this machine that listens on this address, with a slash at its end.
pub(super) fn url(listen: SocketAddr, is_secure: bool) -> String {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    let scheme = if is_secure { "https" } else { "http" };
    format!("{scheme}://{}/", SocketAddr::new(ip, listen.port()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_public_address_may_be_bare_and_a_name() {
        for (text, expected) in [
            ("::1", "[::1]:0"),
            ("[::1]", "[::1]:0"),
            ("[::1]:5", "[::1]:5"),
            ("1.2.3.4:5", "1.2.3.4:5"),
            ("play.example.com", "play.example.com:0"),
            ("play.example.com:5", "play.example.com:5"),
            ("auto", "auto"),
            ("auto:5", "auto:5"),
            ("auto.example.com", "auto.example.com:0"),
            ("stun:stun.example.com:5", "stun:stun.example.com:5"),
            ("stun:[::1]:5", "stun:[::1]:5"),
        ] {
            assert_eq!(public(text).expect("valid").to_string(), expected);
        }
        for text in [
            "",
            "1.2.3",
            "1.2.3.4.5",
            "0.0.0.0",
            "example.com:",
            "example..com",
            "a b",
            "300.1.1.1:5",
            "auto:",
            "auto:x",
            "stun:",
            "stun:example.com",
            "stun:auto",
        ] {
            assert!(public(text).is_err(), "{text}");
        }
    }

    #[test]
    fn names_are_resolved_to_ipv4_first() {
        let localhost = with_port("localhost:80").expect("valid").first("--listen").expect("resolved");
        assert_eq!(localhost, SocketAddr::from(([127, 0, 0, 1], 80)));
        let error = with_port("nowhere.invalid:80").expect("valid").first("--listen").expect_err("unknown");
        let sentence = error.to_string();
        assert!(sentence.starts_with("nowhere.invalid:80 can't be resolved (") && sentence.contains("--listen"));
    }
}
