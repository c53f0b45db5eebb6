//! The clients of all servers: one thread, sockets of their own, inputs at the rate of the server's ticks. Prints what
//! it measured as JSON.

#![forbid(unsafe_code)]

mod connection;
mod measure;
mod stream;

use std::collections::BTreeMap;
use std::error::Error;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::AsFd;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::{Duration, Instant};

use clap::{Args, Parser, Subcommand};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use rtcade_peers::{ROOM_PLAYERS, clock_us, stamp_of};
use serde_json::{Value, json};

use connection::{Connection, Input, Protocol, Target, Task, blend};
use measure::{Histogram, Process, Traffic};
use stream::Tls;

#[derive(Parser)]
struct CommandLine {
    #[command(subcommand)]
    scenario: Scenario,
}

#[derive(Subcommand)]
enum Scenario {
    /// Everybody plays: cost, memory, what is delivered.
    Steady(Common),
    /// The link loses packets: how old what a player sees is.
    Loss {
        #[command(flatten)]
        common: Common,
        /// Control socket of the link.
        #[arg(long)]
        link: PathBuf,
        /// Of a thousand packets, each way.
        #[arg(long)]
        permille: u32,
    },
    /// Bytes of IP packets on the link, which may lose some of them.
    Wire {
        #[command(flatten)]
        common: Common,
        #[arg(long)]
        link: PathBuf,
        #[arg(long)]
        permille: u32,
    },
    /// Half of the clients are cut off for a while.
    Outage {
        #[command(flatten)]
        common: Common,
        #[arg(long)]
        link: PathBuf,
        /// Address of that half.
        #[arg(long)]
        cut_off: Ipv4Addr,
        #[arg(long)]
        outage_ms: u64,
    },
}

#[derive(Args, Clone)]
struct Common {
    #[arg(long, value_enum)]
    protocol: Protocol,
    #[arg(long, value_enum, default_value = "opaque")]
    task: Task,
    /// The websockets of the server are encrypted.
    #[arg(long)]
    tls: bool,
    #[arg(long)]
    server: SocketAddr,
    /// The server's process.
    #[arg(long)]
    pid: u32,
    #[arg(long)]
    clients: usize,
    #[arg(long, default_value_t = 33)]
    tick_ms: u64,
    #[arg(long, default_value_t = 50.0)]
    joins_per_second: f64,
    #[arg(long, default_value_t = 2.0)]
    warm_up: f64,
    /// Seconds of measuring.
    #[arg(long)]
    window: f64,
    /// Seconds that joining may take beyond its pace.
    #[arg(long, default_value_t = 20.0)]
    patience: f64,
    #[arg(long, default_value = "127.0.0.1")]
    local: IpAddr,
}

/// A message older than that is stale.
const STALE_US: u64 = 200_000;
/// The generator had fallen behind, and its server may have looked worse than it is: inputs were this late at the 99th
/// percentile, or the generator used this share of a core.
const UNFIT_LATE_MS: f64 = 5.0;
const UNFIT_CPU_SHARE: f64 = 0.9;
/// What is due in the same millisecond is done at once.
const GRID: Duration = Duration::from_millis(1);
const CONNECTED: u64 = u64::MAX;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Due {
    Connect,
    Input,
    Timeout,
}

/// What the clients got, since it was last reset.
#[derive(Default)]
struct Seen {
    messages: u64,
    inputs: u64,
    skipped_inputs: u64,
    lateness: Histogram,
    ages: Histogram,
    /// Per client, of each message: when it came and when it was made. Kept where somebody looks at single ones.
    arrivals: Option<Vec<Vec<(u64, u64)>>>,
    /// Of one client per room: when its messages were made.
    stamps: Vec<Vec<u64>>,
}

impl Seen {
    fn arrive(&mut self, number: usize, message: &[u8], task: Task) {
        if task != Task::Opaque {
            self.messages += 1;
            return;
        }
        let Some(made) = stamp_of(message) else { return };
        let now = clock_us();
        self.messages += 1;
        self.ages.add(now.saturating_sub(made), 1);
        if let Some(arrivals) = &mut self.arrivals {
            arrivals[number].push((now, made));
        }
        if number.is_multiple_of(ROOM_PLAYERS) {
            let room = number / ROOM_PLAYERS;
            if self.stamps.len() <= room {
                self.stamps.resize(room + 1, Vec::new());
            }
            self.stamps[room].push(made);
        }
    }

