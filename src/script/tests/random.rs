//! Random programs and values, thrown at the host: whatever a script does, it must not panic.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::*;

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

fn random_body(rng: &mut ChaCha8Rng) -> String {
    let mut body = String::new();
    for _ in 0..rng.random_range(1..5) {
        let mut statement = STATEMENTS[rng.random_range(0..STATEMENTS.len())].to_owned();
        while statement.contains('$') {
            statement = statement.replacen('$', &format!("({})", VALUES[rng.random_range(0..VALUES.len())]), 1);
        }
        let statement = match rng.random_range(0..3) {
            0 => statement,
            1 => format!("try {{ {statement} }} catch (error) {{ game.error = error; }}"),
            _ => format!("{{ {statement} }}"),
        };
        body.push_str(&statement);
        body.push('\n');
    }
    body
}

fn random_program(rng: &mut ChaCha8Rng) -> String {
    let mut text = String::from("export function create() { return {}; }\n");
    let callbacks = ["join", "leave", "drop", "resume", "external", "drain", "save", "load", "onError"];
    for name in callbacks {
        if rng.random_ratio(1, 4) {
            let body = random_body(rng);
            let ctx = if name == "save" || name == "load" { "game, ctx = {}" } else { "game, ctx, ...rest" };
            text += &format!("export function {name}({ctx}) {{ {body} }}\n");
        }
    }
    text += &format!("export function tick(game, ctx, tick, batch) {{ {} }}\n", random_body(rng));
    text
}

#[test]
fn random_programs_do_not_panic() {
    let seeds = std::env::var("SCRIPT_SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(400_u64);
    let (mut ended, mut played) = (0, 0);
    for seed in 0..seeds {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let text = random_program(&mut rng);
        let scripts = Scripts::new(CurrentProgram::new(program(&[("game.js", &text)])), |_| ());
        let info = RoomInfo::new("random", seed);
        let Ok(game) = scripts.create(&info) else { continue };
        let mut bench = Bench { room: Room::new(&info, game, 8), reports: Rc::default(), tick: 0 };
        let inputs = [json!(null), json!({ "__proto__": 1 }), json!([1.5, "x"]), json!({ "toString": 1, "then": 2 })];
        for _ in 0..6 {
            if bench.room.game().is_none() {
                break;
            }
            let player = bench.join_with("Ada", inputs[rng.random_range(0..inputs.len())].clone());
            let mut outputs = bench.tick();
            bench.send(player, 1, &inputs[rng.random_range(0..inputs.len())]);
            bench.room.handle_input(Input::Drop { player });
            bench.room.handle_input(Input::External { bytes: vec![0; 4] });
            outputs.extend(bench.tick());
            if let Some(game) = bench.room.game() {
                let _ = game.save();
            }
            bench.room.handle_input(Input::Resume { player, resumed: Resumed::new(true) });
            bench.room.handle_input(Input::External { bytes: reload_message(&program(&[("game.js", &text)])) });
            outputs.extend(bench.tick());
            bench.room.handle_input(Input::Leave { player, reason: Leave::Left });
            outputs.extend(bench.tick());
            assert!(!outputs.contains(&Output::Closed), "seed {seed}: the game has panicked:\n{text}");
        }
        match bench.room.game() {
            Some(_) => played += 1,
            None => ended += 1,
        }
    }
    assert!(ended > 0 && played > 0, "{ended} rooms have ended, {played} go on");
}
