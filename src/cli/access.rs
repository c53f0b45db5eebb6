//! Who may join, as the command line says it.

use std::env::{self, VarError};
use std::fs;
use std::net::IpAddr;
use std::path::PathBuf;

use clap::Args;
use ipnet::IpNet;

use super::complain;
use crate::auth::Keys;
use crate::driver::{Options, Origin};

/// The environment variable with a JWK set, where no file is named.
const KEYS: &str = "RTCADE_KEYS";

#[derive(Debug, Args)]
pub(super) struct Access {
    #[command(flatten)]
    key_set: KeySet,
    /// Origin whose pages may play, instead of the server's own; needed for a host name in a private network; may be
    /// repeated.
    ///
    /// Its pages may also load /rtcade.js, files and /rooms from here. null is the origin of pages that are opened as
    /// files and of sandboxed frames: any web site can make such a frame, so null lets in the pages of everybody.
    #[arg(long, value_name = "ORIGIN", value_parser = origin)]
    pub(super) origin: Vec<Origin>,
    /// Reverse proxy whose X-Forwarded-For, -Host and -Proto are believed; may be repeated.
    #[arg(long, value_name = "ADDR[/PREFIX]", value_parser = prefix)]
    pub(super) trusted_proxy: Vec<IpNet>,
}

/// Keys, and whom their tokens are for.
#[derive(Debug, Args)]
pub(super) struct KeySet {
    /// File with a JWK set: only who bears a token signed with one of its keys may join. Without it, the set in the
    /// environment variable RTCADE_KEYS.
    #[arg(long, value_name = "FILE")]
    keys: Option<PathBuf>,
    /// Whom tokens have to be for: their aud.
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
    /// `options`, with who may join; the error is a sentence.
    pub(super) fn apply(self, options: Options) -> Result<Options, String> {
        let keys = match self.key_set.read()? {
            Some((set, audience)) => Some(Keys::parse(&set, audience).map_err(|error| error.to_string())?),
            None => None,
        };
        keys.iter().flat_map(Keys::ignored).for_each(complain);
        Ok(Options { keys, origins: self.origin, trusted_proxies: self.trusted_proxy, ..options })
    }
}

impl KeySet {
    /// The JWK set and the audience, where there is one; the error is a sentence.
    pub(super) fn read(&self) -> Result<Option<(String, &str)>, String> {
        let set = match &self.keys {
            Some(path) => {
                let read = fs::read_to_string(path);
                let path = path.display();
                Some(read.map_err(|error| format!("{path} can't be read ({error}): name a JWK set with --keys FILE"))?)
            }
            None => match env::var(KEYS) {
                Ok(set) => Some(set),
                Err(VarError::NotPresent) => None,
                Err(VarError::NotUnicode(_)) => return Err(format!("{KEYS} is no text: put a JWK set into it")),
            },
        };
        match (set, &self.audience) {
            (Some(set), Some(audience)) => Ok(Some((set, audience))),
            (Some(_), None) => {
                Err(format!("--keys FILE (or {KEYS}) needs --audience NAME: whom tokens have to be for, their aud"))
            }
            (None, Some(_)) => Err(format!("--audience NAME needs keys: a JWK set in --keys FILE or in {KEYS}")),
            (None, None) => Ok(None),
        }
    }
}
