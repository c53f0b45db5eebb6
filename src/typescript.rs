//! The TypeScript of a game's messages, so that the two ends can't drift.
//!
//! A test of the game's crate writes the types to a file beside its page, and fails when they have changed since:
//!
//! ```no_run
//! # use rtcade::game::{Batch, Context, Game, Join, Leave, PlayerId, Refusal, Tick};
//! #[derive(serde::Deserialize, ts_rs::TS)]
//! struct Press {
//!     button: u8,
//! }
//!
//! struct Presses;
//!
//! impl Game for Presses {
//!     type Input = Press;
//!     // …
//! #     type Command = String;
//! #     type State = u32;
//! #     type Event = ();
//! #     type Welcome = ();
//! #     type JoinData = ();
//! #     fn join(&mut self, _: &mut Context<Self>, _: PlayerId, _: &Join<()>) -> Result<(), Refusal> {
//! #         Ok(())
//! #     }
//! #     fn leave(&mut self, _: &mut Context<Self>, _: PlayerId, _: Leave) {}
//! #     fn tick(&mut self, _: &mut Context<Self>, _: Tick, _: Batch<'_, Self>) {}
//! }
//!
//! // In a test.
//! rtcade::typescript::check::<Presses>("public/types.ts");
//! ```
//!
//! `UPDATE_TYPES=1 cargo test` writes the file. Its interface `Types` is the parameter of `connect<Types>()`, and the
//! messages, and all that they refer to, are exported under their names.
//!
//! # What arrives
//!
//! The types are those of [`ts_rs::TS`], which the game's types derive. [`check`] refuses what would be something else
//! in the page:
//!
//! | Rust | TypeScript |
//! |---|---|
//! | integers, `f32`, `f64` | `number`; an integer beyond ±2⁵³ can't be sent |
//! | `i128`, `u128` | refused, except in the welcome |
//! | `String`, `char`, `bool`, `()` | `string`, `string`, `boolean`, `null` |
//! | struct with fields, tuple, newtype | object, array, what is in it |
//! | unit struct | `null`; refused in states and events, where it would be `[]` |
//! | enum | the name of a variant without fields, an object `{ Name: … }` of another; serde's attributes apply |
//! | `Option<T>` | `T \| null`; with serde's `skip_serializing_if` and `default` the field is optional |
//! | `Vec<T>` and sets, also `Vec<u8>` | array |
//! | bytes of the crate `serde_bytes` | `Uint8Array`, which the field must name: `#[ts(type = "Uint8Array")]` |
//! | map | object; refused in inputs and commands if its keys are numbers, because an object's keys are strings |
//! | addresses of `std::net` | refused, except in the welcome |

use std::any::{TypeId, type_name};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::path::Path;
use std::{env, fs};

use ts_rs::{Config, TS, TypeVisitor};

use crate::game::Game;

const UPDATE: &str = "UPDATE_TYPES";
const INTERFACE: &str = "Types";
const HEADER: &str = "// Generated from the types of the game. `UPDATE_TYPES=1 cargo test` writes it anew.\n";

/// Compares the file at `path`, relative to the directory of the crate, with the types of the game `G`. With
/// `UPDATE_TYPES=1` in the environment it writes the file instead.
///
/// # Panics
/// The file is missing or differs; a type would arrive as something else than its TypeScript says (see the
/// [module](self)); two types have one name; the file can't be written.
pub fn check<G: Game>(path: impl AsRef<Path>)
where
    G::Input: TS,
    G::Command: TS,
    G::State: TS,
    G::Event: TS,
    G::Welcome: TS,
{
    let path = path.as_ref();
    let shown = path.display();
    let types = match generate::<G>() {
        Ok(types) => types,
        Err(refused) => panic!("{}: {refused}", type_name::<G>()),
    };
    if env::var_os(UPDATE).is_some_and(|value| value == "1") {
        if let Err(error) = fs::write(path, types) {
            panic!("{shown} can't be written: {error}");
        }
        return;
    }
    let found = fs::read_to_string(path).map(|text| text.replace("\r\n", "\n"));
    match found {
        Ok(found) if found == types => {}
        Ok(_) => panic!("{shown} has other types than {}: run `{UPDATE}=1 cargo test`", type_name::<G>()),
        Err(error) => panic!("{shown} can't be read ({error}): run `{UPDATE}=1 cargo test`"),
    }
}

