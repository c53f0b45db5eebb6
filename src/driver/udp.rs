//! Batched UDP. Each datagram is received with the local address that it was sent to, and answered from that address.

use std::io::{self, IoSliceMut};
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;
use std::time::{Duration, Instant};

use mio::net::UdpSocket;
use quinn_udp::{RecvMeta, UdpSockRef, UdpSocketState};

use super::unix_time;
use crate::endpoint::{LocalId, Transmit};
use crate::limits::{LOCAL_ADDRESSES, MEDIA_PAYLOAD_BYTES};

/// The buffer size requested from the OS for each direction of each socket.
const SOCKET_BUFFER_BYTES: usize = 4 * 1024 * 1024;
/// Datagrams (or merged runs of them) per receiving system call. A turn finds about ten of fifty players.
const RECEIVE_BATCH: usize = if quinn_udp::BATCH_SIZE < 32 { quinn_udp::BATCH_SIZE } else { 32 };
/// Datagrams per sending system call. More than eight gain little: the remaining cost is the kernel's work on each.
const SEND_BATCH: usize = 64;
/// The maximum bytes that the kernel merges into one buffer.
const MERGED_BYTES: usize = 64 * 1024;
/// The buffer size without merging: any datagram that fits an Ethernet frame.
const DATAGRAM_BYTES: usize = 2048;
/// The interval at which the kernel's drop counter is read.
const OVERFLOW_INTERVAL: Duration = Duration::from_secs(1);
/// The minimum time between two warnings of the same kind.
const WARNING_INTERVAL: Duration = Duration::from_secs(60);

/// Datagrams by outcome.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counters {
    pub(super) received: u64,
    /// Dropped by the kernel because the socket's receive buffer was full; known on Linux only.
    pub(super) overflowed: u64,
    /// Arrived at a local address above [`LOCAL_ADDRESSES`].
    pub(super) unnumbered: u64,
    pub(super) sent: u64,
    /// Dropped because the socket's send buffer was full.
    pub(super) blocked: u64,
    /// Refused by the OS, for example without a route.
    pub(super) failed: u64,
}

/// A local address: where datagrams arrive and answers leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Local {
    socket: usize,
    /// `None` if the OS doesn't report at which of the socket's addresses a datagram arrived.
    ip: Option<IpAddr>,
}

struct Socket {
    io: UdpSocket,
    state: UdpSocketState,
    sender: sender::Sender,
    /// Whether it may contain datagrams: edge-triggered readiness is reported once.
    readable: bool,
    /// The kernel's drop counter when it was last read, modulo 2³².
    overflowed: u32,
}

/// Limits the warnings about a repeated event.
#[derive(Default)]
struct Warning {
    count: u64,
    logged: Option<Instant>,
}

/// Datagrams to send, copied out of the core, which lends one at a time.
#[derive(Default)]
struct Batch {
    bytes: Vec<u8>,
    datagrams: Vec<Datagram>,
}

struct Datagram {
    local: LocalId,
    destination: SocketAddr,
    range: Range<usize>,
}

/// All UDP sockets of a server.
pub(super) struct Udp {
    sockets: Vec<Socket>,
    /// Indexed by [`LocalId`]. An ID is never reused for another address, because a peer may still send from it.
    locals: Vec<Local>,
    overflow_asked: Option<Instant>,
    overflow_warning: Warning,
    unnumbered_warning: Warning,
    receive_buffer: Vec<u8>,
    batch: Batch,
    counters: Counters,
}

impl Udp {
    pub(super) fn new(sockets: Vec<UdpSocket>) -> io::Result<Udp> {
        let sockets = sockets.into_iter().map(Socket::new).collect::<io::Result<Vec<_>>>()?;
        let merges = sockets.iter().any(|socket| socket.state.gro_segments() > 1);
        let buffer_bytes = if merges { MERGED_BYTES } else { DATAGRAM_BYTES };
        Ok(Udp {
            sockets,
            locals: Vec::new(),
            overflow_asked: None,
            overflow_warning: Warning::default(),
            unnumbered_warning: Warning::default(),
            receive_buffer: vec![0; RECEIVE_BATCH * buffer_bytes],
            batch: Batch::default(),
            counters: Counters::default(),
        })
    }

