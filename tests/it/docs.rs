//! README and book state what is: their Rust is compiled, their tables are those of the source, and what they configure
//! is read by the code that reads it.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::ops::RangeInclusive;
use std::path::Path;
use std::time::Duration;

use rtcade::auth::Keys;
use rtcade::limits;
use rtcade::wire::codes::{ErrorCode, Leave};

const README_LINES: usize = 180;
/// Where the generated part of the page of limits begins.
const GENERATED: &str = "<!-- generated: ";
const UPDATE: &str = "UPDATE_DOCS";

fn read(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

/// The pages of the book and the README, by path.
fn pages() -> Vec<(String, String)> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/src");
    let names = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let names = names.filter(|name| name.ends_with(".md")).map(|name| format!("docs/src/{name}"));
    let pages: Vec<_> = names.chain(["README.md".to_owned()]).map(|path| (path.clone(), read(&path))).collect();
    assert!(pages.len() > 15, "all are found");
    pages
}

/// What stands in blocks of exactly that language.
fn blocks<'a>(page: &'a str, language: &str) -> Vec<&'a str> {
    let fence = format!("```{language}\n");
    page.split(&fence).skip(1).map(|rest| rest.split("```").next().unwrap_or(rest)).collect()
}

/// The rows of a Markdown table, or of several, without header lines: their cells.
fn rows(page: &str) -> impl Iterator<Item = Vec<&str>> {
    page.lines().filter_map(|line| Some(line.strip_prefix("| ")?.strip_suffix('|')?.split(" | ").collect()))
}

/// What stands in backticks.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

#[test]
fn the_readme_is_short_and_has_the_game_that_is_tested() {
    let readme = read("README.md");
    let lines = readme.lines().count();
    assert!(lines <= README_LINES, "{lines} lines: move what is not for the first visit to docs/");
    for path in ["tests/it/readme_game/main.rs", "tests/it/readme_game/public/index.html"] {
        assert!(readme.contains(read(path).trim_end()), "{path} is not in the README as it stands");
    }
}

#[test]
fn the_quick_start_has_every_file_of_its_game() {
    let page = read("docs/src/quick-start.md");
    for file in ["main.rs", "tests.rs", "public/index.html"] {
        let path = format!("tests/it/readme_game/{file}");
        assert!(page.contains(read(&path).trim_end()), "{path} is not in the quick start as it stands");
    }
}

#[test]
fn the_first_game_has_the_code_that_is_tested() {
    let page = read("docs/src/first-game.md");
    let sources = ["tests/it/readme_game/game.js", "src/cli/templates/tanks/public/step.js"].map(read);
    for block in blocks(&page, "js") {
        assert!(sources.iter().any(|source| source.contains(block)), "this stands in no source:\n{block}");
    }
    let lines = sources[0].lines().count();
    assert!(page.contains(&format!("\n## A whole game in {lines} lines\n")), "{lines} lines");
}

#[test]
fn the_budgets_of_a_game_in_javascript_are_those_of_the_source() {
    let page = read("docs/src/javascript.md");
    let section = page.split_once("\n## Budgets\n").unwrap().1.split("\n## ").next().unwrap();
    let kib = |bytes: usize| format!("{} KiB", bytes / 1024);
    let mib = |bytes: usize| format!("{} MiB", bytes / 1024 / 1024);
    let steps = |steps: u32| format!("{},000,000 steps", steps / 1_000_000);
    let expected: Vec<Vec<String>> = vec![
        vec![steps(limits::SCRIPT_STEPS)],
        vec![steps(limits::SCRIPT_STEPS_TO_LOAD)],
        vec![mib(limits::SCRIPT_MEMORY)],
        vec![kib(limits::PROGRAM_BYTES)],
        vec![kib(limits::STATE_BYTES), kib(limits::EVENT_BYTES), mib(limits::SNAPSHOT_BYTES)],
    ];
    let found: Vec<_> = rows(section).skip(1).map(|cells| cells[1].trim().to_owned()).collect();
    assert_eq!(found, expected.iter().map(|cell| cell.join(", ")).collect::<Vec<_>>());
}

