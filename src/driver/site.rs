//! The resources of the server by path.

mod manifests;

use std::borrow::Cow;
use std::cell::RefCell;
use std::ffi::OsString;
use std::fs::{self, File, Metadata};
use std::io::{self, Read, Seek};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use flate2::Compression;
use flate2::write::GzEncoder;
use tungstenite::Bytes;

use self::manifests::Manifests;
use super::call;
use super::http::{Body, Coding, Method, NOT_ALLOWED, Representation, Request, Response, Status, Upgrade};
use super::live::Live;
use crate::log_limit::Throttle;
use crate::wire::codes::ErrorCode;
use crate::wire::signaling::{Fault, RoomName};

const ICON: &str = concat!(
    r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 16 16">"##,
    r##"<circle cx="8" cy="8" r="6" fill="#0b1026" stroke="#39d8ff" stroke-width="3"/></svg>"##
);
const CLIENT: &str = include_str!("../../client-js/dist/rtcade.js");
/// What a page may import beside the client, by path.
const MODULES: [(&str, &str); 9] = [
    ("/rtcade/interpolate.js", include_str!("../../client-js/dist/rtcade/interpolate.js")),
    ("/rtcade/peers.js", include_str!("../../client-js/dist/rtcade/peers.js")),
    ("/rtcade/predict.js", include_str!("../../client-js/dist/rtcade/predict.js")),
    ("/rtcade/rollback.js", include_str!("../../client-js/dist/rtcade/rollback.js")),
    ("/rtcade/seek.js", include_str!("../../client-js/dist/rtcade/seek.js")),
    ("/rtcade/swarm.js", include_str!("../../client-js/dist/rtcade/swarm.js")),
    ("/rtcade/testing.js", include_str!("../../client-js/dist/rtcade/testing.js")),
    ("/rtcade/video.js", include_str!("../../client-js/dist/rtcade/video.js")),
    ("/rtcade/voice.js", include_str!("../../client-js/dist/rtcade/voice.js")),
];
/// The module behind `?dev`.
const DEV: &str = include_str!("../../client-js/dist/rtcade/dev.js");
/// The module that the shipped pages share.
const PAGE_MODULE: &str = include_str!("../../client-js/pages/page.js");
const DOCTOR: &str = include_str!("../../client-js/pages/doctor/index.html");
const HTML: &str = "text/html; charset=utf-8";
const JAVASCRIPT: &str = "text/javascript; charset=utf-8";
/// The only name with a leading dot that is public (RFC 8615).
const WELL_KNOWN: &str = ".well-known";
const INDEX: &str = "index.html";

/// Bytes of a path that are repeated in an error message.
const NAMED_BYTES: usize = 100;

/// The answer to a request.
#[derive(Debug)]
pub(super) enum Answer {
    Response(Response),
    /// The connection may become a websocket, of this room if the URL names one.
    Websocket {
        upgrade: Upgrade,
        room: Option<RoomName>,
    },
    /// Somebody wants to publish to a room or to watch it without a websocket: WHIP (RFC 9725) and WHEP.
    Call {
        room: RoomName,
        publishes: bool,
    },
    /// The call of this session ends.
    HangUp {
        socket_id: String,
        resume: String,
    },
    /// The connection may become a websocket, but the path accepts none.
    NoWebsocket {
        fault: Fault,
    },
}

/// The methods of pages and files.
const ALLOWED: &str = "GET, HEAD, OPTIONS";

