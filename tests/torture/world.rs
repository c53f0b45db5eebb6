//! The network namespace, the server in it, and what else the machine does meanwhile.

use std::cell::OnceCell;
use std::error::Error;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Seek, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sched::{CloneFlags, CpuSet, sched_setaffinity, unshare};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::unistd::Pid;

use super::tls::{self, Trust};

/// Why a row could not be run, which says nothing about the server.
pub(super) type Failure = Box<dyn Error + Send + Sync>;

pub(super) const SERVER: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 77, 0, 1)), 8080);
/// Every address in it belongs to the namespace.
const NETWORK: &str = "10.77.0.0/16";
const SERVER_CORE: usize = 0;
/// The kernel's own limit (tcp(7)).
const SOCKET_BUFFER_BYTES: usize = 4 * 1024 * 1024;
/// How long a request of this program itself may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// What every row works with.
pub(super) struct World {
    program: PathBuf,
    pub(super) seed: u64,
    quiet: OnceCell<Duration>,
}

impl World {
    /// Moves this thread, and with it each thread and program that it starts, into a namespace and off the server's
    /// core.
    pub(super) fn enter(program: PathBuf, seed: u64) -> Result<World, Failure> {
        unshare(CloneFlags::CLONE_NEWNET).map_err(|error| format!("no network namespace (it takes root): {error}"))?;
        ip("link set lo up")?;
        ip(&format!("address add {}/32 dev lo", SERVER.ip()))?;
        ip(&format!("route add local {NETWORK} dev lo"))?;
        let (_, files) = getrlimit(Resource::RLIMIT_NOFILE)?;
        setrlimit(Resource::RLIMIT_NOFILE, files, files)?;
        let mut others = CpuSet::new();
        (SERVER_CORE + 1..cores()).try_for_each(|core| others.set(core))?;
        if cores() > 1 {
            sched_setaffinity(Pid::from_raw(0), &others)?;
        }
        Ok(World { program, seed, quiet: OnceCell::new() })
    }

    /// A server of its own for a row. Its priority is that of real time, or other programs on the machine would be in
    /// each figure; where it takes all of its core, the kernel still gives those a twentieth of each second.
    pub(super) fn start(&self, arguments: &[&str]) -> Result<Server, Failure> {
        limit_socket_buffers(SOCKET_BUFFER_BYTES)?;
        let errors = tempfile()?;
        let core = SERVER_CORE.to_string();
        let mut command = command(&["taskset", "-c", &core, "chrt", "--fifo", "1"]);
        let cache = std::env::temp_dir().join(format!("rtcade-torture-cache-{}", std::process::id()));
        command.arg(&self.program).env("XDG_CACHE_HOME", &cache);
        command.args(["--listen", &SERVER.to_string(), "--public-addr", &SERVER.ip().to_string()]).args(arguments);
        let mut child = command.stdout(Stdio::piped()).stderr(errors.try_clone()?).spawn()?;
        let stdout = child.stdout.take().ok_or("no standard output")?;
        let mut server = Server { child, errors, trust: None };
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line)?;
        if !line.contains("is open at") {
            return Err(format!("the server did not start: {line}{}", server.errors()?).into());
        }
        if arguments.contains(&"--tls-dev") {
            server.trust = tls::trust(&cache.join("rtcade/development.pem"))?;
            fs::remove_dir_all(cache)?;
        }
        Ok(server)
    }

    /// What `measure` found when it was asked for first.
    pub(super) fn quiet(&self, measure: impl FnOnce() -> Result<Duration, Failure>) -> Result<Duration, Failure> {
        if let Some(&quiet) = self.quiet.get() {
            return Ok(quiet);
        }
        let quiet = measure()?;
        Ok(*self.quiet.get_or_init(|| quiet))
    }
}

/// A program, with its first arguments, that the kernel kills when the thread that starts it ends.
pub(super) fn command(program: &[&str]) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL"]).args(program);
    command
}

/// One of 40,000 addresses of attackers.
pub(super) fn attacker(number: usize) -> IpAddr {
    address(10_000 + number)
}

/// One of 9,000 addresses of players.
pub(super) fn honest(number: usize) -> IpAddr {
    address(1_000 + number)
}

fn address(number: usize) -> IpAddr {
    let [_, _, high, low] = u32::try_from(number).unwrap_or_default().to_be_bytes();
    Ipv4Addr::new(10, 77, high, low).into()
}

/// The server's program, killed when dropped.
pub(super) struct Server {
    child: Child,
    errors: File,
    /// What trusts it, if it speaks TLS.
    pub(super) trust: Trust,
}

