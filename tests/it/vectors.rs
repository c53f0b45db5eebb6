//! The bytes on the wire, from the vectors that the browser's client is tested against too.

use rtcade::limits;
use rtcade::wire::delta::{DeltaError, Received};
use rtcade::wire::frame::{Direction, Frame, FrameError, Header, Kind, Part, Reassembler, Transport};
use rtcade::wire::msgpack::{self, Malformed};
use rtcade::wire::{Deflater, InflateError, Inflater};
use serde_json::Value;

fn vectors(name: &str) -> Value {
    let path = format!("{}/tests/vectors/{name}", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn cases<'a>(vectors: &'a Value, list: &str) -> impl Iterator<Item = (&'a str, &'a Value)> {
    let cases = vectors[list].as_array().unwrap();
    assert!(!cases.is_empty());
    cases.iter().map(|case| (case["name"].as_str().unwrap(), case))
}

fn unhex(hex: &Value) -> Vec<u8> {
    let hex = hex.as_str().unwrap();
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

fn direction(case: &Value) -> Direction {
    if case["direction"] == "up" { Direction::Up } else { Direction::Down }
}

fn number<T: TryFrom<u64>>(value: &Value) -> T {
    value.as_u64().and_then(|number| T::try_from(number).ok()).unwrap()
}

fn kind(number: u64) -> Kind {
    Kind::ALL.into_iter().find(|&kind| kind as u64 == number).unwrap()
}

/// A msgpack value as the vectors write it: JSON, `{"$bin": hex}` for binary, `{"$float": text}` for no JSON number.
fn to_json(bytes: &[u8]) -> Value {
    fn float(value: f64) -> Value {
        if value.is_finite() { value.into() } else { serde_json::json!({ "$float": value.to_string() }) }
    }
    fn convert(value: &rmpv::Value) -> Value {
        match value {
            rmpv::Value::Nil => Value::Null,
            rmpv::Value::Boolean(value) => (*value).into(),
            rmpv::Value::Integer(value) => value.as_i64().map(Value::from).or(value.as_u64().map(Value::from)).unwrap(),
            rmpv::Value::F32(value) => float(f64::from(*value)),
            rmpv::Value::F64(value) => float(*value),
            rmpv::Value::String(value) => value.as_str().unwrap().into(),
            rmpv::Value::Binary(bytes) => {
                serde_json::json!({ "$bin": bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>() })
            }
            rmpv::Value::Array(values) => values.iter().map(convert).collect(),
            rmpv::Value::Map(entries) => {
                let key = |key: &rmpv::Value| key.as_str().map_or_else(|| key.to_string(), str::to_owned);
                Value::Object(entries.iter().map(|(name, value)| (key(name), convert(value))).collect())
            }
            rmpv::Value::Ext(..) => panic!("no vector has one"),
        }
    }
    let mut rest = bytes;
    let value = rmpv::decode::read_value(&mut rest).unwrap();
    assert!(rest.is_empty());
    convert(&value)
}

/// JSON tells whole floats from integers, JavaScript doesn't.
fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => a.as_f64() == b.as_f64(),
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b)),
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(key, a)| b.get(key).is_some_and(|b| same(a, b)))
        }
        _ => a == b,
    }
}

