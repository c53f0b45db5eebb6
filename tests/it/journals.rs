//! Recorded sessions that must replay identically, and `rtcade replay` itself.
//!
//! To add one, play with `rtcade --record DIR`, copy the file from DIR to `tests/journals`, and give it a line in
//! [`SESSIONS`]. Where a game is meant to say something else from now on, `rtcade replay FILE` shows where that begins,
//! and `rtcade replay --update FILE` makes it what the game is held to.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use rtcade::game::{Game, Refusal, RoomInfo};
use rtcade::games::{Arena, Relay};
use rtcade::journal::{Journal, Replay, Verdict};
use rtcade::room::{Input, Output};

type Replayer = fn(&Journal<'_>) -> BTreeSet<u32>;

/// Each file, what replays it, how many players come into its room, and what it shows.
const SESSIONS: &[(&str, Replayer, u32, &str)] = &[
    (
        "arena.journal",
        |journal| replay(journal, |room| Ok(Arena::new(room))),
        4,
        "pages come, play and go; a clean end",
    ),
    ("relay-killed.journal", |journal| replay(journal, |_| Ok(Relay)), 4, "the same; its server was killed meanwhile"),
];

fn path(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/journals").join(file)
}

/// Holds every tick against its hash, and returns who came in and was heard.
fn replay<G: Game>(journal: &Journal<'_>, game: impl FnOnce(&RoomInfo) -> Result<G, Refusal>) -> BTreeSet<u32> {
    assert_eq!(journal.header().game, std::any::type_name::<G>());
    let mut replay = Replay::new(journal, game).expect("the game makes its room");
    let (mut came, mut heard) = (BTreeSet::new(), BTreeSet::new());
    let mut unknown = 0;
    while let Some(step) = replay.step().expect("the recording is sound") {
        match step.verdict {
            Verdict::Same => assert_eq!(unknown, 0, "only the last tick may have been cut off"),
            Verdict::Unknown => unknown += 1,
            Verdict::Differs { .. } => panic!("tick {} differs: {:?}", step.tick.number, step.verdict),
        }
        for input in &step.told {
            if let Input::Input { player, .. } = input {
                heard.insert(player.0);
            }
        }
        for output in &step.said {
            if let Output::Joined { player, .. } = output {
                came.insert(player.0);
            }
        }
    }
    came.intersection(&heard).copied().collect()
}

#[test]
fn every_recorded_session_is_the_same_again() {
    let mut kept: BTreeSet<String> =
        fs::read_dir(path("")).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    for &(file, replay, players, shows) in SESSIONS {
        println!("{file}: {shows}");
        assert!(kept.remove(file), "there is no {file}");
        let bytes = fs::read(path(file)).unwrap();
        let journal = Journal::parse(&bytes).unwrap_or_else(|error| panic!("{file}: {error}"));
        assert_eq!(replay(&journal), (1..=players).collect(), "who came and played");
    }
    assert!(kept.is_empty(), "these have no line in SESSIONS: {kept:?}");
}

#[cfg(feature = "driver")]
mod program {
    use std::cell::RefCell;
    use std::process::{Command, Output, Stdio};
    use std::rc::Rc;
    use std::time::Duration;

    use rtcade::driver::{BindError, Driver, Options};
    use rtcade::journal::{Entry, Header, Recorder};
    use rtcade::limits::JOURNAL_BYTES;
    use rtcade::room::Room;

    use super::*;

    struct Files(PathBuf);

    impl Files {
        fn new(name: &str) -> Files {
            let directory = std::env::temp_dir().join(format!("rtcade-replay-{name}-{}", std::process::id()));
            fs::create_dir_all(&directory).unwrap();
            Files(directory)
        }

        fn write(&self, name: &str, bytes: &[u8]) -> String {
            let path = self.0.join(name);
            fs::write(&path, bytes).unwrap();
            path.into_os_string().into_string().unwrap()
        }
    }

    impl Drop for Files {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn session(file: &str) -> String {
        path(file).into_os_string().into_string().unwrap()
    }

    fn command(arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_rtcade"));
        command.arg("replay").args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Status, standard output and standard error.
    fn replay(arguments: &[&str]) -> (i32, String, String) {
        let Output { status, stdout, stderr } = command(arguments).output().unwrap();
        (status.code().unwrap(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
    }

    fn recorded(header: &Header, write: impl FnOnce(Recorder)) -> Vec<u8> {
        let file = Rc::new(RefCell::new(Vec::new()));
        let written = Rc::clone(&file);
        write(Recorder::new(header, Box::new(move |block| written.borrow_mut().extend_from_slice(block))));
        file.take()
    }

    /// The arena's session as a game would have recorded it that throws other dice from the first tick after `tick`.
    fn with_other_dice(tick: u32) -> Vec<u8> {
        let bytes = fs::read(path("arena.journal")).unwrap();
        let journal = Journal::parse(&bytes).unwrap();
        let mut header = journal.header().clone();
        header.commit = "0ddba11".to_owned();
        let mut others = header.room.clone();
        others.seed += 1;
        let mut rooms = [&header.room, &others].map(|info| Room::new(info, Arena::new(info), header.max_players));
        recorded(&header, |mut recorder| {
            for entry in journal.entries() {
                let Entry::Told(input) = entry.unwrap() else { continue };
                recorder.note_input(&input);
                rooms.iter_mut().for_each(|room| room.handle_input(input.clone()));
                let Input::Tick(now) = input else { continue };
                let outputs =
                    rooms.each_mut().map(|room| std::iter::from_fn(|| room.poll_output()).collect::<Vec<_>>());
                let chosen = usize::from(now.number > tick);
                outputs[chosen].iter().for_each(|output| recorder.note_output(output));
                recorder.end_tick(&rooms[chosen]);
            }
        })
    }

    #[test]
    fn sessions_pass_their_check_one_after_the_other() {
        let files: Vec<String> = SESSIONS.iter().map(|(file, ..)| session(file)).collect();
        let arguments: Vec<&str> = ["--check"].into_iter().chain(files.iter().map(String::as_str)).collect();
        let (status, said, complaints) = replay(&arguments);
        assert_eq!((status, complaints.as_str()), (0, ""));
        for file in &files {
            assert!(said.contains(&format!("{file}: room session\n")), "{said}");
        }
        assert_eq!(said.matches("no differences").count(), files.len(), "{said}");
        assert!(said.contains("it ended with its room") && said.contains("is incomplete"), "{said}");
        assert_eq!(said.matches("; players: 4 joined, at most 3 at once").count(), files.len(), "{said}");
    }

    #[test]
    fn torn_bytes_are_told_of_and_ignored() {
        let files = Files::new("torn");
        let whole = fs::read(path("arena.journal")).unwrap();
        let torn = files.write("torn.journal", &whole[..whole.len() - 5]);
        let (status, said, complaints) = replay(&["--check", &torn]);
        assert_eq!((status, complaints.as_str()), (0, ""));
        assert!(said.contains("is incomplete: ") && said.contains(" bytes of an incomplete block"), "{said}");
    }

    #[test]
    fn a_difference_is_named_with_its_tick_and_an_update_settles_it() {
        let files = Files::new("differs");
        let file = files.write("differs.journal", &with_other_dice(100));
        let (status, said, complaints) = replay(&["--check", &file, &session("arena.journal")]);
        assert_eq!(status, 1);
        assert!(complaints.contains("differs.journal: tick 101 (3.333 s) differs: the room's outputs"), "{complaints}");
        assert!(complaints.contains("; commit: 0ddba11 in the recording, "), "{complaints}");
        assert!(!said.contains("differs.journal") && said.contains("arena.journal: room session"), "{said}");

        let (status, said, _) = replay(&[&file]);
        assert_eq!(status, 1);
        assert!(said.contains("; the first: tick 101 (3.333 s) differs"), "{said}");
        assert_eq!(replay(&["--check", "--to-tick", "100", &file]).0, 0);

        let (status, said, _) = replay(&["--update", &file]);
        assert!(status == 0 && said.contains("updated"), "{said}");
        assert_eq!(replay(&["--check", &file]).0, 0);
        assert!(replay(&["--update", &file]).1.contains("nothing to update"));
        assert_eq!(fs::read_dir(&files.0).unwrap().count(), 1, "nothing is left beside it");
    }

    #[test]
    fn a_dump_is_what_was_told_and_said_line_by_line() {
        let arena = session("arena.journal");
        let (status, dump, summary) = replay(&["--dump", &arena]);
        assert_eq!(status, 0);
        assert!(summary.contains("no differences"), "{summary}");
        let lines: Vec<serde_json::Value> = dump.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let count = |what: &str, of: &str| lines.iter().filter(|line| line[what].get(of).is_some()).count();
        assert_eq!((count("told", "join"), count("said", "joined"), count("told", "leave")), (4, 4, 4));
        assert!(count("told", "input") > 100 && count("said", "state") > 300);
        assert_eq!(lines[0]["told"]["join"], 1);
        let tick = lines.iter().find(|line| line["told"]["tick"] == 100).unwrap();
        assert_eq!((&tick["tick"], &tick["ms"]), (&100.into(), &3_300.into()));

        let (_, start, summary) = replay(&["--dump", "--to-tick", "50", "--speed", "1e6", &arena]);
        assert!(dump.starts_with(&start) && start.lines().last().unwrap().starts_with(r#"{"ms":1650,"#), "{start}");
        assert!(summary.contains("replayed up to --to-tick"), "{summary}");
    }

    #[test]
    fn what_can_not_be_replayed_is_named_with_its_place() {
        let files = Files::new("spoiled");
        let mut damaged = fs::read(path("arena.journal")).unwrap();
        damaged[5_000] ^= 1;
        let damaged = files.write("damaged.journal", &damaged);
        let text = files.write("text.journal", b"Dear diary");
        let mut chess = Header::new::<Relay>(&RoomInfo::new("chess", 1), 2, Duration::ZERO);
        chess.game = "chess::Chess".to_owned();
        let other = files.write("other.journal", &recorded(&chess, drop));
        let huge = files.write("huge.journal", b"rtcade-j");
        fs::File::options().write(true).open(&huge).unwrap().set_len(JOURNAL_BYTES as u64 + 1).unwrap();
        let fine = session("arena.journal");
        let missing = files.0.join("missing.journal").into_os_string().into_string().unwrap();
        for (file, expected) in [
            (&damaged, "damaged.journal: at byte 4"),
            (&text, "text.journal: at byte 0: this is no recording of a room"),
            (&other, "of the game chess::Chess, but this program has rtcade::games::arena::Arena and "),
            (&huge, "huge.journal: the file is larger than the 268435456 bytes that a recording may have"),
            (&missing, "missing.journal: the file can't be read"),
        ] {
            let (status, said, complaint) = replay(&["--check", file, &fine]);
            assert_eq!((status, complaint.lines().count()), (2, 1), "{complaint}");
            assert!(complaint.starts_with("rtcade: ") && complaint.contains(expected), "{complaint}");
            assert!(said.contains("no differences"), "the other file is replayed: {said}");
        }
        assert_eq!(replay(&[]).0, 2);
    }

    #[test]
    fn a_driver_refuses_ticks_that_no_recording_has() {
        let (shortest, longest) = rtcade::limits::TICK_MS_RANGE.into_inner();
        let (shortest, longest) = (Duration::from_millis(shortest.into()), Duration::from_millis(longest.into()));
        let step = Duration::from_nanos(1);
        for tick in [shortest - step, longest + step, Duration::from_micros(1_000_900)] {
            let options = Options { tick: Some(tick), ..Options::default() };
            let refused = Driver::bind(options, |_| Ok(Relay)).err();
            assert!(matches!(refused, Some(BindError::Tick(_))), "{tick:?}: {refused:?}");
        }
    }

    #[test]
    fn nobody_needs_to_read_to_the_end() {
        let arena = session("arena.journal");
        for (arguments, expected) in [(&["--dump", &arena][..], 0), (&["--dump", "--check", &arena], 2)] {
            let mut child = command(arguments).spawn().unwrap();
            drop(child.stdout.take());
            let output = child.wait_with_output().unwrap();
            assert_eq!(
                (output.status.code(), String::from_utf8(output.stderr).unwrap()),
                (Some(expected), String::new())
            );
        }
    }
}
