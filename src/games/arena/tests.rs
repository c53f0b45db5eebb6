use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::limits;
use crate::room::{Input, Output, Room};
use crate::wire::frame::Kind;
use crate::wire::msgpack;

/// A room whose outputs are read as its players would.
struct Table {
    room: Room<Arena>,
    number: u32,
    inputs: BTreeMap<PlayerId, u32>,
}

#[derive(Default)]
struct Step {
    state: Option<State>,
    events: Vec<(Event, Lane)>,
    outputs: Vec<Output>,
}

impl Table {
    fn new(seed: u64) -> Table {
        let info = RoomInfo::new("arena", seed);
        let room = Room::new(&info, Arena::new(&info), limits::PLAYERS_PER_ROOM_MAX);
        Table { room, number: 0, inputs: BTreeMap::new() }
    }

    fn join(&mut self) -> PlayerId {
        let player = self.room.next_player();
        self.room.handle_input(Input::Join { player, join: Join::new(&format!("player {player}")) });
        player
    }

    fn leave(&mut self, player: PlayerId) {
        self.room.handle_input(Input::Leave { player, reason: Leave::Left });
    }

    fn send(&mut self, player: PlayerId, steer: Steer) {
        let value = msgpack::encode(&steer, limits::INPUT_BYTES).expect("an input encodes");
        let number = self.inputs.entry(player).or_default();
        *number += 1;
        self.room.handle_input(Input::Input { player, number: *number, seen: 0, value });
    }

    fn tick(&mut self) -> Step {
        self.number += 1;
        self.room.handle_input(Input::Tick(Tick { number: self.number, missed: 0 }));
        let mut step = Step::default();
        while let Some(output) = self.room.poll_output() {
            if let Output::Body { kind, body, .. } = &output {
                match kind {
                    Kind::State => step.state = Some(self.read(body)),
                    Kind::Event => step.events.push((self.read(body), Lane::Unreliable)),
                    Kind::ReliableEvent => step.events.push((self.read(body), Lane::Reliable)),
                    other => panic!("an arena does not send {other:?}"),
                }
            }
            step.outputs.push(output);
        }
        step
    }

    fn read<T: serde::de::DeserializeOwned>(&self, body: &[u8]) -> T {
        let (tick, value): (u32, T) = rmp_serde::from_slice(body).expect("a body decodes");
        assert_eq!(tick, self.number);
        value
    }

    fn state(&mut self) -> State {
        self.tick().state.expect("a room with players has a state")
    }
}

fn ids(state: &State) -> Vec<i64> {
    state.3.iter().map(|disc| disc.0.0).collect()
}

/// A disc that stands still in the left half.
fn actor(id: i64, x: i32) -> Actor {
    let position = Vector { x: x * POSITION_SCALE, y: HEIGHT / 2 * POSITION_SCALE };
    Actor { position, shield_ms: 0, ..Actor::new(ActorId(id), &mut rng()) }
}

fn arena_of(actors: Vec<Actor>, gems: Vec<Vector>) -> Arena {
    Arena { actors, gems, ..Arena::new(&RoomInfo::new("arena", 0)) }
}

fn tick(number: u32) -> Tick {
    Tick { number, missed: 0 }
}

fn rng() -> Random {
    Random::new(42)
}

#[test]
fn a_joiner_is_told_the_rules_and_seen_at_once() {
    let mut table = Table::new(1);
    let player = table.join();
    let step = table.tick();
    let Some(Output::Joined { welcome, .. }) = step.outputs.first() else { panic!("the reply comes first") };
    let welcome = welcome.to_value();
    assert_eq!(welcome["width"], 16_000);
    assert_eq!(welcome["botNames"][0], "Nova");
    assert_eq!(step.state.as_ref().map(ids), Some(vec![i64::from(player.0), -1, -2, -3]));
}

#[test]
fn bots_fill_an_emptyish_arena_and_yield_to_players() {
    let mut table = Table::new(2);
    let first = table.join();
    assert_eq!(ids(&table.state()), [1, -1, -2, -3]);
    let others: Vec<PlayerId> = (0..2).map(|_| table.join()).collect();
    assert_eq!(ids(&table.state()), [1, -1, 2, 3]);
    table.join();
    table.join();
    assert_eq!(ids(&table.state()), [1, 2, 3, 4, 5]);
    table.leave(first);
    table.leave(others[0]);
    assert_eq!(ids(&table.state()), [3, 4, 5, -1]);
}

