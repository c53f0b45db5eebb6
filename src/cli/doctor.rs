//! `rtcade doctor`: finds out what prevents players from connecting, and names the remedy.

#![expect(clippy::disallowed_types, clippy::disallowed_methods, reason = "a client of its own, with its sockets")]

use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use clap::{Arg, Args};
use serde::Deserialize;
use serde_json::json;
use tungstenite::handshake::HandshakeError;
use tungstenite::http::{Response, StatusCode, Uri};
use tungstenite::{ClientRequestBuilder, Message, WebSocket};

use super::{ExitCode, Network, complain};
use crate::auth;
use crate::bench::http;
use crate::bench::target::{self, Unreachable};
use crate::bench::tls::{Stream, Trust};
use crate::driver::Origin;
use crate::driver::doctor::{Finding, NGINX_HOST, NGINX_SCHEME, NGINX_UPGRADE, Report, Seen, Verdict, examine};
use crate::limits;
use crate::peer::{self, Identity, LocalId, Outbox, Peer};
use crate::wire::codes::ErrorCode;
use crate::wire::frame::{Direction, Frame, Header, Kind, Transport};
use crate::wire::msgpack;
use crate::wire::signaling::{self, RoomName};

/// For a connection, a response, a reply.
const PATIENCE: Duration = Duration::from_secs(5);
/// For a data channel, which may lose a flight of its handshake or two.
const CHANNEL_PATIENCE: Duration = Duration::from_secs(10);
/// Bytes of a response.
const RESPONSE_BYTES: usize = 64 * 1024;
/// The check that pages of the server itself may play on it.
const PAGES: &str = "pages";
const PINGS: u32 = 10;
const PING_PAUSE: Duration = Duration::from_millis(100);
/// Pings of one size, before it is taken not to pass.
const SIZE_ATTEMPTS: u32 = 4;
/// Bytes of padding, from the largest to the smallest; the overhead is about 85 bytes.
const PADDINGS: [usize; 8] = [FULL_PADDING, 1_000, 900, 800, 700, 500, 300, 100];
/// The padding of a pong that fills its frame; the rest of the value is its msgpack head.
const FULL_PADDING: usize = limits::PING_PADDING_BYTES - 3;
/// How long one turn may sleep.
const TURN_PAUSE: Duration = Duration::from_millis(1);

/// The options of the command.
#[derive(Debug, Args)]
#[group(skip)]
#[command(mut_args(|arg| if is_of_a_server(&arg) { arg.conflicts_with("url") } else { arg }))]
pub(super) struct Doctor {
    /// A running server, or one of its rooms, as in http://192.0.2.7:8080/r/lobby. Without it, the doctor checks
    /// this machine with the options below.
    #[arg(value_parser = target)]
    url: Option<Target>,
    /// The token to join with, if the server requires one; it must be valid for the room in the URL.
    #[arg(long, value_name = "TOKEN", requires = "url")]
    bearer: Option<String>,
    /// Accept any TLS certificate.
    #[arg(short = 'k', long, requires = "url")]
    insecure: bool,
    #[command(flatten)]
    network: Network,
}

/// Whether the option is only for a server that is not running yet.
fn is_of_a_server(argument: &Arg) -> bool {
    !["url", "bearer", "insecure", "verbose", "log", "log_format"].contains(&argument.get_id().as_str())
}

/// A server and a room of it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Target {
    is_secure: bool,
    authority: String,
    port: u16,
    /// The path prefix if a proxy serves the server below one: empty, or begins with `/`.
    prefix: String,
    room: Option<String>,
}

fn target(text: &str) -> Result<Target, &'static str> {
    const EXPECTED: &str = "expected a URL of a server or room, as in http://192.0.2.7:8080/ or http://host/r/lobby";
    let uri: Uri = text.parse().map_err(|_| EXPECTED)?;
    let (is_secure, default_port) = match uri.scheme_str() {
        Some("http") => (false, 80),
        Some("https") => (true, 443),
        _ => return Err(EXPECTED),
    };
    let authority = uri.authority().ok_or(EXPECTED)?;
    let (prefix, room) = match uri.path().rsplit_once("/r/") {
        Some((prefix, room)) => (prefix, Some(RoomName::parse(room).ok_or(EXPECTED)?.as_str().to_owned())),
        None => (uri.path().strip_suffix("/doctor").unwrap_or(uri.path()), None),
    };
    Ok(Target {
        is_secure,
        authority: authority.to_string(),
        port: authority.port_u16().unwrap_or(default_port),
        prefix: prefix.trim_end_matches('/').to_owned(),
        room,
    })
}

