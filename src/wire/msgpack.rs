//! msgpack: checking the limits of values before decoding, and the bodies of frames.

use std::fmt;

use rmp::Marker;
use rmp::decode::NumValueReadError;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::limits;

/// Why a message was not sent.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SendError {
    /// The message exceeds the limit of its lane.
    TooLarge {
        /// The encoded size in bytes.
        bytes: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// The message can't be encoded, or a receiver would reject it: too deep nesting, too many items, an integer beyond
    /// 2⁵³.
    Unencodable(String),
    /// Too many earlier messages are still waiting to be acknowledged.
    Backlog,
}

impl fmt::Display for SendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SendError::TooLarge { bytes, limit } => write!(f, "the message has {bytes} bytes; the limit is {limit}"),
            SendError::Unencodable(why) => write!(f, "the message can't be encoded: {why}"),
            SendError::Backlog => write!(f, "too many earlier messages are not acknowledged yet; send it again later"),
        }
    }
}

impl std::error::Error for SendError {}

/// Why bytes are not exactly one valid msgpack value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    /// The value is incomplete.
    Truncated,
    /// Nested deeper than [`limits::MSGPACK_DEPTH`].
    Depth,
    /// More elements than the limit.
    Items,
    /// An integer beyond 2⁵³.
    Integer,
    /// A string that isn't UTF-8.
    Utf8,
    /// An extension type, the unused byte 0xc1, or a key that is neither a string nor an integer.
    Type,
    /// Bytes follow the value.
    Trailing,
    /// The value does not have the expected shape.
    Shape,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Malformed::Truncated => "it is incomplete",
            Malformed::Depth => "it is nested too deeply",
            Malformed::Items => "it has too many items",
            Malformed::Integer => "it has an integer beyond 2⁵³",
            Malformed::Utf8 => "it has a string that isn't UTF-8",
            Malformed::Type => "it has a type that is not allowed in its place",
            Malformed::Trailing => "bytes follow its end",
            Malformed::Shape => "it does not have the expected shape",
        })
    }
}

impl std::error::Error for Malformed {}

/// Returns the length in bytes of the value at the start of `bytes` after checking its limits. Decoding such a value
/// neither recurses nor allocates beyond the limits, and every receiver can decode it.
///
/// # Errors
/// There is no valid value, or it exceeds [`limits::MSGPACK_DEPTH`] or [`limits::MSGPACK_ITEMS`].
pub fn measure(bytes: &[u8]) -> Result<usize, Malformed> {
    measure_within(bytes, limits::MSGPACK_ITEMS)
}

/// Checks that `bytes` are exactly one value within the limits.
///
/// # Errors
/// As for [`measure`], and if bytes follow the value.
pub fn check(bytes: &[u8]) -> Result<(), Malformed> {
    if measure(bytes)? == bytes.len() { Ok(()) } else { Err(Malformed::Trailing) }
}

fn measure_within(bytes: &[u8], max_items: usize) -> Result<usize, Malformed> {
    let mut reader = Reader { bytes, at: 0 };
    let mut items_left = max_items;
    let mut open = [Container { left: 0, is_map: false }; limits::MSGPACK_DEPTH];
    let mut depth = 0_usize;
    loop {
        let mut is_key = false;
        if let Some(container) = depth.checked_sub(1).and_then(|last| open.get_mut(last)) {
            if !container.is_map {
                // All but the last element, which closes the array.
                while container.left > 1 && reader.pass_plain() {
                    container.left -= 1;
                }
            }
            is_key = container.is_map && container.left.is_multiple_of(2);
        }
        let inside = reader.pass(is_key)?;
        if inside.is_some() && depth == limits::MSGPACK_DEPTH {
            return Err(Malformed::Depth);
        }
        if let Some(inside) = inside.filter(|inside| inside.left > 0) {
            items_left = items_left.checked_sub(inside.left).ok_or(Malformed::Items)?;
            // Every element has at least one byte: a larger count than remaining bytes is invalid.
            if inside.left > bytes.len() - reader.at {
                return Err(Malformed::Truncated);
            }
            open[depth] = inside;
            depth += 1;
            continue;
        }
        while depth > 0 {
            open[depth - 1].left -= 1;
            if open[depth - 1].left > 0 {
                break;
            }
            depth -= 1;
        }
        if depth == 0 {
            return Ok(reader.at);
        }
    }
}

