//! Every maximum of the protocol and the server, tied together by assertions at compile time.
//!
//! Past each of them there is an error with a code or a counter, never a longer queue. Counters are fields of
//! [`server::Counters`](crate::server::Counters), unless another type is named. Sizes are in bytes.
//!
//! | limit | of what | past it | counted in |
//! |---|---|---|---|
//! | **Sizes on the wire** | | | |
//! | [`UDP_PAYLOAD_BYTES`], [`DTLS_RECORD_OVERHEAD_BYTES`], [`SCTP_OVERHEAD_BYTES`] | bytes of one UDP payload, and of what stands around a frame in it | held by an assertion: no larger datagram is made | – |
//! | [`FRAME_BYTES`], [`UNRELIABLE_HEADER_BYTES`], [`RELIABLE_HEADER_BYTES`] | bytes of one frame on the data channel, and of the headers of frames | a longer message comes in fragments, and is dropped | `Dropped::fragment` |
//! | [`FRAME_PARTS`], [`PART_BODY_BYTES`] | parts of an unreliable frame, and bytes of each | the frame is refused: its sender is put out with `bad_frame`; a client drops it | `bad_frames`, in a client its statistics |
//! | [`UNRELIABLE_BODY_BYTES`] | bytes of the body of an unreliable frame, inflated | as above | as above |
//! | [`BODY_PREFIX_BYTES`], [`LIST_PREFIX_BYTES`] | bytes before the values in a body | part of other limits | – |
//! | [`RELIABLE_DOWN_BYTES`] | bytes of one reliable message from the server, a welcome included | a player whose welcome is longer is refused with `too_large` | `refused_requests` |
//! | [`RELIABLE_UP_BYTES`] | bytes of one message from a client | the client refuses to send it (`too_large`); the server puts its sender out | `bad_frames`; of signaling `refused_requests` |
//! | **What games and players say** | | | |
//! | [`STATE_BYTES`], [`RELIABLE_EVENT_BYTES`] | bytes of one state or unreliable event; of one reliable event | it is not sent: `SendError::TooLarge` | `Room::unsent` |
//! | [`INPUT_BYTES`] | bytes of one input | the client refuses to send it (`too_large`); the server puts its sender out with `bad_frame` | `bad_frames` |
//! | [`INPUT_WINDOW`] | inputs in one frame, and those that a client keeps until they are acknowledged | the client gives up the oldest; a frame with more puts its sender out | `bad_frames` |
//! | [`INPUTS_PER_SECOND`] | inputs of one player that a tick takes: [`PerTick::inputs`] | more wait; past [`PerTick::input_backlog`] the oldest is dropped | `overflowed_inputs` |
//! | [`COMMANDS_PER_SECOND`], [`COMMANDS_PER_TICK`] | commands of one player that a tick takes: [`PerTick::commands`] | more wait | – |
//! | [`COMMAND_BACKLOG`], [`COMMAND_BACKLOG_BYTES`] | commands of one player that wait ([`PerTick::command_backlog`]), and their bytes | the player is put out with `flood` | `PutOut::flood` |
//! | [`BATCH_BYTES_PER_SECOND`], [`BATCH_BYTES`] | bytes of the inputs of one tick, and as many of its commands: [`PerTick::batch_bytes`] | more wait; the players share the bytes of a tick | as the backlogs |
//! | [`FAN_OUT_BYTES`], [`FANNED_OUT_BYTES`] | bytes of the inputs of one tick where they are fanned out, and of each | more wait; the players share the bytes of a tick | as the backlogs |
//! | [`TICK_WINDOW`] | ticks in one downlink window; fewer where they don't fit one part | older ones are asked for over the reliable lane | – |
//! | [`TICK_HISTORY`] | how long a room keeps the inputs it fanned out | the ticks are lost: `ticks_lost`, `Event::TicksLost` | in the client |
//! | [`TICKS_PER_REQUEST`], [`TICKS_ANSWER_BYTES`] | ticks in one answer, and its bytes; the first tick goes whatever its length | the client asks on | – |
//! | [`MSGPACK_DEPTH`] | nesting of one value of a game | a client and [`Context::state`](crate::game::Context::state) refuse to send it; the server puts its sender out with `bad_frame` | `bad_frames`, `Room::unsent` |
//! | [`INPUTS_WRAPPING`], [`TICKS_WRAPPING`], [`AT_TICK_WRAPPING`] | arrays around such a value, on top of its own | part of the limit above | – |
//! | [`MSGPACK_ITEMS`], [`JS_INTEGER_MAX`] | elements of one value from a client; magnitude of an integer | as for the nesting | `bad_frames`, `Room::unsent` |
//! | [`PING_PADDING_BYTES`] | bytes that a ping has its pong bring back | its sender is put out with `bad_frame` | `bad_frames` |
//! | [`EXTERNAL_BYTES`] | bytes of one message from outside | an error to the sender: `TooLarge` | – |
//! | [`EXTERNAL_BACKLOG`], [`EXTERNAL_QUEUE`] | messages from outside that wait for one room, and for all | an error to the sender: `Full` | – |
//! | [`ATTACHED_BYTES`] | bytes that hooks attach to a player | the player is refused with `internal` | `failed_hooks` |
//! | **Queues of one player** | | | |
//! | [`RELIABLE_QUEUE_BYTES`], [`UNJOINED_QUEUE_BYTES`] | bytes that wait for a slow websocket, of a player and of others | it is closed with `timeout` | `overfull_connections` |
//! | [`QUEUED_BYTES_PER_ADDRESS`] | the same of all websockets of one address | those are closed that hold more than [`RELAY_QUEUE_BYTES`] | `overfull_connections` |
//! | [`WEBSOCKET_FRAMES`] | unreliable bodies that wait for a slow websocket; of states, one | the oldest is dropped | `dropped_frames` |
//! | [`UNACKNOWLEDGED_BYTES`] | bytes of reliable messages that are kept until they are acknowledged | a player who comes back and has missed more begins anew; a client refuses more commands (`backlog`) | `missed_too_much` |
//! | [`RELAY_QUEUE_BYTES`] | bytes that wait for a websocket where another player's message is still added | the message is refused with `rate_limited` | `dropped_relays` |
//! | **Rates of one player** | | | |
//! | [`FRAMES_PER_SECOND`] | frames | an unreliable one is dropped; past as many again the player is put out with `flood` | `excess_frames` |
//! | [`SIGNALS_PER_SECOND`] | signaling messages | refused with `rate_limited`; past as many again the connection is closed with `flood` | `refused_requests` |
//! | [`RELAYED_BYTES_PER_SECOND`], [`RELAYED_BYTES_PER_ROOM_PER_SECOND`], [`RELAYED_BYTES_PER_ADDRESS_PER_SECOND`] | bytes to other players, of one player, of a room, of an address | refused with `rate_limited` | `refused_requests` |
//! | [`PRESENCE_BYTES_PER_SECOND`] | bytes that tell the players of a room who comes and goes | the news waits | – |
//! | [`WEBSOCKET_FRAMES_PER_SECOND`] | websocket frames of one connection, whatever they are | past as many again it is closed with `flood` | `rtcade_websockets_closed_total` |
//! | [`UPLINK_PACKETS_PER_SECOND`], [`UPLINK_BYTES_PER_SECOND`], [`ACKNOWLEDGEMENT_BYTES`] | packets of the data channel and their bytes, and what each message to the player adds | dropped; past as much again the player is put out with `flood` | `Dropped::excess` |
//! | [`DOWNLINK_BYTES_PER_SECOND`] | bytes to the data channel | dropped | `dropped_frames` |
//! | [`BACKOFF_INTERVAL`] | ticks of which a congested path gets at least one | – | `held_back` |
//! | [`INPUT_INTERVAL`] | least time between two packets of new inputs of one client | inputs go together | – |
//! | **Names and signaling** | | | |
//! | [`ROOM_NAME_CHARS`] | characters of a room's name | refused with `bad_room`, of the URL of a page with HTTP status 404 | `refused_requests` |
//! | [`PLAYER_NAME_CHARS`], [`PLAYER_NAME_BYTES`], [`PLAYER_NAME_CLUSTER`] | characters (grapheme clusters) of a player's name, its bytes, and code points of one character | cut | – |
//! | [`SUBJECT_BYTES`] | bytes of a token's `sub` | refused with `unauthorized` | `RefusedJoins::token` |
//! | [`SDP_BYTES`], [`SDP_LINES`] | bytes and lines of an SDP | refused with `bad_sdp`, between players with `too_large` | `refused_requests` |
//! | [`CANDIDATE_BYTES`], [`ORIENTATION_BYTES`], [`RELAYED_DEPTH`] | bytes and nesting of what players relay | refused with `too_large` | `refused_requests` |
//! | [`CANDIDATES_ADVERTISED`] | candidates in one answer | the rest is left out | – |
//! | **Addresses** | | | |
//! | [`PEER_ADDRESSES`], [`PEER_INTRODUCTIONS`] | addresses of one peer at a time, and in its life | the oldest unproven one is forgotten; checks from further ones are passed over | `Unroutable::stun` |
//! | [`PEER_CHECKS`] | ICE checks of one peer that are remembered | the oldest is forgotten | – |
//! | [`PATH_KEPT`] | how long a peer keeps a proven path unheard | another may claim it | – |
//! | [`LOCAL_ADDRESSES`] | local UDP addresses | datagrams to more of them are dropped, with a warning | `unnumbered` of datagrams |
//! | [`UNPROVEN_AMPLIFICATION`] | bytes sent to an unproven address, per byte from it | dropped | `Dropped::unproven` |
//! | **The server** | | | |
//! | [`ROOMS`] | rooms | refused with `room_full` | `refused_requests` |
//! | [`CONNECTIONS`] | websockets | HTTP status 503 | – |
//! | [`CONNECTIONS_PER_ADDRESS`], [`UNJOINED_PER_ADDRESS`] | websockets of one address, and those that have not joined | HTTP status 429, or of a websocket refused with `rate_limited` | `refused_connections` |
//! | [`JOINS_PER_SECOND`], [`JOINS_AT_ONCE`] | joins and returns of all players | refused with `rate_limited` and a time | `RefusedJoins::pace` |
//! | [`JOINS_PER_ADDRESS_PER_SECOND`], [`JOINS_PER_ADDRESS_AT_ONCE`] | the same from one address | refused with `rate_limited` and a time | `RefusedJoins::pace` |
//! | [`JOIN_RETRY`] | the longest time that a refused player is given | times are given twice | – |
//! | [`JOINING_ADDRESSES`] | addresses whose joins are counted | the address with the fewest joins is forgotten | – |
//! | [`PLAYERS_PER_ROOM`], [`PLAYERS_PER_ROOM_MAX`] | players of a room, by default and at most | refused with `room_full`; no server starts with more | `refused_requests` |
//! | [`KEEP_ALIVE`], [`KEEP_ALIVE_RANGE`] | time that an HTTP connection waits for its next request, and what it may be set to | it is closed | – |
//! | [`TURN_WORK`], [`TURN_SHARE`], [`TURN_ACCEPTS`], [`FILE_CHUNK_BYTES`] | TCP work of one turn of the loop, and of one connection in it; connections accepted; bytes of a file at once | the rest waits for the next turns | – |
//! | [`CALL_WORK`], [`WEBSOCKET_FRAME_WORK`], [`REQUEST_WORK`] | work that is no bytes, in the same unit | part of the limit above | – |
//! | [`PHASE_SLOTS`] | phases of the tick over which rooms are spread | – | – |
//! | [`TICK_MS`], [`TICK_MS_RANGE`] | length of a tick, by default and in the range of [`is_tick_length`] | no server starts with another; a recording of another is refused | – |
//! | [`TOLD_PER_TICK`] | entries between two ticks of a recording | the recording is refused | – |
//! | [`JOURNAL_BYTES`], [`RECORDING_QUEUE_BYTES`], [`RECORDINGS_MIB`] | bytes of one recording, of those that wait for the disk, and of all in a directory | the recording ends, the room goes on; the oldest are removed | `recordings_ended_early_total` |
//! | **Times** | | | |
//! | [`JOIN_TIMEOUT`] | a websocket that has not joined | it is closed | `idle_connections` |
//! | [`DECISION_TIMEOUT`] | a hook that decides later | the player is refused with `internal` | `failed_hooks` |
//! | [`PEER_OPEN_TIMEOUT`], [`PEER_REACH_TIMEOUT`], [`PEER_SECURE_TIMEOUT`] | a data channel that has not opened; of which nothing was heard; whose DTLS is not done | it is closed: play goes on over the websocket | – |
//! | [`EMPTY_ROOM_LINGER`] | an empty room | it is dropped | – |
//! | [`RESUME_GRACE`], [`RELOAD_GRACE`] | a player without a websocket; one whose page went away | the player leaves with `timeout` or `closed` | – |
//! | [`HEARTBEAT_INTERVAL`], [`HEARTBEATS_UNANSWERED`], [`PINGS_REMEMBERED`] | time between two pings on a websocket, those that stay unanswered, and those whose answer is recognised | the websocket is lost | – |
//! | [`CHANNEL_SILENCE`], [`CHANNEL_DOUBT`] | a data channel that delivers nothing, and the time after which it is asked | the websocket carries | – |
//! | [`PING_INTERVAL`] | time between two pings, each way | – | – |
//! | [`CLOCK_GAP`] | a gap between two turns of the loop | the process was stopped: what has arrived goes before timeouts | – |

