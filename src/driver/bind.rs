//! Opening the sockets of a server.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use mio::net::{TcpListener, UdpSocket};
use nix::net::if_::InterfaceFlags;
use socket2::{Domain, Protocol, SockRef, Socket, Type};

use super::{BindError, service, tcp};

/// How often to try another port if the OS has picked one that is free for TCP but not for UDP.
const PORT_ATTEMPTS: usize = 16;
const LISTEN_BACKLOG: i32 = 1024;
/// Sockets of one kind: one for each version of IP.
const FAMILIES: usize = 2;
const LISTEN: &str = "--listen";
const UDP: &str = "--udp";

/// The sockets of a server: those of one kind share their port number.
#[derive(Debug)]
pub(super) struct Sockets {
    pub(super) tcp: Vec<TcpListener>,
    pub(super) udp: Vec<UdpSocket>,
}

/// Listens on `listen`, and for datagrams there too unless `udp` names another address. A wildcard address stands
/// for those of both families. Sockets that the service manager has opened take the place of those of `listen`.
pub(super) fn bind(listen: SocketAddr, udp: Option<SocketAddr>) -> Result<Sockets, BindError> {
    let (tcp, datagrams) = service::take_sockets()?;
    if !tcp.is_empty() || !datagrams.is_empty() {
        return activated(tcp, datagrams, udp);
    }
    let mut attempts = if listen.port() == 0 { PORT_ATTEMPTS } else { 1 };
    loop {
        attempts -= 1;
        match bind_once(listen, udp) {
            Err(BindError::Address { source, .. }) if source.kind() == io::ErrorKind::AddrInUse && attempts > 0 => {}
            done => return done,
        }
    }
}

/// The sockets that the service manager has opened; those for datagrams are opened beside them if there are none.
fn activated(
    tcp: Vec<TcpListener>,
    mut datagrams: Vec<UdpSocket>,
    udp: Option<SocketAddr>,
) -> Result<Sockets, BindError> {
    let Some(first) = tcp.first() else {
        return Err(BindError::Passed("it has opened no TCP socket: add ListenStream to the socket unit"));
    };
    if tcp.len().max(datagrams.len()) > FAMILIES {
        return Err(BindError::Passed("it has opened more than two sockets of one kind: open one per version of IP"));
    }
    for socket in &datagrams {
        // Datagrams to an IPv4 address can't be sent on such a socket by that address.
        let is_for_both = socket.local_addr()?.is_ipv6() && !SockRef::from(socket).only_v6()?;
        if is_for_both {
            return Err(BindError::Passed(
                "it has opened a UDP socket for both versions of IP: set BindIPv6Only=ipv6-only in the unit, and open \
                one for each",
            ));
        }
    }
    for listener in &tcp {
        tcp::set_options(SockRef::from(listener))?;
    }
    if datagrams.is_empty() {
        let (option, address) = udp.map_or((LISTEN, first.local_addr()?), |udp| (UDP, udp));
        let sockets = bind_families(option, address, Type::DGRAM)?;
        datagrams.extend(sockets.into_iter().map(|socket| UdpSocket::from_std(socket.into())));
    } else if let Some(address) = udp {
        log::warn!("{UDP} {address} is not used, because the service manager has opened a UDP socket");
    }
    Ok(Sockets { tcp, udp: datagrams })
}

fn bind_once(listen: SocketAddr, udp: Option<SocketAddr>) -> Result<Sockets, BindError> {
    let tcp = listeners(LISTEN, listen)?;
    let port = tcp[0].local_addr()?.port();
    let (option, udp) = udp.map_or((LISTEN, SocketAddr::new(listen.ip(), port)), |udp| (UDP, udp));
    let udp = bind_families(option, udp, Type::DGRAM)?;
    Ok(Sockets { tcp, udp: udp.into_iter().map(|socket| UdpSocket::from_std(socket.into())).collect() })
}

/// Listens on a TCP address that this option gives.
///
/// # Errors
/// [`BindError::Address`].
pub(super) fn listeners(option: &'static str, address: SocketAddr) -> Result<Vec<TcpListener>, BindError> {
    let sockets = bind_families(option, address, Type::STREAM)?;
    Ok(sockets.into_iter().map(|socket| TcpListener::from_std(socket.into())).collect())
}

/// Opens sockets for the datagrams of an address that this option gives.
///
/// # Errors
/// [`BindError::Address`].
#[cfg(all(feature = "cluster", target_os = "linux"))]
pub(super) fn datagrams(option: &'static str, address: SocketAddr) -> Result<Vec<Socket>, BindError> {
    let mut attempts = if address.port() == 0 { PORT_ATTEMPTS } else { 1 };
    loop {
        attempts -= 1;
        match bind_families(option, address, Type::DGRAM) {
            Err(BindError::Address { source, .. }) if source.kind() == io::ErrorKind::AddrInUse && attempts > 0 => {}
            done => return done,
        }
    }
}

/// A socket on `address` and, if that is a wildcard, one on the wildcard of the other family with the same port.
fn bind_families(option: &'static str, address: SocketAddr, kind: Type) -> Result<Vec<Socket>, BindError> {
    let first = bind_socket(address, kind).map_err(|source| BindError::Address { option, address, source })?;
    let mut sockets = vec![first];
    if address.ip().is_unspecified() {
        let other: IpAddr = if address.is_ipv4() { Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::UNSPECIFIED.into() };
        let port = sockets[0].local_addr().ok().and_then(|address| address.as_socket()).map(|address| address.port());
        let other = SocketAddr::new(other, port.unwrap_or(address.port()));
        match bind_socket(other, kind) {
            Ok(socket) => sockets.push(socket),
            Err(source) if source.kind() == io::ErrorKind::AddrInUse => {
                return Err(BindError::Address { option, address: other, source });
            }
            Err(error) => log::info!("not listening on {other}: {error}"),
        }
    }
    Ok(sockets)
}

