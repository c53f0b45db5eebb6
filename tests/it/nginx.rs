//! The server behind a real nginx, set up rightly and as newcomers set it up.

#![expect(clippy::disallowed_types, clippy::disallowed_methods, reason = "the other end of the sockets is here")]

use std::env;
use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::doctor::{doctor, found};
use super::driver::{Connection, PATIENCE, Player, Server, loopback, upgrade};

/// How often an nginx is started whose port somebody else has taken meanwhile.
const ATTEMPTS: usize = 3;
const UPGRADES: &str = "proxy_http_version 1.1;
    proxy_set_header Upgrade $http_upgrade;
    proxy_set_header Connection \"upgrade\";";
const HOST: &str = "proxy_set_header Host $http_host;";

/// An nginx of a configuration of its own, ended when dropped.
struct Nginx {
    child: Child,
    address: SocketAddr,
    directory: PathBuf,
}

/// The program: the one that the environment variable NGINX names, which has to be there, or else one that is installed.
fn program() -> Option<String> {
    let runs =
        |program: &str| Command::new(program).arg("-v").stderr(Stdio::null()).status().is_ok_and(|s| s.success());
    if let Some(named) = env::var("NGINX").ok().filter(|named| !named.is_empty()) {
        assert!(runs(&named), "the environment variable NGINX names {named}, which doesn't run");
        return Some(named);
    }
    let found = ["nginx", "/usr/sbin/nginx"].into_iter().find(|program| runs(program)).map(str::to_owned);
    if found.is_none() {
        println!("skipped: nginx is not installed; name its program in the environment variable NGINX");
    }
    found
}

impl Nginx {
    /// Starts one that has these directives in its `server`; `None` where there is no nginx.
    fn start(name: &str, directives: &str) -> Option<Nginx> {
        let program = program()?;
        let directory = env::temp_dir().join(format!("rtcade-nginx-{name}-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        for _ in 0..ATTEMPTS {
            let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
            let kinds = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
            let paths: String = kinds.iter().map(|kind| format!("{kind}_temp_path {kind};\n")).collect();
            let configuration = format!(
                "daemon off; master_process off; pid nginx.pid; error_log stderr;
                events {{ }}
                http {{ access_log off; {paths} server {{ listen {address}; {directives} }} }}"
            );
            fs::write(directory.join("nginx.conf"), configuration).unwrap();
            let mut command = Command::new(&program);
            command.arg("-p").arg(&directory).args(["-c", "nginx.conf", "-e", "stderr"]);
            let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
            let deadline = Instant::now() + PATIENCE;
            while child.try_wait().unwrap().is_none() && Instant::now() < deadline {
                if TcpStream::connect(address).is_ok() {
                    return Some(Nginx { child, address, directory });
                }
                std::thread::sleep(Duration::from_millis(10));
            }
            let _ = child.kill();
            let _ = child.wait();
        }
        panic!("nginx does not start");
    }

    fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// A request as a browser's, of a page that nginx serves.
    fn websocket(&self, path: &str) -> Connection {
        let fields = format!("Host: {}\r\nOrigin: {}\r\n", self.address, self.url());
        let mut page = Connection::open(self.address);
        page.send(upgrade(path).replace("Host: h\r\n", &fields));
        page
    }

    fn get(&self, path: &str, fields: &str) -> super::driver::Response {
        let mut connection = Connection::open(self.address);
        connection.send(format!("GET {path} HTTP/1.1\r\nHost: {}\r\n{fields}\r\n", self.address));
        connection.response()
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.directory);
    }
}

