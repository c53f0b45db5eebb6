use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use proptest::prelude::*;
use proptest::test_runner::{Config, RngSeed};
use rand::Rng;
use serde::de::IgnoredAny;
use serde_json::{Value, json};

use super::*;
use crate::game::Lane;
use crate::game::{Batch, Refusal};
use crate::wire::seen;

const DEFAULT: PerTick = PerTick::new(Probe::TICK, Probe::INPUTS_PER_TICK, Probe::TICK);

/// The data of a join.
#[derive(serde::Deserialize)]
#[expect(dead_code, reason = "only decoded")]
struct Wishes {
    teams: Vec<Team>,
}

#[derive(serde::Deserialize)]
#[expect(dead_code, reason = "only decoded")]
struct Team {
    size: u8,
}

type OnTick = Box<dyn FnMut(&mut Context<Probe>, &[Incoming<Probe>])>;

/// A game that keeps a log and does what the test tells it to.
struct Probe {
    log: Rc<RefCell<Vec<String>>>,
    panics_in: &'static [&'static str],
    on_tick: OnTick,
}

impl Probe {
    fn note(&self, what: &'static str, detail: String) {
        self.log.borrow_mut().push(format!("{what} {detail}"));
        assert!(!self.panics_in.contains(&what), "this game fails in {what}");
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        assert!(!self.panics_in.contains(&"drop"), "this game fails in drop");
    }
}

impl Game for Probe {
    type Input = Value;
    type Command = String;
    type State = Value;
    type Event = Value;
    type Welcome = String;
    type JoinData = Option<Wishes>;

    const INPUTS_PER_TICK: usize = limits::INPUT_WINDOW;

    fn join(
        &mut self,
        ctx: &mut Context<Probe>,
        player: PlayerId,
        join: &Join<Option<Wishes>>,
    ) -> Result<String, Refusal> {
        ctx.event(Target::All, &json!("hello"), Lane::Reliable).unwrap();
        match join.name.as_str() {
            "unwanted" => return Err(Refusal::new("Not today.")),
            "fatal" => self.note("join", "fatal".to_owned()),
            _ => self.note("enter", format!("{player} of {}", ctx.players().len())),
        }
        Ok(join.name.clone())
    }

    fn leave(&mut self, ctx: &mut Context<Probe>, player: PlayerId, reason: Leave) {
        self.note("leave", format!("{player} {reason}, {} stay", ctx.players().len()));
    }

    fn external(&mut self, _: &mut Context<Probe>, bytes: &[u8]) {
        self.note("external", format!("{bytes:?}"));
    }

    fn tick(&mut self, ctx: &mut Context<Probe>, tick: Tick, batch: Batch<'_, Probe>) {
        let batch_text: Vec<String> = batch
            .as_slice()
            .iter()
            .map(|message| match message {
                Incoming::Input { player, input, .. } => format!("{player}:{input}"),
                Incoming::Command { player, command } => format!("{player}:{command}"),
            })
            .collect();
        (self.on_tick)(ctx, batch.as_slice());
        self.note("tick", format!("{} [{}]", tick.number, batch_text.join(" ")));
    }
}

/// A room under test, with its game's log.
struct Bench {
    room: Room<Probe>,
    log: Rc<RefCell<Vec<String>>>,
    tick: u32,
}

impl Bench {
    fn new(on_tick: impl FnMut(&mut Context<Probe>, &[Incoming<Probe>]) + 'static) -> Bench {
        Bench::with(&RoomInfo::new("room", 1), 8, &[], on_tick)
    }

    fn with(
        info: &RoomInfo,
        max_players: usize,
        panics_in: &'static [&'static str],
        on_tick: impl FnMut(&mut Context<Probe>, &[Incoming<Probe>]) + 'static,
    ) -> Bench {
        let log = Rc::default();
        let game = Probe { log: Rc::clone(&log), panics_in, on_tick: Box::new(on_tick) };
        Bench { room: Room::new(info, game, max_players), log, tick: 0 }
    }

    fn join(&mut self, name: &str) -> PlayerId {
        self.ask_to_join(name, Value::Null)
    }

    fn ask_to_join(&mut self, name: &str, data: Value) -> PlayerId {
        let player = self.room.next_player();
        self.room.handle_input(Input::Join { player, join: Join { data, ..Join::new(name) } });
        player
    }

    fn input(&mut self, player: PlayerId, number: u32) {
        self.send(player, number, &json!(number));
    }

    fn send(&mut self, player: PlayerId, number: u32, value: &Value) {
        let value = msgpack::encode(value, limits::INPUT_BYTES).unwrap();
        let seen = seen::stamp(self.room.tick().into());
        self.room.handle_input(Input::Input { player, number, seen, value });
    }

    fn command(&mut self, player: PlayerId, command: &Value) {
        let value = msgpack::encode(command, limits::RELIABLE_UP_BYTES).unwrap();
        self.room.handle_input(Input::Command { player, value });
    }

    /// The next tick but `missed`: what the room then says.
    fn skip_to_tick(&mut self, missed: u32) -> Vec<Output> {
        self.tick += missed + 1;
        self.room.handle_input(Input::Tick(Tick { number: self.tick, missed }));
        std::iter::from_fn(|| self.room.poll_output()).collect()
    }

    fn tick(&mut self) -> Vec<Output> {
        self.skip_to_tick(0)
    }

    fn take_log(&self) -> Vec<String> {
        self.log.take()
    }

    /// The answer to a request for ticks: the first, and the inputs' numbers of each.
    fn ask(&mut self, player: PlayerId, first: u32, last: u32) -> (u32, Vec<Vec<u32>>) {
        self.room.handle_input(Input::Ticks { player, first, last });
        let outputs = self.tick();
        let answers: Vec<_> = bodies(&outputs, Kind::Ticks).collect();
        assert_eq!(answers.len(), 1, "{first}..={last}");
        assert!(answers[0].len() <= limits::TICKS_ANSWER_BYTES);
        windows(answers[0])
    }
}

