//! Catch the dot: each square follows its player's pointer. Reaching the dot scores, and the dot jumps.
use rtcade::game::{Batch, Context, Game, Incoming, Join, Leave, PlayerId, Refusal, Tick};
use rtcade::rand::RngExt;
use std::collections::BTreeMap;

type Place = (i32, i32); // from 0 to 1,000
type Square = (i32, i32, u32); // its place, and its player's score

#[derive(Default)]
struct Catch {
    dot: Place,
    squares: BTreeMap<PlayerId, Square>,
}

impl Game for Catch {
    type Input = Place; // where the pointer is in each tick
    type Command = ();
    type State = (Place, BTreeMap<PlayerId, Square>);
    type Event = ();
    type Welcome = ();
    type JoinData = ();
    fn join(&mut self, _: &mut Context<Self>, player: PlayerId, _: &Join<()>) -> Result<(), Refusal> {
        self.squares.insert(player, (500, 500, 0));
        Ok(())
    }
    fn leave(&mut self, _: &mut Context<Self>, player: PlayerId, _: Leave) {
        self.squares.remove(&player);
    }
    fn tick(&mut self, ctx: &mut Context<Self>, _: Tick, batch: Batch<'_, Self>) {
        for message in batch {
            let Incoming::Input { player, input, .. } = message else { continue };
            let Some((x, y, score)) = self.squares.get_mut(&player) else { continue };
            *x += input.0.saturating_sub(*x).clamp(-20, 20); // the page has the same rule
            *y += input.1.saturating_sub(*y).clamp(-20, 20);
            if x.abs_diff(self.dot.0) < 40 && y.abs_diff(self.dot.1) < 40 {
                *score += 1;
                self.dot = (ctx.rng().random_range(0..1_000), ctx.rng().random_range(0..1_000));
            }
        }
        let _ = ctx.state(&(self.dot, self.squares.clone())); // a state above 16 KiB is not sent, but counted
    }
}

fn main() -> rtcade::ExitCode {
    rtcade::run(|_| Ok(Catch::default()))
}

#[cfg(test)]
mod tests;