/// The pages and files of a server.
#[derive(Debug)]
pub(super) struct Site {
    page: Document,
    /// The page at `/`, unless that redirects to a new room.
    front: Option<Document>,
    client: Document,
    modules: Vec<(&'static str, Document)>,
    dev: Document,
    /// Whether everybody gets it, not only this machine.
    is_dev_open: bool,
    page_module: Document,
    doctor: Document,
    icon: Document,
    /// The directory of `--public`, canonical.
    public: Option<PathBuf>,
    manifests: RefCell<Manifests>,
    /// Limits the log lines about what can't be read.
    failures: RefCell<Throttle>,
}

impl Site {
    /// `page` is shown under `/r/{room}`, unless `public` has an `index.html` for it.
    ///
    /// # Errors
    /// `public` is not a directory that can be read.
    pub(super) fn new(page: Cow<'static, str>, public: Option<&Path>) -> io::Result<Site> {
        let public = public.map(fs::canonicalize).transpose()?;
        if let Some(directory) = &public {
            fs::read_dir(directory)?;
        }
        Ok(Site {
            page: Document::new(HTML, page),
            front: None,
            client: Document::new(JAVASCRIPT, CLIENT),
            modules: MODULES.map(|(path, module)| (path, Document::new(JAVASCRIPT, module))).into(),
            dev: Document::new(JAVASCRIPT, DEV),
            is_dev_open: false,
            page_module: Document::new(JAVASCRIPT, PAGE_MODULE),
            doctor: Document::new(HTML, DOCTOR),
            icon: Document::new("image/svg+xml", ICON),
            public,
            manifests: RefCell::default(),
            failures: RefCell::new(Throttle::new(10, Duration::from_secs(10))),
        })
    }

    /// Serves a page at `/` instead of redirecting to a new room.
    pub(super) fn set_front(&mut self, page: &'static str) {
        self.front = Some(Document::new(HTML, page));
    }

    /// Serves the dev page to everybody instead of to this machine only.
    pub(super) fn open_dev(&mut self) {
        self.is_dev_open = true;
    }

    /// Answers `request`; `live` creates the responses that are not files. With `is_local` the request comes from
    /// this machine.
    pub(super) fn answer(&self, request: &Request, is_local: bool, live: impl FnOnce(Live) -> Response) -> Answer {
        let room = request.path.strip_prefix("/r/").map(RoomName::parse);
        if let Some(upgrade) = request.websocket.clone() {
            return match (room, request.path.as_str()) {
                (Some(Some(room)), _) => Answer::Websocket { upgrade, room: Some(room) },
                (None, "/api") => Answer::Websocket { upgrade, room: None },
                _ => Answer::NoWebsocket { fault: no_websocket(&request.path) },
            };
        }
        if let Some(answer) = call::answer(request) {
            return answer;
        }
        if request.method.is_change() {
            return Answer::Response(Response::sentence(Status::MethodNotAllowed, NOT_ALLOWED).field("Allow", ALLOWED));
        }
        if request.method == Method::Options {
            return Answer::Response(Response::empty(Status::NoContent).field("Allow", ALLOWED));
        }
        Answer::Response(match (room, request.path.as_str()) {
            (Some(Some(_)), _) => self.room_page(request),
            (Some(None), _) => {
                not_found("A room's name has 1 to 64 characters: letters, digits, _ and - (files are served at /).")
            }
            (None, "/") => match &self.front {
                Some(page) => page.answer(request),
                None => self.to_fresh_room(),
            },
            (None, "/rtcade.js") => self.client.answer(request),
            (None, "/rtcade/dev.js") if is_local || self.is_dev_open => self.dev.answer(request),
            (None, "/rtcade/dev.js") => not_found(
                "The dev page is served to this machine only, at localhost or an IP address: start the server with \
                --dev to serve it to others.",
            ),
            (None, "/page.js") => self.page_module.answer(request),
            (None, "/healthz") => Response::sentence(Status::Ok, "ok"),
            (None, "/rooms") => live(Live::Rooms),
            (None, "/doctor") => self.doctor.answer(request),
            (None, "/doctor.json") => live(Live::Doctor),
            (None, "/metrics") => live(Live::Metrics),
            (None, "/api") => {
                Response::sentence(Status::UpgradeRequired, "This address accepts websockets only: open one here.")
            }
            // Browsers request it by themselves, and log an error if it is missing.
            (None, "/favicon.ico") if !self.has_icon() => self.icon.answer(request),
            (None, path) => match self.modules.iter().find(|(of, _)| *of == path) {
                Some((_, module)) => module.answer(request),
                None => self.file(path, request),
            },
        })
    }

    fn has_icon(&self) -> bool {
        self.public.as_ref().is_some_and(|public| public.join("favicon.ico").is_file())
    }