fn bodies(outputs: &[Output], wanted: Kind) -> impl Iterator<Item = &[u8]> {
    outputs.iter().filter_map(move |output| match output {
        Output::Body { kind, body, .. } if *kind == wanted => Some(body.as_slice()),
        _ => None,
    })
}

fn windows(body: &[u8]) -> (u32, Vec<Vec<u32>>) {
    let (tick, ticks) = msgpack::decode_ticks(body).unwrap();
    (tick, ticks.iter().map(|inputs| inputs.iter().map(|input| input.number).collect()).collect())
}

fn left(outputs: &[Output]) -> Vec<(u32, Leave)> {
    let reason = |output: &Output| match output {
        Output::Left { player, reason, .. } => Some((player.0, *reason)),
        _ => None,
    };
    outputs.iter().filter_map(reason).collect()
}

#[test]
fn what_arrives_waits_for_the_tick_and_keeps_its_order() {
    let mut bench = Bench::new(|_, _| {});
    let (one, two) = (bench.join("one"), bench.join("two"));
    bench.input(one, 1);
    assert!(bench.take_log().is_empty() && bench.room.poll_output().is_none());
    let outputs = bench.tick();
    let [Output::Joined { player, welcome }, Output::Body { .. }, Output::Joined { player: second, .. }, ..] =
        &outputs[..]
    else {
        panic!("the reply must precede what the same tick sends: {outputs:?}");
    };
    assert_eq!((*player, *second, welcome.to_value()), (one, two, json!("one")));
    assert_eq!(bench.take_log(), ["enter 1 of 1", "enter 2 of 2", "tick 1 []"], "an input before the reply is nothing");

    bench.input(two, 1);
    bench.input(one, 1);
    bench.input(two, 2);
    bench.command(two, &json!("b"));
    bench.command(one, &json!("a"));
    assert_eq!(bench.room.consumed(two), 0);
    bench.tick();
    assert_eq!(bench.take_log(), ["tick 2 [2:1 1:1 2:2 2:b 1:a]"]);
    assert_eq!((bench.room.consumed(one), bench.room.consumed(two)), (1, 2));

    bench.input(one, 2);
    bench.input(two, 3);
    bench.room.handle_input(Input::Leave { player: one, reason: Leave::Closed });
    bench.room.handle_input(Input::Leave { player: one, reason: Leave::Timeout });
    assert_eq!(left(&bench.tick()), [(1, Leave::Closed)]);
    assert_eq!(bench.take_log(), ["leave 1 closed, 1 stay", "tick 3 [2:3]"]);

    bench.room.handle_input(Input::External { bytes: vec![1] });
    bench.join("three");
    bench.room.handle_input(Input::External { bytes: vec![2] });
    assert_eq!((bench.room.externals(), bench.take_log().as_slice()), (2, &[][..]));
    bench.tick();
    assert_eq!(bench.take_log(), ["external [1]", "enter 3 of 2", "external [2]", "tick 4 []"]);
    assert_eq!(bench.room.externals(), 0);
}

#[test]
fn what_a_players_last_tick_sends_names_the_inputs_that_it_reflects() {
    type OfTick = fn(&mut Context<Probe>);
    let endings: [(&str, OfTick); 3] = [
        ("kicked", |ctx| ctx.kick(PlayerId(1), "as you wish")),
        ("closed", |ctx| ctx.close("as you wish")),
        ("failed", |_| panic!("as you wish")),
    ];
    for (what, end) in endings {
        let mut bench = Bench::new(move |ctx, _| {
            if ctx.consumed(PlayerId(1)) > 0 {
                end(ctx)
            }
        });
        let player = bench.join("one");
        bench.tick();
        bench.input(player, 7);
        let outputs = bench.tick();
        assert_eq!((left(&outputs).len(), bench.room.consumed(player)), (1, 7), "{what}");
    }
}

