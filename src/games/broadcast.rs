//! A broadcast: one player publishes video and sound, and all others watch. Everybody can write messages.
//!
//! The server forwards the media (`--media=video`); the game decides who may publish, passes the messages on, and tells
//! the players who publishes and how many watch. It sends no states: a room at rest sends nothing.
//!
//! A publisher may also record the video in segments, which viewers load from each other. The game passes on the hashes
//! of the segments, and tells those viewers to whom they connect.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use rand::seq::IteratorRandom;
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};

use crate::game::{
    Batch, Context, Game, Incoming, Join, Lane, Leave, PlayerId, Refusal, Resumed, Target, Tick, UserMedia,
};
use crate::limits::{
    RECORDING_INIT_CHARS, RECORDING_TYPE_CHARS, ROOM_TITLE_CHARS, SEGMENT_BYTES, SEGMENT_INTERVAL, SEGMENT_NEIGHBOURS,
    SEGMENT_SEEDS, SEGMENTS_AT_ONCE, SEGMENTS_KEPT,
};

/// The number of messages that a new viewer gets.
pub const MESSAGES_KEPT: usize = 100;
/// Characters (code points) of a message.
pub const MESSAGE_CHARS: usize = 200;

/// Of the commands of one player.
const PER_PLAYER: Rate = Rate { burst: 5, interval: Duration::from_secs(1) };
/// Of the segments that the publisher announces.
const SEGMENTS: Rate = Rate { burst: SEGMENTS_AT_ONCE, interval: SEGMENT_INTERVAL };
/// Of the messages of all players: each is sent to everybody.
const PER_ROOM: Rate = Rate { burst: 20, interval: Duration::from_millis(100) };
/// Between two events for nothing but the number of viewers.
const VIEWERS_INTERVAL: Duration = Duration::from_secs(1);

/// The data of a join. Without any, or without `publish`, the player watches.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Request {
    /// Whether the player wants to publish.
    pub publish: Option<bool>,
    /// The title of what the player publishes; see [`Command::Title`].
    pub title: Option<String>,
}

/// The commands of players. Each player has 5 at once, and one per second; segments are counted separately.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Command {
    /// A message to everybody, of 1 to [`MESSAGE_CHARS`] characters without control characters.
    Say(String),
    /// Another title, of 1 to [`ROOM_TITLE_CHARS`] characters without control characters; of the publisher only.
    Title(String),
    /// The publisher begins a recording, which replaces the former one, or with `None` ends it.
    Record(Option<Recording>),
    /// The next segment of the recording; of the publisher only.
    Segment(Segment),
    /// Whether this player watches the recording. With `true` the answer is [`Event::Delayed`], each time with other
    /// neighbours.
    Delay(bool),
}

/// What a player needs to play the segments of a recording.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recording {
    /// The MIME type with its codecs, of at most [`RECORDING_TYPE_CHARS`] characters.
    #[serde(rename = "type")]
    pub mime: String,
    /// What stands before the first segment, in base64, of at most [`RECORDING_INIT_CHARS`] characters.
    pub init: String,
}

/// A segment that other players have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Segment {
    /// Its SHA-256, in 64 lowercase hexadecimal digits.
    pub sha256: String,
    /// Its length, 1 to [`SEGMENT_BYTES`].
    pub bytes: u32,
}

/// The events. All of them are reliable.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(Deserialize))]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// Something has changed. Another number of viewers is sent at most once a second.
    Status(Status),
    /// New messages.
    Said(Vec<Message>),
    /// Why a command of this player was not carried out, a sentence.
    Refused(String),
    /// Everything, for a page that was loaded anew: its welcome is that of the page before it.
    Room(Everything),
    /// The answer to [`Command::Delay`].
    Delayed(Delayed),
    /// Another recording has begun, or the recording has ended; to those who watch it.
    Recording(Option<Recording>),
    /// The next segment; to those who watch the recording.
    Segment(Segment),
}