#[test]
fn a_proxy_that_passes_no_upgrade_on_is_told_apart() {
    let server = Server::start(loopback());
    let bare = format!("location / {{ proxy_pass http://{}; }}", server.address);
    let Some(nginx) = Nginx::start("bare", &bare) else { return };
    let (printed, status) = doctor(&[&nginx.url()]);
    assert_eq!(status, Some(1), "{printed}");
    let (says, remedy) = found(&printed, "FAIL", "websocket");
    assert!(
        says.contains("without Upgrade") && remedy.contains("proxy_set_header Upgrade $http_upgrade;"),
        "{printed}"
    );
    let (says, remedy) = found(&printed, "warn", "host");
    assert!(says.contains(&server.address.to_string()) && remedy.contains(HOST), "{printed}");

    let mut page = nginx.websocket("/r/lobby");
    let refused = page.response();
    assert_eq!(refused.status, 426);
    for line in UPGRADES.lines() {
        assert!(refused.body.contains(line.trim()), "{line} in {}", refused.body);
    }
    let report: Value = serde_json::from_str(&nginx.get("/doctor.json", "").body).unwrap();
    assert_eq!(report["seen"]["host"], server.address.to_string());
    assert_eq!(report["seen"]["upgradesDropped"], 2, "the doctor's and the page's");
    let (printed, _) = doctor(&[&format!("http://{}", server.address)]);
    assert!(found(&printed, "warn", "upgrade").0.starts_with("2 requests"), "{printed}");
    found(&printed, "ok", "websocket");
}

#[test]
fn a_proxy_that_passes_the_upgrade_on_in_the_wrong_version_is_told_so() {
    let server = Server::start(loopback());
    let directives = format!(
        "location / {{ proxy_pass http://{}; proxy_http_version 1.0; {HOST} proxy_set_header Upgrade $http_upgrade;
        proxy_set_header Connection \"upgrade\"; }}",
        server.address
    );
    let Some(nginx) = Nginx::start("version", &directives) else { return };
    let refused = nginx.websocket("/r/lobby").response();
    assert!(refused.status == 426 && refused.body.contains("proxy_http_version 1.1;"), "{refused:?}");
    let (printed, _) = doctor(&[&nginx.url()]);
    found(&printed, "ok", "host");
    assert!(found(&printed, "FAIL", "websocket").1.contains("proxy_http_version 1.1;"), "{printed}");
}

#[test]
fn a_proxy_that_changes_the_host_is_named_with_the_remedy() {
    let server = Server::start(loopback());
    for (host, seen) in [
        ("", server.address.to_string()),
        ("proxy_set_header Host $host;", "127.0.0.1".to_owned()),
        ("proxy_set_header Host backend;", "backend".to_owned()),
    ] {
        let directives = format!("location / {{ proxy_pass http://{}; {UPGRADES} {host} }}", server.address);
        let Some(nginx) = Nginx::start("host", &directives) else { return };
        let mut page = nginx.websocket("/r/lobby");
        assert_eq!(page.head().status, 101);
        let told = page.text_with("joinR");
        for word in [
            "\"e\":\"origin\"",
            &format!("The origin {} is not allowed", nginx.url()),
            &format!("Host is \\\"{seen}\\\""),
            HOST,
            &format!("--origin {}", nginx.url()),
        ] {
            assert!(told.contains(word), "{word} in {told}");
        }
        assert_eq!(page.close_code(), 4100);
        let (printed, _) = doctor(&[&nginx.url()]);
        let (says, remedy) = found(&printed, "warn", "host");
        assert!(says.contains(&seen) && remedy.contains(HOST), "{printed}");
        assert!(found(&printed, "warn", "pages").0.contains(HOST), "{printed}");
        found(&printed, "ok", "websocket");
    }
}

