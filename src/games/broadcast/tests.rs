use serde_json::{Value, json};

use super::*;
use crate::game::RoomInfo;
use crate::limits;
use crate::room::{Input, Output, Room};
use crate::wire::frame::Kind;
use crate::wire::msgpack;

const MEDIA: UserMedia = UserMedia { audio: true, video: true };
const NOTHING: UserMedia = UserMedia { audio: false, video: false };

/// A room whose outputs are read as its players would.
struct Studio {
    room: Room<Broadcast>,
    number: u32,
}

#[derive(Debug, Default)]
struct Step {
    welcomes: Vec<Everything>,
    refusals: Vec<String>,
    events: Vec<(Target, Event)>,
}

impl Step {
    fn to_all(&self) -> Vec<&Event> {
        self.events.iter().filter(|(to, _)| *to == Target::All).map(|(_, event)| event).collect()
    }

    fn status(&self) -> Option<&Status> {
        self.to_all().into_iter().find_map(|event| if let Event::Status(status) = event { Some(status) } else { None })
    }

    fn said(&self) -> Vec<&str> {
        let said = self.to_all().into_iter().filter_map(|event| match event {
            Event::Said(messages) => Some(messages.iter().map(|message| message.text.as_str())),
            _ => None,
        });
        said.flatten().collect()
    }

    /// What only one player gets.
    fn to(&self, player: PlayerId) -> Vec<&Event> {
        self.events.iter().filter(|(to, _)| *to == Target::One(player)).map(|(_, event)| event).collect()
    }

    fn delayed(&self, player: PlayerId) -> &Delayed {
        let [Event::Delayed(delayed)] = self.to(player)[..] else { panic!("{self:?}") };
        delayed
    }

    fn refused(&self, player: PlayerId) -> usize {
        self.events
            .iter()
            .filter(|(to, event)| *to == Target::One(player) && matches!(event, Event::Refused(_)))
            .count()
    }
}

impl Studio {
    fn new() -> Studio {
        let mut info = RoomInfo::new("123456", 1);
        info.tick = Broadcast::TICK;
        Studio { room: Room::new(&info, Broadcast::default(), limits::PLAYERS_PER_ROOM_MAX), number: 0 }
    }

    fn ask(&mut self, name: &str, data: Value) -> PlayerId {
        let player = self.room.next_player();
        self.room.handle_input(Input::Join { player, join: Join { data, ..Join::new(name) } });
        player
    }

    fn publish(&mut self, name: &str) -> PlayerId {
        self.ask(name, json!({ "publish": true, "title": format!("{name}'s show") }))
    }

    fn watch(&mut self, name: &str) -> PlayerId {
        self.ask(name, Value::Null)
    }

    fn leave(&mut self, player: PlayerId) {
        self.room.handle_input(Input::Leave { player, reason: Leave::Left });
    }

    fn command(&mut self, player: PlayerId, command: &Value) {
        let value = msgpack::encode(command, limits::RELIABLE_UP_BYTES).expect("a command encodes");
        self.room.handle_input(Input::Command { player, value });
    }

    fn say(&mut self, player: PlayerId, text: &str) {
        self.command(player, &json!({ "say": text }));
    }

    fn tick(&mut self) -> Step {
        self.number += 1;
        self.room.handle_input(Input::Tick(Tick { number: self.number, missed: 0 }));
        let mut step = Step::default();
        while let Some(output) = self.room.poll_output() {
            match output {
                Output::Joined { welcome, .. } => {
                    step.welcomes.push(serde_json::from_str(welcome.as_json()).expect("a welcome"));
                }
                Output::Refused { message, .. } => step.refusals.push(message),
                Output::Body { to, kind: Kind::ReliableEvent, body } => {
                    let (tick, event): (u32, Event) = rmp_serde::from_slice(&body).expect("an event");
                    assert_eq!(tick, self.number);
                    step.events.push((to, event));
                }
                Output::Left { .. } => {}
                other => panic!("a broadcast sends reliable events only: {other:?}"),
            }
        }
        step
    }

    /// Begins to record.
    fn record(&mut self, player: PlayerId) {
        self.command(player, &json!({ "record": recording() }));
    }

    fn announce(&mut self, player: PlayerId, number: u32) {
        self.command(player, &json!({ "segment": segment(number) }));
    }

    fn delay(&mut self, player: PlayerId, is_delayed: bool) {
        self.command(player, &json!({ "delay": is_delayed }));
    }

