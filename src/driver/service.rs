//! The service manager that has started the process, if that is systemd: sd_notify(3), and sockets that it has opened.

use std::env;
use std::ffi::OsStr;
use std::io;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::{Duration, Instant};

use listenfd::ListenFd;
use mio::net::{TcpListener, UdpSocket};
use nix::time::{ClockId, clock_gettime};

/// The share of the time that the manager waits after which the loop reports that it runs.
const REPORTS: u32 = 4;

/// Reports to the service manager. Without one, nothing is sent.
#[derive(Debug, Default)]
pub(super) struct Service {
    manager: Option<(UnixDatagram, SocketAddr)>,
    /// How often to report that the loop runs, and when it is due.
    watchdog: Option<(Duration, Instant)>,
}

impl Service {
    pub(super) fn from_environment(now: Instant) -> Service {
        let Some(path) = env::var_os("NOTIFY_SOCKET") else { return Service::default() };
        let manager = match connect(&path) {
            Ok(manager) => Some(manager),
            Err(error) => {
                log::warn!("the service manager can't be notified at {}: {error}", path.display());
                None
            }
        };
        let number = |name: &str| env::var(name).ok()?.parse::<u64>().ok();
        let is_for_us = number("WATCHDOG_PID").is_none_or(|id| id == u64::from(std::process::id()));
        let patience = number("WATCHDOG_USEC").filter(|_| is_for_us).map(Duration::from_micros);
        Service { manager, watchdog: patience.map(|patience| (patience / REPORTS, now)) }
    }

    pub(super) fn ready(&self) {
        self.notify("READY=1");
    }

    /// The configuration is being read again; [`Service::ready`] follows.
    pub(super) fn reloading(&self) {
        if let Ok(time) = clock_gettime(ClockId::CLOCK_MONOTONIC) {
            let micros = Duration::from(time).as_micros();
            self.notify(&format!("RELOADING=1\nMONOTONIC_USEC={micros}"));
        }
    }

    pub(super) fn stopping(&self, status: &str) {
        self.notify(&format!("STOPPING=1\nSTATUS={status}"));
    }

    /// The loop runs, and its ticks with it.
    pub(super) fn note_turn(&mut self, now: Instant) {
        if let Some((interval, due)) = self.watchdog
            && now >= due
        {
            self.watchdog = Some((interval, now + interval));
            self.notify("WATCHDOG=1");
        }
    }

    /// When the loop has to run at the latest.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.watchdog.map(|(_, due)| due)
    }

    /// A manager that doesn't read must not block the loop.
    fn notify(&self, state: &str) {
        if let Some((socket, manager)) = &self.manager
            && let Err(error) = socket.send_to_addr(state.as_bytes(), manager)
        {
            log::debug!("the service manager did not take {state:?}: {error}");
        }
    }
}

/// `path` is that of a socket, or the name of an abstract one after an `@`.
fn connect(path: &OsStr) -> io::Result<(UnixDatagram, SocketAddr)> {
    let manager = match path.as_encoded_bytes().split_first() {
        #[cfg(target_os = "linux")]
        Some((b'@', name)) => <SocketAddr as std::os::linux::net::SocketAddrExt>::from_abstract_name(name)?,
        _ => SocketAddr::from_pathname(path)?,
    };
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    Ok((socket, manager))
}

/// Returns the sockets that the service manager has opened for this process; empty without any. Each process has them
/// once.
///
/// # Errors
/// One of them is neither a listener of TCP nor a socket of UDP.
pub(super) fn take_sockets() -> io::Result<(Vec<TcpListener>, Vec<UdpSocket>)> {
    let mut passed = ListenFd::from_env();
    let (mut tcp, mut udp) = (Vec::new(), Vec::new());
    for index in 0..passed.len() {
        match passed.take_tcp_listener(index) {
            Ok(Some(listener)) => {
                listener.set_nonblocking(true)?;
                tcp.push(TcpListener::from_std(listener));
            }
            Ok(None) => {}
            Err(_) => {
                if let Some(socket) = passed.take_udp_socket(index)? {
                    socket.set_nonblocking(true)?;
                    udp.push(UdpSocket::from_std(socket));
                }
            }
        }
    }
    Ok((tcp, udp))
}
