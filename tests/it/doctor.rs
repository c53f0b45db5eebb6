//! `rtcade doctor`, the program itself, against servers and against other listeners.

#![expect(clippy::disallowed_types, clippy::disallowed_methods, reason = "the other end of the sockets is here")]

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rtcade::auth::{Keys, SigningKey};
use rtcade::driver::{Options, Origin};

use super::driver::{Server, loopback};

/// What it prints, and its exit status.
pub(super) fn doctor(arguments: &[&str]) -> (String, Option<i32>) {
    let output = Command::new(env!("CARGO_BIN_EXE_rtcade")).arg("doctor").args(arguments).output().unwrap();
    let printed = [output.stdout, output.stderr].concat();
    (String::from_utf8(printed).unwrap(), output.status.code())
}

/// The line of a check, without what surrounds its sentence, and what to do about it.
pub(super) fn found<'a>(printed: &'a str, verdict: &str, check: &str) -> (&'a str, &'a str) {
    let mut lines = printed.lines();
    let says = lines.find_map(|line| line.strip_prefix(&format!("{verdict:<5} {check:<22} ")));
    let remedy = lines.next().and_then(|line| line.trim_start().strip_prefix("-> "));
    (says.unwrap_or_else(|| panic!("no {verdict} of {check}:\n{printed}")), remedy.unwrap_or_default())
}

/// A path to a UDP port that drops what is larger than so many bytes; closed when dropped.
struct NarrowPath {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl NarrowPath {
    fn open(largest: usize, to: SocketAddr) -> NarrowPath {
        let near = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = near.local_addr().unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || relay(&near, to, largest, &stopped));
        NarrowPath { address, stop, thread: Some(thread) }
    }
}

impl Drop for NarrowPath {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let ended = self.thread.take().map(JoinHandle::join);
        assert!(matches!(ended, Some(Ok(()))) || std::thread::panicking(), "the path panicked");
    }
}

