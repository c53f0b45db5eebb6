//! The command line: of the shipped games, and of a program that brings its own.

mod access;
mod bench;
mod bench_report;
mod doctor;
#[cfg(test)]
mod documented;
mod playback;
mod replay;
mod sim;
mod token;

use std::any::type_name;
use std::borrow::Cow;
use std::io::{self, Write};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
pub use std::process::ExitCode;
use std::time::Duration;

use clap::error::ErrorKind;
use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};
use log::LevelFilter;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use self::access::Access;
use crate::driver::doctor::{FILES_ADVISED, FILES_WANTED};
use crate::driver::{self, Driver, Options, Record};
use crate::game::{Game, Refusal, RoomInfo};
use crate::games::{Arena, Relay};
use crate::limits;

const ARENA_PAGE: &str = include_str!("../../client-js/pages/arena/index.html");
const RELAY_PAGE: &str = include_str!("../../client-js/pages/relay/index.html");

const MIB: u64 = 1024 * 1024;
/// Below that the server can't even start.
const FILES_NEEDED: u64 = 32;

/// Real-time games by URL: opens a web page whose visitors play with each other.
#[derive(Debug, Parser)]
#[command(version, args_conflicts_with_subcommands = true, disable_help_subcommand = true)]
struct CommandLine<A: Args, O: Subcommand> {
    #[command(subcommand)]
    command: Option<Command<A, O>>,
    #[command(flatten)]
    serve: A,
}

#[derive(Debug, Subcommand)]
enum Command<A: Args, O: Subcommand> {
    /// Run the server; the same as no command.
    Serve(A),
    /// Run recorded rooms once more, and compare what they say with what they said.
    ///
    /// The exit status is 0 where that is the same, 1 where it differs, 2 where a file can't be replayed.
    Replay(playback::Arguments),
    /// Find out what keeps players from playing on a server, or would on this machine, and what to do about it.
    ///
    /// With a URL it goes the way of a player: the page, the websocket, a room, the data channel; round trip, and which
    /// sizes of UDP pass. The exit status is 0 where nothing fails, 1 where something does.
    Doctor(doctor::Doctor),
    /// Print a token that lets somebody join, or keys to sign tokens with: for development.
    Token(token::Token),
    #[command(flatten)]
    Own(O),
}

/// Commands of the `rtcade` program alone.
#[derive(Debug, Subcommand)]
enum ShippedCommand {
    /// Let bots play over simulated networks, and print what they see.
    Sim(sim::Sim),
    /// Put a server under load, as scenario files say that read like Artillery's.
    #[command(subcommand)]
    Bench(Box<bench::Bench>),
}

/// A program that brings its own game has no commands of its own.
#[derive(Debug, Subcommand)]
enum NoCommand {}

#[derive(Debug, Args)]
struct Serve {
    #[command(flatten)]
    network: Network,
    /// Length of a tick in milliseconds.
    #[arg(long, value_name = "MS", default_value_t = limits::TICK_MS, value_parser = tick_ms())]
    tick_ms: u32,
    /// Players per room.
    #[arg(long, value_name = "N", default_value_t = limits::PLAYERS_PER_ROOM, value_parser = max_players)]
    max_players: usize,
    /// Directory in which every room is recorded, for rtcade replay; no other server may record there.
    #[arg(long, value_name = "DIR")]
    record: Option<PathBuf>,
    /// MiB of all recordings there; past it the oldest are deleted.
    #[arg(long, value_name = "MIB", requires = "record", value_parser = mib())]
    #[arg(default_value_t = limits::RECORDINGS_MIB)]
    record_limit: u64,
    #[command(flatten)]
    access: Access,
}

