//! The resources of the server by path.

mod manifests;

use std::borrow::Cow;
use std::cell::RefCell;
use std::ffi::OsString;
use std::fs::{self, File, Metadata};
use std::io::{self, Read, Seek};
use std::path::{Path, PathBuf};
#[cfg(feature = "script")]
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use flate2::Compression;
use flate2::write::GzEncoder;
use tungstenite::Bytes;

use self::manifests::Manifests;
use super::call;
#[cfg(feature = "script")]
use super::development::Development;
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
const MODULES: [(&str, &str); 13] = [
    ("/rtcade/game.js", include_str!("../../client-js/dist/rtcade/game.js")),
    ("/rtcade/interpolate.js", include_str!("../../client-js/dist/rtcade/interpolate.js")),
    ("/rtcade/math.js", include_str!("../../client-js/dist/rtcade/math.js")),
    ("/rtcade/peers.js", include_str!("../../client-js/dist/rtcade/peers.js")),
    ("/rtcade/predict.js", include_str!("../../client-js/dist/rtcade/predict.js")),
    ("/rtcade/rollback.js", include_str!("../../client-js/dist/rtcade/rollback.js")),
    ("/rtcade/rooms.js", include_str!("../../client-js/dist/rtcade/rooms.js")),
    ("/rtcade/seek.js", include_str!("../../client-js/dist/rtcade/seek.js")),
    ("/rtcade/segments.js", include_str!("../../client-js/dist/rtcade/segments.js")),
    ("/rtcade/swarm.js", include_str!("../../client-js/dist/rtcade/swarm.js")),
    ("/rtcade/testing.js", include_str!("../../client-js/dist/rtcade/testing.js")),
    ("/rtcade/video.js", include_str!("../../client-js/dist/rtcade/video.js")),
    ("/rtcade/voice.js", include_str!("../../client-js/dist/rtcade/voice.js")),
];
/// The module behind `?dev`.
const DEV: &str = include_str!("../../client-js/dist/rtcade/dev.js");
/// On the pages of a game in development.
#[cfg(feature = "script")]
const LIVE: &str = include_str!("../../client-js/dist/rtcade/live.js");
#[cfg(feature = "script")]
const LIVE_TAG: &str = "\n<script type=\"module\" src=\"/rtcade/live.js\"></script>\n";
/// A longer page is served without it.
#[cfg(feature = "script")]
const LIVE_PAGE_BYTES: u64 = 1024 * 1024;
/// The module that the shipped pages share.
const PAGE_MODULE: &str = include_str!("../../client-js/pages/page.js");
const ADMIN: &str = include_str!("../../client-js/pages/admin/index.html");
const DOCTOR: &str = include_str!("../../client-js/pages/doctor/index.html");
const HTML: &str = "text/html; charset=utf-8";
const JAVASCRIPT: &str = "text/javascript; charset=utf-8";
/// The only name with a leading dot that is public (RFC 8615).
const WELL_KNOWN: &str = ".well-known";
const CHALLENGES: &str = "/.well-known/acme-challenge/";
const INDEX: &str = "index.html";
/// The rooms that are listed.
pub(super) const ROOMS: &str = "/rooms";

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
    #[cfg(feature = "script")]
    development: Option<(Arc<Development>, Document)>,
    page_module: Document,
    doctor: Document,
    admin: Document,
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
            #[cfg(feature = "script")]
            development: None,
            page_module: Document::new(JAVASCRIPT, PAGE_MODULE),
            doctor: Document::new(HTML, DOCTOR),
            admin: Document::new(HTML, ADMIN),
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

    /// Tells each page of the public directory what this knows.
    #[cfg(feature = "script")]
    pub(super) fn develop(&mut self, development: Arc<Development>) {
        self.development = Some((development, Document::new(JAVASCRIPT, LIVE)));
    }

    /// The answer for the pages of a game in development, if the request is for one.
    #[cfg(feature = "script")]
    fn of_development(&self, path: &str, request: &Request) -> Option<Response> {
        let (development, module) = self.development.as_ref()?;
        match path {
            "/rtcade/live.js" => Some(module.answer(request)),
            "/rtcade/live.json" => {
                let body = Body::Bytes(development.to_json().into());
                Some(Response::new(Status::Ok, "application/json", body).field("Cache-Control", "no-store"))
            }
            _ => None,
        }
    }

    #[cfg(not(feature = "script"))]
    fn of_development(&self, _: &str, _: &Request) -> Option<Response> {
        None
    }

    /// The page of a game in development, with the module that keeps it up to date.
    #[cfg(feature = "script")]
    fn live_page(&self, found: &Found) -> Option<String> {
        self.development.as_ref()?;
        if found.metadata.len() > LIVE_PAGE_BYTES || content_type(&found.path) != HTML {
            return None;
        }
        Some(fs::read_to_string(&found.path).ok()? + LIVE_TAG)
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
            (None, "/readyz") => live(Live::Ready),
            (None, ROOMS) => live(Live::Rooms),
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
                None => self.of_development(path, request).unwrap_or_else(|| self.file(path, request)),
            },
        })
    }

    /// The page for operators and its parts, if the request is for one of them.
    pub(super) fn admin_page(&self, request: &Request) -> Option<Response> {
        let document = match request.path.as_str() {
            "/" => &self.admin,
            "/page.js" => &self.page_module,
            "/favicon.ico" => &self.icon,
            _ => return None,
        };
        let is_read = matches!(request.method, Method::Get | Method::Head);
        Some(if is_read { document.answer(request) } else { Response::sentence(Status::MethodNotAllowed, NOT_ALLOWED) })
    }

    /// The file that proves to a certificate authority that this is the server of the host (RFC 8555 §8.3), if the
    /// request is for one.
    pub(super) fn challenge(&self, request: &Request) -> Option<Response> {
        let is_challenge = request.path.starts_with(CHALLENGES) && !request.method.is_change();
        (is_challenge && self.public.is_some()).then(|| self.file(&request.path, request))
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
        #[cfg(feature = "script")]
        if let Some(page) = self.live_page(&found) {
            return Document::new(HTML, page).answer(request);
        }
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
mod tests;