/// What a player needs who begins to watch the recording.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(Deserialize))]
pub struct Delayed {
    /// The recording; `None` if there is none now.
    pub recording: Option<Recording>,
    /// The last segments, at most [`SEGMENTS_KEPT`], the newest last.
    pub segments: Vec<Segment>,
    /// The players to connect to: up to [`SEGMENT_NEIGHBOURS`] who watch the recording, at random, and the publisher
    /// for the first [`SEGMENT_SEEDS`] who ask.
    pub neighbours: Vec<PlayerId>,
}

/// The status of a broadcast.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(Deserialize))]
pub struct Status {
    /// The publisher; `None` while the room is off air.
    pub publisher: Option<Publisher>,
    /// The title that the publisher has given it.
    pub title: Option<String>,
    /// The number of players who watch.
    pub viewers: usize,
    /// Whether there is a recording; see [`Command::Delay`].
    pub recorded: bool,
}

/// The player who publishes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(Deserialize))]
pub struct Publisher {
    /// The player.
    pub player: PlayerId,
    /// The player's name.
    pub name: String,
    /// Whether the player is connected. A player who is not may still reconnect.
    pub connected: bool,
}

/// A message of a player.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(Deserialize))]
pub struct Message {
    /// The player.
    pub player: PlayerId,
    /// The player's name, in case the player leaves.
    pub name: String,
    /// What the player has written.
    pub text: String,
}

/// The welcome: the status and the last messages.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(Deserialize))]
pub struct Everything {
    /// The status when the player has joined.
    pub status: Status,
    /// The last [`MESSAGES_KEPT`] messages, the newest last.
    pub messages: Vec<Message>,
}

/// The game of one room.
#[derive(Debug, Default)]
pub struct Broadcast {
    publisher: Option<PlayerId>,
    title: Option<String>,
    messages: VecDeque<Message>,
    recording: Option<Recording>,
    segments: VecDeque<Segment>,
    segment_budget: Budget,
    /// Those who watch the recording.
    delayed: BTreeSet<PlayerId>,
    /// Of these, those who were told to connect to the publisher.
    seeds: BTreeSet<PlayerId>,
    /// Of everybody who has sent a command.
    budgets: BTreeMap<PlayerId, Budget>,
    budget: Budget,
    told: Status,
    viewers_told_at: Duration,
}

impl Game for Broadcast {
    type Input = IgnoredAny;
    type Command = Command;
    type State = ();
    type Event = Event;
    type Welcome = Everything;
    type JoinData = Option<Request>;

    /// Messages need no shorter one, and media doesn't wait for ticks.
    const TICK: Duration = Duration::from_millis(100);

    fn join(
        &mut self,
        ctx: &mut Context<Self>,
        player: PlayerId,
        join: &Join<Option<Request>>,
    ) -> Result<Everything, Refusal> {
        let request = join.data.clone().unwrap_or_default();
        let publishes = request.publish == Some(true);
        if publishes {
            if let Some(publisher) = self.publisher(ctx) {
                let name = publisher.name;
                return Err(Refusal::new(format!("{name} publishes in this room. Watch it, or use another room.")));
            }
            let title = request.title.as_deref().map(checked_title).transpose().map_err(Refusal::new)?;
            self.publisher = Some(player);
            self.set_title(ctx, title);
        }
        ctx.user_media(player, UserMedia { audio: publishes, video: publishes });
        Ok(self.everything(ctx))
    }

    fn leave(&mut self, ctx: &mut Context<Self>, player: PlayerId, _: Leave) {
        self.budgets.remove(&player);
        self.undelay(player);
        if self.publisher == Some(player) {
            self.publisher = None;
            self.set_title(ctx, None);
            self.seeds.clear();
            if self.recording.is_some() {
                self.record(ctx, None);
            }
        }
    }

    fn resume(&mut self, ctx: &mut Context<Self>, player: PlayerId, resumed: Resumed) {
        if resumed.reloaded {
            let _ = ctx.event(Target::One(player), &Event::Room(self.everything(ctx)), Lane::Reliable);
        }
    }

