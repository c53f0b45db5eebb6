//! TLS on the server's port, spoken to by rustls and byte by byte.

#![expect(clippy::disallowed_types, clippy::disallowed_methods, reason = "the other end of the sockets is here")]

use std::io::{BufRead, BufReader, Lines, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, ChildStderr, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::prelude::{BASE64_STANDARD, Engine as _};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rcgen::{CertificateParams, KeyPair};
use rtcade::driver::{Options, Tls};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, HandshakeKind, RootCertStore, StreamOwned};

use super::bench::{count, counts, options, run_with, signal};
use super::doctor::{doctor, found};
use super::driver::{Connection, PATIENCE, Server, assert_alive, get, loopback, upgrade, upgraded};

type Encrypted = StreamOwned<ClientConnection, TcpStream>;

fn pem(label: &str, der: &[u8]) -> String {
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", BASE64_STANDARD.encode(der))
}

/// A certificate for `localhost` and its key, as PEM.
struct Pair {
    der: CertificateDer<'static>,
    certificate: String,
    key: String,
}

impl Pair {
    fn new() -> Pair {
        Pair::until(2100)
    }

    fn until(year: i32) -> Pair {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
        params.not_after = rcgen::date_time_ymd(year, 1, 1);
        let made = params.self_signed(&key).unwrap();
        let (certificate, key) = (pem("CERTIFICATE", made.der()), pem("PRIVATE KEY", key.serialized_der()));
        Pair { der: made.der().clone(), certificate, key }
    }

    /// A client that trusts it and no other.
    fn client(&self) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots.add(self.der.clone()).unwrap();
        ClientConfig::builder().with_root_certificates(roots).with_no_client_auth()
    }
}

/// The files of a server, removed when dropped.
struct Files(PathBuf);

impl Files {
    fn new(name: &str, pair: &Pair) -> Files {
        let files = Files(std::env::temp_dir().join(format!("rtcade-tls-{name}-{}", std::process::id())));
        std::fs::create_dir_all(&files.0).unwrap();
        files.write(&pair.certificate, &pair.key);
        files
    }

    fn write(&self, certificate: &str, key: &str) {
        std::fs::write(self.tls().certificate, certificate).unwrap();
        std::fs::write(self.tls().key, key).unwrap();
    }

    fn tls(&self) -> Tls {
        Tls { certificate: self.0.join("chain.pem"), key: self.0.join("key.pem") }
    }

    fn serve(&self) -> Server {
        Server::start(Options { tls: Some(self.tls()), ..loopback() })
    }