    pub(super) fn sockets(&mut self) -> impl Iterator<Item = &mut UdpSocket> {
        self.sockets.iter_mut().map(|socket| &mut socket.io)
    }

    /// The problems of the sockets' buffers with remedies, without duplicates.
    pub(super) fn shortages(&self) -> Vec<String> {
        let receive = self.sockets.iter().find_map(Socket::receive_buffer_shortage);
        let send = self.sockets.iter().find_map(Socket::send_buffer_shortage);
        receive.into_iter().chain(send).collect()
    }

    pub(super) fn counters(&mut self) -> Counters {
        for socket in &mut self.sockets {
            let Some(overflowed) = receive_queue::overflowed(&socket.io) else { continue };
            self.counters.overflowed += u64::from(overflowed.wrapping_sub(socket.overflowed));
            socket.overflowed = overflowed;
        }
        self.counters
    }

    /// Datagrams have arrived at the socket of this index.
    pub(super) fn handle_readable(&mut self, socket: usize) {
        self.sockets[socket].readable = true;
    }

    /// Whether datagrams may wait that [`Udp::receive`] left behind.
    pub(super) fn is_readable(&self) -> bool {
        self.sockets.iter().any(|socket| socket.readable)
    }

    /// Datagrams may have arrived at any of the sockets.
    pub(super) fn handle_unwatched(&mut self) {
        self.sockets.iter_mut().for_each(|socket| socket.readable = true);
    }

    /// Passes on about `budget` datagrams of each readable socket, with the time at which each arrived: as the kernel
    /// reports it, within `since..=now`, and in order.
    pub(super) fn receive(
        &mut self,
        now: Instant,
        mut since: Instant,
        budget: usize,
        mut handle: impl FnMut(Instant, LocalId, SocketAddr, &[u8]),
    ) {
        let buffer_bytes = self.receive_buffer.len() / RECEIVE_BATCH;
        // The kernel reports the wall clock. If that is set in between, the bounds limit the error.
        let (read, wall_clock) = (Instant::now(), unix_time());
        let mut metas = [RecvMeta::default(); RECEIVE_BATCH];
        for (index, socket) in self.sockets.iter_mut().enumerate() {
            let mut taken = 0;
            while socket.readable && taken < budget {
                let mut buffers = self.receive_buffer.chunks_exact_mut(buffer_bytes);
                let mut slices: [IoSliceMut<'_>; RECEIVE_BATCH] =
                    std::array::from_fn(|_| IoSliceMut::new(buffers.next().expect("a buffer for each of the batch")));
                let count = match socket.state.recv(UdpSockRef::from(&socket.io), &mut slices, &mut metas) {
                    Ok(count) => count,
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        socket.readable = false;
                        break;
                    }
                    Err(error) => {
                        // A permanent error would keep the loop from sleeping. The next datagram causes a new edge.
                        log::debug!("receiving datagrams: {error}");
                        socket.readable = false;
                        break;
                    }
                };
                for (meta, slice) in metas[..count].iter().zip(&slices) {
                    let local = Local { socket: index, ip: meta.dst_ip };
                    let arrived = meta.timestamp.and_then(|stamp| read.checked_sub(wall_clock.checked_sub(stamp)?));
                    since = arrived.unwrap_or(now).clamp(since, now.max(since));
                    for datagram in slice[..meta.len].chunks(meta.stride.max(1)) {
                        taken += 1;
                        match intern(&mut self.locals, local) {
                            Some(local) => {
                                self.counters.received += 1;
                                handle(since, local, meta.addr, datagram);
                            }
                            None => self.counters.unnumbered += 1,
                        }
                    }
                }
                taken += 1;
                // The kernel fills a batch from what there is: a short one has emptied the socket, and what comes after
                // it brings a new edge. (Where batches are of one, none is short.)
                socket.readable &= count == RECEIVE_BATCH;
            }
        }
        self.warn(now);
    }

