//! Rate limits of log lines that clients can cause, so that they can't fill a disk.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use log::Level;

use crate::game::PlayerId;
use crate::wire::codes::{ErrorCode, Leave};
use crate::wire::signaling::Fault;

/// The log target of events of players: the command line shows it at its default level.
pub(crate) const PLAYERS: &str = "rtcade::players";
/// The target of what games in JavaScript log.
#[cfg(any(feature = "driver", feature = "script"))]
pub(crate) const SCRIPTS: &str = "rtcade::script";
/// The same for actions of operators.
#[cfg(feature = "driver")]
pub(crate) const ADMIN: &str = "rtcade::admin";

/// The number of lines of one kind that may be logged at once, and the time after which one more is allowed.
const LINES_AT_ONCE: u32 = 10;
const LINE_INTERVAL: Duration = Duration::from_secs(10);
/// The same for lines about players who joined or left as players do.
const VISITS_AT_ONCE: u32 = 100;
const VISIT_INTERVAL: Duration = Duration::from_millis(100);

/// Limits lines of one kind: `at_once`, then one per `interval`.
#[derive(Clone, Debug)]
pub(crate) struct Throttle {
    at_once: u32,
    interval: Duration,
    /// When `at_once` lines are allowed again.
    full_at: Option<Instant>,
    left_out: u64,
}

/// How many lines were left out before this one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LeftOut(u64);

impl fmt::Display for LeftOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => Ok(()),
            count => write!(f, " ({count} more since the last line)"),
        }
    }
}

impl Throttle {
    pub(crate) const fn new(at_once: u32, interval: Duration) -> Throttle {
        Throttle { at_once, interval, full_at: None, left_out: 0 }
    }

    /// Returns whether a line may be logged now, and how many were left out since the last one.
    pub(crate) fn take(&mut self, now: Instant) -> Option<LeftOut> {
        if !self.is_free(now) {
            self.left_out += 1;
            return None;
        }
        self.full_at = Some(self.full_at.map_or(now, |full_at| full_at.max(now)) + self.interval);
        Some(LeftOut(std::mem::take(&mut self.left_out)))
    }

    /// Returns how many lines were left out, if that may be logged now.
    fn take_left_out(&mut self, now: Instant) -> Option<u64> {
        let is_due = self.left_out > 0 && self.is_free(now);
        is_due.then(|| self.take(now)).flatten().map(|LeftOut(count)| count)
    }

    fn is_free(&self, now: Instant) -> bool {
        let wait = self.full_at.map_or(Duration::ZERO, |full_at| full_at.saturating_duration_since(now));
        wait <= self.interval * self.at_once.saturating_sub(1)
    }
}

/// The player or connection that a line is about, as far as it is known.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Who<'a> {
    pub(crate) remote: SocketAddr,
    pub(crate) room: Option<&'a str>,
    pub(crate) player: Option<PlayerId>,
    /// The display name.
    pub(crate) name: Option<&'a str>,
}

impl<'a> Who<'a> {
    pub(crate) fn at(remote: SocketAddr, room: Option<&'a str>) -> Who<'a> {
        Who { remote, room, player: None, name: None }
    }
}

impl fmt::Display for Who<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.player {
            Some(player) => write!(f, "player {player}")?,
            None => f.write_str("a player")?,
        }
        if let Some(name) = self.name {
            write!(f, " {name:?}")?;
        }
        write!(f, " at {}", self.remote)?;
        match self.room {
            Some(room) => write!(f, " in room {room}"),
            None => Ok(()),
        }
    }
}

/// Logs each player who joins, leaves, is refused or removed, with a limit per code.
#[derive(Debug, Default)]
pub(crate) struct PlayerLog {
    throttles: BTreeMap<&'static str, Throttle>,
}

/// A line of the log.
struct Line<'a> {
    level: Level,
    who: Who<'a>,
    what: &'static str,
    code: &'static str,
    why: &'a str,
    throttle: Throttle,
}

impl PlayerLog {
    pub(crate) fn note_refused(&mut self, now: Instant, who: Who<'_>, fault: &Fault) {
        // A player can do nothing about these; whoever runs the server can.
        let level = match fault.code {
            ErrorCode::Internal | ErrorCode::Origin => Level::Warn,
            _ => Level::Info,
        };
        let throttle = Throttle::new(LINES_AT_ONCE, LINE_INTERVAL);
        let code = fault.code.as_str();
        self.note(now, Line { level, who, what: "was refused", code, why: &fault.message, throttle });
    }

