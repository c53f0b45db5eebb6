//! The task as a game of rtcade.

#![forbid(unsafe_code)]

use rtcade::game::{Batch, Context, Game, Incoming, Join, Leave, PlayerId, Refusal, Tick};
use rtcade_peers::{MESSAGE_BYTES, RoomState};
use serde_bytes::{ByteArray, ByteBuf};

#[derive(Default)]
struct Task(RoomState);

impl Game for Task {
    type Input = ByteBuf;
    type Command = ();
    type State = ByteArray<MESSAGE_BYTES>;
    type Event = ();
    type Welcome = ();
    type JoinData = ();

    fn join(&mut self, _: &mut Context<Self>, _: PlayerId, _: &Join<()>) -> Result<(), Refusal> {
        Ok(())
    }

    fn leave(&mut self, _: &mut Context<Self>, _: PlayerId, _: Leave) {}

    fn tick(&mut self, ctx: &mut Context<Self>, _: Tick, batch: Batch<'_, Self>) {
        for message in batch {
            if let Incoming::Input { player, input, .. } = message {
                self.0.set(player.0 as usize, &input);
            }
        }
        ctx.state(&ByteArray::new(*self.0.message())).expect("200 bytes fit");
    }
}

fn main() -> rtcade::ExitCode {
    rtcade::run(|_| Ok(Task::default()))
}
