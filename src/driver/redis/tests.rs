//! Against a real Redis, which `scripts/redis` runs, and against what is none.

#![expect(clippy::disallowed_types, reason = "a free port for Redis, and other servers in its place")]

#[cfg(target_os = "linux")]
mod keeper;
mod nodes;
mod table;

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command as Program, Stdio};
use std::sync::atomic::AtomicUsize;
use std::sync::mpsc::channel;
use std::sync::{Barrier, Mutex};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::*;
use crate::cluster::store::{Lease, Member, Placement, Profile, Renewal, SessionUpdate, StoredSession};
use crate::wire::signaling::RoomName;

/// Bounds every wait; nothing is asserted about how long anything takes.
const LONG: Duration = Duration::from_secs(50);
/// The exit status of the script if there is no Redis.
const MISSING: i32 = 69;

struct Redis {
    child: Child,
    port: u16,
    directory: PathBuf,
    options: Vec<String>,
}

impl Redis {
    /// `None` where there is no Redis.
    fn start(name: &str, options: &[&str]) -> Option<Redis> {
        let directory = std::env::temp_dir().join(format!("rtcade-redis-{name}-{}", std::process::id()));
        let port = free_port();
        let options: Vec<String> = options.iter().copied().map(str::to_owned).collect();
        let mut redis = Redis { child: Redis::spawn(port, &directory, &options), port, directory, options };
        if redis.is_up() {
            return Some(redis);
        }
        println!("skipped: Redis is not there; run scripts/test, or name its redis-server in REDIS_SERVER");
        None
    }

    fn spawn(port: u16, directory: &Path, options: &[String]) -> Child {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/redis");
        let mut program = Program::new(script);
        program.arg(port.to_string()).arg(directory).args(options).stdout(Stdio::null()).stderr(Stdio::null());
        program.spawn().expect("a script of this repository")
    }

    /// Waits until it takes connections; `false` if there is none.
    fn is_up(&mut self) -> bool {
        let deadline = Instant::now() + LONG;
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            if let Some(status) = self.child.try_wait().unwrap() {
                assert_eq!(status.code(), Some(MISSING), "Redis has ended: see {}", self.directory.display());
                assert!(std::env::var_os("REDIS_SERVER").is_none(), "the environment names a Redis that is not there");
                return false;
            }
            assert!(Instant::now() < deadline, "Redis does not start");
            thread::sleep(Duration::from_millis(20));
        }
        true
    }

    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    fn restart(&mut self) {
        self.child = Redis::spawn(self.port, &self.directory, &self.options);
        assert!(self.is_up());
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id().try_into().unwrap()), signal).unwrap();
    }

    fn store(&self) -> Store {
        store_at(self.port)
    }

    /// Carries out a command of Redis itself, whose words are separated by blanks.
    fn raw(&self, command: &str) -> Value {
        let mut words = command.split(' ');
        let mut cmd = redis::cmd(words.next().unwrap());
        words.for_each(|word| _ = cmd.arg(word));
        let deadline = Instant::now() + LONG;
        let info = match self.store().place {
            Place::Redis(info) => info,
            #[cfg(target_os = "linux")]
            Place::Parent(_) => panic!("the store is Redis"),
        };
        let mut connection = Connection::open(&info, deadline).unwrap();
        connection.call(&[cmd], deadline).unwrap().remove(0)
    }

    fn keys(&self, pattern: &str) -> Vec<String> {
        let Value::Array(keys) = self.raw(&format!("KEYS {pattern}")) else { panic!("no keys") };
        keys.into_iter().map(|key| redis::from_redis_value(key).unwrap()).collect()
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn store_at(port: u16) -> Store {
    Store::new(&format!("redis://127.0.0.1:{port}"), "test").unwrap()
}

/// The loop of a node.
struct Asker {
    agent: Agent,
    woken: Receiver<()>,
    last_id: u64,
}

impl Asker {
    fn new(store: Store) -> Asker {
        let (wake, woken) = channel();
        let agent = Agent::start(store, move || _ = wake.send(())).unwrap();
        Asker { agent, woken, last_id: 0 }
    }

    fn send(&mut self, command: Command) -> u64 {
        self.last_id += 1;
        self.agent.send(Request { id: self.last_id, command });
        self.last_id
    }

    fn answer(&mut self) -> (u64, Option<Reply>) {
        let deadline = Instant::now() + LONG;
        loop {
            if let Some(answer) = self.agent.poll() {
                return answer;
            }
            let left = deadline.checked_duration_since(Instant::now()).expect("an answer");
            let _ = self.woken.recv_timeout(left);
        }
    }

    fn ask(&mut self, command: Command) -> Option<Reply> {
        let id = self.send(command);
        let (answered, reply) = self.answer();
        assert_eq!(answered, id);
        reply
    }

    /// Asks until it is answered.
    fn insist(&mut self, command: &Command) -> Reply {
        let deadline = Instant::now() + LONG;
        loop {
            if let Some(reply) = self.ask(command.clone()) {
                return reply;
            }
            assert!(Instant::now() < deadline, "no answer: {:?}", self.agent.figures());
            thread::sleep(Duration::from_millis(50));
        }
    }
}

/// Lines of the log about the store, of this process.
static LINES: Mutex<Vec<String>> = Mutex::new(Vec::new());

struct Lines;

impl log::Log for Lines {
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        metadata.target().contains("redis")
    }

    fn log(&self, record: &log::Record<'_>) {
        if self.enabled(record.metadata()) {
            LINES.lock().unwrap().push(record.args().to_string());
        }
    }

    fn flush(&self) {}
}

