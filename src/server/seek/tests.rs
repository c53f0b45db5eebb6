//! Players who seek each other, without a network in between.

mod nodes;

use std::collections::BTreeSet;
use std::time::Duration;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha20Rng;
use serde_json::Value;

use super::super::*;
use super::*;
use crate::auth::{SigningKey, new_key_set};
use crate::game::{Batch, Context, Join, Leave as GameLeave, Tick};

const MS: Duration = Duration::from_millis(1);
const NEAR: &str = "10.0.0.1";

/// Admits everybody.
struct Open;

impl Game for Open {
    type Input = ();
    type Command = ();
    type State = ();
    type Event = ();
    type Welcome = ();
    type JoinData = ();

    fn join(&mut self, _: &mut Context<Open>, _: PlayerId, _: &Join<()>) -> Result<(), Refusal> {
        Ok(())
    }

    fn leave(&mut self, _: &mut Context<Open>, _: PlayerId, _: GameLeave) {}

    fn tick(&mut self, _: &mut Context<Open>, _: Tick, _: Batch<'_, Open>) {}
}

/// A websocket, as its client sees it.
#[derive(Default)]
struct Page {
    texts: Vec<Value>,
    closed: Option<u16>,
    /// Whether it answers no pings.
    is_silent: bool,
}

struct Hall {
    server: Server<Open>,
    now: Instant,
    pages: Vec<Page>,
}

impl Hall {
    fn new() -> Hall {
        Hall::with(Config::new([7; 32]))
    }

    fn with(config: Config) -> Hall {
        #[expect(clippy::disallowed_methods, reason = "an Instant can't be made otherwise; only differences matter")]
        let now = Instant::now();
        Hall { server: Server::new(config, now, |_| Ok(Open)), now, pages: Vec::new() }
    }

    fn connect_to(&mut self, room: Option<&str>, ip: &str) -> usize {
        let page = self.pages.len();
        self.pages.push(Page::default());
        let remote = SocketAddr::new(ip.parse().unwrap(), 5000);
        let connect = Connect::new(room.and_then(RoomName::parse), remote, [10, 0, 0, 9].into());
        self.server.handle_connect(self.now, ConnectionId(page as u64), connect);
        page
    }

    fn connect(&mut self, ip: &str) -> usize {
        self.connect_to(None, ip)
    }

    fn say(&mut self, page: usize, action: &str, data: &Value) {
        let text = json!({ "a": action, "d": data }).to_string();
        self.server.handle_text(self.now, ConnectionId(page as u64), &text);
        self.hear();
    }

    fn seek(&mut self, ip: &str, context: &str) -> usize {
        let page = self.connect(ip);
        self.say(page, "seek", &json!({ "context": context }));
        page
    }

    fn hear(&mut self) {
        while let Some(connection) = self.server.poll_signal_ready() {
            while let Some(signal) = self.server.poll_signal(connection) {
                let page = &mut self.pages[usize::try_from(connection.0).unwrap()];
                match signal {
                    Signal::Text(text) => page.texts.push(serde_json::from_str(&text).unwrap()),
                    Signal::Binary(_) => {}
                    Signal::Ping(_) if page.is_silent => {}
                    Signal::Ping(payload) => {
                        self.server.handle_pong(self.now, connection, &payload.to_be_bytes());
                    }
                    Signal::Close { code, .. } => {
                        page.closed = Some(code);
                        self.server.handle_disconnect(self.now, connection, Disconnect::Goodbye);
                    }
                }
            }
        }
    }

    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(due) = self.server.poll_timeout().filter(|&due| due <= end) {
            self.now = self.now.max(due);
            self.server.handle_timeout(self.now);
            self.hear();
        }
        self.now = end;
    }

    /// The room that a page was given.
    fn room(&self, page: usize) -> Option<&str> {
        let reply = self.pages[page].texts.iter().find(|text| text["a"] == "seekR")?;
        reply["d"]["roomId"].as_str()
    }

    fn refusal(&self, page: usize) -> Option<&str> {
        self.pages[page].texts.last().filter(|text| text["a"] == "seekR")?["e"].as_str()
    }

    /// Those who were given the same room as this one.
    fn partners(&self, page: usize) -> Vec<usize> {
        let room = self.room(page);
        (0..self.pages.len()).filter(|&other| other != page && room.is_some() && self.room(other) == room).collect()
    }

