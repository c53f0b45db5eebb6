use std::time::Duration;

use proptest::prelude::*;

use super::super::http::Conditions;
use super::*;

fn get(path: &str) -> Request {
    Request { path: path.to_owned(), keep_alive: true, ..Request::default() }
}

/// The same, from a client that has this version.
fn with(request: &Request, tag: Option<String>) -> Request {
    Request { conditions: Conditions { if_none_match: tag, ..Conditions::default() }, ..request.clone() }
}

fn accepting(path: &str, codings: &str) -> Request {
    Request { accept_encoding: Some(codings.to_owned()), ..get(path) }
}

fn open(path: &str) -> Request {
    Request { websocket: Some(Upgrade::default()), ..get(path) }
}

fn plain() -> Site {
    Site::new("page".into(), None).expect("no directory")
}

fn response(site: &Site, request: &Request) -> Response {
    match site.answer(request, true, |_| Response::sentence(Status::Ok, "live")) {
        Answer::Response(response) => response,
        other => panic!("a response is expected: {other:?}"),
    }
}

/// The head of a response, and its body.
fn parts(response: Response) -> (String, Vec<u8>) {
    let mut bytes = Vec::new();
    let mut outgoing = response.into_outgoing(Method::Get, None);
    while !outgoing.write(&mut bytes).expect("a vector takes all") {}
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n").expect("a head") + 4;
    let body = bytes.split_off(end);
    (String::from_utf8(bytes).expect("text"), body)
}

fn text(response: Response) -> String {
    let (head, body) = parts(response);
    head + &String::from_utf8(body).expect("text")
}

fn field(response: &str, name: &str) -> Option<String> {
    response.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": ")).map(str::to_owned)
}

fn tag(response: &str) -> Option<String> {
    field(response, "ETag")
}

#[test]
fn each_path_has_its_status() {
    for (path, status) in [
        ("/", Status::Found),
        ("/r/lobby-1", Status::Ok),
        ("/r/", Status::NotFound),
        ("/r/a%20b", Status::NotFound),
        ("/r/a/b", Status::NotFound),
        ("/rtcade.js", Status::Ok),
        ("/page.js", Status::Ok),
        ("/healthz", Status::Ok),
        ("/rooms", Status::Ok),
        ("/metrics", Status::Ok),
        ("/doctor", Status::Ok),
        ("/doctor.json", Status::Ok),
        ("/api", Status::UpgradeRequired),
        ("/favicon.ico", Status::Ok),
        ("/index.html", Status::NotFound),
    ] {
        assert_eq!(response(&plain(), &get(path)).status, status, "{path}");
    }
    let name = "a".repeat(crate::limits::ROOM_NAME_CHARS);
    assert_eq!(response(&plain(), &get(&format!("/r/{name}"))).status, Status::Ok);
    assert_eq!(response(&plain(), &get(&format!("/r/{name}a"))).status, Status::NotFound);
}

#[test]
fn websockets_open_at_rooms_and_at_the_api() {
    let room = |path| match plain().answer(&open(path), true, |_| Response::sentence(Status::Ok, "live")) {
        Answer::Websocket { room, .. } => Ok(room.map(|room| room.as_str().to_owned())),
        Answer::NoWebsocket { fault } => Err(fault),
        other => panic!("{other:?}"),
    };
    assert_eq!(room("/r/lobby"), Ok(Some("lobby".to_owned())));
    assert_eq!(room("/api"), Ok(None));
    let long = format!("/{}/r/a", "x".repeat(5_000));
    for (path, word) in [
        ("/", "at /r/ROOM and at /api"),
        ("/rooms", "at /r/ROOM and at /api"),
        ("/r/", "1 to 64 characters"),
        ("/r/a.b", "1 to 64 characters"),
        ("/game/r/lobby", "not below \"/game\""),
        (&long, "at /r/ROOM and at /api"),
    ] {
        let fault = room(path).expect_err("no room");
        assert_eq!(fault.code, ErrorCode::BadRoom, "{path:.20}");
        assert!(fault.message.contains(word) && fault.message.len() < 400, "{}", fault.message);
    }
}

#[test]
fn every_fresh_room_is_a_room_and_another() {
    let location = || text(response(&plain(), &get("/"))).lines().nth(1).expect("a field").to_owned();
    let (first, second) = (location(), location());
    assert_ne!(first, second);
    let name = first.strip_prefix("Location: r/").expect("a room");
    assert!(name.len() == 8 && RoomName::parse(name).is_some(), "{name}");
}

#[test]
fn a_front_page_stands_at_the_root_whatever_is_public() {
    let directory = Directory::new("front");
    for mut site in [plain(), directory.site()] {
        site.set_front("the front");
        assert!(text(response(&site, &get("/"))).ends_with("the front"));
        assert!(!text(response(&site, &get("/r/lobby"))).ends_with("the front"));
    }
}

