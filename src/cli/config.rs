//! The configuration of `serve`: a file and environment variables beside the command line.
//!
//! Every setting is an option of the command line, whose parser checks it wherever it comes from: what file and
//! environment set becomes options in front of those of the command line, unless these are given there.

use std::collections::BTreeMap;
use std::env;
use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};

use clap::error::{ContextKind, ContextValue};
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Command};
use toml::de::{DeTable, DeValue};

use crate::yaml::unknown;

/// The environment variable with the path of the file, if `--config` is not given.
const FILE: &str = "RTCADE_CONFIG";
const PREFIX: &str = "RTCADE_";
/// Between section and key in the name of an environment variable.
const SEPARATOR: &str = "__";
/// Variables that platforms set: the port and the address for HTTP.
const PORT: &str = "PORT";
const HOST: &str = "HOST";
const LISTEN: &str = "server.listen";
/// Settings of which one replaces the other, if it takes precedence: a secret, and the file with it.
const ALTERNATIVES: [(&str, &str); 3] =
    [(TOKEN, "admin.token_file"), (BROKER, "events.amqp_file"), (STORE, "cluster.redis_file")];
/// Values that are not shown.
const TOKEN: &str = "admin.token";
const BROKER: &str = "events.amqp";
const STORE: &str = "cluster.redis";

/// Each setting, and the option that it stands for.
const SETTINGS: &[(&str, &str)] = &[
    (LISTEN, "listen"),
    ("server.udp", "udp"),
    ("server.public_addr", "public-addr"),
    ("server.public", "public"),
    ("server.keep_alive", "keep-alive"),
    ("server.drain", "drain"),
    ("server.busy_poll", "busy-poll"),
    ("server.dev", "dev"),
    ("server.agones", "agones"),
    ("rooms.game", "game"),
    ("rooms.tick_ms", "tick-ms"),
    ("rooms.tick_budget_ms", "tick-budget"),
    ("rooms.max_players", "max-players"),
    ("rooms.max_rooms", "max-rooms"),
    ("rooms.grace", "grace"),
    ("rooms.media", "media"),
    ("access.keys", "keys"),
    ("access.audience", "audience"),
    ("access.origin", "origin"),
    ("access.trusted_proxy", "trusted-proxy"),
    ("tls.cert", "tls-cert"),
    ("tls.key", "tls-key"),
    ("tls.dev", "tls-dev"),
    ("tls.https_redirect", "https-redirect"),
    ("metrics.listen", "metrics"),
    ("admin.listen", "admin"),
    (TOKEN, "admin-token"),
    ("admin.token_file", "admin-token-file"),
    (BROKER, "amqp"),
    ("events.amqp_file", "amqp-file"),
    ("events.node", "node"),
    (STORE, "redis"),
    ("cluster.redis_file", "redis-file"),
    ("cluster.name", "cluster"),
    ("cluster.node_url", "node-url"),
    ("cluster.region", "region"),
    ("cluster.soft_limit", "soft-limit"),
    ("cluster.hard_limit", "hard-limit"),
    ("log.levels", "log"),
    ("log.format", "log-format"),
    ("recording.directory", "record"),
    ("recording.limit_mib", "record-limit"),
];

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Origin {
    File { path: PathBuf, line: usize, column: usize },
    Variable(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::File { path, line, column } => write!(f, "{}:{line}:{column}", path.display()),
            Origin::Variable(name) => f.write_str(name),
        }
    }
}

/// The value of a setting.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Value {
    Flag(bool),
    /// One value, or those of an option that may be repeated.
    Values(Vec<String>),
}

/// What file and environment set.
#[derive(Debug, Default)]
pub(super) struct Layers {
    settings: BTreeMap<&'static str, (Value, Origin)>,
}

impl Layers {
    /// Reads the file and the environment for a command with these options. The error is a sentence.
    pub(super) fn read(command: &Command, file: Option<PathBuf>) -> Result<Layers, String> {
        let mut layers = Layers::default();
        if let Some(path) = file.or_else(|| env::var_os(FILE).map(PathBuf::from)) {
            let text = fs::read_to_string(&path).map_err(|error| {
                format!("{} can't be read: {error}; name a TOML file with --config FILE", path.display())
            })?;
            layers.read_file(command, &path, &text)?;
        }
        layers.read_environment(command, env::vars_os())?;
        Ok(layers)
    }

