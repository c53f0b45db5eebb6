//! The command line, both of the shipped games and of a program with its own game.

mod access;
mod address;
mod announcement;
mod bench;
mod bench_report;
#[cfg(feature = "cluster")]
mod cluster;
mod config;
mod configured;
#[cfg(feature = "script")]
mod dev;
mod doctor;
#[cfg(test)]
mod documented;
mod healthcheck;
mod log;
#[cfg(feature = "script")]
mod new;
mod operators;
mod playback;
mod reload;
mod replay;
#[cfg(feature = "script")]
mod script;
mod shipped;
mod sim;
#[cfg(feature = "script")]
mod test;
mod tls;
mod token;
mod values;

use std::any::type_name;
use std::borrow::Cow;
use std::env;
use std::ffi::OsString;
use std::fs;
use std::io::{self, Write};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
pub use std::process::ExitCode;
use std::time::Duration;

use clap::error::ErrorKind;
use clap::{ArgMatches, Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use self::access::Access;
use self::address::{Address, Public};
use self::announcement::announcement;
use self::config::Layers;
use self::configured::{configured_admin, configured_url, serve_of};
use self::log::Logging;
use self::operators::Operators;
pub use self::shipped::main;
use self::tls::Encryption;
use self::values::{max_players, max_rooms, mib, seconds, tick_ms};
use crate::driver::doctor::{FILES_ADVISED, FILES_WANTED};
use crate::driver::{BindError, Driver, Options, Record, Reload};
use crate::game::{Game, Refusal, RoomInfo};
use crate::limits;
use crate::server::Media;

const MIB: u64 = 1024 * 1024;
/// The server does not start with a lower limit.
const FILES_NEEDED: u64 = 32;

/// A game networking server: rooms by URL, joined from a web page.
///
/// Without a command it runs the server.
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
    /// Run the server (the default).
    Serve(A),
    /// Run several nodes on this machine, one per core, that share its TCP port and their rooms.
    ///
    /// Each node has a UDP port of its own: by default those after the port of --listen, or those from --udp on. A node
    /// that ends is started again.
    #[cfg(feature = "cluster")]
    Cluster(cluster::Cluster<A>),
    /// Replay recordings and compare the game's output with the recorded output.
    #[command(after_long_help = "\
Exit status:
  0  the output is the same as recorded
  1  the output differs
  2  a file can't be replayed")]
    Replay(playback::Arguments),
    /// Find out what keeps players from connecting, and how to fix it.
    ///
    /// With a URL, it connects to that server as a player does (page, websocket, room, data channel), and measures the
    /// round trip and the sizes of UDP packets that arrive. Without a URL, it checks this machine. Exit status: 0 if
    /// every check passes or warns, 1 if one fails.
    Doctor(doctor::Doctor),
    /// Ask a server whether it is healthy. Exit status: 0 if it is, else 1.
    Healthcheck(healthcheck::Healthcheck),
    /// Ask a running server to read its configuration again, over its admin page.
    ///
    /// SIGHUP does the same. Exit status: 0 if everything was read, else 1.
    Reload(reload::Reload),
    /// Print a bearer token, or a new key to sign tokens with (for development).
    Token(token::Token),
    #[command(flatten)]
    Own(O),
}

/// A program with its own game has no further commands.
#[derive(Debug, Subcommand)]
enum NoCommand {}