    fn warn(&mut self, now: Instant) {
        if self.unnumbered_warning.due(now, self.counters.unnumbered).is_some() {
            log::warn!(
                "datagrams to this machine's newer addresses are dropped: it has had more than {LOCAL_ADDRESSES}; \
                restart the server, or name the address to listen on with --udp ADDR:PORT"
            );
        }
        if self.overflow_asked.is_some_and(|asked| now < asked + OVERFLOW_INTERVAL) {
            return;
        }
        self.overflow_asked = Some(now);
        let overflowed = self.counters().overflowed;
        if let Some(new) = self.overflow_warning.due(now, overflowed) {
            let remedy = match self.sockets.iter().find_map(Socket::receive_buffer_shortage) {
                Some(shortage) => shortage,
                None => "this machine is too slow for its players, or the process was suspended".to_owned(),
            };
            log::warn!("{new} datagrams from players were lost because a receive buffer was full: {remedy}");
        }
    }

    /// Sends a datagram with the next batch.
    pub(super) fn send(&mut self, transmit: &Transmit<'_>) {
        debug_assert!(transmit.bytes.len() <= MEDIA_PAYLOAD_BYTES, "the core keeps to the limit");
        let start = self.batch.bytes.len();
        self.batch.bytes.extend_from_slice(transmit.bytes);
        self.batch.datagrams.push(Datagram {
            local: transmit.local,
            destination: transmit.destination,
            range: start..self.batch.bytes.len(),
        });
        if self.batch.datagrams.len() == SEND_BATCH {
            self.flush();
        }
    }

    /// Sends the rest of the batch. A datagram that can't be sent now is dropped, because it would arrive too late.
    pub(super) fn flush(&mut self) {
        // One system call sends from one address. Datagrams to one peer keep their order.
        self.batch.datagrams.sort_by_key(|datagram| datagram.local);
        for run in self.batch.datagrams.chunk_by(|a, b| a.local == b.local) {
            let Some(local) = self.locals.get(usize::from(run[0].local.0)) else {
                self.counters.failed += run.len() as u64;
                continue;
            };
            let socket = &mut self.sockets[local.socket];
            send_run(socket, local.ip, run, &self.batch.bytes, &mut self.counters);
        }
        self.batch.datagrams.clear();
        self.batch.bytes.clear();
    }
}

impl Socket {
    fn new(io: UdpSocket) -> io::Result<Socket> {
        let state = UdpSocketState::new(UdpSockRef::from(&io))?;
        let address = io.local_addr()?;
        // With a smaller buffer than requested, datagrams are only dropped earlier.
        let _ = state.set_send_buffer_size(UdpSockRef::from(&io), SOCKET_BUFFER_BYTES);
        let _ = state.set_recv_buffer_size(UdpSockRef::from(&io), SOCKET_BUFFER_BYTES);
        let sender = sender::Sender::new(address);
        // What arrived before the socket was registered may have no edge of its own.
        let socket = Socket { io, state, sender, readable: true, overflowed: 0 };
        for shortage in [socket.receive_buffer_shortage(), socket.send_buffer_shortage()] {
            match shortage {
                Some(shortage) => log::info!("udp://{address}: {shortage}"),
                None => log::debug!("udp://{address}: a buffer of {SOCKET_BUFFER_BYTES} bytes was granted"),
            }
        }
        Ok(socket)
    }

    /// The problem of its receive buffer, with the remedy.
    fn receive_buffer_shortage(&self) -> Option<String> {
        let granted = self.state.recv_buffer_size(UdpSockRef::from(&self.io)).ok()?;
        shortage("receive", granted, "net.core.rmem_max")
    }

