//! Wakes the event loop at a point in time. mio's own timeout has whole milliseconds, by which ticks would be late.

#[cfg(not(target_os = "linux"))]
pub(super) use self::timeout::Alarm;
#[cfg(target_os = "linux")]
pub(super) use self::timer::Alarm;

/// A timer that is readable when it is due.
#[cfg(target_os = "linux")]
mod timer {
    use std::io;
    use std::os::fd::{AsFd, AsRawFd};
    use std::time::{Duration, Instant};

    use mio::unix::SourceFd;
    use mio::{Interest, Registry, Token};
    use nix::sys::time::TimeSpec;
    use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};

    pub(crate) struct Alarm {
        timer: TimerFd,
        at: Option<Instant>,
    }

    impl Alarm {
        /// Reports to `token`.
        pub(crate) fn new(registry: &Registry, token: Token) -> io::Result<Alarm> {
            let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC)?;
            registry.register(&mut SourceFd(&timer.as_fd().as_raw_fd()), token, Interest::READABLE)?;
            Ok(Alarm { timer, at: None })
        }

        /// Sets the alarm. Returns for how long to wait for events if it is not to ring: `None` is forever.
        pub(crate) fn set(&mut self, now: Instant, at: Option<Instant>) -> io::Result<Option<Duration>> {
            let Some(wait) = at.map(|at| at.saturating_duration_since(now)) else { return Ok(None) };
            if wait.is_zero() {
                return Ok(Some(wait));
            }
            if self.at != at {
                self.timer.set(Expiration::OneShot(TimeSpec::from(wait)), TimerSetTimeFlags::empty())?;
                self.at = at;
            }
            Ok(None)
        }
    }
}

/// mio's timeout.
#[cfg(not(target_os = "linux"))]
mod timeout {
    use std::io;
    use std::time::{Duration, Instant};

    use mio::{Registry, Token};

    pub(crate) struct Alarm;

    impl Alarm {
        pub(crate) fn new(_: &Registry, _: Token) -> io::Result<Alarm> {
            Ok(Alarm)
        }

        pub(crate) fn set(&mut self, now: Instant, at: Option<Instant>) -> io::Result<Option<Duration>> {
            Ok(at.map(|at| at.saturating_duration_since(now)))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use mio::{Events, Poll, Token};

    use super::Alarm;

    #[test]
    fn it_rings_no_earlier_than_it_was_last_set_to() {
        let mut poll = Poll::new().expect("a poll");
        let mut alarm = Alarm::new(poll.registry(), Token(3)).expect("an alarm");
        let mut events = Events::with_capacity(8);
        for ms in [30, 3, 3, 7] {
            let (now, wait) = (Instant::now(), Duration::from_millis(ms));
            // The one that counts comes last.
            alarm.set(now, Some(now + wait / 2)).expect("set");
            let timeout = alarm.set(now, Some(now + wait)).expect("set");
            poll.poll(&mut events, timeout).expect("polled");
            assert!(now.elapsed() >= wait);
            assert!(events.iter().all(|event| event.token() == Token(3)));
        }
        let now = Instant::now();
        assert_eq!(alarm.set(now, None).expect("set"), None);
        assert_eq!(alarm.set(now, Some(now)).expect("set"), Some(Duration::ZERO), "it is due");
    }
}
