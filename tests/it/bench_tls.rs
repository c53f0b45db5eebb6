//! The load generator against servers behind a proxy that terminates TLS.

#![expect(clippy::disallowed_types, clippy::disallowed_methods, reason = "the proxy and what is behind it are here")]

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::ops::ControlFlow;
use std::process::{Command, Output};
use std::sync::{Arc, Mutex};
use std::thread;

use base64::prelude::{BASE64_STANDARD, Engine as _};
use rtcade::bench::generator::{self, Options, Unreachable};
use rtcade::bench::script::{Overrides, Script};
use rtcade::bench::stats::Share;
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::{ServerConfig, ServerConnection};

use super::bench::{Server, count, counts, options, run, run_with};

/// More than rustls and sockets take at once.
const LARGE: usize = 300_000;

/// Takes TLS off, for whoever asks it for `localhost` or 127.0.0.1.
pub(super) struct Proxy {
    pub(super) address: SocketAddr,
    certificate: Vec<u8>,
}

impl Proxy {
    pub(super) fn start(upstream: SocketAddr) -> Proxy {
        Proxy::start_with(&["localhost", "127.0.0.1"], move |_, client, config| hand_on(client, upstream, config))
    }

    /// `serve` has each connection with its number, in a thread of its own.
    fn start_with(
        names: &[&str],
        serve: impl Fn(u64, TcpStream, Arc<ServerConfig>) -> io::Result<()> + Copy + Send + 'static,
    ) -> Proxy {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let made = rcgen::generate_simple_self_signed(names).unwrap();
        let certificate = made.cert.der().clone();
        let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
        let mut config = ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.clone()], key.into())
            .unwrap();
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let config = Arc::new(config);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || {
            for (number, client) in (0..).zip(listener.incoming()) {
                let (client, config) = (client.unwrap(), Arc::clone(&config));
                thread::spawn(move || serve(number, client, config));
            }
        });
        Proxy { address, certificate: certificate.to_vec() }
    }

    fn url(&self, scheme: &str) -> String {
        format!("{scheme}://{}", self.address)
    }

    /// Lets the program bench what it finds there under that name, and trust this certificate and no other.
    fn bench(&self, host: &str, trusted: &[u8], arguments: &[&str]) -> Output {
        let base64 = BASE64_STANDARD.encode(trusted);
        let port = self.address.port();
        let file = std::env::temp_dir().join(format!("rtcade-bench-tls-{}-{port}.pem", std::process::id()));
        std::fs::write(&file, format!("-----BEGIN CERTIFICATE-----\n{base64}\n-----END CERTIFICATE-----\n")).unwrap();
        let output = Command::new(env!("CARGO_BIN_EXE_rtcade"))
            .args(["bench", "quick", &format!("https://{host}:{port}"), "--clients", "2", "--seconds", "1"])
            .args(arguments)
            .env("SSL_CERT_FILE", &file)
            .env_remove("SSL_CERT_DIR")
            .output()
            .unwrap();
        std::fs::remove_file(file).unwrap();
        output
    }
}

/// Does the server's side of TLS, to its end.
fn hand_on(mut client: TcpStream, upstream: SocketAddr, config: Arc<ServerConfig>) -> io::Result<()> {
    let mut upstream = TcpStream::connect(upstream)?;
    let tls = Arc::new(Mutex::new(ServerConnection::new(config).unwrap()));
    let (down, mut from, mut to) = (Arc::clone(&tls), upstream.try_clone()?, client.try_clone()?);
    thread::spawn(move || -> io::Result<()> {
        let mut buffer = [0; 16 * 1024];
        loop {
            let count = from.read(&mut buffer)?;
            let mut tls = down.lock().unwrap();
            tls.writer().write_all(&buffer[..count])?;
            if count == 0 {
                tls.send_close_notify();
            }
            while tls.wants_write() {
                tls.write_tls(&mut to)?;
            }
            if count == 0 {
                return to.shutdown(Shutdown::Write);
            }
        }
    });
    let mut buffer = [0; 16 * 1024];
    loop {
        let count = client.read(&mut buffer)?;
        let mut bytes = &buffer[..count];
        while !bytes.is_empty() {
            let mut plain = Vec::new();
            let mut tls = tls.lock().unwrap();
            tls.read_tls(&mut bytes)?;
            let processed = tls.process_new_packets().map_err(io::Error::other);
            while tls.wants_write() {
                tls.write_tls(&mut client)?;
            }
            plain.resize(processed?.plaintext_bytes_to_read(), 0);
            tls.reader().read_exact(&mut plain)?;
            drop(tls);
            upstream.write_all(&plain)?;
        }
        if count == 0 {
            return upstream.shutdown(Shutdown::Write);
        }
    }
}

