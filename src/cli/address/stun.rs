//! The public address of this machine, as a STUN server sees it (RFC 8489).

#![expect(clippy::disallowed_types, clippy::disallowed_methods, reason = "the program asks before it serves")]

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

/// The time between requests, and how many are sent.
const RETRY: Duration = Duration::from_millis(500);
const REQUESTS: u32 = 4;

const HEADER_BYTES: usize = 20;
const BINDING_REQUEST: [u8; 4] = [0x00, 0x01, 0x00, 0x00];
const BINDING_SUCCESS: [u8; 2] = [0x01, 0x01];
const MAGIC_COOKIE: [u8; 4] = [0x21, 0x12, 0xa4, 0x42];
const XOR_MAPPED_ADDRESS: u16 = 0x0020;

/// Asks a STUN server from a socket of its own. The error is a cause, for within a sentence.
pub(super) fn public_address(server: SocketAddr) -> Result<IpAddr, String> {
    let unreachable = |error: io::Error| format!("{server} can't be asked: {error}");
    let any: IpAddr = if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let mut request = [0; HEADER_BYTES];
    request[..4].copy_from_slice(&BINDING_REQUEST);
    request[4..8].copy_from_slice(&MAGIC_COOKIE);
    // Who doesn't see the request can't answer it.
    getrandom::fill(&mut request[8..]).map_err(|error| unreachable(io::Error::other(error)))?;
    let socket = UdpSocket::bind((any, 0)).map_err(unreachable)?;
    socket.connect(server).map_err(unreachable)?;
    for _ in 0..REQUESTS {
        socket.send(&request).map_err(unreachable)?;
        let until = Instant::now() + RETRY;
        while let Some(left) = until.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
            socket.set_read_timeout(Some(left)).map_err(unreachable)?;
            let mut datagram = [0; 1500];
            match socket.recv(&mut datagram) {
                Ok(length) => match mapped_address(&datagram[..length], &request[4..]) {
                    Some(ip) if ip.is_unspecified() => return Err(format!("{server} names no address")),
                    Some(ip) => return Ok(ip.to_canonical()),
                    None => {}
                },
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(unreachable(error)),
            }
        }
    }
    Err(format!("{server} has not answered within {:?}", RETRY * REQUESTS))
}

