//! The data of joins, and welcomes.

use super::*;

#[test]
fn a_join_whose_data_cannot_be_decoded_is_refused_with_the_place_and_creates_no_player() {
    let long = "x".repeat(10_000);
    for (data, told) in [
        (json!([]), "data of the join: "),
        (json!({}), "data of the join: missing field `teams`."),
        (
            json!({ "teams": [{ "size": 1 }, { "size": "red" }] }),
            "data.teams[1].size of the join: invalid type: string",
        ),
        (json!({ "teams": [{ "size": 1 }, { "size": 256 }] }), "data.teams[1].size of the join: invalid value: "),
        (json!({ "teams": [{ "size": long }] }), "data.teams[0].size of the join: "),
    ] {
        let mut bench = Bench::new(|_, _| {});
        let bad = bench.ask_to_join("bad", data.clone());
        let good = bench.ask_to_join("good", json!({ "teams": [{ "size": 1 }] }));
        let outputs = bench.tick();
        let Output::Refused { player, code, message } = &outputs[0] else { panic!("{data}: {outputs:?}") };
        assert_eq!((*player, *code), (bad, ErrorCode::BadRequest), "{data}");
        assert!(message.starts_with(&format!("The game can't read {told}")), "{data}: {message}");
        assert!(message.len() < 300 && !message.contains(char::is_control), "{data}: {message}");
        assert_eq!(bench.take_log(), [format!("enter {good} of 1"), "tick 1 []".to_owned()], "{data}");
        assert_eq!(bench.room.players().len(), 1, "{data}");
    }
}

#[test]
fn a_player_who_sends_control_characters_is_not_sent_them_back() {
    let place =
        |data: Value| Join { data, ..Join::new("Ada") }.decode::<BTreeMap<String, u8>>().unwrap_err().to_string();
    assert_eq!(
        place(json!({ "a\nb": true })),
        "The game can't read data.a b of the join: invalid type: boolean `true`, \
        expected u8."
    );
}

/// Welcomes every player with the same value, and ignores their data.
struct Porter<W> {
    welcome: W,
    inside: Rc<RefCell<Vec<PlayerId>>>,
}

impl<W: serde::Serialize + Clone + 'static> Game for Porter<W> {
    type Input = ();
    type Command = ();
    type State = ();
    type Event = ();
    type Welcome = W;
    type JoinData = IgnoredAny;

    fn join(&mut self, _: &mut Context<Self>, player: PlayerId, _: &Join<IgnoredAny>) -> Result<W, Refusal> {
        self.inside.borrow_mut().push(player);
        Ok(self.welcome.clone())
    }

    fn leave(&mut self, ctx: &mut Context<Self>, player: PlayerId, _: Leave) {
        assert!(ctx.player(player).is_none());
        self.inside.borrow_mut().retain(|&inside| inside != player);
    }

    fn tick(&mut self, _: &mut Context<Self>, _: Tick, _: Batch<'_, Self>) {}
}

/// The replies to players with this data.
fn welcomed<W: serde::Serialize + Clone + 'static>(welcome: W, data: &[Value]) -> Vec<Result<Encoded, String>> {
    let inside = Rc::default();
    let mut room = Room::new(&RoomInfo::new("room", 1), Porter { welcome, inside: Rc::clone(&inside) }, data.len());
    for data in data {
        let player = room.next_player();
        room.handle_input(Input::Join { player, join: Join { data: data.clone(), ..Join::new("guest") } });
    }
    room.handle_input(Input::Tick(Tick { number: 1, missed: 0 }));
    let replies = std::iter::from_fn(|| room.poll_output()).map(|output| match output {
        Output::Joined { welcome, .. } => Ok(welcome),
        Output::Refused { message, .. } => Err(message),
        other => panic!("{other:?}"),
    });
    let replies: Vec<_> = replies.collect();
    assert_eq!(room.players().len(), replies.iter().flatten().count());
    assert_eq!(inside.borrow().len(), room.players().len(), "the game knows who is in");
    replies
}

#[test]
fn a_welcome_is_sent_as_json_whatever_its_type() {
    fn text(welcome: impl serde::Serialize + Clone + 'static) -> String {
        welcomed(welcome, &[Value::Null])[0].as_ref().unwrap().as_json().to_owned()
    }
    assert_eq!(text(()), "null");
    assert_eq!(text((PlayerId(1), "map")), "[1,\"map\"]");
    assert_eq!(text(Some(json!({ "b": 1, "a": [2] }))), "{\"a\":[2],\"b\":1}");
    let map = Encoded::new(&json!({ "b": "\"", "a": 1.5 })).unwrap();
    assert_eq!(text(map.clone()), map.as_json());
    assert_eq!(text((7, map.clone())), format!("[7,{}]", map.as_json()), "not encoded twice");

    let [Ok(one), Ok(other)] = &welcomed(map, &[Value::Null, Value::Null])[..] else { panic!("both are admitted") };
    assert!(std::ptr::eq(one.as_json(), other.as_json()), "one text for all");
}

#[test]
fn a_welcome_that_cannot_be_encoded_refuses_the_player() {
    let no_json = BTreeMap::from([((1, 2), 3)]);
    let replies = welcomed(no_json, &[Value::Null]);
    assert_eq!(replies, [Err("The server could not encode the welcome of the game.".to_owned())]);
    let replies = welcomed("w".repeat(limits::RELIABLE_DOWN_BYTES), &[Value::Null]);
    assert_eq!(replies, [Err("The game's welcome has 1048578 bytes, the limit is 1 MiB.".to_owned())]);
}

#[test]
fn a_game_that_ignores_the_data_takes_any() {
    let any = [json!(null), json!(true), json!(1.5), json!("x"), json!([[]]), json!({ "a": { "b": [1] } })];
    assert!(welcomed((), &any).iter().all(Result::is_ok));
}

#[test]
fn those_who_may_not_come_in_are_told_why() {
    fn check(names: &[&str], locked: bool, expected: Option<ErrorCode>) {
        let mut bench = Bench::with(&RoomInfo::new("room", 1), 2, &[], move |ctx, _| ctx.lock(locked));
        bench.tick();
        let mut outputs = Vec::new();
        for name in names {
            bench.join(name);
            outputs = bench.tick();
        }
        let refusal = outputs.iter().find_map(|output| match output {
            Output::Refused { code, message, .. } => Some((*code, message.is_empty())),
            _ => None,
        });
        assert_eq!(refusal, expected.map(|code| (code, false)), "{names:?}");
        assert_eq!(bench.room.players().len(), names.len() - usize::from(expected.is_some()));
    }
    check(&["one", "two"], false, None);
    check(&["one", "two", "three"], false, Some(ErrorCode::RoomFull));
    check(&["one"], true, Some(ErrorCode::RoomLocked));
    check(&["one", "unwanted"], false, Some(ErrorCode::Refused));
}
