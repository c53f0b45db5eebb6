//! Costs that grow with the number of players in a room: announcing joins and leaves, and messages to all.

use std::net::SocketAddr;
use std::time::Duration;

use rtcade::game::{Batch, Context, Game, Join, Lane, Leave, PlayerId, Refusal, Target, Tick};
use rtcade::limits;
use rtcade::server::{Connect, ConnectionId, Disconnect, Signal};
use rtcade::sim::{SERVER, Simulation};
use rtcade::wire::frame::Kind;
use rtcade::wire::signaling::RoomName;

const TICK: Duration = Duration::from_millis(33);

/// A game that is a function of its ticks.
struct Ticks(fn(&mut Context<Ticks>));

impl Game for Ticks {
    type Input = ();
    type Command = ();
    type State = Vec<u8>;
    type Event = u32;
    type Welcome = ();
    type JoinData = ();

    fn join(&mut self, _: &mut Context<Self>, _: PlayerId, _: &Join<()>) -> Result<(), Refusal> {
        Ok(())
    }

    fn leave(&mut self, _: &mut Context<Self>, _: PlayerId, _: Leave) {}

    fn tick(&mut self, ctx: &mut Context<Self>, _: Tick, _: Batch<'_, Self>) {
        (self.0)(ctx);
    }
}

/// Websockets of one room, read each tick.
struct Crowd {
    sim: Simulation<Ticks>,
    open: Vec<ConnectionId>,
    opened: u64,
}

impl Crowd {
    fn new(max_players: usize, tick: fn(&mut Context<Ticks>)) -> Crowd {
        let sim = Simulation::with_config(1, |config| config.max_players = max_players, move |_| Ok(Ticks(tick)));
        Crowd { sim, open: Vec::new(), opened: 0 }
    }

