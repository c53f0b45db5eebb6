//! The command line of the `rtcade` program, with the games that it comes with.

use std::any::type_name;
#[cfg(feature = "script")]
use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

#[cfg(feature = "cluster")]
use super::cluster;
use super::configured::{configured_admin, configured_url};
use super::{
    Command, ExitCode, Forwarded, Serve, bench, doctor, healthcheck, parse, parse_again, parse_from, playback, reload,
    replay, sim, start, token,
};
#[cfg(feature = "script")]
use super::{dev, new, script, test};
use crate::games::{Arena, Broadcast, Relay};
use crate::limits;
#[cfg(feature = "script")]
use crate::{
    driver::Options,
    script::{CurrentProgram, Script, Scripts},
};

const ARENA_PAGE: &str = include_str!("../../client-js/pages/arena/index.html");
const BROADCAST_PAGE: &str = include_str!("../../client-js/pages/broadcast/index.html");
const BROADCAST_START: &str = include_str!("../../client-js/pages/broadcast/start.html");
const RELAY_PAGE: &str = include_str!("../../client-js/pages/relay/index.html");

/// Commands that only the `rtcade` program has.
#[derive(Debug, Subcommand)]
pub(super) enum ShippedCommand {
    /// Play a shipped game with bots over simulated networks, and print their measurements.
    Sim(sim::Sim),
    /// Load-test a server with scenario files, in a format close to Artillery's.
    #[command(subcommand)]
    Bench(Box<bench::Bench>),
    /// Make the directory of a new game in JavaScript.
    #[cfg(feature = "script")]
    New(new::New),
    /// Serve a game in JavaScript while it is written: rooms and pages follow each change of its files.
    ///
    /// Rooms go on in their state, if the game is plain data or exports save and load. Errors are shown on each page.
    #[cfg(feature = "script")]
    Dev(Box<dev::Dev>),
    /// Run the tests of a game in JavaScript, over simulated networks under virtual time.
    ///
    /// Each test is run twice for each seed, and what players have received is compared.
    #[cfg(feature = "script")]
    Test(test::Test),
}

#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  rtcade                                  Run the server at http://localhost:8080/
  rtcade --game broadcast                 Publish video to hundreds of viewers
  rtcade --public dist --max-players 16   Serve the files in dist, rooms of at most 16 players
  rtcade --public-addr 203.0.113.7        Run behind NAT: players connect to this address
  rtcade --listen 0.0.0.0:443 --tls-cert fullchain.pem --tls-key privkey.pem --https-redirect 0.0.0.0:80
                                          Speak https and wss
  rtcade doctor http://192.0.2.7:8080/    Check a running server as a player's browser would")]
pub(super) struct ServeShipped {
    /// The game to run: arena, broadcast or relay, which come with the program, or the file of a game in JavaScript.
    ///
    /// arena: players move, hunt and score. broadcast: one publishes video, the others watch it and write messages,
    /// with --media=video and rooms of 1024 unless set. relay: no game logic on the server; every tick sends all
    /// players' inputs to everyone.
    #[arg(long, value_name = "NAME|FILE.js", value_parser = game, default_value = "arena")]
    pub(super) game: Served,
    #[command(flatten)]
    pub(super) serve: Serve,
}

impl ServeShipped {
    /// The options, with those that the game has where none are given.
    fn settled(self) -> Serve {
        match self.game {
            Served::Shipped(Shipped::Broadcast) => for_broadcast(self.serve),
            _ => self.serve,
        }
    }
}

/// What a server runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Served {
    Shipped(Shipped),
    #[cfg(feature = "script")]
    Script(PathBuf),
}

