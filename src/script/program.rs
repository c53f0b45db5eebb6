//! The modules of a game in JavaScript, and how they find each other.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;
use std::io::{Read, Write};
use std::rc::Rc;

use flate2::Compression;
use flate2::read::ZlibDecoder;
use flate2::write::ZlibEncoder;
use rquickjs::loader::{ImportAttributes, Loader, Resolver};
use rquickjs::module::Declared;
use rquickjs::{Ctx, Error, Module};

use crate::limits;

/// The modules that every program may import, by name.
const BUILT_IN: [(&str, &str); 2] = [
    ("rtcade/game", include_str!("../../client-js/dist/rtcade/game.js")),
    ("rtcade/math", include_str!("../../client-js/dist/rtcade/math.js")),
];

/// The modules of a game, with their text.
///
/// The paths of modules are relative to the game's directory, with `/` between their parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    entry: String,
    modules: BTreeMap<String, String>,
    /// What each recording of a room begins with.
    encoded: Vec<u8>,
}

/// Why modules are no program.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ProgramError {
    /// The entry is not among the modules.
    NoEntry(String),
    /// Together the modules exceed [`limits::PROGRAM_BYTES`].
    TooLarge(usize),
    /// A recording has something else in place of a program.
    Unreadable,
}

impl fmt::Display for ProgramError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ProgramError::NoEntry(entry) => write!(f, "there is no module {entry}"),
            ProgramError::TooLarge(bytes) => {
                write!(f, "the modules have {bytes} bytes; a game may have {}", limits::PROGRAM_BYTES)
            }
            ProgramError::Unreadable => f.write_str("it has no readable program"),
        }
    }
}

impl std::error::Error for ProgramError {}

impl Program {
    /// Returns the program that starts with the module `entry`. `modules` has the text of each module by its path.
    ///
    /// # Errors
    /// The entry is missing, or the modules exceed [`limits::PROGRAM_BYTES`].
    pub fn new(entry: &str, modules: BTreeMap<String, String>) -> Result<Program, ProgramError> {
        if !modules.contains_key(entry) {
            return Err(ProgramError::NoEntry(entry.to_owned()));
        }
        match modules.iter().map(|(path, text)| path.len() + text.len()).sum() {
            0..=limits::PROGRAM_BYTES => {
                let encoded = encode(entry, &modules);
                Ok(Program { entry: entry.to_owned(), modules, encoded })
            }
            bytes => Err(ProgramError::TooLarge(bytes)),
        }
    }

    /// Returns the path of the module that the game starts with.
    #[must_use]
    pub fn entry(&self) -> &str {
        &self.entry
    }

    /// Returns the modules as recordings have them, deflated.
    pub(super) fn encoded(&self) -> &[u8] {
        &self.encoded
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Program, ProgramError> {
        let mut plain = Vec::new();
        // Beside the modules it has their lengths.
        let most = 2 * limits::PROGRAM_BYTES as u64;
        let inflated = ZlibDecoder::new(bytes).take(most).read_to_end(&mut plain);
        inflated.map_err(|_| ProgramError::Unreadable)?;
        let (entry, modules): (String, _) = postcard::from_bytes(&plain).map_err(|_| ProgramError::Unreadable)?;
        Program::new(&entry, modules)
    }
}

fn encode(entry: &str, modules: &BTreeMap<String, String>) -> Vec<u8> {
    let plain = postcard::to_extend(&(entry, modules), Vec::new()).expect("strings are encoded into a vector");
    let mut deflated = ZlibEncoder::new(Vec::new(), Compression::default());
    deflated.write_all(&plain).and_then(|()| deflated.finish()).expect("a vector takes any bytes")
}

/// Reads the text of a module, by its path in the game's directory. The error is a sentence.
pub(super) type Reader = Box<dyn FnMut(&str) -> Result<String, String>>;

/// Resolves and loads the modules of a program, and those that are built in. Clones share them.
#[derive(Clone)]
pub(super) struct Modules(Rc<RefCell<Shelf>>);

struct Shelf {
    built_in: Vec<(&'static str, &'static str)>,
    modules: BTreeMap<String, String>,
    /// Finds modules that are not on the shelf yet.
    read: Option<Reader>,
}

impl Modules {
    pub(super) fn of(program: &Program) -> Modules {
        Modules(Rc::new(RefCell::new(Shelf {
            built_in: BUILT_IN.to_vec(),
            modules: program.modules.clone(),
            read: None,
        })))
    }

    /// Reads modules when they are imported.
    pub(super) fn found_by(read: Reader) -> Modules {
        Modules(Rc::new(RefCell::new(Shelf {
            built_in: BUILT_IN.to_vec(),
            modules: BTreeMap::new(),
            read: Some(read),
        })))
    }

    /// Adds a module that every other one may import.
    pub(super) fn with_built_in(self, module: (&'static str, &'static str)) -> Modules {
        self.0.borrow_mut().built_in.push(module);
        self
    }

    fn built_in(&self, name: &str) -> Option<&'static str> {
        self.0.borrow().built_in.iter().find(|(built_in, _)| *built_in == name).map(|(_, text)| *text)
    }

    /// Returns the program of the modules that were loaded.
    pub(super) fn program(&self, entry: &str) -> Result<Program, ProgramError> {
        Program::new(entry, self.0.borrow().modules.clone())
    }

    /// Whether there is such a module. The error is a sentence.
    fn find(&self, path: &str) -> Result<(), String> {
        let shelf = &mut *self.0.borrow_mut();
        if !shelf.modules.contains_key(path) {
            let read = shelf.read.as_mut().ok_or("there is no such module")?;
            let text = read(path)?;
            shelf.modules.insert(path.to_owned(), text);
        }
        Ok(())
    }
}

impl Resolver for Modules {
    fn resolve<'js>(
        &mut self,
        _: &Ctx<'js>,
        base: &str,
        name: &str,
        _: Option<ImportAttributes<'js>>,
    ) -> rquickjs::Result<String> {
        if self.built_in(name).is_some() {
            return Ok(name.to_owned());
        }
        let found = if !name.starts_with("./") && !name.starts_with("../") {
            let why =
                "a module is imported by a path that starts with ./ or ../, or is one of rtcade/game and rtcade/math";
            Err(why.to_owned())
        } else {
            let path = path_from(base, name).ok_or_else(|| "it is outside of the game's directory".to_owned());
            path.and_then(|path| self.find(&path).map(|()| path))
        };
        found.map_err(|why| Error::new_resolving_message(base, name, why))
    }
}

impl Loader for Modules {
    fn load<'js>(
        &mut self,
        ctx: &Ctx<'js>,
        name: &str,
        _: Option<ImportAttributes<'js>>,
    ) -> rquickjs::Result<Module<'js, Declared>> {
        let text = self.built_in(name).map(str::to_owned).or_else(|| self.0.borrow().modules.get(name).cloned());
        let text = text.ok_or_else(|| Error::new_loading_message(name, "there is no such module"))?;
        Module::declare(ctx.clone(), name, text)
    }
}

/// Returns the path that `name` has from the module `base`; `None` outside of the directory.
fn path_from(base: &str, name: &str) -> Option<String> {
    let mut parts: Vec<&str> = base.split('/').collect();
    parts.pop();
    for part in name.split('/') {
        match part {
            "." | "" => {}
            ".." => drop(parts.pop()?),
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}
