//! Deltas of states: whatever the network does, each state that a player gets is, byte by byte, one that the room sent.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use rtcade::client::Event;
use rtcade::game::{Batch, Context, Game, Join, Leave, PlayerId, Refusal, Tick};
use rtcade::rand::RngExt;
use rtcade::sim::{ClientId, Node, Path, Simulation};
use rtcade::wire::msgpack;

const MS: Duration = Duration::from_millis(1);

type Entity = (u32, i32, i32, String);
/// What was sent in a tick, to all or to one player.
type Said = Rc<RefCell<BTreeMap<(u32, Option<u32>), Vec<u8>>>>;

/// Entities that move, come and go.
struct Drift {
    entities: Vec<Entity>,
    next: u32,
    /// Each player gets a state of their own in each of so many ticks; 0 stands for none.
    own: u32,
    /// A state is sent in each of so many ticks.
    every: u32,
    said: Said,
}

impl Drift {
    fn new(own: u32, every: u32, said: &Said) -> Drift {
        Drift { entities: Vec::new(), next: 0, own, every, said: said.clone() }
    }

    fn drift(&mut self, ctx: &mut Context<Drift>) {
        for entity in &mut self.entities {
            if ctx.rng().random_ratio(1, 3) {
                entity.1 += ctx.rng().random_range(-500..500);
                entity.2 += ctx.rng().random_range(-5..5);
            }
        }
        if self.entities.len() < 20 || ctx.rng().random_ratio(1, 20) {
            let at = ctx.rng().random_range(0..=self.entities.len());
            self.next += 1;
            self.entities.insert(at, (self.next, 8_000, 0, format!("entity {}", self.next)));
        }
        if self.entities.len() > 40 {
            let at = ctx.rng().random_range(0..self.entities.len());
            self.entities.swap_remove(at);
        }
    }
}

impl Game for Drift {
    type Input = u32;
    type Command = ();
    type State = Vec<Entity>;
    type Event = ();
    type Welcome = ();
    type JoinData = ();

    fn join(&mut self, _: &mut Context<Drift>, _: PlayerId, _: &Join<()>) -> Result<(), Refusal> {
        Ok(())
    }

    fn leave(&mut self, _: &mut Context<Drift>, _: PlayerId, _: Leave) {}

    fn tick(&mut self, ctx: &mut Context<Drift>, tick: Tick, _: Batch<'_, Drift>) {
        self.drift(ctx);
        if !tick.number.is_multiple_of(self.every) {
            return;
        }
        let encoded = |state: &Vec<Entity>| msgpack::encode(state, usize::MAX).unwrap();
        if self.own > 0 && tick.number.is_multiple_of(self.own) {
            // Every fifth player sees the same.
            let entities = &self.entities;
            let own_of = |player: PlayerId| entities.iter().skip(player.0 as usize % 5).cloned().collect::<Vec<_>>();
            let players: Vec<PlayerId> = ctx.players().map(|player| player.id).collect();
            for &player in &players {
                self.said.borrow_mut().insert((tick.number, Some(player.0)), encoded(&own_of(player)));
            }
            if tick.number.is_multiple_of(2) {
                ctx.state_for_each(own_of).unwrap();
            } else {
                players.into_iter().for_each(|player| ctx.state_to(player, &own_of(player)).unwrap());
            }
        } else {
            self.said.borrow_mut().insert((tick.number, None), encoded(&self.entities));
            ctx.state(&self.entities).unwrap();
        }
    }
}

/// Checks what a client has received, and returns how many states that were.
fn check(sim: &Simulation<Drift>, said: &Said, client: ClientId) -> usize {
    let said = said.borrow();
    let mut me = 0;
    let mut states = 0;
    for (_, event) in &sim[client].events {
        match event {
            Event::Joined { player, .. } => me = *player,
            Event::State { tick, value, .. } => {
                let sent = said.get(&(*tick, None)).or_else(|| said.get(&(*tick, Some(me))));
                assert!(sent == Some(value), "the state of tick {tick} for player {me} is another");
                states += 1;
            }
            _ => {}
        }
    }
    let stats = sim[client].client.stats();
    // The baseline of what comes late may no longer be held.
    assert!(stats.bad_frames == 0 && stats.unrestored_states <= stats.late_frames, "{stats:?}");
    states
}

/// Lets eight players play, half of whom send nothing.
fn play(sim: &mut Simulation<Drift>, time: Duration) {
    let clients: Vec<ClientId> = sim.clients().collect();
    sim.run_every(33 * MS, time, |sim| {
        for &client in clients.iter().step_by(2) {
            sim.send(client, &1);
        }
    });
}

