//! What arrives over the data channel is never old: whatever is lost, and after an outage.

use std::time::Duration;

use rtcade::client::Event;
use rtcade::game::{Context, Game, Incoming, Join, Leave, PlayerId, Refusal, Tick, Welcome};
use rtcade::rand::Rng;
use rtcade::sim::{ClientId, Link, Node, Simulation};

const TICK: Duration = Duration::from_millis(33);

/// Says a state of so many bytes, which don't deflate.
struct Noise(usize);

impl Game for Noise {
    type Input = u8;
    type Command = ();
    type State = Vec<u8>;
    type Event = ();

    fn join(&mut self, _: &mut Context<Noise>, _: PlayerId, _: &Join) -> Result<Welcome, Refusal> {
        Ok(Welcome::default())
    }

    fn leave(&mut self, _: &mut Context<Noise>, _: PlayerId, _: Leave) {}

    fn tick(&mut self, ctx: &mut Context<Noise>, _: Tick, _: &[Incoming<Noise>]) {
        let noise: Vec<u8> = (0..self.0).map(|_| ctx.rng().next_u32().to_le_bytes()[0] & 0x7f).collect();
        ctx.state(&noise).expect("it fits");
    }
}

/// When each state arrived, and how old it was then. The room is made when the first player's request arrives, and its
/// grid begins at the last multiple of a tick before that.
fn ages(sim: &Simulation<Noise>, client: ClientId, one_way: Duration) -> Vec<(Duration, Duration)> {
    let grid = TICK * u32::try_from(one_way.as_nanos() / TICK.as_nanos()).unwrap();
    let states = sim[client].events.iter().filter_map(|(at, event)| match event {
        Event::State { tick, .. } => Some((*at, *at - grid - TICK * *tick)),
        _ => None,
    });
    states.collect()
}

#[test]
fn loss_makes_nothing_late() {
    let mut seed = 0;
    for loss_percent in [5, 20] {
        for rtt_ms in [50, 250] {
            for bytes in [200, 1_000] {
                seed += 1;
                let mut sim = Simulation::new(seed, move |_| Ok(Noise(bytes)));
                let one_way = Duration::from_millis(rtt_ms / 2);
                sim.set_links(move || Link::new(one_way));
                let ada = sim.join("late", "Ada");
                sim.run(Duration::from_secs(3));
                sim.set_link(ada, Link::new(one_way).with(&Node::Loss { permille: 10 * loss_percent }));
                sim.run(Duration::from_secs(3));
                assert!(sim[ada].client.is_open(), "seed {seed}");
                let before = ages(&sim, ada, one_way).len();
                let held_back = sim.server.counters().dropped_frames;
                sim.run(TICK * 450);
                let ages = &ages(&sim, ada, one_way)[before..];
                assert_eq!(ages.iter().find(|&&(_, age)| age != one_way), None, "seed {seed}");
                let delivered = ages.len() as f64 / 450.0;
                // Six points are three standard deviations of 450 draws.
                let expected = 1.0 - f64::from(loss_percent) / 100.0;
                assert!((delivered - expected).abs() < 0.06, "seed {seed}: {delivered} of {expected} arrived");
                assert_eq!(sim.server.counters().dropped_frames, held_back, "seed {seed}: all were sent");
            }
        }
    }
}

#[test]
fn an_outage_is_followed_by_the_present() {
    for outage_s in [2, 8] {
        let mut sim = Simulation::new(outage_s, |_| Ok(Noise(200)));
        let one_way = Duration::from_millis(25);
        let end = Duration::from_secs(5 + outage_s);
        sim.set_links(move || Link::new(one_way).with(&Node::Blackout(Duration::from_secs(5)..end)));
        let ada = sim.join("outage", "Ada");
        sim.run(Duration::from_secs(5));
        sim.run(Duration::from_secs(outage_s));
        let during = ages(&sim, ada, one_way).len();
        sim.run(Duration::from_secs(5));
        let ages = &ages(&sim, ada, one_way)[during..];
        assert!(ages[0].0 <= end + TICK * 2 + one_way, "the first came {:?} after the end", ages[0].0 - end);
        assert_eq!(ages.iter().find(|&&(_, age)| age != one_way), None, "after {outage_s} s");
        assert!(ages.len() >= 150, "{} states in five seconds", ages.len());
    }
}
