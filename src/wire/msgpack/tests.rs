use proptest::prelude::*;
use proptest::test_runner::{Config, RngSeed};
use serde_json::{Value, json};

use super::*;

#[test]
fn a_value_is_measured_up_to_each_limit() {
    fn check(name: &str, bytes: &[u8], expected: Result<(), Malformed>) {
        assert_eq!(super::check(bytes), expected, "{name}");
    }
    let nested = |depth: usize| [vec![0x91; depth - 1], vec![0x90]].concat();
    check("depth 16", &nested(16), Ok(()));
    check("depth 17", &nested(17), Err(Malformed::Depth));
    check("a bomb of arrays", &nested(100_000), Err(Malformed::Depth));
    check("a bomb of maps", &[0x81, 1].repeat(50_000), Err(Malformed::Depth));

    let array = |count: u16| [vec![0xdc], count.to_be_bytes().to_vec(), vec![0xc0; count.into()]].concat();
    check("4096 items", &array(4096), Ok(()));
    check("4097 items", &array(4097), Err(Malformed::Items));
    let map = |count: u16| [vec![0xde], count.to_be_bytes().to_vec(), [1, 0xc0].repeat(count.into())].concat();
    check("4096 items in a map", &map(2048), Ok(()));
    check("4098 items in a map", &map(2049), Err(Malformed::Items));
    check("items of several arrays", &[&[0x92][..], &array(4000), &array(95)].concat(), Err(Malformed::Items));

    let u64 = |value: u64| [&[0xcf][..], &value.to_be_bytes()].concat();
    let i64 = |value: i64| [&[0xd3][..], &value.to_be_bytes()].concat();
    check("2^53", &u64(1 << 53), Ok(()));
    check("2^53 + 1", &u64((1 << 53) + 1), Err(Malformed::Integer));
    check("-2^53", &i64(-(1 << 53)), Ok(()));
    check("-2^53 - 1", &i64(-(1 << 53) - 1), Err(Malformed::Integer));
    check("the least integer", &i64(i64::MIN), Err(Malformed::Integer));

    check("nothing", &[], Err(Malformed::Truncated));
    check("a count that lies", &[0xdd, 0xff, 0xff, 0xff, 0xff], Err(Malformed::Items));
    check("a count within the limit that lies", &[0xdc, 0x0f, 0xff, 0xc0], Err(Malformed::Truncated));
    check("a length that lies", &[0xdb, 0xff, 0xff, 0xff, 0xff, b'x'], Err(Malformed::Truncated));
    check("not UTF-8", &[0xa1, 0xff], Err(Malformed::Utf8));
    check("binary", &[0xc4, 1, 0xff], Ok(()));
    check("the unused byte", &[0xc1], Err(Malformed::Type));
    check("an extension", &[0xd4, 1, 1], Err(Malformed::Type));
    check("a null key", &[0x81, 0xc0, 1], Err(Malformed::Type));
    check("an array as a key", &[0x81, 0x90, 1], Err(Malformed::Type));
    check("an integer as a key", &[0x81, 0xff, 1], Ok(()));
    check("two values", &[1, 2], Err(Malformed::Trailing));
}

#[test]
fn what_is_encoded_is_within_the_limit_and_readable() {
    let text = |bytes: usize| json!("x".repeat(bytes - 3));
    assert_eq!(encode(&text(512), 512).map(|body| body.len()), Ok(512));
    assert_eq!(encode(&text(513), 512), Err(SendError::TooLarge { bytes: 513, limit: 512 }));
    let mut body = vec![7; 3];
    assert_eq!((encode_at_tick(u32::MAX, &text(512), 512, &mut body), body.len()), (Ok(()), 6 + 512));
    let deep = |depth: usize| (1..depth).fold(json!([]), |inside, _| json!([inside]));
    assert!(encode(&deep(16), 512).is_ok());
    assert!(matches!(encode(&deep(17), 512), Err(SendError::Unencodable(_))));
    assert!(check_encoded(&[0x92, 1, 2], 3).is_ok());
    assert_eq!(check_encoded(&[0x92, 1, 2], 2), Err(SendError::TooLarge { bytes: 3, limit: 2 }));
    for value in [&[][..], &[1, 2], &[0x92, 1]] {
        assert!(matches!(check_encoded(value, 9), Err(SendError::Unencodable(_))), "{value:?}");
    }
    assert!(encode(&json!({ "a": 1 }), 512).is_ok_and(|body| decode::<Value>(&body) == Ok(json!({ "a": 1 }))));
}

