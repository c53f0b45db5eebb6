//! Bots for the arena: native players, each with a data channel of its own, that collect gems.
//!
//! A game of your own needs the loop of [`main`] and `connection.rs`, with another [`steer`].

#![expect(clippy::disallowed_types, clippy::disallowed_methods, reason = "a client owns its clock and its sockets")]

mod connection;

use std::error::Error;
use std::io;
use std::time::{Duration, Instant};

use clap::Parser;
use connection::{Connection, Server};
use mio::{Events, Poll, Token};
use rtcade::client::Event;
use rtcade::games::arena::{ActorId, Disc, Place, State, Steer};
use rtcade::wire::msgpack;

/// The distance, in units, at which a bot dashes at another disc.
const REACH: i32 = 1_500;
const READY_TO_DASH: u8 = 4;

/// Bots that play in a room of the arena.
#[derive(Parser)]
struct Args {
    /// The URL of the room, such as http://localhost:8080/r/lobby
    url: String,
    /// Number of bots
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=32))]
    bots: u8,
}

struct Bot {
    connection: Connection,
    player: Option<ActorId>,
}

fn main() -> Result<(), Box<dyn Error>> {
    let args = Args::parse();
    let server = Server::resolve(&args.url)?;
    let mut poll = Poll::new()?;
    let mut events = Events::with_capacity(64);
    let mut bots = Vec::new();
    for number in 1..=args.bots {
        let name = format!("Bot {number}");
        let token = Token(number.into());
        let connection = Connection::open(&server, &name, rtcade::rand::random(), token, poll.registry())?;
        bots.push(Bot { connection, player: None });
    }
    while !bots.is_empty() {
        let deadline = bots.iter().filter_map(|bot| bot.connection.client.poll_timeout()).min();
        let wait = deadline.map(|at| at.saturating_duration_since(Instant::now()));
        match poll.poll(&mut events, wait.map(round_up)) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error.into()),
            _ => {}
        }
        for bot in &mut bots {
            bot.connection.receive();
            bot.play()?;
            bot.connection.send(poll.registry());
        }
    }
    Ok(())
}

/// The poll waits for whole milliseconds: a shorter wait would be none.
fn round_up(wait: Duration) -> Duration {
    wait.max(Duration::from_millis(1))
}

impl Bot {
    fn play(&mut self) -> Result<(), Box<dyn Error>> {
        while let Some(event) = self.connection.client.poll_event() {
            match event {
                Event::Joined { player, .. } => {
                    println!("joined as player {player}");
                    self.player = Some(ActorId(player.into()));
                }
                Event::Open => println!("the data channel is open"),
                Event::State { value, .. } => {
                    let state: State = msgpack::decode(&value)?;
                    if let Some(steer) = self.player.and_then(|player| steer(player, &state)) {
                        self.connection.client.send(Instant::now(), &steer)?;
                    }
                }
                Event::Refused { message, .. } => return Err(message.into()),
                Event::Closed { code, reason } => return Err(format!("closed with code {code}: {reason}").into()),
                _ => {}
            }
        }
        Ok(())
    }
}

/// Steers to the nearest gem, and dashes into other discs on the way.
fn steer(player: ActorId, State(_, _, _, discs, gems): &State) -> Option<Steer> {
    let Disc(_, own, .., flags) = discs.iter().find(|disc| disc.0 == player)?;
    let nearest = gems.iter().map(|gem| way(*own, *gem)).min_by_key(|&way| length(way))?;
    let others = discs.iter().filter(|disc| disc.0 != player);
    let is_near = others.map(|disc| length(way(*own, disc.1))).any(|distance| distance < REACH);
    let thrust = |part: i32| 100.0 * part as f32 / length(nearest).max(1) as f32;
    Some(Steer(thrust(nearest.0), thrust(nearest.1), is_near && flags & READY_TO_DASH != 0))
}

fn way(from: Place, to: Place) -> (i32, i32) {
    (i32::from(to.0) - i32::from(from.0), i32::from(to.1) - i32::from(from.1))
}

fn length((x, y): (i32, i32)) -> i32 {
    (x * x + y * y).isqrt()
}