    /// Ticks for a second.
    fn second(&mut self) -> Vec<Step> {
        (0..10).map(|_| self.tick()).collect()
    }
}

fn recording() -> Recording {
    Recording { mime: "video/webm; codecs=\"vp8,opus\"".to_owned(), init: "GkXfo59ChoE=".to_owned() }
}

fn segment(number: u32) -> Segment {
    Segment { sha256: format!("{number:064x}"), bytes: 100_000 + number }
}

#[test]
fn one_publishes_and_all_others_watch() {
    let mut studio = Studio::new();
    let ada = studio.publish("Ada");
    let viewers = [json!(null), json!({}), json!({ "publish": false }), json!({ "publish": null, "colour": [1] })]
        .map(|data| studio.ask("Ben", data));
    let second = studio.publish("Cleo");
    let step = studio.tick();
    assert_eq!(step.refusals, ["Ada publishes in this room. Watch it, or use another room."]);
    assert_eq!((studio.room.user_media(ada), step.welcomes.len()), (MEDIA, 5));
    for viewer in viewers {
        assert_eq!(studio.room.user_media(viewer), NOTHING);
    }
    assert!(studio.room.players().all(|player| player.id != second));
    let publisher = Publisher { player: ada, name: "Ada".to_owned(), connected: true };
    let status =
        Status { publisher: Some(publisher), title: Some("Ada's show".to_owned()), viewers: 4, recorded: false };
    assert_eq!(step.status(), Some(&status));
    assert_eq!(studio.watch("Dora"), PlayerId(7));
    assert_eq!(studio.tick().welcomes[0].status, Status { viewers: 5, ..status });
}

#[test]
fn a_room_at_rest_sends_nothing() {
    let mut studio = Studio::new();
    studio.publish("Ada");
    for _ in 0..300 {
        studio.watch("Ben");
    }
    studio.tick();
    for step in studio.second() {
        assert!(step.events.is_empty(), "{step:?}");
    }
}

#[test]
fn the_room_goes_on_off_air_and_another_may_publish() {
    let mut studio = Studio::new();
    let (ada, ben) = (studio.publish("Ada"), studio.watch("Ben"));
    studio.tick();
    assert_eq!((studio.room.is_listed(), studio.room.title()), (true, Some("Ada's show")));
    studio.leave(ada);
    assert_eq!(studio.tick().status(), Some(&Status { viewers: 1, ..Status::default() }));
    assert_eq!((studio.room.is_listed(), studio.room.title()), (false, None));
    assert_eq!((studio.room.players().len(), studio.room.user_media(ben)), (1, NOTHING));
    let cleo = studio.ask("Cleo", json!({ "publish": true }));
    let step = studio.tick();
    let status = step.status().expect("it is on air again");
    assert_eq!((status.publisher.as_ref().map(|publisher| publisher.player), &status.title), (Some(cleo), &None));
    assert_eq!((studio.room.is_listed(), studio.room.title()), (true, None));
    assert_eq!(studio.room.user_media(cleo), MEDIA);
}

#[test]
fn a_room_may_be_watched_before_anybody_publishes() {
    let mut studio = Studio::new();
    studio.watch("Ben");
    assert_eq!(studio.tick().welcomes[0].status, Status { viewers: 1, ..Status::default() });
    assert!(!studio.room.is_listed());
    studio.publish("Ada");
    assert!(studio.tick().status().is_some_and(|status| status.publisher.is_some() && status.viewers == 1));
}

#[test]
fn a_publisher_whose_connection_is_lost_keeps_the_place() {
    let mut studio = Studio::new();
    let (ada, _) = (studio.publish("Ada"), studio.watch("Ben"));
    studio.tick();
    let connected = |step: &Step| step.status().and_then(|status| Some(status.publisher.as_ref()?.connected));
    studio.room.handle_input(Input::Drop { player: ada });
    assert_eq!(connected(&studio.tick()), Some(false));
    studio.publish("Cleo");
    assert_eq!(studio.tick().refusals.len(), 1);
    studio.room.handle_input(Input::Resume { player: ada, resumed: Resumed::new(false) });
    let step = studio.tick();
    assert_eq!((connected(&step), step.events.len(), studio.room.user_media(ada)), (Some(true), 1, MEDIA));
}