    /// The program with these files.
    fn program(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_rtcade"));
        let Tls { certificate, key } = self.tls();
        command.args(["--listen", "127.0.0.1:0", "-v"]).arg("--tls-cert").arg(certificate);
        command.arg("--tls-key").arg(key).args(arguments);
        command
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A running program, killed when dropped.
struct Program {
    process: Child,
    address: SocketAddr,
    log: Lines<BufReader<ChildStderr>>,
}

impl Program {
    fn start(mut command: Command) -> Program {
        let mut process = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let log = BufReader::new(process.stderr.take().unwrap()).lines();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().rsplit_once("https://").unwrap().1.trim_end_matches('/').parse().unwrap();
        Program { process, address, log }
    }

    /// The next line of its log with these words.
    fn logged(&mut self, words: &str) -> String {
        self.log.by_ref().map(Result::unwrap).find(|line| line.contains(words)).unwrap()
    }

    fn stop(&mut self) {
        signal(&self.process, "-TERM");
        assert_eq!(self.process.wait().unwrap().code(), Some(0));
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn connect(address: SocketAddr, config: &Arc<ClientConfig>) -> Connection<Encrypted> {
    let name = ServerName::try_from("localhost").unwrap();
    let session = ClientConnection::new(Arc::clone(config), name).unwrap();
    Connection::over(StreamOwned::new(session, Connection::open(address).socket))
}

/// The body of a page that a client of this certificate gets.
fn body(address: SocketAddr, config: &Arc<ClientConfig>, path: &str) -> String {
    let mut connection = connect(address, config);
    connection.send(get(path));
    connection.response().body
}

fn handshakes(address: SocketAddr, config: &Arc<ClientConfig>) -> [u64; 5] {
    let metrics = body(address, config, "/metrics");
    ["full", "resumed", "failed", "unfinished", "plaintext"].map(|kind| {
        let name = format!("rtcade_tls_handshakes_total{{kind=\"{kind}\"}} ");
        metrics.lines().find_map(|line| line.strip_prefix(&name)).unwrap().parse().unwrap()
    })
}

/// The first message of a client, as it is sent.
fn client_hello(config: &Arc<ClientConfig>) -> Vec<u8> {
    let name = ServerName::try_from("localhost").unwrap();
    let mut bytes = Vec::new();
    ClientConnection::new(Arc::clone(config), name).unwrap().write_tls(&mut bytes).unwrap();
    bytes
}

#[test]
fn pages_files_and_websockets_come_encrypted() {
    const SEED: u64 = 7;
    let pair = Pair::new();
    let files = Files::new("pages", &pair);
    let mut film = vec![0; 3_000_001];
    ChaCha8Rng::seed_from_u64(SEED).fill(&mut film[..]);
    std::fs::write(files.0.join("film.bin"), &film).unwrap();
    let server = Server::start(Options { tls: Some(files.tls()), public: Some(files.0.clone()), ..loopback() });
    for version in [&rustls::version::TLS13, &rustls::version::TLS12] {
        let mut roots = RootCertStore::empty();
        roots.add(pair.der.clone()).unwrap();
        let builder = ClientConfig::builder_with_protocol_versions(&[version]);
        let mut config = builder.with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let config = Arc::new(config);
        let mut connection = connect(server.address, &config);
        // The responses are larger than the sockets take at once.
        connection.send(get("/film.bin").repeat(3) + &get("/healthz"));
        for _ in 0..3 {
            let (response, body) = connection.response_of_bytes();
            assert!(response.status == 200 && body == film, "{version:?}: {} bytes", body.len());
        }
        assert_eq!(connection.response().body, "ok\n");
        assert_eq!(connection.socket.conn.alpn_protocol(), Some(&b"http/1.1"[..]));
        // Wherever a share ends, the end of a response must not be lost when the connection is closed behind it.
        for length in (1_000..=66_000).step_by(5_000) {
            let mut connection = connect(server.address, &config);
            let range = format!("Range: bytes=0-{}", length - 1);
            connection.send(format!("GET /film.bin HTTP/1.1\r\nHost: h\r\n{range}\r\nConnection: close\r\n\r\n"));
            let (_, body) = connection.response_of_bytes();
            assert!(body == film[..length], "{version:?}: {} bytes of {length}", body.len());
            assert!(connection.is_closed(), "with an alert that nothing was cut off");
        }
        let mut player = upgraded(connect(server.address, &config), "/r/lobby");
        assert_alive(&mut player);
        player.send_frame(0x81, br#"{"a":"join","d":{"name":"ada"}}"#);
        assert!(player.text_with("joinR").contains("\"s\":true"));
    }
    server.stop();
}

#[test]
fn players_have_their_data_channel_beside_wss_and_the_doctor_agrees() {
    let pair = Pair::new();
    let files = Files::new("play", &pair);
    let server = files.serve();
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
        let options =
            rtcade::bench::generator::Options { insecure: true, ..options(&format!("{scheme}://{}", server.address)) };
        let run = run_with(yaml, &options, |_| ());
        assert_eq!(count(&run, "vusers.completed"), 5, "{scheme}: {:?}", counts(&run));
        assert!(count(&run, "rtc.received") >= 100, "over the data channel: {:?}", counts(&run));
        assert!(run.scrapes.iter().any(|(_, metrics)| metrics.contains_key("rtcade_tls_certificate_expires_seconds")));
    }
    let url = format!("https://{}/r/lobby", server.address);
    let (printed, status) = doctor(&[&url, "-k"]);
    assert_eq!(status, Some(0), "{printed}");
    for check in ["page", "server: certificate", "host", "websocket", "UDP", "UDP size"] {
        found(&printed, "ok", check);
    }
    let (printed, status) = doctor(&[&url]);
    let (says, remedy) = found(&printed, "FAIL", "page");
    assert!(says.contains("is not trusted") && remedy.contains("authority") && status == Some(1), "{printed}");
    server.stop();
}

#[test]
fn a_client_that_returns_needs_no_signature_until_the_certificate_is_replaced() {
    let pair = Pair::new();
    let files = Files::new("resumed", &pair);
    let server = files.serve();
    let config = Arc::new(pair.client());
    let kind = || {
        let mut connection = connect(server.address, &config);
        connection.send(get("/healthz"));
        connection.response();
        connection.socket.conn.handshake_kind().unwrap()
    };
    assert_eq!([kind(), kind(), kind()], [HandshakeKind::Full, HandshakeKind::Resumed, HandshakeKind::Resumed]);
    assert_eq!(handshakes(server.address, &config), [1, 3, 0, 0, 0]);
    server.handle.reload();
    // The metrics are asked for with a ticket of the replaced certificate or the next.
    let deadline = Instant::now() + PATIENCE;
    while kind() != HandshakeKind::Full {
        assert!(Instant::now() < deadline, "it was never read again");
    }
    server.stop();
}

#[test]
fn a_replaced_certificate_is_for_later_connections_and_open_ones_go_on() {
    let (old, new) = (Pair::new(), Pair::new());
    let files = Files::new("replaced", &old);
    let server = files.serve();
    let [of_old, of_new] = [&old, &new].map(|pair| Arc::new(pair.client()));
    let mut player = upgraded(connect(server.address, &of_old), "/r/lobby");
    assert_alive(&mut player);
    files.write(&new.certificate, &new.key);
    server.handle.reload();
    let is_trusted = |config: &Arc<ClientConfig>| {
        let mut connection = connect(server.address, config);
        connection.socket.write_all(get("/healthz").as_bytes()).is_ok()
    };
    let deadline = Instant::now() + PATIENCE;
    while !is_trusted(&of_new) {
        assert!(Instant::now() < deadline, "it was never read");
    }
    assert!(!is_trusted(&of_old));
    assert_alive(&mut player);

    files.write(&old.certificate, "nothing");
    server.handle.reload();
    assert_eq!(body(server.address, &of_new, "/healthz"), "ok\n");
    assert!(is_trusted(&of_new), "what can't be used replaces nothing");
    assert_alive(&mut player);
    server.stop();
}

#[test]
fn a_signal_reads_the_certificate_again_and_a_line_says_why_the_old_one_stays() {
    let (old, new) = (Pair::new(), Pair::new());
    let files = Files::new("signal", &old);
    let mut program = Program::start(files.program(&[]));
    let of_new = Arc::new(new.client());
    files.write(&new.certificate, &old.key);
    signal(&program.process, "-HUP");
    let line = program.logged("stays as it was");
    assert!(line.contains("ERROR") && line.contains("is not that of the first certificate"), "{line}");
    program.logged("the configuration was read again");
    files.write(&new.certificate, &new.key);
    signal(&program.process, "-HUP");
    program.logged("was read again");
    assert_eq!(body(program.address, &of_new, "/healthz"), "ok\n");
    program.stop();
}

#[test]
fn files_that_cannot_be_used_are_one_sentence_and_status_2() {
    let (pair, other) = (Pair::new(), Pair::new());
    let files = Files::new("bad", &pair);
    let cut = &pair.certificate[..pair.certificate.len() / 2];
    let (not_der, encrypted) = (pem("CERTIFICATE", b"nothing"), pem("ENCRYPTED PRIVATE KEY", b"secret"));
    for (certificate, key, expected) in [
        ("", pair.key.as_str(), "contains no certificate"),
        ("nothing", &pair.key, "contains no certificate"),
        (cut, &pair.key, "can't be used (missing section end marker"),
        (&not_der, &pair.key, "can't be used ("),
        (&pair.certificate, "", "contains no private key"),
        (&pair.certificate, &pair.certificate, "contains no private key"),
        (&pair.certificate, &encrypted, "is encrypted"),
        (&pair.certificate, &pem("PRIVATE KEY", b"nothing"), "can't be used ("),
        (&pair.certificate, &other.key, "is not that of the first certificate"),
    ] {
        files.write(certificate, key);
        let output = files.program(&[]).output().unwrap();
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), error.lines().count()), (Some(2), 1), "{expected}: {error}");
        assert!(error.starts_with("rtcade: ") && error.contains(expected), "{expected}: {error}");
        assert!(error.contains(".pem"), "names the file: {error}");
    }
    for file in [files.tls().key, files.tls().certificate] {
        std::fs::remove_file(&file).unwrap();
        let output = files.program(&[]).output().unwrap();
        let error = String::from_utf8(output.stderr).unwrap();
        let option = if file == files.tls().key { "--tls-key" } else { "--tls-cert" };
        assert_eq!(output.status.code(), Some(2), "{error}");
        assert!(error.contains("can't be read") && error.contains(option), "{error}");
        if option == "--tls-key" {
            std::fs::create_dir(&file).unwrap();
            let error = String::from_utf8(files.program(&[]).output().unwrap().stderr).unwrap();
            assert!(error.contains("no file of at most 1 MiB"), "{error}");
            std::fs::remove_dir(&file).unwrap();
        }
    }
    let (printed, status) = doctor(&["--tls-cert", "/nowhere", "--tls-key", "/nowhere", "--listen", "127.0.0.1:0"]);
    assert!(found(&printed, "FAIL", "certificate").1.contains("--tls-cert") && status == Some(1), "{printed}");
}

#[test]
fn a_certificate_that_ends_is_told_to_the_log_and_the_doctor() {
    for (year, verdict) in [(2020, "FAIL"), (2100, "ok")] {
        let files = Files::new(&format!("expiry-{year}"), &Pair::until(year));
        let mut program = Program::start(files.program(&[]));
        let (printed, _) = doctor(&["-k", &format!("https://{}", program.address)]);
        assert!(found(&printed, verdict, "server: certificate").0.contains(&format!("{year}-01-01")), "{printed}");
        program.stop();
        let log: Vec<String> = program.log.by_ref().map(Result::unwrap).collect();
        let told = log.iter().find(|line| line.contains("the TLS certificate expired at 2020-01-01"));
        assert_eq!(told.is_some_and(|line| line.contains("ERROR")), verdict == "FAIL", "{log:?}");
    }
}

#[test]
fn requests_without_tls_are_redirected_to_it() {
    let pair = Pair::new();
    let files = Files::new("plain", &pair);
    let server = files.serve();
    let config = Arc::new(pair.client());
    let port = server.address.port();
    let mut plain = server.connect();
    plain.send(format!("GET /r/lobby?dev HTTP/1.1\r\nHost: localhost:{port}\r\n\r\n"));
    let response = plain.response();
    assert_eq!(response.status, 308);
    assert_eq!(response.field("Location"), Some(format!("https://localhost:{port}/r/lobby?dev").as_str()));
    assert!(plain.is_closed());
    let mut page = server.connect();
    page.send(upgrade("/r/lobby"));
    assert_eq!(page.head().status, 101);
    let told = page.text_with("joinR");
    assert!(told.contains("bad_request") && told.contains("wss://"), "{told}");
    let mut other = server.connect();
    other.send("SSH-2.0-x\r\n\r\n");
    assert_eq!(other.response().status, 400);
    for path in ["/metrics", "/doctor.json", "/rtcade.js"] {
        assert_eq!(server.get(path).status, 308, "nothing is given away: {path}");
    }
    assert_eq!(handshakes(server.address, &config), [1, 0, 0, 0, 6]);
    server.stop();
}

#[test]
fn the_second_port_redirects_and_serves_the_challenges_of_an_authority() {
    let pair = Pair::new();
    let files = Files::new("redirect", &pair);
    let public = files.0.join("public");
    let challenges = public.join(".well-known/acme-challenge");
    std::fs::create_dir_all(&challenges).unwrap();
    std::fs::write(challenges.join("token"), "proof").unwrap();
    std::fs::write(public.join("file.txt"), "file").unwrap();
    let redirect = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let server = Server::start(Options {
        tls: Some(files.tls()),
        https_redirect: Some(redirect),
        public: Some(public),
        ..loopback()
    });
    let ask = |request: &str| {
        let mut connection = Connection::open(redirect);
        connection.send(request);
        connection.response()
    };
    let port = server.address.port();
    for host in ["game.example".to_owned(), redirect.to_string().replace("127.0.0.1", "game.example")] {
        let response = ask(&get("/file.txt").replace("Host: h", &format!("Host: {host}")));
        let location = format!("https://game.example:{port}/file.txt");
        assert_eq!((response.status, response.field("Location")), (308, Some(location.as_str())));
    }
    assert_eq!(ask(&get("/.well-known/acme-challenge/token")).body, "proof");
    assert_eq!(ask(&get("/.well-known/acme-challenge/other")).status, 404);
    assert_eq!(ask(&get("/.well-known/acme-challenge/../../file.txt")).status, 404);
    assert_eq!(ask(&get("/.well-known/other")).status, 308);
    let mut page = Connection::open(redirect);
    page.send(upgrade("/r/lobby"));
    assert_eq!(page.head().status, 101);
    assert!(page.text_with("joinR").contains("wss://"));
    let config = Arc::new(pair.client());
    let mut encrypted = Connection::open(redirect);
    encrypted.send(client_hello(&config));
    assert_eq!(encrypted.response().status, 400, "it has no TLS");
    assert_eq!(handshakes(server.address, &config), [1, 0, 0, 0, 0], "no handshakes of this port");
    server.stop();
}

#[test]
fn an_incomplete_handshake_ends_after_its_time_and_is_counted() {
    let pair = Pair::new();
    let files = Files::new("half", &pair);
    let server = files.serve();
    let config = Arc::new(pair.client());
    let hello = client_hello(&config);
    let mut slow: Vec<_> = [0, 1, 5, hello.len() / 2, hello.len()]
        .into_iter()
        .map(|length| {
            let mut connection = server.connect();
            connection.send(&hello[..length]);
            connection
        })
        .collect();
    // Those wait while others are served.
    assert_eq!(body(server.address, &config, "/healthz"), "ok\n");
    for connection in &mut slow {
        let mut rest = Vec::new();
        let _ = connection.socket.read_to_end(&mut rest);
        assert!(!rest.starts_with(b"HTTP"), "{rest:?}");
    }
    drop(slow);
    let deadline = Instant::now() + PATIENCE;
    while handshakes(server.address, &config)[3] != 5 {
        assert!(Instant::now() < deadline, "{:?}", handshakes(server.address, &config));
        std::thread::sleep(Duration::from_millis(50));
    }
    server.stop();
}

#[test]
fn what_is_no_tls_ends_its_connection_alone() {
    const SEED: u64 = 11;
    let pair = Pair::new();
    let files = Files::new("garbage", &pair);
    let server = files.serve();
    let config = Arc::new(pair.client());
    let mut player = upgraded(connect(server.address, &config), "/r/lobby");
    let mut rng = ChaCha8Rng::seed_from_u64(SEED);
    let mut only_h2 = pair.client();
    only_h2.alpn_protocols = vec![b"h2".to_vec()];
    let hello = client_hello(&Arc::new(only_h2));
    const TRIED: u64 = 100;
    for number in 0..TRIED {
        // A record of what no handshake is, a hello with other bytes in it, or one for a protocol that is not spoken.
        let mut bytes = hello.clone();
        if number % 3 == 0 {
            bytes = vec![0; rng.random_range(6..3_000)];
            rng.fill(&mut bytes[..]);
            bytes[..5].copy_from_slice(&[0x16, 3, 1, 0, 1]);
        } else if number % 3 == 1 {
            for _ in 0..20 {
                let at = rng.random_range(1..bytes.len());
                bytes[at] = rng.random();
            }
        }
        let mut connection = server.connect();
        let _ = connection.socket.write_all(&bytes);
        let _ = connection.socket.shutdown(std::net::Shutdown::Write);
        let mut rest = Vec::new();
        let _ = connection.socket.read_to_end(&mut rest);
        assert!(!rest.starts_with(b"HTTP"), "seed {SEED}, {number}: {rest:?}");
        if number % 10 == 0 {
            assert_alive(&mut player);
        }
    }
    let [full, resumed, failed, unfinished, plaintext] = handshakes(server.address, &config);
    assert_eq!((full + resumed, failed + unfinished, plaintext), (2, TRIED, 0), "seed {SEED}");
    assert!(failed > TRIED / 2, "{failed} failed");

    // Data that can't be decrypted ends an open connection, too.
    let mut broken = upgraded(connect(server.address, &config), "/r/lobby");
    broken.socket.sock.write_all(&[0x17, 3, 3, 0, 20]).unwrap();
    broken.socket.sock.write_all(&[7; 20]).unwrap();
    let deadline = Instant::now() + PATIENCE;
    while !body(server.address, &config, "/metrics").contains("\nrtcade_connections 1\n") {
        assert!(Instant::now() < deadline, "it is open still");
    }
    assert_alive(&mut player);
    server.stop();
}
