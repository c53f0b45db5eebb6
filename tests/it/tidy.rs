//! The structure of the source tree: layers depend only downwards, and a few style rules.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use proc_macro2::{Delimiter, Span, TokenStream, TokenTree};

/// Each layer (a module directly under `src/`) and the layers that it may name, itself aside.
const LAYERS: &[(&str, &[&str])] = &[
    ("limits", &[]),
    ("time", &[]),
    ("rate", &[]),
    ("yaml", &[]),
    ("wire", &["limits", "time"]),
    ("log_limit", &["wire", "game"]),
    ("game", &["limits", "time", "wire", "room"]),
    ("auth", &["limits", "wire", "game"]),
    ("hooks", &["limits", "wire", "game"]),
    ("room", &["limits", "time", "wire", "game", "journal"]),
    ("journal", &["limits", "time", "wire", "game", "room"]),
    ("playback", &["limits", "wire", "game", "room", "journal"]),
    ("peer", &["limits", "rate", "time", "wire", "endpoint"]),
    ("media", &["limits", "rate", "time", "game", "peer", "endpoint"]),
    ("endpoint", &["limits", "rate", "time", "wire", "peer", "media"]),
    ("cluster", &["limits", "wire"]),
    ("player", SESSIONS),
    ("signaling", SESSIONS),
    ("server", SESSIONS),
    ("client", &["limits", "time", "wire", "peer"]),
    ("hostile", &["limits", "wire", "game", "room", "journal", "peer", "endpoint", "games", "bench", "script"]),
    ("sim", &["limits", "time", "wire", "game", "room", "journal", "peer", "endpoint", "server", "client", "yaml"]),
    ("script", &["limits", "log_limit", "wire", "game", "journal", "room", "client", "sim"]),
    (
        "driver",
        &[
            "limits",
            "rate",
            "auth",
            "time",
            "wire",
            "log_limit",
            "cluster",
            "game",
            "hooks",
            "journal",
            "endpoint",
            "server",
        ],
    ),
    ("games", &["limits", "game"]),
    ("typescript", &["game"]),
    ("bench", &["limits", "time", "wire", "game", "room", "journal", "peer", "client", "driver", "yaml"]),
    (
        "cli",
        &[
            "limits",
            "yaml",
            "auth",
            "time",
            "wire",
            "log_limit",
            "cluster",
            "game",
            "room",
            "journal",
            "playback",
            "peer",
            "endpoint",
            "server",
            "client",
            "sim",
            "driver",
            "games",
            "script",
            "bench",
        ],
    ),
    // A crate of its own, which sees the public API as everybody does.
    ("main", &[]),
];

const SESSIONS: &[&str] = &[
    "limits",
    "rate",
    "time",
    "wire",
    "log_limit",
    "cluster",
    "game",
    "auth",
    "hooks",
    "room",
    "journal",
    "peer",
    "media",
    "endpoint",
    "player",
    "signaling",
    "server",
];

/// Layers, names that may not stand in their code, and why.
const FOREIGN: &[(&[&str], &[&str], &str)] = &[
    (
        &["game", "room", "journal", "playback", "games"],
        &["str0m", "dimpl", "Instant", "SystemTime", "HashMap", "HashSet"],
        "a room knows ticks only and replays bit for bit",
    ),
    (
        &[
            "limits",
            "time",
            "wire",
            "game",
            "room",
            "journal",
            "playback",
            "peer",
            "media",
            "endpoint",
            "player",
            "signaling",
            "server",
            "client",
            "sim",
            "games",
        ],
        &[
            "mio",
            "tungstenite",
            "httparse",
            "rustls",
            "socket2",
            "quinn_udp",
            "rustix",
            "getrandom",
            "signal_hook",
            "clap",
            "jiff",
        ],
        "I/O belongs to the driver, the command line to its front end",
    ),
    (
        &["limits", "time", "wire", "game", "room", "journal", "playback", "games"],
        &["sctp_proto", "slab"],
        "peers stand above it",
    ),
];

/// Layers that may read a clock; the simulator draws one base from it.
const CLOCK_READERS: &[&str] = &["driver", "bench", "cli", "main", "sim"];

/// Macros that mark unfinished work.
const UNFINISHED_MACROS: &[&str] = &["todo", "unimplemented", "dbg"];
/// Words that do.
const UNFINISHED_WORDS: &[&str] = &["TODO", "FIXME", "XXX"];