impl Target {
    /// The origin of the server's pages, as given here.
    fn origin(&self, authority: &str) -> String {
        format!("{}://{authority}", if self.is_secure { "https" } else { "http" })
    }
}

/// Prints the findings. Returns the exit status: 1 if a check failed.
pub(super) fn run(doctor: Doctor) -> ExitCode {
    doctor.network.logging.apply();
    let mut sheet = Sheet { out: io::stdout(), worst: Verdict::Ok };
    let printed = match doctor.url {
        Some(target) => examine_server(&target, doctor.bearer.as_deref(), &Trust::new(doctor.insecure), &mut sheet),
        None => {
            let findings = match doctor.network.options("".into()) {
                Ok(options) => examine(&options),
                Err(error) => vec![error.into()],
            };
            findings.into_iter().try_for_each(|found| sheet.note(&found))
        }
    };
    match (printed, sheet.worst) {
        (Ok(()), Verdict::Ok | Verdict::Warn) => ExitCode::SUCCESS,
        (Ok(()), Verdict::Fail) => ExitCode::FAILURE,
        (Err(error), _) => {
            complain(&format!("the findings can't be printed: {error}"));
            ExitCode::FAILURE
        }
    }
}

/// Prints each finding at once.
struct Sheet {
    out: io::Stdout,
    worst: Verdict,
}

impl Sheet {
    fn note(&mut self, found: &Finding) -> io::Result<()> {
        let verdict = match found.verdict {
            Verdict::Ok => "ok",
            Verdict::Warn => "warn",
            Verdict::Fail => "FAIL",
        };
        if self.worst != Verdict::Fail && found.verdict != Verdict::Ok {
            self.worst = found.verdict;
        }
        // Text from another machine must not contain control characters for this terminal.
        let plain = |text: &str| text.replace(char::is_control, " ");
        writeln!(self.out, "{verdict:<5} {:<22} {}", plain(&found.check), plain(&found.says))?;
        if !found.remedy.is_empty() {
            writeln!(self.out, "{:<28} -> {}", "", plain(&found.remedy))?;
        }
        self.out.flush()
    }
}

/// Tests the steps of a player's connection, up to the first that fails.
fn examine_server(target: &Target, bearer: Option<&str>, trust: &Trust, sheet: &mut Sheet) -> io::Result<()> {
    let (server, report, skew_ms) = match reach(target, trust) {
        Ok(reached) => reached,
        Err(found) => return sheet.note(&found),
    };
    let address = server.address;
    sheet.note(&Finding::ok("page", format!("An rtcade server answers at {address}.")))?;
    for found in &report.findings {
        sheet.note(&Finding { check: format!("server: {}", found.check), ..found.clone() })?;
    }
    sheet.note(&clock(skew_ms))?;
    for found in way(target, &report.seen) {
        sheet.note(&found)?;
    }
    let mut joined = Visit::join(target, bearer, &server, Origin::parse(&target.origin(&target.authority)));
    if let Err(found) = &joined
        && found.check == PAGES
    {
        sheet.note(found)?;
        joined = Visit::join(target, bearer, &server, None);
    }
    match joined {
        Ok((visit, answer)) => {
            sheet.note(&Finding::ok("websocket", "The websocket opens, and a room admits players."))?;
            visit.examine_channel(&answer, address, sheet)
        }
        Err(found) => sheet.note(&found),
    }
}