#[test]
fn bodies_are_read_in_their_own_shape_only() {
    let inputs = |count: u8, bytes: u16| {
        let value = [&[0xc5][..], &(bytes - 3).to_be_bytes(), &vec![0; usize::from(bytes) - 3]].concat();
        let stamps = vec![0; count.into()];
        [vec![0x92 + count, 20, 0x90 | count], value.repeat(count.into()), stamps].concat()
    };
    let longest = inputs(8, 512);
    let window = decode_inputs(&longest).unwrap();
    assert_eq!((window.newest, window.values().len()), (20, 8));
    assert_eq!(decode_inputs(&inputs(9, 8)), Err(Malformed::Items));
    assert_eq!(decode_inputs(&inputs(1, 513)), Err(Malformed::Items));
    assert_eq!(decode_inputs(&[0x91, 1]), Err(Malformed::Shape));
    assert_eq!(decode_inputs(&[0x92, 0xc0, 0x90]), Err(Malformed::Shape));
    assert_eq!(decode_inputs(&[0x92, 1, 0x90, 0]), Err(Malformed::Trailing));
    let stamped = |stamps: &[u8]| [&[0x94, 1, 0x92, 7, 8][..], stamps].concat();
    for (stamps, expected) in [
        (&[9, 0xff][..], [9, 10]),
        (&[9, 10], [9, 0xffff]),
        (&[0xcd, 0xff, 0xff, 0xd1, 0x80, 0], [0xffff, 0x7fff]),
        (&[0xcd, 0xff, 0xff, 0xcd, 0x7f, 0xff], [0xffff, 0x8000]),
        (&[0xce, 0, 0, 0, 1, 0xd3, 0, 0, 0, 0, 0, 0, 0, 1], [1, 0]),
    ] {
        assert_eq!(decode_inputs(&stamped(stamps)).unwrap().seen(), expected, "{stamps:x?}");
    }
    for stamps in
        [&[9][..], &[0xff, 9], &[0xce, 0, 1, 0, 0, 9], &[9, 0xcd, 0x80, 0], &[9, 0xc0], &[9, 0xca, 0, 0, 0, 0]]
    {
        assert_eq!(
            decode_inputs(&stamped(stamps)).err(),
            Some(if stamps == [9] { Malformed::Truncated } else { Malformed::Shape }),
            "{stamps:x?}"
        );
    }
    assert_eq!(decode_inputs(&stamped(&[9, 1, 1])), Err(Malformed::Trailing));
    for items in [0x91, 0x92, 0x93, 0x95] {
        assert_eq!(decode_inputs(&[items, 1, 0x92, 7, 8, 9, 9]), Err(Malformed::Shape));
    }
    assert_eq!(decode_range(&encode_range(7, u32::MAX)), Ok((7, u32::MAX)));
    assert_eq!(decode_range(&[0x92, 1, 0xcf, 0, 0, 0, 1, 0, 0, 0, 0]), Err(Malformed::Shape));
    assert_eq!(decode_range(&[0x92, 0xff, 1]), Err(Malformed::Shape));
    assert_eq!(decode_range(&[0x93, 1, 2, 3]), Err(Malformed::Shape));
    assert_eq!(decode_ticks(&[0x90]), Err(Malformed::Shape));
    assert_eq!(decode_ticks(&[0x92, 1, 0x91, 0x92, 1, 1]), Err(Malformed::Shape));
    assert_eq!(decode_ticks(&[0xdd, 0xff, 0xff, 0xff, 0xff, 1]), Err(Malformed::Truncated));
    assert_eq!(decode_at_tick(&[0x92, 9, 0xa1, b'x']), Ok((9, &[0xa1, b'x'][..])));
    assert_eq!(decode_at_tick(&[0x92, 9]), Err(Malformed::Truncated));
    // A whole number comes as an integer from JavaScript.
    for (clock, expected) in [
        (&[0x91, 7][..], Ok(7.0)),
        (&[0x91, 0xff], Ok(-1.0)),
        (&[0x91, 0xd1, 0xff, 0x00], Ok(-256.0)),
        (&[0x91, 0xce, 0, 1, 0, 0], Ok(65_536.0)),
        (&[0x91, 0xca, 0x3f, 0x80, 0, 0], Ok(1.0)),
        (&encode_clock(1.25), Ok(1.25)),
        (&encode_pong(2.5, 9.0, 1, &[]), Ok(2.5)),
        (&[0x91, 0xc0], Err(Malformed::Shape)),
        (&[0x90], Err(Malformed::Shape)),
        (&[7], Err(Malformed::Shape)),
    ] {
        assert_eq!(decode_clock(clock), expected, "{clock:x?}");
    }
}

