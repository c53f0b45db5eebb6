//! What one thread of the generator measures, until it is handed over.

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
    /// What is counted.
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
        MessagesSent = "websocket.messages_sent",
        MessagesReceived = "websocket.messages_received",
        Requests = "http.requests",
        Responses = "http.responses",
        Downloaded = "http.downloaded_bytes",
    }
}

names! {
    /// What is timed.
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

/// Gauge of the users whose flow is not over: the most of each interval.
pub(super) const ACTIVE: &str = "vusers.active";

/// Names come out of [`Stats`] once: what is counted often is not looked up.
pub(super) struct Meters {
    stats: Stats,
    counters: [Option<Counter>; Count::NAMES.len()],
    timings: [Option<Timing>; Time::NAMES.len()],
}

impl Meters {
    /// What is measured goes to `stats`, which are empty.
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

    /// One more of what has a name of its own.
    pub(super) fn count(&mut self, at: Duration, who: Who, name: &str) {
        let counter = self.stats.counter(name);
        self.stats.add(at, who, counter, 1);
    }

    /// How many users of all threads are active now. An interval keeps the most.
    pub(super) fn note_active(&mut self, at: Duration, active: usize) {
        self.stats.raise_gauge(at, ACTIVE, active as f64);
    }

    /// What was measured since the last call.
    pub(super) fn take(&mut self) -> Stats {
        let empty = self.stats.of_same_run();
        std::mem::replace(self, Meters::new(empty)).stats
    }
}