#[test]
fn players_get_what_the_room_has_sent_over_any_network() {
    type Network = (&'static str, u64, fn() -> Path);
    let networks: [Network; 7] = [
        ("lan", 1, || Path::new(MS)),
        ("far away", 60, || Path::new(130 * MS)),
        ("lossy", 60, || Path::new(25 * MS).with(&Node::Loss { permille: 50 })),
        ("very lossy", 200, || Path::new(25 * MS).with(&Node::Loss { permille: 200 })),
        ("reordering", 60, || Path::new(25 * MS).with(&Node::Reorder { permille: 100, by: 60 * MS })),
        ("twice", 10, || Path::new(25 * MS).with(&Node::Duplicate { permille: 300 })),
        ("no udp", 60, || Path::new(25 * MS).with(&Node::NoUdp)),
    ];
    for (name, most_whole_permille, path) in networks {
        for (own, every) in [(0, 1), (1, 1), (8, 1), (0, 3)] {
            println!("{name}, own: each {own} ticks, each {every} ticks");
            let said = Said::default();
            let of_room = said.clone();
            let mut sim = crate::simulation(1, move |_| Ok(Drift::new(own, every, &of_room)));
            sim.set_paths(path);
            let clients: Vec<ClientId> = (0..8).map(|number| sim.join("drift", &format!("player {number}"))).collect();
            play(&mut sim, 4_000 * MS);
            let before = sim.server.counters().states;
            play(&mut sim, 6_000 * MS);
            let after = sim.server.counters().states;
            for &client in &clients {
                let states = check(&sim, &said, client);
                assert!(states > 100 / every as usize, "{states} states");
            }
            let (whole, deltas) = (after.whole - before.whole, after.deltas - before.deltas);
            let permille = 1_000 * whole / (whole + deltas);
            assert!(permille <= most_whole_permille, "{permille} ‰ of {} are whole", whole + deltas);
            let sent = after.whole_bytes + after.delta_bytes - before.whole_bytes - before.delta_bytes;
            assert!(2 * sent < after.encoded_bytes - before.encoded_bytes, "{sent} bytes");
        }
    }
}

#[test]
fn players_who_come_back_and_servers_that_restart_go_on_with_states_that_are_held() {
    for seed in 1..=4 {
        println!("seed {seed}");
        let own = u32::try_from(seed % 2).expect("0 or 1");
        let said = Said::default();
        let of_room = said.clone();
        let mut sim = crate::simulation(seed, move |_| Ok(Drift::new(own, 1, &of_room)));
        sim.set_paths(|| {
            let outage = 3_000 * MS..4_200 * MS;
            Path::new(25 * MS).with(&Node::Loss { permille: 20 }).with(&Node::Blackout(outage))
        });
        let clients: Vec<ClientId> = (0..4).map(|number| sim.join("drift", &format!("player {number}"))).collect();
        play(&mut sim, 6_000 * MS);
        sim.break_websocket(clients[0]);
        sim.rebind(clients[1]);
        play(&mut sim, 3_000 * MS);
        sim.leave(clients[2]);
        let late = sim.join("drift", "late");
        play(&mut sim, 3_000 * MS);
        for &client in clients.iter().chain([&late]) {
            assert!(check(&sim, &said, client) > 50);
        }
        // The ticks of the room begin anew, and so do the numbers of the players.
        let before: Vec<usize> = clients.iter().map(|&client| sim[client].events.len()).collect();
        said.borrow_mut().clear();
        sim.restart(500 * MS);
        for (&client, before) in clients.iter().zip(before) {
            sim[client].events.drain(..before);
        }
        let old = late;
        sim[old].events.clear();
        play(&mut sim, 8_000 * MS);
        for client in [clients[0], clients[1], clients[3], old] {
            let since = sim[client].events.iter().position(|(_, event)| matches!(event, Event::Joined { .. })).unwrap();
            sim[client].events.drain(..since);
            assert!(check(&sim, &said, client) > 100);
        }
    }
}

#[test]
fn ticks_past_what_the_wire_counts_are_no_matter() {
    let said = Said::default();
    let of_room = said.clone();
    let configure = |config: &mut rtcade::server::Config| config.tick = 5 * MS;
    let mut sim = Simulation::with_config(1, configure, move |_| Ok(Drift::new(0, 1, &of_room)));
    let ada = sim.join("drift", "Ada");
    while sim.elapsed() < 65_500 * 5 * MS {
        sim.run_every(33 * MS, 5_000 * MS, |sim| {
            sim.send(ada, &1);
        });
        check(&sim, &said, ada);
        sim[ada].events.retain(|(_, event)| matches!(event, Event::Joined { .. }));
        // Some are still on their way.
        let mut said = said.borrow_mut();
        while said.len() > 100 {
            said.pop_first();
        }
    }
    let before = sim.server.counters().states;
    sim.run_every(33 * MS, 5_000 * MS, |sim| {
        sim.send(ada, &1);
    });
    assert!(said.borrow().keys().any(|&(tick, _)| tick > 0x1_0000));
    assert!(check(&sim, &said, ada) > 900);
    let after = sim.server.counters().states;
    // Now and then the whole is smaller.
    assert!(after.whole - before.whole < 20, "the acknowledgements are understood around the wrap");
}
