//! A bad network between two network namespaces: a TUN device in each, and between them a delay, seeded loss and
//! outages. Everything that crosses it suffers the same, TCP and UDP alike.

#![forbid(unsafe_code)]

use std::collections::VecDeque;
use std::error::Error;
use std::fs::{self, File};
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Parser;
use mio::net::UnixDatagram;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use nix::sched::{CloneFlags, setns};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tun_rs::{DeviceBuilder, SyncDevice};

#[derive(Parser)]
struct Arguments {
    /// A process in the network namespace of the server, and the address to give it.
    #[arg(long)]
    server_pid: u32,
    #[arg(long)]
    server_address: Ipv4Addr,
    /// A process in the network namespace of the clients, and the address to give it.
    #[arg(long)]
    client_pid: u32,
    #[arg(long)]
    client_address: Ipv4Addr,
    /// One way.
    #[arg(long)]
    delay_ms: u64,
    #[arg(long)]
    seed: u64,
    /// Datagrams of text to this socket change the link: `loss PERMILLE`, `outage ADDRESS MS`.
    #[arg(long)]
    control: PathBuf,
}

const CONTROL: Token = Token(2);
/// Packets under way; past it they are dropped, as by a router.
const QUEUE: usize = 100_000;

struct Link {
    ends: [SyncDevice; 2],
    delay: Duration,
    loss_permille: u32,
    outage: Option<(Ipv4Addr, Instant)>,
    rng: ChaCha8Rng,
    under_way: VecDeque<(Instant, usize, Vec<u8>)>,
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments = Arguments::parse();
    let ends = [
        open_in(arguments.server_pid, arguments.server_address)?,
        open_in(arguments.client_pid, arguments.client_address)?,
    ];
    let mut poll = Poll::new()?;
    for (index, end) in ends.iter().enumerate() {
        poll.registry().register(&mut SourceFd(&end.as_raw_fd()), Token(index), Interest::READABLE)?;
    }
    let _ = fs::remove_file(&arguments.control);
    let mut control = UnixDatagram::bind(&arguments.control)?;
    poll.registry().register(&mut control, CONTROL, Interest::READABLE)?;
    let mut link = Link {
        ends,
        delay: Duration::from_millis(arguments.delay_ms),
        loss_permille: 0,
        outage: None,
        rng: ChaCha8Rng::seed_from_u64(arguments.seed),
        under_way: VecDeque::new(),
    };
    println!("ready");
    let mut events = Events::with_capacity(16);
    loop {
        let due = link.under_way.front().map(|&(at, ..)| at.saturating_duration_since(Instant::now()));
        match poll.poll(&mut events, due) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error.into()),
            _ => {}
        }
        let now = Instant::now();
        let mut command = [0; 128];
        while let Ok(length) = control.recv(&mut command) {
            let command = String::from_utf8_lossy(&command[..length]).into_owned();
            link.obey(now, &command).ok_or_else(|| format!("{command:?} is no command"))?;
        }
        link.take(now)?;
        link.deliver(now)?;
    }
}

fn open_in(pid: u32, address: Ipv4Addr) -> Result<SyncDevice, Box<dyn Error>> {
    let own = File::open("/proc/self/ns/net")?;
    setns(File::open(format!("/proc/{pid}/ns/net"))?, CloneFlags::CLONE_NEWNET)?;
    let device = DeviceBuilder::new().name("link").ipv4(address, 24, None).mtu(1500).build_sync()?;
    device.set_nonblocking(true)?;
    setns(own, CloneFlags::CLONE_NEWNET)?;
    Ok(device)
}

impl Link {
    fn obey(&mut self, now: Instant, command: &str) -> Option<()> {
        let mut words = command.split_whitespace();
        match words.next()? {
            "loss" => self.loss_permille = words.next()?.parse().ok()?,
            "outage" => {
                let address = words.next()?.parse().ok()?;
                let length = Duration::from_millis(words.next()?.parse().ok()?);
                self.outage = Some((address, now + length));
            }
            _ => return None,
        }
        Some(())
    }

    fn take(&mut self, now: Instant) -> io::Result<()> {
        let mut packet = [0; 2048];
        for from in 0..self.ends.len() {
            loop {
                let length = match self.ends[from].recv(&mut packet) {
                    Ok(length) => length,
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    Err(error) => return Err(error),
                };
                let packet = &packet[..length];
                let is_lost = self.rng.random_range(0..1000) < self.loss_permille;
                if !is_lost && !self.is_cut_off(now, packet) && self.under_way.len() < QUEUE {
                    self.under_way.push_back((now + self.delay, 1 - from, packet.to_vec()));
                }
            }
        }
        Ok(())
    }

    /// Whether an IPv4 packet comes from, or goes to, an address that has an outage.
    fn is_cut_off(&self, now: Instant, packet: &[u8]) -> bool {
        let Some((address, _)) = self.outage.filter(|&(_, until)| now < until) else { return false };
        let octets = address.octets();
        packet.get(12..16) == Some(&octets) || packet.get(16..20) == Some(&octets)
    }

    fn deliver(&mut self, now: Instant) -> io::Result<()> {
        while let Some((_, to, packet)) = self.under_way.pop_front_if(|&mut (at, ..)| at <= now) {
            match self.ends[to].send(&packet) {
                Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }
}
