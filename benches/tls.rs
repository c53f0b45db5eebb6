//! What TLS handshakes cost a server, and how late its ticks are meanwhile.
//!
//! `cargo bench --bench tls -- HANDSHAKES ROUNDS`: so many handshakes per second, 100 otherwise, in each second of two,
//! for so many times, 15 otherwise. Each handshake is a full one on a connection of its own, with one request. The
//! server has a thread of its own, whose CPU time is counted.

#![allow(clippy::unwrap_used, reason = "a bench whose setup fails should stop")]
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "the ends of the sockets are here")]
#![allow(clippy::print_stdout, reason = "it reports")]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use base64::prelude::{BASE64_STANDARD, Engine as _};
use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_RSA_SHA256, SignatureAlgorithm};
use rtcade::driver::{Driver, Handle, Options, Tls};
use rtcade::game::{Batch, Context, Game, Join, Leave, PlayerId, Refusal, Tick};
use rtcade::limits::{CALL_WORK, REQUEST_WORK};
use rustls::client::Resumption;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

const TICK: Duration = Duration::from_millis(10);
const PHASE: Duration = Duration::from_secs(1);
/// Connections of each kind whose costs are compared.
const COMPARED: u32 = 1_000;

type Ticks = Arc<Mutex<Vec<Instant>>>;

/// Notes when its ticks run.
struct Clock(Ticks);

impl Game for Clock {
    type Input = ();
    type Command = ();
    type State = ();
    type Event = ();
    type Welcome = ();
    type JoinData = ();

    fn join(&mut self, _: &mut Context<Clock>, _: PlayerId, _: &Join<()>) -> Result<(), Refusal> {
        Ok(())
    }

    fn leave(&mut self, _: &mut Context<Clock>, _: PlayerId, _: Leave) {}

    fn tick(&mut self, _: &mut Context<Clock>, _: Tick, _: Batch<'_, Clock>) {
        self.0.lock().unwrap().push(Instant::now());
    }
}

/// A certificate in a file of its own, removed when dropped.
struct Pair {
    file: PathBuf,
    certificate: CertificateDer<'static>,
}

impl Pair {
    fn new(name: &str, algorithm: &'static SignatureAlgorithm) -> Pair {
        let key = KeyPair::generate_for(algorithm).unwrap();
        let made = CertificateParams::new(["localhost".to_owned()]).unwrap().self_signed(&key).unwrap();
        let pem = |label: &str, der: &[u8]| {
            format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", BASE64_STANDARD.encode(der))
        };
        let file = std::env::temp_dir().join(format!("rtcade-bench-{name}-{}.pem", std::process::id()));
        std::fs::write(&file, pem("PRIVATE KEY", key.serialized_der()) + &pem("CERTIFICATE", made.der())).unwrap();
        Pair { file, certificate: made.der().clone() }
    }

    fn tls(&self) -> Tls {
        Tls { certificate: self.file.clone(), key: self.file.clone() }
    }

    fn client(&self, resumes: bool) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.clone()).unwrap();
        let mut config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        if !resumes {
            config.resumption = Resumption::disabled();
        }
        Arc::new(config)
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.file);
    }
}

struct Server {
    address: SocketAddr,
    thread: i32,
    handle: Handle,
    ticks: Ticks,
}

impl Server {
    fn start(tls: Option<Tls>) -> Server {
        let (sender, receiver) = mpsc::channel();
        let ticks = Ticks::default();
        let of_game = Arc::clone(&ticks);
        std::thread::spawn(move || {
            let listen = ([127, 0, 0, 1], 0).into();
            let options = Options { listen, tls, tick: Some(TICK), ..Options::default() };
            let driver = Driver::bind(options, move |_| Ok(Clock(Arc::clone(&of_game)))).unwrap();
            sender.send((driver.local_addr(), nix::unistd::gettid().as_raw(), driver.handle())).unwrap();
            driver.run().unwrap();
        });
        let (address, thread, handle) = receiver.recv().unwrap();
        Server { address, thread, handle, ticks }
    }

    fn connect(&self, config: Option<&Arc<ClientConfig>>) -> Box<dyn Stream + Send> {
        let socket = TcpStream::connect(self.address).unwrap();
        socket.set_nodelay(true).unwrap();
        let Some(config) = config else { return Box::new(socket) };
        let name = ServerName::try_from("localhost").unwrap();
        Box::new(StreamOwned::new(ClientConnection::new(Arc::clone(config), name).unwrap(), socket))
    }

    /// One request on a connection of its own.
    fn ask(&self, config: Option<&Arc<ClientConfig>>) {
        let mut stream = self.connect(config);
        stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
        let mut response = Vec::new();
        stream.read_to_end(&mut response).unwrap();
        assert!(response.starts_with(b"HTTP/1.1 200"));
    }

    /// The CPU time of its thread per such connection.
    fn cost(&self, config: Option<&Arc<ClientConfig>>) -> Duration {
        (0..COMPARED / 10).for_each(|_| self.ask(config));
        let before = cpu_time(self.thread);
        (0..COMPARED).for_each(|_| self.ask(config));
        (cpu_time(self.thread) - before) / COMPARED
    }

    fn metric(&self, config: &Arc<ClientConfig>, name: &str) -> u64 {
        let mut stream = self.connect(Some(config));
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
        let mut response = String::new();
        stream.read_to_string(&mut response).unwrap();
        let line = response.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|value| value.trim().parse().ok()).unwrap()
    }
}

trait Stream: Read + Write {}

impl<T: Read + Write> Stream for T {}

