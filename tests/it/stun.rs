//! STUN requests of players to the driver, over plain UDP sockets.

#![expect(clippy::disallowed_types, reason = "the other end of the sockets is here")]

use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use rtcade::games::Relay;
use rtcade::limits;
use rtcade::server::{Connect, ConnectionId, Disconnect};
use rtcade::sim::{SERVER, Simulation};
use rtcade::wire::signaling::RoomName;
use serde_json::{Value, json};

use super::driver::{PATIENCE, Server, loopback, websocket};

/// As browsers send it: without attributes.
const REQUEST: [u8; 20] = *b"\x00\x01\x00\x00\x21\x12\xa4\x42rtcade-stun!";

/// The address in a response to [`REQUEST`].
fn mapped(response: &[u8]) -> SocketAddr {
    assert_eq!((&response[..4], &response[4..20]), (&b"\x01\x01\x00\x0c"[..], &REQUEST[4..]));
    assert_eq!(response[20..26], *b"\x00\x20\x00\x08\x00\x01");
    let plain: Vec<u8> =
        response[26..32].iter().zip(b"\x21\x12\x21\x12\xa4\x42").map(|(byte, xor)| byte ^ xor).collect();
    let &[high, low, a, b, c, d] = plain.as_slice() else { panic!("{plain:?}") };
    ([a, b, c, d], u16::from_be_bytes([high, low])).into()
}

fn socket() -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

fn ask(socket: &UdpSocket, server: SocketAddr) -> SocketAddr {
    let mut response = [0; 100];
    socket.send_to(&REQUEST, server).unwrap();
    let (bytes, source) = socket.recv_from(&mut response).unwrap();
    assert_eq!(source, server);
    mapped(&response[..bytes])
}

fn counted(server: &Server, kind: &str) -> u64 {
    let name = format!("rtcade_stun_requests_total{{kind=\"{kind}\"}} ");
    server.get("/metrics").body.lines().find_map(|line| line.strip_prefix(&name)?.parse().ok()).unwrap()
}

#[test]
fn a_player_learns_the_mapped_address_from_the_server_that_the_reply_names() {
    let server = Server::start(loopback());
    let stranger = socket();
    stranger.send_to(&REQUEST, server.address).unwrap();
    while counted(&server, "unjoined") == 0 {}

    let mut page = websocket(&server, "/r/stun");
    page.send_frame(0x81, json!({ "a": "join", "d": {} }).to_string().as_bytes());
    let reply: Value = serde_json::from_str(&page.text_with("joinR")).unwrap();
    let [url] = reply["d"]["iceServers"].as_array().unwrap().as_slice() else { panic!("{reply}") };
    let stun: SocketAddr = url["urls"].as_str().unwrap().strip_prefix("stun:").unwrap().parse().unwrap();
    assert_eq!(stun, server.address);
    for own in [socket(), stranger] {
        assert_eq!(ask(&own, stun), own.local_addr().unwrap(), "any socket of that address");
    }

    // Behind a router that maps the address to one of its own.
    let (inside, near, far) = (socket(), socket(), socket());
    inside.send_to(&REQUEST, near.local_addr().unwrap()).unwrap();
    let mut datagram = [0; 100];
    let (bytes, player) = near.recv_from(&mut datagram).unwrap();
    far.send_to(&datagram[..bytes], stun).unwrap();
    let (bytes, _) = far.recv_from(&mut datagram).unwrap();
    near.send_to(&datagram[..bytes], player).unwrap();
    let (bytes, _) = inside.recv_from(&mut datagram).unwrap();
    assert_eq!(mapped(&datagram[..bytes]), far.local_addr().unwrap());

    assert_eq!((counted(&server, "answered"), counted(&server, "unjoined")), (3, 1));
    page.send_frame(0x81, json!({ "a": "leave" }).to_string().as_bytes());
    page.close_code();
    inside.send_to(&REQUEST, stun).unwrap();
    while counted(&server, "unjoined") == 1 {}
    assert_eq!(counted(&server, "answered"), 3);
}