    fn join(&mut self) -> ConnectionId {
        self.opened += 1;
        let id = ConnectionId(self.opened);
        let [.., a, b] = self.opened.to_be_bytes();
        let remote = SocketAddr::from(([10, 7, a, b], 40_000));
        let connect = Connect::new(RoomName::parse("crowd"), remote, SERVER.ip());
        let now = self.sim.now();
        self.sim.server.handle_connect(now, id, connect);
        self.sim.server.handle_text(now, id, r#"{"a":"join","d":{}}"#);
        self.open.push(id);
        id
    }

    fn leave(&mut self, id: ConnectionId) {
        let now = self.sim.now();
        self.sim.server.handle_disconnect(now, id, Disconnect::Goodbye);
        self.open.retain(|&open| open != id);
    }

    /// A tick passes: what the websockets get in it.
    fn tick(&mut self) -> Vec<(ConnectionId, Signal)> {
        self.sim.run(TICK);
        let (now, server) = (self.sim.now(), &mut self.sim.server);
        let mut got = Vec::new();
        for &id in &self.open {
            while let Some(signal) = server.poll_signal(id) {
                if let Signal::Ping(payload) = signal {
                    server.handle_pong(now, id, &payload.to_be_bytes());
                }
                got.push((id, signal));
            }
        }
        got
    }
}

fn text_bytes(got: &[(ConnectionId, Signal)]) -> usize {
    got.iter().map(|(_, signal)| if let Signal::Text(text) = signal { text.len() } else { 0 }).sum()
}

#[test]
fn players_who_come_and_go_cost_a_crowd_no_more_than_its_budget() {
    let mut crowd = Crowd::new(300, |_| {});
    for _ in 0..256 {
        crowd.join();
        crowd.tick();
    }
    let calm: usize = (0..60).map(|_| text_bytes(&crowd.tick())).sum();
    assert_eq!(calm, 0, "nobody comes or goes");
    // One player comes and goes each second: the others are told of each, and no more.
    let (mut bytes, mut longest) = (0, 0);
    for _ in 0..10 {
        let flapping = crowd.join();
        for tick in 0..30 {
            let got = crowd.tick();
            longest =
                got.iter().map(|(_, signal)| text_bytes(&[(flapping, signal.clone())])).max().unwrap_or(0).max(longest);
            bytes += got
                .iter()
                .filter(|(id, _)| *id != flapping)
                .map(|one| text_bytes(std::slice::from_ref(one)))
                .sum::<usize>();
            if tick == 15 {
                crowd.leave(flapping);
            }
        }
    }
    assert!(bytes < 10 * 2 * 256 * 200, "{bytes} bytes in 10 s");
    // Forty come and go each second: the budget holds, nobody is left behind in the end.
    let mut bytes = 0;
    for _ in 0..5 {
        let flapping: Vec<ConnectionId> = (0..40).map(|_| crowd.join()).collect();
        for tick in 0..30 {
            let got = crowd.tick();
            bytes += got
                .iter()
                .filter(|(id, _)| !flapping.contains(id))
                .map(|one| text_bytes(std::slice::from_ref(one)))
                .sum::<usize>();
            if tick == 15 {
                flapping.iter().for_each(|&id| crowd.leave(id));
            }
        }
    }
    let most = 6 * limits::PRESENCE_BYTES_PER_SECOND as usize;
    assert!((most / 2..=most).contains(&bytes), "{bytes} bytes in 5 s");
}

/// Those who came and went while the news waited are never told of, and the others are left with who is there.
#[test]
fn what_a_crowd_is_told_adds_up_to_who_is_there() {
    let mut crowd = Crowd::new(300, |_| {});
    let witness = crowd.join();
    for _ in 0..200 {
        crowd.join();
        crowd.tick();
    }
    let mut shown = std::collections::BTreeSet::new();
    let mut note = |got: Vec<(ConnectionId, Signal)>| {
        for (_, signal) in got.into_iter().filter(|(id, _)| *id == witness) {
            let Signal::Text(text) = signal else { continue };
            let text: serde_json::Value = serde_json::from_str(&text).unwrap();
            let player = text["d"]["player"].as_u64();
            match text["a"].as_str() {
                Some("eventJoin") => assert!(shown.insert(player), "told twice: {text}"),
                Some("eventLeave") => drop(shown.remove(&player)),
                _ => {}
            }
        }
        shown.len()
    };
    let mut flapping: Vec<ConnectionId> = Vec::new();
    for round in 0..60 {
        if round % 2 == 0 {
            flapping.extend((0..10).map(|_| crowd.join()));
        } else {
            flapping.drain(..8).for_each(|id| crowd.leave(id));
        }
        note(crowd.tick());
    }
    // One who comes now starts from what is known, and has the news with the others.
    let late = crowd.join();
    let mut seen = std::collections::BTreeSet::new();
    let mut told = 0;
    for tick in 0..300 {
        let got = crowd.tick();
        for (_, signal) in got.iter().filter(|(id, _)| *id == late) {
            let Signal::Text(text) = signal else { continue };
            let text: serde_json::Value = serde_json::from_str(text).unwrap();
            let player = |session: &serde_json::Value| session["player"].as_u64();
            match text["a"].as_str() {
                Some("joinR") => seen = text["d"]["sessions"].as_array().unwrap().iter().map(player).collect(),
                Some("eventJoin") => drop(seen.insert(player(&text["d"]))),
                Some("eventLeave") => drop(seen.remove(&player(&text["d"]))),
                _ => {}
            }
        }
        told = note(got);
        if tick == 2 {
            // Of these, some were never told of.
            flapping.drain(flapping.len() / 2..).for_each(|id| crowd.leave(id));
        }
    }
    assert_eq!(told, flapping.len() + 1);
    assert_eq!(seen.len(), 201 + flapping.len() + 1, "whoever came late knows who is there");
}

/// A kind of message that never deflates says nothing of the others.
#[test]
fn small_events_don_t_keep_the_states_from_being_deflated() {
    let share = |tick: fn(&mut Context<Ticks>)| {
        let mut crowd = Crowd::new(16, tick);
        crowd.join();
        let frames: Vec<Vec<u8>> = (0..200)
            .flat_map(|_| crowd.tick())
            .filter_map(|(_, signal)| if let Signal::Binary(frame) = signal { Some(frame) } else { None })
            .filter(|frame| frame[0] & 0x0f == Kind::State as u8)
            .collect();
        let deflated = frames.iter().filter(|frame| frame[0] & 0x20 != 0).count();
        assert!(frames.len() > 150);
        (deflated, frames.len())
    };
    let state = |ctx: &mut Context<Ticks>| ctx.state(&vec![7; 1_000]).unwrap();
    let (deflated, states) = share(state);
    assert_eq!(deflated, states);
    let (deflated, states) = share(|ctx| {
        ctx.state(&vec![7; 1_000]).unwrap();
        ctx.event(Target::All, &1, Lane::Reliable).unwrap();
        ctx.event(Target::All, &2, Lane::Unreliable).unwrap();
    });
    assert_eq!(deflated, states);
}
