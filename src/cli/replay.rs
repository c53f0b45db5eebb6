//! `rtcade replay`: replays recordings and compares the outputs.

#![expect(clippy::disallowed_methods, reason = "a replay may be paced by the clock")]

use std::any::type_name;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{self, BufWriter, Read, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use clap::Args;
use serde_json::{Value, json};

use super::complain;
use crate::game::{Game, Refusal, RoomInfo, Tick};
use crate::journal::{self, End, Header, Journal, Replay, Step, Verdict};
use crate::limits;
use crate::room::Output;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Recordings made with --record; each is replayed in turn.
    #[arg(value_name = "FILE", required = true)]
    pub(super) files: Vec<PathBuf>,
    /// Stop at the first tick that differs.
    #[arg(long)]
    check: bool,
    /// Speed relative to the recording, for example 1 or 10, or max.
    #[arg(long, value_name = "FACTOR", default_value = "max", value_parser = speed)]
    speed: Speed,
    /// Stop after this tick.
    #[arg(long, value_name = "N")]
    to_tick: Option<u32>,
    /// Print the room's inputs and outputs as JSON, one object per line; the summary goes to standard error.
    #[arg(long)]
    dump: bool,
    /// Replay recordings of games in JavaScript with this game, to see what a change of it changes.
    #[cfg(feature = "script")]
    #[arg(long, value_name = "FILE.js")]
    pub(super) game: Option<PathBuf>,
    /// Replace the recorded outputs in the files by the current ones, after an intended change of the game.
    #[arg(long, conflicts_with_all = ["check", "speed", "to_tick", "dump"])]
    update: bool,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Speed {
    Max,
    Times(f64),
}

fn speed(text: &str) -> Result<Speed, &'static str> {
    match text.parse() {
        _ if text == "max" => Ok(Speed::Max),
        Ok(factor) if factor > 0.0 && f64::is_finite(factor) => Ok(Speed::Times(factor)),
        _ => Err("expected a number above 0, as in 1 or 10, or max"),
    }
}

/// The result of a replay, in the order of the exit statuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Outcome {
    /// The outputs are the same.
    Same,
    /// The outputs differ, or the game panicked in only one of the recording and the replay.
    Differs,
    /// The recording can't be replayed.
    Failed,
}

/// The reason why there is no outcome.
#[derive(Debug)]
pub(super) enum Failure {
    /// The recording can't be replayed; a sentence.
    Recording(String),
    /// The output can't be written.
    Output(io::Error),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Failure {
        Failure::Output(error)
    }
}

