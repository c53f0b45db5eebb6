//! What stands at which path.

use std::borrow::Cow;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use super::http::{Body, Request, Response, Status, Upgrade};
use crate::wire::signaling::RoomName;

const ICON: &str = concat!(
    r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 16 16">"##,
    r##"<circle cx="8" cy="8" r="6" fill="#0b1026" stroke="#39d8ff" stroke-width="3"/></svg>"##
);
const CLIENT: &str = include_str!("../../client-js/dist/rtcade.js");
const DOCTOR: &str = include_str!("../../client-js/pages/doctor/index.html");
const HTML: &str = "text/html; charset=utf-8";
const JSON: &str = "application/json";
/// The text format of Prometheus, as that asks for it.
const METRICS: &str = "text/plain; version=0.0.4; charset=utf-8";
const JAVASCRIPT: &str = "text/javascript; charset=utf-8";

/// What a request gets.
#[derive(Debug)]
pub(super) enum Answer {
    Response(Response),
    /// The connection may become a websocket, of this room where its URL names one.
    Websocket {
        upgrade: Upgrade,
        room: Option<RoomName>,
    },
}

/// The pages and files of a server.
#[derive(Debug)]
pub(super) struct Site {
    page: Cow<'static, str>,
    /// The page at `/`, where that doesn't lead to a fresh room.
    front: Option<&'static str>,
    /// A directory of the user's, canonical.
    public: Option<PathBuf>,
}

/// What is made anew for each request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Live {
    /// The JSON of `/rooms`.
    Rooms,
    /// The text of `/metrics`.
    Metrics,
    /// The JSON of `/doctor.json`.
    Doctor,
}

impl Site {
    /// `page` is shown under `/r/{room}`, unless `public` has an `index.html` for it.
    ///
    /// # Errors
    /// Where `public` is not a directory that can be read.
    pub(super) fn new(page: Cow<'static, str>, public: Option<&Path>) -> io::Result<Site> {
        let public = public.map(fs::canonicalize).transpose()?;
        if let Some(directory) = &public {
            fs::read_dir(directory)?;
        }
        Ok(Site { page, front: None, public })
    }

    /// Shows a page at `/` instead of leading to a fresh room.
    pub(super) fn set_front(&mut self, page: &'static str) {
        self.front = Some(page);
    }

    /// What `request` gets; `live` makes what isn't a file.
    pub(super) fn answer(&self, request: &Request, live: impl FnOnce(Live) -> Vec<u8>) -> Answer {
        let not_found = |sentence| Answer::Response(Response::sentence(Status::NotFound, sentence));
        let room = request.path.strip_prefix("/r/").map(RoomName::parse);
        if let Some(upgrade) = request.websocket.clone() {
            return match (room, request.path.as_str()) {
                (Some(Some(room)), _) => Answer::Websocket { upgrade, room: Some(room) },
                (None, "/api") => Answer::Websocket { upgrade, room: None },
                _ => not_found("Websockets open at /r/{room} and at /api."),
            };
        }
        Answer::Response(match (room, request.path.as_str()) {
            (Some(Some(_)), _) => self.room_page(request),
            (Some(None), _) => {
                return not_found(
                    "Invalid room name: use 1 to 64 letters, digits, _ and -. (Files are served below /.)",
                );
            }
            (None, "/") => match self.front {
                Some(page) => embedded(page, HTML, request),
                None => to_fresh_room(),
            },
            (None, "/rtcade.js") => embedded(CLIENT, JAVASCRIPT, request),
            (None, "/healthz") => Response::sentence(Status::Ok, "ok"),
            (None, "/rooms") => Response::new(Status::Ok, JSON, Body::Bytes(live(Live::Rooms).into())),
            (None, "/doctor") => embedded(DOCTOR, HTML, request),
            (None, "/doctor.json") => Response::new(Status::Ok, JSON, Body::Bytes(live(Live::Doctor).into())),
            (None, "/metrics") => Response::new(Status::Ok, METRICS, Body::Bytes(live(Live::Metrics).into())),
            (None, "/api") => Response::sentence(Status::UpgradeRequired, "This address is for websockets."),
            // Browsers ask for it unasked, and complain where there is none.
            (None, "/favicon.ico") if !self.has_icon() => embedded(ICON, "image/svg+xml", request),
            (None, path) => self.file(path, request),
        })
    }