fn game(text: &str) -> Result<Served, String> {
    if let Ok(shipped) = Shipped::from_str(text, false) {
        return Ok(Served::Shipped(shipped));
    }
    #[cfg(feature = "script")]
    if script::is_script(text) {
        return Ok(Served::Script(text.into()));
    }
    Err("expected arena, broadcast, relay, or the path of a file that ends in .js or .mjs".to_owned())
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Shipped {
    /// An arena in which players move, hunt and score.
    Arena,
    /// One publishes video, the others watch it and write messages; with --media=video and rooms of 1024 unless set.
    Broadcast,
    /// No game logic on the server: every tick sends all players' inputs to everyone.
    Relay,
}

/// Runs the command line of the shipped games; the body of `main` of the `rtcade` program.
pub fn main() -> ExitCode {
    let again = || parse_again::<ServeShipped, ShippedCommand>(ServeShipped::settled);
    match parse(|shipped: &mut ServeShipped| &mut shipped.serve) {
        Ok(Command::Own(ShippedCommand::Sim(sim))) => sim::run(&sim),
        Ok(Command::Own(ShippedCommand::Bench(bench))) => bench::run(&bench),
        #[cfg(feature = "script")]
        Ok(Command::Own(ShippedCommand::New(new))) => new::run(&new),
        #[cfg(feature = "script")]
        Ok(Command::Own(ShippedCommand::Dev(arguments))) => {
            dev::run(*arguments, || Err("rtcade dev reads its configuration once: restart it".to_owned()))
        }
        #[cfg(feature = "script")]
        Ok(Command::Own(ShippedCommand::Test(arguments))) => test::run(&arguments),
        Ok(Command::Token(token)) => token::run(&token),
        #[cfg(feature = "cluster")]
        Ok(Command::Cluster(cluster)) => cluster::run::<_, ShippedCommand>(cluster, ServeShipped::settled),
        Ok(Command::Serve(ServeShipped { game: Served::Shipped(Shipped::Arena), serve })) => {
            start(serve, again, "the arena game", ARENA_PAGE.into(), |room| Ok(Arena::new(room)), |_| ())
        }
        Ok(Command::Serve(ServeShipped { game: Served::Shipped(Shipped::Broadcast), serve })) => {
            let has_page = serve.network.public.is_some();
            start(
                for_broadcast(serve),
                again,
                "the broadcast",
                BROADCAST_PAGE.into(),
                |_| Ok(Broadcast::default()),
                |driver| {
                    if !has_page {
                        driver.set_front(BROADCAST_START);
                    }
                },
            )
        }
        Ok(Command::Serve(ServeShipped { game: Served::Shipped(Shipped::Relay), serve })) => {
            start(serve, again, "the relay", RELAY_PAGE.into(), |_| Ok(Relay), |_| ())
        }
        #[cfg(feature = "script")]
        Ok(Command::Serve(ServeShipped { game: Served::Script(path), serve })) => script::serve(&path, serve, again),
        Ok(Command::Doctor(arguments)) => doctor::run(arguments),
        Ok(Command::Healthcheck(arguments)) => healthcheck::run(arguments, || {
            configured_url(parse_from::<ServeShipped, ShippedCommand>(vec!["rtcade".into()]), ServeShipped::settled)
        }),
        Ok(Command::Reload(arguments)) => reload::run(&arguments, || {
            configured_admin(parse_from::<ServeShipped, ShippedCommand>(vec!["rtcade".into()]), ServeShipped::settled)
        }),
        Ok(Command::Replay(arguments)) if arguments.serve => playback::serve(arguments, |show| {
            if show.is_of::<Arena>() {
                show.play("the recorded arena", ARENA_PAGE.into(), |room| Ok(Arena::new(room)))
            } else if show.is_of::<Broadcast>() {
                show.play("the recorded broadcast", BROADCAST_PAGE.into(), |_| Ok(Broadcast::default()))
            } else if show.is_of::<Relay>() {
                show.play("the recorded relay", RELAY_PAGE.into(), |_| Ok(Relay))
            } else {
                #[cfg(feature = "script")]
                if show.is_of::<Script>() {
                    let scripts = Scripts::new(CurrentProgram::default(), |_| ());
                    return show.play("the recorded game", Options::default().page, move |room| scripts.create(room));
                }
                Err(show.is_of_another_game(&shipped_types()))
            }
        }),
        #[cfg(feature = "script")]
        Ok(Command::Replay(arguments)) if arguments.replay.game.is_some() => script::replay(&arguments.replay),
        Ok(Command::Replay(arguments)) => replay::run(&arguments.replay, |recording, out| {
            if recording.is_of::<Arena>() {
                recording.replay(|room| Ok(Arena::new(room)), out)
            } else if recording.is_of::<Broadcast>() {
                recording.replay(|_| Ok(Broadcast::default()), out)
            } else if recording.is_of::<Relay>() {
                recording.replay(|_| Ok(Relay), out)
            } else {
                #[cfg(feature = "script")]
                if recording.is_of::<Script>() {
                    let scripts = Scripts::new(CurrentProgram::default(), |_| ());
                    return recording.replay(|room| scripts.create(room), out);
                }
                Err(recording.is_of_another_game(&shipped_types()))
            }
        }),
        Err(status) => status,
    }
}

/// The games whose recordings can be replayed.
fn shipped_types() -> Vec<&'static str> {
    vec![
        type_name::<Arena>(),
        type_name::<Broadcast>(),
        type_name::<Relay>(),
        #[cfg(feature = "script")]
        type_name::<Script>(),
    ]
}

/// The options of a broadcast, where the command line has no others.
pub(super) fn for_broadcast(serve: Serve) -> Serve {
    Serve {
        media: serve.media.or(Some(Forwarded::Video)),
        max_players: serve.max_players.or(Some(limits::PLAYERS_PER_ROOM_MAX)),
        ..serve
    }
}