/// An array or map being read: the values left in it, keys included.
#[derive(Clone, Copy)]
struct Container {
    left: usize,
    is_map: bool,
}

/// By first byte, the length of scalars that are valid whatever their content; 0 for other values.
const PLAIN_BYTES: [u8; 256] = {
    let mut lengths = [0; 256];
    let mut first = 0;
    while first < 256 {
        lengths[first] = match first {
            // Small integers, nil, booleans.
            0x00..=0x7f | 0xe0..=0xff | 0xc0 | 0xc2 | 0xc3 => 1,
            0xcc | 0xd0 => 2,
            0xcd | 0xd1 => 3,
            0xca | 0xce | 0xd2 => 5,
            0xcb => 9,
            _ => 0,
        };
        first += 1;
    }
    lengths
};

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], Malformed> {
        let end = self.at.checked_add(count).ok_or(Malformed::Truncated)?;
        let taken = self.bytes.get(self.at..end).ok_or(Malformed::Truncated)?;
        self.at = end;
        Ok(taken)
    }

    fn uint(&mut self, width: usize) -> Result<u64, Malformed> {
        Ok(self.take(width)?.iter().fold(0, |value, &byte| value << 8 | u64::from(byte)))
    }

    fn len(&mut self, width: usize) -> Result<usize, Malformed> {
        usize::try_from(self.uint(width)?).map_err(|_| Malformed::Truncated)
    }

    fn marker(&mut self) -> Result<Marker, Malformed> {
        Ok(Marker::from_u8(self.take(1)?[0]))
    }

    /// Skips a scalar that needs no check. Returns `false` if the next value is another or incomplete.
    fn pass_plain(&mut self) -> bool {
        let Some(&first) = self.bytes.get(self.at) else { return false };
        let end = self.at + usize::from(PLAIN_BYTES[usize::from(first)]);
        let is_plain = end > self.at && end <= self.bytes.len();
        if is_plain {
            self.at = end;
        }
        is_plain
    }

    /// Skips a short array of scalars that need no check, like most inputs. Returns `false`, without skipping anything,
    /// if the next value is another.
    fn pass_flat(&mut self) -> bool {
        let start = self.at;
        let Some(&first @ 0x90..=0x9f) = self.bytes.get(start) else { return self.pass_plain() };
        self.at += 1;
        let is_flat = (0..first & 0x0f).all(|_| self.pass_plain());
        if !is_flat {
            self.at = start;
        }
        is_flat
    }

    /// Skips one scalar, or the head of an array or map and returns its content.
    fn pass(&mut self, is_key: bool) -> Result<Option<Container>, Malformed> {
        let array = |count| Ok(Some(Container { left: count, is_map: false }));
        let map = |count: usize| {
            count.checked_mul(2).map(|left| Some(Container { left, is_map: true })).ok_or(Malformed::Items)
        };
        let marker = self.marker()?;
        // JavaScript objects have keys of these types only.
        if is_key && !is_integer(marker) && !is_string(marker) {
            return Err(Malformed::Type);
        }
        let skip = match marker {
            Marker::FixPos(_) | Marker::FixNeg(_) | Marker::Null | Marker::True | Marker::False => 0,
            Marker::U8 | Marker::I8 => 1,
            Marker::U16 | Marker::I16 => 2,
            Marker::U32 | Marker::I32 | Marker::F32 => 4,
            Marker::F64 => 8,
            Marker::U64 => {
                return if self.uint(8)? > limits::JS_INTEGER_MAX { Err(Malformed::Integer) } else { Ok(None) };
            }
            Marker::I64 => {
                let magnitude = self.uint(8)?.cast_signed().unsigned_abs();
                return if magnitude > limits::JS_INTEGER_MAX { Err(Malformed::Integer) } else { Ok(None) };
            }
            Marker::FixStr(len) => len.into(),
            Marker::Str8 | Marker::Bin8 => self.len(1)?,
            Marker::Str16 | Marker::Bin16 => self.len(2)?,
            Marker::Str32 | Marker::Bin32 => self.len(4)?,
            Marker::FixArray(count) => return array(count.into()),
            Marker::Array16 => return array(self.len(2)?),
            Marker::Array32 => return array(self.len(4)?),
            Marker::FixMap(count) => return map(count.into()),
            Marker::Map16 => return map(self.len(2)?),
            Marker::Map32 => return map(self.len(4)?),
            _ => return Err(Malformed::Type),
        };
        let content = self.take(skip)?;
        if is_string(marker) && std::str::from_utf8(content).is_err() {
            return Err(Malformed::Utf8);
        }
        Ok(None)
    }

    fn array(&mut self) -> Result<usize, Malformed> {
        match self.marker()? {
            Marker::FixArray(count) => Ok(count.into()),
            Marker::Array16 => self.len(2),
            Marker::Array32 => self.len(4),
            _ => Err(Malformed::Shape),
        }
    }

    fn u32(&mut self) -> Result<u32, Malformed> {
        let value = match self.marker()? {
            Marker::FixPos(value) => value.into(),
            Marker::U8 => self.uint(1)?,
            Marker::U16 => self.uint(2)?,
            Marker::U32 => self.uint(4)?,
            Marker::U64 => self.uint(8)?,
            _ => return Err(Malformed::Shape),
        };
        u32::try_from(value).map_err(|_| Malformed::Shape)
    }

    fn i16(&mut self) -> Result<i16, Malformed> {
        if let Some(&small @ 0..=0x7f) = self.bytes.get(self.at) {
            self.at += 1;
            return Ok(small.into());
        }
        let mut rest = self.rest();
        let value = rmp::decode::read_int(&mut rest).map_err(|error| match error {
            NumValueReadError::InvalidMarkerRead(_) | NumValueReadError::InvalidDataRead(_) => Malformed::Truncated,
            NumValueReadError::TypeMismatch(_) | NumValueReadError::OutOfRange => Malformed::Shape,
        })?;
        self.at = self.bytes.len() - rest.len();
        Ok(value)
    }

    /// Reads a number of any msgpack type: JavaScript encodes an integral f64 as an integer.
    #[expect(clippy::cast_precision_loss, reason = "clocks are well below 2⁵³")]
    fn f64(&mut self) -> Result<f64, Malformed> {
        let start = self.at;
        match self.marker()? {
            Marker::F64 => Ok(f64::from_bits(self.uint(8)?)),
            Marker::F32 => {
                let bits = u32::try_from(self.uint(4)?).map_err(|_| Malformed::Shape)?;
                Ok(f32::from_bits(bits).into())
            }
            Marker::FixNeg(value) => Ok(value.into()),
            Marker::FixPos(value) => Ok(value.into()),
            Marker::U8 => Ok(self.uint(1)? as f64),
            Marker::U16 => Ok(self.uint(2)? as f64),
            Marker::U32 => Ok(self.uint(4)? as f64),
            Marker::U64 => Ok(self.uint(8)? as f64),
            Marker::I8 | Marker::I16 | Marker::I32 | Marker::I64 => {
                self.at = start;
                rmp::decode::read_int::<i64, _>(&mut self.rest()).map_err(|_| Malformed::Shape).and_then(|value| {
                    self.pass(false)?;
                    Ok(value as f64)
                })
            }
            _ => Err(Malformed::Shape),
        }
    }

    fn rest(&self) -> &'a [u8] {
        &self.bytes[self.at..]
    }

    fn value(&mut self) -> Result<&'a [u8], Malformed> {
        let len = measure(self.rest())?;
        self.take(len)
    }

    fn fanned_out(&mut self) -> Result<FannedOut<'a>, Malformed> {
        if self.array()? != 3 {
            return Err(Malformed::Shape);
        }
        Ok(FannedOut { player: self.u32()?, number: self.u32()?, value: self.value()? })
    }

    fn end(&self) -> Result<(), Malformed> {
        if self.at == self.bytes.len() { Ok(()) } else { Err(Malformed::Trailing) }
    }
}

