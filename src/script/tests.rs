use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use serde_json::{Value as Json, json};

use super::*;
use crate::game::{RoomInfo, Target};
use crate::journal::{Journal, Replay, Verdict};
use crate::room::{Input, Output, Room};
use crate::sim::RoomSimulation;

/// Loads modules as from files.
fn check(modules: &[(&str, &str)]) -> Result<Checked, Failure> {
    let texts = modules.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned())).collect::<BTreeMap<_, _>>();
    let read = move |path: &str| texts.get(path).cloned().ok_or_else(|| "there is no such module".to_owned());
    load(modules[0].0, read).map(|(_, checked)| checked)
}

fn program(modules: &[(&str, &str)]) -> Program {
    let texts = modules.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned())).collect();
    Program::new(modules[0].0, texts).unwrap()
}

/// A room whose game is one module.
struct Bench {
    room: Room<Script>,
    reports: Rc<RefCell<Vec<Report>>>,
    tick: u32,
}

impl Bench {
    fn new(text: &str) -> Bench {
        Bench::of(&program(&[("game.js", text)]))
    }

    fn of(program: &Program) -> Bench {
        let reports = Rc::new(RefCell::new(Vec::new()));
        let kept = Rc::clone(&reports);
        let scripts =
            Scripts::new(CurrentProgram::new(program.clone()), move |report| kept.borrow_mut().push(report.clone()));
        let info = RoomInfo::new("bench", 1);
        let room = Room::new(&info, scripts.create(&info).unwrap(), 8);
        Bench { room, reports, tick: 0 }
    }

    fn join(&mut self, name: &str) -> PlayerId {
        self.join_with(name, Json::Null)
    }

    fn join_with(&mut self, name: &str, data: Json) -> PlayerId {
        let player = self.room.next_player();
        self.room.handle_input(Input::Join { player, join: Join { data, ..Join::new(name) } });
        player
    }

    fn send(&mut self, player: PlayerId, number: u32, input: &Json) {
        let value = rmp_serde::to_vec_named(input).unwrap();
        self.room.handle_input(Input::Input { player, number, seen: 0, value });
    }

    fn tick(&mut self) -> Vec<Output> {
        self.tick += 1;
        self.room.handle_input(Input::Tick(Tick { number: self.tick, missed: 0 }));
        std::iter::from_fn(|| self.room.poll_output()).collect()
    }

    /// The states that a tick sends, with who gets them.
    fn states(&mut self) -> Vec<(Target, Json)> {
        let state = |output| match output {
            Output::Body { to, kind: Kind::State, body } => {
                let (_, state): (u32, Json) = rmp_serde::from_slice(&body).unwrap();
                Some((to, state))
            }
            _ => None,
        };
        self.tick().into_iter().filter_map(state).collect()
    }

    /// The sentence with which the room is closed in this tick.
    fn closed(&mut self) -> String {
        let outputs = self.tick();
        assert!(outputs.contains(&Output::Ended), "{} outputs, but not the end", outputs.len());
        let sentence = outputs.iter().find_map(|output| match output {
            Output::Left { message, .. } => Some(message.clone()),
            _ => None,
        });
        sentence.expect("somebody was in the room")
    }
}

/// What `export const …` of a module gives a player in a tick.
fn state_of(expression: &str) -> Json {
    let text = format!("export function tick(game, ctx) {{ ctx.state({expression}); }}");
    let mut bench = Bench::new(&text);
    bench.join("Ada");
    let states = bench.states();
    assert_eq!(states.len(), 1, "{:?}", bench.reports.borrow());
    states[0].1.clone()
}

/// Why a room with this body of `tick` is closed.
fn why_closed(body: &str) -> String {
    let mut bench = Bench::new(&format!("export function tick(game, ctx, tick, batch) {{ {body} }}"));
    bench.join("Ada");
    bench.closed()
}

