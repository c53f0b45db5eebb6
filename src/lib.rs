//! rtcade: a game networking server. UDP-like networking in the browser, from a single binary.
//!
//! Players join a room by its URL. Game logic runs in tick callbacks. Every 33 ms each room sends its inputs or its
//! state over unreliable WebRTC data channels. There is one thread, one event loop, one UDP port and one TCP port.
//!
//! The book in `docs/` explains how to write, test and deploy a game. This page explains the crate: how a program uses
//! it, and how the core is driven.
//!
//! # A game
//!
//! Implement [`game::Game`], and pass [`run`] a function that creates one per room. That is a whole program, including
//! its command line. The README has a complete one with its page.
//!
//! ```no_run
//! use rtcade::game::{Batch, Context, Game, Join, Leave, PlayerId, Refusal, Tick};
//!
//! /// Counts the inputs of all players.
//! #[derive(Default)]
//! struct Presses(u32);
//!
//! impl Game for Presses {
//!     type Input = (); // what `room.send(null)` carries
//!     type Command = ();
//!     type State = u32; // what `room.on("state", …)` gets
//!     type Event = ();
//!     type Welcome = ();
//!     type JoinData = ();
//!
//!     fn join(&mut self, _: &mut Context<Self>, _: PlayerId, _: &Join<()>) -> Result<(), Refusal> {
//!         Ok(())
//!     }
//!
//!     fn leave(&mut self, _: &mut Context<Self>, _: PlayerId, _: Leave) {}
//!
//!     fn tick(&mut self, ctx: &mut Context<Self>, _: Tick, batch: Batch<'_, Self>) {
//!         self.0 += batch.len() as u32;
//!         let _ = ctx.state(&self.0); // a state above 16 KiB is not sent, but counted
//!     }
//! }
//!
//! # #[cfg(feature = "driver")]
//! fn main() -> rtcade::ExitCode {
//!     rtcade::run(|_room| Ok(Presses::default()))
//! }
//! # #[cfg(not(feature = "driver"))]
//! # fn main() {}
//! ```
//!
//! [`run_with`] also gives access to the server before it starts: to set [`hooks::Hooks`], which decide who may join,
//! and to get a `driver::Handle`, with which other threads send messages to rooms ([`game::Game::external`]). A program
//! with an event loop of its own drives the core itself.
//!
//! # Features
//!
//! - `driver` (default): sockets, the event loop and the command line. Without it only the core is built.
//! - `script` (default): the module `script`, with which a game can be written in JavaScript.
//! - `typescript`: the module `typescript`, which writes the TypeScript of a game's messages.
//!
//! # The loop
//!
//! The core does no I/O. [`server::Server`], [`client::Client`] and everything below them never read a clock, open a
//! socket, sleep, spawn, or ask the operating system for randomness (except for DTLS keys). The caller passes in the
//! time, the data that arrived and, once, a seed, and polls for data to send and for the next deadline. The `driver`
//! does so with real sockets, [`sim`] with a virtual clock and network. This loop uses neither:
//!
//! ```
//! use rtcade::games::Arena;
//! use rtcade::server::{Config, Connect, ConnectionId, Server, Signal};
//! use std::time::{Duration, Instant};
//!
//! # let start = Instant::now();
//! let mut now = start;
//! let mut server = Server::new(Config::new([7; 32]), now, |room| Ok(Arena::new(room)));
//!
//! // Something happens: a websocket opens, and its player asks to join.
//! let websocket = ConnectionId(1);
//! let connect = Connect::new(None, "192.0.2.1:5000".parse().unwrap(), "192.0.2.7".parse().unwrap());
//! server.handle_connect(now, websocket, connect);
//! server.handle_text(now, websocket, r#"{"a":"join","d":{"roomId":"lobby","name":"Ada"}}"#);
//!
//! let (mut replies, mut frames) = (Vec::new(), 0);
//! while now < start + Duration::from_secs(1) {
//!     // Drain it: first the datagrams, then the messages of each websocket that has some.
//!     while let Some(_datagram) = server.poll_transmit() {
//!         // A socket would send it.
//!     }
//!     while let Some(connection) = server.poll_signal_ready() {
//!         while let Some(message) = server.poll_signal(connection) {
//!             match message {
//!                 Signal::Text(json) => replies.push(json),
//!                 Signal::Binary(_) => frames += 1,
//!                 _ => {}
//!             }
//!         }
//!     }
//!     // Wait until something arrives, but no longer than this. Here nothing arrives.
//!     now = server.poll_timeout().unwrap_or(now + Duration::from_secs(1));
//!     server.handle_timeout(now);
//! }
//! assert!(replies[0].starts_with(r#"{"a":"joinR","s":true"#), "{}", replies[0]);
//! assert!(frames > 20, "{frames} states in a second of 33 ms ticks");
//! ```
//!
//! # The one rule
//!
//! **After each `handle_*`, poll until nothing is left.** A `handle_*` changes the server and queues its output:
//! datagrams in [`server::Server::poll_transmit`], messages in [`server::Server::poll_signal`], and a new deadline in
//! [`server::Server::poll_timeout`]. Drain the queues in that order, and sleep no longer than the deadline.
//! [`server::Server::poll_signal_ready`] returns each connection once: if its socket is not writable, remember the
//! connection, and poll it when the socket is. Of the states that wait in the server, only the newest is kept; those in
//! a socket's buffer become stale.
//!
//! Several `handle_*` in a row before a poll are allowed, and cheap: a game runs in ticks only, that is in
//! [`server::Server::handle_timeout`]. Only the factory that creates it runs when its first player joins.
//!
//! # The kinds of time
//!
//! - [`std::time::Instant`] is the caller's clock. It must never go back. The core compares instants, and never asks
//!   for one.
//! - **Ticks** are the time of a room, and the only time that a game sees. They have a fixed schedule from the creation
//!   of the room; a late server skips ticks and counts them in [`game::Tick::missed`]. Rooms are spread over eight
//!   phases of the tick, so that their bursts don't coincide.
//! - **Unix time** decides whether a token has expired. The caller passes it in with
//!   [`server::Server::handle_unix_time`], because that clock may be set.
//! - **Virtual time** is an [`std::time::Instant`] that a test moves by hand, as in the example above. [`sim`] is built
//!   on it.
//!
//! # What a panic means
//!
//! Data from the network never causes a panic: invalid data is counted, and costs its sender at most the connection,
//! with a code ([`wire::codes`]). A panic is a defect of this crate or of a game, and is contained: in a game it closes
//! the room, in the code of one peer it closes that peer's data channel, in a hook it refuses the player. The rest of
//! the server continues. A stack overflow can't be contained: it ends the process. The constructors panic if a
//! configuration exceeds a limit; their documentation says so.
//!
//! The driver returns an error if it can't bind its sockets, or if its event queue fails.
//!
//! # Architecture
//!
//! ```text
//!  browser / client-js            tests, native games
//!         │ websocket: signaling + reliable lane │
//!         │ UDP: ICE, DTLS, unreliable lane      │
//! ╔═══════▼══════════════════════════════════════▼════════════════╗
//! ║ driver/   mio, sockets, clock, HTTP, files, signals           ║   the only code that does I/O
//! ╚═══════╤═══════════════════════════════════════════════════════╝
//!         │ handle_datagram · handle_text · handle_timeout      ▲ poll_transmit · poll_signal
//!         ▼                                                     │ poll_timeout
//! ┌─ server/     Server<G>: every handle_* is one turn ─────────┴─┐
//! │  connection.rs a websocket: its session, its queues           │
//! │  addresses.rs, admission.rs   limits per address, rates       │
//! │  join.rs, resume.rs, tokens.rs   joining and reconnecting     │
//! │  nodes.rs      joining among several nodes                    │
//! │    cluster.rs  leases of rooms, sessions, tickets             │
//! │  session.rs    a player's session, and its end                │
//! │  channel.rs    data channels: offer, answer, bypass           │   std::time::Instant,
//! │  delivery.rs   frames in, bodies out   presence.rs  relay.rs  │   schedule-deterministic
//! │  rooms.rs      creation, ticks and end of rooms               │
//! │  endpoint.rs   routes datagrams to peers, timers              │
//! │    peer/       Peer: str0m's ICE and DTLS + the lane          │
//! │  player.rs     frames ↔ inputs: inflate, dedupe, ack, ping    │
//! │ - - - - - - - - - room::Input ↓ - - - - - room::Output ↑ - - -│
//! │  room.rs       Room<G>: players, batch, tick, bodies          │   ticks only, bit-exact
//! │    game.rs     trait Game: your code                          │
//! └───────────────────────────────────────────────────────────────┘
//! ```
//!
//! **Two nested state machines.** `Endpoint` and `Peer` turn datagrams into frames. They are testable under virtual
//! time but not bit-exact, because they contain keys. [`room::Room`] turns inputs into bodies, bit for bit the same for
//! the same inputs. All input of a room passes [`room::Room::handle_input`]; all code that handles bytes of the
//! network is above that line.
//!
//! **Ends.** A connection, a session and a room are each ended by one function, described at the top of its file: it
//! notifies the game, the other players and the hooks, then releases names, timers and peers. Keys have generations, so
//! that a stale key finds nothing. Everything that ends as a consequence ends within the same `handle_*`.
//!
//! **Fair shares.** The resources that clients can use are limited by connection, by address and in total: connections,
//! joins, relayed messages, queued bytes. When all of a resource is in use, the clients that use least are served first
//! (`src/server/admission.rs`).
//!
//! # The network
//!
//! - **Unreliable messages are dropped rather than delivered late.** A state or input that can't leave now is dropped
//!   and counted, never queued. The data channel carries nothing that has to be retransmitted; reliable messages use
//!   the websocket, which stays open beside it. `src/peer/lane.rs` explains why the lane is not an ordinary SCTP.
//! - **A congested path gets fewer ticks**, each with the newest state, because the lane has no congestion window and
//!   no queue. `src/peer/pace.rs` explains how congestion is detected; [`game::Link`] has each player's round trip and
//!   loss.
//! - **Host candidates only**, one UDP port: no STUN or TURN server. Players get `--public-addr` if it is set,
//!   otherwise the address from which their page was loaded, then the machine's other addresses at that time.
//! - **Without UDP** a player gets the same frames over the websocket, one state at a time.
//! - **A path is proven**, a local and a remote address together, when it has returned a heartbeat with our random
//!   number. Until then it gets at most three times the bytes that came over it, and the old path stays in use.
//! - **A channel must deliver**, in each direction. If it delivers nothing, the websocket carries its frames until it
//!   delivers again.
//! - **Everything has a limit.** The table in [`limits`] says what happens when one is exceeded: an error with a code,
//!   or a drop that is counted ([`server::Counters`]).
//!
//! The bytes are specified in [`wire`].
//!
//! # Recordings
//!
//! The inputs of a room can be recorded, with a hash of its output per tick, and replayed: [`journal`]. The core passes
//! blocks of bytes to a sink that must not block. The sink of the driver (`--record`) passes them to a thread that
//! writes them. `rtcade replay --check` compares a game with its recording.
//!
//! # Other services
//!
//! Files, RabbitMQ, Redis and Agones each have a thread of the driver. The loop passes requests on and takes answers,
//! within limits, and never waits for one: a service that is away stops no room.

