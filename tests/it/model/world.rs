//! The model and the server it checks.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use rand_chacha::ChaCha8Rng;
use rtcade::client::Client;
use rtcade::limits;
use rtcade::rand::{Rng, RngExt, SeedableRng};
use rtcade::sim::{SERVER, Simulation};
use rtcade::wire::Inflater;

use super::network::Weather;
use super::player::{Place, Player};
use super::reader::Reader;
use super::recordings::Recordings;
use super::transition::Transition;
use super::witness::{Book, Doorkeeper, Witness};

pub(super) const MS: Duration = Duration::from_millis(1);
/// The world is looked at this often.
pub(super) const STEP: Duration = Duration::from_millis(25);
/// The least time that a server and a client may take to act on what they have.
pub(super) const GRACE: Duration = Duration::from_millis(500);
const MAX_PLAYERS: usize = 4;
/// Players of a room in the runs where some are large, and how many of them come at once.
const CROWDED: usize = 40;
pub(super) const CROWD: usize = 30;
/// After which the server takes a silent websocket for lost.
pub(super) const SILENCE: Duration =
    limits::HEARTBEAT_INTERVAL.saturating_mul(1 + limits::HEARTBEATS_UNANSWERED as u32);
/// How long a player may be away.
pub(super) const AWAY: Duration = Duration::from_secs(3);
/// After which TCP sends again at the latest what was lost.
const LONGEST_TIMEOUT: Duration = Duration::from_secs(60);
/// The other address of a server that has two.
const SECOND_ADDRESS: [u8; 4] = [10, 0, 0, 2];
/// Clients of one run.
pub(super) const CLIENTS: usize = 10;

pub(super) struct World {
    pub(super) rng: ChaCha8Rng,
    pub(super) seed: u64,
    pub(super) sim: Simulation<Witness>,
    pub(super) book: Rc<RefCell<Book>>,
    pub(super) players: Vec<Player>,
    pub(super) readers: Vec<Reader>,
    pub(super) history: Vec<(Duration, Transition)>,
    /// How long it was that something could happen.
    pub(super) awake: Duration,
    /// Since when each room has been empty, in that time.
    pub(super) empty_since: BTreeMap<usize, Duration>,
    pub(super) bad_frames: u64,
    /// Of datagrams from addresses of no client.
    pub(super) injected_bytes: u64,
    /// A connection closed before it could have had its last replies.
    pub(super) replies_lost: bool,
    pub(super) is_calm: bool,
    pub(super) recordings: Recordings,
    pub(super) inflater: Inflater,
    pub(super) has_two_addresses: bool,
    pub(super) takes_slow_path: bool,
    pub(super) has_stopped: bool,
    pub(super) has_stood_still: bool,
    pub(super) max_players: usize,
    /// Connections of addresses that only want to be let in.
    pub(super) strangers: usize,
    /// When one last asked.
    pub(super) stormed: Duration,
    /// How many there ever were.
    pub(super) strangers_met: u64,
}

impl World {
    pub(super) fn new(seed: u64) -> World {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let tick = draw_tick(&mut rng);
        let max_players = if rng.random_ratio(1, 32) { CROWDED } else { MAX_PLAYERS };
        let has_two_addresses = rng.random_bool(0.4);
        let book = Rc::new(RefCell::new(Book { tick, ..Book::default() }));
        let shared = Rc::clone(&book);
        let configure = |config: &mut rtcade::server::Config| {
            config.tick = tick;
            config.max_players = max_players;
            config.grace = AWAY;
            if has_two_addresses {
                config.interfaces = vec![SERVER.ip(), SECOND_ADDRESS.into()];
            }
        };
        let mut sim = Simulation::with_config(seed, configure, move |info| Witness::new(&shared, info, max_players));
        // Of every other run, as the driver does.
        if seed % 2 == 1 {
            sim.set_turn_length((tick / 4).min(Duration::from_millis(25)));
        }
        let takes_slow_path = std::env::var_os("RTCADE_SLOW_PATH").is_some();
        if takes_slow_path {
            sim.take_slow_path();
        }
        sim.server.set_hooks(Doorkeeper(Rc::clone(&book)));
        let recordings = Recordings::default();
        // Of every fourth run, and of those whose ticks are no whole number of microseconds.
        if seed.is_multiple_of(4) || !tick.as_nanos().is_multiple_of(1_000) {
            recordings.attach(&mut sim.server);
        }
        World {
            rng,
            seed,
            sim,
            book,
            players: Vec::new(),
            readers: Vec::new(),
            history: Vec::new(),
            awake: Duration::ZERO,
            empty_since: BTreeMap::new(),
            bad_frames: 0,
            injected_bytes: 0,
            replies_lost: false,
            is_calm: false,
            recordings,
            inflater: Inflater::new(),
            has_two_addresses,
            takes_slow_path,
            has_stopped: false,
            max_players,
            strangers: 0,
            stormed: Duration::ZERO,
            strangers_met: 0,
            has_stood_still: false,
        }
    }

