//! The server's report about its environment: bound sockets, advertised addresses and limits of the OS, each finding
//! with its remedy.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use nix::sys::resource::{Resource, getrlimit};
use serde::{Deserialize, Serialize};

use super::bind::{self, Sockets};
use super::site::Site;
use super::tls::Acceptor;
use super::udp::Udp;
use super::{BindError, Options};
use crate::limits;
use crate::server::with_port;

/// Files that a full server has open: connections, files that are being sent, and a recording of each room.
pub(crate) const FILES_WANTED: u64 = limits::CONNECTIONS as u64 + limits::ROOMS as u64 + 1_024;
/// The minimum for a busy server.
pub(crate) const FILES_ADVISED: u64 = 1_024;
/// Files that container engines create in each container.
const CONTAINER_MARKS: [&str; 2] = ["/.dockerenv", "/run/.containerenv"];

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Verdict {
    Ok,
    Warn,
    Fail,
}

/// The result of one check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Finding {
    pub(crate) verdict: Verdict,
    /// The subject of the check, in a word or two.
    pub(crate) check: String,
    /// The result, as a sentence.
    pub(crate) says: String,
    /// The remedy; empty if none is needed.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) remedy: String,
}

/// The nginx directives that pass the host name and the scheme on.
pub(crate) const NGINX_HOST: &str = "proxy_set_header Host $http_host;";
pub(crate) const NGINX_SCHEME: &str = "proxy_set_header X-Forwarded-Proto $scheme;";
/// The nginx directives that pass the websocket upgrade on.
pub(crate) const NGINX_UPGRADE: &str = "proxy_http_version 1.1; proxy_set_header Upgrade $http_upgrade; \
    proxy_set_header Connection \"upgrade\";";

/// What the server received: the headers of this request, and dropped upgrades of others.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Seen {
    pub(crate) host: String,
    pub(crate) forwarded_host: Option<String>,
    pub(crate) forwarded_proto: Option<String>,
    pub(crate) forwarded_for: Option<String>,
    /// Whether its sender is a trusted proxy.
    pub(crate) proxy_trusted: bool,
    /// Websocket requests of the last ten minutes from which a proxy removed the upgrade.
    pub(crate) upgrades_dropped: u64,
}

/// The JSON of `/doctor.json`. Apart from limits of the OS, players get all of it anyway.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Report {
    /// The server's clock: milliseconds since 1970.
    pub(crate) unix_ms: u64,
    pub(crate) findings: Vec<Finding>,
    #[serde(default)]
    pub(crate) seen: Seen,
}

impl Finding {
    pub(crate) fn ok(check: &str, says: impl Into<String>) -> Finding {
        Finding { verdict: Verdict::Ok, check: check.to_owned(), says: says.into(), remedy: String::new() }
    }

    pub(crate) fn warn(check: &str, says: impl Into<String>, remedy: impl Into<String>) -> Finding {
        Finding { verdict: Verdict::Warn, remedy: remedy.into(), ..Finding::ok(check, says) }
    }

    pub(crate) fn fail(check: &str, says: impl Into<String>, remedy: impl Into<String>) -> Finding {
        Finding { verdict: Verdict::Fail, remedy: remedy.into(), ..Finding::ok(check, says) }
    }
}

/// The findings that don't change while the server runs.
#[derive(Debug)]
pub(super) struct Premises {
    tcp: Vec<SocketAddr>,
    udp: Vec<SocketAddr>,
    is_told_an_address: bool,
    /// Problems of the sockets' buffers, with remedies.
    shortages: Vec<String>,
}

impl Premises {
    pub(super) fn new(tcp: Vec<SocketAddr>, udp: Vec<SocketAddr>, is_told_an_address: bool, sockets: &Udp) -> Premises {
        Premises { tcp, udp, is_told_an_address, shortages: sockets.shortages() }
    }

    /// The report for a client that gets these advertised addresses and sent this request.
    pub(super) fn report(&self, advertised: &[SocketAddr], seen: Seen) -> Report {
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Report {
            unix_ms: u64::try_from(since_1970.as_millis()).unwrap_or(u64::MAX),
            findings: self.findings(advertised, is_container()),
            seen,
        }
    }

