//! The socket between the parent of a machine's nodes and each of them, whose messages may carry sockets.
//!
//! It is the standard input of the node. The parent passes on the connections that it accepts, and what signals ask
//! for. The node says when it is ready, and passes on one end of each connection to the parent's store. A node learns
//! from the end of the socket that its parent has ended.

use std::ffi::CString;
use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use mio::net::{TcpStream, UdpSocket};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};
use rustix::thread::{CpuSet, sched_setaffinity};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use socket2::Socket;

use super::handle::Handle;
use super::tcp::{NODE, Role};
use crate::game::Game;
use crate::limits;
use crate::server::Server;

/// Bytes of a message.
const MESSAGE_BYTES: usize = 8 * 1024;
/// Sockets in a message: the UDP sockets of a node.
const SOCKETS: usize = 2;
const SPACE: usize = rustix::cmsg_space!(ScmRights(SOCKETS));

/// One end of the socket. Nothing blocks.
#[derive(Debug)]
pub(super) struct Channel(OwnedFd);

impl Channel {
    /// Returns an end, and the standard input of a process that has the other one.
    pub(super) fn pair() -> io::Result<(Channel, OwnedFd)> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
        Ok((Channel(ours), theirs))
    }

    pub(super) fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }

    pub(super) fn send(&self, message: &impl Serialize, sockets: &[BorrowedFd<'_>]) -> io::Result<()> {
        let bytes = serde_json::to_vec(message)?;
        let mut space = [MaybeUninit::uninit(); SPACE];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !sockets.is_empty() && !control.push(SendAncillaryMessage::ScmRights(sockets)) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        sendmsg(&self.0, &[IoSlice::new(&bytes)], &mut control, SendFlags::NOSIGNAL)?;
        Ok(())
    }

    /// Returns the next message and its sockets; `None` if the other end is closed.
    pub(super) fn receive<M: DeserializeOwned>(&self) -> io::Result<Option<(M, Vec<OwnedFd>)>> {
        let (mut bytes, mut space) = ([0; MESSAGE_BYTES], [MaybeUninit::uninit(); SPACE]);
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let flags = RecvFlags::CMSG_CLOEXEC;
        let received = recvmsg(&self.0, &mut [IoSliceMut::new(&mut bytes)], &mut control, flags)?;
        let sockets = control.drain().flat_map(|message| match message {
            RecvAncillaryMessage::ScmRights(sockets) => sockets.collect(),
            _ => Vec::new(),
        });
        let sockets = sockets.collect();
        if received.bytes == 0 {
            return Ok(None);
        }
        let message = serde_json::from_slice(bytes.get(..received.bytes).unwrap_or_default())?;
        Ok(Some((message, sockets)))
    }
}

/// A message of the parent.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum ToNode {
    /// The first one, with the UDP sockets.
    Begin(Begin),
    /// An accepted connection.
    Connection(Role),
    Drain,
    Stop,
    StopNow,
    Reload,
}

/// A message of a node.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum ToParent {
    /// It takes connections.
    Ready,
    /// It takes none from now on.
    Stopping,
    /// One end of a connection to the store.
    Store,
}

/// What a node is.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Begin {
    /// How many nodes the machine has.
    pub(super) nodes: usize,
    /// The core that it keeps to.
    pub(super) core: Option<usize>,
    /// The TCP addresses that all nodes share.
    pub(super) tcp: Vec<SocketAddr>,
    /// Whether the parent is the store of the cluster, which has no other nodes then.
    pub(super) has_store: bool,
}

/// The parent process, which accepts the connections of this one.
#[derive(Clone, Debug)]
pub struct Link {
    channel: Arc<Channel>,
    name: Arc<str>,
    begin: Arc<Begin>,
    udp: Arc<[OwnedFd]>,
}

impl Link {
    /// Returns the parent of this process, the node of this name, and keeps the process to the core that it has chosen.
    ///
    /// # Errors
    /// A sentence, if the standard input is not the socket to a parent.
    pub(crate) fn from_stdin(program: &str, name: &str) -> Result<Link, String> {
        let alone =
            || "this process has no parent that accepts connections: start it with the command cluster".to_owned();
        let channel = Channel(io::stdin().as_fd().try_clone_to_owned().map_err(|_| alone())?);
        let Ok(Some((ToNode::Begin(begin), udp))) = channel.receive() else { return Err(alone()) };
        // The processes that a game starts must not have the socket.
        if let Err(error) = File::open("/dev/null").and_then(|null| Ok(rustix::stdio::dup2_stdin(null)?)) {
            log::warn!("/dev/null can't be the standard input: {error}");
        }
        if let Ok(program) = CString::new(program) {
            let _ = rustix::thread::set_name(&program);
        }
        if let Some(core) = begin.core {
            let mut cores = CpuSet::new();
            cores.set(core);
            if let Err(error) = sched_setaffinity(None, &cores) {
                log::warn!("node {name} can't be kept to core {core}: {error}");
            }
        }
        Ok(Link { channel: Arc::new(channel), name: name.into(), begin: Arc::new(begin), udp: udp.into() })
    }

    /// The name of the node.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// How many nodes the machine has.
    pub(crate) fn nodes(&self) -> usize {
        self.begin.nodes
    }