/// The lines of the log that are about the Redis at this port, from when it was first called.
fn lines_about(port: u16) -> Vec<String> {
    let _ = log::set_logger(&Lines);
    log::set_max_level(log::LevelFilter::Warn);
    LINES.lock().unwrap().iter().filter(|line| line.contains(&format!(":{port}:"))).cloned().collect()
}

fn node(name: &str, incarnation: u64) -> Member {
    Member { node: name.into(), incarnation }
}

fn room(number: usize) -> RoomName {
    RoomName::parse(&format!("room-{number}")).unwrap()
}

fn renew(member: &Member) -> Command {
    let profile = Profile {
        url: format!("ws://{}:1", member.node),
        region: "here".to_owned(),
        load: 0.25,
        takes_rooms: true,
        is_draining: false,
        rooms: 1,
        players: 2,
    };
    Command::Renew { member: member.clone(), profile, ttl_ms: 600_000, takes_over: false, secret: [7; 32] }
}

fn acquire(room: RoomName, member: &Member) -> Command {
    let (region, grace_ms) = ("here".to_owned(), 0);
    Command::Acquire { room, member: member.clone(), keeps: true, falls_back: true, region, grace_ms }
}

fn owner(reply: &Reply) -> &Member {
    let Reply::Acquired(Placement::At { owner, .. }) = reply else { panic!("{reply:?}") };
    owner
}

fn find(socket_id: &str) -> Command {
    Command::FindSession { socket_id: socket_id.to_owned() }
}

fn save(socket_id: &str, session: StoredSession) -> Command {
    let update = SessionUpdate { socket_id: socket_id.to_owned(), epoch: 1, session: Some(session) };
    Command::SaveSessions { updates: vec![update], ttl_ms: 600_000 }
}

fn session(number: usize) -> StoredSession {
    let digest = [u8::try_from(number % 256).unwrap(); 32];
    StoredSession { room: room(number), user_id: Some(format!("user {number}")), tokens: [Some(digest), None] }
}

