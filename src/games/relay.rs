use serde::de::IgnoredAny;

use crate::game::{Batch, Context, Game, Join, Leave, PlayerId, Refusal, Tick};
use crate::limits;

/// A game without logic on the server: every tick sends the inputs of all players to all players, each once and in
/// order. Their meaning is up to the page, so lockstep and rollback games can be written entirely in the browser.
#[derive(Debug, Default)]
pub struct Relay;

impl Game for Relay {
    type Input = IgnoredAny;
    type Command = IgnoredAny;
    type State = ();
    type Event = ();
    type Welcome = ();
    type JoinData = IgnoredAny;

    /// What an input does is up to the page, which takes as many of a player as its rules allow.
    const INPUTS_PER_TICK: usize = limits::INPUT_WINDOW;

    fn join(&mut self, _: &mut Context<Self>, _: PlayerId, _: &Join<IgnoredAny>) -> Result<(), Refusal> {
        Ok(())
    }

    fn leave(&mut self, _: &mut Context<Self>, _: PlayerId, _: Leave) {}

    fn save(&self) -> Option<Vec<u8>> {
        Some(Vec::new())
    }

    fn restore(&mut self, _: &mut Context<Self>, _: &[u8]) -> Result<(), Refusal> {
        Ok(())
    }

    fn tick(&mut self, ctx: &mut Context<Self>, _: Tick, _: Batch<'_, Self>) {
        ctx.fan_out_inputs();
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::game::{RoomInfo, Target};
    use crate::room::{Input, Output, Room};
    use crate::wire::frame::Kind;

    fn tick(room: &mut Room<Relay>, number: u32) -> Vec<Output> {
        room.handle_input(Input::Tick(Tick { number, missed: 0 }));
        std::iter::from_fn(|| room.poll_output()).collect()
    }

    fn room_of(players: u32) -> Room<Relay> {
        let mut room = Room::new(&RoomInfo::new("relay", 1), Relay, 8);
        for _ in 0..players {
            let player = room.next_player();
            room.handle_input(Input::Join { player, join: Join::new("somebody") });
        }
        tick(&mut room, 1);
        room
    }

    fn send(room: &mut Room<Relay>, player: u32, number: u32, input: &Value) {
        let value = rmp_serde::to_vec(input).expect("JSON values encode");
        room.handle_input(Input::Input { player: PlayerId(player), number, seen: 0, value });
    }

    fn ticks(outputs: &[Output]) -> Vec<Value> {
        outputs
            .iter()
            .map(|output| match output {
                Output::Body { to: Target::All, kind: Kind::Tick, body } => {
                    rmp_serde::from_slice(body).expect("a tick body decodes")
                }
                other => panic!("a relay room only fans ticks out: {other:?}"),
            })
            .collect()
    }

    #[test]
    fn everybody_gets_every_input_unread_and_in_order_of_arrival() {
        let mut room = room_of(2);
        send(&mut room, 2, 1, &json!({ "whatever": [1.5, "x", null] }));
        send(&mut room, 1, 1, &json!("a"));
        send(&mut room, 2, 2, &json!(7));
        let inputs = json!([[2, 1, { "whatever": [1.5, "x", null] }], [1, 1, "a"], [2, 2, 7]]);
        assert_eq!(ticks(&tick(&mut room, 2)), [json!([2, inputs, []])]);
        assert_eq!(ticks(&tick(&mut room, 3)), [json!([3, [], inputs, []])]);
    }

    #[test]
    fn ticks_go_out_even_when_nobody_sends() {
        let mut room = room_of(1);
        assert_eq!(ticks(&tick(&mut room, 2)), [json!([2, [], []])]);
    }

    #[test]
    fn commands_are_read_past() {
        let mut room = room_of(1);
        let value = rmp_serde::to_vec(&json!({ "kick": 1 })).expect("JSON values encode");
        room.handle_input(Input::Command { player: PlayerId(1), value });
        assert_eq!(ticks(&tick(&mut room, 2)), [json!([2, [], []])]);
        assert_eq!(room.players().len(), 1);
    }
}