/// In the book, `rust` and `rust,no_run` are doctests (see the end of `src/lib.rs`).
#[test]
fn rust_that_is_no_doctest_stands_in_a_source_that_is_compiled() {
    // What rustdoc hides is left out, as in its pages.
    let hooks: String = read("src/hooks.rs")
        .lines()
        .filter_map(|line| line.strip_prefix("///"))
        .filter(|line| !line.starts_with(" # "))
        .map(|line| format!("{}\n", line.strip_prefix(' ').unwrap_or(line)))
        .collect();
    let game = |file: &str| read(&format!("tests/it/{file}"));
    let sources = [
        hooks,
        game("readme_game/main.rs"),
        game("readme_game/tests.rs"),
        game("scores_game/main.rs"),
        read("examples/tanks/main.rs"),
        read("examples/tanks/tests.rs"),
        read("src/games/arena.rs"),
    ]
    .concat();
    let mut compared = 0;
    for (path, page) in pages() {
        let (language, known): (_, &[&str]) = match path.as_str() {
            "README.md" => ("rust", &["rust"]),
            "docs/src/quick-start.md" => ("rust", &["rust"]),
            _ => ("rust,ignore", &["rust", "rust,no_run", "rust,ignore"]),
        };
        for fence in page.lines().filter(|line| line.starts_with("```rust")) {
            assert!(known.contains(&&fence[3..]), "{path}: {fence} is neither compiled nor compared");
        }
        for block in blocks(&page, language) {
            assert!(sources.contains(block), "{path}: this stands in no source:\n{block}");
            compared += 1;
        }
    }
    assert!(compared >= 9, "{compared}");
}

#[test]
fn each_code_has_its_row() {
    let page = read("docs/src/connecting.md");
    let (errors, closes) = page.split_once("\n## Close codes").unwrap();
    let first_cells = |text| rows(text).map(|cells| cells[0].trim().to_owned()).collect::<Vec<_>>();
    let errors: BTreeSet<_> = first_cells(errors.split_once("\n## Errors").unwrap().1).into_iter().collect();
    let types = read("client-js/index.d.ts");
    let (_, codes) = types.split_once("export type ErrorCode").unwrap();
    let codes = codes.split(';').next().unwrap().lines().filter_map(|line| line.trim().strip_prefix("| \""));
    let of_client: Vec<_> = codes.map(|code| code.trim_end_matches('"')).collect();
    assert!(of_client.len() > 20, "{of_client:?}");
    for code in ErrorCode::ALL.iter().map(|code| code.as_str()).chain(of_client) {
        assert!(errors.contains(&format!("`{code}`")), "{code} has no row in docs/src/connecting.md");
    }
    let protocol = read("docs/src/protocol.md");
    let numbers = protocol.split_once("\n| code | number |").unwrap().1.split("\n\n").next().unwrap();
    let numbers: BTreeSet<(String, String)> = rows(numbers)
        .flat_map(|cells| {
            cells.chunks(2).map(|pair| (pair[0].trim().to_owned(), pair[1].trim().to_owned())).collect::<Vec<_>>()
        })
        .filter(|(code, _)| code.starts_with('`'))
        .collect();
    let expected: BTreeSet<_> =
        ErrorCode::ALL.iter().map(|code| (format!("`{code}`"), code.number().to_string())).collect();
    assert_eq!(numbers, expected, "docs/src/protocol.md has other numbers than src/wire/codes.rs");
    let closes: Vec<_> = rows(closes).map(|cells| (cells[0].to_owned(), cells[1].to_owned())).collect();
    for leave in Leave::ALL {
        let row = (leave.close_code().to_string(), format!("`{leave}`"));
        assert!(closes.contains(&row), "{row:?} is not among {closes:?}");
    }
}