    fn waiting(&self) -> usize {
        let by_pool: usize = self.server.seekers.by_pool.values().map(Vec::len).sum();
        let by_network: usize = self.server.seekers.by_network.values().sum();
        assert_eq!((by_pool, by_network), (self.server.seekers.count, by_pool));
        by_pool
    }
}

#[test]
fn two_get_a_room_of_their_own_that_is_not_listed() {
    let mut hall = Hall::new();
    let (ada, bob, other) = (hall.seek(NEAR, "chess"), hall.seek("192.0.2.7", "chess"), hall.seek(NEAR, "go"));
    assert_eq!(hall.room(ada), None);
    hall.pass(limits::SEEK_GATHERING);
    assert_eq!((hall.partners(ada), hall.room(other)), (vec![bob], None));
    let room = hall.room(ada).unwrap().to_owned();
    assert!(room.len() == PREFIX.len() + 32 && RoomName::parse(&room).is_some(), "{room}");
    for page in [ada, bob] {
        hall.say(page, "join", &json!({ "roomId": room }));
    }
    hall.pass(200 * MS);
    assert_eq!(hall.server.gauges().players, 2);
    assert_eq!(hall.server.rooms().map(|room| (room.players, room.listed)).collect::<Vec<_>>(), [(2, false)]);
    assert_eq!(hall.waiting(), 1);
}

#[test]
fn of_three_one_waits_on_and_is_paired_with_the_next() {
    let mut hall = Hall::new();
    let three = [0, 1, 2].map(|_| hall.seek(NEAR, "chess"));
    hall.pass(Duration::from_mins(1));
    let left: Vec<usize> = three.into_iter().filter(|&page| hall.room(page).is_none()).collect();
    assert_eq!((left.len(), hall.waiting()), (1, 1));
    let next = hall.seek(NEAR, "chess");
    hall.pass(limits::SEEK_GATHERING);
    assert_eq!(hall.partners(next), left);
}

#[test]
fn the_nearest_address_is_chosen_and_of_equals_the_one_that_waited_longest() {
    for (own, others, nearest) in [
        ("10.0.0.1", &["10.0.1.1", "10.0.0.200", "10.128.0.1"][..], 1),
        ("10.0.0.1", &["192.0.2.1", "10.0.0.1", "10.0.0.1"], 1),
        ("10.0.0.1", &["10.0.0.130", "10.0.0.131", "10.0.0.9"], 2),
        ("10.0.0.1", &["192.0.2.1", "192.0.2.2"], 0),
        ("10.0.0.1", &["2001:db8::1", "192.0.2.1"], 0),
        ("64.0.0.1", &["2001:db8::1", "192.0.2.1", "65.0.0.1"], 2),
        ("::ffff:10.0.0.1", &["2001:db8::1", "10.1.0.1"], 1),
        ("2001:db8:1::1", &["2001:db8:2::1", "10.0.0.1", "2001:db8:1:8000::1"], 2),
    ] {
        let mut hall = Hall::new();
        let first = hall.seek(own, "chess");
        let others: Vec<usize> = others
            .iter()
            .map(|ip| {
                hall.pass(MS);
                hall.seek(ip, "chess")
            })
            .collect();
        hall.pass(limits::SEEK_GATHERING - MS);
        assert_eq!(hall.partners(first), [others[nearest]], "{own}");
    }
}

#[test]
fn one_that_has_left_is_paired_with_nobody() {
    let ways: [fn(&mut Hall, usize); 4] = [
        |hall, page| hall.say(page, "leave", &json!({})),
        |hall, page| hall.server.handle_disconnect(hall.now, ConnectionId(page as u64), Disconnect::Lost),
        |hall, page| (0..200).for_each(|_| hall.say(page, "seek", &json!({ "context": "chess" }))),
        |hall, page| {
            hall.pages[page].is_silent = true;
            hall.pass(Duration::from_secs(30));
        },
    ];
    for (way, leave) in ways.into_iter().enumerate() {
        let mut hall = Hall::new();
        let gone = hall.seek(NEAR, "chess");
        leave(&mut hall, gone);
        assert_eq!(hall.waiting(), 0, "way {way}");
        let ada = hall.seek(NEAR, "chess");
        hall.pass(Duration::from_secs(30));
        assert_eq!((hall.room(ada), hall.room(gone)), (None, None), "way {way}");
        assert!(way == 1 || hall.pages[gone].closed.is_some(), "way {way}");
        let bob = hall.seek(NEAR, "chess");
        hall.pass(limits::SEEK_GATHERING);
        assert_eq!(hall.partners(ada), [bob], "way {way}");
    }
}