const COUNTER: &str = "
export function create(room) { return { room: room.name, joined: [], inputs: [] }; }
export function join(game, ctx, player, { name, data }) {
  if (data === 'nobody') ctx.refuse('No.');
  game.joined.push([player, name]);
  return { map: [1, 2], you: player };
}
export function leave(game, ctx, player, reason) { game.joined.push([player, reason]); }
export function tick(game, ctx, { number, missed }, batch) {
  for (const message of batch) game.inputs.push(message);
  ctx.state({ ...game, number, missed, players: ctx.players.map(({ id, name }) => [id, name]) });
  ctx.event({ except: 1 }, ['hello', ctx.tickMs], { reliable: true });
}";

#[test]
fn a_game_gets_its_players_and_their_messages_and_sends_states_and_events() {
    let mut bench = Bench::new(COUNTER);
    let (ada, nobody) = (bench.join("Ada"), bench.join_with("Eve", json!("nobody")));
    let outputs = bench.tick();
    let welcome = Encoded::from_json(r#"{"map":[1,2],"you":1}"#).unwrap();
    assert_eq!(outputs[0], Output::Joined { player: ada, welcome });
    let (code, message) = (crate::wire::codes::ErrorCode::Refused, "No.".to_owned());
    assert_eq!(outputs[1], Output::Refused { player: nobody, code, message });

    bench.send(ada, 1, &json!({ "x": 0.5, "jump": true, "name": "ü" }));
    let value = rmp_serde::to_vec(&json!([1, null])).unwrap();
    bench.room.handle_input(Input::Command { player: ada, value });
    let outputs = bench.tick();
    let Output::Body { to: Target::All, kind: Kind::State, body } = &outputs[0] else { panic!("{outputs:?}") };
    let (tick, state): (u32, Json) = rmp_serde::from_slice(body).unwrap();
    let inputs = json!([
        { "player": 1, "input": { "x": 0.5, "jump": true, "name": "ü" }, "number": 1, "seen": 0 },
        { "player": 1, "command": [1, null] },
    ]);
    let expected = json!({
        "room": "bench", "joined": [[1, "Ada"]], "inputs": inputs, "number": 2, "missed": 0, "players": [[1, "Ada"]],
    });
    assert_eq!((tick, state), (2, expected));
    let Output::Body { to: Target::Except(PlayerId(1)), kind: Kind::ReliableEvent, body } = &outputs[1] else {
        panic!("{outputs:?}")
    };
    assert_eq!(rmp_serde::from_slice::<Json>(body).unwrap(), json!([2, ["hello", 33]]));

    bench.room.handle_input(Input::Leave { player: ada, reason: Leave::Left });
    assert_eq!(bench.states()[0].1["joined"], json!([[1, "Ada"], [1, "left"]]));
}

#[test]
fn values_reach_players_as_they_are() {
    for (expression, expected) in [
        ("[1, -1, 0.5, 1e300, 2 ** 53, -(2 ** 53)]", json!([1, -1, 0.5, 1e300, 1_u64 << 53, -(1_i64 << 53)])),
        ("{ a: undefined, b: null, c: [undefined] }", json!({ "b": null, "c": [null] })),
        ("['', 'ü', '\\u{1f600}', 'a\\ud800b']", json!(["", "ü", "😀", "a\u{fffd}b"])),
        ("new Float32Array([0.1, 2])", json!([f64::from(0.1_f32), 2])),
        ("Object.create({ inherited: 1 }, { own: { value: 2, enumerable: true } })", json!({ "own": 2 })),
        (
            "Object.fromEntries(Array.from({ length: 20 }, (_, at) => ['k' + at, at % 2 ? at : undefined])).k19",
            json!(19),
        ),
    ] {
        assert_eq!(state_of(expression), expected, "{expression}");
    }
    // An undefined property shortens the head of its object.
    let many =
        state_of("Object.fromEntries(Array.from({ length: 20 }, (_, at) => ['k' + at, at > 9 ? at : undefined]))");
    assert_eq!(many.as_object().unwrap().len(), 10);
    assert_eq!(many["k19"], 19);
}

#[test]
fn keys_that_are_no_text_elsewhere_reach_players_too() {
    let mut bench = Bench::new(r"export function tick(game, ctx) { ctx.state({ 'a\0b': 1, '\ud800': 2, 'ä😀': 3 }); }");
    bench.join("Ada");
    assert_eq!(bench.states()[0].1, json!({ "a\0b": 1, "\u{fffd}": 2, "ä😀": 3 }));
}

#[test]
fn a_value_that_cannot_be_sent_is_refused_with_its_place() {
    for (value, why) in [
        ("{ a: [() => 1] }", "the value.a[0] is a function"),
        ("10n", "is a BigInt: use a number"),
        ("{ s: Symbol() }", "the value.s is a symbol"),
        ("new Map([[1, 2]])", "is a Map: use a plain object"),
        ("{ set: new Set() }", "the value.set is a Set"),
        ("new ArrayBuffer(4)", "use a Uint8Array"),
        ("Promise.resolve(1)", "is a promise"),
        ("(() => { const a = {}; a.a = a; return a; })()", "nested deeper than 16 levels, or refers to itself"),
        ("'x'.repeat(20000)", "has more than 16384 bytes"),
        ("new Uint8Array(20000)", "has more than 16384 bytes"),
        ("Object.assign([], { length: 2 ** 32 - 1 })", "has more than 16384 bytes"),
        ("{ get x() { throw new Error('a getter') } }", "a getter"),
        ("new Proxy({}, { ownKeys() { throw new Error('a proxy') } })", "a proxy"),
    ] {
        let sentence = why_closed(&format!("ctx.state({value});"));
        assert!(sentence.contains(why), "{value}: {sentence}");
    }
    // The game may go on without the message, which is counted.
    let mut bench =
        Bench::new("export function tick(game, ctx) { try { ctx.state(() => 1); } catch {} ctx.state(1); }");
    bench.join("Ada");
    assert_eq!(bench.states(), [(Target::All, json!(1))]);
    assert_eq!(bench.room.unsent(), 1);
}

#[test]
fn keys_of_players_are_plain_properties() {
    let mut bench = Bench::new(
        "export function tick(game, ctx, tick, batch) {
           for (const { input } of batch) {
             ctx.state([input.polluted === undefined, Object.keys(input), ({}).polluted === undefined]);
           }
         }",
    );
    let ada = bench.join("Ada");
    bench.tick();
    bench.send(ada, 1, &json!({ "__proto__": { "polluted": 1 }, "constructor": 1, "toString": 2 }));
    let expected = json!([true, ["__proto__", "constructor", "toString"], true]);
    assert_eq!(bench.states(), [(Target::All, expected)]);
}