    fn tick(&mut self, ctx: &mut Context<Self>, _: Tick, batch: Batch<'_, Self>) {
        let mut said = Vec::new();
        for message in batch {
            let Incoming::Command { player, command } = message else { continue };
            if let Err(sentence) = self.obey(ctx, player, command, &mut said) {
                let _ = ctx.event(Target::One(player), &Event::Refused(sentence), Lane::Reliable);
            }
        }
        if !said.is_empty() {
            self.messages.extend(said.iter().cloned());
            self.messages.drain(..self.messages.len().saturating_sub(MESSAGES_KEPT));
            let _ = ctx.event(Target::All, &Event::Said(said), Lane::Reliable);
        }
        self.tell_status(ctx);
    }
}

impl Broadcast {
    /// Carries a command out, or returns the sentence that refuses it.
    fn obey(
        &mut self,
        ctx: &mut Context<Self>,
        player: PlayerId,
        command: Command,
        said: &mut Vec<Message>,
    ) -> Result<(), String> {
        let now = age(ctx);
        let is_within = match &command {
            Command::Segment(_) if self.publisher == Some(player) => self.segment_budget.take(now, &SEGMENTS),
            _ => self.budgets.entry(player).or_default().take(now, &PER_PLAYER),
        };
        if !is_within {
            return Err("You send too much at once. Wait a few seconds, then try again.".to_owned());
        }
        match command {
            Command::Say(text) => {
                let text = checked("A message", &text, MESSAGE_CHARS)?;
                if !self.budget.take(now, &PER_ROOM) {
                    return Err("Too many messages arrive at once. Try again in a moment.".to_owned());
                }
                let name = ctx.player(player).map(|player| player.name.clone()).unwrap_or_default();
                said.push(Message { player, name, text });
            }
            Command::Title(_) if self.publisher != Some(player) => {
                return Err("Only the player who publishes sets the title.".to_owned());
            }
            Command::Title(title) => self.set_title(ctx, Some(checked_title(&title)?)),
            Command::Record(_) | Command::Segment(_) if self.publisher != Some(player) => {
                return Err("Only the player who publishes records.".to_owned());
            }
            Command::Record(recording) => self.record(ctx, recording.map(checked_recording).transpose()?),
            Command::Segment(_) if self.recording.is_none() => {
                return Err("A segment belongs to a recording: send `record` first.".to_owned());
            }
            Command::Segment(segment) => self.add_segment(ctx, checked_segment(segment)?),
            Command::Delay(true) if self.publisher == Some(player) => {
                return Err("The publisher has the recording already.".to_owned());
            }
            Command::Delay(true) => self.delay(ctx, player),
            Command::Delay(false) => self.undelay(player),
        }
        Ok(())
    }

    fn record(&mut self, ctx: &mut Context<Self>, recording: Option<Recording>) {
        self.recording.clone_from(&recording);
        self.segments.clear();
        self.tell_delayed(ctx, &Event::Recording(recording));
    }

    fn add_segment(&mut self, ctx: &mut Context<Self>, segment: Segment) {
        self.segments.push_back(segment.clone());
        self.segments.drain(..self.segments.len().saturating_sub(SEGMENTS_KEPT));
        self.tell_delayed(ctx, &Event::Segment(segment));
    }

    fn tell_delayed(&self, ctx: &mut Context<Self>, event: &Event) {
        for &player in &self.delayed {
            let _ = ctx.event(Target::One(player), event, Lane::Reliable);
        }
    }

    fn delay(&mut self, ctx: &mut Context<Self>, player: PlayerId) {
        let is_reachable = |other: PlayerId| ctx.player(other).is_some_and(|other| other.connected);
        let others: Vec<_> =
            self.delayed.iter().copied().filter(|&other| other != player && is_reachable(other)).collect();
        let mut chosen = [player; SEGMENT_NEIGHBOURS];
        let count = others.into_iter().sample_fill(ctx.rng(), &mut chosen);
        let mut neighbours = chosen[..count].to_vec();
        if let Some(publisher) = self.publisher
            && (self.seeds.len() < SEGMENT_SEEDS || self.seeds.contains(&player))
        {
            self.seeds.insert(player);
            neighbours.push(publisher);
        }
        self.delayed.insert(player);
        let segments = self.segments.iter().cloned().collect();
        let delayed = Delayed { recording: self.recording.clone(), segments, neighbours };
        let _ = ctx.event(Target::One(player), &Event::Delayed(delayed), Lane::Reliable);
    }

