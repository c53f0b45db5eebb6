//! What forwarding a video costs: one publisher, many viewers, all of them str0m over loopback sockets.
//!
//! `cargo bench --bench forwarding -- VIEWERS SECONDS`; 200 viewers and 10 seconds otherwise. The server has a thread of
//! its own, whose CPU time is counted. Delays are from the publisher's socket to the viewer's.
//!
//! Meanwhile players of the load tester get states in another room of the same server, and lose 5 % of the datagrams in
//! both directions. The ages of their states, and the lateness of the room's ticks, are measured before the video starts
//! and while it is forwarded.

#![allow(clippy::unwrap_used, reason = "a bench whose setup fails should stop")]
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "the ends of the sockets are here")]
#![allow(clippy::print_stdout, reason = "it reports")]

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, mpsc};
use std::time::{Duration, Instant};

use rtcade::driver::{Driver, Options};
use rtcade::game::{Batch, Context, Game, Join, Leave, PlayerId, Refusal, Tick, UserMedia};
use rtcade::server::Media;
use serde::de::IgnoredAny;
use str0m::change::{SdpAnswer, SdpPendingOffer};
use str0m::media::{Direction, MediaKind, Mid};
use str0m::net::{Protocol, Receive};
use str0m::rtp::{RtpPacket, RtpWrite};
use str0m::{Candidate, Event, Input, Output, Rtc};

const FRAME: Duration = Duration::from_nanos(33_333_333);
const PACKETS_PER_FRAME: usize = 5;
const PACKET_BYTES: usize = 1_000;
const WARM_UP: Duration = Duration::from_secs(3);
/// The players who get states.
const PLAYERS: u64 = 16;
/// How many numbers a state has; all of them change.
const STATE_LENGTH: u32 = 20;

/// The ticks of the room of the players who get states.
static TICKS: Mutex<Vec<(u32, Instant)>> = Mutex::new(Vec::new());

/// Permits the publisher to publish, however many watch, and sends states.
struct Stage {
    /// Whether its ticks are noted.
    is_timed: bool,
}

#[derive(Default, serde::Deserialize)]
#[serde(default)]
struct Wish {
    publish: bool,
}

impl Game for Stage {
    type Input = IgnoredAny;
    type Command = ();
    type State = Vec<u32>;
    type Event = ();
    type Welcome = ();
    type JoinData = Option<Wish>;

    fn join(&mut self, ctx: &mut Context<Stage>, player: PlayerId, join: &Join<Option<Wish>>) -> Result<(), Refusal> {
        let publishes = join.data.as_ref().is_some_and(|wish| wish.publish);
        ctx.user_media(player, UserMedia { audio: publishes, video: publishes });
        Ok(())
    }

    fn leave(&mut self, _: &mut Context<Stage>, _: PlayerId, _: Leave) {}

    fn tick(&mut self, ctx: &mut Context<Stage>, tick: Tick, _: Batch<'_, Stage>) {
        if self.is_timed {
            TICKS.lock().unwrap().push((tick.number, Instant::now()));
            let _ = ctx.state(&(0..STATE_LENGTH).map(|index| tick.number * index).collect());
        }
    }
}

struct Client {
    rtc: Rtc,
    pending: Option<SdpPendingOffer>,
    socket: UdpSocket,
    address: SocketAddr,
    server: SocketAddr,
    video: Mid,
    deadline: Instant,
    keyframe_wanted: bool,
}

impl Client {
    /// Calls the server and takes its answer.
    fn new(server: SocketAddr, path: &str, direction: Direction) -> Client {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_nonblocking(true).unwrap();
        let address = socket.local_addr().unwrap();
        let now = Instant::now();
        let mut rtc = Rtc::builder().clear_codecs().enable_vp8(true).set_rtp_mode(true).build(now);
        rtc.add_local_candidate(Candidate::host(address, Protocol::Udp).unwrap());
        let mut api = rtc.sdp_api();
        let video = api.add_media(MediaKind::Video, direction, None, None, None);
        let (offer, pending) = api.apply().unwrap();
        let mut client = Client {
            rtc,
            pending: Some(pending),
            socket,
            address,
            server,
            video,
            deadline: now,
            keyframe_wanted: true,
        };
        let answer = post(server, path, &offer.to_sdp_string());
        let answer = SdpAnswer::from_sdp_string(&answer).unwrap();
        client.rtc.sdp_api().accept_answer(client.pending.take().unwrap(), answer).unwrap();
        client
    }

