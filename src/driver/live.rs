//! Responses that are created for each request: rooms, metrics and the doctor's findings.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use tungstenite::Bytes;

use super::admin::Refusals;
use super::doctor::{Finding, Premises, Seen, capitalised};
use super::http::{Body, Response, Status};
use super::metrics::{self, Tcp};
use super::recorder::Recordings;
use super::reload::Reloader;
use super::tls::Acceptor;
use super::trace::Trace;
use super::udp::Udp;
use crate::game::Game;
use crate::server::{Histogram, Server};

const JSON: &str = "application/json";

const METRICS_ELSEWHERE: &str = "Here the metrics are for this machine only: start the server with --metrics ADDR:PORT \
    for an address of their own.";

const READY: &[u8] = br#"{"ready":true,"reasons":[]}"#;
const DRAINING: &[u8] = br#"{"ready":false,"reasons":["draining"]}"#;

/// A response that is created for each request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Live {
    /// The JSON of `/rooms`.
    Rooms,
    /// The text of `/metrics`.
    Metrics,
    /// The JSON of `/doctor.json`.
    Doctor,
    /// The JSON of `/readyz`.
    Ready,
}

/// The client that requests it.
pub(super) struct Asker {
    /// Why the client is not allowed to read it.
    pub(super) refusal: Option<String>,
    /// The address on which the request came in.
    pub(super) local: Option<IpAddr>,
    /// Whether it is on this machine.
    pub(super) is_local: bool,
    pub(super) seen: Seen,
}

/// The data sources other than the server.
pub(super) struct Sources<'a> {
    pub(super) udp: &'a mut Udp,
    pub(super) tls: Option<&'a Acceptor>,
    pub(super) reloader: &'a mut Reloader,
    pub(super) trace: &'a Trace,
    pub(super) recordings: Option<&'a Recordings>,
    pub(super) premises: &'a Premises,
    pub(super) turns: &'a Histogram,
    /// When the server was started, since 1970.
    pub(super) started: Duration,
    /// The same by the clock of the loop.
    pub(super) began: Instant,
    /// How long a server that is asked to stop waits for its rooms.
    pub(super) drain_time: Duration,
    pub(super) agones: Option<super::agones::Figures>,
    pub(super) admin: Option<Refusals>,
    #[cfg(feature = "cluster")]
    pub(super) publisher: Option<&'a super::events::Publisher>,
    #[cfg(feature = "cluster")]
    pub(super) store: Option<super::redis::Figures>,
}

/// Whether the server takes new players.
pub(super) fn ready<G: Game>(server: &Server<G>) -> Response {
    let (status, json) =
        if server.is_draining() { (Status::ServiceUnavailable, DRAINING) } else { (Status::Ok, READY) };
    Response::new(status, JSON, Body::Bytes(Bytes::from_static(json)))
}

impl Sources<'_> {
    pub(super) fn metrics<G: Game>(&mut self, now: Instant, server: &Server<G>, tcp: Tcp) -> Response {
        let text = metrics::text(now, server, self, tcp);
        Response::new(Status::Ok, metrics::CONTENT_TYPE, Body::Bytes(text.into()))
    }

    /// A refusal has its reason as the body; `/doctor.json` reports it as a finding.
    pub(super) fn answer<G: Game>(
        &mut self,
        what: Live,
        asker: Asker,
        now: Instant,
        server: &Server<G>,
        tcp: Tcp,
    ) -> Response {
        let Asker { refusal, local, is_local, seen } = asker;
        let refusal = refusal.as_deref();
        let status = if refusal.is_some() { Status::Forbidden } else { Status::Ok };
        let response =
            |content_type, bytes: Vec<u8>| Response::new(status, content_type, Body::Bytes(Bytes::from(bytes)));
        match (what, refusal) {
            // It gives nothing away, and load balancers use addresses and names of their own.
            (Live::Ready, _) => ready(server),
            (Live::Rooms | Live::Metrics, Some(sentence)) => Response::sentence(status, sentence),
            (Live::Metrics, None) if !is_local => Response::sentence(Status::Forbidden, METRICS_ELSEWHERE),
            (Live::Rooms, None) => {
                response(JSON, serde_json::to_vec(&server.listing(now)).expect("names and numbers are JSON"))
            }
            (Live::Metrics, None) => self.metrics(now, server, tcp),
            (Live::Doctor, refusal) => {
                let advertised = local.map(|local| server.candidates(local)).unwrap_or_default();
                let mut report = self.premises.report(&advertised, seen);
                report.findings.extend(self.tls.map(Acceptor::finding));
                if let Some((says, remedy)) = refusal.map(|refusal| refusal.split_once(": ").unwrap_or((refusal, ""))) {
                    report.findings = vec![Finding::fail("host", format!("{says}."), capitalised(remedy))];
                }
                response(JSON, serde_json::to_vec(&report).expect("sentences and numbers are JSON"))
            }
        }
    }
}