fn is_string(marker: Marker) -> bool {
    matches!(marker, Marker::FixStr(_) | Marker::Str8 | Marker::Str16 | Marker::Str32)
}

fn is_integer(marker: Marker) -> bool {
    use Marker::{FixNeg, FixPos, I8, I16, I32, I64, U8, U16, U32, U64};
    matches!(marker, FixPos(_) | FixNeg(_) | U8 | U16 | U32 | U64 | I8 | I16 | I32 | I64)
}

/// Decodes a value that has passed [`check`].
///
/// # Errors
/// The reason, if it does not fit `T`.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    rmp_serde::from_slice(bytes).map_err(|error| error.to_string())
}

/// Encodes a value for the server, an input or a command. Structs become maps, like JavaScript objects.
///
/// # Errors
/// As for [`check_encoded`].
pub fn encode(value: &impl Serialize, limit: usize) -> Result<Vec<u8>, SendError> {
    let mut body = Vec::with_capacity(256);
    encode_after(&mut body, value)?;
    check_encoded(&body, limit)?;
    Ok(body)
}

/// Encodes the body `[tick, value]` of a state or an event into `body`, whose content is replaced. Structs become maps,
/// so that JavaScript receives objects.
///
/// # Errors
/// The value alone exceeds `limit` bytes, or a client would reject it: it is nested deeper than
/// [`limits::MSGPACK_DEPTH`], has an integer beyond 2⁵³, or a key that is neither a string nor an integer.
pub fn encode_at_tick(tick: u32, value: &impl Serialize, limit: usize, body: &mut Vec<u8>) -> Result<(), SendError> {
    body.clear();
    write_tick(tick, body);
    let start = body.len();
    encode_after(body, value)?;
    // Clients accept as many items from the server as there are bytes.
    check_sent(&body[start..], limit, limit)
}