/// Returns the server, its report, and by how many milliseconds its clock is ahead.
fn reach(target: &Target, trust: &Trust) -> Result<(target::Target, Report, f64), Finding> {
    let url = format!("{}/", target.origin(&target.authority));
    let (server, mut stream) = target::Target::connect(&url, trust, PATIENCE).map_err(|unreachable| {
        let is_tls = matches!(&unreachable, Unreachable::Server { error, .. }
            if error.kind() == io::ErrorKind::InvalidData);
        let remedy = if is_tls {
            "Browsers refuse it, too: give the server a certificate for this name from an authority that they trust."
                .to_owned()
        } else {
            format!("Start the server; check the name and the port; open TCP port {} in the firewall.", target.port)
        };
        Finding::fail("page", format!("{unreachable}."), remedy)
    })?;
    let asked_ms = unix_ms();
    let path = format!("{}/doctor.json", target.prefix);
    let report = http::get(&server, &mut stream, &path, RESPONSE_BYTES, PATIENCE)
        .ok()
        .filter(|response| response.status == 200)
        .and_then(|response| serde_json::from_slice::<Report>(&response.body).ok())
        .ok_or_else(|| {
            let says = format!("A program answers at {}, but it is not an rtcade server.", server.address);
            let remedy =
                "Use the address that the server printed at startup; a proxy in front of it must pass on every path.";
            Finding::fail("page", says, remedy)
        })?;
    #[expect(clippy::cast_precision_loss, reason = "milliseconds since 1970 are below 2⁵³")]
    let skew_ms = report.unix_ms as f64 - f64::midpoint(asked_ms, unix_ms());
    Ok((server, report, skew_ms))
}

fn is_upgrade_required<T>(response: &Response<T>) -> bool {
    response.status() == StatusCode::UPGRADE_REQUIRED
}

/// Checks what proxies have changed in the requests.
fn way(target: &Target, seen: &Seen) -> Vec<Finding> {
    let first = |list: &Option<String>| {
        let list = list.as_ref().filter(|_| seen.proxy_trusted)?;
        Some(list.split(',').next()?.trim().to_owned())
    };
    let host = first(&seen.forwarded_host).unwrap_or_else(|| seen.host.clone());
    let origin = |authority: &str| Origin::parse(&target.origin(authority));
    let asked = origin(&target.authority);
    let mut findings = Vec::new();
    if asked.is_some() && asked == origin(&host) {
        findings.push(Finding::ok("host", format!("The server receives the host name that was given here, {host}.")));
    } else {
        let says = format!(
            "The server receives the host name {host}, not {}: a proxy changes the Host field, so the server refuses \
            its pages.",
            target.authority
        );
        let remedy = format!(
            "Let the proxy pass the host name on (nginx: {NGINX_HOST}), or start the server with --origin {}.",
            target.origin(&target.authority)
        );
        findings.push(Finding::warn("host", says, remedy));
    }
    let own = if target.is_secure { "https" } else { "http" };
    if let Some(scheme) = first(&seen.forwarded_proto).filter(|scheme| scheme != own) {
        let says = format!("The proxy sends the scheme {scheme}, but this address uses {own}.");
        findings.push(Finding::warn("scheme", says, format!("Let the proxy send the scheme (nginx: {NGINX_SCHEME}).")));
    }
    if !seen.proxy_trusted
        && let Some(forwarded) = &seen.forwarded_for
    {
        let says = format!(
            "A proxy sends X-Forwarded-For ({forwarded}), but the server does not trust it: all players count as one \
            address."
        );
        let remedy =
            "Start the server with --trusted-proxy ADDR, the address of the proxy (127.0.0.1 on the same machine).";
        findings.push(Finding::warn("proxy", says, remedy));
    }
    if seen.upgrades_dropped > 0 {
        let says = format!(
            "{} requests for a websocket reached the server without Upgrade in the last ten minutes.",
            seen.upgrades_dropped
        );
        findings.push(Finding::warn(
            "upgrade",
            says,
            format!("Let the proxy pass Upgrade on (nginx: {NGINX_UPGRADE})."),
        ));
    }
    findings
}

fn unix_ms() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64() * 1_000.0
}

fn clock(skew_ms: f64) -> Finding {
    let seconds = skew_ms / 1_000.0;
    if seconds.abs() <= auth::LEEWAY.as_secs_f64() {
        Finding::ok("clock", format!("The clocks of the server and this machine differ by {:.1} s.", seconds.abs()))
    } else {
        let direction = if seconds > 0.0 { "ahead of" } else { "behind" };
        Finding::warn(
            "clock",
            format!("The server's clock is {:.0} s {direction} this machine's.", seconds.abs()),
            format!(
                "Set both with NTP: tokens expire by the server's clock, which may differ by {} s.",
                auth::LEEWAY.as_secs()
            ),
        )
    }
}