#[test]
fn a_page_that_is_loaded_anew_gets_what_it_has_missed() {
    let mut studio = Studio::new();
    let (ada, ben) = (studio.publish("Ada"), studio.watch("Ben"));
    studio.tick();
    studio.say(ada, "hello");
    studio.tick();
    studio.room.handle_input(Input::Resume { player: ben, resumed: Resumed::new(true) });
    let step = studio.tick();
    let [(Target::One(to), Event::Room(everything))] = &step.events[..] else { panic!("{step:?}") };
    assert_eq!((*to, everything.messages.len(), everything.status.viewers), (ben, 1, 1));
}

#[test]
fn messages_go_to_everybody_and_the_last_hundred_to_those_who_come_later() {
    let mut studio = Studio::new();
    let players = [studio.publish("Ada"), studio.watch("Ben"), studio.watch("Cleo")];
    studio.tick();
    studio.say(players[1], "  first ");
    let step = studio.tick();
    let message = Message { player: players[1], name: "Ben".to_owned(), text: "first".to_owned() };
    assert_eq!(step.events, [(Target::All, Event::Said(vec![message]))]);
    for number in 0..MESSAGES_KEPT {
        studio.say(players[number % 3], &number.to_string());
        assert_eq!(studio.tick().said(), [number.to_string()], "each has a budget of its own");
        studio.second();
    }
    studio.watch("Dora");
    let step = studio.tick();
    let kept: Vec<_> = step.welcomes[0].messages.iter().map(|message| message.text.clone()).collect();
    assert_eq!(kept, (0..MESSAGES_KEPT).map(|number| number.to_string()).collect::<Vec<_>>());
}

#[test]
fn what_is_no_message_is_refused_in_words_and_the_player_stays() {
    let mut studio = Studio::new();
    let ben = studio.watch("Ben");
    studio.tick();
    let long = "é".repeat(MESSAGE_CHARS);
    for (text, is_said) in [
        (long.as_str(), true),
        (&format!("{long}x"), false),
        ("", false),
        (" \t", false),
        ("a\nb", false),
        ("\u{7}", false),
    ] {
        studio.say(ben, text);
        let step = studio.tick();
        assert_eq!((step.said().len(), step.refused(ben)), (usize::from(is_said), usize::from(!is_said)), "{text:?}");
        studio.second();
    }
    assert_eq!(studio.room.players().len(), 1);
    studio.command(ben, &json!({ "dance": 1 }));
    studio.tick();
    assert_eq!(studio.room.players().len(), 0, "that is no command");
}

#[test]
fn whoever_sends_too_much_is_told_and_costs_nobody_else() {
    let mut studio = Studio::new();
    let (ben, cleo) = (studio.watch("Ben"), studio.watch("Cleo"));
    studio.second();
    (0..8).for_each(|_| studio.say(ben, "again"));
    studio.say(cleo, "hello");
    let step = studio.tick();
    assert_eq!((step.said().len(), step.refused(ben), step.refused(cleo)), (6, 3, 0), "five of Ben's");
    let rested: usize = studio.second().iter().map(|step| step.events.len()).sum();
    assert_eq!(rested, 0);
    (0..2).for_each(|_| studio.say(ben, "again"));
    let step = studio.tick();
    assert_eq!((step.said().len(), step.refused(ben)), (1, 1), "one per second");
}

#[test]
fn a_crowd_sends_no_more_than_a_room_takes() {
    let mut studio = Studio::new();
    let crowd: Vec<_> = (0..900).map(|_| studio.watch("Ben")).collect();
    studio.tick();
    let mut said = 0;
    for players in crowd.chunks(30) {
        players.iter().for_each(|&player| studio.say(player, "hello"));
        said += studio.tick().said().len();
    }
    assert_eq!(said, 20 + 29, "a burst, and one per tick of 100 ms");
}

#[test]
fn the_number_of_viewers_is_told_once_a_second() {
    let mut studio = Studio::new();
    studio.publish("Ada");
    let mut told = Vec::new();
    for tick in 1..=30 {
        studio.watch("Ben");
        told.extend(studio.tick().status().map(|status| (tick, status.viewers)));
    }
    assert_eq!(told, [(1, 1), (11, 11), (21, 21)]);
    let last: Vec<_> = studio.second().iter().filter_map(|step| step.status().map(|status| status.viewers)).collect();
    assert_eq!(last, [30]);
}

