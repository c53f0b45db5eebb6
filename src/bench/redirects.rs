//! The servers of a cluster to which users are redirected.
//!
//! Each is looked up once per run, on a thread of its own, because resolving a name and the first connection, which
//! decides between several addresses, block. An attempt that has failed is forgotten.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread;

use mio::Waker;
use tungstenite::http::Uri;

use super::generator::REACH_PATIENCE;
use super::target::{Target, Unreachable, error_name};
use super::tls::Trust;

/// Servers of one run. A redirect to a further one fails.
const SERVERS_MAX: usize = 256;

/// A server that is looked up; the result once it is known.
pub(super) type Lookup = OnceLock<Result<Target, io::ErrorKind>>;

pub(super) struct Servers {
    trust: Arc<Trust>,
    /// Those of the event loops, which continue when a lookup has ended.
    wakers: Vec<Waker>,
    /// By scheme and authority.
    known: Mutex<BTreeMap<String, Arc<Lookup>>>,
}

impl Servers {
    pub(super) fn new(trust: Arc<Trust>, wakers: Vec<Waker>) -> Servers {
        Servers { trust, wakers, known: Mutex::default() }
    }

    /// Looks up the server of a URL, if that has not been done yet. Afterwards every event loop is woken.
    pub(super) fn look_up(self: &Arc<Servers>, url: &str) -> Result<Arc<Lookup>, &'static str> {
        let uri: Uri = url.parse().map_err(|_| "EURL")?;
        let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else { return Err("EURL") };
        let server = format!("{scheme}://{authority}");
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(lookup) = known.get(&server) {
            return Ok(Arc::clone(lookup));
        }
        if known.len() >= SERVERS_MAX {
            return Err("too_many_servers");
        }
        let lookup = Arc::<Lookup>::default();
        known.insert(server.clone(), Arc::clone(&lookup));
        let (servers, found) = (Arc::clone(self), Arc::clone(&lookup));
        let spawned = thread::Builder::new().name("lookup".to_owned()).spawn({
            let server = server.clone();
            move || servers.find(&server, &found)
        });
        spawned.map(|_| lookup).map_err(|error| {
            known.remove(&server);
            error_name(&error)
        })
    }

    /// Blocks until the server is found, or not.
    fn find(&self, server: &str, lookup: &Lookup) {
        let found = Target::connect(server, &self.trust, REACH_PATIENCE);
        if found.is_err() {
            self.known.lock().unwrap_or_else(PoisonError::into_inner).remove(server);
        }
        let result = found.map(|(target, _)| target).map_err(|error| {
            log::debug!("a user was redirected to {server}, which can't be reached: {error}");
            match error {
                Unreachable::Server { error, .. } | Unreachable::Generator(error) => error.kind(),
                Unreachable::Target(_) => io::ErrorKind::InvalidInput,
            }
        });
        let _ = lookup.set(result);
        for waker in &self.wakers {
            // It fails only if the event loop has ended.
            let _ = waker.wake();
        }
    }
}