fn insecure(target: &str) -> Options {
    Options { insecure: true, ..options(target) }
}

/// Serves each connection in a thread of its own.
fn serve(handle: impl Fn(TcpStream) -> io::Result<()> + Copy + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let stream = stream.unwrap();
            thread::spawn(move || handle(stream));
        }
    });
    address
}

#[test]
fn players_play_where_signaling_goes_through_tls() {
    let server = Server::start("relay");
    let proxy = Proxy::start(server.address());
    let yaml = "
config:
  phases: [{ duration: 1, arrivalCount: 5 }]
scenarios:
  - flow:
      - join: lobby
      - loop: [{ send: 1, measure: echo }]
        count: 20
        pacing: fixed
        every: 50ms
      - reconnect
      - think: 0.5
      - leave
";
    for scheme in ["https", "wss"] {
        let run = run_with(yaml, &insecure(&proxy.url(scheme)), |_| ());
        let times = |name| run.stats.summary(name, Share::All).map_or(0, |summary| summary.count);
        assert_eq!(count(&run, "vusers.completed"), 5, "{scheme}: {:?}", counts(&run));
        assert_eq!((times("rtc.echo"), times("rtc.open"), times("rtc.reconnect")), (100, 5, 5), "{scheme}");
        assert!(count(&run, "rtc.received") >= 100, "over the data channel: {:?}", counts(&run));
        assert!(run.scrapes.iter().any(|(_, metrics)| metrics.contains_key("rtcade_players")), "{scheme}");
    }
}