/// Replays each file; `replay` selects its game. Returns the exit status: 0 if everything was the same, 1 if something
/// differs, 2 if a file can't be replayed.
pub(super) fn run(
    arguments: &Arguments,
    mut replay: impl FnMut(&Recording<'_>, &mut dyn Write) -> Result<Outcome, Failure>,
) -> ExitCode {
    let mut out = BufWriter::new(io::stdout().lock());
    let mut worst = Outcome::Same;
    for path in &arguments.files {
        let outcome = replay_file(path, arguments, &mut out, &mut replay)
            .and_then(|outcome| out.flush().map(|()| outcome).map_err(Failure::Output));
        worst = worst.max(match outcome {
            Ok(outcome) => outcome,
            Err(Failure::Recording(sentence)) => {
                complain(&format!("{}: {sentence}", path.display()));
                Outcome::Failed
            }
            Err(Failure::Output(error)) => {
                let is_unread = error.kind() == io::ErrorKind::BrokenPipe;
                if !is_unread {
                    complain(&format!("the output can't be written: {error}"));
                }
                worst = if is_unread && !arguments.check { worst } else { Outcome::Failed };
                return ExitCode::from(worst as u8);
            }
        });
    }
    ExitCode::from(worst as u8)
}

fn replay_file(
    path: &Path,
    arguments: &Arguments,
    out: &mut dyn Write,
    replay: &mut impl FnMut(&Recording<'_>, &mut dyn Write) -> Result<Outcome, Failure>,
) -> Result<Outcome, Failure> {
    let failure = |error: &dyn std::fmt::Display| Failure::Recording(error.to_string());
    let bytes = read(path).map_err(Failure::Recording)?;
    let journal = Journal::parse(&bytes).map_err(|error| failure(&error))?;
    replay(&Recording { path, bytes: &bytes, journal, arguments }, out)
}

/// Reads a file, up to the size that a recording may have.
pub(super) fn read(path: &Path) -> Result<Vec<u8>, String> {
    let sentence = |error: io::Error| format!("the file can't be read: {error}");
    let most = limits::JOURNAL_BYTES as u64;
    let too_long = || format!("the file is larger than the {most} bytes that a recording may have");
    let file = File::open(path).map_err(sentence)?;
    if file.metadata().map_err(sentence)?.len() > most {
        return Err(too_long());
    }
    let mut bytes = Vec::new();
    file.take(most + 1).read_to_end(&mut bytes).map_err(sentence)?;
    if bytes.len() as u64 > most { Err(too_long()) } else { Ok(bytes) }
}

pub(super) fn another_game(header: &Header, games: &[&str]) -> String {
    format!("the recording is of the game {}, but this program has {}", header.game, games.join(" and "))
}

/// A recording that was read, and the options for its replay.
pub(super) struct Recording<'a> {
    path: &'a Path,
    bytes: &'a [u8],
    journal: Journal<'a>,
    arguments: &'a Arguments,
}

impl Recording<'_> {
    pub(super) fn is_of<G: Game>(&self) -> bool {
        self.journal.header().game == type_name::<G>()
    }

    pub(super) fn is_of_another_game(&self, games: &[&str]) -> Failure {
        Failure::Recording(another_game(self.journal.header(), games))
    }

    /// Replays the recording with this game, without checking that it is of this game.
    pub(super) fn replay<G: Game>(
        &self,
        mut factory: impl FnMut(&RoomInfo) -> Result<G, Refusal>,
        out: &mut dyn Write,
    ) -> Result<Outcome, Failure> {
        let header = self.journal.header();
        let made = catch_unwind(AssertUnwindSafe(|| Replay::new(&self.journal, &mut factory)));
        let sentence = match made {
            Ok(Ok(mut replay)) => {
                let outcome = self.replay_room(&mut replay, out);
                // A panic in the game's destructor must not end the process.
                let _ = catch_unwind(AssertUnwindSafe(|| drop(replay)));
                return match outcome {
                    Ok(_) if self.arguments.update => self.update(factory, out),
                    outcome => outcome,
                };
            }
            Ok(Err(refusal)) => format!("the game refuses to create the room: {refusal}"),
            Err(_) => "the game panics when the room is created".to_owned(),
        };
        complain(&format!("{}: {sentence}{}", self.path.display(), other_versions::<G>(header)));
        Ok(Outcome::Differs)
    }

    fn replay_room<G: Game>(&self, replay: &mut Replay<'_, G>, out: &mut dyn Write) -> Result<Outcome, Failure> {
        let Arguments { check, to_tick, dump, speed, .. } = *self.arguments;
        let header = self.journal.header();
        #[expect(clippy::cast_possible_truncation, reason = "2^32 ticks of a second have fewer milliseconds")]
        let ms = |tick: u32| (header.room.tick * tick).as_millis() as u64;
        let begun = Instant::now();
        let mut summary = Summary::default();
        let mut newest = 0;
        let is_whole = loop {
            let Some(step) = replay.step().map_err(|error| Failure::Recording(error.to_string()))? else { break true };
            newest = step.tick.number;
            if let Speed::Times(factor) = speed {
                out.flush()?;
                sleep_until(begun, header.room.tick * newest, factor);
            }
            if dump {
                dump_step(&step, ms(newest), out)?;
            }
            summary.note(&step, replay);
            if let Verdict::Differs { panicked_then, panicked_now } = step.verdict
                && summary.differing == 1
            {
                let sentence = difference(panicked_then, panicked_now);
                let versions = other_versions::<G>(header);
                let seconds = Duration::from_millis(ms(newest)).as_secs_f64();
                let sentence = format!("tick {newest} ({seconds:.3} s) differs: {sentence}{versions}");
                if check {
                    complain(&format!("{}: {sentence}", self.path.display()));
                    return Ok(Outcome::Differs);
                }
                summary.first_difference = sentence;
            }
            if to_tick.is_some_and(|last| newest >= last) {
                break false;
            }
        };
        if dump && is_whole {
            for input in replay.told() {
                dump_line("told", &journal::input_to_json(input), newest, ms(newest), out)?;
            }
        }
        let end = if is_whole { how_it_ended(replay) } else { "replayed up to --to-tick".to_owned() };
        let text = summary.text(self.path, header, &end, Duration::from_millis(ms(newest)));
        if dump {
            out.flush()?;
            // A closed standard error can't be reported anywhere.
            let _ = io::stderr().write_all(text.as_bytes());
        } else {
            out.write_all(text.as_bytes())?;
        }
        Ok(if summary.differing == 0 { Outcome::Same } else { Outcome::Differs })
    }

    /// Replaces the file atomically by one with the outputs of this program.
    fn update<G: Game>(
        &self,
        factory: impl FnMut(&RoomInfo) -> Result<G, Refusal>,
        out: &mut dyn Write,
    ) -> Result<Outcome, Failure> {
        let again = catch_unwind(AssertUnwindSafe(|| journal::record_again(&self.journal, factory)))
            .map_err(|_| Failure::Recording("the game panics when the room is created".to_owned()))?
            .map_err(|error| Failure::Recording(error.to_string()))?;
        if again == self.bytes {
            writeln!(out, "  nothing to update: the recorded outputs are the current ones")?;
        } else {
            replace(self.path, &again)
                .map_err(|error| Failure::Recording(format!("the file can't be replaced: {error}")))?;
            writeln!(out, "  updated with the current outputs")?;
        }
        Ok(Outcome::Same)
    }
}

