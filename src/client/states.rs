//! The states that a client receives, and what it acknowledges of them.

use super::{Client, Event};
use crate::wire::delta::DeltaError;
use crate::wire::frame::Kind;
use crate::wire::msgpack;

/// States after which they are acknowledged even if there is nothing else to send.
const STATES_UNREPORTED: u32 = 6;

impl Client {
    /// Reads the body of a state. Returns `None` if it can't be read, whatever states the client holds.
    pub(super) fn read_state(&mut self, body: &[u8], ack: u16) -> Option<()> {
        let consumed = self.input_number(ack);
        match self.states.read(body) {
            Ok((tick, Some(value))) => {
                self.events.push_back(Event::State { tick, consumed, value: value.to_vec() });
                self.newest_tick = self.newest_tick.max(tick);
                self.report_states();
            }
            Ok((_, None)) => self.stats.stale_states += 1,
            Err(DeltaError::Unrestored) => self.stats.unrestored_states += 1,
            Err(DeltaError::Malformed(_)) => return None,
        }
        Some(())
    }

    /// Returns the number, given modulo 2¹⁶, of an input that the game has consumed.
    fn input_number(&self, wrapped: u16) -> u32 {
        let newest = self.next_input.wrapping_sub(1);
        #[expect(clippy::cast_possible_truncation, reason = "the difference of numbers modulo 2¹⁶")]
        let older = (newest as u16).wrapping_sub(wrapped);
        newest.wrapping_sub(older.into())
    }

    /// Acknowledges states in time to serve as baselines. Other frames do so as well, if there are any.
    fn report_states(&mut self) {
        self.unreported_states += 1;
        if self.unreported_states == STATES_UNREPORTED {
            let body = msgpack::encode_inputs(self.next_input.wrapping_sub(1), std::iter::empty());
            self.send_unreliable(Kind::Input, &body);
        }
    }
}
