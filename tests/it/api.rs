//! A small client that knows nothing but the signaling API: JSON over a websocket at `/api`, against the driver.

#![expect(clippy::disallowed_types, reason = "the other end of the sockets is here")]

use std::net::TcpStream;

use rtcade::wire::codes::ErrorCode;
use serde_json::{Value, json};
use tungstenite::{Message, WebSocket};

use super::driver::{PATIENCE, Server, loopback};

/// An offer of one data channel.
const OFFER: &str = concat!(
    "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\nm=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\n",
    "a=ice-ufrag:abcd\r\na=ice-pwd:0123456789012345678901\r\na=setup:actpass\r\na=fingerprint:sha-256 ",
    "00:01:02:03:04:05:06:07:08:09:0A:0B:0C:0D:0E:0F:10:11:12:13:14:15:16:17:18:19:1A:1B:1C:1D:1E:1F\r\n",
);

struct Client {
    websocket: WebSocket<TcpStream>,
    /// Events that nobody has waited for yet.
    events: Vec<Value>,
}

impl Client {
    fn connect(server: &Server) -> Client {
        let tcp = TcpStream::connect(server.address).unwrap();
        tcp.set_read_timeout(Some(PATIENCE)).unwrap();
        let (websocket, _) = tungstenite::client(format!("ws://{}/api", server.address), tcp).unwrap();
        Client { websocket, events: Vec::new() }
    }

    /// Joins a room, and returns the data of the reply too.
    fn join(server: &Server, more: Value) -> (Client, Value) {
        let mut client = Client::connect(server);
        let mut data = json!({
            "roomId": "api", "bearer": "", "platform": "linux", "deviceName": "Desk", "networkType": "wifi",
            "version": "1.0.3", "appVersion": "7", "orientation": "landscape", "camera": "front",
        });
        data.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let reply = client.ask("join", data);
        assert_eq!(reply["s"], true, "{reply}");
        (client, reply["d"].clone())
    }

    fn send(&mut self, action: &str, data: Value) {
        self.websocket.send(Message::text(json!({ "a": action, "d": data }).to_string())).unwrap();
    }

    fn next(&mut self) -> Value {
        loop {
            if let Message::Text(text) = self.websocket.read().unwrap() {
                return serde_json::from_str(&text).unwrap();
            }
        }
    }

    /// The reply to a request. The events before it are kept.
    fn ask(&mut self, action: &str, data: Value) -> Value {
        self.send(action, data);
        loop {
            let message = self.next();
            if message["a"] == format!("{action}R") {
                return message;
            }
            assert!(message["a"].as_str().unwrap().starts_with("event"), "a reply to nothing: {message}");
            self.events.push(message);
        }
    }

    fn granted(&mut self, action: &str, data: Value) -> Value {
        let reply = self.ask(action, data);
        assert_eq!(reply["s"], true, "{reply}");
        reply["d"].clone()
    }

    /// The data of the next event with this name.
    fn event(&mut self, name: &str) -> Value {
        loop {
            if let Some(at) = self.events.iter().position(|event| event["a"] == name) {
                return self.events.remove(at)["d"].clone();
            }
            let message = self.next();
            self.events.push(message);
        }
    }
}

fn is_answer(sdp: &Value) -> bool {
    sdp.as_str().is_some_and(|sdp| sdp.starts_with("v=0\r\n") && sdp.contains("a=ice-lite"))
}

fn metric(server: &Server, name: &str) -> Option<f64> {
    let metrics = server.get("/metrics").body;
    metrics.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
}