#[derive(Debug, Args)]
struct Serve {
    #[command(flatten)]
    configuration: Configuration,
    #[command(flatten)]
    network: Network,
    /// Length of a tick in milliseconds, 5 to 1000. Default: the game's, which is 33 unless it sets another.
    #[arg(long, value_name = "MS", value_parser = tick_ms())]
    tick_ms: Option<u32>,
    /// Milliseconds that the game of a room may take for a tick, 1 to 1000. Default: the length of a tick.
    ///
    /// A room whose game takes longer is logged, then ticks less often, then is closed.
    #[arg(long, value_name = "MS", value_parser = clap::value_parser!(u64).range(1..=1_000))]
    tick_budget: Option<u64>,
    /// Maximum number of players per room, 1 to 1024. Default: 64.
    #[arg(long, value_name = "N", value_parser = max_players)]
    max_players: Option<usize>,
    /// Maximum number of rooms, 1 to 4096.
    #[arg(long, value_name = "N", value_parser = max_rooms, default_value_t = limits::ROOMS)]
    max_rooms: usize,
    /// Seconds for which the place of a player who has lost the connection is kept, 1 to 3600.
    #[arg(long, value_name = "SECONDS", value_parser = seconds(limits::GRACE_RANGE))]
    #[arg(default_value_t = limits::RESUME_GRACE.as_secs())]
    grace: u64,
    /// Record every room into this directory, for the replay command.
    ///
    /// Only one server may record into a directory at a time.
    #[arg(long, value_name = "DIR")]
    record: Option<PathBuf>,
    /// Maximum size of all recordings in MiB; above it the oldest are deleted.
    #[arg(long, value_name = "MIB", value_parser = mib())]
    #[arg(default_value_t = limits::RECORDINGS_MIB)]
    record_limit: u64,
    /// Serve the dev page to other machines too: an overlay on a game's page that is opened with ?dev.
    ///
    /// It shows the connection and makes the network of that page worse. This machine always gets it.
    #[arg(long)]
    dev: bool,
    /// Forward the voices of players whose page uses the module rtcade/voice, or voices and videos.
    ///
    /// --media is --media=audio.
    #[arg(long, value_name = "WHAT", num_args = 0..=1, require_equals = true)]
    #[arg(default_missing_value = "audio")]
    media: Option<Forwarded>,
    /// Seconds that SIGTERM leaves to the rooms to end by themselves. Default: 0, which closes them at once.
    ///
    /// Meanwhile no room is opened. SIGINT and a second SIGTERM close the rooms at once.
    #[arg(long, value_name = "SECONDS", default_value_t = 0, value_parser = clap::value_parser!(u64).range(0..=86_400))]
    drain: u64,
    /// Never sleep: messages are received at once, and a whole CPU core is used.
    #[arg(long)]
    busy_poll: bool,
    #[command(flatten)]
    access: Access,
    #[command(flatten)]
    operators: Operators,
    #[cfg(all(feature = "cluster", target_os = "linux"))]
    #[arg(skip)]
    link: Option<crate::driver::Link>,
}

/// Where options come from besides the command line.
#[derive(Debug, Args)]
struct Configuration {
    /// TOML file of settings, which are options by other names; options on the command line take precedence.
    ///
    /// Environment variables as in RTCADE_ROOMS__MAX_PLAYERS=16 take precedence over the file. Default: the file named
    /// by the environment variable RTCADE_CONFIG, if it is set.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Check the configuration and the files it names, and exit: 0 if the server could start with it, else 2.
    #[arg(long)]
    check_config: bool,
    /// Print the configuration as a TOML file, with the origin of each value, and exit.
    #[arg(long)]
    print_config: bool,
}

/// The server's addresses and files.
#[derive(Clone, Debug, Args)]
struct Network {
    /// Address for HTTP and websockets (TCP) and for game traffic (UDP); port 0 picks a free port.
    #[arg(long, value_name = "ADDR:PORT", default_value = "0.0.0.0:8080", value_parser = address::with_port)]
    listen: Address,
    /// Address for game traffic (UDP), if different from --listen.
    #[arg(long, value_name = "ADDR:PORT", value_parser = address::with_port)]
    udp: Option<Address>,
    /// Address at which players reach this server, for example behind NAT; may be repeated.
    ///
    /// auto stands for the one that the metadata service of a cloud has (AWS, Azure, DigitalOcean, Google Cloud,
    /// Hetzner), stun:HOST:PORT for the one that this STUN server sees. These and host names are resolved again every
    /// minute. Default: the address from which the player's page was loaded, then the machine's other addresses.
    #[arg(long, value_name = "ADDR[:PORT]|auto|stun:HOST:PORT", value_parser = address::public)]
    public_addr: Vec<Public>,
    /// Directory of static files to serve; its index.html is the page of every room.
    #[arg(long, value_name = "DIR")]
    public: Option<PathBuf>,
    /// Seconds that an HTTP connection is kept open for its next request.
    #[arg(long, value_name = "SECONDS", value_parser = seconds(limits::KEEP_ALIVE_RANGE))]
    #[arg(default_value_t = limits::KEEP_ALIVE.as_secs())]
    keep_alive: u64,
    #[command(flatten)]
    encryption: Encryption,
    #[command(flatten)]
    logging: Logging,
}

