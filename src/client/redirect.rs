//! Redirects: the request goes to the server of the cluster that has the room.

use std::time::Duration;

use serde::de::Error;
use serde::{Deserialize, Deserializer};

use super::comeback::Comeback;
use super::session::Websocket;
use super::{Client, Event, Message};
use crate::limits;
use crate::wire::codes::CLOSE_REDIRECTED;

/// The event with which a server redirects a request, instead of the reply.
pub(super) const EVENT: &str = "eventRedirect";
/// When to begin again at [`Destination::Home`] after the server that was named has gone: the one that named it may
/// know another by then.
pub(super) const RETRY: Duration = Duration::from_secs(1);

/// Where to open a websocket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Destination {
    /// The URL of the first websocket.
    Home,
    /// Another server of the cluster: a URL with the scheme `ws` or `wss`, without credentials, of at most
    /// [`limits::REDIRECT_URL_BYTES`]. The client doesn't verify that it can be parsed otherwise.
    Url(String),
}

/// The data of [`EVENT`].
#[derive(Deserialize)]
pub(super) struct Redirect {
    #[serde(deserialize_with = "websocket_url")]
    url: String,
    #[serde(deserialize_with = "ticket")]
    ticket: String,
}

fn websocket_url<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let url = String::deserialize(deserializer)?;
    let is_usable = url.len() <= limits::REDIRECT_URL_BYTES
        && url.bytes().all(|byte| byte.is_ascii_graphic())
        && url.split_once("://").is_some_and(|(scheme, rest)| {
            let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
            ["ws", "wss"].iter().any(|known| scheme.eq_ignore_ascii_case(known))
                && !authority.is_empty()
                && !authority.contains('@')
        });
    is_usable.then_some(url).ok_or_else(|| D::Error::custom("the URL of the redirect is not that of a websocket"))
}

fn ticket<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let ticket = String::deserialize(deserializer)?;
    let is_short = ticket.len() <= limits::REDIRECT_TICKET_BYTES;
    is_short.then_some(ticket).ok_or_else(|| D::Error::custom("the ticket of the redirect is too long"))
}

impl Client {
    /// Sends the request that waits for its reply to the server that a redirect names.
    pub(super) fn follow(&mut self, Redirect { url, ticket }: Redirect) {
        let Websocket::Asking { asked, redirects, .. } = &mut self.websocket else { return };
        *redirects += 1;
        if *redirects > limits::REDIRECTS {
            let sentence = format!(
                "The servers redirected the request more than {} times: they don't agree which of them has the room.",
                limits::REDIRECTS
            );
            return self.close(CLOSE_REDIRECTED, &sentence);
        }
        let action = asked.action;
        let mut details = asked.details.clone();
        details["ticket"] = ticket.into();
        asked.number = self.requests + 1;
        if let Some(offer) = &mut self.offer {
            offer.request = asked.number;
        }
        self.messages.clear();
        self.messages.push_back(Message::Connect(Destination::Url(url)));
        self.request(action, &details);
    }

    /// The room has moved to another server, and the session with it.
    pub(super) fn move_on(&mut self, Redirect { url, ticket }: Redirect) {
        self.messages.clear();
        self.reliable.detach();
        self.offer = None;
        self.close_peer();
        self.comeback = Comeback::new(self.now);
        self.events.push_back(Event::Dropped);
        self.ask_again(Destination::Url(url), Some(ticket));
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use serde_json::{Value, json};

    use super::*;
    use crate::client::{Config, Event, Status};
    use crate::wire::codes::{CLOSE_REFUSED, Leave};

    const THERE: &str = "wss://b.example/r/lobby?pass=1.x";
    const SECOND: Duration = Duration::from_secs(1);

    /// A client, and what its caller has.
    struct Caller {
        client: Client,
        now: Instant,
        /// Where the newest websocket goes, and how many there have been.
        at: Destination,
        websockets: u32,
        /// The signaling sent on the newest websocket.
        sent: Vec<Value>,
        events: Vec<Event>,
    }

    impl Caller {
        fn new() -> Caller {
            #[expect(
                clippy::disallowed_methods,
                reason = "an Instant can't be made otherwise; only differences matter"
            )]
            let now = Instant::now();
            let mut config = Config::new([1; 32]);
            config.name = "Ada".to_owned();
            config.data = json!({"skin": "red"});
            config.locals = vec![([127, 0, 0, 1], 5_000).into()];
            let client = Client::new(config, now);
            let mut caller =
                Caller { client, now, at: Destination::Home, websockets: 1, sent: Vec::new(), events: Vec::new() };
            caller.settle();
            caller
        }

