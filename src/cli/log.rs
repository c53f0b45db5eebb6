//! The log: what is logged, and its lines as text or as JSON.

use std::io::{self, Write};
use std::sync::{OnceLock, PoisonError, RwLock};

use clap::{ArgAction, Args, ValueEnum};
use env_logger::fmt::Formatter;
use log::kv::{self, Key, Value, VisitSource, VisitValue};
use log::{LevelFilter, Log, Metadata, Record};
use serde_json::{Map, json};

use crate::log_limit::{ADMIN, PLAYERS, SCRIPTS};

const WEBSOCKETS: &str = "tungstenite";

/// The logger of the process: it can be replaced while it is in use.
static LOGGER: OnceLock<Replaceable> = OnceLock::new();

/// The process, if it is one of several that share a log.
static NODE: OnceLock<Node> = OnceLock::new();

struct Node {
    name: String,
    /// The end of each line.
    suffix: String,
}

/// Lines of the log name this node from the next [`Logging::apply`] on.
#[cfg(all(feature = "cluster", target_os = "linux"))]
pub(super) fn name_node(name: &str) {
    NODE.get_or_init(|| Node { name: name.to_owned(), suffix: format!(" node={name}\n") });
}

#[derive(Clone, Debug, Args)]
pub(super) struct Logging {
    /// Log more: -v info, -vv debug, -vvv trace.
    #[arg(short, long, action = ArgAction::Count)]
    verbose: u8,
    /// What to log: a level, levels of modules, or both, as in warn,rtcade::driver=debug.
    ///
    /// The levels are off, error, warn, info, debug and trace. Default: warn, lines about players
    /// (rtcade::players=info), and those of games in JavaScript (rtcade::script=info).
    #[arg(long, value_name = "LEVELS", value_parser = levels)]
    log: Option<Levels>,
    /// The format of the lines of the log.
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t = Format::Text)]
    log_format: Format,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// Lines for people.
    Text,
    /// One JSON object per line: ts, level, target, msg, and what else is known, such as room and player.
    Json,
}

/// The level of everything, and of modules.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Levels {
    all: LevelFilter,
    modules: Vec<(String, LevelFilter)>,
}

impl Levels {
    fn of_verbosity(verbose: u8) -> Levels {
        let all = match verbose {
            0 => LevelFilter::Warn,
            1 => LevelFilter::Info,
            2 => LevelFilter::Debug,
            _ => LevelFilter::Trace,
        };
        Levels { all, modules: Vec::new() }
    }
}

fn levels(text: &str) -> Result<Levels, &'static str> {
    let mut levels = Levels::of_verbosity(0);
    for part in text.split(',').map(str::trim) {
        let (module, level) = part.rsplit_once('=').map_or((None, part), |(module, level)| (Some(module), level));
        let level = level.parse().map_err(|_| "expected levels, as in info or warn,rtcade::driver=debug")?;
        match module {
            Some(module) => levels.modules.push((module.to_owned(), level)),
            None => levels.all = level,
        }
    }
    Ok(levels)
}

impl Logging {
    /// Starts the log, or replaces what is logged.
    pub(super) fn apply(&self) {
        let mut levels = self.log.clone().unwrap_or_else(|| Levels::of_verbosity(0));
        if self.verbose > 0 {
            levels.all = levels.all.max(Levels::of_verbosity(self.verbose).all);
        }
        let mut builder = env_logger::Builder::new();
        // At trace level tungstenite logs message contents: tokens, and line breaks that look like log lines.
        let permitted = |module: &str, level: LevelFilter| {
            if module.starts_with(WEBSOCKETS) { level.min(LevelFilter::Debug) } else { level }
        };
        builder.filter_level(levels.all);
        builder.filter_module(WEBSOCKETS, permitted(WEBSOCKETS, levels.all));
        if self.log.is_none() {
            builder.filter_module(PLAYERS, levels.all.max(LevelFilter::Info));
            // What games in JavaScript log.
            builder.filter_module(SCRIPTS, levels.all.max(LevelFilter::Info));
        }
        // What operators did is left out only if it is named.
        builder.filter_module(ADMIN, levels.all.max(LevelFilter::Info));
        for (module, level) in levels.modules {
            builder.filter_module(&module, permitted(&module, level));
        }
        if let Some(node) = NODE.get() {
            builder.format_suffix(&node.suffix);
        }
        if self.log_format == Format::Json {
            builder.format(write_json);
        }
        let logger = builder.build();
        log::set_max_level(logger.filter());
        match LOGGER.get() {
            Some(replaceable) => *replaceable.0.write().unwrap_or_else(PoisonError::into_inner) = logger,
            None => {
                // It fails only if the program has a logger of its own.
                let _ = log::set_logger(LOGGER.get_or_init(|| Replaceable(RwLock::new(logger))));
            }
        }
    }
}

struct Replaceable(RwLock<env_logger::Logger>);

impl Log for Replaceable {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        self.0.read().unwrap_or_else(PoisonError::into_inner).enabled(metadata)
    }

    fn log(&self, record: &Record<'_>) {
        self.0.read().unwrap_or_else(PoisonError::into_inner).log(record);
    }

    fn flush(&self) {}
}

fn write_json(out: &mut Formatter, record: &Record<'_>) -> io::Result<()> {
    let mut fields = Fields(Map::new());
    fields.0.insert("ts".to_owned(), out.timestamp_millis().to_string().into());
    fields.0.insert("level".to_owned(), record.level().as_str().to_lowercase().into());
    fields.0.insert("target".to_owned(), record.target().into());
    fields.0.insert("msg".to_owned(), record.args().to_string().into());
    fields.0.extend(NODE.get().map(|node| ("node".to_owned(), node.name.as_str().into())));
    // It fails only if visiting does.
    let _ = record.key_values().visit(&mut fields);
    writeln!(out, "{}", json!(fields.0))
}

struct Fields(Map<String, serde_json::Value>);

impl<'kvs> VisitSource<'kvs> for Fields {
    fn visit_pair(&mut self, key: Key<'kvs>, value: Value<'kvs>) -> Result<(), kv::Error> {
        let mut field = Field(serde_json::Value::Null);
        value.visit(&mut field)?;
        if !field.0.is_null() {
            self.0.insert(key.as_str().to_owned(), field.0);
        }
        Ok(())
    }
}

/// The value of a field; null if there is none.
struct Field(serde_json::Value);

impl VisitValue<'_> for Field {
    fn visit_any(&mut self, value: Value<'_>) -> Result<(), kv::Error> {
        self.0 = value.to_string().into();
        Ok(())
    }

    fn visit_null(&mut self) -> Result<(), kv::Error> {
        Ok(())
    }

    fn visit_u64(&mut self, value: u64) -> Result<(), kv::Error> {
        self.0 = value.into();
        Ok(())
    }

    fn visit_str(&mut self, value: &str) -> Result<(), kv::Error> {
        self.0 = value.into();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_of_everything_and_of_modules() {
        let all = LevelFilter::Warn;
        let modules = vec![("rtcade::driver".to_owned(), LevelFilter::Debug)];
        assert_eq!(levels("rtcade::driver=debug"), Ok(Levels { all, modules: modules.clone() }));
        assert_eq!(levels("error, rtcade::driver=debug"), Ok(Levels { all: LevelFilter::Error, modules }));
        for wrong in ["", "loud", "rtcade=loud", "info,,", "=warn="] {
            assert!(levels(wrong).is_err(), "{wrong:?}");
        }
    }
}
