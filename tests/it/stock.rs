//! A stock str0m client, with its own SCTP, against the driver over loopback sockets.
//!
//! Its SCTP reads the clock, so that it can't be in virtual time.

#![expect(clippy::disallowed_types, clippy::disallowed_methods, reason = "the other end of the sockets is here")]

use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rtcade::wire::frame::{Direction, Frame, Header, Kind, Transport};
use rtcade::wire::msgpack;
use serde_json::{Value, json};
use str0m::change::SdpAnswer;
use str0m::channel::{ChannelConfig, ChannelId, Reliability};
use str0m::net::{Protocol, Receive};
use str0m::{Candidate, Event, Input, Output, Rtc};
use tungstenite::{Message, WebSocket};

use super::driver::{PATIENCE, Server, loopback};

const INPUTS: u32 = 60;
const INPUT_INTERVAL: Duration = Duration::from_millis(33);

struct Player {
    websocket: WebSocket<TcpStream>,
    udp: UdpSocket,
    address: SocketAddr,
    rtc: Rtc,
    channel: ChannelId,
    open: bool,
    ended: bool,
    sent: u32,
    /// Sequence numbers of the frames that the channel brought, as they came.
    seqs: Vec<u16>,
    /// Numbers and values of the inputs that came back, as they came.
    heard: Vec<(u32, u32)>,
    heard_tick: u32,
    /// Unreliable frames that the websocket brought.
    by_websocket: usize,
}

impl Player {
    /// Offers a channel with its request to join, and takes the answer from the reply.
    fn join(server: &Server, negotiated: Option<u16>) -> Player {
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = udp.local_addr().unwrap();
        let mut rtc =
            Rtc::builder().set_crypto_provider(Arc::new(str0m::crypto::from_feature_flags())).build(Instant::now());
        rtc.add_local_candidate(Candidate::host(address, Protocol::Udp).unwrap()).unwrap();
        let mut change = rtc.sdp_api();
        let channel = change.add_channel_with_config(ChannelConfig {
            label: "game".to_owned(),
            ordered: false,
            reliability: Reliability::MaxRetransmits { retransmits: 0 },
            negotiated,
            protocol: String::new(),
        });
        let (offer, pending) = change.apply().unwrap();

        let tcp = TcpStream::connect(server.address).unwrap();
        tcp.set_read_timeout(Some(PATIENCE)).unwrap();
        let (mut websocket, _) = tungstenite::client(format!("ws://{}/r/stock", server.address), tcp).unwrap();
        let join = json!({ "a": "join", "d": { "name": "Stock", "sdp": offer.to_sdp_string() } });
        websocket.send(Message::text(join.to_string())).unwrap();
        let Message::Text(reply) = websocket.read().unwrap() else { panic!("the reply comes first") };
        let reply: Value = serde_json::from_str(&reply).unwrap();
        assert_eq!((&reply["a"], &reply["s"]), (&json!("joinR"), &json!(true)), "{reply}");
        let answer = SdpAnswer::from_sdp_string(reply["d"]["sdp"].as_str().unwrap()).unwrap();
        rtc.sdp_api().accept_answer(pending, answer).unwrap();

        websocket.get_ref().set_nonblocking(true).unwrap();
        udp.set_nonblocking(true).unwrap();
        Player {
            websocket,
            udp,
            address,
            rtc,
            channel,
            open: false,
            ended: false,
            sent: 0,
            seqs: Vec::new(),
            heard: Vec::new(),
            heard_tick: 0,
            by_websocket: 0,
        }
    }

    fn turn(&mut self) {
        while let Ok(message) = self.websocket.read() {
            self.by_websocket += usize::from(matches!(message, Message::Binary(_)));
        }
        let mut datagram = [0; 2048];
        while let Ok((length, source)) = self.udp.recv_from(&mut datagram) {
            let receive = Receive::new(Protocol::Udp, source, self.address, &datagram[..length]).unwrap();
            self.rtc.handle_input(Input::Receive(Instant::now(), receive)).unwrap();
            self.drain();
        }
        self.rtc.handle_input(Input::Timeout(Instant::now())).unwrap();
        self.drain();
        std::thread::sleep(Duration::from_millis(2));
    }

