//! Players: the native client with sockets of its own, which notes when the kernel got what it brings.

use std::io::{self, ErrorKind, IoSliceMut};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant, SystemTime};

use nix::sys::socket::{ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, setsockopt, sockopt};
use rtcade::client::{Client, Config, Event, Message};
use rtcade::peer::LocalId;

use super::attack::connect;
use super::tls::{Stream, Trust};
use super::world::{Failure, SERVER};

const LOCAL: LocalId = LocalId(0);
const HANDSHAKE_PATIENCE: Duration = Duration::from_secs(10);
/// Between two looks at the sockets. It is in no figure: datagrams bear the time at which the kernel got them.
pub(super) const TURN: Duration = Duration::from_millis(1);

pub(super) struct Player {
    pub(super) client: Client,
    source: IpAddr,
    room: String,
    trust: Trust,
    websocket: Option<tungstenite::WebSocket<Stream>>,
    udp: UdpSocket,
}

impl Player {
    /// Asks to join a room.
    pub(super) fn join(source: IpAddr, room: &str, seed: u64, trust: &Trust) -> Result<Player, Failure> {
        let udp = UdpSocket::bind((source, 0))?;
        udp.set_nonblocking(true)?;
        setsockopt(&udp, sockopt::ReceiveTimestampns, &true)?;
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&seed.to_be_bytes());
        let mut config = Config::new(bytes);
        config.name = "honest".to_owned();
        config.locals = vec![udp.local_addr()?];
        let client = Client::new(config, Instant::now());
        let mut player = Player { client, source, room: room.to_owned(), trust: trust.clone(), websocket: None, udp };
        player.dial();
        Ok(player)
    }

    fn dial(&mut self) {
        let dialled = dial(self.source, &self.room, &self.trust);
        if let Err(error) = &dialled {
            self.client.handle_disconnect(Instant::now(), 1006, &error.to_string());
        }
        self.websocket = dialled.ok();
    }

    /// Takes in what has arrived and sends what is due. What happens goes to `take`, with the time since the epoch at
    /// which the kernel had it.
    pub(super) fn turn(&mut self, mut take: impl FnMut(Duration, Event)) -> Result<(), Failure> {
        let now = Instant::now();
        let mut datagram = [0; 2048];
        while let Some((received, source, length)) = receive(&self.udp, &mut datagram)? {
            self.client.handle_datagram(now, LOCAL, source, &datagram[..length]);
            while let Some(event) = self.client.poll_event() {
                take(received, event);
            }
        }
        self.read_websocket(now);
        if self.client.poll_timeout().is_some_and(|at| at <= now) {
            self.client.handle_timeout(now);
        }
        self.send();
        while let Some(event) = self.client.poll_event() {
            take(SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?, event);
        }
        Ok(())
    }

    fn read_websocket(&mut self, now: Instant) {
        while let Some(websocket) = &mut self.websocket {
            match websocket.read() {
                Ok(tungstenite::Message::Text(text)) => self.client.handle_text(now, &text),
                Ok(tungstenite::Message::Binary(bytes)) => self.client.handle_binary(now, &bytes),
                Ok(tungstenite::Message::Close(frame)) => {
                    let (code, reason) = frame.map_or((1005, String::new()), |f| (f.code.into(), f.reason.to_string()));
                    self.lose(now, code, &reason);
                }
                Ok(_) => {}
                Err(tungstenite::Error::Io(error)) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) => self.lose(now, 1006, &error.to_string()),
            }
        }
    }

    fn lose(&mut self, now: Instant, code: u16, reason: &str) {
        self.websocket = None;
        self.client.handle_disconnect(now, code, reason);
    }

    fn send(&mut self) {
        while let Some(message) = self.client.poll_message() {
            let message = match message {
                Message::Connect(_) => {
                    self.dial();
                    continue;
                }
                Message::Text(text) => tungstenite::Message::text(text),
                Message::Binary(bytes) => tungstenite::Message::binary(bytes),
                Message::Close => tungstenite::Message::Close(None),
            };
            if let Some(websocket) = &mut self.websocket {
                // A broken one shows when it is read.
                let _ = websocket.send(message);
            }
        }
        while let Some(transmit) = self.client.poll_transmit() {
            let _ = self.udp.send_to(transmit.bytes, transmit.destination);
        }
    }
}

fn dial(source: IpAddr, room: &str, trust: &Trust) -> Result<tungstenite::WebSocket<Stream>, Failure> {
    let tcp = connect(source, None)?;
    tcp.set_read_timeout(Some(HANDSHAKE_PATIENCE))?;
    let stream = Stream::new(tcp, trust)?;
    let scheme = if trust.is_some() { "wss" } else { "ws" };
    let (websocket, _) = tungstenite::client(format!("{scheme}://{SERVER}/r/{room}"), stream)?;
    websocket.get_ref().socket().set_nonblocking(true)?;
    Ok(websocket)
}

/// The next datagram, if there is one: when the kernel got it, from where, and its length.
fn receive(udp: &UdpSocket, buffer: &mut [u8]) -> Result<Option<(Duration, SocketAddr, usize)>, Failure> {
    let mut control = nix::cmsg_space!(nix::sys::time::TimeSpec);
    let mut slices = [IoSliceMut::new(buffer)];
    let received = match recvmsg::<SockaddrStorage>(udp.as_raw_fd(), &mut slices, Some(&mut control), MsgFlags::empty())
    {
        Ok(received) => received,
        Err(nix::errno::Errno::EAGAIN) => return Ok(None),
        Err(error) => return Err(io::Error::from(error).into()),
    };
    let stamp = received.cmsgs()?.find_map(|message| match message {
        ControlMessageOwned::ScmTimestampns(stamp) => Some(Duration::from(stamp)),
        _ => None,
    });
    let source = received.address.and_then(|address| {
        let address = address.as_sockaddr_in()?;
        Some(SocketAddr::new(address.ip().into(), address.port()))
    });
    Ok(Some((stamp.ok_or("no timestamp")?, source.ok_or("no source address")?, received.bytes)))
}
