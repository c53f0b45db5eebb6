//! `rtcade dev`: serves a game in JavaScript, and keeps rooms and pages up to date with its files.

#![expect(clippy::disallowed_methods, reason = "the watcher of files is a thread of its own")]

use std::collections::BTreeMap;
use std::io::{self, IsTerminal, Write};
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, SystemTime};

use clap::Args;
use qrcode::QrCode;
use qrcode::render::unicode;

use super::script::{Source, describe, settle};
use super::{ExitCode, Serve, complain, start};
use crate::driver::development::Development;
use crate::driver::{Handle, Options};
use crate::script::{CurrentProgram, Program, Report, Scripts, reload_message};

/// How often files are looked at. Their changes are found by time and size: file systems of containers and of other
/// machines don't report them.
const LOOK_INTERVAL: Duration = Duration::from_millis(150);
/// The files of pages that are looked at, and how deep their directories may be.
const FILES: usize = 2_000;
const DEPTH: usize = 8;

#[derive(Debug, Args)]
pub(super) struct Dev {
    /// The game: a file, or a directory with a game.js.
    #[arg(value_name = "FILE.js|DIR", default_value = "game.js")]
    game: PathBuf,
    #[command(flatten)]
    serve: Serve,
}

/// Runs the server until it is stopped.
pub(super) fn run(Dev { game, mut serve }: Dev, again: fn() -> Result<Serve, String>) -> ExitCode {
    let game = if game.is_dir() { game.join("game.js") } else { game };
    let source = match Source::new(&game) {
        Ok(source) => source,
        Err(sentence) => {
            complain(&format!("{sentence}: rtcade new makes a game"));
            return ExitCode::from(2);
        }
    };
    let development = Arc::new(Development::default());
    let current = CurrentProgram::default();
    let mut program = None;
    match source.load() {
        Ok((loaded, checked)) => {
            settle(&mut serve, &source, checked);
            current.replace(loaded.clone());
            program = Some(loaded);
        }
        // The error is on the pages until it is mended.
        Err(failure) => {
            complain(&describe(&failure));
            development.show(NOT_LOADED, failure.with_calls());
            serve.network.public = serve.network.public.take().or_else(|| source.public());
        }
    }
    serve.dev = true;
    let title = format!("the game {} (loaded again when it changes)", game.display());
    let (reports, reported) = mpsc::channel();
    let scripts = Scripts::new(current.clone(), move |report| {
        // The watcher ends with the process.
        let _ = reports.send(report.clone());
    });
    let public = serve.network.public.clone();
    let page = Options::default().page;
    start(
        serve,
        again,
        &title,
        page,
        move |room| scripts.create(room),
        |driver| {
            driver.develop(Arc::clone(&development));
            show_to_phones(driver.local_addr(), driver.interfaces());
            let handle = driver.handle();
            // Pages that are opened until there is a game have no room.
            let are_pages_old = program.is_none();
            let files = BTreeMap::new();
            let watcher = Watcher { source, public, current, handle, development, program, files, are_pages_old };
            thread::spawn(move || watcher.run(&reported));
        },
    )
}

/// Prints the address of a room as a QR code, if other devices may reach it and somebody may see it.
fn show_to_phones(listen: SocketAddr, interfaces: &[IpAddr]) {
    let ip = interfaces.iter().find(|ip| ip.is_ipv4() && !ip.is_loopback());
    let (Some(ip), true) = (ip, listen.ip().is_unspecified() && io::stdout().is_terminal()) else { return };
    let url = format!("http://{ip}:{}/r/{ROOM}", listen.port());
    if let Ok(code) = QrCode::new(&url) {
        let picture = code.render::<unicode::Dense1x2>().quiet_zone(true).build();
        // The address alone is printed with the others.
        let _ = writeln!(io::stdout(), "{picture}\n{url}");
    }
}

/// The room that the QR code leads to.
const ROOM: &str = "dev";
const NOT_LOADED: &str = "The game can't be loaded. The rooms go on with the last one that could.";

