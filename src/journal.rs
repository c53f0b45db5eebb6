//! Recordings of rooms: the inputs of a room, to replay it, and hashes of its outputs, to compare the replay with.
//!
//! # The file
//!
//! ```text
//! file     "rtcade-j" | format u16 | block | block …          integers little endian
//! block    length u32 | crc32c of the payload u32 | payload
//! format   16; up to format 8 no room is restored; up to format 4 no room learns that the server is about to stop; up
//!          to format 2 inputs have no stamp, and no resume is known to be that of a reloaded page; in format 1 the two
//!          times of the header are in microseconds instead of nanoseconds. Each format is one bit, so that a flipped
//!          bit makes no other
//! length   in its lower three bytes; the highest one is the exclusive or of those
//! payload  of the first block the header, of the others entries, in the encoding of postcard 1; after the header comes
//!          what the game runs besides its compiled code
//! ```
//!
//! The entries of a tick are: the inputs since the last tick, the tick itself, then the hash of the outputs. The block
//! ends after the tick and is handed to the sink before the game is called. Inputs that arrive while the outputs are
//! sent may precede the hash. A complete recording ends with the reason for its end; without one, the process ended
//! first, and all complete blocks are valid.
//!
//! The hash covers every output in order, bodies before deflating, and the position of the random number generator,
//! where a divergence often shows first. It is a CRC-32C: it detects differences, but is no protection against forgery.

mod json;
mod raw;

use std::cell::RefCell;
use std::fmt;
use std::rc::Rc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

#[cfg(feature = "driver")]
pub(crate) use self::json::state_to_json;
pub use self::json::{input_to_json, output_to_json};
use self::raw::{RawEntry, RawHeader, RawIdentity};
use crate::game::{Game, Identity, Join, Link, PlayerId, Refusal, Resumed, RoomInfo, Target, Tick};
use crate::limits;
use crate::room::{Input, Output, Room};
use crate::wire::codes::Leave;
use crate::wire::{msgpack, seen};

/// The first bytes of every recording.
pub const MAGIC: &[u8; 8] = b"rtcade-j";
/// The format version that this program writes. It also reads the formats before it.
pub const FORMAT: u16 = 16;
/// Each format, and the nanoseconds per unit of the times in its header.
const TIME_STEPS_NS: [(u16, u64); 5] = [(1, 1_000), (2, 1), (4, 1), (8, 1), (FORMAT, 1)];
const PREAMBLE_BYTES: usize = MAGIC.len() + size_of::<u16>();
const BLOCK_HEADER_BYTES: usize = 8;
/// Entries are handed to the sink at this size even if no tick follows.
const BLOCK_BYTES: usize = 16 * 1024;
/// No block is longer: the longest entry is a saved room, and then a join, with 16 KiB of JSON before encoding and the
/// attached value.
const BLOCK_BYTES_MAX: usize = limits::SNAPSHOT_BYTES + 128 * 1024;
/// Bytes of a block that contains only an end.
const END_BYTES: usize = BLOCK_HEADER_BYTES + 2;
const _: () = assert!(
    BLOCK_BYTES + 5 * (limits::RELIABLE_UP_BYTES + limits::ATTACHED_BYTES) < BLOCK_BYTES_MAX,
    "JSON is not a fifth of msgpack"
);
const _: () = assert!(limits::RECORDED_PROGRAM_BYTES + 64 * 1024 < BLOCK_BYTES_MAX, "the header is far shorter");
const _: () = assert!(BLOCK_BYTES + limits::EXTERNAL_BYTES + BLOCK_HEADER_BYTES < BLOCK_BYTES_MAX);

/// Receives whole blocks of a recording, in order. Must not block.
pub type Sink = Box<dyn FnMut(&[u8])>;

/// The description of a recorded room.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Header {
    /// The name of the game's type.
    pub game: String,
    /// [`Game::VERSION`].
    pub game_version: u32,
    /// The parameters of the room.
    pub room: RoomInfo,
    /// The maximum number of players.
    pub max_players: usize,
    /// The offset of the room's ticks in the server's tick grid.
    pub phase: Duration,
    /// The version of rtcade that made the recording.
    pub rtcade: String,
    /// The value of the environment variable `RTCADE_COMMIT` when the program was compiled; may be empty.
    pub commit: String,
}

