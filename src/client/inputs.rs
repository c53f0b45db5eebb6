//! The inputs that a client sends, and repeats until they are acknowledged.

use std::time::{Duration, Instant};

use super::Client;
use crate::limits;
use crate::wire::frame::Kind;
use crate::wire::{msgpack, seen};

/// The interval at which unacknowledged inputs are repeated unless a new one carried them. Longer than a tick, or a
/// game that sends an input each tick would send everything twice.
const INPUT_REPEAT: Duration = Duration::from_millis(50);
/// Packets of inputs that leave before their time because there is no room for more: as many wait in the server, in
/// addition to those of its next tick.
const WINDOWS_AHEAD: u32 = 3;

impl Client {
    /// Sets the tick that the player is shown of the others, which may lie between two ticks: the newest less the delay
    /// of an interpolation. The game gets it as [`seen`](crate::game::Incoming::Input) with each input sent from now
    /// on. By default, and with `None` or a value that is not finite, it is the newest tick of which the client has a
    /// state or inputs.
    pub fn set_render_tick(&mut self, tick: Option<f64>) {
        self.render_tick = tick.filter(|tick| tick.is_finite());
    }

    pub(super) fn send_value(&mut self, now: Instant, value: Vec<u8>) -> u32 {
        self.now = now;
        let is_full = self.unsent_inputs == limits::INPUT_WINDOW
            || self.unsent_bytes + value.len() + msgpack::STAMP_BYTES + msgpack::INPUTS_PREFIX_BYTES
                > limits::PART_BODY_BYTES;
        if is_full && self.ahead < WINDOWS_AHEAD && self.is_in() {
            self.ahead += 1;
            self.send_inputs();
        }
        let number = self.next_input;
        self.next_input += 1;
        if self.unacknowledged.len() == limits::INPUT_WINDOW {
            self.unacknowledged.pop_front();
        }
        self.unsent_inputs += 1;
        self.unsent_bytes += value.len() + msgpack::STAMP_BYTES;
        let seen = self.render_tick.unwrap_or(self.newest_tick.into());
        self.unacknowledged.push_back((number, seen::stamp(seen), value));
        if self.is_in() && self.input_packet_at().is_some_and(|at| at <= now) {
            self.ahead = 0;
            self.send_inputs();
        }
        number
    }

    pub(super) fn input_packet_at(&self) -> Option<Instant> {
        if self.unacknowledged.is_empty() || !self.is_in() {
            return None;
        }
        let Some(last) = self.last_input_packet else { return Some(self.now) };
        Some(last + if self.unsent_inputs > 0 { limits::INPUT_INTERVAL } else { INPUT_REPEAT })
    }

    pub(super) fn send_inputs(&mut self) {
        let Some(&(newest, ..)) = self.unacknowledged.back() else { return };
        let inputs = self.unacknowledged.iter().rev().map(|(_, seen, value)| (*seen, value.as_slice()));
        let body = msgpack::encode_inputs(newest, inputs);
        (self.unsent_inputs, self.unsent_bytes) = (0, 0);
        self.last_input_packet = Some(self.now);
        self.send_unreliable(Kind::Input, &body);
    }
}