        /// One that has joined at another server than that of its URL.
        fn joined_there() -> Caller {
            let mut caller = Caller::new();
            caller.redirect(THERE);
            caller.reply("joinR", "token 1");
            assert_eq!(caller.client.status(), Status::Open);
            caller.events.clear();
            caller
        }

        fn settle(&mut self) {
            while let Some(message) = self.client.poll_message() {
                match message {
                    Message::Connect(at) => {
                        (self.at, self.websockets) = (at, self.websockets + 1);
                        self.sent.clear();
                    }
                    Message::Text(text) => self.sent.push(serde_json::from_str(&text).unwrap()),
                    Message::Binary(_) | Message::Close => {}
                }
            }
            self.events.extend(std::iter::from_fn(|| self.client.poll_event()));
        }

        /// Passes the time to the client's timers, but keeps the websocket from being silent.
        fn wait(&mut self, time: Duration) {
            let end = self.now + time;
            while let Some(at) = self.client.poll_timeout().filter(|&at| at <= end) {
                self.now = self.now.max(at);
                self.client.handle_timeout(self.now);
                self.settle();
            }
            self.now = end;
            if self.client.status() == Status::Open {
                self.client.handle_text(self.now, r#"{"a":"heartbeat"}"#);
            }
        }

        fn hear(&mut self, message: &Value) {
            self.client.handle_text(self.now, &message.to_string());
        }

        fn redirect_to(&mut self, url: &str, ticket: &str) {
            self.hear(&json!({"a": "eventRedirect", "d": {"url": url, "ticket": ticket}}));
        }

        /// The server redirects the client, and closes the websocket before the caller has polled the client.
        fn redirect(&mut self, url: &str) {
            self.redirect_to(url, "a ticket");
            self.lose(CLOSE_REDIRECTED);
        }

        fn lose(&mut self, code: u16) {
            self.client.handle_disconnect(self.now, code, "it was closed");
            self.settle();
        }

        fn last(&self) -> &Value {
            self.sent.last().expect("the client has asked for something")
        }

        fn reply(&mut self, action: &str, resume: &str) {
            let data = json!({
                "socketId": "ada", "player": 3, "sessions": [], "tick": 5, "tickMs": 50, "inputSeq": 1,
                "resume": resume, "last": 0, "reliableSeq": 1,
            });
            let number = self.last()["i"].clone();
            self.hear(&json!({"a": action, "i": number, "s": true, "d": data}));
            self.settle();
        }

        fn refuse(&mut self, code: &str) {
            let (action, number) = (format!("{}R", self.last()["a"].as_str().unwrap()), self.last()["i"].clone());
            self.hear(&json!({"a": action, "i": number, "s": false, "e": code, "m": "No."}));
            self.settle();
        }
    }

    #[test]
    fn the_same_request_goes_to_the_server_that_is_named_with_the_ticket() {
        let mut caller = Caller::new();
        let asked = caller.last().clone();
        assert!(asked["d"]["sdp"].is_string() && asked["d"]["ticket"].is_null(), "{asked}");
        caller.redirect(THERE);
        assert_eq!((&caller.at, caller.websockets), (&Destination::Url(THERE.to_owned()), 2));
        let again = caller.last().clone();
        assert_ne!(again["i"], asked["i"], "the reply to it is told from others");
        let mut expected = asked["d"].clone();
        expected["ticket"] = "a ticket".into();
        assert_eq!((&again["a"], &again["d"]), (&json!("join"), &expected));
        assert_eq!(caller.events, [], "the end of the websocket before means nothing");
        // A further one replaces the ticket.
        caller.redirect_to("ws://c.example", "another");
        caller.settle();
        expected["ticket"] = "another".into();
        assert_eq!(caller.last()["d"], expected);
        caller.reply("joinR", "token 1");
        assert!(matches!(caller.events[0], Event::Joined { player: 3, .. }), "{:?}", caller.events);
        assert_eq!(caller.client.socket_id(), Some("ada"));
    }

