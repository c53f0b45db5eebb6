//! `rtcade replay --serve`: plays a recording to spectators.

use std::any::type_name;
use std::borrow::Cow;
use std::error::Error;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use clap::{Arg, Args};

use super::{ExitCode, Network, complain, host, replay};
use crate::driver::Options;
use crate::game::{Game, Refusal, RoomInfo};
use crate::journal::{Header, Journal};
use crate::limits;
use crate::playback::{FIRST_SPECTATOR, Playback, Recording};

const PAGE: &str = include_str!("../../client-js/pages/playback/index.html");

#[derive(Debug, Args)]
#[group(skip)]
#[command(mut_args(|arg| if is_of_network(&arg) { arg.requires("serve") } else { arg }))]
pub(super) struct Arguments {
    #[command(flatten)]
    pub(super) replay: replay::Arguments,
    /// Serve the recording as a web page with pause, seek and speed controls around the game's own page.
    #[arg(long, conflicts_with_all = ["check", "speed", "to_tick", "dump", "update"])]
    pub(super) serve: bool,
    #[command(flatten)]
    network: Network,
}

/// Returns whether only a server needs the option.
fn is_of_network(argument: &Arg) -> bool {
    ["listen", "udp", "public_addr", "public", "verbose", "log", "log_format"].contains(&argument.get_id().as_str())
}

/// Serves the recording on the command line; `play` selects its game. Returns the exit status: 2 if it can't be played,
/// otherwise that of the server.
pub(super) fn serve(arguments: Arguments, play: impl FnOnce(Show) -> Result<ExitCode, Box<dyn Error>>) -> ExitCode {
    let [path] = &arguments.replay.files[..] else {
        complain("--serve plays one recording at a time: name one file");
        return ExitCode::from(2);
    };
    match Show::open(path, arguments.network).and_then(play) {
        Ok(status) => status,
        Err(error) => {
            complain(&format!("{}: {error}", path.display()));
            ExitCode::from(2)
        }
    }
}

/// A recording, and the addresses to serve it at.
pub(super) struct Show {
    bytes: Vec<u8>,
    header: Header,
    network: Network,
}

impl Show {
    fn open(path: &Path, network: Network) -> Result<Show, Box<dyn Error>> {
        let bytes = replay::read(path)?;
        let header = Journal::parse(&bytes)?.header().clone();
        Ok(Show { bytes, header, network })
    }

    pub(super) fn is_of<G: Game>(&self) -> bool {
        self.header.game == type_name::<G>()
    }

    pub(super) fn is_of_another_game(&self, games: &[&str]) -> Box<dyn Error> {
        replay::another_game(&self.header, games).into()
    }

    /// Serves the recording with the page of its game until the program is stopped.
    pub(super) fn play<G: Game>(
        self,
        title: &str,
        page: Cow<'static, str>,
        factory: impl FnMut(&RoomInfo) -> Result<G, Refusal> + 'static,
    ) -> Result<ExitCode, Box<dyn Error>> {
        let logging = self.network.logging.clone();
        let options = Options {
            tick: Some(self.header.room.tick),
            max_players: limits::PLAYERS_PER_ROOM_MAX,
            // Seeking takes as long as it may.
            tick_budget: Some(Duration::MAX),
            ..self.network.options(page)?
        };
        // The bytes are used for as long as the program runs.
        let recording = Rc::new(Recording::new(self.bytes.leak(), factory)?);
        let play = move |_: &RoomInfo| Playback::new(Rc::clone(&recording));
        Ok(host(options, &logging, title, play, |driver| {
            driver.open_to_spectators(PAGE, FIRST_SPECTATOR);
            None
        }))
    }
}
