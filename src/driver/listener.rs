//! A TCP port that connections are accepted from.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use mio::net::{TcpListener, TcpStream};

use super::tcp::Entrance;
use super::tls::Security;
use crate::limits;
use crate::log_limit::Throttle;

/// The wait before accepting again after the OS refused, for example because no file descriptor was left.
const RETRY: Duration = Duration::from_millis(100);
/// Limits the log lines about that.
const LOG: Throttle = Throttle::new(1, Duration::from_secs(10));

pub(super) struct Listener {
    socket: TcpListener,
    pub(super) entrance: Entrance,
    pub(super) security: Security,
    /// Whether it may have pending connections: edge-triggered readiness is reported once.
    pub(super) readable: bool,
    /// When to try again after an error.
    pub(super) retry: Option<Instant>,
    log: Throttle,
}

impl Listener {
    pub(super) fn new(socket: TcpListener, entrance: Entrance, security: Security) -> Listener {
        Listener { socket, entrance, security, readable: true, retry: None, log: LOG }
    }

    #[cfg(all(feature = "cluster", target_os = "linux"))]
    pub(super) fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Accepts pending connections; `false` if the OS allows no more.
    pub(super) fn accept(&mut self, now: Instant, mut handle: impl FnMut(TcpStream, SocketAddr)) -> bool {
        if self.retry.is_some_and(|retry| retry > now) {
            return true;
        }
        self.retry = None;
        for _ in 0..limits::TURN_ACCEPTS {
            if !self.readable {
                return true;
            }
            match self.socket.accept() {
                Ok((socket, remote)) => handle(socket, remote),
                Err(error) => match error.kind() {
                    io::ErrorKind::WouldBlock => self.readable = false,
                    // The client closed the connection before it was accepted.
                    io::ErrorKind::ConnectionAborted | io::ErrorKind::Interrupted => {}
                    _ => {
                        // No event will report when accepting is possible again.
                        self.retry = Some(now + RETRY);
                        if self.log.take(now).is_some() {
                            log::warn!("connections wait: {error}; raise the limit of open files (ulimit -n)");
                        }
                        return false;
                    }
                },
            }
        }
        true
    }
}
