//! Measurements of one thread of the generator until they are handed over.

use std::time::Duration;

use super::stats::{Counter, Stats, Timing, Who};

macro_rules! names {
    ($(#[$doc:meta])* $kind:ident { $($item:ident = $name:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug)]
        pub(super) enum $kind { $($item,)* }

        impl $kind {
            const NAMES: &[&str] = &[$($name,)*];
        }
    };
}

names! {
    /// The counters.
    Count {
        Created = "vusers.created",
        Completed = "vusers.completed",
        Failed = "vusers.failed",
        Skipped = "vusers.skipped",
        Sent = "rtc.sent",
        Commands = "rtc.commands",
        Received = "rtc.received",
        ReceivedByWebsocket = "rtc.received_by_websocket",
        Lost = "rtc.lost",
        Reordered = "rtc.reordered",
        Duplicates = "rtc.duplicates",
        EchoesLost = "rtc.echoes_lost",
        BytesUp = "rtc.bytes_up",
        BytesDown = "rtc.bytes_down",
        ChannelsClosed = "rtc.channels_closed",
        Dropped = "rtc.dropped",
        Rejoined = "rtc.rejoined",
        IdentitiesLost = "rtc.identities_lost",
        MessagesSent = "websocket.messages_sent",
        MessagesReceived = "websocket.messages_received",
        Requests = "http.requests",
        Responses = "http.responses",
        Downloaded = "http.downloaded_bytes",
    }
}

names! {
    /// The timings.
    Time {
        SessionLength = "vusers.session_length",
        Signal = "rtc.signal",
        Ice = "rtc.ice",
        Dtls = "rtc.dtls",
        Open = "rtc.open",
        Echo = "rtc.echo",
        Age = "rtc.age",
        Jitter = "rtc.jitter",
        TickGap = "rtc.tick_gap",
        Reconnect = "rtc.reconnect",
        RoundTrip = "rtc.round_trip",
        WebsocketOpen = "websocket.open",
        WebsocketEcho = "websocket.echo",
        Answered = "http.response_time",
        Lateness = "generator.lateness",
    }
}

/// The gauge of active users: the maximum of each interval.
pub(super) const ACTIVE: &str = "vusers.active";

/// Resolves names in [`Stats`] once: frequent counters need no lookup.
pub(super) struct Meters {
    stats: Stats,
    counters: [Option<Counter>; Count::NAMES.len()],
    timings: [Option<Timing>; Time::NAMES.len()],
}

impl Meters {
    /// Records to `stats`, which must be empty.
    pub(super) fn new(stats: Stats) -> Meters {
        Meters { stats, counters: [None; Count::NAMES.len()], timings: [None; Time::NAMES.len()] }
    }

    pub(super) fn add(&mut self, at: Duration, who: Who, what: Count, count: u64) {
        let index = what as usize;
        let counter = *self.counters[index].get_or_insert_with(|| self.stats.counter(Count::NAMES[index]));
        self.stats.add(at, who, counter, count);
    }

    pub(super) fn record(&mut self, at: Duration, who: Who, what: Time, took: Duration) {
        let index = what as usize;
        let timing = *self.timings[index].get_or_insert_with(|| self.stats.timing(Time::NAMES[index]));
        self.stats.record(at, who, timing, took);
    }

    /// Increments a counter with a name of its own.
    pub(super) fn count(&mut self, at: Duration, who: Who, name: &str) {
        let counter = self.stats.counter(name);
        self.stats.add(at, who, counter, 1);
    }

    /// Records the number of active users of all threads. An interval keeps the maximum.
    pub(super) fn note_active(&mut self, at: Duration, active: usize) {
        self.stats.raise_gauge(at, ACTIVE, active as f64);
    }

    /// Takes the measurements since the last call.
    pub(super) fn take(&mut self) -> Stats {
        let empty = self.stats.of_same_run();
        std::mem::replace(self, Meters::new(empty)).stats
    }
}