const LINE_COLUMNS: usize = 120;
const FILE_LINES: usize = 900;

/// What the top of the repository holds, files whose names start with a dot aside.
const TOP_LEVEL: &[&str] = &[
    "CHANGELOG.md",
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE-APACHE",
    "LICENSE-MIT",
    "README.md",
    "benches",
    "client-js",
    "clippy.toml",
    "deny.toml",
    "docs",
    "examples",
    "llms.txt",
    "packaging",
    "rustfmt.toml",
    "scripts",
    "src",
    "target",
    "tests",
];

#[test]
fn the_source_is_tidy() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut findings = Vec::new();
    for path in rust_files(&root.join("src")) {
        let text = fs::read_to_string(&path).expect("source is UTF-8");
        let path = path.strip_prefix(root).expect("under the root").to_str().expect("paths are UTF-8").to_owned();
        findings.extend(check(&path, &text).into_iter().map(|finding| format!("{path}:{finding}")));
    }
    assert!(findings.is_empty(), "\n{}", findings.join("\n"));
}

#[test]
fn each_limit_has_a_row_in_the_table_of_limits() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/limits.rs");
    let text = fs::read_to_string(path).expect("source is UTF-8");
    let constants = text.lines().filter_map(|line| line.strip_prefix("pub const ")?.split(':').next());
    let mut constants: Vec<_> = constants.filter(|name| !name.starts_with("fn ")).collect();
    let rows = text.lines().filter_map(|line| line.strip_prefix("//! | ")?.split(" | ").next());
    let mut listed: Vec<_> = rows.flat_map(|cell| cell.split('`').skip(1).step_by(2)).collect();
    constants.sort_unstable();
    listed.sort_unstable();
    assert!(constants.len() > 80, "{constants:?}");
    assert_eq!(listed, constants, "each has one row");
}

#[test]
fn the_top_level_holds_nothing_else() {
    let strangers: Vec<_> = fs::read_dir(env!("CARGO_MANIFEST_DIR"))
        .expect("the root can be read")
        .map(|entry| entry.expect("an entry can be read").file_name().to_string_lossy().into_owned())
        .filter(|name| !name.starts_with('.') && !TOP_LEVEL.contains(&name.as_str()))
        .collect();
    assert!(strangers.is_empty(), "find another place, or list them in TOP_LEVEL: {strangers:?}");
}

/// Every snippet breaks one rule on one line.
#[test]
fn each_rule_catches_its_violation() {
    let long_line = format!("// {}", "x".repeat(LINE_COLUMNS));
    let long_file = "\n".repeat(FILE_LINES + 1);
    for (path, text, line, words) in [
        ("src/room.rs", "\nuse crate::server::Server;", 2, "room may not use server"),
        ("src/room.rs", "fn f() {\n g(&crate::endpoint::X)\n}", 2, "room may not use endpoint"),
        ("src/room.rs", "use crate::{\n limits::X,\n server,\n};", 3, "room may not use server"),
        ("src/room.rs", "use super::server;", 1, "room may not use server"),
        ("src/room.rs", "mod inner { use super::super::server; }", 1, "room may not use server"),
        ("src/peer/lane.rs", "use super::super::{wire, server};", 1, "peer may not use server"),
        ("src/room.rs", "use crate::*;", 1, "a glob"),
        ("src/room.rs", "use crate::Server;", 1, "room may not use Server"),
        ("src/limits.rs", "use crate::wire;", 1, "limits may not use wire"),
        ("src/main.rs", "use crate::server;", 1, "main may not use server"),
        ("src/endpoint.rs", "#[cfg(test)]\nuse crate::client;\nuse crate::game::Game;", 3, "endpoint may not use game"),
        ("src/stray.rs", "", 1, "no layer"),
        ("src/games/arena.rs", "use std::time::Instant;", 1, "Instant"),
        ("src/server.rs", "type X = mio::Token;", 1, "mio"),
        ("src/endpoint.rs", "let now = std::time::Instant::now();", 1, "clock"),
        ("src/server.rs", "fn f() { todo!() }", 1, "todo"),
        ("src/server.rs", "fn f() {} // FIXME later", 1, "FIXME"),
        ("src/server.rs", long_line.as_str(), 1, "columns"),
        ("src/server.rs", long_file.as_str(), FILE_LINES + 1, "lines"),
        ("src/server.rs", "fn f() {", 1, "lex"),
    ] {
        let findings = check(path, text);
        assert_eq!(findings.len(), 1, "{path} {text:?}: {findings:?}");
        assert_eq!(findings[0].line, line, "{text:?}");
        assert!(findings[0].message.contains(words), "{text:?}: {}", findings[0]);
    }
}