    /// The problem of its send buffer, with the remedy.
    fn send_buffer_shortage(&self) -> Option<String> {
        let granted = self.state.send_buffer_size(UdpSockRef::from(&self.io)).ok()?;
        shortage("send", granted, "net.core.wmem_max")
    }
}

fn shortage(direction: &str, granted: usize, sysctl: &str) -> Option<String> {
    // Linux doubles what it is asked for, to keep its books in it (socket(7)), and tells the double.
    let granted = if cfg!(target_os = "linux") { granted / 2 } else { granted };
    (granted < SOCKET_BUFFER_BYTES).then(|| {
        let remedy = if cfg!(target_os = "linux") {
            format!("; raise it with `sysctl -w {sysctl}={SOCKET_BUFFER_BYTES}` and restart the server")
        } else {
            String::new()
        };
        format!("the OS granted a {direction} buffer of {granted} bytes instead of {SOCKET_BUFFER_BYTES}{remedy}")
    })
}

impl Warning {
    /// Returns how often it has happened since the last warning, if one is due now; `count` is the total.
    fn due(&mut self, now: Instant, count: u64) -> Option<u64> {
        if count == self.count || self.logged.is_some_and(|logged| now < logged + WARNING_INTERVAL) {
            return None;
        }
        self.logged = Some(now);
        Some(count - std::mem::replace(&mut self.count, count))
    }
}

/// The ID of a local address; `None` if there are too many.
fn intern(locals: &mut Vec<Local>, local: Local) -> Option<LocalId> {
    let index = locals.iter().position(|known| *known == local).or_else(|| {
        (locals.len() < LOCAL_ADDRESSES).then(|| {
            locals.push(local);
            locals.len() - 1
        })
    })?;
    u16::try_from(index).ok().map(LocalId)
}

/// Sends datagrams that leave from one address.
fn send_run(socket: &mut Socket, source: Option<IpAddr>, run: &[Datagram], bytes: &[u8], counters: &mut Counters) {
    let mut rest = run;
    while !rest.is_empty() {
        let done = match socket.sender.send(&socket.io, &socket.state, source, rest, bytes) {
            Ok(sent) => {
                counters.sent += sent as u64;
                sent
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => 0,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                counters.blocked += rest.len() as u64;
                rest.len()
            }
            Err(error) => {
                log::debug!("sending to {}: {error}", rest[0].destination);
                counters.failed += 1;
                1
            }
        };
        rest = &rest[done..];
    }
}

/// The kernel's report about a socket.
#[cfg(target_os = "linux")]
mod receive_queue {
    use mio::net::UdpSocket;
    use nix::sys::socket::getsockopt;
    use nix::{getsockopt_impl, libc, sockopt_impl};

    sockopt_impl!(
        /// The memory of a socket, and its drops (sock_diag(7)); since Linux 4.12.
        MemoryInfo,
        GetOnly,
        libc::SOL_SOCKET,
        libc::SO_MEMINFO,
        [u32; 9]
    );

    /// Datagrams dropped because the buffer was full, modulo 2³².
    pub(super) fn overflowed(socket: &UdpSocket) -> Option<u32> {
        getsockopt(socket, MemoryInfo).ok().map(|info| info[libc::SK_MEMINFO_DROPS as usize])
    }
}

/// Not available on this OS.
#[cfg(not(target_os = "linux"))]
mod receive_queue {
    use mio::net::UdpSocket;

    pub(super) fn overflowed(_: &UdpSocket) -> Option<u32> {
        None
    }
}

/// Many datagrams per system call.
#[cfg(target_os = "linux")]
mod sender {
    use std::io::{self, IoSlice};
    use std::net::{IpAddr, SocketAddr};
    use std::os::fd::AsRawFd;

    use mio::net::UdpSocket;
    use nix::libc;
    use nix::sys::socket::{ControlMessage, MsgFlags, MultiHeaders, SockaddrIn, SockaddrIn6, SockaddrLike, sendmmsg};
    use quinn_udp::UdpSocketState;