#[test]
fn an_arena_without_players_says_nothing() {
    let mut table = Table::new(3);
    let player = table.join();
    table.tick();
    table.leave(player);
    let step = table.tick();
    assert!(matches!(step.outputs.as_slice(), [Output::Left { .. }]), "{:?}", step.outputs);
}

#[test]
fn a_disc_gains_the_top_speed_and_stops_when_its_player_falls_silent() {
    let mut disc = actor(1, 1_000);
    for _ in 0..60 {
        disc.steer = Vector::from_steer(&Steer(100.0, 0.0, false));
        disc.silent_ms = 0;
        disc.advance(33);
    }
    assert!((TOP_SPEED * 97 / 100..=TOP_SPEED).contains(&disc.velocity.x), "{disc:?}");
    for _ in 0..200 {
        disc.advance(33);
    }
    assert!(disc.velocity.is_within(TOP_SPEED / 100), "{disc:?}");
}

#[test]
fn no_direction_is_faster_than_another() {
    let straight = Vector::from_steer(&Steer(100.0, 0.0, false));
    let diagonal = Vector::from_steer(&Steer(-100.0, 100.0, false));
    assert_eq!(straight, Vector { x: 100, y: 0 });
    assert_eq!(diagonal, Vector { x: -70, y: 70 });
    assert!(Vector::from_steer(&Steer(-34.5, -95.3, false)).is_within(100), "just past the limit");
}

#[test]
fn a_dash_is_quick_and_has_to_cool_down() {
    let mut disc = actor(1, 8_000);
    disc.steer = Vector { x: 100, y: 0 };
    disc.wants_dash = true;
    disc.advance(33);
    assert!(disc.is_dashing() && disc.velocity.x > TOP_SPEED, "{disc:?}");
    let mut dashes = 1;
    for _ in 0..COOLDOWN_MS / 33 {
        let dashing = disc.is_dashing();
        disc.wants_dash = true;
        disc.advance(33);
        dashes += i32::from(disc.is_dashing() && !dashing);
    }
    assert_eq!(dashes, 1);
    disc.wants_dash = true;
    disc.advance(33);
    assert!(disc.is_dashing());
}

#[test]
fn gems_are_worth_a_point_and_the_star_five() {
    let disc = actor(1, 5_000);
    let (place, elsewhere) = (disc.position, Vector { x: POSITION_SCALE, y: POSITION_SCALE });
    let mut arena = arena_of(vec![disc], vec![place, elsewhere, place]);
    let mut effects = Vec::new();
    arena.collect(tick(3), &mut rng(), &mut effects);
    let collected = |value| Effect::Collected(ActorId(1), value, place.into());
    assert_eq!(effects, [collected(STAR_VALUE), collected(GEM_VALUE)]);
    assert_eq!((arena.actors[0].score, arena.actors[0].scored_at), (STAR_VALUE + GEM_VALUE, 3));
    assert!(arena.gems[0] != place && arena.gems[2] != place, "they lie elsewhere now");
    assert_eq!(arena.gems[1], elsewhere);
}

#[test]
fn who_dashes_into_somebody_steals_once_until_their_shield_is_gone() {
    let thief = Actor { dash_ms: DASH_MS, velocity: Vector { x: 5_000, y: 0 }, ..actor(1, 3_000) };
    let victim = Actor { score: 10, ..actor(2, 3_400) };
    let place = victim.position;
    let mut arena = arena_of(vec![thief, victim], vec![]);
    let mut effects = Vec::new();
    arena.collide(tick(1), &mut effects);
    for _ in 0..SHIELD_MS / 33 {
        arena.actors[0].position = arena.actors[1].position;
        arena.actors[0].dash_ms = DASH_MS;
        arena.actors[1].advance(33);
        arena.collide(tick(1), &mut effects);
    }
    assert!(matches!(effects[..], [Effect::Bumped(ActorId(1), ActorId(2), STOLEN_VALUE, _)]), "{effects:?}");
    assert_eq!((arena.actors[0].score, arena.actors[1].score), (STOLEN_VALUE, 10 - STOLEN_VALUE));
    assert!(arena.actors[1].position.x > place.x, "pushed away");
}

