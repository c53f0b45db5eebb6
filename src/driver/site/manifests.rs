//! Manifests of files: the SHA-256 of a file and of each of its pieces, by which pages load it from each other.
//!
//! Hashing a file takes longer than a tick, so a separate thread does it: a request for a manifest that does not exist
//! yet gets status 202, and the client asks again.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver, SyncSender, TrySendError};
use std::thread;
use std::time::SystemTime;

use aws_lc_rs::digest::{Context, Digest, SHA256};
use serde::Serialize;
use tungstenite::Bytes;

use super::super::http::{Body, Coding, Representation, Request, Response, Status};
use super::{Found, content_of};
use crate::limits::{FILE_CHUNK_BYTES, MANIFESTS, MANIFESTS_QUEUED, PIECE_BYTES, PIECES};

/// What a client gets of `/file?pieces`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Manifest {
    sha256: String,
    bytes: u64,
    piece_bytes: u64,
    pieces: Vec<String>,
}

/// The manifests of the files that were last asked for.
#[derive(Debug, Default)]
pub(super) struct Manifests {
    entries: BTreeMap<PathBuf, Entry>,
    /// Counts the requests.
    clock: u64,
    hasher: Option<Hasher>,
}

#[derive(Debug)]
struct Entry {
    /// The entity tag of the file.
    tag: String,
    used: u64,
    state: State,
}

#[derive(Debug)]
enum State {
    Hashing,
    Ready(Bytes),
    Failed(io::Error),
}

#[derive(Debug)]
struct Job {
    path: PathBuf,
    tag: String,
    file: File,
}

#[derive(Debug)]
struct Hashed {
    path: PathBuf,
    tag: String,
    manifest: io::Result<Bytes>,
}

/// The thread that hashes; it ends when this is dropped.
#[derive(Debug)]
struct Hasher {
    jobs: SyncSender<Job>,
    hashed: Receiver<Hashed>,
}

impl Hasher {
    fn start() -> io::Result<Hasher> {
        let (jobs, queue) = mpsc::sync_channel::<Job>(MANIFESTS_QUEUED);
        let (results, hashed) = mpsc::channel();
        let run = move || {
            for Job { path, tag, file } in queue {
                let json = |manifest| serde_json::to_vec(&manifest).expect("text and numbers are JSON").into();
                if results.send(Hashed { path, tag, manifest: hash(&file).map(json) }).is_err() {
                    return;
                }
            }
        };
        thread::Builder::new().name("hasher".to_owned()).spawn(run)?;
        Ok(Hasher { jobs, hashed })
    }
}

impl Manifests {
    /// Answers a request for the manifest of a file.
    ///
    /// # Errors
    /// The file can't be read.
    pub(super) fn answer(&mut self, mut found: Found, request: &Request) -> io::Result<Response> {
        let file = found.open()?;
        if content_of(&found.path, &file)?.1 != Coding::Identity {
            const SENTENCE: &str = "The file is served compressed only, and so has no pieces: request all of it.";
            return Ok(Response::sentence(Status::NotAcceptable, SENTENCE));
        }
        if found.metadata.len() > PIECE_BYTES * PIECES {
            let sentence = format!("Only files of at most {} bytes have pieces: request a part.", PIECE_BYTES * PIECES);
            return Ok(Response::sentence(Status::ContentTooLarge, &sentence));
        }
        let (tag, modified) = (found.tag(Coding::Identity), found.metadata.modified().ok());
        let Some(manifest) = self.manifest(&found.path, &tag, file)? else {
            let sentence = "The file is being hashed: ask again in a moment.";
            return Ok(Response::sentence(Status::Accepted, sentence).field("Retry-After", "1"));
        };
        let representation = Representation {
            content_type: "application/json".into(),
            coding: Coding::Identity,
            is_negotiated: false,
            tag: format!("{}-pieces\"", tag.trim_end_matches('"')),
            modified,
            body: Body::Bytes(manifest),
        };
        representation.respond(request, SystemTime::now())
    }

    /// The manifest of a version of a file; none while it is being hashed.
    fn manifest(&mut self, path: &Path, tag: &str, file: File) -> io::Result<Option<Bytes>> {
        self.collect();
        self.clock += 1;
        if let Some(entry) = self.entries.get_mut(path).filter(|entry| entry.tag == tag) {
            entry.used = self.clock;
            match std::mem::replace(&mut entry.state, State::Hashing) {
                State::Hashing => return Ok(None),
                State::Ready(manifest) => {
                    entry.state = State::Ready(manifest.clone());
                    return Ok(Some(manifest));
                }
                State::Failed(error) => {
                    self.entries.remove(path);
                    return Err(error);
                }
            }
        }
        let hasher = match &mut self.hasher {
            Some(hasher) => hasher,
            none => none.insert(Hasher::start()?),
        };
        match hasher.jobs.try_send(Job { path: path.to_owned(), tag: tag.to_owned(), file }) {
            Ok(()) => self.insert(path, Entry { tag: tag.to_owned(), used: self.clock, state: State::Hashing }),
            Err(TrySendError::Full(_)) => {}
            Err(TrySendError::Disconnected(_)) => {
                *self = Manifests::default();
                return Err(io::Error::other("the thread that hashes files has failed"));
            }
        }
        Ok(None)
    }

    /// Takes what the thread has hashed.
    fn collect(&mut self) {
        let Some(hasher) = &self.hasher else { return };
        for Hashed { path, tag, manifest } in hasher.hashed.try_iter() {
            let Some(entry) = self.entries.get_mut(&path).filter(|entry| entry.tag == tag) else { continue };
            entry.state = manifest.map_or_else(State::Failed, State::Ready);
        }
    }

    /// Inserts an entry, if necessary instead of the one that was not asked for for the longest time.
    fn insert(&mut self, path: &Path, entry: Entry) {
        self.entries.insert(path.to_owned(), entry);
        let is_idle = |entry: &Entry| !matches!(entry.state, State::Hashing);
        while self.entries.len() > MANIFESTS
            && let Some((oldest, _)) =
                self.entries.iter().filter(|(_, entry)| is_idle(entry)).min_by_key(|(_, entry)| entry.used)
        {
            let oldest = oldest.clone();
            self.entries.remove(&oldest);
        }
    }
}

/// Hashes a file in pieces.
///
/// # Errors
/// The file can't be read, or changes meanwhile.
fn hash(mut file: &File) -> io::Result<Manifest> {
    let version = |file: &File| Ok::<_, io::Error>((file.metadata()?.len(), file.metadata()?.modified()?));
    let before = version(file)?;
    let mut whole = Context::new(&SHA256);
    let mut pieces = Vec::new();
    let mut bytes = 0;
    let mut buffer = vec![0; FILE_CHUNK_BYTES];
    loop {
        let mut piece = Context::new(&SHA256);
        let mut left = PIECE_BYTES;
        while left > 0 {
            let wanted = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            let read = file.read(&mut buffer[..wanted])?;
            if read == 0 {
                break;
            }
            whole.update(&buffer[..read]);
            piece.update(&buffer[..read]);
            left -= read as u64;
        }
        if left < PIECE_BYTES {
            pieces.push(hex(&piece.finish()));
            bytes += PIECE_BYTES - left;
        }
        if left > 0 || bytes > before.0 {
            break;
        }
    }
    if (bytes, version(file)?) != (before.0, before) {
        return Err(io::Error::other("the file changes while it is hashed"));
    }
    Ok(Manifest { sha256: hex(&whole.finish()), bytes, piece_bytes: PIECE_BYTES, pieces })
}

fn hex(digest: &Digest) -> String {
    digest.as_ref().iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
