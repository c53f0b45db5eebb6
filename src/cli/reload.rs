//! The reload command: asks a running server to read its configuration again.

use std::io::{self, Write};
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::operators::secret;
use super::{ExitCode, complain};
use crate::bench::target::Target;
use crate::bench::tls::Trust;
use crate::driver::AdminToken;
use crate::driver::client::{self, Request};

/// How long the server may take for each step.
const PATIENCE: Duration = Duration::from_secs(10);
const RESPONSE_BYTES: usize = 64 * 1024;

#[derive(Debug, Args)]
pub(super) struct Reload {
    /// URL of the admin page. Default: that of the server that the configuration file and the environment describe.
    #[arg(value_name = "URL")]
    url: Option<String>,
    /// File with the token of the admin page. Default: the token that the configuration or the environment has.
    #[arg(long, value_name = "FILE")]
    admin_token_file: Option<PathBuf>,
    /// Accept any TLS certificate of the URL. Without a URL, any is accepted.
    #[arg(short = 'k', long, requires = "url")]
    insecure: bool,
}

/// Returns the exit status: 0 if the server has read everything again, else 1. `configured` are the URL and the token
/// by default.
pub(super) fn run(
    arguments: &Reload,
    configured: impl FnOnce() -> Result<(Option<String>, Option<AdminToken>), String>,
) -> ExitCode {
    match reload(arguments, configured) {
        Ok(()) => {
            let _ = writeln!(io::stdout(), "rtcade: the configuration was read again");
            ExitCode::SUCCESS
        }
        Err(sentence) => {
            complain(&sentence);
            ExitCode::FAILURE
        }
    }
}

fn reload(
    arguments: &Reload,
    configured: impl FnOnce() -> Result<(Option<String>, Option<AdminToken>), String>,
) -> Result<(), String> {
    let (default_url, default_token) = configured()?;
    let given = secret(None, arguments.admin_token_file.as_deref(), "--admin-token-file")?;
    let given = given.map(|text| AdminToken::parse(&text)).transpose()?;
    let url = arguments.url.clone().or(default_url).ok_or(
        "no admin page is configured: give its URL, or send SIGHUP to the server instead, as with systemctl reload",
    )?;
    let token = given.or(default_token).ok_or("the admin page needs a token: name its file with --admin-token-file")?;
    // That of this machine is for the name that players use, not for its own address.
    let trust = Trust::new(arguments.insecure || arguments.url.is_none());
    let (target, mut stream) = Target::connect(&url, &trust, PATIENCE).map_err(|error| error.to_string())?;
    let path = format!("{}/api/reload", target.path().trim_end_matches('/'));
    let authorization = format!("Bearer {}", token.secret());
    let headers = [("Authorization", authorization.as_str()), ("Content-Length", "0")];
    let authority = &target.authority;
    let request = Request { method: "POST", authority, path: &path, headers: &headers, json: None };
    let response = client::ask(&request, &mut stream, RESPONSE_BYTES, PATIENCE)
        .map_err(|error| format!("{url} has not answered: {error}"))?;
    match response.status {
        200 => Ok(()),
        409 => Err(String::from_utf8_lossy(&response.body).trim().to_owned()),
        status => {
            let sentence = String::from_utf8_lossy(&response.body).trim().to_owned();
            Err(format!("{url} has answered with the status {status}: {sentence}"))
        }
    }
}