#[test]
fn who_answers_pings_waits_as_long_as_it_takes_and_then_has_the_time_of_any_other_to_join() {
    let mut hall = Hall::new();
    let ada = hall.seek(NEAR, "chess");
    hall.pass(Duration::from_hours(1));
    assert_eq!(hall.pages[ada].closed, None);
    let signs = |hall: &Hall| hall.pages[ada].texts.iter().filter(|text| text["a"] == "eventSeek").count();
    let before = signs(&hall);
    hall.pass(10 * limits::HEARTBEAT_INTERVAL);
    assert_eq!(signs(&hall), before + 10);
    let bob = hall.seek(NEAR, "chess");
    hall.pass(limits::SEEK_GATHERING);
    let room = hall.room(bob).unwrap().to_owned();
    hall.pass(limits::JOIN_TIMEOUT - MS);
    hall.say(ada, "join", &json!({ "roomId": room }));
    hall.pass(limits::JOIN_TIMEOUT);
    assert_eq!((hall.pages[ada].closed, hall.pages[bob].closed), (None, Some(Leave::Timeout.close_code())));
    assert_eq!(hall.server.counters().idle_connections, 1);
}

#[test]
fn whatever_comes_and_goes_everybody_is_paired_at_most_once_and_one_per_context_waits() {
    for seed in 0..40 {
        let mut rng = ChaCha20Rng::seed_from_u64(seed);
        let mut hall = Hall::new();
        let (mut contexts, mut gone) = (Vec::new(), BTreeSet::new());
        for _ in 0..80 {
            if rng.random_ratio(2, 3) {
                let context = ["a", "b", "c"][rng.random_range(0..3)];
                let [high, low] = [0, 1].map(|_| rng.random_range(0..3));
                let ip = if rng.random() { format!("10.{high}.0.{low}") } else { format!("2001:db8:{high}::{low}") };
                hall.seek(&ip, context);
                contexts.push(context);
            } else if !contexts.is_empty() {
                let page = rng.random_range(0..contexts.len());
                if hall.room(page).is_none() && gone.insert(page) {
                    hall.server.handle_disconnect(hall.now, ConnectionId(page as u64), Disconnect::Lost);
                }
            }
            hall.pass(MS * rng.random_range(0..400));
            hall.waiting();
        }
        hall.pass(limits::SEEK_GATHERING);
        for page in 0..contexts.len() {
            let partners = hall.partners(page);
            assert!(partners.len() == usize::from(hall.room(page).is_some()), "seed {seed}: {page} with {partners:?}");
            assert!(partners.iter().all(|&other| contexts[other] == contexts[page]), "seed {seed}: {page}");
            assert!(partners.is_empty() || !gone.contains(&page), "seed {seed}: {page} is gone");
        }
        for (pool, here) in &hall.server.seekers.by_pool {
            assert_eq!(here.len(), 1, "seed {seed}: {pool}");
        }
    }
}

