//! The server's work per tick (encode, deflate, fan out) and per player (receiving).

#![allow(clippy::unwrap_used, reason = "a bench whose setup fails should stop")]
#![allow(missing_docs, reason = "criterion's macros make public functions")]

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use rtcade::game::{Batch, Context, Game, Join, Leave, PlayerId, Refusal, Tick};
use rtcade::limits;
use rtcade::sim::Simulation;
use rtcade::wire::{Deflater, Inflater, msgpack};

const TICK: Duration = Duration::from_millis(33);

/// A number, a position and an angle, as in the arena.
type Entity = (u32, i16, i16, u16);

fn world(entities: u32) -> Vec<Entity> {
    (1..=entities)
        .map(|id| {
            let spread = |factor: u32| (id.wrapping_mul(factor) % 4_000) as i16;
            (id, spread(2_654), spread(9_176), (id * 977 % 3_600) as u16)
        })
        .collect()
}

/// Sends a state of twelve entities every tick: about 140 bytes.
struct World(Vec<Entity>);

impl Game for World {
    type Input = u8;
    type Command = ();
    type State = Vec<Entity>;
    type Event = ();
    type Welcome = ();
    type JoinData = ();

    fn join(&mut self, _: &mut Context<World>, _: PlayerId, _: &Join<()>) -> Result<(), Refusal> {
        Ok(())
    }

    fn leave(&mut self, _: &mut Context<World>, _: PlayerId, _: Leave) {}

    fn tick(&mut self, ctx: &mut Context<World>, _: Tick, _: Batch<'_, World>) {
        ctx.state(&self.0).expect("it is short");
    }
}

fn bodies(c: &mut Criterion) {
    let mut group = c.benchmark_group("body");
    for entities in [4, 16, 64, 256] {
        let world = world(entities);
        let mut body = Vec::new();
        msgpack::encode_at_tick(1_000, &world, limits::STATE_BYTES, &mut body).expect("it fits");
        group.throughput(Throughput::Bytes(body.len() as u64));
        group.bench_with_input(BenchmarkId::new("encode", entities), &world, |b, world| {
            let mut encoded = Vec::new();
            b.iter(|| msgpack::encode_at_tick(1_000, black_box(world), limits::STATE_BYTES, &mut encoded));
        });
        let mut deflater = Deflater::new();
        let mut deflated = Vec::new();
        group.bench_with_input(BenchmarkId::new("deflate", entities), &body, |b, body| {
            b.iter(|| deflater.deflate(black_box(body), &mut deflated));
        });
        if deflater.deflate(&body, &mut deflated) {
            let mut inflater = Inflater::new();
            let mut inflated = Vec::new();
            group.bench_with_input(BenchmarkId::new("inflate", entities), &deflated, |b, deflated| {
                b.iter(|| inflater.inflate(black_box(deflated), limits::UNRELIABLE_BODY_BYTES, &mut inflated));
            });
        }
    }
    group.finish();
}

/// One tick of a room, from the game to encrypted datagrams, with players over real data channels.
#[expect(clippy::disallowed_methods, reason = "a bench reads the clock")]
fn fan_out(c: &mut Criterion) {
    let mut group = c.benchmark_group("fan_out");
    group.sample_size(10).measurement_time(Duration::from_secs(3)).warm_up_time(Duration::from_millis(500));
    for players in [8, 64, 256] {
        let mut sim =
            Simulation::with_config(1, |config| config.max_players = players, |_| Ok::<_, Refusal>(World(world(12))));
        for player in 0..players {
            sim.join("bench", &format!("player {player}"));
        }
        // The room's ticks stand at multiples of 33 ms; wait 1 ms before each.
        sim.run(TICK * 100 - Duration::from_millis(1));
        assert!(sim.clients().all(|id| sim[id].client.is_open()));
        group.throughput(Throughput::Elements(players as u64));
        group.bench_function(BenchmarkId::from_parameter(players), |b| {
            b.iter_custom(|ticks| {
                let mut spent = Duration::ZERO;
                for _ in 0..ticks {
                    sim.stand_still(Duration::from_millis(1));
                    let start = Instant::now();
                    sim.server.handle_timeout(sim.now());
                    let mut datagrams = 0;
                    while let Some(transmit) = sim.server.poll_transmit() {
                        black_box(transmit.bytes);
                        datagrams += 1;
                    }
                    spent += start.elapsed();
                    assert!(datagrams >= players);
                    sim.run(TICK - Duration::from_millis(1));
                }
                spent
            });
        });
    }
    group.finish();
}

criterion_group!(benches, bodies, fan_out);
criterion_main!(benches);
