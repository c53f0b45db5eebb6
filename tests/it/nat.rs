//! The program in network namespaces: behind a router that forwards ports, with several addresses, over IPv6 alone,
//! and where its address changes.
//!
//! The router forwards in user space, so that the test needs nothing of the kernel but namespaces: each flow has a
//! socket of its own towards the server, which sees the router's address, as it does behind Docker's proxy. Where
//! namespaces can't be made, each test says so and passes.

#![expect(clippy::disallowed_types, clippy::disallowed_methods, reason = "the other end of the sockets is here")]

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, setns};

use super::driver::Player;

/// Longer than a data channel may take to open, after which the server says why it has none.
const PATIENCE: Duration = Duration::from_secs(40);
const PORT: u16 = 8080;
/// At the router; another than the server's, as a router may have it.
const PUBLIC_PORT: u16 = 40_080;
/// The driver looks for new addresses at most once in so long.
const INTERFACES_INTERVAL: Duration = Duration::from_millis(1_100);

/// A network namespace, gone when dropped.
struct Namespace(String);

impl Namespace {
    /// Nothing, with a word of why, where namespaces can't be made.
    fn make() -> Option<Namespace> {
        static MADE: AtomicU32 = AtomicU32::new(0);
        let name = format!("rtcade-{}-{}", std::process::id(), MADE.fetch_add(1, Ordering::Relaxed));
        let ip = |arguments: &str| match Command::new("ip").args(arguments.split(' ')).output() {
            Ok(output) if output.status.success() => Ok(()),
            Ok(output) => Err(String::from_utf8_lossy(&output.stderr).trim_end().to_owned()),
            Err(error) => Err(format!("ip: {error}")),
        };
        let made = ip(&format!("netns add {name}")).and_then(|()| {
            let namespace = Namespace(name.clone());
            ip(&format!("-n {name} link set lo up"))?;
            // Not every kernel has the cables that connect them.
            ip(&format!("-n {name} link add probe type veth peer name eborp"))?;
            ip(&format!("-n {name} link delete probe"))?;
            Ok(namespace)
        });
        made.inspect_err(|error| println!("skipped: no network namespace: {error}")).ok()
    }

