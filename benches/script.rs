//! What a room costs whose game is in JavaScript: the arena of `benches/arena.js` beside the same arena in Rust.
//!
//! `cargo bench --bench script`. Times are CPU times of the thread, the medians of several rounds that alternate between
//! the two games; every player sends an input for each tick, and the ticks' states are encoded. `script count PLAYERS`
//! runs the ticks of one room within [`counted_by_callgrind`], for valgrind.

#![allow(clippy::unwrap_used, reason = "a bench whose setup fails should stop")]
#![allow(clippy::print_stdout, reason = "it reports")]

use std::collections::BTreeMap;
use std::hint::black_box;
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};
use rtcade::game::{Game, Join, PlayerId, Refusal, RoomInfo, Tick};
use rtcade::games::Arena;
use rtcade::games::arena::Steer;
use rtcade::limits;
use rtcade::room::{Input, Room};
use rtcade::script::{CurrentProgram, Program, Script, Scripts, reload_message};
use rtcade::wire::msgpack;

const ROUNDS: usize = 9;
const TICKS: u32 = 300;
const COUNTED_TICKS: u32 = 300;
const MADE: u32 = 50;
const SAVED: u32 = 100;
const MANY: u64 = 1_000;
const MANY_PLAYERS: usize = 8;

/// The function whose instructions valgrind counts.
#[inline(never)]
fn counted_by_callgrind(work: &mut dyn FnMut()) {
    work();
}

fn cpu_time() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).unwrap().into()
}

fn timed(work: impl FnOnce()) -> Duration {
    let before = cpu_time();
    work();
    cpu_time() - before
}

fn scripts() -> Scripts {
    let modules = BTreeMap::from([("arena.js".to_owned(), include_str!("arena.js").to_owned())]);
    Scripts::new(CurrentProgram::new(Program::new("arena.js", modules).unwrap()), |report| {
        assert!(report.failure.is_none(), "{report:?}");
    })
}

/// A room with players who steer in circles, each by their own angle, and dash now and then.
struct Played<G: Game> {
    room: Room<G>,
    players: Vec<PlayerId>,
    tick: u32,
}

impl<G: Game> Played<G> {
    fn new(seed: u64, players: usize, make: impl FnOnce(&RoomInfo) -> Result<G, Refusal>) -> Played<G> {
        let info = RoomInfo::new("bench", seed);
        let mut room = Room::new(&info, make(&info).unwrap(), players);
        let join = |number| {
            let player = room.next_player();
            room.handle_input(Input::Join { player, join: Join::new(&format!("player {number}")) });
            player
        };
        let players = (0..players).map(join).collect();
        let mut played = Played { room, players, tick: 0 };
        // The first ticks let buffers and shapes settle.
        for _ in 0..30 {
            played.tick();
        }
        played
    }

    fn steers(&self) -> Vec<Vec<u8>> {
        let steer = |player: &PlayerId| {
            let angle = (self.tick as f32 + player.0 as f32 * 7.0) / 20.0;
            let dashes = (self.tick + player.0 * 5).is_multiple_of(60);
            Steer((angle.cos() * 100.0).round(), (angle.sin() * 100.0).round(), dashes)
        };
        self.players.iter().map(|player| msgpack::encode(&steer(player), limits::INPUT_BYTES).unwrap()).collect()
    }

    /// Returns the CPU time of one tick: its inputs, the game, its outputs.
    fn tick(&mut self) -> Duration {
        self.tick += 1;
        let steers = self.steers();
        let mut sent = 0;
        let spent = timed(|| {
            for (&player, value) in self.players.iter().zip(steers) {
                self.room.handle_input(Input::Input { player, number: self.tick, seen: 0, value });
            }
            self.room.handle_input(Input::Tick(Tick::new(self.tick, 0)));
            while let Some(output) = self.room.poll_output() {
                black_box(&output);
                sent += 1;
            }
        });
        assert!(sent > 0, "the room is closed");
        spent
    }

