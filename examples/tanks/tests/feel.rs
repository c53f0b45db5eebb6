//! What `docs/src/feel.md` states of the page, in virtual time: the modules of the page play against the server over a
//! network that delays and loses.
//!
//! `TANKS_SEEDS` is the number of seeds, `TANKS_FIRST_SEED` the first of them.

use std::io::{BufRead, BufReader, Write};
use std::process::{ChildStdin, ChildStdout};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use rtcade::client::Event as Received;
use rtcade::game::Random;
use serde_json::json;

use super::*;

const ROOM: &str = "far";
const FRAMES_PER_S: u32 = 60;
/// Frames in which the own tank drives about, and then those in which it rams others.
const DRIVING: u32 = 30 * FRAMES_PER_S;
const RAMMING: u32 = 12 * FRAMES_PER_S;

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name} is a number")))
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1_000.0
}

/// An input of the page, and the tick that it shows of the others.
#[derive(Deserialize)]
struct Sent {
    number: u32,
    seen: Option<f64>,
    input: Input,
}

/// What a player holds, until they change their mind.
struct Hands {
    random: Random,
    input: Input,
    frames: u32,
}

impl Hands {
    fn new(seed: u64) -> Hands {
        Hands { random: Random::new(seed), input: Input::default(), frames: 0 }
    }

    fn hold(&mut self) -> Input {
        if self.frames == 0 {
            let random = &mut self.random;
            self.frames = random.random_range(1..60);
            self.input = Input {
                drive: [1, 1, 1, 0, -1][random.random_range(0..5)],
                turn: random.random_range(-1..=1),
                aim: random.random_range(0..rules::HEADINGS),
                fire: random.random_ratio(1, 3),
            };
        }
        self.frames -= 1;
        self.input
    }
}

/// The page, in a process of its own.
struct Page {
    process: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
}

impl Page {
    fn open(start: &impl Serialize) -> Page {
        let mut process = node("page.mjs");
        let (to, from) = (process.stdin.take().unwrap(), process.stdout.take().unwrap());
        let mut page = Page { process, to, from: BufReader::new(from) };
        page.write(start);
        page
    }

    fn write(&mut self, message: &impl Serialize) {
        let line = serde_json::to_string(message).unwrap();
        writeln!(self.to, "{line}").expect("the page has ended, and says why above");
    }

    fn read<T: serde::de::DeserializeOwned>(&mut self) -> T {
        let mut line = String::new();
        self.from.read_line(&mut line).unwrap();
        serde_json::from_str(&line).expect("the page has ended, and says why above")
    }

    /// Ends the page, and returns its figures.
    fn close(self) -> serde_json::Value {
        let Page { mut process, to, mut from } = self;
        drop(to);
        let mut line = String::new();
        from.read_line(&mut line).unwrap();
        assert!(process.wait().unwrap().success(), "the page is not as good as stated, see above");
        serde_json::from_str(&line).unwrap()
    }
}

/// A player whose inputs are those of the page, a second one, bots, and one without a network who sees every state.
struct Match {
    sim: Simulation<Tanks>,
    own: ClientId,
    second: ClientId,
    witness: ClientId,
    /// Of the events of the own client and of the witness, those that the page has.
    told: [usize; 2],
    rtt: f64,
}

impl Match {
    fn new(seed: u64) -> Match {
        let mut sim = Simulation::new(seed, |room| Ok(Tanks::new(room)));
        sim.set_paths(|| Path::new(ONE_WAY).with(&Node::Jitter(10 * MS)).with(&Node::Loss { permille: 50 }));
        let [own, second, witness] = ["own", "second", "witness"].map(|name| sim.join(ROOM, name));
        sim.set_path(witness, Path::new(Duration::ZERO));
        let is_open = |sim: &Simulation<Tanks>| [own, second, witness].iter().all(|&id| sim[id].client.is_open());
        for _ in 0..200 {
            if is_open(&sim) {
                break;
            }
            sim.run(100 * MS);
        }
        assert!(is_open(&sim));
        Match { sim, own, second, witness, told: [0; 2], rtt: 0.0 }
    }

    fn start(&mut self) -> serde_json::Value {
        let events = &self.sim[self.own].events;
        let joined = events.iter().find_map(|(_, event)| match event {
            Received::Joined { player, welcome } => Some((*player, welcome.clone())),
            _ => None,
        });
        let (me, welcome) = joined.unwrap();
        let tick = events.iter().rev().find_map(|(_, event)| match event {
            Received::State { tick, .. } => Some(*tick),
            _ => None,
        });
        self.told = [self.own, self.witness].map(|client| self.sim[client].events.len());
        json!({ "at": ms(self.sim.elapsed()), "me": me, "welcome": welcome, "tick_ms": ms(TICK), "tick": tick })
    }

    fn untold(&mut self, client: ClientId, which: usize) -> Vec<serde_json::Value> {
        let events = &self.sim[client].events;
        let untold = &events[std::mem::replace(&mut self.told[which], events.len())..];
        let told = untold.iter().filter_map(|(at, event)| match event {
            Received::State { tick, consumed, value } => {
                let body = BASE64_STANDARD.encode(value);
                Some(json!({ "at": ms(*at), "kind": "state", "tick": tick, "consumed": consumed, "body": body }))
            }
            Received::Event { tick, .. } => Some(json!({ "at": ms(*at), "kind": "event", "tick": tick })),
            Received::ChannelClosed { .. } | Received::Dropped => panic!("the connection is lost: {event:?}"),
            _ => None,
        });
        told.collect()
    }

    fn frame(&mut self, input: Input, is_chasing: bool) -> serde_json::Value {
        let mut arrived = self.untold(self.own, 0);
        let mut truth = self.untold(self.witness, 1);
        truth.retain(|told| told["kind"] == "state");
        let at = ms(self.sim.elapsed());
        let rtt = self.sim[self.own].client.stats().rtt_ms;
        if rtt != self.rtt {
            self.rtt = rtt;
            arrived.push(json!({ "at": at, "kind": "pong", "rtt": rtt }));
        }
        json!({ "at": at, "arrived": arrived, "truth": truth, "input": input, "is_chasing": is_chasing })
    }
}

fn play(seed: u64) -> serde_json::Value {
    let mut game = Match::new(seed);
    let mut page = Page::open(&game.start());
    let (mut own, mut second) = (Hands::new(seed), Hands::new(!seed));
    let started = game.sim.elapsed();
    let mut second_sends_at = started;
    for frame in 1..=DRIVING + RAMMING {
        game.sim.run(started + Duration::from_secs(1) * frame / FRAMES_PER_S - game.sim.elapsed());
        page.write(&game.frame(own.hold(), frame > DRIVING));
        for Sent { number, seen, input } in page.read::<Vec<Sent>>() {
            game.sim[game.own].client.set_render_tick(seen);
            assert_eq!(game.sim.send(game.own, &input), number);
        }
        if second_sends_at <= game.sim.elapsed() {
            second_sends_at += TICK;
            game.sim.send(game.second, &second.hold());
        }
    }
    page.close()
}

#[test]
fn at_150_ms_and_5_percent_loss_the_page_is_as_good_as_stated() {
    let first = number("TANKS_FIRST_SEED", 1);
    for seed in first..first + number("TANKS_SEEDS", 8) {
        println!(
            "TANKS_FIRST_SEED={seed} TANKS_SEEDS=1 cargo test --all-features --example tanks -- --nocapture as_stated"
        );
        println!("seed {seed}: {}", play(seed));
    }
}
