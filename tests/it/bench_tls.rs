//! The load tester through TLS, as a proxy in front of a server speaks it.

#![expect(clippy::disallowed_types, clippy::disallowed_methods, reason = "servers of real time stand at the other end")]

use std::fs;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Output};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use rcgen::CertifiedKey;
use rtcade::bench::generator::{self, Options, Unreachable};
use rtcade::bench::script::{Overrides, Script};
use rtcade::bench::stats::{Run, Share};
use rustls::pki_types::PrivateKeyDer;
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use super::bench::{Server, count, counts, options};

/// How often a proxy looks whether one of its two ends has something to say.
const TURN: Duration = Duration::from_millis(2);

/// A proxy that speaks TLS for a server that doesn't.
struct Proxy {
    address: SocketAddr,
    /// Its certificate, which it has made for itself.
    pem: String,
}

impl Proxy {
    fn start(server: &str) -> Proxy {
        let CertifiedKey { cert, signing_key } =
            rcgen::generate_simple_self_signed(["127.0.0.1".to_owned(), "localhost".to_owned()]).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let key = PrivateKeyDer::Pkcs8(signing_key.serialize_der().into());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![cert.der().clone()], key)
            .unwrap();
        let config = Arc::new(config);
        let server: SocketAddr = server.trim_start_matches("http://").trim_end_matches('/').parse().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (config, stream) = (Arc::clone(&config), stream.unwrap());
                // Who goes away is no matter of the proxy's.
                thread::spawn(move || drop(relay(stream, &config, server)));
            }
        });
        Proxy { address, pem: cert.pem() }
    }
}

fn relay(client: TcpStream, config: &Arc<ServerConfig>, server: SocketAddr) -> io::Result<()> {
    let mut server = TcpStream::connect(server)?;
    let mut client = StreamOwned::new(ServerConnection::new(Arc::clone(config)).map_err(io::Error::other)?, client);
    client.flush()?;
    client.sock.set_read_timeout(Some(TURN))?;
    server.set_read_timeout(Some(TURN))?;
    loop {
        if !pass(&mut client, &mut server)? || !pass(&mut server, &mut client)? {
            return Ok(());
        }
    }
}

/// Whether there may be more.
fn pass(from: &mut impl Read, to: &mut impl Write) -> io::Result<bool> {
    let mut buffer = [0; 4096];
    match from.read(&mut buffer) {
        Ok(0) => Ok(false),
        Ok(length) => to.write_all(&buffer[..length]).and_then(|()| to.flush()).map(|()| true),
        Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => Ok(true),
        Err(error) => Err(error),
    }
}

fn run(yaml: &str, target: &str, insecure: bool) -> Result<Run, Unreachable> {
    let script = Script::parse(yaml, &Overrides::default()).unwrap();
    generator::run(&script, &Options { insecure, ..options(target) }, &mut |_| std::ops::ControlFlow::Continue(()))
}

fn times(run: &Run, name: &str) -> u64 {
    run.stats.summary(name, Share::All).map_or(0, |summary| summary.count)
}

const PLAYERS: &str = "
config:
  phases: [{ duration: 1, arrivalCount: 5 }]
scenarios:
  - flow:
      - join: lobby
      - loop: [{ send: 1, measure: echo }]
        count: 10
        pacing: fixed
        every: 50ms
      - think: 0.5
";

#[test]
fn players_join_through_tls() {
    let server = Server::start("relay");
    let proxy = Proxy::start(&server.url);
    let run = run(PLAYERS, &format!("wss://{}", proxy.address), true).unwrap();
    assert_eq!((count(&run, "vusers.completed"), count(&run, "rtc.sent")), (5, 50), "{:?}", counts(&run));
    assert_eq!((times(&run, "rtc.echo"), times(&run, "rtc.open")), (50, 5), "{:?}", counts(&run));
    assert!(run.scrapes.iter().any(|(_, metrics)| metrics.contains_key("rtcade_players")), "over HTTPS");
}

#[test]
fn requests_and_websockets_go_through_tls() {
    let server = Server::start("relay");
    let proxy = Proxy::start(&server.url);
    let yaml = format!(
        "
config:
  tls: {{ rejectUnauthorized: false }}
  phases: [{{ duration: 1, arrivalCount: 10 }}]
scenarios:
  - name: asks
    engine: http
    flow: [{{ loop: [get: /healthz, get: \"https://{0}/rooms\", get: /rtcade.js], count: 3 }}]
  - name: talks
    engine: ws
    flow: [send: hello, expect: text, leave]
",
        proxy.address
    );
    let run = run(&yaml, &format!("https://{}/api", proxy.address), false).unwrap();
    let talked = count(&run, "vusers.created_by_name.talks");
    assert_eq!(count(&run, "vusers.completed"), 10, "{:?}", counts(&run));
    assert_eq!(count(&run, "http.codes.200"), 9 * (10 - talked), "{:?}", counts(&run));
    assert!((1..10).contains(&talked) && count(&run, "websocket.messages_received") == talked);
}

fn bench(proxy: &Proxy, trusted: Option<&Path>) -> Output {
    let script = Path::new(env!("CARGO_TARGET_TMPDIR")).join("bench-tls.yml");
    fs::write(&script, PLAYERS).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_rtcade"));
    command.args(["bench", "run", script.to_str().unwrap(), "-t", &format!("https://{}", proxy.address)]);
    if let Some(path) = trusted {
        command.env("SSL_CERT_FILE", path);
    }
    command.output().unwrap()
}

#[test]
fn a_certificate_that_nobody_vouches_for_is_not_taken() {
    let server = Server::start("relay");
    let proxy = Proxy::start(&server.url);
    let refused = bench(&proxy, None);
    let said = String::from_utf8(refused.stderr).unwrap();
    assert_eq!(refused.status.code(), Some(3), "{said}");
    assert!(
        said.contains("shows a certificate that is not trusted: ") && said.contains("with -k any is taken"),
        "{said}"
    );

    let trusted = Path::new(env!("CARGO_TARGET_TMPDIR")).join("bench-tls.pem");
    fs::write(&trusted, &proxy.pem).unwrap();
    let taken = bench(&proxy, Some(&trusted));
    let said = String::from_utf8(taken.stdout).unwrap();
    // A machine that is busy with other tests overloads the generator.
    assert!(matches!(taken.status.code(), Some(0 | 4)), "{said}");
    assert!(said.lines().any(|line| line.split_whitespace().eq(["vusers.completed", "5"])), "{said}");
}
