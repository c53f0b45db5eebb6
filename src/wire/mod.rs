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
//!          up: the states received: bits 9–0 the newest tick (mod 2¹⁰), bits 15–10 whether the six ticks before it,
//!          the nearest in bit 10; without a state the tick before that of the reply to `join`
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
//! deflated (raw, RFC 1951, no dictionary) only where that makes it smaller, and only if several players get it or it
//! is too large otherwise; the header is not.
//!
//! | kind | number | direction, lane | body |
//! |---|---|---|---|
//! | input | 1 | up, unreliable | `[newest, [input, …], seen, …]`: number of the newest input (u32), then the unacknowledged inputs, newest first, consecutive, as many of the newest 8 as fit one part, then as many stamps, see below |
//! | ping | 2 | both, unreliable | `[clock]`: the sender's clock, f64 milliseconds; up also `[clock, padding]`, to test which sizes pass |
//! | pong | 3 | both, unreliable | down `[clock, server clock, tick]`, or with the ping's padding at its end, up `[clock]`; `clock` is that of the ping, from the server plus the time for which it was held |
//! | state | 4 | down, unreliable | `[tick, state]`, or a delta |
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
//! Each input has a [stamp](seen): the tick that the player saw of the others when the input was sent, in sixteenths of
//! a tick modulo 2¹⁶. A body has the stamp of its newest input (u16), then for each further input by how much its stamp
//! is below that of the input before it, modulo 2¹⁶ (i16). The server takes the tick nearest to the room's and clamps
//! it to [`SEEN_LIMIT`](crate::limits::SEEN_LIMIT).
//!
//! # Deltas
//!
//! The body of a state is whole, as in the table, or a delta: its difference from the body of an earlier state, the
//! baseline. A delta is not deflated.
//!
//! ```text
//!  0        1        2        3        4        5        6
//! +--------+--------+--------+--------+--------+--------+----···
//! | 0xc1   | codec  | baseline (u16)  | check (u16)     | operations
//! +--------+--------+--------+--------+--------+--------+----···
//!
//! 0xc1     begins no msgpack value
//! codec    bits 7–4 version (0) · bits 3–0 codec: 1 byte-wise; 2 is reserved for a token-wise one
//! baseline the tick of the baseline (mod 2¹⁶)
//! check    the low 16 bits of the CRC32c (RFC 9260, appendix A) of the whole body
//!
//! operation  bits 7–4 copy · bits 3–1 insert · bit 0 whether a skip follows
//!            [varint, if copy is 15] [varint, if insert is 7] [varint, if a skip follows] insert bytes
//! ```
//!
//! Each operation appends `copy` bytes of the baseline at the source pointer, then the `insert` bytes that follow it.
//! The source pointer begins at 0; it moves by copy + insert + skip, so that fields of the same length need no skip. It
//! may lie outside of the baseline as long as nothing is copied there. A varint has seven bits in each byte, the lowest
//! first, and bit 7 set in all but its last; at most three bytes. It is added to 15 or 7; for a skip it is zigzag-coded
//! (0, −1, 1, −2, …). The body ends with the delta and has at most
//! [`STATE_BODY_BYTES`](crate::limits::STATE_BODY_BYTES).
//!
//! The server uses as baselines the last [`STATE_HISTORY`](crate::limits::STATE_HISTORY) states that it has sent, of
//! those the ones that the player has acknowledged since joining, reconnecting or offering a data channel. A client
//! keeps as many of those that it has received, each newer than the one before. It drops a state whose baseline it does
//! not hold or whose check fails; the server goes on with what is acknowledged. A client that has nothing else to send
//! sends a frame of inputs, without any if need be, after six states.
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
//!   within 5 s. For a client that has sent `sparseHeartbeats`, the server skips two of three heartbeats while the data
//!   channel delivers and no ping is unanswered; the client's limit is 7.4 s while its channel delivers.
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
pub mod seen;
pub mod signaling;

mod deflate;
pub use deflate::{Deflater, InflateError, Inflater};