/// Encodes the body `[tick, value]` of an already encoded value.
#[must_use]
pub(crate) fn prefix_tick(tick: u32, value: &[u8]) -> Vec<u8> {
    let mut body = Vec::with_capacity(limits::BODY_PREFIX_BYTES + value.len());
    write_tick(tick, &mut body);
    body.extend_from_slice(value);
    body
}

fn write_tick(tick: u32, body: &mut Vec<u8>) {
    write(rmp::encode::write_array_len(body, 2));
    write(rmp::encode::write_uint(body, tick.into()));
}

fn encode_after(body: &mut Vec<u8>, value: &impl Serialize) -> Result<(), SendError> {
    let mut serializer = rmp_serde::Serializer::new(body).with_struct_map();
    value.serialize(&mut serializer).map_err(|error| SendError::Unencodable(error.to_string()))
}

/// Checks that a value is one msgpack value that the server accepts as an input or a command.
///
/// # Errors
/// The value exceeds `limit` bytes, or the server would reject it: see [`check`].
pub fn check_encoded(value: &[u8], limit: usize) -> Result<(), SendError> {
    check_sent(value, limit, limits::MSGPACK_ITEMS)
}

fn check_sent(value: &[u8], max_bytes: usize, max_items: usize) -> Result<(), SendError> {
    let bytes = value.len();
    if bytes > max_bytes {
        return Err(SendError::TooLarge { bytes, limit: max_bytes });
    }
    match measure_within(value, max_items) {
        Ok(length) if length == bytes => Ok(()),
        Ok(_) => Err(SendError::Unencodable(Malformed::Trailing.to_string())),
        Err(error) => Err(SendError::Unencodable(error.to_string())),
    }
}

/// Writing to a vector can't fail.
fn write<T, E>(written: Result<T, E>) {
    debug_assert!(written.is_ok());
}