    fn undelay(&mut self, player: PlayerId) {
        self.delayed.remove(&player);
        self.seeds.remove(&player);
    }

    /// Sets the title, and lists the room while it is on air.
    fn set_title(&mut self, ctx: &mut Context<Self>, title: Option<String>) {
        ctx.listed(self.publisher.is_some());
        ctx.title(title.as_deref());
        self.title = title;
    }

    fn publisher(&self, ctx: &Context<Self>) -> Option<Publisher> {
        let player = ctx.player(self.publisher?)?;
        Some(Publisher { player: player.id, name: player.name.clone(), connected: player.connected })
    }

    fn status(&self, ctx: &Context<Self>) -> Status {
        let publisher = self.publisher(ctx);
        let viewers = ctx.players().len() - usize::from(publisher.is_some());
        Status { publisher, title: self.title.clone(), viewers, recorded: self.recording.is_some() }
    }

    fn everything(&self, ctx: &Context<Self>) -> Everything {
        Everything { status: self.status(ctx), messages: self.messages.iter().cloned().collect() }
    }

    fn tell_status(&mut self, ctx: &mut Context<Self>) {
        let (status, now) = (self.status(ctx), age(ctx));
        let is_due = now.saturating_sub(self.viewers_told_at) >= VIEWERS_INTERVAL;
        let is_more = status != Status { viewers: status.viewers, ..self.told.clone() };
        if !is_more && (status.viewers == self.told.viewers || !is_due) {
            return;
        }
        let _ = ctx.event(Target::All, &Event::Status(status.clone()), Lane::Reliable);
        self.told = status;
        self.viewers_told_at = now;
    }
}

/// The age of the room, by its ticks.
fn age(ctx: &Context<Broadcast>) -> Duration {
    ctx.tick_length() * ctx.tick()
}

/// Returns the text without white space around it, or the sentence that refuses it.
fn checked(what: &str, text: &str, chars: usize) -> Result<String, String> {
    let text = text.trim();
    if (1..=chars).contains(&text.chars().count()) && !text.contains(char::is_control) {
        Ok(text.to_owned())
    } else {
        Err(format!("{what} has 1 to {chars} characters, without line ends and other control characters."))
    }
}

fn checked_title(title: &str) -> Result<String, String> {
    checked("A title", title, ROOM_TITLE_CHARS)
}

fn checked_recording(recording: Recording) -> Result<Recording, String> {
    let is_type = (1..=RECORDING_TYPE_CHARS).contains(&recording.mime.len())
        && recording.mime.bytes().all(|byte| matches!(byte, b' '..=b'~'));
    let is_base64 = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'=');
    let is_init = (1..=RECORDING_INIT_CHARS).contains(&recording.init.len()) && recording.init.bytes().all(is_base64);
    if is_type && is_init {
        Ok(recording)
    } else {
        Err(format!(
            "A recording has a type of at most {RECORDING_TYPE_CHARS} characters, and an init of at most \
             {RECORDING_INIT_CHARS} in base64."
        ))
    }
}

fn checked_segment(segment: Segment) -> Result<Segment, String> {
    let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    let is_hash = segment.sha256.len() == 64 && segment.sha256.bytes().all(is_digit);
    if is_hash && (1..=SEGMENT_BYTES).contains(&segment.bytes) {
        Ok(segment)
    } else {
        Err(format!("A segment has a SHA-256 of 64 lowercase hexadecimal digits, and 1 to {SEGMENT_BYTES} bytes."))
    }
}

/// `burst` at once, and one per `interval`.
struct Rate {
    burst: u32,
    interval: Duration,
}

/// What is left of a [`Rate`].
#[derive(Debug, Default)]
struct Budget {
    /// The age of the room at which nothing of the burst is used any more.
    whole_at: Duration,
}

impl Budget {
    /// Uses one, if one is left.
    fn take(&mut self, now: Duration, rate: &Rate) -> bool {
        let whole_at = self.whole_at.max(now) + rate.interval;
        let is_left = whole_at - now <= rate.interval * rate.burst;
        if is_left {
            self.whole_at = whole_at;
        }
        is_left
    }
}

#[cfg(test)]
mod tests;
