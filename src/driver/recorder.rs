//! Recordings of rooms on disk.
//!
//! A disk may take longer than a tick, so a separate thread writes: the loop only queues blocks in memory, and the
//! thread writes them a few times a second. Written data survives a crash of the process; it is not synced, so it may
//! not survive a power failure.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;

use super::Record;
use crate::journal::{self, Header, Sink};
use crate::limits;

/// The interval at which queued blocks are written.
const INTERVAL: Duration = Duration::from_millis(50);
/// How long a stopping server waits for the disk.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(10);
/// The number of file names to try if names are taken.
const NAME_ATTEMPTS: usize = 1_000;
/// The number of recordings that are listed.
const LISTED: usize = 1_000;
const EXTENSION: &str = ".journal";

/// The loop's end: opens recordings, and waits for the last bytes when it is dropped.
pub(super) struct Recordings {
    shared: Arc<Shared>,
    directory: PathBuf,
    writer: Option<JoinHandle<()>>,
    /// Disconnected when the writer has ended.
    ended: mpsc::Receiver<Infallible>,
}

/// Owned by the writer's thread: dropped when the thread ends for any reason.
struct Alive {
    shared: Arc<Shared>,
    _ended: mpsc::Sender<Infallible>,
}

impl Drop for Alive {
    fn drop(&mut self) {
        self.shared.has_ended.store(true, Ordering::Release);
    }
}

/// Shared by the loop and the writer. Neither blocks while it holds a lock.
struct Shared {
    opened: Mutex<Vec<Arc<Recording>>>,
    /// The newest recordings, the newest first.
    listing: Mutex<Vec<Item>>,
    waiting_bytes: AtomicUsize,
    waiting_bytes_max: usize,
    stopping: AtomicBool,
    /// Whether the writer's thread is gone.
    has_ended: AtomicBool,
    running: AtomicUsize,
    written_bytes: AtomicU64,
    ended_early: AtomicU64,
}

/// The counters of all recordings of this run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Figures {
    pub(super) running: usize,
    pub(super) written_bytes: u64,
    pub(super) ended_early: u64,
}

struct Recording {
    room: String,
    began: Timestamp,
    written: AtomicU64,
    inbox: Mutex<Inbox>,
}

/// A recording in the listing.
#[derive(Clone)]
enum Item {
    Running(Name, Arc<Recording>),
    Finished(Name, u64),
}

/// A recording, as it is listed for operators.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Listed {
    /// The name of the file.
    pub(super) name: String,
    pub(super) room: String,
    /// When it began, in the form 2026-11-21T12:40:31Z.
    began: String,
    pub(super) bytes: u64,
    pub(super) running: bool,
}

impl Item {
    fn name(&self) -> &Name {
        match self {
            Item::Running(name, _) | Item::Finished(name, _) => name,
        }
    }

    fn listed(&self) -> Listed {
        let name = self.name();
        let (bytes, running) = match self {
            Item::Running(_, recording) => (recording.written.load(Ordering::Relaxed), true),
            Item::Finished(_, bytes) => (*bytes, false),
        };
        let began = name.began.parse::<Timestamp>().map_or_else(|_| name.began.clone(), |began| began.to_string());
        Listed { name: name.to_string(), room: name.room.clone(), began, bytes, running }
    }
}

#[derive(Default)]
struct Inbox {
    waiting: Vec<u8>,
    /// No further blocks follow.
    complete: bool,
    /// It has ended early: further blocks are dropped.
    cut: bool,
}

impl Recordings {
    /// # Errors
    /// The directory can't be created, read or written.
    pub(super) fn start(record: &Record) -> io::Result<Recordings> {
        let shared = Arc::new(Shared::new(limits::RECORDING_QUEUE_BYTES));
        let mut writer = Writer::new(record, Arc::clone(&shared))?;
        Recordings::spawn(record.directory.clone(), shared, move |shared| {
            loop {
                // Asked before, so that what had been left by then is written.
                let is_last = shared.stopping.load(Ordering::Acquire);
                writer.write_waiting();
                if is_last {
                    return;
                }
                thread::park_timeout(INTERVAL);
            }
        })
    }

