//! The task on stock str0m, its own SCTP included: one thread, one UDP socket, an unordered channel without
//! retransmits. Peers are routed by address, a new address by the user name of its STUN message; all share one
//! certificate and one checked DTLS configuration.

#![forbid(unsafe_code)]

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::error::Error;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use clap::Parser;
use mio::net::UdpSocket;
use mio::{Events, Interest, Poll, Token, Waker};
use rtcade_peers::{ROOM_PLAYERS, RoomState};
use slab::Slab;
use str0m::channel::{ChannelConfig, ChannelId, Reliability};
use str0m::config::{CryptoProvider, DtlsCert, DtlsVersion};
use str0m::crypto::CryptoError;
use str0m::crypto::dtls::{DtlsImplError, DtlsInstance, DtlsOutput, DtlsProvider, ProtocolVersion};
use str0m::ice::{IceCreds, StunMessage};
use str0m::net::{Protocol, Receive};
use str0m::{Candidate, Event, IceConnectionState, Input, Output, Rtc};

#[derive(Parser)]
struct Arguments {
    /// TCP address of signaling and UDP address of the peers.
    #[arg(long)]
    listen: SocketAddr,
    #[arg(long, default_value_t = 33)]
    tick_ms: u64,
}

const DATAGRAMS: Token = Token(0);
const SIGNALING: Token = Token(1);

struct Client {
    rtc: Rtc,
    channel: ChannelId,
    address: Option<SocketAddr>,
    open: bool,
    deadline: Instant,
}

struct Offer {
    sdp: String,
    answer: Sender<String>,
}

struct Server {
    socket: UdpSocket,
    local: SocketAddr,
    certificate: DtlsCert,
    crypto: Arc<CryptoProvider>,
    clients: Slab<Client>,
    by_address: HashMap<SocketAddr, usize>,
    rooms: Vec<RoomState>,
    deadlines: BinaryHeap<Reverse<(Instant, usize)>>,
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments = Arguments::parse();
    let mut poll = Poll::new()?;
    let mut socket = UdpSocket::bind(arguments.listen)?;
    poll.registry().register(&mut socket, DATAGRAMS, Interest::READABLE)?;
    let waker = Arc::new(Waker::new(poll.registry(), SIGNALING)?);
    let offers = listen(arguments.listen, waker)?;
    let provider = SharedConfigProvider;
    let mut server = Server {
        local: socket.local_addr()?,
        socket,
        certificate: provider.generate_certificate().ok_or("no certificate")?,
        crypto: Arc::new(CryptoProvider {
            dtls_provider: &SharedConfigProvider,
            ..str0m::crypto::from_feature_flags()
        }),
        clients: Slab::new(),
        by_address: HashMap::new(),
        rooms: Vec::new(),
        deadlines: BinaryHeap::new(),
    };
    println!("ready");
    let tick = Duration::from_millis(arguments.tick_ms);
    let mut next_tick = Instant::now() + tick;
    let mut events = Events::with_capacity(64);
    loop {
        let now = Instant::now();
        let soonest = server.deadlines.peek().map_or(next_tick, |&Reverse((at, _))| at.min(next_tick));
        match poll.poll(&mut events, Some(soonest.saturating_duration_since(now))) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error.into()),
            _ => {}
        }
        server.receive(Instant::now())?;
        for offer in offers.try_iter() {
            match server.accept(Instant::now(), &offer.sdp) {
                Ok(answer) => drop(offer.answer.send(answer)),
                Err(error) => eprintln!("an offer was refused: {error}"),
            }
        }
        let now = Instant::now();
        server.run_timers(now);
        if now >= next_tick {
            server.tick(now);
            while next_tick <= now {
                next_tick += tick;
            }
        }
    }
}

impl Server {
    fn accept(&mut self, now: Instant, offer: &str) -> Result<String, Box<dyn Error>> {
        let key = self.clients.vacant_key();
        let mut rtc = Rtc::builder()
            .set_crypto_provider(Arc::clone(&self.crypto))
            .set_dtls_cert(self.certificate.clone())
            .set_local_ice_credentials(IceCreds { ufrag: format!("{key:08}"), ..IceCreds::new() })
            .set_ice_lite(true)
            .clear_codecs()
            .clear_extension_map()
            .build(now);
        rtc.add_local_candidate(Candidate::host(self.local, Protocol::Udp)?);
        let answer = rtc.sdp_api().accept_offer(str0m::change::SdpOffer::from_sdp_string(offer)?)?;
        let channel = rtc.direct_api().create_data_channel(ChannelConfig {
            label: "task".to_owned(),
            ordered: false,
            reliability: Reliability::MaxRetransmits { retransmits: 0 },
            negotiated: Some(0),
            ..ChannelConfig::default()
        });
        self.clients.insert(Client { rtc, channel, address: None, open: false, deadline: now });
        if self.rooms.len() <= key / ROOM_PLAYERS {
            self.rooms.push(RoomState::default());
        }
        self.drain(key);
        Ok(answer.to_sdp_string())
    }