#[test]
fn messages_large_and_many_at_once_come_back_through_tls() {
    let proxy = Proxy::start(serve(|stream| {
        let Ok(mut socket) = tungstenite::accept(stream) else { return Ok(()) };
        while socket.read().and_then(|message| socket.send(message)).is_ok() {}
        Ok(())
    }));
    let large = "x".repeat(LARGE);
    let yaml = format!(
        "
config:
  tls: {{ rejectUnauthorized: false }}
  phases: [{{ duration: 0.1, arrivalCount: 4 }}]
scenarios:
  - engine: ws
    flow:
      - loop: [{{ send: \"{{{{ $loopCount }}}}\", measure: echo }}]
        count: 200
      - send: {large}
        measure: echo
      - send: last
        measure: echo
      - expect: {{ text: last }}
      - leave
"
    );
    let run = run(&yaml, &proxy.url("wss"), |_| ());
    assert_eq!(count(&run, "vusers.completed"), 4, "{:?}", counts(&run));
    let times = |name| run.stats.summary(name, Share::All).map_or(0, |summary| summary.count);
    assert_eq!((times("websocket.open"), times("websocket.echo")), (4, 4 * 202));
}

#[test]
fn requests_and_responses_of_any_size_go_through_tls() {
    // What was posted comes back.
    let proxy = Proxy::start(serve(|mut stream| {
        let mut reader = BufReader::new(stream.try_clone()?);
        loop {
            let head = reader.by_ref().lines().take_while(|line| line.as_ref().is_ok_and(|line| !line.is_empty()));
            let head: Vec<String> = head.collect::<io::Result<_>>()?;
            let length = head.iter().find_map(|line| line.strip_prefix("Content-Length: "));
            let mut body = vec![0; length.map_or(0, |length| length.parse().unwrap())];
            reader.read_exact(&mut body)?;
            write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len())?;
            stream.write_all(&body)?;
            if !head.first().is_some_and(|line| line.ends_with("HTTP/1.1")) {
                return Ok(());
            }
        }
    }));
    let (url, large) = (proxy.url("https"), "x".repeat(LARGE));
    let yaml = format!(
        "
config:
  phases: [{{ duration: 0.1, arrivalCount: 4 }}]
scenarios:
  - engine: http
    flow:
      - post: {{ url: /, json: {large} }}
      - loop: [{{ get: \"{url}/path\" }}]
        count: 10
      - post: {{ url: \"{url}\", json: {large} }}
"
    );
    let run = run_with(&yaml, &insecure(&url), |_| ());
    assert_eq!(count(&run, "vusers.completed"), 4, "{:?}", counts(&run));
    let quotes = 2;
    assert_eq!(count(&run, "http.codes.200"), 4 * 12);
    assert_eq!(count(&run, "http.downloaded_bytes"), 4 * 2 * (LARGE + quotes) as u64);

    let yaml = yaml.replace("/path", "5/path");
    let run = run_with(&yaml, &insecure(&url), |_| ());
    assert_eq!(count(&run, "errors.EURL"), 4, "{:?}", counts(&run));
    let yaml = yaml.replace("https://", "http://");
    let run = run_with(&yaml, &insecure(&url), |_| ());
    assert_eq!(count(&run, "errors.another_server"), 4, "without TLS it is another: {:?}", counts(&run));
}

#[test]
fn a_certificate_must_be_trusted_and_for_that_name() {
    let server = Server::start("relay");
    let proxy = Proxy::start(server.address());
    let sentence = |target: &str| {
        let yaml = "{ config: { phases: [{ duration: 1, arrivalCount: 1 }] }, scenarios: [{ flow: [join] }] }";
        let script = Script::parse(yaml, &Overrides::default()).unwrap();
        match generator::run(&script, &options(target), &mut |_| ControlFlow::Continue(())) {
            Err(error @ Unreachable::Server { .. }) => error.to_string(),
            other => panic!("{other:?}"),
        }
    };
    let untrusted = sentence(&proxy.url("https"));
    assert!(untrusted.contains("use -k to accept any certificate"), "{untrusted}");
    let no_tls = sentence(&format!("https://{}", server.address()));
    assert!(!no_tls.contains("-k"), "{no_tls}");

    let upstream = server.address();
    let other = Proxy::start_with(&["example.com"], move |_, client, config| hand_on(client, upstream, config));
    for (trusted, cause) in [
        (other.certificate.as_slice(), "is not trusted (certificate not valid for name \"localhost\""),
        (proxy.certificate.as_slice(), "its certificate is not trusted ("),
        (b"", "this machine has no trusted certificates"),
    ] {
        let output = other.bench("localhost", trusted, &[]);
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(3), "{error}");
        assert!(error.contains(cause) && error.contains("; use -k to accept any certificate"), "{error}");
    }
    for (proxy, host, arguments) in
        [(&proxy, "localhost", [].as_slice()), (&proxy, "127.0.0.1", &[]), (&other, "localhost", &["--insecure"])]
    {
        let output = proxy.bench(host, &proxy.certificate, arguments);
        // The other status is that of a machine with much else to do.
        assert!(matches!(output.status.code(), Some(0 | 4)), "{host}: {output:?}");
        assert!(String::from_utf8_lossy(&output.stdout).contains("rtc.echo"), "{output:?}");
    }
}

#[test]
fn tls_that_fails_later_has_a_name_of_its_own() {
    // It goes when something has come: before, the handshake might not be done.
    let nobody = serve(|mut stream| stream.read(&mut [0]).map(drop));
    let proxy = Proxy::start_with(&["localhost"], move |number, mut client, config| match number {
        0 => hand_on(client, nobody, config),
        _ => client.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n"),
    });
    let yaml = "
config:
  phases: [{ duration: 1, arrivalCount: 9 }]
scenarios:
  - { name: a, engine: http, flow: [{ get: / }] }
  - { name: b, engine: ws, flow: [{ send: a }, { expect: text }] }
  - { name: c, flow: [join] }
";
    let run = run_with(yaml, &insecure(&proxy.url("https")), |_| ());
    assert_eq!((count(&run, "vusers.failed"), count(&run, "errors.ETLS")), (9, 9), "{:?}", counts(&run));
}