#[test]
fn a_client_of_the_api_alone_plays() {
    let server = Server::start(loopback());
    let offer = json!({ "type": "offer", "sdp": OFFER });
    let (mut ada, joined) = Client::join(&server, json!({ "sdp": offer }));
    let ada_id = joined["socketId"].as_str().unwrap().to_owned();
    assert_eq!(joined["roomSize"], 1);
    assert_eq!(joined["userMediaConfiguration"], json!({ "audio": false, "video": false }));
    assert_eq!(joined["sessions"][0]["socketId"], ada_id.as_str());
    assert_eq!(joined["sessions"][0]["userId"], Value::Null);
    assert!(joined["sdp"]["type"] == "answer" && is_answer(&joined["sdp"]["sdp"]), "{joined}");

    let (mut bob, joined) = Client::join(&server, json!({ "sdp": offer.to_string(), "platform": "ios" }));
    let bob_id = joined["socketId"].as_str().unwrap().to_owned();
    assert_eq!((&joined["roomSize"], joined["sessions"].as_array().unwrap().len()), (&json!(2), 2));
    let text: Value = serde_json::from_str(joined["sdp"].as_str().unwrap()).unwrap();
    assert!(text["type"] == "answer" && is_answer(&text["sdp"]), "{joined}");

    // To the server, in each form.
    let sdp = bob.granted("exchangeSdp", json!({ "to": "server", "sdp": OFFER }))["sdp"].clone();
    assert!(is_answer(&sdp), "{sdp}");
    let sdp = bob.granted("exchangeSdp", json!({ "to": "server", "sdp": offer }))["sdp"].clone();
    assert!(sdp["type"] == "answer" && is_answer(&sdp["sdp"]), "{sdp}");
    let sdp = bob.granted("exchangeSdp", json!({ "to": "server", "sdp": offer.to_string() }))["sdp"].clone();
    assert!(sdp.as_str().is_some_and(|sdp| sdp.starts_with('{') && sdp.contains("a=ice-lite")), "{sdp}");
    for wrong in [json!({ "type": "answer", "sdp": OFFER }), json!("{}"), json!({ "type": "offer", "sdp": "v=0" })] {
        assert_eq!(bob.ask("exchangeSdp", json!({ "to": "server", "sdp": wrong }))["e"], "bad_sdp", "{wrong}");
    }

    // Between players, both ways, as it came.
    let from = |id: &str| json!({ "socketId": id, "userId": null });
    for sdp in [
        json!({ "type": "offer", "sdp": "v=0\r\n", "more": [1.5, null] }),
        json!(r#"{"type": "answer", "sdp": "v=0\r\n"}"#),
        json!("v=0\r\n"),
    ] {
        assert_eq!(ada.granted("exchangeSdp", json!({ "to": bob_id, "sdp": sdp })), json!({}));
        assert_eq!(bob.event("eventExchangeSdp"), json!({ "from": from(&ada_id), "sdp": sdp }));
        assert_eq!(bob.granted("exchangeSdp", json!({ "to": ada_id, "sdp": sdp })), json!({}));
        assert_eq!(ada.event("eventExchangeSdp"), json!({ "from": from(&bob_id), "sdp": sdp }));
    }
    let line = "candidate:1 1 udp 1 192.0.2.1 9 typ host";
    for candidate in [json!({ "candidate": line, "sdpMid": "0", "sdpMLineIndex": 0 }), json!(line)] {
        assert_eq!(ada.granted("exchangeCandidate", json!({ "to": bob_id, "candidate": candidate })), json!({}));
        let expected = json!({ "from": from(&ada_id), "candidate": candidate });
        assert_eq!(bob.event("eventExchangeCandidate"), expected);
        bob.granted("exchangeCandidate", json!({ "to": ada_id, "candidate": candidate }));
        assert_eq!(ada.event("eventExchangeCandidate")["from"], from(&bob_id));
        ada.granted("exchangeCandidate", json!({ "to": "server", "candidate": candidate }));
    }

    // A change without a camera leaves that as it was.
    for (change, camera) in [
        (json!({ "orientation": "portrait" }), json!("front")),
        (json!({ "orientation": "portrait", "camera": "back" }), json!("back")),
        (json!({ "orientation": "portrait" }), json!("back")),
        (json!({ "orientation": "portrait", "camera": null }), Value::Null),
    ] {
        ada.granted("orientationChange", change);
        let expected =
            json!({ "from": from(&ada_id), "platform": "linux", "orientation": "portrait", "camera": camera });
        assert_eq!(bob.event("eventOrientationChange"), expected);
    }
    bob.granted("orientationChange", json!({ "camera": "back" }));
    let turned = ada.event("eventOrientationChange");
    assert_eq!((&turned["platform"], &turned["orientation"]), (&json!("ios"), &json!("landscape")));

    // Events have no reply, granted or not: what comes next is the reply to the request after them.
    let refused = metric(&server, "rtcade_requests_refused_total").unwrap();
    ada.send("eventFreeze", json!({ "frozen": true, "from": { "socketId": bob_id } }));
    assert_eq!(bob.event("eventFreeze"), json!({ "from": from(&ada_id), "frozen": true }));
    ada.send("eventCpu", json!({ "cpuUsed": 37.5 }));
    ada.send("eventCpu", json!({ "cpuUsed": 99 }));
    ada.send("eventCpu", json!({ "cpuUsed": "much" }));
    ada.send("eventFreeze", json!({ "long": "x".repeat(1_000) }));
    ada.granted("exchangeCandidate", json!({ "to": "server", "candidate": line }));
    assert_eq!(metric(&server, "rtcade_client_cpu_used{quantile=\"0.99\"}"), Some(37.5), "one report in 10 s counts");
    assert_eq!(metric(&server, "rtcade_requests_refused_total"), Some(refused + 3.0));

    // A lost connection.
    drop(ada);
    let mut ada = Client::connect(&server);
    assert_eq!(ada.ask("reconnect", json!({ "socketId": ada_id }))["e"], "resume_required");
    drop(ada);
    bob.granted("exchangeCandidate", json!({ "to": "server", "candidate": line }));
    assert!(bob.events.iter().all(|event| event["a"] != "eventLeave"), "{:?}", bob.events);

    let (cy, joined) = Client::join(&server, json!({ "roomId": "api" }));
    let (id, resume) = (joined["socketId"].clone(), joined["resume"].clone());
    cy.websocket.get_ref().shutdown(std::net::Shutdown::Both).unwrap();
    let mut cy = Client::connect(&server);
    let back = cy.granted("reconnect", json!({ "socketId": id, "resume": resume, "sdp": offer }));
    assert_eq!((&back["socketId"], &back["roomSize"]), (&id, &joined["roomSize"]));
    assert!(back["sdp"]["type"] == "answer" && back["userMediaConfiguration"].is_object(), "{back}");
    cy.granted("orientationChange", json!({}));
    assert_eq!(bob.event("eventOrientationChange")["platform"], "linux", "what it told of the device is kept");
    cy.granted("leave", json!({}));
    let left = bob.event("eventLeave");
    assert_eq!((&left["roomId"], &left["socketId"], &left["userId"]), (&json!("api"), &id, &Value::Null));
    assert_eq!(left["roomSize"], 2);
}

#[test]
fn clients_that_seek_the_same_get_a_room_to_join_on_the_same_websocket() {
    let server = Server::start(loopback());
    let mut pair = [0, 1].map(|_| Client::connect(&server));
    for client in &mut pair {
        client.send("seek", json!({ "context": "api" }));
    }
    let [room, other] = pair.each_mut().map(|client| client.next()["d"]["roomId"].clone());
    assert!(room.is_string() && room == other, "{room} and {other}");
    let sizes = pair.each_mut().map(|client| client.granted("join", json!({ "roomId": room }))["roomSize"].clone());
    assert_eq!(sizes, [json!(1), json!(2)]);
    assert_eq!(server.get("/rooms").body, "[]");
}

#[test]
fn who_asks_for_numbers_gets_the_numbers_of_codes() {
    let server = Server::start(loopback());
    for (data, code) in [
        (json!({ "roomId": "a/b", "errors": "number" }), ErrorCode::BadRoom),
        (json!({ "roomId": 7, "errors": "number" }), ErrorCode::BadRequest),
        (json!({ "roomId": "api", "errors": "number", "version": 9 }), ErrorCode::VersionMismatch),
        (json!({ "roomId": "api", "errors": "number", "platform": "x".repeat(600) }), ErrorCode::TooLarge),
    ] {
        let reply = Client::connect(&server).ask("join", data);
        assert_eq!((&reply["s"], &reply["e"]), (&json!(false), &json!(code.number())), "{reply}");
    }
    let reply = Client::connect(&server).ask("join", json!({ "roomId": "a/b", "errors": "string" }));
    assert_eq!(reply["e"], "bad_room");
    let reply = Client::connect(&server).ask("reconnect", json!({ "socketId": "x", "errors": "number" }));
    assert_eq!(reply["e"], ErrorCode::ResumeRequired.number());

    let (mut ada, joined) = Client::join(&server, json!({ "errors": "number", "sdp": "v=0" }));
    assert_eq!(joined["sdpError"]["e"], ErrorCode::BadSdp.number());
    assert!(joined["sdpError"]["m"].is_string(), "{joined}");
    assert_eq!(ada.ask("dance", json!({}))["e"], ErrorCode::UnknownAction.number());
    ada.websocket.get_ref().shutdown(std::net::Shutdown::Both).unwrap();
    let mut ada = Client::connect(&server);
    ada.granted("reconnect", json!({ "socketId": joined["socketId"], "resume": joined["resume"] }));
    assert_eq!(ada.event("eventChannelClosed")["e"], ErrorCode::NoSuchSession.number());
    let candidate = json!({ "to": "nobody", "candidate": "" });
    assert_eq!(ada.ask("exchangeCandidate", candidate.clone())["e"], ErrorCode::NoSuchPlayer.number());

    let (mut bob, _) = Client::join(&server, json!({}));
    assert_eq!(bob.ask("exchangeCandidate", candidate)["e"], "no_such_player", "names are for everybody else");
}
