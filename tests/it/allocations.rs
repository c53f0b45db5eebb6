//! The path of a message allocates nothing once its buffers have grown to their size.

use std::time::Duration;

use rtcade::endpoint::LocalId;
use rtcade::game::{Batch, Context, Game, Incoming, Join, Leave, PlayerId, Refusal, Tick};
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
    type Welcome = ();
    type JoinData = ();

    fn join(&mut self, _: &mut Context<World>, player: PlayerId, _: &Join<()>) -> Result<(), Refusal> {
        self.0.push((player.0, 0.0, 0.0));
        Ok(())
    }

    fn leave(&mut self, _: &mut Context<World>, _: PlayerId, _: Leave) {}

    fn tick(&mut self, ctx: &mut Context<World>, _: Tick, batch: Batch<'_, World>) {
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

#[derive(Debug, Default)]
struct Allocations {
    /// By received packet.
    packets: Vec<u64>,
    /// By tick.
    ticks: Vec<u64>,
    states: usize,
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
                counted.packets.extend(is_counted.then_some(spent.count_total));
            }
        }
        let spent = allocation_counter::measure(|| sim.server.handle_timeout(now));
        let mut down = Vec::new();
        while let Some(transmit) = sim.server.poll_transmit() {
            down.push((transmit.destination, transmit.bytes.to_vec()));
        }
        if is_counted {
            counted.states += down.len();
            counted.ticks.push(spent.count_total);
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

/// Once a second each end pings the other, and once in a while a heartbeat is due. The rest, inputs and states alone,
/// must allocate nothing.
#[test]
fn a_state_sent_and_an_input_received_allocate_nothing() {
    let Allocations { packets, ticks, states } = play();
    let (players, seconds) = (PLAYERS as usize, (TICKS as usize).div_ceil(30));
    assert!(packets.len() >= players * TICKS as usize && states >= players * TICKS as usize);
    let with = |counts: &[u64]| counts.iter().filter(|&&count| count > 0).count();
    let (of_packets, of_ticks) = (with(&packets), with(&ticks));
    // A ping and a pong of each player; the server's pings of players who joined together are due in one tick.
    assert!(of_packets <= 2 * players * seconds, "{of_packets} of {} packets allocate: {packets:?}", packets.len());
    assert!(of_ticks <= 2 * seconds, "{of_ticks} of {} ticks allocate: {ticks:?}", ticks.len());
}