    pub(super) fn begin(&self) -> &Begin {
        &self.begin
    }

    pub(super) fn as_raw_fd(&self) -> RawFd {
        self.channel.as_raw_fd()
    }

    /// Where clients reach the node, if they reach the machine at `url`.
    pub(crate) fn url(&self, url: &str) -> String {
        format!("{url}?{NODE}={}", self.name)
    }

    pub(super) fn udp(&self) -> io::Result<Vec<UdpSocket>> {
        let socket = |socket: &OwnedFd| Ok(UdpSocket::from_std(Socket::from(socket.try_clone()?).into()));
        self.udp.iter().map(socket).collect()
    }

    /// Connects to the store of the parent.
    pub(super) fn connect_to_store(&self) -> io::Result<UnixStream> {
        let (ours, theirs) = UnixStream::pair()?;
        self.channel.send(&ToParent::Store, &[theirs.as_fd()])?;
        Ok(ours)
    }

    /// Returns the next message, and the connection that it carries; `None` if the parent has ended.
    pub(super) fn receive(&self) -> io::Result<Option<(ToNode, Option<TcpStream>)>> {
        let Some((message, sockets)) = self.channel.receive()? else { return Ok(None) };
        let stream = sockets.into_iter().next().map(|socket| TcpStream::from_std(Socket::from(socket).into()));
        Ok(Some((message, stream)))
    }
}

/// The link of a running node.
pub(super) struct Inlet {
    link: Link,
    /// Whether there may be messages: edge-triggered readiness is reported once.
    pub(super) readable: bool,
    /// Whether all nodes of the parent stop.
    is_ending: bool,
}

impl Inlet {
    pub(super) fn new(link: Link) -> Inlet {
        Inlet { link, readable: true, is_ending: false }
    }

    /// The name of the node.
    pub(super) fn name(&self) -> &str {
        self.link.name()
    }

    /// Tells the parent that the node takes connections.
    pub(super) fn ready(&self) -> io::Result<()> {
        self.link.channel.send(&ToParent::Ready, &[])
    }

    /// Tells the parent that the node takes no more connections, and the server if no other node takes its players.
    pub(super) fn stopping<G: Game>(&self, server: &mut Server<G>) {
        if self.is_ending && self.link.begin.has_store {
            server.end_cluster();
        }
        if let Err(error) = self.link.channel.send(&ToParent::Stopping, &[]) {
            log::debug!("the parent process can't be told of the end: {error}");
        }
    }

    /// Takes in some connections, and what the parent asks for.
    pub(super) fn take_in(&mut self, handle: &Handle, mut accept: impl FnMut(TcpStream, SocketAddr, Role)) {
        for _ in 0..limits::TURN_ACCEPTS {
            if !self.readable {
                return;
            }
            let received = self.link.receive();
            self.is_ending |= matches!(received, Ok(None | Some((ToNode::Drain | ToNode::Stop | ToNode::StopNow, _))));
            match received {
                Ok(Some((ToNode::Connection(role), stream))) => {
                    // Its client may have gone.
                    if let Some((stream, remote)) = stream.and_then(|it| it.peer_addr().ok().map(|at| (it, at))) {
                        accept(stream, remote, role);
                    }
                }
                Ok(Some((ToNode::Begin(_), _))) => {}
                Ok(Some((ToNode::Drain, _))) => handle.terminate(),
                Ok(Some((ToNode::Stop, _))) => handle.shutdown_at_least(1),
                Ok(Some((ToNode::StopNow, _))) => handle.shutdown_at_least(2),
                Ok(Some((ToNode::Reload, _))) => handle.reload(),
                Ok(None) => {
                    self.readable = false;
                    log::error!("stopping, because the parent process has ended");
                    handle.shutdown_at_least(1);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.readable = false,
                Err(error) => log::warn!("a message of the parent process can't be read: {error}"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_carry_sockets_and_nonsense_is_an_error() {
        let (parent, node) = Channel::pair().unwrap();
        let node = Channel(node);
        let (one, other) = UnixStream::pair().unwrap();
        parent.send(&ToNode::Reload, &[]).unwrap();
        parent.send(&ToNode::Connection(Role::Admin), &[one.as_fd()]).unwrap();
        drop(one);
        let next = || node.receive::<ToNode>();
        assert!(matches!(next().unwrap().unwrap(), (ToNode::Reload, sockets) if sockets.is_empty()));
        let (message, sockets) = next().unwrap().unwrap();
        assert!(matches!(message, ToNode::Connection(Role::Admin)));
        other.set_nonblocking(true).unwrap();
        let read = || io::Read::read(&mut &other, &mut [0]);
        assert_eq!(read().unwrap_err().kind(), io::ErrorKind::WouldBlock, "the message has the only other end");
        drop(sockets);
        assert_eq!(read().unwrap(), 0);
        assert_eq!(next().unwrap_err().kind(), io::ErrorKind::WouldBlock);

        parent.send(&"nonsense", &[other.as_fd()]).unwrap();
        assert_eq!(next().unwrap_err().kind(), io::ErrorKind::InvalidData);
        drop(parent);
        assert!(next().unwrap().is_none());
    }
}
