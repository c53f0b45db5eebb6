use proptest::prelude::*;
use proptest::test_runner::{Config, RngSeed};
use serde_json::json;

use super::*;

fn json_of(text: &str) -> Value {
    serde_json::from_str(text).expect("what is sent is JSON")
}

/// The text of a refusal costs no more than a request, whatever that contains.
#[test]
fn a_refusal_repeats_nothing_long() {
    let long = "\u{e000}".repeat(5_000);
    let values = [format!("\"{long}\""), format!("[\"{long}\"]"), format!("{{\"{long}\":1}}"), long.clone()];
    let mut requests: Vec<String> = values.to_vec();
    for value in &values {
        requests.push(format!("{{\"a\":{value}}}"));
        requests.push(format!("{{\"a\":\"z\",\"i\":{value}}}"));
        for action in ["join", "reconnect", "exchangeSdp", "exchangeCandidate", "orientationChange", "leave", "z"] {
            requests.push(format!("{{\"a\":\"{action}\",\"d\":{value}}}"));
            for field in ["roomId", "name", "sdp", "socketId", "resume", "last", "version", "to"] {
                let data = format!(r#"{{"to":"x","socketId":"a","resume":"b","{field}":{value}}}"#);
                requests.push(format!("{{\"a\":\"{action}\",\"d\":{data}}}"));
            }
        }
    }
    let mut refused = 0;
    for request in requests {
        let (reply_to, result) = parse(&request);
        let Err(fault) = result else { continue };
        refused += 1;
        let reply = super::refused(&reply_to, &fault);
        assert!(reply.len() < 1_000, "{} bytes for {request:.80}", reply.len());
    }
    assert!(refused > 100, "{refused}");
}

#[test]
fn requests_are_read_or_refused_by_code() {
    fn check(text: &str, expected: Result<&str, ErrorCode>) {
        let (_, request) = parse(text);
        let shown = request.as_ref().map(|request| format!("{request:?}")).map_err(|fault| fault.code);
        let fits = match (&shown, expected) {
            (Ok(shown), Ok(part)) => shown.contains(part),
            (shown, expected) => shown.as_ref().err() == expected.as_ref().err(),
        };
        assert!(fits, "{:.80}: {shown:?} instead of {expected:?}", text);
        if let Err(fault) = &request {
            assert!(!fault.message.is_empty());
        }
    }
    let bad = Err(ErrorCode::BadRequest);
    check(r#"{"a":"join"}"#, Ok("room_id: None, bearer: Null, name: None"));
    check(r#"{"a":"join","d":{"roomId":"r","sdp":"v=0","data":{"x":[1]}}}"#, Ok(r#"sdp: Some("v=0")"#));
    check(r#"{"a":"join","d":{"platform":"web","bearer":{"deep":[1]}},"z":9}"#, Ok("room_id: None"));
    check(r#"{"d":{"name":"N"},"a":"join"}"#, Ok(r#"name: Some("N")"#));
    check(r#"{"a":"leave","d":7}"#, Ok("Leave"));
    check(r#"{"a":"exchangeSdp","d":{"to":"server","sdp":"v=0"}}"#, Ok(r#"to: "server", sdp: "v=0""#));
    check(r#"{"a":"exchangeCandidate","d":{"to":"server","candidate":{}}}"#, Ok("ExchangeCandidate"));
    check(r#"{"a":"exchangeCandidate","d":{"to":"x","candidate":null,"z":{}}}"#, Ok("candidate: Null"));
    check(r#"{"a":"exchangeCandidate","d":{"candidate":"c"}}"#, bad);
    check(r#"{"a":"exchangeCandidate","d":{"to":7,"candidate":"c"}}"#, bad);
    check(r#"{"a":"orientationChange","d":{"camera":"back","to":7}}"#, Ok(r#"Null, camera: String("back")"#));
    check(r#"{"a":"orientationChange"}"#, Ok("OrientationChange"));
    check(r#"{"a":"orientationChange","d":{"camera":1,"camera":2}}"#, bad);
    check(r#"{"a":"dance"}"#, Err(ErrorCode::UnknownAction));
    check(r#"{"a":"reconnect"}"#, bad);
    check(r#"{"a":"reconnect","d":{"socketId":"a","resume":"b","last":7}}"#, Ok(r#"last: Some(7)"#));
    check(r#"{"a":"joinR"}"#, Err(ErrorCode::UnknownAction));
    check(r#"{"a":"reconnect","d":{"socketId":"a","resume":"b","last":"7"}}"#, bad);
    check(r#"{"a":"reconnect","d":{"socketId":"a","resume":"b","last":4294967296}}"#, bad);

    for text in ["", "null", "[]", "7", "{", r#"{"a":7}"#, r#"{"d":{}}"#, r#"{"a":"join"} x"#, "\u{0}"] {
        check(text, bad);
    }
    for data in
        ["7", "null", r#""x""#, r#"{"name":7}"#, r#"{"roomId":["r"]}"#, r#"{"sdp":{}}"#, r#"{"name":"a","name":"b"}"#]
    {
        // An optional `d` may be left out as null.
        let expected = if data == "null" { Ok("room_id: None") } else { bad };
        check(&format!(r#"{{"a":"join","d":{data}}}"#), expected);
    }
    check(r#"{"a":"exchangeSdp","d":{"sdp":"v=0"}}"#, bad);
    check(r#"{"a":"join","a":"join"}"#, bad);

    let nested = |open: &str, close: &str, count: usize| open.repeat(count) + &close.repeat(count);
    check(&nested("[", "]", 8_000), bad);
    check(&format!(r#"{{"a":"join","d":{{"data":{}}}}}"#, nested("[", "]", 8_000)), bad);
    check(&format!(r#"{{"a":"join","d":{{"data":{}1{}}}}}"#, "{\"a\":".repeat(2_000), "}".repeat(2_000)), bad);
    check(&format!(r#"{{"a":"join","d":{{"unknown":{}}}}}"#, nested("[", "]", 8_000)), Ok("room_id: None"));

    let candidate = |value: &str| format!(r#"{{"a":"exchangeCandidate","d":{{"to":"x","candidate":{value}}}}}"#);
    let camera = |value: &str| format!(r#"{{"a":"orientationChange","d":{{"camera":{value}}}}}"#);
    let text = |bytes: usize| format!("\"{}\"", "x".repeat(bytes - 2));
    let too_large = Err(ErrorCode::TooLarge);
    check(&candidate(&nested("[", "]", 8)), Ok("ExchangeCandidate"));
    check(&candidate(&nested("[", "]", 9)), too_large);
    check(&candidate(&format!("{}1{}", "{\"a\":".repeat(9), "}".repeat(9))), too_large);
    check(&candidate(&nested("[", "]", 4_000)), bad);
    check(&candidate(&text(1_024)), Ok("ExchangeCandidate"));
    check(&candidate(&text(1_025)), too_large);
    check(&candidate(&format!("\"{}\"", "\u{1}".repeat(300))), bad);
    check(&candidate(&format!("\"{}\"", "\\u0001".repeat(300))), too_large);
    check(&camera(&nested("[", "]", 9)), too_large);
    check(&camera(&text(512 - "null".len())), Ok("OrientationChange"));
    check(&camera(&text(513 - "null".len())), too_large);

    let padded = |bytes: usize| format!("{:bytes$}", r#"{"a":"leave"}"#);
    check(&padded(16 * 1024), Ok("Leave"));
    check(&padded(16 * 1024 + 1), Err(ErrorCode::TooLarge));
}

#[test]
fn half_a_surrogate_pair_is_replaced() {
    for (text, name) in [
        (r"\ud83d\ude00", "\u{1f600}"),
        (r"\uD83D\uDE00", "\u{1f600}"),
        (r"\ud83d", "\u{fffd}"),
        (r"\ude00x", "\u{fffd}x"),
        (r"\ud83d\ud83d\ude00", "\u{fffd}\u{1f600}"),
        (r"\ud83dé", "\u{fffd}é"),
        (r"\ud83d\n", "\u{fffd}\n"),
        (r"\\ud83d", r"\ud83d"),
        (r"\\\ud83d", "\\\u{fffd}"),
        (r"\u00e9", "é"),
    ] {
        let (_, request) = parse(&format!(r#"{{"a":"join","d":{{"name":"{text}","data":{{"{text}":["{text}"]}}}}}}"#));
        let Ok(Request::Join(join)) = request else { panic!("{text}: {request:?}") };
        assert_eq!((join.name.as_deref(), &join.data), (Some(name), &json!({ name: [name] })), "{text}");
    }
    for text in [r"\ud8", r"\ud83", r"\", r"\ud83é", r"\é"] {
        let (_, request) = parse(&format!(r#"{{"a":"join","d":{{"name":"{text}"#));
        assert_eq!(request.expect_err("cut").code, ErrorCode::BadRequest, "{text}");
    }
}

#[test]
fn a_refusal_has_no_word_of_a_parser() {
    for (text, sentence) in [
        ("{", "A request must be a JSON object with a string `a`, the action."),
        (r#"{"a":7}"#, "A request must be a JSON object with a string `a`, the action."),
        (r#"{"a":"join","d":7}"#, "The data of join is not an object."),
        (r#"{"a":"join","d":{"name":7}}"#, "The field name of join has the wrong type."),
        (r#"{"a":"join","d":{"roomId":{"x":1}}}"#, "The field roomId of join has the wrong type."),
        (
            r#"{"a":"reconnect","d":{"socketId":"a","resume":"b","last":-1}}"#,
            "The field last of reconnect has the wrong type.",
        ),
        (
            r#"{"a":"reconnect","d":{"socketId":"a"}}"#,
            "A field of reconnect is missing, occurs twice or has the wrong type.",
        ),
    ] {
        assert_eq!(parse(text).1.expect_err("bad").message, sentence, "{text}");
    }
}

#[test]
fn a_reply_repeats_the_action_and_a_short_id() {
    fn check(id: &str, repeated: bool) {
        let (reply_to, request) = parse(&format!(r#"{{"a":"leave","i":{id}}}"#));
        request.unwrap();
        let granted = json_of(&granted(&reply_to, &json!({ "x": 1 })));
        let mut expected = json!({ "a": "leaveR", "s": true, "d": { "x": 1 } });
        if repeated {
            expected["i"] = json_of(id);
        }
        assert_eq!(granted, expected);
        let refused = json_of(&refused(&reply_to, &Fault::new(ErrorCode::RoomFull, "It's \"full\".")));
        let mut expected = json!({ "a": "leaveR", "s": false, "e": "room_full", "m": "It's \"full\"." });
        if repeated {
            expected["i"] = json_of(id);
        }
        assert_eq!(refused, expected);
    }
    check("7", true);
    check(r#""\u0000 \" x""#, true);
    check(r#"{"a": [1, 2]}"#, true);
    check(&format!("\"{}\"", "x".repeat(62)), true);
    check(&format!("\"{}\"", "x".repeat(63)), false);
    assert_eq!(json_of(&event("eventJoin", &json!(1))), json!({ "a": "eventJoin", "d": 1 }));
    let (reply_to, _) = parse(&format!(r#"{{"a":"{}"}}"#, "\\u0000".repeat(2_000)));
    let text = refused(&reply_to, &Fault::new(ErrorCode::UnknownAction, ""));
    assert!(text.len() < 500 && json_of(&text)["a"].as_str().is_some_and(|action| action.ends_with('R')));
}

#[test]
fn room_names_are_short_and_plain() {
    let longest = "x".repeat(64);
    for name in ["a", "A-z_09", &longest] {
        assert_eq!(RoomName::parse(name).unwrap().as_str(), name);
    }
    for name in ["", " ", "a/b", "..", "é", "a\n", &format!("{longest}x")] {
        assert_eq!(RoomName::parse(name), None, "{name:?}");
    }
}

proptest! {
    #![proptest_config(Config {
        rng_seed: RngSeed::Fixed(1), failure_persistence: None, ..Config::with_cases(512)
    })]

    #[test]
    fn any_text_gets_a_reply_that_is_json(
        text in "\\PC{0,64}", name in "\\PC{0,80}", at: prop::sample::Index,
        byte in prop::sample::select(b"{}[]\":,0x\\ ".to_vec()),
    ) {
        let good = [
            json!({ "a": "join", "d": { "name": name, "data": [1, { "x": null }], "sdp": text }, "i": [1] }),
            json!({ "a": "exchangeCandidate", "d": { "to": name, "candidate": { "candidate": text, "n": [0] } } }),
            json!({ "a": "orientationChange", "d": { "orientation": name, "camera": { "x": [0.5, text] } } }),
        ];
        let mut texts = vec![text];
        for good in good {
            let mut spoiled = good.to_string().into_bytes();
            let at = at.index(spoiled.len());
            spoiled[at] = byte;
            let spoiled = String::from_utf8_lossy(&spoiled).into_owned();
            texts.extend([spoiled[..spoiled.floor_char_boundary(at)].to_owned(), spoiled]);
        }
        let user_id = Some(name.clone());
        let session = SessionInfo { player: 1, socket_id: String::new(), user_id, name: String::new() };
        for text in texts {
            let (reply_to, request) = parse(&text);
            let reply = match request {
                Ok(Request::ExchangeCandidate { candidate, .. }) => {
                    let event = event("e", &Relayed::new(&session, json!({ "candidate": candidate })));
                    prop_assert_eq!(&json_of(&event)["d"]["candidate"], &candidate);
                    granted(&reply_to, &json!({}))
                }
                Ok(Request::OrientationChange(change)) => event("e", &Relayed::new(&session, change)),
                Ok(_) => granted(&reply_to, &json!({})),
                Err(fault) => refused(&reply_to, &fault),
            };
            json_of(&reply);
        }
    }
}
