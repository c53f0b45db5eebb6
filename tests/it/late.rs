//! What arrives over the data channel is never old: whatever is lost, and after an outage.

use std::time::Duration;

use rtcade::client::Event;
use rtcade::game::{Context, Game, Incoming, Join, Leave, PlayerId, Refusal, Tick, Welcome};
use rtcade::rand::Rng;

use crate::net::Net;

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
fn ages(net: &Net<Noise>, end: usize) -> Vec<(Duration, Duration)> {
    let grid = TICK * u32::try_from(net.one_way.as_nanos() / TICK.as_nanos()).unwrap();
    let states = net.ends[end].events.iter().filter_map(|(at, event)| match event {
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
                let mut net = Net::new(seed, move |_| Ok(Noise(bytes)));
                net.one_way = Duration::from_millis(rtt_ms / 2);
                let ada = net.join("late", "Ada");
                net.run(Duration::from_secs(3));
                net.loss_percent = loss_percent;
                net.run(Duration::from_secs(3));
                assert!(net.ends[ada].client.is_open(), "seed {seed}");
                let before = ages(&net, ada).len();
                let held_back = net.server.counters().dropped_frames;
                net.run(TICK * 450);
                let ages = &ages(&net, ada)[before..];
                assert_eq!(ages.iter().find(|&&(_, age)| age != net.one_way), None, "seed {seed}");
                let delivered = ages.len() as f64 / 450.0;
                // Six points are three standard deviations of 450 draws.
                let expected = 1.0 - f64::from(loss_percent) / 100.0;
                assert!((delivered - expected).abs() < 0.06, "seed {seed}: {delivered} of {expected} arrived");
                assert_eq!(net.server.counters().dropped_frames, held_back, "seed {seed}: all were sent");
            }
        }
    }
}

#[test]
fn an_outage_is_followed_by_the_present() {
    for outage_s in [2, 8] {
        let mut net = Net::new(outage_s, |_| Ok(Noise(200)));
        let ada = net.join("outage", "Ada");
        net.run(Duration::from_secs(5));
        net.ends[ada].blackout = true;
        net.run(Duration::from_secs(outage_s));
        let during = ages(&net, ada).len();
        net.ends[ada].blackout = false;
        let end = Duration::from_secs(5 + outage_s);
        net.run(Duration::from_secs(5));
        let ages = &ages(&net, ada)[during..];
        assert!(ages[0].0 <= end + TICK * 2 + net.one_way, "the first came {:?} after the end", ages[0].0 - end);
        assert_eq!(ages.iter().find(|&&(_, age)| age != net.one_way), None, "after {outage_s} s");
        // Until something is heard from the player, every second one.
        assert!(ages.len() >= 147, "{} states in five seconds", ages.len());
    }
}
