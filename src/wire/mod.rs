//! The wire protocol, version 0: game frames, their bodies, signaling and codes.
//!
//! # Frames
//!
//! ```text
//! unreliable, both ways                            data channel, or binary on the websocket
//!  0        1        2        3        4        5        6
//! +--------+--------+--------+--------+--------+--------+----···
//! | byte 0 | [part] | seq (u16)       | ack (u16)       | body
//! +--------+--------+--------+--------+--------+--------+----···
//!
//! reliable, both ways                              binary on the websocket only
//!  0        1        2        3        4        5        6        7        8        9
//! +--------+--------+--------+--------+--------+--------+--------+--------+--------+----···
//! | byte 0 | seq (u32)                         | tick (u32)                        | body
//! +--------+--------+--------+--------+--------+--------+--------+--------+--------+----···
//!
//! byte 0   bits 7–6 version (0) · bit 5 deflated · bit 4 parted · bits 3–0 kind      integers little endian
//! part     down only, where bit 4 is set: index (high 4 bits), count − 1 (low 4 bits)
//!          parts have consecutive seq, so the frame is seq − index
//! seq      counts frames per player and direction, to detect loss and reordering
//! ack      down: the player's newest input (mod 2¹⁶) that was passed to the game
//!          up: the newest tick received (mod 2¹⁶)
//! tick     down: the tick that sent it; up: the newest tick received
//! ```
//!
//! Unreliable `seq` starts at 0 and runs across both transports: it continues when a player moves from the websocket to
//! the data channel. Reliable `seq` starts at 1. Each kind belongs to one lane, so the first byte determines the
//! header.
//!
//! # Bodies
//!
//! msgpack, positional arrays. The game's own values inside them are encoded with field names (enums externally
//! tagged), so that JavaScript reads objects. Each of them is nested at most 16 deep, not counting the arrays around
//! it. One from a client has at most 4,096 elements, a body from the server no more than it has bytes. A body is
//! deflated (raw, RFC 1951, no dictionary) only where that makes it smaller, and only if several players get it; the
//! header is not.
//!
//! | kind | number | direction, lane | body |
//! |---|---|---|---|
//! | input | 1 | up, unreliable | `[newest, [input, …]]`: number of the newest input (u32), then the unacknowledged inputs, newest first, consecutive, as many of the newest 8 as fit one part |
//! | ping | 2 | both, unreliable | `[clock]`: the sender's clock, f64 milliseconds; up also `[clock, padding]`, to test which sizes pass |
//! | pong | 3 | both, unreliable | down `[clock, server clock, tick]`, or with the ping's padding at its end, up `[clock]`; `clock` is that of the ping |
//! | state | 4 | down, unreliable | `[tick, state]` |
//! | tick | 5 | down, unreliable | `[tick, [[player, number, input], …], …]`: inputs of `tick`, then of the ticks before it, four ticks at most and no more than fit one part |
//! | event | 6 | down, unreliable | `[tick, event]` |
//! | command | 7 | up, reliable | `command` |
//! | ticks | 8 | reliable | up `[first, last]`; down `[first, [[player, number, input], …], …]`: inputs of `first`, then of the ticks after it |
//! | reliable event | 9 | down, reliable | `[tick, event]` |
//! | ack | 10 | both, reliable | `[newest]`: number of the newest reliable message received; its own `seq` is 0 |
//!
//! Inputs are numbered from `inputSeq` (in the reply to `join`) by the client, by one each. The server
//! ignores a number that it has already received; each input reaches the game once, in order.
//!
//! # Signaling
//!
//! See [`signaling`]; codes in [`codes`].
//!
//! # Presence
//!
//! A player is present as long as the session exists, on either transport. [Times](crate::limits) are the server's.
//!
//! - **Websocket.** The server sends an ack and a ping (RFC 6455 §5.5.2) every 1.2 s. After three unanswered pings the
//!   websocket counts as lost. For a client it counts as lost after 5 s without any message. Each end thus notices
//!   within 5 s.
//! - **Leaving.** `leave` and close code 1000 end the session at once. Code 1001 means that the page was closed or is
//!   reloading: the session is kept for 1.5 s. After any other end of the websocket it is kept for 10 s; then the
//!   player leaves with the reason `closed` or `timeout`.
//! - **Reconnecting.** `reconnect` contains the session and the token from the last reply. Tokens are random,
//!   stored as a hash, and replaced by the reply. The previous token stays valid until something is received on the new
//!   websocket, because the reply may be lost. A session moves to the newest websocket, and the older one is closed
//!   with `replaced`; a delayed request on the older of two websockets has no effect. Players who left or were kicked
//!   have no session. A locked room admits reconnecting players.
//! - **Continuity.** Each end keeps up to 64 KiB of reliable frames that the other has not acknowledged. `last`, in the
//!   request and in its reply, is the number of the newest frame received; later frames are sent again, and duplicates
//!   are ignored. A player who has missed more starts over. Acks are sent with each heartbeat, and after each 16 KiB.
//! - **Data channel.** It is independent of the websocket: if either is lost, play continues on the other. ICE closes a
//!   channel whose consent has expired (RFC 7675). If an open channel delivers nothing for 1.5 s although something
//!   waits to be delivered, both ends use the websocket instead, as long as it delivers. A client whose steady stream
//!   of states stops sends a ping over the websocket while its channel is open; this reports that it receives nothing,
//!   and the server uses the websocket until the channel delivers again. Both ends keep probing the channel. A ping is
//!   answered on the transport on which it arrived. A client offers a lost channel again at once, then after 10 s, then
//!   after twice as long each, up to a minute.
//! - **Back-off.** After losing its websocket a client retries after a random time of up to 250 ms, then of up to twice
//!   as long each, up to 5 s, for a minute. `retryAfter` (in ms) in a refusal replaces the wait.

pub mod codes;
pub mod delta;
pub mod frame;
pub mod msgpack;
pub(crate) mod name;
pub mod signaling;

mod deflate;
pub use deflate::{Deflater, InflateError, Inflater};