impl Header {
    /// Returns the header that this program writes for a room of game `G`.
    #[must_use]
    pub fn new<G: Game>(room: &RoomInfo, max_players: usize, phase: Duration) -> Header {
        Header {
            game: std::any::type_name::<G>().to_owned(),
            game_version: G::VERSION,
            room: room.clone(),
            max_players,
            phase,
            rtcade: env!("CARGO_PKG_VERSION").to_owned(),
            commit: option_env!("RTCADE_COMMIT").unwrap_or_default().to_owned(),
        }
    }

    /// Adds what the game runs besides its compiled code, so that a replay runs the same.
    #[must_use]
    pub fn with_program_of<G: Game>(mut self, game: &G) -> Header {
        self.room.program = game.program().to_vec();
        self
    }
}

/// An entry of a recording.
#[derive(Clone, Debug, PartialEq)]
pub enum Entry {
    /// An input of the room.
    Told(Input),
    /// The hash of the room's outputs in the last tick.
    Said {
        /// See the module documentation.
        hash: u32,
    },
    /// As [`Entry::Said`], in a tick in which the game panicked and the room closed.
    Panicked {
        /// See the module documentation.
        hash: u32,
    },
    /// The end of the recording.
    Ended(End),
}

/// The reason for the end of a recording.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum End {
    /// The room was closed or the server stopped.
    Closed,
    /// The recording reached its maximum size ([`limits::JOURNAL_BYTES`]); the room continued.
    Full,
}

/// A recording cannot be read: the position and the cause.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JournalError {
    /// Offset in bytes from the start of the file.
    pub offset: u64,
    /// The cause.
    pub reason: Reason,
}

/// The cause of a [`JournalError`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reason {
    /// The file is no recording of a room.
    NotAJournal,
    /// The recording has an unknown format.
    Format(u16),
    /// The recording ends within its header.
    NoHeader,
    /// The length of a block is damaged or exceeds the maximum.
    Length,
    /// The checksum of a block is wrong.
    Checksum,
    /// A block with a correct checksum has invalid content, from an attack or a defect of the writer.
    Malformed(&'static str),
}

impl fmt::Display for JournalError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at byte {}: ", self.offset)?;
        match &self.reason {
            Reason::NotAJournal => f.write_str("this is no recording of a room"),
            Reason::Format(format) => {
                write!(f, "the recording has format {format}, but this program reads formats 1, 2, 4, 8 and {FORMAT}")
            }
            Reason::NoHeader => f.write_str("the recording ends within its header"),
            Reason::Length => f.write_str("the length of a block is damaged"),
            Reason::Checksum => f.write_str("a block is damaged: its checksum is wrong"),
            Reason::Malformed(what) => write!(f, "a block is malformed: {what}"),
        }
    }
}

impl std::error::Error for JournalError {}

/// Writes the recording of one room. Dropping it ends the recording.
pub struct Recorder {
    sink: Option<Sink>,
    buffer: Vec<u8>,
    bytes: usize,
    outputs: OutputHash,
    panicked: bool,
}

impl Recorder {
    /// Starts a recording by writing its header.
    ///
    /// # Panics
    /// If the game's program exceeds [`limits::RECORDED_PROGRAM_BYTES`].
    #[must_use]
    pub fn new(header: &Header, mut sink: Sink) -> Recorder {
        let mut buffer = Vec::new();
        append_header(&mut buffer, header);
        sink(&buffer);
        let bytes = buffer.len();
        buffer.clear();
        begin_block(&mut buffer);
        Recorder { sink: Some(sink), buffer, bytes, outputs: OutputHash::default(), panicked: false }
    }