    fn spawn(
        directory: PathBuf,
        shared: Arc<Shared>,
        write: impl FnOnce(&Shared) + Send + 'static,
    ) -> io::Result<Recordings> {
        let (sender, ended) = mpsc::channel();
        let alive = Alive { shared: Arc::clone(&shared), _ended: sender };
        let thread = thread::Builder::new().name("recorder".to_owned()).spawn(move || write(&alive.shared))?;
        Ok(Recordings { shared, directory, writer: Some(thread), ended })
    }

    /// Opens the recording of each room.
    pub(super) fn opener(&self) -> impl FnMut(&Header) -> Sink + 'static {
        let shared = Arc::clone(&self.shared);
        move |header| shared.open(header)
    }

    pub(super) fn figures(&self) -> Figures {
        self.shared.figures()
    }

    /// Bytes that wait for the disk.
    pub(super) fn waiting_bytes(&self) -> usize {
        self.shared.waiting_bytes.load(Ordering::Relaxed)
    }

    /// The newest recordings, the newest first.
    pub(super) fn list(&self) -> Vec<Listed> {
        lock(&self.shared.listing).iter().map(Item::listed).collect()
    }

    /// The path of a file of that list.
    pub(super) fn path(&self, name: &str) -> Option<PathBuf> {
        let name = Name::parse(name)?;
        let listing = lock(&self.shared.listing);
        let is_listed = listing.iter().any(|item| *item.name() == name);
        is_listed.then(|| self.directory.join(name.to_string()))
    }
}

impl Drop for Recordings {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::Release);
        let Some(writer) = self.writer.take() else { return };
        writer.thread().unpark();
        if let Err(RecvTimeoutError::Timeout) = self.ended.recv_timeout(FLUSH_TIMEOUT) {
            log::warn!("the disk is too slow: the last parts of recordings were not written");
        } else if writer.join().is_err() {
            log::error!("the thread that writes recordings failed: their last parts were not written");
        }
    }
}

impl Shared {
    fn new(waiting_bytes_max: usize) -> Shared {
        Shared {
            opened: Mutex::default(),
            listing: Mutex::default(),
            waiting_bytes: AtomicUsize::new(0),
            waiting_bytes_max,
            stopping: AtomicBool::new(false),
            has_ended: AtomicBool::new(false),
            running: AtomicUsize::new(0),
            written_bytes: AtomicU64::new(0),
            ended_early: AtomicU64::new(0),
        }
    }

    fn open(self: &Arc<Shared>, header: &Header) -> Sink {
        let room = header.room.name.clone();
        let recording =
            Arc::new(Recording { room, began: Timestamp::now(), written: AtomicU64::new(0), inbox: Mutex::default() });
        lock(&self.opened).push(Arc::clone(&recording));
        let source = Source { shared: Arc::clone(self), recording };
        Box::new(move |block| source.leave(block))
    }

    /// Why this many bytes can't be queued, if they can't.
    fn obstacle(&self, bytes: usize) -> Option<&'static str> {
        if self.has_ended.load(Ordering::Acquire) {
            Some("the thread that writes recordings has failed")
        } else if self.waiting_bytes.load(Ordering::Relaxed).saturating_add(bytes) > self.waiting_bytes_max {
            Some("the disk is too slow")
        } else {
            None
        }
    }

    fn figures(&self) -> Figures {
        Figures {
            running: self.running.load(Ordering::Relaxed),
            written_bytes: self.written_bytes.load(Ordering::Relaxed),
            ended_early: self.ended_early.load(Ordering::Relaxed),
        }
    }
}

/// The loop's end of one recording; dropped with its sink.
struct Source {
    shared: Arc<Shared>,
    recording: Arc<Recording>,
}

