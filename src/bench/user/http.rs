//! A client of an HTTP server.
//!
//! `http.response_time` is measured from the intended time of the step to the last byte of the response.

use std::time::Instant;

use mio::Token;

use super::{Happened, Turn};
use crate::bench::http::{self, Request};
use crate::bench::meters::{Count, Time};

pub(super) struct Http {
    connection: http::Http,
    /// When the request was due.
    intended: Instant,
}

impl Http {
    pub(super) fn new(intended: Instant, token: Token) -> Http {
        Http { connection: http::Http::new(Token(token.0 + 1)), intended }
    }

    /// Sends a request that was due at `intended`.
    pub(super) fn ask(
        &mut self,
        intended: Instant,
        request: &Request,
        turn: &mut Turn<'_, '_>,
    ) -> Result<(), &'static str> {
        self.intended = intended;
        turn.add(Count::Requests, 1);
        turn.thread.ask(&mut self.connection, request)
    }

    /// Returns whether more may wait.
    pub(super) fn handle_ready(&mut self, turn: &mut Turn<'_, '_>) -> bool {
        let (answered, has_more) = self.connection.handle_ready(&mut turn.thread.buffer);
        match answered {
            Ok(Some(response)) => {
                turn.add(Count::Responses, 1);
                turn.add(Count::Downloaded, response.body.len() as u64);
                turn.count(&format!("http.codes.{}", response.status));
                turn.record_since(Time::Answered, self.intended);
                turn.tell(Happened::Done);
            }
            Ok(None) => {}
            Err(name) => turn.tell(Happened::Failed(name.to_owned())),
        }
        has_more
    }
}
