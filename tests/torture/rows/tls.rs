//! Attackers of a server that speaks TLS, beside a room whose players have come by it.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::process::Child;
use std::sync::Arc;
use std::time::Duration;

use rustls::{ClientConfig, StreamOwned};

use super::Found;
use super::victim::{SETTLING, beside};
use crate::attack::{Attack, Connection, connect};
use crate::tls::{hello, session};
use crate::world::{Failure, SERVER, World, attacker, command};

const OPTIONS: &[&str] = &["--tls-dev"];
/// Connections that an address has open at once.
const OPEN: usize = 40;
const ADDRESSES: usize = 40;
/// How long an attacker waits for the server, which may have closed the connection for good.
const PATIENCE: Duration = Duration::from_millis(200);

pub(super) fn flood(world: &World) -> Result<Found, Failure> {
    handshakes(world, 1)
}

pub(super) fn floods(world: &World) -> Result<Found, Failure> {
    handshakes(world, ADDRESSES)
}

/// Connections that send the same first flight again and again, which costs them nothing, and leave once the server has
/// signed.
fn handshakes(world: &World, addresses: usize) -> Result<Found, Failure> {
    beside(world, OPTIONS, "handshakes", SETTLING, |trust| {
        let hello = hello(trust.as_ref().ok_or("the server does not speak TLS")?)?;
        let mut connections: Vec<Option<Connection>> = (0..addresses * OPEN).map(|_| None).collect();
        Ok(Attack::start(move || {
            let mut signed = 0;
            for (number, connection) in connections.iter_mut().enumerate() {
                match connection.as_mut().map(Connection::read) {
                    Some(Ok(false)) => {}
                    ended => {
                        signed += u64::from(matches!(ended, Some(Ok(true))));
                        let open = Connection::open(attacker(number / OPEN));
                        *connection = open.and_then(|mut open| open.send(&hello).map(|_| open)).ok();
                    }
                }
            }
            std::thread::sleep(Duration::from_millis(1));
            signed
        }))
    })
}

/// Connections that break off, and that send what no client sends.
pub(super) fn garbage(world: &World) -> Result<Found, Failure> {
    beside(world, OPTIONS, "connections", SETTLING, |trust| {
        let config = Arc::clone(trust.as_ref().ok_or("the server does not speak TLS")?);
        let hello = hello(&config)?;
        let garbage = [&hello[..], &[0xff; 16 * 1024]].concat();
        // A record that is longer than any may be (RFC 8446 §5.1), and one that brings a handshake message of 16 MiB.
        let long = [&[0x16, 3, 1, 0xff, 0xff][..], &[0; 64 * 1024]].concat();
        let endless = [0x16, 3, 1, 0x40, 0, 1, 0xff, 0xff, 0xff].into_iter().chain([0; 16_380]).collect::<Vec<u8>>();
        let plaintext = format!("GET / HTTP/1.1\r\nHost: {SERVER}\r\n\r\n").into_bytes();
        let mut held = Vec::new();
        let mut number = 0;
        Ok(Attack::start(move || {
            number = (number + 1) % (ADDRESSES * OPEN);
            let address = number % ADDRESSES;
            let half = &hello[..hello.len() / 2];
            for bytes in [half, &hello, &garbage, &long, &endless, &plaintext] {
                let open = Connection::open(attacker(address));
                held.extend(open.and_then(|mut open| open.send(bytes).map(|_| open)));
            }
            if held.len() > ADDRESSES * OPEN {
                held.drain(..held.len() / 2);
            }
            // The server's end of these is part of what it must survive.
            let _ = greet_again(address, &config, &hello);
            let _ = change_keys(address, &config);
            std::thread::sleep(Duration::from_millis(1));
            8
        }))
    })
}

type Session = StreamOwned<rustls::ClientConnection, TcpStream>;

/// A connection whose handshake is done.
fn open(address: usize, config: &Arc<ClientConfig>) -> Result<Session, Failure> {
    let socket = connect(attacker(address), None)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.set_write_timeout(Some(PATIENCE))?;
    let mut stream = StreamOwned::new(session(config)?, socket);
    while stream.conn.is_handshaking() {
        stream.conn.complete_io(&mut stream.sock)?;
    }
    Ok(stream)
}

/// Begins a second handshake in plaintext.
fn greet_again(address: usize, config: &Arc<ClientConfig>, hello: &[u8]) -> Result<(), Failure> {
    let mut stream = open(address, config)?;
    stream.sock.write_all(hello)?;
    while stream.read(&mut [0; 1024])? > 0 {}
    Ok(())
}

/// Asks for new keys again and again (RFC 8446 §4.6.3).
fn change_keys(address: usize, config: &Arc<ClientConfig>) -> Result<(), Failure> {
    let mut stream = open(address, config)?;
    for _ in 0..100 {
        stream.conn.refresh_traffic_keys()?;
        while stream.conn.wants_write() {
            stream.conn.write_tls(&mut stream.sock)?;
        }
    }
    match stream.read(&mut [0; 1024]) {
        Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error.into()),
        _ => Ok(()),
    }
}

/// Asks for renegotiation, which TLS had until version 1.2, on connections of OpenSSL.
pub(super) fn renegotiation(world: &World) -> Result<Found, Failure> {
    const SCRIPT: &str = include_str!("renegotiation.mjs");
    beside(world, OPTIONS, "requests", SETTLING, |_| {
        let mut node = command(&["node", "--input-type=module", "--eval", SCRIPT]);
        node.args([SERVER.ip().to_string(), SERVER.port().to_string(), attacker(0).to_string()]);
        let mut node = Killed(node.stdout(std::process::Stdio::piped()).spawn()?);
        let mut stdout = node.0.stdout.take().ok_or("no standard output")?;
        Ok(Attack::start(move || {
            let _running = &node;
            // A byte for each request.
            let mut bytes = [0; 1024];
            let asked = stdout.read(&mut bytes).unwrap_or_default();
            if asked == 0 {
                std::thread::sleep(Duration::from_millis(100));
            }
            asked as u64
        }))
    })
}

/// A process, killed when dropped.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
