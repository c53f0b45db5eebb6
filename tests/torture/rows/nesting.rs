//! Inputs of every depth around the limits in a relay room: each native client and each page gets every tick.

use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

use rtcade::client::Event;
use rtcade::wire::frame::{self, Kind};
use rtcade::wire::msgpack;

use super::Found;
use crate::attack::{BINARY, Connection, frame as websocket_frame, join};
use crate::player::{Player, TURN};
use crate::world::{Failure, SERVER, World, attacker, command, honest};

const ROOM: &str = "nested";
const DEPTHS: std::ops::RangeInclusive<usize> = 10..=17;
const NATIVE: usize = 4;
const PAGES: usize = 2;
const SETTLING: Duration = Duration::from_secs(3);
const ATTACK: Duration = Duration::from_secs(8);
const INPUT_INTERVAL: Duration = Duration::from_millis(500);
/// What a tick that was missed takes to be asked for and answered.
const CATCHING_UP: Duration = Duration::from_secs(2);

pub(super) fn run(world: &World) -> Result<Found, Failure> {
    let _server = world.start(&["--game", "relay"])?;
    let mut watchers = Watchers::join(world.seed)?;
    watchers.watch_for(SETTLING)?;
    let mut attackers = DEPTHS.map(Nester::join).collect::<Result<Vec<_>, _>>()?;
    let begun = Instant::now();
    while begun.elapsed() < ATTACK {
        attackers.iter_mut().for_each(Nester::send);
        watchers.watch_for(INPUT_INTERVAL)?;
    }
    drop(attackers);
    let newest = newest_tick(world.seed)?;
    watchers.watch_for(CATCHING_UP)?;
    let (worst, total) = watchers.worst(newest)?;
    let figure =
        format!("{worst} of {total} ticks at the client with the fewest, of {NATIVE} native and {PAGES} pages");
    Ok(Found { figure, bound: "all".to_owned(), holds: worst == total })
}

/// What the next client to come is told.
fn newest_tick(seed: u64) -> Result<u32, Failure> {
    let mut player = Player::join(honest(NATIVE), ROOM, seed, &None)?;
    let begun = Instant::now();
    let mut newest = None;
    while newest.is_none() {
        if begun.elapsed() > SETTLING {
            return Err("no tick came to a client that joined at the end".into());
        }
        player.turn(|_, event| {
            if let Event::Tick { tick, .. } = event {
                newest.get_or_insert(tick);
            }
        })?;
        std::thread::sleep(TURN);
    }
    newest.ok_or_else(|| "no tick".into())
}

/// Clients that note which ticks they see.
struct Watchers {
    native: Vec<(Player, Vec<u32>)>,
    pages: Vec<(Page, Vec<u32>)>,
}

impl Watchers {
    fn join(seed: u64) -> Result<Watchers, Failure> {
        let native =
            (0..NATIVE).map(|number| Ok((Player::join(honest(number), ROOM, seed + number as u64, &None)?, vec![])));
        let pages = (0..PAGES).map(|_| Ok((Page::open()?, vec![])));
        Ok(Watchers { native: native.collect::<Result<_, Failure>>()?, pages: pages.collect::<Result<_, Failure>>()? })
    }

    fn watch_for(&mut self, duration: Duration) -> Result<(), Failure> {
        let begun = Instant::now();
        while begun.elapsed() < duration {
            for (player, ticks) in &mut self.native {
                player.turn(|_, event| {
                    if let Event::Tick { tick, .. } = event {
                        ticks.push(tick);
                    }
                })?;
            }
            for (page, ticks) in &mut self.pages {
                ticks.extend(page.ticks.try_iter());
            }
            std::thread::sleep(TURN);
        }
        Ok(())
    }

    /// How many ticks the client with the largest share missing has seen, and how many there were, up to `newest`.
    fn worst(&self, newest: u32) -> Result<(usize, usize), Failure> {
        let all = self.native.iter().map(|(_, ticks)| ticks).chain(self.pages.iter().map(|(_, ticks)| ticks));
        let seen = all.map(|ticks| {
            let first = *ticks.first().ok_or("a client saw no tick before the attack")?;
            let seen = ticks.iter().filter(|&&tick| tick <= newest).count();
            Ok((seen, usize::try_from(newest - first)? + 1))
        });
        let seen = seen.collect::<Result<Vec<_>, Failure>>()?;
        seen.into_iter().max_by_key(|(seen, total)| total.saturating_sub(*seen)).ok_or_else(|| "nobody watches".into())
    }
}

/// The browser's client in Node, ended when dropped.
struct Page {
    program: Child,
    ticks: Receiver<u32>,
}

impl Page {
    fn open() -> Result<Page, Failure> {
        // Before Node 22 websockets are an experiment.
        let node = ["node", "--no-warnings", "--experimental-websocket", "--input-type=module", "--eval"];
        let mut command = command(&node);
        command.arg(include_str!("page.mjs")).arg(format!("http://{SERVER}/r/{ROOM}"));
        let mut program = command.stdout(Stdio::piped()).spawn()?;
        let stdout = program.stdout.take().ok_or("no standard output")?;
        let (sender, ticks) = mpsc::channel();
        std::thread::spawn(move || {
            let lines = BufReader::new(stdout).lines().map_while(Result::ok);
            for tick in lines.filter_map(|line| line.parse().ok()) {
                if sender.send(tick).is_err() {
                    return;
                }
            }
        });
        Ok(Page { program, ticks })
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        let _ = self.program.kill();
        let _ = self.program.wait();
    }
}

/// A player that sends inputs of one depth.
struct Nester {
    connection: Connection,
    value: Vec<u8>,
    number: u32,
}

impl Nester {
    fn join(depth: usize) -> Result<Nester, Failure> {
        let mut connection = Connection::open(attacker(depth))?;
        connection.upgrade(&format!("/r/{ROOM}"))?;
        connection.send(&join("nested"))?;
        // Arrays of one element, the innermost of none.
        let mut value = vec![0x91; depth];
        value[depth - 1] = 0x90;
        Ok(Nester { connection, value, number: 0 })
    }

    /// Sends the next input; one that was put out sends nothing more.
    fn send(&mut self) {
        self.number += 1;
        let body = msgpack::encode_inputs(self.number, std::iter::once((0, self.value.as_slice())));
        for part in frame::split(Kind::Input, false, &body, self.number.to_be_bytes()[3].into(), 0) {
            let mut bytes = Vec::new();
            part.encode(&mut bytes);
            let _ = self.connection.send(&websocket_frame(BINARY, &bytes));
        }
        while self.connection.read().is_ok_and(|more| more) {
            self.connection.take_frames(|_, _| ());
        }
    }
}
