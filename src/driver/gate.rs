//! Which pages may open a websocket, and which proxies are trusted.
//!
//! Pages of the server itself may: their `Origin` (RFC 6454 §7) and `Host` (RFC 9110 §7.2) agree. This alone does not
//! protect a server in a private network: the owner of `evil.example` can let that name resolve to `127.0.0.1` or
//! `192.168.1.5` after a browser in that network has loaded the page (DNS rebinding), and both headers then name
//! `evil.example`. So if a connection comes from a private address to a private address, the host must be an IP address
//! or `localhost` (RFC 6761 §6.3), which cannot be redirected; other names require `--origin`. The check does not apply
//! if `--public-addr` is a public address, because such a server is open to connections from everywhere.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::bind::is_private;
use super::http::Upgrade;
use crate::rate::canonical;
use crate::wire::codes::ErrorCode;
use crate::wire::signaling::Fault;

/// The minimum time between two log lines about rejected origins.
const LOG_INTERVAL: Duration = Duration::from_secs(1);
/// The maximum number of logged characters of an origin.
const LOGGED_CHARS: usize = 100;

/// The origin of a page as browsers send it (RFC 6454 §6.2): scheme, host, and the port if it is not the scheme's
/// default.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin(String);

impl Origin {
    /// Parses an origin such as `https://example.com`, `http://localhost:5173` or `capacitor://localhost`, in any case.
    /// Returns `None` for anything else, for example a longer URL.
    #[must_use]
    pub fn parse(text: &str) -> Option<Origin> {
        let text = text.to_ascii_lowercase();
        let (scheme, authority) = text.split_once("://")?;
        let is_scheme = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
            && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.'));
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
            _ => (authority, None),
        };
        let is_host = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
            Some(ipv6) => ipv6.parse::<Ipv6Addr>().is_ok(),
            None => {
                !host.is_empty() && host.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_'))
            }
        };
        if !is_scheme || !is_host {
            return None;
        }
        let port = match port {
            Some(port) if port.bytes().all(|byte| byte.is_ascii_digit()) => Some(port.parse::<u16>().ok()?),
            Some(_) => return None,
            None => None,
        };
        Some(Origin(match (scheme, port) {
            (_, None) | ("http", Some(80)) | ("https", Some(443)) => format!("{scheme}://{host}"),
            (_, Some(port)) => format!("{scheme}://{host}:{port}"),
        }))
    }

    /// Returns whether the host is an IP address or `localhost`, which DNS cannot resolve to another address.
    fn is_literal(&self) -> bool {
        let authority = self.0.split_once("://").map_or("", |(_, authority)| authority);
        let host =
            authority.rsplit_once(':').filter(|(_, port)| !port.ends_with(']')).map_or(authority, |(host, _)| host);
        host.starts_with('[')
            || host.parse::<Ipv4Addr>().is_ok()
            || host.rsplit('.').next().is_some_and(|last| last == "localhost")
    }

    /// Returns whether this is the origin of a server that is addressed as `authority`.
    fn is_of(&self, authority: &str, scheme: Option<&str>) -> bool {
        let Some((own, _)) = self.0.split_once("://") else { return false };
        let is_scheme = match scheme {
            Some("https" | "wss") => own == "https",
            Some("http" | "ws") => own == "http",
            Some(_) => false,
            None => matches!(own, "http" | "https"),
        };
        is_scheme && Origin::parse(&format!("{own}://{authority}")).as_ref() == Some(self)
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The rules for pages and proxies.
#[derive(Debug, Default)]
pub(super) struct Gate {
    /// The allowed origins; empty to allow only the server's own.
    origins: Vec<Origin>,
    proxies: Vec<IpNet>,
    /// Whether the server has a public address.
    is_public: bool,
    refused: u64,
    logged: Option<Instant>,
}

impl Gate {
    /// `public` are the configured public addresses.
    pub(super) fn new(origins: Vec<Origin>, proxies: Vec<IpNet>, public: &[SocketAddr]) -> Gate {
        let is_public = public.iter().any(|address| !is_private(address.ip()));
        let proxies = proxies.into_iter().map(canonical_prefix).collect();
        Gate { origins, proxies, is_public, refused: 0, logged: None }
    }

    /// Returns the number of websockets refused because of their origin.
    pub(super) fn refused(&self) -> u64 {
        self.refused
    }

    /// Returns whether this is the address of a trusted proxy, which serves many players.
    pub(super) fn is_proxy(&self, ip: IpAddr) -> bool {
        self.proxies.iter().any(|proxies| proxies.contains(&ip))
    }

    /// Returns the player's address for a websocket requested by a connection from `remote` to `local`, or why the page
    /// is refused.
    pub(super) fn check(
        &mut self,
        now: Instant,
        upgrade: &Upgrade,
        remote: SocketAddr,
        local: Option<IpAddr>,
    ) -> Result<SocketAddr, Fault> {
        let player = self.player(remote, upgrade.forwarded_for.as_deref());
        let Some(text) = &upgrade.origin else {
            // Clients other than browsers send no origin, or could send any.
            return Ok(player);
        };
        let origin = Origin::parse(text).filter(|origin| origin.0 == *text);
        let is_inside = !self.is_public && is_private(player.ip()) && local.is_none_or(is_private);
        if origin.as_ref().is_some_and(|origin| self.may_play(origin, upgrade, remote.ip(), is_inside)) {
            return Ok(player);
        }
        self.refused += 1;
        if self.logged.is_none_or(|logged| now >= logged + LOG_INTERVAL) {
            self.logged = Some(now);
            let text: String = text.chars().take(LOGGED_CHARS).collect();
            let (remedy, host) = (origin.as_ref().map_or(String::new(), remedy), upgrade.host.get(..LOGGED_CHARS));
            let host = host.unwrap_or(&upgrade.host);
            log::warn!("{player}: the origin {text:?} is not allowed (Host: {host:?}){remedy}");
        }
        let sentence = match &origin {
            Some(origin) => format!("The origin {origin} is not allowed on this server{}.", remedy(origin)),
            None => {
                "Pages without an origin, such as local files, are not allowed on this server: open the page over HTTP."
                    .to_owned()
            }
        };
        Err(Fault::new(ErrorCode::Origin, sentence))
    }

    fn may_play(&self, origin: &Origin, upgrade: &Upgrade, remote: IpAddr, is_inside: bool) -> bool {
        if !self.origins.is_empty() {
            return self.origins.contains(origin);
        }
        let first = |list: &'_ Option<String>| -> Option<String> {
            let list = list.as_ref().filter(|_| self.is_proxy(remote))?;
            Some(list.split(',').next()?.trim().to_ascii_lowercase())
        };
        let host = first(&upgrade.forwarded_host).unwrap_or_else(|| upgrade.host.clone());
        origin.is_of(&host, first(&upgrade.forwarded_proto).as_deref()) && (!is_inside || origin.is_literal())
    }

    /// Returns the rightmost address in `X-Forwarded-For` that is not a proxy's: each proxy appends the address it
    /// received from, and anything before may be forged. A client on the machine of a proxy counts as that proxy.
    fn player(&self, remote: SocketAddr, forwarded_for: Option<&str>) -> SocketAddr {
        let mut player = remote;
        for entry in forwarded_for.into_iter().flat_map(|list| list.rsplit(',')) {
            let Some(address) = address(entry.trim()).filter(|_| self.is_proxy(player.ip())) else { break };
            player = address;
        }
        if player.ip().is_loopback() { remote } else { player }
    }
}