use std::time::Duration;

/// Bytes of one UDP payload, everything on board (RFC 8831 §5 recommends staying at or below 1,200).
pub const UDP_PAYLOAD_BYTES: usize = 1_200;
/// Bytes that DTLS 1.2 with AES-GCM adds to a record: header 13, explicit nonce 8, tag 16 (RFC 5288 §3, RFC 6347 §4.1).
pub const DTLS_RECORD_OVERHEAD_BYTES: usize = 37;
/// Bytes that SCTP may put around one message: common header 12, DATA header 16 and its padding 3, and the bundled
/// COOKIE-ACK 4, SACK 16 and FORWARD-TSN 8 (RFC 9260 §3, RFC 3758 §3.2).
pub const SCTP_OVERHEAD_BYTES: usize = 12 + 16 + 3 + 4 + 16 + 8;
/// Bytes of one game frame on the data channel, its header included.
pub const FRAME_BYTES: usize = 1_100;
/// Bytes of an unreliable frame's header: kind, part, seq, ack.
pub const UNRELIABLE_HEADER_BYTES: usize = 6;
/// Bytes of a reliable frame's header: kind, seq, tick.
pub const RELIABLE_HEADER_BYTES: usize = 9;
/// Parts that one unreliable frame may be cut into.
pub const FRAME_PARTS: usize = 4;
/// Bytes of body in one part.
pub const PART_BODY_BYTES: usize = FRAME_BYTES - UNRELIABLE_HEADER_BYTES;
/// Bytes of an unreliable body, all parts together, on the wire and inflated.
pub const UNRELIABLE_BODY_BYTES: usize = FRAME_PARTS * PART_BODY_BYTES;
/// Bytes of one encoded `State` or unreliable `Event`, before it is deflated.
pub const STATE_BYTES: usize = 4 * 1024;
/// Most bytes of the array marker and tick number that begin a body.
pub const BODY_PREFIX_BYTES: usize = 3 + 5;
/// Bytes of one reliable message from the server, a welcome included.
pub const RELIABLE_DOWN_BYTES: usize = 1024 * 1024;
/// Bytes of one encoded reliable `Event`: with its tick it is a reliable message.
pub const RELIABLE_EVENT_BYTES: usize = RELIABLE_DOWN_BYTES - BODY_PREFIX_BYTES;
/// Bytes of one reliable message, or one signaling message, from a client.
pub const RELIABLE_UP_BYTES: usize = 16 * 1024;
/// Bytes of reliable messages and signaling that may wait for one player's slow socket; past it the player is closed.
pub const RELIABLE_QUEUE_BYTES: usize = 4 * 1024 * 1024;
/// The same for a connection that has not joined, whose replies are short.
pub const UNJOINED_QUEUE_BYTES: usize = 64 * 1024;
/// The same for all connections of one address (of IPv6, one /64), this machine's own excepted. Past it those are
/// closed that hold more than [`RELAY_QUEUE_BYTES`].
pub const QUEUED_BYTES_PER_ADDRESS: usize = 64 * 1024 * 1024;

