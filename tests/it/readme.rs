//! The README is correct: the tests compile its game and run it in a browser.

use std::fs;
use std::path::Path;

fn read(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

#[test]
fn the_game_in_the_readme_is_the_one_that_is_tested() {
    let readme = read("README.md");
    for (path, lines) in [
        ("tests/it/readme_game/main.rs", 50),
        ("tests/it/readme_game/tests.rs", 25),
        ("tests/it/readme_game/public/index.html", 20),
    ] {
        let source = read(path);
        assert!(readme.contains(source.trim_end()), "{path} is not in the README as it stands");
        assert!(source.lines().count() < lines, "{path} has {lines} lines or more");
    }
}

#[test]
fn all_rust_in_the_readme_is_compiled_somewhere() {
    // What rustdoc hides is left out, as in its pages.
    let hooks: String = read("src/hooks.rs")
        .lines()
        .filter_map(|line| line.strip_prefix("///"))
        .filter(|line| !line.starts_with(" # "))
        .map(|line| format!("{}\n", line.strip_prefix(' ').unwrap_or(line)))
        .collect();
    let game = |file: &str| read(&format!("tests/it/{file}"));
    let sources =
        [hooks, game("readme_game/main.rs"), game("readme_game/tests.rs"), game("scores_game/main.rs")].concat();
    let readme = read("README.md");
    let blocks: Vec<&str> =
        readme.split("```rust\n").skip(1).map(|rest| rest.split("```").next().unwrap_or(rest)).collect();
    assert!(blocks.len() >= 4);
    for block in blocks {
        assert!(sources.contains(block), "this stands in no source:\n{block}");
    }
}
