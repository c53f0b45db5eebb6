//! The door by which other threads reach rooms: a bounded queue to the loop.

use std::collections::VecDeque;
use std::sync::mpsc::{self, Receiver, SyncSender, TrySendError};

use crate::game::Game;
use crate::limits;
use crate::server::{ExternalError, Server};
use crate::wire::signaling::RoomName;

type Message = (RoomName, Vec<u8>);

/// The end of the threads.
#[derive(Clone, Debug)]
pub(super) struct Outside(SyncSender<Message>);

/// The end of the loop.
pub(super) struct Inside {
    queue: Receiver<Message>,
    /// What the rooms have no place for before their next tick.
    waiting: VecDeque<Message>,
}

pub(super) fn door() -> (Outside, Inside) {
    let (sender, queue) = mpsc::sync_channel(limits::EXTERNAL_QUEUE);
    (Outside(sender), Inside { queue, waiting: VecDeque::new() })
}

impl Outside {
    pub(super) fn send(&self, room: &str, bytes: Vec<u8>) -> Result<(), ExternalError> {
        let room = RoomName::parse(room).ok_or(ExternalError::NoSuchRoom)?;
        if bytes.len() > limits::EXTERNAL_BYTES {
            return Err(ExternalError::TooLarge);
        }
        self.0.try_send((room, bytes)).map_err(|error| match error {
            TrySendError::Full(_) => ExternalError::Full,
            TrySendError::Disconnected(_) => ExternalError::Stopped,
        })
    }
}

impl Inside {
    /// Tells the rooms what they have place for; the order of what is for one room stays.
    pub(super) fn deliver<G: Game>(&mut self, server: &mut Server<G>) {
        let place = limits::EXTERNAL_QUEUE - self.waiting.len();
        self.waiting.extend(self.queue.try_iter().take(place));
        self.waiting.retain(|(room, bytes)| match server.handle_external(room, bytes) {
            Ok(()) => false,
            Err(ExternalError::Full) => true,
            Err(error) => {
                log::debug!("a message from outside for {room}: {error}");
                false
            }
        });
    }
}