    fn has_icon(&self) -> bool {
        self.public.as_ref().is_some_and(|public| public.join("favicon.ico").is_file())
    }

    fn room_page(&self, request: &Request) -> Response {
        match self.public {
            Some(_) => self.file("/index.html", request),
            None => match &self.page {
                Cow::Borrowed(page) => embedded(page, HTML, request),
                Cow::Owned(page) => Response::new(Status::Ok, HTML, Body::Bytes(page.clone().into_bytes().into())),
            },
        }
    }

    /// A file of the public directory. Nothing outside it is reached, by `..` or by a link, and nothing hidden.
    fn file(&self, path: &str, request: &Request) -> Response {
        let not_found = || Response::sentence(Status::NotFound, "Not found.");
        let Some(public) = &self.public else { return not_found() };
        let Some(path) = percent_decoded(path) else {
            return Response::sentence(Status::BadRequest, "The path is not percent-encoded UTF-8.");
        };
        let segments = path.trim_start_matches('/').split('/');
        if path.contains(['\0', '\\']) || segments.clone().any(|segment| segment.starts_with('.')) {
            return not_found();
        }
        let Ok(path) = fs::canonicalize(public.join(segments.collect::<PathBuf>())) else { return not_found() };
        let Ok(metadata) = fs::metadata(&path) else { return not_found() };
        // Anything but a regular file could block the loop as it is opened.
        if !path.starts_with(public) || !metadata.is_file() {
            return not_found();
        }
        let file = match fs::File::open(&path) {
            Ok(file) => file,
            Err(error) => return failed(&path.display().to_string(), &error),
        };
        let modified = metadata.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
        let tag = format!("\"{:x}-{:x}\"", metadata.len(), modified.unwrap_or_default().as_nanos());
        Response::new(Status::Ok, content_type(&path), Body::File(file, metadata.len())).tagged(tag, request)
    }
}

fn embedded(text: &'static str, content_type: &'static str, request: &Request) -> Response {
    let tag = format!("\"{:x}-{:08x}\"", text.len(), crc32c::crc32c(text.as_bytes()));
    Response::new(Status::Ok, content_type, Body::Bytes(text.as_bytes().into())).tagged(tag, request)
}

fn to_fresh_room() -> Response {
    match fresh_room_name() {
        Ok(name) => {
            Response::sentence(Status::Found, "Redirecting to a new room.").field("Location", format!("/r/{name}"))
        }
        Err(error) => failed("/", &io::Error::other(error)),
    }
}

fn failed(what: &str, error: &io::Error) -> Response {
    log::warn!("{what}: {error}");
    Response::sentence(Status::InternalServerError, "The server could not read the file.")
}

/// 40 random bits in letters and digits that are not mistaken for each other.
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