/// Unreliable bodies that wait for one player's websocket; past it the oldest is dropped. Of states, one.
pub const WEBSOCKET_FRAMES: usize = 8;

/// Inputs that one frame carries, and inputs that a client keeps until they are acknowledged.
pub const INPUT_WINDOW: usize = 8;
/// Bytes of one encoded input. A frame carries the newest input and as many of the window as fit one part.
pub const INPUT_BYTES: usize = 512;
/// Bytes of one fanned-out input: `[player, number, input]`.
pub const FANNED_OUT_BYTES: usize = 1 + 5 + 5 + INPUT_BYTES;
/// Inputs of one player per second that reach the game, in ticks of any length; see [`PerTick::inputs`].
pub const INPUTS_PER_SECOND: u32 = 250;
/// Commands of one player per second that reach the game, in ticks of any length; see [`PerTick::commands`].
pub const COMMANDS_PER_SECOND: u32 = 500;
/// Commands that reach the game in each tick, however short.
pub const COMMANDS_PER_TICK: usize = 16;
/// Commands of one player that wait, on top of those that a client within [`FRAMES_PER_SECOND`] sends during a tick:
/// what a websocket brings at once after it was held up. See [`PerTick::command_backlog`].
pub const COMMAND_BACKLOG: usize = 256;
/// Bytes of the commands of one player that wait.
pub const COMMAND_BACKLOG_BYTES: usize = 16 * RELIABLE_UP_BYTES;
/// Bytes of all players' inputs that reach a game per second, and as many of their commands; see
/// [`PerTick::batch_bytes`].
pub const BATCH_BYTES_PER_SECOND: u32 = 8 * 1024 * 1024;
/// Bytes of the inputs of one tick, and as many of its commands: fanned out, the inputs are one reliable message.
pub const BATCH_BYTES: usize = RELIABLE_DOWN_BYTES - BODY_PREFIX_BYTES - LIST_PREFIX_BYTES;
/// Bytes of the inputs of one tick in a room that fans out its inputs: with tick and prefixes they fit a frame.
pub const FAN_OUT_BYTES: usize = UNRELIABLE_BODY_BYTES - BODY_PREFIX_BYTES - LIST_PREFIX_BYTES;
/// Most bytes of the array marker before the inputs of a tick.
pub const LIST_PREFIX_BYTES: usize = 5;
/// A congested path gets at least what every so manieth tick has to say.
pub const BACKOFF_INTERVAL: u32 = 4;
/// Ticks in one downlink window: the newest and those before it.
pub const TICK_WINDOW: usize = 4;
/// How long a room keeps the inputs it fanned out, for clients that missed ticks.
pub const TICK_HISTORY: Duration = Duration::from_secs(10);
/// Ticks one `ticks` request may ask for.
pub const TICKS_PER_REQUEST: u32 = 310;
/// Bytes of the answer to it, unless its first tick alone has more; what is cut off can be asked for again.
pub const TICKS_ANSWER_BYTES: usize = 64 * 1024;

