//! The recordings of a run, and their replays.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use rtcade::journal::{Journal, Replay, Verdict};
use rtcade::server::Server;

use super::witness::{Book, Witness};

/// What was recorded of a room so far.
type Recording = Rc<RefCell<Vec<u8>>>;

/// What was recorded of each room.
#[derive(Clone, Default)]
pub(super) struct Recordings(Rc<RefCell<Vec<Recording>>>);

impl Recordings {
    pub(super) fn attach(&self, server: &mut Server<Witness>) {
        let recordings = self.clone();
        server.record(move |_| {
            let recording = Recording::default();
            recordings.0.borrow_mut().push(Rc::clone(&recording));
            Box::new(move |block: &[u8]| recording.borrow_mut().extend_from_slice(block))
        });
    }

    /// Every room says again what it said. Where the server is still there, the last tick may be cut off.
    pub(super) fn check(&self, tick: Duration, may_be_cut_off: bool) -> Result<(), String> {
        for (number, recording) in self.0.borrow().iter().enumerate() {
            replay(&recording.borrow(), tick, may_be_cut_off)
                .map_err(|fault| format!("the recording of room {number}: {fault}"))?;
        }
        Ok(())
    }
}

fn replay(recording: &[u8], tick: Duration, may_be_cut_off: bool) -> Result<(), String> {
    let journal = Journal::parse(recording).map_err(|error| error.to_string())?;
    let recorded = journal.header().room.tick;
    if recorded != tick {
        return Err(format!("it has ticks of {recorded:?} instead of {tick:?}"));
    }
    let max_players = journal.header().max_players;
    let book = Rc::new(RefCell::new(Book { tick, ..Book::default() }));
    let mut replay =
        Replay::new(&journal, |info| Witness::new(&book, info, max_players)).map_err(|refusal| refusal.to_string())?;
    while let Some(step) = replay.step().map_err(|error| error.to_string())? {
        let is_cut_off = step.verdict == Verdict::Unknown && may_be_cut_off;
        if step.verdict != Verdict::Same && !is_cut_off {
            return Err(format!("tick {} is replayed as {:?}", step.tick.number, step.verdict));
        }
    }
    Ok(())
}
