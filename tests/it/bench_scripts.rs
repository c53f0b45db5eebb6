//! The scenario files in `benches/load`, and `rtcade bench check`.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use rtcade::bench::script::{Overrides, Script, Step, arrivals};
use rtcade::games::arena::Steer;

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/load")
}

fn check(arguments: &[&OsStr]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_rtcade")).args(["bench", "check"]).args(arguments).output().unwrap()
}

#[test]
fn those_that_come_along_can_be_run() {
    let all = fs::read_dir(directory()).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = all.filter(|path| path.extension().is_some_and(|end| end == "yml")).collect();
    files.sort();
    let arguments: Vec<_> = files.iter().map(|path| path.as_os_str()).collect();
    let output = check(&arguments);
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    for (name, users) in
        [("fugitive", 200), ("lossy", 60), ("ramp", 1_020), ("smoke", 10), ("soak", 1_830), ("storm", 500)]
    {
        let path = directory().join(format!("{name}.yml"));
        let script = Script::read(&path, &Overrides::default()).unwrap();
        assert_eq!(arrivals::count(&script.config.phases), users, "{name}");
        assert!(
            text.contains(&format!("{}:\n", path.display())) && text.contains(&format!("users: {users}\n")),
            "{text}"
        );
        for scenario in &script.scenarios {
            let mut user = script.config.variables_of(1, 1);
            check_inputs(&scenario.flow, &mut |value| user.fill_value(value), scenario.engine.name() == "rtc");
        }
    }
    assert_eq!(files.len(), 6, "each is tested");
    let short = check(&[directory().join("ramp.yml").as_os_str(), "-e".as_ref(), "short".as_ref()]);
    assert!(String::from_utf8(short.stdout).unwrap().contains("users: 150\n"));
}

/// What players send, the arena reads.
fn check_inputs(steps: &[Step], fill: &mut impl FnMut(&serde_json::Value) -> serde_json::Value, is_of_arena: bool) {
    for step in steps {
        match step {
            Step::Loop { steps, .. } => check_inputs(steps, fill, is_of_arena),
            Step::Send { value, .. } if is_of_arena => {
                let steer: Result<Steer, _> = serde_json::from_value(fill(value));
                assert!(steer.is_ok_and(|Steer(x, y, _)| x.abs() <= 100.0 && y.abs() <= 100.0), "{value}");
            }
            _ => {}
        }
    }
}

#[test]
fn what_cannot_be_run_gets_a_sentence_and_status_2() {
    let directory = std::env::temp_dir().join(format!("rtcade-check-{}", std::process::id()));
    fs::create_dir_all(&directory).unwrap();
    let path = directory.join("bad.yml");
    fs::write(&path, "config:\n  phasse: []\nscenarios: []\n").unwrap();
    let good = self::directory().join("smoke.yml");
    let output = check(&[path.as_os_str(), good.as_os_str(), directory.join("none.yml").as_os_str()]);
    fs::remove_dir_all(&directory).unwrap();
    assert_eq!(output.status.code(), Some(2));
    let errors = String::from_utf8(output.stderr).unwrap();
    let lines: Vec<_> = errors.lines().collect();
    assert_eq!(lines.len(), 2, "{errors}");
    let expected = "bad.yml: line 2, column 3: there is no key \"phasse\"; is it \"phases\"? Known are target, ";
    assert!(lines[0].starts_with("rtcade: ") && lines[0].contains(expected), "{errors}");
    assert!(lines[1].contains("none.yml: it can't be read: "), "{errors}");
    assert!(String::from_utf8(output.stdout).unwrap().contains("users: 10\n"), "the others are checked too");
    assert_eq!(check(&[]).status.code(), Some(2));
}