#[test]
fn what_a_proxy_compresses_is_validated_again_without_its_body() {
    let server = Server::start(loopback());
    let directives = format!(
        "gzip on; gzip_types *; gzip_min_length 0; gzip_proxied any;
        location / {{ proxy_pass http://{}; {HOST} proxy_set_header Accept-Encoding \"\"; }}",
        server.address
    );
    let Some(nginx) = Nginx::start("gzip", &directives) else { return };
    let mut page = Connection::open(nginx.address);
    let ask = |fields: &str| format!("GET /rtcade.js HTTP/1.1\r\nHost: {}\r\n{fields}\r\n", nginx.address);
    page.send(ask("Accept-Encoding: gzip\r\n"));
    let whole = page.head();
    assert_eq!((whole.status, whole.field("Content-Encoding")), (200, Some("gzip")), "{whole:?}");
    let tag = whole.field("ETag").expect("a tag");
    assert!(tag.starts_with("W/\""), "nginx has changed the body: {tag}");
    let again = nginx.get("/rtcade.js", &format!("Accept-Encoding: gzip\r\nIf-None-Match: {tag}\r\n"));
    assert_eq!(again.status, 304, "{again:?}");
}

#[test]
fn below_a_path_of_a_proxy_everything_works() {
    let server = Server::start(loopback());
    let directives = format!("location /game/ {{ proxy_pass http://{}/; {UPGRADES} {HOST} }}", server.address);
    let Some(nginx) = Nginx::start("path", &directives) else { return };
    let root = nginx.get("/game/", "");
    let location = root.field("Location").expect("a room");
    let is_below = location.strip_prefix(&format!("{}/game/", nginx.url())).unwrap_or(location).starts_with("r/");
    assert!(root.status == 302 && is_below, "{root:?}");
    for path in ["/game/r/lobby", "/game/rtcade.js", "/game/doctor", "/game/doctor.json"] {
        assert_eq!(nginx.get(path, "").status, 200, "{path}");
    }
    let mut page = nginx.websocket("/game/r/lobby");
    assert_eq!(page.head().status, 101);
    page.send_frame(0x81, br#"{"a":"join","d":{"name":"Ada"}}"#);
    assert!(page.text_with("joinR").contains("\"s\":true"));

    let join = |name: &str| {
        let tcp = TcpStream::connect(nginx.address).unwrap();
        Player::join_at("/game/r/native", tcp, UdpSocket::bind("127.0.0.1:0").unwrap(), name)
    };
    let mut players = [join("Bob"), join("Cyd")];
    let begun = Instant::now();
    let mut sent = 0;
    while !players.iter().all(|player| player.heard.len() == 2) {
        assert!(begun.elapsed() < PATIENCE, "they don't hear each other");
        let are_open = players.iter().all(|player| player.client.is_open());
        if are_open && begun.elapsed() > Duration::from_millis(33) * sent {
            sent += 1;
            for player in &mut players {
                player.client.send(Instant::now(), &sent).unwrap();
            }
        }
        players.iter_mut().for_each(Player::turn);
        std::thread::sleep(Duration::from_millis(1));
    }
    let (printed, status) = doctor(&[&format!("{}/game/", nginx.url())]);
    assert_eq!(status, Some(0), "{printed}");
    for check in ["page", "host", "websocket", "UDP"] {
        found(&printed, "ok", check);
    }

    let unstripped = format!("location /game/ {{ proxy_pass http://{}; {UPGRADES} {HOST} }}", server.address);
    let nginx = Nginx::start("unstripped", &unstripped).expect("it was there before");
    let mut page = nginx.websocket("/game/r/lobby");
    assert_eq!(page.head().status, 101);
    let told = page.text_with("joinR");
    assert!(told.contains("bad_room") && told.contains("proxy_pass with a slash"), "{told}");
}

#[test]
fn the_block_in_the_documentation_passes_everything_on() {
    let server = Server::start(loopback());
    let block = include_str!("../../docs/src/snippets/nginx.conf");
    let directives = block.replace("127.0.0.1:8080", &server.address.to_string());
    assert_ne!(directives, block, "it names the server's address");
    let Some(nginx) = Nginx::start("documented", &directives) else { return };
    let mut page = nginx.websocket("/r/lobby");
    assert_eq!(page.head().status, 101);
    page.send_frame(0x81, br#"{"a":"join","d":{"name":"Ada"}}"#);
    assert!(page.text_with("joinR").contains("\"s\":true"));
    let report: Value = serde_json::from_str(&nginx.get("/doctor.json", "").body).unwrap();
    for (field, expected) in [
        ("host", nginx.address.to_string()),
        ("forwardedProto", "http".to_owned()),
        ("forwardedFor", "127.0.0.1".into()),
    ] {
        assert_eq!(report["seen"][field], expected, "{report}");
    }
    let (printed, status) = doctor(&[&nginx.url()]);
    assert_eq!(status, Some(0), "{printed}");
}
