//! Games in JavaScript: reading their files, and serving them.

use std::fs;
use std::path::{Path, PathBuf};

use super::replay::{self, Recording};
use super::{ExitCode, Serve, complain, start};
use crate::driver::Options;
use crate::game::RoomInfo;
use crate::script::{Checked, CurrentProgram, Failure, Program, Script, Scripts, load};

/// The longest module that is read.
const MODULE_BYTES: u64 = crate::limits::PROGRAM_BYTES as u64;

/// Whether a file is a game, by its name.
pub(super) fn is_script(path: impl AsRef<Path>) -> bool {
    path.as_ref().extension().is_some_and(|extension| extension == "js" || extension == "mjs")
}

/// A game's directory and its first module.
#[derive(Clone, Debug)]
pub(super) struct Source {
    pub(super) directory: PathBuf,
    pub(super) entry: String,
}

impl Source {
    /// # Errors
    /// There is no such file; a sentence.
    pub(super) fn new(path: &Path) -> Result<Source, String> {
        let cannot = |error: &dyn std::fmt::Display| format!("the game {} can't be read: {error}", path.display());
        let path = path.canonicalize().map_err(|error| cannot(&error))?;
        let name = path.file_name().and_then(|name| name.to_str()).ok_or_else(|| cannot(&"its name is not UTF-8"))?;
        let directory = path.parent().map(Path::to_owned).unwrap_or_default();
        Ok(Source { entry: name.to_owned(), directory })
    }

    /// Reads and loads the modules.
    pub(super) fn load(&self) -> Result<(Program, Checked), Failure> {
        let directory = self.directory.clone();
        load(&self.entry, move |path| read(&directory, path))
    }

    /// The directory of static files: that of the game's name `public`, if there is one.
    pub(super) fn public(&self) -> Option<PathBuf> {
        Some(self.directory.join("public")).filter(|public| public.is_dir())
    }
}

/// Reads a module. Links must not lead out of the directory.
pub(super) fn read(directory: &Path, path: &str) -> Result<String, String> {
    let sentence = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::NotFound => "there is no such file".to_owned(),
        _ => format!("the file can't be read: {error}"),
    };
    let file = directory.join(path).canonicalize().map_err(sentence)?;
    if !file.starts_with(directory) {
        return Err("it is outside of the game's directory".to_owned());
    }
    if fs::metadata(&file).map_err(sentence)?.len() > MODULE_BYTES {
        return Err(format!("the file has more than {MODULE_BYTES} bytes"));
    }
    fs::read_to_string(&file).map_err(sentence)
}

/// The lines that tell where a game failed.
pub(super) fn describe(failure: &Failure) -> String {
    format!("the game can't be loaded: {}", failure.with_calls())
}

/// The server's options for a game, where none are given.
pub(super) fn settle(serve: &mut Serve, source: &Source, checked: Checked) {
    serve.network.public = serve.network.public.take().or_else(|| source.public());
    let of_game = checked.tick.and_then(|tick| u32::try_from(tick.as_millis()).ok());
    serve.tick_ms = serve.tick_ms.or(of_game);
}

/// Reads and loads a game. The error is the exit status.
pub(super) fn loaded(path: &Path) -> Result<(Source, Program, Checked), ExitCode> {
    let loaded = Source::new(path).and_then(|source| match source.load() {
        Ok((program, checked)) => Ok((source, program, checked)),
        Err(failure) => Err(describe(&failure)),
    });
    loaded.map_err(|sentence| {
        complain(&sentence);
        ExitCode::from(2)
    })
}

/// Replays recordings with another game than the one in them.
pub(super) fn replay(arguments: &replay::Arguments) -> ExitCode {
    let (_, program, _) = match arguments.game.as_deref().map(loaded) {
        Some(Ok(loaded)) => loaded,
        Some(Err(status)) => return status,
        None => return ExitCode::SUCCESS,
    };
    let scripts = Scripts::new(CurrentProgram::new(program), |_| ());
    replay::run(arguments, |recording: &Recording<'_>, out| {
        if !recording.is_of::<Script>() {
            return Err(recording.is_of_another_game(&[std::any::type_name::<Script>()]));
        }
        recording.replay(|room: &RoomInfo| scripts.create(&RoomInfo { program: Vec::new(), ..room.clone() }), out)
    })
}

/// Runs the server with a game in JavaScript.
pub(super) fn serve(path: &Path, mut serve: Serve, again: fn() -> Result<Serve, String>) -> ExitCode {
    let (source, program, checked) = match loaded(path) {
        Ok(loaded) => loaded,
        Err(status) => return status,
    };
    settle(&mut serve, &source, checked);
    let title = format!("the game {}", path.display());
    let scripts = Scripts::new(CurrentProgram::new(program), |_| ());
    start(serve, again, &title, Options::default().page, move |room| scripts.create(room), |_| ())
}