#[test]
fn a_flood_costs_its_own_address() {
    let mut hall = Hall::new();
    let flood: Vec<usize> = (0..40).map(|n| hall.seek("192.0.2.1", &format!("flood-{n}"))).collect();
    let refused = flood.iter().filter(|&&page| hall.refusal(page) == Some("rate_limited")).count();
    assert_eq!(hall.waiting(), limits::SEEKERS_PER_ADDRESS);
    assert_eq!(refused, flood.len() - limits::SEEKERS_PER_ADDRESS);
    let closed = flood.iter().filter(|&&page| hall.pages[page].closed.is_some()).count();
    assert_eq!(closed, refused);
    let (ada, bob) = (hall.seek(NEAR, "chess"), hall.seek(NEAR, "chess"));
    hall.pass(limits::SEEK_GATHERING);
    assert_eq!(hall.partners(ada), [bob]);
    let counters = hall.server.counters();
    assert_eq!((counters.refused_requests, counters.refused_joins.pace), (refused as u64, refused as u64));

    // Each seek counts as a join, also on the same websocket.
    let mut hall = Hall::new();
    let pages: Vec<usize> = (0..limits::SEEKERS_PER_ADDRESS).map(|_| hall.connect("192.0.2.1")).collect();
    let mut asked = 0;
    while !pages.iter().any(|&page| hall.refusal(page) == Some("rate_limited")) {
        pages.iter().for_each(|&page| hall.say(page, "seek", &json!({ "context": "chess" })));
        hall.pass(limits::SEEK_GATHERING);
        asked += 1;
        assert!(asked < 100, "nothing stops it");
    }
    let last = pages.iter().find_map(|&page| hall.pages[page].texts.last().filter(|text| text["s"] == false)).unwrap();
    assert!(last["retryAfter"].as_u64() > Some(0), "{last}");
}

#[test]
fn the_server_has_a_limit_for_all() {
    let mut hall = Hall::new();
    for n in 0..limits::SEEKERS {
        hall.seek(&format!("10.{}.{}.1", n / 200, n % 200), &format!("of-{n}"));
    }
    assert_eq!(hall.waiting(), limits::SEEKERS);
    let late = hall.seek("192.0.2.1", "of-7");
    assert_eq!(hall.refusal(late), Some("rate_limited"));
    hall.say(7, "leave", &json!({}));
    let next = hall.seek("192.0.2.1", "of-7");
    assert_eq!((hall.refusal(next), hall.waiting()), (None, limits::SEEKERS));
}

#[test]
fn what_is_no_request_to_seek_is_refused() {
    let mut hall = Hall::new();
    let page = hall.connect(NEAR);
    for context in [json!(null), json!(7), json!(""), json!("a b"), json!("x".repeat(65)), json!({ "a": 1 })] {
        hall.say(page, "seek", &json!({ "context": context }));
        assert_eq!(hall.refusal(page), Some("bad_request"), "{context}");
    }
    hall.say(page, "seek", &json!({ "context": "x".repeat(64) }));
    for (action, data) in [("seek", json!({ "context": "chess" })), ("join", json!({ "roomId": "lobby" }))] {
        hall.say(page, action, &data);
        let refusal = hall.pages[page].texts.last().unwrap();
        assert_eq!((&refusal["a"], &refusal["e"]), (&json!(format!("{action}R")), &json!("bad_request")));
    }
    assert_eq!((hall.pages[page].closed, hall.waiting()), (None, 1));

    let of_room = hall.connect_to(Some("lobby"), NEAR);
    hall.say(of_room, "seek", &json!({ "context": "chess" }));
    assert_eq!((hall.refusal(of_room), hall.pages[of_room].closed), (Some("bad_room"), Some(4100)));
    let newer = hall.connect(NEAR);
    hall.say(newer, "seek", &json!({ "context": "chess", "version": 1_000, "errors": "number" }));
    assert_eq!(hall.pages[newer].texts.last().unwrap()["e"], ErrorCode::VersionMismatch.number());
    assert_eq!(hall.waiting(), 1);
}

#[test]
fn where_tokens_are_required_it_takes_one_for_every_room() {
    let set = new_key_set("1", &[3; 32]);
    let signing = SigningKey::parse(&set, "test", None).unwrap();
    let mut config = Config::new([7; 32]);
    config.keys = Some(Rc::new(Keys::parse(&set, "test").unwrap()));
    config.unix_time = Duration::from_secs(1_000);
    let mut hall = Hall::with(config);
    let bearer = |room: &str| signing.sign("ada", room, Duration::from_secs(2_000)).unwrap();
    for (bearer, expected) in [
        (json!(null), Some("unauthorized")),
        (json!(bearer("lobby")), Some("unauthorized")),
        (json!(bearer("*")), None),
    ] {
        let page = hall.connect(NEAR);
        hall.say(page, "seek", &json!({ "context": "chess", "bearer": bearer }));
        assert_eq!(hall.refusal(page), expected);
        assert_eq!(hall.pages[page].closed.is_some(), expected.is_some());
    }
    assert_eq!(hall.waiting(), 1);
}