#[test]
#[cfg(feature = "driver")]
fn scenario_files_can_be_run() {
    use rtcade::bench::script::{Overrides, Script};

    let mut read = 0;
    for (path, page) in pages() {
        for block in blocks(&page, "yaml").into_iter().filter(|block| block.contains("scenarios:")) {
            let script = Script::parse(block, &Overrides::default());
            read += 1;
            assert!(script.is_ok(), "{path}: {}", script.unwrap_err());
        }
    }
    assert!(read > 0);
}

#[test]
fn json_is_json_and_keys_are_keys() {
    let mut keys = 0;
    for (path, page) in pages() {
        for block in blocks(&page, "json") {
            let parsed = serde_json::from_str::<serde_json::Value>(block);
            assert!(parsed.is_ok(), "{path}: {parsed:?} in {block}");
            if block.contains("\"kty\"") {
                keys += 1;
                let parsed = Keys::parse(block, "my-game");
                assert!(parsed.as_ref().is_ok_and(|keys| keys.ignored().count() == 0), "{path}: {parsed:?}");
            }
        }
    }
    assert!(keys > 0);
}

#[test]
fn each_figure_that_is_named_is_one_of_the_metrics() {
    let metrics = read("src/driver/metrics.rs");
    let mut named = 0;
    for (path, page) in pages() {
        for name in quoted(&page).filter_map(|text| text.strip_prefix("rtcade_")) {
            let family = ["_total", "_bucket", "_sum", "_count", "_info"].iter().find_map(|end| name.strip_suffix(end));
            let family = family.unwrap_or(name);
            assert!(metrics.contains(&format!("\"{family}\"")), "{path}: there is no rtcade_{name}");
            named += 1;
        }
    }
    assert!(named > 0);
}

#[test]
fn the_table_of_simulated_networks_is_that_of_the_simulator() {
    let page = read("docs/src/measurements.md");
    let source = read("src/sim/mod.rs");
    let table: Vec<_> =
        source.lines().filter_map(|line| line.strip_prefix("//! ").filter(|l| l.starts_with('|'))).collect();
    assert!(table.len() > 10);
    assert!(page.contains(&table.join("\n")), "docs/src/measurements.md has another table than src/sim/mod.rs");
}

/// Targets of links and pictures in Markdown, blocks of code aside.
fn links(page: &str) -> Vec<String> {
    let mut links = Vec::new();
    for line in prose(page) {
        // Code in a line may look like a link.
        let text: String = line.split('`').step_by(2).collect();
        for rest in text.split("](").skip(1) {
            links.push(rest.split(')').next().unwrap_or(rest).to_owned());
        }
    }
    links
}

/// The lines outside of blocks of code.
fn prose(page: &str) -> impl Iterator<Item = &str> {
    let mut is_code = false;
    page.lines().filter(move |line| {
        let is_fence = line.starts_with("```");
        is_code ^= is_fence;
        !is_code && !is_fence
    })
}

/// The anchors of a page, as GitHub and mdBook make them of its headings.
fn anchors(page: &str) -> Vec<String> {
    let headings = prose(page).filter(|line| line.starts_with('#'));
    let slug = |heading: &str| -> String {
        let text = heading.trim_start_matches('#').trim().to_lowercase();
        let kept = text.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
        kept.map(|c| if c == ' ' { '-' } else { c }).collect()
    };
    headings.map(slug).collect()
}