#[test]
fn nodes_that_race_for_rooms_agree() {
    const ROOMS: usize = 3_334;
    let Some(redis) = Redis::start("race", &[]) else { return };
    let start = Arc::new(Barrier::new(3));
    let race = |number: u64| {
        let (store, start) = (redis.store(), Arc::clone(&start));
        thread::spawn(move || {
            let (mut asker, own) = (Asker::new(store), node(&format!("node-{number}"), number));
            asker.insist(&renew(&own));
            let mut times = Vec::new();
            let mut asked = |number| {
                // Together again, or a node that the machine favours wins every race.
                if number % 100 == 0 {
                    start.wait();
                }
                let begun = Instant::now();
                let reply = asker.insist(&acquire(room(number), &own));
                times.push(begun.elapsed());
                let Reply::Acquired(Placement::At { owner, epoch, .. }) = reply else { panic!("{reply:?}") };
                (owner, epoch)
            };
            let owners: Vec<(Member, u64)> = (0..ROOMS).map(&mut asked).collect();
            (owners, times)
        })
    };
    let racers = [1, 2, 3].map(race);
    let (owners, times): (Vec<_>, Vec<_>) = racers.into_iter().map(|racer| racer.join().unwrap()).unzip();
    let disagreements = (0..ROOMS).filter(|&room| owners.iter().any(|of| of[room] != owners[0][room])).count();
    assert_eq!(disagreements, 0, "of {} answers", 3 * ROOMS);
    let epochs: BTreeSet<u64> = owners[0].iter().map(|(_, epoch)| *epoch).collect();
    assert_eq!(epochs.len(), ROOMS, "each lease has an epoch of its own");
    let winners: BTreeSet<&Member> = owners[0].iter().map(|(owner, _)| owner).collect();
    assert!(winners.len() > 1, "one node has won every race");
    let mut times: Vec<Duration> = times.into_iter().flatten().collect();
    times.sort_unstable();
    println!("p50 {:?}, p99 {:?} of {} answers", times[times.len() / 2], times[times.len() * 99 / 100], times.len());
}

#[test]
fn requests_that_wait_are_answered_in_batches() {
    const ROUNDS: usize = 200;
    let Some(redis) = Redis::start("batches", &[]) else { return };
    let (mut asker, own) = (Asker::new(redis.store()), node("node-1", 1));
    asker.insist(&renew(&own));
    let begun = Instant::now();
    for round in 0..ROUNDS {
        for number in 0..STORE_REQUESTS {
            asker.send(acquire(room((round * STORE_REQUESTS + number) % 1_000), &own));
        }
        for _ in 0..STORE_REQUESTS {
            assert_eq!(owner(&asker.answer().1.expect("an answer")), &own);
        }
    }
    let (count, took) = (ROUNDS * STORE_REQUESTS, begun.elapsed());
    println!("{:.0} answers/s", count as f64 / took.as_secs_f64());
    let Figures { batches, answered, waited, .. } = asker.agent.figures();
    println!("{batches} batches, {:?} each", waited / u32::try_from(batches).unwrap());
    assert_eq!(answered, count as u64 + 1);
    assert!(batches * 2 < answered, "{batches} batches of {answered} requests");
}

#[test]
fn no_late_answer_of_a_frozen_redis_is_taken_for_another() {
    let Some(redis) = Redis::start("frozen", &[]) else { return };
    let mut asker = Asker::new(redis.store());
    let ids = 0..40;
    for number in ids.clone() {
        asker.insist(&save(&format!("s-{number}"), session(number)));
    }
    for round in 0..3 {
        redis.signal(Signal::SIGSTOP);
        for number in ids.clone() {
            let id = asker.send(find(&format!("s-{number}")));
            assert_eq!(asker.answer(), (id, None), "round {round}");
        }
        redis.signal(Signal::SIGCONT);
        asker.insist(&find("s-0"));
        for number in ids.clone().rev() {
            let reply = asker.insist(&find(&format!("s-{number}")));
            assert_eq!(reply, Reply::Session(Some(session(number))), "round {round}");
        }
    }
    let Figures { connections, failed, is_connected, .. } = asker.agent.figures();
    assert!(is_connected && connections > 3 && failed[Cause::Timeout as usize] >= 120, "{:?}", asker.agent.figures());
}