/// Bytes of what a program's hooks attach to a player, as JSON.
pub const ATTACHED_BYTES: usize = 4 * 1024;

/// Bytes of one message to a game from outside ([`Game::external`](crate::game::Game::external)).
pub const EXTERNAL_BYTES: usize = 64 * 1024;
/// Of those, as many as a room takes per tick.
pub const EXTERNAL_BACKLOG: usize = 64;
/// Of those, as many as wait between the threads that send them and the rooms, those for rooms that take no more before
/// their next tick aside: there may be as many of them again.
pub const EXTERNAL_QUEUE: usize = 256;
/// Bytes of the value that a ping carries and its pong brings back: with its clocks and tick the pong is one frame.
pub const PING_PADDING_BYTES: usize = PART_BODY_BYTES - 1 - 9 - 9 - 5;

/// Nesting of one value of a game: an input, a command, a state or an event. What stands around it in a body comes on
/// top: see [`INPUTS_WRAPPING`], [`TICKS_WRAPPING`] and [`AT_TICK_WRAPPING`].
pub const MSGPACK_DEPTH: usize = 16;
/// Arrays around an input on its way up: `[newest, [input, …]]`.
pub const INPUTS_WRAPPING: usize = 2;
/// Arrays around an input that is fanned out: `[tick, [[player, number, input], …], …]`.
pub const TICKS_WRAPPING: usize = 3;
/// The array around a state or an event: `[tick, value]`.
pub const AT_TICK_WRAPPING: usize = 1;
/// Elements of all arrays and maps of one value from a client. What comes from the server has no more elements than
/// bytes, and a limit of those.
pub const MSGPACK_ITEMS: usize = 4_096;
/// Integers past this magnitude don't survive JavaScript (2⁵³).
pub const JS_INTEGER_MAX: u64 = 1 << 53;

