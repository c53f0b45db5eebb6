//! Deltas: the body of a state as its difference from an earlier one, the baseline, that its receiver holds. It needs
//! no schema: both are compared as bytes. [`crate::wire`] describes the layout.

#[cfg(any(test, fuzzing))]
pub(crate) mod hostile;

use std::collections::VecDeque;
use std::fmt;

use super::msgpack::{self, Malformed};
use crate::limits;

/// The first byte of a delta. No msgpack value begins with it.
const MARKER: u8 = 0xc1;
/// Version 0 (high four bits) of the byte-wise codec, 1 (low four bits).
const BYTE_WISE: u8 = 0x01;
/// Bytes of the header: marker, codec, tick of the baseline, checksum.
const HEADER_BYTES: usize = 6;
/// Bytes of a number in a delta: 21 bits, more than the size of a state.
const VARINT_BYTES: usize = 3;

/// The tick of an acknowledged state, mod 2¹⁰; the other bits are for the ticks before it.
const TICK_BITS: u32 = 10;
const TICK_MASK: u16 = (1 << TICK_BITS) - 1;
/// Ticks before the newest that an acknowledgement covers.
const ACKNOWLEDGED_BEFORE: u32 = u16::BITS - TICK_BITS;

/// Bytes that have to agree for a copy to go on behind an insertion.
const AGREEING: usize = 2;
/// Bytes of an insertion before the baseline is searched for what follows.
const PATIENCE: usize = 3;
/// Bytes by which the baseline is searched.
const SEED: usize = 4;
/// Bytes of a match that is worth the two bytes of its skip.
const MATCH_BYTES: usize = 6;
const TRIES: usize = 8;
/// How far behind the source pointer a search begins.
const BEHIND: usize = 64;
const HASH_BITS_MAX: u32 = 12;
/// No position.
const NONE: u16 = u16::MAX;

/// Why the body of a state gives no state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeltaError {
    /// The body can't be read, whatever states its receiver holds.
    Malformed(Malformed),
    /// The receiver does not hold the baseline, or holds another under its tick: applied to that, the delta does not
    /// give what its checksum says.
    Unrestored,
}

impl fmt::Display for DeltaError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DeltaError::Malformed(why) => why.fmt(f),
            DeltaError::Unrestored => f.write_str("it is a delta against a state that is not held"),
        }
    }
}

impl std::error::Error for DeltaError {}

impl From<Malformed> for DeltaError {
    fn from(why: Malformed) -> DeltaError {
        DeltaError::Malformed(why)
    }
}

#[expect(clippy::cast_possible_truncation, reason = "the low half")]
fn checksum(body: &[u8]) -> u16 {
    crc32c::crc32c(body) as u16
}

/// Encodes deltas. Create one and reuse it: it keeps the tables by which baselines are searched.
#[derive(Default)]
pub struct Encoder {
    /// By the hash of [`SEED`] bytes, the first place in the baseline that is not far behind the source pointer.
    first: Vec<u16>,
    /// By place, the next one with the same hash.
    next: Vec<u16>,
}

impl Encoder {
    /// Encodes `body` against `baseline`, the body of the state of `tick`, into `out`. The work grows with their sizes
    /// alone, whatever they contain.
    pub fn encode(&mut self, tick: u32, baseline: &[u8], body: &[u8], out: &mut Vec<u8>) {
        out.clear();
        out.extend_from_slice(&[MARKER, BYTE_WISE]);
        #[expect(clippy::cast_possible_truncation, reason = "ticks count mod 2¹⁶")]
        out.extend_from_slice(&(tick as u16).to_le_bytes());
        out.extend_from_slice(&checksum(body).to_le_bytes());
        let (mut at, mut from) = (0, 0);
        let mut is_indexed = false;
        while at < body.len() {
            let copied = common(baseline.get(from..).unwrap_or_default(), &body[at..]);
            at += copied;
            from += copied;
            let inserted_from = at;
            let mut resumed = None;
            while at < body.len() {
                let pointer = from + (at - inserted_from);
                let end = body.len().min(at + AGREEING);
                if baseline.get(pointer..pointer + (end - at)) == Some(&body[at..end]) {
                    break;
                }
                if at - inserted_from >= PATIENCE {
                    if !std::mem::replace(&mut is_indexed, true) {
                        self.index(baseline);
                    }
                    if let Some(found) = self.search(baseline, &body[at..], pointer) {
                        let before = common_end(&baseline[..found], &body[inserted_from..at]);
                        at -= before;
                        resumed = Some(found - before);
                        break;
                    }
                }
                at += 1;
            }
            let inserted = &body[inserted_from..at];
            from += inserted.len();
            let skip = resumed.map_or(0, |found| found.cast_signed() - from.cast_signed());
            write_operation(copied, inserted, skip, out);
            from = from.saturating_add_signed(skip);
        }
    }