#[test]
fn links_lead_somewhere() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let others = ["llms.txt", "client-js/README.md", "benches/load/README.md", "benches/peers/README.md"];
    let examples = ["bots", "duel", "phaser", "python", "swarm", "tanks", "three"]
        .map(|name| format!("examples/{name}/README.md"));
    let others = others.map(str::to_owned).into_iter().chain(examples).map(|path| (path.clone(), read(&path)));
    let mut broken = Vec::new();
    for (path, page) in pages().into_iter().chain(others) {
        for link in links(&page) {
            if link.starts_with("https://") {
                continue;
            }
            let (target, anchor) = link.split_once('#').unwrap_or((&link, ""));
            let target = if target.is_empty() { root.join(&path) } else { root.join(&path).with_file_name(target) };
            let has_anchor = || anchors(&fs::read_to_string(&target).unwrap()).iter().any(|known| known == anchor);
            if !target.exists() || !(anchor.is_empty() || has_anchor()) {
                broken.push(format!("{path}: {link}"));
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

trait Value {
    fn shown(&self, unit: &str) -> String;
}

impl Value for u64 {
    fn shown(&self, unit: &str) -> String {
        const KIB: u64 = 1024;
        match (*self, unit) {
            (bytes, "bytes") if bytes >= KIB * KIB && bytes % (KIB * KIB) == 0 => format!("{} MiB", bytes / KIB / KIB),
            (bytes, "bytes") if bytes >= KIB && bytes % KIB == 0 => format!("{} KiB", bytes / KIB),
            (number, unit) => {
                let digits = number.to_string();
                let mut shown = String::new();
                for (place, digit) in digits.chars().enumerate() {
                    if place > 0 && (digits.len() - place) % 3 == 0 {
                        shown.push(',');
                    }
                    shown.push(digit);
                }
                if unit.is_empty() { shown } else { format!("{shown} {unit}") }
            }
        }
    }
}

macro_rules! shown_as_u64 {
    ($($number:ty)*) => { $(
        impl Value for $number {
            fn shown(&self, unit: &str) -> String {
                u64::try_from(*self).unwrap().shown(unit)
            }
        }
    )* };
}

shown_as_u64!(u8 u16 u32 usize);

impl Value for Duration {
    fn shown(&self, _: &str) -> String {
        match self.as_millis() {
            ms if ms % 1_000 == 0 => format!("{} s", ms / 1_000),
            ms if ms > 1_000 => format!("{} s", self.as_secs_f64()),
            ms => format!("{ms} ms"),
        }
    }
}

impl<T: Value> Value for RangeInclusive<T> {
    fn shown(&self, unit: &str) -> String {
        format!("{} to {}", self.start().shown(""), self.end().shown(unit))
    }
}

macro_rules! values {
    ($($name:ident)*) => { &[$((stringify!($name), &limits::$name as &dyn Value)),*] };
}

/// Every constant of [`limits`]; the compiler knows their values.
const VALUES: &[(&str, &dyn Value)] = values! {
    UDP_PAYLOAD_BYTES DTLS_RECORD_OVERHEAD_BYTES SCTP_OVERHEAD_BYTES FRAME_BYTES UNRELIABLE_HEADER_BYTES
    RELIABLE_HEADER_BYTES FRAME_PARTS PART_BODY_BYTES UNRELIABLE_BODY_BYTES EVENT_BYTES STATE_BYTES STATE_BODY_BYTES
    STATE_HISTORY STATE_HISTORY_BYTES BODY_PREFIX_BYTES RELIABLE_DOWN_BYTES RELIABLE_EVENT_BYTES RELIABLE_UP_BYTES
    RELIABLE_QUEUE_BYTES UNJOINED_QUEUE_BYTES QUEUED_BYTES_PER_ADDRESS WEBSOCKET_FRAMES INPUT_WINDOW INPUT_BYTES
    FANNED_OUT_BYTES INPUTS_PER_SECOND SEEN_LIMIT COMMANDS_PER_SECOND COMMANDS_PER_TICK COMMAND_BACKLOG
    COMMAND_BACKLOG_BYTES BATCH_BYTES_PER_SECOND BATCH_BYTES FAN_OUT_BYTES LIST_PREFIX_BYTES BACKOFF_INTERVAL
    TICK_WINDOW TICK_HISTORY TICKS_PER_REQUEST TICKS_ANSWER_BYTES ATTACHED_BYTES EXTERNAL_BYTES EXTERNAL_BACKLOG
    EXTERNAL_QUEUE PING_PADDING_BYTES MSGPACK_DEPTH INPUTS_WRAPPING TICKS_WRAPPING AT_TICK_WRAPPING MSGPACK_ITEMS
    JS_INTEGER_MAX ROOM_NAME_CHARS ROOM_TITLE_CHARS ROOM_TITLE_BYTES PLAYER_NAME_CHARS PLAYER_NAME_BYTES
    REDIRECT_URL_BYTES REDIRECT_TICKET_BYTES REDIRECTS
    RECORDING_TYPE_CHARS RECORDING_INIT_CHARS SEGMENT_BYTES SEGMENT_INTERVAL SEGMENTS_AT_ONCE SEGMENTS_KEPT
    SEGMENT_NEIGHBOURS SEGMENT_SEEDS PLAYER_NAME_CLUSTER SUBJECT_BYTES SDP_BYTES
    SDP_LINES CANDIDATE_BYTES ORIENTATION_BYTES FREEZE_BYTES RELAYED_DEPTH CPU_REPORT_INTERVAL CPU_REPORT_KEPT RELAYED_BYTES_PER_SECOND
    RELAYED_BYTES_PER_ROOM_PER_SECOND RELAYED_BYTES_PER_ADDRESS_PER_SECOND PRESENCE_BYTES_PER_SECOND
    RELAY_QUEUE_BYTES CANDIDATES_ADVERTISED PEER_ADDRESSES PEER_INTRODUCTIONS PEER_CHECKS PATH_KEPT LOCAL_ADDRESSES
    UNPROVEN_AMPLIFICATION STUN_PER_ADDRESS_PER_SECOND STUN_PER_ADDRESS_AT_ONCE STUN_ADDRESSES ROOMS CONNECTIONS CONNECTIONS_PER_ADDRESS UNJOINED_PER_ADDRESS KEEP_ALIVE
    KEEP_ALIVE_RANGE TURN_WORK TURN_SHARE CALL_WORK WEBSOCKET_FRAME_WORK REQUEST_WORK TLS_HANDSHAKE_WORK TLS_RSA_HANDSHAKE_WORK TLS_HANDSHAKES_PER_ADDRESS_PER_SECOND TLS_HANDSHAKES_PER_ADDRESS_AT_ONCE
    TLS_HANDSHAKE_WAIT TLS_HANDSHAKE_ADDRESSES TURN_ACCEPTS
    WEBSOCKET_FRAMES_PER_SECOND FILE_CHUNK_BYTES PIECE_BYTES PIECES MANIFESTS MANIFESTS_QUEUED JOINS_PER_SECOND JOINS_AT_ONCE JOINS_PER_ADDRESS_PER_SECOND
    JOINS_PER_ADDRESS_AT_ONCE JOIN_RETRY JOINING_ADDRESSES PLAYERS_PER_ROOM PLAYERS_PER_ROOM_MAX SIGNALS_PER_SECOND
    FRAMES_PER_SECOND UPLINK_PACKETS_PER_SECOND UPLINK_BYTES_PER_SECOND ACKNOWLEDGEMENT_BYTES AUDIO_PACKETS_PER_SECOND
    AUDIO_BYTES_PER_SECOND VIDEO_PACKETS_PER_SECOND VIDEO_BYTES_PER_SECOND MEDIA_SECTIONS MEDIA_SOURCES MEDIA_CONNECTIONS
    MEDIA_SDP_BYTES MEDIA_SDP_LINES MEDIA_PAYLOAD_BYTES VIDEO_LAYERS KEYFRAME_INTERVAL KEYFRAME_REQUEST_INTERVAL
    VIDEO_QUEUE_BYTES VIDEO_KEPT_PACKETS VIDEO_KEPT VIDEO_ROOM_PLAYERS VIDEO_STALL SEEKERS SEEKERS_PER_ADDRESS SEEK_GATHERING
    DOWNLINK_BYTES_PER_SECOND PHASE_SLOTS TICK_MS TICK_MS_RANGE JOIN_TIMEOUT DECISION_TIMEOUT PEER_OPEN_TIMEOUT
    PEER_REACH_TIMEOUT PEER_SECURE_TIMEOUT EMPTY_ROOM_LINGER DRAIN_MAX STRIKES_PER_TICK STRIKES_SLOWED STRIKES_CLOSED TICKS_SLOWED
    LEASE_TTL STORE_TIMEOUT LOOKUP_TIMEOUT STORE_REQUESTS LEASES_PER_COMMAND KNOWN_ROOMS MACHINE_NODES WAITING_CONNECTIONS UNSAVED_SESSIONS
    SESSION_KEPT LISTED_ROOMS LISTING_BYTES LISTED_BYTES LISTING_NODES LISTED_NODES INQUIRY_AGE INQUIRY_TIMEOUT
    PROGRAM_BYTES RECORDED_PROGRAM_BYTES SCRIPT_MEMORY SCRIPT_STEPS SCRIPT_STEPS_TO_LOAD
    SNAPSHOT_BYTES SNAPSHOTS_BYTES SNAPSHOT_INTERVAL SNAPSHOT_KEPT TICKET_LIFETIME TICKETS_REMEMBERED
    LIVE_EVENTS_WAITING
    LIVE_EVENTS_QUEUED LIVE_EVENTS_QUEUED_BYTES RESUME_GRACE GRACE_RANGE RELOAD_GRACE HEARTBEAT_INTERVAL
    HEARTBEATS_SKIPPED HEARTBEATS_UNANSWERED PINGS_REMEMBERED CHANNEL_SILENCE CHANNEL_DOUBT UNACKNOWLEDGED_BYTES
    JOURNAL_BYTES RECORDING_QUEUE_BYTES RECORDINGS_MIB TOLD_PER_TICK CLOCK_GAP INPUT_INTERVAL PING_INTERVAL
};

/// The tables of `src/limits.rs`, with values.
fn tables(source: &str) -> String {
    let value = |name: &str| {
        let unit = if name.contains("BYTES") {
            "bytes"
        } else if name.contains("_MS") {
            "ms"
        } else {
            ""
        };
        let (_, value) = VALUES.iter().find(|(of, _)| *of == name).unwrap_or_else(|| panic!("list {name} in VALUES"));
        value.shown(unit)
    };
    let mut lines = source.lines().filter_map(|line| line.strip_prefix("//! | ")?.strip_suffix('|'));
    let mut cells = move || Some(lines.next()?.split(" | ").map(|cell| without_links(cell.trim())).collect::<Vec<_>>());
    let head = cells().expect("the table has a head");
    let head = format!("| {} | value | {} |\n|---|---|---|---|---|", head[0], head[1..].join(" | "));
    let mut tables = String::new();
    while let Some(cells) = cells() {
        if let Some(title) = cells[0].strip_prefix("**") {
            write!(tables, "\n## {}\n\n{head}\n", title.trim_matches(['*', ' ', '|'])).unwrap();
        } else {
            let values: Vec<_> = quoted(&cells[0]).map(value).collect();
            writeln!(tables, "| {} | {} | {} |", cells[0], values.join("; "), cells[1..].join(" | ")).unwrap();
        }
    }
    tables
}

/// Rustdoc's links lead nowhere in the book.
fn without_links(cell: &str) -> String {
    let mut text = String::new();
    let mut rest = cell;
    while let Some((before, link)) = rest.split_once("[`") {
        let (name, after) = link.split_once("`]").unwrap();
        write!(text, "{before}`{name}`").unwrap();
        rest = after.strip_prefix('(').map_or(after, |target| target.split_once(')').unwrap().1);
    }
    text + rest
}

#[test]
fn limits_are_those_of_the_source() {
    let source = read("src/limits.rs");
    let page = read("docs/src/limits.md");
    let (head, rest) = page.split_once(GENERATED).unwrap();
    let command = rest.lines().next().unwrap();
    let expected = format!("{head}{GENERATED}{command}\n{}", tables(&source));
    if std::env::var_os(UPDATE).is_some() {
        fs::write(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/src/limits.md"), &expected).unwrap();
    } else {
        assert!(page == expected, "docs/src/limits.md is not of src/limits.rs: set {UPDATE}=1 and run this test again");
    }
}