    /// How late the ticks were, against the grid of their room, whose earliest tick counts as punctual.
    fn tick_lateness(&self, tick: Duration) -> Histogram {
        let tick_us = tick.as_micros() as f64;
        let mut lateness = Histogram::default();
        for stamps in &self.stamps {
            let Some(&first) = stamps.first() else { continue };
            let offset = |&made: &u64| {
                let since = made as f64 - first as f64;
                since - (since / tick_us).round() * tick_us
            };
            let earliest = stamps.iter().map(offset).fold(f64::INFINITY, f64::min);
            for stamp in stamps {
                lateness.add((offset(stamp) - earliest) as u64, 1);
            }
        }
        lateness
    }
}

struct Player {
    connection: Connection,
    started: Instant,
    /// Deadline for which a task is in the queue.
    armed: Option<Instant>,
    opened: bool,
}

struct Load {
    common: Common,
    tls: Option<Tls>,
    cipher: Option<String>,
    epoll: Epoll,
    waker: Arc<EventFd>,
    start: Instant,
    players: Vec<Option<Player>>,
    /// What is to be done for which player, by the moments of the grid.
    due: BTreeMap<Instant, Vec<(Due, usize)>>,
    connected: Receiver<(usize, Instant, Result<Connection, String>)>,
    connector: Sender<(usize, Instant, Result<Connection, String>)>,
    /// The addresses that clients take turns with.
    locals: Vec<IpAddr>,
    open: usize,
    failures: Vec<String>,
    openings: Histogram,
    seen: Seen,
}