impl Source {
    fn leave(&self, block: &[u8]) {
        let mut inbox = lock(&self.recording.inbox);
        if inbox.cut {
            return;
        }
        if let Some(why) = self.shared.obstacle(block.len()) {
            inbox.cut = true;
            if self.shared.has_ended.load(Ordering::Acquire) {
                self.shared.waiting_bytes.fetch_sub(inbox.waiting.len(), Ordering::Relaxed);
                inbox.waiting = Vec::new();
            }
            drop(inbox);
            self.shared.ended_early.fetch_add(1, Ordering::Relaxed);
            log::warn!("the recording of room {} ends early: {why}", self.recording.room);
            return;
        }
        self.shared.waiting_bytes.fetch_add(block.len(), Ordering::Relaxed);
        inbox.waiting.extend_from_slice(block);
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        lock(&self.recording.inbox).complete = true;
    }
}

/// The name of a recording's file, ordered by age.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Name {
    began: String,
    number: usize,
    room: String,
}

impl Name {
    fn parse(text: &str) -> Option<Name> {
        let mut parts = text.strip_suffix(EXTENSION)?.rsplitn(3, '-');
        let number = parts.next()?.parse().ok()?;
        let began = parts.next().filter(|began| {
            let is_digits = |digits: &str| digits.bytes().all(|byte| byte.is_ascii_digit());
            matches!(began.split_once('T'), Some((date, time)) if date.len() == 8 && is_digits(date)
                && time.len() == 7 && time.strip_suffix('Z').is_some_and(is_digits))
        })?;
        Some(Name { began: began.to_owned(), number, room: parts.next()?.to_owned() })
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Name { began, number, room } = self;
        write!(f, "{room}-{began}-{number}{EXTENSION}")
    }
}

/// The writer's end.
struct Writer {
    directory: PathBuf,
    limit_bytes: u64,
    shared: Arc<Shared>,
    made: usize,
    running: BTreeMap<Name, Running>,
    /// Bytes of each finished recording, including those of earlier runs.
    finished: BTreeMap<Name, u64>,
    /// Bytes of all recordings, including running ones.
    total_bytes: u64,
    /// Whether the listing lacks something.
    is_news: bool,
}

struct Running {
    recording: Arc<Recording>,
    file: File,
    bytes: u64,
    /// What is being written; the inbox and this one take turns, so that neither is allocated anew.
    buffer: Vec<u8>,
}

impl Writer {
    fn new(record: &Record, shared: Arc<Shared>) -> io::Result<Writer> {
        let directory = record.directory.clone();
        fs::create_dir_all(&directory)?;
        let probe = directory.join(format!(".rtcade-{}", std::process::id()));
        File::create(&probe)?;
        fs::remove_file(&probe)?;
        let finished = finished(&directory)?;
        let total_bytes = finished.values().sum();
        let (limit_bytes, running) = (record.limit_bytes, BTreeMap::new());
        let mut writer =
            Writer { directory, limit_bytes, shared, made: 0, running, finished, total_bytes, is_news: true };
        writer.list();
        Ok(writer)
    }

    /// Writes the blocks queued since the last time.
    fn write_waiting(&mut self) {
        let opened = std::mem::take(&mut *lock(&self.shared.opened));
        for recording in opened {
            match self.create(&recording) {
                Ok((name, file)) => {
                    let running = Running { recording, file, bytes: 0, buffer: Vec::new() };
                    self.running.insert(name, running);
                    self.is_news = true;
                }
                Err(error) => self.cut(&recording, &format_args!("its file can't be created: {error}")),
            }
        }
        for name in self.running.keys().cloned().collect::<Vec<_>>() {
            self.write(&name);
        }
        self.make_place(0, None);
        self.shared.running.store(self.running.len(), Ordering::Relaxed);
        self.list();
    }

    fn list(&mut self) {
        if std::mem::take(&mut self.is_news) {
            let running = self.running.iter().rev();
            let running = running.map(|(name, of)| Item::Running(name.clone(), Arc::clone(&of.recording)));
            let finished = self.finished.iter().rev().map(|(name, bytes)| Item::Finished(name.clone(), *bytes));
            let mut items: Vec<Item> = running.chain(finished).take(LISTED).collect();
            items.sort_by(|a, b| b.name().cmp(a.name()));
            *lock(&self.shared.listing) = items;
        }
    }