/// Characters of a room's name.
pub const ROOM_NAME_CHARS: usize = 64;
/// Characters of a player's name: grapheme clusters, as readers count them (UAX #29).
pub const PLAYER_NAME_CHARS: usize = 32;
/// Bytes of a player's name.
pub const PLAYER_NAME_BYTES: usize = 4 * PLAYER_NAME_CHARS;
/// Code points of one character of a player's name. A family of four, each with a skin tone, has 11.
pub const PLAYER_NAME_CLUSTER: usize = 12;
/// Bytes of the `sub` of a bearer token.
pub const SUBJECT_BYTES: usize = 128;
/// Bytes of an SDP.
pub const SDP_BYTES: usize = 8 * 1024;
/// Lines of an SDP.
pub const SDP_LINES: usize = 256;
/// Bytes of a candidate that one player has for another, as JSON.
pub const CANDIDATE_BYTES: usize = 1024;
/// Bytes of the orientation that a player has for the others, as JSON.
pub const ORIENTATION_BYTES: usize = 512;
/// Nesting of either.
pub const RELAYED_DEPTH: usize = 8;
/// Bytes that one player may have relayed to others per second, with a burst of the same number; a message for
/// everybody in the room counts for each of them. A message that is larger than what is left is granted while anything
/// is, and the rest is owed: so a message may reach the largest room.
pub const RELAYED_BYTES_PER_SECOND: u32 = 256 * 1024;
/// The same for all players of one room.
pub const RELAYED_BYTES_PER_ROOM_PER_SECOND: u32 = 1024 * 1024;
/// The same for all players of one address (of IPv6, one /64), this machine's own excepted.
pub const RELAYED_BYTES_PER_ADDRESS_PER_SECOND: u32 = 1024 * 1024;
/// Bytes that tell the players of one room who comes and goes, per second, with a burst of the same number. Past it the
/// news waits, and a player who comes and goes meanwhile is never told of.
pub const PRESENCE_BYTES_PER_SECOND: u32 = 2 * 1024 * 1024;
/// Bytes that may wait for a player's slow socket where another player's message is still added; past it that one is
/// refused. Far below [`RELIABLE_QUEUE_BYTES`], so that nobody is closed for what others send them.
pub const RELAY_QUEUE_BYTES: usize = 64 * 1024;
/// Candidates that the server puts into one answer.
pub const CANDIDATES_ADVERTISED: usize = 8;
/// Paths (a local and a remote address each) over which one peer may be heard; for the next one the oldest that has
/// proven nothing is forgotten.
pub const PEER_ADDRESSES: usize = 8;
/// Remote addresses that one peer may introduce in its life, those that were forgotten and came back included. Checks
/// from further ones are passed over.
pub const PEER_INTRODUCTIONS: u16 = 64;
/// ICE checks of one peer that are remembered, so that a copy of one from another address is known as such.
pub const PEER_CHECKS: usize = 64;
/// How long a peer that has proven a path keeps it after it was last heard there: until then nobody else can claim it.
pub const PATH_KEPT: Duration = Duration::from_secs(5);
/// Local UDP addresses (each with its own `LocalId`).
pub const LOCAL_ADDRESSES: usize = 64;
/// Bytes sent to an address that has not proven itself, per byte received from it (RFC 9000 §8 has the same bound).
pub const UNPROVEN_AMPLIFICATION: u64 = 3;