    pub(crate) fn note_put_out(&mut self, now: Instant, who: Who<'_>, reason: Leave, sentence: &str) {
        let throttle = Throttle::new(LINES_AT_ONCE, LINE_INTERVAL);
        let code = reason.as_str();
        self.note(now, Line { level: Level::Info, who, what: "was removed", code, why: sentence, throttle });
    }

    pub(crate) fn note_joined(&mut self, now: Instant, who: Who<'_>) {
        let throttle = Throttle::new(VISITS_AT_ONCE, VISIT_INTERVAL);
        self.note(now, Line { level: Level::Info, who, what: "has come", code: "joined", why: "", throttle });
    }

    pub(crate) fn note_left(&mut self, now: Instant, who: Who<'_>, reason: Leave) {
        let throttle = Throttle::new(VISITS_AT_ONCE, VISIT_INTERVAL);
        let code = reason.as_str();
        self.note(now, Line { level: Level::Info, who, what: "has left", code, why: "", throttle });
    }

    fn note(&mut self, now: Instant, line: Line<'_>) {
        let Line { level, who, what, code, why, throttle } = line;
        if !log::log_enabled!(target: PLAYERS, level) {
            return;
        }
        let throttle = self.throttles.entry(code).or_insert(throttle);
        let Some(left_out) = throttle.take(now) else { return };
        // A game or a hook may have written it.
        let why = why.replace(char::is_control, " ");
        let colon = if why.is_empty() { "" } else { ": " };
        let (room, player, name) = (who.room, who.player.map(|player| player.0), who.name);
        log::log!(
            target: PLAYERS, level, code, room, player, name, remote:% = who.remote;
            "{who} {what} ({code}){colon}{why}{left_out}"
        );
    }

    /// Logs how many lines were left out, once no further ones follow.
    pub(crate) fn flush(&mut self, now: Instant) {
        for (code, throttle) in &mut self.throttles {
            if let Some(count) = throttle.take_left_out(now) {
                log::info!(target: PLAYERS, code, count; "{count} more lines about players were left out ({code})");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[expect(clippy::disallowed_methods, reason = "an Instant can't be made otherwise; only differences matter")]
    fn start() -> Instant {
        Instant::now()
    }

    #[test]
    fn a_flood_gets_few_lines_and_each_is_counted() {
        let start = start();
        let mut throttle = Throttle::new(3, 10 * SECOND);
        let mut told = 0;
        let mut lines = 0;
        for millis in 0..100_000 {
            let now = start + Duration::from_millis(millis);
            if let Some(LeftOut(count)) = throttle.take(now) {
                told += count + 1;
                lines += 1;
            }
        }
        assert_eq!(lines, 3 + 9, "three at once, then one per ten seconds");
        let later = start + 110 * SECOND;
        assert_eq!(told + throttle.take_left_out(later).expect("due"), 100_000);
        assert_eq!(throttle.take_left_out(later + 100 * SECOND), None, "once is enough");
    }

    #[test]
    fn after_a_rest_as_many_come_at_once_as_at_first_and_no_more() {
        let start = start();
        let mut throttle = Throttle::new(3, SECOND);
        for at in [start, start + 1_000 * SECOND] {
            let lines = (0..10).filter(|_| throttle.take(at).is_some()).count();
            assert_eq!(lines, 3);
        }
        assert_eq!(throttle.take(start + 1_001 * SECOND), Some(LeftOut(7)));
        assert_eq!(throttle.take(start), None, "a time before the last is no reason to begin anew");
    }

    #[test]
    fn a_line_says_who_it_was() {
        let remote = SocketAddr::from(([192, 0, 2, 7], 5));
        assert_eq!(Who::at(remote, None).to_string(), "a player at 192.0.2.7:5");
        let who = Who { remote, room: Some("lobby"), player: Some(PlayerId(3)), name: Some("A\"da") };
        assert_eq!(who.to_string(), r#"player 3 "A\"da" at 192.0.2.7:5 in room lobby"#);
        assert_eq!(format!("{}{}", LeftOut(0), LeftOut(7)), " (7 more since the last line)");
    }
}