/// Where a server is found, and what it serves beside rooms.
#[derive(Clone, Debug, Args)]
struct Network {
    /// TCP address of the pages and websockets, and UDP address of the game; port 0 picks one.
    #[arg(long, value_name = "ADDR:PORT", default_value = "0.0.0.0:8080", value_parser = socket_address)]
    listen: SocketAddr,
    /// UDP address of the game, where it is another.
    #[arg(long, value_name = "ADDR:PORT", value_parser = socket_address)]
    udp: Option<SocketAddr>,
    /// Address that players are told to reach, where this machine's own don't do; may be repeated.
    #[arg(long, value_name = "IP[:PORT]", value_parser = public_address)]
    public_addr: Vec<SocketAddr>,
    /// Directory of files to serve; its index.html is the page of every room.
    #[arg(long, value_name = "DIR")]
    public: Option<PathBuf>,
    /// Say more: -v what happens, -vv why, -vvv everything.
    #[arg(short, long, action = ArgAction::Count)]
    verbose: u8,
}

#[derive(Debug, Args)]
struct ServeShipped {
    /// Which of the shipped games to run.
    #[arg(long, value_name = "NAME", value_enum, default_value_t = Shipped::Arena)]
    game: Shipped,
    #[command(flatten)]
    serve: Serve,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Shipped {
    /// An arena: move, hunt, score.
    Arena,
    /// No game logic on the server: every tick hands everybody's inputs to everybody.
    Relay,
}

fn socket_address(text: &str) -> Result<SocketAddr, &'static str> {
    text.parse().map_err(|_| "expected an IP address and a port, as in 0.0.0.0:8080 or [::]:8080")
}

/// An address whose port, where none is given, is 0: the UDP port.
fn public_address(text: &str) -> Result<SocketAddr, &'static str> {
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    let address = bare.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, 0)).or_else(|_| text.parse());
    match address {
        Ok(address) if address.ip().is_unspecified() => Err("nobody can reach a wildcard address"),
        Ok(address) => Ok(address),
        Err(_) => Err("expected an IP address, with or without a port, as in 203.0.113.7 or [2001:db8::7]:8080"),
    }
}

fn tick_ms() -> impl clap::builder::TypedValueParser<Value = u32> {
    let (shortest, longest) = limits::TICK_MS_RANGE.into_inner();
    clap::value_parser!(u32).range(i64::from(shortest)..=i64::from(longest))
}

fn mib() -> impl clap::builder::TypedValueParser<Value = u64> {
    clap::value_parser!(u64).range(1..=u64::MAX / MIB)
}

fn max_players(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(players @ 1..=limits::PLAYERS_PER_ROOM_MAX) => Ok(players),
        _ => Err(format!("expected a number from 1 to {}", limits::PLAYERS_PER_ROOM_MAX)),
    }
}

/// Runs the whole command line with your game: `main` of a game server.
///
/// `factory` makes the game of each new room, or says why there can't be one.
///
/// The exit status is 0 after SIGTERM or SIGINT, 2 where the command line is wrong, 1 where the server can't start or
/// go on; then a sentence on standard error says what to do. That of `replay` is 0 where the game says the same as in
/// the recording, 1 where it differs, 2 where the recording can't be replayed.
pub fn run<G: Game>(factory: impl FnMut(&RoomInfo) -> Result<G, Refusal> + 'static) -> ExitCode {
    run_with(factory, |_| ())
}

/// The same, where `prepare` has the server in hand before it starts: to set [hooks](crate::hooks), or to give its
/// [handle](crate::driver::Handle) to other threads. A replay has no server, and doesn't call it.
pub fn run_with<G: Game>(
    mut factory: impl FnMut(&RoomInfo) -> Result<G, Refusal> + 'static,
    prepare: impl FnOnce(&mut Driver<G>),
) -> ExitCode {
    match parse::<Serve, NoCommand>() {
        Ok(Command::Serve(serve)) => start(serve, "the game", Options::default().page, factory, prepare),
        Ok(Command::Own(nothing)) => match nothing {},
        Ok(Command::Doctor(arguments)) => doctor::run(arguments),
        Ok(Command::Token(token)) => token::run(&token),
        Ok(Command::Replay(arguments)) if arguments.serve => playback::serve(arguments, |show| {
            if show.is_of::<G>() {
                show.play("the recording", Options::default().page, factory)
            } else {
                Err(show.is_of_another_game(&[type_name::<G>()]))
            }
        }),
        Ok(Command::Replay(arguments)) => replay::run(&arguments.replay, |recording, out| {
            if recording.is_of::<G>() {
                recording.replay(&mut factory, out)
            } else {
                Err(recording.is_of_another_game(&[type_name::<G>()]))
            }
        }),
        Err(status) => status,
    }
}