#[test]
fn budgets_end_a_room_with_a_sentence() {
    for (body, why) in [
        ("for (;;) {}", "tick took more than 2000000 steps"),
        ("try { for (;;) {} } catch {} finally { for (;;) {} }", "tick took more than 2000000 steps"),
        ("const all = []; for (;;) all.push(new Array(1000).fill(0));", "out of memory"),
        ("const text = 'x'.repeat(2 ** 29);", "out of memory: a room may hold 32 MiB"),
        ("const f = () => f() + 1; f();", "RangeError"),
        ("return Promise.resolve(1);", "tick must not be async"),
        ("Promise.resolve(1).then(() => 2);", "must not use promises"),
        ("ctx.state(undefinedVariable);", "ReferenceError: undefinedVariable is not defined"),
        ("throw { toString() { throw 1; } };", "something else than an Error was thrown"),
        ("throw 'text';", "text"),
        ("ctx.event('nobody', 1);", "the target of an event is"),
    ] {
        let sentence = why_closed(body);
        assert!(sentence.starts_with("The room closed because its game failed: "), "{sentence}");
        assert!(sentence.contains(why), "{body}: {sentence}");
    }
}

#[test]
fn an_error_names_its_place_and_a_game_may_go_on_after_it() {
    let text = "export function tick(game, ctx, { number }) {\n  ctx.state(number);\n  if (number > 1) fail();\n}\n\
                function fail() {\n  throw new Error('no');\n}\n";
    let mut bench = Bench::new(text);
    bench.join("Ada");
    assert_eq!(bench.states(), [(Target::All, json!(1))]);
    assert_eq!(bench.closed(), "The room closed because its game failed: Error: no (game.js:6:13).");
    let reports = bench.reports.borrow();
    let [Report { room, failure: Some(failure), is_closed: true }] = reports.as_slice() else { panic!("{reports:?}") };
    assert_eq!((room.as_str(), failure.callback.as_str(), failure.place()), ("bench", "tick", Some("game.js:6:13")));
    assert_eq!(failure.stack[..2], ["at fail (game.js:6:13)", "at tick (game.js:3:19)"]);

    let mut bench =
        Bench::new(&format!("{text}export function onError(game, ctx, error, callback) {{ return true; }}"));
    bench.join("Ada");
    for number in 1..100 {
        assert_eq!(bench.states(), [(Target::All, json!(number))]);
    }
    assert_eq!(bench.reports.borrow().len(), 1, "an error is reported once per place and minute");
}

