//! msgpack: limits checked before anything is decoded, and the bodies of frames.

use std::fmt;

use rmp::Marker;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::limits;

/// Why a message was not sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SendError {
    /// It is larger than its lane carries.
    TooLarge {
        /// Its encoded size, in bytes.
        bytes: usize,
        /// The lane's limit, in bytes.
        limit: usize,
    },
    /// It can't be encoded, or a receiver would refuse it: nested too deeply, too many items, an integer beyond 2⁵³.
    Unencodable(String),
}

impl fmt::Display for SendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SendError::TooLarge { bytes, limit } => write!(f, "the message has {bytes} bytes, the limit is {limit}"),
            SendError::Unencodable(why) => write!(f, "the message can't be encoded: {why}"),
        }
    }
}

impl std::error::Error for SendError {}

/// Why bytes are not one acceptable msgpack value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    /// They end before the value does.
    Truncated,
    /// Nested deeper than [`limits::MSGPACK_DEPTH`].
    Depth,
    /// More elements than the limit.
    Items,
    /// An integer beyond 2⁵³.
    Integer,
    /// A string that isn't UTF-8.
    Utf8,
    /// An extension type, the byte that msgpack never uses, or a key that is neither a string nor an integer.
    Type,
    /// Bytes follow the value.
    Trailing,
    /// A value, but not of the shape that stands here.
    Shape,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Malformed::Truncated => "it ends too early",
            Malformed::Depth => "it is nested too deeply",
            Malformed::Items => "it has too many items",
            Malformed::Integer => "it has an integer beyond 2⁵³",
            Malformed::Utf8 => "it has a string that isn't UTF-8",
            Malformed::Type => "it has a type that isn't allowed there",
            Malformed::Trailing => "bytes follow its end",
            Malformed::Shape => "it has another shape",
        })
    }
}

impl std::error::Error for Malformed {}

/// The length in bytes of the value that `bytes` begin with, once it is known to be within the limits: what decodes it
/// afterwards can neither recurse nor allocate beyond them, and every receiver can read it.
///
/// # Errors
/// Where it isn't one, or is past [`limits::MSGPACK_DEPTH`] or [`limits::MSGPACK_ITEMS`].
pub fn measure(bytes: &[u8]) -> Result<usize, Malformed> {
    measure_items(bytes, limits::MSGPACK_ITEMS)
}

/// Checks that `bytes` are exactly one value within the limits.
///
/// # Errors
/// As [`measure`], and where bytes follow.
pub fn check(bytes: &[u8]) -> Result<(), Malformed> {
    if measure(bytes)? == bytes.len() { Ok(()) } else { Err(Malformed::Trailing) }
}

