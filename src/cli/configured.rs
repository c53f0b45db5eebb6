//! What other commands take from the configuration of the server.

use std::net::SocketAddr;

use clap::{Args, Subcommand};

#[cfg(feature = "cluster")]
use super::parse_from;
use super::{Command, Parsed, Serve, Unusable, address, sentence};
use crate::driver::AdminToken;

/// The URL of the health of a server with this configuration, on this machine. The error is a sentence.
pub(super) fn configured_url<A: Args, O: Subcommand>(
    parsed: Result<Parsed<A, O>, Unusable>,
    serve: impl FnOnce(A) -> Serve,
) -> Result<String, String> {
    let network = serve_of(parsed, serve)?.network;
    let listen = network.listen.first("--listen").map_err(|error| error.to_string())?;
    Ok(format!("{}healthz", address::url(listen, network.encryption.is_enabled())))
}

/// The URL of the admin page of a server with this configuration, on this machine, and its token. The error is a
/// sentence.
pub(super) fn configured_admin<A: Args, O: Subcommand>(
    parsed: Result<Parsed<A, O>, Unusable>,
    serve: impl FnOnce(A) -> Serve,
) -> Result<(Option<String>, Option<AdminToken>), String> {
    let Serve { operators, network, .. } = serve_of(parsed, serve)?;
    let listen = operators.admin.as_ref().map(|admin| admin.first("--admin")).transpose();
    let listen = listen.map_err(|error| error.to_string())?;
    let is_secure = |listen: SocketAddr| network.encryption.is_enabled() && !listen.ip().is_loopback();
    Ok((listen.map(|listen| address::url(listen, is_secure(listen))), operators.token()?))
}

pub(super) fn serve_of<A: Args, O: Subcommand>(
    parsed: Result<Parsed<A, O>, Unusable>,
    serve: impl FnOnce(A) -> Serve,
) -> Result<Serve, String> {
    match parsed {
        Ok(Parsed { command: Command::Serve(arguments), .. }) => Ok(serve(arguments)),
        #[cfg(feature = "cluster")]
        Ok(Parsed { command: Command::Cluster(cluster), .. }) => Ok(serve(cluster.serve)),
        Ok(_) => Err("the command line does not start a server".to_owned()),
        Err(Unusable::Wrong(sentence)) => Err(sentence),
        Err(Unusable::Shown(error)) => Err(sentence(&error)),
    }
}

/// How to find the Redis of a server with this configuration, and the name of its cluster. The error is a sentence.
#[cfg(feature = "cluster")]
pub(super) fn configured_store<A: Args, O: Subcommand>(
    serve: impl FnOnce(A) -> Serve,
) -> impl FnOnce() -> Result<(Option<String>, String), String> {
    move || serve_of(parse_from::<A, O>(vec!["rtcade".into()]), serve)?.operators.redis()
}