/// The command line of the shipped games: `main` of the `rtcade` program.
pub fn main() -> ExitCode {
    match parse() {
        Ok(Command::Own(ShippedCommand::Sim(sim))) => sim::run(&sim),
        Ok(Command::Own(ShippedCommand::Bench(bench))) => bench::run(&bench),
        Ok(Command::Token(token)) => token::run(&token),
        Ok(Command::Serve(ServeShipped { game: Shipped::Arena, serve })) => {
            start(serve, "the arena game", ARENA_PAGE.into(), |room| Ok(Arena::new(room)), |_| ())
        }
        Ok(Command::Serve(ServeShipped { game: Shipped::Relay, serve })) => {
            start(serve, "the relay", RELAY_PAGE.into(), |_| Ok(Relay), |_| ())
        }
        Ok(Command::Doctor(arguments)) => doctor::run(arguments),
        Ok(Command::Replay(arguments)) if arguments.serve => playback::serve(arguments, |show| {
            if show.is_of::<Arena>() {
                show.play("the recorded arena", ARENA_PAGE.into(), |room| Ok(Arena::new(room)))
            } else if show.is_of::<Relay>() {
                show.play("the recorded relay", RELAY_PAGE.into(), |_| Ok(Relay))
            } else {
                Err(show.is_of_another_game(&[type_name::<Arena>(), type_name::<Relay>()]))
            }
        }),
        Ok(Command::Replay(arguments)) => replay::run(&arguments.replay, |recording, out| {
            if recording.is_of::<Arena>() {
                recording.replay(|room| Ok(Arena::new(room)), out)
            } else if recording.is_of::<Relay>() {
                recording.replay(|_| Ok(Relay), out)
            } else {
                Err(recording.is_of_another_game(&[type_name::<Arena>(), type_name::<Relay>()]))
            }
        }),
        Err(status) => status,
    }
}

