//! What browsers, caches and proxies expect of a static server, over loopback sockets.

use std::io::Read;
use std::path::PathBuf;
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use flate2::read::GzDecoder;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rtcade::driver::{Options, Origin};
use rtcade::limits::{MANIFESTS, PIECE_BYTES, PIECES};
use serde_json::Value;

use crate::driver::{Connection, Response, Server, loopback};

/// A directory that is served, gone when dropped.
struct Public(PathBuf);

impl Public {
    fn new(name: &str, files: &[(&str, &[u8])]) -> Public {
        let root = std::env::temp_dir().join(format!("rtcade-http-{name}-{}", std::process::id()));
        for (file, content) in files {
            let path = root.join(file);
            std::fs::create_dir_all(path.parent().expect("in a directory")).expect("created");
            std::fs::write(path, content).expect("written");
        }
        Public(root)
    }

    fn serve(&self) -> Server {
        Server::start(Options { public: Some(self.0.clone()), ..loopback() })
    }
}

impl Drop for Public {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn request(method: &str, path: &str, fields: &[(&str, &str)]) -> String {
    let host = if fields.iter().any(|(name, _)| *name == "Host") { "" } else { "Host: h\r\n" };
    let fields: String = fields.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    format!("{method} {path} HTTP/1.1\r\n{host}{fields}\r\n")
}

fn ask(connection: &mut Connection, path: &str, fields: &[(&str, &str)]) -> (Response, Vec<u8>) {
    connection.send(request("GET", path, fields));
    connection.response_of_bytes()
}

fn get(server: &Server, path: &str, fields: &[(&str, &str)]) -> Response {
    server.ask(&request("GET", path, fields))
}

#[test]
fn a_film_can_seek() {
    const SEED: u64 = 7;
    const LENGTH: usize = 300_001;
    let mut rng = ChaCha8Rng::seed_from_u64(SEED);
    let mut film = vec![0; LENGTH];
    rng.fill(&mut film[..]);
    let public = Public::new("film", &[("film.mp4", &film)]);
    let server = public.serve();
    let mut player = server.connect();
    player.send(request("HEAD", "/film.mp4", &[("Range", "bytes=1-2")]));
    let head = player.head();
    assert_eq!(
        (head.status, head.field("Accept-Ranges"), head.field("Content-Type")),
        (200, Some("bytes"), Some("video/mp4"))
    );
    assert_eq!(head.field("Content-Length"), Some("300001"), "only GET has ranges");
    let tag = head.field("ETag").expect("a version").to_owned();
    let date = head.field("Last-Modified").expect("a file has a time").to_owned();
    let all = format!("bytes 0-{}/{LENGTH}", LENGTH - 1);
    for (range, content_range, expected) in [
        ("bytes=0-", all.as_str(), &film[..]),
        ("bytes=-17", "bytes 299984-300000/300001", &film[LENGTH - 17..]),
        ("bytes=16384-49151", "bytes 16384-49151/300001", &film[16_384..49_152]),
        ("bytes=300000-999999", "bytes 300000-300000/300001", &film[LENGTH - 1..]),
    ] {
        // As media elements ask.
        let fields = [("Range", range), ("Accept-Encoding", "identity;q=1, *;q=0"), ("If-Range", &tag)];
        let (part, body) = ask(&mut player, "/film.mp4", &fields);
        assert_eq!((part.status, part.field("Content-Range")), (206, Some(content_range)));
        assert!(body == expected, "{range}: {} bytes", body.len());
        assert_eq!((part.field("ETag"), part.field("Last-Modified")), (Some(tag.as_str()), Some(date.as_str())));
    }
    for number in 0..200 {
        let (first, last) = (rng.random_range(0..LENGTH + 1_000), rng.random_range(0..LENGTH + 1_000));
        let (part, body) = ask(&mut player, "/film.mp4", &[("Range", &format!("bytes={first}-{last}"))]);
        let what = format!("seed {SEED}, {number}: {first}-{last}");
        let (status, expected) = match film.get(first..(last + 1).min(LENGTH)) {
            _ if last < first => (200, &film[..]),
            Some(expected) if !expected.is_empty() => (206, expected),
            _ => (416, &b""[..]),
        };
        assert_eq!(part.status, status, "{what}");
        assert!(status == 416 || body == expected, "{what}: {} bytes", body.len());
        if status == 416 {
            assert_eq!(part.field("Content-Range"), Some("bytes */300001"), "{what}");
        }
    }
    for stale in ["\"other\"", &format!("W/{tag}"), "Thu, 01 Jan 1970 00:00:00 GMT"] {
        let (whole, body) = ask(&mut player, "/film.mp4", &[("Range", "bytes=5-"), ("If-Range", stale)]);
        assert_eq!((whole.status, body.len()), (200, LENGTH), "{stale}");
    }
    assert_eq!(ask(&mut player, "/healthz", &[]).0.status, 200, "the connection is in step");
}

#[test]
fn a_cache_gets_what_has_changed_and_nothing_else() {
    let public = Public::new("cache", &[("a.txt", b"first")]);
    let server = public.serve();
    let first = get(&server, "/a.txt", &[]);
    let (tag, date) = (first.field("ETag").unwrap(), first.field("Last-Modified").unwrap());
    let weak = format!("W/{tag}");
    for (fields, status) in [
        (&[("If-None-Match", weak.as_str())][..], 304),
        (&[("If-None-Match", "\"x\""), ("if-none-match", tag)], 304),
        (&[("If-None-Match", "*")], 304),
        (&[("If-None-Match", "\"x\", \"y\""), ("If-Modified-Since", date)], 200),
        (&[("If-Modified-Since", date)], 304),
        (&[("If-Modified-Since", "Sat, 01 Jan 2000 00:00:00 GMT")], 200),
        (&[("If-Modified-Since", "Saturday, 01-Jan-00 00:00:00 GMT")], 200),
        (&[("If-Match", tag)], 200),
        (&[("If-Match", weak.as_str())], 412),
        (&[("If-Unmodified-Since", "Sat, 01 Jan 2000 00:00:00 GMT")], 412),
    ] {
        let response = get(&server, "/a.txt", fields);
        assert_eq!(response.status, status, "{fields:?}");
        if status == 304 {
            let known = ["ETag", "Last-Modified", "Cache-Control", "Vary"].map(|name| response.field(name));
            assert_eq!(known, [Some(tag), Some(date), Some("no-cache"), Some("Accept-Encoding, Origin")]);
            assert_eq!(response.field("Content-Length"), None);
        }
    }
    std::fs::write(public.0.join("a.txt"), "second").expect("written");
    let second = get(&server, "/a.txt", &[("If-None-Match", &weak)]);
    assert_eq!((second.status, second.body.as_str()), (200, "second"));
}

#[test]
fn what_comes_along_is_sent_compressed() {
    let server = Server::start(loopback());
    let mut connection = server.connect();
    for path in ["/rtcade.js", "/doctor"] {
        let (plain, plain_body) = ask(&mut connection, path, &[]);
        let (packed, packed_body) = ask(&mut connection, path, &[("Accept-Encoding", "gzip, deflate, br, zstd")]);
        assert_eq!((plain.field("Content-Encoding"), packed.field("Content-Encoding")), (None, Some("gzip")));
        assert!(2 * packed_body.len() < plain_body.len(), "{path}: {} of {}", packed_body.len(), plain_body.len());
        let mut unpacked = Vec::new();
        GzDecoder::new(&packed_body[..]).read_to_end(&mut unpacked).expect("gzip");
        assert!(unpacked == plain_body, "{path}");
        assert_ne!(plain.field("ETag"), packed.field("ETag"));
        assert_eq!(plain.field("Vary"), packed.field("Vary"));
    }
    assert_eq!(get(&server, "/rtcade.js", &[("Accept-Encoding", "gzip;q=0, identity;q=0")]).status, 406);
}

#[test]
fn a_directory_leads_to_its_index_below_any_prefix() {
    let files: [(&str, &[u8]); 3] =
        [("sub/index.html", b"<p>sub"), (".well-known/security.txt", b"Contact"), (".git/config", b"secret")];
    let server = Public::new("index", &files);
    let (server, _public) = (server.serve(), server);
    let moved = get(&server, "/sub?a=b", &[]);
    assert_eq!((moved.status, moved.field("Location")), (301, Some("sub/?a=b")));
    assert_eq!(get(&server, "/sub/", &[]).body, "<p>sub");
    assert_eq!(get(&server, "/.well-known/security.txt", &[]).body, "Contact");
    assert_eq!(get(&server, "/.git/config", &[]).status, 404);
    assert_eq!(get(&server, "/page.js", &[]).field("Content-Type"), Some("text/javascript; charset=utf-8"));
}

const PAGE: &str = "https://game.example";

fn named(origins: &[&str]) -> Options {
    Options { origins: origins.iter().map(|origin| Origin::parse(origin).unwrap()).collect(), ..loopback() }
}

#[test]
fn a_page_that_is_named_may_read_and_no_other() {
    let public = Public::new("cors", &[("a.txt", b"file")]);
    let server = Server::start(Options { public: Some(public.0.clone()), ..named(&[PAGE, "null"]) });
    let allowed = "Access-Control-Allow-Origin";
    for path in ["/rtcade.js", "/rooms", "/healthz", "/doctor.json", "/metrics", "/a.txt", "/nothing", "/"] {
        for origin in [PAGE, "null"] {
            let response = get(&server, path, &[("Origin", origin)]);
            assert_eq!((response.field(allowed), response.field("Timing-Allow-Origin")), (Some(origin), Some(origin)));
            assert_ne!(response.status, 403, "{path}");
        }
        let is_live = matches!(path, "/rooms" | "/doctor.json" | "/metrics");
        for origin in ["https://other.example", "http://h", "file://"] {
            let response = get(&server, path, &[("Origin", origin)]);
            assert_eq!((response.field(allowed), response.status == 403), (None, is_live), "{origin} {path}");
            assert!(response.field("Vary").unwrap().contains("Origin"), "{path}");
        }
        let own = get(&server, path, &[]);
        assert!(own.status != 403 && own.field("Vary").unwrap().contains("Origin"), "{path}");
    }
    let preflight = |origin: &str| {
        let fields =
            [("Origin", origin), ("Access-Control-Request-Method", "GET"), ("Access-Control-Request-Headers", "x")];
        server.ask(&request("OPTIONS", "/rooms", &fields))
    };
    let response = preflight(PAGE);
    assert_eq!((response.status, response.field(allowed)), (204, Some(PAGE)));
    assert_eq!(response.field("Access-Control-Allow-Methods"), Some("GET, HEAD, POST, PATCH, DELETE"));
    assert_eq!(response.field("Access-Control-Max-Age"), Some("7200"));
    let other = preflight("https://other.example");
    assert_eq!((other.status, other.field(allowed), other.field("Vary")), (204, None, Some("Origin")));
    let plain = server.ask("OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n");
    assert_eq!((plain.status, plain.field("Allow")), (204, Some("GET, HEAD, OPTIONS")));
    let forbidden = get(&server, "/metrics", &[]).body;
    assert!(forbidden.contains("rtcade_http_refused_total{kind=\"forbidden\"} 9\n"), "{forbidden}");
}

#[test]
fn a_rebound_page_learns_nothing_of_a_private_server() {
    let server = Server::start(loopback());
    let rebound = [("Host", "evil.example:8080"), ("Accept-Language", "en")];
    for path in ["/rooms", "/metrics"] {
        let refused = get(&server, path, &rebound);
        assert_eq!(refused.status, 403);
        assert!(refused.body.ends_with("with --origin http://evil.example:8080.\n"), "{}", refused.body);
    }
    let doctor = get(&server, "/doctor.json", &rebound);
    let report: Value = serde_json::from_str(&doctor.body).expect("the doctor's own form");
    let findings = report["findings"].as_array().unwrap();
    assert_eq!((doctor.status, findings.len(), &findings[0]["verdict"]), (403, 1, &Value::from("fail")));
    assert!(findings[0]["remedy"].as_str().unwrap().contains("--origin http://evil.example:8080"), "{report}");
    for path in ["/r/a", "/rtcade.js", "/doctor", "/healthz"] {
        assert_eq!(get(&server, path, &rebound).status, 200, "{path} is for everybody");
    }
    for fields in [&[("Host", "127.0.0.1"), ("Accept-Language", "en")][..], &[("Host", "box:8080")]] {
        assert_eq!(get(&server, "/rooms", fields).status, 200, "{fields:?}");
    }
    let server = Server::start(named(&["http://evil.example:8080"]));
    assert_eq!(get(&server, "/rooms", &rebound).status, 200, "the advice works");
}

#[test]
fn the_dev_page_is_for_this_machine_unless_it_is_opened_to_all() {
    const DEV: &str = "/rtcade/dev.js";
    let browser = ("Accept-Language", "en");
    let own: [&[(&str, &str)]; 5] = [
        &[],
        &[("Host", "localhost:8080"), browser],
        &[("Host", "[::1]:8080"), browser],
        &[("Host", "127.0.0.1:8080"), ("Origin", "http://127.0.0.1:8080")],
        &[("Host", "127.0.0.1:8080"), ("X-Forwarded-For", "127.0.0.1, ::1")],
    ];
    let others: [&[(&str, &str)]; 4] = [
        &[("X-Forwarded-For", "198.51.100.7")],
        &[("X-Forwarded-For", "192.168.1.7, 127.0.0.1")],
        &[("Host", "evil.example:8080"), browser],
        &[("Host", "127.0.0.1:8080"), ("Origin", "http://evil.example")],
    ];
    let closed = Server::start(loopback());
    let opened = Server::start(Options { dev: true, ..loopback() });
    let proxied = Server::start(Options { trusted_proxies: vec!["127.0.0.0/8".parse().unwrap()], ..loopback() });
    for fields in own {
        for server in [&closed, &opened, &proxied] {
            let response = get(server, DEV, fields);
            assert_eq!(response.status, 200, "{fields:?}");
            assert_eq!(response.field("Content-Type"), Some("text/javascript; charset=utf-8"));
        }
    }
    for fields in others {
        for server in [&closed, &proxied] {
            let response = get(server, DEV, fields);
            assert_eq!(response.status, 404, "{fields:?}");
            assert!(response.body.contains("start the server with --dev"), "{}", response.body);
        }
        assert_eq!(get(&opened, DEV, fields).status, 200, "{fields:?}");
    }
}

#[test]
fn a_connection_says_how_long_it_is_kept_and_ends_in_order() {
    let server = Server::start(Options { keep_alive: Duration::from_secs(1), ..loopback() });
    let mut connection = server.connect();
    for path in ["/healthz", "/nothing", "/rtcade.js"] {
        let (response, _) = ask(&mut connection, path, &[]);
        assert_eq!(response.field("Keep-Alive"), Some("timeout=1"));
        assert_eq!(response.field("Connection"), Some("keep-alive"));
    }
    assert!(connection.is_closed());
    assert_eq!(get(&server, "/healthz", &[("Connection", "close")]).field("Keep-Alive"), None);
    assert_eq!(get(&Server::start(loopback()), "/healthz", &[]).field("Keep-Alive"), Some("timeout=75"));
}

#[test]
fn a_build_that_is_compressed_beforehand_says_so() {
    let files: [(&str, &[u8]); 4] =
        [("app.js", b"plain"), ("app.js.br", b"brotli"), ("app.js.gz", b"gzip"), ("build.wasm.gz", b"wasm")];
    let public = Public::new("build", &files);
    let server = public.serve();
    for (path, accepted, coding, body) in [
        ("/app.js", "gzip, br", Some("br"), "brotli"),
        ("/app.js", "gzip", Some("gzip"), "gzip"),
        ("/app.js", "deflate", None, "plain"),
        ("/build.wasm.gz", "gzip", Some("gzip"), "wasm"),
    ] {
        let response = get(&server, path, &[("Accept-Encoding", accepted)]);
        assert_eq!((response.field("Content-Encoding"), response.body.as_str()), (coding, body), "{path} {accepted}");
    }
    assert_eq!(get(&server, "/build.wasm.gz", &[]).field("Content-Type"), Some("application/wasm"));
}

fn sha256(bytes: &[u8]) -> String {
    digest(&SHA256, bytes).as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Asks until the file is hashed.
#[expect(clippy::disallowed_methods, reason = "a client waits before it asks again")]
fn manifest(server: &Server, path: &str) -> (Response, Value) {
    for _ in 0..1_000 {
        let response = get(server, &format!("{path}?pieces"), &[]);
        if response.status != 202 {
            assert_eq!(response.status, 200, "{path}: {}", response.body);
            let manifest = serde_json::from_str(&response.body).expect("JSON");
            return (response, manifest);
        }
        assert_eq!(response.field("Retry-After"), Some("1"));
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("{path} is not hashed within 10 s");
}

#[test]
fn a_manifest_has_the_hash_of_each_piece() {
    const SEED: u64 = 11;
    let piece = usize::try_from(PIECE_BYTES).unwrap();
    let mut map = vec![0; 3 * piece + 17];
    ChaCha8Rng::seed_from_u64(SEED).fill(&mut map[..]);
    let files: [(&str, &[u8]); 3] = [("map.bin", &map), ("two.bin", &map[..2 * piece]), ("empty.bin", b"")];
    let public = Public::new("manifest", &files);
    let server = public.serve();
    assert_eq!(get(&server, "/map.bin?pieces", &[]).status, 202, "the loop hashes nothing");
    for (file, content) in files {
        let (response, manifest) = manifest(&server, &format!("/{file}"));
        let pieces: Vec<_> = content.chunks(piece).map(sha256).collect();
        let expected = serde_json::json!({
            "sha256": sha256(content), "bytes": content.len(), "pieceBytes": piece, "pieces": pieces,
        });
        assert_eq!(manifest, expected, "seed {SEED}: {file}");
        assert_eq!(response.field("Content-Type"), Some("application/json"));
        let tag = response.field("ETag").expect("a version");
        assert_eq!(get(&server, &format!("/{file}?pieces"), &[("If-None-Match", tag)]).status, 304);
        assert_ne!(ask(&mut server.connect(), &format!("/{file}"), &[]).0.field("ETag"), Some(tag));
    }
    let mut connection = server.connect();
    for (number, expected) in map.chunks(piece).enumerate() {
        let range = format!("bytes={}-{}", number * piece, number * piece + expected.len() - 1);
        let (part, body) = ask(&mut connection, "/map.bin", &[("Range", &range)]);
        assert!(part.status == 206 && body == expected, "{range}");
    }
    std::fs::write(public.0.join("map.bin"), "another").expect("written");
    assert_eq!(manifest(&server, "/map.bin").1["sha256"], sha256(b"another"));
}

#[test]
fn only_what_is_served_as_it_is_has_a_manifest() {
    let files: [(&str, &[u8]); 4] =
        [("app.js", b"plain"), ("app.js.br", b"brotli"), ("build.wasm.gz", b"wasm"), (".git/config", b"secret")];
    let public = Public::new("pieces", &files);
    let huge = std::fs::File::create(public.0.join("huge.bin")).expect("created");
    huge.set_len(PIECE_BYTES * PIECES + 1).expect("a sparse file");
    let server = public.serve();
    for (path, status) in [
        ("/build.wasm.gz", 406),
        ("/app.js.br", 406),
        ("/huge.bin", 413),
        ("/none.bin", 404),
        ("/.git/config", 404),
        ("/../secret", 404),
    ] {
        assert_eq!(get(&server, &format!("{path}?pieces"), &[]).status, status, "{path}");
    }
    let (_, plain) = manifest(&server, "/app.js");
    assert_eq!(plain["sha256"], sha256(b"plain"), "not of its compressed copy");
    for query in ["?pieces=1", "?a&pieces", "?piece"] {
        assert_eq!(get(&server, &format!("/app.js{query}"), &[]).body, "plain");
    }
    let client = get(&server, "/rtcade.js?pieces", &[]);
    assert_eq!(client.field("Content-Type"), Some("text/javascript; charset=utf-8"));
    assert_eq!(get(&Server::start(loopback()), "/app.js?pieces", &[]).status, 404);
}

#[test]
fn more_files_than_manifests_are_kept_are_hashed_one_after_the_other() {
    let names: Vec<_> = (0..MANIFESTS + 30).map(|number| format!("{number}.bin")).collect();
    let files: Vec<_> = names.iter().map(|name| (name.as_str(), name.as_bytes())).collect();
    let public = Public::new("many", &files);
    let server = public.serve();
    for _ in 0..2 {
        for name in &names {
            assert!(matches!(get(&server, &format!("/{name}?pieces"), &[]).status, 200 | 202));
        }
        for name in &names {
            assert_eq!(manifest(&server, &format!("/{name}")).1["sha256"], sha256(name.as_bytes()));
        }
    }
}
