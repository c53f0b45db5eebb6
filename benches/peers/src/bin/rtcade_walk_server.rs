//! The second task as a game of rtcade: players walk, and the state is what all of them look like.

#![forbid(unsafe_code)]

use rtcade::game::{Batch, Context, Game, Incoming, Join, Leave, PlayerId, Refusal, Tick};
use rtcade_peers::{ROOM_PLAYERS, Walker, World};

#[derive(Default)]
struct Walk(World);

impl Game for Walk {
    /// Heading in degrees, and whether the player walks.
    type Input = (u16, bool);
    type Command = ();
    type State = [Walker; ROOM_PLAYERS];
    type Event = ();
    type Welcome = ();
    type JoinData = ();

    fn join(&mut self, _: &mut Context<Self>, _: PlayerId, _: &Join<()>) -> Result<(), Refusal> {
        Ok(())
    }

    fn leave(&mut self, _: &mut Context<Self>, _: PlayerId, _: Leave) {}

    fn tick(&mut self, ctx: &mut Context<Self>, _: Tick, batch: Batch<'_, Self>) {
        for message in batch {
            if let Incoming::Input { player, input: (heading, moving), .. } = message {
                self.0.steer(player.0 as usize, heading, moving);
            }
        }
        self.0.step();
        ctx.state(self.0.walkers()).expect("ten players fit");
    }
}

fn main() -> rtcade::ExitCode {
    rtcade::run(|_| Ok(Walk::default()))
}
