//! Which pages may open a websocket and read the server's responses, and which proxies are trusted to report where a
//! request comes from.
//!
//! Pages of the server itself are allowed: `Origin` (RFC 6454 §7) and `Host` (RFC 9110 §7.2) agree. That alone does not
//! protect a server in a private network: the owner of `evil.example` can let that name resolve to `127.0.0.1` or
//! `192.168.1.5` after a browser in that network has loaded the page (DNS rebinding), and then both headers name
//! `evil.example`. So if a connection comes from a private address to a private address, the name must be an IP address
//! or `localhost` (RFC 6761 §6.3), which nobody can redirect; other names need `--origin`. The check does not apply if
//! `--public-addr` gives a public address, because such a server is open to connections from everywhere. It does not
//! apply to connections with TLS either: a browser accepts no certificate of this server for another name.
//!
//! The same pages may read responses from another origin (CORS). The requests of a rebound page have no `Origin`,
//! because its browser considers them same-origin. So `/rooms`, `/metrics` and `/doctor.json` are refused to a browser
//! that uses a host name without `--origin`. Pages, scripts and files are public: a page that is not allowed to play
//! has to load in order to show why.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::bind::is_private;
use super::doctor::{NGINX_HOST, NGINX_SCHEME};
use super::http::{Method, Request, Response, Sender, Status};
use crate::rate::canonical;
use crate::wire::codes::ErrorCode;
use crate::wire::signaling::Fault;

/// Origins of pages that have no address of their own.
const UNNAMED: [&str; 2] = ["null", "file://"];
/// Seconds for which a browser may cache the answer to a preflight: the maximum of Chromium.
const PREFLIGHT_SECONDS: &str = "7200";
/// Characters of a host that are repeated in an error message.
const HOST_CHARS: usize = 100;
/// Bytes of an origin: the name of a host has at most 253 (RFC 1035 §2.3.4).
const ORIGIN_BYTES: usize = 300;

/// The origin of a page, as browsers write it (RFC 6454 §6.2): scheme, host, and the port unless it is the default of
/// the scheme.
///
/// Two origins don't identify a page: `null` is that of all pages in sandboxed frames and of most pages that are opened
/// as files, `file://` that of files in some programs. Any web site can create a sandboxed frame, so allowing `null`
/// allows the pages of every web site.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin(String);

