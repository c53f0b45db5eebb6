//! Reading the configuration again.

use super::admin::AdminToken;
use super::gate::Gate;
use super::options::Reload;
use super::tls::Acceptor;
use crate::game::Game;
use crate::server::Server;

/// Reads the configuration again when asked to.
#[derive(Default)]
pub(super) struct Reloader {
    source: Option<Box<dyn FnMut() -> Result<Reload, String>>>,
}

impl Reloader {
    pub(super) fn set_source(&mut self, source: impl FnMut() -> Result<Reload, String> + 'static) {
        self.source = Some(Box::new(source));
    }

    /// Reads the files of the certificate and the configuration, for what follows, and logs the result. Returns the
    /// token of the admin API.
    ///
    /// # Errors
    /// A sentence: what can't be used, which stays as it was.
    pub(super) fn reload<G: Game>(
        &mut self,
        tls: Option<&Acceptor>,
        server: &mut Server<G>,
        gate: &mut Gate,
    ) -> Result<Option<AdminToken>, String> {
        let certificate = tls.map_or(Ok(()), Acceptor::reload);
        let configuration = match self.source.as_mut().map_or(Ok(None), |source| source().map(Some)) {
            Ok(Some(Reload { keys, origins, trusted_proxies, max_players, max_rooms, grace, admin_token })) => {
                server.set_keys(keys);
                server.set_max_players(max_players);
                server.set_max_rooms(max_rooms);
                server.set_grace(grace);
                gate.set_rules(origins, trusted_proxies);
                log::warn!("the configuration was read again");
                Ok(admin_token)
            }
            Ok(None) => Ok(None),
            Err(sentence) => Err(sentence),
        };
        let certificate = certificate.map_err(|sentence| format!("the TLS certificate stays as it was: {sentence}"));
        let configuration = configuration.map_err(|sentence| format!("the configuration stays as it was: {sentence}"));
        for sentence in [certificate.as_ref().err(), configuration.as_ref().err()].into_iter().flatten() {
            log::error!("{sentence}");
        }
        match (certificate, configuration) {
            (Ok(()), configuration) => configuration,
            (Err(sentence), Ok(_)) => Err(sentence),
            (Err(of_tls), Err(of_others)) => Err(format!("{of_tls}; {of_others}")),
        }
    }
}