impl Load {
    fn new(common: Common, locals: Vec<IpAddr>) -> Result<Load, Box<dyn Error>> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        let waker = Arc::new(EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?);
        epoll.add(&*waker, EpollEvent::new(EpollFlags::EPOLLIN | EpollFlags::EPOLLET, CONNECTED))?;
        let tls = common.tls.then(|| Tls::new(&common.server.ip().to_string()));
        let (connector, connected) = mpsc::channel();
        Ok(Load {
            players: (0..common.clients).map(|_| None).collect(),
            common,
            tls: tls.transpose().map_err(|error| error.to_string())?,
            cipher: None,
            epoll,
            waker,
            start: Instant::now(),
            due: BTreeMap::new(),
            connected,
            connector,
            locals,
            open: 0,
            failures: Vec::new(),
            openings: Histogram::default(),
            seen: Seen::default(),
        })
    }

    /// Plays until then, or until `done`.
    fn run(&mut self, until: Instant, done: impl Fn(&Load) -> bool) -> io::Result<()> {
        let mut events = vec![EpollEvent::empty(); 1024];
        let mut now = Instant::now();
        while now < until && !done(self) {
            let soonest = self.due.first_key_value().map_or(until, |(&at, _)| at.min(until));
            let wait = soonest.saturating_duration_since(now).as_nanos().div_ceil(1_000_000);
            let wait = EpollTimeout::from(u16::try_from(wait).unwrap_or(u16::MAX));
            let count = match self.epoll.wait(&mut events, wait) {
                Err(nix::Error::EINTR) => 0,
                result => result?,
            };
            now = Instant::now();
            for event in &events[..count] {
                if event.data() == CONNECTED {
                    let _ = self.waker.read();
                    self.take_connected(now)?;
                    continue;
                }
                let number = (event.data() / 2) as usize;
                if let Some(player) = &mut self.players[number] {
                    let mut arrived = |message: &[u8]| self.seen.arrive(number, message, self.common.task);
                    match event.data() % 2 {
                        0 => player.connection.read_datagram(now, &mut arrived),
                        _ => player.connection.read_websocket(now, &mut arrived),
                    }
                    self.note(now, number);
                }
            }
            now = Instant::now();
            let due_by = now;
            while let Some(entry) = self.due.first_entry()
                && *entry.key() <= due_by
            {
                let (at, due) = entry.remove_entry();
                for (due, number) in due {
                    self.perform(now, at, due, number);
                }
                now = Instant::now();
            }
        }
        Ok(())
    }

    /// The next moment of the grid.
    fn on_grid(&self, at: Instant) -> Instant {
        let steps = at.saturating_duration_since(self.start).as_nanos().div_ceil(GRID.as_nanos());
        self.start + GRID * u32::try_from(steps).unwrap_or(u32::MAX)
    }

    fn plan(&mut self, at: Instant, due: Due, number: usize) {
        self.due.entry(at).or_default().push((due, number));
    }

    fn perform(&mut self, now: Instant, at: Instant, due: Due, number: usize) {
        let tick = Duration::from_millis(self.common.tick_ms);
        let task = self.common.task;
        if due == Due::Connect {
            let target = Target {
                protocol: self.common.protocol,
                task,
                server: self.common.server,
                local: self.locals[number % self.locals.len()],
                tls: self.tls.clone(),
                number,
            };
            let (connector, waker) = (self.connector.clone(), Arc::clone(&self.waker));
            thread::spawn(move || {
                let connection = Connection::connect(&target);
                let _ = connector.send((number, now, connection.map_err(|error| error.to_string())));
                let _ = waker.write(1);
            });
            return;
        }
        let Some(player) = &mut self.players[number] else { return };
        let mut arrived = |message: &[u8]| self.seen.arrive(number, message, task);
        if due == Due::Input {
            player.connection.send(now, input_of(task, number), &mut arrived);
            self.seen.inputs += 1;
            self.seen.lateness.add(u64::try_from((now - at).as_micros()).unwrap_or(u64::MAX), 1);
            let mut next = at + tick;
            while next + tick <= now {
                next += tick;
                self.seen.skipped_inputs += 1;
            }
            self.plan(next, Due::Input, number);
        } else if player.armed == Some(at) {
            player.armed = None;
            player.connection.handle_timeout(now, &mut arrived);
        }
        self.note(now, number);
    }

    fn take_connected(&mut self, now: Instant) -> io::Result<()> {
        let connected: Vec<_> = self.connected.try_iter().collect();
        for (number, started, connection) in connected {
            let connection = match connection {
                Ok(connection) => connection,
                Err(error) => {
                    self.failures.push(error);
                    continue;
                }
            };
            self.cipher = self.cipher.take().or_else(|| connection.cipher());
            let token = number as u64 * 2;
            if let Some(udp) = &connection.udp {
                // One datagram is read at a time: no system call says that there is none.
                self.epoll.add(udp.as_fd(), EpollEvent::new(EpollFlags::EPOLLIN, token))?;
            }
            if let Some(tcp) = connection.tcp() {
                let flags = EpollFlags::EPOLLIN | EpollFlags::EPOLLOUT | EpollFlags::EPOLLET;
                self.epoll.add(tcp.as_fd(), EpollEvent::new(flags, token + 1))?;
            }
            let player = self.players[number].insert(Player { connection, started, armed: None, opened: false });
            // For what it has to send first, and what came before it was listened to.
            let mut arrived = |message: &[u8]| self.seen.arrive(number, message, self.common.task);
            player.connection.read_websocket(now, &mut arrived);
            player.connection.handle_timeout(now, &mut arrived);
            self.note(now, number);
        }
        Ok(())
    }

    /// After anything happened to a client.
    fn note(&mut self, now: Instant, number: usize) {
        let Some(player) = &mut self.players[number] else { return };
        if let Some(why) = player.connection.closed() {
            self.failures.push(why.to_owned());
            self.open -= usize::from(player.opened);
            self.players[number] = None;
            return;
        }
        if player.connection.is_open() && !player.opened {
            player.opened = true;
            self.open += 1;
            self.openings.add(u64::try_from((now - player.started).as_micros()).unwrap_or(u64::MAX), 1);
            // Inputs are spread over the tick: an irrational step never bunches them.
            let phase = (number as f64 * 0.618_033_988_75).fract() * self.common.tick_ms as f64 / 1000.0;
            let first = self.on_grid(now + Duration::from_secs_f64(phase));
            self.plan(first, Due::Input, number);
        }
        let Some(deadline) = self.players[number].as_ref().and_then(|player| player.connection.deadline()) else {
            return;
        };
        let deadline = self.on_grid(deadline.max(now));
        if let Some(player) = &mut self.players[number]
            && player.armed.is_none_or(|armed| deadline < armed)
        {
            player.armed = Some(deadline);
            self.plan(deadline, Due::Timeout, number);
        }
    }

    fn play(&mut self, seconds: f64) -> io::Result<()> {
        self.run(Instant::now() + Duration::from_secs_f64(seconds), |_| false)
    }

    /// Lets all in at their pace; how long that took.
    fn join(&mut self) -> io::Result<f64> {
        let start = Instant::now();
        let pace = 1.0 / self.common.joins_per_second;
        for number in 0..self.common.clients {
            let at = start + Duration::from_secs_f64(number as f64 * pace);
            self.plan(self.on_grid(at), Due::Connect, number);
        }
        let patience = self.common.clients as f64 * pace + self.common.patience;
        let wanted = self.common.clients;
        self.run(start + Duration::from_secs_f64(patience), |load| load.open + load.failures.len() >= wanted)?;
        Ok(start.elapsed().as_secs_f64())
    }

    /// Of the messages that the clients should have got.
    fn delivered(&self, seconds: f64) -> f64 {
        let expected = self.common.clients as f64 * seconds * 1000.0 / self.common.tick_ms as f64;
        self.seen.messages as f64 / expected
    }

    fn generator(&self, cpu_ns: u64, seconds: f64) -> Value {
        let cpu_share = cpu_ns as f64 / 1e9 / seconds;
        let lateness = self.seen.lateness.percentiles();
        json!({
            "cpu_share": cpu_share,
            "unfit": lateness.p99 > UNFIT_LATE_MS || self.seen.skipped_inputs > 0 || cpu_share > UNFIT_CPU_SHARE,
            "inputs": self.seen.inputs,
            "inputs_late_ms": lateness,
            "inputs_skipped_share": share(self.seen.skipped_inputs, self.seen.inputs + self.seen.skipped_inputs),
        })
    }

    fn joined(&self) -> Value {
        let mut failures = self.failures.clone();
        failures.sort();
        failures.dedup();
        failures.truncate(5);
        json!({
            "clients": self.common.clients,
            "joined": self.open,
            "failures": failures,
            "open_ms": self.openings.percentiles(),
            "tls": self.cipher,
        })
    }
}

