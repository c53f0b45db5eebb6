//! Catch the dot: the first player to point at it scores, and the dot jumps.
use rtcade::game::{Batch, Context, Game, Incoming, Join, Leave, PlayerId, Refusal, Tick};
use std::collections::BTreeMap;

#[derive(Default)]
struct Catch {
    dot: (f32, f32),
    players: BTreeMap<PlayerId, ((f32, f32), u32)>, // each player's position and score
}

impl Game for Catch {
    type Input = (f32, f32);
    type Command = ();
    type State = ((f32, f32), Vec<(PlayerId, (f32, f32), u32)>);
    type Event = ();
    type Welcome = ();
    type JoinData = ();
    const INPUTS_PER_TICK: usize = 8; // a pointer moves often, and only its last place counts
    fn join(&mut self, _: &mut Context<Self>, _: PlayerId, _: &Join<()>) -> Result<(), Refusal> {
        Ok(())
    }
    fn leave(&mut self, _: &mut Context<Self>, player: PlayerId, _: Leave) {
        self.players.remove(&player);
    }
    fn tick(&mut self, ctx: &mut Context<Self>, _: Tick, batch: Batch<'_, Self>) {
        for message in batch {
            let Incoming::Input { player, input, .. } = message else { continue };
            let (place, score) = self.players.entry(player).or_default();
            *place = input;
            if (place.0 - self.dot.0).hypot(place.1 - self.dot.1) < 0.05 {
                *score += 1;
                self.dot = rtcade::rand::RngExt::random(ctx.rng());
            }
        }
        let players = self.players.iter().map(|(&player, &(place, score))| (player, place, score)).collect();
        let _ = ctx.state(&(self.dot, players)); // a state above 16 KiB is not sent, but counted
    }
}

fn main() -> rtcade::ExitCode {
    rtcade::run(|_| Ok(Catch::default()))
}

#[cfg(test)]
mod tests;
