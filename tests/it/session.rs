//! Players and rooms from end to end, under virtual time.

use std::time::Duration;

use rtcade::client::Event;
use rtcade::game::{Context, Game, Incoming, Join, Lane, Leave, PlayerId, Refusal, Target, Tick, Welcome};

use crate::net::Net;

/// Notes what it gets, and says a state every tick.
#[derive(Default)]
pub struct Ledger {
    pub inputs: Vec<(PlayerId, u32)>,
    pub commands: Vec<(PlayerId, String)>,
    pub left: Vec<(PlayerId, Leave)>,
}

impl Game for Ledger {
    type Input = u32;
    type Command = String;
    type State = Vec<u32>;
    type Event = String;

    fn join(&mut self, _: &mut Context<Ledger>, _: PlayerId, join: &Join) -> Result<Welcome, Refusal> {
        if join.name == "Mallory" { Err(Refusal::new("Not you.")) } else { Welcome::new(&["map"]) }
    }

    fn leave(&mut self, _: &mut Context<Ledger>, player: PlayerId, reason: Leave) {
        self.left.push((player, reason));
    }

    fn tick(&mut self, ctx: &mut Context<Ledger>, tick: Tick, batch: &[Incoming<Ledger>]) {
        for message in batch {
            match message {
                Incoming::Input { player, input } => self.inputs.push((*player, *input)),
                Incoming::Command { player, command } if command == "panic" => panic!("{player} asked for it"),
                Incoming::Command { player, command } if command == "kick me" => ctx.kick(*player, "As you wish."),
                Incoming::Command { player, command } => {
                    self.commands.push((*player, command.clone()));
                    ctx.event(Target::All, command, Lane::Reliable).expect("it is short");
                }
            }
        }
        ctx.state(&vec![tick.number]).expect("it is short");
    }
}

pub fn ledger(seed: u64) -> Net<Ledger> {
    Net::new(seed, |_| Ok(Ledger::default()))
}

fn room(name: &str) -> rtcade::wire::signaling::RoomName {
    rtcade::wire::signaling::RoomName::parse(name).unwrap()
}

#[test]
fn inputs_arrive_once_and_in_order_while_datagrams_are_lost() {
    for seed in 0..8 {
        let mut net = ledger(seed);
        net.loss_percent = 5;
        let ends = [net.join("lossy", "Ada"), net.join("lossy", "Bob"), net.join("lossy", "Cy")];
        net.run(Duration::from_secs(10));
        for end in ends {
            assert!(net.ends[end].client.is_open(), "the channel of {end} opens under loss");
        }
        let mut sent = 0;
        let mut next = net.now;
        net.run_with(Duration::from_secs(60), |net| {
            while next <= net.now {
                sent += 1;
                for end in ends {
                    net.ends[end].client.send(net.now, &sent).unwrap();
                }
                next += Duration::from_millis(33);
            }
        });
        net.run(Duration::from_secs(1));
        let game = net.server.game(&room("lossy")).unwrap();
        for player in 1..=3 {
            let got: Vec<u32> = game.inputs.iter().filter(|(of, _)| of.0 == player).map(|&(_, input)| input).collect();
            assert_eq!(got, (1..=sent).collect::<Vec<u32>>(), "none twice, none lost, in order");
        }
        for end in ends {
            assert_eq!(net.ends[end].client.unacknowledged(), 0);
            let states = net.events(end).filter(|event| matches!(event, Event::State { .. })).count();
            assert!(states > 1_700, "{states} of some 2,150 states are more loss than there was");
        }
        assert!(net.server.counters().bad_frames == 0);
    }
}
