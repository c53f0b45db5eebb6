//! Fanned-out inputs and their limits: whatever one end accepts, the other can decode.

use std::time::Duration;

use rtcade::client::Event;
use rtcade::game::{Batch, Context, Game, Incoming, Join, Leave, PlayerId, Refusal, Tick};
use rtcade::games::Relay;
use rtcade::limits;
use rtcade::sim::{Node, Path, RateLimit, Simulation};
use rtcade::wire::msgpack;
use rtcade::wire::msgpack::SendError;
use serde_json::{Value, json};

use crate::simulation;

const MS: Duration = Duration::from_millis(1);

fn nested(depth: usize) -> Value {
    (1..depth).fold(json!([]), |inside, _| json!([inside]))
}

#[test]
fn inputs_of_any_depth_that_may_be_sent_reach_every_player_and_every_tick_comes() {
    let mut sim = simulation(1, |_| Ok(Relay));
    let players = ["one", "two", "three"].map(|name| sim.join("relay", name));
    sim.run(1_000 * MS);
    let deepest = limits::MSGPACK_DEPTH;
    for depth in 1..=deepest {
        sim.send(players[0], &nested(depth));
        sim.run(100 * MS);
    }
    let now = sim.now();
    for depth in [deepest + 1, 100] {
        let refused = sim[players[0]].client.send(now, &nested(depth));
        assert!(matches!(refused, Err(SendError::Unencodable(_))), "{refused:?}");
    }
    sim.run(500 * MS);
    for player in players {
        let (mut ticks, mut values) = (Vec::new(), Vec::new());
        for (_, event) in &sim[player].events {
            assert!(!matches!(event, Event::TicksLost { .. } | Event::Closed { .. }), "{event:?}");
            if let Event::Tick { tick, inputs } = event {
                ticks.push(*tick);
                values.extend(inputs.iter().map(|input| msgpack::decode::<Value>(&input.value).unwrap()));
            }
        }
        assert!(ticks.windows(2).all(|pair| pair[1] == pair[0] + 1), "{ticks:?}");
        assert!(values.into_iter().eq((1..=deepest).map(nested)));
        assert_eq!(sim[player].client.stats().bad_frames, 0);
    }
}

#[test]
fn a_command_of_too_many_elements_is_refused_where_it_is_sent() {
    let mut sim = simulation(1, |_| Ok(Relay));
    let player = sim.join("relay", "one");
    sim.run(1_000 * MS);
    let now = sim.now();
    let client = &mut sim[player].client;
    assert_eq!(client.command(now, &vec![0; limits::MSGPACK_ITEMS]), Ok(()));
    assert!(matches!(client.command(now, &vec![0; limits::MSGPACK_ITEMS + 1]), Err(SendError::Unencodable(_))));
    sim.run(1_000 * MS);
    assert!(!sim[player].events.iter().any(|(_, event)| matches!(event, Event::Closed { .. })));
}

/// Counts inputs.
struct Counting(u32);

impl Game for Counting {
    type Input = u32;
    type Command = ();
    type State = ();
    type Event = ();
    type Welcome = ();
    type JoinData = ();

    fn join(&mut self, _: &mut Context<Self>, _: PlayerId, _: &Join<()>) -> Result<(), Refusal> {
        Ok(())
    }

    fn leave(&mut self, _: &mut Context<Self>, _: PlayerId, _: Leave) {}

    fn tick(&mut self, _: &mut Context<Self>, _: Tick, batch: Batch<'_, Self>) {
        for message in batch {
            let Incoming::Input { input, .. } = message else { continue };
            self.0 += 1;
            assert_eq!(self.0, input, "each once and in order");
        }
    }
}

#[test]
fn inputs_of_sixty_a_second_reach_the_game_in_long_ticks() {
    for tick_ms in [133, 200, 1_000] {
        let mut sim = Simulation::with_config(1, |config| config.tick = tick_ms * MS, |_| Ok(Counting(0)));
        let player = sim.join("slow", "one");
        sim.run(3_000 * MS);
        let mut sent = 0;
        sim.run_every(Duration::from_micros(16_667), 5_000 * MS, |sim| {
            sent += 1;
            sim.send(player, &sent);
        });
        sim.run(2_000 * MS);
        let heard = sim.game("slow").map(|game| game.0);
        assert_eq!((heard, sim.server.counters().overflowed_inputs), (Some(sent), 0), "ticks of {tick_ms} ms");
    }
}

/// A path that carries less than half of what a relay room of four sends.
fn narrow() -> Path {
    let limit = RateLimit::new(6_000, 12_000);
    let down = vec![Node::Jitter(10 * MS), Node::RateLimit(limit), Node::Latency(25 * MS)];
    Path { down, ..Path::new(25 * MS) }
}

#[test]
fn ticks_that_back_off_leaves_out_come_in_the_next_window() {
    let mut sim = simulation(3, |_| Ok(Relay));
    let players: Vec<_> = (0..4).map(|number| sim.join("relay", &format!("player {number}"))).collect();
    sim.run(3_000 * MS);
    let mut noise = 1_u32;
    let mut play = |sim: &mut Simulation<Relay>| {
        for &player in &players {
            let input: String = (0..20)
                .map(|_| {
                    noise = noise.wrapping_mul(747_796_405).wrapping_add(2_891_336_453);
                    char::from(32 + u8::try_from((noise >> 24) % 90).unwrap())
                })
                .collect();
            sim.send(player, &input);
        }
    };
    for &player in &players[..2] {
        sim.set_path(player, narrow());
    }
    sim.run_every(33 * MS, 15_000 * MS, &mut play);
    let sent_up = |sim: &Simulation<Relay>| players.iter().map(|&player| sim[player].websocket_up().sent).sum::<u64>();
    let (held_back, before) = (sim.server.counters().held_back, sent_up(&sim));
    sim.run_every(33 * MS, 10_000 * MS, &mut play);
    let held_back = sim.server.counters().held_back - held_back;
    assert!(held_back > 100, "{held_back} held back: nothing was left out");
    // Each client answers a heartbeat every 1.2 s; a request for each gap would come on top.
    let asked = (sent_up(&sim) - before).saturating_sub(4 * 9);
    assert!(asked <= held_back / 20, "of {held_back} held back, {asked} were asked for");
}