#[test]
fn a_player_who_sends_more_inputs_than_are_taken_loses_the_oldest() {
    let mut bench = Bench::new(|_, _| {});
    let (greedy, other) = (bench.join("greedy"), bench.join("other"));
    bench.tick();
    let backlog = DEFAULT.input_backlog;
    let sent = u32::try_from(backlog).unwrap() + 1;
    (1..=sent).for_each(|number| bench.input(greedy, number));
    bench.input(other, 1);
    assert_eq!(bench.room.overflowed(), 1, "one past the backlog");
    bench.take_log();
    bench.tick();
    assert_eq!(bench.take_log(), ["tick 2 [1:2 1:3 1:4 1:5 1:6 1:7 1:8 1:9 2:1]"], "8 of each player and tick");
    for _ in 0..3 {
        bench.tick();
    }
    assert_eq!(bench.room.consumed(greedy), sent);
    bench.take_log();
    bench.tick();
    assert_eq!(bench.take_log(), ["tick 6 []"]);

    for number in 0..100 * sent {
        bench.input(greedy, sent + number);
        if number % sent == 0 {
            bench.tick();
        }
    }
    assert!(bench.room.context.inbox.waiting() <= backlog, "{} wait", bench.room.context.inbox.waiting());
}

#[test]
fn commands_past_the_limit_of_a_tick_wait_for_the_next_in_order() {
    let mut bench = Bench::new(|_, _| {});
    let (held_up, other) = (bench.join("held up"), bench.join("other"));
    bench.tick();
    bench.take_log();
    let count = 2 * limits::COMMANDS_PER_TICK + 1;
    (0..count).for_each(|number| bench.command(held_up, &json!(number.to_string())));
    bench.command(other, &json!("mine"));
    let mut heard: Vec<String> = Vec::new();
    for expected in [limits::COMMANDS_PER_TICK, limits::COMMANDS_PER_TICK, 1, 0] {
        assert!(left(&bench.tick()).is_empty());
        let log = bench.take_log().concat();
        assert_eq!(log.contains("2:"), heard.is_empty(), "others don't wait for it: {log}");
        let before = heard.len();
        let words = log.split([' ', '[', ']']).filter(|word| word.starts_with("1:"));
        heard.extend(words.map(str::to_owned));
        assert_eq!(heard.len() - before, expected, "{log}");
    }
    assert!(heard.into_iter().eq((0..count).map(|number| format!("1:{number}"))));
}

#[test]
fn commands_past_the_backlog_put_their_sender_out() {
    let long = "x".repeat(limits::RELIABLE_UP_BYTES - 100);
    let of_long = limits::COMMAND_BACKLOG_BYTES / (long.len() + 3);
    for (command, most) in [(json!("go"), DEFAULT.command_backlog), (json!(long), of_long)] {
        for past in [0, 1, 1000] {
            let mut bench = Bench::new(|_, _| {});
            let (flooder, other) = (bench.join("flooder"), bench.join("other"));
            bench.tick();
            (0..most + past).for_each(|_| bench.command(flooder, &command));
            bench.command(other, &json!("still here"));
            let waiting = bench.room.changes.len();
            let outputs = bench.tick();
            let log = bench.take_log().concat();
            assert!(log.contains("2:still here"));
            if past == 0 {
                assert!(left(&outputs).is_empty());
            } else {
                assert_eq!(left(&outputs), [(1, Leave::Flood)]);
                assert!(waiting <= 1, "{waiting} wait after {past} too many");
            }
            assert_eq!(bench.room.players().len(), if past == 0 { 2 } else { 1 });
        }
    }
}

#[test]
fn of_many_requests_for_missed_ticks_the_newest_is_answered() {
    let mut bench = Bench::new(|ctx, _| ctx.fan_out_inputs());
    let player = bench.join("one");
    (0..5).for_each(|_| drop(bench.tick()));
    for first in 1..1000 {
        bench.room.handle_input(Input::Ticks { player, first: first % 3 + 1, last: 4 });
    }
    let outputs = bench.tick();
    let answers: Vec<_> = bodies(&outputs, Kind::Ticks).map(windows).collect();
    assert_eq!(answers, [(1, vec![vec![]; 4])]);
}

#[test]
fn what_the_game_cannot_read_costs_its_sender_their_place_and_nobody_else() {
    fn check(spoil: impl Fn(&mut Bench, PlayerId)) {
        let mut bench = Bench::new(|_, _| {});
        let (bad, good) = (bench.join("bad"), bench.join("good"));
        bench.tick();
        bench.take_log();
        bench.command(bad, &json!("in vain"));
        bench.input(bad, 1);
        spoil(&mut bench, bad);
        bench.input(good, 7);
        let outputs = bench.tick();
        let [Output::Left { player, reason: Leave::BadFrame, message }] = &outputs[..] else { panic!("{outputs:?}") };
        assert_eq!((*player, message.as_str()), (bad, "The game can't read what you sent."));
        let (player, why) = bench.room.take_unreadable().expect("for the author of the game");
        assert_eq!((player, why.is_empty(), bench.room.take_unreadable()), (bad, false, None));
        assert_eq!(bench.take_log(), ["leave 1 bad_frame, 1 stay", "tick 2 [2:7]"]);
    }
    // Binary, which JSON has not.
    check(|bench, player| {
        bench.room.handle_input(Input::Input { player, number: 2, seen: 0, value: vec![0xc4, 1, 0] })
    });
    check(|bench, player| bench.command(player, &json!({ "no": "string" })));
}