    use super::{Datagram, SEND_BATCH};

    /// The headers of a batch. A socket on a wildcard address has room in them for each datagram's source.
    pub(super) enum Sender {
        V4 { headers: MultiHeaders<SockaddrIn>, wildcard: bool },
        V6 { headers: MultiHeaders<SockaddrIn6>, wildcard: bool },
    }

    impl Sender {
        pub(super) fn new(bound: SocketAddr) -> Sender {
            let wildcard = bound.ip().is_unspecified();
            // All of the space is taken for a control message, so none is left over.
            match bound {
                SocketAddr::V4(_) => {
                    let control = wildcard.then(|| nix::cmsg_space!(libc::in_pktinfo));
                    Sender::V4 { headers: MultiHeaders::preallocate(SEND_BATCH, control), wildcard }
                }
                SocketAddr::V6(_) => {
                    let control = wildcard.then(|| nix::cmsg_space!(libc::in6_pktinfo));
                    Sender::V6 { headers: MultiHeaders::preallocate(SEND_BATCH, control), wildcard }
                }
            }
        }

        /// How many of the first datagrams have been sent; an error is the first one's.
        pub(super) fn send(
            &mut self,
            socket: &UdpSocket,
            _state: &UdpSocketState,
            source: Option<IpAddr>,
            datagrams: &[Datagram],
            bytes: &[u8],
        ) -> io::Result<usize> {
            match self {
                Sender::V4 { headers, wildcard } => {
                    let source = match source {
                        Some(IpAddr::V4(source)) => source.octets(),
                        _ => [0; 4],
                    };
                    let info = libc::in_pktinfo {
                        ipi_ifindex: 0,
                        ipi_spec_dst: libc::in_addr { s_addr: u32::from_ne_bytes(source) },
                        ipi_addr: libc::in_addr { s_addr: 0 },
                    };
                    let control = [ControlMessage::Ipv4PacketInfo(&info)];
                    let control = if *wildcard { &control[..] } else { &[] };
                    send_batch(socket, headers, control, datagrams, bytes, |address| match address {
                        SocketAddr::V4(address) => Some(address.into()),
                        SocketAddr::V6(_) => None,
                    })
                }
                Sender::V6 { headers, wildcard } => {
                    let source = match source {
                        Some(IpAddr::V6(source)) => source.octets(),
                        _ => [0; 16],
                    };
                    let info = libc::in6_pktinfo { ipi6_addr: libc::in6_addr { s6_addr: source }, ipi6_ifindex: 0 };
                    let control = [ControlMessage::Ipv6PacketInfo(&info)];
                    let control = if *wildcard { &control[..] } else { &[] };
                    send_batch(socket, headers, control, datagrams, bytes, |address| match address {
                        SocketAddr::V6(address) => Some(address.into()),
                        SocketAddr::V4(_) => None,
                    })
                }
            }
        }
    }

    fn send_batch<A: SockaddrLike + Copy>(
        socket: &UdpSocket,
        headers: &mut MultiHeaders<A>,
        control: &[ControlMessage<'_>],
        datagrams: &[Datagram],
        bytes: &[u8],
        family: impl Fn(SocketAddr) -> Option<A>,
    ) -> io::Result<usize> {
        let addresses: [Option<A>; SEND_BATCH] = std::array::from_fn(|index| family(datagrams.get(index)?.destination));
        let slices: [[IoSlice<'_>; 1]; SEND_BATCH] = std::array::from_fn(|index| {
            [IoSlice::new(datagrams.get(index).map_or(&[], |datagram| &bytes[datagram.range.clone()]))]
        });
        let count = datagrams.len().min(SEND_BATCH);
        let sent =
            sendmmsg(socket.as_raw_fd(), headers, &slices[..count], &addresses[..count], control, MsgFlags::empty())?;
        Ok(sent.count())
    }
}

/// One datagram per system call.
#[cfg(not(target_os = "linux"))]
mod sender {
    use std::io;
    use std::net::{IpAddr, SocketAddr};