/// Returns the bytes of `[player, number, input]`, where `value` is the input.
#[must_use]
pub fn fanned_out_bytes(player: u32, number: u32, value: &[u8]) -> usize {
    let uint_bytes = |value: u32| match value {
        0..=0x7f => 1,
        0x80..=0xff => 2,
        0x100..=0xffff => 3,
        _ => 5,
    };
    1 + uint_bytes(player) + uint_bytes(number) + value.len()
}

/// An encoder for the inputs of one tick: `[[player, number, input], …]`.
#[derive(Default)]
pub struct Inputs {
    count: u32,
    entries: Vec<u8>,
}

impl Inputs {
    /// Adds an input; `value` is one msgpack value.
    pub fn push(&mut self, player: u32, number: u32, value: &[u8]) {
        self.count += 1;
        write(rmp::encode::write_array_len(&mut self.entries, 3));
        write(rmp::encode::write_uint(&mut self.entries, player.into()));
        write(rmp::encode::write_uint(&mut self.entries, number.into()));
        self.entries.extend_from_slice(value);
    }

    /// Returns whether the tick would fit the unreliable lane with one more input.
    #[must_use]
    pub fn has_room_for(&self, player: u32, number: u32, value: &[u8]) -> bool {
        self.entries.len() + fanned_out_bytes(player, number, value) <= limits::FAN_OUT_BYTES
    }

    /// Returns the encoded array.
    #[must_use]
    pub fn finish(self) -> Vec<u8> {
        let mut encoded = Vec::with_capacity(self.entries.len() + 5);
        write(rmp::encode::write_array_len(&mut encoded, self.count));
        encoded.extend_from_slice(&self.entries);
        encoded
    }
}

/// Encodes the body `[tick, inputs, …]` from the first of `ticks`, whatever its length, and as many of the following as
/// fit `max_bytes` together with it.
#[must_use]
pub fn encode_ticks<'a>(tick: u32, ticks: impl Iterator<Item = &'a [u8]>, max_bytes: usize) -> Vec<u8> {
    let mut count = 0;
    let mut inside = Vec::new();
    for inputs in ticks {
        if count > 0 && limits::BODY_PREFIX_BYTES + inside.len() + inputs.len() > max_bytes {
            break;
        }
        count += 1;
        inside.extend_from_slice(inputs);
    }
    let mut body = Vec::with_capacity(inside.len() + 8);
    write(rmp::encode::write_array_len(&mut body, count + 1));
    write(rmp::encode::write_uint(&mut body, tick.into()));
    body.extend_from_slice(&inside);
    body
}

/// Bytes kept free for what is before the inputs in the body of an input frame.
pub(crate) const INPUTS_PREFIX_BYTES: usize = 16;

/// Maximum bytes of the stamp of an input in such a body.
pub(crate) const STAMP_BYTES: usize = 3;

/// Encodes the body `[newest, [input, …], seen, …]` of an input frame, with as many of `inputs` (newest first) as fit
/// one part. Each is one msgpack value with its [stamp](crate::wire::seen).
#[must_use]
pub fn encode_inputs<'a>(newest: u32, inputs: impl Iterator<Item = (u16, &'a [u8])>) -> Vec<u8> {
    let mut count = 0;
    let mut values = Vec::new();
    let mut stamps = Vec::new();
    let mut newer: Option<u16> = None;
    for (seen, value) in inputs.take(limits::INPUT_WINDOW) {
        let bytes = values.len() + value.len() + stamps.len() + STAMP_BYTES;
        if bytes + INPUTS_PREFIX_BYTES > limits::PART_BODY_BYTES {
            break;
        }
        count += 1;
        values.extend_from_slice(value);
        match newer.replace(seen) {
            None => write(rmp::encode::write_uint(&mut stamps, seen.into())),
            Some(newer) => write(rmp::encode::write_sint(&mut stamps, newer.wrapping_sub(seen).cast_signed().into())),
        }
    }
    let mut body = Vec::with_capacity(values.len() + stamps.len() + 8);
    write(rmp::encode::write_array_len(&mut body, 2 + count));
    write(rmp::encode::write_uint(&mut body, newest.into()));
    write(rmp::encode::write_array_len(&mut body, count));
    body.extend_from_slice(&values);
    body.extend_from_slice(&stamps);
    body
}