#[test]
fn an_error_in_join_refuses_the_player_alone() {
    let mut bench = Bench::new(
        "export function join(game, ctx, player, { data }) { return data.team.color; }
         export function tick(game, ctx) { ctx.state(ctx.players.length); }",
    );
    bench.join_with("Ada", json!({ "team": { "color": "red" } }));
    let eve = bench.join("Eve");
    let outputs = bench.tick();
    assert!(matches!(outputs[0], Output::Joined { .. }));
    let Output::Refused { player, message, .. } = &outputs[1] else { panic!("{outputs:?}") };
    assert!(*player == eve && message.starts_with("The game failed: TypeError"), "{message}");
    assert_eq!(bench.states(), [(Target::All, json!(1))]);
}

/// A message of the script may quote what players have sent.
#[test]
fn what_an_error_quotes_decides_nothing_and_is_one_line() {
    let mut bench = Bench::new(
        "export function join(game, ctx, player, { name }) { throw new Error(name); }
         export function tick(game, ctx) { ctx.state(1); }
         export function onError() { return true; }",
    );
    for name in ["out of memory", "InternalError: out of memory"] {
        bench.join(name);
        let outputs = bench.tick();
        assert!(matches!(outputs[0], Output::Refused { .. }) && bench.room.game().is_some(), "{name}");
    }
    let sentence = why_closed("throw new Error('one\\ntwo\\u001b' + 'x'.repeat(1e6));");
    assert!(!sentence.contains(char::is_control) && sentence.contains("one two xxx"), "{}", sentence.len());
    assert!(sentence.len() < 700, "{} bytes", sentence.len());
}

#[test]
fn what_create_draws_is_not_drawn_again() {
    let mut bench = Bench::new(
        "export const create = () => [Math.random(), Math.random()];
         export function tick(game, ctx) { ctx.state([...game, Math.random(), Math.random()]); }",
    );
    bench.join("Ada");
    let numbers = bench.states()[0].1.as_array().unwrap().clone();
    let distinct: std::collections::BTreeSet<String> = numbers.iter().map(ToString::to_string).collect();
    assert_eq!(distinct.len(), 4, "{numbers:?}");
}

#[test]
fn a_game_has_no_clock_and_its_numbers_are_those_of_its_seed() {
    let absent = "[typeof Date, typeof performance, typeof WeakRef, typeof FinalizationRegistry, \
                  typeof SharedArrayBuffer, typeof Atomics, typeof setTimeout, typeof require, typeof fetch]";
    assert_eq!(state_of(absent), Json::from(vec!["undefined"; 9]));
    let numbers = state_of("[Math.random(), ctx.random(), Math.random()]");
    assert_eq!(numbers, state_of("[ctx.random(), ctx.random(), Math.random()]"));
    let distinct: std::collections::BTreeSet<String> =
        numbers.as_array().unwrap().iter().map(ToString::to_string).collect();
    assert_eq!(distinct.len(), 3);
    // ECMAScript, where it is not IEEE 754's pow.
    assert_eq!(state_of("[Math.pow(1, Infinity), Math.pow(2, 0.5)].map(String)"), json!(["NaN", "1.4142135623730951"]));
    assert_eq!(state_of("Math.sin(1e6)"), json!(libm::sin(1e6)));
}