    fn read_file(&mut self, command: &Command, path: &Path, text: &str) -> Result<(), String> {
        let at = |span: Range<usize>| {
            let (line, column) = position(text, span.start);
            Origin::File { path: path.to_owned(), line, column }
        };
        let document = DeTable::parse(text).map_err(|error| {
            let message = error.message();
            format!("{}: {message}", at(error.span().unwrap_or_default()))
        })?;
        for (section, table) in document.get_ref() {
            let origin = at(section.span());
            let section = section.get_ref();
            let DeValue::Table(table) = table.get_ref() else {
                return Err(format!("{origin}: settings are in sections, such as [server]: {section} is in none"));
            };
            for (key, value) in table {
                let origin = at(key.span());
                let (setting, arg) = find(command, &format!("{section}.{}", key.get_ref()))
                    .map_err(|sentence| format!("{origin}: {sentence}"))?;
                let value = value_of(value.get_ref(), arg)
                    .map_err(|expected| format!("{origin}: {setting} must be {expected}"))?;
                self.settings.insert(setting, (value, origin));
            }
        }
        Ok(())
    }

    /// `RTCADE_SECTION__KEY` for each setting, with commas between several values; `PORT` and `HOST` for the address.
    fn read_environment(
        &mut self,
        command: &Command,
        variables: impl Iterator<Item = (OsString, OsString)>,
    ) -> Result<(), String> {
        let (mut port, mut host, mut is_address_given) = (None, None, false);
        for (name, value) in variables {
            let Some(name) = name.to_str().map(str::to_owned) else { continue };
            match name.as_str() {
                PORT => port = Some(value),
                HOST => host = Some(value),
                _ => {
                    let Some(path) = name.strip_prefix(PREFIX).and_then(|rest| rest.split_once(SEPARATOR)) else {
                        continue;
                    };
                    let (section, key) = (path.0.to_lowercase(), path.1.to_lowercase());
                    let (setting, arg) =
                        find(command, &format!("{section}.{key}")).map_err(|sentence| format!("{name}: {sentence}"))?;
                    let text = text_of(&name, value)?;
                    is_address_given |= setting == LISTEN;
                    let value = match arg.get_action() {
                        ArgAction::SetTrue => {
                            Value::Flag(text.parse().map_err(|_| format!("{name}: {setting} must be true or false"))?)
                        }
                        ArgAction::Append => {
                            Value::Values(text.split(',').map(|part| part.trim().to_owned()).collect())
                        }
                        _ => Value::Values(vec![text]),
                    };
                    if let Some(of_file) = alternative(setting)
                        && matches!(self.settings.get(of_file), Some((_, Origin::File { .. })))
                    {
                        self.settings.remove(of_file);
                    }
                    self.settings.insert(setting, (value, Origin::Variable(name)));
                }
            }
        }
        // Only programs that a platform starts have a PORT; a shell may have a HOST.
        if let Some(port) = port.filter(|_| !is_address_given) {
            let port = text_of(PORT, port)?;
            let host = host.map_or(Ok("0.0.0.0".to_owned()), |host| text_of(HOST, host))?;
            let host = if host.contains(':') && !host.starts_with('[') { format!("[{host}]") } else { host };
            let value = Value::Values(vec![format!("{host}:{port}")]);
            self.settings.insert(LISTEN, (value, Origin::Variable(PORT.to_owned())));
        }
        Ok(())
    }

    /// The options that stand for what is not on the command line itself.
    pub(super) fn options(&self, command: &Command, given: &ArgMatches) -> Vec<OsString> {
        let mut options = Vec::new();
        for (setting, (value, _)) in &self.settings {
            let is_given = |setting: &str| {
                let arg = find(command, setting).map(|(_, arg)| arg.get_id().as_str());
                arg.is_ok_and(|id| given.value_source(id) == Some(ValueSource::CommandLine))
            };
            if find(command, setting).is_err() || is_given(setting) || alternative(setting).is_some_and(is_given) {
                continue;
            }
            let option = option_of(setting);
            match value {
                Value::Flag(true) => options.push(format!("--{option}").into()),
                Value::Flag(false) => {}
                Value::Values(values) => {
                    options.extend(values.iter().map(|value| format!("--{option}={value}").into()));
                }
            }
        }
        options
    }

    /// Says where the value that an error is about comes from, if it isn't on the command line.
    pub(super) fn origin(&self, error: &clap::Error, given: &ArgMatches, command: &Command) -> Option<String> {
        let Some(ContextValue::String(arg)) = error.get(ContextKind::InvalidArg) else { return None };
        let option = arg.strip_prefix("--")?.split([' ', '=', '[']).next()?;
        let (setting, _) = SETTINGS.iter().find(|(_, of_setting)| *of_setting == option)?;
        let (_, origin) = self.settings.get(setting)?;
        let (_, arg) = find(command, setting).ok()?;
        let is_given = given.value_source(arg.get_id().as_str()) == Some(ValueSource::CommandLine);
        (!is_given).then(|| format!("{origin}: {setting}"))
    }