    fn receive(&mut self, now: Instant) -> io::Result<()> {
        let mut buffer = [0; 2048];
        loop {
            let (bytes, source) = match self.socket.recv_from(&mut buffer) {
                Ok((length, source)) => (&buffer[..length], source),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            };
            let Ok(receive) = Receive::new(Protocol::Udp, source, self.local, bytes) else { continue };
            let input = Input::Receive(now, receive);
            let key = match self.by_address.get(&source) {
                Some(&key) => key,
                None => {
                    let Some(key) = named_in(bytes).filter(|&key| self.clients.contains(key)) else { continue };
                    if !self.clients[key].rtc.accepts(&input) {
                        continue;
                    }
                    self.by_address.insert(source, key);
                    self.clients[key].address = Some(source);
                    key
                }
            };
            if let Err(error) = self.clients[key].rtc.handle_input(input) {
                eprintln!("client {key}: {error}");
                self.remove(key);
                continue;
            }
            self.drain(key);
        }
    }

    fn run_timers(&mut self, now: Instant) {
        while let Some(&Reverse((at, key))) = self.deadlines.peek()
            && at <= now
        {
            self.deadlines.pop();
            if self.clients.get(key).is_some_and(|client| client.deadline <= now) {
                self.advance(now, key);
            }
        }
    }

    fn tick(&mut self, now: Instant) {
        for room in 0..self.rooms.len() {
            let message = *self.rooms[room].message();
            for key in room * ROOM_PLAYERS..(room + 1) * ROOM_PLAYERS {
                if !self.clients.get(key).is_some_and(|client| client.open) || !self.advance(now, key) {
                    continue;
                }
                let client = &mut self.clients[key];
                // What the channel has no room for is dropped.
                if let Some(mut channel) = client.rtc.channel(client.channel)
                    && let Err(error) = channel.write(true, &message)
                {
                    eprintln!("client {key}: {error}");
                }
                self.drain(key);
            }
        }
    }

    /// Tells a client the time; `false` if that was its end.
    fn advance(&mut self, now: Instant, key: usize) -> bool {
        if let Err(error) = self.clients[key].rtc.handle_input(Input::Timeout(now)) {
            eprintln!("client {key}: {error}");
            self.remove(key);
            return false;
        }
        self.drain(key);
        self.clients.contains(key)
    }

    fn drain(&mut self, key: usize) {
        loop {
            let client = &mut self.clients[key];
            match client.rtc.poll_output() {
                Ok(Output::Timeout(at)) => {
                    if at != client.deadline {
                        client.deadline = at;
                        self.deadlines.push(Reverse((at, key)));
                    }
                    return;
                }
                // A full socket buffer drops the datagram, as the network might.
                Ok(Output::Transmit(transmit)) => {
                    let _ = self.socket.send_to(&transmit.contents, transmit.destination);
                }
                Ok(Output::Event(Event::ChannelOpen(..))) => client.open = true,
                Ok(Output::Event(Event::ChannelData(data))) => {
                    self.rooms[key / ROOM_PLAYERS].set(key % ROOM_PLAYERS, &data.data);
                }
                Ok(Output::Event(Event::IceConnectionStateChange(IceConnectionState::Disconnected))) | Err(_) => {
                    self.remove(key);
                    return;
                }
                Ok(Output::Event(_)) => {}
            }
        }
    }

    fn remove(&mut self, key: usize) {
        if let Some(address) = self.clients.remove(key).address {
            self.by_address.remove(&address);
        }
    }
}

/// The client that a STUN message names.
fn named_in(bytes: &[u8]) -> Option<usize> {
    let message = StunMessage::parse(bytes).ok()?;
    let (local, _) = message.split_username()?;
    local.parse().ok()
}