#[test]
fn a_redis_that_restarts_empty_is_asked_again() {
    let Some(mut redis) = Redis::start("restart", &[]) else { return };
    let (mut asker, own) = (Asker::new(redis.store()), node("node-1", 1));
    let since = |reply: &Reply| match reply {
        Reply::Renewed { renewal: Renewal::Since(since), .. } => *since,
        _ => panic!("{reply:?}"),
    };
    let first = asker.insist(&renew(&own));
    assert_eq!(since(&asker.insist(&renew(&own))), since(&first), "it lasts");
    redis.kill();
    assert_eq!(asker.ask(renew(&own)), None);
    assert!(!asker.agent.figures().is_connected);
    redis.restart();
    let second = asker.insist(&renew(&own));
    assert!(since(&second) > since(&first), "it is another lease");
    let Command::Acquire { room, member, keeps, falls_back, region, .. } = acquire(room(1), &own) else { return };
    let reply = asker.insist(&Command::Acquire { room, member, keeps, falls_back, region, grace_ms: 600_000 });
    assert_eq!(reply, Reply::Acquired(Placement::Recovering), "owners may claim what they have");
}

#[test]
fn a_script_that_redis_has_forgotten_is_loaded_again() {
    let Some(redis) = Redis::start("script", &[]) else { return };
    let (mut asker, own) = (Asker::new(redis.store()), node("node-1", 1));
    asker.insist(&renew(&own));
    redis.raw("SCRIPT FLUSH");
    assert_eq!(owner(&asker.ask(acquire(room(1), &own)).expect("an answer")), &own);
    assert_eq!(asker.agent.figures().connections, 1);
}

#[test]
fn rooms_of_ended_processes_are_forgotten_by_and_by() {
    let Some(redis) = Redis::start("ended", &[]) else { return };
    let (left, killed, replaced, stays) = (node("a", 1), node("b", 2), node("c", 3), node("d", 4));
    let mut asker = Asker::new(redis.store());
    for (from, member) in [(0, &left), (250, &killed), (500, &replaced), (750, &stays)] {
        asker.insist(&renew(member));
        for number in from..from + 250 {
            assert_eq!(owner(&asker.insist(&acquire(room(number), member))), member);
        }
    }
    asker.insist(&Command::Leave { member: left });
    redis.raw("HSET {test}:node:b until 1000");
    let Command::Renew { member, profile, ttl_ms, secret, .. } = renew(&node("c", 5)) else { return };
    asker.insist(&Command::Renew { member, profile, ttl_ms, takes_over: true, secret });
    assert_eq!(redis.keys("*:room:*").len(), 1_000 - 100, "a call does not do everything");
    let deadline = Instant::now() + LONG;
    while redis.keys("*:room:*").len() > 250 {
        assert!(Instant::now() < deadline, "{:?} are left", redis.keys("*"));
        asker.insist(&renew(&stays));
    }
    asker.insist(&Command::Leave { member: node("c", 5) });
    for _ in 0..50 {
        asker.insist(&renew(&stays));
    }
    let rooms: BTreeSet<String> = redis.keys("*:room:*").into_iter().collect();
    assert_eq!(rooms, (750..1_000).map(|number| format!("{{test}}:room:room-{number}")).collect());
    let mut others = redis.keys("*");
    others.retain(|key| !rooms.contains(key));
    others.sort_unstable();
    let kept = ["begun", "epoch", "node:d", "nodes", "places", "places:here", "rooms:d#0000000000000004", "secret"];
    assert_eq!(others, kept.map(|key| format!("{{test}}:{key}")));
}