#![forbid(unsafe_code)]

pub mod auth;
#[cfg(feature = "driver")]
pub mod bench;
#[cfg(feature = "driver")]
#[doc(hidden)]
pub mod cli;
pub mod client;
pub mod cluster;
#[cfg(feature = "driver")]
pub mod driver;
pub mod endpoint;
pub mod game;
pub mod games;
pub mod hooks;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod hostile;
pub mod journal;
pub mod limits;
mod log_limit;
mod media;
pub mod peer;
pub mod playback;
mod player;
mod rate;
pub mod room;
#[cfg(feature = "script")]
pub mod script;
pub mod server;
pub mod sim;
#[cfg(feature = "typescript")]
pub mod typescript;
pub mod wire;
#[cfg(feature = "driver")]
mod yaml;

#[cfg(feature = "driver")]
pub use cli::{ExitCode, run, run_with};
pub use rand;

/// The Rust of the book is compiled, and run, with the documentation's examples.
#[cfg(all(doctest, feature = "driver"))]
mod book {
    #[doc = include_str!("../docs/src/feel.md")]
    struct Feel;
    #[doc = include_str!("../docs/src/hooks.md")]
    struct Hooks;
    #[doc = include_str!("../docs/src/testing.md")]
    struct Testing;
    #[doc = include_str!("../docs/src/voice.md")]
    struct Voice;
}