fn content_type(path: &Path) -> &'static str {
    let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
    match extension.to_ascii_lowercase().as_str() {
        "html" | "htm" => HTML,
        "js" | "mjs" => JAVASCRIPT,
        "css" => "text/css; charset=utf-8",
        "txt" | "md" => "text/plain; charset=utf-8",
        "json" | "map" => JSON,
        "webmanifest" => "application/manifest+json",
        "wasm" => "application/wasm",
        "png" => "image/png",
        "jpg" | "jpeg" => "image/jpeg",
        "gif" => "image/gif",
        "webp" => "image/webp",
        "avif" => "image/avif",
        "svg" => "image/svg+xml",
        "ico" => "image/vnd.microsoft.icon",
        "mp3" => "audio/mpeg",
        "m4a" => "audio/mp4",
        "ogg" | "oga" => "audio/ogg",
        "wav" => "audio/wav",
        "mp4" => "video/mp4",
        "webm" => "video/webm",
        "woff" => "font/woff",
        "woff2" => "font/woff2",
        "ttf" => "font/ttf",
        "otf" => "font/otf",
        "glb" => "model/gltf-binary",
        "gltf" => "model/gltf+json",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn get(path: &str) -> Request {
        Request { head: false, path: path.to_owned(), if_none_match: None, keep_alive: true, websocket: None }
    }

    fn open(path: &str) -> Request {
        Request { websocket: Some(Upgrade::default()), ..get(path) }
    }

    fn plain() -> Site {
        Site::new("page".into(), None).expect("no directory")
    }

    fn response(site: &Site, request: &Request) -> Response {
        match site.answer(request, |_| b"[]".to_vec()) {
            Answer::Response(response) => response,
            Answer::Websocket { .. } => panic!("a response is expected"),
        }
    }

    fn text(response: Response) -> String {
        let mut bytes = Vec::new();
        let mut outgoing = response.into_outgoing(false, true);
        while !outgoing.write(&mut bytes).expect("a vector takes all") {}
        String::from_utf8(bytes).expect("text")
    }

    fn tag(response: &str) -> Option<String> {
        response.lines().find_map(|line| line.strip_prefix("ETag: ")).map(str::to_owned)
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
        let room = |path| match plain().answer(&open(path), |_| Vec::new()) {
            Answer::Websocket { room, .. } => Ok(room.map(|room| room.as_str().to_owned())),
            Answer::Response(response) => Err(response.status),
        };
        assert_eq!(room("/r/lobby"), Ok(Some("lobby".to_owned())));
        assert_eq!(room("/api"), Ok(None));
        for path in ["/", "/r/", "/r/a.b", "/rooms"] {
            assert_eq!(room(path), Err(Status::NotFound), "{path}");
        }
    }

    #[test]
    fn every_fresh_room_is_a_room_and_another() {
        let location = || text(response(&plain(), &get("/"))).lines().nth(1).expect("a field").to_owned();
        let (first, second) = (location(), location());
        assert_ne!(first, second);
        let name = first.strip_prefix("Location: /r/").expect("a room");
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
    fn the_client_has_a_version() {
        let mut request = get("/rtcade.js");
        request.if_none_match = tag(&text(response(&plain(), &request)));
        assert_eq!(response(&plain(), &request).status, Status::NotModified);
    }

    /// A directory with files in it and around it, gone when dropped.
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
        let mut request = get("/assets/a%20b.css");
        request.if_none_match = tag(&style);
        assert_eq!(response(&site, &request).status, Status::NotModified);
        assert_eq!(response(&site, &get("/assets")).status, Status::NotFound, "a directory is no file");
        assert_eq!(response(&site, &get("/%ff")).status, Status::BadRequest);
        assert_eq!(response(&site, &get("/%2")).status, Status::BadRequest);
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
            "/index.html%00.css",
        ] {
            assert_eq!(response(&site, &get(path)).status, Status::NotFound, "{path}");
        }
    }

    #[test]
    fn a_missing_public_directory_is_an_error() {
        assert!(Site::new("page".into(), Some(Path::new("/nowhere/at/all"))).is_err());
        assert!(Site::new("page".into(), Some(Path::new(file!()))).is_err(), "a file is no directory");
    }

    proptest! {
        #[test]
        fn no_path_panics(path in "/[a-z./%\\\\\u{0}é2e]{0,40}") {
            let directory = Directory::new("any");
            let answer = directory.site().answer(&get(&path), |_| Vec::new());
            if let Answer::Response(response) = answer {
                prop_assert!(!text(response).ends_with("secret.txt"));
            }
        }
    }
}