#[test]
fn a_document_has_a_version_in_each_coding() {
    let site = plain();
    for path in ["/rtcade.js", "/doctor"] {
        let plain = text(response(&site, &get(path)));
        let (head, body) = parts(response(&site, &accepting(path, "br, gzip;q=0.5")));
        assert!(head.contains("\r\nContent-Encoding: gzip\r\n") && body.len() < plain.len() / 2, "{head}");
        let mut unpacked = String::new();
        flate2::read::GzDecoder::new(&body[..]).read_to_string(&mut unpacked).expect("gzip");
        assert!(plain.ends_with(&unpacked), "{path}");
        assert_eq!(field(&head, "Vary").as_deref(), Some("Accept-Encoding, Origin"));
        assert_ne!(tag(&plain), tag(&head));
        for (codings, tag) in [("", tag(&plain)), ("gzip", tag(&head))] {
            let request = accepting(path, codings);
            assert_eq!(response(&site, &with(&request, tag.clone())).status, Status::NotModified);
            let other = accepting(path, if codings.is_empty() { "gzip" } else { "" });
            assert_eq!(response(&site, &with(&other, tag)).status, Status::Ok);
        }
        assert_eq!(response(&site, &accepting(path, "br, *;q=0")).status, Status::NotAcceptable);
    }
    let short = Site::new("x".into(), None).expect("no directory");
    let head = text(response(&short, &accepting("/r/a", "gzip")));
    assert!(!head.contains("Content-Encoding"), "it would not be shorter: {head}");
}

#[test]
fn every_module_of_the_client_is_served() {
    let mut site = plain();
    site.develop(Arc::default());
    let built = concat!(env!("CARGO_MANIFEST_DIR"), "/client-js/dist/rtcade");
    for entry in fs::read_dir(built).expect("built") {
        let path = entry.expect("read").path();
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        let served = text(response(&site, &get(&format!("/rtcade/{name}"))));
        assert!(served.contains(&format!("Content-Type: {JAVASCRIPT}\r\n")), "{name}: {served}");
        assert!(served.ends_with(&fs::read_to_string(&path).expect("read")), "{name}");
    }
    assert_eq!(response(&plain(), &get("/rtcade/other.js")).status, Status::NotFound);
}

#[test]
fn options_are_told_at_every_path() {
    for path in ["/", "/r/a", "/rtcade.js", "/nothing"] {
        let head = text(response(&plain(), &Request { method: Method::Options, ..get(path) }));
        assert!(head.starts_with("HTTP/1.1 204 No Content\r\nAllow: GET, HEAD, OPTIONS\r\n"), "{head}");
    }
}