#[test]
fn what_only_looks_like_a_violation_passes() {
    let table_row = format!("//! | {} |", "x".repeat(LINE_COLUMNS));
    for (path, text) in [
        ("src/lib.rs", "pub use crate::server::Server; pub use crate::driver::run;"),
        ("src/room.rs", "use crate::limits; use crate::wire::{self, codes::Leave}; use crate::room::Context;"),
        ("src/room.rs", "//! See [`crate::server`].\n// crate::server, Instant, todo!\n/* mio */"),
        ("src/room.rs", r##"const S: &str = r#"crate::server todo!() Instant"#;"##),
        ("src/wire/mod.rs", table_row.as_str()),
        ("src/room.rs", "mod inner { use super::Context; }"),
        ("src/room.rs", "pub(crate) fn f() {} pub(in crate::room) fn g() {}"),
        ("src/peer/lane.rs", "use super::server;"),
        (
            "src/endpoint.rs",
            "#[cfg(test)]\nmod tests {\n use crate::client;\n fn now() { std::time::Instant::now(); }\n}",
        ),
        ("src/room/tests.rs", "use crate::server::Server; fn now() { std::time::Instant::now(); }"),
        ("src/driver/mod.rs", "fn f() { std::time::Instant::now(); }"),
        ("src/main.rs", "fn main() -> rtcade::ExitCode { rtcade::run(rtcade::games::Arena::new) }"),
    ] {
        let findings = check(path, text);
        assert!(findings.is_empty(), "{path} {text:?}: {findings:?}");
    }
}

#[derive(Debug)]
struct Finding {
    line: usize,
    message: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.line, self.message)
    }
}

/// Holds the Rust source `text`, which stands at `path`, against every rule.
fn check(path: &str, text: &str) -> Vec<Finding> {
    let mut findings = check_lines(text);
    let mut report = |line, message| findings.push(Finding { line, message });
    let module = module_path(path);
    let layer = module.first().map_or("lib", String::as_str);
    if layer != "lib" && !LAYERS.iter().any(|(name, _)| *name == layer) {
        report(1, format!("{layer} is no layer: give it a place in LAYERS"));
    }
    match text.parse::<TokenStream>() {
        // Its parent has it under `#[cfg(test)]`.
        Ok(_) if path.ends_with("/tests.rs") => {}
        Ok(tokens) => Walk { layer, findings: &mut findings }.walk(tokens, module.len()),
        Err(error) => report(error.span().start().line, format!("can't lex: {error}")),
    }
    findings
}

fn check_lines(text: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (line, content) in (1..).zip(text.lines()) {
        let columns = content.chars().count();
        // A row of a Markdown table can't be broken.
        let is_table_row = content.trim_start().trim_start_matches(['/', '!']).starts_with(" |");
        if columns > LINE_COLUMNS && !is_table_row {
            findings.push(Finding { line, message: format!("{columns} columns, at most {LINE_COLUMNS} are right") });
        }
        let mut words = content.split(|c: char| !c.is_alphanumeric());
        if let Some(word) = words.find(|word| UNFINISHED_WORDS.contains(word)) {
            findings.push(Finding { line, message: format!("{word}: finish it or leave it out") });
        }
    }
    let lines = text.lines().count();
    if lines > FILE_LINES {
        findings.push(Finding { line: lines, message: format!("{lines} lines, at most {FILE_LINES} are right") });
    }
    findings
}

struct Walk<'a> {
    layer: &'a str,
    findings: &'a mut Vec<Finding>,
}

