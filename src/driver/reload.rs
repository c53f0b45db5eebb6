//! Reading the configuration again.

use super::admin::AdminToken;
use super::gate::Gate;
use super::options::Reload;
use super::tls::Acceptor;
use crate::game::Game;
use crate::server::Server;

/// What was read again. The certificate and the rest of the configuration don't depend on each other.
pub(super) struct Reloaded {
    /// The token of the admin API.
    pub(super) token: Option<AdminToken>,
    /// What can't be used, and stays as it was.
    pub(super) refusal: Option<String>,
}

/// Reads the configuration again when asked to.
#[derive(Default)]
pub(super) struct Reloader {
    source: Option<Box<dyn FnMut() -> Result<Reload, String>>>,
}

impl Reloader {
    pub(super) fn set_source(&mut self, source: impl FnMut() -> Result<Reload, String> + 'static) {
        self.source = Some(Box::new(source));
    }

    /// Reads the files of the certificate and the configuration, for what follows, and logs the result.
    pub(super) fn reload<G: Game>(
        &mut self,
        tls: Option<&Acceptor>,
        server: &mut Server<G>,
        gate: &mut Gate,
    ) -> Reloaded {
        let mut refusals = Vec::new();
        let mut refuse = |what: &str, sentence: String| {
            let sentence = format!("{what} stays as it was: {sentence}");
            log::error!("{sentence}");
            refusals.push(sentence);
        };
        if let Err(sentence) = tls.map_or(Ok(()), Acceptor::reload) {
            refuse("the TLS certificate", sentence);
        }
        let mut token = None;
        match self.source.as_mut().map_or(Ok(None), |source| source().map(Some)) {
            Ok(Some(Reload { keys, origins, trusted_proxies, max_players, max_rooms, grace, admin_token })) => {
                server.set_keys(keys);
                server.set_max_players(max_players);
                server.set_max_rooms(max_rooms);
                server.set_grace(grace);
                gate.set_rules(origins, trusted_proxies);
                token = admin_token;
                log::warn!("the configuration was read again");
            }
            Ok(None) => {}
            Err(sentence) => refuse("the configuration", sentence),
        }
        Reloaded { token, refusal: (!refusals.is_empty()).then(|| refusals.join("; ")) }
    }
}