/// Returns the TypeScript of a game's messages.
///
/// # Errors
/// A sentence, if the TypeScript of a type would say something else than what arrives (see the [module](self)), or if
/// two types have one name.
pub fn generate<G: Game>() -> Result<String, String>
where
    G::Input: TS,
    G::Command: TS,
    G::State: TS,
    G::Event: TS,
    G::Welcome: TS,
{
    let config = Config::new().with_large_int("number");
    let mut declared = BTreeMap::new();
    let mut interface = format!("export interface {INTERFACE} {{\n");
    let mut add = |name, ts: Result<String, String>| {
        let ts = ts.map_err(|refused| format!("its {name} has {refused}"))?;
        let _ = writeln!(interface, "  {name}: {ts};");
        Ok::<_, String>(())
    };
    add("input", message::<G::Input>(&config, &mut declared, Carrier::Up))?;
    add("command", message::<G::Command>(&config, &mut declared, Carrier::Up))?;
    add("state", message::<G::State>(&config, &mut declared, Carrier::Down))?;
    add("event", message::<G::Event>(&config, &mut declared, Carrier::Down))?;
    add("welcome", message::<G::Welcome>(&config, &mut declared, Carrier::Json))?;
    interface.push_str("}\n");
    if declared.contains_key(INTERFACE) {
        return Err(format!("one of its types is named `{INTERFACE}`, as the interface: name it by `#[ts(rename)]`"));
    }
    let mut types = String::from(HEADER);
    for declaration in declared.into_values() {
        let _ = write!(types, "\n{declaration}\n");
    }
    let _ = write!(types, "\n{interface}");
    Ok(types.lines().fold(String::new(), |lines, line| lines + line.trim_end() + "\n"))
}

/// How a message travels: as msgpack to the server or to the page, or as JSON to the page.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Carrier {
    Up,
    Down,
    Json,
}

/// Declarations by name.
type Declared = BTreeMap<String, String>;

/// Returns the name of the type `T`, and declares what it refers to.
fn message<T: TS + 'static>(config: &Config, declared: &mut Declared, carrier: Carrier) -> Result<String, String> {
    let mut found = Found { config, carrier, declared, seen: BTreeSet::new(), refused: None };
    found.visit::<T>();
    match found.refused {
        None => Ok(T::name(config)),
        Some(refused) => Err(refused),
    }
}

struct Found<'a> {
    config: &'a Config,
    carrier: Carrier,
    declared: &'a mut Declared,
    seen: BTreeSet<TypeId>,
    refused: Option<String>,
}

impl TypeVisitor for Found<'_> {
    fn visit<T: TS + 'static + ?Sized>(&mut self) {
        if !self.seen.insert(TypeId::of::<T>()) {
            return;
        }
        if let Some(why) = refusal::<T>(self.config, self.carrier) {
            self.refused.get_or_insert_with(|| format!("a `{}`, {why}", type_name::<T>()));
        }
        if T::output_path().is_some() {
            let declaration = format!("{}export {}", T::docs().unwrap_or_default(), T::decl(self.config));
            let name = T::ident(self.config);
            let first = self.declared.entry(name.clone()).or_insert_with(|| declaration.clone());
            if *first != declaration {
                let why = format!("and another type named `{name}`: rename one with `#[ts(rename = \"…\")]`");
                self.refused.get_or_insert_with(|| format!("a `{}`, {why}", type_name::<T>()));
            }
        }
        T::visit_dependencies(self);
        T::visit_generics(self);
    }
}

/// Why the TypeScript of `T` itself, as `ts_rs` has it for JSON, is not what arrives.
fn refusal<T: TS + 'static + ?Sized>(config: &Config, carrier: Carrier) -> Option<&'static str> {
    let among = |types: &[TypeId]| types.contains(&TypeId::of::<T>());
    if carrier == Carrier::Json {
        None
    } else if among(&[TypeId::of::<i128>(), TypeId::of::<u128>()]) {
        Some("which no number of JavaScript holds: send a string")
    } else if among(&[TypeId::of::<IpAddr>(), TypeId::of::<Ipv4Addr>(), TypeId::of::<Ipv6Addr>()])
        || among(&[TypeId::of::<SocketAddr>(), TypeId::of::<SocketAddrV4>(), TypeId::of::<SocketAddrV6>()])
    {
        Some("which travels as its bytes: send a string")
    } else if carrier == Carrier::Down && is_unit_struct::<T>(config) {
        Some("which would arrive as an empty array: use `()`")
    } else if carrier == Carrier::Up && has_numbers_as_keys::<T>(config) {
        Some("but the keys of a JavaScript object are strings: use strings, or pairs in a `Vec`")
    } else {
        None
    }
}

fn is_unit_struct<T: TS + 'static + ?Sized>(config: &Config) -> bool {
    struct Any(bool);
    impl TypeVisitor for Any {
        fn visit<U: TS + 'static + ?Sized>(&mut self) {
            self.0 = true;
        }
    }
    let mut refers = Any(false);
    T::visit_dependencies(&mut refers);
    T::output_path().is_some() && !refers.0 && !T::IS_ENUM && T::decl(config).ends_with(" = null;")
}

fn has_numbers_as_keys<T: TS + 'static + ?Sized>(config: &Config) -> bool {
    /// Finds the type of that name, and whether it is another name for a number.
    struct Key<'a>(&'a Config, &'a str, bool);
    impl TypeVisitor for Key<'_> {
        fn visit<U: TS + 'static + ?Sized>(&mut self) {
            let Key(config, name, is_number) = self;
            if U::name(config) == *name && (*name == "number" || U::output_path().is_some()) {
                *is_number = U::inline(config) == "number";
            }
        }
    }
    let name = T::name(config);
    let Some(key) = name.strip_prefix("{ [key in ").and_then(|rest| rest.split(']').next()) else { return false };
    let mut key = Key(config, key, false);
    T::visit_generics(&mut key);
    key.2
}
