//! Random programs, thrown at the host: whatever a script does, it must not panic.

use std::time::Instant;

use serde_json::json;

use super::*;
use crate::room::{Input, Output, Room};

/// Values of every kind, and those that attack whoever reads them.
const VALUES: &[&str] = &[
    "undefined",
    "null",
    "true",
    "NaN",
    "-0",
    "1e999",
    "-1",
    "1.5",
    "2 ** 31",
    "2 ** 53",
    "2 ** 53 + 2",
    "'x'",
    "'\\ud800'",
    "'y'.repeat(5000)",
    "10n",
    "Symbol('s')",
    "{}",
    "[]",
    "[1, [2, [3]]]",
    "{ a: { b: [1, null, 'c'] } }",
    "{ __proto__: null, x: 1 }",
    "Object.assign([1, 2], { length: 2 ** 16 })",
    "new Array(2 ** 16)",
    "new Uint8Array(10)",
    "new Float64Array([1, NaN, -0])",
    "new Uint16Array(new ArrayBuffer(8), 2, 1)",
    "new BigInt64Array(2)",
    "new DataView(new ArrayBuffer(8))",
    "new ArrayBuffer(8)",
    "(() => { const b = new ArrayBuffer(8); const a = new Uint8Array(b); b.transfer?.(); return a; })()",
    "new Map([[1, 2]])",
    "new Set([1])",
    "/x/g",
    "() => 1",
    "class A {}",
    "new (class A { x = 1; get y() { return 2; } })()",
    "new Error('e')",
    "Promise.resolve(1)",
    "(function* () { yield 1; })()",
    "new Proxy({}, { get() { throw new Error('get'); }, ownKeys() { return ['a']; } })",
    "new Proxy([], {})",
    "(() => { const { proxy, revoke } = Proxy.revocable({}, {}); revoke(); return proxy; })()",
    "(() => { const { proxy, revoke } = Proxy.revocable([], {}); revoke(); return proxy; })()",
    "{ get x() { throw 1; } }",
    "{ get x() { ctx.state(1); ctx.log('in a getter'); return ctx.players; } }",
    "{ toString() { throw new Error('text'); }, valueOf() { return {}; } }",
    "{ toJSON() { throw new Error('json'); } }",
    "{ constructor: { get name() { throw 2; } } }",
    "{ constructor: null }",
    "(() => { const a = []; a.push(a, a); return a; })()",
    "globalThis",
    "ctx",
    "game",
    "Math",
    "ctx.players",
    "Object.defineProperty({}, 'length', { get() { throw 3; } })",
    "Object.defineProperty(new Uint8Array(4), 'length', { value: 2 ** 40 })",
    "Object.defineProperty(new Float32Array(4), 'length', { value: -5 })",
];

/// `$` is a value.
const STATEMENTS: &[&str] = &[
    "ctx.state($);",
    "ctx.stateTo($, $);",
    "ctx.stateForEach(() => ($));",
    "ctx.stateForEach($);",
    "ctx.event($, $, $);",
    "ctx.event('all', $, { reliable: true });",
    "ctx.event({ except: $ }, $);",
    "ctx.kick($, $);",
    "ctx.rename(1, $);",
    "ctx.rename($, $);",
    "ctx.setTitle($);",
    "ctx.setLocked($);",
    "ctx.setListed($);",
    "ctx.log($, $);",
    "console.error($);",
    "ctx.consumed($);",
    "ctx.link($);",
    "ctx.player($);",
    "ctx.randomInt($, $);",
    "ctx.refuse($);",
    "ctx.history($).record($, $);",
    "const history = ctx.history(2); history.record(1, $); history.record(2, $); history.at($);",
    "ctx.fanOutInputs();",
    "game.kept = $;",
    "game[String(ctx.tick)] = [$, $];",
    "Math.atan2($, $); Math.pow($, $); Math.hypot($, $); Math.sin($);",
    "JSON.stringify($);",
    "structuredClone?.($);",
    "[...$];",
    "Object.keys($).length;",
    "return $;",
    "throw $;",
    "Array.prototype.map = $;",
    "Object.freeze = $;",
    "Object.prototype.rttMs = $;",
    "Object.prototype.toString = () => { throw 4; };",
    "Array.prototype[Symbol.iterator] = $;",
    "JSON.stringify = $;",
    "String.prototype.toString = $;",
    "globalThis.Error = $;",
    "Error.prepareStackTrace = () => { throw 5; };",
    "Object.defineProperty(Error.prototype, 'stack', { get() { throw 6; } });",
    "Object.defineProperty(Object.prototype, 'reliable', { get() { throw 7; } });",
    "Promise.prototype.then = $;",
    "Function.prototype.call = $; Function.prototype.apply = $;",
    "for (const key of Object.getOwnPropertyNames(globalThis)) { try { delete globalThis[key]; } catch {} }",
    "eval('ctx.state(1)'); new Function('return this')();",
    "import('./game.js');",
];

