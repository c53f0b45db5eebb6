//! Any two states, and any delta to one of them.

use std::time::Instant;

use super::*;

/// The first two bytes are the length of a state that is held; what follows it is a state to encode against it, and the
/// operations of a delta to it.
pub(crate) fn deltas(_: Instant, input: &[u8]) {
    let Some((&length, rest)) = input.split_first_chunk() else { return };
    let (value, other) = rest.split_at(usize::from(u16::from_le_bytes(length)).min(rest.len()));
    let text = String::from_utf8_lossy(value);
    let baseline = msgpack::prefix_tick(7, &msgpack::encode(&text, usize::MAX).expect("a string can be encoded"));
    let mut received = Received::new(7);
    received.read(&baseline).expect("it is whole");
    let mut encoder = Encoder::default();
    let mut delta = Vec::new();
    let mut restored = Vec::new();
    for (old, new) in [(&baseline[..], other), (other, &baseline), (other, other)] {
        encoder.encode(7, old, new, &mut delta);
        assert!(delta.len() <= HEADER_BYTES + new.len() + new.len() / 64 + 2 * VARINT_BYTES + 4);
        apply(old, &delta[HEADER_BYTES..], new.len(), &mut restored).expect("it is its own");
        assert!(restored == new);
    }
    let header = [&[MARKER, BYTE_WISE, 7, 0], &checksum(&baseline).to_le_bytes()[..]].concat();
    let before = received.acknowledgement();
    if let Ok((tick, value)) = received.read(&[&header, other].concat()) {
        assert!(value.is_none_or(|value| tick > 7 && msgpack::check(value).is_ok()));
    } else {
        assert_eq!(received.acknowledgement(), before, "it has no effect");
    }
    let _ = apply(&baseline, other, limits::STATE_BODY_BYTES, &mut restored);
    assert!(restored.len() <= limits::STATE_BODY_BYTES);
}