    fn room_page(&self, request: &Request) -> Response {
        match &self.public {
            Some(public) => match find(public, &public.join(INDEX)) {
                Some(found) if found.metadata.is_file() => self.send(found, public, request),
                _ => {
                    not_found("The directory of --public has no index.html: create one: it is the page of every room.")
                }
            },
            None => self.page.answer(request),
        }
    }

    /// A file of the public directory. Files outside it (by `..` or by a link) and hidden files are not served.
    fn file(&self, path: &str, request: &Request) -> Response {
        const NOTHING: &str =
            "There is nothing at this address: rooms are at /r/{room}; files come from the directory of --public.";
        let Some(public) = &self.public else { return not_found(NOTHING) };
        let Some(decoded) = percent_decoded(path) else {
            return Response::sentence(
                Status::BadRequest,
                "The path is not percent-encoded UTF-8: encode it that way.",
            );
        };
        let segments = decoded.trim_start_matches('/').split('/');
        let is_hidden =
            |(depth, segment): (usize, &str)| segment.starts_with('.') && (depth > 0 || segment != WELL_KNOWN);
        if decoded.contains(['\0', '\\']) || segments.clone().enumerate().any(is_hidden) {
            return not_found(NOTHING);
        }
        match find(public, &public.join(segments.collect::<PathBuf>())) {
            Some(found) if found.metadata.is_file() => self.send(found, public, request),
            Some(found) if found.metadata.is_dir() && !decoded.ends_with('/') => to_directory(path, &request.query),
            Some(found) if found.metadata.is_dir() => match find(public, &found.path.join(INDEX)) {
                Some(found) if found.metadata.is_file() => self.send(found, public, request),
                _ => not_found("This directory has no index.html, and is not listed."),
            },
            _ => not_found(NOTHING),
        }
    }

    fn send(&self, found: Found, public: &Path, request: &Request) -> Response {
        let path = found.path.clone();
        let response = match request.query.as_str() {
            "?pieces" => self.manifests.borrow_mut().answer(found, request),
            _ => found.answer(public, request),
        };
        response.unwrap_or_else(|error| self.failed(&path, &error))
    }

    fn to_fresh_room(&self) -> Response {
        match fresh_room_name() {
            Ok(name) => {
                Response::sentence(Status::Found, "Redirecting to a new room.").field("Location", format!("r/{name}"))
            }
            Err(error) => self.failed(Path::new("/"), &io::Error::other(error)),
        }
    }

    fn failed(&self, path: &Path, error: &io::Error) -> Response {
        if let Some(left_out) = self.failures.borrow_mut().take(Instant::now()) {
            log::warn!("{path:?}: {error}{left_out}");
        }
        Response::sentence(Status::InternalServerError, "The server could not read the file: see its log.")
    }
}

/// A text in memory, in each coding in which it is sent.
#[derive(Debug)]
struct Document {
    content_type: &'static str,
    /// Plain, and compressed if that is smaller.
    versions: Vec<(Coding, Bytes, String)>,
}

impl Document {
    fn new(content_type: &'static str, text: impl Into<Cow<'static, str>>) -> Document {
        let plain = match text.into() {
            Cow::Borrowed(text) => Bytes::from_static(text.as_bytes()),
            Cow::Owned(text) => Bytes::from(text),
        };
        let tag = |coding: &str| format!("\"{:x}-{:08x}{coding}\"", plain.len(), crc32c::crc32c(&plain));
        let tags = [tag(""), tag("-gzip")];
        let compressed = Bytes::from(gzipped(&plain));
        let [plain_tag, gzip_tag] = tags;
        let mut versions = vec![(Coding::Identity, plain, plain_tag)];
        if compressed.len() < versions[0].1.len() {
            versions.push((Coding::Gzip, compressed, gzip_tag));
        }
        Document { content_type, versions }
    }