/// The inputs of one frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InputWindow<'a> {
    /// The number of the newest input.
    pub newest: u32,
    values: [&'a [u8]; limits::INPUT_WINDOW],
    seen: [u16; limits::INPUT_WINDOW],
    count: usize,
}

impl<'a> InputWindow<'a> {
    /// Returns the inputs, newest first, each one msgpack value.
    #[must_use]
    pub fn values(&self) -> &[&'a [u8]] {
        &self.values[..self.count]
    }

    /// Returns their [stamps](crate::wire::seen), in the same order.
    #[must_use]
    pub fn seen(&self) -> &[u16] {
        &self.seen[..self.count]
    }
}

/// Decodes the body `[newest, [input, …], seen, …]`.
///
/// # Errors
/// The body has another shape, or an input exceeds [`limits::INPUT_BYTES`].
pub fn decode_inputs(body: &[u8]) -> Result<InputWindow<'_>, Malformed> {
    let mut reader = Reader { bytes: body, at: 0 };
    let stamps = reader.array()?.checked_sub(2).ok_or(Malformed::Shape)?;
    let newest = reader.u32()?;
    let count = reader.array()?;
    let mut window =
        InputWindow { newest, values: [&[]; limits::INPUT_WINDOW], seen: [0; limits::INPUT_WINDOW], count };
    for value in window.values.get_mut(..count).ok_or(Malformed::Items)? {
        let start = reader.at;
        if !reader.pass_flat() {
            reader.value()?;
        }
        *value = &body[start..reader.at];
        if value.len() > limits::INPUT_BYTES {
            return Err(Malformed::Items);
        }
    }
    if stamps != count {
        return Err(Malformed::Shape);
    }
    let mut newer: Option<u16> = None;
    for seen in &mut window.seen[..count] {
        *seen = match newer {
            None => u16::try_from(reader.u32()?).map_err(|_| Malformed::Shape)?,
            Some(newer) => newer.wrapping_sub(reader.i16()?.cast_unsigned()),
        };
        newer = Some(*seen);
    }
    reader.end()?;
    Ok(window)
}

/// Encodes the body `[first, last]` of a request for missed ticks.
#[must_use]
pub fn encode_range(first: u32, last: u32) -> Vec<u8> {
    let mut body = Vec::with_capacity(11);
    write(rmp::encode::write_array_len(&mut body, 2));
    write(rmp::encode::write_uint(&mut body, first.into()));
    write(rmp::encode::write_uint(&mut body, last.into()));
    body
}

/// Decodes the body `[first, last]`.
///
/// # Errors
/// The body has another shape.
pub fn decode_range(body: &[u8]) -> Result<(u32, u32), Malformed> {
    let mut reader = Reader { bytes: body, at: 0 };
    if reader.array()? != 2 {
        return Err(Malformed::Shape);
    }
    let range = (reader.u32()?, reader.u32()?);
    reader.end()?;
    Ok(range)
}

/// Decodes the body `[tick, value]`: the tick, and the value still encoded.
///
/// # Errors
/// The body has another shape.
pub fn decode_at_tick(body: &[u8]) -> Result<(u32, &[u8]), Malformed> {
    let mut reader = Reader { bytes: body, at: 0 };
    if reader.array()? != 2 {
        return Err(Malformed::Shape);
    }
    let tick = reader.u32()?;
    let len = measure_within(reader.rest(), body.len())?;
    let value = reader.take(len)?;
    reader.end()?;
    Ok((tick, value))
}

/// A fanned-out input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FannedOut<'a> {
    /// The number of the sender.
    pub player: u32,
    /// The sequence number of the input.
    pub number: u32,
    /// The input, one msgpack value.
    pub value: &'a [u8],
}