/// What the server answers to `count` requests from `source`.
fn answers(sim: &mut Simulation<Relay>, source: &str, count: u32) -> usize {
    let now = sim.now();
    for _ in 0..count {
        sim.server.handle_datagram(now, now, rtcade::endpoint::LocalId(0), source.parse().unwrap(), &REQUEST);
    }
    let mut answers = 0;
    while let Some(transmit) = sim.server.poll_transmit() {
        assert_eq!((transmit.destination, transmit.bytes.len()), (source.parse().unwrap(), 32));
        answers += 1;
    }
    answers
}

fn connect(sim: &mut Simulation<Relay>, connection: u64, address: [u8; 4], request: &Value) -> Value {
    let id = ConnectionId(connection);
    let connect = Connect::new(RoomName::parse("stun"), (address, 40_000).into(), SERVER.ip());
    sim.server.handle_connect(sim.now(), id, connect);
    sim.server.handle_text(sim.now(), id, &request.to_string());
    sim.run(Duration::from_millis(100));
    while let Some(signal) = sim.server.poll_signal(id) {
        if let rtcade::server::Signal::Text(text) = signal {
            let text: Value = serde_json::from_str(&text).unwrap();
            if text["s"] == true {
                return text["d"].clone();
            }
        }
    }
    panic!("refused");
}

#[test]
fn the_address_of_the_websocket_counts_wherever_the_session_goes() {
    let mut sim = Simulation::new(1, |_| Ok(Relay));
    let (home, away) = ("10.7.0.1:9", "10.7.0.2:9");
    assert_eq!((answers(&mut sim, home, 1), answers(&mut sim, away, 1)), (0, 0));
    let joined = connect(&mut sim, 1, [10, 7, 0, 1], &json!({ "a": "join", "d": {} }));
    assert_eq!((answers(&mut sim, home, 1), answers(&mut sim, away, 1)), (1, 0));
    sim.server.handle_disconnect(sim.now(), ConnectionId(1), Disconnect::Lost);
    assert_eq!(answers(&mut sim, home, 1), 1, "who may come back is still a player");
    let back = json!({ "socketId": joined["socketId"], "resume": joined["resume"] });
    let back = connect(&mut sim, 2, [10, 7, 0, 2], &json!({ "a": "reconnect", "d": back }));
    assert_eq!(back["iceServers"], joined["iceServers"]);
    assert_eq!((answers(&mut sim, home, 1), answers(&mut sim, away, 1)), (0, 1));
    connect(&mut sim, 3, [10, 7, 0, 2], &json!({ "a": "join", "d": {} }));
    sim.server.handle_disconnect(sim.now(), ConnectionId(2), Disconnect::Goodbye);
    assert_eq!(answers(&mut sim, away, 1), 1, "another player is there");
    sim.server.handle_disconnect(sim.now(), ConnectionId(3), Disconnect::Goodbye);
    assert_eq!(answers(&mut sim, away, 1), 0);
    assert_eq!(sim.server.counters().stun.unjoined, 5);
}

#[test]
fn a_flood_with_a_players_address_gets_what_the_rate_allows() {
    let mut sim = Simulation::new(1, |_| Ok(Relay));
    connect(&mut sim, 1, [10, 7, 0, 1], &json!({ "a": "join", "d": {} }));
    let first = answers(&mut sim, "10.7.0.1:53", 10_000);
    assert_eq!(first, limits::STUN_PER_ADDRESS_AT_ONCE as usize);
    assert_eq!(answers(&mut sim, "10.7.0.1:54", 10_000), 0, "all ports are one address");
    sim.run(Duration::from_secs(1));
    let later = answers(&mut sim, "10.7.0.1:53", 10_000);
    assert!(later.abs_diff(limits::STUN_PER_ADDRESS_PER_SECOND as usize) <= 1, "{later}");
    let counted = sim.server.counters().stun;
    assert_eq!((counted.answered + counted.excess, counted.unjoined), (30_000, 0));
}