#[test]
fn placement_spreads_over_the_less_busy_nodes_of_the_region() {
    let Some(redis) = Redis::start("places", &[]) else { return };
    let mut asker = Asker::new(redis.store());
    let register = |asker: &mut Asker, name: &str, of_region: &str, of_load: f64, takes: bool| {
        let Command::Renew { member, profile, ttl_ms, takes_over, secret } = renew(&node(name, 1)) else { return };
        let profile = Profile { region: of_region.to_owned(), load: of_load, takes_rooms: takes, ..profile };
        asker.insist(&Command::Renew { member, profile, ttl_ms, takes_over, secret });
    };
    for number in 0..30 {
        register(&mut asker, &format!("far-{number}"), "there", 0.0, true);
    }
    for number in 0..20 {
        register(&mut asker, &format!("near-{number}"), "here", 0.1, true);
    }
    register(&mut asker, "full", "here", 0.0, false);
    register(&mut asker, "busy", "here", 5.0, true);
    let place = |asker: &mut Asker, number: usize| {
        let Command::Acquire { room, member, region, grace_ms, .. } = acquire(room(number), &node("far-0", 1)) else {
            panic!("not it")
        };
        let command = Command::Acquire { room, member, keeps: false, falls_back: false, region, grace_ms };
        owner(&asker.insist(&command)).node.to_string()
    };
    let mut counts = std::collections::BTreeMap::new();
    for number in 0..400 {
        *counts.entry(place(&mut asker, number)).or_insert(0) += 1;
    }
    assert!(counts.keys().all(|name| name.starts_with("near-")), "{counts:?}");
    // Each placement adds to the load, so the loads stay together: 20 each on average.
    assert!(counts.len() == 20 && counts.values().all(|&count| (8..40).contains(&count)), "{counts:?}");
    for number in 0..20 {
        asker.insist(&Command::Leave { member: node(&format!("near-{number}"), 1) });
    }
    assert_eq!(place(&mut asker, 1_000), "busy");
    register(&mut asker, "busy", "here", 5.0, false);
    assert!(place(&mut asker, 1_001).starts_with("far-"), "another region is better than none");
}

/// A server that is not Redis. It ends with the process.
fn impostor(mut talk: impl FnMut(TcpStream) + Send + 'static) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || listener.incoming().flatten().for_each(&mut talk));
    port
}

/// One that answers each command with this.
fn parrot(answer: &'static [u8]) -> u16 {
    impostor(move |mut connection| {
        let mut buffer = [0; 64 * 1024];
        while connection.read(&mut buffer).is_ok_and(|length| length > 0) {
            if connection.write_all(answer).is_err() {
                return;
            }
        }
    })
}