    /// Indexes the baseline by its bytes, for [`Encoder::search`].
    fn index(&mut self, baseline: &[u8]) {
        let places = baseline.len().min(NONE.into()).saturating_sub(SEED - 1);
        let bits = places.next_power_of_two().ilog2().clamp(1, HASH_BITS_MAX);
        self.first.clear();
        self.first.resize(1 << bits, NONE);
        self.next.clear();
        self.next.resize(places, NONE);
        // Backwards, so that each list is in the order of places.
        for place in (0..places).rev() {
            let first = &mut self.first[hash(&baseline[place..], bits)];
            #[expect(clippy::cast_possible_truncation, reason = "places are below 2¹⁶")]
            let is_first = std::mem::replace(first, place as u16);
            self.next[place] = is_first;
        }
    }

    /// Returns the longest of the nearest matches of what begins `rest`, if it is long enough.
    fn search(&mut self, baseline: &[u8], rest: &[u8], pointer: usize) -> Option<usize> {
        if rest.len() < MATCH_BYTES {
            return None;
        }
        let bits = self.first.len().ilog2();
        let first = &mut self.first[hash(rest, bits)];
        // The source pointer seldom moves back: what is passed is passed for good, so that each is passed once.
        while *first != NONE && usize::from(*first) + BEHIND < pointer {
            match self.next[usize::from(*first)] {
                NONE => break,
                next => *first = next,
            }
        }
        let mut place = *first;
        let mut best = None;
        let mut longest = MATCH_BYTES - 1;
        for _ in 0..TRIES {
            if place == NONE {
                break;
            }
            let length = common(&baseline[place.into()..], rest);
            if length > longest {
                (longest, best) = (length, Some(place.into()));
            }
            place = self.next[usize::from(place)];
        }
        best
    }
}

fn hash(bytes: &[u8], bits: u32) -> usize {
    let seed = bytes.first_chunk::<SEED>().map_or(0, |&seed| u32::from_le_bytes(seed));
    (seed.wrapping_mul(0x9e37_79b1) >> (u32::BITS - bits)) as usize
}

/// Returns how many bytes are the same from the beginning.
fn common(a: &[u8], b: &[u8]) -> usize {
    let mut same = 0;
    for (a, b) in a.as_chunks::<8>().0.iter().zip(b.as_chunks::<8>().0) {
        let differing = u64::from_le_bytes(*a) ^ u64::from_le_bytes(*b);
        if differing != 0 {
            return same + (differing.trailing_zeros() / 8) as usize;
        }
        same += 8;
    }
    same + a[same..].iter().zip(&b[same..]).take_while(|(a, b)| a == b).count()
}

/// Returns how many bytes are the same from the end.
fn common_end(a: &[u8], b: &[u8]) -> usize {
    a.iter().rev().zip(b.iter().rev()).take_while(|(a, b)| a == b).count()
}

fn write_operation(copied: usize, inserted: &[u8], skip: isize, out: &mut Vec<u8>) {
    let (copy, insert) = (copied.min(15), inserted.len().min(7));
    #[expect(clippy::cast_possible_truncation, reason = "they have four and three bits")]
    out.push((copy << 4 | insert << 1 | usize::from(skip != 0)) as u8);
    if copy == 15 {
        write_varint(copied - 15, out);
    }
    if insert == 7 {
        write_varint(inserted.len() - 7, out);
    }
    if skip != 0 {
        write_varint((skip << 1 ^ skip >> (isize::BITS - 1)).cast_unsigned(), out);
    }
    out.extend_from_slice(inserted);
}

#[expect(clippy::cast_possible_truncation, reason = "seven bits at a time")]
fn write_varint(mut number: usize, out: &mut Vec<u8>) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

