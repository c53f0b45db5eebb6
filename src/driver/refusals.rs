//! Requests that are refused regardless of their path, and the remedy for requests that a proxy has changed.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::doctor::NGINX_UPGRADE;
use super::gate::Origin;
use super::http::{Request, Response, Status};
use super::tls::Redirect;
use crate::log_limit::Throttle;
use crate::wire::codes::ErrorCode;
use crate::wire::signaling::Fault;

/// The time after which a client may try again that was refused because the server was full.
const CROWDED_RETRY: Duration = Duration::from_secs(5);
/// How long a request that has lost its upgrade is counted.
const MEMORY: Duration = Duration::from_mins(10);
/// Requests within this time are counted together.
const STEP: Duration = Duration::from_mins(1);

/// Counts websocket requests of browsers that arrived without `Upgrade`.
#[derive(Debug)]
pub(super) struct DroppedUpgrades {
    /// The count since each time, the oldest first.
    counts: VecDeque<(Instant, u64)>,
    log: Throttle,
}

impl DroppedUpgrades {
    pub(super) fn new() -> DroppedUpgrades {
        DroppedUpgrades { counts: VecDeque::new(), log: Throttle::new(1, MEMORY) }
    }

    /// Counts a request and returns the response.
    pub(super) fn note(&mut self, now: Instant, remote: SocketAddr) -> String {
        match self.counts.back_mut() {
            Some((since, count)) if now < *since + STEP => *count += 1,
            _ => self.counts.push_back((now, 1)),
        }
        self.forget(now);
        if let Some(left_out) = self.log.take(now) {
            log::warn!(
                "{remote}: a websocket request arrived without Upgrade: players can't connect through this proxy until \
                it passes Upgrade on (nginx: {NGINX_UPGRADE}){left_out}"
            );
        }
        format!(
            "This is a websocket request (it has Sec-WebSocket-Key), but it arrived without Upgrade or over HTTP/1.0: \
            let the proxy pass Upgrade on. An nginx location needs: {NGINX_UPGRADE}"
        )
    }

    /// The number of recent requests.
    pub(super) fn count(&mut self, now: Instant) -> u64 {
        self.forget(now);
        self.counts.iter().map(|(_, count)| count).sum()
    }

    fn forget(&mut self, now: Instant) {
        while self.counts.front().is_some_and(|(since, _)| now >= *since + MEMORY) {
            self.counts.pop_front();
        }
    }
}

/// Why a request is refused regardless of its path, with the HTTP status.
pub(super) fn rejection(crowded: Option<Status>, request: &Request) -> Option<(Status, Fault)> {
    let wait = |fault| Fault { retry_after: Some(CROWDED_RETRY), ..fault };
    match crowded {
        Some(status @ Status::TooManyRequests) => {
            let sentence =
                "Too many connections are open from this address: close some, or try again in a few seconds.";
            Some((status, wait(Fault::new(ErrorCode::RateLimited, sentence))))
        }
        Some(status) => {
            let sentence = "The server is full: try again in a few seconds.";
            Some((status, wait(Fault::new(ErrorCode::RoomFull, sentence))))
        }
        None if request.has_lost_cookies => {
            let sentence = "The cookies of this site are too long for the server, which takes 16 KiB with all other \
                fields: delete them, or let the game have a host name of its own.";
            Some((Status::HeadTooLarge, Fault::new(ErrorCode::TooLarge, sentence)))
        }
        None => None,
    }
}

/// Why a websocket without encryption is refused where TLS is expected.
pub(super) fn unencrypted() -> (Status, Fault) {
    let sentence = "This port accepts encrypted connections only: use wss:// instead of ws://.";
    (Status::BadRequest, Fault::new(ErrorCode::BadRequest, sentence))
}

/// Redirects an unencrypted request to the same path of the same host with TLS.
pub(super) fn to_https(request: &Request, redirect: Redirect) -> Response {
    let Some(asked) = Origin::parse(&format!("https://{}", request.sender.host)) else {
        let sentence = "This port accepts encrypted connections only: use https:// instead of http://.";
        return Response::sentence(Status::BadRequest, sentence);
    };
    let origin = match redirect {
        Redirect::SamePort => asked.to_string(),
        Redirect::Port(443) => format!("https://{}", asked.host()),
        Redirect::Port(port) => format!("https://{}:{port}", asked.host()),
    };
    Response::sentence(Status::PermanentRedirect, "This server uses https://.")
        .field("Location", format!("{origin}{}{}", request.path, request.query))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::driver::http::Sender;

    #[test]
    fn an_unencrypted_request_is_redirected_to_what_it_asked_for() {
        let location = |host: &str, redirect| {
            let sender = Sender { host: host.to_owned(), ..Sender::default() };
            let (path, query) = ("/r/a".to_owned(), "?dev".to_owned());
            let response = to_https(&Request { path, query, sender, ..Request::default() }, redirect);
            let text = format!("{response:?}");
            let location = text.split_once("(\"Location\", \"").and_then(|(_, rest)| rest.split('"').next());
            (response.status, location.map(str::to_owned))
        };
        let check = |host, redirect, expected: &str| {
            let expected = (Status::PermanentRedirect, Some(expected.to_owned()));
            assert_eq!(location(host, redirect), expected, "{host} {redirect:?}");
        };
        check("game.example", Redirect::Port(443), "https://game.example/r/a?dev");
        check("game.example:80", Redirect::Port(443), "https://game.example/r/a?dev");
        check("game.example:8080", Redirect::Port(8443), "https://game.example:8443/r/a?dev");
        check("game.example:8443", Redirect::SamePort, "https://game.example:8443/r/a?dev");
        check("[2001:db8::7]:80", Redirect::Port(8443), "https://[2001:db8::7]:8443/r/a?dev");
        for host in ["", "a b", "evil.example/", "a@b", "h:99999", "x\u{e9}"] {
            assert_eq!(location(host, Redirect::Port(443)), (Status::BadRequest, None), "{host}");
        }
    }

    #[test]
    fn requests_are_remembered_for_ten_minutes_in_little_memory() {
        let start = Instant::now();
        let remote = SocketAddr::from(([127, 0, 0, 1], 9));
        let mut dropped = DroppedUpgrades::new();
        assert_eq!(dropped.count(start), 0);
        for second in 0..3_600 {
            assert!(dropped.note(start + Duration::from_secs(second), remote).contains(NGINX_UPGRADE));
        }
        assert!(dropped.counts.len() <= 10, "{}", dropped.counts.len());
        let last = start + Duration::from_secs(3_599);
        assert_eq!(dropped.count(last), 600);
        assert_eq!(dropped.count(last + MEMORY / 2), 300);
        assert_eq!(dropped.count(last + MEMORY), 0);
    }
}