    use mio::net::UdpSocket;
    use quinn_udp::{UdpSockRef, UdpSocketState};

    use super::Datagram;

    pub(super) struct Sender {
        wildcard: bool,
    }

    impl Sender {
        pub(super) fn new(bound: SocketAddr) -> Sender {
            Sender { wildcard: bound.ip().is_unspecified() }
        }

        /// How many of the first datagrams have been sent; an error is the first one's.
        pub(super) fn send(
            &mut self,
            socket: &UdpSocket,
            state: &UdpSocketState,
            source: Option<IpAddr>,
            datagrams: &[Datagram],
            bytes: &[u8],
        ) -> io::Result<usize> {
            let first = &datagrams[0];
            let transmit = quinn_udp::Transmit {
                destination: first.destination,
                ecn: None,
                contents: &bytes[first.range.clone()],
                segment_size: None,
                src_ip: source.filter(|_| self.wildcard),
            };
            state.try_send(UdpSockRef::from(socket), &transmit)?;
            Ok(1)
        }
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_types, reason = "the other end of the sockets is here")]
mod tests {
    use std::net::Ipv4Addr;
    use std::time::Duration;

    use super::*;

    fn udp(address: &str) -> (Udp, SocketAddr) {
        let socket = UdpSocket::bind(address.parse().expect("an address")).expect("bound");
        let address = socket.local_addr().expect("bound");
        (Udp::new(vec![socket]).expect("set up"), address)
    }

    fn client(address: &str) -> std::net::UdpSocket {
        let client = std::net::UdpSocket::bind(address).expect("bound");
        client.set_read_timeout(Some(Duration::from_secs(5))).expect("set");
        client
    }

    /// Everything that has arrived, at most `budget` per call, until there are `count`.
    fn received(udp: &mut Udp, count: usize) -> Vec<(LocalId, SocketAddr, Vec<u8>)> {
        let (mut all, start) = (Vec::new(), Instant::now());
        for _ in 0..1_000_000 {
            if all.len() >= count {
                break;
            }
            udp.handle_readable(0);
            udp.receive(Instant::now(), start, 1, |_, local, source, bytes| all.push((local, source, bytes.to_vec())));
        }
        all
    }

    #[test]
    fn answers_leave_from_the_address_that_was_asked() {
        let (mut udp, address) = udp("0.0.0.0:0");
        let client = client("127.0.0.1:0");
        for (number, ip) in [Ipv4Addr::new(127, 0, 0, 1), Ipv4Addr::new(127, 0, 0, 2)].into_iter().enumerate() {
            client.send_to(b"ask", (ip, address.port())).expect("sent");
            let (local, source, bytes) = received(&mut udp, 1).remove(0);
            assert_eq!((usize::from(local.0), bytes.as_slice()), (number, b"ask".as_slice()));
            udp.send(&Transmit { local, destination: source, bytes: b"answer" });
            udp.flush();
            let mut buffer = [0; 16];
            let (length, from) = client.recv_from(&mut buffer).expect("answered");
            assert_eq!((&buffer[..length], from.ip()), (b"answer".as_slice(), IpAddr::V4(ip)));
        }
        assert_eq!((udp.counters().received, udp.counters().sent), (2, 2));
    }

    #[test]
    fn both_families_and_specific_addresses_work() {
        for (bind, from) in [("127.0.0.1:0", "127.0.0.1:0"), ("[::1]:0", "[::1]:0"), ("[::]:0", "[::1]:0")] {
            let Ok(socket) = UdpSocket::bind(bind.parse().expect("an address")) else {
                assert!(bind.starts_with('['), "only IPv6 may be missing");
                continue;
            };
            let port = socket.local_addr().expect("bound").port();
            let mut udp = Udp::new(vec![socket]).expect("set up");
            let client = client(from);
            client.send_to(b"ask", (client.local_addr().expect("bound").ip(), port)).expect("sent");
            let (local, source, _) = received(&mut udp, 1).remove(0);
            udp.send(&Transmit { local, destination: source, bytes: b"answer" });
            udp.flush();
            assert_eq!(client.recv_from(&mut [0; 16]).expect("answered").0, 6, "{bind}");
        }
    }