/// What `--media` forwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Forwarded {
    /// Voices.
    Audio,
    /// Voices and videos.
    Video,
}

/// Runs the command line of a game server with your game; the body of `main`.
///
/// `factory` makes the game of each new room, or refuses to create the room.
///
/// Returns the exit status. For the server: 0 after SIGTERM or SIGINT, 1 if it can't start or continue, 2 if the
/// command line is invalid or the TLS certificate or key can't be used; for 1 and 2 a sentence on standard error gives
/// the cause and what to do. For `replay`: 0 if the game's output is the same as in the recording, 1 if it differs, and
/// 2 if the recording can't be replayed.
pub fn run<G: Game>(factory: impl FnMut(&RoomInfo) -> Result<G, Refusal> + 'static) -> ExitCode {
    run_with(factory, |_| ())
}

/// As [`run`], but calls `prepare` before the server starts, for example to set [hooks](crate::hooks) or to pass the
/// server's [handle](crate::driver::Handle) to other threads. A replay has no server and does not call it.
pub fn run_with<G: Game>(
    mut factory: impl FnMut(&RoomInfo) -> Result<G, Refusal> + 'static,
    prepare: impl FnOnce(&mut Driver<G>),
) -> ExitCode {
    match parse::<Serve, NoCommand>(|serve| serve) {
        Ok(Command::Serve(serve)) => {
            let again = || parse_again::<Serve, NoCommand>(|serve| serve);
            start(serve, again, "the game", Options::default().page, factory, prepare)
        }
        #[cfg(feature = "cluster")]
        Ok(Command::Cluster(cluster)) => cluster::run::<_, NoCommand>(cluster, |it| it),
        Ok(Command::Own(nothing)) => match nothing {},
        Ok(Command::Doctor(arguments)) => doctor::run(arguments),
        Ok(Command::Healthcheck(arguments)) => healthcheck::run(arguments, || {
            configured_url(parse_from::<Serve, NoCommand>(vec!["rtcade".into()]), |it| it)
        }),
        Ok(Command::Reload(arguments)) => {
            reload::run(&arguments, || configured_admin(parse_from::<Serve, NoCommand>(vec!["rtcade".into()]), |it| it))
        }
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

/// Parses the command line; the error is the exit status. `serve` finds the options of the server.
#[cfg_attr(not(feature = "cluster"), expect(unused_variables, reason = "only nodes of a parent are settled"))]
fn parse<A: Args, O: Subcommand>(serve: impl Fn(&mut A) -> &mut Serve) -> Result<Command<A, O>, ExitCode> {
    match parse_from(env::args_os().collect()) {
        #[cfg(feature = "cluster")]
        Ok(Parsed { command, printed: None }) => cluster::settle(command, serve),
        #[cfg(not(feature = "cluster"))]
        Ok(Parsed { command, printed: None }) => Ok(command),
        Ok(Parsed { printed: Some(text), .. }) => {
            let printed = write!(io::stdout(), "{text}");
            Err(if printed.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
        Err(Unusable::Shown(error)) => {
            let printed = error.print();
            Err(if printed.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
        Err(Unusable::Wrong(sentence)) => {
            complain(&sentence);
            Err(ExitCode::from(2))
        }
    }
}

#[derive(Debug)]
struct Parsed<A: Args, O: Subcommand> {
    command: Command<A, O>,
    /// The text to print instead of running the command.
    printed: Option<String>,
}

/// The command line names nothing to run.
#[derive(Debug)]
enum Unusable {
    /// It asks for help or the version.
    Shown(clap::Error),
    /// A sentence.
    Wrong(String),
}

/// Parses the command line together with what file and environment set.
fn parse_from<A: Args, O: Subcommand>(mut arguments: Vec<OsString>) -> Result<Parsed<A, O>, Unusable> {
    let definition = CommandLine::<A, O>::command();
    // Their own errors come up when all options are parsed below.
    let given = definition.clone().ignore_errors(true).try_get_matches_from(&arguments).ok();
    let given = given.as_ref().and_then(serve_matches);
    let mut layers = Layers::default();
    if let Some(given) = given {
        let file = given.get_one::<PathBuf>("config").cloned();
        layers = Layers::read(&definition, file).map_err(Unusable::Wrong)?;
        let is_named = arguments.get(1).is_some_and(|argument| argument == "serve" || argument == "cluster");
        let at = if is_named { 2 } else { 1 };
        let at = at.min(arguments.len());
        arguments.splice(at..at, layers.options(&definition, given));
    }
    let parsed = definition.clone().try_get_matches_from(arguments).and_then(|matches| {
        let CommandLine { command, serve } = CommandLine::from_arg_matches(&matches)?;
        let effective = serve_matches(&matches).filter(|matches| matches.get_flag("print_config"));
        let printed = effective.zip(given).map(|(effective, given)| layers.print(&definition, given, effective));
        Ok(Parsed { command: command.unwrap_or(Command::Serve(serve)), printed })
    });
    parsed.map_err(|error| match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => Unusable::Shown(error),
        _ => Unusable::Wrong(match given.and_then(|given| layers.origin(&error, given, &definition)) {
            Some(origin) => format!("{origin}: {}", sentence(&error)),
            None => sentence(&error),
        }),
    })
}

/// The options of the server, if that is what the command line runs.
fn serve_matches(matches: &ArgMatches) -> Option<&ArgMatches> {
    match matches.subcommand() {
        None => Some(matches),
        Some(("serve" | "cluster", matches)) if matches.subcommand().is_none() => Some(matches),
        Some(_) => None,
    }
}

/// Returns the error in the command line as one line.
fn sentence(error: &clap::Error) -> String {
    let text = error.to_string();
    let lines: Vec<&str> = text.lines().map(str::trim).take_while(|line| !line.is_empty()).collect();
    let line = lines.join(" ");
    format!("{} (see --help)", line.strip_prefix("error: ").unwrap_or(&line))
}

fn complain(sentence: &str) {
    // A closed standard error can't be reported anywhere.
    let _ = writeln!(io::stderr(), "rtcade: {sentence}");
}

impl Network {
    /// Converts to options, with `page` as the page of the rooms.
    ///
    /// # Errors
    /// A host name can't be resolved, or the certificate for development can't be kept.
    fn options(self, page: Cow<'static, str>) -> Result<Options, BindError> {
        self.encryption.apply(Options {
            listen: self.listen.first("--listen")?,
            udp: self.udp.map(|udp| udp.first("--udp")).transpose()?,
            public_addresses: address::resolve_public(&self.public_addr)?,
            public: self.public,
            keep_alive: Duration::from_secs(self.keep_alive),
            page,
            ..Options::default()
        })
    }
}

/// Parses the command line again, with what file and environment set now. The error is a sentence.
fn parse_again<A: Args, O: Subcommand>(serve: impl FnOnce(A) -> Serve) -> Result<Serve, String> {
    serve_of(parse_from::<A, O>(env::args_os().collect()), serve)
}

/// Reads what a running server takes over from its configuration.
fn read_reload(serve: Serve) -> Result<Reload, String> {
    let (max_players, max_rooms, grace) = (serve.max_players(), serve.max_rooms, Duration::from_secs(serve.grace));
    let admin_token = serve.operators.token()?;
    let Options { keys, origins, trusted_proxies, .. } = serve.access.apply(Options::default())?;
    serve.network.logging.apply();
    Ok(Reload { keys, origins, trusted_proxies, max_players, max_rooms, grace, admin_token })
}

impl Serve {
    fn max_players(&self) -> usize {
        self.max_players.unwrap_or(limits::PLAYERS_PER_ROOM)
    }
}

/// Starts the server; `again` reads the configuration anew.
fn start<G: Game>(
    serve: Serve,
    again: fn() -> Result<Serve, String>,
    title: &str,
    page: Cow<'static, str>,
    factory: impl FnMut(&RoomInfo) -> Result<G, Refusal> + 'static,
    prepare: impl FnOnce(&mut Driver<G>),
) -> ExitCode {
    let logging = serve.network.logging.clone();
    let is_checked = serve.configuration.check_config;
    let names = serve.network.public_addr.clone();
    let max_players = serve.max_players();
    let options = match serve.network.options(page).and_then(|options| serve.operators.apply(options)) {
        Ok(options) => options,
        Err(error) if is_checked => return refuse_checked(&error),
        Err(error) => return refuse(&error),
    };
    let options = Options {
        tick: serve.tick_ms.map(|ms| Duration::from_millis(ms.into())),
        max_players,
        max_rooms: serve.max_rooms,
        grace: Duration::from_secs(serve.grace),
        dev: serve.dev,
        media: match serve.media {
            None => Media::Off,
            Some(Forwarded::Audio) => Media::Audio,
            Some(Forwarded::Video) => Media::Video,
        },
        tick_budget: serve.tick_budget.map(Duration::from_millis),
        drain: Duration::from_secs(serve.drain),
        busy_poll: serve.busy_poll,
        record: serve.record.map(|directory| Record { directory, limit_bytes: serve.record_limit * MIB }),
        ..options
    };
    let options = match serve.access.apply(options) {
        Ok(options) => options,
        Err(sentence) => {
            complain(&sentence);
            return ExitCode::from(2);
        }
    };
    if is_checked {
        return check(options, factory);
    }
    #[cfg(all(feature = "cluster", target_os = "linux"))]
    let options = match serve.link {
        Some(link) => match cluster::join(options, link, &serve.operators) {
            Ok(options) => options,
            Err(error) => return refuse(&error),
        },
        None => options,
    };
    let is_open = options.keys.is_none();
    let public = options.public_addresses.clone();
    host(options, &logging, title, factory, |driver| {
        address::watch(names, public, driver.handle());
        driver.set_reload(move || read_reload(again()?));
        prepare(driver);
        is_open.then_some("anyone may join: use --keys to require bearer tokens")
    })
}

/// Complains of options with which the server can't start. Returns the exit status.
fn refuse(error: &BindError) -> ExitCode {
    complain(&error.to_string());
    if error.is_misuse() { ExitCode::from(2) } else { ExitCode::FAILURE }
}

/// Checks the files and directories that the options name, on free ports of the loopback address.
fn check<G: Game>(options: Options, factory: impl FnMut(&RoomInfo) -> Result<G, Refusal> + 'static) -> ExitCode {
    if let Some(Record { directory, .. }) = &options.record
        && let Err(source) = try_to_write(directory)
    {
        return refuse_checked(&BindError::Record { directory: directory.clone(), source });
    }
    let options = Options {
        listen: (Ipv4Addr::LOCALHOST, 0).into(),
        udp: None,
        record: None,
        https_redirect: None,
        metrics: None,
        admin: None,
        agones: None,
        #[cfg(feature = "cluster")]
        events: None,
        #[cfg(feature = "cluster")]
        node: None,
        ..options
    };
    match Driver::bind(options, factory) {
        Ok(_) => {
            let _ = writeln!(io::stdout(), "rtcade: the configuration is valid");
            ExitCode::SUCCESS
        }
        Err(error) => refuse_checked(&error),
    }
}

/// Creates a file in a directory, if there is one, and removes it.
fn try_to_write(directory: &Path) -> io::Result<()> {
    if !directory.exists() {
        return Ok(());
    }
    let file = directory.join(format!(".rtcade-check-{}", std::process::id()));
    fs::File::create_new(&file)?;
    fs::remove_file(&file)
}

/// Complains of a configuration that was only checked.
fn refuse_checked(error: &BindError) -> ExitCode {
    complain(&error.to_string());
    ExitCode::from(2)
}

/// Runs a server until it is stopped. `prepare` configures what options don't, and may return a line to print.
fn host<G: Game>(
    options: Options,
    logging: &Logging,
    title: &str,
    factory: impl FnMut(&RoomInfo) -> Result<G, Refusal> + 'static,
    prepare: impl FnOnce(&mut Driver<G>) -> Option<&'static str>,
) -> ExitCode {
    logging.apply();
    if let Err(sentence) = raise_file_limit() {
        complain(&sentence);
        return ExitCode::FAILURE;
    }
    let is_told_an_address = !options.public_addresses.is_empty() || options.agones.is_some();
    #[cfg(all(feature = "cluster", target_os = "linux"))]
    let is_silent = options.link.is_some();
    #[cfg(not(all(feature = "cluster", target_os = "linux")))]
    let is_silent = false;
    let scheme = if options.tls.is_some() { "https" } else { "http" };
    let mut driver = match Driver::bind(options, factory) {
        Ok(driver) => driver,
        Err(error) => return refuse(&error),
    };
    let note = prepare(&mut driver);
    if let Err(error) = driver.obey_signals() {
        ::log::warn!(
            "SIGTERM and SIGINT will stop the server without notifying players, because they can't be handled: {error}"
        );
    }
    let (listen, udp_port) = (driver.local_addr(), driver.udp_port());
    let ports = format!("UDP port {udp_port}");
    let lines = announcement(title, scheme, listen, &ports, driver.interfaces(), is_told_an_address);
    let of_operators = [
        driver.admin_addr().map(|at| {
            let is_secure = scheme == "https" && !at.ip().is_loopback();
            format!("administer it at {}", address::url(at, is_secure))
        }),
        driver.metrics_addr().map(|at| format!("metrics are at {}metrics", address::url(at, false))),
    ];
    // The parent of nodes says where they are.
    let lines = lines.iter().chain(of_operators.iter().flatten()).map(String::as_str).chain(note);
    for line in lines.filter(|_| !is_silent) {
        // The reader may close its end after the first line; the server keeps running.
        let _ = writeln!(io::stdout(), "rtcade: {line}");
    }
    match driver.run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&format!("the event loop failed: {error}"));
            ExitCode::FAILURE
        }
    }
}

/// Raises the limit of open files as far as needed and permitted; the error is a sentence.
fn raise_file_limit() -> Result<(), String> {
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return Ok(()) };
    let wanted = FILES_WANTED.min(hard);
    let limit = if soft < wanted && setrlimit(Resource::RLIMIT_NOFILE, wanted, hard).is_ok() { wanted } else { soft };
    if limit < FILES_NEEDED {
        return Err(format!("the limit of open files is {limit}: raise it to {FILES_ADVISED} with ulimit -n"));
    }
    if limit < FILES_ADVISED {
        ::log::warn!(
            "the limit of open files is {limit}, one per connection: raise it to {FILES_ADVISED} with ulimit -n"
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::shipped::{ServeShipped, Served, Shipped, ShippedCommand, for_broadcast};
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
            assert_eq!(shipped.game, Served::Shipped(Shipped::Arena));
            assert_eq!(shipped.serve.network.listen, Options::default().listen.into());
            assert_eq!((shipped.serve.tick_ms, Options::default().tick), (None, None));
            let max_players = Options::default().max_players;
            assert_eq!((shipped.serve.max_players, max_players), (None, limits::PLAYERS_PER_ROOM));
            assert_eq!((shipped.serve.max_rooms, shipped.serve.grace), (limits::ROOMS, limits::RESUME_GRACE.as_secs()));
            assert_eq!(shipped.serve.busy_poll, Options::default().busy_poll);
            assert_eq!(Duration::from_secs(shipped.serve.network.keep_alive), Options::default().keep_alive);
        }
    }

    #[test]
    fn every_option_is_taken_with_and_without_the_command() {
        let options = "--listen 127.0.0.1:0 --udp [::]:9 --game relay --public-addr 203.0.113.7 \
            --public-addr [2001:db8::7]:9 --public . --keys k --audience a --origin https://a --origin http://b:1 \
            --trusted-proxy ::1 --trusted-proxy 10.0.0.0/8 --tick-ms 5 --max-players 1024 --record . --record-limit 7 \
            --max-rooms 4096 --grace 3600 --keep-alive 3600 --origin null --dev --busy-poll -vv";
        for command in [None, Some("serve")] {
            let arguments: Vec<_> = command.into_iter().chain(options.split_whitespace()).collect();
            let ServeShipped { game, serve } = parsed(&arguments).expect("valid");
            let network = serve.network;
            assert_eq!(
                (game, serve.tick_ms, serve.max_players),
                (Served::Shipped(Shipped::Relay), Some(5), Some(1024))
            );
            assert_eq!((serve.record, serve.record_limit), (Some(".".into()), 7));
            let addresses: Vec<_> = network.public_addr.iter().map(ToString::to_string).collect();
            assert_eq!(addresses, ["203.0.113.7:0", "[2001:db8::7]:9"]);
            let proxies: Vec<_> = serve.access.trusted_proxy.iter().map(ToString::to_string).collect();
            assert_eq!((proxies.join(" "), serve.access.origin.len()), ("::1/128 10.0.0.0/8".to_owned(), 3));
            assert_eq!((serve.max_rooms, serve.grace), (4_096, 3_600));
            assert!(serve.busy_poll && serve.dev);
            assert_eq!(network.keep_alive, 3_600);
        }
    }

    #[test]
    fn a_broadcast_has_video_and_large_rooms_unless_the_command_line_has_others() {
        let broadcast = |options: &str| {
            let arguments: Vec<_> = options.split_whitespace().collect();
            let serve = for_broadcast(parsed(&arguments).expect("valid").serve);
            (serve.media, serve.max_players)
        };
        assert_eq!(broadcast("--game broadcast"), (Some(Forwarded::Video), Some(limits::PLAYERS_PER_ROOM_MAX)));
        assert_eq!(broadcast("--game broadcast --media --max-players 9"), (Some(Forwarded::Audio), Some(9)));
    }

    #[test]
    fn each_mistake_gets_one_sentence() {
        for (arguments, expected) in [
            ("--listen 8080", "as in 0.0.0.0:8080"),
            ("--public-addr 1.2.3", "as in 203.0.113.7"),
            ("--public-addr 0.0.0.0", "wildcard"),
            ("--tick-ms 4", "5..=1000"),
            ("--tick-ms 1001", "5..=1000"),
            ("--max-players 0", "from 1 to 1024"),
            ("--max-players 1025", "from 1 to 1024"),
            ("--max-rooms 0", "from 1 to 4096"),
            ("--max-rooms 4097", "from 1 to 4096"),
            ("--grace 0", "1..=3600"),
            ("--grace 3601", "1..=3600"),
            ("--origin example.com", "as in https://example.com"),
            ("--origin https://example.com/", "as in https://example.com"),
            ("--origin file:///home/index.html", "as in https://example.com"),
            ("--keep-alive 0", "1..=3600"),
            ("--keep-alive 3601", "1..=3600"),
            ("--trusted-proxy 10.0.0.0/33", "as in 127.0.0.1 or 10.0.0.0/8"),
            ("--trusted-proxy proxy", "as in 127.0.0.1 or 10.0.0.0/8"),
            ("token --subject ada", "--room <NAME>"),
            ("token --subject ada --room r --ttl 0s", "as in 90s, 1h or 720h"),
            ("token --subject ada --room r --ttl=-1h", "as in 90s, 1h or 720h"),
            ("token --new-keys --subject ada", "--new-keys"),
            ("--record . --record-limit 0", "0 is not in 1.."),
            ("replay", "<FILE>"),
            ("replay f --speed 0", "above 0"),
            ("replay f --speed inf", "or max"),
            ("replay f --to-tick -1", "-1"),
            ("replay f --update --check", "--check"),
            ("replay f --serve --check", "--check"),
            ("replay f --listen 127.0.0.1:0", "--serve"),
            ("replay f --public .", "--serve"),
            ("--tls-cert c", "--tls-key <FILE>"),
            ("--tls-key c", "--tls-cert <FILE>"),
            ("--tls-dev --tls-cert c --tls-key k", "--tls-dev"),
            ("--https-redirect 0.0.0.0:80", "--tls-cert <FILE>|--tls-dev"),
            ("--tls-dev --https-redirect 80", "as in 0.0.0.0:8080"),
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
            assert!(!sentence.contains('\n') && sentence.ends_with("(see --help)"), "{sentence}");
        }
    }
}