/// The CPU time of a thread of this process.
fn cpu_time(thread: i32) -> Duration {
    let text = std::fs::read_to_string(format!("/proc/self/task/{thread}/schedstat")).unwrap();
    Duration::from_nanos(text.split(' ').next().unwrap().parse().unwrap())
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

fn compare_costs(pairs: &[(&str, &Pair)]) {
    let plain = Server::start(None);
    let without = plain.cost(None);
    // Opening, the request, and about five calls.
    let unit = without.as_secs_f64() / (2 * REQUEST_WORK + 5 * CALL_WORK) as f64;
    println!("a connection with one request costs the server's thread {:.0} µs", micros(without));
    for (name, pair) in pairs {
        let server = Server::start(Some(pair.tls()));
        for (kind, resumes) in [("full", false), ("resumed", true)] {
            let cost = server.cost(Some(&pair.client(resumes))).saturating_sub(without);
            let work = cost.as_secs_f64() / unit / 1_024.0;
            println!("with a {kind} handshake ({name}) {:.0} µs more, as {work:.0} KiB of work", micros(cost));
        }
        server.handle.shutdown();
    }
    plain.handle.shutdown();
}

fn compare_ticks(pair: &Pair, rate: u32, rounds: u32) {
    let server = Server::start(Some(pair.tls()));
    let config = pair.client(false);
    let mut player = server.connect(Some(&config));
    player
        .write_all(
            b"GET /r/a HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
            Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        )
        .unwrap();
    let _ = player.read(&mut [0; 1024]).unwrap();
    player.write_all(&[&[0x81, 0x80 | 12, 0, 0, 0, 0][..], br#"{"a":"join"}"#].concat()).unwrap();
    let ended = AtomicBool::new(false);
    let begun = Instant::now();
    std::thread::scope(|scope| {
        // The player's end of the websocket has to take what comes; heartbeats stay unanswered, so it joins again.
        scope.spawn(|| {
            let mut player = player;
            let mut buffer = [0; 4096];
            while !ended.load(Ordering::Relaxed) {
                if !player.read(&mut buffer).is_ok_and(|count| count > 0) {
                    break;
                }
            }
        });
        let mut asked = 0;
        for round in 0..rounds {
            let from = begun + PHASE * (2 * round + 1);
            for number in 0..rate {
                let at = from + PHASE * number / rate;
                std::thread::sleep(at.saturating_duration_since(Instant::now()));
                // What is not done within its second must not disturb the next.
                if Instant::now() > from + PHASE {
                    break;
                }
                server.ask(Some(&config));
                asked += 1;
            }
        }
        ended.store(true, Ordering::Relaxed);
        let handshakes = server.metric(&config, "rtcade_tls_handshakes_total{kind=\"full\"}");
        let ticks = std::mem::take(&mut *server.ticks.lock().unwrap());
        server.handle.shutdown();
        report(begun, &ticks, asked, handshakes);
    });
}

fn report(begun: Instant, ticks: &[Instant], asked: u32, handshakes: u64) {
    assert!(ticks.len() > 100 && handshakes >= asked.into(), "{} ticks, {handshakes} handshakes", ticks.len());
    let first = ticks[0];
    let offsets: Vec<(u128, u128)> = ticks
        .iter()
        .filter(|tick| **tick >= begun)
        .map(|tick| ((*tick - begun).as_millis() / PHASE.as_millis(), (*tick - first).as_nanos() % TICK.as_nanos()))
        .collect();
    // Ticks are never early: the earliest within a tick shows the schedule.
    let earliest = offsets.iter().map(|(_, offset)| offset_from(*offset, offsets[0].1)).min().unwrap();
    let lateness = |is_loaded: bool| {
        let phases = offsets.iter().filter(|(phase, _)| (phase % 2 == 1) == is_loaded);
        let mut late: Vec<i128> = phases.map(|(_, offset)| offset_from(*offset, offsets[0].1) - earliest).collect();
        late.sort_unstable();
        late
    };
    let (idle, loaded) = (lateness(false), lateness(true));
    let at = |late: &[i128], permille: usize| late[(late.len() * permille / 1_000).min(late.len() - 1)] as f64 / 1e3;
    println!("{} ticks without handshakes, {} with {asked} of them", idle.len(), loaded.len());
    for (name, permille) in [("p50", 500), ("p99", 990), ("max", 1_000)] {
        let (idle, loaded) = (at(&idle, permille), at(&loaded, permille));
        println!("tick lateness {name}: {idle:.0} µs without, {loaded:.0} µs with: ratio {:.2}", loaded / idle);
    }
}

/// How far one offset within a tick is behind another, by at most half of a tick either way.
fn offset_from(offset: u128, other: u128) -> i128 {
    let tick = i128::try_from(TICK.as_nanos()).unwrap();
    let difference = i128::try_from(offset).unwrap() - i128::try_from(other).unwrap();
    (difference + tick / 2).rem_euclid(tick) - tick / 2
}

fn main() {
    let mut arguments = std::env::args().skip(1).filter_map(|argument| argument.parse::<u32>().ok());
    let rate = arguments.next().unwrap_or(100);
    let rounds = arguments.next().unwrap_or(15);
    let ecdsa = Pair::new("ecdsa", &PKCS_ECDSA_P256_SHA256);
    let rsa = Pair::new("rsa", &PKCS_RSA_SHA256);
    compare_costs(&[("ECDSA P-256", &ecdsa), ("RSA 2048", &rsa)]);
    compare_ticks(&ecdsa, rate, rounds);
}
