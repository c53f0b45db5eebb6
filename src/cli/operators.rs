//! The options for operators: metrics, and the admin page.

use std::fs;
use std::path::PathBuf;

use clap::Args;

use super::address::{self, Address};
use crate::driver::{Admin, AdminToken, BindError, Options};

#[derive(Clone, Debug, Args)]
pub(super) struct Operators {
    /// Address for the metrics, unencrypted. Otherwise /metrics is on the port of the game, for this machine only.
    ///
    /// It serves /metrics, /healthz and /readyz to everybody who reaches it.
    #[arg(long, value_name = "ADDR:PORT", value_parser = address::with_port)]
    metrics: Option<Address>,
    /// Address for the admin page and its API, as in 127.0.0.1:9090. Requires a token.
    ///
    /// With a TLS certificate it speaks https, unless it is a loopback address.
    #[arg(long, value_name = "ADDR:PORT", value_parser = address::with_port)]
    pub(super) admin: Option<Address>,
    /// Token of the admin page, 16 to 256 characters. Other users of this machine see it in the list of processes.
    ///
    /// Use --admin-token-file or the environment variable RTCADE_ADMIN__TOKEN instead.
    #[arg(long, value_name = "TOKEN")]
    admin_token: Option<String>,
    /// File with the token of the admin page.
    #[arg(long, value_name = "FILE", conflicts_with = "admin_token")]
    admin_token_file: Option<PathBuf>,
}

impl Operators {
    /// Returns `options` with these.
    ///
    /// # Errors
    /// A host name can't be resolved, or the admin page has no token.
    pub(super) fn apply(&self, options: Options) -> Result<Options, BindError> {
        let metrics = self.metrics.as_ref().map(|address| address.first("--metrics")).transpose()?;
        let admin = match &self.admin {
            None => None,
            Some(address) => {
                let listen = address.first("--admin")?;
                let none = "the admin page needs a token: name a file with one with --admin-token-file FILE";
                let token = self.token().and_then(|token| token.ok_or_else(|| none.to_owned()));
                Some(Admin { listen, token: token.map_err(BindError::AdminToken)? })
            }
        };
        Ok(Options { metrics, admin, ..options })
    }

    /// Returns the token of the admin page. The error is a sentence.
    pub(super) fn token(&self) -> Result<Option<AdminToken>, String> {
        let text = match (&self.admin_token, &self.admin_token_file) {
            (Some(token), _) => token.clone(),
            (None, Some(path)) => fs::read_to_string(path).map_err(|error| {
                format!("{} can't be read ({error}): name a file with --admin-token-file FILE", path.display())
            })?,
            (None, None) => return Ok(None),
        };
        AdminToken::parse(&text).map(Some)
    }
}