/// A stay in a room, without playing.
struct Visit {
    websocket: WebSocket<Stream<TcpStream>>,
    peer: Peer,
    outbox: Outbox,
    sockets: Vec<(LocalId, UdpSocket)>,
    started: Instant,
    next_seq: u16,
    /// The clock of the ping that is waited for, and when its pong came.
    pinged: Option<(f64, Option<Instant>)>,
    /// Why there is no channel.
    ended: Option<String>,
    /// Bytes of the largest datagrams since the last ping.
    largest_sent: usize,
    largest_received: usize,
}

impl Visit {
    /// Joins with an offer, as a page of this origin does if one is given; also the answer to the offer.
    fn join(
        target: &Target,
        bearer: Option<&str>,
        server: &target::Target,
        origin: Option<Origin>,
    ) -> Result<(Visit, String), Finding> {
        let blocked = |error: &dyn std::fmt::Display| {
            let remedy =
                format!("A proxy in front of the server must pass `Upgrade: websocket` on (nginx: {NGINX_UPGRADE}).");
            Finding::fail("websocket", format!("The websocket doesn't open: {error}."), remedy)
        };
        let stream = server.open(PATIENCE).map_err(|error| blocked(&error))?;
        let mut seed = [0; 32];
        getrandom::fill(&mut seed).map_err(|error| blocked(&error))?;
        let fresh = || format!("doctor-{:08x}", u32::from_le_bytes([seed[0], seed[1], seed[2], seed[3]]));
        let room = target.room.clone().unwrap_or_else(fresh);
        let scheme = if target.is_secure { "wss" } else { "ws" };
        let url = format!("{scheme}://{}{}/r/{room}", target.authority, target.prefix);
        let url: Uri = url.parse().map_err(|error| blocked(&error))?;
        let request = origin
            .into_iter()
            .fold(ClientRequestBuilder::new(url), |request, origin| request.with_header("Origin", origin.to_string()));
        let (mut websocket, _) = tungstenite::client(request, stream).map_err(|error| match error {
            HandshakeError::Failure(tungstenite::Error::Http(response)) if is_upgrade_required(&response) => {
                blocked(&"the request reaches the server without Upgrade, because a proxy does not pass it on")
            }
            error => blocked(&error),
        })?;

        let started = Instant::now();
        let (peer, offer) = Peer::offer(started, &Identity::generate(), seed);
        let data = json!({"name": "doctor", "bearer": bearer, "version": signaling::VERSION, "sdp": offer});
        let join = json!({"a": "join", "d": data});
        websocket.send(Message::text(join.to_string())).map_err(|error| blocked(&error))?;
        let answer = reply(&mut websocket, bearer.is_some())?;
        let visit = Visit {
            websocket,
            peer,
            outbox: Outbox::default(),
            sockets: Vec::new(),
            started,
            next_seq: 0,
            pinged: None,
            ended: None,
            largest_sent: 0,
            largest_received: 0,
        };
        Ok((visit, answer))
    }

    fn examine_channel(mut self, answer: &str, server: SocketAddr, sheet: &mut Sheet) -> io::Result<()> {
        let candidates = candidates(answer);
        sheet.note(&advertised(&candidates, server.ip()))?;
        match self.open(answer, &candidates) {
            Ok(()) => {
                sheet.note(&Finding::ok("UDP", "The data channel opens."))?;
                let round_trip = self.measure_round_trip();
                sheet.note(&self.round_trip(round_trip.as_ref()))?;
                let patience = round_trip.map_or(PING_PAUSE, |(_, longest)| longest).saturating_mul(3);
                let size = self.measure_size(patience.max(PING_PAUSE));
                sheet.note(&size)?;
            }
            Err(cause) => sheet.note(&no_channel(&cause, &candidates, server))?,
        }
        self.leave();
        Ok(())
    }