#[test]
fn frames_are_read_and_written_as_the_vectors_say() {
    let vectors = vectors("frames.json");
    for (name, case) in cases(&vectors, "valid") {
        let bytes = unhex(&case["hex"]);
        let transport = if case["lane"] == "reliable" { Transport::WebSocket } else { Transport::DataChannel };
        let frame = Frame::parse(&bytes, direction(case), transport).unwrap_or_else(|error| panic!("{name}: {error}"));
        let expected = &case["frame"];
        assert_eq!(frame.kind, kind(number(&expected["kind"])), "{name}");
        assert_eq!(frame.deflated, expected["deflated"].as_bool().unwrap(), "{name}");
        let header = if frame.kind.is_reliable() {
            Header::Reliable { seq: number(&expected["seq"]), tick: number(&expected["tick"]) }
        } else {
            let part = expected["part"].as_object();
            let part = part.map(|part| Part { index: number(&part["index"]), count: number(&part["count"]) });
            Header::Unreliable { part, seq: number(&expected["seq"]), ack: number(&expected["ack"]) }
        };
        assert_eq!(frame.header, header, "{name}");
        let mut written = Vec::new();
        frame.encode(&mut written);
        assert_eq!(written, bytes, "{name}");

        let Some(expected_body) = case.get("body") else { continue };
        let body = body_of(&frame, direction(case), frame.body).unwrap();
        assert!(same(&to_json(&body), expected_body), "{name}");
        assert_eq!(read(frame.kind, direction(case), &body), Ok(()), "{name}");
    }
    for case in vectors["assembled"].as_array().unwrap() {
        let name = &case["parts"][0];
        let mut reassembler = Reassembler::default();
        let mut whole = None;
        for part in case["parts"].as_array().unwrap() {
            assert!(whole.is_none(), "{name}: whole before its last part");
            let (_, part) = cases(&vectors, "valid").find(|&(name, _)| name == part.as_str().unwrap()).unwrap();
            let bytes = unhex(&part["hex"]);
            let frame = Frame::parse(&bytes, direction(part), Transport::DataChannel).unwrap();
            whole = reassembler.push(&frame).map(|body| body_of(&frame, Direction::Down, &body).unwrap());
        }
        assert!(same(&to_json(&whole.unwrap()), &case["body"]), "{name}");
    }
    for (name, case) in cases(&vectors, "invalid") {
        let transport = if case["transport"] == "websocket" { Transport::WebSocket } else { Transport::DataChannel };
        let bytes = unhex(&case["hex"]);
        let error = match Frame::parse(&bytes, direction(case), transport) {
            Err(error) => frame_error(error),
            Ok(frame) => match body_of(&frame, direction(case), frame.body) {
                Err(error) => error,
                Ok(body) => read(frame.kind, direction(case), &body).map_or_else(msgpack_error, |()| "none"),
            },
        };
        assert_eq!(error, case["error"].as_str().unwrap(), "{name}");
    }
}

