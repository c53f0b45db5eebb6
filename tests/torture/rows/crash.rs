//! A connection that reads nothing has its queue in the server filled to the brim with refusals, overfills it with
//! requests past its limit, and says goodbye within the same turn of the server's loop.

use std::fs;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rtcade::limits::{RELIABLE_QUEUE_BYTES, SIGNALS_PER_SECOND};

use super::Found;
use crate::attack::{CLOSE, Connection, TEXT, frame};
use crate::world::{Failure, SERVER, World, attacker};

const ATTEMPTS: usize = 100;
/// So many at once, each from an address of its own.
const AT_ONCE: usize = 10;
/// Between two requests: a little more than their limit asks for.
const INTERVAL: Duration = Duration::from_millis(21);
/// Requests at once, so many less than the limit allows.
const FIRST_REQUESTS: usize = SIGNALS_PER_SECOND as usize - 15;
/// Below the time after which the server closes who has not joined.
const PATIENCE: Duration = Duration::from_secs(8);
/// How long it is tried where a queue can't be filled.
const SHORT_PATIENCE: Duration = Duration::from_secs(1);
/// What a server takes to work off what was sent last.
const SETTLING: Duration = Duration::from_millis(300);
/// The last requests, which go into one turn of the server's loop: as many as the limit may still allow, whose answers
/// are short, and then those that are past it, whose answers are long. More would be a flood.
const SHORT_REQUESTS: usize = SIGNALS_PER_SECOND as usize;
const LONG_REQUESTS: usize = 12;
/// Where the queue is when they come: all the short answers fit, and about half of the long ones.
const LAST_BYTES: usize = 7_200;
const TOLERANCE_BYTES: usize = 500;
/// Quotation marks in the longest request, each of two bytes. A refusal that repeats them has four for each.
const LONGEST: usize = 8_100;

pub(super) fn run(world: &World) -> Result<Found, Failure> {
    // With long ticks none comes between the last request and the goodbye.
    let mut server = world.start(&["--game", "relay", "--tick-ms", "1000"])?;
    let replies = Replies::measure()?;
    let (mut attempts, mut full) = (0, 0);
    while attempts < ATTEMPTS {
        full += attempt(attempts, &replies)?;
        attempts += AT_ONCE;
        if let Some(words) = server.last_words()? {
            return Ok(found(format!("ended within {attempts} attempts: {words}"), false));
        }
    }
    Ok(found(format!("alive after {attempts} attempts, of which {full} filled the queue"), true))
}

fn found(figure: String, holds: bool) -> Found {
    Found { figure, bound: "alive".to_owned(), holds }
}

/// How long the server's answers are.
struct Replies {
    head: usize,
    shortest: usize,
    longest: usize,
}

impl Replies {
    fn measure() -> Result<Replies, Failure> {
        let (head, shortest) = Replies::ask(0)?;
        let (_, longest) = Replies::ask(LONGEST)?;
        Ok(Replies { head, shortest, longest })
    }