    /// Opens the data channel, or returns why it doesn't open.
    fn open(&mut self, answer: &str, candidates: &[SocketAddr]) -> Result<(), String> {
        let mut locals = Vec::new();
        for &candidate in candidates {
            let Ok(ip) = source_for(candidate) else { continue };
            if locals.iter().any(|(_, local): &(LocalId, SocketAddr)| local.ip() == ip) {
                continue;
            }
            let id = LocalId(u16::try_from(locals.len()).map_err(|_| "there are too many addresses")?);
            let bound = UdpSocket::bind((ip, 0)).and_then(|socket| {
                socket.set_nonblocking(true)?;
                Ok((socket.local_addr()?, socket))
            });
            let (local, socket) = bound.map_err(|error| format!("no UDP socket can be opened on {ip}: {error}"))?;
            locals.push((id, local));
            self.sockets.push((id, socket));
        }
        if locals.is_empty() {
            return Err("this machine has no route to any UDP address that the server sends".to_owned());
        }
        self.websocket.get_ref().socket().set_nonblocking(true).map_err(|error| error.to_string())?;
        let accepted = self.peer.accept(Instant::now(), answer, &locals, &mut self.outbox);
        accepted.map_err(|error| error.to_string())?;
        let silent = || format!("nothing came back within {} s", CHANNEL_PATIENCE.as_secs());
        let is_settled = |visit: &Visit| visit.peer.is_open() || visit.ended.is_some();
        let settled = self.turn_until(CHANNEL_PATIENCE, is_settled);
        match self.ended.take() {
            Some(cause) => Err(cause),
            None if settled => Ok(()),
            None => Err(silent()),
        }
    }

    /// The number of pongs, with the median and the longest round trip; `None` if none arrived.
    fn measure_round_trip(&mut self) -> Option<(Vec<Duration>, Duration)> {
        let mut round_trips: Vec<_> = (0..PINGS).filter_map(|_| self.ping(None, Duration::from_secs(1))).collect();
        round_trips.sort();
        let longest = *round_trips.last()?;
        Some((round_trips, longest))
    }

    fn round_trip(&self, measured: Option<&(Vec<Duration>, Duration)>) -> Finding {
        const CHECK: &str = "round trip";
        let Some((round_trips, longest)) = measured else {
            let cause = self.ended.as_deref().unwrap_or("no pong came back");
            return Finding::fail(
                CHECK,
                format!("The data channel is open but delivers nothing: {cause}."),
                "Run the doctor again.",
            );
        };
        let ms = |round_trip: Duration| round_trip.as_secs_f64() * 1_000.0;
        let came = round_trips.len();
        let median = ms(round_trips[came / 2]);
        let says =
            format!("{came} of {PINGS} pings came back, after {median:.1} ms (median) to {:.1} ms.", ms(*longest));
        if came == PINGS as usize {
            Finding::ok(CHECK, says)
        } else {
            Finding::warn(CHECK, says, "The path loses packets: check wireless links and full queues on the path.")
        }
    }

    /// Which datagrams pass both ways.
    fn measure_size(&mut self, patience: Duration) -> Finding {
        const CHECK: &str = "UDP size";
        for (tried, padding) in PADDINGS.into_iter().enumerate() {
            if (0..SIZE_ATTEMPTS).all(|_| self.ping(Some(padding), patience).is_none()) {
                continue;
            }
            let (up, down) = (self.largest_sent, self.largest_received);
            let says = format!("Datagrams of {up} bytes up and {down} down pass");
            return if tried == 0 {
                Finding::ok(CHECK, format!("{says}: frames of full size."))
            } else {
                Finding::fail(
                    CHECK,
                    format!(
                        "{says}, larger ones of up to {} bytes don't: large states are lost.",
                        limits::UDP_PAYLOAD_BYTES
                    ),
                    "Raise the MTU of the tunnel or link to 1280 or more, or send less per tick.",
                )
            };
        }
        let says = "Small datagrams pass, those with 100 bytes more don't.";
        Finding::fail(CHECK, says, "A device on the path drops datagrams by size: check firewalls and tunnels.")
    }