    /// Records an input before the room handles it. A tick hands all entries to the sink, so that they are recorded
    /// even if the game never returns.
    pub fn note_input(&mut self, input: &Input) {
        match input {
            Input::Join { player, join } => {
                let (player, name, data) = (player.0, join.name.as_str(), encode_json(&join.data));
                let claims = join.identity.as_ref().map(|identity| encode_json(&identity.claims)).unwrap_or_default();
                let identity = join.identity.as_ref();
                let identity = identity.map(|Identity { subject, .. }| RawIdentity { subject, claims: &claims });
                match identity {
                    _ if !join.attached.is_null() => {
                        let attached = encode_json(&join.attached);
                        self.append(&RawEntry::JoinWith { player, name, data: &data, identity, attached: &attached });
                    }
                    Some(RawIdentity { subject, claims }) => {
                        self.append(&RawEntry::JoinAs { player, name, data: &data, subject, claims });
                    }
                    None => self.append(&RawEntry::Join { player, name, data: &data }),
                }
            }
            Input::Leave { player, reason } => {
                self.append(&RawEntry::Leave { player: player.0, reason: reason.as_str() });
            }
            Input::Drop { player } => self.append(&RawEntry::Drop { player: player.0 }),
            Input::Resume { player, resumed: Resumed { reloaded } } => {
                let player = player.0;
                self.append(&if *reloaded { RawEntry::Reload { player } } else { RawEntry::Resume { player } });
            }
            Input::Input { player, number, seen, value } => {
                self.append(&RawEntry::InputSeen { player: player.0, number: *number, seen: *seen, value });
            }
            Input::Command { player, value } => self.append(&RawEntry::Command { player: player.0, value }),
            Input::Ticks { player, first, last } => {
                self.append(&RawEntry::Ticks { player: player.0, first: *first, last: *last });
            }
            Input::Link { player, link } => self.append(&RawEntry::Link {
                player: player.0,
                rtt_us: link.rtt_us,
                jitter_us: link.jitter_us,
                loss_down_permille: link.loss_down_permille,
                loss_up_permille: link.loss_up_permille,
            }),
            Input::External { bytes } => self.append(&RawEntry::External { bytes }),
            Input::Drain { time } => {
                let time_ms = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
                self.append(&RawEntry::Drain { time_ms });
            }
            Input::Restore { saved } => self.append(&RawEntry::Restore { saved }),
            Input::Tick(Tick { number, missed }) => {
                self.append(&RawEntry::Tick { number: *number, missed: *missed });
                self.hand_over();
            }
        }
    }

    /// Records an output of the room.
    pub fn note_output(&mut self, output: &Output) {
        self.outputs.note(output);
        self.panicked |= *output == Output::Closed;
    }

    /// Records the end of the room's outputs in this tick.
    pub fn end_tick<G: Game>(&mut self, room: &Room<G>) {
        let hash = self.outputs.take(room);
        let is_last = std::mem::take(&mut self.panicked);
        self.append(&if is_last { RawEntry::Panicked { hash } } else { RawEntry::Said { hash } });
    }

    fn append(&mut self, entry: &RawEntry<'_>) {
        if self.sink.is_none() {
            return;
        }
        let before = self.buffer.len();
        append(&mut self.buffer, entry);
        if self.bytes + self.buffer.len() > limits::JOURNAL_BYTES - END_BYTES {
            self.buffer.truncate(before);
            self.end(End::Full);
        } else if self.buffer.len() >= BLOCK_BYTES {
            self.hand_over();
        }
    }

    /// Hands the entries so far to the sink.
    pub(crate) fn hand_over(&mut self) {
        let Some(sink) = &mut self.sink else { return };
        if self.buffer.len() > BLOCK_HEADER_BYTES {
            seal_block(&mut self.buffer, 0);
            sink(&self.buffer);
            self.bytes += self.buffer.len();
        }
        self.buffer.clear();
        begin_block(&mut self.buffer);
    }

    fn end(&mut self, end: End) {
        if self.sink.is_some() {
            append(&mut self.buffer, &RawEntry::Ended(end));
            self.break_off();
        }
    }

    fn break_off(&mut self) {
        self.hand_over();
        self.sink = None;
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.end(End::Closed);
    }
}

/// The hash of a room's outputs in one tick.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct OutputHash(u32);