impl Server {
    /// `None` while it runs, else what it said when it ended.
    pub(super) fn last_words(&mut self) -> Result<Option<String>, Failure> {
        let Some(status) = self.child.try_wait()? else { return Ok(None) };
        let text = self.errors()?;
        let lines: Vec<&str> = text.lines().collect();
        let panic = lines.iter().rposition(|line| line.contains("panicked at"));
        let words =
            panic.map_or_else(String::new, |line| lines[line..].iter().take(2).copied().collect::<Vec<_>>().join(" "));
        Ok(Some(format!("{status}: {words}")))
    }

    fn errors(&mut self) -> Result<String, Failure> {
        let mut text = String::new();
        self.errors.rewind()?;
        self.errors.read_to_string(&mut text)?;
        Ok(text)
    }

    /// Resident memory, in bytes.
    pub(super) fn resident_bytes(&self) -> Result<u64, Failure> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("no VmRSS: the server is gone")?;
        let kib: u64 = line.trim().trim_end_matches(" kB").parse()?;
        Ok(kib * 1024)
    }

    /// One figure of its `/metrics`.
    pub(super) fn metric(&self, name: &str) -> Result<u64, Failure> {
        let metrics = get("/metrics")?;
        let value =
            metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')).ok_or("no such metric")?;
        Ok(value.parse()?)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn get(path: &str) -> Result<String, Failure> {
    let mut socket = TcpStream::connect_timeout(&SERVER, PATIENCE)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    write!(socket, "GET {path} HTTP/1.1\r\nHost: {SERVER}\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    socket.read_to_string(&mut answer)?;
    Ok(answer)
}

/// Limits what the kernel holds of what nobody reads, at each end of each connection, until the next server starts. All
/// namespaces share the kernel's memory for TCP.
pub(super) fn limit_socket_buffers(bytes: usize) -> Result<(), Failure> {
    for (path, initial) in [("/proc/sys/net/ipv4/tcp_rmem", 128 * 1024), ("/proc/sys/net/ipv4/tcp_wmem", 16 * 1024)] {
        fs::write(path, format!("4096 {} {bytes}", bytes.min(initial)))?;
    }
    Ok(())
}

/// What the machine has done so far, in hundredths of a second of its cores.
pub(super) struct Load {
    total: u64,
    others: u64,
}

impl Load {
    /// Of children, those that have ended are counted as this program's.
    pub(super) fn read() -> Result<Load, Failure> {
        let stat = fs::read_to_string("/proc/stat")?;
        let cores = stat.lines().next().ok_or("/proc/stat is empty")?;
        let [user, nice, system, idle, iowait, irq, softirq, steal] = numbers(cores.split_whitespace().skip(1))?;
        let own = fs::read_to_string("/proc/self/stat")?;
        // The name in parentheses may hold blanks; the times are the fields 14 to 17 (proc_pid_stat(5)).
        let (_, fields) = own.rsplit_once(')').ok_or("/proc/self/stat has no name")?;
        let own: [u64; 4] = numbers(fields.split_whitespace().skip(11))?;
        let busy = user + nice + system + steal;
        Ok(Load { total: busy + idle + iowait + irq + softirq, others: busy.saturating_sub(own.iter().sum()) })
    }

    /// The share of the machine that other programs, and other machines on the same hardware, have had since.
    pub(super) fn others_since(&self) -> Result<f64, Failure> {
        let now = Load::read()?;
        #[expect(clippy::cast_precision_loss, reason = "a few hours of hundredths of a second")]
        let share = now.others.saturating_sub(self.others) as f64 / (now.total - self.total).max(1) as f64;
        Ok(share)
    }
}

fn numbers<'a, const N: usize>(fields: impl Iterator<Item = &'a str>) -> Result<[u64; N], Failure> {
    let numbers: Vec<u64> = fields.take(N).map(str::parse).collect::<Result<_, _>>()?;
    numbers.try_into().map_err(|_| "too few fields".into())
}

pub(super) fn cores() -> usize {
    fs::read_to_string("/proc/cpuinfo").map_or(1, |text| text.matches("\nprocessor").count() + 1)
}

fn ip(arguments: &str) -> Result<(), Failure> {
    let output = Command::new("ip").args(arguments.split(' ')).output()?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("ip {arguments}: {}", String::from_utf8_lossy(&output.stderr).trim_end()).into())
}

/// A file without a name.
fn tempfile() -> Result<File, Failure> {
    let path = std::env::temp_dir().join(format!("rtcade-torture-{}", std::process::id()));
    let file = File::options().read(true).append(true).create(true).truncate(false).open(&path)?;
    fs::remove_file(path)?;
    Ok(file)
}
