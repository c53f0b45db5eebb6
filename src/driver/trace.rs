//! What the loop did in its last turns, as a trace for chrome://tracing and ui.perfetto.dev.

use std::collections::VecDeque;
use std::fmt::Write;
use std::time::{Duration, Instant};

use crate::limits;

/// The number of turns that are kept.
const TRACED_TURNS: usize = 4_096;

/// The parts of a turn, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// Received datagrams are handled.
    Datagrams,
    /// Timeouts, and the ticks of rooms.
    Rooms,
    /// Datagrams are sent.
    Flush,
    /// HTTP and websockets.
    Sockets,
}

impl Part {
    const ALL: [Part; 4] = [Part::Datagrams, Part::Rooms, Part::Flush, Part::Sockets];

    fn name(self) -> &'static str {
        match self {
            Part::Datagrams => "datagrams",
            Part::Rooms => "rooms",
            Part::Flush => "flush",
            Part::Sockets => "sockets",
        }
    }
}

/// A turn of the loop.
#[derive(Clone, Copy, Debug)]
pub(super) struct Turn {
    began: Instant,
    /// When each part ended, since the begin of the turn.
    ends: [Duration; Part::ALL.len()],
}

impl Turn {
    pub(super) fn begin(now: Instant) -> Turn {
        Turn { began: now, ends: [Duration::ZERO; Part::ALL.len()] }
    }

    /// The part ends now; it began where the one before it ended.
    pub(super) fn end(&mut self, part: Part, now: Instant) {
        self.ends[part as usize] = now.saturating_duration_since(self.began);
    }

    pub(super) fn took(&self) -> Duration {
        self.ends[Part::Sockets as usize]
    }
}

/// The last turns.
#[derive(Debug, Default)]
pub(super) struct Trace(VecDeque<Turn>);

impl Trace {
    pub(super) fn add(&mut self, turn: Turn) {
        if self.0.len() == TRACED_TURNS {
            self.0.pop_front();
        }
        self.0.push_back(turn);
    }

    /// Complete events in the JSON object format of Chrome's Trace Event Format: times are in microseconds since
    /// `started`. Parts shorter than a microsecond are left out.
    pub(super) fn to_json(&self, started: Instant) -> String {
        let mut json = String::with_capacity(self.0.len() * 256);
        json.push_str("{\"displayTimeUnit\":\"ms\",\"traceEvents\":[");
        json.push_str("{\"name\":\"thread_name\",\"ph\":\"M\",\"pid\":1,\"tid\":1,\"args\":{\"name\":\"loop\"}}");
        for turn in &self.0 {
            let began = turn.began.saturating_duration_since(started);
            let mut event = |name: &str, from: Duration, to: Duration| {
                let took = to.saturating_sub(from).as_micros();
                if took > 0 {
                    let at = (began + from).as_micros();
                    write!(
                        json,
                        ",{{\"name\":\"{name}\",\"ph\":\"X\",\"pid\":1,\"tid\":1,\"ts\":{at},\"dur\":{took}}}"
                    )
                    .expect("a string takes everything");
                }
            };
            event("turn", Duration::ZERO, turn.took());
            let mut from = Duration::ZERO;
            for (part, to) in Part::ALL.into_iter().zip(turn.ends) {
                event(part.name(), from, to);
                from = to;
            }
        }
        json.push_str("]}");
        json
    }
}

/// The warning about skipped ticks: the loop was `late`, after ticks that `took` this long; `None` if it was on time.
pub(super) fn skipped(missed: u64, late: Duration, took: Duration) -> Option<String> {
    if missed == 0 || late <= limits::CLOCK_GAP {
        return None;
    }
    let cause = if took >= late / 2 {
        format!("the ticks before took {} ms; a game must not wait or compute for so long", took.as_millis())
    } else {
        "this machine is overloaded, or the process was stopped".to_owned()
    };
    Some(format!("{missed} ticks were skipped, as they came {} ms late: {cause}", late.as_millis()))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn each_turn_has_its_parts_one_after_the_other() {
        let started = Instant::now();
        let ms = Duration::from_millis;
        let mut trace = Trace::default();
        for number in 0..TRACED_TURNS + 3 {
            let began = started + ms(10) * u32::try_from(number).unwrap();
            let mut turn = Turn::begin(began);
            turn.end(Part::Datagrams, began + ms(1));
            turn.end(Part::Rooms, began + ms(3));
            turn.end(Part::Flush, began + ms(3));
            turn.end(Part::Sockets, began + ms(4));
            trace.add(turn);
        }
        let json: Value = serde_json::from_str(&trace.to_json(started)).unwrap();
        let events = json["traceEvents"].as_array().unwrap();
        assert_eq!(events.len(), 1 + 4 * TRACED_TURNS, "the oldest are gone, and empty parts are left out");
        let shown: Vec<_> =
            events[1..5].iter().map(|event| json!([event["name"], event["ts"], event["dur"]])).collect();
        let expected = json!([
            ["turn", 30_000, 4_000],
            ["datagrams", 30_000, 1_000],
            ["rooms", 31_000, 2_000],
            ["sockets", 33_000, 1_000]
        ]);
        assert_eq!(json!(shown), expected);
    }
}
