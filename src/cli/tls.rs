//! The options for TLS.

use std::path::PathBuf;

use clap::Args;

use super::address::{self, Address};
use crate::driver::{BindError, Options, Tls};

#[derive(Clone, Debug, Args)]
pub(super) struct Encryption {
    /// Speak TLS on the TCP port (https and wss) with this certificate chain, a PEM file.
    ///
    /// SIGHUP reads both files again without closing a connection.
    #[arg(long, value_name = "FILE", group = "encrypted", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// The private key of the certificate, a PEM file.
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// Speak TLS with a self-signed certificate, for development: browsers warn of it once.
    ///
    /// It is for localhost and this machine's name and addresses, and kept in the user's cache directory.
    #[arg(long, group = "encrypted")]
    tls_dev: bool,
    /// A second address (TCP) that redirects http to https.
    #[arg(long, value_name = "ADDR:PORT", value_parser = address::with_port, requires = "encrypted")]
    https_redirect: Option<Address>,
}

impl Encryption {
    pub(super) fn is_enabled(&self) -> bool {
        self.tls_cert.is_some() || self.tls_dev
    }

    /// # Errors
    /// A host name can't be resolved, or the certificate for development can't be kept.
    pub(super) fn apply(self, options: Options) -> Result<Options, BindError> {
        let tls = match (self.tls_cert, self.tls_key) {
            (Some(certificate), Some(key)) => Some(Tls { certificate, key }),
            _ if self.tls_dev => Some(Tls::development()?),
            _ => None,
        };
        let https_redirect = self.https_redirect.map(|address| address.first("--https-redirect")).transpose()?;
        Ok(Options { tls, https_redirect, ..options })
    }
}