    /// The effective configuration as a file, with the origin of each value.
    pub(super) fn print(&self, command: &Command, given: &ArgMatches, effective: &ArgMatches) -> String {
        let mut text = String::new();
        let mut section = "";
        for (setting, option) in SETTINGS {
            let Ok((_, arg)) = find(command, setting) else { continue };
            let Some((of_setting, key)) = setting.split_once('.') else { continue };
            if of_setting != section {
                text += if text.is_empty() { "" } else { "\n" };
                text += &format!("[{of_setting}]\n");
                section = of_setting;
            }
            let id = arg.get_id().as_str();
            let origin = match (given.value_source(id), self.settings.get(setting)) {
                (Some(ValueSource::CommandLine), _) => format!("--{option}"),
                (_, Some((_, origin))) => origin.to_string(),
                _ => "default".to_owned(),
            };
            let values: Vec<String> = effective
                .get_raw(id)
                .map(|values| values.map(|value| quoted(&value.to_string_lossy())).collect())
                .unwrap_or_default();
            let value = match arg.get_action() {
                _ if [TOKEN, BROKER, STORE].contains(setting) => values.first().map(|_| quoted("(secret)")),
                ArgAction::SetTrue => Some(effective.get_flag(id).to_string()),
                ArgAction::Append => Some(format!("[{}]", values.join(", "))),
                _ => values.into_iter().next(),
            };
            match value {
                Some(value) => text += &format!("{key} = {value} # {origin}\n"),
                None => text += &format!("# {key} is not set\n"),
            }
        }
        text
    }
}

/// The setting that this one replaces if it takes precedence.
fn alternative(setting: &str) -> Option<&'static str> {
    ALTERNATIVES.iter().find_map(|&(secret, file)| match setting {
        _ if setting == secret => Some(file),
        _ if setting == file => Some(secret),
        _ => None,
    })
}

fn option_of(setting: &str) -> &'static str {
    SETTINGS.iter().find(|(name, _)| *name == setting).map_or("", |(_, option)| option)
}

/// Finds a setting that this command has, and its option. The error is a sentence.
fn find<'a>(command: &'a Command, name: &str) -> Result<(&'static str, &'a Arg), String> {
    let arg = |option: &str| command.get_arguments().find(|arg| arg.get_long() == Some(option));
    let known = SETTINGS.iter().filter_map(|(setting, option)| Some((*setting, arg(option)?)));
    let names: Vec<&str> = known.clone().map(|(setting, _)| setting).collect();
    known.clone().find(|(setting, _)| *setting == name).ok_or_else(|| unknown("setting", name, &names))
}

/// Converts a value of a file for this option. The error is what was expected.
fn value_of(value: &DeValue<'_>, arg: &Arg) -> Result<Value, &'static str> {
    let single = |value: &DeValue<'_>| match value {
        DeValue::String(text) => Some(text.clone().into_owned()),
        DeValue::Integer(number) => Some(number.to_string()),
        DeValue::Float(number) => Some(number.to_string()),
        _ => None,
    };
    match (arg.get_action(), value) {
        (ArgAction::SetTrue, DeValue::Boolean(flag)) => Ok(Value::Flag(*flag)),
        (ArgAction::SetTrue, _) => Err("true or false"),
        (ArgAction::Append, DeValue::Array(values)) => {
            let values: Option<_> = values.iter().map(|value| single(value.get_ref())).collect();
            values.map(Value::Values).ok_or("a list of strings")
        }
        (ArgAction::Append, value) => {
            single(value).map(|value| Value::Values(vec![value])).ok_or("a string or a list of strings")
        }
        (_, value) => single(value).map(|value| Value::Values(vec![value])).ok_or("a string or a number"),
    }
}

/// Quotes a string as TOML; a number stays as it is.
fn quoted(text: &str) -> String {
    if text.parse::<i64>().is_ok() { text.to_owned() } else { toml::Value::from(text).to_string() }
}

fn text_of(name: &str, value: OsString) -> Result<String, String> {
    value.into_string().map_err(|_| format!("{name} is not valid UTF-8"))
}

/// The line and the column of a byte, both from 1; columns are code points.
fn position(text: &str, byte: usize) -> (usize, usize) {
    let before = text.get(..byte).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |end| end + 1);
    (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
}