/// What the command line asks for, or the status to exit with.
fn parse<A: Args, O: Subcommand>() -> Result<Command<A, O>, ExitCode> {
    match CommandLine::try_parse() {
        Ok(CommandLine { command, serve }) => Ok(command.unwrap_or(Command::Serve(serve))),
        Err(error) if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) => {
            let printed = error.print();
            Err(if printed.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
        Err(error) => {
            complain(&sentence(&error));
            Err(ExitCode::from(2))
        }
    }
}

/// What is wrong with the command line, in one line.
fn sentence(error: &clap::Error) -> String {
    let text = error.to_string();
    let lines: Vec<&str> = text.lines().map(str::trim).take_while(|line| !line.is_empty()).collect();
    let line = lines.join(" ");
    format!("{} (--help lists what there is)", line.strip_prefix("error: ").unwrap_or(&line))
}

fn complain(sentence: &str) {
    // Where nobody reads that, there is nobody to tell.
    let _ = writeln!(io::stderr(), "rtcade: {sentence}");
}

impl Network {
    /// What it says, with a page for the rooms.
    fn options(self, page: Cow<'static, str>) -> Options {
        Options {
            listen: self.listen,
            udp: self.udp,
            public_addresses: self.public_addr,
            public: self.public,
            page,
            ..Options::default()
        }
    }
}

fn start<G: Game>(
    serve: Serve,
    title: &str,
    page: Cow<'static, str>,
    factory: impl FnMut(&RoomInfo) -> Result<G, Refusal> + 'static,
    prepare: impl FnOnce(&mut Driver<G>),
) -> ExitCode {
    let verbose = serve.network.verbose;
    let options = Options {
        tick: Duration::from_millis(serve.tick_ms.into()),
        max_players: serve.max_players,
        record: serve.record.map(|directory| Record { directory, limit_bytes: serve.record_limit * MIB }),
        ..serve.network.options(page)
    };
    let options = match serve.access.apply(options) {
        Ok(options) => options,
        Err(sentence) => {
            complain(&sentence);
            return ExitCode::from(2);
        }
    };
    let is_open = options.keys.is_none();
    host(options, verbose, title, factory, |driver| {
        prepare(driver);
        is_open.then_some("everybody may join: --keys lets in who bears a token")
    })
}

/// What is logged with so many `-v`.
fn log_at(verbose: u8) {
    let level = match verbose {
        0 => LevelFilter::Warn,
        1 => LevelFilter::Info,
        2 => LevelFilter::Debug,
        _ => LevelFilter::Trace,
    };
    // At its most talkative tungstenite logs what messages hold: tokens, and line breaks that look like log lines.
    let of_websockets = level.min(LevelFilter::Debug);
    env_logger::Builder::new().filter_level(level).filter_module("tungstenite", of_websockets).init();
}

/// Runs a server until it is stopped; `prepare` does to it what options don't, and may have something to say of it.
fn host<G: Game>(
    options: Options,
    verbose: u8,
    title: &str,
    factory: impl FnMut(&RoomInfo) -> Result<G, Refusal> + 'static,
    prepare: impl FnOnce(&mut Driver<G>) -> Option<&'static str>,
) -> ExitCode {
    log_at(verbose);
    if let Err(sentence) = raise_file_limit() {
        complain(&sentence);
        return ExitCode::FAILURE;
    }
    let is_told_an_address = !options.public_addresses.is_empty();
    let mut driver = match Driver::bind(options, factory) {
        Ok(driver) => driver,
        Err(error) => {
            complain(&error.to_string());
            return ExitCode::FAILURE;
        }
    };
    let note = prepare(&mut driver);
    if let Err(error) = driver.stop_on_signals() {
        log::warn!("SIGTERM and SIGINT will end the server without telling players: {error}");
    }
    let lines = announcement(title, driver.local_addr(), driver.udp_port(), driver.interfaces(), is_told_an_address);
    for line in lines.iter().map(String::as_str).chain(note) {
        // Who reads this may be gone after the first line; the server goes on.
        let _ = writeln!(io::stdout(), "rtcade: {line}");
    }
    match driver.run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&format!("the operating system refused to go on: {error}"));
            ExitCode::FAILURE
        }
    }
}

/// Where the server is found, and what keeps others from finding it.
fn announcement(
    title: &str,
    listen: SocketAddr,
    udp_port: u16,
    interfaces: &[IpAddr],
    is_told_an_address: bool,
) -> Vec<String> {
    let port = listen.port();
    let mut lines = Vec::new();
    if listen.ip().is_unspecified() {
        lines.push(format!("{title} is open at http://localhost:{port}/"));
        if let Some(ip) = interfaces.iter().find(|ip| ip.is_ipv4() && !ip.is_loopback()) {
            lines.push(format!("for other devices: http://{ip}:{port}/"));
        }
    } else {
        lines.push(format!("{title} is open at http://{listen}/"));
    }
    // Who serves loopback alone expects nobody from elsewhere.
    let is_networked = interfaces.iter().any(|ip| !ip.is_loopback());
    if !is_told_an_address && is_networked && driver::are_private(interfaces) {
        lines.push(format!(
            "for players on other networks: name the address they reach with --public-addr and open UDP port {udp_port}"
        ));
    }
    lines
}