impl Walk<'_> {
    /// `depth` counts the modules between the crate's root and these tokens.
    fn walk(&mut self, tokens: TokenStream, depth: usize) {
        let tokens: Vec<TokenTree> = tokens.into_iter().collect();
        let mut rest = tokens.as_slice();
        while let Some((token, after)) = rest.split_first() {
            rest = match token {
                TokenTree::Punct(punct) if punct.as_char() == '#' && is_cfg_test(after) => skip_item(&after[1..]),
                TokenTree::Ident(ident) => {
                    self.check_name(&ident.to_string(), ident.span(), after);
                    if ident == "crate" {
                        self.check_path(after);
                    } else if ident == "super" {
                        let mut path = after;
                        let mut supers = 1;
                        while let Some([TokenTree::Ident(next), ..]) = after_colons(path)
                            && next == "super"
                        {
                            path = &path[3..];
                            supers += 1;
                        }
                        if supers == depth {
                            self.check_path(path);
                        }
                        // The walk goes on behind the chain, so that its tail isn't taken for a chain of its own.
                        rest = path;
                        continue;
                    }
                    match after {
                        [TokenTree::Ident(_), TokenTree::Group(body), after @ ..]
                            if ident == "mod" && body.delimiter() == Delimiter::Brace =>
                        {
                            self.walk(body.stream(), depth + 1);
                            after
                        }
                        _ => after,
                    }
                }
                TokenTree::Group(group) => {
                    self.walk(group.stream(), depth);
                    after
                }
                _ => after,
            };
        }
    }

    fn report(&mut self, span: Span, message: String) {
        self.findings.push(Finding { line: span.start().line, message });
    }

    fn check_name(&mut self, name: &str, span: Span, after: &[TokenTree]) {
        for (layers, names, why) in FOREIGN {
            if layers.contains(&self.layer) && names.contains(&name) {
                self.report(span, format!("{} may not use {name}: {why}", self.layer));
            }
        }
        if matches!(name, "Instant" | "SystemTime")
            && matches!(after_colons(after), Some([TokenTree::Ident(method), ..]) if method == "now")
            && !CLOCK_READERS.contains(&self.layer)
        {
            self.report(span, format!("{} may not read a clock: its caller brings the time", self.layer));
        }
        if UNFINISHED_MACROS.contains(&name) && matches!(after, [TokenTree::Punct(bang), ..] if bang.as_char() == '!') {
            self.report(span, format!("{name}!: finish it or leave it out"));
        }
    }

    /// `path` follows the crate's root.
    fn check_path(&mut self, path: &[TokenTree]) {
        match after_colons(path) {
            Some([TokenTree::Group(group), ..]) => {
                let items: Vec<_> = group.stream().into_iter().collect();
                let is_comma = |token: &TokenTree| matches!(token, TokenTree::Punct(comma) if comma.as_char() == ',');
                for item in items.split(is_comma) {
                    item.first().inspect(|segment| self.check_segment(segment));
                }
            }
            Some([segment, ..]) => self.check_segment(segment),
            _ => {}
        }
    }

    /// `segment` stands directly under the crate's root.
    fn check_segment(&mut self, segment: &TokenTree) {
        let name = segment.to_string();
        let Some((_, below)) = LAYERS.iter().find(|(layer, _)| *layer == self.layer) else { return };
        if name == "*" {
            self.report(segment.span(), "a glob over the whole crate: name what is used".to_owned());
        } else if name != self.layer && !below.contains(&name.as_str()) {
            self.report(segment.span(), format!("{} may not use {name}, only {below:?}", self.layer));
        }
    }
}

/// What follows a `::`.
fn after_colons(tokens: &[TokenTree]) -> Option<&[TokenTree]> {
    match tokens {
        [TokenTree::Punct(a), TokenTree::Punct(b), after @ ..] if a.as_char() == ':' && b.as_char() == ':' => {
            Some(after)
        }
        _ => None,
    }
}

fn is_cfg_test(after_hash: &[TokenTree]) -> bool {
    matches!(after_hash, [TokenTree::Group(attribute), ..] if attribute.stream().to_string().replace(' ', "") == "cfg(test)")
}

/// What follows the item at the start of `tokens`.
fn skip_item(tokens: &[TokenTree]) -> &[TokenTree] {
    let is_last = |token: &TokenTree| match token {
        TokenTree::Group(body) => body.delimiter() == Delimiter::Brace,
        TokenTree::Punct(end) => end.as_char() == ';',
        _ => false,
    };
    let last = tokens.iter().position(is_last).unwrap_or(tokens.len() - 1);
    &tokens[last + 1..]
}

/// The modules from the crate's root to the file: `src/peer/lane.rs` is `["peer", "lane"]`.
fn module_path(path: &str) -> Vec<String> {
    let path = path.trim_start_matches("src/").trim_end_matches(".rs").trim_end_matches("/mod");
    path.split('/').filter(|name| *name != "lib").map(str::to_owned).collect()
}

fn rust_files(directory: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory).expect("the directory can be read") {
        let path = entry.expect("an entry can be read").path();
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files.sort();
    files
}