/// Counters of a replay.
#[derive(Default)]
struct Summary {
    ticks: u32,
    missed: u64,
    joined: u32,
    most: usize,
    panicked: bool,
    differing: u32,
    first_difference: String,
}

impl Summary {
    fn note<G: Game>(&mut self, step: &Step, replay: &Replay<'_, G>) {
        self.ticks += 1;
        self.missed += u64::from(step.tick.missed);
        for output in &step.said {
            match output {
                Output::Joined { .. } => self.joined += 1,
                Output::Closed => self.panicked = true,
                Output::Refused { .. }
                | Output::Left { .. }
                | Output::Renamed { .. }
                | Output::Body { .. }
                | Output::Ended => {}
            }
        }
        self.most = self.most.max(replay.room().players().len());
        self.differing += u32::from(matches!(step.verdict, Verdict::Differs { .. }));
    }

    fn text(&self, path: &Path, header: &Header, end: &str, lasted: Duration) -> String {
        let Header { game, game_version, room, rtcade, commit, .. } = header;
        let Summary { ticks, missed, joined, most, differing, .. } = self;
        let commit = if commit.is_empty() { String::new() } else { format!(", commit {commit}") };
        let (length, lasted) = (room.tick.as_secs_f64() * 1e3, lasted.as_secs_f64());
        let panicked = if self.panicked { "\n  the game panicked" } else { "" };
        let verdict = match differing {
            0 => "no differences: the room's outputs are the same as recorded".to_owned(),
            _ => format!("ticks that differ: {differing}; the first: {}", self.first_difference),
        };
        let mut text = String::new();
        let _ = write!(
            text,
            "{}: room {}\n  {game}, version {game_version}; rtcade {rtcade}{commit}\n  {ticks} ticks of {length} ms in \
             {lasted:.1} s, {missed} missed; players: {joined} joined, at most {most} at once{panicked}\n  {end}\n  \
             {verdict}\n",
            path.display(),
            room.name,
        );
        text
    }
}