#[test]
fn the_publisher_alone_sets_the_title() {
    let mut studio = Studio::new();
    let (ada, ben) = (studio.publish("Ada"), studio.watch("Ben"));
    studio.tick();
    studio.command(ben, &json!({ "title": "Ben's show" }));
    studio.command(ada, &json!({ "title": "x".repeat(ROOM_TITLE_CHARS + 1) }));
    let step = studio.tick();
    assert_eq!((step.refused(ben), step.refused(ada), step.status()), (1, 1, None));
    studio.command(ada, &json!({ "title": "Chess" }));
    let step = studio.tick();
    assert_eq!(step.status().and_then(|status| status.title.as_deref()), Some("Chess"));
    assert_eq!(studio.room.title(), Some("Chess"));
    for (title, is_taken) in [("x".repeat(ROOM_TITLE_CHARS), true), (String::new(), false), ("a\nb".to_owned(), false)]
    {
        let mut studio = Studio::new();
        studio.ask("Ada", json!({ "publish": true, "title": title }));
        let step = studio.tick();
        assert_eq!((step.welcomes.len(), step.refusals.len()), (usize::from(is_taken), usize::from(!is_taken)));
        assert_eq!(studio.room.is_listed(), is_taken);
    }
}

#[test]
fn segments_go_to_those_who_watch_them_and_the_last_to_those_who_come_later() {
    let mut studio = Studio::new();
    let (ada, ben, cleo) = (studio.publish("Ada"), studio.watch("Ben"), studio.watch("Cleo"));
    studio.tick();
    studio.record(ada);
    let step = studio.tick();
    assert!(step.status().is_some_and(|status| status.recorded));
    assert_eq!(step.events.len(), 1, "nobody watches it");
    studio.delay(ben, true);
    let begun = Delayed { recording: Some(recording()), segments: Vec::new(), neighbours: vec![ada] };
    assert_eq!(studio.tick().delayed(ben), &begun);
    for number in 0..6 {
        studio.announce(ada, number);
        assert_eq!(studio.tick().events, [(Target::One(ben), Event::Segment(segment(number)))]);
        studio.second();
    }
    studio.delay(cleo, true);
    let step = studio.tick();
    let delayed = step.delayed(cleo);
    let last: Vec<_> = (0..6).map(segment).skip(6 - SEGMENTS_KEPT).collect();
    assert_eq!(delayed.segments, last);
    assert_eq!(delayed.neighbours, [ben, ada]);
    studio.delay(ben, false);
    studio.announce(ada, 6);
    assert_eq!(studio.tick().events, [(Target::One(cleo), Event::Segment(segment(6)))]);
    studio.record(ada);
    assert_eq!(studio.tick().events, [(Target::One(cleo), Event::Recording(Some(recording())))]);
    studio.second();
    studio.delay(ben, true);
    assert_eq!(studio.tick().delayed(ben).segments, [], "those of the former recording are forgotten");
}

#[test]
fn a_recording_ends_with_its_publisher() {
    for is_left in [false, true] {
        let mut studio = Studio::new();
        let (ada, ben) = (studio.publish("Ada"), studio.watch("Ben"));
        studio.tick();
        studio.record(ada);
        studio.delay(ben, true);
        studio.announce(ada, 1);
        studio.tick();
        if is_left {
            studio.leave(ada);
        } else {
            studio.command(ada, &json!({ "record": null }));
        }
        let step = studio.tick();
        assert_eq!(step.to(ben), [&Event::Recording(None)]);
        assert!(step.status().is_some_and(|status| !status.recorded));
        studio.delay(ben, true);
        let neighbours = if is_left { Vec::new() } else { vec![ada] };
        assert_eq!(studio.tick().delayed(ben), &Delayed { neighbours, ..Delayed::default() });
        if is_left {
            let cleo = studio.publish("Cleo");
            studio.tick();
            studio.record(cleo);
            assert_eq!(studio.tick().to(ben), [&Event::Recording(Some(recording()))]);
            studio.second();
            studio.delay(ben, true);
            assert_eq!(studio.tick().delayed(ben).neighbours, [cleo]);
        }
    }
}