#[test]
fn two_who_dash_into_each_other_only_bounce() {
    let left = Actor { dash_ms: DASH_MS, score: 5, velocity: Vector { x: 5_000, y: 0 }, ..actor(1, 3_000) };
    let right = Actor { dash_ms: DASH_MS, score: 5, velocity: Vector { x: -4_000, y: 0 }, ..actor(2, 3_400) };
    let mut arena = arena_of(vec![left, right], vec![]);
    let mut effects = Vec::new();
    arena.collide(tick(1), &mut effects);
    assert_eq!(effects, []);
    assert_eq!((arena.actors[0].velocity.x, arena.actors[1].velocity.x), (-4_000, 5_000));
    let apart = arena.actors[1].position.x - arena.actors[0].position.x;
    assert!((apart - 2 * RADIUS * POSITION_SCALE).abs() < POSITION_SCALE, "no overlap is left");
}

#[test]
fn of_equals_the_first_to_get_there_wears_the_crown() {
    let scored = |id, score, scored_at| Actor { score, scored_at, ..actor(id, 1_000) };
    let mut arena = arena_of(vec![scored(1, 7, 9), scored(2, 7, 8), scored(3, 6, 1)], vec![]);
    assert_eq!(arena.state().2, Some(ActorId(2)));
    assert_eq!(arena_of(vec![scored(1, 0, 0)], vec![]).state().2, None, "nobody before the first point");
}

#[test]
fn the_winner_is_announced_reliably_and_the_next_round_starts_from_nothing() {
    let mut table = Table::new(7);
    table.join();
    let mut before = table.state();
    let won = loop {
        assert!(table.number < 3_000, "a round ends");
        let step = table.tick();
        let won = step.events.into_iter().find(|(event, _)| matches!(event, Event::Won { .. }));
        let state = step.state.expect("a state");
        if let Some(won) = won {
            assert!(!state.0, "the round pauses");
            break won;
        }
        before = state;
    };
    let crowned = before.2.expect("bots have collected something by now");
    let disc = before.3.iter().find(|disc| disc.0 == crowned).expect("who wears the crown plays");
    assert_eq!(won, (Event::Won { actor: crowned, name: bot_name(crowned).to_owned(), score: disc.4 }, Lane::Reliable));

    let pause = PAUSE_MS.unsigned_abs() / limits::TICK_MS;
    for _ in 0..pause {
        assert!(!table.state().0);
    }
    let next = table.state();
    assert!(next.0);
    for disc in next.3 {
        assert!(disc.4 <= STAR_VALUE, "scores begin anew");
        assert_eq!(disc.5, u8::from(disc.0 == crowned), "rounds won stay");
    }
}

#[test]
fn a_winner_who_is_a_player_is_called_by_name() {
    let mut table = Table::new(8);
    let [.., hunter] = [(); MIN_ACTORS].map(|()| table.join());
    let mut state = table.state();
    let mut winners = Vec::new();
    while winners.is_empty() && table.number < 3_000 {
        let own = state.3.iter().find(|disc| disc.0 == hunter.into()).map_or(Place(0, 0), |disc| disc.1);
        let towards = |from: u16, to: u16| f32::from(to) - f32::from(from);
        table.send(hunter, Steer(towards(own.0, state.4[0].0), towards(own.1, state.4[0].1), false));
        let step = table.tick();
        state = step.state.expect("a state");
        winners.extend(step.events.into_iter().filter_map(|(event, _)| match event {
            Event::Won { actor, name, .. } => Some((actor, name)),
            Event::Effects(_) => None,
        }));
    }
    assert_eq!(winners, [(hunter.into(), "player 4".to_owned())]);
}

