//! Reproducibility: with the same seed a game gets the same inputs in every run, whatever the network does.

use std::process::Command;
use std::time::Duration;

use rtcade::game::{Batch, Context, Game, Incoming, Join, Leave, Link, PlayerId, Refusal, Tick};
use rtcade::sim::{Node, Path, RateLimit, Simulation};

const MS: Duration = Duration::from_millis(1);
/// Some bytes to carry.
const SINCE: u64 = (1 << 53) - 1;

/// Writes down everything that it is told.
#[derive(Default)]
struct Diary {
    links: Vec<(PlayerId, Link)>,
    lines: Vec<String>,
}

impl Game for Diary {
    type Input = (u32, u64);
    type Command = u32;
    type State = (u32, u64);
    type Event = ();
    type Welcome = ();
    type JoinData = ();

    fn join(&mut self, ctx: &mut Context<Diary>, player: PlayerId, join: &Join<()>) -> Result<(), Refusal> {
        let luck: u32 = rtcade::rand::RngExt::random(ctx.rng());
        self.lines.push(format!("{player} joins as {}, {luck}", join.name));
        Ok(())
    }

    fn leave(&mut self, _: &mut Context<Diary>, player: PlayerId, reason: Leave) {
        self.lines.push(format!("{player} leaves: {reason:?}"));
    }

    fn tick(&mut self, ctx: &mut Context<Diary>, tick: Tick, batch: Batch<'_, Diary>) {
        for incoming in batch {
            self.lines.push(match incoming {
                Incoming::Input { player, input, .. } => format!("{tick:?}: {player} sends {input:?}"),
                Incoming::Command { player, command, .. } => format!("{tick:?}: {player} commands {command}"),
                _ => unreachable!("there are inputs and commands"),
            });
        }
        let links: Vec<_> = ctx.players().map(|player| (player.id, player.link)).collect();
        if links != self.links {
            self.lines.push(format!("{tick:?}: {links:?}"));
            self.links = links;
        }
        ctx.state(&(tick.number, SINCE)).expect("it fits");
        if tick.number.is_multiple_of(20) {
            ctx.event(rtcade::game::Target::All, &(), rtcade::game::Lane::Reliable).expect("it fits");
        }
    }
}

const NETWORKS: [&str; 8] = ["loss", "jitter", "bursts", "narrow", "doubled", "rebinding", "mtu", "all of it"];

fn network(name: &str) -> Path {
    let nodes = [
        ("loss", Node::Loss { permille: 200 }),
        ("jitter", Node::Jitter(60 * MS)),
        ("bursts", Node::BurstLoss { permille: 30, longest: 12 }),
        ("narrow", Node::RateLimit(RateLimit::new(5_000, 3_000))),
        ("doubled", Node::Duplicate { permille: 300 }),
        ("rebinding", Node::Rebinding(3_700 * MS)),
        // Between the lengths of the datagrams of a handshake, and of the certificates in them.
        ("mtu", Node::Mtu(700)),
        ("all of it", Node::Reorder { permille: 100, by: 90 * MS }),
    ];
    nodes.iter().filter(|(node, _)| *node == name || name == "all of it").fold(
        Path::new(40 * MS),
        // A datagram of a handshake must get through sometimes.
        |path, (node, what)| if name == "all of it" && *node == "mtu" { path } else { path.with(what) },
    )
}

/// All that the game and the players were told.
fn story(seed: u64, name: &'static str) -> Vec<String> {
    let mut sim = Simulation::new(seed, |_| Ok(Diary::default()));
    sim.set_paths(move || network(name));
    let players: Vec<_> = (0..3)
        .map(|number| {
            sim.run(70 * MS);
            sim.join("story", &format!("player {number}"))
        })
        .collect();
    let mut said = 0;
    sim.run_every(41 * MS, Duration::from_secs(12), |sim| {
        said += 1;
        for &player in &players {
            sim.send(player, &(said, SINCE));
        }
        if said == 100 {
            sim.rebind(players[1]);
            sim.command(players[0], &said);
        }
        if said == 200 {
            sim.leave(players[2]);
        }
    });
    let mut story = sim.game("story").expect("the room is there").lines.clone();
    for player in players {
        let end = &sim[player];
        story.push(format!("{:?} {:?} {:?}", end.up(), end.down(), end.client.stats()));
        story.push(format!("{:?} {:?}", end.websocket_up(), end.websocket_down()));
        story.extend(end.events.iter().map(|event| format!("{player:?}: {event:?}")));
    }
    story.push(format!("{:?}", sim.server.counters()));
    story
}

/// FNV-1a: short enough to compare across processes, and the same in all of them.
fn digest(story: &[String]) -> u64 {
    let bytes = story.iter().flat_map(|line| line.bytes());
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3))
}

fn digests() -> String {
    let digests = NETWORKS.iter().map(|name| format!("{name} {:016x}", digest(&story(11, name))));
    digests.collect::<Vec<_>>().join("\n")
}

#[test]
fn one_seed_tells_one_story() {
    for name in NETWORKS {
        let [first, again] = [(); 2].map(|()| story(1, name));
        assert!(first.iter().any(|line| line.contains("joins")), "{name}: {first:?}");
        let difference = first.iter().zip(&again).position(|(one, other)| one != other);
        if let Some(at) = difference {
            panic!("{name}: line {at} is\n  {}\nand then\n  {}", first[at], again[at]);
        }
        assert_eq!(first.len(), again.len(), "{name}");
        assert_ne!(first, story(2, name), "{name}: another seed tells another");
    }
}

const TOLD: &str = "stories: ";

/// Run by [`two_processes_tell_one_story`] in a process of its own.
#[test]
#[ignore = "prints what another test compares"]
fn tell() {
    println!("{TOLD}{}", digests().replace('\n', ";"));
}

#[test]
fn two_processes_tell_one_story() {
    let program = std::env::current_exe().expect("this program has a path");
    let output = Command::new(program)
        .args(["--exact", "reproducible::tell", "--ignored", "--nocapture"])
        .output()
        .expect("this program can be run");
    let text = String::from_utf8_lossy(&output.stdout);
    let told = text.lines().find_map(|line| line.split_once(TOLD)).map(|(_, told)| told.replace(';', "\n"));
    assert_eq!(told.as_deref(), Some(digests().as_str()), "{text}");
}