fn body_of(frame: &Frame<'_>, direction: Direction, body: &[u8]) -> Result<Vec<u8>, &'static str> {
    let mut inflated = body.to_vec();
    if frame.deflated {
        let limit = frame.inflated_limit(direction);
        Inflater::new().inflate(body, limit, &mut inflated).map_err(|error| match error {
            InflateError::Corrupt => "inflate",
            InflateError::TooLarge => "too_large",
        })?;
    }
    Ok(inflated)
}

/// Reads the body as whatever reads bodies of that kind.
fn read(kind: Kind, direction: Direction, body: &[u8]) -> Result<(), Malformed> {
    match (kind, direction) {
        (Kind::Input, _) => msgpack::decode_inputs(body).map(drop),
        (Kind::Ping, Direction::Up) => msgpack::decode_ping(body).map(drop),
        (Kind::Ping | Kind::Pong, _) => msgpack::decode_clock(body).map(drop),
        (Kind::State | Kind::Event | Kind::ReliableEvent, _) => msgpack::decode_at_tick(body).map(drop),
        (Kind::Ticks, Direction::Up) => msgpack::decode_range(body).map(drop),
        (Kind::Tick | Kind::Ticks, _) => msgpack::decode_ticks(body).map(drop),
        (Kind::Command, _) => msgpack::check(body),
        (Kind::Ack, _) => msgpack::decode_ack(body).map(drop),
    }
}

#[test]
fn msgpack_is_read_and_written_as_the_vectors_say() {
    let vectors = vectors("msgpack.json");
    for (name, case) in cases(&vectors, "valid").chain(cases(&vectors, "canonical")) {
        let bytes = unhex(&case["hex"]);
        assert_eq!(msgpack::check(&bytes), Ok(()), "{name}");
        assert!(same(&to_json(&bytes), &case["value"]), "{name}");
    }
    for (name, case) in cases(&vectors, "invalid") {
        let error = msgpack::check(&unhex(&case["hex"])).map_or_else(msgpack_error, |()| "none");
        assert_eq!(error, case["error"].as_str().unwrap(), "{name}");
    }
}

#[test]
fn deltas_are_restored_and_acknowledged_as_the_vectors_say() {
    let vectors = vectors("delta.json");
    let holding = |case: &Value| {
        let mut received = Received::new(0);
        for held in case["held"].as_array().unwrap() {
            assert!(received.read(&unhex(held)).is_ok(), "{}", case["name"]);
        }
        received
    };
    for (name, case) in cases(&vectors, "restored") {
        let body = unhex(&case["body"]);
        let (tick, value) = msgpack::decode_at_tick(&body).unwrap();
        assert_eq!(holding(case).read(&unhex(&case["delta"])), Ok((tick, Some(value))), "{name}");
    }
    for (name, case) in cases(&vectors, "refused") {
        let mut received = holding(case);
        let before = received.acknowledgement();
        let error = match received.read(&unhex(&case["delta"])) {
            Ok(_) => "none",
            Err(DeltaError::Malformed(_)) => "malformed",
            Err(DeltaError::Unrestored) => "unrestored",
        };
        assert_eq!(error, case["error"].as_str().unwrap(), "{name}");
        assert_eq!(received.acknowledgement(), before, "{name} has no effect");
    }
    for (name, case) in cases(&vectors, "acknowledged") {
        let mut received = Received::new(number(&case["joined"]));
        for tick in case["ticks"].as_array().unwrap() {
            let mut body = Vec::new();
            msgpack::encode_at_tick(number(tick), &(), 1, &mut body).unwrap();
            assert!(received.read(&body).is_ok(), "{name}");
        }
        assert_eq!(received.acknowledgement(), number::<u16>(&case["ack"]), "{name}");
    }
}

#[test]
fn limits_are_those_of_the_browser_client() {
    fn ms(time: std::time::Duration) -> usize {
        usize::try_from(time.as_millis()).unwrap()
    }
    let vectors = vectors("limits.json");
    let mut shared = vectors["both"].as_object().unwrap().clone();
    for (name, value) in [
        ("PART_BODY_BYTES", limits::PART_BODY_BYTES),
        ("FRAME_PARTS", limits::FRAME_PARTS),
        ("UNRELIABLE_BODY_BYTES", limits::UNRELIABLE_BODY_BYTES),
        ("STATE_BODY_BYTES", limits::STATE_BODY_BYTES),
        ("STATE_HISTORY", limits::STATE_HISTORY),
        ("RELIABLE_DOWN_BYTES", limits::RELIABLE_DOWN_BYTES),
        ("RELIABLE_UP_BYTES", limits::RELIABLE_UP_BYTES),
        ("RELIABLE_HEADER_BYTES", limits::RELIABLE_HEADER_BYTES),
        ("INPUT_WINDOW", limits::INPUT_WINDOW),
        ("INPUT_BYTES", limits::INPUT_BYTES),
        ("INPUT_INTERVAL", ms(limits::INPUT_INTERVAL)),
        ("PING_INTERVAL", ms(limits::PING_INTERVAL)),
        ("HEARTBEAT_INTERVAL", ms(limits::HEARTBEAT_INTERVAL)),
        ("HEARTBEATS_SKIPPED", limits::HEARTBEATS_SKIPPED.into()),
        ("CHANNEL_SILENCE", ms(limits::CHANNEL_SILENCE)),
        ("UNACKNOWLEDGED_BYTES", limits::UNACKNOWLEDGED_BYTES),
        ("TICKS_PER_REQUEST", limits::TICKS_PER_REQUEST as usize),
        ("MSGPACK_DEPTH", limits::MSGPACK_DEPTH),
        ("INPUTS_WRAPPING", limits::INPUTS_WRAPPING),
        ("TICKS_WRAPPING", limits::TICKS_WRAPPING),
        ("AT_TICK_WRAPPING", limits::AT_TICK_WRAPPING),
        ("MSGPACK_ITEMS", limits::MSGPACK_ITEMS),
    ] {
        assert_eq!(shared.remove(name).and_then(|number| number.as_u64()), Some(value as u64), "{name}");
    }
    assert!(shared.is_empty(), "these are held against nothing: {shared:?}");
}

fn frame_error(error: FrameError) -> &'static str {
    error.as_str()
}

