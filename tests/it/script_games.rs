//! Games in JavaScript by the program: served, recorded, replayed, tested.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

use nix::sys::signal::Signal;

use super::admission::program::{Program, rtcade};
use super::bench::{count, counts, run};

const GAME: &str = "
import { FACTOR } from './lib/factor.js';
export const tickMs = 20;
export function create(room) { return { sums: {} }; }
export function join(game, ctx, player) { game.sums[player] = 0; }
export function leave(game, ctx, player) { delete game.sums[player]; }
export function tick(game, ctx, { number }, batch) {
  for (const { player, input } of batch) {
    if (Array.isArray(input) && Number.isFinite(input[0])) game.sums[player] += FACTOR * input[0];
  }
  ctx.state([game.sums, ctx.random(), Math.sin(number)]);
}";

const USERS: &str = "
config:
  phases: [{ duration: 1, arrivalCount: 4 }]
scenarios:
  - name: plays
    flow:
      - join: { room: 'sums' }
      - expect: state
      - loop: [{ send: [1] }]
        count: 30
        pacing: fixed
        every: 30ms
      - leave
";

/// A directory with a game, removed at the end of the test.
struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Directory {
        let directory = std::env::temp_dir().join(format!("rtcade-it-{name}-{}", std::process::id()));
        fs::create_dir_all(directory.join("lib")).unwrap();
        let directory = Directory(directory);
        directory.write("game.js", GAME);
        directory.write("lib/factor.js", "export const FACTOR = 2;");
        directory
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.0.join(name), text).unwrap();
    }

    fn path(&self, name: &str) -> String {
        self.0.join(name).to_str().unwrap().to_owned()
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn output(arguments: &[&str]) -> (Option<i32>, String) {
    let Output { status, stdout, stderr } = rtcade(arguments).output().unwrap();
    (status.code(), String::from_utf8(stdout).unwrap() + &String::from_utf8_lossy(&stderr))
}

fn recordings(directory: &Path) -> Vec<String> {
    let files = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path().to_str().unwrap().to_owned());
    files.collect()
}

#[test]
fn a_game_is_served_recorded_and_replayed_without_its_files() {
    let directory = Directory::new("script-games");
    let recorded = directory.0.join("recorded");
    let game = directory.path("game.js");
    let arguments = ["--listen", "127.0.0.1:0", "--game", &game, "--record", recorded.to_str().unwrap()];
    let program = Program::start(rtcade(&arguments), 1);
    let users = run(USERS, &format!("http://{}", program.address), |_| ());
    assert_eq!((count(&users, "vusers.completed"), count(&users, "vusers.failed")), (4, 0), "{:?}", counts(&users));
    program.signal(Signal::SIGTERM);
    let (status, log) = program.end();
    assert!(status.success(), "{log}");

    let files = recordings(&recorded);
    assert_eq!(files.len(), 1);
    let changed = Directory::new("script-games-changed");
    changed.write("lib/factor.js", "export const FACTOR = 3;");
    fs::remove_file(directory.path("lib/factor.js")).unwrap();
    let (status, text) = output(&["replay", "--check", &files[0]]);
    assert_eq!(status, Some(0), "{text}");
    assert!(text.contains("no differences") && text.contains("ticks of 20 ms"), "{text}");
    // What another game would have made of the same inputs.
    let (status, text) = output(&["replay", "--game", &changed.path("game.js"), &files[0]]);
    assert_eq!(status, Some(1), "{text}");
    assert!(text.contains("ticks that differ"), "{text}");
}

#[test]
fn a_game_that_cannot_be_loaded_ends_the_start_with_its_place() {
    let directory = Directory::new("script-games-broken");
    for (text, expected) in [
        ("export function tick() {\n  let = 1;\n}", &["SyntaxError", "game.js:2:7"][..]),
        ("import './lib/missing.js';\nexport function tick() {}", &["lib/missing.js", "there is no such file"]),
        ("import '../outside.js';\nexport function tick() {}", &["outside of the game's directory"]),
        ("export const state = 1;", &["exports no function named tick"]),
    ] {
        directory.write("game.js", text);
        let (status, said) = output(&["--listen", "127.0.0.1:0", "--game", &directory.path("game.js")]);
        assert_eq!(status, Some(2), "{said}");
        assert!(expected.iter().all(|part| said.contains(part)), "{said}");
    }
    let (status, said) = output(&["--game", &directory.path("missing.js")]);
    assert!(status == Some(2) && said.contains("missing.js can't be read"), "{said}");
    let (status, said) = output(&["dev", &directory.path("missing.js")]);
    assert!(status == Some(2) && said.contains("rtcade new"), "{said}");
}

#[test]
fn tests_of_a_game_pass_or_fail_with_the_seed() {
    let directory = Directory::new("script-games-tests");
    directory.write(
        "game.test.js",
        "import * as game from './game.js';
         import { assert, simulate, test } from 'rtcade/test';
         test('sums', () => {
           const sim = simulate(game, { players: 2, loss: 0.05 });
           sim.every(40, 2, () => sim.players[0].send([1]));
           sim.run(1);
           assert.deepEqual(sim.game.sums, { 1: 100, 2: 0 });
         });
         test('fails later', ({ seed }) => assert(seed < 3, 'the seed is too large'));",
    );
    let (status, said) = output(&["test", directory.0.to_str().unwrap()]);
    assert_eq!(status, Some(0), "{said}");
    assert!(said.contains("✔ sums (") && said.contains("ℹ pass 2"), "{said}");
    let (status, said) = output(&["test", "--seeds", "4", &directory.path("game.test.js")]);
    assert_eq!(status, Some(1), "{said}");
    for part in ["✔ sums, seed 4", "✖ fails later, seed 3", "the seed is too large", "rtcade test --seed 3", "ℹ fail 2"]
    {
        assert!(said.contains(part), "{part}: {said}");
    }
    let (status, said) = output(&["test", "--name", "sums", "--seed", "9", &directory.path("game.test.js")]);
    assert!(status == Some(0) && said.contains("ℹ tests 1"), "{said}");
    directory.write("game.test.js", "import './nothing.js';");
    let (status, said) = output(&["test", &directory.path("game.test.js")]);
    assert!(status == Some(2) && said.contains("there is no such file"), "{said}");
    let (status, said) = output(&["test", &directory.path("lib")]);
    assert!(status == Some(2) && said.contains("there are no tests"), "{said}");
}