    fn answer(&self, request: &Request) -> Response {
        let version = |coding| self.versions.iter().find(|(of, ..)| *of == coding);
        let Some((coding, bytes, tag)) = request.codings().into_iter().find_map(version) else {
            return Response::not_acceptable();
        };
        let representation = Representation {
            content_type: self.content_type.into(),
            coding: *coding,
            is_negotiated: true,
            tag: tag.clone(),
            modified: None,
            body: Body::Bytes(bytes.clone()),
        };
        representation.respond(request, SystemTime::now()).expect("only files can't be read")
    }
}

fn gzipped(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    io::Write::write_all(&mut encoder, bytes).and_then(|()| encoder.finish()).expect("a vector takes all")
}

/// A file or directory within the public directory.
struct Found {
    /// Canonical.
    path: PathBuf,
    metadata: Metadata,
}

fn find(public: &Path, path: &Path) -> Option<Found> {
    let path = fs::canonicalize(path).ok().filter(|path| path.starts_with(public))?;
    let metadata = fs::metadata(&path).ok()?;
    Some(Found { path, metadata })
}

impl Found {
    fn answer(mut self, public: &Path, request: &Request) -> io::Result<Response> {
        let file = self.open()?;
        let (name, coding) = content_of(&self.path, &file)?;
        let content_type = content_type(&name);
        if coding != Coding::Identity {
            return self.representation(content_type, coding, false, file).respond(request, SystemTime::now());
        }
        for coding in request.codings() {
            let representation = match coding {
                Coding::Identity => self.representation(content_type, coding, true, file),
                Coding::Gzip | Coding::Brotli => {
                    let Some(mut sibling) = self.sibling(public, coding) else { continue };
                    let file = sibling.open()?;
                    sibling.representation(content_type, coding, true, file)
                }
            };
            return representation.respond(request, SystemTime::now());
        }
        Ok(Response::not_acceptable())
    }

    /// Opens the file, and takes over its metadata: the file at the path may have been replaced since it was found.
    fn open(&mut self) -> io::Result<File> {
        let file = File::open(&self.path)?;
        self.metadata = file.metadata()?;
        Ok(file)
    }

    /// The compressed copy beside the file, if it is not older than the file.
    fn sibling(&self, public: &Path, coding: Coding) -> Option<Found> {
        let mut path = OsString::from(&self.path);
        path.push(match coding {
            Coding::Identity => return None,
            Coding::Gzip => ".gz",
            Coding::Brotli => ".br",
        });
        let sibling = find(public, Path::new(&path))?;
        let is_of_now = sibling.metadata.modified().ok()? >= self.metadata.modified().ok()?;
        (sibling.metadata.is_file() && is_of_now).then_some(sibling)
    }

    fn representation(
        &self,
        content_type: Cow<'static, str>,
        coding: Coding,
        is_negotiated: bool,
        file: File,
    ) -> Representation {
        let (tag, modified) = (self.tag(coding), self.metadata.modified().ok());
        let body = Body::File(file, self.metadata.len());
        Representation { content_type, coding, is_negotiated, tag, modified, body }
    }

    fn tag(&self, coding: Coding) -> String {
        let modified = self.metadata.modified().ok().and_then(|modified| modified.duration_since(UNIX_EPOCH).ok());
        let suffix = if coding == Coding::Identity { String::new() } else { format!("-{}", coding.name()) };
        format!("\"{:x}-{:x}{suffix}\"", self.metadata.len(), modified.unwrap_or_default().as_nanos())
    }
}

fn no_websocket(path: &str) -> Fault {
    let sentence = match path.rsplit_once("/r/") {
        Some(("", _)) => {
            "The room name in the address is not valid: use 1 to 64 characters (letters, digits, _ and -).".to_owned()
        }
        Some((prefix, _)) if prefix.len() <= NAMED_BYTES => format!(
            "Websockets are accepted at /r/ROOM and at /api, not below {prefix:?}: a proxy that serves rtcade below a \
            path must remove that path (nginx: proxy_pass with a slash at the end of its address)."
        ),
        _ => "Websockets are accepted at /r/ROOM and at /api only.".to_owned(),
    };
    Fault::new(ErrorCode::BadRoom, sentence)
}

pub(super) fn not_found(sentence: &str) -> Response {
    Response::sentence(Status::NotFound, sentence)
}

/// Redirects to the same path with a slash, to which relative URLs in the index of a directory refer.
fn to_directory(path: &str, query: &str) -> Response {
    let name = path.rsplit('/').next().unwrap_or_default();
    // The text before a colon would be a scheme.
    let location = format!("{}/{query}", name.replace(':', "%3A"));
    Response::sentence(Status::MovedPermanently, "This is a directory: add a slash to the end of its address.")
        .field("Location", location)
}

/// 40 random bits in letters and digits that are not easily confused.
fn fresh_room_name() -> Result<String, getrandom::Error> {
    const ALPHABET: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";
    let mut random = [0; 8];
    getrandom::fill(&mut random)?;
    Ok(random.iter().map(|byte| char::from(ALPHABET[usize::from(byte % 32)])).collect())
}

fn percent_decoded(path: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(path.len());
    let mut parts = path.split('%');
    bytes.extend_from_slice(parts.next()?.as_bytes());
    for part in parts {
        let (digits, rest) = part.split_at_checked(2)?;
        if !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return None;
        }
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
        bytes.extend_from_slice(rest.as_bytes());
    }
    String::from_utf8(bytes).ok()
}

