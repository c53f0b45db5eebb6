//! The healthcheck command: whether a server answers, for container engines that have no HTTP client in the image.

use std::time::Duration;

use clap::Args;

use super::{ExitCode, complain};
use crate::bench::http;
use crate::bench::target::Target;
use crate::bench::tls::Trust;

/// How long the server may take for each step.
const PATIENCE: Duration = Duration::from_secs(2);
const RESPONSE_BYTES: usize = 16 * 1024;

#[derive(Debug, Args)]
pub(super) struct Healthcheck {
    /// URL to request.
    ///
    /// Default: /healthz of the server that the configuration file and the environment describe, on this machine.
    #[arg(value_name = "URL")]
    url: Option<String>,
}

/// Returns the exit status: 0 if the response has the status 200, else 1. `configured` is the URL by default.
pub(super) fn run(arguments: Healthcheck, configured: impl FnOnce() -> Result<String, String>) -> ExitCode {
    match arguments.url.map_or_else(configured, Ok).and_then(|url| check(&url)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(sentence) => {
            complain(&sentence);
            ExitCode::FAILURE
        }
    }
}

fn check(url: &str) -> Result<(), String> {
    // The certificate is for the name that players use, not for this machine's own address.
    let (target, mut stream) = Target::connect(url, &Trust::new(true), PATIENCE).map_err(|error| error.to_string())?;
    match http::get(&target, &mut stream, target.path(), RESPONSE_BYTES, PATIENCE) {
        Ok(response) if response.status == 200 => Ok(()),
        Ok(response) => Err(format!("{url} has answered with the status {}", response.status)),
        Err(error) => Err(format!("{url} has not answered: {error}")),
    }
}
