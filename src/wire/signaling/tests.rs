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
        for action in [
            "join",
            "reconnect",
            "exchangeSdp",
            "exchangeCandidate",
            "orientationChange",
            "eventCpu",
            "eventFreeze",
            "leave",
            "z",
        ] {
            requests.push(format!("{{\"a\":\"{action}\",\"d\":{value}}}"));
            for field in [
                "roomId",
                "name",
                "sdp",
                "socketId",
                "resume",
                "last",
                "version",
                "to",
                "platform",
                "camera",
                "errors",
                "cpuUsed",
                "candidate",
            ] {
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
        let reply = super::refused(&reply_to, &fault, Codes::Names);
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
    check(r#"{"a":"join","d":{"roomId":"r","sdp":"v=0","data":{"x":[1]}}}"#, Ok(r#"sdp: "v=0", form: Bare"#));
    check(r#"{"a":"join","d":{"platform":"web","bearer":{"deep":[1]}},"z":9}"#, Ok("room_id: None"));
    check(r#"{"d":{"name":"N"},"a":"join"}"#, Ok(r#"name: Some("N")"#));
    check(r#"{"a":"leave","d":7}"#, Ok("Leave"));
    check(r#"{"a":"exchangeSdp","d":{"to":"server","sdp":"v=0"}}"#, Ok(r#"sdp: "v=0", form: Bare"#));
    check(r#"{"a":"exchangeCandidate","d":{"to":"server","candidate":{}}}"#, Ok("ExchangeCandidate"));
    check(r#"{"a":"exchangeCandidate","d":{"to":"x","candidate":null,"z":{}}}"#, Ok("candidate: Null"));
    check(r#"{"a":"exchangeCandidate","d":{"candidate":"c"}}"#, bad);
    check(r#"{"a":"exchangeCandidate","d":{"to":7,"candidate":"c"}}"#, bad);
    check(r#"{"a":"orientationChange","d":{"camera":"back","to":7}}"#, Ok(r#"None, camera: Some(String("back"))"#));
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
    for (sdp, to_server, to_player) in [
        (r#"{"type":"offer","sdp":"v=0"}"#, Ok("form: Object, is_offer: true"), Ok("Object {")),
        (r#"{"sdp":"v=0"}"#, Ok("form: Object, is_offer: true"), Ok("Object {")),
        (r#"{"type":"answer","sdp":"v=0"}"#, Ok("form: Object, is_offer: false"), Ok("Object {")),
        (r#"{"type":7,"sdp":"v=0"}"#, Ok("form: Object, is_offer: false"), Ok("Object {")),
        (r#""{\"type\":\"offer\",\"sdp\":\"v=0\"}""#, Ok(r#"sdp: "v=0", form: Text"#), Ok("String(")),
        (r#"" {\"type\":\"offer\"}""#, Ok("form: Bare"), Ok("String(")),
        (r#""{""#, Ok(r#"sdp: "{", form: Bare"#), Ok("String(")),
        (r#""""#, Ok(r#"sdp: "", form: Bare"#), Ok("String(")),
        (r#"{"type":"offer"}"#, bad, Ok("Object {")),
        (r#"{"type":"offer","sdp":["v=0"]}"#, bad, Ok("Object {")),
        ("null", bad, bad),
        ("7", bad, bad),
        ("true", bad, bad),
        (r#"["v=0"]"#, bad, bad),
    ] {
        for (to, expected) in [("server", to_server), ("x", to_player)] {
            check(&format!(r#"{{"a":"exchangeSdp","d":{{"to":"{to}","sdp":{sdp}}}}}"#), expected);
        }
        let joins = if sdp == "null" { Ok("sdp: None") } else { to_server };
        check(&format!(r#"{{"a":"join","d":{{"sdp":{sdp}}}}}"#), joins);
        check(&format!(r#"{{"a":"reconnect","d":{{"socketId":"a","resume":"b","sdp":{sdp}}}}}"#), joins);
    }
    check(r#"{"a":"reconnect","d":{"socketId":"a"}}"#, Err(ErrorCode::ResumeRequired));
    check(r#"{"a":"reconnect","d":{"socketId":"a","resume":null}}"#, Err(ErrorCode::ResumeRequired));
    check(r#"{"a":"join","d":{"deviceName":7,"networkType":{},"appVersion":[],"version":"9"}}"#, Ok("room_id: None"));
    check(r#"{"a":"join","d":{"platform":"web","orientation":90,"camera":{"x":1}}}"#, Ok("orientation: Number(90)"));
    check(r#"{"a":"eventCpu","d":{"cpuUsed":12.5}}"#, Ok("Cpu(12.5)"));
    for data in ["{}", r#"{"cpuUsed":-1}"#, r#"{"cpuUsed":"7"}"#, r#"{"cpuUsed":null}"#, r#"{"cpuUsed":[7]}"#, "7"] {
        check(&format!(r#"{{"a":"eventCpu","d":{data}}}"#), bad);
    }
    check(r#"{"a":"eventCpu"}"#, bad);
    check(r#"{"a":"eventCpu","d":{"cpuUsed":1e999}}"#, bad);
    check(r#"{"a":"eventFreeze"}"#, Ok("Freeze({})"));
    check(r#"{"a":"eventFreeze","d":{"from":{"socketId":"forged"},"ms":700}}"#, Ok(r#"Freeze({"ms": Number(700)})"#));
    check(r#"{"a":"eventFreeze","d":[1]}"#, bad);
    check(r#"{"a":"join","a":"join"}"#, bad);

    let nested = |open: &str, close: &str, count: usize| open.repeat(count) + &close.repeat(count);
    check(&nested("[", "]", 8_000), bad);
    check(&format!(r#"{{"a":"join","d":{{"data":{}}}}}"#, nested("[", "]", 8_000)), bad);
    check(&format!(r#"{{"a":"join","d":{{"data":{}1{}}}}}"#, "{\"a\":".repeat(2_000), "}".repeat(2_000)), bad);
    check(&format!(r#"{{"a":"join","d":{{"unknown":{}}}}}"#, nested("[", "]", 8_000)), Ok("room_id: None"));

    let candidate = |value: &str| format!(r#"{{"a":"exchangeCandidate","d":{{"to":"x","candidate":{value}}}}}"#);
    let player_sdp = |value: &str| format!(r#"{{"a":"exchangeSdp","d":{{"to":"x","sdp":{value}}}}}"#);
    let platform = |value: &str| format!(r#"{{"a":"join","d":{{"platform":{value}}}}}"#);
    let freeze = |value: &str| format!(r#"{{"a":"eventFreeze","d":{{"x":{value}}}}}"#);
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

    check(&platform(&text(512 - "nullnull".len())), Ok("room_id"));
    check(&platform(&text(513 - "nullnull".len())), too_large);
    check(&platform(&nested("[", "]", 9)), too_large);
    check(&freeze(&text(512 - r#"{"x":}"#.len())), Ok("Freeze"));
    check(&freeze(&text(513 - r#"{"x":}"#.len())), too_large);
    check(&freeze(&nested("[", "]", 7)), Ok("Freeze"));
    check(&freeze(&nested("[", "]", 8)), too_large);
    check(&player_sdp(&text(14 * 1024 + 2)), Ok("ExchangeSdp"));
    check(&player_sdp(&text(14 * 1024 + 3)), too_large);
    check(&player_sdp(&format!(r#"{{"sdp":{}}}"#, text(14 * 1024 - r#"{"sdp":}"#.len()))), Ok("ExchangeSdp"));
    check(&player_sdp(&format!(r#"{{"sdp":{}}}"#, text(14 * 1024 + 1 - r#"{"sdp":}"#.len()))), too_large);
    check(&player_sdp(&format!(r#"{{"sdp":"","x":{}}}"#, nested("[", "]", 8))), too_large);

    let padded = |bytes: usize| format!("{:bytes$}", r#"{"a":"leave"}"#);
    check(&padded(16 * 1024), Ok("Leave"));
    check(&padded(16 * 1024 + 1), Err(ErrorCode::TooLarge));
}

#[test]
fn the_answer_has_the_form_of_the_offer() {
    let answer = |sdp: &str| {
        let (_, request) = parse(&format!(r#"{{"a":"exchangeSdp","d":{{"to":"server","sdp":{sdp}}}}}"#));
        let Ok(Request::Offer(offer)) = request else { panic!("{sdp}: {request:?}") };
        (offer.offer().map(str::to_owned).map_err(|fault| fault.code), offer.answer("v=1".to_owned()))
    };
    let object = json!({ "type": "answer", "sdp": "v=1" });
    assert_eq!(answer(r#""v=0""#), (Ok("v=0".to_owned()), json!("v=1")));
    assert_eq!(answer(r#"{"type":"offer","sdp":"v=0"}"#), (Ok("v=0".to_owned()), object.clone()));
    let (offer, text) = answer(r#""{\"type\":\"offer\",\"sdp\":\"v=0\"}""#);
    assert_eq!((offer, json_of(text.as_str().unwrap())), (Ok("v=0".to_owned()), object.clone()));
    for kind in ["answer", "pranswer", "rollback", ""] {
        assert_eq!(answer(&format!(r#"{{"type":"{kind}","sdp":"v=0"}}"#)).0, Err(ErrorCode::BadSdp), "{kind}");
    }
}

#[test]
fn numbers_of_codes_are_asked_for_by_requests_that_can_be_read_or_not() {
    for (text, expected) in [
        (r#"{"a":"join","d":{"errors":"number"}}"#, Some(Codes::Numbers)),
        (r#"{"a":"join","d":{"errors":"number","name":7}}"#, Some(Codes::Numbers)),
        (r#"{"a":"reconnect","d":{"errors":"number"}}"#, Some(Codes::Numbers)),
        (r#"{"a":"join","d":{"errors":"numbers"}}"#, None),
        (r#"{"a":"join","d":{"errors":7}}"#, None),
        (r#"{"a":"join","d":"errors"}"#, None),
        (r#"{"a":"join"}"#, None),
        (r#"{"a":"leave","d":{"errors":"number"}}"#, None),
        (r#"{"errors":"number"}"#, None),
    ] {
        assert_eq!(parse(text).0.codes, expected, "{text}");
    }
    let mut numbers: Vec<u16> = ErrorCode::ALL.iter().map(|code| code.number()).collect();
    numbers.sort_unstable();
    numbers.dedup();
    assert_eq!(numbers.len(), ErrorCode::ALL.len(), "no number means two codes");
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
            r#"{"a":"reconnect","d":{"resume":"a"}}"#,
            "A field of reconnect is missing, occurs twice or has the wrong type.",
        ),
        (
            r#"{"a":"reconnect","d":{"socketId":"a"}}"#,
            "The request has no resume token: send `resume` of the last reply, or join again.",
        ),
        (r#"{"a":"join","d":{"sdp":{"type":"offer"}}}"#, "The field sdp of join has the wrong type."),
        (r#"{"a":"exchangeSdp","d":{"to":"server","sdp":7}}"#, "The field sdp of exchangeSdp has the wrong type."),
        (r#"{"a":"eventCpu","d":{"cpuUsed":"x"}}"#, "The field cpuUsed of eventCpu is not a number from 0."),
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
        let refused = json_of(&refused(&reply_to, &Fault::new(ErrorCode::RoomFull, "It's \"full\"."), Codes::Names));
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
    let text = refused(&reply_to, &Fault::new(ErrorCode::UnknownAction, ""), Codes::Names);
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
            json!({ "a": "join", "d": { "platform": name, "camera": [text], "sdp": { "sdp": text } } }),
            json!({ "a": "join", "d": { "name": 7, "errors": "number" } }),
            json!({ "a": "exchangeSdp", "d": { "to": "server", "sdp": { "type": "offer", "sdp": text } } }),
            json!({ "a": "exchangeSdp", "d": { "to": "server", "sdp": json!({ "sdp": text }).to_string() } }),
            json!({ "a": "exchangeSdp", "d": { "to": name, "sdp": { "type": "answer", "sdp": text, "n": [0] } } }),
            json!({ "a": "eventCpu", "d": { "cpuUsed": 0.5 } }),
            json!({ "a": "eventFreeze", "d": { "from": name, "why": { "x": [text] } } }),
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
                Ok(Request::ExchangeSdp { sdp, .. }) => {
                    let event = event("e", &Relayed::new(&session, json!({ "sdp": sdp })));
                    prop_assert_eq!(&json_of(&event)["d"]["sdp"], &sdp);
                    granted(&reply_to, &json!({}))
                }
                Ok(Request::Offer(offer)) => granted(&reply_to, &offer.answer(name.clone())),
                Ok(Request::Join(mut join)) => event("e", &Relayed::new(&session, join.take_device())),
                Ok(Request::OrientationChange(change)) => {
                    event("e", &Relayed::new(&session, Device::default().changed(change)))
                }
                Ok(Request::Cpu(used)) => {
                    prop_assert!(used.is_finite() && used >= 0.0);
                    granted(&reply_to, &json!({}))
                }
                Ok(Request::Freeze(fields)) => {
                    let event = event("e", &Relayed::new(&session, &fields));
                    prop_assert_eq!(&json_of(&event)["d"]["from"]["userId"], &json!(name));
                    event
                }
                Ok(_) => granted(&reply_to, &json!({})),
                Err(fault) => {
                    let numbers = json_of(&refused(&reply_to, &fault, Codes::Numbers));
                    prop_assert_eq!(&numbers["e"], &json!(fault.code.number()));
                    refused(&reply_to, &fault, reply_to.codes.unwrap_or_default())
                }
            };
            json_of(&reply);
        }
    }
}