/// What a player does now.
fn input_of(task: Task, number: usize) -> Input {
    let now_us = clock_us();
    if task == Task::Opaque {
        return Input::Opaque(blend(now_us ^ number as u64));
    }
    // It walks in one direction for half a second, or stands, which it does in three of ten.
    let chosen = blend((now_us / 500_000) << 16 ^ number as u64);
    let heading = u16::from_le_bytes([chosen[0], chosen[1]]) % 360;
    Input::Walk { heading, moving: chosen[2] < 180 }
}

fn share(part: u64, whole: u64) -> f64 {
    part as f64 / whole.max(1) as f64
}

fn main() -> Result<(), Box<dyn Error>> {
    // Two sockets per client.
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, most, most)?;
    let result = match CommandLine::parse().scenario {
        Scenario::Steady(common) => steady(common)?,
        Scenario::Loss { common, link, permille } => loss(common, &link, permille)?,
        Scenario::Wire { common, link, permille } => wire(common, &link, permille)?,
        Scenario::Outage { common, link, cut_off, outage_ms } => outage(common, &link, cut_off, outage_ms)?,
    };
    println!("{result}");
    Ok(())
}

fn steady(common: Common) -> Result<Value, Box<dyn Error>> {
    let (server, generator) = (Process(common.pid), Process(std::process::id()));
    let (clients, window) = (common.clients as f64, common.window);
    let locals = vec![common.local];
    let mut load = Load::new(common.clone(), locals)?;
    let (memory_before, cpu_before) = (server.memory()?, server.cpu_ns()?);
    let join_seconds = load.join()?;
    let (joins_cpu, joins_messages) = (server.cpu_ns()? - cpu_before, load.seen.messages);
    load.play(common.warm_up)?;

    load.seen = Seen::default();
    let (start, cpu, own_cpu) = (Instant::now(), server.cpu_ns()?, generator.cpu_ns()?);
    load.play(window)?;
    let (cpu, own_cpu) = (server.cpu_ns()? - cpu, generator.cpu_ns()? - own_cpu);
    let seconds = start.elapsed().as_secs_f64();
    let memory = server.memory()?;

    let us_per_message = cpu as f64 / 1000.0 / load.seen.messages.max(1) as f64;
    let joining_us = joins_cpu as f64 / 1000.0 - joins_messages as f64 * us_per_message;
    let pss = memory.pss_bytes.zip(memory_before.pss_bytes);
    let per_client = |after: u64, before: u64| (after as f64 - before as f64) / 1024.0 / clients;
    Ok(json!({
        "join": load.joined(),
        "join_seconds": join_seconds,
        "join_cpu_ms": joining_us / 1000.0 / (load.open.max(1) as f64),
        "seconds": seconds,
        "messages": load.seen.messages,
        "delivered": load.delivered(seconds),
        "server_cpu_share": cpu as f64 / 1e9 / seconds,
        "us_per_message": us_per_message,
        "age_ms": load.seen.ages.percentiles(),
        "tick_late_ms": load.seen.tick_lateness(Duration::from_millis(common.tick_ms)).percentiles(),
        "rss_kib_per_client": per_client(memory.rss_bytes, memory_before.rss_bytes),
        "pss_kib_per_client": pss.map(|(after, before)| per_client(after, before)),
        "generator": load.generator(own_cpu, seconds),
    }))
}