fn bind_socket(address: SocketAddr, kind: Type) -> io::Result<Socket> {
    let protocol = if kind == Type::STREAM { Protocol::TCP } else { Protocol::UDP };
    let socket = Socket::new(Domain::for_address(address), kind, Some(protocol))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    if kind == Type::STREAM {
        // Connections of a server that has just stopped must not block the port.
        socket.set_reuse_address(true)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    if kind == Type::STREAM {
        tcp::set_options(SockRef::from(&socket))?;
        socket.listen(LISTEN_BACKLOG)?;
    }
    Ok(socket)
}

/// The addresses under which this machine's sockets on `bound` are reached: those of the network first, loopback last.
///
/// # Errors
/// The OS doesn't report its addresses.
pub(super) fn interfaces(bound: &[IpAddr]) -> io::Result<Vec<IpAddr>> {
    let specific: Vec<IpAddr> = bound.iter().copied().filter(|ip| !ip.is_unspecified()).collect();
    if !specific.is_empty() {
        return Ok(specific);
    }
    let mut addresses = Vec::new();
    for interface in nix::ifaddrs::getifaddrs()?.filter(|interface| interface.flags.contains(InterfaceFlags::IFF_UP)) {
        let Some(address) = interface.address else { continue };
        let ip: IpAddr = match (address.as_sockaddr_in(), address.as_sockaddr_in6()) {
            (Some(address), _) => address.ip().into(),
            (_, Some(address)) => address.ip().into(),
            _ => continue,
        };
        let bound = bound.iter().any(|bound| bound.is_ipv4() == ip.is_ipv4());
        if bound && !is_link_local(ip) && !addresses.contains(&ip) {
            addresses.push(ip);
        }
    }
    addresses.sort_by_key(|ip| (ip.is_loopback(), ip.is_ipv6()));
    Ok(addresses)
}

fn is_link_local(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    }
}

/// Whether the address is reached from the same machine or network only.
pub(super) fn is_private(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => {
            let shared = ip.octets()[0] == 100 && ip.octets()[1] & 0b1100_0000 == 64;
            ip.is_private() || ip.is_loopback() || ip.is_link_local() || shared
        }
        IpAddr::V6(ip) => ip.is_loopback() || ip.is_unique_local() || ip.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> SocketAddr {
        text.parse().expect("an address")
    }

    fn ports(sockets: &Sockets) -> (Vec<u16>, Vec<u16>) {
        let tcp = sockets.tcp.iter().map(|socket| socket.local_addr().expect("bound").port()).collect();
        let udp = sockets.udp.iter().map(|socket| socket.local_addr().expect("bound").port()).collect();
        (tcp, udp)
    }

    #[test]
    fn all_sockets_share_a_picked_port() {
        for listen in ["127.0.0.1:0", "0.0.0.0:0"] {
            let (tcp, udp) = ports(&bind(address(listen), None).expect("bound"));
            assert_ne!(tcp[0], 0);
            assert!(tcp.iter().chain(&udp).all(|port| *port == tcp[0]), "{tcp:?} {udp:?}");
        }
    }

    #[test]
    fn udp_may_stand_elsewhere() {
        let sockets = bind(address("0.0.0.0:0"), Some(address("127.0.0.1:0"))).expect("bound");
        assert_eq!(sockets.udp.len(), 1, "a specific address is one socket");
        assert!(sockets.udp[0].local_addr().expect("bound").ip().is_loopback());
    }

    #[test]
    fn a_taken_port_is_an_error_for_tcp_and_udp() {
        let taken = bind(address("127.0.0.1:0"), None).expect("bound");
        let taken_tcp = taken.tcp[0].local_addr().expect("bound");
        let error = bind(taken_tcp, None).expect_err("taken").to_string();
        assert!(error.contains("in use") && error.contains(&taken_tcp.to_string()), "{error}");
        drop(taken.tcp);
        let error = bind(taken_tcp, None).expect_err("its UDP port is taken still").to_string();
        assert!(error.contains("--listen ADDR:PORT"), "{error}");
        let error = bind(address("127.0.0.1:0"), Some(taken_tcp)).expect_err("taken").to_string();
        assert!(error.contains("--udp ADDR:PORT"), "{error}");
    }

    #[test]
    fn a_specific_address_is_the_only_interface() {
        let ip = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 9));
        assert_eq!(interfaces(&[ip]).expect("no question to the OS"), [ip]);
    }

    #[test]
    fn loopback_stands_behind_the_network() {
        let all = interfaces(&[Ipv4Addr::UNSPECIFIED.into()]).expect("read");
        assert!(all.iter().all(IpAddr::is_ipv4), "IPv6 is not bound: {all:?}");
        assert!(all.is_sorted_by_key(|ip| ip.is_loopback()), "{all:?}");
    }

    #[test]
    fn private_addresses_are_told_from_public_ones() {
        for (ip, private) in [
            ("127.0.0.1", true),
            ("10.1.2.3", true),
            ("172.31.0.1", true),
            ("192.168.1.2", true),
            ("100.64.0.1", true),
            ("100.128.0.1", false),
            ("203.0.113.7", false),
            ("::1", true),
            ("fd00::1", true),
            ("::ffff:10.1.2.3", true),
            ("::ffff:203.0.113.7", false),
            ("2001:db8::1", false),
        ] {
            assert_eq!(is_private(ip.parse().expect("an address")), private, "{ip}");
        }
    }
}