    fn create(&mut self, recording: &Recording) -> io::Result<(Name, File)> {
        let began = recording.began.strftime("%Y%m%dT%H%M%SZ").to_string();
        for _ in 0..NAME_ATTEMPTS {
            self.made += 1;
            let name = Name { began: began.clone(), number: self.made, room: recording.room.clone() };
            match File::create_new(self.directory.join(name.to_string())) {
                Ok(file) => return Ok((name, file)),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
        Err(io::ErrorKind::AlreadyExists.into())
    }

    fn write(&mut self, name: &Name) {
        let Some(running) = self.running.get_mut(name) else { return };
        let is_last = {
            let mut inbox = lock(&running.recording.inbox);
            std::mem::swap(&mut inbox.waiting, &mut running.buffer);
            inbox.complete || inbox.cut
        };
        let length = running.buffer.len();
        let bytes = length as u64;
        self.make_place(bytes, Some(name));
        if let Some(running) = self.running.get_mut(name) {
            let result = running.file.write_all(&running.buffer);
            let written = match &result {
                Ok(()) => bytes,
                Err(_) => running.file.metadata().map_or(0, |metadata| metadata.len().saturating_sub(running.bytes)),
            };
            running.bytes += written;
            running.recording.written.store(running.bytes, Ordering::Relaxed);
            self.total_bytes += written;
            self.shared.written_bytes.fetch_add(written, Ordering::Relaxed);
            if let Err(error) = result {
                self.end_early(name, &error);
            }
        }
        self.shared.waiting_bytes.fetch_sub(length, Ordering::Relaxed);
        if let Some(running) = self.running.get_mut(name) {
            running.buffer.clear();
            if is_last {
                self.finish(name);
            }
        }
    }

    /// Deletes the oldest recordings until this many bytes of this recording fit. If there is none to delete, ends the
    /// largest, which may be this one.
    fn make_place(&mut self, bytes: u64, of: Option<&Name>) {
        while self.total_bytes + bytes > self.limit_bytes && of.is_none_or(|of| self.running.contains_key(of)) {
            if let Some((oldest, length)) = self.finished.pop_first() {
                self.is_news = true;
                self.total_bytes -= length;
                let path = self.directory.join(oldest.to_string());
                match fs::remove_file(&path) {
                    Ok(()) => log::info!("deleted {}: the recordings exceeded --record-limit", path.display()),
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    Err(error) => log::warn!("{} can't be deleted: {error}", path.display()),
                }
            } else {
                let largest = self.running.iter().max_by_key(|(_, running)| running.bytes);
                let Some(largest) = largest.map(|(name, _)| name.clone()) else { return };
                self.end_early(&largest, &"the recordings have reached their limit (--record-limit MIB)");
            }
        }
    }

    fn end_early(&mut self, name: &Name, why: &dyn fmt::Display) {
        if let Some(running) = self.running.get(name) {
            self.cut(&running.recording, why);
            self.finish(name);
        }
    }

    /// Ends a recording early.
    fn cut(&self, recording: &Recording, why: &dyn fmt::Display) {
        let mut inbox = lock(&recording.inbox);
        self.shared.waiting_bytes.fetch_sub(inbox.waiting.len(), Ordering::Relaxed);
        inbox.waiting = Vec::new();
        let is_news = !std::mem::replace(&mut inbox.cut, true);
        drop(inbox);
        if is_news {
            self.shared.ended_early.fetch_add(1, Ordering::Relaxed);
            log::warn!("the recording of room {} ends early: {why}", recording.room);
        }
    }

    fn finish(&mut self, name: &Name) {
        if let Some(running) = self.running.remove(name) {
            self.finished.insert(name.clone(), running.bytes);
            self.is_news = true;
        }
    }
}

/// The recordings in a directory with their sizes, recognised by name and first bytes.
fn finished(directory: &Path) -> io::Result<BTreeMap<Name, u64>> {
    let mut finished = BTreeMap::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let Some(name) = entry.file_name().to_str().and_then(Name::parse) else { continue };
        let Ok(metadata) = entry.metadata() else { continue };
        if metadata.is_file() && begins_like_a_recording(&entry.path()) {
            finished.insert(name, metadata.len());
        }
    }
    Ok(finished)
}

fn begins_like_a_recording(path: &Path) -> bool {
    let mut magic = [0; journal::MAGIC.len()];
    File::open(path).and_then(|mut file| file.read_exact(&mut magic)).is_ok() && magic == *journal::MAGIC
}

/// A thread that panicked left plain bytes and flags behind.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::game::{RoomInfo, Tick};
    use crate::games::Relay;
    use crate::journal::{End, Entry, Journal, Recorder};
    use crate::room::{Input, Room};