#[test]
fn a_padded_ping_has_a_pong_of_one_frame() {
    assert_eq!(decode_ping(&encode_clock(1.5)), Ok((1.5, &[][..])));
    let head = 3;
    let ping = encode_padded_ping(1.5, limits::PING_PADDING_BYTES - head);
    let (clock_ms, padding) = decode_ping(&ping).unwrap();
    assert_eq!((clock_ms, padding.len()), (1.5, limits::PING_PADDING_BYTES));
    let pong = encode_pong(clock_ms, 9.0, u32::MAX, padding);
    assert_eq!((decode_clock(&pong), pong.len()), (Ok(1.5), limits::PART_BODY_BYTES));
    let past = encode_padded_ping(1.5, limits::PING_PADDING_BYTES - head + 1);
    assert_eq!(decode_ping(&past), Err(Malformed::Shape));
}

#[test]
fn an_input_frame_carries_what_fits_one_part() {
    fn check(bytes: usize, held: usize, expected: usize) {
        let value = encode(&"x".repeat(bytes - if bytes > 257 { 3 } else { 2 }), bytes).unwrap();
        let stamps = [u16::MAX, 0x7fff].repeat(held);
        let inputs = stamps.iter().copied().zip(std::iter::repeat_n(value.as_slice(), held));
        let body = encode_inputs(u32::MAX, inputs);
        assert!(body.len() <= limits::PART_BODY_BYTES);
        let window = decode_inputs(&body).unwrap();
        assert_eq!((window.newest, window.values()), (u32::MAX, &vec![&value[..]; expected][..]), "{held} of {bytes}");
        assert_eq!(window.seen(), &stamps[..expected]);
    }
    check(40, 0, 0);
    check(40, 8, 8);
    check(40, 9, 8);
    check(512, 8, 2);
    check(131, 8, 8);
    check(132, 8, 7);
}

/// Values as a page might send them, and some that it should not.
fn value() -> impl Strategy<Value = rmpv::Value> {
    let scalar = prop_oneof![
        Just(rmpv::Value::Nil),
        any::<bool>().prop_map(rmpv::Value::from),
        any::<i64>().prop_map(rmpv::Value::from),
        any::<u16>().prop_map(rmpv::Value::from),
        any::<f64>().prop_map(rmpv::Value::from),
        "\\PC{0,8}".prop_map(|text| rmpv::Value::from(text.as_str())),
        prop::collection::vec(any::<u8>(), 0..300).prop_map(rmpv::Value::from),
    ];
    scalar.prop_recursive(4, 64, 8, |inside| {
        prop_oneof![
            prop::collection::vec(inside.clone(), 0..8).prop_map(rmpv::Value::from),
            prop::collection::vec((inside.clone(), inside), 0..4).prop_map(rmpv::Value::from),
        ]
    })
}

/// Puts `bytes` into each reader.
fn read_all(bytes: &[u8]) {
    let _ = decode_inputs(bytes);
    let _ = decode_range(bytes);
    let _ = decode_at_tick(bytes);
    let _ = decode_ticks(bytes);
    let _ = decode_clock(bytes);
    let _ = decode_ping(bytes);
    if check(bytes).is_ok() {
        let mut rest = bytes;
        rmpv::decode::read_value(&mut rest).expect("what passes is msgpack");
        assert!(rest.is_empty());
        let _ = decode::<Value>(bytes);
    }
}

proptest! {
    #![proptest_config(Config {
        rng_seed: RngSeed::Fixed(1), failure_persistence: None, ..Config::with_cases(512)
    })]

    #[test]
    fn values_are_measured_as_another_reader_measures_them(value in value(), follow: u8) {
        let mut bytes = Vec::new();
        rmpv::encode::write_value(&mut bytes, &value).unwrap();
        let length = bytes.len();
        bytes.push(follow);
        match measure(&bytes) {
            Ok(measured) => prop_assert_eq!(measured, length),
            Err(error) => prop_assert!(matches!(error, Malformed::Integer | Malformed::Type), "{}", error),
        }
        for cut in 0..length.min(40) {
            prop_assert!(measure(&bytes[..cut]).is_err());
        }
    }

    #[test]
    fn random_and_spoiled_bytes_are_read_or_refused(
        value in value(), random in prop::collection::vec(any::<u8>(), 0..64), at: usize, byte: u8, head in 0..4_u8,
    ) {
        read_all(&random);
        let mut bytes = vec![0x90 | head, 1];
        rmpv::encode::write_value(&mut bytes, &value).unwrap();
        read_all(&bytes);
        let at = at % bytes.len();
        read_all(&bytes[..at]);
        bytes[at] = byte;
        read_all(&bytes);
    }
}