#[test]
fn what_cannot_be_used_is_named_once_with_its_cause() {
    lines_about(0);
    let primary = free_port().to_string();
    let started = [
        Redis::start("password", &["--requirepass", "a-secret"]),
        Redis::start("replica", &["--replicaof", "127.0.0.1", &primary]),
        Redis::start("full", &["--maxmemory", "1"]),
        Redis::start("limited", &["--user", "default", "on", "nopass", "~*", "&*", "+ping"]),
        Redis::start("mixed", &[]),
        Redis::start("clustered", &["--cluster-enabled", "yes"]),
    ];
    let [Some(password), Some(replica), Some(full), Some(limited), Some(mixed), Some(clustered)] = &started else {
        return;
    };
    mixed.raw("SET {test}:node:node-1 something");
    let kept = Arc::new(Mutex::new(Vec::new()));
    let silent = impostor(move |connection| kept.lock().unwrap().push(connection));
    let closing = impostor(drop);
    let at = |port: u16| format!("redis://127.0.0.1:{port}");
    use Cause::{Denied, Refused, Timeout, Unreachable, Unreadable, Unready};
    let cases = [
        (at(password.port), Denied, "needs a password"),
        (format!("redis://:a-wrong-secret@127.0.0.1:{}", password.port), Denied, "password in the URL is wrong"),
        (format!("redis://u:a-wrong-secret@127.0.0.1:{}", password.port), Denied, "password in the URL is wrong"),
        (at(replica.port), Unready, "replica that can't be written to"),
        (at(full.port), Refused, "no memory left"),
        (at(limited.port), Denied, "may not do that"),
        (at(mixed.port), Unreadable, "value of another program"),
        (at(clustered.port), Unready, "Redis Cluster"),
        (format!("redis://127.0.0.1:{}/99", mixed.port), Refused, "DB index is out of range"),
        (format!("rediss://127.0.0.1:{}", mixed.port), Timeout, ""),
        (at(free_port()), Unreachable, "is refused"),
        (at(silent), Timeout, "does not answer in time"),
        (at(closing), Unreachable, "has closed the connection"),
        (at(parrot(b"HTTP/1.1 400 Bad Request\r\n\r\n")), Unreadable, "whether the URL leads to Redis"),
        (at(parrot(b"+OK\r\n")), Unreadable, "can't be read"),
        (at(parrot(b"*1\r\n$3\r\nfoo\r\n")), Unreadable, "can't be read"),
        (at(parrot(b"*3\r\n$1\r\nx\r\n$1\r\n1\r\n$1\r\n1\r\n")), Unreadable, "can't be read"),
        (at(parrot(b"-NOSCRIPT no\r\n")), Refused, "NOSCRIPT"),
        (at(parrot(b"-LOADING it does\r\n")), Unready, "still loading"),
        (at(parrot(b"-DENIED protected\r\n")), Denied, "set a password"),
        (at(parrot(b"-ERR Error running script: -READONLY no\r\n")), Unready, "replica"),
        ("unix:///nonexistent/redis.sock".to_owned(), Unreachable, "fails"),
    ];
    for (url, cause, words) in cases {
        println!("{url}");
        let store = Store::new(&url, "test").unwrap();
        assert!(!format!("{store:?}").contains("secret"), "{store:?}");
        let mut clerk = Clerk::new(store, Arc::default());
        let request = Request { id: 1, command: renew(&node("node-1", 1)) };
        LINES.lock().unwrap().clear();
        for _ in 0..3 {
            clerk.next_attempt = Instant::now();
            let answer = clerk.carry_out(std::slice::from_ref(&request)).pop().expect("an answer to each");
            assert!(answer.is_none() || answer == Some(Reply::Refused), "{url}: {answer:?}");
        }
        let lines = LINES.lock().unwrap().clone();
        assert_eq!(lines.len(), 1, "{url}: {lines:?}");
        assert!(lines[0].contains(words) && !lines[0].contains("secret"), "{url}: {lines:?}");
        println!("    {}", lines[0]);
        assert_eq!(clerk.shared.failed[cause as usize].load(Ordering::Relaxed), 3, "{url}: {:?}", clerk.shared);
    }
}

/// The answers of such a peer have no end, so only the limit ends them.
#[test]
fn an_answer_without_an_end_is_cut_off() {
    let pieces: [(&[u8], &[u8]); 4] = [
        (b"$9000000000000000000\r\n", &[b'x'; 65_536]),
        (b"*2000000000\r\n", b"$1\r\nx\r\n"),
        (b"*2000000000\r\n", b"*-1\r\n"),
        (b"+", &[b'x'; 65_536]),
    ];
    for (head, piece) in pieces {
        let sent = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&sent);
        let piece: Vec<u8> = piece.iter().copied().cycle().take(64 * 1024).collect();
        let port = impostor(move |mut connection| {
            let _ = connection.write_all(head);
            while connection.write(&piece).is_ok_and(|length| counter.fetch_add(length, Ordering::Relaxed) < 1 << 30) {}
        });
        let mut asker = Asker::new(store_at(port));
        assert_eq!(asker.ask(find("s")), None);
        drop(asker);
        let sent = sent.load(Ordering::Relaxed);
        println!("{sent} bytes were sent");
        assert!(sent < 64 << 20, "{sent} bytes: more than the limit and what sockets buffer");
    }
}

/// Its timeouts would never come if they were of each piece.
#[test]
fn an_answer_in_small_pieces_has_a_deadline() {
    let port = impostor(|mut connection| {
        let _ = connection.write_all(b"$1000000\r\n");
        while connection.write_all(b"x").is_ok() {
            thread::sleep(Duration::from_millis(20));
        }
    });
    let mut asker = Asker::new(store_at(port));
    assert_eq!(asker.ask(find("s")), None);
    assert_eq!(asker.agent.figures().failed[Cause::Timeout as usize], 1);
}