fn wire(common: Common, link: &PathBuf, permille: u32) -> Result<Value, Box<dyn Error>> {
    let (server, generator) = (Process(common.pid), Process(std::process::id()));
    let mut load = Load::new(common.clone(), vec![common.local])?;
    load.join()?;
    tell(link, &format!("loss {permille}"))?;
    load.play(common.warm_up)?;
    load.seen = Seen::default();
    let counted = || -> io::Result<(Traffic, Traffic)> { Ok((server.sent()?, generator.sent()?)) };
    let (start, before, own_cpu) = (Instant::now(), counted()?, generator.cpu_ns()?);
    load.play(common.window)?;
    let (seconds, after, own_cpu) = (start.elapsed().as_secs_f64(), counted()?, generator.cpu_ns()? - own_cpu);

    let share = load.open.max(1) as f64 * seconds;
    let per_player = |after: Traffic, before: Traffic| {
        json!({
            "bytes_per_second": (after.bytes - before.bytes) as f64 / share,
            "packets_per_second": (after.packets - before.packets) as f64 / share,
        })
    };
    Ok(json!({
        "join": load.joined(),
        "seconds": seconds,
        "delivered": load.delivered(seconds),
        "down": per_player(after.0, before.0),
        "up": per_player(after.1, before.1),
        "generator": load.generator(own_cpu, seconds),
    }))
}

fn tell(link: &PathBuf, command: &str) -> io::Result<()> {
    UnixDatagram::unbound()?.send_to(command.as_bytes(), link).map(drop)
}

fn loss(common: Common, link: &PathBuf, permille: u32) -> Result<Value, Box<dyn Error>> {
    let generator = Process(std::process::id());
    let mut load = Load::new(common.clone(), vec![common.local])?;
    load.join()?;
    tell(link, &format!("loss {permille}"))?;
    load.play(common.warm_up)?;
    load.seen = Seen { arrivals: Some(vec![Vec::new(); common.clients]), ..Seen::default() };
    let (start, start_us, own_cpu) = (Instant::now(), clock_us(), generator.cpu_ns()?);
    load.play(common.window)?;
    let (seconds, end_us, own_cpu) = (start.elapsed().as_secs_f64(), clock_us(), generator.cpu_ns()? - own_cpu);

    let arrivals = load.seen.arrivals.take().unwrap_or_default();
    let mut of_newest = Histogram::default();
    let mut by_client: Vec<(f64, usize)> = Vec::new();
    for (number, arrivals) in arrivals.iter().enumerate().filter(|(_, arrivals)| !arrivals.is_empty()) {
        let mut own = Histogram::default();
        for (from, to) in lived_through(arrivals, end_us) {
            of_newest.add_range(from, to);
            own.add_range(from, to);
        }
        by_client.push((own.quantile(0.99), number));
    }
    by_client.sort_by(|a, b| a.0.total_cmp(&b.0));
    // Of the player in the middle: when each message came, and its age then, in milliseconds.
    let example = by_client.get(by_client.len() / 2).map(|&(_, number)| number);
    let example: Vec<(f64, f64)> = example.map_or_else(Vec::new, |number| {
        arrivals[number]
            .iter()
            .map(|&(came, made)| ((came - start_us) as f64 / 1000.0, came.saturating_sub(made) as f64 / 1000.0))
            .collect()
    });
    let of_newest_curve: Vec<(f64, f64)> = curve().map(|q| (q, of_newest.quantile(q))).collect();
    Ok(json!({
        "join": load.joined(),
        "seconds": seconds,
        "delivered": load.delivered(seconds),
        "message_age_ms": load.seen.ages.percentiles(),
        "newest_age_ms": of_newest.percentiles(),
        "newest_age_curve": of_newest_curve,
        "example": example,
        "generator": load.generator(own_cpu, seconds),
    }))
}

