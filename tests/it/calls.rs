//! Publishing and watching over HTTP alone (WHIP, RFC 9725, and WHEP): what each request gets.

use rtcade::auth::Keys;
use rtcade::driver::Options;
use rtcade::server::Media;
use serde_json::json;

use super::admission::{claims, hs256, secret, set, token, unix_time};
use super::driver::{Response, Server, loopback, websocket};

const OFFER: &str = concat!(
    "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0\r\n",
    "m=audio 9 UDP/TLS/RTP/SAVPF 111\r\nc=IN IP4 0.0.0.0\r\na=rtcp-mux\r\n",
    "a=ice-ufrag:abcd\r\na=ice-pwd:0123456789012345678901\r\na=setup:actpass\r\na=fingerprint:sha-256 ",
    "00:01:02:03:04:05:06:07:08:09:0A:0B:0C:0D:0E:0F:10:11:12:13:14:15:16:17:18:19:1A:1B:1C:1D:1E:1F\r\n",
    "a=mid:0\r\na=sendonly\r\na=rtpmap:111 opus/48000/2\r\na=ssrc:1 cname:c\r\n",
);

fn request(method: &str, path: &str, fields: &str, body: &str) -> String {
    format!("{method} {path} HTTP/1.1\r\nHost: h\r\n{fields}Content-Length: {}\r\n\r\n{body}", body.len())
}

fn call(server: &Server, path: &str, fields: &str, offer: &str) -> Response {
    server.ask(&request("POST", path, &format!("Content-Type: application/sdp\r\n{fields}"), offer))
}

fn players(server: &Server) -> usize {
    let metrics = server.get("/metrics").body;
    metrics.lines().find_map(|line| line.strip_prefix("rtcade_players ")?.parse().ok()).expect("a gauge")
}

#[test]
fn a_call_is_a_player_from_the_answer_to_the_end() {
    let server = Server::start(Options { media: Media::Audio, ..loopback() });
    let mut page = websocket(&server, "/r/call");
    page.send_frame(0x81, json!({ "a": "join" }).to_string().as_bytes());
    page.text_with("joinR");
    let answer = call(&server, "/whip/call", "", OFFER);
    assert_eq!((answer.status, answer.field("Content-Type")), (201, Some("application/sdp")));
    assert!(answer.body.starts_with("v=0") && answer.body.contains("a=recvonly"), "{}", answer.body);
    let joined = page.text_with("eventJoin");
    assert!(joined.contains("\"WHIP\""), "{joined}");
    assert_eq!(players(&server), 2);
    let session = format!("/whip/{}", answer.field("Location").expect("a session"));
    let (own, token) = session.rsplit_once('.').expect("a token");
    for wrong in [own.to_owned(), format!("{own}.{}", "0".repeat(token.len())), format!("{own}.")] {
        assert_eq!(server.ask(&request("DELETE", &wrong, "", "")).status, 404, "{wrong}");
    }
    let patched = server.ask(&request("PATCH", &session, "Content-Type: application/trickle-ice-sdpfrag\r\n", "a=x"));
    assert_eq!((patched.status, patched.field("Allow")), (405, Some("DELETE, OPTIONS")));
    assert_eq!(server.ask(&request("DELETE", &session, "", "")).status, 200);
    page.text_with("eventLeave");
    assert_eq!(players(&server), 1);
    assert_eq!(server.ask(&request("DELETE", &session, "", "")).status, 404);
}

#[test]
fn what_is_wrong_with_a_call_is_told_by_status_and_sentence() {
    let server = Server::start(Options { media: Media::Audio, ..loopback() });
    let check = |response: Response, status: u16, sentence: &str| {
        assert!(response.status == status && response.body.contains(sentence), "{response:?}");
        assert_eq!(players(&server), 0);
    };
    check(server.ask(&request("POST", "/whip/a", "", OFFER)), 415, "application/sdp");
    check(call(&server, "/whip/a", "", "v=0"), 400, "m=audio");
    check(call(&server, "/whip/a", "", &OFFER.replace("m=audio", "m=video")), 400, "--media=video");
    check(call(&server, "/whip/a", "", &OFFER.replace("actpass", "passive")), 400, "actpass");
    check(call(&server, "/whip/a", "", &"x".repeat(14 * 1024 + 1)), 413, "14 KiB");
    check(call(&server, "/whip/a%20b", "", OFFER), 404, "letters");
    check(server.ask("GET /whip/a HTTP/1.1\r\nHost: h\r\n\r\n"), 405, "POST");
    check(call(&server, "/rooms", "", OFFER), 405, "GET and HEAD");
    let without = Server::start(loopback());
    let refused = call(&without, "/whip/a", "", OFFER);
    assert!(refused.status == 400 && refused.body.contains("--media"), "{refused:?}");
}

#[test]
fn a_call_needs_the_token_that_a_player_needs() {
    let keys = Keys::parse(&set(&[secret("a", 1)]), "rtcade").expect("valid");
    let server = Server::start(Options { keys: Some(keys), media: Media::Audio, ..loopback() });
    let header = json!({ "alg": "HS256", "kid": "a" });
    let mut claims = claims(unix_time());
    claims["aud"] = "rtcade".into();
    let bearer = format!("Authorization: Bearer {}\r\n", token(&header, &claims, hs256(&[1; 32])));
    assert_eq!(call(&server, "/whep/lobby", &bearer, &OFFER.replace("sendonly", "recvonly")).status, 201);
    assert_eq!(call(&server, "/whip/other", &bearer, OFFER).status, 401, "that is for another room");
    assert_eq!(call(&server, "/whip/lobby", "", OFFER).status, 401);
}

#[test]
fn pages_of_other_origins_may_call_if_they_may_play() {
    let origin = rtcade::driver::Origin::parse("https://studio.example").expect("valid");
    let server = Server::start(Options { media: Media::Audio, origins: vec![origin], ..loopback() });
    let asked = "Origin: https://studio.example\r\nAccess-Control-Request-Method: POST\r\n";
    let preflight = server.ask(&request("OPTIONS", "/whip/a", asked, ""));
    assert_eq!((preflight.status, preflight.field("Accept-Post")), (204, Some("application/sdp")));
    let allowed = preflight.field("Access-Control-Allow-Headers").expect("allowed");
    assert!(allowed.contains("Authorization"), "{allowed}");
    let answer = call(&server, "/whip/a", "Origin: https://studio.example\r\n", OFFER);
    assert_eq!((answer.status, answer.field("Access-Control-Expose-Headers")), (201, Some("*")));
    assert_eq!(answer.field("Access-Control-Allow-Origin"), Some("https://studio.example"));
    let refused = call(&server, "/whip/a", "Origin: https://evil.example\r\n", OFFER);
    assert_eq!((refused.status, refused.field("Access-Control-Allow-Origin")), (403, None));
}