#[test]
fn many_unreadable_messages_put_each_sender_out_once_and_nobody_else() {
    const PLAYERS: usize = 1_024;
    let fanned_out = Rc::new(RefCell::new(false));
    let fans_out = Rc::clone(&fanned_out);
    let heard = Rc::new(RefCell::new(Vec::new()));
    let note = Rc::clone(&heard);
    let mut bench = Bench::with(&RoomInfo::new("room", 1), PLAYERS, &[], move |ctx, batch| {
        note.borrow_mut().extend(batch.iter().map(|message| (ctx.tick(), message.player().0)));
        if *fans_out.borrow() {
            ctx.fan_out_inputs();
        }
    });
    for is_fanned_out in [false, true] {
        let present = bench.room.players().len();
        let players: Vec<_> = (present..PLAYERS).map(|_| bench.join("one")).collect();
        bench.tick();
        let is_bad = |player: PlayerId| !player.0.is_multiple_of(100);
        for round in 1..=2 {
            for &player in &players {
                bench.input(player, round);
                bench
                    .room
                    .handle_input(Input::Command { player, value: if is_bad(player) { vec![7] } else { vec![0xa0] } });
            }
        }
        heard.borrow_mut().clear();
        *fanned_out.borrow_mut() = is_fanned_out;
        let outputs = bench.tick();
        let (bad, good): (Vec<PlayerId>, Vec<PlayerId>) = players.iter().partition(|&&player| is_bad(player));
        assert_eq!(left(&outputs), bad.iter().map(|player| (player.0, Leave::BadFrame)).collect::<Vec<_>>());
        // Two rounds of an input and a command each.
        let round = good.iter().flat_map(|player| [player.0; 2]);
        let expected: Vec<_> = round.clone().chain(round).map(|player| (bench.tick, player)).collect();
        assert_eq!(*heard.borrow(), expected);
        if is_fanned_out {
            let (_, ticks) = msgpack::decode_ticks(bodies(&outputs, Kind::Tick).next().unwrap()).unwrap();
            let senders: Vec<_> = ticks[0].iter().map(|input| (input.number, input.player)).collect();
            let expected = (1..=2).flat_map(|round| good.iter().map(move |player| (round, player.0)));
            assert_eq!(senders, expected.collect::<Vec<_>>());
        }
    }
}

#[test]
fn what_the_game_never_had_is_not_fanned_out() {
    let mut bench = Bench::new(|ctx, _| ctx.fan_out_inputs());
    let (bad, good) = (bench.join("bad"), bench.join("good"));
    bench.tick();
    bench.input(bad, 1);
    bench.input(good, 7);
    bench.command(bad, &json!({ "no": "string" }));
    let outputs = bench.tick();
    let [Output::Left { .. }, Output::Body { kind: Kind::Tick, body, .. }] = &outputs[..] else {
        panic!("{outputs:?}")
    };
    let (_, ticks) = msgpack::decode_ticks(body).unwrap();
    let players: Vec<u32> = ticks[0].iter().map(|input| input.player).collect();
    assert_eq!(players, [good.0]);
}

#[test]
fn a_kick_follows_the_tick() {
    let mut bench = Bench::new(|ctx, _| {
        if ctx.tick() == 2 {
            ctx.kick(PlayerId(1), "Out!");
            ctx.kick(PlayerId(9), "Who?");
            ctx.event(Target::All, &json!("bye"), Lane::Unreliable).unwrap();
        }
    });
    let (kicked, _) = (bench.join("kicked"), bench.join("other"));
    bench.tick();
    bench.take_log();
    let outputs = bench.tick();
    let [Output::Body { kind: Kind::Event, .. }, Output::Left { player, reason: Leave::Kicked, message }] =
        &outputs[..]
    else {
        panic!("{outputs:?}");
    };
    assert_eq!((*player, message.as_str()), (kicked, "Out!"));
    assert_eq!(bench.take_log(), ["tick 2 []", "leave 1 kicked, 1 stay"]);
}