/// `client-js/test/math.test.js` computes the same in another engine.
#[test]
fn a_room_and_a_browser_compute_the_same() {
    let modules = [
        (
            "game.js",
            "import * as math from 'rtcade/math';
             import hash, { EXPECTED } from './vectors.js';
             let sum;
             export function create() { return {}; }
             export function tick(game, ctx) { sum ??= hash(math); ctx.state([sum, EXPECTED]); }",
        ),
        ("vectors.js", include_str!("../../tests/vectors/math.js")),
    ];
    let mut bench = Bench::of(&program(&modules));
    bench.join("Ada");
    let states = bench.states();
    assert_eq!(states.len(), 1, "{:?}", bench.reports.borrow());
    assert_eq!(states[0].1[0], states[0].1[1]);
}

#[test]
fn modules_come_from_the_directory_of_the_game_alone() {
    let state = |name: &str| {
        let import =
            format!("import {{ value }} from '{name}';\nexport function tick(game, ctx) {{ ctx.state(value); }}");
        let modules = [
            ("game.js", import.as_str()),
            ("lib/value.js", "import { cos } from 'rtcade/math'; export const value = cos(0) + 1;"),
            ("twice.js", "export { value } from './lib/../lib/value.js';"),
        ];
        let loaded = check(&modules).map_err(|failure| failure.to_string());
        // What was found in files is found in the program too.
        let scripts = Scripts::new(CurrentProgram::new(program(&modules)), |_| ());
        assert_eq!(scripts.create(&RoomInfo::new("modules", 1)).is_ok(), loaded.is_ok());
        loaded
    };
    assert_eq!(state("./lib/value.js"), Ok(Checked { tick: None }));
    assert_eq!(state("./twice.js"), Ok(Checked { tick: None }));
    for (name, why) in [
        ("../secret.js", "outside of the game's directory"),
        ("./lib/../../secret.js", "outside of the game's directory"),
        ("./other.js", "there is no such module"),
        ("lodash", "rtcade/game and rtcade/math"),
        ("/etc/passwd", "rtcade/game and rtcade/math"),
    ] {
        let error = state(name).unwrap_err();
        assert!(error.contains(why), "{name}: {error}");
    }
}

#[test]
fn a_program_that_cannot_be_loaded_says_where() {
    for (text, expected) in [
        ("export function tick() {\n  let = ;\n}", "SyntaxError"),
        ("export const tick = 1;", "the game exports no function named tick"),
        ("export function tick() {}\nthrow new Error('at once');", "Error: at once (game.js:2:11)"),
        ("export function tick() {}\nfor (;;) {}", "loading the game took more than"),
        ("export function tick() {}\nexport const tickMs = 2;", "tickMs is 2; a tick has 5 to 1000 milliseconds"),
        ("export function tick() {}\nawait new Promise(() => {});", ""),
    ] {
        let failure = check(&[("game.js", text)]).unwrap_err();
        assert!(failure.to_string().contains(expected), "{text}: {failure}");
    }
    let failure = check(&[("game.js", "export function tick() {\n  let = ;\n}")]).unwrap_err();
    assert_eq!(failure.place(), Some("game.js:2:7"), "{failure:?}");
    let checked = check(&[("game.js", "export function tick() {}\nexport const tickMs = 20;")]).unwrap();
    assert_eq!(checked.tick, Some(Duration::from_millis(20)));
}

const WALKER: &str = "
export function create() { return { at: 0, names: {} }; }
export function join(game, ctx, player, { name }) { game.names[player] = name; }
export function tick(game, ctx, tick, batch) {
  game.at += SPEED + batch.length + Math.random();
  ctx.state([SPEED, game.at, game.names]);
}";

