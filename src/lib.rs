//! rtcade: a game networking server. UDP-like networking in the browser, from a single binary.
//!
//! Players join a room by its URL, game logic runs as tick callbacks, and every 33 ms each room fans its inputs or
//! state out over unreliable WebRTC data channels: one thread, one event loop, one UDP port, one TCP port.
//!
//! # A game
//!
//! Implement [`game::Game`], and give [`run`] something that makes one per room: that is the whole program, its
//! command line included. The repository's README has a complete one, page and all.
//!
//! ```no_run
//! use rtcade::game::{Context, Game, Incoming, Join, Leave, PlayerId, Refusal, Tick, Welcome};
//!
//! /// Everybody sees how often anybody pressed.
//! #[derive(Default)]
//! struct Presses(u32);
//!
//! impl Game for Presses {
//!     type Input = (); // what `room.send(null)` carries
//!     type Command = ();
//!     type State = u32; // what `room.on("state", …)` gets
//!     type Event = ();
//!
//!     fn join(&mut self, _: &mut Context<Self>, _: PlayerId, _: &Join) -> Result<Welcome, Refusal> {
//!         Ok(Welcome::default())
//!     }
//!
//!     fn leave(&mut self, _: &mut Context<Self>, _: PlayerId, _: Leave) {}
//!
//!     fn tick(&mut self, ctx: &mut Context<Self>, _: Tick, batch: &[Incoming<Self>]) {
//!         self.0 += batch.len() as u32;
//!         let _ = ctx.state(&self.0); // past 4 KiB nothing is sent, and the room counts it
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
//! # The shape
//!
//! ```text
//!  browser / client-js            tests, native games
//!         │ websocket: signaling + reliable lane │
//!         │ UDP: ICE, DTLS, datagram lane        │
//! ╔═══════▼══════════════════════════════════════▼════════════════╗
//! ║ driver/   mio, sockets, clock, HTTP, files, signals           ║   the only code that does I/O
//! ╚═══════╤═══════════════════════════════════════════════════════╝
//!         │ handle_datagram · handle_text · handle_timeout      ▲ poll_transmit · poll_signal
//!         ▼                                                     │ poll_timeout
//! ┌─ server/     Server<G>: every handle_* is one turn ─────────┴─┐
//! │  connection.rs a websocket: what it holds, what waits for it  │
//! │  addresses.rs, admission.rs   what an address may have, take  │
//! │  join.rs, resume.rs, tokens.rs   coming in, and back          │
//! │  session.rs    a player's stay, and the one way it ends       │
//! │  channel.rs    data channels: offered, answered, passed by    │   std::time::Instant,
//! │  delivery.rs   frames in, bodies out   presence.rs  relay.rs  │   schedule-deterministic
//! │  rooms.rs      made, ticked, and the one way they end         │
//! │  endpoint.rs   routes datagrams to peers, timers              │
//! │    peer/       Peer: str0m's ICE and DTLS + the lane          │
//! │  player.rs     frames ↔ inputs: inflate, dedupe, ack, ping    │
//! │ - - - - - - - - - room::Input ↓ - - - - - room::Output ↑ - - -│
//! │  room.rs       Room<G>: players, batch, tick, bodies          │   ticks only, bit-exact
//! │    game.rs     trait Game: your code                          │
//! └───────────────────────────────────────────────────────────────┘
//! ```
//!
//! **The core does no I/O.** [`server::Server`], [`client::Client`] and everything below them never read a clock, open
//! a socket, sleep, spawn, or ask the operating system for randomness (but for DTLS keys). The caller hands them the
//! time, bytes and, once, a seed, and polls them for bytes and deadlines. The same core runs under the driver and, in
//! tests, under the virtual network and clock of [`sim`]. `cargo build --no-default-features` builds it alone.
//!
//! **Two nested state machines.** `Endpoint` and `Peer` turn datagrams into frames: testable under virtual time, but
//! not bit-exact, because of keys. [`room::Room`] turns inputs into bodies, bit for bit the same for the same inputs.
//! Everything that touches bytes of the network stands above that line; all that a room learns passes
//! [`room::Room::handle_input`].
//!
//! **The rules of driving it.** After any `handle_*`, poll until there is nothing: [`server::Server::poll_transmit`],
//! then [`server::Server::poll_signal_ready`] and, for each connection it names whose socket takes more,
//! [`server::Server::poll_signal`]; then sleep no longer than [`server::Server::poll_timeout`]. A connection is named
//! once: the caller remembers one whose socket takes no more. A game is made when its first player asks to join, and
//! runs in ticks only, so a `handle_*` is cheap.
//!
//! **Ends.** A connection, a session and a room each end in one way, which stands at the top of its file, and from
//! which all else follows: the game is told, the others, the hooks; names, timers and peers are given up. Their keys
//! have generations: one that is kept past the end finds nothing. What ends because of something else, a slow socket
//! say, ends within the same turn, so that no `handle_*` leaves anything half-ended behind.
//!
//! **Fair shares.** What strangers can ask for is limited by connection, by address and in all: connections, joins,
//! relayed messages, bytes that wait. Where all of it is asked for, those who took least get theirs first
//! (`src/server/admission.rs`).
//!
//! **Time.** A room's ticks stand on an absolute grid from its making. A late room runs once, counts what it missed,
//! and goes on; it never spirals. Rooms sit in eight phases of the tick, so that no turn carries the burst of all of
//! them.
//!
//! # Around the game
//!
//! A game is told all that it may know, so that it can be replayed; what a program does beside it has two places.
//! [`hooks::Hooks`] are asked who may join, with address and HTTP headers in hand, and hear who comes and goes.
//! `driver::Handle::external` is the door by which threads of the program (for a database, say) reach a room; the game
//! hears of it in [`game::Game::external`], within a tick. What both say to a game is on record.
//!
//! # The network
//!
//! - **Unreliable means late-free.** A state or input that can't leave now is dropped and counted, never queued behind
//!   others. The data channel carries nothing that would be retransmitted; what must arrive goes over the websocket
//!   that stays open beside it. Why the lane is not an ordinary SCTP stands at the top of `src/peer/lane.rs`.
//! - **A congested path gets fewer ticks**, each with what is newest then: the lane has no window and no queue to slow
//!   it down. What it goes by, and why, stands at the top of `src/peer/pace.rs`; the game is told each player's round
//!   trip and losses ([`game::Link`]).
//! - **Host candidates only**, one UDP port: no STUN or TURN from outside. Players are told `--public-addr` where it
//!   is given, else the address that their page came from, then the machine's others, as they are when they join.
//! - **Whose network carries no UDP** gets the same frames over the websocket, one state at a time, and is told so.
//! - **A path is proven**, a local and a remote address together, when it has returned a heartbeat with our random
//!   number in it. Until then it gets at most three times the bytes that came over it, and the old one stays in use.
//! - **A channel is alive by what it delivers**, either way; one that delivers nothing is passed by, and the websocket
//!   carries its frames until it does again.
//! - **Everything has a limit.** The table in [`limits`] says of each what happens past it: an error with a code
//!   ([`wire::codes`]), which costs its sender at most their connection, or a drop that is counted
//!   ([`server::Counters`]).
//!
//! The bytes are specified in [`wire`].
//!
//! # Recordings
//!
//! What a room is told can be recorded with a hash of what it says, and told again: [`journal`]. The core hands blocks
//! of bytes to a sink that must not block; the driver's (`--record`) leaves them to a thread that writes them, the one
//! exception to the one thread. A game is then held to what it said: `rtcade replay --check`.
//!
//! # Errors
//!
//! Broken invariants panic: in a peer it costs that peer its connection, in a game its room. Bytes of the network
//! never panic. The driver fails when it can't bind, or when the operating
//! system takes its event queue away.

#![forbid(unsafe_code)]

pub mod auth;
#[cfg(feature = "driver")]
pub mod bench;
#[cfg(feature = "driver")]
#[doc(hidden)]
pub mod cli;
pub mod client;
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
pub mod peer;
pub mod playback;
mod player;
mod rate;
pub mod room;
pub mod server;
pub mod sim;
pub mod wire;
#[cfg(feature = "driver")]
mod yaml;

#[cfg(feature = "driver")]
pub use cli::{ExitCode, run, run_with};
pub use rand;
