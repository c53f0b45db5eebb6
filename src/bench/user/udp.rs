//! The UDP socket of a user, behind the simulated network of the script.

use std::io;
use std::net::SocketAddr;
use std::time::Instant;

use mio::{Interest, Token};

use super::Turn;
use crate::bench::meters::Count;
use crate::bench::netem::{Datagram, Direction, Path};
use crate::bench::target::error_name;

/// Datagrams read per turn before others have theirs.
const DATAGRAMS_PER_TURN: usize = 64;

pub(super) struct Udp {
    socket: mio::net::UdpSocket,
    path: Option<Path>,
    /// Bytes sent since the last call of `take_bytes_up`.
    bytes_up: usize,
}

impl Udp {
    pub(super) fn bind(number: u64, token: Token, turn: &Turn<'_, '_>) -> Result<Udp, &'static str> {
        let thread = &*turn.thread;
        let name = |error: io::Error| error_name(&error);
        let mut socket = mio::net::UdpSocket::bind(SocketAddr::new(thread.target.local, 0)).map_err(name)?;
        thread.registry.register(&mut socket, token, Interest::READABLE).map_err(name)?;
        let path = Path::new(&thread.script.config.netem, number, thread.seed);
        Ok(Udp { socket, path, bytes_up: 0 })
    }

    pub(super) fn local_addr(&self) -> Result<SocketAddr, &'static str> {
        self.socket.local_addr().map_err(|error| error_name(&error))
    }

    /// Returns when to call [`Udp::pass`].
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.path.as_ref().and_then(Path::poll_timeout)
    }

    /// Reads the socket and passes datagrams on, directly or through the simulated network. Returns whether more may
    /// wait.
    pub(super) fn receive(&mut self, turn: &mut Turn<'_, '_>, mut take: impl FnMut(SocketAddr, &[u8])) -> bool {
        let mut has_more = true;
        let mut bytes_down = 0;
        for _ in 0..DATAGRAMS_PER_TURN {
            match self.socket.recv_from(&mut turn.thread.buffer) {
                Ok((length, remote)) => {
                    bytes_down += length;
                    let bytes = &turn.thread.buffer[..length];
                    match &mut self.path {
                        Some(path) => {
                            path.send(turn.now, Datagram { direction: Direction::Down, remote, bytes: bytes.to_vec() });
                        }
                        None => take(remote, bytes),
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    has_more = false;
                    break;
                }
                // An ICMP error about one candidate does not concern the others.
                Err(_) => {}
            }
        }
        turn.add(Count::BytesDown, bytes_down as u64);
        has_more
    }

    /// Passes on the datagrams that have come through the simulated network.
    pub(super) fn pass(&mut self, now: Instant, mut take: impl FnMut(SocketAddr, &[u8])) {
        while let Some(Datagram { direction, remote, bytes }) = self.path.as_mut().and_then(|path| path.poll(now)) {
            match direction {
                Direction::Up => self.send_on(remote, &bytes),
                Direction::Down => take(remote, &bytes),
            }
        }
    }

    pub(super) fn send(&mut self, now: Instant, remote: SocketAddr, bytes: &[u8]) {
        let Some(path) = &mut self.path else { return self.send_on(remote, bytes) };
        path.send(now, Datagram { direction: Direction::Up, remote, bytes: bytes.to_vec() });
        // Incoming datagrams that are due meanwhile are handled at the next deadline, which has passed.
        while self.path.as_ref().is_some_and(|path| path.is_next(Direction::Up, now))
            && let Some(datagram) = self.path.as_mut().and_then(|path| path.poll(now))
        {
            self.send_on(datagram.remote, &datagram.bytes);
        }
    }

    fn send_on(&mut self, remote: SocketAddr, bytes: &[u8]) {
        // Not every address of the server has a route.
        if self.socket.send_to(bytes, remote).is_ok() {
            self.bytes_up += bytes.len();
        }
    }

    /// Returns the bytes sent since the last call.
    pub(super) fn take_bytes_up(&mut self) -> usize {
        std::mem::take(&mut self.bytes_up)
    }
}
