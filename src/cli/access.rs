//! The options that determine who may join.

use std::env::{self, VarError};
use std::fs;
use std::net::IpAddr;
use std::path::PathBuf;

use clap::Args;
use ipnet::IpNet;

use crate::auth::Keys;
use crate::driver::{Options, Origin};

/// The environment variable with a JWK set, used if no file is given.
const KEYS: &str = "RTCADE_KEYS";

#[derive(Debug, Args)]
pub(super) struct Access {
    #[command(flatten)]
    key_set: KeySet,
    /// Origin whose pages may connect, instead of the server's own; may be repeated.
    ///
    /// Required if players use a host name that resolves to a private address. Pages of the origin may also load
    /// /rtcade.js, /rooms and files from this server. null is the origin of pages opened as files and of sandboxed
    /// frames: any web site can create such a frame, so null lets the pages of every web site connect.
    #[arg(long, value_name = "ORIGIN", value_parser = origin)]
    pub(super) origin: Vec<Origin>,
    /// Reverse proxy whose X-Forwarded-For, -Host and -Proto headers are trusted; may be repeated.
    #[arg(long, value_name = "ADDR[/PREFIX]", value_parser = prefix)]
    pub(super) trusted_proxy: Vec<IpNet>,
}

/// Keys, and the audience of their tokens.
#[derive(Debug, Args)]
pub(super) struct KeySet {
    /// File with a JWK set, whose keys sign the bearer tokens of players.
    ///
    /// Joining a server with keys requires a token signed by one of them. Default: the set in the environment variable
    /// RTCADE_KEYS, if there is one.
    #[arg(long, value_name = "FILE")]
    keys: Option<PathBuf>,
    /// Audience (aud claim) that tokens must have.
    #[arg(long, value_name = "NAME")]
    audience: Option<String>,
}

fn origin(text: &str) -> Result<Origin, &'static str> {
    Origin::parse(text).ok_or("expected scheme, host and port, as in https://example.com or http://localhost:5173")
}

fn prefix(text: &str) -> Result<IpNet, &'static str> {
    let address = || text.parse::<IpAddr>().map(IpNet::from);
    text.parse().or_else(|_| address()).map_err(|_| "expected an address or a prefix, as in 127.0.0.1 or 10.0.0.0/8")
}

impl Access {
    /// Returns `options` with these settings; the error is a sentence.
    pub(super) fn apply(self, options: Options) -> Result<Options, String> {
        let keys = match self.key_set.read()? {
            Some((set, audience)) => Some(Keys::parse(&set, audience).map_err(|error| error.to_string())?),
            None => None,
        };
        Ok(Options { keys, origins: self.origin, trusted_proxies: self.trusted_proxy, ..options })
    }
}

impl KeySet {
    /// Returns the JWK set and the audience, if keys are configured; the error is a sentence.
    pub(super) fn read(&self) -> Result<Option<(String, &str)>, String> {
        let set = match &self.keys {
            Some(path) => {
                let read = fs::read_to_string(path);
                let path = path.display();
                Some(read.map_err(|error| format!("{path} can't be read: {error}; name a JWK set with --keys FILE"))?)
            }
            None => match env::var(KEYS) {
                Ok(set) => Some(set),
                Err(VarError::NotPresent) => None,
                Err(VarError::NotUnicode(_)) => {
                    return Err(format!("{KEYS} is not valid UTF-8: set it to a JWK set"));
                }
            },
        };
        match (set, &self.audience) {
            (Some(set), Some(audience)) => Ok(Some((set, audience))),
            (Some(_), None) => {
                Err(format!("--keys FILE (or {KEYS}) requires --audience NAME: the aud claim that tokens must have"))
            }
            (None, Some(_)) => Err(format!("--audience NAME requires keys: a JWK set in --keys FILE or in {KEYS}")),
            (None, None) => Ok(None),
        }
    }
}