impl OutputHash {
    pub(crate) fn note(&mut self, output: &Output) {
        match output {
            Output::Joined { player, welcome } => self.add(0, *player, &[welcome.as_json().as_bytes()]),
            Output::Refused { player, code, message } => {
                self.add(1, *player, &[code.as_str().as_bytes(), message.as_bytes()]);
            }
            Output::Left { player, reason, message } => {
                self.add(2, *player, &[reason.as_str().as_bytes(), message.as_bytes()]);
            }
            Output::Body { to, kind, body } => {
                let (to, player) = match *to {
                    Target::All => (3, PlayerId(0)),
                    Target::Except(player) => (4, player),
                    Target::One(player) => (5, player),
                };
                self.add(to, player, &[&[*kind as u8], body]);
            }
            Output::Closed => self.add(6, PlayerId(0), &[]),
            Output::Ended => self.add(7, PlayerId(0), &[]),
            Output::Renamed { player, name } => self.add(8, *player, &[name.as_bytes()]),
        }
    }

    fn add(&mut self, tag: u8, player: PlayerId, parts: &[&[u8]]) {
        self.0 = crc32c::crc32c_append(self.0, &[tag]);
        self.0 = crc32c::crc32c_append(self.0, &player.0.to_le_bytes());
        for part in parts {
            self.0 = crc32c::crc32c_append(self.0, &(part.len() as u64).to_le_bytes());
            self.0 = crc32c::crc32c_append(self.0, part);
        }
    }

    /// Returns the hash of the tick that `room` has finished, and starts the next.
    pub(crate) fn take<G: Game>(&mut self, room: &Room<G>) -> u32 {
        crc32c::crc32c_append(std::mem::take(self).0, &room.random_numbers_used().to_le_bytes())
    }
}

/// Replays a recorded room.
pub struct Replay<'a, G: Game> {
    entries: Entries<'a>,
    room: Room<G>,
    /// Inputs that were read after the last step and belong to the next.
    told: Vec<Input>,
    end: Option<End>,
}

/// One replayed tick.
#[derive(Debug)]
pub struct Step {
    /// The tick.
    pub tick: Tick,
    /// The inputs since the previous tick.
    pub told: Vec<Input>,
    /// The outputs of the tick.
    pub said: Vec<Output>,
    /// Whether the outputs are the recorded ones.
    pub verdict: Verdict,
}

/// The comparison of a replayed tick with the recorded one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The outputs are the same.
    Same,
    /// The outputs differ.
    Differs {
        /// Whether the game panicked in the recorded tick.
        panicked_then: bool,
        /// Whether the game panicked in the replayed tick.
        panicked_now: bool,
    },
    /// The recording ends within this tick.
    Unknown,
}