#[test]
fn each_request_is_answered_once_also_if_too_many_wait() {
    let kept = Mutex::new(Vec::new());
    let port = impostor(move |connection| kept.lock().unwrap().push(connection));
    let mut asker = Asker::new(store_at(port));
    let count = 3 * STORE_REQUESTS;
    let sent: BTreeSet<u64> = (0..count).map(|number| asker.send(find(&format!("s-{number}")))).collect();
    let answered: BTreeSet<u64> = (0..count)
        .map(|_| {
            let (id, reply) = asker.answer();
            assert_eq!(reply, None);
            id
        })
        .collect();
    assert_eq!(answered, sent);
    assert_eq!(asker.agent.poll(), None);
    let Figures { failed, answered, .. } = asker.agent.figures();
    assert!(failed[Cause::Overload as usize] >= (count - STORE_REQUESTS - 2 * BATCH) as u64, "{failed:?}");
    assert_eq!((failed.iter().sum::<u64>(), answered), (count as u64, 0));
}

#[test]
fn a_node_that_leaves_is_gone_at_once_if_redis_answers() {
    let Some(redis) = Redis::start("leave", &[]) else { return };
    let own = node("node-1", 1);
    let mut asker = Asker::new(redis.store());
    asker.insist(&renew(&own));
    for number in 0..STORE_REQUESTS - 1 {
        asker.send(acquire(room(number), &own));
    }
    asker.agent.leave(Command::Leave { member: own.clone() });
    assert_eq!(redis.keys("*:node:*"), Vec::<String>::new());
    let mut asker = Asker::new(redis.store());
    asker.insist(&renew(&own));
    redis.signal(Signal::SIGSTOP);
    // It returns, whatever Redis does.
    asker.agent.leave(Command::Leave { member: own });
}

#[test]
fn a_unix_socket_a_user_and_a_database_are_named_by_the_url() {
    let directory = std::env::temp_dir().join(format!("rtcade-redis-unix-{}", std::process::id()));
    let socket = directory.join("redis.sock");
    let path = socket.to_str().unwrap();
    let user = ["--user", "games", "on", ">pass word/", "~{test}:*", "&*", "+@all"];
    let Some(redis) = Redis::start("unix", &[&["--unixsocket", path][..], &user].concat()) else { return };
    for (url, database) in [
        (format!("unix://{path}?user=games&pass=pass+word%2F&db=2"), 2),
        (format!("redis://games:pass%20word%2F@127.0.0.1:{}/3", redis.port), 3),
        (format!("redis://localhost:{}/4", redis.port), 4),
        (format!("valkey://localhost:{}/5", redis.port), 5),
    ] {
        let mut asker = Asker::new(Store::new(&url, "test").unwrap());
        let reply = asker.insist(&renew(&node("node-1", 1)));
        assert!(
            matches!(reply, Reply::Renewed { renewal: Renewal::Since(_), secret: [7, ..], .. }),
            "{url}: {reply:?}"
        );
        let Value::BulkString(info) = redis.raw("INFO keyspace") else { panic!("no info") };
        assert!(String::from_utf8_lossy(&info).contains(&format!("db{database}:")), "{url}");
    }
}

#[test]
fn urls_that_cannot_be_used_are_refused_without_their_password() {
    for url in ["", "nowhere", "http://:a-secret@host", "redis://:a-secret@host:port", "redis://:a-secret@host/x"] {
        let error = Store::new(url, "test").unwrap_err();
        assert!(error.contains("redis://user:password@host") && !error.contains("a-secret"), "{error}");
    }
    assert!(Store::new("rediss://host/#insecure", "test").unwrap_err().contains("#insecure"));
    for name in ["", "a b", "{a}", "ä", &"a".repeat(65)] {
        assert!(Store::new("redis://host", name).unwrap_err().contains("--cluster"), "{name}");
    }
}