    struct Directory(PathBuf);

    impl Directory {
        fn new(name: &str) -> Directory {
            let directory = std::env::temp_dir().join(format!("rtcade-{name}-{}", std::process::id()));
            let _ = fs::remove_dir_all(&directory);
            Directory(directory.join("recordings"))
        }

        fn writer(&self, limit_bytes: u64, waiting_bytes_max: usize) -> Writer {
            let record = Record { directory: self.0.clone(), limit_bytes };
            Writer::new(&record, Arc::new(Shared::new(waiting_bytes_max))).expect("a directory of ours")
        }

        /// Rooms and sizes, as [`Name`]s are ordered.
        fn recordings(&self) -> Vec<(String, u64)> {
            finished(&self.0).expect("it can be read").into_iter().map(|(name, bytes)| (name.room, bytes)).collect()
        }
    }

    impl Drop for Directory {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(self.0.parent().expect("it has one"));
        }
    }

    fn header(room: &str) -> Header {
        Header::new::<Relay>(&RoomInfo::new(room, 1), 4, Duration::ZERO)
    }

    /// A recording that begins as one does and has so many bytes.
    fn record(writer: &Writer, room: &str, bytes: usize) -> Sink {
        let mut sink = writer.shared.open(&header(room));
        let mut block = journal::MAGIC.to_vec();
        block.resize(bytes, 0);
        sink(&block);
        sink
    }

    #[test]
    fn a_name_says_room_time_and_number_and_sorts_by_age() {
        let text = "my-room-20261121T124031Z-10.journal";
        let name = Name::parse(text).expect("one of ours");
        assert_eq!((name.room.as_str(), name.number, name.to_string().as_str()), ("my-room", 10, text));
        let younger = Name::parse("a-20261121T124032Z-9.journal").expect("one of ours");
        assert!(Name::parse("z-20261121T124031Z-9.journal").expect("one of ours") < name && name < younger);
        for other in [
            "",
            "room.journal",
            "room-1.journal",
            "room-20261121T124031Z-.journal",
            "room-20261121T124031Z-1.txt",
            "room-20261121T124031-1.journal",
            "room-2026112T1124031Z-1.journal",
            "room-20261121T12ö1Z-1.journal",
        ] {
            assert_eq!(Name::parse(other), None, "{other}");
        }
    }

    #[test]
    fn each_tick_is_on_disk_before_its_hash_and_the_end_at_last() {
        let directory = Directory::new("written");
        let mut writer = directory.writer(u64::MAX, usize::MAX);
        let mut rooms = ["a", "b", "a"].map(|name| {
            let header = header(name);
            (Recorder::new(&header, writer.shared.open(&header)), Room::new(&header.room, Relay, 4))
        });
        let last_entries = || {
            let files = fs::read_dir(&directory.0).unwrap().map(|entry| fs::read(entry.unwrap().path()).unwrap());
            let last = |file: Vec<u8>| Journal::parse(&file).unwrap().entries().last().unwrap().unwrap();
            files.map(last).collect::<Vec<_>>()
        };
        for number in 1..=5 {
            for (recorder, room) in &mut rooms {
                let tick = Input::Tick(Tick { number, missed: 0 });
                recorder.note_input(&tick);
                room.handle_input(tick);
            }
            writer.write_waiting();
            assert_eq!(last_entries(), vec![Entry::Told(Input::Tick(Tick { number, missed: 0 })); 3]);
            for (recorder, room) in &mut rooms {
                while let Some(output) = room.poll_output() {
                    recorder.note_output(&output);
                }
                recorder.end_tick(room);
            }
        }
        assert_eq!(writer.shared.figures().running, 3);
        drop(rooms);
        writer.write_waiting();
        assert_eq!(last_entries(), vec![Entry::Ended(End::Closed); 3]);
        let bytes: u64 = directory.recordings().iter().map(|(_, bytes)| bytes).sum();
        assert_eq!(writer.shared.figures(), Figures { running: 0, written_bytes: bytes, ended_early: 0 });
        assert_eq!((writer.shared.waiting_bytes.load(Ordering::Relaxed), writer.total_bytes), (0, bytes));
    }

    #[test]
    fn past_the_limit_the_oldest_are_deleted_those_of_earlier_runs_first() {
        let directory = Directory::new("deleted");
        fs::create_dir_all(&directory.0).unwrap();
        let magic = [&journal::MAGIC[..], &[0; 292]].concat();
        for (name, bytes) in [
            ("earlier-20200101T000000Z-1.journal", &magic[..]),
            ("earliest-20190101T000000Z-2.journal", &magic[..]),
            ("diary-20180101T000000Z-1.journal", b"Dear diary, this is no recording"),
            ("notes.journal", &magic[..]),
        ] {
            fs::write(directory.0.join(name), bytes).unwrap();
        }
        let mut writer = directory.writer(1_000, usize::MAX);
        let mut check = |room: &str, bytes: usize, expected: &[(&str, u64)]| {
            drop(record(&writer, room, bytes));
            writer.write_waiting();
            let expected: Vec<_> = expected.iter().map(|&(room, bytes)| (room.to_owned(), bytes)).collect();
            assert_eq!(directory.recordings(), expected);
        };
        check("a", 400, &[("earliest", 300), ("earlier", 300), ("a", 400)]);
        check("b", 100, &[("earlier", 300), ("a", 400), ("b", 100)]);
        check("c", 700, &[("b", 100), ("c", 700)]);
        check("d", 199, &[("b", 100), ("c", 700), ("d", 199)]);
        assert!(directory.0.join("diary-20180101T000000Z-1.journal").exists());
        assert!(directory.0.join("notes.journal").exists());
        drop(writer);
        directory.writer(500, usize::MAX).write_waiting();
        assert_eq!(directory.recordings(), [("d".to_owned(), 199)], "a lower limit holds from the start");
    }

    #[test]
    fn where_nothing_can_be_deleted_the_largest_ends() {
        let directory = Directory::new("largest");
        let mut writer = directory.writer(1_000, usize::MAX);
        let mut sinks = [("a", 300), ("b", 400), ("c", 200)].map(|(room, bytes)| record(&writer, room, bytes));
        writer.write_waiting();
        sinks[0](&[0; 100]);
        writer.write_waiting();
        assert_eq!(writer.shared.figures(), Figures { running: 3, written_bytes: 1_000, ended_early: 0 });
        // As b ends, it can be deleted.
        sinks[2](&[0; 1]);
        sinks[1](&[0; 1]);
        writer.write_waiting();
        assert_eq!(directory.recordings(), [("a".to_owned(), 400), ("c".to_owned(), 201)]);
        sinks[1](&[0; 900]);
        writer.write_waiting();
        assert_eq!(writer.shared.figures(), Figures { running: 2, written_bytes: 1_001, ended_early: 1 });
        // Alone, it stays as it was when it ended.
        drop(sinks);
        let mut last = record(&writer, "last", 999);
        writer.write_waiting();
        last(&[0; 2]);
        writer.write_waiting();
        assert_eq!(directory.recordings(), [("last".to_owned(), 999)]);
        assert_eq!(writer.shared.figures().ended_early, 2);
        assert_eq!(writer.shared.waiting_bytes.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn what_the_disk_does_not_take_in_time_ends_and_others_go_on() {
        let directory = Directory::new("slow");
        let mut writer = directory.writer(u64::MAX, 100);
        let mut a = record(&writer, "a", 60);
        a(&[0; 41]);
        a(&[0; 1]);
        let mut b = record(&writer, "b", 40);
        writer.write_waiting();
        assert_eq!(directory.recordings(), [("a".to_owned(), 60), ("b".to_owned(), 40)]);
        b(&[0; 100]);
        writer.write_waiting();
        assert_eq!(directory.recordings(), [("a".to_owned(), 60), ("b".to_owned(), 140)]);
        assert_eq!(writer.shared.figures(), Figures { running: 1, written_bytes: 200, ended_early: 1 });
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_full_disk_ends_recordings_and_nothing_else() {
        let directory = Directory::new("full");
        let mut writer = directory.writer(u64::MAX, 1_000);
        let mut sinks = ["a", "b"].map(|room| record(&writer, room, 10));
        writer.write_waiting();
        let a = writer.running.values_mut().next().unwrap();
        a.file = File::options().write(true).open("/dev/full").unwrap();
        sinks.iter_mut().for_each(|sink| sink(&[0; 90]));
        writer.write_waiting();
        assert_eq!(directory.recordings(), [("a".to_owned(), 10), ("b".to_owned(), 100)]);
        assert_eq!(writer.shared.figures(), Figures { running: 1, written_bytes: 110, ended_early: 1 });
        fs::remove_dir_all(&directory.0).unwrap();
        let mut c = record(&writer, "c", 10);
        writer.write_waiting();
        c(&[0; 2_000]);
        assert_eq!(writer.shared.figures(), Figures { running: 1, written_bytes: 110, ended_early: 2 });
        assert_eq!(writer.shared.waiting_bytes.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn a_thread_that_failed_is_no_slow_disk_and_ends_recordings_alone() {
        let shared = Arc::new(Shared::new(1_000));
        let (fail, told) = mpsc::channel::<()>();
        let recordings = Recordings::spawn(PathBuf::new(), Arc::clone(&shared), move |shared| {
            let _held = shared.opened.lock();
            let _ = told.recv();
            panic!("of the test's own will");
        })
        .expect("spawned");
        assert_eq!(shared.obstacle(1_001), Some("the disk is too slow"));
        assert_eq!(shared.obstacle(1_000), None);
        drop(fail);
        while let Err(mpsc::TryRecvError::Empty) = recordings.ended.try_recv() {
            thread::yield_now();
        }
        assert_eq!(shared.obstacle(0), Some("the thread that writes recordings has failed"));
        let mut sink = recordings.opener()(&header("a"));
        for _ in 0..100 {
            sink(&[0; 100]);
        }
        assert_eq!(recordings.figures(), Figures { running: 0, written_bytes: 0, ended_early: 1 });
        assert_eq!(shared.waiting_bytes.load(Ordering::Relaxed), 0, "what nobody writes is not kept");
        drop((sink, recordings));
    }

    #[test]
    fn two_servers_of_one_second_take_two_names() {
        let directory = Directory::new("names");
        let mut writers = [directory.writer(u64::MAX, 100), directory.writer(u64::MAX, 100)];
        let began = Timestamp::UNIX_EPOCH;
        for writer in &mut writers {
            let recording = Arc::new(Recording {
                room: "a".to_owned(),
                began,
                written: AtomicU64::new(0),
                inbox: Mutex::default(),
            });
            lock(&writer.shared.opened).push(recording);
            writer.write_waiting();
        }
        let names: Vec<String> =
            writers.iter().map(|writer| writer.running.keys().next().unwrap().to_string()).collect();
        assert_eq!(names, ["a-19700101T000000Z-1.journal", "a-19700101T000000Z-2.journal"]);
    }
}