fn measure_items(bytes: &[u8], max_items: usize) -> Result<usize, Malformed> {
    let mut reader = Reader { bytes, at: 0 };
    let mut items_left = max_items;
    let mut open = [Container { left: 0, is_map: false }; limits::MSGPACK_DEPTH];
    let mut depth = 0;
    loop {
        let is_key = depth > 0 && open[depth - 1].is_map && open[depth - 1].left.is_multiple_of(2);
        let inside = reader.pass(is_key)?;
        if inside.is_some() && depth == limits::MSGPACK_DEPTH {
            return Err(Malformed::Depth);
        }
        if let Some(inside) = inside.filter(|inside| inside.left > 0) {
            items_left = items_left.checked_sub(inside.left).ok_or(Malformed::Items)?;
            // Every element takes at least a byte: a count that the rest can't hold is a lie.
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

/// An array or map that is being passed: the values left in it, keys included.
#[derive(Clone, Copy)]
struct Container {
    left: usize,
    is_map: bool,
}

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

    /// Passes one scalar, or the head of an array or map: then what is inside it.
    fn pass(&mut self, is_key: bool) -> Result<Option<Container>, Malformed> {
        let array = |count| Ok(Some(Container { left: count, is_map: false }));
        let map = |count: usize| {
            count.checked_mul(2).map(|left| Some(Container { left, is_map: true })).ok_or(Malformed::Items)
        };
        let marker = self.marker()?;
        // A browser's objects have keys of these types only.
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

    /// A number of any msgpack type: JavaScript sends a whole f64 as an integer.
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

/// Decodes a value that [`check`] has passed.
///
/// # Errors
/// Where it doesn't fit `T`: the reason, in words.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    rmp_serde::from_slice(bytes).map_err(|error| error.to_string())
}

/// Encodes a value of the game: structs as maps, so that JavaScript reads objects.
///
/// # Errors
/// Past `limit` bytes, or where a receiver would refuse it.
pub fn encode(value: &impl Serialize, limit: usize) -> Result<Vec<u8>, SendError> {
    encode_after(Vec::with_capacity(256), value, limit)
}

/// The body `[tick, value]`.
///
/// # Errors
/// As [`encode`]; `limit` holds for the value alone.
pub fn encode_at_tick(tick: u32, value: &impl Serialize, limit: usize) -> Result<Vec<u8>, SendError> {
    let mut body = Vec::with_capacity(256);
    write(rmp::encode::write_array_len(&mut body, 2));
    write(rmp::encode::write_uint(&mut body, tick.into()));
    encode_after(body, value, limit)
}

fn encode_after(mut body: Vec<u8>, value: &impl Serialize, limit: usize) -> Result<Vec<u8>, SendError> {
    let start = body.len();
    let mut serializer = rmp_serde::Serializer::new(&mut body).with_struct_map();
    value.serialize(&mut serializer).map_err(|error| SendError::Unencodable(error.to_string()))?;
    let bytes = body.len() - start;
    if bytes > limit {
        return Err(SendError::TooLarge { bytes, limit });
    }
    // Whatever fits the reliable lane may have as many items as it has bytes; the receiver is a browser.
    measure_items(&body[start..], limit).map_err(|error| SendError::Unencodable(error.to_string()))?;
    Ok(body)
}

/// Writing into a vector can't fail.
fn write<T, E>(written: Result<T, E>) {
    debug_assert!(written.is_ok());
}

/// The inputs of one tick, being encoded: `[[player, number, input], …]`.
#[derive(Default)]
pub struct Inputs {
    count: u32,
    entries: Vec<u8>,
}

impl Inputs {
    /// Adds an input, `value` being one msgpack value.
    pub fn push(&mut self, player: u32, number: u32, value: &[u8]) {
        self.count += 1;
        write(rmp::encode::write_array_len(&mut self.entries, 3));
        write(rmp::encode::write_uint(&mut self.entries, player.into()));
        write(rmp::encode::write_uint(&mut self.entries, number.into()));
        self.entries.extend_from_slice(value);
    }

    /// The encoded array.
    #[must_use]
    pub fn finish(self) -> Vec<u8> {
        let mut encoded = Vec::with_capacity(self.entries.len() + 5);
        write(rmp::encode::write_array_len(&mut encoded, self.count));
        encoded.extend_from_slice(&self.entries);
        encoded
    }
}

/// The body `[tick, inputs, …]` of as many of `ticks` as stay within `max_bytes`.
#[must_use]
pub fn encode_ticks<'a>(tick: u32, ticks: impl Iterator<Item = &'a [u8]>, max_bytes: usize) -> Vec<u8> {
    let mut bytes = limits::BODY_PREFIX_BYTES;
    let fitting = ticks.take_while(|inputs| {
        bytes += inputs.len();
        bytes <= max_bytes
    });
    let mut count = 0;
    let mut inside = Vec::new();
    for inputs in fitting {
        count += 1;
        inside.extend_from_slice(inputs);
    }
    let mut body = Vec::with_capacity(inside.len() + 8);
    write(rmp::encode::write_array_len(&mut body, count + 1));
    write(rmp::encode::write_uint(&mut body, tick.into()));
    body.extend_from_slice(&inside);
    body
}

/// The body `[newest, [input, …]]` of an input frame: as many of `values` (newest first) as fit one part.
#[must_use]
pub fn encode_inputs<'a>(newest: u32, values: impl Iterator<Item = &'a [u8]>) -> Vec<u8> {
    let mut count = 0;
    let mut inside = Vec::new();
    for value in values.take(limits::INPUT_WINDOW) {
        if inside.len() + value.len() + 16 > limits::PART_BODY_BYTES {
            break;
        }
        count += 1;
        inside.extend_from_slice(value);
    }
    let mut body = Vec::with_capacity(inside.len() + 8);
    write(rmp::encode::write_array_len(&mut body, 2));
    write(rmp::encode::write_uint(&mut body, newest.into()));
    write(rmp::encode::write_array_len(&mut body, count));
    body.extend_from_slice(&inside);
    body
}

/// Reads the body `[newest, [input, …]]`: the newest number, and the inputs, newest first.
///
/// # Errors
/// Where it isn't one, or an input is longer than [`limits::INPUT_BYTES`].
pub fn decode_inputs(body: &[u8]) -> Result<(u32, Vec<&[u8]>), Malformed> {
    let mut reader = Reader { bytes: body, at: 0 };
    if reader.array()? != 2 {
        return Err(Malformed::Shape);
    }
    let newest = reader.u32()?;
    let count = reader.array()?;
    if count > limits::INPUT_WINDOW {
        return Err(Malformed::Items);
    }
    let mut values = Vec::with_capacity(count);
    for _ in 0..count {
        let value = reader.value()?;
        if value.len() > limits::INPUT_BYTES {
            return Err(Malformed::Items);
        }
        values.push(value);
    }
    reader.end()?;
    Ok((newest, values))
}

/// The body `[first, last]` of a request for missed ticks.
#[must_use]
pub fn encode_range(first: u32, last: u32) -> Vec<u8> {
    let mut body = Vec::with_capacity(11);
    write(rmp::encode::write_array_len(&mut body, 2));
    write(rmp::encode::write_uint(&mut body, first.into()));
    write(rmp::encode::write_uint(&mut body, last.into()));
    body
}

/// Reads the body `[first, last]`.
///
/// # Errors
/// Where it isn't one.
pub fn decode_range(body: &[u8]) -> Result<(u32, u32), Malformed> {
    let mut reader = Reader { bytes: body, at: 0 };
    if reader.array()? != 2 {
        return Err(Malformed::Shape);
    }
    let range = (reader.u32()?, reader.u32()?);
    reader.end()?;
    Ok(range)
}

/// Reads the body `[tick, value]`: the tick, and the value as it stands.
///
/// # Errors
/// Where it isn't one.
pub fn decode_at_tick(body: &[u8]) -> Result<(u32, &[u8]), Malformed> {
    let mut reader = Reader { bytes: body, at: 0 };
    if reader.array()? != 2 {
        return Err(Malformed::Shape);
    }
    let tick = reader.u32()?;
    let len = measure_items(reader.rest(), body.len())?;
    let value = reader.take(len)?;
    reader.end()?;
    Ok((tick, value))
}

/// One input as it was fanned out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FannedOut<'a> {
    /// The number of the player who sent it.
    pub player: u32,
    /// Its own number.
    pub number: u32,
    /// One msgpack value.
    pub value: &'a [u8],
}