/// The address in the response to a request with this cookie and transaction.
fn mapped_address(response: &[u8], transaction: &[u8]) -> Option<IpAddr> {
    let (header, mut attributes) = response.split_at_checked(HEADER_BYTES)?;
    if header[..2] != BINDING_SUCCESS || header[4..] != *transaction {
        return None;
    }
    loop {
        let (&[kind_high, kind_low, high, low], rest) = attributes.split_first_chunk()?;
        let length = usize::from(u16::from_be_bytes([high, low]));
        let value = rest.get(..length)?;
        if u16::from_be_bytes([kind_high, kind_low]) == XOR_MAPPED_ADDRESS {
            let address: Vec<u8> = value.get(4..)?.iter().zip(transaction).map(|(byte, with)| byte ^ with).collect();
            return match value[1] {
                1 => <[u8; 4]>::try_from(address).ok().map(IpAddr::from),
                2 => <[u8; 16]>::try_from(address).ok().map(IpAddr::from),
                _ => None,
            };
        }
        attributes = rest.get(length.next_multiple_of(4)..)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A STUN server on this machine, which sends what `answer` makes of a request.
    fn server(answer: impl Fn(&[u8]) -> Vec<Vec<u8>> + Send + 'static) -> SocketAddr {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        std::thread::spawn(move || {
            let mut datagram = [0; 100];
            while let Ok((length, source)) = socket.recv_from(&mut datagram) {
                for response in answer(&datagram[..length]) {
                    socket.send_to(&response, source).unwrap();
                }
            }
        });
        address
    }

    /// A response with these attributes to a request.
    fn response(request: &[u8], attributes: &[u8]) -> Vec<u8> {
        let length = u16::try_from(attributes.len()).unwrap().to_be_bytes();
        [&BINDING_SUCCESS, &length[..], &request[4..], attributes].concat()
    }

    /// 203.0.113.7:32853, with the cookie.
    const ADDRESS: [u8; 12] = [0x00, 0x20, 0, 8, 0, 1, 0xa1, 0x47, 0xea, 0x12, 0xd5, 0x45];
    const IP: IpAddr = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 7));

    #[test]
    fn the_address_that_the_server_sees_is_taken() {
        let software = [0x80, 0x22, 0, 3, b'x', b'y', b'z', 0];
        let behind = [&software[..], &ADDRESS].concat();
        let address = server(move |request| {
            assert_eq!((&request[..8], request.len()), (&b"\x00\x01\x00\x00\x21\x12\xa4\x42"[..], HEADER_BYTES));
            vec![response(request, &behind)]
        });
        assert_eq!(public_address(address), Ok(IP));
    }

    /// That of RFC 5769 §2.3.
    #[test]
    fn an_address_of_ipv6_is_read_as_the_rfc_encodes_it() {
        let transaction = b"\x21\x12\xa4\x42\xb7\xe7\xa7\x01\xbc\x34\xd6\x86\xfa\x87\xdf\xae";
        let attribute = b"\x00\x20\x00\x14\x00\x02\xa1\x47\x01\x13\xa9\xfa\xa5\xd3\xf1\x79\xbc\x25\xf4\xb5\xbe\xd2\
            \xb9\xd9";
        let request = [&[0; 4], &transaction[..]].concat();
        let ip = mapped_address(&response(&request, attribute), transaction);
        assert_eq!(ip, Some("2001:db8:1234:5678:11:2233:4455:6677".parse().unwrap()));
    }

    #[test]
    fn what_does_not_answer_the_request_is_passed_over() {
        let address = server(|request| {
            let good = response(request, &ADDRESS);
            let changed = |at: usize| {
                let mut changed = good.clone();
                changed[at] ^= 1;
                changed
            };
            let cut = (0..good.len()).map(|length| good[..length].to_vec());
            let long = response(request, &[0x80, 0x22, 0xff, 0xff]);
            let other = response(request, &[0, 0x20, 0, 8, 0, 3, 0, 0, 0, 0, 0, 0]);
            let brief = response(request, &[0, 0x20, 0, 5, 0, 1, 0, 0, 0, 0, 0, 0]);
            let empty = response(request, &[0, 0x20, 0, 0]);
            let spoiled = [changed(0), changed(4), changed(19), long, other, brief, empty];
            cut.chain(spoiled).chain([vec![0xff; 1_500], good.clone()]).collect()
        });
        assert_eq!(public_address(address), Ok(IP));
    }

    #[test]
    fn a_request_is_sent_again() {
        let asked = std::sync::atomic::AtomicU32::new(0);
        let address = server(move |request| {
            let is_first = asked.fetch_add(1, std::sync::atomic::Ordering::Relaxed) == 0;
            if is_first { Vec::new() } else { vec![response(request, &ADDRESS)] }
        });
        assert_eq!(public_address(address), Ok(IP));
    }

    #[test]
    fn a_server_that_is_silent_or_absent_or_knows_nothing_is_an_error() {
        let silent = server(|_| Vec::new());
        assert_eq!(public_address(silent), Err(format!("{silent} has not answered within 2s")));
        // One that never falls silent, either.
        let noisy = server(|_| vec![vec![0; 20]; 1_000]);
        public_address(noisy).unwrap_err();
        let nothing = server(|request| vec![response(request, &[0, 0x20, 0, 8, 0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42])]);
        assert_eq!(public_address(nothing), Err(format!("{nothing} names no address")));
        let absent = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let cause = public_address(absent).unwrap_err();
        assert!(cause.starts_with(&format!("{absent} can't be asked: ")), "{cause}");
    }
}
