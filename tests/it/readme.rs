//! The README says what is: its game is the one that is compiled, and run in a browser, by the tests.

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