impl<'a, G: Game> Replay<'a, G> {
    /// Returns a replay before its first tick. `factory` makes the game.
    ///
    /// # Errors
    /// The refusal of `factory`.
    pub fn new(
        journal: &Journal<'a>,
        factory: impl FnOnce(&RoomInfo) -> Result<G, Refusal>,
    ) -> Result<Replay<'a, G>, Refusal> {
        let header = journal.header();
        let room = Room::new(&header.room, factory(&header.room)?, header.max_players);
        Ok(Replay { entries: journal.entries(), room, told: Vec::new(), end: None })
    }

    /// Returns the room after the last step.
    #[must_use]
    pub fn room(&self) -> &Room<G> {
        &self.room
    }

    /// Returns the bytes of an incomplete block at the end, see [`Entries::torn_bytes`]. Valid after [`Replay::step`]
    /// returned `None`.
    #[must_use]
    pub fn torn_bytes(&self) -> usize {
        self.entries.torn_bytes()
    }

    /// Returns the inputs read since the last step.
    #[must_use]
    pub fn told(&self) -> &[Input] {
        &self.told
    }

    /// Returns the reason for the end; `None` if the recording is incomplete. Valid after [`Replay::step`] returned
    /// `None`.
    #[must_use]
    pub fn end(&self) -> Option<End> {
        self.end
    }

    /// Runs the next tick. Returns `None` after the last one.
    ///
    /// # Errors
    /// The recording cannot be read any further.
    pub fn step(&mut self) -> Result<Option<Step>, JournalError> {
        let tick = loop {
            match self.entries.next().transpose()? {
                Some(Entry::Told(Input::Tick(tick))) => break tick,
                Some(Entry::Told(input)) => self.tell(input),
                Some(Entry::Said { .. } | Entry::Panicked { .. }) => unreachable!("a hash follows a tick"),
                Some(Entry::Ended(end)) => self.end = Some(end),
                None => return Ok(None),
            }
        };
        let told = std::mem::take(&mut self.told);
        self.room.handle_input(Input::Tick(tick));
        let said: Vec<Output> = std::iter::from_fn(|| self.room.poll_output()).collect();
        let mut outputs = OutputHash::default();
        said.iter().for_each(|output| outputs.note(output));
        let replayed = outputs.take(&self.room);
        let panicked_now = said.contains(&Output::Closed);
        let verdict = loop {
            let (panicked_then, recorded) = match self.entries.next().transpose()? {
                None => break Verdict::Unknown,
                Some(Entry::Ended(end)) => {
                    self.end = Some(end);
                    break Verdict::Unknown;
                }
                Some(Entry::Told(input)) => {
                    self.tell(input);
                    continue;
                }
                Some(Entry::Said { hash }) => (false, hash),
                Some(Entry::Panicked { hash }) => (true, hash),
            };
            break if (panicked_then, recorded) == (panicked_now, replayed) {
                Verdict::Same
            } else {
                Verdict::Differs { panicked_then, panicked_now }
            };
        };
        Ok(Some(Step { tick, told, said, verdict }))
    }

    fn tell(&mut self, input: Input) {
        self.told.push(input.clone());
        self.room.handle_input(input);
    }
}

/// Returns the recording with the hashes, version and commit of this program, after an intended change of the game.
///
/// # Errors
/// The recording cannot be read.
pub fn record_again<G: Game>(
    journal: &Journal<'_>,
    factory: impl FnOnce(&RoomInfo) -> Result<G, Refusal>,
) -> Result<Vec<u8>, Box<dyn std::error::Error>> {
    let Header { room: info, max_players, phase, .. } = journal.header();
    let game = factory(info)?;
    let header = Header::new::<G>(info, *max_players, *phase).with_program_of(&game);
    let mut room = Room::new(info, game, *max_players);
    let recorded = Rc::new(RefCell::new(Vec::new()));
    let written = Rc::clone(&recorded);
    let sink = Box::new(move |block: &[u8]| written.borrow_mut().extend_from_slice(block));
    let mut recorder = Recorder::new(&header, sink);
    let mut end = None;
    for entry in journal.entries() {
        let input = match entry? {
            Entry::Told(input) => input,
            Entry::Ended(ended) => {
                end = Some(ended);
                continue;
            }
            Entry::Said { .. } | Entry::Panicked { .. } => continue,
        };
        let is_tick = matches!(input, Input::Tick(_));
        recorder.note_input(&input);
        room.handle_input(input);
        if is_tick {
            while let Some(output) = room.poll_output() {
                recorder.note_output(&output);
            }
            recorder.end_tick(&room);
        }
    }
    match end {
        Some(end) => recorder.end(end),
        None => recorder.break_off(),
    }
    Ok(recorded.take())
}

/// A recording in memory with a valid header.
#[derive(Clone, Debug)]
pub struct Journal<'a> {
    header: Header,
    bytes: &'a [u8],
    entries_at: usize,
}