    fn ip(&self, arguments: &str) {
        let output = Command::new("ip").args(["-n", &self.0]).args(arguments.split(' ')).output().unwrap();
        assert!(output.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// Lays a cable; each end has a name and addresses.
    fn connect(&self, (name, addresses): (&str, &[&str]), other: &Namespace, far: (&str, &[&str])) {
        self.ip(&format!("link add {name} type veth peer name {} netns {}", far.0, other.0));
        for (namespace, name, addresses) in [(self, name, addresses), (other, far.0, far.1)] {
            for address in addresses {
                namespace.add_address(name, address);
            }
            namespace.ip(&format!("link set {name} up"));
        }
    }

    fn add_address(&self, interface: &str, address: &str) {
        // Nobody else is on the cable to have taken an address of IPv6.
        let now = if address.contains(':') { " nodad" } else { "" };
        self.ip(&format!("address add {address} dev {interface}{now}"));
    }

    /// Runs something on a thread that is in the namespace; sockets and programs that it opens stay there.
    fn run<T: Send>(&self, inside: impl FnOnce() -> T + Send) -> T {
        let namespace = File::open(format!("/run/netns/{}", self.0)).unwrap();
        std::thread::scope(|scope| {
            let thread = scope.spawn(move || {
                setns(namespace, CloneFlags::CLONE_NEWNET).unwrap();
                inside()
            });
            thread.join().unwrap()
        })
    }

    /// Joins a room of the server that is reached at `server`.
    fn join(&self, server: SocketAddr) -> Player {
        self.run(|| {
            let tcp = TcpStream::connect_timeout(&server, PATIENCE).unwrap();
            let udp = UdpSocket::bind((tcp.local_addr().unwrap().ip(), 0)).unwrap();
            Player::join_by(tcp, udp, "Ada")
        })
    }

    /// What the program says of the server that is reached at `server`, and whether nothing failed.
    fn doctor(&self, server: SocketAddr) -> (String, bool) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_rtcade"));
        command.args(["doctor", &format!("http://{server}/")]);
        let output = self.run(|| command.output().unwrap());
        (String::from_utf8(output.stdout).unwrap(), output.status.success())
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let removed = Command::new("ip").args(["netns", "delete", &self.0]).status();
        assert!(removed.is_ok_and(|status| status.success()) || std::thread::panicking(), "{} stays", self.0);
    }
}

/// The program in a namespace, killed when dropped.
struct Program(Child);

impl Program {
    fn start(namespace: &Namespace, arguments: &[&str]) -> Program {
        let mut command = Command::new(env!("CARGO_BIN_EXE_rtcade"));
        command.args(["--game", "relay", "--listen", &format!("0.0.0.0:{PORT}")]).args(arguments);
        let mut child = namespace.run(|| command.stdout(Stdio::piped()).spawn().unwrap());
        let stdout = child.stdout.take().unwrap();
        let program = Program(child);
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line).unwrap();
        assert!(line.contains("is open at"), "{line}");
        program
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A router's port forwarding of TCP and UDP, ended when dropped.
struct Forwarding {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Forwarding {
    /// From `public` to `server`, both of which the router reaches.
    fn start(router: &Namespace, public: SocketAddr, server: SocketAddr) -> Forwarding {
        let stop = Arc::new(AtomicBool::new(false));
        let (near, listener) = router.run(|| (UdpSocket::bind(public).unwrap(), TcpListener::bind(public).unwrap()));
        let namespace = || File::open(format!("/run/netns/{}", router.0)).unwrap();
        let (of_udp, of_tcp) = (namespace(), namespace());
        let (udp_stops, tcp_stops) = (Arc::clone(&stop), Arc::clone(&stop));
        let udp = std::thread::spawn(move || {
            setns(of_udp, CloneFlags::CLONE_NEWNET).unwrap();
            forward_udp(&near, server, &udp_stops);
        });
        let tcp = std::thread::spawn(move || {
            setns(of_tcp, CloneFlags::CLONE_NEWNET).unwrap();
            forward_tcp(&listener, server, &tcp_stops);
        });
        Forwarding { stop, threads: vec![udp, tcp] }
    }
}

impl Drop for Forwarding {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let ended = thread.join();
            assert!(ended.is_ok() || std::thread::panicking(), "the router panicked");
        }
    }
}

fn forward_udp(near: &UdpSocket, server: SocketAddr, stop: &AtomicBool) {
    near.set_nonblocking(true).unwrap();
    let mut flows: BTreeMap<SocketAddr, UdpSocket> = BTreeMap::new();
    let mut datagram = [0; 2048];
    while !stop.load(Ordering::Relaxed) {
        while let Ok((length, source)) = near.recv_from(&mut datagram) {
            let flow = flows.entry(source).or_insert_with(|| {
                let flow = UdpSocket::bind("0.0.0.0:0").unwrap();
                // What comes from another address or port than the forwarded one is dropped.
                flow.connect(server).unwrap();
                flow.set_nonblocking(true).unwrap();
                flow
            });
            let _ = flow.send(&datagram[..length]);
        }
        for (source, flow) in &flows {
            while let Ok(length) = flow.recv(&mut datagram) {
                let _ = near.send_to(&datagram[..length], source);
            }
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn forward_tcp(listener: &TcpListener, server: SocketAddr, stop: &AtomicBool) {
    listener.set_nonblocking(true).unwrap();
    let mut open = Vec::new();
    let mut copies = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        while let Ok((near, _)) = listener.accept() {
            let far = TcpStream::connect_timeout(&server, PATIENCE).unwrap();
            for (mut from, mut to) in [
                (near.try_clone().unwrap(), far.try_clone().unwrap()),
                (far.try_clone().unwrap(), near.try_clone().unwrap()),
            ] {
                from.set_nonblocking(false).unwrap();
                copies.push(std::thread::spawn(move || {
                    let _ = std::io::copy(&mut from, &mut to);
                    let _ = to.shutdown(Shutdown::Write);
                }));
            }
            open.extend([near, far]);
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    for socket in open {
        let _ = socket.shutdown(Shutdown::Both);
    }
    copies.into_iter().for_each(|copy| copy.join().unwrap());
}

fn until(what: &str, player: &mut Player, done: impl Fn(&Player) -> bool) {
    let begun = Instant::now();
    while !done(player) {
        let Player { sources, channel_closed, .. } = player;
        assert!(begun.elapsed() < PATIENCE, "never {what}; heard from {sources:?}, closed: {channel_closed:?}");
        player.turn();
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Sends inputs until they have come back.
fn play(player: &mut Player) {
    let heard = |player: &Player| player.heard.values().map(Vec::len).sum::<usize>();
    let before = heard(player);
    for input in 0..10 {
        player.client.send(Instant::now(), &input).unwrap();
        until("played", player, |player| heard(player) > before + input);
    }
}

/// Plays over a data channel to these addresses, and no other.
fn play_by_channel(player: &mut Player, with: &[SocketAddr]) {
    until("open", player, |player| player.client.is_open());
    play(player);
    assert!(player.client.is_open() && player.channel_closed.is_none(), "{:?}", player.channel_closed);
    assert!(
        !player.sources.is_empty() && player.sources.iter().all(|source| with.contains(source)),
        "{:?}",
        player.sources
    );
}

fn at(ip: &str, port: u16) -> SocketAddr {
    SocketAddr::new(ip.parse::<IpAddr>().unwrap(), port)
}

/// A server's namespace, a router's and a player's, with the router forwarding.
fn behind_a_router() -> Option<([Namespace; 3], Forwarding)> {
    let (server, router, player) = (Namespace::make()?, Namespace::make()?, Namespace::make()?);
    router.connect(("inside", &["10.77.0.1/24"]), &server, ("eth0", &["10.77.0.2/24"]));
    router.connect(("outside", &["203.0.113.1/24"]), &player, ("eth0", &["203.0.113.9/24"]));
    server.ip("route add default via 10.77.0.1");
    player.ip("route add default via 203.0.113.1");
    let forwarding = Forwarding::start(&router, at("203.0.113.1", PUBLIC_PORT), at("10.77.0.2", PORT));
    Some(([server, router, player], forwarding))
}

#[test]
fn behind_a_nat_the_named_public_address_carries_the_channel() {
    let Some(([server, _router, player], forwarding)) = behind_a_router() else { return };
    let public = at("203.0.113.1", PUBLIC_PORT);
    let program = Program::start(&server, &["--public-addr", &public.to_string()]);
    play_by_channel(&mut player.join(public), &[public]);

    let (printed, is_fine) = player.doctor(public);
    assert!(is_fine && printed.contains("frames of full size"), "{printed}");
    drop((forwarding, program));
}

/// As on a machine of Hetzner.
#[test]
fn behind_the_nat_of_a_cloud_its_metadata_service_names_the_public_address() {
    let Some(([server, _router, player], forwarding)) = behind_a_router() else { return };
    server.add_address("lo", "169.254.169.254/32");
    let listener = server.run(|| TcpListener::bind("169.254.169.254:80").unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut line = String::new();
            let mut lines = BufReader::new(stream.try_clone().unwrap());
            // Whoever only looks whether the service is there asks nothing.
            let _ = lines.read_line(&mut line);
            let (status, body) = match line.starts_with("GET /hetzner/v1/metadata/public-ipv4 ") {
                true => ("200 OK", "203.0.113.1\n"),
                false => ("404 Not Found", ""),
            };
            let head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{body}", body.len());
            let _ = stream.write_all(head.as_bytes());
        }
    });
    let public = at("203.0.113.1", PUBLIC_PORT);
    let program = Program::start(&server, &["--public-addr", &format!("auto:{PUBLIC_PORT}")]);
    play_by_channel(&mut player.join(public), &[public]);
    drop((forwarding, program));
}

#[test]
fn outside_of_a_cloud_the_server_says_that_it_knows_no_public_address() {
    let Some(alone) = Namespace::make() else { return };
    let mut command = Command::new(env!("CARGO_BIN_EXE_rtcade"));
    command.args(["--listen", "127.0.0.1:0", "--public-addr", "auto"]);
    let output = alone.run(|| command.output().unwrap());
    let errors = String::from_utf8(output.stderr).unwrap();
    assert_eq!((output.status.code(), errors.lines().count()), (Some(1), 1), "{errors}");
    let expected = "rtcade: auto can't be resolved (no cloud's metadata service answers at 169.254.169.254: ";
    assert!(errors.starts_with(expected) && errors.contains("or an address, with --public-addr"), "{errors}");
}

#[test]
fn behind_a_nat_without_a_public_address_the_websocket_carries_it_and_the_cause_is_named() {
    let Some(([server, _router, player], forwarding)) = behind_a_router() else { return };
    let program = Program::start(&server, &[]);
    let mut ada = player.join(at("203.0.113.1", PUBLIC_PORT));
    play(&mut ada);
    assert!(!ada.client.is_open());
    until("closed", &mut ada, |ada| ada.channel_closed.is_some());
    let cause = ada.channel_closed.clone().unwrap();
    assert!(cause.contains("did not open in time: UDP may be blocked"), "{cause}");
    play(&mut ada);
    drop((forwarding, program));
}

#[test]
fn every_address_of_the_server_answers_as_itself() {
    let (Some(server), Some(ada), Some(bob)) = (Namespace::make(), Namespace::make(), Namespace::make()) else {
        return;
    };
    server.connect(("eth0", &["10.77.1.1/24", "10.77.1.2/24"]), &ada, ("eth0", &["10.77.1.9/24"]));
    server.connect(("eth1", &["10.77.2.1/24"]), &bob, ("eth0", &["10.77.2.9/24"]));
    let program = Program::start(&server, &[]);
    let of_ada = [at("10.77.1.1", PORT), at("10.77.1.2", PORT)];
    for asked in of_ada {
        let mut player = ada.join(asked);
        play_by_channel(&mut player, &of_ada);
        assert!(player.sources.contains(&asked), "{:?}", player.sources);
    }
    let of_bob = at("10.77.2.1", PORT);
    play_by_channel(&mut bob.join(of_bob), &[of_bob]);
    drop(program);

    // Unless told otherwise, the OS would answer from the first address.
    let second = of_ada[1];
    let program = Program::start(&server, &["--public-addr", &second.ip().to_string()]);
    play_by_channel(&mut ada.join(second), &[second]);
    drop(program);
}

#[test]
fn a_player_with_ipv6_alone_plays() {
    let (Some(server), Some(player)) = (Namespace::make(), Namespace::make()) else { return };
    server.connect(("eth0", &["10.77.3.1/24", "fd77::1/64"]), &player, ("eth0", &["fd77::9/64"]));
    let program = Program::start(&server, &[]);
    let address = at("fd77::1", PORT);
    play_by_channel(&mut player.join(address), &[address]);
    drop(program);
}

#[test]
fn who_joins_after_a_change_of_address_is_told_the_new_one() {
    let (Some(server), Some(player)) = (Namespace::make(), Namespace::make()) else { return };
    server.connect(("eth0", &["10.77.4.1/24"]), &player, ("eth0", &["10.77.4.9/24"]));
    let program = Program::start(&server, &[]);
    let (before, after) = (at("10.77.4.1", PORT), at("10.77.4.2", PORT));
    play_by_channel(&mut player.join(before), &[before]);
    server.ip("address del 10.77.4.1/24 dev eth0");
    server.add_address("eth0", "10.77.4.2/24");
    std::thread::sleep(INTERFACES_INTERVAL);
    play_by_channel(&mut player.join(after), &[after]);

    let (printed, _) = player.doctor(after);
    assert!(printed.contains(&after.to_string()) && !printed.contains(&before.to_string()), "{printed}");
    drop(program);
}