/// Raises the limit of open files as far as it may and needs to; the error is a sentence.
fn raise_file_limit() -> Result<(), String> {
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return Ok(()) };
    let wanted = FILES_WANTED.min(hard);
    let limit = if soft < wanted && setrlimit(Resource::RLIMIT_NOFILE, wanted, hard).is_ok() { wanted } else { soft };
    if limit < FILES_NEEDED {
        return Err(format!("only {limit} files may be open: raise the limit to {FILES_ADVISED} with ulimit -n"));
    }
    if limit < FILES_ADVISED {
        log::warn!("only {limit} files may be open, each connection is one: raise the limit with ulimit -n");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn parsed(arguments: &[&str]) -> Result<ServeShipped, String> {
        match CommandLine::<ServeShipped, ShippedCommand>::try_parse_from([&["rtcade"], arguments].concat()) {
            Ok(CommandLine { command: Some(Command::Serve(serve)), .. } | CommandLine { command: None, serve }) => {
                Ok(serve)
            }
            Ok(CommandLine { command: Some(other), .. }) => Err(format!("{other:?}")),
            Err(error) => Err(sentence(&error)),
        }
    }

    #[test]
    fn the_definition_is_consistent() {
        CommandLine::<ServeShipped, ShippedCommand>::command().debug_assert();
        CommandLine::<Serve, NoCommand>::command().debug_assert();
    }

    #[test]
    fn nothing_is_serve_with_the_defaults() {
        for arguments in [&[][..], &["serve"]] {
            let shipped = parsed(arguments).expect("valid");
            assert_eq!(shipped.game, Shipped::Arena);
            assert_eq!(shipped.serve.network.listen, Options::default().listen);
            assert_eq!(Duration::from_millis(shipped.serve.tick_ms.into()), Options::default().tick);
            assert_eq!(shipped.serve.max_players, Options::default().max_players);
        }
    }

    #[test]
    fn every_option_is_taken_with_and_without_the_command() {
        let options = "--listen 127.0.0.1:0 --udp [::]:9 --game relay --public-addr 203.0.113.7 \
            --public-addr [2001:db8::7]:9 --public . --keys k --audience a --origin https://a --origin http://b:1 \
            --trusted-proxy ::1 --trusted-proxy 10.0.0.0/8 --tick-ms 5 --max-players 1024 --record . --record-limit 7 \
            -vv";
        for command in [None, Some("serve")] {
            let arguments: Vec<_> = command.into_iter().chain(options.split_whitespace()).collect();
            let ServeShipped { game, serve } = parsed(&arguments).expect("valid");
            let network = serve.network;
            assert_eq!((game, serve.tick_ms, serve.max_players, network.verbose), (Shipped::Relay, 5, 1024, 2));
            assert_eq!((serve.record, serve.record_limit), (Some(".".into()), 7));
            let addresses: Vec<_> = network.public_addr.iter().map(ToString::to_string).collect();
            assert_eq!(addresses, ["203.0.113.7:0", "[2001:db8::7]:9"]);
            let proxies: Vec<_> = serve.access.trusted_proxy.iter().map(ToString::to_string).collect();
            assert_eq!((proxies.join(" "), serve.access.origin.len()), ("::1/128 10.0.0.0/8".to_owned(), 2));
        }
    }

    #[test]
    fn each_mistake_gets_one_sentence() {
        for (arguments, expected) in [
            ("--listen 8080", "as in 0.0.0.0:8080"),
            ("--listen localhost:8080", "as in 0.0.0.0:8080"),
            ("--public-addr example.com", "as in 203.0.113.7"),
            ("--public-addr 0.0.0.0", "wildcard"),
            ("--tick-ms 4", "5..=1000"),
            ("--tick-ms 1001", "5..=1000"),
            ("--max-players 0", "from 1 to 1024"),
            ("--max-players 1025", "from 1 to 1024"),
            ("--origin example.com", "as in https://example.com"),
            ("--origin https://example.com/", "as in https://example.com"),
            ("--origin null", "as in https://example.com"),
            ("--trusted-proxy 10.0.0.0/33", "as in 127.0.0.1 or 10.0.0.0/8"),
            ("--trusted-proxy proxy", "as in 127.0.0.1 or 10.0.0.0/8"),
            ("token --subject ada", "--room <NAME>"),
            ("token --subject ada --room r --ttl 0s", "as in 90s, 1h or 720h"),
            ("token --subject ada --room r --ttl=-1h", "as in 90s, 1h or 720h"),
            ("token --new-keys --subject ada", "--new-keys"),
            ("--record-limit 7", "--record <DIR>"),
            ("--record . --record-limit 0", "0 is not in 1.."),
            ("replay", "<FILE>"),
            ("replay f --speed 0", "above 0"),
            ("replay f --speed inf", "or max"),
            ("replay f --to-tick -1", "-1"),
            ("replay f --update --check", "--check"),
            ("replay f --serve --check", "--check"),
            ("replay f --listen 127.0.0.1:0", "--serve"),
            ("replay f --public .", "--serve"),
            ("--game chess", "chess"),
            ("--verbos", "--verbos"),
            ("play", "play"),
            ("bench report", "<FILE.json>..."),
            ("bench compare a.json", "<B.json>"),
            ("bench compare a.json b.json --fail-on=-1%", "as in 10%"),
            ("sim --clients 65", "1..=64"),
            ("sim --seconds 0", "1..=86400"),
            ("sim --game chess", "chess"),
        ] {
            let arguments: Vec<_> = arguments.split_whitespace().collect();
            let sentence = parsed(&arguments).expect_err("wrong");
            assert!(sentence.contains(expected), "{sentence}");
            assert!(!sentence.contains('\n') && sentence.ends_with("(--help lists what there is)"), "{sentence}");
        }
    }

    #[test]
    fn a_public_address_may_be_bare() {
        for (text, expected) in
            [("::1", "[::1]:0"), ("[::1]", "[::1]:0"), ("[::1]:5", "[::1]:5"), ("1.2.3.4:5", "1.2.3.4:5")]
        {
            assert_eq!(public_address(text).expect("valid").to_string(), expected);
        }
    }

    #[test]
    fn the_announcement_names_what_can_be_reached() {
        let lines = |listen: &str, interfaces: &[&str], told| {
            let interfaces: Vec<IpAddr> = interfaces.iter().map(|ip| ip.parse().expect("an address")).collect();
            announcement("the game", listen.parse().expect("an address"), 9, &interfaces, told)
        };
        assert_eq!(lines("127.0.0.1:80", &["127.0.0.1"], false), ["the game is open at http://127.0.0.1:80/"]);
        let specific = lines("10.0.0.5:80", &["10.0.0.5"], false);
        assert_eq!(specific[0], "the game is open at http://10.0.0.5:80/");
        assert!(specific[1].contains("--public-addr"));
        assert_eq!(lines("10.0.0.5:80", &["10.0.0.5"], true).len(), 1);
        assert_eq!(lines("203.0.113.7:80", &["203.0.113.7"], false).len(), 1);
        let wildcard = lines("0.0.0.0:80", &["192.168.1.5", "127.0.0.1"], false);
        assert_eq!(
            wildcard[..2],
            ["the game is open at http://localhost:80/", "for other devices: http://192.168.1.5:80/"]
        );
        assert!(wildcard[2].contains("--public-addr") && wildcard[2].contains("UDP port 9"));
        assert_eq!(lines("0.0.0.0:80", &["192.168.1.5", "127.0.0.1"], true).len(), 2);
        assert_eq!(lines("0.0.0.0:80", &["203.0.113.7", "127.0.0.1"], false).len(), 2);
    }
}
