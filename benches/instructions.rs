//! The cost of messages and ticks in the server, for `benches/instructions.sh` to count, without the kernel's part.
//!
//! `send TICKS` fans out a state of 200 bytes to 50 players for this number of ticks. `receive PACKETS` receives this
//! number of packets of one player, each with eight inputs of 37 bytes, one of them new. `tick TICKS` runs this number
//! of ticks with 50 players, receiving an input of each and sending a state; `recorded TICKS` does the same with a
//! recording. The setup does not depend on the number, so the difference between two runs is the cost.

#![allow(clippy::unwrap_used, reason = "a count whose setup fails should stop")]

use std::time::Duration;

use rtcade::endpoint::LocalId;
use rtcade::game::{Context, Game, Incoming, Join, Leave, PlayerId, Refusal, Tick, Welcome};
use rtcade::rand::Rng;
use rtcade::sim::Simulation;

const TICK: Duration = Duration::from_millis(33);
const PLAYERS: usize = 50;
const STATE_BYTES: usize = 200;
/// An ICE-lite end gives a silent peer up after 15 s.
const MOST: usize = 400;
const MOST_TICKS: usize = 40;
const WAITING_BYTES: usize = 64 * 1024;

struct Noise;

impl Game for Noise {
    type Input = [f64; 4];
    type Command = ();
    type State = Vec<u8>;
    type Event = ();

    fn join(&mut self, _: &mut Context<Noise>, _: PlayerId, _: &Join) -> Result<Welcome, Refusal> {
        Ok(Welcome::default())
    }

    fn leave(&mut self, _: &mut Context<Noise>, _: PlayerId, _: Leave) {}

    fn tick(&mut self, ctx: &mut Context<Noise>, _: Tick, _: &[Incoming<Noise>]) {
        let noise: Vec<u8> = (0..STATE_BYTES - 10).map(|_| ctx.rng().next_u32().to_le_bytes()[0] & 0x7f).collect();
        ctx.state(&noise).unwrap();
    }
}

fn joined(players: usize, recorded: bool) -> Simulation<Noise> {
    let mut sim = Simulation::with_config(1, |config| config.max_players = players, |_| Ok::<_, Refusal>(Noise));
    if recorded {
        // As the driver does: blocks are copied to where another thread fetches them.
        sim.server.record(|_| {
            let mut waiting = Vec::new();
            Box::new(move |block| {
                if waiting.len() > WAITING_BYTES {
                    waiting.clear();
                }
                waiting.extend_from_slice(block);
            })
        });
    }
    for player in 0..players {
        sim.join("count", &format!("player {player}"));
    }
    // The room's ticks stand at multiples of 33 ms.
    sim.run(TICK * 60 - Duration::from_millis(1));
    assert!(sim.clients().all(|id| sim[id].client.is_open()));
    sim
}

fn send(ticks: usize) {
    let mut sim = joined(PLAYERS, false);
    sim.stand_still(Duration::from_millis(1));
    let mut sent = 0;
    for _ in 0..ticks {
        sim.server.handle_timeout(sim.now());
        while sim.server.poll_transmit().is_some() {
            sent += 1;
        }
        sim.stand_still(TICK);
    }
    assert!(sent >= ticks * PLAYERS);
}

fn receive(packets: usize) {
    let mut sim = joined(1, false);
    let ada = sim.clients().next().unwrap();
    let mut datagrams = Vec::new();
    while datagrams.len() < MOST {
        sim.stand_still(Duration::from_millis(10));
        sim.send(ada, &[0.1f64; 4]);
        while let Some(transmit) = sim[ada].client.poll_transmit() {
            datagrams.push(transmit.bytes.to_vec());
        }
    }
    for datagram in &datagrams[..packets] {
        sim.server.handle_datagram(sim.now(), LocalId(0), sim[ada].address(), datagram);
        sim.stand_still(Duration::from_millis(5));
    }
    assert_eq!(sim.server.counters().bad_frames + sim.server.counters().excess_frames, 0);
}

fn tick(ticks: usize, recorded: bool) {
    let mut sim = joined(PLAYERS, recorded);
    sim.stand_still(Duration::from_millis(1));
    let clients: Vec<_> = sim.clients().collect();
    let mut datagrams = Vec::new();
    for _ in 0..MOST_TICKS {
        for &client in &clients {
            sim.send(client, &[0.1f64; 4]);
            while let Some(transmit) = sim[client].client.poll_transmit() {
                datagrams.push((client, transmit.bytes.to_vec()));
            }
        }
        sim.stand_still(TICK);
    }
    let mut sent = 0;
    for _ in 0..ticks {
        for (client, datagram) in datagrams.drain(..PLAYERS) {
            sim.server.handle_datagram(sim.now(), LocalId(0), sim[client].address(), &datagram);
        }
        sim.stand_still(TICK);
        sim.server.handle_timeout(sim.now());
        while sim.server.poll_transmit().is_some() {
            sent += 1;
        }
    }
    assert!(sent >= ticks * PLAYERS);
    assert_eq!(sim.server.counters().bad_frames + sim.server.counters().excess_frames, 0);
}

fn main() {
    let mut arguments = std::env::args().skip(1).filter(|argument| argument != "--bench");
    let (Some(what), Some(count)) = (arguments.next(), arguments.next()) else {
        println!("benches/instructions.sh counts the instructions of a message");
        return;
    };
    let count = count.parse().ok().filter(|&count| count <= MOST).unwrap();
    match what.as_str() {
        "send" => send(count),
        "receive" => receive(count),
        "tick" => tick(count, false),
        "recorded" => tick(count, true),
        other => panic!("{other} is none of send, receive, tick and recorded"),
    }
}
