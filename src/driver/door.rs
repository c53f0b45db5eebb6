//! A bounded queue through which other threads send requests to the loop.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::mpsc::{self, Receiver, SyncSender, TrySendError};
use std::time::Instant;

use crate::game::Game;
use crate::hooks::{ArrivalId, Decision};
use crate::limits;
use crate::server::{ExternalError, RoomStatus, Server};
use crate::wire::signaling::RoomName;

/// A request of another thread.
pub(super) enum Message {
    External {
        room: RoomName,
        bytes: Vec<u8>,
    },
    Decision {
        arrival: ArrivalId,
        decision: Decision,
    },
    CloseRoom {
        room: RoomName,
        sentence: String,
    },
    Rooms(SyncSender<Vec<RoomStatus>>),
    PublicAddresses(Vec<SocketAddr>),
    #[cfg(feature = "cluster")]
    NodeUrl(String),
}

/// The sending end, for other threads.
#[derive(Clone, Debug)]
pub(super) struct Outside(SyncSender<Message>);

/// The receiving end, for the loop.
pub(super) struct Inside {
    queue: Receiver<Message>,
    /// Messages that the rooms can't take before their next tick.
    waiting: VecDeque<(RoomName, Vec<u8>)>,
}

pub(super) fn door() -> (Outside, Inside) {
    let (sender, queue) = mpsc::sync_channel(limits::EXTERNAL_QUEUE);
    (Outside(sender), Inside { queue, waiting: VecDeque::new() })
}

impl Outside {
    pub(super) fn send(&self, message: Message) -> Result<(), ExternalError> {
        if let Message::External { bytes, .. } = &message
            && bytes.len() > limits::EXTERNAL_BYTES
        {
            return Err(ExternalError::TooLarge);
        }
        self.0.try_send(message).map_err(|error| match error {
            TrySendError::Full(_) => ExternalError::Full,
            TrySendError::Disconnected(_) => ExternalError::Stopped,
        })
    }
}

impl Inside {
    /// Passes the requests on, to rooms as far as their queues allow. Messages for the same room stay in order.
    pub(super) fn deliver<G: Game>(&mut self, now: Instant, server: &mut Server<G>) {
        let place = limits::EXTERNAL_QUEUE - self.waiting.len();
        for message in self.queue.try_iter().take(place) {
            match message {
                Message::External { room, bytes } => self.waiting.push_back((room, bytes)),
                Message::Decision { arrival, decision } => server.handle_decision(now, arrival, decision),
                Message::CloseRoom { room, sentence } => server.handle_close_room(now, &room, &sentence),
                Message::PublicAddresses(addresses) => server.set_public(&addresses),
                #[cfg(feature = "cluster")]
                Message::NodeUrl(url) => server.set_node_url(now, url),
                // The thread may no longer wait for the answer.
                Message::Rooms(asker) => drop(asker.try_send(server.rooms().collect())),
            }
        }
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