#[test]
fn a_game_of_plain_data_is_saved_and_goes_on_with_another_program() {
    let (slow, fast) = (WALKER.replace("SPEED", "1"), WALKER.replace("SPEED", "100"));
    let mut bench = Bench::new(&slow);
    let ada = bench.join("Ada");
    let before = bench.states();
    bench.room.handle_input(Input::External { bytes: reload_message(&program(&[("game.js", &fast)])) });
    let after = bench.states();
    let at = |states: &[(Target, Json)]| states[0].1[1].as_f64().unwrap();
    let moved = at(&after) - at(&before);
    assert_eq!((&after[0].1[0], &after[0].1[2]), (&json!(100), &json!({ ada.to_string(): "Ada" })));
    assert!((100.0..101.0).contains(&moved), "{moved}");
    assert_eq!(bench.reports.borrow().last().unwrap().failure, None);

    // The old program plays on where the new one has an error.
    bench.room.handle_input(Input::External { bytes: reload_message(&program(&[("game.js", "export function")])) });
    assert_eq!(bench.states()[0].1[0], 100);
    assert!(bench.reports.borrow().last().unwrap().failure.is_some());

    let saved = bench.room.game().unwrap().save().unwrap();
    let info = RoomInfo::new("bench", 7);
    let scripts = Scripts::new(CurrentProgram::new(program(&[("game.js", &slow)])), |_| ());
    let mut other = Bench { room: Room::new(&info, scripts.create(&info).unwrap(), 8), ..Bench::new(&slow) };
    other.join("Bob");
    other.tick();
    drop(other);
    let engine = scripts.create(&info).unwrap();
    engine.load(engine.engine.as_ref().unwrap(), &saved).unwrap();
    assert_eq!(engine.saved().unwrap(), saved);
}

#[test]
fn what_is_no_plain_data_is_not_saved_unless_the_game_does_it() {
    for (game, why) in [
        ("new (class Board { x = 1 })()", "game is a Board"),
        ("({ players: new Map() })", "game.players is a Map"),
        ("({ f: [() => 1] })", "game.f[0] is a function"),
        ("(() => { const one = {}; return { a: one, b: one }; })()", "game.b is an object that is also elsewhere"),
    ] {
        let text = format!("export function create() {{ return {game}; }}\nexport function tick() {{}}");
        let info = RoomInfo::new("bench", 1);
        let script = Scripts::new(CurrentProgram::new(program(&[("game.js", &text)])), |_| ()).create(&info).unwrap();
        let error = script.saved().unwrap_err();
        assert!(error.contains(why), "{error}");
        assert_eq!(script.save(), None);
    }
    let text = "export function create() { return new Map([[1, 2]]); }
                export function tick(game, ctx) { ctx.state([...game]); }
                export const save = (game) => [...game];
                export const load = (saved) => new Map([...saved, [3, 4]]);";
    let mut bench = Bench::new(text);
    bench.join("Ada");
    assert_eq!(bench.states()[0].1, json!([[1, 2]]));
    bench.room.handle_input(Input::External { bytes: reload_message(&program(&[("game.js", text)])) });
    assert_eq!(bench.states()[0].1, json!([[1, 2], [3, 4]]));
}