    fn drain(&mut self) {
        loop {
            match self.rtc.poll_output().unwrap() {
                Output::Timeout(_) => return,
                Output::Transmit(transmit) => {
                    self.udp.send_to(&transmit.contents, transmit.destination).unwrap();
                }
                Output::Event(Event::ChannelOpen(channel, _)) => {
                    assert_eq!(channel, self.channel);
                    self.open = true;
                }
                Output::Event(Event::ChannelData(data)) => {
                    assert!(data.binary);
                    self.handle_frame(&data.data);
                }
                Output::Event(Event::ChannelClose(_) | Event::Closed) => self.ended = true,
                Output::Event(_) => {}
            }
        }
    }

    fn handle_frame(&mut self, bytes: &[u8]) {
        let frame = Frame::parse(bytes, Direction::Down, Transport::DataChannel).unwrap();
        let Header::Unreliable { seq, part: None, .. } = frame.header else {
            panic!("short and unreliable: {frame:?}")
        };
        self.seqs.push(seq);
        if frame.kind == Kind::Tick {
            let (tick, ticks) = msgpack::decode_ticks(frame.body).unwrap();
            // The newest tick stands first, and each frame repeats those before it.
            let new = usize::try_from(tick - self.heard_tick).unwrap().min(ticks.len());
            for input in ticks[..new].iter().rev().flatten() {
                self.heard.push((input.number, msgpack::decode(input.value).unwrap()));
            }
            self.heard_tick = tick;
        }
    }

    /// Sends the next input, once.
    fn send_input(&mut self) {
        let value = msgpack::encode(&(self.sent * 7), 16).unwrap();
        let body = msgpack::encode_inputs(self.sent + 1, std::iter::once((0, value.as_slice())));
        let header = Header::Unreliable { part: None, seq: u16::try_from(self.sent).unwrap(), ack: 0 };
        let mut frame = Vec::new();
        Frame { kind: Kind::Input, deflated: false, header, body: &body }.encode(&mut frame);
        assert!(self.rtc.channel(self.channel).unwrap().write(true, &frame).unwrap());
        self.drain();
        self.sent += 1;
    }

    /// Turns until `done`, which `what` says.
    fn until(&mut self, what: &str, done: impl Fn(&Player) -> bool) {
        let begun = Instant::now();
        while !done(self) {
            assert!(begun.elapsed() < PATIENCE, "never {what}; heard {:?}, by {:?}", self.heard, self.seqs);
            self.turn();
        }
    }

    /// Inputs up and ticks down, counted: nothing lost, repeated or out of order.
    fn play(&mut self) {
        self.until("open", |player| player.open);
        for _ in 0..INPUTS {
            self.send_input();
            let next = Instant::now() + INPUT_INTERVAL;
            self.until("paced", |_| Instant::now() >= next);
        }
        self.until("heard all", |player| player.heard.len() >= INPUTS as usize);
        assert_eq!(self.heard, (0..INPUTS).map(|number| (number + 1, number * 7)).collect::<Vec<_>>());
        let first = self.seqs[0];
        let count = u16::try_from(self.seqs.len()).unwrap();
        assert_eq!(self.seqs, (0..count).map(|index| first + index).collect::<Vec<_>>());
        assert!(self.seqs.len() >= INPUTS as usize / 2, "a frame each tick: {:?}", self.seqs);
    }

    /// The server has noticed the channel's end: it goes on by the websocket.
    fn go_on_by_websocket(&mut self) {
        let before = self.by_websocket;
        self.until("on the websocket", |player| player.by_websocket > before + 2);
    }
}

#[test]
fn a_negotiated_channel_plays_and_closes() {
    let server = Server::start(loopback());
    let mut player = Player::join(&server, Some(0));
    player.play();
    player.rtc.direct_api().close_data_channel(player.channel);
    player.drain();
    player.until("closed", |player| player.ended);
    player.go_on_by_websocket();
    drop(player);
    server.stop();
}

#[test]
fn a_channel_opened_in_band_plays_and_its_end_closes() {
    let server = Server::start(loopback());
    let mut player = Player::join(&server, None);
    player.play();
    player.rtc.close().unwrap();
    player.until("closed", |player| !player.rtc.is_alive());
    player.go_on_by_websocket();
    drop(player);
    server.stop();
}