/// A directory with files in it and around it, removed when dropped.
struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Directory {
        let root = std::env::temp_dir().join(format!("rtcade-{name}-{}", std::process::id()));
        fs::create_dir_all(root.join("public/assets")).expect("created");
        fs::create_dir_all(root.join("public-not")).expect("created");
        for file in ["secret.txt", "public-not/secret.txt", "public/.env", "public/index.html"] {
            fs::write(root.join(file), file).expect("written");
        }
        fs::write(root.join("public/assets/a b.css"), "style").expect("written");
        for file in ["sub/.hidden", "sub:1/index.html", "sub/index.html", ".well-known/a", ".well-known/.b"] {
            let path = root.join("public").join(file);
            fs::create_dir_all(path.parent().expect("in a directory")).expect("created");
            fs::write(path, file).expect("written");
        }
        std::os::unix::fs::symlink(root.join("public-not"), root.join("public/out")).expect("linked");
        std::os::unix::fs::symlink(root.join("secret.txt"), root.join("public/link")).expect("linked");
        Directory(root)
    }

    fn site(&self) -> Site {
        Site::new("page".into(), Some(&self.0.join("public"))).expect("a directory")
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn a_public_directory_is_served() {
    let directory = Directory::new("served");
    let site = directory.site();
    let style = text(response(&site, &get("/assets/a%20b.css")));
    assert!(style.contains("Content-Type: text/css") && style.ends_with("style"), "{style}");
    assert!(text(response(&site, &get("/r/lobby"))).ends_with("public/index.html"), "its page is the rooms'");
    let request = with(&get("/assets/a%20b.css"), tag(&style).map(|tag| format!("W/{tag}")));
    assert_eq!(response(&site, &request).status, Status::NotModified);
    let dated = Conditions { if_modified_since: field(&style, "Last-Modified"), ..Conditions::default() };
    assert_eq!(response(&site, &Request { conditions: dated, ..request }).status, Status::NotModified);
    assert_eq!(response(&site, &get("/%ff")).status, Status::BadRequest);
    assert_eq!(response(&site, &get("/%2")).status, Status::BadRequest);
}

#[test]
fn a_file_that_is_replaced_while_it_is_asked_for_is_sent_with_its_own_tag() {
    let directory = Directory::new("replaced");
    let public = fs::canonicalize(directory.0.join("public")).expect("there");
    let found = |path: &str| find(&public, &public.join(path)).expect("there");
    let sent = |found: Found| text(found.answer(&public, &get("/index.html")).expect("read"));
    let before = found(INDEX);
    fs::write(public.join("new"), "another").expect("written");
    fs::rename(public.join("new"), public.join(INDEX)).expect("replaced");
    let raced = sent(before);
    assert!(raced.contains("Content-Length: 7\r\n") && raced.ends_with("another"), "{raced}");
    assert_eq!(tag(&raced), tag(&sent(found(INDEX))));
}

#[test]
fn who_asks_for_what_cannot_be_read_fills_no_log() {
    let site = plain();
    for _ in 0..1_000 {
        let refused = site.failed(Path::new("a\nb"), &io::ErrorKind::PermissionDenied.into());
        assert_eq!(refused.status, Status::InternalServerError);
    }
    assert_eq!(site.failures.borrow_mut().take(Instant::now()), None);
}

#[test]
fn nothing_outside_a_public_directory_is_reached() {
    let directory = Directory::new("outside");
    let site = directory.site();
    for path in [
        "/../secret.txt",
        "/%2e%2e/secret.txt",
        "/..%2fsecret.txt",
        "/assets/../../secret.txt",
        "/assets/..%5c..%5csecret.txt",
        "/../public-not/secret.txt",
        "//etc/passwd",
        "/%2fetc/passwd",
        "/.env",
        "/%2eenv",
        "/link",
        "/out",
        "/out/",
        "/out/secret.txt",
        "/sub/.hidden",
        "/sub/..",
        "/.well-known/.b",
        "/.well-known/../.env",
        "/sub/.well-known/a",
        "/index.html/",
        "/index.html%00.css",
    ] {
        assert_eq!(response(&site, &get(path)).status, Status::NotFound, "{path}");
    }
}

#[test]
fn a_directory_is_its_index() {
    let directory = Directory::new("index");
    let site = directory.site();
    let location = |path: &str, query: &str| {
        let response = response(&site, &Request { query: query.to_owned(), ..get(path) });
        (response.status, field(&text(response), "Location"))
    };
    let to = |location: &str| (Status::MovedPermanently, Some(location.to_owned()));
    assert_eq!(location("/sub", ""), to("sub/"));
    assert_eq!(location("//sub", "?a=b"), to("sub/?a=b"));
    assert_eq!(location("/%73ub", ""), to("%73ub/"));
    assert_eq!(location("/sub:1", ""), to("sub%3A1/"));
    assert!(text(response(&site, &get("/sub/"))).ends_with("sub/index.html"));
    assert!(text(response(&site, &get("/sub/"))).contains("Content-Type: text/html"));
    assert!(text(response(&site, &get("/.well-known/a"))).ends_with(".well-known/a"));
    assert_eq!(response(&site, &get("/assets/")).status, Status::NotFound, "nothing is listed");
}

fn touch(path: &Path, at: SystemTime) {
    File::options().write(true).open(path).and_then(|file| file.set_modified(at)).expect("touched");
}

#[test]
fn a_compressed_sibling_stands_for_a_file_that_is_not_newer() {
    let directory = Directory::new("siblings");
    let site = directory.site();
    let public = directory.0.join("public");
    let now = SystemTime::now();
    for (name, age) in [("app.js", 20), ("app.js.gz", 10), ("app.js.br", 30)] {
        fs::write(public.join(name), name).expect("written");
        touch(&public.join(name), now - Duration::from_secs(age));
    }
    let get = |codings: &str| text(response(&site, &accepting("/app.js", codings)));
    let zipped = get("gzip, br");
    assert!(zipped.ends_with("\r\n\r\napp.js.gz") && zipped.contains("Content-Encoding: gzip"), "{zipped}");
    assert!(zipped.contains("Content-Type: text/javascript") && zipped.contains("Vary: Accept-Encoding"));
    let plain = get("");
    assert!(plain.ends_with("\r\n\r\napp.js") && plain.contains("Vary: Accept-Encoding"), "{plain}");
    assert_ne!(tag(&zipped), tag(&plain));
    touch(&public.join("app.js.br"), now);
    let br = get("gzip, br");
    assert!(br.ends_with("\r\n\r\napp.js.br") && br.contains("Content-Encoding: br"), "{br}");
    assert!(get("gzip, br;q=0").ends_with("app.js.gz"));
    assert_eq!(response(&site, &accepting("/app.js", "identity;q=0")).status, Status::NotAcceptable);
    let range = Conditions { range: Some("bytes=1-2".to_owned()), ..Conditions::default() };
    let part = text(response(&site, &Request { conditions: range, ..accepting("/app.js", "gzip, br") }));
    assert!(part.contains("Content-Range: bytes 1-2/6\r\n") && part.ends_with("\r\n\r\npp"), "plain: {part}");
    assert!(!part.contains("Content-Encoding"), "{part}");
    fs::remove_file(public.join("app.js.br")).expect("removed");
    std::os::unix::fs::symlink(directory.0.join("secret.txt"), public.join("app.js.br")).expect("linked");
    assert!(get("br").ends_with("\r\n\r\napp.js"), "a sibling is not outside");
}

#[test]
fn what_is_there_compressed_alone_says_how() {
    let directory = Directory::new("unity");
    let site = directory.site();
    let unity = b"\x6b\x8d\x00UnityWeb Compressed Content (brotli)".to_vec();
    for (name, content, coding, content_type) in [
        ("build.js.gz", vec![], Some("gzip"), JAVASCRIPT),
        ("build.wasm.br", vec![], Some("br"), "application/wasm"),
        ("build.data.gz", vec![], Some("gzip"), "application/octet-stream"),
        ("build.data.br", vec![], Some("br"), "application/octet-stream"),
        ("build.symbols.json.gz", vec![], Some("gzip"), "application/json"),
        ("a.wasm.unityweb", gzipped(b"build"), Some("gzip"), "application/wasm"),
        ("a.framework.js.unityweb", unity, Some("br"), JAVASCRIPT),
        ("a.data.unityweb", b"plain".to_vec(), None, "application/octet-stream"),
        ("level.tar.gz", vec![], None, "application/gzip"),
        ("dump.gz", vec![], None, "application/gzip"),
    ] {
        fs::write(directory.0.join("public").join(name), &content).expect("written");
        let (head, body) = parts(response(&site, &accepting(&format!("/{name}"), "")));
        assert_eq!(field(&head, "Content-Encoding").as_deref(), coding, "{name}");
        assert_eq!(field(&head, "Content-Type").as_deref(), Some(content_type), "{name}");
        assert_eq!(body, content, "{name}: every byte of it");
    }
}

#[test]
fn types_are_those_that_browsers_want() {
    for (name, expected) in [
        ("a.HTML", HTML),
        ("a.js", JAVASCRIPT),
        ("a.mjs", JAVASCRIPT),
        ("a.css", "text/css; charset=utf-8"),
        ("a.txt", "text/plain; charset=utf-8"),
        ("a.json", "application/json"),
        ("a.js.map", "application/json"),
        ("a.webmanifest", "application/manifest+json"),
        ("a.wasm", "application/wasm"),
        ("a.xml", "application/xml"),
        ("a.pdf", "application/pdf"),
        ("a.png", "image/png"),
        ("a.jpg", "image/jpeg"),
        ("a.webp", "image/webp"),
        ("a.avif", "image/avif"),
        ("a.svg", "image/svg+xml"),
        ("a.ico", "image/x-icon"),
        ("a.ktx2", "image/ktx2"),
        ("a.glb", "model/gltf-binary"),
        ("a.gltf", "model/gltf+json"),
        ("a.mp3", "audio/mpeg"),
        ("a.m4a", "audio/mp4"),
        ("a.ogg", "audio/ogg"),
        ("a.opus", "audio/ogg"),
        ("a.wav", "audio/wav"),
        ("a.mp4", "video/mp4"),
        ("a.webm", "video/webm"),
        ("a.vtt", "text/vtt; charset=utf-8"),
        ("a.woff", "font/woff"),
        ("a.woff2", "font/woff2"),
        ("a.ttf", "font/ttf"),
        ("a.otf", "font/otf"),
        ("a.zip", "application/zip"),
        ("a.data", "application/octet-stream"),
        ("a", "application/octet-stream"),
        (".js", "application/octet-stream"),
    ] {
        assert_eq!(content_type(Path::new(name)), expected, "{name}");
    }
}

#[test]
fn a_missing_public_directory_is_an_error() {
    assert!(Site::new("page".into(), Some(Path::new("/nowhere/at/all"))).is_err());
    assert!(Site::new("page".into(), Some(Path::new(file!()))).is_err(), "a file is no directory");
}

#[test]
fn no_path_panics() {
    let directory = Directory::new("any");
    let site = directory.site();
    proptest!(|(path in "/[a-z./%\\\\\u{0}é2e]{0,40}", codings in "(gzip|br|\\*|;q=0|, ){0,6}")| {
        let answer = site.answer(&accepting(&path, &codings), true, |_| Response::sentence(Status::Ok, "live"));
        if let Answer::Response(response) = answer {
            prop_assert!(!parts(response).1.ends_with(b"secret.txt"));
        }
    });
}
