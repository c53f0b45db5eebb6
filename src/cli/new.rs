//! `rtcade new`: makes the directory of a game in JavaScript.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Component, Path, PathBuf};

use clap::{Args, ValueEnum};

use super::{ExitCode, complain};

/// The placeholder of the game's name in the files of a template.
const NAME: &str = "{{name}}";

#[derive(Debug, Args)]
pub(super) struct New {
    /// The directory to make: its name becomes that of the game.
    #[arg(value_name = "NAME")]
    directory: PathBuf,
    /// The game to begin with.
    #[arg(long, value_name = "NAME", default_value = "tanks")]
    template: Template,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Template {
    /// The server moves everybody, each page predicts its own tank.
    Tanks,
    /// A game in turns for two, with spectators.
    Board,
    /// The pages compute the game, the server passes their inputs on.
    Rollback,
}

type File = (&'static str, &'static str);

macro_rules! files {
    ($directory:literal: $($path:literal),+) => {
        &[$(($path, include_str!(concat!("templates/", $directory, "/", $path)))),+]
    };
}

const SHARED: &[File] = &[
    ("Dockerfile", include_str!("templates/Dockerfile")),
    (".gitignore", "recordings/\n"),
    ("jsconfig.json", include_str!("templates/jsconfig.json")),
    // What an editor knows of the modules that the server has.
    ("types/game.d.ts", include_str!("../../client-js/game.d.ts")),
    ("types/index.d.ts", include_str!("../../client-js/index.d.ts")),
    ("types/interpolate.d.ts", include_str!("../../client-js/interpolate.d.ts")),
    ("types/math.d.ts", include_str!("../../client-js/math.d.ts")),
    ("types/predict.d.ts", include_str!("../../client-js/predict.d.ts")),
    ("types/rollback.d.ts", include_str!("../../client-js/rollback.d.ts")),
    ("types/test.d.ts", include_str!("../../client-js/test.d.ts")),
];

impl Template {
    fn files(self) -> impl Iterator<Item = &'static File> {
        let own: &[File] = match self {
            Template::Tanks => files!(
                "tanks":
                "game.js",
                "game.test.js",
                "public/index.html",
                "public/main.js",
                "public/draw.js",
                "public/step.js",
                "README.md"
            ),
            Template::Board => {
                files!(
                    "board":
                    "game.js",
                    "game.test.js",
                    "public/index.html",
                    "public/main.js",
                    "public/step.js",
                    "README.md"
                )
            }
            Template::Rollback => {
                files!(
                    "rollback":
                    "game.js",
                    "game.test.js",
                    "public/index.html",
                    "public/main.js",
                    "public/step.js",
                    "README.md"
                )
            }
        };
        own.iter().chain(SHARED)
    }
}

/// Makes the directory, and prints the next commands.
pub(super) fn run(New { directory, template }: &New) -> ExitCode {
    match make(directory, *template) {
        Ok(()) => {
            let shown = directory.display();
            // A closed standard output can't be reported anywhere.
            let _ = writeln!(
                io::stdout(),
                "rtcade: {shown} has a new game. Next:\n\n  cd {shown}\n  rtcade dev\n  open http://localhost:8080/\n\n\
                 A second window with the address that the first one has then is the second player."
            );
            ExitCode::SUCCESS
        }
        Err(sentence) => {
            complain(&sentence);
            ExitCode::from(2)
        }
    }
}

/// # Errors
/// The name is none, the directory has files already, or can't be written; a sentence.
fn make(directory: &Path, template: Template) -> Result<(), String> {
    let name = name_of(directory)?;
    let shown = directory.display();
    match fs::read_dir(directory).map(|mut entries| entries.next().is_none()) {
        Ok(true) => {}
        Ok(false) => return Err(format!("the directory {shown} is not empty: choose another name")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(format!("{shown} can't be the directory of a game: {error}")),
    }
    for (path, text) in template.files() {
        let path = directory.join(path);
        let directory = path.parent().unwrap_or(directory);
        let written = fs::create_dir_all(directory).and_then(|()| fs::write(&path, text.replace(NAME, name)));
        written.map_err(|error| format!("{} can't be written: {error}", path.display()))?;
    }
    Ok(())
}

/// The last part of a path, which stands in the pages of the game.
fn name_of(directory: &Path) -> Result<&str, String> {
    let name = match directory.components().next_back() {
        Some(Component::Normal(name)) => name.to_str(),
        _ => None,
    };
    let is_name = |name: &&str| {
        name.starts_with(char::is_alphanumeric)
            && name.chars().all(|char| char.is_alphanumeric() || matches!(char, '-' | '_' | '.'))
    };
    name.filter(is_name).ok_or_else(|| {
        let given = directory.display();
        format!("{given:?} is no name of a game: it begins with a letter or digit, and has letters, digits, -, _ and .")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::script::{load, run_tests};

    fn temporary(name: &str) -> PathBuf {
        let directory = std::env::temp_dir().join(format!("rtcade-new-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&directory);
        fs::create_dir_all(&directory).unwrap();
        directory
    }

    #[test]
    fn each_template_is_a_game() {
        let parent = temporary("each");
        for template in Template::value_variants() {
            let directory = parent.join(format!("{template:?}-1"));
            make(&directory, *template).unwrap();
            for file in [
                "game.js",
                "game.test.js",
                "public/index.html",
                "public/step.js",
                "README.md",
                "Dockerfile",
                ".gitignore",
            ] {
                let text = fs::read_to_string(directory.join(file)).unwrap();
                assert!(!text.contains(NAME), "{template:?} {file}");
            }
            let readme = fs::read_to_string(directory.join("README.md")).unwrap();
            assert!(readme.starts_with(&format!("# {template:?}-1\n")), "{readme}");
            let read = move |path: &str| fs::read_to_string(directory.join(path)).map_err(|error| error.to_string());
            let (program, checked) = load("game.js", read.clone()).unwrap();
            let mut passed = 0;
            run_tests(
                (&program, checked),
                "game.test.js",
                read,
                1..2,
                |_| true,
                |result| {
                    assert_eq!(result.failure, None, "{template:?}: {}", result.name);
                    passed += 1;
                },
            )
            .unwrap();
            assert!(passed > 2, "{template:?} has {passed} tests");
        }
        fs::remove_dir_all(parent).unwrap();
    }

    #[test]
    fn a_directory_with_files_is_left_alone() {
        let parent = temporary("full");
        let full = parent.join("full");
        make(&full, Template::Board).unwrap();
        fs::write(full.join("game.js"), "mine").unwrap();
        let sentence = make(&full, Template::Tanks).unwrap_err();
        assert!(sentence.contains("is not empty"), "{sentence}");
        assert_eq!(fs::read_to_string(full.join("game.js")).unwrap(), "mine");
        let sentence = make(&full.join("game.js"), Template::Tanks).unwrap_err();
        assert!(sentence.contains("can't be the directory of a game"), "{sentence}");
        fs::create_dir(parent.join("empty")).unwrap();
        make(&parent.join("empty"), Template::Tanks).unwrap();
        fs::remove_dir_all(parent).unwrap();
    }

    #[test]
    fn a_name_is_one_that_can_stand_in_a_page() {
        for name in ["tanks", "My-game_2.0", "sub/directory", "Zürich", "7"] {
            assert!(name_of(Path::new(name)).is_ok(), "{name}");
        }
        for name in ["", ".", "..", "/", "a/..", ".hidden", "-v", "a b", "<b>", "a\"b", "a\n"] {
            let sentence = name_of(Path::new(name)).unwrap_err();
            assert!(sentence.contains("is no name of a game"), "{sentence}");
        }
    }
}