/// Takes offers by HTTP, on a thread of its own.
fn listen(address: SocketAddr, waker: Arc<Waker>) -> io::Result<Receiver<Offer>> {
    let listener = TcpListener::bind(address)?;
    let (offers, received) = mpsc::channel();
    thread::spawn(move || {
        for stream in listener.incoming() {
            if let Err(error) = stream.and_then(|stream| signal(stream, &offers, &waker)) {
                eprintln!("signaling: {error}");
            }
        }
    });
    Ok(received)
}

fn signal(mut stream: TcpStream, offers: &Sender<Offer>, waker: &Waker) -> io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    let sdp = read_body(&mut stream)?;
    let (answer, answered) = mpsc::channel();
    offers.send(Offer { sdp, answer }).map_err(io::Error::other)?;
    waker.wake()?;
    let answer = answered.recv_timeout(Duration::from_secs(5)).map_err(io::Error::other)?;
    write!(stream, "HTTP/1.0 200 OK\r\ncontent-length: {}\r\n\r\n{answer}", answer.len())
}

fn read_body(stream: &mut TcpStream) -> io::Result<String> {
    let mut request = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        let length = stream.read(&mut chunk)?;
        request.extend_from_slice(&chunk[..length]);
        let mut headers = [httparse::EMPTY_HEADER; 32];
        let mut head = httparse::Request::new(&mut headers);
        if let httparse::Status::Complete(start) = head.parse(&request).map_err(io::Error::other)? {
            let is_length = |header: &&httparse::Header<'_>| header.name.eq_ignore_ascii_case("content-length");
            let expected = head.headers.iter().find(is_length).and_then(|header| str::from_utf8(header.value).ok());
            let expected: usize = expected.and_then(|value| value.parse().ok()).unwrap_or(0);
            if let Some(body) = request.get(start..start + expected) {
                return String::from_utf8(body.to_vec()).map_err(io::Error::other);
            }
        }
        if length == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

/// str0m's stock DTLS, but for its configuration, which is checked once and not once per peer.
#[derive(Debug)]
struct SharedConfigProvider;

impl DtlsProvider for SharedConfigProvider {
    fn generate_certificate(&self) -> Option<DtlsCert> {
        dimpl::certificate::generate_self_signed_certificate().ok()
    }

    fn new_dtls(
        &self,
        certificate: &DtlsCert,
        now: Instant,
        _: DtlsVersion,
        mtu: Option<usize>,
    ) -> Result<Box<dyn DtlsInstance>, CryptoError> {
        static CONFIG: OnceLock<Arc<dimpl::Config>> = OnceLock::new();
        let config = match CONFIG.get() {
            Some(config) => config,
            None => {
                let builder = dimpl::Config::builder()
                    .use_server_cookie(false)
                    .mtu(mtu.unwrap_or(1150))
                    .flight_start_rto(Duration::from_millis(250));
                let config = builder.build().map_err(|error| CryptoError::Other(error.to_string()))?;
                CONFIG.get_or_init(|| Arc::new(config))
            }
        };
        Ok(Box::new(Instance(dimpl::Dtls::new_12(Arc::clone(config), certificate.clone(), now))))
    }
}

struct Instance(dimpl::Dtls);

impl std::fmt::Debug for Instance {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Instance").finish_non_exhaustive()
    }
}

impl DtlsInstance for Instance {
    fn set_active(&mut self, active: bool) {
        self.0.set_active(active);
    }

    fn handle_packet(&mut self, packet: &[u8]) -> Result<(), DtlsImplError> {
        self.0.handle_packet(packet)
    }

    fn poll_output<'a>(&mut self, buffer: &'a mut [u8]) -> DtlsOutput<'a> {
        self.0.poll_output(buffer)
    }

    fn handle_timeout(&mut self, now: Instant) -> Result<(), DtlsImplError> {
        self.0.handle_timeout(now)
    }

    fn send_application_data(&mut self, data: &[u8]) -> Result<usize, DtlsImplError> {
        self.0.send_application_data(data)
    }

    fn is_active(&self) -> bool {
        self.0.is_active()
    }

    fn protocol_version(&self) -> Option<ProtocolVersion> {
        self.0.protocol_version()
    }

    fn is_closing(&self) -> bool {
        self.0.is_closing()
    }

    fn is_closed(&self) -> bool {
        self.0.is_closed()
    }

    fn close(&mut self) -> Result<(), DtlsImplError> {
        self.0.close()
    }
}