    /// Sends a ping with this much padding. Returns the round trip if the pong arrives in time.
    fn ping(&mut self, padding: Option<usize>, patience: Duration) -> Option<Duration> {
        let sent = Instant::now();
        let clock_ms = (sent - self.started).as_secs_f64() * 1_000.0;
        let body = match padding {
            Some(bytes) => msgpack::encode_padded_ping(clock_ms, bytes),
            None => msgpack::encode_clock(clock_ms),
        };
        let header = Header::Unreliable { part: None, seq: self.next_seq, ack: 0 };
        self.next_seq = self.next_seq.wrapping_add(1);
        let mut frame = Vec::new();
        Frame { kind: Kind::Ping, deflated: false, header, body: &body }.encode(&mut frame);
        (self.largest_sent, self.largest_received) = (0, 0);
        self.pinged = Some((clock_ms, None));
        self.peer.send(sent, &frame, &mut self.outbox);
        self.turn_until(patience, |visit| visit.ended.is_some() || visit.pinged.is_some_and(|(_, at)| at.is_some()));
        let came = self.pinged.take()?.1?;
        self.turn_until(PING_PAUSE, |visit| visit.ended.is_some());
        Some(came - sent)
    }

    /// Whether it came to that in time.
    fn turn_until(&mut self, patience: Duration, done: impl Fn(&Visit) -> bool) -> bool {
        let deadline = Instant::now() + patience;
        loop {
            self.turn();
            if done(self) {
                return true;
            }
            if Instant::now() >= deadline {
                return false;
            }
            std::thread::sleep(TURN_PAUSE);
        }
    }

    fn turn(&mut self) {
        let now = Instant::now();
        let mut datagram = [0; 2048];
        for (local, socket) in &self.sockets {
            while let Ok((length, source)) = socket.recv_from(&mut datagram) {
                if self.pinged.is_some_and(|(_, came)| came.is_none()) {
                    self.largest_received = self.largest_received.max(length);
                }
                self.peer.handle_datagram(now, *local, source, &datagram[..length], &mut self.outbox);
            }
        }
        if self.peer.poll_timeout().is_some_and(|at| at <= now) {
            self.peer.handle_timeout(now, &mut self.outbox);
        }
        while let Some(event) = self.peer.poll_event() {
            match event {
                peer::Event::Open => {}
                peer::Event::Data(frame) => self.handle_frame(now, &frame),
                peer::Event::Closed(why) => self.ended = Some(format!("the data channel has closed: {why:?}")),
            }
        }
        while let Some(transmit) = self.outbox.poll() {
            self.largest_sent = self.largest_sent.max(transmit.bytes.len());
            if let Some((_, socket)) = self.sockets.iter().find(|(local, _)| *local == transmit.local) {
                // Data that can't be sent counts as lost.
                let _ = socket.send_to(transmit.bytes, transmit.destination);
            }
        }
        self.read_websocket();
    }

    fn handle_frame(&mut self, now: Instant, bytes: &[u8]) {
        let Ok(frame) = Frame::parse(bytes, Direction::Down, Transport::DataChannel) else { return };
        if frame.kind == Kind::Pong
            && let Some((clock_ms, came @ None)) = &mut self.pinged
            && let Some(held) = msgpack::decode_clock(frame.body).ok().and_then(|clock| held(clock - *clock_ms))
        {
            *came = now.checked_sub(held);
        }
    }

    fn read_websocket(&mut self) {
        loop {
            match self.websocket.read() {
                Ok(Message::Text(text)) => {
                    if let Some(cause) = channel_fault(&text) {
                        self.ended = Some(cause);
                    }
                }
                Ok(_) => {}
                Err(tungstenite::Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) => {
                    self.ended.get_or_insert_with(|| format!("the websocket has closed: {error}"));
                    return;
                }
            }
        }
    }