#[test]
fn a_game_that_panics_closes_its_room() {
    fn check(panics_in: &'static [&'static str], trigger: impl Fn(&mut Bench), refused: &[u32], gone: &[u32]) {
        let mut bench = Bench::with(&RoomInfo::new("room", 1), 8, panics_in, |ctx, batch| {
            assert!(batch.is_empty(), "tick {} fails", ctx.tick());
        });
        bench.join("one");
        bench.join("two");
        bench.tick();
        trigger(&mut bench);
        let outputs = bench.tick();
        let was_refused: Vec<u32> = outputs
            .iter()
            .filter_map(|output| match output {
                Output::Refused { player, code: ErrorCode::Internal, .. } => Some(player.0),
                _ => None,
            })
            .collect();
        let expected: Vec<_> = gone.iter().map(|&player| (player, Leave::RoomClosed)).collect();
        let lost: Vec<_> = left(&outputs).into_iter().filter(|(_, reason)| *reason == Leave::RoomClosed).collect();
        assert_eq!((lost, was_refused.as_slice()), (expected, refused), "{panics_in:?}");
        assert_eq!(outputs.iter().position(|output| *output == Output::Closed), Some(outputs.len() - 1));

        assert!(bench.room.game().is_none() && bench.room.is_empty());
        bench.join("late");
        bench.input(PlayerId(2), 1);
        assert_eq!(bench.tick(), [], "nothing more comes of a closed room");
        assert!(bench.room.is_empty());
    }
    let input: fn(&mut Bench) = |bench| bench.input(PlayerId(1), 1);
    check(&[], input, &[], &[1, 2]);
    check(&["drop"], input, &[], &[1, 2]);
    let fatal: fn(&mut Bench) = |bench| {
        bench.join("fatal");
        bench.join("waiting");
    };
    check(&["join"], fatal, &[4], &[1, 2, 3]);
    let leave: fn(&mut Bench) = |bench| {
        bench.room.handle_input(Input::Leave { player: PlayerId(1), reason: Leave::Left });
        bench.join("waiting");
    };
    check(&["leave"], leave, &[3], &[2]);
    let external: fn(&mut Bench) = |bench| {
        bench.room.handle_input(Input::External { bytes: Vec::new() });
        bench.join("waiting");
    };
    check(&["external"], external, &[3], &[1, 2]);
}

#[test]
fn messages_past_a_limit_are_not_sent() {
    fn check(value: Value, lane: Option<Lane>, expected: Result<(), &str>) {
        let result = Rc::new(RefCell::new(Ok(())));
        let note = Rc::clone(&result);
        let mut bench = Bench::new(move |ctx, _| {
            *note.borrow_mut() = match lane {
                None => ctx.state(&value),
                Some(lane) => ctx.event(Target::All, &value, lane),
            };
        });
        let sent = bench.tick().len();
        let result = result.borrow();
        assert_eq!(bench.room.unsent(), u64::from(result.is_err()));
        assert_eq!(bench.room.take_send_error(), result.clone().err());
        assert_eq!(bench.room.take_send_error(), None, "told once");
        let result = result.as_ref().copied().map_err(|error| match error {
            SendError::TooLarge { bytes, limit } => {
                assert_eq!(*bytes, limit + 1);
                "too large"
            }
            SendError::Unencodable(_) => "unencodable",
            SendError::Backlog => "backlog",
        });
        assert_eq!((result, sent), (expected, usize::from(expected.is_ok())));
    }
    // Heads of strings: 3 bytes, then 5.
    let state = |bytes: usize| json!("x".repeat(bytes - 3));
    let event = |bytes: usize| json!("x".repeat(bytes - 5));
    check(state(limits::STATE_BYTES), None, Ok(()));
    check(state(limits::STATE_BYTES + 1), None, Err("too large"));
    check(state(4096), Some(Lane::Unreliable), Ok(()));
    check(state(4097), Some(Lane::Unreliable), Err("too large"));
    check(event(limits::RELIABLE_EVENT_BYTES), Some(Lane::Reliable), Ok(()));
    check(event(limits::RELIABLE_EVENT_BYTES + 1), Some(Lane::Reliable), Err("too large"));
    let deep = |depth: usize| (1..depth).fold(json!([]), |inside, _| json!([inside]));
    for lane in [None, Some(Lane::Unreliable), Some(Lane::Reliable)] {
        check(deep(limits::MSGPACK_DEPTH), lane, Ok(()));
        check(deep(limits::MSGPACK_DEPTH + 1), lane, Err("unencodable"));
    }
    let largest = 9_007_199_254_740_992_u64;
    check(json!([largest]), None, Ok(()));
    check(json!([largest + 1]), None, Err("unencodable"));
    check(json!(-9_007_199_254_740_993_i64), Some(Lane::Reliable), Err("unencodable"));
}

/// A string that takes so many bytes in msgpack.
fn text(bytes: usize) -> Value {
    json!("x".repeat(bytes - if bytes > 257 { 3 } else { 2 }))
}

