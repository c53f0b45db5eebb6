//! The TypeScript of a game says what really arrives: values of all shapes travel as msgpack and JSON, and TypeScript
//! checks what the page makes of them (`npm run check` in `client-js`).

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::net::IpAddr;
use std::panic::catch_unwind;
use std::{env, fs};

use rmpv::Value;
use rtcade::game::{Batch, Context, Game, Join, Leave, PlayerId, Refusal, Tick};
use rtcade::limits;
use rtcade::typescript::{check, generate};
use rtcade::wire::msgpack;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use ts_rs::TS;

const TYPES: &str = "client-js/test/types/shapes.ts";
const VALUES: &str = "client-js/test/types/shapes-values.ts";

/// A game of these messages, which does nothing with them.
struct Of<I, C, S, E, W = ()>(std::marker::PhantomData<(I, C, S, E, W)>);

impl<I, C, S, E, W> Game for Of<I, C, S, E, W>
where
    I: DeserializeOwned + 'static,
    C: DeserializeOwned + 'static,
    S: Serialize + 'static,
    E: Serialize + 'static,
    W: Serialize + 'static,
{
    type Input = I;
    type Command = C;
    type State = S;
    type Event = E;
    type Welcome = W;
    type JoinData = ();

    fn join(&mut self, _: &mut Context<Self>, _: PlayerId, _: &Join<()>) -> Result<W, Refusal> {
        Err(Refusal::new("Nobody plays this."))
    }

    fn leave(&mut self, _: &mut Context<Self>, _: PlayerId, _: Leave) {}

    fn tick(&mut self, _: &mut Context<Self>, _: Tick, _: Batch<'_, Self>) {}
}

type Shapes = Of<Input, Command, State, Event, Map>;

/// A direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, TS)]
#[serde(rename_all = "kebab-case")]
enum Heading {
    North,
    SouthWest,
}

#[derive(Debug, PartialEq, Serialize, Deserialize, TS)]
enum Command {
    Ready,
    Say(String),
    Move(i32, i32),
    Build { kind: char, at: Option<(u8, u8)> },
}

#[derive(Debug, PartialEq, Serialize, Deserialize, TS)]
#[serde(tag = "type", rename_all = "camelCase")]
enum Tagged {
    Empty,
    Full { size: u64 },
}

#[derive(Debug, PartialEq, Serialize, Deserialize, TS)]
#[serde(tag = "t", content = "c")]
enum Adjacent {
    Empty,
    One(bool),
}

#[derive(Debug, PartialEq, Serialize, Deserialize, TS)]
#[serde(untagged)]
enum Either {
    Number(f64),
    Text(String),
}

#[derive(Debug, PartialEq, Serialize, Deserialize, TS)]
struct Pair<T>(T, T);

#[derive(Debug, PartialEq, Serialize, Deserialize, TS)]
struct Meters(f32);

#[derive(Debug, PartialEq, Serialize, Deserialize, TS)]
struct Unit;

#[derive(Debug, PartialEq, Serialize, Deserialize, TS)]
struct Inner {
    deep: bool,
}

#[derive(Debug, PartialEq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
struct State {
    heading: Heading,
    small_and_large: (i8, u64, i64, usize),
    floats: [f64; 3],
    meters: Meters,
    nothing: (),
    absent: Option<String>,
    present: Option<Pair<Meters>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    omitted: Option<u8>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    given: Option<u8>,
    bytes: Vec<u8>,
    set: BTreeSet<u8>,
    by_name: BTreeMap<String, Tagged>,
    by_player: BTreeMap<PlayerId, Adjacent>,
    by_heading: BTreeMap<Heading, u8>,
    either: Vec<Either>,
    outcome: Result<u8, String>,
    boxed: Box<Command>,
    #[serde(flatten)]
    inner: Inner,
    #[serde(rename = "class")]
    kind: char,
}

#[derive(Debug, PartialEq, Serialize, Deserialize, TS)]
struct Input {
    heading: Heading,
    unit: Unit,
    by_name: BTreeMap<String, Vec<Tagged>>,
    commands: Vec<Command>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize, TS)]
enum Event {
    Hit(PlayerId, Adjacent),
    Over,
}

#[derive(Debug, PartialEq, Serialize, Deserialize, TS)]
struct Map {
    unit: Unit,
    addresses: Vec<IpAddr>,
    by_player: BTreeMap<PlayerId, u8>,
}