    #[test]
    fn the_answer_to_the_offer_is_that_of_the_server_that_is_named() {
        let mut caller = Caller::new();
        caller.redirect(THERE);
        caller.reply("joinR", "token 1");
        let closed = caller.events.iter().find(|event| matches!(event, Event::ChannelClosed { .. }));
        assert!(closed.is_some(), "the reply has no answer to the offer: {:?}", caller.events);
        assert!(caller.client.offer.is_none(), "it waits for no other");
    }

    #[test]
    fn a_room_that_moves_is_followed_at_once() {
        let mut caller = Caller::joined_there();
        caller.redirect("ws://c.example/r/lobby");
        assert_eq!((&caller.at, caller.websockets), (&Destination::Url("ws://c.example/r/lobby".to_owned()), 3));
        let asked = caller.last().clone();
        let data = &asked["d"];
        assert_eq!((&asked["a"], &data["ticket"]), (&json!("reconnect"), &json!("a ticket")));
        assert_eq!((&data["socketId"], &data["resume"]), (&json!("ada"), &json!("token 1")));
        assert!(data["sdp"].is_string(), "the channel to the server before means nothing");
        caller.reply("reconnectR", "token 2");
        assert!(matches!(&caller.events[..2], [Event::Dropped, Event::Resumed]), "{:?}", caller.events);
        // Where it can't be reached, the client comes back at home.
        caller.redirect("ws://d.example/r/lobby");
        caller.lose(1006);
        caller.wait(2 * SECOND);
        assert_eq!((&caller.at, caller.last()["d"].get("ticket")), (&Destination::Home, None));
    }

    #[test]
    fn to_and_fro_is_left_with_a_sentence() {
        let mut caller = Caller::new();
        for hop in 1..=limits::REDIRECTS {
            caller.redirect(THERE);
            assert_eq!((caller.websockets, caller.events.len()), (1 + hop, 0));
        }
        caller.redirect(THERE);
        assert_eq!(caller.websockets, 1 + limits::REDIRECTS);
        let [Event::Closed { code: CLOSE_REDIRECTED, reason }] = &caller.events[..] else {
            panic!("{:?}", caller.events)
        };
        assert!(reason.contains("more than 4 times"), "{reason}");
        assert_eq!((caller.client.status(), caller.client.poll_timeout()), (Status::Closed, None));
    }

    #[test]
    fn a_server_that_cannot_be_reached_or_says_nothing_is_asked_for_again_at_home() {
        // Refused, closed without a reply, stopped, and silent.
        for code in [Some(1006), Some(1005), Some(Leave::Shutdown.close_code()), None] {
            let mut caller = Caller::new();
            caller.redirect(THERE);
            match code {
                Some(code) => caller.lose(code),
                None => caller.wait(10 * SECOND),
            }
            assert_eq!((caller.websockets, &caller.events[..]), (2, &[][..]), "{code:?}");
            caller.wait(RETRY - Duration::from_millis(1));
            assert_eq!(caller.websockets, 2, "{code:?}: not at once");
            caller.wait(SECOND);
            assert_eq!((&caller.at, caller.websockets), (&Destination::Home, 3), "{code:?}");
            assert!(caller.last()["a"] == "join" && caller.last()["d"]["ticket"].is_null(), "{}", caller.last());
            // The redirects are counted anew.
            for _ in 0..limits::REDIRECTS {
                caller.redirect(THERE);
            }
            caller.reply("joinR", "token 1");
            assert_eq!(caller.client.status(), Status::Open, "{code:?}");
        }
    }

    #[test]
    fn a_refusal_of_the_server_that_is_named_stands() {
        let mut caller = Caller::new();
        caller.redirect(THERE);
        caller.refuse("room_full");
        caller.lose(CLOSE_REFUSED);
        assert!(
            matches!(&caller.events[..], [Event::Refused { code, .. }, Event::Closed { .. }] if code == "room_full"),
            "{:?}",
            caller.events
        );
    }

    #[test]
    fn a_join_that_was_not_redirected_is_not_tried_again() {
        let mut caller = Caller::new();
        caller.lose(1006);
        assert!(matches!(caller.events[..], [Event::Closed { code: 1006, .. }]), "{:?}", caller.events);
    }