    fn findings(&self, advertised: &[SocketAddr], is_container: bool) -> Vec<Finding> {
        let mut findings = vec![
            Finding::ok("bound", format!("TCP on {}, UDP on {}.", listed(&self.tcp), listed(&self.udp))),
            self.advertised(advertised, is_container),
            open_files(),
        ];
        findings.extend(self.shortages.iter().map(|shortage| {
            let (says, remedy) = shortage.split_once("; ").unwrap_or((shortage, ""));
            Finding::warn("socket buffers", format!("{says}."), capitalised(remedy))
        }));
        if self.shortages.is_empty() {
            findings.push(Finding::ok("socket buffers", "The OS granted the requested sizes."));
        }
        findings
    }

    fn advertised(&self, advertised: &[SocketAddr], is_container: bool) -> Finding {
        const CHECK: &str = "advertised";
        let port = self.udp.first().map_or(0, SocketAddr::port);
        let says = format!("Players are sent these UDP addresses: {}.", listed(advertised));
        if advertised.is_empty() {
            let remedy = "Name one with --public-addr IP, or connect this machine to a network.";
            Finding::fail(CHECK, "There is no UDP address to send to players.", remedy)
        } else if self.is_told_an_address {
            Finding::ok(CHECK, says)
        } else if advertised.iter().all(|address| address.ip().is_loopback()) {
            Finding::warn(
                CHECK,
                says,
                "They are reachable from this machine only: use --listen 0.0.0.0:8080 for other devices.",
            )
        } else if !advertised.iter().all(|address| bind::is_private(address.ip())) {
            Finding::ok(CHECK, says)
        } else if is_container {
            let remedy = format!(
                "In a container with a network of its own nobody else reaches these: publish UDP port {port} \
                (-p {port}:{port}/udp) and name the host's address with --public-addr IP."
            );
            Finding::warn(CHECK, says, remedy)
        } else {
            let remedy = format!(
                "Only this network reaches these: for players elsewhere, forward UDP port {port} of the router to this \
                machine and name the router's address with --public-addr IP."
            );
            Finding::warn(CHECK, says, remedy)
        }
    }
}

/// The findings of a server with these options, whose sockets are open only during the check.
pub(crate) fn examine(options: &Options) -> Vec<Finding> {
    let opened = bind::bind(options.listen, options.udp).and_then(|Sockets { tcp, udp }| {
        let addresses = |sockets: Vec<io::Result<SocketAddr>>| sockets.into_iter().collect::<Result<Vec<_>, _>>();
        let tcp = addresses(tcp.iter().map(mio::net::TcpListener::local_addr).collect())?;
        let bound = addresses(udp.iter().map(mio::net::UdpSocket::local_addr).collect())?;
        Ok((tcp, bound, Udp::new(udp)?))
    });
    let (tcp, bound, sockets) = match opened {
        Ok(opened) => opened,
        Err(error) => return vec![error.into(), open_files()],
    };
    let port = bound[0].port();
    let ips: Vec<IpAddr> = bound.iter().map(SocketAddr::ip).collect();
    let public = with_port(&options.public_addresses, port);
    let advertised = if public.is_empty() {
        let interfaces = bind::interfaces(&ips).unwrap_or_default();
        let is_networked = interfaces.iter().any(|ip| !ip.is_loopback());
        let reachable = interfaces.into_iter().filter(|ip| !is_networked || !ip.is_loopback());
        reachable.map(|ip| SocketAddr::new(ip, port)).collect()
    } else {
        public
    };
    let premises = Premises::new(tcp, bound, !options.public_addresses.is_empty(), &sockets);
    let certificate = options.tls.clone().map(|tls| match Acceptor::new(tls) {
        Ok(acceptor) => acceptor.finding(),
        Err(sentence) => BindError::Tls(sentence).into(),
    });
    let unreadable = options.public.clone().and_then(|directory| {
        let source = Site::new("".into(), Some(&directory)).err()?;
        Some(BindError::Public { directory, source }.into())
    });
    premises.report(&advertised, Seen::default()).findings.into_iter().chain(certificate).chain(unreadable).collect()
}

/// The limit of open files, after raising it as far as allowed.
fn open_files() -> Finding {
    const CHECK: &str = "open files";
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else {
        return Finding::warn(CHECK, "The limit of open files can't be read.", "");
    };
    let limit = soft.max(hard.min(FILES_WANTED));
    let says = format!("The limit of open files is {limit}; a full server needs {FILES_WANTED}.");
    if limit >= FILES_WANTED {
        Finding::ok(CHECK, says)
    } else {
        let remedy = format!("Each connection needs one: raise the limit (ulimit -n {FILES_WANTED}).");
        let finding = Finding::warn(CHECK, says, remedy);
        Finding { verdict: if limit < FILES_ADVISED { Verdict::Fail } else { Verdict::Warn }, ..finding }
    }
}

