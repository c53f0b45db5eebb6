//! What an input's player saw, players' new names, and their links.

use super::*;

#[test]
fn an_input_has_the_tick_that_its_player_saw_within_a_second_of_the_room() {
    let seen = Rc::new(RefCell::new(Vec::new()));
    let noted = Rc::clone(&seen);
    let mut bench = Bench::new(move |_, batch| {
        noted.borrow_mut().extend(batch.iter().map(|incoming| match incoming {
            Incoming::Input { seen, .. } => *seen,
            Incoming::Command { .. } => f64::NAN,
        }));
    });
    let player = bench.join("Ada");
    bench.tick();
    let limit = limits::SEEN_LIMIT.as_secs_f64() / 0.033;
    // The room's tick when the input arrives, what the player claims to have seen, what the game gets, and whether that
    // counts as clamped. A negative tick is one of a page that has just come.
    let claims = [
        (2, 2.0, 2.0, false),
        (4, 1.5, 1.5, false),
        (6, -3.0, 0.0, false),
        (8, 8.0625, 8.0, true),
        (100, 75.25, 75.25, false),
        (102, 60.0, 103.0 - limit, true),
        (70_000, 69_990.5, 69_990.5, false),
        (70_002, 100.0, 70_003.0 - limit, true),
        (70_004, 70_504.0, 70_004.0, true),
    ];
    for (number, (room, claimed, expected, is_clamped)) in (1..).zip(claims) {
        bench.skip_to_tick(room - bench.tick - 1);
        let before = bench.room.clamped_seen();
        let value = vec![1];
        bench.room.handle_input(Input::Input { player, number, seen: seen::stamp(claimed), value });
        bench.tick();
        assert_eq!(seen.borrow_mut().pop(), Some(expected), "{claimed} in tick {room}");
        assert_eq!(bench.room.clamped_seen() - before, u64::from(is_clamped), "{claimed} in tick {room}");
    }
}

#[test]
fn a_new_name_is_what_a_name_may_be_and_is_announced_once() {
    let mut bench = Bench::new(|ctx, _| {
        for name in ["two\n", "two", "  two  "] {
            ctx.rename(PlayerId(1), name);
        }
        ctx.rename(PlayerId(7), "nobody");
    });
    bench.join("one");
    let renamed = |outputs: Vec<Output>| {
        outputs.into_iter().filter(|output| matches!(output, Output::Renamed { .. })).collect::<Vec<_>>()
    };
    assert_eq!(renamed(bench.tick()), [Output::Renamed { player: PlayerId(1), name: "two".to_owned() }]);
    assert_eq!(renamed(bench.tick()), []);
    assert_eq!(bench.room.players().next().unwrap().name, "two");
}

#[test]
fn links_are_known_from_the_next_tick() {
    let seen = Rc::new(RefCell::new(Vec::new()));
    let note = Rc::clone(&seen);
    let mut bench = Bench::new(move |ctx, _| note.borrow_mut().push(ctx.link(PlayerId(1)).rtt_us));
    let player = bench.join("one");
    bench.tick();
    let link = Link { rtt_us: 40_000, ..Link::default() };
    bench.room.handle_input(Input::Link { player, link });
    bench.tick();
    bench.room.handle_input(Input::Leave { player, reason: Leave::Left });
    bench.tick();
    assert_eq!(seen.take(), [0, 40_000, 0]);
}