    #[test]
    fn a_batch_arrives_in_order_and_whole() {
        let (mut udp, address) = udp("127.0.0.1:0");
        let client = client("127.0.0.1:0");
        client.send_to(b"ask", address).expect("sent");
        let (local, destination, _) = received(&mut udp, 1).remove(0);
        let datagram = |number: usize| vec![u8::try_from(number % 251).expect("a byte"); 1 + number % 50];
        for number in 0..SEND_BATCH + 10 {
            udp.send(&Transmit { local, destination, bytes: &datagram(number) });
        }
        udp.flush();
        let mut buffer = [0; MEDIA_PAYLOAD_BYTES];
        for number in 0..SEND_BATCH + 10 {
            let length = client.recv(&mut buffer).expect("sent");
            assert_eq!(buffer[..length], datagram(number));
        }
    }

    #[test]
    fn one_bad_destination_costs_only_itself() {
        let (mut udp, address) = udp("127.0.0.1:0");
        let client = client("127.0.0.1:0");
        client.send_to(b"ask", address).expect("sent");
        let (local, destination, _) = received(&mut udp, 1).remove(0);
        // From a loopback address there is no way out.
        for destination in [destination, "192.0.2.1:9".parse().expect("an address"), destination] {
            udp.send(&Transmit { local, destination, bytes: b"answer" });
        }
        udp.send(&Transmit { local: LocalId(9), destination, bytes: b"from nowhere" });
        udp.flush();
        assert_eq!((udp.counters().sent, udp.counters().failed), (2, 2));
    }

    #[test]
    fn merged_datagrams_come_apart() {
        let (mut udp, address) = udp("127.0.0.1:0");
        let client = client("127.0.0.1:0");
        let state = UdpSocketState::new(UdpSockRef::from(&client)).expect("set up");
        let transmit = quinn_udp::Transmit {
            destination: address,
            ecn: None,
            contents: b"aaaabbbbcc",
            segment_size: (state.max_gso_segments() > 1).then_some(4),
            src_ip: None,
        };
        state.try_send(UdpSockRef::from(&client), &transmit).expect("sent");
        let expected = if transmit.segment_size.is_some() { vec!["aaaa", "bbbb", "cc"] } else { vec!["aaaabbbbcc"] };
        let got = received(&mut udp, expected.len());
        let got: Vec<_> = got.iter().map(|(_, _, bytes)| std::str::from_utf8(bytes).expect("text")).collect();
        assert_eq!(got, expected);
    }

    #[test]
    fn arrivals_are_those_at_the_socket_within_the_bounds() {
        let (mut udp, address) = udp("127.0.0.1:0");
        let client = client("127.0.0.1:0");
        let slack = Duration::from_millis(1);
        let mut arrival = |since: fn(Instant) -> Instant| {
            let before = Instant::now();
            client.send_to(b"ask", address).expect("sent");
            let after = Instant::now();
            std::thread::sleep(Duration::from_millis(10));
            let (now, since, mut arrived) = (Instant::now(), since(after), None);
            udp.handle_unwatched();
            udp.receive(now, since, usize::MAX, |at, _, _, _| arrived = Some(at));
            (before, after, now, since, arrived.expect("it has arrived"))
        };
        // The kernel begins to note when datagrams arrive some time after it was asked to.
        let is_noted = (0..500).any(|_| {
            let (before, after, now, _, arrived) = arrival(|after| after - Duration::from_secs(1));
            assert!(arrived == now || (before - slack <= arrived && arrived <= after + slack), "{:?}", now - arrived);
            arrived < now
        });
        assert_eq!(is_noted, cfg!(target_os = "linux"));
        let (.., since, arrived) = arrival(|after| after + Duration::from_millis(5));
        assert!(since <= arrived, "it can't have arrived before the last turn");
    }