/// Rooms of one server.
pub const ROOMS: usize = 4_096;
/// Websocket connections of one server, joined or not.
pub const CONNECTIONS: usize = 8_192;
/// Websocket connections from one address (of IPv6, one /64), this machine's own excepted.
pub const CONNECTIONS_PER_ADDRESS: usize = 512;
/// Of those, and of plain HTTP connections, the ones that have not joined.
pub const UNJOINED_PER_ADDRESS: usize = 64;
/// How long an HTTP connection may wait for its next request: longer than balancers keep theirs, most of them 60 s, so
/// that these are the ones to close. It gives its place to others where places are scarce.
pub const KEEP_ALIVE: Duration = Duration::from_secs(75);
/// What it may be set to.
pub const KEEP_ALIVE_RANGE: std::ops::RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(3_600);
/// TCP work that one turn of the driver's loop does for all connections together, in bytes that are read and written
/// and their equivalents below. What is left waits for the next turn, behind the ticks that are due by then.
pub const TURN_WORK: usize = 256 * 1024;
/// Of that, what one connection gets before the others that are ready have had theirs.
pub const TURN_SHARE: usize = 32 * 1024;
/// What a read or a write on a TCP socket costs beside its bytes.
pub const CALL_WORK: usize = 2 * 1024;
/// What a websocket frame costs beside its bytes, those that make no message included.
pub const WEBSOCKET_FRAME_WORK: usize = 512;
/// What an HTTP request, a signaling message, a new connection or the end of one costs beside its bytes.
pub const REQUEST_WORK: usize = 16 * 1024;
/// TCP connections accepted in one turn of the loop from each listening socket.
pub const TURN_ACCEPTS: usize = 4;
/// Websocket frames of any kind (RFC 6455 §5.2) that one connection may send per second, with a burst of the same
/// number: pings, pongs and fragments without content included. Who sends as many again on top is closed.
pub const WEBSOCKET_FRAMES_PER_SECOND: u32 = 500;
/// Bytes of a file that are in memory at once for one connection.
pub const FILE_CHUNK_BYTES: usize = 16 * 1024;
/// Joins of one server per second, and returns of players whose websocket was lost. Past it each is told when to come
/// back, so that after a restart all come one after the other.
pub const JOINS_PER_SECOND: u32 = 100;
/// How many of them may come at once.
pub const JOINS_AT_ONCE: u32 = 256;
/// Joins from one address (of IPv6, one /64) per second, those that are refused and returns to sessions that are not
/// known included, this machine's own excepted.
pub const JOINS_PER_ADDRESS_PER_SECOND: u32 = 10;
/// How many of them may come at once.
pub const JOINS_PER_ADDRESS_AT_ONCE: u32 = 64;
/// Longest time after which a refused player is told to come back; past it times are given twice.
pub const JOIN_RETRY: Duration = Duration::from_secs(30);
/// Addresses whose joins are counted; past it the one that joined least is forgotten.
pub const JOINING_ADDRESSES: usize = 8_192;
/// Players of one room unless `--max-players` says otherwise.
pub const PLAYERS_PER_ROOM: usize = 64;
/// The largest `--max-players`.
pub const PLAYERS_PER_ROOM_MAX: usize = 1_024;
/// Signaling messages one connection may send per second, with a burst of the same number.
pub const SIGNALS_PER_SECOND: u32 = 50;
/// Frames one player may send per second, with a burst of the same number.
pub const FRAMES_PER_SECOND: u32 = 250;
/// Packets that the data channel of one player may bring per second, with a burst of the same number, on top of one
/// for each message that goes to the player. A client sends 125 of inputs ([`INPUT_INTERVAL`]) and a few pings.
pub const UPLINK_PACKETS_PER_SECOND: u32 = 500;
/// Bytes of those packets per second, with a burst of the same number.
pub const UPLINK_BYTES_PER_SECOND: u32 = 256 * 1024;
/// Bytes that each message to a player adds to them: a SACK that reports some 60 gaps.
pub const ACKNOWLEDGEMENT_BYTES: u32 = 256;
/// Bytes that go to one player's data channel per second, with a burst of the same number: some 60 full states a
/// second. What is more is dropped.
pub const DOWNLINK_BYTES_PER_SECOND: u32 = 256 * 1024;
/// Phase slots over which rooms are spread within one tick.
pub const PHASE_SLOTS: u32 = 8;