#[test]
fn the_window_holds_the_newest_tick_and_those_before_it_that_fit() {
    /// `ticks`: of each tick, the sizes of its inputs and how many ticks its window holds; none where nothing is sent.
    fn check(ticks: &[(&[usize], Option<usize>)]) {
        let mut bench = Bench::new(|ctx, _| ctx.fan_out_inputs());
        let players = [bench.join("one"), bench.join("two")];
        bench.tick();
        let mut number = 0;
        let mut history = vec![Vec::new()];
        for &(sizes, expected) in ticks {
            let mut sent = Vec::new();
            for (&bytes, &player) in sizes.iter().zip(players.iter().cycle()) {
                number += 1;
                sent.push(number);
                bench.send(player, number, &text(bytes));
            }
            history.push(sent);
            let outputs = bench.tick();
            let body = bodies(&outputs, Kind::Tick).next();
            let expected =
                expected.map(|count| (bench.tick, history.iter().rev().take(count).cloned().collect::<Vec<_>>()));
            assert_eq!(body.map(windows), expected, "{ticks:?}");
            assert!(body.is_none_or(|body| body.len() <= limits::UNRELIABLE_BODY_BYTES));
        }
        let last = bench.tick;
        assert_eq!(bench.ask(players[0], 1, last), (1, history), "the record has all of them");
    }
    check(&[(&[], Some(2)), (&[9], Some(3)), (&[9, 9], Some(4)), (&[], Some(4))]);
    // Two of the largest inputs fit one part, three don't.
    check(&[(&[512], Some(2)), (&[512], Some(3)), (&[512], Some(2)), (&[512, 512], Some(1)), (&[], Some(2))]);
    // What is larger than a part goes alone.
    check(&[(&[512; 3], Some(1)), (&[512; 8], Some(1)), (&[9], Some(1)), (&[9], Some(2))]);
}

#[test]
fn inputs_that_do_not_fit_a_frame_wait_for_the_next_tick() {
    let mut bench = Bench::new(|ctx, _| ctx.fan_out_inputs());
    let players = [bench.join("one"), bench.join("two")];
    bench.tick();
    for number in 1..=5 {
        players.iter().for_each(|&player| bench.send(player, number, &text(512)));
    }
    let fanned_out = |outputs: &[Output]| windows(bodies(outputs, Kind::Tick).next().unwrap()).1.swap_remove(0);
    assert_eq!(fanned_out(&bench.tick()), [1, 1, 2, 2, 3, 3, 4, 4]);
    assert_eq!(players.map(|player| bench.room.consumed(player)), [4, 4]);
    assert_eq!(fanned_out(&bench.tick()), [5, 5]);
}

/// Of a room whose players send at a rate each, what the game has had in the end: the numbers of each player's inputs.
fn play(tick: Duration, fans_out: bool, players: &[(u32, usize)], seconds: u32) -> Vec<Vec<u32>> {
    let heard = Rc::new(RefCell::new(vec![Vec::new(); players.len()]));
    let note = Rc::clone(&heard);
    let mut info = RoomInfo::new("room", 1);
    info.tick = tick;
    let mut bench = Bench::with(&info, players.len(), &[], move |ctx, batch| {
        for message in batch {
            let Incoming::Input { player, input, .. } = message else { continue };
            let number = input[0].as_u64().and_then(|number| u32::try_from(number).ok()).unwrap();
            note.borrow_mut()[player.0 as usize - 1].push(number);
        }
        if fans_out {
            ctx.fan_out_inputs();
        }
    });
    let ids: Vec<_> = players.iter().map(|_| bench.join("one")).collect();
    bench.tick();
    let mut sent = vec![0; players.len()];
    for number in 1..=u32::try_from((Duration::from_secs(1) * seconds).as_nanos().div_ceil(tick.as_nanos())).unwrap() {
        for ((&(per_second, bytes), &player), sent) in players.iter().zip(&ids).zip(&mut sent) {
            let due = u32::try_from((tick * number * per_second).as_secs()).unwrap().min(per_second * seconds);
            for number in *sent + 1..=due {
                bench.send(player, number, &json!([number, "x".repeat(bytes - 8)]));
            }
            *sent = due;
        }
        bench.tick();
    }
    (0..4).for_each(|_| drop(bench.tick()));
    heard.take()
}

#[test]
fn sixty_inputs_a_second_reach_the_game_in_ticks_of_any_length() {
    for us in [5_000, 16_667, 33_000, 133_000, 200_000, 500_000, 1_000_000] {
        let heard = play(Duration::from_micros(us), false, &[(60, 40), (125, 40)], 4);
        for (heard, sent) in heard.into_iter().zip([240, 500]) {
            assert!(heard.into_iter().eq(1..=sent), "ticks of {us} µs");
        }
    }
}

#[test]
fn commands_within_the_limit_of_frames_put_nobody_out_in_ticks_of_any_length() {
    for ms in [5, 33, 200, 1_000] {
        let mut info = RoomInfo::new("room", 1);
        info.tick = Duration::from_millis(ms);
        let mut bench = Bench::with(&info, 1, &[], |_, _| {});
        let player = bench.join("one");
        bench.tick();
        bench.take_log();
        // A second's worth at once, then as many as are allowed.
        let (mut sent, mut heard) = (0, 0);
        for tick in 1..=3_000 / ms {
            let due = limits::FRAMES_PER_SECOND + u32::try_from(tick * ms * 250 / 1_000).unwrap();
            (sent..due).for_each(|_| bench.command(player, &json!("go")));
            sent = due;
            assert!(left(&bench.tick()).is_empty(), "ticks of {ms} ms, {sent} sent");
            heard += bench.take_log().concat().matches("1:go").count();
        }
        (0..32).for_each(|_| drop(bench.tick()));
        heard += bench.take_log().concat().matches("1:go").count();
        assert_eq!(heard, sent as usize, "ticks of {ms} ms");
    }
}