/// Reads the body `[tick, [[player, number, input], …], …]`: the number, and the inputs of each tick in it.
///
/// # Errors
/// Where it isn't one.
pub fn decode_ticks(body: &[u8]) -> Result<(u32, Vec<Vec<FannedOut<'_>>>), Malformed> {
    let mut reader = Reader { bytes: body, at: 0 };
    let ticks = reader.array()?.checked_sub(1).ok_or(Malformed::Shape)?;
    let tick = reader.u32()?;
    let mut windows = Vec::with_capacity(ticks.min(body.len()));
    for _ in 0..ticks {
        let count = reader.array()?;
        let mut inputs = Vec::with_capacity(count.min(body.len()));
        for _ in 0..count {
            if reader.array()? != 3 {
                return Err(Malformed::Shape);
            }
            inputs.push(FannedOut { player: reader.u32()?, number: reader.u32()?, value: reader.value()? });
        }
        windows.push(inputs);
    }
    reader.end()?;
    Ok((tick, windows))
}

/// The body of a ping or pong.
#[must_use]
pub fn encode_clock(clock_ms: f64) -> Vec<u8> {
    let mut body = Vec::with_capacity(10);
    write(rmp::encode::write_array_len(&mut body, 1));
    write(rmp::encode::write_f64(&mut body, clock_ms));
    body
}

/// The body of a pong of the server.
#[must_use]
pub fn encode_pong(clock_ms: f64, server_clock_ms: f64, tick: u32) -> Vec<u8> {
    let mut body = Vec::with_capacity(24);
    write(rmp::encode::write_array_len(&mut body, 3));
    write(rmp::encode::write_f64(&mut body, clock_ms));
    write(rmp::encode::write_f64(&mut body, server_clock_ms));
    write(rmp::encode::write_uint(&mut body, tick.into()));
    body
}

/// Reads the first clock of a ping or pong, in milliseconds.
///
/// # Errors
/// Where it isn't one.
pub fn decode_clock(body: &[u8]) -> Result<f64, Malformed> {
    check(body)?;
    let mut reader = Reader { bytes: body, at: 0 };
    if reader.array()? == 0 {
        return Err(Malformed::Shape);
    }
    reader.f64()
}