fn read_varint(rest: &mut &[u8]) -> Result<usize, DeltaError> {
    let mut number = 0;
    for shift in (0..VARINT_BYTES).map(|index| 7 * index) {
        let (&byte, after) = rest.split_first().ok_or(DeltaError::Unrestored)?;
        *rest = after;
        number |= usize::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Ok(number);
        }
    }
    Err(DeltaError::Unrestored)
}

/// Applies the operations of a delta to `baseline`. `out` never has more than `limit` bytes.
fn apply(baseline: &[u8], mut rest: &[u8], limit: usize, out: &mut Vec<u8>) -> Result<(), DeltaError> {
    out.clear();
    let mut from = 0_isize;
    while let Some((&operation, after)) = rest.split_first() {
        rest = after;
        let (mut copy, mut insert) = (usize::from(operation >> 4), usize::from(operation >> 1 & 7));
        if copy == 15 {
            copy += read_varint(&mut rest)?;
        }
        if insert == 7 {
            insert += read_varint(&mut rest)?;
        }
        let skip = if operation & 1 == 1 { read_varint(&mut rest)? } else { 0 };
        if out.len() + copy + insert > limit {
            return Err(DeltaError::Unrestored);
        }
        if copy > 0 {
            let start = usize::try_from(from).map_err(|_| DeltaError::Unrestored)?;
            out.extend_from_slice(baseline.get(start..start + copy).ok_or(DeltaError::Unrestored)?);
        }
        let (inserted, after) = rest.split_at_checked(insert).ok_or(DeltaError::Unrestored)?;
        out.extend_from_slice(inserted);
        rest = after;
        // Numbers have 21 bits, and a delta fewer operations than a state has bytes.
        from += (copy + insert).cast_signed() + ((skip >> 1).cast_signed() ^ -(skip & 1).cast_signed());
    }
    Ok(())
}

/// The states that a client has received, newest last: the baselines of the deltas to come.
pub struct Received {
    held: VecDeque<(u32, Vec<u8>)>,
    spare: Vec<u8>,
    /// The tick of the newest state, or the one before the first that may come.
    newest: u32,
    /// Which of the ticks before the newest were received: bit n stands for the tick n + 1 before it.
    before: u32,
}

impl Received {
    /// Returns the states of a client that has joined in `tick` and received none.
    #[must_use]
    pub fn new(tick: u32) -> Received {
        Received { held: VecDeque::new(), spare: Vec::new(), newest: tick.wrapping_sub(1), before: 0 }
    }

    /// Reads the body of a state, whole or a delta. Returns its tick, and the state as one msgpack value if it is newer
    /// than all before. It is kept as a baseline then.
    ///
    /// # Errors
    /// The body gives no state; it has no effect then.
    pub fn read(&mut self, body: &[u8]) -> Result<(u32, Option<&[u8]>), DeltaError> {
        let mut whole = std::mem::take(&mut self.spare);
        let read = self.restore(body, &mut whole).and_then(|()| Ok(msgpack::decode_at_tick(&whole)?));
        let (tick, start) = match read {
            Ok((tick, value)) => (tick, whole.len() - value.len()),
            Err(error) => {
                self.spare = whole;
                return Err(error);
            }
        };
        if !self.held.is_empty() && tick <= self.newest {
            self.spare = whole;
            return Ok((tick, None));
        }
        let ahead = tick.wrapping_sub(self.newest);
        let is_first = self.held.is_empty();
        self.before = if is_first { 0 } else { (self.before << 1 | 1).checked_shl(ahead - 1).unwrap_or(0) };
        self.before &= (1 << ACKNOWLEDGED_BEFORE) - 1;
        self.newest = tick;
        if self.held.len() == limits::STATE_HISTORY {
            self.spare = self.held.pop_front().map(|(_, oldest)| oldest).unwrap_or_default();
        }
        self.held.push_back((tick, whole));
        Ok((tick, self.held.back().and_then(|(_, whole)| whole.get(start..))))
    }