/// The ages through which the newest message of a client went until it was replaced.
fn lived_through(arrivals: &[(u64, u64)], end_us: u64) -> Vec<(u64, u64)> {
    let mut ranges = Vec::new();
    let mut newest: Option<(u64, u64)> = None;
    for &(came, made) in arrivals.iter().chain(&[(end_us, u64::MAX)]) {
        match newest {
            Some((_, newest_made)) if made <= newest_made => {}
            Some((since, newest_made)) => {
                ranges.push((since.saturating_sub(newest_made), came.saturating_sub(newest_made)));
                newest = Some((came, made));
            }
            None => newest = Some((came, made)),
        }
    }
    ranges
}

/// Quantiles from the median to one in ten thousand, evenly by their number of nines.
fn curve() -> impl Iterator<Item = f64> {
    (0..=80).map(|step| 1.0 - 0.5 * 10f64.powf(-f64::from(step) * 3.7 / 80.0))
}

fn outage(common: Common, link: &PathBuf, cut_off: Ipv4Addr, outage_ms: u64) -> Result<Value, Box<dyn Error>> {
    let generator = Process(std::process::id());
    let mut load = Load::new(common.clone(), vec![common.local, cut_off.into()])?;
    load.join()?;
    load.play(common.warm_up)?;
    load.seen = Seen { arrivals: Some(vec![Vec::new(); common.clients]), ..Seen::default() };
    let (start, own_cpu) = (Instant::now(), generator.cpu_ns()?);
    tell(link, &format!("outage {cut_off} {outage_ms}"))?;
    let end_us = clock_us() + outage_ms * 1000;
    load.play(outage_ms as f64 / 1000.0 + common.window)?;
    let (seconds, own_cpu) = (start.elapsed().as_secs_f64(), generator.cpu_ns()? - own_cpu);

    let arrivals = load.seen.arrivals.take().unwrap_or_default();
    let mut stale = Vec::new();
    let mut fresh_after_ms = Vec::new();
    for arrivals in arrivals.iter().skip(1).step_by(2) {
        let after = || arrivals.iter().filter(|&&(came, _)| came >= end_us);
        stale.push(after().filter(|&&(came, made)| came.saturating_sub(made) > STALE_US).count() as f64);
        let fresh = after().find(|&&(came, made)| came.saturating_sub(made) <= STALE_US);
        fresh_after_ms.push(fresh.map_or(f64::INFINITY, |&(came, _)| (came - end_us) as f64 / 1000.0));
    }
    let mean = stale.iter().sum::<f64>() / stale.len().max(1) as f64;
    stale.sort_by(f64::total_cmp);
    fresh_after_ms.sort_by(f64::total_cmp);
    let never = fresh_after_ms.iter().filter(|after| after.is_infinite()).count();
    let finite = |value: Option<&f64>| value.copied().filter(|value| value.is_finite());
    Ok(json!({
        "join": load.joined(),
        "cut_off": stale.len(),
        "stale_per_client": mean,
        "stale_per_client_max": stale.last(),
        "fresh_after_ms_median": finite(fresh_after_ms.get(fresh_after_ms.len() / 2)),
        "fresh_after_ms_max": finite(fresh_after_ms.last()),
        "never_fresh": never,
        "generator": load.generator(own_cpu, seconds),
    }))
}
