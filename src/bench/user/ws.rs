//! A client of a plain websocket server.
//!
//! `websocket.open` is measured from the intended time of the step that needs the connection; `websocket.echo`, of
//! measured messages, from the intended time of the step until a message with the same content returns.

use std::collections::VecDeque;
use std::time::Instant;

use mio::Token;
use tungstenite::Message;

use super::{ECHOES, Happened, Thread, Turn};
use crate::bench::meters::{Count, Time};
use crate::bench::websocket::{Brought, WebSocket};

pub(super) struct Ws {
    websocket: WebSocket,
    intended: Instant,
    is_leaving: bool,
    echoes: VecDeque<(String, Instant)>,
}

impl Ws {
    /// Starts to connect; `intended` is when this was due.
    pub(super) fn connect(intended: Instant, token: Token, thread: &mut Thread<'_>) -> Result<Ws, &'static str> {
        let target = thread.target;
        let url = target.url("ws", &target.path);
        let token = Token(token.0 + 1);
        let websocket = WebSocket::connect(&thread.registry, token, target, &url)?;
        Ok(Ws { websocket, intended, is_leaving: false, echoes: VecDeque::new() })
    }

    /// Returns whether more may wait.
    pub(super) fn handle_ready(&mut self, turn: &mut Turn<'_, '_>) -> bool {
        let Ws { websocket, intended, is_leaving, echoes } = self;
        websocket.handle_ready(|brought| match brought {
            Brought::Open => {
                turn.record_since(Time::WebsocketOpen, *intended);
            }
            Brought::Text(text) => {
                turn.add(Count::MessagesReceived, 1);
                if let Some(index) = echoes.iter().position(|(sent, _)| *sent == text.as_str())
                    && let Some((_, intended)) = echoes.remove(index)
                {
                    turn.record_since(Time::WebsocketEcho, intended);
                }
                turn.tell(Happened::Text(text.to_string()));
            }
            Brought::Binary(_) => turn.add(Count::MessagesReceived, 1),
            Brought::Closed { .. } if *is_leaving => turn.tell(Happened::Gone),
            Brought::Closed { error, .. } => turn.tell(Happened::Failed(error.to_owned())),
        })
    }

    /// Sends a message. If `intended` is given, its echo is measured from then.
    pub(super) fn send(&mut self, text: String, intended: Option<Instant>, turn: &mut Turn<'_, '_>) {
        if let Some(intended) = intended {
            if self.echoes.len() >= ECHOES {
                self.echoes.pop_front();
            }
            self.echoes.push_back((text.clone(), intended));
        }
        self.websocket.send(Message::text(text));
        self.websocket.flush();
        turn.add(Count::MessagesSent, 1);
    }

    pub(super) fn leave(&mut self) {
        self.is_leaving = true;
        self.websocket.send(Message::Close(None));
        self.websocket.flush();
    }

    pub(super) fn is_closed(&self) -> bool {
        self.websocket.is_closed()
    }
}