    /// Handles what has arrived and what is due, and passes received packets on.
    fn work(&mut self, mut handle: impl FnMut(&RtpPacket)) {
        let mut buffer = [0; 2_000];
        loop {
            match self.socket.recv_from(&mut buffer) {
                Ok((length, _)) => {
                    let now = Instant::now();
                    let bytes = &buffer[..length];
                    let receive = Receive::new(Protocol::Udp, self.server, self.address, bytes).unwrap();
                    self.rtc.handle_input(Input::Receive(now, receive)).unwrap();
                    self.drain(&mut handle);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => panic!("{error}"),
            }
        }
        let now = Instant::now();
        if self.deadline <= now {
            self.advance(now, handle);
        }
    }

    fn advance(&mut self, now: Instant, mut handle: impl FnMut(&RtpPacket)) {
        self.rtc.handle_input(Input::Timeout(now)).unwrap();
        self.drain(&mut handle);
    }

    fn drain(&mut self, handle: &mut impl FnMut(&RtpPacket)) {
        loop {
            match self.rtc.poll_output().unwrap() {
                Output::Timeout(at) => {
                    self.deadline = at;
                    return;
                }
                Output::Transmit(transmit) => {
                    let _ = self.socket.send_to(&transmit.contents, transmit.destination);
                }
                Output::Event(Event::RtpPacket(packet)) => handle(&packet),
                Output::Event(Event::KeyframeRequest(_)) => self.keyframe_wanted = true,
                Output::Event(_) => {}
            }
        }
    }
}

fn post(server: SocketAddr, path: &str, offer: &str) -> String {
    let mut socket = TcpStream::connect(server).unwrap();
    let length = offer.len();
    let head =
        format!("POST {path} HTTP/1.1\r\nHost: h\r\nContent-Type: application/sdp\r\nContent-Length: {length}\r\n\r\n");
    socket.write_all((head + offer).as_bytes()).unwrap();
    let mut response = String::new();
    socket.read_to_string(&mut response).unwrap();
    assert!(response.starts_with("HTTP/1.1 201"), "{response}");
    response.split_once("\r\n\r\n").unwrap().1.to_owned()
}

/// The CPU time of a thread of this process, in nanoseconds.
fn cpu_time(thread: i32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/self/task/{thread}/schedstat")).unwrap();
    stat.split(' ').next().unwrap().parse().unwrap()
}

/// Starts players who play for this time in the room `lane`, and lose 5 % of the datagrams in both directions.
fn start_players(server: SocketAddr, seconds: u64) -> Child {
    let script = format!(
        "config:
  target: http://{server}
  phases: [{{ duration: 1, arrivalRate: {PLAYERS} }}]
  rtc: {{ netem: {{ loss: 5%, delay: 20ms }} }}
scenarios:
  - flow:
      - join: {{ room: lane }}
      - loop:
          - send: 1
        duration: {seconds}
        pacing: fixed
        every: 33ms
      - leave
"
    );
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let (script_file, report) = (directory.join("lane.yml"), directory.join("lane.json"));
    std::fs::write(&script_file, script).unwrap();
    TICKS.lock().unwrap().clear();
    Command::new(env!("CARGO_BIN_EXE_rtcade"))
        .args(["bench", "run", "--quiet", "--threads", "1", "--seed", "1", "--output"])
        .args([&report, &script_file])
        .stdout(Stdio::inherit())
        .spawn()
        .unwrap()
}

/// Prints the ages of the players' states and the lateness of their room's ticks.
fn print_lane(when: &str, players: &mut Child) {
    let status = players.wait().unwrap();
    let report = std::fs::read(Path::new(env!("CARGO_TARGET_TMPDIR")).join("lane.json")).unwrap();
    let report: serde_json::Value = serde_json::from_slice(&report).unwrap();
    let aggregate = &report["aggregate"];
    let age = &aggregate["summaries"]["rtc.age"];
    let counters = &aggregate["counters"];
    let mut late = lateness(&TICKS.lock().unwrap());
    late.sort_unstable();
    let at = |permille: usize| late[late.len() * permille / 1_000].as_secs_f64() * 1e3;
    println!(
        "{when}: states {} over the channel, {} by websocket; age p50 {} ms, p99 {} ms, p99.9 {} ms; \
         ticks {}, late p50 {:.2} ms, p99 {:.2} ms, p99.9 {:.2} ms; players ended with {status}",
        counters["rtc.received"],
        counters["rtc.received_by_websocket"],
        age["p50"],
        age["p99"],
        age["p999"],
        late.len(),
        at(500),
        at(990),
        at(999),
    );
}

/// How much later than the earliest one each tick came, measured from when it was due.
fn lateness(ticks: &[(u32, Instant)]) -> Vec<Duration> {
    let due = |&(number, at): &(u32, Instant)| at - Stage::TICK * number;
    let earliest = ticks.iter().map(due).min().unwrap();
    ticks.iter().map(|tick| due(tick) - earliest).collect()
}

fn main() {
    let mut arguments = std::env::args().skip(1).filter_map(|argument| argument.parse::<u64>().ok());
    let viewers = arguments.next().unwrap_or(200);
    let seconds = arguments.next().unwrap_or(10);
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        let options = Options { listen: ([127, 0, 0, 1], 0).into(), media: Media::Video, ..Options::default() };
        let options = Options { max_players: 1_000, ..options };
        let driver = Driver::bind(options, |room| Ok(Stage { is_timed: room.name == "lane" })).unwrap();
        sender.send((driver.local_addr(), nix::unistd::gettid().as_raw())).unwrap();
        driver.run().unwrap();
    });
    let (server, thread) = receiver.recv().unwrap();
    print_lane("without media", &mut start_players(server, seconds));
    let start = Instant::now();
    let mut publisher = Client::new(server, "/whip/stage", Direction::SendOnly);
    let mut all: Vec<Client> = (0..viewers).map(|_| Client::new(server, "/whep/stage", Direction::RecvOnly)).collect();
    let (mut sequence, mut frame) = (0_u64, 0_u32);
    let mut next_frame = Instant::now();
    let measured_from = next_frame + WARM_UP;
    let end = measured_from + Duration::from_secs(seconds);
    let (mut cpu_before, mut cpu_after) = (None, None);
    let mut players = None;
    let mut delays: Vec<u64> = Vec::new();
    let mut sent = 0_u64;
    // Until the last players have left.
    while Instant::now() < end + WARM_UP {
        let now = Instant::now();
        let is_measured = now >= measured_from && now < end;
        if is_measured && cpu_before.is_none() {
            cpu_before = Some(cpu_time(thread));
            players = Some(start_players(server, seconds));
        }
        if now >= end && cpu_after.is_none() {
            cpu_after = Some(cpu_time(thread));
        }
        if now >= next_frame {
            next_frame += FRAME;
            frame += 1;
            let is_keyframe = std::mem::take(&mut publisher.keyframe_wanted);
            for index in 0..PACKETS_PER_FRAME {
                let [high, low] = (u16::try_from(frame % 0x8000).unwrap() | 0x8000).to_be_bytes();
                let begins = if index == 0 { 0x90 } else { 0x80 };
                let mut payload = vec![begins, 0x80, high, low, u8::from(!(is_keyframe && index == 0))];
                payload.resize(PACKET_BYTES - 8, 0);
                let stamp = u64::try_from(start.elapsed().as_nanos()).unwrap();
                payload.extend(stamp.to_be_bytes());
                let params = publisher.rtc.codec_config().find(|params| params.spec().codec.is_video()).unwrap();
                let payload_type = params.pt();
                let mut api = publisher.rtc.direct_api();
                let Some(stream) = api.stream_tx_by_mid(publisher.video, None) else { continue };
                let packet = RtpWrite::new(payload_type, sequence.into(), frame * 3_000, now, payload);
                stream.write_rtp(packet.marker(index == PACKETS_PER_FRAME - 1));
                sequence += 1;
                sent += u64::from(is_measured);
                publisher.advance(now, |_| ());
            }
        }
        publisher.work(|_| ());
        for viewer in &mut all {
            viewer.work(|packet| {
                if is_measured && let Some(stamp) = packet.payload.last_chunk() {
                    let now = u64::try_from(start.elapsed().as_nanos()).unwrap();
                    delays.push(now - u64::from_be_bytes(*stamp));
                }
            });
        }
    }
    let cpu = cpu_after.unwrap() - cpu_before.unwrap();
    delays.sort_unstable();
    let count = delays.len().max(1);
    let at = |permille: usize| delays.get(count * permille / 1_000).copied().unwrap_or_default() as f64 / 1e6;
    println!("{viewers} viewers, {seconds} s, {} packets of {PACKET_BYTES} bytes published", sent);
    println!("forwarded: {:.2} % of the packets", 100.0 * count as f64 / (sent * viewers).max(1) as f64);
    println!(
        "server: {:.1} % of a core, {:.2} µs per packet",
        cpu as f64 / (seconds as f64 * 1e7),
        cpu as f64 / 1e3 / count as f64
    );
    print_lane("with media", &mut players.unwrap());
    println!("delay: p50 {:.2} ms, p99 {:.2} ms, p99.9 {:.2} ms", at(500), at(990), at(999));
}