    fn ticks(&mut self, count: u32) -> Duration {
        (0..count).map(|_| self.tick()).sum::<Duration>() / count
    }
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

/// Alternates, so that whatever else the machine does meets both alike.
fn compare(what: &str, mut rust: impl FnMut() -> Duration, mut script: impl FnMut() -> Duration) {
    let (rust, script): (Vec<_>, Vec<_>) = (0..ROUNDS).map(|_| (rust(), script())).unzip();
    let (rust, script) = (median(rust), median(script));
    let us = |time: Duration| time.as_secs_f64() * 1e6;
    println!("{what:44} {:10.1} µs {:10.1} µs {:8.1}", us(rust), us(script), us(script) / us(rust));
}

fn ticks(players: usize) {
    let scripts = scripts();
    let mut rust = Played::new(1, players, |info| Ok(Arena::new(info)));
    let mut script = Played::new(1, players, |info| scripts.create(info));
    compare(&format!("a tick of a room with {players} players"), || rust.ticks(TICKS), || script.ticks(TICKS));
}

fn made() {
    let scripts = scripts();
    let info = RoomInfo::new("bench", 1);
    compare(
        "making a game",
        || timed(|| (0..MADE).for_each(|_| drop(black_box(Arena::new(&info))))) / MADE,
        || {
            let mut games = Vec::new();
            timed(|| games.extend((0..MADE).map(|_| scripts.create(&info).unwrap()))) / MADE
        },
    );
    compare(
        "ending a game",
        || timed(|| drop(Arena::new(&info))),
        || {
            let game = scripts.create(&info).unwrap();
            timed(|| drop(game))
        },
    );
}

fn saved(players: usize) {
    let scripts = scripts();
    let rust = Played::new(1, players, |info| Ok(Arena::new(info)));
    let script = Played::new(1, players, |info| scripts.create(info));
    fn save<G: Game>(played: &Played<G>) -> Duration {
        timed(|| (0..SAVED).for_each(|_| drop(black_box(played.room.game().unwrap().save().unwrap())))) / SAVED
    }
    compare(&format!("saving a game with {players} players"), || save(&rust), || save(&script));
}

/// Saving, loading the program into an engine of its own, and going on there with what was saved.
fn reloaded(players: usize) {
    let scripts = scripts();
    let mut rooms = [0, 1].map(|_| Played::new(1, players, |info| scripts.create(info)));
    let message = reload_message(rooms[0].room.game().unwrap().program());
    let times = (0..ROUNDS).map(|_| {
        let [plain, reloaded] = &mut rooms;
        reloaded.room.handle_input(Input::External { bytes: message.clone() });
        reloaded.tick().saturating_sub(plain.tick())
    });
    let us = median(times.collect()).as_secs_f64() * 1e6;
    println!("{:44} {us:28.1} µs", format!("reloading a game with {players} players"));
}

fn memory() {
    let scripts = scripts();
    let kib = |script: &Script| script.memory() as f64 / 1024.0;
    println!("{:44} {:27.1} KiB", "memory of a new room", kib(&scripts.create(&RoomInfo::new("bench", 1)).unwrap()));
    for players in [8, 16, 64] {
        let mut script = Played::new(1, players, |info| scripts.create(info));
        script.ticks(TICKS);
        let what = format!("memory of a room with {players} players");
        println!("{what:44} {:27.1} KiB", kib(script.room.game().unwrap()));
    }
}

/// Rooms that take turns, so that none finds its memory in the cache.
fn many() {
    let scripts = scripts();
    let mut rust: Vec<_> = (0..MANY).map(|seed| Played::new(seed, MANY_PLAYERS, |info| Ok(Arena::new(info)))).collect();
    let mut script: Vec<_> =
        (0..MANY).map(|seed| Played::new(seed, MANY_PLAYERS, |info| scripts.create(info))).collect();
    let what = format!("a tick of {MANY} rooms with {MANY_PLAYERS} players each");
    compare(&what, || rust.iter_mut().map(Played::tick).sum(), || script.iter_mut().map(Played::tick).sum());
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    if let [command, players] = arguments.as_slice() {
        assert_eq!(command, "count", "the only command is count PLAYERS");
        let scripts = scripts();
        let mut script = Played::new(1, players.parse().unwrap(), |info| scripts.create(info));
        counted_by_callgrind(&mut || println!("{COUNTED_TICKS} ticks of {:?}", script.ticks(COUNTED_TICKS)));
        return;
    }
    println!("{:44} {:>13} {:>13} {:>8}", "", "Rust", "JavaScript", "ratio");
    for players in [8, 16, 64] {
        ticks(players);
    }
    made();
    saved(16);
    reloaded(16);
    memory();
    many();
}