    fn leave(mut self) {
        self.peer.close(Instant::now(), peer::Closed::ByPeer, &mut self.outbox);
        self.turn();
        let _ = self.websocket.send(Message::text(r#"{"a":"leave"}"#));
        let _ = self.websocket.close(None);
    }
}

/// For how long the server held a ping, by how far the clock in its pong is ahead; `None` for another ping's pong.
fn held(ahead_ms: f64) -> Option<Duration> {
    let plausible = 0.0..PATIENCE.as_secs_f64() * 1_000.0;
    plausible.contains(&ahead_ms).then(|| Duration::from_secs_f64(ahead_ms / 1_000.0))
}

/// The answer in the reply to `join`.
fn reply(websocket: &mut WebSocket<Stream<TcpStream>>, has_bearer: bool) -> Result<String, Finding> {
    #[derive(Deserialize)]
    struct Reply {
        a: String,
        #[serde(default)]
        s: bool,
        #[serde(default)]
        e: String,
        #[serde(default)]
        m: String,
        #[serde(default)]
        d: serde_json::Value,
    }
    const CHECK: &str = "join";
    let silent = |why: &dyn std::fmt::Display| {
        let remedy = "See the server's log; -v makes it more detailed.";
        Finding::fail(CHECK, format!("The websocket is open, but there is no reply: {why}."), remedy)
    };
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        let Message::Text(text) = websocket.read().map_err(|error| silent(&error))? else { continue };
        let reply: Reply = serde_json::from_str(&text).map_err(|error| silent(&error))?;
        if reply.a != "joinR" {
            continue;
        }
        if !reply.s && reply.e == ErrorCode::Origin.as_str() {
            return Err(Finding::warn(PAGES, reply.m, "Pages of the origins that --origin names are not affected."));
        }
        let of_token = [ErrorCode::Unauthorized, ErrorCode::Expired].iter().any(|code| code.as_str() == reply.e);
        if !reply.s && of_token {
            let find = if has_bearer { Finding::fail } else { Finding::warn };
            let says = format!("Joining requires a token, so UDP was not tested: {}", reply.m);
            return Err(find(CHECK, says, "Pass a token that is valid for the room in the URL with --bearer."));
        }
        if !reply.s {
            let remedy = "Name another room, or make room in this one.";
            return Err(Finding::fail(
                CHECK,
                format!("The room refuses the player: {} ({}).", reply.m, reply.e),
                remedy,
            ));
        }
        return reply.d["sdp"]
            .as_str()
            .map(str::to_owned)
            .ok_or_else(|| silent(&"the server does not answer an SDP offer"));
    }
    Err(silent(&"time is up"))
}

/// The server's reason for the end of the channel.
fn channel_fault(text: &str) -> Option<String> {
    let event: serde_json::Value = serde_json::from_str(text).ok()?;
    (event["a"] == "eventChannelClosed").then(|| event["d"]["m"].as_str().unwrap_or_default().to_owned())
}

/// The addresses that an answer names.
fn candidates(answer: &str) -> Vec<SocketAddr> {
    let fields = answer.lines().filter_map(|line| line.strip_prefix("a=candidate:"));
    let address = |line: &str| {
        let mut fields = line.split(' ').skip(4);
        Some(SocketAddr::new(fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
    };
    fields.filter_map(address).collect()
}

/// The address from which this machine reaches another; nothing is sent.
fn source_for(destination: SocketAddr) -> io::Result<IpAddr> {
    let any: IpAddr = if destination.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0))?;
    socket.connect(destination)?;
    Ok(socket.local_addr()?.ip())
}

fn listed(addresses: &[SocketAddr]) -> String {
    addresses.iter().map(SocketAddr::to_string).collect::<Vec<_>>().join(", ")
}

/// Checks whether players get the address of the page. Behind a proxy another address is right.
fn advertised(candidates: &[SocketAddr], server: IpAddr) -> Finding {
    let says = format!("The server sends these UDP addresses to this machine: {}", listed(candidates));
    if candidates.is_empty() {
        Finding::fail("advertised", "The server sends no UDP address.", "Name one with --public-addr IP.")
    } else if candidates.iter().any(|candidate| candidate.ip() == server) {
        Finding::ok("advertised", format!("{says}."))
    } else {
        Finding::ok("advertised", format!("{says}, while the page is at {server}."))
    }
}

fn no_channel(cause: &str, candidates: &[SocketAddr], server: SocketAddr) -> Finding {
    let ports: Vec<String> = candidates.iter().map(|candidate| candidate.port().to_string()).collect();
    let port = ports.first().map_or("of the game", String::as_str);
    let remedy = if candidates.iter().any(|candidate| candidate.ip() == server.ip()) {
        format!(
            "Open UDP port {port} in the firewalls of the server and its provider, and forward it where the server \
            stands behind a router. Until then players play over the websocket, with TCP's delays."
        )
    } else {
        format!(
            "Name the address that players reach with --public-addr IP[:PORT] ({} here, unless that is a proxy), and \
            open UDP port {port} there. Until then players play over the websocket, with TCP's delays.",
            server.ip()
        )
    };
    Finding::fail("UDP", format!("The data channel doesn't open: {}.", cause.trim_end_matches('.')), remedy)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_names_a_server_or_a_room() {
        let check = |text: &str, expected: Option<(&str, u16, &str, Option<&str>)>| {
            let read = target(text).ok();
            let read = read
                .as_ref()
                .map(|target| (target.authority.as_str(), target.port, target.prefix.as_str(), target.room.as_deref()));
            assert_eq!(read, expected, "{text}");
        };
        check("http://192.0.2.7:8080/", Some(("192.0.2.7:8080", 8080, "", None)));
        check("http://192.0.2.7:8080", Some(("192.0.2.7:8080", 8080, "", None)));
        check("http://play.example/r/lobby", Some(("play.example", 80, "", Some("lobby"))));
        check("http://[2001:db8::7]:8080/doctor", Some(("[2001:db8::7]:8080", 8080, "", None)));
        check("http://h/game", Some(("h", 80, "/game", None)));
        check("http://h/game/", Some(("h", 80, "/game", None)));
        check("http://h/a/game/doctor", Some(("h", 80, "/a/game", None)));
        check("http://h/a/game/r/lobby", Some(("h", 80, "/a/game", Some("lobby"))));
        check("https://play.example/r/lobby", Some(("play.example", 443, "", Some("lobby"))));
        for text in ["wss://play.example/", "ws://play.example/", "play.example", "http://h/r/a.b", "http://h/r/", ""] {
            check(text, None);
        }
    }

    #[test]
    fn what_a_proxy_changes_has_its_remedy() {
        let check = |url: &str, seen: Seen, expected: &[(&str, &str)]| {
            let found = way(&target(url).expect("a URL"), &seen);
            let told: Vec<_> = found.iter().filter(|found| found.verdict != Verdict::Ok).collect();
            let checks: Vec<&str> = told.iter().map(|found| found.check.as_str()).collect();
            assert_eq!(checks, expected.iter().map(|(check, _)| *check).collect::<Vec<_>>(), "{url} {seen:?}");
            for (found, (_, remedy)) in told.iter().zip(expected) {
                assert!(found.remedy.contains(remedy), "{found:?}");
            }
        };
        let seen = |host: &str| Seen { host: host.to_owned(), ..Seen::default() };
        check("http://play.example/", seen("play.example"), &[]);
        check("http://Play.Example/", seen("play.example:80"), &[]);
        check("http://127.0.0.1:8081/game/", seen("127.0.0.1:8081"), &[]);
        check("http://127.0.0.1:8081/", seen("127.0.0.1"), &[("host", "$http_host;")]);
        check("http://play.example/", seen("backend"), &[("host", "--origin http://play.example.")]);
        check("https://play.example/", seen("play.example:443"), &[]);
        check("https://play.example/", seen("backend"), &[("host", "--origin https://play.example.")]);
        check("http://play.example/", seen(""), &[("host", NGINX_HOST)]);
        let forwarded = Seen {
            forwarded_host: Some("play.example, inner".to_owned()),
            forwarded_proto: Some("https".to_owned()),
            forwarded_for: Some("192.0.2.9".to_owned()),
            upgrades_dropped: 3,
            ..seen("backend")
        };
        let known = Seen { proxy_trusted: true, ..forwarded.clone() };
        check("http://play.example/", known.clone(), &[("scheme", NGINX_SCHEME), ("upgrade", NGINX_UPGRADE)]);
        check("https://play.example/", known, &[("upgrade", NGINX_UPGRADE)]);
        let expected = [("host", NGINX_HOST), ("proxy", "--trusted-proxy"), ("upgrade", NGINX_UPGRADE)];
        check("http://play.example/", forwarded, &expected);
    }

    #[test]
    fn clocks_may_differ_as_much_as_tokens_allow() {
        let leeway_ms = auth::LEEWAY.as_secs_f64() * 1_000.0;
        for (skew_ms, verdict, word) in [
            (0.0, Verdict::Ok, "0.0 s"),
            (-leeway_ms, Verdict::Ok, "30.0 s"),
            (leeway_ms + 1_000.0, Verdict::Warn, "31 s ahead"),
            (-leeway_ms - 1_000.0, Verdict::Warn, "31 s behind"),
        ] {
            let found = clock(skew_ms);
            assert!(found.verdict == verdict && found.says.contains(word), "{skew_ms}: {found:?}");
        }
    }
}