#[test]
fn a_recording_has_the_program_and_replays_without_it() {
    let (slow, fast) = (WALKER.replace("SPEED", "1"), WALKER.replace("SPEED", "2"));
    let scripts = Scripts::new(CurrentProgram::new(program(&[("game.js", &slow)])), |_| ());
    let made = scripts.clone();
    let mut simulation = RoomSimulation::new(3, |room| made.create(room));
    let ada = simulation.join("Ada");
    for _ in 0..50 {
        simulation.send(ada, &json!({ "x": 1 }));
        simulation.step();
    }
    let recording = simulation.recording();
    // The server has another program by now.
    scripts.program.replace(program(&[("game.js", &fast)]));
    let journal = Journal::parse(&recording).unwrap();
    let mut replay = Replay::new(&journal, |room| scripts.create(room)).unwrap();
    let mut ticks = 0;
    while let Some(step) = replay.step().unwrap() {
        assert_eq!(step.verdict, Verdict::Same, "tick {}", step.tick.number);
        ticks += 1;
    }
    assert_eq!(ticks, 50);
    let again = Journal::parse(&recording).unwrap();
    let current = Scripts::new(CurrentProgram::new(program(&[("game.js", &fast)])), |_| ());
    let other = |room: &RoomInfo| current.create(&RoomInfo { program: Vec::new(), ..room.clone() });
    let mut changed = Replay::new(&again, other).unwrap();
    assert_ne!(changed.step().unwrap().unwrap().verdict, Verdict::Same, "another program is another game");
}

#[test]
fn programs_have_limits_and_names() {
    let text = |bytes: usize| BTreeMap::from([("game.js".to_owned(), " ".repeat(bytes))]);
    assert!(matches!(Program::new("other.js", text(1)), Err(ProgramError::NoEntry(_))));
    assert!(matches!(Program::new("game.js", text(limits::PROGRAM_BYTES)), Err(ProgramError::TooLarge(_))));
    let one = program(&[("game.js", "1")]);
    assert_eq!(Program::decode(one.encoded()), Ok(one.clone()));
    let mut damaged = one.encoded().to_vec();
    damaged.truncate(damaged.len() / 2);
    assert!(Program::decode(&damaged).is_err());
    assert_eq!(Program::decode(b"no program"), Err(ProgramError::Unreadable));
}

/// What a game does with little memory, wherever it runs out of it, ends nothing but the game.
#[test]
fn an_engine_without_memory_fails_without_harm() {
    let text = "import { History } from 'rtcade/game';
                export function create() { return { all: [], map: new Map() }; }
                export function tick(game, ctx, tick, batch) {
                  for (let at = 0; at < 50; at += 1) {
                    game.all.push({ at, text: `text ${at}`, history: new History(3), again: game });
                    game.map.set({}, /a(b+)c/.exec('abbbc'));
                  }
                  ctx.state(JSON.parse(JSON.stringify(game.all.map(({ at, text }) => [at, text]))).slice(0, 10));
                }";
    let program = program(&[("game.js", text)]);
    let (mut failed, mut played) = (0, 0);
    for memory in (40..2_400).step_by(11) {
        let desk = Rc::new(RefCell::new(Desk::new("small", 1, 33.0)));
        let made = Engine::with_modules(program::Modules::of(&program), "game.js", &desk, memory * 1024);
        let Ok((engine, _)) = made else {
            failed += 1;
            continue;
        };
        let info = RoomInfo::new("small", 1);
        let mut ran = engine.call("create", |ctx| Ok(vec![engine::room(ctx, &info)?]), |_, _| Ok(()));
        for number in 0..20_u32 {
            ran = ran.and_then(|()| {
                engine.call(
                    "tick",
                    |ctx| {
                        let batch = Array::new(ctx.clone())?.into_value();
                        Ok(vec![number.into_js(ctx)?, 0.into_js(ctx)?, batch])
                    },
                    |_, _| Ok(()),
                )
            });
        }
        failed += u32::from(ran.is_err());
        played += u32::from(ran.is_ok());
    }
    assert!(failed > 10 && played > 10, "{failed} failed, {played} played");
}

const DOTS: &str = "
export const SPEED = 3;
export function create() { return { dots: {} }; }
export function join(game, ctx, player, { data }) {
  if (data === 'late') ctx.refuse('Too late.');
  game.dots[player] = 0;
  return { you: player };
}
export function leave(game, ctx, player) { delete game.dots[player]; }
export function tick(game, ctx, tick, batch) {
  for (const { player, input, command } of batch) {
    if (command === 'fail') fail();
    if (command) ctx.event(player, ['heard', command], { reliable: true });
    if (input) game.dots[player] += SPEED;
  }
  ctx.state(game.dots);
}";

