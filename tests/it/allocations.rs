//! The path of a message allocates nothing once its buffers have grown to their size.

use std::time::Duration;

use rtcade::endpoint::LocalId;
use rtcade::game::{Context, Game, Incoming, Join, Leave, PlayerId, Refusal, Tick, Welcome};
use rtcade::server::Signal;
use rtcade::sim::{ClientId, SERVER, Simulation};

const TICK: Duration = Duration::from_millis(33);
const PLAYERS: u32 = 20;
/// Channels open and buffers grow meanwhile.
const WARM_UP: u32 = 150;
const TICKS: u32 = 300;

type Entity = (u32, f32, f32);

/// Sends what every player's entity has become. The game itself allocates nothing in a tick.
struct World(Vec<Entity>);

impl Game for World {
    type Input = (f32, f32, bool);
    type Command = ();
    type State = Vec<Entity>;
    type Event = ();

    fn join(&mut self, _: &mut Context<World>, player: PlayerId, _: &Join) -> Result<Welcome, Refusal> {
        self.0.push((player.0, 0.0, 0.0));
        Ok(Welcome::default())
    }

    fn leave(&mut self, _: &mut Context<World>, _: PlayerId, _: Leave) {}

    fn tick(&mut self, ctx: &mut Context<World>, _: Tick, batch: &[Incoming<World>]) {
        for incoming in batch {
            if let Incoming::Input { player, input: (right, down, _), .. } = incoming
                && let Some(entity) = self.0.iter_mut().find(|entity| entity.0 == player.0)
            {
                entity.1 += right;
                entity.2 += down;
            }
        }
        ctx.state(&self.0).expect("it fits");
    }
}

#[derive(Debug, Default, PartialEq)]
struct Allocations {
    packets: u32,
    by_packets: u64,
    states: u32,
    by_states: u64,
    ticks_without: u32,
}

/// Plays over a network without latency, and counts the allocations of the server.
fn play() -> Allocations {
    let mut sim = Simulation::with_config(1, |config| config.max_players = 32, |_| Ok::<_, Refusal>(World(Vec::new())));
    let clients: Vec<ClientId> = (0..PLAYERS).map(|n| sim.join("count", &format!("player {n}"))).collect();
    sim.run(TICK * 60 - Duration::from_millis(1));
    assert!(clients.iter().all(|&id| sim[id].client.is_open()));
    sim.stand_still(Duration::from_millis(1));
    let mut counted = Allocations::default();
    for tick in 0..WARM_UP + TICKS {
        let is_counted = tick >= WARM_UP;
        let now = sim.now();
        for (&id, turn) in clients.iter().zip(0_u8..) {
            sim.send(id, &(f32::from(turn) + 0.1, 0.3_f32, tick % 7 == 0));
            let end = &mut sim[id];
            if end.client.poll_timeout().is_some_and(|at| at <= now) {
                end.client.handle_timeout(now);
            }
            let mut up = Vec::new();
            while let Some(transmit) = end.client.poll_transmit() {
                up.push(transmit.bytes.to_vec());
            }
            let address = end.address();
            for bytes in up {
                let spent = allocation_counter::measure(|| {
                    sim.server.handle_datagram(now, now, LocalId(0), address, &bytes);
                });
                counted.packets += u32::from(is_counted);
                counted.by_packets += if is_counted { spent.count_total } else { 0 };
            }
        }
        let spent = allocation_counter::measure(|| sim.server.handle_timeout(now));
        let mut down = Vec::new();
        while let Some(transmit) = sim.server.poll_transmit() {
            down.push((transmit.destination, transmit.bytes.to_vec()));
        }
        if is_counted {
            counted.states += u32::try_from(down.len()).expect("few");
            counted.by_states += spent.count_total;
            counted.ticks_without += u32::from(spent.count_total == 0);
        }
        for (destination, bytes) in down {
            let id = clients.iter().find(|&&id| sim[id].address() == destination).copied().expect("a client's");
            sim[id].client.handle_datagram(now, LocalId(0), SERVER, &bytes);
            while sim[id].client.poll_event().is_some() {}
        }
        while let Some(connection) = sim.server.poll_signal_ready() {
            while let Some(signal) = sim.server.poll_signal(connection) {
                if let Signal::Ping(payload) = signal {
                    sim.server.handle_pong(now, connection, &payload.to_be_bytes());
                }
            }
        }
        sim.stand_still(TICK);
    }
    counted
}

#[test]
fn a_state_sent_and_an_input_received_allocate_nothing() {
    let counted = play();
    println!("{counted:?}");
    assert!(counted.packets >= PLAYERS * TICKS && counted.states >= PLAYERS * TICKS);
    assert_eq!(counted.by_packets, 0, "{counted:?}");
    assert_eq!(counted.by_states, 0, "{counted:?}");
}