impl<'a> Journal<'a> {
    /// Reads the header.
    ///
    /// # Errors
    /// The bytes are no recording, have an unknown format, or the header is damaged.
    pub fn parse(bytes: &'a [u8]) -> Result<Journal<'a>, JournalError> {
        let error = |offset, reason| JournalError { offset, reason };
        let (magic, rest) = bytes.split_first_chunk().ok_or(error(0, Reason::NotAJournal))?;
        if magic != MAGIC {
            return Err(error(0, Reason::NotAJournal));
        }
        let (format, _) = rest.split_first_chunk().ok_or(error(8, Reason::NoHeader))?;
        let format = u16::from_le_bytes(*format);
        let known = TIME_STEPS_NS.into_iter().find(|&(known, _)| known == format);
        let (_, time_step_ns) = known.ok_or(error(8, Reason::Format(format)))?;
        let mut blocks = Blocks { bytes, at: PREAMBLE_BYTES };
        let block = blocks.next_block()?.ok_or(error(PREAMBLE_BYTES as u64, Reason::NoHeader))?;
        let header = read_header(block.payload, time_step_ns)
            .map_err(|what| error(block.offset as u64, Reason::Malformed(what)))?;
        Ok(Journal { header, bytes, entries_at: blocks.at })
    }

    /// Returns the description of the recorded room.
    #[must_use]
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Returns the entries after the header.
    #[must_use]
    pub fn entries(&self) -> Entries<'a> {
        Entries {
            blocks: Blocks { bytes: self.bytes, at: self.entries_at },
            payload: &[],
            newest_tick: 0,
            in_tick: false,
            told: 0,
            ended: false,
        }
    }
}

/// An iterator over the entries of a recording, in order. It ends after the first error.
#[derive(Clone, Debug)]
pub struct Entries<'a> {
    blocks: Blocks<'a>,
    payload: &'a [u8],
    newest_tick: u32,
    /// Whether the hash of the newest tick is still to come.
    in_tick: bool,
    /// Inputs since the newest tick.
    told: usize,
    ended: bool,
}

impl Entries<'_> {
    /// Returns the bytes of an incomplete block at the end, left by a process that was killed while writing. Valid
    /// after the last entry.
    #[must_use]
    pub fn torn_bytes(&self) -> usize {
        self.blocks.bytes.len() - self.blocks.at
    }

    fn next_entry(&mut self) -> Result<Option<Entry>, JournalError> {
        while self.payload.is_empty() {
            let Some(block) = self.blocks.next_block()? else { return Ok(None) };
            self.payload = block.payload;
        }
        let offset = (self.blocks.at - self.payload.len()) as u64;
        let malformed = |what| JournalError { offset, reason: Reason::Malformed(what) };
        if self.ended {
            return Err(malformed("the recording continues after its end"));
        }
        let (raw, rest) = postcard::take_from_bytes(self.payload).map_err(|_| malformed("an entry can't be read"))?;
        self.payload = rest;
        let entry = self.check(raw).map_err(malformed)?;
        self.ended = matches!(entry, Entry::Ended(_));
        Ok(Some(entry))
    }

    /// Checks the limits of an input, which rooms rely on.
    fn check(&mut self, raw: RawEntry<'_>) -> Result<Entry, &'static str> {
        self.told += 1;
        if self.told > limits::TOLD_PER_TICK {
            return Err("there are more inputs between two ticks than a server allows");
        }
        let told = match raw {
            RawEntry::Join { player, name, data } => {
                Input::Join { player: PlayerId(player), join: checked_join(name, data)? }
            }
            RawEntry::JoinAs { player, name, data, subject, claims } => {
                let mut join = checked_join(name, data)?;
                join.identity = Some(decode_identity(RawIdentity { subject, claims })?);
                Input::Join { player: PlayerId(player), join }
            }
            RawEntry::JoinWith { player, name, data, identity, attached } => {
                let mut join = checked_join(name, data)?;
                join.identity = identity.map(decode_identity).transpose()?;
                join.attached = decode_json(attached)?;
                Input::Join { player: PlayerId(player), join }
            }
            RawEntry::Leave { player, reason } => {
                let reason = Leave::parse(reason).ok_or("a reason for leaving is unknown")?;
                Input::Leave { player: PlayerId(player), reason }
            }
            RawEntry::Drop { player } => Input::Drop { player: PlayerId(player) },
            RawEntry::Resume { player } => {
                Input::Resume { player: PlayerId(player), resumed: Resumed { reloaded: false } }
            }
            RawEntry::Reload { player } => {
                Input::Resume { player: PlayerId(player), resumed: Resumed { reloaded: true } }
            }
            RawEntry::Input { player, number, value } => {
                let value = checked_value(value, limits::INPUT_BYTES)?;
                Input::Input { player: PlayerId(player), number, seen: seen::stamp(self.newest_tick.into()), value }
            }
            RawEntry::InputSeen { player, number, seen, value } => {
                let value = checked_value(value, limits::INPUT_BYTES)?;
                Input::Input { player: PlayerId(player), number, seen, value }
            }
            RawEntry::Command { player, value } => {
                Input::Command { player: PlayerId(player), value: checked_value(value, limits::RELIABLE_UP_BYTES)? }
            }
            RawEntry::Ticks { player, first, last } => Input::Ticks { player: PlayerId(player), first, last },
            RawEntry::Link { player, rtt_us, jitter_us, loss_down_permille, loss_up_permille } => Input::Link {
                player: PlayerId(player),
                link: Link { rtt_us, jitter_us, loss_down_permille, loss_up_permille },
            },
            RawEntry::External { bytes } if bytes.len() > limits::EXTERNAL_BYTES => {
                return Err("a message exceeds its limits");
            }
            RawEntry::External { bytes } => Input::External { bytes: bytes.to_vec() },
            RawEntry::Drain { time_ms } => Input::Drain { time: Duration::from_millis(time_ms) },
            RawEntry::Restore { saved } if saved.len() > limits::SNAPSHOT_BYTES => {
                return Err("a saved room exceeds its limit");
            }
            RawEntry::Restore { .. } if self.newest_tick > 0 => return Err("a room is restored after its first tick"),
            RawEntry::Restore { saved } => Input::Restore { saved: saved.to_vec() },
            RawEntry::Tick { number, missed } => {
                if number <= self.newest_tick {
                    return Err("a tick does not follow the previous one");
                }
                if std::mem::replace(&mut self.in_tick, true) {
                    return Err("a tick follows one without a hash");
                }
                (self.newest_tick, self.told) = (number, 0);
                Input::Tick(Tick { number, missed })
            }
            RawEntry::Said { .. } | RawEntry::Panicked { .. } if !std::mem::take(&mut self.in_tick) => {
                return Err("a hash follows no tick");
            }
            RawEntry::Said { hash } => return Ok(Entry::Said { hash }),
            RawEntry::Panicked { hash } => return Ok(Entry::Panicked { hash }),
            RawEntry::Ended(end) => return Ok(Entry::Ended(end)),
        };
        Ok(Entry::Told(told))
    }
}