#[test]
fn a_player_who_sends_too_much_costs_nobody_else_an_input() {
    const MS: Duration = Duration::from_millis(1);
    // 63 players within the frame of 4,363 bytes, and one who alone would fill it.
    let mut players = vec![(30, 54); 63];
    players.insert(20, (240, 500));
    let heard = play(33 * MS, true, &players, 10);
    for (index, heard) in heard.iter().enumerate().filter(|&(index, _)| index != 20) {
        assert_eq!(*heard, (1..=300).collect::<Vec<_>>(), "player {}", index + 1);
    }
    let greedy = &heard[20];
    assert!(greedy.is_sorted() && (100..2_390).contains(&greedy.len()), "{} inputs", greedy.len());
}

#[test]
fn a_batch_is_bounded_in_bytes_and_its_rest_comes_in_turn() {
    let most = Rc::new(RefCell::new((0, 0)));
    let note = Rc::clone(&most);
    let mut bench = Bench::with(&RoomInfo::new("room", 1), 1_024, &[], move |_, batch| {
        let bytes = |message: &Incoming<Probe>| match message {
            Incoming::Input { input, .. } => input.as_str().unwrap().len(),
            Incoming::Command { command, .. } => command.len(),
        };
        let of_tick: usize = batch.iter().map(bytes).sum();
        let (most, all) = *note.borrow();
        *note.borrow_mut() = (of_tick.max(most), all + of_tick);
    });
    let players: Vec<_> = (0..1_024).map(|_| bench.join("one")).collect();
    bench.tick();
    for &player in &players {
        bench.command(player, &json!("x".repeat(4_000)));
        bench.send(player, 1, &text(503));
    }
    (0..16).for_each(|_| assert!(left(&bench.tick()).is_empty()));
    let (most, all) = *most.borrow();
    assert!((DEFAULT.batch_bytes..=2 * DEFAULT.batch_bytes).contains(&most), "{most} bytes in one tick");
    assert_eq!(all, 1_024 * (4_000 + 500), "all of it has come");
}

#[test]
fn ticks_that_the_room_skipped_have_no_inputs() {
    let mut bench = Bench::new(|ctx, _| ctx.fan_out_inputs());
    let player = bench.join("one");
    bench.tick();
    bench.input(player, 1);
    bench.tick();
    bench.input(player, 2);
    let outputs = bench.skip_to_tick(2);
    assert_eq!(windows(bodies(&outputs, Kind::Tick).next().unwrap()), (5, vec![vec![2], vec![], vec![], vec![1]]));
    assert_eq!(bench.ask(player, 1, 5), (1, vec![vec![], vec![1], vec![], vec![], vec![2]]));

    let span = bench.room.history_span();
    bench.skip_to_tick(u32::MAX / 2);
    let (first, ticks) = bench.ask(player, 1, u32::MAX);
    assert_eq!((first, ticks.len()), (bench.tick - span, span as usize), "a long sleep fills the record, no more");
}

#[test]
fn a_request_for_ticks_is_always_answered() {
    let mut info = RoomInfo::new("room", 1);
    info.tick = Duration::from_millis(5);
    let mut bench = Bench::with(&info, 8, &[], |ctx, _| {
        if ctx.tick() <= 2_050 {
            ctx.fan_out_inputs();
        }
    });
    let player = bench.join("one");
    bench.tick();
    while bench.tick < 2_050 {
        let tick = bench.tick + 1;
        bench.input(player, tick);
        bench.tick();
    }
    let most = limits::TICKS_PER_REQUEST;
    // Ten seconds of 5 ms: the record begins with tick 51.
    for (first, last, expected_first, expected_count) in [
        (2_000, 2_050, 2_000, 51),
        (100, 99 + most, 100, most),
        (100, 100 + most, 100, most),
        (51, 51, 51, 1),
        (1, 60, 51, 10),
        (1, 50, 51, 0),
        (2_050, 2_049, 2_050, 0),
        (2_051, 2_060, 2_051, 0),
        (2_040, u32::MAX, 2_040, 11),
        (0, u32::MAX, 51, most),
        (u32::MAX, u32::MAX, u32::MAX, 0),
        (u32::MAX, 0, u32::MAX, 0),
    ] {
        let expected: Vec<_> = (expected_first..).take(expected_count as usize).map(|tick| vec![tick]).collect();
        assert_eq!(bench.ask(player, first, last), (expected_first, expected), "{first}..={last}");
    }

    let mut bench = Bench::new(|_, _| {});
    let player = bench.join("one");
    bench.tick();
    assert_eq!(bench.ask(player, 1, 5).1, [[0; 0]; 0], "a room that fans nothing out has nothing");
}