#[test]
fn the_publisher_alone_records_what_is_well_formed_and_not_too_often() {
    let mut studio = Studio::new();
    let (ada, ben) = (studio.publish("Ada"), studio.watch("Ben"));
    studio.second();
    studio.announce(ada, 0);
    studio.record(ben);
    studio.announce(ben, 0);
    studio.delay(ada, true);
    let step = studio.tick();
    assert_eq!((step.refused(ada), step.refused(ben), step.events.len()), (2, 2, 4));
    studio.second();
    let long = |length: usize| "x".repeat(length);
    for (mime, init) in [
        (String::new(), long(4)),
        (long(RECORDING_TYPE_CHARS + 1), long(4)),
        ("video/é".to_owned(), long(4)),
        (long(4), String::new()),
        (long(4), long(RECORDING_INIT_CHARS + 1)),
        (long(4), "<b>".to_owned()),
    ] {
        studio.command(ada, &json!({ "record": { "type": mime, "init": init } }));
        let step = studio.tick();
        assert_eq!((step.refused(ada), step.events.len()), (1, 1), "{mime:?} {init:?}");
        studio.second();
    }
    let largest = json!({ "type": long(RECORDING_TYPE_CHARS), "init": long(RECORDING_INIT_CHARS) });
    studio.command(ada, &json!({ "record": largest }));
    assert_eq!(studio.tick().refused(ada), 0);
    studio.delay(ben, true);
    studio.second();
    for (sha256, bytes, is_taken) in [
        (&*"a".repeat(63), 1, false),
        (&*"A".repeat(64), 1, false),
        (&*"g".repeat(64), 1, false),
        (&*"é".repeat(32), 1, false),
        (&*"a".repeat(64), 0, false),
        (&*"a".repeat(64), SEGMENT_BYTES + 1, false),
        (&*"a".repeat(64), SEGMENT_BYTES, true),
    ] {
        studio.command(ada, &json!({ "segment": { "sha256": sha256, "bytes": bytes } }));
        let step = studio.tick();
        assert_eq!((step.refused(ada), step.to(ben).len()), (usize::from(!is_taken), usize::from(is_taken)));
        studio.second();
    }
    studio.second();
    (0..12).for_each(|number| studio.announce(ada, number));
    let step = studio.tick();
    assert_eq!((step.to(ben).len(), step.refused(ada)), (8, 4));
    let later = (0..20).map(|_| {
        studio.announce(ada, 0);
        studio.tick().to(ben).len()
    });
    let rested: usize = later.sum();
    assert_eq!(rested, 4, "one in 500 ms");
}

#[test]
fn each_viewer_of_segments_gets_a_few_neighbours_and_the_first_the_publisher() {
    let mut studio = Studio::new();
    let ada = studio.publish("Ada");
    let viewers: Vec<_> = (0..200).map(|_| studio.watch("Ben")).collect();
    studio.tick();
    studio.record(ada);
    let mut reached = BTreeSet::from([ada]);
    let mut seeds = Vec::new();
    for &viewer in &viewers {
        studio.delay(viewer, true);
        let step = studio.tick();
        let neighbours = &step.delayed(viewer).neighbours;
        let distinct: BTreeSet<_> = neighbours.iter().copied().collect();
        assert_eq!(distinct.len(), neighbours.len());
        assert!(distinct.is_subset(&reached), "they watch it already");
        let of_viewers = neighbours.iter().filter(|&&other| other != ada).count();
        assert_eq!(of_viewers, SEGMENT_NEIGHBOURS.min(reached.len() - 1));
        seeds.extend(neighbours.contains(&ada).then_some(viewer));
        reached.insert(viewer);
    }
    assert_eq!(seeds, viewers[..SEGMENT_SEEDS]);
    let last = viewers[199];
    let ask = |studio: &mut Studio, viewer| {
        studio.second();
        studio.delay(viewer, true);
        studio.tick().delayed(viewer).neighbours.clone()
    };
    let (first, second) = (ask(&mut studio, last), ask(&mut studio, last));
    assert!(first != second && !first.contains(&last) && !first.contains(&ada), "{first:?} {second:?}");
    assert!(ask(&mut studio, seeds[0]).contains(&ada), "whoever has the publisher keeps it");
    studio.leave(seeds[3]);
    studio.tick();
    assert!(ask(&mut studio, last).contains(&ada), "a place is free");
    studio.delay(seeds[0], false);
    studio.tick();
    assert!(ask(&mut studio, viewers[198]).contains(&ada), "another one is");
    for &viewer in &viewers[..197] {
        studio.room.handle_input(Input::Drop { player: viewer });
    }
    studio.tick();
    let neighbours = ask(&mut studio, last);
    assert!(neighbours.iter().all(|other| viewers[197..199].contains(other) || *other == ada), "{neighbours:?}");
}