impl Iterator for Entries<'_> {
    type Item = Result<Entry, JournalError>;

    fn next(&mut self) -> Option<Self::Item> {
        let next = self.next_entry().transpose();
        if matches!(next, Some(Err(_))) {
            self.payload = &[];
            self.blocks.at = self.blocks.bytes.len();
        }
        next
    }
}

#[derive(Clone, Debug)]
struct Blocks<'a> {
    bytes: &'a [u8],
    at: usize,
}

struct Block<'a> {
    payload: &'a [u8],
    offset: usize,
}

impl<'a> Blocks<'a> {
    /// Returns `None` at the end, and if the rest is shorter than its length: the process was killed while writing
    /// it.
    fn next_block(&mut self) -> Result<Option<Block<'a>>, JournalError> {
        let error = |reason| JournalError { offset: self.at as u64, reason };
        let rest = &self.bytes[self.at..];
        let Some((&length, rest)) = rest.split_first_chunk() else { return Ok(None) };
        let [low, middle, high, check] = length;
        let length = u32::from_le_bytes([low, middle, high, 0]) as usize;
        if check != low ^ middle ^ high || length == 0 || length > BLOCK_BYTES_MAX {
            return Err(error(Reason::Length));
        }
        let Some((&checksum, rest)) = rest.split_first_chunk() else { return Ok(None) };
        let Some(payload) = rest.get(..length) else { return Ok(None) };
        if crc32c::crc32c(payload) != u32::from_le_bytes(checksum) {
            return Err(error(Reason::Checksum));
        }
        let offset = self.at + BLOCK_HEADER_BYTES;
        self.at = offset + length;
        Ok(Some(Block { payload, offset }))
    }
}