/// Length of a tick unless `--tick-ms` says otherwise.
pub const TICK_MS: u32 = 33;
/// The shortest and the longest tick.
pub const TICK_MS_RANGE: std::ops::RangeInclusive<u32> = 5..=1_000;
/// Whether a room can have ticks of this length: [`TICK_MS_RANGE`], in steps of a nanosecond.
#[must_use]
pub const fn is_tick_length(tick: Duration) -> bool {
    let (shortest, longest) = (*TICK_MS_RANGE.start(), *TICK_MS_RANGE.end());
    tick.as_nanos() >= Duration::from_millis(shortest as u64).as_nanos()
        && tick.as_nanos() <= Duration::from_millis(longest as u64).as_nanos()
}

/// What a room takes for one tick: limits per second become limits per tick of its length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PerTick {
    /// Inputs of one player that one tick takes: [`INPUTS_PER_SECOND`], and at least [`INPUT_WINDOW`]. More wait.
    pub inputs: usize,
    /// Inputs of one player that wait: those of a tick and three windows. Past it the oldest is dropped.
    pub input_backlog: usize,
    /// Commands of one player that one tick takes: [`COMMANDS_PER_SECOND`], and at least [`COMMANDS_PER_TICK`]. More
    /// wait.
    pub commands: usize,
    /// Commands of one player that wait: [`COMMAND_BACKLOG`], and those that [`FRAMES_PER_SECOND`] allow during a tick.
    /// Past it the player is put out.
    pub command_backlog: usize,
    /// Bytes of all players' inputs that one tick takes, and as many of their commands: [`BATCH_BYTES_PER_SECOND`], at
    /// most [`BATCH_BYTES`]. More wait, and the players share what there is.
    pub batch_bytes: usize,
}

impl PerTick {
    /// The limits of ticks of this length.
    #[must_use]
    pub const fn new(tick: Duration) -> PerTick {
        let inputs = at_least(INPUT_WINDOW, during(tick, INPUTS_PER_SECOND));
        let batch_bytes = during(tick, BATCH_BYTES_PER_SECOND);
        PerTick {
            inputs,
            input_backlog: inputs + 3 * INPUT_WINDOW,
            commands: at_least(COMMANDS_PER_TICK, during(tick, COMMANDS_PER_SECOND)),
            command_backlog: COMMAND_BACKLOG + during(tick, FRAMES_PER_SECOND),
            batch_bytes: if batch_bytes < BATCH_BYTES { batch_bytes } else { BATCH_BYTES },
        }
    }
}

const fn at_least(least: usize, value: usize) -> usize {
    if value < least { least } else { value }
}

/// How many of so many per second come during `time`, rounded down; of no more than a few seconds.
const fn during(time: Duration, per_second: u32) -> usize {
    (time.as_nanos() * per_second as u128 / 1_000_000_000) as usize
}

/// How long a websocket may stay without joining.
pub const JOIN_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a player waits for a decision that [`Hooks::accept`](crate::hooks::Hooks::accept) has put off.
pub const DECISION_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a peer may take from its offer to an open channel.
pub const PEER_OPEN_TIMEOUT: Duration = Duration::from_secs(20);
/// How long the end that offers waits for anything at all from the other end: where UDP is blocked, nothing comes.
pub const PEER_REACH_TIMEOUT: Duration = Duration::from_secs(8);
/// How long the end that offers waits for DTLS once ICE has a path: a record that was forged or damaged on the way can
/// spoil a handshake silently, and another one is quicker than what may come of it.
pub const PEER_SECURE_TIMEOUT: Duration = Duration::from_secs(4);
/// How long an empty room is kept.
pub const EMPTY_ROOM_LINGER: Duration = Duration::from_secs(10);
/// How long a player whose websocket was lost may stay away and come back to what they had.
pub const RESUME_GRACE: Duration = Duration::from_secs(10);
/// The same where the page went away: it is either loading anew, which is quick, or closed.
pub const RELOAD_GRACE: Duration = Duration::from_millis(1_500);
/// Time between two pings on the websocket of a player.
pub const HEARTBEAT_INTERVAL: Duration = Duration::from_millis(1_200);
/// Pings that may stay unanswered; with the next one due the websocket is lost.
pub const HEARTBEATS_UNANSWERED: u8 = 3;
/// Pings of one websocket whose answers are recognised: the newest.
pub const PINGS_REMEMBERED: usize = 8;
/// An open data channel that has delivered nothing for so long, although something waited to be, is passed by until it
/// delivers: frames go over the websocket.
pub const CHANNEL_SILENCE: Duration = Duration::from_millis(1_500);
/// Of that, the time after which both ways are asked whether they are alive.
pub const CHANNEL_DOUBT: Duration = Duration::from_millis(500);
/// Bytes of reliable messages that are kept for a player until they are acknowledged; who comes back and has missed
/// more begins anew.
pub const UNACKNOWLEDGED_BYTES: usize = 64 * 1024;
/// Bytes of the recording of one room; past it the room goes on unrecorded.
pub const JOURNAL_BYTES: usize = 256 * 1024 * 1024;
/// Bytes of recordings that wait for the disk; past it recordings end.
pub const RECORDING_QUEUE_BYTES: usize = 64 * 1024 * 1024;
/// MiB of all recordings in a directory unless `--record-limit` says otherwise.
pub const RECORDINGS_MIB: u64 = 1_024;
/// What a room can be told between two ticks, in entries of its recording: none was ever told so much.
pub const TOLD_PER_TICK: usize = 1024 * 1024;
/// A gap between two turns of the loop past which the process is taken to have been stopped.
pub const CLOCK_GAP: Duration = Duration::from_millis(250);
/// Least time between two packets of new inputs from one client.
pub const INPUT_INTERVAL: Duration = Duration::from_millis(8);
/// Time between two pings, each way.
pub const PING_INTERVAL: Duration = Duration::from_secs(1);