    fn restore(&self, body: &[u8], whole: &mut Vec<u8>) -> Result<(), DeltaError> {
        if body.first() != Some(&MARKER) {
            whole.clear();
            whole.extend_from_slice(body);
            return Ok(());
        }
        let (header, delta) = body.split_first_chunk::<HEADER_BYTES>().ok_or(Malformed::Truncated)?;
        let &[_, codec, tick_low, tick_high, check_low, check_high] = header;
        if codec != BYTE_WISE {
            return Err(Malformed::Type.into());
        }
        let tick = u16::from_le_bytes([tick_low, tick_high]);
        #[expect(clippy::cast_possible_truncation, reason = "ticks count mod 2¹⁶")]
        let baseline = self.held.iter().rev().find(|(held, _)| *held as u16 == tick).ok_or(DeltaError::Unrestored)?;
        apply(&baseline.1, delta, limits::STATE_BODY_BYTES, whole)?;
        if checksum(whole) == u16::from_le_bytes([check_low, check_high]) {
            Ok(())
        } else {
            Err(DeltaError::Unrestored)
        }
    }

    /// Returns what a frame to the server acknowledges.
    #[must_use]
    pub fn acknowledgement(&self) -> u16 {
        #[expect(clippy::cast_possible_truncation, reason = "the tick counts mod 2¹⁰, the rest has six bits")]
        let ack = (self.newest as u16 & TICK_MASK) | (self.before as u16) << TICK_BITS;
        ack
    }
}