/// Writes everything before the first entry.
fn append_header(buffer: &mut Vec<u8>, header: &Header) {
    buffer.extend_from_slice(MAGIC);
    buffer.extend_from_slice(&FORMAT.to_le_bytes());
    let start = begin_block(buffer);
    append(
        buffer,
        &RawHeader {
            game: &header.game,
            game_version: header.game_version,
            room: &header.room.name,
            seed: header.room.seed,
            tick: nanos(header.room.tick),
            data: &encode_json(&header.room.data),
            max_players: u32::try_from(header.max_players).unwrap_or(u32::MAX),
            phase: nanos(header.phase),
            rtcade: &header.rtcade,
            commit: &header.commit,
        },
    );
    assert!(header.room.program.len() <= limits::RECORDED_PROGRAM_BYTES, "the game's program is too large");
    buffer.extend_from_slice(&header.room.program);
    seal_block(buffer, start);
}

fn begin_block(buffer: &mut Vec<u8>) -> usize {
    let start = buffer.len();
    buffer.extend_from_slice(&[0; BLOCK_HEADER_BYTES]);
    start
}

fn seal_block(buffer: &mut [u8], start: usize) {
    let (header, payload) = buffer[start..].split_at_mut(BLOCK_HEADER_BYTES);
    assert!(payload.len() <= BLOCK_BYTES_MAX, "the limits of inputs keep blocks below their limit");
    let length = u32::try_from(payload.len()).expect("it is below its limit").to_le_bytes();
    header[..3].copy_from_slice(&length[..3]);
    header[3] = length[0] ^ length[1] ^ length[2];
    header[4..].copy_from_slice(&crc32c::crc32c(payload).to_le_bytes());
}

fn append(buffer: &mut Vec<u8>, value: &impl Serialize) {
    let extended = postcard::to_extend(value, std::mem::take(buffer));
    *buffer = extended.expect("plain data are encoded into a vector");
}

fn read_header(payload: &[u8], time_step_ns: u64) -> Result<Header, &'static str> {
    let read = postcard::take_from_bytes::<RawHeader<'_>>(payload);
    let (raw, program) = read.map_err(|_| "the header can't be read")?;
    let time = |steps: u64| Duration::from_nanos(steps.saturating_mul(time_step_ns));
    let mut room = RoomInfo::new(raw.room, raw.seed);
    room.tick = time(raw.tick);
    room.data = decode_json(raw.data)?;
    room.program = program.to_vec();
    if !limits::is_tick_length(room.tick) {
        return Err("the tick length is out of range");
    }
    let max_players = usize::try_from(raw.max_players).unwrap_or(usize::MAX);
    if !(1..=limits::PLAYERS_PER_ROOM_MAX).contains(&max_players) {
        return Err("the maximum number of players is out of range");
    }
    Ok(Header {
        game: raw.game.to_owned(),
        game_version: raw.game_version,
        room,
        max_players,
        phase: time(raw.phase),
        rtcade: raw.rtcade.to_owned(),
        commit: raw.commit.to_owned(),
    })
}

fn checked_join(name: &str, data: &[u8]) -> Result<Join, &'static str> {
    if name.len() > limits::PLAYER_NAME_BYTES {
        return Err("a name is too long");
    }
    let mut join = Join::new(name);
    join.data = decode_json(data)?;
    Ok(join)
}

fn decode_identity(raw: RawIdentity<'_>) -> Result<Identity, &'static str> {
    Ok(Identity { subject: raw.subject.to_owned(), claims: decode_json(raw.claims)? })
}

fn checked_value(value: &[u8], limit: usize) -> Result<Vec<u8>, &'static str> {
    if value.len() > limit || msgpack::check(value).is_err() {
        return Err("a message exceeds its limits");
    }
    Ok(value.to_vec())
}

/// JSON is stored as msgpack, because `serde_json` does not parse every number it writes back to the same value.
pub(crate) fn encode_json(value: &serde_json::Value) -> Vec<u8> {
    rmp_serde::to_vec(value).expect("JSON is encoded into a vector")
}

pub(crate) fn decode_json(bytes: &[u8]) -> Result<serde_json::Value, &'static str> {
    rmp_serde::from_slice(bytes).map_err(|_| "the data of a join can't be read")
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(any(test, fuzzing))]
pub(crate) mod hostile;
#[cfg(test)]
mod tests;