impl Origin {
    /// Reads `https://example.com`, `http://localhost:5173`, `capacitor://localhost`, `null` or `file://`, in
    /// any case. Returns `None` for anything else, for example a longer URL.
    #[must_use]
    pub fn parse(text: &str) -> Option<Origin> {
        if text.len() > ORIGIN_BYTES {
            return None;
        }
        let text = text.to_ascii_lowercase();
        if UNNAMED.contains(&text.as_str()) {
            return Some(Origin(text));
        }
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

    /// The host, without the port.
    pub(super) fn host(&self) -> &str {
        let authority = self.0.split_once("://").map_or("", |(_, authority)| authority);
        authority.rsplit_once(':').filter(|(_, port)| !port.ends_with(']')).map_or(authority, |(host, _)| host)
    }

    /// Whether the host is an IP address or `localhost`, which DNS can't resolve to another address.
    fn is_literal(&self) -> bool {
        let host = self.host();
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
}

impl Gate {
    /// `public` are the configured public addresses.
    pub(super) fn new(origins: Vec<Origin>, proxies: Vec<IpNet>, public: &[SocketAddr]) -> Gate {
        let is_public = public.iter().any(|address| !is_private(address.ip()));
        let proxies = proxies.into_iter().map(canonical_prefix).collect();
        Gate { origins, proxies, is_public, refused: 0 }
    }

    pub(super) fn set_rules(&mut self, origins: Vec<Origin>, proxies: Vec<IpNet>) {
        self.origins = origins;
        self.proxies = proxies.into_iter().map(canonical_prefix).collect();
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
    /// is refused. `is_vouched` tells whether another node of the cluster vouches for this origin.
    pub(super) fn check(
        &mut self,
        sender: &Sender,
        remote: SocketAddr,
        local: Option<IpAddr>,
        is_vouched: impl FnOnce(&str) -> bool,
    ) -> Result<SocketAddr, Fault> {
        let player = self.player(remote, sender.forwarded_for.as_deref());
        let Some(text) = &sender.origin else {
            // Programs other than browsers send no `Origin`, and could send any.
            return Ok(player);
        };
        if is_vouched(text) {
            return Ok(player);
        }
        let origin = origin(text);
        if origin.as_ref().is_some_and(|origin| {
            self.may_play(origin, sender, remote.ip(), self.is_inside(player, sender, remote, local))
        }) {
            return Ok(player);
        }
        self.refused += 1;
        Err(Fault::new(ErrorCode::Origin, self.refusal("play on", origin.as_ref(), sender, remote.ip())))
    }

    /// What the page behind a request on a connection from `remote` to `local` may read.
    pub(super) fn permission(&self, sender: &Sender, remote: SocketAddr, local: Option<IpAddr>) -> Permission {
        let player = self.player(remote, sender.forwarded_for.as_deref());
        let is_inside = self.is_inside(player, sender, remote, local);
        let Some(text) = &sender.origin else {
            let unknown = (is_inside && sender.is_browser).then(|| self.unknown_host(sender, remote.ip())).flatten();
            return Permission { origin: None, refusal: unknown };
        };
        let origin = origin(text);
        if origin.as_ref().is_some_and(|origin| self.may_play(origin, sender, remote.ip(), is_inside)) {
            Permission { origin, refusal: None }
        } else {
            Permission {
                origin: None,
                refusal: Some(self.refusal("read this from", origin.as_ref(), sender, remote.ip())),
            }
        }
    }

    /// Whether both ends are in a private network, and no certificate proves the host name to the browser.
    fn is_inside(&self, player: SocketAddr, sender: &Sender, remote: SocketAddr, local: Option<IpAddr>) -> bool {
        let is_proven = self.is_secure(sender, remote.ip());
        !self.is_public && !is_proven && is_private(player.ip()) && local.is_none_or(is_private)
    }

    /// Whether the browser itself speaks TLS with this server.
    fn is_secure(&self, sender: &Sender, remote: IpAddr) -> bool {
        sender.is_secure && !self.is_proxy(remote)
    }

    /// The refusal if the server does not know the host name.
    fn unknown_host(&self, sender: &Sender, remote: IpAddr) -> Option<String> {
        let host = self.forwarded(&sender.forwarded_host, remote).unwrap_or_else(|| sender.host.to_ascii_lowercase());
        // Only the advice depends on the scheme, so it doesn't matter who says it.
        let is_secure = sender.forwarded_proto.as_deref().is_some_and(|list| first(list) == "https");
        let own = Origin::parse(&format!("{}://{host}", if is_secure { "https" } else { "http" }));
        let is_known = |own: &Origin| own.is_literal() || self.origins.iter().any(|named| named.host() == own.host());
        match own {
            Some(own) if is_known(&own) => None,
            Some(own) => Some(format!(
                "{} is not a host name that this server knows: open the server by its IP address{}.",
                own.host(),
                self.or_start(&own)
            )),
            None => Some("The Host field is not valid: open the server by its IP address.".to_owned()),
        }
    }

    fn may_play(&self, origin: &Origin, sender: &Sender, remote: IpAddr, is_inside: bool) -> bool {
        if !self.origins.is_empty() {
            return self.origins.contains(origin);
        }
        let (host, proto) = self.asked_as(sender, remote);
        origin.is_of(&host, proto.as_deref()) && (!is_inside || origin.is_literal())
    }

    /// Why pages of the origin are not allowed to `act` this server, and what to do.
    fn refusal(&self, act: &str, origin: Option<&Origin>, sender: &Sender, remote: IpAddr) -> String {
        let Some(origin) = origin else {
            return format!("This page is not allowed to {act} this server: its Origin field is not valid.");
        };
        if UNNAMED.contains(&origin.0.as_str()) {
            return format!(
                "Pages with the origin null (files, sandboxed frames) are not allowed to {act} this server: open the \
                page from a web server{}.",
                self.or_start(origin)
            );
        }
        let refused = format!("The origin {origin} is not allowed to {act} this server");
        let (host, proto) = self.asked_as(sender, remote);
        if !self.origins.is_empty() {
            return format!("{refused}: its --origin options name others only. Start it with --origin {origin} too.");
        }
        if origin.is_of(&host, proto.as_deref()) {
            return format!(
                "{refused}, because host names are not trusted in a private network: open the page by the server's IP \
                address{}.",
                self.or_start(origin)
            );
        }
        if self.is_secure(sender, remote) && origin.is_of(&host, None) {
            return format!("{refused}: it uses https. Open the page by https{}.", self.or_start(origin));
        }
        if let Some(proto) = proto.filter(|_| origin.is_of(&host, None)) {
            return format!(
                "{refused}: X-Forwarded-Proto is {:?}. Let the proxy send the scheme (nginx: {NGINX_SCHEME}){}.",
                proto.chars().take(HOST_CHARS).collect::<String>(),
                self.or_start(origin)
            );
        }
        let field = if self.forwarded(&sender.forwarded_host, remote).is_some() { "X-Forwarded-Host" } else { "Host" };
        format!(
            "{refused}: {field} is {:?}. Start the server with --origin {origin} or, if a proxy is in front of it, let \
            the proxy pass the host name on (nginx: {NGINX_HOST}).",
            host.chars().take(HOST_CHARS).collect::<String>(),
        )
    }

    /// The host and the scheme of the request, as a trusted proxy reports them where there is one.
    fn asked_as(&self, sender: &Sender, remote: IpAddr) -> (String, Option<String>) {
        let host = self.forwarded(&sender.forwarded_host, remote).unwrap_or_else(|| sender.host.clone());
        let own = self.is_secure(sender, remote).then(|| "https".to_owned());
        (host, own.or_else(|| self.forwarded(&sender.forwarded_proto, remote)))
    }

    /// The first entry of a field that is trusted only from a proxy.
    fn forwarded(&self, list: &Option<String>, remote: IpAddr) -> Option<String> {
        let list = list.as_ref().filter(|_| self.is_proxy(remote))?;
        Some(first(list))
    }

    /// The advice to name an origin.
    fn or_start(&self, origin: &Origin) -> String {
        let too = if self.origins.is_empty() { "" } else { " too" };
        format!(", or start the server with --origin {origin}{too}")
    }

    /// Returns the rightmost address in `X-Forwarded-For` that is not a proxy's: each proxy appends the address it
    /// received from, and anything before may be forged. A client on the machine of a proxy counts as the proxy.
    fn player(&self, remote: SocketAddr, forwarded_for: Option<&str>) -> SocketAddr {
        let mut player = remote;
        for entry in forwarded_for.into_iter().flat_map(|list| list.rsplit(',')) {
            let Some(address) = address(entry.trim()).filter(|_| self.is_proxy(player.ip())) else { break };
            player = address;
        }
        if player.ip().is_loopback() { remote } else { player }
    }
}

/// What the page behind a request may read.
#[derive(Debug, Default)]
pub(super) struct Permission {
    /// The origin that may read the response.
    origin: Option<Origin>,
    /// Why the page is not allowed to read the server's reports.
    pub(super) refusal: Option<String>,
}

impl Permission {
    /// Adds the CORS fields of the Fetch standard (§3.3) to the response.
    pub(super) fn apply(self, request: &Request, response: Response) -> Response {
        if self.origin.is_none() {
            return response;
        }
        let response = self.allow(response);
        if request.method != Method::Options || response.status != Status::NoContent {
            return response;
        }
        response
            .field("Access-Control-Allow-Methods", "GET, HEAD, POST, PATCH, DELETE")
            .field("Access-Control-Allow-Headers", "*, Authorization")
            .field("Access-Control-Max-Age", PREFLIGHT_SECONDS)
    }

    /// Lets the page read the response.
    pub(super) fn allow(self, response: Response) -> Response {
        let Some(origin) = self.origin else { return response };
        response
            .field("Access-Control-Allow-Origin", origin.0.clone())
            .field("Access-Control-Expose-Headers", "*")
            .field("Timing-Allow-Origin", origin.0)
    }
}

/// Whether the request comes from this machine: neither its connection nor a proxy names another address. A proxy need
/// not be trusted for that, because a forged entry could only withhold something.
pub(super) fn is_local(sender: &Sender, remote: IpAddr) -> bool {
    let is_loopback = |entry: &str| address(entry.trim()).is_some_and(|address| address.ip().is_loopback());
    remote.is_loopback() && sender.forwarded_for.iter().flat_map(|list| list.split(',')).all(is_loopback)
}

/// The origin that a browser sent, if it is valid and serialised as browsers do.
fn origin(text: &str) -> Option<Origin> {
    Origin::parse(text).filter(|origin| origin.0 == text)
}

/// The first entry of a list, in lower case.
fn first(list: &str) -> String {
    list.split(',').next().unwrap_or_default().trim().to_ascii_lowercase()
}

/// The prefix in the form of [`canonical`] addresses.
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
            ("null", "null"),
            ("file://", "file://"),
        ] {
            assert_eq!(Origin::parse(text), Some(Origin(expected.to_owned())), "{text}");
        }
        for text in [
            "",
            "file:///home",
            "null://",
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
            &format!("https://{}", "a".repeat(ORIGIN_BYTES)),
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

    /// Whether the gate admits a connection between these addresses.
    fn ask(mut gate: Gate, sender: &Sender, remote: &str, local: &str) -> bool {
        let remote = SocketAddr::new(remote.parse().expect("an address"), 9);
        gate.check(sender, remote, Some(local.parse().expect("an address")), |_| false).is_ok()
    }

    #[test]
    fn a_name_that_others_own_is_no_name_of_a_private_server() {
        let opens = |gate: Gate, host: &str, remote: &str, local: &str| {
            let origin = Some(format!("http://{host}"));
            ask(gate, &Sender { host: host.to_owned(), origin, ..Sender::default() }, remote, local)
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
    fn with_tls_a_page_of_the_server_is_https_and_its_name_is_proven() {
        let sender = |origin: &str| Sender {
            host: "box:8443".to_owned(),
            origin: Some(origin.to_owned()),
            is_browser: true,
            is_secure: true,
            ..Sender::default()
        };
        let opens =
            |origin: &str, proxies: &[&str]| ask(gate(&[], proxies), &sender(origin), "192.168.1.7", "192.168.1.5");
        assert!(opens("https://box:8443", &[]), "the certificate is for that name");
        assert!(!opens("https://box", &[]) && !opens("https://evil.example", &[]));
        assert!(!opens("http://box:8443", &[]), "anybody could have changed that page");
        assert!(!opens("https://box:8443", &["192.168.1.7/32"]), "the browser has seen the proxy's certificate only");
        let remote = "192.168.1.7:9".parse().expect("an address");
        let refused =
            gate(&[], &[]).check(&sender("http://box:8443"), remote, None, |_| false).expect_err("http").message;
        assert!(refused.contains("Open the page by https"), "{refused}");
        let reading = Sender { origin: None, ..sender("") };
        assert_eq!(gate(&[], &[]).permission(&reading, remote, None).refusal, None);
        assert!(gate(&[], &["192.168.1.7/32"]).permission(&reading, remote, None).refusal.is_some());
    }

    #[test]
    fn behind_a_known_proxy_the_page_is_where_the_proxy_says() {
        let check = |remote: &str, host: &str, proto: &str, expected: bool| {
            let sender = Sender {
                host: "internal:8080".to_owned(),
                origin: Some("https://example.com".to_owned()),
                forwarded_host: Some(host.to_owned()),
                forwarded_proto: Some(proto.to_owned()),
                forwarded_for: Some("198.51.100.7".to_owned()),
                ..Sender::default()
            };
            let is_allowed = ask(gate(&[], &["10.0.0.1/32"]), &sender, remote, "10.0.0.9");
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

    #[test]
    fn pages_without_an_address_play_where_that_is_named_and_are_told_so() {
        for text in UNNAMED {
            let sender = Sender { host: "h".to_owned(), origin: Some(text.to_owned()), ..Sender::default() };
            let check = |mut gate: Gate| gate.check(&sender, "127.0.0.1:9".parse().unwrap(), None, |_| false);
            let refused = check(gate(&[], &[])).expect_err("not named").message;
            assert!(refused.ends_with(&format!("start the server with --origin {text}.")), "{refused}");
            check(gate(&[text], &[])).expect("the advice works");
            check(gate(&["https://a"], &[])).expect_err("another is named");
        }
    }

    #[test]
    fn what_tells_of_a_private_server_is_kept_from_rebound_pages() {
        let refusal = |gate: &Gate, host: &str, is_browser: bool, remote: &str| {
            let sender = Sender { host: host.to_owned(), is_browser, ..Sender::default() };
            let remote = SocketAddr::new(remote.parse().expect("an address"), 9);
            gate.permission(&sender, remote, Some("192.168.1.5".parse().expect("an address"))).refusal
        };
        let plain = gate(&[], &[]);
        let refused = refusal(&plain, "Evil.example:8080", true, "192.168.1.7").expect("rebound");
        assert!(refused.starts_with("evil.example is not a host name"), "{refused}");
        assert!(refused.ends_with("start the server with --origin http://evil.example:8080."), "{refused}");
        assert!(refusal(&plain, "a b", true, "192.168.1.7").is_some());
        for (host, is_browser, remote) in [
            ("evil.example", false, "192.168.1.7"),
            ("192.168.1.5:8080", true, "192.168.1.7"),
            ("localhost:8080", true, "127.0.0.1"),
            ("play.example", true, "198.51.100.7"),
        ] {
            assert_eq!(refusal(&plain, host, is_browser, remote), None, "{host}");
        }
        let named = gate(&["https://evil.example"], &[]);
        assert_eq!(refusal(&named, "evil.example:8080", true, "192.168.1.7"), None, "that name was given");
        assert!(refusal(&named, "other.example", true, "192.168.1.7").is_some());
    }

    #[test]
    fn a_request_is_local_unless_anybody_names_another_address() {
        for (remote, forwarded_for, expected) in [
            ("127.0.0.1", None, true),
            ("127.9.9.9", None, true),
            ("::1", None, true),
            ("192.168.1.7", None, false),
            ("198.51.100.7", None, false),
            ("127.0.0.1", Some("127.0.0.1"), true),
            ("127.0.0.1", Some("::1, [::ffff:127.0.0.1]:5"), true),
            ("127.0.0.1", Some("198.51.100.7"), false),
            ("127.0.0.1", Some("127.0.0.1, 192.168.1.7"), false),
            ("127.0.0.1", Some("192.168.1.7, 127.0.0.1"), false),
            ("127.0.0.1", Some("unknown"), false),
            ("127.0.0.1", Some(""), false),
            ("192.168.1.7", Some("127.0.0.1"), false),
        ] {
            let sender = Sender { forwarded_for: forwarded_for.map(str::to_owned), ..Sender::default() };
            let remote = remote.parse().expect("an address");
            assert_eq!(is_local(&sender, remote), expected, "{remote} {forwarded_for:?}");
        }
    }

    #[test]
    fn the_advice_lets_the_page_in_by_its_own_scheme() {
        let remote = "127.0.0.1:9".parse().expect("an address");
        for (proto, origin) in [(None, "http://h"), (Some("https"), "https://h"), (Some("http"), "http://h")] {
            let forwarded_proto = proto.map(str::to_owned);
            let sender = Sender { host: "h".to_owned(), is_browser: true, forwarded_proto, ..Sender::default() };
            let refused = gate(&[], &[]).permission(&sender, remote, None).refusal.expect("an unknown name");
            assert!(refused.ends_with(&format!("--origin {origin}.")), "{refused}");
        }
    }

    #[test]
    fn pages_of_the_server_itself_are_told_when_others_are_named_in_their_place() {
        let own = Some("http://localhost:8080".to_owned());
        let sender = Sender { host: "localhost:8080".to_owned(), origin: own, ..Sender::default() };
        let check = |mut gate: Gate| gate.check(&sender, "127.0.0.1:9".parse().expect("an address"), None, |_| false);
        let refused = check(gate(&["http://localhost:5173"], &[])).expect_err("not named").message;
        assert!(refused.contains("its --origin options name others only"), "{refused}");
        assert!(refused.ends_with("Start it with --origin http://localhost:8080 too."), "{refused}");
        check(gate(&["http://localhost:5173", "http://localhost:8080"], &[])).expect("the advice works");
    }

    #[test]
    fn a_page_that_may_play_may_read() {
        let permission = |gate: &Gate, origin: &str| {
            let sender = Sender { host: "h:1".to_owned(), origin: Some(origin.to_owned()), ..Sender::default() };
            gate.permission(&sender, "198.51.100.7:9".parse().expect("an address"), None)
        };
        let allowed = |permission: Permission| permission.origin.map(|origin| origin.0);
        let named = gate(&["https://a"], &[]);
        assert_eq!(allowed(permission(&named, "https://a")).as_deref(), Some("https://a"));
        for origin in ["https://b", "http://h:1", "null", "https://a, https://a", "HTTPS://A"] {
            let refused = permission(&named, origin);
            assert!(refused.origin.is_none() && refused.refusal.is_some(), "{origin}");
        }
        assert_eq!(allowed(permission(&gate(&[], &[]), "http://h:1")).as_deref(), Some("http://h:1"));
    }
}