    pub(super) fn grace(&self) -> Duration {
        self.book.borrow().grace()
    }

    /// Players who are in, as far as they know, and have given no cause to be put out.
    pub(super) fn members(&self) -> Vec<usize> {
        let is_member = |player: &Player| player.heard.player.is_some() && player.is_settled();
        (0..self.players.len()).filter(|&player| is_member(&self.players[player])).collect()
    }

    pub(super) fn has_place_for_clients(&self) -> bool {
        self.players.len() < CLIENTS + if self.is_crowded() { CROWD } else { 0 }
    }

    /// Rooms take many, and one has been filled.
    pub(super) fn is_crowded(&self) -> bool {
        self.max_players == CROWDED
    }

    /// A flood may still be on its way.
    pub(super) fn is_flooding(&self) -> bool {
        self.players.iter().any(|player| player.may_be_flood && !player.heard.closed)
    }

    /// Lets time pass, and compares.
    pub(super) fn run(&mut self, time: Duration) {
        let end = self.sim.elapsed() + time;
        while self.sim.elapsed() < end {
            let step = STEP.min(end - self.sim.elapsed());
            self.awake += step;
            self.book.borrow_mut().now = self.awake;
            self.sim.run(step);
            for player in &mut self.players {
                if player.is_held_up(&self.sim) {
                    player.held_up = self.awake;
                } else {
                    player.flowing += step;
                }
            }
            for reader in 0..self.readers.len() {
                self.pump(reader);
            }
            self.end_websockets();
            self.check();
            self.check_freshness(step);
        }
    }

    /// All faults stop, and what they held up arrives: TCP doesn't know that the network is sound again before it sends
    /// the next time, which may be a minute after the last. Nothing that the server does makes that any shorter.
    pub(super) fn calm(&mut self) {
        self.is_calm = true;
        for player in 0..self.players.len() {
            match &mut self.players[player].websocket_ends {
                None => {
                    self.set_weather(player, Weather::Sound);
                    self.reach(player, None);
                }
                Some(ends) => *ends = ends.map(|ends| self.awake.min(ends)),
            }
        }
        let calm = self.sim.elapsed();
        let holds_up = |player: &Player, sim: &Simulation<Witness>| {
            player.waits_since(sim).is_some_and(|since| since <= calm) || (player.heard.is_away && player.is_settled())
        };
        while self.players.iter().any(|player| holds_up(player, &self.sim)) {
            if self.sim.elapsed() - calm > LONGEST_TIMEOUT + self.grace() {
                self.fault("the network is sound, and somebody is still held up or away");
            }
            self.run(STEP);
        }
    }

    pub(super) fn client(&mut self, player: usize) -> &mut Client {
        match self.players[player].place {
            Place::Simulation(id) => &mut self.sim[id].client,
            Place::Reader(reader) => self.readers[reader].client.as_mut().unwrap(),
        }
    }

    pub(super) fn text(&mut self, place: Place, text: &str) {
        match place {
            Place::Simulation(id) => self.sim.text(id, text),
            Place::Reader(reader) => {
                self.sim.server.handle_text(self.sim.now(), self.readers[reader].connection, text);
            }
        }
    }

    pub(super) fn binary(&mut self, place: Place, bytes: &[u8]) {
        match place {
            Place::Simulation(id) => self.sim.binary(id, bytes),
            Place::Reader(reader) => {
                self.sim.server.handle_binary(self.sim.now(), self.readers[reader].connection, bytes);
            }
        }
    }

    pub(super) fn fault(&self, fault: &str) -> ! {
        panic!("at {:?}: {fault}", self.sim.elapsed());
    }
}

fn draw_tick(rng: &mut impl Rng) -> Duration {
    // Short ones take long to run.
    let nanoseconds = match rng.random_range(0..64) {
        0..=18 => 33_000_000,
        19..=37 => 50_000_000,
        38..=51 => 100_000_000,
        52..=55 => 16_666_667,
        56..=59 => 200_000_000,
        60 | 61 => 1_000_000_000,
        62 => 10_000_000,
        _ => 5_000_000,
    };
    Duration::from_nanos(nanoseconds)
}

impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("seed {} of the model, ticks of {:?}:", self.seed, self.book.borrow().tick);
            for (at, transition) in &self.history {
                eprintln!("  {:9.3} s  {transition:?}", at.as_secs_f64());
            }
            eprintln!("MODEL_FIRST_SEED={} MODEL_SEEDS=1 cargo test --test it -- model::", self.seed);
        }
    }
}
