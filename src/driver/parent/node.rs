//! A node as its parent sees it: a process that is started again when it ends.

use std::env;
use std::ffi::OsString;
use std::io;
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use socket2::Socket;

use crate::driver::link::{Begin, Channel, ToNode, ToParent};

/// The program that this process runs, also if its file was replaced since.
const PROGRAM: &str = "/proc/self/exe";
/// The shortest and the longest wait before a node that has ended is started again. It doubles with each end, and
/// begins anew after a run of [`STEADY`].
const WAIT: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(10));
const STEADY: Duration = Duration::from_secs(60);
/// The wait after the OS has refused a process.
const START_RETRY: Duration = Duration::from_secs(1);
/// What a service manager has told this process alone.
const OF_SERVICE: [&str; 6] =
    ["NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC", "LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"];

struct Process {
    child: Child,
    channel: Channel,
    started: Instant,
    is_ready: bool,
    /// Its connection to the store of the parent.
    store: Option<UnixStream>,
}

pub(super) struct Node {
    name: String,
    begin: Begin,
    udp: Vec<Socket>,
    argument: &'static str,
    process: Option<Process>,
    /// When it is started, if it isn't running.
    due: Option<Instant>,
    wait: Duration,
}

/// How a node has ended, and when it is started again.
pub(super) struct Ended {
    pub(super) status: ExitStatus,
    pub(super) after: Duration,
}

impl Node {
    pub(super) fn new(name: String, begin: Begin, udp: Vec<Socket>, argument: &'static str) -> Node {
        Node { name, begin, udp, argument, process: None, due: None, wait: Duration::ZERO }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn udp_port(&self) -> u16 {
        let address = self.udp.first().and_then(|socket| socket.local_addr().ok()?.as_socket());
        address.map_or(0, |address| address.port())
    }

    pub(super) fn is_running(&self) -> bool {
        self.process.is_some()
    }

    /// Whether it takes connections.
    pub(super) fn is_ready(&self) -> bool {
        self.process.as_ref().is_some_and(|process| process.is_ready)
    }

    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.process.is_none() && self.due.is_none_or(|due| due <= now)
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.due.filter(|_| self.process.is_none())
    }

    /// Starts the process. Returns the descriptor on which it is heard.
    pub(super) fn start(&mut self, now: Instant) -> io::Result<RawFd> {
        self.due = Some(now + START_RETRY);
        let (channel, theirs) = Channel::pair()?;
        let udp: Vec<BorrowedFd<'_>> = self.udp.iter().map(AsFd::as_fd).collect();
        channel.send(&ToNode::Begin(self.begin.clone()), &udp)?;
        let mut arguments = env::args_os();
        let own_name = arguments.next().unwrap_or_else(|| OsString::from(PROGRAM));
        let mut command = Command::new(PROGRAM);
        // The command itself stays the first argument.
        command.arg0(own_name).args(arguments.next()).arg(format!("{}{}", self.argument, self.name)).args(arguments);
        OF_SERVICE.iter().for_each(|name| _ = command.env_remove(name));
        let child = command.stdin(Stdio::from(theirs)).spawn()?;
        let fd = channel.as_raw_fd();
        self.process = Some(Process { child, channel, started: now, is_ready: false, store: None });
        Ok(fd)
    }

    /// Returns how it has ended, if it has.
    pub(super) fn reap(&mut self, now: Instant) -> Option<Ended> {
        let process = self.process.as_mut()?;
        let status = process.child.try_wait().ok().flatten()?;
        if now.saturating_duration_since(process.started) >= STEADY {
            self.wait = Duration::ZERO;
        }
        close(process.store.take());
        self.process = None;
        let after = self.grow();
        self.due = Some(now + after);
        Some(Ended { status, after })
    }

    fn grow(&mut self) -> Duration {
        self.wait = (self.wait * 2).clamp(WAIT.0, WAIT.1);
        self.wait
    }

    pub(super) fn send(&self, message: &ToNode, sockets: &[BorrowedFd<'_>]) -> io::Result<()> {
        self.process.as_ref().map_or(Ok(()), |process| process.channel.send(message, sockets))
    }

    /// Returns the next message that can be read.
    pub(super) fn receive(&self) -> Option<(ToParent, Vec<OwnedFd>)> {
        let process = self.process.as_ref()?;
        loop {
            match process.channel.receive() {
                Ok(received) => return received,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return None,
                Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                    log::warn!("a message of node {} can't be read: {error}", self.name);
                }
                Err(_) => return None,
            }
        }
    }

    pub(super) fn note_ready(&mut self, is_ready: bool) {
        self.process.iter_mut().for_each(|process| process.is_ready = is_ready);
    }

    /// It has a new connection to the store, in place of the one before.
    pub(super) fn note_store(&mut self, stream: UnixStream) {
        if let Some(process) = &mut self.process {
            close(process.store.replace(stream));
        }
    }

    pub(super) fn kill(&mut self) {
        if let Some(process) = &mut self.process {
            log::warn!("node {} has not stopped in time, and is killed", self.name);
            // It fails only if the process has ended.
            let _ = process.child.kill();
        }
    }
}

/// Ends the thread that answers on the other end.
fn close(store: Option<UnixStream>) {
    if let Some(store) = store {
        let _ = store.shutdown(Shutdown::Both);
    }
}