fn how_it_ended<G: Game>(replay: &Replay<'_, G>) -> String {
    let end = match replay.end() {
        Some(End::Closed) => "the recording is complete: it ended with its room or its server".to_owned(),
        Some(End::Full) => {
            format!("the recording ended before its room, at the limit of {} bytes", limits::JOURNAL_BYTES)
        }
        None => "the recording is incomplete: its server was probably killed".to_owned(),
    };
    match replay.torn_bytes() {
        0 => end,
        torn => format!("{end}; {torn} bytes of an incomplete block at its end are ignored"),
    }
}

fn difference(panicked_then: bool, panicked_now: bool) -> &'static str {
    match (panicked_then, panicked_now) {
        (false, true) => "the game panics, but did not when it was recorded",
        (true, false) => "the game does not panic, but did when it was recorded",
        _ => "the room's outputs or its use of random numbers differ from the recording",
    }
}

/// Returns the versions that differ between the recording and this program, as the end of a sentence.
fn other_versions<G: Game>(header: &Header) -> String {
    let now = Header::new::<G>(&header.room, header.max_players, header.phase);
    let mut others = String::new();
    let mut note = |what: &str, then: &str, now: &str| {
        if then != now {
            let named = |version: &str| if version.is_empty() { "none".to_owned() } else { version.to_owned() };
            let _ = write!(others, "; {what}: {} in the recording, {} now", named(then), named(now));
        }
    };
    note("version of the game", &header.game_version.to_string(), &now.game_version.to_string());
    note("rtcade", &header.rtcade, &now.rtcade);
    note("commit", &header.commit, &now.commit);
    others
}

fn sleep_until(begun: Instant, time: Duration, factor: f64) {
    let wait = Duration::try_from_secs_f64(time.as_secs_f64() / factor).unwrap_or(Duration::MAX);
    thread::sleep(wait.saturating_sub(begun.elapsed()));
}

fn dump_step(step: &Step, ms: u64, out: &mut dyn Write) -> io::Result<()> {
    let Tick { number, missed } = step.tick;
    for input in &step.told {
        dump_line("told", &journal::input_to_json(input), number, ms, out)?;
    }
    dump_line("told", &journal::input_to_json(&crate::room::Input::Tick(Tick { number, missed })), number, ms, out)?;
    for output in &step.said {
        dump_line("said", &journal::output_to_json(output), number, ms, out)?;
    }
    if let Verdict::Differs { panicked_then, panicked_now } = step.verdict {
        let differs = json!({ "panickedThen": panicked_then, "panickedNow": panicked_now });
        dump_line("differs", &differs, number, ms, out)?;
    }
    Ok(())
}

fn dump_line(what: &str, value: &Value, tick: u32, ms: u64, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "{}", json!({ "tick": tick, "ms": ms, what: value }))
}