    /// Bytes of the response's head, and of the refusal of a request.
    fn ask(characters: usize) -> Result<(usize, usize), Failure> {
        let mut connection = Connection::open(attacker(ATTEMPTS))?;
        connection.upgrade("/r/full")?;
        connection.send(&request(characters))?;
        let (mut head, mut reply) = (0, None);
        let begun = Instant::now();
        while reply.is_none() {
            if begun.elapsed() > PATIENCE {
                return Err("no refusal came".into());
            }
            connection.read()?;
            head += connection.take_frames(|_, payload| reply = Some(payload.len()));
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok((head, reply.unwrap_or_default()))
    }

    /// Bytes of the refusal of a request with so many characters.
    fn bytes(&self, characters: usize) -> usize {
        self.shortest + (self.longest - self.shortest) * characters / LONGEST
    }

    /// How many characters a request may have whose refusal is to fit.
    fn characters(&self, bytes: usize) -> usize {
        let repeated = (self.longest - self.shortest).max(1);
        (bytes.saturating_sub(self.shortest) * LONGEST / repeated).min(LONGEST)
    }

    /// Whether a queue can be filled before its connection is closed.
    fn can_fill(&self) -> bool {
        let requests = FIRST_REQUESTS + (PATIENCE.as_millis() / INTERVAL.as_millis()) as usize;
        requests * self.longest > RELIABLE_QUEUE_BYTES
    }
}

fn request(characters: usize) -> Vec<u8> {
    let text = r#"\""#.repeat(characters);
    frame(TEXT, format!(r#"{{"a":"exchangeSdp","d":"{text}"}}"#).as_bytes())
}

/// Fills and overfills the queues of [`AT_ONCE`] connections. How many of them were full.
fn attempt(first: usize, replies: &Replies) -> Result<usize, Failure> {
    let mut fillers = Vec::new();
    for number in first..first + AT_ONCE {
        fillers.push(Filler::new(number)?);
    }
    let begun = Instant::now();
    let patience = if replies.can_fill() { PATIENCE } else { SHORT_PATIENCE };
    while begun.elapsed() < patience && fillers.iter().any(|filler| !filler.is_done) {
        let absorbed = absorbed_bytes()?;
        for filler in &mut fillers {
            // One that the server has closed fills no more.
            let _ = filler.turn(replies, &absorbed);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    std::thread::sleep(SETTLING);
    Ok(fillers.iter().filter(|filler| filler.is_done).count())
}

struct Filler {
    connection: Connection,
    address: SocketAddr,
    opened: Instant,
    /// Bytes of each reply.
    replies: Vec<usize>,
    full_since: Option<Instant>,
    is_done: bool,
}

impl Filler {
    fn new(number: usize) -> Result<Filler, Failure> {
        let mut connection = Connection::open_small(attacker(number))?;
        connection.upgrade("/r/full")?;
        Ok(Filler {
            address: connection.local_addr()?,
            connection,
            opened: Instant::now(),
            replies: Vec::new(),
            full_since: None,
            is_done: false,
        })
    }

    fn turn(&mut self, replies: &Replies, absorbed: &[(SocketAddr, usize)]) -> Result<(), Failure> {
        match self.full_since {
            Some(since) if !self.is_done && since.elapsed() > SETTLING => self.overfill(),
            Some(_) => Ok(()),
            None => self.fill(replies, absorbed),
        }
    }

    /// Sends the requests whose time it is.
    fn fill(&mut self, replies: &Replies, absorbed: &[(SocketAddr, usize)]) -> Result<(), Failure> {
        let passed = (self.opened.elapsed().as_millis() / INTERVAL.as_millis()) as usize;
        let of_this = absorbed.iter().filter(|(address, _)| *address == self.address).map(|(_, bytes)| bytes);
        let absorbed = of_this.sum::<usize>().saturating_sub(replies.head);
        while self.replies.len() < FIRST_REQUESTS + passed {
            let queued = self.bytes_behind(absorbed);
            if (queued + LAST_BYTES).abs_diff(RELIABLE_QUEUE_BYTES) < TOLERANCE_BYTES {
                self.full_since = Some(Instant::now());
                break;
            }
            let space = (RELIABLE_QUEUE_BYTES - LAST_BYTES).saturating_sub(queued);
            let characters = replies.characters(space);
            if !self.connection.send(&request(characters))? {
                break;
            }
            self.replies.push(replies.bytes(characters));
        }
        Ok(())
    }

    /// Bytes of the replies after the one that the sockets have taken in part, of whose frames they hold `absorbed`.
    fn bytes_behind(&self, mut absorbed: usize) -> usize {
        let mut replies = self.replies.iter();
        for &reply in replies.by_ref() {
            let frame = reply + if reply < 126 { 2 } else { 4 };
            if absorbed < frame {
                break;
            }
            absorbed -= frame;
        }
        replies.sum()
    }

    /// Sends what overfills the queue, and the goodbye.
    fn overfill(&mut self) -> Result<(), Failure> {
        let mut last = frame(TEXT, br#"{"a":"z"}"#).repeat(SHORT_REQUESTS);
        let (id, action) = ("1".repeat(64), r"\u0001".repeat(64));
        last.extend(frame(TEXT, format!(r#"{{"i":{id},"a":"{action}"}}"#).as_bytes()).repeat(LONG_REQUESTS));
        last.extend(frame(CLOSE, &1001_u16.to_be_bytes()));
        self.is_done = self.connection.send(&last)? && self.connection.flush()?;
        Ok(())
    }
}

/// For each client address, bytes from the server that wait in the socket at either end.
fn absorbed_bytes() -> Result<Vec<(SocketAddr, usize)>, Failure> {
    let table = fs::read_to_string("/proc/self/net/tcp")?;
    let mut absorbed = Vec::new();
    for line in table.lines().skip(1) {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [_, local, remote, _, queues, ..] = fields[..] else {
            return Err("/proc/net/tcp has too few fields".into());
        };
        let (sent, received) = queues.split_once(':').ok_or("no queues")?;
        let (local, remote) = (socket_address(local)?, socket_address(remote)?);
        let (client, bytes) = if local == SERVER { (remote, sent) } else { (local, received) };
        absorbed.push((client, usize::from_str_radix(bytes, 16)?));
    }
    Ok(absorbed)
}

/// As `/proc/net/tcp` writes it: the address as a number of this machine's byte order.
fn socket_address(text: &str) -> Result<SocketAddr, Failure> {
    let (ip, port) = text.split_once(':').ok_or("no port")?;
    Ok((u32::from_str_radix(ip, 16)?.to_ne_bytes(), u16::from_str_radix(port, 16)?).into())
}
