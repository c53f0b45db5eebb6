//! `rtcade token`: bearer tokens for development, and keys to sign them with.

use std::io::{self, Write};
use std::time::Duration;

use clap::Args;
use jiff::SignedDuration;

use super::access::KeySet;
use super::{ExitCode, complain};
use crate::auth::{SigningKey, new_key_set};
use crate::driver;

#[derive(Debug, Args)]
pub(super) struct Token {
    /// Print a new JWK set with one HS256 key, instead of a token.
    #[arg(long, exclusive = true)]
    new_keys: bool,
    #[command(flatten)]
    key_set: KeySet,
    /// Subject of the token (sub claim): the player's identity.
    #[arg(long, value_name = "ID", required_unless_present = "new_keys")]
    subject: Option<String>,
    /// Room that the token is valid for, or * for every room.
    #[arg(long, value_name = "NAME", required_unless_present = "new_keys")]
    room: Option<String>,
    /// Time until the token expires, for example 90s, 1h or 720h.
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = ttl)]
    ttl: Duration,
    /// ID (kid) of the key to sign with, if the set has several.
    #[arg(long, value_name = "ID")]
    kid: Option<String>,
}

fn ttl(text: &str) -> Result<Duration, &'static str> {
    let parsed = text.parse::<SignedDuration>().ok().and_then(|ttl| Duration::try_from(ttl).ok());
    parsed.filter(|ttl| ttl.as_secs() > 0).ok_or("expected a time of a second or more, as in 90s, 1h or 720h")
}

/// Prints a token or keys. Returns the exit status: 0, or 2 on an error.
pub(super) fn run(token: &Token) -> ExitCode {
    let made = if token.new_keys { new_keys() } else { token.sign() };
    match made.and_then(|text| writeln!(io::stdout(), "{text}").map_err(|error| error.to_string())) {
        Ok(()) => ExitCode::SUCCESS,
        Err(sentence) => {
            complain(&sentence);
            ExitCode::from(2)
        }
    }
}

fn new_keys() -> Result<String, String> {
    let mut id = [0; 4];
    let mut secret = [0; 32];
    getrandom::fill(&mut id).and_then(|()| getrandom::fill(&mut secret)).map_err(|error| error.to_string())?;
    Ok(new_key_set(&format!("{:08x}", u32::from_be_bytes(id)), &secret))
}

impl Token {
    fn sign(&self) -> Result<String, String> {
        let (set, audience) =
            self.key_set.read()?.ok_or("signing a token requires keys: use --keys FILE and --audience NAME")?;
        let key = SigningKey::parse(&set, audience, self.kid.as_deref()).map_err(|error| error.to_string())?;
        let expires = driver::unix_time().saturating_add(self.ttl);
        let [subject, room] = [&self.subject, &self.room].map(|text| text.as_deref().unwrap_or_default());
        key.sign(subject, room, expires).map_err(|error| error.to_string())
    }
}