const _: () = assert!(
    FRAME_BYTES + SCTP_OVERHEAD_BYTES + DTLS_RECORD_OVERHEAD_BYTES <= UDP_PAYLOAD_BYTES,
    "a full frame with every overhead must fit one UDP payload"
);
const _: () = assert!(
    STATE_BYTES + BODY_PREFIX_BYTES <= UNRELIABLE_BODY_BYTES,
    "a full state must fit its parts even where deflate does not help"
);
const _: () = assert!(INPUT_BYTES + 16 <= PART_BODY_BYTES, "the largest input must fit one part");
const _: () = assert!(FRAME_PARTS <= 16, "part index and count have four bits each");
const _: () = assert!(
    DOWNLINK_BYTES_PER_SECOND as usize >= FRAME_PARTS * UDP_PAYLOAD_BYTES * 1_000 / TICK_MS as usize,
    "the largest state of every tick fits"
);
const _: () = assert!(SDP_BYTES < RELIABLE_UP_BYTES);
const _: () =
    assert!(RELAYED_BYTES_PER_ROOM_PER_SECOND >= 2 * RELAYED_BYTES_PER_SECOND, "nobody has a room's share alone");
const _: () =
    assert!(RELAY_QUEUE_BYTES + 8 * RELIABLE_UP_BYTES < RELIABLE_QUEUE_BYTES, "the game has most of the queue");
const _: () = assert!(JOINS_PER_ADDRESS_AT_ONCE as usize >= UNJOINED_PER_ADDRESS, "who may wait may join");
const _: () = assert!(TURN_SHARE <= TURN_WORK && REQUEST_WORK + CALL_WORK <= TURN_SHARE, "a share serves a request");
const _: () = assert!(2 * TURN_ACCEPTS * REQUEST_WORK <= TURN_WORK / 2, "two listening sockets leave half of a turn");
const _: () = assert!(
    WEBSOCKET_FRAMES_PER_SECOND >= FRAMES_PER_SECOND + SIGNALS_PER_SECOND + 100,
    "who keeps to the limits of messages keeps to that of frames, pongs and fragments of long messages included"
);
const _: () = assert!(COMMAND_BACKLOG > FRAMES_PER_SECOND as usize, "a burst within the limit of frames waits");
const _: () = assert!(COMMANDS_PER_SECOND > FRAMES_PER_SECOND, "commands within the limit of frames don't pile up");
const _: () = {
    let shortest = PerTick::new(Duration::from_millis(*TICK_MS_RANGE.start() as u64));
    assert!(shortest.batch_bytes >= RELIABLE_UP_BYTES, "every tick takes at least one message");
    assert!(FAN_OUT_BYTES >= FANNED_OUT_BYTES, "every tick fans out at least one input");
};
const _: () = assert!(
    BATCH_BYTES + LIST_PREFIX_BYTES + BODY_PREFIX_BYTES <= RELIABLE_DOWN_BYTES,
    "the inputs of the largest tick are one reliable message"
);
const _: () = assert!(TICK_WINDOW >= BACKOFF_INTERVAL as usize, "back-off leaves no gap that no window fills");
const _: () = assert!(
    HEARTBEAT_INTERVAL.as_millis() * (1 + HEARTBEATS_UNANSWERED as u128) <= 5_000,
    "who vanishes without a word is missed within 5 s"
);
const _: () = assert!(
    PINGS_REMEMBERED > 2 * HEARTBEATS_UNANSWERED as usize,
    "the answer to each heartbeat is recognised, and to a ping between any two"
);
const _: () = assert!(CHANNEL_DOUBT.as_millis() * 3 <= CHANNEL_SILENCE.as_millis(), "an answer can come in time");
const _: () = assert!(CHANNEL_SILENCE.as_millis() > PING_INTERVAL.as_millis(), "a ping's answer breaks the silence");
const _: () = assert!(UPLINK_PACKETS_PER_SECOND >= 2 * FRAMES_PER_SECOND, "the limit of frames is met first");
const _: () = assert!(
    UPLINK_BYTES_PER_SECOND as u128 >= 3 * UDP_PAYLOAD_BYTES as u128 * 1_000 / INPUT_INTERVAL.as_millis() / 2,
    "full packets of inputs, and half as much again"
);
