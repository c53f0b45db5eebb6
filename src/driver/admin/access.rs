//! The token of the API.

use std::fmt;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use aws_lc_rs::constant_time::verify_slices_are_equal;

use super::super::http::{Response, Status};
use crate::log_limit::Throttle;
use crate::rate::{Limit, Places, canonical};

/// Wrong tokens of one network.
const WRONG_TOKENS: Limit = Limit::new(1, 10);
/// Networks whose wrong tokens are counted.
const NETWORKS: usize = 1_024;
const LOG: Throttle = Throttle::new(3, Duration::from_mins(1));

/// The listener of the admin page, and the token of its API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admin {
    /// The TCP address. With [`Options::tls`](crate::driver::Options::tls) it speaks TLS unless it is a loopback
    /// address.
    pub listen: SocketAddr,
    /// The token that each request of the API must have.
    pub token: AdminToken,
}

/// A secret that gives access to the admin API.
#[derive(Clone, PartialEq, Eq)]
pub struct AdminToken(String);

impl AdminToken {
    /// The characters of a token.
    pub const CHARS: std::ops::RangeInclusive<usize> = 16..=256;

    /// Parses a token: ASCII characters that are visible, as many as [`AdminToken::CHARS`], without the white space
    /// around them.
    ///
    /// # Errors
    /// A sentence, without the token.
    pub fn parse(text: &str) -> Result<AdminToken, String> {
        let token = text.trim();
        if AdminToken::CHARS.contains(&token.len()) && token.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Ok(AdminToken(token.to_owned()));
        }
        let (least, most) = AdminToken::CHARS.into_inner();
        Err(format!("the admin token must have {least} to {most} visible ASCII characters, as of openssl rand -hex 32"))
    }

    /// Returns the token itself.
    pub(crate) fn secret(&self) -> &str {
        &self.0
    }

    fn is(&self, given: &str) -> bool {
        verify_slices_are_equal(self.0.as_bytes(), given.as_bytes()).is_ok()
    }
}

impl fmt::Debug for AdminToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AdminToken(…)")
    }
}

/// Requests of the API that were refused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::driver) struct Refusals {
    /// Without a token, or with a wrong one.
    pub(in crate::driver) token: u64,
    /// From a network that has sent too many wrong ones.
    pub(in crate::driver) pace: u64,
}

/// Checks the token of each request.
pub(super) struct Access {
    token: AdminToken,
    started: Instant,
    wrong: Places,
    refusals: Refusals,
    log: Throttle,
}

impl Access {
    pub(super) fn new(token: AdminToken, now: Instant) -> Access {
        let mut key = [0; 32];
        // Without a secret key, a client could choose addresses that share the place of another network.
        let _ = getrandom::fill(&mut key);
        Access { token, started: now, wrong: Places::new(NETWORKS, key), refusals: Refusals::default(), log: LOG }
    }

    pub(super) fn set_token(&mut self, token: AdminToken) {
        self.token = token;
    }

    pub(super) fn refusals(&self) -> Refusals {
        self.refusals
    }

    /// Refuses a request without the token. The right one is always taken, or others behind the same address could keep
    /// an operator out; no rate of guesses finds one that is as long as a token must be.
    pub(super) fn check(
        &mut self,
        now: Instant,
        remote: SocketAddr,
        authorization: Option<&str>,
    ) -> Result<(), Response> {
        let given = authorization.and_then(|it| it.split_once(' '));
        let given = given.filter(|(kind, _)| kind.eq_ignore_ascii_case("Bearer"));
        if given.is_some_and(|(_, token)| self.token.is(token.trim())) {
            return Ok(());
        }
        let age = now.saturating_duration_since(self.started);
        if given.is_some() && !self.wrong.of(canonical(remote).ip()).pace.take(age, &WRONG_TOKENS) {
            self.refusals.pace += 1;
            let sentence = "Too many requests with a wrong token: wait a few seconds.";
            return Err(Response::sentence(Status::TooManyRequests, sentence));
        }
        self.refusals.token += 1;
        if let Some(left_out) = self.log.take(now) {
            log::warn!("{remote}: the admin API was asked without the token or with a wrong one{left_out}");
        }
        let sentence = "The admin API requires the token of --admin-token-file: send Authorization: Bearer TOKEN.";
        Err(Response::sentence(Status::Unauthorized, sentence).field("WWW-Authenticate", "Bearer realm=\"admin\""))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &str = "0123456789abcdef";

    #[test]
    fn a_token_is_long_and_visible_and_is_not_shown() {
        assert!(AdminToken::parse(&format!(" {TOKEN}\n")).unwrap().is(TOKEN));
        for wrong in ["", "short", "0123456789abcde f", "0123456789abcdé0", &"a".repeat(257)] {
            let sentence = AdminToken::parse(wrong).unwrap_err();
            assert!(sentence.contains("16 to 256") && (wrong.is_empty() || !sentence.contains(wrong)), "{sentence}");
        }
        assert_eq!(format!("{:?}", AdminToken::parse(TOKEN)), "Ok(AdminToken(…))");
    }

    #[test]
    fn guesses_are_limited_per_network_and_counted() {
        let start = Instant::now();
        let mut access = Access::new(AdminToken::parse(TOKEN).unwrap(), start);
        let mut status = |second: u64, from: &str, given: Option<&str>| {
            let now = start + Duration::from_secs(second);
            access.check(now, from.parse().unwrap(), given).err().map(|response| response.status)
        };
        let (ours, stranger) = ("198.51.100.7:1", "203.0.113.9:1");
        let right = format!("Bearer {TOKEN}");
        assert_eq!(status(0, ours, Some(&right)), None);
        assert_eq!(status(0, ours, Some(&format!("bearer  {TOKEN}"))), None);
        for given in [None, Some(""), Some(TOKEN), Some("Basic 0123456789abcdef")] {
            for _ in 0..20 {
                assert_eq!(status(0, stranger, given), Some(Status::Unauthorized), "{given:?} is no guess");
            }
        }
        for guess in 0..10 {
            let given = format!("Bearer {guess:016}");
            assert_eq!(status(0, stranger, Some(&given)), Some(Status::Unauthorized));
        }
        let wrong = "Bearer 00000000000000000";
        assert_eq!(status(0, stranger, Some(wrong)), Some(Status::TooManyRequests));
        assert_eq!(status(0, ours, Some(wrong)), Some(Status::Unauthorized), "another network");
        assert_eq!(status(0, stranger, Some(&right)), None, "an operator behind the same address");
        assert_eq!(status(2, stranger, Some(wrong)), Some(Status::Unauthorized));
        assert_eq!(access.refusals(), Refusals { token: 92, pace: 1 });
    }
}