struct Watcher {
    source: Source,
    public: Option<PathBuf>,
    current: CurrentProgram,
    handle: Handle,
    development: Arc<Development>,
    /// The last one that could be loaded.
    program: Option<Program>,
    /// Empty before the first look.
    files: BTreeMap<PathBuf, (Option<SystemTime>, u64)>,
    /// Whether pages have to be loaded anew with the next game that can be loaded.
    are_pages_old: bool,
}

impl Watcher {
    fn run(mut self, reported: &Receiver<Report>) {
        loop {
            thread::sleep(LOOK_INTERVAL);
            for report in reported.try_iter() {
                self.are_pages_old |= report.is_closed;
                self.note(&report);
            }
            let files = self.look();
            if files == self.files {
                continue;
            }
            let changed: Vec<PathBuf> = files
                .iter()
                .filter(|(path, state)| self.files.get(*path) != Some(*state))
                .map(|(path, _)| path.clone())
                .chain(self.files.keys().filter(|path| !files.contains_key(*path)).cloned())
                .collect();
            let is_first_look = std::mem::replace(&mut self.files, files).is_empty();
            let is_page = |path: &PathBuf| self.public.as_ref().is_some_and(|public| path.starts_with(public));
            self.are_pages_old |= !is_first_look && changed.iter().any(is_page);
            // Pages that import what can't be loaded would stand still, while their rooms play on.
            if self.load() && self.are_pages_old {
                self.are_pages_old = false;
                self.development.reload_pages();
            }
        }
    }

    /// Returns whether the game could be loaded.
    fn load(&mut self) -> bool {
        let loaded = self.source.load().or_else(|_| {
            // A file may have been read while it was written.
            thread::sleep(LOOK_INTERVAL);
            self.source.load()
        });
        match loaded {
            Ok((changed, _)) => {
                self.development.clear();
                if self.program.as_ref() != Some(&changed) {
                    ::log::info!("{} has changed", self.source.entry);
                    self.current.replace(changed.clone());
                    self.reload_rooms(&changed);
                    self.program = Some(changed);
                }
                true
            }
            Err(failure) => {
                ::log::error!("{}", describe(&failure));
                self.development.show(NOT_LOADED, failure.with_calls());
                false
            }
        }
    }

    fn reload_rooms(&self, program: &Program) {
        let Ok(rooms) = self.handle.rooms() else { return };
        let message = reload_message(program);
        for room in rooms.recv().unwrap_or_default() {
            if let Err(error) = self.handle.external(&room.name, message.clone()) {
                let text = format!("The room {} keeps its game: {error}. Restart the server.", room.name);
                self.development.show("The game can't be replaced.", text);
            }
        }
    }

    fn note(&self, report: &Report) {
        let Some(failure) = &report.failure else { return };
        let what = if report.is_closed { "was closed" } else { "has a problem" };
        let title = format!("The room {} {what}.", report.room);
        self.development.show(&title, failure.with_calls());
    }

    /// The files of the game and of its pages.
    fn look(&self) -> BTreeMap<PathBuf, (Option<SystemTime>, u64)> {
        let mut files = BTreeMap::new();
        look_into(&self.source.directory, DEPTH, &mut files);
        if let Some(public) = self.public.as_ref().filter(|public| !public.starts_with(&self.source.directory)) {
            look_into(public, DEPTH, &mut files);
        }
        files
    }
}

fn look_into(directory: &Path, depth: usize, files: &mut BTreeMap<PathBuf, (Option<SystemTime>, u64)>) {
    let Ok(entries) = std::fs::read_dir(directory) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let is_left_out = name.as_encoded_bytes().starts_with(b".") || name == "node_modules";
        let Ok(metadata) = entry.metadata() else { continue };
        if is_left_out || files.len() >= FILES {
            continue;
        }
        if metadata.is_dir() && depth > 0 {
            look_into(&entry.path(), depth - 1, files);
        } else if metadata.is_file() {
            files.insert(entry.path(), (metadata.modified().ok(), metadata.len()));
        }
    }
}