/// Returns the newest tick that an acknowledgement names, given that of the newest state sent, and which of those
/// before it: bit n stands for the tick n before the newest.
pub(crate) fn acknowledged(ack: u16, newest_sent: u32) -> Option<(u32, u32)> {
    #[expect(clippy::cast_possible_truncation, reason = "ticks are compared mod 2¹⁰")]
    let age = (newest_sent as u16).wrapping_sub(ack) & TICK_MASK;
    Some((newest_sent.checked_sub(age.into())?, u32::from(ack >> TICK_BITS) << 1 | 1))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proptest::test_runner::{Config, RngSeed};

    use super::*;

    fn body(tick: u32, value: &impl serde::Serialize) -> Vec<u8> {
        {
            let mut body = Vec::new();
            msgpack::encode_at_tick(tick, value, limits::STATE_BYTES, &mut body).unwrap();
            body
        }
    }

    /// Encodes `new` against `old` and restores it. Returns the bytes of the delta.
    fn round_trip(encoder: &mut Encoder, old: &[u8], new: &[u8]) -> usize {
        let (mut delta, mut restored) = (Vec::new(), Vec::new());
        encoder.encode(3, old, new, &mut delta);
        assert_eq!(apply(old, &delta[HEADER_BYTES..], new.len(), &mut restored), Ok(()));
        assert!(restored == new, "{} bytes against {}", new.len(), old.len());
        delta.len()
    }

    #[test]
    fn what_is_the_same_takes_few_bytes_wherever_it_is() {
        type Entity = (u32, u16, u16, String);
        fn check(name: &str, old: &[Entity], new: &[Entity], most: usize) {
            let bytes = round_trip(&mut Encoder::default(), &body(300, &old), &body(301, &new));
            assert!(bytes <= most, "{name}: {bytes} bytes");
        }
        let entity =
            |id: u32| (1_000 + id, (id * 7_919 % 16_000) as u16, (id * 104_729 % 10_000) as u16, format!("n{id}"));
        let old: Vec<Entity> = (0..60).map(entity).collect();
        check("nothing has changed", &old, &old, 14);
        let mut moved = old.clone();
        moved[30].1 += 1;
        check("one has moved", &old, &moved, 18);
        check("the first is gone", &old, &old[1..], 20);
        check("the last is gone", &old, &old[..59], 20);
        let mut swapped = old.clone();
        swapped.swap_remove(10);
        check("the last has taken the place of another", &old, &swapped, 32);
        let mut more = old.clone();
        more.insert(20, entity(99));
        check("one is new", &old, &more, 40);
        let mut turned = old.clone();
        turned.rotate_left(20);
        check("the order is another", &old, &turned, 40);
    }

    #[test]
    fn long_states_and_those_with_nothing_in_common_come_back() {
        let mut encoder = Encoder::default();
        let mut state = 1_u32;
        let mut noise = |bytes: usize| -> Vec<u8> {
            let step = || {
                state = state.wrapping_mul(747_796_405).wrapping_add(2_891_336_453);
                state.to_le_bytes()[3]
            };
            std::iter::repeat_with(step).take(bytes).collect()
        };
        for length in [0, 1, 2, 3, 5, 100, 16_392, 100_000] {
            let (old, new) = (noise(length), noise(length));
            let bytes = round_trip(&mut encoder, &old, &new);
            assert!(bytes <= length + length / 64 + 20, "{bytes} of {length}");
            assert!(round_trip(&mut encoder, &old, &old) <= HEADER_BYTES + 4);
            round_trip(&mut encoder, &[], &new);
            round_trip(&mut encoder, &old, &[]);
            round_trip(&mut encoder, &new, &[&new[..], &old].concat());
        }
    }

    #[test]
    fn ticks_that_an_acknowledgement_names() {
        fn check(ack: u16, newest_sent: u32, expected: &[u32]) {
            let ticks = acknowledged(ack, newest_sent).map_or(Vec::new(), |(newest, ages)| {
                let is_named = |age: &u32| ages >> age & 1 == 1;
                (0..u32::BITS).filter(is_named).filter_map(|age| newest.checked_sub(age)).collect()
            });
            assert_eq!(ticks, expected, "{ack:#06x} up to {newest_sent}");
        }
        check(7, 9, &[7]);
        check(7 | 0b10_1001 << 10, 9, &[7, 6, 3, 1]);
        check(1 | 0b11_1111 << 10, 0x1_0000, &[0xfc01, 0xfc00, 0xfbff, 0xfbfe, 0xfbfd, 0xfbfc, 0xfbfb]);
        check(1 | 0b11_1111 << 10, 1, &[1, 0]);
        check(1_023, 0, &[]);
    }

    #[test]
    fn a_client_keeps_the_newest_states_and_only_those() {
        let mut received = Received::new(100);
        let mut encoder = Encoder::default();
        let mut delta = Vec::new();
        let last = 100 + 40;
        for tick in 100..last {
            let whole = body(tick, &tick);
            assert_eq!(received.read(&whole), Ok((tick, whole.get(whole.len() - if tick < 128 { 1 } else { 2 }..))));
        }
        for held in 100..last {
            let new = body(last + held - 100, &"next");
            encoder.encode(held, &body(held, &held), &new, &mut delta);
            let mut others = Received::new(100);
            (100..last).for_each(|tick| assert!(others.read(&body(tick, &tick)).is_ok()));
            let is_held = held >= last - 32;
            assert_eq!(others.read(&delta).is_ok(), is_held, "the state of tick {held}");
        }
        assert_eq!(received.read(&body(110, &0)), Ok((110, None)), "it is late");
    }

    fn similar() -> impl Strategy<Value = (Vec<u8>, Vec<u8>)> {
        let edits = prop::collection::vec((any::<u16>(), 0..20_usize, prop::collection::vec(0..4_u8, 0..20)), 0..20);
        (prop::collection::vec(0..4_u8, 0..900), edits).prop_map(|(old, edits)| {
            let mut new = old.clone();
            for (at, removed, inserted) in edits {
                let at = usize::from(at) % (new.len() + 1);
                let end = new.len().min(at + removed);
                new.splice(at..end, inserted);
            }
            (old, new)
        })
    }

    proptest! {
        #![proptest_config(Config {
            rng_seed: RngSeed::Fixed(1), failure_persistence: None, ..Config::with_cases(512)
        })]

        #[test]
        fn whatever_is_encoded_comes_back(
            pairs in prop::collection::vec(similar(), 1..4),
            others in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 2),
        ) {
            let mut encoder = Encoder::default();
            for (old, new) in &pairs {
                round_trip(&mut encoder, old, new);
            }
            round_trip(&mut encoder, &others[0], &others[1]);
        }

        #[test]
        fn random_operations_stay_within_the_limit(
            baseline in prop::collection::vec(any::<u8>(), 0..100), delta in prop::collection::vec(any::<u8>(), 0..100),
            limit in 0..400_usize,
        ) {
            let mut out = Vec::new();
            let _ = apply(&baseline, &delta, limit, &mut out);
            prop_assert!(out.len() <= limit && out.capacity() <= 2 * limit.max(8));
        }
    }
}