#[test]
fn an_answer_stays_within_its_limit() {
    let mut bench = Bench::new(|ctx, _| ctx.fan_out_inputs());
    let players = [bench.join("one"), bench.join("two")];
    bench.tick();
    let ticks = u32::try_from(limits::TICKS_ANSWER_BYTES / 1024).unwrap() + 1;
    for number in 1..=ticks {
        for player in players {
            (0..8).for_each(|_| bench.send(player, number, &text(512)));
        }
        bench.tick();
    }
    let (first, answered) = bench.ask(players[0], 2, ticks + 1);
    assert_eq!(first, 2);
    // Each tick has eight inputs of 512 bytes, and a little.
    assert!((12..=limits::TICKS_ANSWER_BYTES / 4096).contains(&answered.len()), "{} of {ticks}", answered.len());
}

#[test]
fn a_first_tick_longer_than_an_answer_is_answered_alone() {
    let mut info = RoomInfo::new("room", 1);
    info.tick = Duration::from_secs(1);
    let mut bench = Bench::with(&info, 1_024, &[], |ctx, _| {
        if ctx.tick() >= 2 {
            ctx.fan_out_inputs();
        }
    });
    let players: Vec<_> = (0..1_024).map(|_| bench.join("one")).collect();
    bench.tick();
    for &player in &players {
        (1..=8).for_each(|number| bench.send(player, number, &text(512)));
    }
    assert_eq!(bodies(&bench.tick(), Kind::Tick).count(), 0, "no frame holds it");
    bench.tick();
    bench.room.handle_input(Input::Ticks { player: players[0], first: 2, last: 3 });
    let outputs = bench.tick();
    let answer = bodies(&outputs, Kind::Ticks).next().unwrap();
    assert!((limits::TICKS_ANSWER_BYTES..=limits::RELIABLE_DOWN_BYTES).contains(&answer.len()), "{}", answer.len());
    let (first, ticks) = windows(answer);
    assert_eq!((first, ticks.len()), (2, 1));
    assert!(ticks[0].len() > 1_024, "{} inputs", ticks[0].len());
    let (first, ticks) = bench.ask(players[0], 3, 4);
    assert_eq!((first, ticks.len()), (3, 2), "the rest is asked for again");
}

/// A step of a made-up session.
#[derive(Clone, Debug)]
enum Step {
    Tick(u32),
    Tell(Input),
}

fn step() -> impl Strategy<Value = Step> {
    let player = (1..6_u32).prop_map(PlayerId);
    let value = prop_oneof![Just(vec![7]), Just(vec![0xa1, b'x']), prop::collection::vec(any::<u8>(), 0..8)];
    let name = prop_oneof![Just("one"), Just("unwanted")];
    prop_oneof![
        3 => (0..3_u32).prop_map(Step::Tick),
        1 => (player.clone(), name)
            .prop_map(|(player, name)| Step::Tell(Input::Join { player, join: Join::new(name) })),
        1 => player.clone().prop_map(|player| Step::Tell(Input::Leave { player, reason: Leave::Left })),
        4 => (player.clone(), any::<u32>(), any::<u16>(), value.clone())
            .prop_map(|(player, number, seen, value)| Step::Tell(Input::Input { player, number, seen, value })),
        2 => (player.clone(), value).prop_map(|(player, value)| Step::Tell(Input::Command { player, value })),
        1 => (player, any::<u32>(), any::<u32>())
            .prop_map(|(player, first, last)| Step::Tell(Input::Ticks { player, first, last })),
    ]
}

fn replay(seed: u64, steps: &[Step]) -> Vec<Output> {
    let mut bench = Bench::with(&RoomInfo::new("room", seed), 3, &[], |ctx, batch| {
        let drawn = ctx.rng().next_u32();
        ctx.state(&json!([drawn, batch.len()])).unwrap();
        ctx.fan_out_inputs();
    });
    let mut outputs = Vec::new();
    for step in steps {
        match step {
            Step::Tick(missed) => outputs.extend(bench.skip_to_tick(*missed)),
            Step::Tell(input) => bench.room.handle_input(input.clone()),
        }
    }
    outputs
}

proptest! {
    #![proptest_config(Config {
        rng_seed: RngSeed::Fixed(1), failure_persistence: None, ..Config::with_cases(128)
    })]

    #[test]
    fn the_same_inputs_make_the_same_outputs(steps in prop::collection::vec(step(), 0..200), seed: u64) {
        let outputs = replay(seed, &steps);
        prop_assert_eq!(&outputs, &replay(seed, &steps));
        prop_assert!(!outputs.contains(&Output::Closed));
        let other = replay(seed ^ 1, &steps);
        let states = |outputs: &[Output]| bodies(outputs, Kind::State).map(<[u8]>::to_vec).collect::<Vec<_>>();
        prop_assert!(outputs.is_empty() || states(&outputs) != states(&other), "the seed must matter");
    }
}

mod joins;
mod numbers;
mod states;