fn state() -> State {
    State {
        heading: Heading::SouthWest,
        small_and_large: (-1, 1 << 53, -(1 << 53), 70_000),
        floats: [0.5, 1e300, -2.0],
        meters: Meters(0.1),
        nothing: (),
        absent: None,
        present: Some(Pair(Meters(1.0), Meters(2.5))),
        omitted: None,
        given: Some(7),
        bytes: vec![0, 255],
        set: BTreeSet::from([3, 1]),
        by_name: BTreeMap::from([("a".into(), Tagged::Empty), ("b".into(), Tagged::Full { size: 300 })]),
        by_player: BTreeMap::from([(PlayerId(4), Adjacent::Empty), (PlayerId(900), Adjacent::One(true))]),
        by_heading: BTreeMap::from([(Heading::North, 1)]),
        either: vec![Either::Number(0.25), Either::Text("é".into())],
        outcome: Err("no".into()),
        boxed: Box::new(Command::Build { kind: 'x', at: Some((1, 2)) }),
        inner: Inner { deep: true },
        kind: 'k',
    }
}

fn commands() -> Vec<Command> {
    let build = |at| Command::Build { kind: 'ü', at };
    vec![Command::Ready, Command::Say("hi".into()), Command::Move(-4, 5), build(None), build(Some((8, 9)))]
}

fn input() -> Input {
    let by_name = BTreeMap::from([("list".into(), vec![Tagged::Full { size: 1 }])]);
    Input { heading: Heading::North, unit: Unit, by_name, commands: commands() }
}

/// The value that `decode` of the client makes of msgpack, as TypeScript.
fn literal(value: &Value) -> String {
    let joined = |items: Vec<String>| items.join(", ");
    match value {
        Value::Nil => "null".into(),
        Value::Binary(bytes) => format!("new Uint8Array({bytes:?})"),
        Value::String(text) => serde_json::to_string(text.as_str().unwrap()).unwrap(),
        Value::Array(items) => format!("[{}]", joined(items.iter().map(literal).collect())),
        Value::Map(pairs) => {
            let key = |key: &Value| if key.is_str() { literal(key) } else { format!("\"{key}\"") };
            let pairs = pairs.iter().map(|(name, value)| format!("{}: {}", key(name), literal(value)));
            format!("{{ {} }}", joined(pairs.collect()))
        }
        Value::F32(number) => f64::from(*number).to_string(),
        other => other.to_string(),
    }
}

#[test]
fn values_of_all_shapes_are_of_the_types_of_typescript() {
    check::<Shapes>(TYPES);

    let mut values = String::from("import type { Types } from \"./shapes.js\";\n\n");
    let mut add = |name: &str, ts: &str, literal: String| {
        let _ = writeln!(values, "export const {name}: Types[\"{ts}\"] = {literal};");
    };
    let encoded = |bytes: Vec<u8>| literal(&rmpv::decode::read_value(&mut &bytes[..]).unwrap());
    let encode = |value: &dyn erased::Encode| encoded(value.encode());
    add("state", "state", encode(&state()));
    add("input", "input", encode(&input()).replace("\"unit\": []", "\"unit\": null"));
    for (number, command) in commands().iter().enumerate() {
        add(&format!("command{number}"), "command", encode(command));
    }
    add("hit", "event", encode(&Event::Hit(PlayerId(3), Adjacent::One(false))));
    add("over", "event", encode(&Event::Over));
    let by_player = BTreeMap::from([(PlayerId(7), 1)]);
    let map = Map { unit: Unit, addresses: vec!["127.0.0.1".parse().unwrap()], by_player };
    add("map", "welcome", serde_json::to_string(&map).unwrap());

    if env::var_os("UPDATE_TYPES").is_some() {
        fs::write(VALUES, &values).unwrap();
    }
    assert_eq!(fs::read_to_string(VALUES).unwrap(), values, "run `UPDATE_TYPES=1 cargo test`");
}