    #[test]
    fn a_lost_connection_begins_at_home() {
        let mut caller = Caller::joined_there();
        caller.lose(1006);
        caller.wait(SECOND);
        assert_eq!((&caller.at, &caller.last()["a"]), (&Destination::Home, &json!("reconnect")));
        caller.redirect("ws://c.example/r/lobby");
        let again = caller.last().clone();
        assert_eq!(caller.at, Destination::Url("ws://c.example/r/lobby".to_owned()));
        let data = &again["d"];
        assert_eq!((&again["a"], &data["ticket"]), (&json!("reconnect"), &json!("a ticket")));
        assert_eq!((&data["socketId"], &data["resume"]), (&json!("ada"), &json!("token 1")));
        caller.reply("reconnectR", "token 2");
        assert!(caller.events.contains(&Event::Resumed), "{:?}", caller.events);
    }

    #[test]
    fn a_room_that_has_moved_is_asked_for_at_once_and_then_with_a_wait() {
        let mut caller = Caller::joined_there();
        caller.lose(CLOSE_REDIRECTED);
        caller.wait(Duration::ZERO);
        assert_eq!((&caller.at, caller.websockets), (&Destination::Home, 3));
        assert_eq!(caller.last()["a"], "reconnect");
        caller.reply("reconnectR", "token 2");
        // It was not there for long: servers that disagree are not asked without end.
        caller.lose(CLOSE_REDIRECTED);
        caller.wait(Duration::ZERO);
        assert_eq!(caller.websockets, 3);
        caller.wait(SECOND);
        assert_eq!(caller.websockets, 4);
        caller.reply("reconnectR", "token 3");
        for _ in 0..10 {
            caller.wait(SECOND);
        }
        caller.lose(CLOSE_REDIRECTED);
        caller.wait(Duration::ZERO);
        assert_eq!(caller.websockets, 5);
    }

    #[test]
    fn a_session_that_is_not_known_any_more_is_named_in_the_join_that_follows() {
        for code in ["no_such_session", "unauthorized"] {
            let mut caller = Caller::joined_there();
            caller.lose(1006);
            caller.wait(SECOND);
            let websockets = caller.websockets;
            caller.refuse(code);
            let former = json!({"socketId": "ada", "resume": "token 1"});
            assert_eq!((&caller.last()["a"], &caller.last()["d"]["former"]), (&json!("join"), &former));
            assert_eq!(caller.websockets, websockets, "on the same websocket");
            caller.redirect("ws://c.example");
            assert_eq!(caller.last()["d"]["former"], former);
            caller.reply("joinR", "token 2");
            assert!(caller.events.iter().any(|event| matches!(event, Event::Joined { .. })), "{:?}", caller.events);
            assert_eq!(caller.client.socket_id(), Some("ada"));
        }
        assert!(Caller::new().last()["d"].get("former").is_none(), "who is new was nobody");
    }

    #[test]
    fn what_is_no_redirect_is_not_followed() {
        let mut caller = Caller::new();
        let long = format!("ws://b.example/{}", "x".repeat(limits::REDIRECT_URL_BYTES));
        let urls = [
            "",
            "b.example",
            "http://b.example",
            "file:///etc",
            "ws:b",
            "ws://",
            "ws:///r/lobby",
            "ws://ada@b.example",
            "ws://ada:pass@b.example/",
            "ws://b.example/ x",
            "ws://b.example/\n",
            "ws://bücher.example",
            &long,
        ];
        for url in urls {
            caller.redirect_to(url, "a ticket");
        }
        caller.redirect_to(THERE, &"x".repeat(limits::REDIRECT_TICKET_BYTES + 1));
        let incomplete = [json!(null), json!({}), json!({"url": 5, "ticket": ""}), json!({"url": THERE})];
        for data in incomplete {
            caller.hear(&json!({"a": "eventRedirect", "d": data}));
        }
        caller.settle();
        assert_eq!((caller.websockets, &caller.events[..]), (1, &[][..]));
        caller.reply("joinR", "token 1");
        // Nor in the room.
        caller.redirect_to("http://b.example/r/lobby", "a ticket");
        caller.settle();
        assert_eq!((caller.websockets, caller.client.status()), (1, Status::Open));

        let longest = &long[..limits::REDIRECT_URL_BYTES];
        for url in [longest, "WSS://b.example?@/@"] {
            let mut caller = Caller::new();
            caller.redirect_to(url, &"x".repeat(limits::REDIRECT_TICKET_BYTES));
            caller.settle();
            assert_eq!(caller.at, Destination::Url(url.to_owned()));
        }
    }
}