fn is_container() -> bool {
    CONTAINER_MARKS.iter().any(|mark| Path::new(mark).exists())
}

fn listed(addresses: &[SocketAddr]) -> String {
    addresses.iter().map(SocketAddr::to_string).collect::<Vec<_>>().join(", ")
}

pub(super) fn capitalised(sentence: &str) -> String {
    let mut chars = sentence.chars();
    chars.next().map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
}

impl From<BindError> for Finding {
    fn from(error: BindError) -> Finding {
        let itself = match &error {
            BindError::Address { address, source, .. } if source.kind() == io::ErrorKind::AddrInUse => {
                let local = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), address.port());
                let address = if address.ip().is_unspecified() { &local } else { address };
                format!(" If that is the server, test it: rtcade doctor http://{address}/.")
            }
            _ => String::new(),
        };
        let check = match error {
            BindError::Public { .. } => "files",
            BindError::Tls(_) => "certificate",
            _ => "bound",
        };
        let error = error.to_string();
        let (says, remedy) = error.split_once(": ").unwrap_or((&error, ""));
        Finding::fail(check, format!("{says}."), format!("{}.{itself}", capitalised(remedy)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn premises(is_told_an_address: bool) -> Premises {
        let bound = vec!["0.0.0.0:8080".parse().expect("an address")];
        Premises { tcp: bound.clone(), udp: bound, is_told_an_address, shortages: Vec::new() }
    }

    #[test]
    fn what_is_advertised_has_its_verdict_and_remedy() {
        let check = |told, advertised: &[&str], is_container, verdict, remedy: &str| {
            let advertised: Vec<_> = advertised.iter().map(|text| text.parse().expect("an address")).collect();
            let found = premises(told).advertised(&advertised, is_container);
            assert!(found.verdict == verdict && found.remedy.contains(remedy), "{advertised:?}: {found:?}");
            assert_eq!(found.remedy.is_empty(), verdict == Verdict::Ok, "{found:?}");
        };
        check(false, &["203.0.113.7:8080", "10.0.0.1:8080"], false, Verdict::Ok, "");
        check(false, &["[2001:db8::7]:8080"], false, Verdict::Ok, "");
        check(false, &["10.0.0.1:8080", "127.0.0.1:8080"], false, Verdict::Warn, "router");
        check(false, &["127.0.0.1:8080", "[::1]:8080"], false, Verdict::Warn, "0.0.0.0");
        check(false, &["172.17.0.2:8080"], true, Verdict::Warn, "-p 8080:8080/udp");
        check(false, &["203.0.113.7:8080"], true, Verdict::Ok, "");
        check(true, &["172.17.0.2:8080"], true, Verdict::Ok, "");
        check(true, &["10.0.0.1:9"], false, Verdict::Ok, "");
        check(false, &[], false, Verdict::Fail, "--public-addr");
    }

    #[test]
    fn a_shortage_is_a_finding_with_its_remedy() {
        let shortages = vec!["the OS granted too little; raise it with `sysctl`".to_owned()];
        let findings = Premises { shortages, ..premises(true) }.findings(&[], false);
        let found = findings.iter().find(|found| found.check == "socket buffers").expect("found");
        assert_eq!((found.verdict, found.remedy.as_str()), (Verdict::Warn, "Raise it with `sysctl`"));
    }

    #[test]
    fn a_taken_port_is_a_finding() {
        let taken = bind::bind(([127, 0, 0, 1], 0).into(), None).expect("bound");
        let listen = taken.tcp[0].local_addr().expect("bound");
        let findings = examine(&Options { listen, ..Options::default() });
        assert_eq!((findings[0].verdict, findings[0].check.as_str()), (Verdict::Fail, "bound"));
        let remedy = &findings[0].remedy;
        assert!(remedy.starts_with("Stop the program that uses it"), "{remedy}");
        assert!(remedy.ends_with(&format!("rtcade doctor http://{listen}/.")), "{remedy}");
        drop(taken);
        let findings = examine(&Options { listen, ..Options::default() });
        assert_eq!(findings[0], Finding::ok("bound", format!("TCP on {listen}, UDP on {listen}.")));
    }
}