fn remedy(origin: &Origin) -> String {
    format!(": to allow it, start the server with --origin {origin}")
}

/// Converts a prefix to the form of [`canonical`] addresses.
fn canonical_prefix(prefix: IpNet) -> IpNet {
    let mapped = |v6: Ipv6Net| Ipv4Net::new(v6.addr().to_ipv4_mapped()?, v6.prefix_len().checked_sub(96)?).ok();
    match prefix {
        IpNet::V6(v6) => mapped(v6).map_or(prefix, IpNet::V4),
        IpNet::V4(_) => prefix,
    }
}

/// Parses an address with an optional port, which defaults to 0.
fn address(text: &str) -> Option<SocketAddr> {
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    let without_port = bare.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, 0));
    without_port.or_else(|_| text.parse()).ok().map(canonical)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gate(origins: &[&str], proxies: &[&str]) -> Gate {
        let origins = origins.iter().map(|origin| Origin::parse(origin).expect("an origin")).collect();
        Gate::new(origins, proxies.iter().map(|proxy| proxy.parse().expect("a prefix")).collect(), &[])
    }

    #[test]
    fn an_origin_is_read_as_browsers_write_it() {
        for (text, expected) in [
            ("https://example.com", "https://example.com"),
            ("HTTPS://Example.COM:443", "https://example.com"),
            ("http://localhost:80", "http://localhost"),
            ("https://localhost:80", "https://localhost:80"),
            ("http://[::1]:5173", "http://[::1]:5173"),
            ("http://[::1]", "http://[::1]"),
            ("capacitor://localhost", "capacitor://localhost"),
        ] {
            assert_eq!(Origin::parse(text), Some(Origin(expected.to_owned())), "{text}");
        }
        for text in [
            "",
            "null",
            "*",
            "example.com",
            "https://",
            "https://example.com/",
            "https://a b",
            "https://a@b",
            "https://a:b",
            "https://a:",
            "https://a:65536",
            "https://a:+1",
            "https://[::1",
            "https://[a]",
            "://a",
            "https://*.example.com",
            "https://a, https://b",
            "https://a:1:2",
            "1s://a",
            "https://é",
        ] {
            assert_eq!(Origin::parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_proxy_is_believed_where_it_is_known() {
        let check = |proxies: &[&str], remote: &str, forwarded: Option<&str>, expected: &str| {
            let remote: SocketAddr = remote.parse().expect("an address");
            let player = gate(&[], proxies).player(canonical(remote), forwarded);
            assert_eq!(player.to_string(), expected, "{forwarded:?} from {remote} with {proxies:?}");
        };
        let chain = Some("6.6.6.6, 198.51.100.7, 10.0.0.9");
        check(&[], "10.0.0.1:9", chain, "10.0.0.1:9");
        check(&["10.0.0.0/31"], "10.0.0.1:9", chain, "10.0.0.9:0");
        check(&["10.0.0.0/8"], "10.0.0.1:9", chain, "198.51.100.7:0");
        check(&["10.0.0.0/8"], "[::ffff:10.0.0.1]:9", chain, "198.51.100.7:0");
        check(&["::ffff:10.0.0.0/104"], "10.0.0.1:9", chain, "198.51.100.7:0");
        check(&["10.0.0.0/8"], "11.0.0.1:9", chain, "11.0.0.1:9");
        check(&["0.0.0.0/0"], "10.0.0.1:9", chain, "6.6.6.6:0");
        check(&["10.0.0.0/8"], "10.0.0.1:9", None, "10.0.0.1:9");
        for (text, expected) in [
            ("2001:db8::7", "[2001:db8::7]:0"),
            ("[2001:db8::7]", "[2001:db8::7]:0"),
            ("[2001:db8::7]:5", "[2001:db8::7]:5"),
            ("198.51.100.7:5", "198.51.100.7:5"),
            ("::ffff:198.51.100.7", "198.51.100.7:0"),
            ("unknown", "127.0.0.1:9"),
            ("", "127.0.0.1:9"),
            ("127.0.0.2", "127.0.0.1:9"),
            ("6.6.6.6, unknown", "127.0.0.1:9"),
        ] {
            check(&["127.0.0.0/8"], "127.0.0.1:9", Some(text), expected);
        }
    }

    /// Whether the gate lets a connection between these addresses in.
    fn ask(mut gate: Gate, upgrade: &Upgrade, remote: &str, local: &str) -> bool {
        let now = Instant::now();
        let remote = SocketAddr::new(remote.parse().expect("an address"), 9);
        gate.check(now, upgrade, remote, Some(local.parse().expect("an address"))).is_ok()
    }

    #[test]
    fn a_name_that_others_own_is_no_name_of_a_private_server() {
        let opens = |gate: Gate, host: &str, remote: &str, local: &str| {
            let origin = Some(format!("http://{host}"));
            ask(gate, &Upgrade { host: host.to_owned(), origin, ..Upgrade::default() }, remote, local)
        };
        let plain = || gate(&[], &[]);
        for (remote, local) in [
            ("127.0.0.1", "127.0.0.1"),
            ("192.168.1.7", "192.168.1.5"),
            ("::1", "::1"),
            ("fd00::7", "fd00::5"),
            ("::ffff:127.0.0.1", "::ffff:127.0.0.1"),
        ] {
            for name in ["evil.example", "evil.example:8080", "localhost.evil.example", "127.0.0.1.evil.example", "box"]
            {
                assert!(!opens(plain(), name, remote, local), "{name} from {remote} to {local}");
            }
            for name in ["localhost:8080", "game.localhost", "192.168.1.5:8080", "127.0.0.1", "[::1]:8080", "[fd00::5]"]
            {
                assert!(opens(plain(), name, remote, local), "{name} from {remote} to {local}");
            }
        }
        let name = "play.example:8080";
        assert!(opens(plain(), name, "198.51.100.7", "192.168.1.5"), "a router forwards it");
        assert!(opens(plain(), name, "203.0.113.5", "203.0.113.5"), "it has a public address");
        assert!(opens(gate(&["http://play.example:8080"], &[]), name, "127.0.0.1", "127.0.0.1"), "it is named");
        let told = |public: &str| Gate::new(Vec::new(), Vec::new(), &[public.parse().expect("an address")]);
        assert!(opens(told("203.0.113.5:0"), name, "127.0.0.1", "127.0.0.1"), "it is public");
        assert!(!opens(told("192.168.1.5:0"), name, "127.0.0.1", "127.0.0.1"));
    }

    #[test]
    fn behind_a_known_proxy_the_page_is_where_the_proxy_says() {
        let check = |remote: &str, host: &str, proto: &str, expected: bool| {
            let upgrade = Upgrade {
                host: "internal:8080".to_owned(),
                origin: Some("https://example.com".to_owned()),
                forwarded_host: Some(host.to_owned()),
                forwarded_proto: Some(proto.to_owned()),
                forwarded_for: Some("198.51.100.7".to_owned()),
                ..Upgrade::default()
            };
            let is_allowed = ask(gate(&[], &["10.0.0.1/32"]), &upgrade, remote, "10.0.0.9");
            assert_eq!(is_allowed, expected, "{proto}://{host} by {remote}");
        };
        check("10.0.0.1", "example.com", "https", true);
        check("10.0.0.1", "Example.com:443", "wss", true);
        check("10.0.0.1", "example.com, inner", "https, http", true);
        check("10.0.0.1", "example.com", "http", false);
        check("10.0.0.1", "example.com", "gopher", false);
        check("10.0.0.1", "evil.com", "https", false);
        check("10.0.0.2", "example.com", "https", false);
    }
}