    #[test]
    fn what_a_budget_leaves_is_remembered() {
        let (mut udp, address) = udp("127.0.0.1:0");
        let client = client("127.0.0.1:0");
        let total = 4 * RECEIVE_BATCH;
        for _ in 0..total {
            client.send_to(b"ask", address).expect("sent");
        }
        let mut count = 0;
        udp.receive(Instant::now(), Instant::now(), 1, |_, _, _, _| count += 1);
        assert!(count < total && udp.is_readable());
        udp.receive(Instant::now(), Instant::now(), usize::MAX, |_, _, _, _| count += 1);
        assert_eq!(count, total);
        assert!(!udp.is_readable());
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn what_found_no_room_is_counted() {
        let (mut udp, address) = udp("127.0.0.1:0");
        let client = client("127.0.0.1:0");
        let mut sent = 0;
        for room in [1, 1, SOCKET_BUFFER_BYTES] {
            udp.sockets[0].state.set_recv_buffer_size(UdpSockRef::from(&udp.sockets[0].io), room).expect("set");
            for _ in 0..200 {
                client.send_to(&[0; 100], address).expect("sent");
                sent += 1;
            }
            let overflowed = udp.counters().overflowed;
            udp.handle_readable(0);
            udp.receive(Instant::now(), Instant::now(), usize::MAX, |_, _, _, _| {});
            assert_eq!(udp.counters().received + udp.counters().overflowed, sent);
            assert_eq!(udp.counters().overflowed, overflowed);
        }
        assert!((1..400).contains(&udp.counters().overflowed), "{:?}", udp.counters());
    }

    #[test]
    fn a_warning_comes_once_in_a_while_and_says_how_often() {
        let now = Instant::now();
        let mut warning = Warning::default();
        assert_eq!(warning.due(now, 0), None);
        assert_eq!(warning.due(now, 3), Some(3));
        assert_eq!(warning.due(now + WARNING_INTERVAL / 2, 5), None);
        assert_eq!(warning.due(now + WARNING_INTERVAL, 7), Some(4));
        assert_eq!(warning.due(now + WARNING_INTERVAL * 2, 7), None);
    }

    #[test]
    fn a_buffer_too_small_is_told_with_its_size_and_remedy() {
        let (udp, _) = udp("127.0.0.1:0");
        udp.sockets[0].state.set_recv_buffer_size(UdpSockRef::from(&udp.sockets[0].io), 65_536).expect("set");
        let shortage = udp.sockets[0].receive_buffer_shortage().expect("it is too small");
        assert!(shortage.contains(" 65536 bytes instead of 4194304"), "{shortage}");
        assert!(!cfg!(target_os = "linux") || shortage.contains("net.core.rmem_max=4194304"), "{shortage}");
    }

    #[test]
    fn an_error_that_stays_ends_the_turn() {
        let (mut udp, _) = udp("127.0.0.1:0");
        let no_socket = std::fs::File::open("/dev/null").expect("opened");
        udp.sockets[0].io = UdpSocket::from_std(std::os::fd::OwnedFd::from(no_socket).into());
        udp.receive(Instant::now(), Instant::now(), usize::MAX, |_, _, _, _| panic!("nothing can arrive"));
        assert!(!udp.is_readable());
    }

    #[test]
    fn local_addresses_have_a_limit() {
        let mut locals = Vec::new();
        let local = |number: usize| Local { socket: number, ip: None };
        for number in 0..LOCAL_ADDRESSES {
            assert_eq!(intern(&mut locals, local(number)).map(|id| usize::from(id.0)), Some(number));
        }
        assert_eq!(intern(&mut locals, local(LOCAL_ADDRESSES)), None);
        assert_eq!(intern(&mut locals, local(0)), Some(LocalId(0)), "known ones stay");
    }
}