fn results(tests: &str, seeds: std::ops::Range<u64>) -> Result<Vec<(String, u64, Option<String>)>, Failure> {
    let texts = BTreeMap::from([("game.js", DOTS.to_owned()), ("game.test.js", tests.to_owned())]);
    let read = move |path: &str| texts.get(path).cloned().ok_or_else(|| "there is no such file".to_owned());
    let mut results = Vec::new();
    let program = program(&[("game.js", DOTS)]);
    run_tests(
        (&program, Checked { tick: None }),
        "game.test.js",
        read,
        seeds,
        |name| name != "left out",
        |result| {
            results.push((result.name.clone(), result.seed, result.failure.as_ref().map(ToString::to_string)));
        },
    )?;
    Ok(results)
}

#[test]
fn the_tests_of_a_game_run_over_simulated_networks() {
    let results = results(
        "import * as game from './game.js';
         import { assert, simulate, test } from 'rtcade/test';
         test('moves', ({ seed }) => {
           const sim = simulate(game, { players: 3, loss: 0.1, delay: 60, jitter: 20 });
           const [one, two, three] = sim.players;
           assert.deepEqual([one.id, two.welcome, three.isOpen], [1, { you: 2 }, true]);
           sim.every(50, 5, () => one.send({}));
           one.command('hello');
           sim.run(2);
           assert.deepEqual([sim.game.dots, two.state], [{ 1: 100 * game.SPEED, 2: 0, 3: 0 }, sim.game.dots]);
           assert.equal(one.consumed, 100);
           assert.deepEqual(one.events.map(({ event }) => event), [['heard', 'hello']]);
           assert(two.states.length > 150 && two.states.length < 250, `${two.states.length} states`);
           two.leave();
           three.disconnect();
           sim.until(() => Object.keys(sim.game.dots).length === 2 && three.isOpen);
           assert.equal(sim.join('late', 'late').over, undefined);
           sim.run(3);
           assert.equal(sim.players[3].over, 'Too late.');
           assert(seed === 7 || seed === 8);
         });
         test('left out', () => { throw new Error('it was not left out'); });
         test('fails', () => assert.equal(1, 2, 'numbers'));
         test('the game fails', () => {
           const sim = simulate(game, { players: 1 });
           sim.players[0].command('fail');
           sim.run(1);
         });
         test('endless', () => simulate({}, {}));
         test('async', async () => 1);
         test('out of range', () => simulate(game, { loss: 5 }));",
        7..9,
    );
    let results = results.unwrap();
    let of = |name: &str| {
        let of: Vec<_> =
            results.iter().filter(|(of, ..)| of == name).map(|(_, seed, why)| (*seed, why.clone())).collect();
        assert_eq!(of.iter().map(|(seed, _)| *seed).collect::<Vec<_>>(), [7, 8], "{name}");
        assert!(of[0].1 == of[1].1, "{of:?}");
        of[0].1.clone().unwrap_or_default()
    };
    assert_eq!(of("moves"), "");
    for (name, why) in [
        ("fails", "numbers: 1 is not 2"),
        ("the game fails", "the game has failed in tick: ReferenceError: fail is not defined"),
        ("endless", "simulate takes the game that this file tests"),
        ("async", "a test must not be async"),
        ("out of range", "loss is a share"),
    ] {
        assert!(of(name).contains(why), "{name}: {}", of(name));
    }
    assert_eq!(results.len(), 12, "{results:?}");
}

#[test]
fn tests_that_cannot_be_loaded_say_why() {
    for (tests, why) in [
        ("import { simulate } from './other.js';", "there is no such file"),
        ("test('x', () => 1);", "ReferenceError: test is not defined"),
        ("import { test } from 'rtcade/test'; test('x');", "test takes a name and a function"),
    ] {
        let failure = results(tests, 0..1).unwrap_err();
        assert!(failure.to_string().contains(why), "{failure}");
    }
}