/// Chooses by the bytes of an input; its end chooses the first of everything.
struct Choices<'a>(std::slice::Iter<'a, u8>);

impl Choices<'_> {
    fn below(&mut self, count: usize) -> usize {
        usize::from(self.0.next().copied().unwrap_or_default()) % count
    }

    fn of(&mut self, texts: &[&'static str]) -> &'static str {
        texts[self.below(texts.len())]
    }

    fn body(&mut self) -> String {
        let mut body = String::new();
        for _ in 0..=self.below(4) {
            let mut statement = self.of(STATEMENTS).to_owned();
            while statement.contains('$') {
                statement = statement.replacen('$', &format!("({})", self.of(VALUES)), 1);
            }
            let statement = match self.below(3) {
                0 => statement,
                1 => format!("try {{ {statement} }} catch (error) {{ game.error = error; }}"),
                _ => format!("{{ {statement} }}"),
            };
            body.push_str(&statement);
            body.push('\n');
        }
        body
    }

    fn program(&mut self) -> String {
        let mut text = String::from("export function create() { return {}; }\n");
        for name in ["join", "leave", "drop", "resume", "external", "drain", "save", "load", "onError"] {
            if self.below(4) == 1 {
                let arguments = if matches!(name, "save" | "load") { "game, ctx = {}" } else { "game, ctx, ...rest" };
                text += &format!("export function {name}({arguments}) {{ {} }}\n", self.body());
            }
        }
        text + &format!("export function tick(game, ctx, tick, batch) {{ {} }}\n", self.body())
    }
}

/// Makes a program of the bytes, and plays it with hostile values.
pub(crate) fn games(_: Instant, input: &[u8]) {
    let mut choices = Choices(input.iter());
    let text = choices.program();
    let modules = BTreeMap::from([("game.js".to_owned(), text.clone())]);
    let program = Program::new("game.js", modules).expect("the program is short");
    let scripts = Scripts::new(CurrentProgram::new(program.clone()), |_| ());
    let info = RoomInfo::new("hostile", 1);
    let Ok(game) = scripts.create(&info) else { return };
    let mut room = Room::new(&info, game, 8);
    // Null, {"__proto__": 1}, [1.5, "x"], {"toString": 2, "then": 3}.
    let values: [&[u8]; 4] =
        [&[0xc0], b"\x81\xa9__proto__\x01", b"\x92\xcb\x3f\xf8\0\0\0\0\0\0\xa1x", b"\x82\xa8toString\x02\xa4then\x03"];
    let mut number = 0;
    let mut tick = |room: &mut Room<Script>| {
        number += 1;
        room.handle_input(Input::Tick(Tick::new(number, 0)));
        while let Some(output) = room.poll_output() {
            assert!(output != Output::Closed, "the game has panicked:\n{text}");
        }
    };
    for round in 0..3 {
        let player = room.next_player();
        let data = [json!(null), json!({ "__proto__": 1 }), json!({ "toString": 2 })][choices.below(3)].clone();
        room.handle_input(Input::Join { player, join: Join { data, ..Join::new("Ada") } });
        tick(&mut room);
        let value = values[choices.below(4)].to_vec();
        room.handle_input(Input::Input { player, number: 1, seen: 0, value: value.clone() });
        room.handle_input(Input::Command { player, value });
        room.handle_input(Input::Drop { player });
        room.handle_input(Input::External { bytes: vec![round; 4] });
        tick(&mut room);
        if let Some(game) = room.game() {
            let _ = game.save();
        }
        room.handle_input(Input::Resume { player, resumed: Resumed::new(true) });
        room.handle_input(Input::External { bytes: reload_message(&program) });
        room.handle_input(Input::Drain { time: Duration::from_secs(1) });
        tick(&mut room);
        room.handle_input(Input::Leave { player, reason: Leave::Left });
        tick(&mut room);
    }
}