/// The name of the content of a file, and its coding. Builds for the web, such as Unity's, are compressed and need the
/// server to send `Content-Encoding`; archives are sent as they are.
fn content_of(path: &Path, mut file: &File) -> io::Result<(PathBuf, Coding)> {
    let inner = path.with_extension("");
    let coding = match extension(path).as_str() {
        "gz" if is_loaded_by_pages(&inner) => Coding::Gzip,
        "br" => Coding::Brotli,
        "unityweb" => {
            const GZIP: [u8; 2] = [0x1f, 0x8b];
            const BROTLI: &[u8] = b"UnityWeb Compressed Content (brotli)";
            let mut head = Vec::new();
            file.take(64).read_to_end(&mut head)?;
            file.rewind()?;
            if head.starts_with(&GZIP) {
                Coding::Gzip
            } else if head.windows(BROTLI.len()).any(|window| window == BROTLI) {
                Coding::Brotli
            } else {
                Coding::Identity
            }
        }
        _ => return Ok((path.to_owned(), Coding::Identity)),
    };
    Ok((inner, coding))
}

fn is_loaded_by_pages(path: &Path) -> bool {
    let content_type = content_type(path);
    let is_code = ["text/", "application/json", "application/wasm", "image/svg+xml", "model/"]
        .iter()
        .any(|prefix| content_type.starts_with(prefix));
    is_code || matches!(extension(path).as_str(), "data" | "mem")
}

/// In lower case.
fn extension(path: &Path) -> String {
    path.extension().map(|extension| extension.to_string_lossy().to_ascii_lowercase()).unwrap_or_default()
}

fn content_type(path: &Path) -> Cow<'static, str> {
    let extension = extension(path);
    let content_type = match extension.as_str() {
        // The types that browsers expect, if the table has others.
        "js" | "mjs" | "cjs" => return JAVASCRIPT.into(),
        "map" | "tmj" | "tsj" => "application/json",
        "md" | "atlas" | "fnt" | "glsl" | "vert" | "frag" | "obj" | "mtl" => "text/plain",
        "wgsl" => "text/wgsl",
        // The document declares its character set.
        "xml" => "application/xml",
        "m4a" => "audio/mp4",
        "mid" | "midi" => "audio/midi",
        "woff" => "font/woff",
        "otf" => "font/otf",
        "ktx2" => "image/ktx2",
        "usdz" => "model/vnd.usdz+zip",
        "stl" => "model/stl",
        "m3u8" => "application/vnd.apple.mpegurl",
        extension => mime_guess::from_ext(extension).first_raw().unwrap_or("application/octet-stream"),
    };
    if content_type.starts_with("text/") {
        format!("{content_type}; charset=utf-8").into()
    } else {
        content_type.into()
    }
}

#[cfg(test)]
mod tests {
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
        let built = concat!(env!("CARGO_MANIFEST_DIR"), "/client-js/dist/rtcade");
        for entry in fs::read_dir(built).expect("built") {
            let path = entry.expect("read").path();
            let name = path.file_name().expect("a name").to_string_lossy().into_owned();
            let served = text(response(&plain(), &get(&format!("/rtcade/{name}"))));
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
}