fn relay(near: &UdpSocket, to: SocketAddr, largest: usize, stopped: &AtomicBool) {
    near.set_nonblocking(true).unwrap();
    let mut flows: BTreeMap<SocketAddr, UdpSocket> = BTreeMap::new();
    let mut datagram = [0; 2048];
    while !stopped.load(Ordering::Relaxed) {
        while let Ok((length, source)) = near.recv_from(&mut datagram) {
            let far = flows.entry(source).or_insert_with(|| {
                let far = UdpSocket::bind("127.0.0.1:0").unwrap();
                far.set_nonblocking(true).unwrap();
                far
            });
            if length <= largest {
                let _ = far.send_to(&datagram[..length], to);
            }
        }
        for (source, far) in &flows {
            while let Ok((length, _)) = far.recv_from(&mut datagram) {
                if length <= largest {
                    let _ = near.send_to(&datagram[..length], source);
                }
            }
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn a_server_in_order_passes_every_check() {
    let server = Server::start(loopback());
    for path in ["/", "/r/lobby"] {
        let (printed, status) = doctor(&[&format!("http://{}{path}", server.address)]);
        assert_eq!(status, Some(0), "{printed}");
        for check in ["page", "server: bound", "clock", "websocket", "advertised", "UDP", "round trip", "UDP size"] {
            assert_eq!(found(&printed, "ok", check).1, "", "nothing to do");
        }
        assert!(found(&printed, "ok", "advertised").0.contains(&server.address.to_string()), "{printed}");
        assert!(found(&printed, "ok", "UDP size").0.contains("full size"), "{printed}");
    }
    server.stop();
}

#[test]
fn a_server_with_keys_wants_a_token_of_the_doctor_too() {
    let keys = r#"{"keys": [{"kty": "oct", "k": "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8"}]}"#;
    let options = Options { keys: Some(Keys::parse(keys, "game").unwrap()), ..loopback() };
    let server = Server::start(options);
    let url = format!("http://{}/r/lobby", server.address);
    let (printed, status) = doctor(&[&url]);
    assert!(found(&printed, "warn", "join").1.contains("--bearer") && status == Some(0), "{printed}");
    let signing = SigningKey::parse(keys, "game", None).unwrap();
    let soon = SystemTime::now().duration_since(UNIX_EPOCH).unwrap() + Duration::from_secs(60);
    let token = |room: &str| signing.sign("doctor", room, soon).unwrap();
    let (printed, status) = doctor(&[&url, "--bearer", &token("elsewhere")]);
    assert!(found(&printed, "FAIL", "join").0.contains("for another room") && status == Some(1), "{printed}");
    let (printed, status) = doctor(&[&url, "--bearer", &token("lobby")]);
    assert_eq!(status, Some(0), "{printed}");
    found(&printed, "ok", "UDP size");
    server.stop();
}

#[test]
fn a_page_that_may_not_play_is_a_warning_with_its_remedy() {
    let server = Server::start(loopback());
    let port = server.address.port();
    let elsewhere = vec![Origin::parse("https://play.example").unwrap()];
    let named = Server::start(Options { origins: elsewhere, ..loopback() });
    let url = format!("http://{}", named.address);
    let (printed, status) = doctor(&[&url]);
    assert_eq!(status, Some(0), "{printed}");
    assert!(found(&printed, "warn", "pages").0.contains(&format!("--origin {url}")), "{printed}");
    found(&printed, "ok", "websocket");
    let (printed, _) = doctor(&[&format!("http://localhost:{port}")]);
    assert!(!printed.contains("--origin"), "{printed}");
    server.stop();
    named.stop();
}

#[test]
fn blocked_udp_fails_with_its_remedy() {
    let closed = UdpSocket::bind("127.0.0.1:0").unwrap();
    let public = closed.local_addr().unwrap();
    for (public, remedy) in [
        (public, format!("Open UDP port {}", public.port())),
        (([192, 0, 2, 1], 9).into(), "--public-addr IP[:PORT] (127.0.0.1 here".to_owned()),
    ] {
        let server = Server::start(Options { public_addresses: vec![public], ..loopback() });
        let (printed, status) = doctor(&[&format!("http://{}/", server.address)]);
        assert_eq!(status, Some(1), "{printed}");
        found(&printed, "ok", "websocket");
        assert!(found(&printed, "ok", "advertised").0.contains(&public.to_string()), "{printed}");
        let (_, advice) = found(&printed, "FAIL", "UDP");
        assert!(advice.contains(&remedy) && advice.contains("over the websocket"), "{printed}");
        server.stop();
    }
}

#[test]
fn a_path_that_drops_large_datagrams_fails_with_the_size_that_passes() {
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for (largest, verdict, word) in [(1_200, "ok", "full size"), (1_000, "FAIL", "larger ones")] {
        let path = NarrowPath::open(largest, udp);
        let options = Options { udp: Some(udp), public_addresses: vec![path.address], ..loopback() };
        let server = Server::start(options);
        let (printed, status) = doctor(&[&format!("http://{}/", server.address)]);
        let (says, remedy) = found(&printed, verdict, "UDP size");
        assert!(says.contains(word), "{printed}");
        assert_eq!((status, remedy.is_empty()), (Some(i32::from(verdict == "FAIL")), verdict == "ok"), "{printed}");
        let sizes: Vec<usize> = says.split(' ').filter_map(|word| word.parse().ok()).take(2).collect();
        assert!(sizes.len() == 2 && sizes.iter().all(|size| (largest - 150..=largest).contains(size)), "{printed}");
        server.stop();
    }
}

#[test]
fn what_is_no_server_is_told_apart() {
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (printed, status) = doctor(&[&format!("http://{closed}/")]);
    assert_eq!((status, found(&printed, "FAIL", "page").0.contains("refused")), (Some(1), true), "{printed}");
    let (_, remedy) = found(&printed, "FAIL", "page");
    assert!(remedy.contains(&format!("TCP port {}", closed.port())), "{printed}");

    for answer in [&b"HTTP/1.1 404 Not Found\r\n\r\n"[..], b"HTTP/1.1 200 OK\r\n\r\n<p>hello", b"SSH-2.0-x\r\n", b""] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let other = std::thread::spawn(move || {
            let (mut socket, _) = listener.accept().unwrap();
            let _ = socket.read(&mut [0; 1024]);
            socket.write_all(answer).unwrap();
        });
        let (printed, status) = doctor(&[&format!("http://{address}/")]);
        other.join().unwrap();
        assert_eq!(status, Some(1), "{printed}");
        assert!(found(&printed, "FAIL", "page").0.contains("not an rtcade server"), "{printed}");
    }
}

#[test]
fn without_a_url_it_looks_at_this_machine() {
    let server = Server::start(loopback());
    let (printed, status) = doctor(&["--listen", &server.address.to_string()]);
    assert!(found(&printed, "FAIL", "bound").1.starts_with("Stop the program that uses it"), "{printed}");
    assert_eq!(status, Some(1), "{printed}");
    let listen = ["--listen", "127.0.0.1:0"];
    let (printed, status) = doctor(&listen);
    assert!(found(&printed, "warn", "advertised").1.contains("0.0.0.0"), "{printed}");
    assert_eq!(status, Some(0), "{printed}");
    let (printed, status) = doctor(&[&listen[..], &["--public-addr", "203.0.113.7:9"]].concat());
    assert!(found(&printed, "ok", "advertised").0.contains("203.0.113.7:9"), "{printed}");
    assert_eq!(status, Some(0), "{printed}");
    let (printed, status) = doctor(&[&listen[..], &["--public", "/nowhere/at/all"]].concat());
    assert!(found(&printed, "FAIL", "files").1.contains("--public DIR"), "{printed}");
    assert_eq!(status, Some(1), "{printed}");
    server.stop();
}

#[test]
fn a_mistake_in_its_command_line_has_a_status_of_its_own() {
    for arguments in [&["wss://play.example/"][..], &["nonsense"], &["http://h/", "--listen", "127.0.0.1:0"]] {
        let (printed, status) = doctor(arguments);
        assert_eq!((status, printed.lines().count()), (Some(2), 1), "{printed}");
    }
}