/// What has one shape on its way to the page is taken in this shape from the page.
#[test]
fn what_the_page_sends_in_these_types_is_taken() {
    let bytes = msgpack::encode(&input(), limits::STATE_BYTES).unwrap();
    let mut value = rmpv::decode::read_value(&mut &bytes[..]).unwrap();
    let Value::Map(fields) = &mut value else { panic!("{value} is no object") };
    fields.iter_mut().filter(|(name, _)| name.as_str() == Some("unit")).for_each(|(_, unit)| *unit = Value::Nil);
    let mut bytes = Vec::new();
    rmpv::encode::write_value(&mut bytes, &value).unwrap();
    assert_eq!(msgpack::decode::<Input>(&bytes), Ok(input()));
    for command in commands() {
        let bytes = msgpack::encode(&command, limits::STATE_BYTES).unwrap();
        assert_eq!(msgpack::decode::<Command>(&bytes), Ok(command));
    }
}

mod erased {
    pub(super) trait Encode {
        fn encode(&self) -> Vec<u8>;
    }

    impl<T: serde::Serialize> Encode for T {
        fn encode(&self) -> Vec<u8> {
            super::msgpack::encode(self, super::limits::STATE_BYTES).unwrap()
        }
    }
}

#[test]
fn what_would_arrive_as_something_else_is_refused() {
    fn down<T: Serialize + TS + 'static>() -> Result<String, String> {
        let event = generate::<Of<(), (), (), T>>();
        assert_eq!(generate::<Of<(), (), T, ()>>().is_err(), event.is_err());
        assert!(generate::<Of<(), (), (), (), T>>().is_ok(), "JSON has it");
        event
    }
    fn up<T: DeserializeOwned + TS + 'static>() -> Result<String, String> {
        let command = generate::<Of<(), T, (), ()>>();
        assert_eq!(generate::<Of<T, (), (), ()>>().is_err(), command.is_err());
        command
    }
    #[derive(Serialize, Deserialize, TS)]
    struct Keyed {
        by_player: Option<Vec<BTreeMap<PlayerId, Unit>>>,
    }
    #[derive(Serialize, Deserialize, TS)]
    struct Nothing(());

    for (why, refused) in [
        ("use `()`", down::<Unit>()),
        ("use `()`", down::<Keyed>()),
        ("send a string", down::<(u8, Option<u128>)>()),
        ("send a string", up::<Vec<i128>>()),
        ("send a string", down::<IpAddr>()),
        ("send a string", up::<Option<std::net::SocketAddr>>()),
        ("pairs in a `Vec`", up::<BTreeMap<u32, u8>>()),
        ("pairs in a `Vec`", up::<Keyed>()),
    ] {
        let refused = refused.unwrap_err();
        assert!(refused.contains(why), "{refused}");
    }
    for taken in [down::<Nothing>(), down::<BTreeMap<PlayerId, u8>>(), up::<Unit>(), up::<BTreeMap<Heading, u8>>()] {
        assert!(taken.is_ok(), "{taken:?}");
    }
}

#[test]
fn one_name_for_two_types_is_refused() {
    mod other {
        #[derive(serde::Serialize, ts_rs::TS)]
        pub(super) struct Meters {
            pub(super) value: f64,
        }

        #[derive(serde::Serialize, ts_rs::TS)]
        pub(super) struct Types(pub(super) u8);
    }
    let refused = generate::<Of<Meters, (), other::Meters, ()>>().unwrap_err();
    assert!(refused.contains("another type named `Meters`"), "{refused}");
    let refused = generate::<Of<(), (), other::Types, ()>>().unwrap_err();
    assert!(refused.contains("`Types`"), "{refused}");
}

#[test]
fn a_file_that_is_missing_or_differs_names_the_command() {
    if env::var_os("UPDATE_TYPES").is_some() {
        return;
    }
    let directory = env::temp_dir().join(format!("rtcade-types-{}", std::process::id()));
    fs::create_dir_all(&directory).unwrap();
    let file = directory.join("types.ts");
    let failure = || {
        let file = file.clone();
        let panic = catch_unwind(move || check::<Of<(), (), u8, ()>>(file)).err();
        panic.map(|message| message.downcast_ref::<String>().unwrap().clone())
    };
    assert!(failure().unwrap().contains("can't be read"));
    fs::write(&file, "export interface Types {}\n").unwrap();
    assert!(failure().unwrap().contains("UPDATE_TYPES=1 cargo test"));
    let types = generate::<Of<(), (), u8, ()>>().unwrap();
    fs::write(&file, types.replace('\n', "\r\n")).unwrap();
    assert_eq!(failure(), None, "whatever ends its lines");
    fs::remove_dir_all(directory).unwrap();
}