/// Replaces the file atomically: either the old content or the new is there, whatever happens.
fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let path = fs::canonicalize(path)?;
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}", std::process::id()));
    let beside = path.with_file_name(name);
    let written = fs::metadata(&path).and_then(|metadata| {
        fs::write(&beside, bytes)?;
        fs::set_permissions(&beside, metadata.permissions())?;
        fs::rename(&beside, &path)
    });
    if written.is_err() {
        let _ = fs::remove_file(&beside);
    }
    written
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::rc::Rc;

    use super::*;
    use crate::game::{Batch, Context, Join, Leave, PlayerId};
    use crate::sim::Simulation;

    const SECOND: Duration = Duration::from_secs(1);

    /// A game that panics at a command if it is armed.
    struct Bomb<const VERSION: u32> {
        is_armed: bool,
    }

    impl<const VERSION: u32> Game for Bomb<VERSION> {
        type Input = ();
        type Command = ();
        type State = ();
        type Event = ();
        type Welcome = ();
        type JoinData = ();
        const VERSION: u32 = VERSION;

        fn join(&mut self, _: &mut Context<Self>, _: PlayerId, _: &Join<()>) -> Result<(), Refusal> {
            Ok(())
        }

        fn leave(&mut self, _: &mut Context<Self>, _: PlayerId, _: Leave) {}

        fn tick(&mut self, _: &mut Context<Self>, _: Tick, batch: Batch<'_, Self>) {
            assert!(batch.as_slice().is_empty() || !self.is_armed, "it goes off");
        }
    }

    fn recorded(is_armed: bool) -> Vec<u8> {
        let mut sim = Simulation::new(1, move |_| Ok(Bomb::<1> { is_armed }));
        let file = Rc::new(RefCell::new(Vec::new()));
        // Players removed by the panic join again, into another room, which is not recorded.
        let mut written = Some(Rc::clone(&file));
        sim.server.record(move |_| match written.take() {
            Some(written) => Box::new(move |block| written.borrow_mut().extend_from_slice(block)),
            None => Box::new(|_| {}),
        });
        let ada = sim.join("bomb", "Ada");
        sim.run(SECOND);
        sim.command(ada, &());
        sim.run(SECOND);
        drop(sim);
        file.take()
    }

    /// Returns the outcome and the summary of replaying the bomb's recording.
    fn replayed<G: Game>(was_armed: bool, factory: impl FnMut(&RoomInfo) -> Result<G, Refusal>) -> (Outcome, String) {
        let bytes = recorded(was_armed);
        let arguments = Arguments {
            files: Vec::new(),
            check: false,
            speed: Speed::Max,
            to_tick: None,
            dump: false,
            update: false,
            game: None,
        };
        let journal = Journal::parse(&bytes).unwrap();
        let recording = Recording { path: Path::new("bomb.journal"), bytes: &bytes, journal, arguments: &arguments };
        let mut out = Vec::new();
        let outcome = recording.replay(factory, &mut out).unwrap();
        (outcome, String::from_utf8(out).unwrap())
    }

    #[test]
    fn a_panic_is_expected_where_it_is_on_record_and_nowhere_else() {
        fn check<const VERSION: u32>(was_armed: bool, is_armed: bool, outcome: Outcome, sentences: &[&str]) {
            let (now, summary) = replayed(was_armed, |_| Ok(Bomb::<VERSION> { is_armed }));
            assert_eq!(now, outcome, "{summary}");
            assert_eq!(summary.contains("\n  the game panicked\n"), is_armed, "{summary}");
            assert!(sentences.iter().all(|sentence| summary.contains(sentence)), "{summary}");
        }
        check::<1>(false, false, Outcome::Same, &["no differences"]);
        check::<1>(true, true, Outcome::Same, &["no differences"]);
        let defused = "differs: the game does not panic, but did when it was recorded\n";
        check::<1>(true, false, Outcome::Differs, &["ticks that differ: 1; the first: tick 3", defused]);
        let armed = "differs: the game panics, but did not when it was recorded; version of the game: 1 in the \
            recording, 2 now\n";
        check::<2>(false, true, Outcome::Differs, &["ticks that differ: 1; the first: tick 3", armed]);
    }

    #[test]
    fn a_game_that_makes_no_room_any_more_differs() {
        let refuse = |_: &RoomInfo| Err::<Bomb<1>, Refusal>(Refusal::new("not today"));
        assert_eq!(replayed(false, refuse), (Outcome::Differs, String::new()));
        let panic = |_: &RoomInfo| -> Result<Bomb<1>, Refusal> { panic!("not today either") };
        assert_eq!(replayed(false, panic), (Outcome::Differs, String::new()));
    }

    #[test]
    fn a_replay_may_be_paced() {
        for (text, expected) in [
            ("1", Some(Speed::Times(1.0))),
            ("0.5", Some(Speed::Times(0.5))),
            ("max", Some(Speed::Max)),
            ("0", None),
            ("-1", None),
            ("inf", None),
            ("NaN", None),
            ("fast", None),
        ] {
            assert_eq!(speed(text).ok(), expected, "{text}");
        }
    }
}