/// Decodes the body `[tick, [[player, number, input], …], …]`: the tick, and the inputs of each tick.
///
/// # Errors
/// The body has another shape.
pub fn decode_ticks(body: &[u8]) -> Result<(u32, Vec<Vec<FannedOut<'_>>>), Malformed> {
    let mut reader = Reader { bytes: body, at: 0 };
    let ticks = reader.array()?.checked_sub(1).ok_or(Malformed::Shape)?;
    let tick = reader.u32()?;
    let mut windows = Vec::with_capacity(ticks.min(body.len()));
    for _ in 0..ticks {
        let count = reader.array()?;
        let mut inputs = Vec::with_capacity(count.min(body.len()));
        for _ in 0..count {
            inputs.push(reader.fanned_out()?);
        }
        windows.push(inputs);
    }
    reader.end()?;
    Ok((tick, windows))
}

/// Encodes the body `[newest]` of an acknowledgement of reliable messages.
#[must_use]
pub fn encode_ack(newest: u32) -> Vec<u8> {
    let mut body = Vec::with_capacity(6);
    write(rmp::encode::write_array_len(&mut body, 1));
    write(rmp::encode::write_uint(&mut body, newest.into()));
    body
}

/// Decodes the body `[newest]`.
///
/// # Errors
/// The body has another shape.
pub fn decode_ack(body: &[u8]) -> Result<u32, Malformed> {
    let mut reader = Reader { bytes: body, at: 0 };
    if reader.array()? != 1 {
        return Err(Malformed::Shape);
    }
    let newest = reader.u32()?;
    reader.end()?;
    Ok(newest)
}

/// Encodes the body of a ping, or of a client's pong.
#[must_use]
pub fn encode_clock(clock_ms: f64) -> Vec<u8> {
    let mut body = Vec::with_capacity(10);
    write(rmp::encode::write_array_len(&mut body, 1));
    write(rmp::encode::write_f64(&mut body, clock_ms));
    body
}

/// Encodes the body of a ping with padding that its pong returns, to test datagrams of a given size.
#[must_use]
pub fn encode_padded_ping(clock_ms: f64, padding_bytes: usize) -> Vec<u8> {
    let mut body = Vec::with_capacity(13 + padding_bytes);
    write(rmp::encode::write_array_len(&mut body, 2));
    write(rmp::encode::write_f64(&mut body, clock_ms));
    write(rmp::encode::write_bin(&mut body, &vec![0; padding_bytes]));
    body
}

/// Encodes the body of a server's pong; `padding` is that of the ping.
#[must_use]
pub fn encode_pong(clock_ms: f64, server_clock_ms: f64, tick: u32, padding: &[u8]) -> Vec<u8> {
    let mut body = Vec::with_capacity(24 + padding.len());
    write(rmp::encode::write_array_len(&mut body, if padding.is_empty() { 3 } else { 4 }));
    write(rmp::encode::write_f64(&mut body, clock_ms));
    write(rmp::encode::write_f64(&mut body, server_clock_ms));
    write(rmp::encode::write_uint(&mut body, tick.into()));
    body.extend_from_slice(padding);
    body
}

/// Decodes the first clock of a ping or pong, in milliseconds.
///
/// # Errors
/// The body has another shape.
pub fn decode_clock(body: &[u8]) -> Result<f64, Malformed> {
    check(body)?;
    let mut reader = Reader { bytes: body, at: 0 };
    if reader.array()? == 0 {
        return Err(Malformed::Shape);
    }
    reader.f64()
}

/// Decodes the clock of a ping, in milliseconds, and the padding to return, if any.
///
/// # Errors
/// There is no clock, or the padding exceeds [`limits::PING_PADDING_BYTES`].
pub fn decode_ping(body: &[u8]) -> Result<(f64, &[u8]), Malformed> {
    check(body)?;
    let mut reader = Reader { bytes: body, at: 0 };
    let count = reader.array()?;
    if count == 0 {
        return Err(Malformed::Shape);
    }
    let clock_ms = reader.f64()?;
    let padding = if count > 1 { reader.value()? } else { &[] };
    if padding.len() > limits::PING_PADDING_BYTES { Err(Malformed::Shape) } else { Ok((clock_ms, padding)) }
}

#[cfg(test)]
mod tests;