fn msgpack_error(error: Malformed) -> &'static str {
    match error {
        Malformed::Truncated => "truncated",
        Malformed::Depth => "depth",
        Malformed::Items => "items",
        Malformed::Integer => "integer",
        Malformed::Utf8 => "utf8",
        Malformed::Type => "type",
        Malformed::Trailing => "trailing",
        Malformed::Shape => "shape",
    }
}

mod random_bytes {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn are_read_or_refused_but_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..1500), seed in any::<u8>()) {
            for direction in [Direction::Up, Direction::Down] {
                for transport in [Transport::DataChannel, Transport::WebSocket] {
                    // Most first bytes are refused at once; make some that aren't.
                    let mut bytes = bytes.clone();
                    if let Some(first) = bytes.first_mut() {
                        *first = seed & 0x2f;
                    }
                    if let Ok(frame) = Frame::parse(&bytes, direction, transport) {
                        let _ = body_of(&frame, direction, frame.body);
                    }
                }
            }
            if msgpack::check(&bytes).is_ok() {
                let _: Result<serde_json::Value, _> = msgpack::decode(&bytes);
            }
            let _ = msgpack::decode_inputs(&bytes);
            let _ = msgpack::decode_range(&bytes);
            let _ = msgpack::decode_at_tick(&bytes);
            let _ = msgpack::decode_ticks(&bytes);
            let _ = msgpack::decode_clock(&bytes);
            let _ = msgpack::decode_ping(&bytes);
        }

        #[test]
        fn truncated_bodies_are_refused(inputs in prop::collection::vec(any::<(u16, u32)>(), 1..8)) {
            let values: Vec<(u16, Vec<u8>)> =
                inputs.iter().map(|&(seen, input)| (seen, msgpack::encode(&input, 16).unwrap())).collect();
            let body = msgpack::encode_inputs(9, values.iter().map(|(seen, value)| (*seen, value.as_slice())));
            prop_assert!(msgpack::decode_inputs(&body).is_ok());
            for len in 0..body.len() {
                prop_assert!(msgpack::decode_inputs(&body[..len]).is_err());
                prop_assert!(msgpack::check(&body[..len]).is_err());
            }
        }

        #[test]
        fn what_is_deflated_inflates_again(body in prop::collection::vec(0u8..4, 0..4096)) {
            let mut deflated = Vec::new();
            if Deflater::new().deflate(&body, &mut deflated) {
                prop_assert!(deflated.len() < body.len());
                let mut inflated = Vec::new();
                prop_assert_eq!(Inflater::new().inflate(&deflated, body.len(), &mut inflated), Ok(()));
                prop_assert_eq!(&inflated, &body);
                let one_too_small = Inflater::new().inflate(&deflated, body.len() - 1, &mut inflated);
                prop_assert_eq!(one_too_small, Err(InflateError::TooLarge));
                for len in 0..deflated.len() {
                    let cut = Inflater::new().inflate(&deflated[..len], body.len(), &mut inflated);
                    prop_assert_eq!(cut, Err(InflateError::Corrupt));
                }
            }
        }
    }
}