#[test]
fn a_full_arena_fits_the_lane() {
    let mut arena = arena_of(
        (0..64)
            .map(|number| Actor {
                // As long as numbers get on the wire.
                id: ActorId(i64::from(u32::MAX - number)),
                velocity: Vector { x: -MAX_SPEED, y: -MAX_SPEED },
                dash_ms: DASH_MS * i32::from(number % 2 == 0),
                score: u16::MAX - 100,
                wins: u8::MAX,
                ..actor(0, WIDTH - RADIUS)
            })
            .collect(),
        vec![],
    );
    arena.keep_gems(&mut rng());
    assert_eq!(arena.gems.len(), MAX_GEMS);
    arena.gems.fill(arena.actors[0].position);
    let mut effects = Vec::new();
    arena.collect(tick(1), &mut rng(), &mut effects);
    arena.collide(tick(1), &mut effects);
    assert!(effects.len() > MAX_GEMS + 20, "{} effects", effects.len());
    let state = msgpack::encode(&arena.state(), limits::STATE_BYTES).expect("the state fits");
    assert!(state.len() > 1_000, "the worst state has {} bytes", state.len());
    msgpack::encode(&Event::Effects(effects), limits::STATE_BYTES).expect("the effects fit");
}

#[test]
fn one_player_more_than_an_arena_takes_is_refused() {
    let mut table = Table::new(9);
    for _ in 0..MAX_PLAYERS {
        table.join();
    }
    table.tick();
    let late = table.join();
    let step = table.tick();
    let refused = step.outputs.iter().any(|output| matches!(output, Output::Refused { player, .. } if *player == late));
    assert!(refused);
    assert_eq!(step.state.expect("a state").3.len(), MAX_PLAYERS);
}

/// Joins, leaves and inputs that only `seed` decides.
fn play(seed: u64, ticks: u32) -> Vec<Output> {
    let mut table = Table::new(seed);
    let mut hands = rng();
    let mut present = Vec::new();
    let mut outputs = Vec::new();
    for _ in 0..ticks {
        if present.len() < 9 && hands.random_ratio(1, 40) {
            present.push(table.join());
        } else if !present.is_empty() && hands.random_ratio(1, 60) {
            let player = present.remove(hands.random_range(0..present.len()));
            table.leave(player);
        }
        for &player in &present {
            if hands.random_ratio(2, 3) {
                let direction = |hands: &mut Random| f32::from(hands.random_range(-100..=100_i8));
                let steer = Steer(direction(&mut hands), direction(&mut hands), hands.random_ratio(1, 20));
                table.send(player, steer);
            }
        }
        outputs.extend(table.tick().outputs);
    }
    outputs
}

#[test]
fn the_same_inputs_make_the_same_bytes_and_another_seed_makes_others() {
    let outputs = play(10, 2_000);
    assert!(outputs == play(10, 2_000));
    assert!(outputs != play(11, 2_000));
}

fn anything() -> impl Strategy<Value = f32> {
    prop_oneof![any::<u32>().prop_map(f32::from_bits), -200.0..200.0_f32]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_input_breaks_the_arena(
        inputs in prop::collection::vec((0..3_usize, anything(), anything(), any::<bool>()), 1..200),
        tick_ms in 5..=1_000_u64,
    ) {
        let info = RoomInfo { tick: std::time::Duration::from_millis(tick_ms), ..RoomInfo::new("arena", 12) };
        let mut table = Table { room: Room::new(&info, Arena::new(&info), 8), ..Table::new(12) };
        let players = [table.join(), table.join(), table.join()];
        table.tick();
        for (player, x, y, dash) in inputs {
            table.send(players[player], Steer(x, y, dash));
            let State(.., discs, gems) = table.state();
            let radius = u16::try_from(RADIUS).expect("positive");
            for Disc(_, Place(x, y), ..) in discs {
                prop_assert!((radius..=16_000 - radius).contains(&x) && (radius..=10_000 - radius).contains(&y));
            }
            prop_assert!(gems.iter().all(|gem| gem.0 < 16_000 && gem.1 < 10_000));
        }
        for actor in &table.room.game().expect("the game runs").actors {
            prop_assert!(actor.steer.is_within(100) && actor.velocity.is_within(MAX_SPEED));
        }
        prop_assert_eq!(table.room.players().len(), 3, "nobody was put out");
    }
}
