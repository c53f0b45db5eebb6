//! The limits of the protocol and the server. Assertions at compile time check that they agree with each other.
//!
//! Exceeding a limit causes an error with a code, or a drop that is counted; queues never grow beyond their limit.
//! Counters are fields of [`server::Counters`](crate::server::Counters) unless another type is named. Sizes are in
//! bytes. Clients that are removed or closed get the given code as the reason.
//!
//! | limit | of | when exceeded | counted in |
//! |---|---|---|---|
//! | **Sizes on the wire** | | | |
//! | [`UDP_PAYLOAD_BYTES`], [`DTLS_RECORD_OVERHEAD_BYTES`], [`SCTP_OVERHEAD_BYTES`] | bytes of a UDP payload, and of the overheads around a frame | cannot happen: checked at compile time | – |
//! | [`FRAME_BYTES`], [`UNRELIABLE_HEADER_BYTES`], [`RELIABLE_HEADER_BYTES`] | bytes of a frame on the data channel, and of frame headers | a longer message arrives as SCTP fragments and is dropped | `Dropped::fragment` |
//! | [`FRAME_PARTS`], [`PART_BODY_BYTES`] | parts of an unreliable frame, and bytes of each | the server removes the sender with `bad_frame`; a client drops the frame | `bad_frames`, in a client its statistics |
//! | [`UNRELIABLE_BODY_BYTES`] | bytes of the body of an unreliable frame, of all but states also inflated | as above; a state of a game that needs more is not sent, with a warning in the log | as above; `oversized_states` |
//! | [`STATE_BODY_BYTES`] | bytes of the body of a state, inflated and restored from a delta | a client drops the frame | in a client its statistics |
//! | [`BODY_PREFIX_BYTES`], [`LIST_PREFIX_BYTES`] | bytes before the values in a body | part of other limits | – |
//! | [`RELIABLE_DOWN_BYTES`] | bytes of a reliable message from the server, including the welcome | a player whose welcome is longer is refused with `too_large` | `refused_requests` |
//! | [`RELIABLE_UP_BYTES`] | bytes of a message from a client | the client refuses to send it (`too_large`); the server removes the sender | `bad_frames`; of signaling `refused_requests` |
//! | **Messages of games and players** | | | |
//! | [`STATE_BYTES`], [`EVENT_BYTES`], [`RELIABLE_EVENT_BYTES`] | bytes of a state; of an unreliable event; of a reliable event | not sent: `SendError::TooLarge` | `Room::unsent` |
//! | [`STATE_HISTORY`], [`STATE_HISTORY_BYTES`] | states kept as baselines of deltas, and their bytes | the oldest is forgotten; a player who holds no other gets the whole state | `StatesSent::whole` |
//! | [`INPUT_BYTES`] | bytes of an input | the client refuses to send it (`too_large`); the server removes the sender with `bad_frame` | `bad_frames` |
//! | [`INPUT_WINDOW`] | inputs in a frame, and inputs that a client keeps until they are acknowledged | the client discards the oldest; the server removes the sender of a frame with more | `bad_frames` |
//! | [`SEEN_LIMIT`] | how far back the tick may lie that a player saw when sending an input | it is clamped, as is one that the room has not reached | `clamped_seen` |
//! | [`INPUTS_PER_SECOND`] | inputs of one player that a tick takes at most: [`PerTick::inputs`]; on average [`Game::INPUTS_PER_TICK`](crate::game::Game::INPUTS_PER_TICK) | further inputs wait; past [`PerTick::input_backlog`] the oldest is dropped, with a warning in the log | `overflowed_inputs` |
//! | [`COMMANDS_PER_SECOND`], [`COMMANDS_PER_TICK`] | commands of one player that a tick takes: [`PerTick::commands`] | further commands wait | – |
//! | [`COMMAND_BACKLOG`], [`COMMAND_BACKLOG_BYTES`] | waiting commands of one player ([`PerTick::command_backlog`]), and their bytes | the player is removed with `flood` | `PutOut::flood` |
//! | [`BATCH_BYTES_PER_SECOND`], [`BATCH_BYTES`] | bytes of the inputs of a tick, and separately of its commands: [`PerTick::batch_bytes`] | further messages wait; the players share the bytes of a tick | as the backlogs |
//! | [`FAN_OUT_BYTES`], [`FANNED_OUT_BYTES`] | bytes of the inputs of a tick that fans them out, and of each input | further inputs wait; the players share the bytes of a tick | as the backlogs |
//! | [`TICK_WINDOW`] | ticks in a downlink window; fewer if they do not fit one part | clients request older ticks on the reliable lane | – |
//! | [`TICK_HISTORY`] | how long a room keeps inputs that it fanned out | the ticks are lost: `ticks_lost`, `Event::TicksLost` | in the client |
//! | [`TICKS_PER_REQUEST`], [`TICKS_ANSWER_BYTES`] | ticks in an answer, and its bytes; the first tick is sent whatever its length | the client requests the rest | – |
//! | [`MSGPACK_DEPTH`] | nesting of a value of the game | a client and [`Context::state`](crate::game::Context::state) refuse to send it; the server removes the sender with `bad_frame` | `bad_frames`, `Room::unsent` |
//! | [`INPUTS_WRAPPING`], [`TICKS_WRAPPING`], [`AT_TICK_WRAPPING`] | arrays around such a value, in addition to its own nesting | part of the limit above | – |
//! | [`MSGPACK_ITEMS`], [`JS_INTEGER_MAX`] | elements of a value from a client; magnitude of an integer | as for the nesting | `bad_frames`, `Room::unsent` |
//! | [`PING_PADDING_BYTES`] | bytes that a ping carries and its pong returns | the sender is removed with `bad_frame` | `bad_frames` |
//! | [`PROGRAM_BYTES`] | bytes of the modules of a game in JavaScript | the server does not start; a reload is refused | – |
//! | [`RECORDED_PROGRAM_BYTES`] | bytes of what a game runs besides its compiled code | recording its room panics | – |
//! | [`SCRIPT_MEMORY`] | bytes of the engine of a room whose game is in JavaScript | an error in the game; unless it is caught, the room is closed | – |
//! | [`SCRIPT_STEPS`], [`SCRIPT_STEPS_TO_LOAD`] | backward jumps and calls of a callback, and of loading the game | the room is closed; it is not opened | – |
//! | [`EXTERNAL_BYTES`] | bytes of an external message | an error to the sender: `TooLarge` | – |
//! | [`EXTERNAL_BACKLOG`], [`EXTERNAL_QUEUE`] | external messages waiting for one room, and for all | an error to the sender: `Full` | – |
//! | [`ATTACHED_BYTES`] | bytes that hooks attach to a player | the player is refused with `internal` | `failed_hooks` |
//! | **Queues of one player** | | | |
//! | [`RELIABLE_QUEUE_BYTES`], [`UNJOINED_QUEUE_BYTES`] | bytes waiting for a slow websocket, of a player and of a connection that has not joined | the websocket is closed with `timeout` | `overfull_connections` |
//! | [`QUEUED_BYTES_PER_ADDRESS`] | bytes waiting for all websockets of one address | those with more than [`RELAY_QUEUE_BYTES`] waiting are closed | `overfull_connections` |
//! | [`WEBSOCKET_FRAMES`] | unreliable bodies waiting for a slow websocket; for states, one | the oldest is dropped | `dropped_frames` |
//! | [`UNACKNOWLEDGED_BYTES`] | bytes of reliable messages kept until they are acknowledged | a player who reconnects after missing more starts over; a client refuses further commands (`backlog`) | `missed_too_much` |
//! | [`RELAY_QUEUE_BYTES`] | bytes waiting for a websocket before messages of other players are no longer added | the message is refused with `rate_limited` | `dropped_relays` |
//! | **Rates of one player** | | | |
//! | [`FRAMES_PER_SECOND`] | frames | an unreliable frame is dropped; past twice the limit the player is removed with `flood` | `excess_frames` |
//! | [`SIGNALS_PER_SECOND`] | signaling messages | refused with `rate_limited`; past twice the limit the connection is closed with `flood` | `refused_requests` |
//! | [`RELAYED_BYTES_PER_SECOND`], [`RELAYED_BYTES_PER_ROOM_PER_SECOND`], [`RELAYED_BYTES_PER_ADDRESS_PER_SECOND`] | bytes relayed to other players, per player, room and address | refused with `rate_limited` | `refused_requests` |
//! | [`PRESENCE_BYTES_PER_SECOND`] | bytes that announce joins, names and leaves to the players of a room | the announcements wait | – |
//! | [`WEBSOCKET_FRAMES_PER_SECOND`] | websocket frames of any kind from one connection | past twice the limit it is closed with `flood` | `rtcade_websockets_closed_total` |
//! | [`UPLINK_PACKETS_PER_SECOND`], [`UPLINK_BYTES_PER_SECOND`], [`ACKNOWLEDGEMENT_BYTES`] | packets and bytes received on the data channel, and the allowance that each message to the player adds | dropped; past twice the limit the player is removed with `flood` | `Dropped::excess` |
//! | [`DOWNLINK_BYTES_PER_SECOND`] | bytes sent on the data channel | dropped | `dropped_frames` |
//! | [`AUDIO_PACKETS_PER_SECOND`], [`AUDIO_BYTES_PER_SECOND`], [`VIDEO_PACKETS_PER_SECOND`], [`VIDEO_BYTES_PER_SECOND`] | audio and video packets received from one player, and their bytes | dropped; past twice the limit the media connection is closed | `Dropped::media` |
//! | [`BACKOFF_INTERVAL`] | a congested path gets at least one of this many ticks | – | `held_back` |
//! | [`INPUT_INTERVAL`] | least time between two packets of new inputs from one client | inputs share a packet | – |
//! | **Names and signaling** | | | |
//! | [`ROOM_NAME_CHARS`] | characters of a room's name | refused with `bad_room`; the URL of a page, with HTTP status 404 | `refused_requests` |
//! | [`PLAYER_NAME_CHARS`], [`PLAYER_NAME_BYTES`], [`PLAYER_NAME_CLUSTER`] | characters (grapheme clusters) of a player's name, its bytes, and code points of one character | truncated | – |
//! | [`ROOM_TITLE_CHARS`], [`ROOM_TITLE_BYTES`] | characters (grapheme clusters) of a room's title, and its bytes | truncated | – |
//! | [`REDIRECT_URL_BYTES`], [`REDIRECT_TICKET_BYTES`] | bytes of the URL and of the ticket of a redirect that the native client follows | the redirect is ignored, with a warning in the log | – |
//! | [`REDIRECTS`] | redirects of one request in a row that the native client follows | the client closes | – |
//! | [`RECORDING_TYPE_CHARS`], [`RECORDING_INIT_CHARS`] | characters of the type and the init segment of a recording in [`games::Broadcast`](crate::games::Broadcast) | refused in a sentence | – |
//! | [`SEGMENT_BYTES`], [`SEGMENT_INTERVAL`], [`SEGMENTS_AT_ONCE`], [`SEGMENTS_KEPT`] | bytes of a segment there; time between two on average, and how many may come at once; announcements kept for new viewers | refused in a sentence; the oldest is forgotten | – |
//! | [`SEGMENT_NEIGHBOURS`], [`SEGMENT_SEEDS`] | viewers to whom a viewer of segments connects, and viewers who connect to the publisher | the others load from viewers | – |
//! | [`SUBJECT_BYTES`] | bytes of a token's `sub` | refused with `unauthorized` | `RefusedJoins::token` |
//! | [`SDP_BYTES`], [`SDP_LINES`] | bytes and lines of an SDP | refused with `bad_sdp`; between players with `too_large` | `refused_requests` |
//! | [`MEDIA_SDP_BYTES`], [`MEDIA_SDP_LINES`] | bytes and lines of an offer of media | refused with `bad_sdp` | `refused_requests` |
//! | [`MEDIA_SECTIONS`], [`MEDIA_SOURCES`], [`MEDIA_CONNECTIONS`] | sections and sources of a media connection, and connections of a player | refused with `bad_sdp` | `refused_requests` |
//! | [`MEDIA_PAYLOAD_BYTES`], [`VIDEO_LAYERS`] | bytes of a datagram of media, and layers of a video | dropped | `Dropped::media` |
//! | [`KEYFRAME_INTERVAL`], [`KEYFRAME_REQUEST_INTERVAL`] | time between keyframes requested of a layer, and between requests of a listener | not requested | – |
//! | [`VIDEO_QUEUE_BYTES`], [`VIDEO_KEPT_PACKETS`], [`VIDEO_KEPT`] | video that waits for one listener, and that is kept for retransmission | dropped until the next keyframe; not sent again | `Dropped::media` |
//! | [`VIDEO_ROOM_PLAYERS`] | players up to which each may publish video, if the game decides nothing | packets are dropped | `Dropped::media` |
//! | [`VIDEO_STALL`] | time without a packet of a video | those who watch get `eventFreeze` | – |
//! | [`CANDIDATE_BYTES`], [`ORIENTATION_BYTES`], [`FREEZE_BYTES`], [`RELAYED_DEPTH`] | bytes and nesting of messages relayed between players | refused with `too_large`; `eventFreeze` without a reply | `refused_requests` |
//! | [`CPU_REPORT_INTERVAL`], [`CPU_REPORT_KEPT`] | least time between two `eventCpu` of one player, and how long one counts in `/metrics` | the report is ignored | `refused_requests` |
//! | [`CANDIDATES_ADVERTISED`] | candidates in an answer | further candidates are left out | – |
//! | **Addresses** | | | |
//! | [`PEER_ADDRESSES`], [`PEER_INTRODUCTIONS`] | addresses of one peer at a time, and during its life | the oldest unproven address is forgotten; checks from further addresses are ignored | `Unroutable::stun` |
//! | [`PEER_CHECKS`] | ICE checks remembered per peer | the oldest is forgotten | – |
//! | [`PATH_KEPT`] | how long a peer keeps a proven path on which nothing is received | another peer may claim it | – |
//! | [`LOCAL_ADDRESSES`] | local UDP addresses | datagrams to further addresses are dropped, with a warning | `unnumbered` of datagrams |
//! | [`UNPROVEN_AMPLIFICATION`] | bytes sent to an unproven address, per byte received from it | dropped | `Dropped::unproven` |
//! | [`STUN_PER_ADDRESS_PER_SECOND`], [`STUN_PER_ADDRESS_AT_ONCE`] | STUN requests without a user name that are answered to one address with players | dropped | `StunRequests::excess` |
//! | [`STUN_ADDRESSES`] | addresses whose STUN requests are counted | an address with few requests is forgotten | – |
//! | **The server** | | | |
//! | [`ROOMS`] | rooms, by default and at most | refused with `room_full` | `refused_requests` |
//! | [`CONNECTIONS`] | websockets | HTTP status 503 | – |
//! | [`CONNECTIONS_PER_ADDRESS`], [`UNJOINED_PER_ADDRESS`] | websockets of one address, and those that have not joined | refused with `rate_limited`; plain HTTP, with status 429 | `refused_connections` |
//! | [`TLS_HANDSHAKES_PER_ADDRESS_PER_SECOND`], [`TLS_HANDSHAKES_PER_ADDRESS_AT_ONCE`], [`TLS_HANDSHAKE_WAIT`] | TLS handshakes of one address, and how long a connection waits for its own | it waits; one that would have to wait for longer is closed | `tls_handshakes_total`, kind `excess` |
//! | [`TLS_HANDSHAKE_ADDRESSES`] | addresses whose TLS handshakes are counted | an address with few handshakes is forgotten | – |
//! | [`JOINS_PER_SECOND`], [`JOINS_AT_ONCE`] | joins and reconnects of all players | refused with `rate_limited` and a time to retry | `RefusedJoins::pace` |
//! | [`JOINS_PER_ADDRESS_PER_SECOND`], [`JOINS_PER_ADDRESS_AT_ONCE`] | joins and reconnects from one address | refused with `rate_limited` and a time to retry | `RefusedJoins::pace` |
//! | [`SEEKERS`], [`SEEKERS_PER_ADDRESS`] | players who wait for another with `seek`, in total and of one address | refused with `rate_limited` | `refused_requests` |
//! | [`JOIN_RETRY`] | the longest time to retry | several players get the same time | – |
//! | [`JOINING_ADDRESSES`] | addresses whose joins are counted | an address with few joins is forgotten | – |
//! | [`PLAYERS_PER_ROOM`], [`PLAYERS_PER_ROOM_MAX`] | players of a room, by default and at most | refused with `room_full`; the server does not start with a larger `--max-players` | `refused_requests` |
//! | [`KEEP_ALIVE`], [`KEEP_ALIVE_RANGE`] | time that an HTTP connection waits for its next request, by default and in the range of `--keep-alive` | it is closed | – |
//! | [`TURN_WORK`], [`TURN_SHARE`], [`TURN_ACCEPTS`], [`FILE_CHUNK_BYTES`] | TCP work in a turn of the event loop, in total and per connection; connections accepted; bytes of a file read at once | the rest waits for the next turns | – |
//! | [`PIECE_BYTES`], [`PIECES`] | bytes of a piece of a file, and pieces in its manifest | the manifest is refused with HTTP status 413 | – |
//! | [`MANIFESTS`], [`MANIFESTS_QUEUED`] | manifests kept, and files that wait to be hashed | the manifest that was not requested for the longest time is forgotten; a further file is not queued until the client asks again | – |
//! | [`CALL_WORK`], [`WEBSOCKET_FRAME_WORK`], [`REQUEST_WORK`], [`TLS_HANDSHAKE_WORK`], [`TLS_RSA_HANDSHAKE_WORK`] | work other than bytes, in the same unit | part of the limit above | – |
//! | [`PHASE_SLOTS`] | phases of the tick over which rooms are spread | – | – |
//! | [`TICK_MS`], [`TICK_MS_RANGE`] | length of a tick, by default and in the range of [`is_tick_length`] | the server does not start; a recording is refused | – |
//! | [`DRAIN_MAX`] | time that a server that drains leaves to its rooms | a longer time is shortened | – |
//! | [`STRIKES_PER_TICK`], [`STRIKES_SLOWED`], [`STRIKES_CLOSED`], [`TICKS_SLOWED`] | times that ticks of a room exceed their budget, counted up to the first per tick, less one for each tick within it | the room ticks once in so many ticks; then it is closed with `room_closed` | `ticks_over_budget`, `rooms_over_budget` |
//! | [`LEASE_TTL`] | how long a room stays with a node of a cluster that is not heard of | another node takes the room | [`Figures::lost`](crate::cluster::Figures::lost) |
//! | [`STORE_TIMEOUT`], [`LOOKUP_TIMEOUT`] | how long an answer of the store may take, and how long a player waits until the room's node is known | the node goes on without the answer; the player is refused with `unavailable` | [`Figures::failed`](crate::cluster::Figures::failed), [`Figures::located`](crate::cluster::Figures::located) |
//! | [`STORE_REQUESTS`], [`LEASES_PER_COMMAND`] | unanswered requests to the store, and leases or sessions in one | others wait | – |
//! | [`KNOWN_ROOMS`] | rooms of other nodes that a node remembers for the time in which the store is away | the oldest is forgotten: then its players are refused with `unavailable` | – |
//! | [`MACHINE_NODES`] | nodes under one parent | `--nodes` refuses more | – |
//! | [`WAITING_CONNECTIONS`] | connections at a parent whose first line has not arrived, or whose node takes none now | the oldest of the address that has most is closed | – |
//! | [`LISTED_ROOMS`], [`LISTING_BYTES`], [`LISTED_BYTES`], [`LISTING_NODES`] | rooms that a node of a cluster lists for the others, and that it lists of them; their bytes in the store, of one node and of all that are read at once; and the nodes that are read | left out, first the rooms that nobody can join; of other nodes some are read, and a share of each | – |
//! | [`LISTED_NODES`] | nodes of a cluster that are shown to operators | others are left out | – |
//! | [`INQUIRY_AGE`], [`INQUIRY_TIMEOUT`] | how long a node keeps what it has read of the others, and how long a request waits for it | it is read again; the request is answered with what is known | – |
//! | [`UNSAVED_SESSIONS`], [`SESSION_KEPT`] | sessions that wait to be saved for other nodes, and how long the store keeps one that is not saved again | not saved: a player who comes to another node is a new one | [`Figures::dropped_sessions`](crate::cluster::Figures::dropped_sessions) |
//! | [`SNAPSHOT_BYTES`], [`SNAPSHOTS_BYTES`] | bytes of a saved room, and of those that wait to be saved | not saved: the room begins anew at another node | [`Figures::dropped_snapshots`](crate::cluster::Figures::dropped_snapshots) |
//! | [`SNAPSHOT_INTERVAL`], [`SNAPSHOT_KEPT`] | how often a room is saved, and how long the store keeps one that is not saved again | – | – |
//! | [`TICKET_LIFETIME`], [`TICKETS_REMEMBERED`] | how long a ticket can be used with which a client comes from another node, and used ones that are remembered | the room is looked up as without it; the oldest is forgotten | [`Figures::refused_tickets`](crate::cluster::Figures::refused_tickets) |
//! | [`LIVE_EVENTS_WAITING`], [`LIVE_EVENTS_QUEUED`], [`LIVE_EVENTS_QUEUED_BYTES`] | events for other services that the core holds between two polls; those that wait for the broker, joins and leaves, and their bytes; an eighth of both for `room.live` | dropped | `dropped_live_events`; `events_dropped_total` |
//! | [`TOLD_PER_TICK`] | entries between two ticks of a recording | the recording is refused | – |
//! | [`JOURNAL_BYTES`], [`RECORDING_QUEUE_BYTES`], [`RECORDINGS_MIB`] | bytes of one recording, of recordings waiting for the disk, and of all recordings in a directory | the recording ends and the room continues; the oldest recordings are removed | `recordings_ended_early_total` |
//! | **Times** | | | |
//! | [`JOIN_TIMEOUT`] | a websocket that has not joined and does not seek | it is closed | `idle_connections` |
//! | [`SEEK_GATHERING`] | how long others may come before a player who seeks is paired | the player gets the nearest who waits, or the next to come | – |
//! | [`DECISION_TIMEOUT`] | a postponed decision of a hook | the player is refused with `internal` | `failed_hooks` |
//! | [`PEER_OPEN_TIMEOUT`], [`PEER_REACH_TIMEOUT`], [`PEER_SECURE_TIMEOUT`] | a data channel that does not open; on which nothing is received; whose DTLS handshake does not finish | it is closed; the websocket carries all messages | – |
//! | [`EMPTY_ROOM_LINGER`] | an empty room | it is dropped | – |
//! | [`RESUME_GRACE`], [`GRACE_RANGE`], [`RELOAD_GRACE`] | a player without a websocket, by default and in the range of `--grace`; a player whose page was closed | the player leaves with `timeout` or `closed` | – |
//! | [`HEARTBEAT_INTERVAL`], [`HEARTBEATS_SKIPPED`], [`HEARTBEATS_UNANSWERED`], [`PINGS_REMEMBERED`] | time between two pings on a websocket, pings left out while the data channel delivers, pings that may stay unanswered, and pings whose answer is recognised | the websocket counts as lost | – |
//! | [`CHANNEL_SILENCE`], [`CHANNEL_DOUBT`] | time without delivery on a data channel, and the time after which it is probed | the websocket carries all messages | – |
//! | [`PING_INTERVAL`] | time between two pings, each way | – | – |
//! | [`CLOCK_GAP`] | a gap between two turns of the event loop | the process counts as suspended: received data is handled before timeouts | – |

use std::time::Duration;

/// Bytes of a UDP payload, all headers included. RFC 8831 §5 recommends at most 1,200.
pub const UDP_PAYLOAD_BYTES: usize = 1_200;
/// Bytes of a UDP payload of media, which is forwarded as large as its sender makes it: one that fits an Ethernet frame
/// with IPv6.
pub const MEDIA_PAYLOAD_BYTES: usize = 1_452;
/// Bytes that DTLS 1.2 with AES-GCM adds to a record: header 13, explicit nonce 8, tag 16 (RFC 5288 §3, RFC 6347 §4.1).
pub const DTLS_RECORD_OVERHEAD_BYTES: usize = 37;
/// Bytes that SCTP may add to a message: common header 12, DATA header 16 and its padding 3, and the bundled COOKIE-ACK
/// 4, SACK 16 and FORWARD-TSN 8 (RFC 9260 §3, RFC 3758 §3.2).
pub const SCTP_OVERHEAD_BYTES: usize = 12 + 16 + 3 + 4 + 16 + 8;
/// Bytes of a game frame on the data channel, header included.
pub const FRAME_BYTES: usize = 1_100;
/// Bytes of an unreliable frame's header: kind, part, seq, ack.
pub const UNRELIABLE_HEADER_BYTES: usize = 6;
/// Bytes of a reliable frame's header: kind, seq, tick.
pub const RELIABLE_HEADER_BYTES: usize = 9;
/// Parts of an unreliable frame.
pub const FRAME_PARTS: usize = 4;
/// Bytes of the body in one part.
pub const PART_BODY_BYTES: usize = FRAME_BYTES - UNRELIABLE_HEADER_BYTES;
/// Bytes of an unreliable body on the wire, all parts together; of all but states also inflated.
pub const UNRELIABLE_BODY_BYTES: usize = FRAME_PARTS * PART_BODY_BYTES;
/// Bytes of an encoded unreliable `Event`, before deflating.
pub const EVENT_BYTES: usize = 4 * 1024;
/// Bytes of an encoded `State`. On the wire its delta, or deflated the whole of it, has at most
/// [`UNRELIABLE_BODY_BYTES`].
pub const STATE_BYTES: usize = 16 * 1024;
/// Bytes of the body of a state, inflated and restored from a delta.
pub const STATE_BODY_BYTES: usize = STATE_BYTES + BODY_PREFIX_BYTES;
/// States that the server keeps as baselines of deltas: the last ones of a room to all, and of each player's own. A
/// client keeps as many of those received.
pub const STATE_HISTORY: usize = 32;
/// Bytes of the states that are kept for one room, and for one player of those sent to that player alone.
pub const STATE_HISTORY_BYTES: usize = 256 * 1024;
/// Maximum bytes of the array marker and the tick number at the beginning of a body.
pub const BODY_PREFIX_BYTES: usize = 3 + 5;
/// Bytes of a reliable message from the server, including the welcome.
pub const RELIABLE_DOWN_BYTES: usize = 1024 * 1024;
/// Bytes of an encoded reliable `Event`. Together with its tick it is one reliable message.
pub const RELIABLE_EVENT_BYTES: usize = RELIABLE_DOWN_BYTES - BODY_PREFIX_BYTES;
/// Bytes of a reliable message or a signaling message from a client.
pub const RELIABLE_UP_BYTES: usize = 16 * 1024;
/// Bytes of reliable messages and signaling queued for a player's slow socket. Past it the connection is closed.
pub const RELIABLE_QUEUE_BYTES: usize = 4 * 1024 * 1024;
/// As [`RELIABLE_QUEUE_BYTES`], for a connection that has not joined: its replies are short.
pub const UNJOINED_QUEUE_BYTES: usize = 64 * 1024;
/// Bytes queued for all connections of one address (for IPv6, a /64), loopback excepted. Past it, connections with more
/// than [`RELAY_QUEUE_BYTES`] are closed.
pub const QUEUED_BYTES_PER_ADDRESS: usize = 64 * 1024 * 1024;

/// Unreliable bodies queued for a player's websocket; past it the oldest is dropped. Of states, only one is queued.
pub const WEBSOCKET_FRAMES: usize = 8;

/// Inputs in a frame, and inputs that a client keeps until they are acknowledged.
pub const INPUT_WINDOW: usize = 8;
/// Bytes of an encoded input. A frame carries the newest input and as many of the window as fit one part.
pub const INPUT_BYTES: usize = 512;
/// How far before the room's tick the [`seen`](crate::game::Incoming::Input) of an input may lie. It covers a long
/// round trip and the delay of an interpolation. Without a limit a player could claim a far past, in which others
/// were an easier target than they are.
pub const SEEN_LIMIT: Duration = Duration::from_secs(1);
/// Bytes of a fanned-out input: `[player, number, input]`.
pub const FANNED_OUT_BYTES: usize = 1 + 5 + 5 + INPUT_BYTES;
/// Inputs of one player that are passed to the game per second at most, whatever its budget and tick length; see
/// [`PerTick::inputs`].
pub const INPUTS_PER_SECOND: u32 = 250;
/// Time between two inputs of a page that sends 60 a second, rounded up.
const INPUT_PERIOD: Duration = Duration::from_micros(16_670);
/// One more input is taken for this many, so that those of a page whose clock is somewhat fast do not pile up.
const INPUT_SLACK: u32 = 16;
/// Commands of one player that are passed to the game per second, for any tick length; see [`PerTick::commands`].
pub const COMMANDS_PER_SECOND: u32 = 500;
/// Commands of one player that are passed to the game in each tick, however short.
pub const COMMANDS_PER_TICK: usize = 16;
/// Waiting commands of one player, in addition to those that [`FRAMES_PER_SECOND`] allows during a tick: a websocket
/// may deliver many at once after a stall. See [`PerTick::command_backlog`].
pub const COMMAND_BACKLOG: usize = 256;
/// Bytes of the waiting commands of one player.
pub const COMMAND_BACKLOG_BYTES: usize = 16 * RELIABLE_UP_BYTES;
/// Bytes of all players' inputs that are passed to a game per second, and separately of their commands; see
/// [`PerTick::batch_bytes`].
pub const BATCH_BYTES_PER_SECOND: u32 = 8 * 1024 * 1024;
/// Bytes of the inputs of a tick, and separately of its commands. Fanned out, the inputs are one reliable message.
pub const BATCH_BYTES: usize = RELIABLE_DOWN_BYTES - BODY_PREFIX_BYTES - LIST_PREFIX_BYTES;
/// Bytes of the inputs of a tick in a room that fans them out: with tick and prefixes they fit one frame.
pub const FAN_OUT_BYTES: usize = UNRELIABLE_BODY_BYTES - BODY_PREFIX_BYTES - LIST_PREFIX_BYTES;
/// Maximum bytes of the array marker before the inputs of a tick.
pub const LIST_PREFIX_BYTES: usize = 5;
/// On a congested path, at least one of this many ticks is sent.
pub const BACKOFF_INTERVAL: u32 = 4;
/// Ticks in one downlink window: the newest and those before it.
pub const TICK_WINDOW: usize = 4;
/// How long a room keeps the inputs it fanned out, for clients that missed ticks.
pub const TICK_HISTORY: Duration = Duration::from_secs(10);
/// Ticks that one `ticks` request may ask for.
pub const TICKS_PER_REQUEST: u32 = 310;
/// Bytes of the answer, unless its first tick alone is longer. The client can request the rest again.
pub const TICKS_ANSWER_BYTES: usize = 64 * 1024;

/// Bytes of the value that hooks attach to a player, as JSON.
pub const ATTACHED_BYTES: usize = 4 * 1024;

/// Bytes of all modules of a game in JavaScript, with their paths.
pub const PROGRAM_BYTES: usize = 512 * 1024;
/// Bytes of what a game runs besides its compiled code ([`Game::program`](crate::game::Game::program)), as recordings
/// have it.
pub const RECORDED_PROGRAM_BYTES: usize = 1024 * 1024;
/// Bytes that the engine of a room may hold, whose game is in JavaScript.
pub const SCRIPT_MEMORY: usize = 32 * 1024 * 1024;
/// Backward jumps and calls that one callback of a game in JavaScript may have, counted in steps of 10,000.
pub const SCRIPT_STEPS: u32 = 2_000_000;
/// The same for loading its modules.
pub const SCRIPT_STEPS_TO_LOAD: u32 = 20_000_000;
/// Bytes of an external message ([`Game::external`](crate::game::Game::external)).
pub const EXTERNAL_BYTES: usize = 64 * 1024;
/// External messages that a room takes per tick.
pub const EXTERNAL_BACKLOG: usize = 64;
/// External messages waiting between the sending threads and the rooms. Messages for rooms that have reached
/// [`EXTERNAL_BACKLOG`] wait separately, up to the same number.
pub const EXTERNAL_QUEUE: usize = 256;
/// Bytes of the value that a ping carries and its pong returns. With clocks and tick, the pong is one frame.
pub const PING_PADDING_BYTES: usize = PART_BODY_BYTES - 1 - 9 - 9 - 5;

/// Nesting of a value of the game: an input, a command, a state or an event. The arrays around it in a body are extra:
/// see [`INPUTS_WRAPPING`], [`TICKS_WRAPPING`] and [`AT_TICK_WRAPPING`].
pub const MSGPACK_DEPTH: usize = 16;
/// Arrays around an input in a client's frame: `[newest, [input, …]]`.
pub const INPUTS_WRAPPING: usize = 2;
/// Arrays around a fanned-out input: `[tick, [[player, number, input], …], …]`.
pub const TICKS_WRAPPING: usize = 3;
/// The array around a state or an event: `[tick, value]`.
pub const AT_TICK_WRAPPING: usize = 1;
/// Elements of all arrays and maps in a value from a client. Values from the server have no limit of their own: they
/// have at most one element per byte.
pub const MSGPACK_ITEMS: usize = 4_096;
/// The largest magnitude of an integer, 2⁵³: JavaScript numbers are exact up to it.
pub const JS_INTEGER_MAX: u64 = 1 << 53;

/// Characters of a room's name.
pub const ROOM_NAME_CHARS: usize = 64;
/// Characters of a room's title: grapheme clusters, as readers count them (UAX #29).
pub const ROOM_TITLE_CHARS: usize = 64;
/// Bytes of a room's title.
pub const ROOM_TITLE_BYTES: usize = 4 * ROOM_TITLE_CHARS;
/// Bytes of the URL of a redirect.
pub const REDIRECT_URL_BYTES: usize = 2_048;
/// Bytes of the ticket of a redirect.
pub const REDIRECT_TICKET_BYTES: usize = 512;
/// Redirects of one request that a client follows, one after the other.
pub const REDIRECTS: u32 = 4;
/// Characters of the MIME type of a recording of a broadcast.
pub const RECORDING_TYPE_CHARS: usize = 64;
/// Characters of what stands before the first segment of a recording, in base64.
pub const RECORDING_INIT_CHARS: usize = 4 * 1024;
/// Bytes of a segment of a recording.
pub const SEGMENT_BYTES: u32 = 1024 * 1024;
/// Time between two segments of a recording, on average.
pub const SEGMENT_INTERVAL: Duration = Duration::from_millis(500);
/// Segments that may be announced at once.
pub const SEGMENTS_AT_ONCE: u32 = 8;
/// Segments whose announcement a new viewer gets.
pub const SEGMENTS_KEPT: usize = 4;
/// Viewers to whom a viewer of segments is told to connect.
pub const SEGMENT_NEIGHBOURS: usize = 4;
/// Viewers who are told to connect to the publisher.
pub const SEGMENT_SEEDS: usize = 12;
/// Characters of a player's name: grapheme clusters, as readers count them (UAX #29).
pub const PLAYER_NAME_CHARS: usize = 32;
/// Bytes of a player's name.
pub const PLAYER_NAME_BYTES: usize = 4 * PLAYER_NAME_CHARS;
/// Code points of one character of a player's name or a room's title. A family of four, each with a skin tone, has 11.
pub const PLAYER_NAME_CLUSTER: usize = 12;
/// Bytes of the `sub` of a bearer token.
pub const SUBJECT_BYTES: usize = 128;
/// Bytes of an SDP.
pub const SDP_BYTES: usize = 8 * 1024;
/// Lines of an SDP.
pub const SDP_LINES: usize = 256;
/// Bytes of a candidate relayed between players, as JSON.
pub const CANDIDATE_BYTES: usize = 1024;
/// Bytes of an orientation relayed between players, as JSON; also of `platform`, `orientation` and `camera` in `join`.
pub const ORIENTATION_BYTES: usize = 512;
/// Bytes of the data of `eventFreeze` relayed between players, as JSON.
pub const FREEZE_BYTES: usize = 512;
/// Nesting of what is relayed between players.
pub const RELAYED_DEPTH: usize = 8;
/// Bytes relayed from one player to others per second, with a burst of the same number. A message to the whole room
/// counts once per recipient. A message larger than the remainder is granted as long as anything remains, and the
/// excess is owed: one message can therefore reach the largest room.
pub const RELAYED_BYTES_PER_SECOND: u32 = 256 * 1024;
/// As [`RELAYED_BYTES_PER_SECOND`], for all players of one room.
pub const RELAYED_BYTES_PER_ROOM_PER_SECOND: u32 = 1024 * 1024;
/// As [`RELAYED_BYTES_PER_SECOND`], for all players of one address (for IPv6, a /64), loopback excepted.
pub const RELAYED_BYTES_PER_ADDRESS_PER_SECOND: u32 = 1024 * 1024;
/// Bytes per second that announce joins and leaves to the players of one room, with a burst of the same number. Past it
/// announcements wait; a player who joins and leaves meanwhile is not announced.
pub const PRESENCE_BYTES_PER_SECOND: u32 = 2 * 1024 * 1024;
/// Bytes queued for a player's slow socket up to which messages of other players are still added; past it those are
/// refused. Far below [`RELIABLE_QUEUE_BYTES`], so that no connection is closed because of other players' messages.
pub const RELAY_QUEUE_BYTES: usize = 64 * 1024;
/// Least time between two reports of a player's CPU use that the server takes.
pub const CPU_REPORT_INTERVAL: Duration = Duration::from_secs(10);
/// How long a report of a player's CPU use counts.
pub const CPU_REPORT_KEPT: Duration = Duration::from_secs(60);
/// Bytes of an offer of media. Browsers list every codec they know, for each kind of media.
pub const MEDIA_SDP_BYTES: usize = 14 * 1024;
/// Lines of an offer of media.
pub const MEDIA_SDP_LINES: usize = 512;
/// Sections of an offer of media: what the client sends, and a slot for each player who can be played at the same time.
pub const MEDIA_SECTIONS: usize = 16;
/// Sources (SSRCs) that a media connection may send from during its life. A video in three layers has six, with those
/// of its retransmissions.
pub const MEDIA_SOURCES: usize = 16;
/// Layers of a video: the same picture in several sizes.
pub const VIDEO_LAYERS: usize = 3;
/// Players in a room up to which each may publish video, unless its game decides otherwise.
pub const VIDEO_ROOM_PLAYERS: usize = 8;
/// Least time between two keyframes that the server requests of one layer of a publisher, however many listeners need
/// one.
pub const KEYFRAME_INTERVAL: Duration = Duration::from_millis(500);
/// Least time between two requests of a listener for a keyframe of a video that it receives already.
pub const KEYFRAME_REQUEST_INTERVAL: Duration = Duration::from_secs(2);
/// Bytes of video for one listener that wait to be sent. Past it packets are dropped until a keyframe.
pub const VIDEO_QUEUE_BYTES: usize = 256 * 1024;
/// Packets of a video kept for retransmission to a listener.
pub const VIDEO_KEPT_PACKETS: usize = 512;
/// How long they are kept.
pub const VIDEO_KEPT: Duration = Duration::from_secs(1);
/// The time without a packet after which a video counts as stalled, and those who watch it get `eventFreeze`.
pub const VIDEO_STALL: Duration = Duration::from_secs(2);
/// Media connections of one player: its own, and one for each publisher that it listens to separately.
pub const MEDIA_CONNECTIONS: usize = 8;
/// Candidates in an answer of the server.
pub const CANDIDATES_ADVERTISED: usize = 8;
/// Paths (pairs of a local and a remote address) known per peer. A new one replaces the oldest unproven one.
pub const PEER_ADDRESSES: usize = 8;
/// Remote addresses that a peer may introduce during its life, counting addresses that were forgotten and came back.
/// Checks from further addresses are ignored.
pub const PEER_INTRODUCTIONS: u16 = 64;
/// ICE checks remembered per peer, to recognise a copy that arrives from another address.
pub const PEER_CHECKS: usize = 64;
/// How long a peer keeps a proven path after the last packet received on it. Until then no other peer can claim it.
pub const PATH_KEPT: Duration = Duration::from_secs(5);
/// Local UDP addresses (each with its own `LocalId`).
pub const LOCAL_ADDRESSES: usize = 64;
/// Bytes sent to an unproven address per byte received from it (as in RFC 9000 §8).
pub const UNPROVEN_AMPLIFICATION: u64 = 3;
/// STUN requests per second that are answered to one address (for IPv6, a /64) from which players have joined.
pub const STUN_PER_ADDRESS_PER_SECOND: u32 = 20;
/// STUN requests that are answered to one address at once: eight players behind it who connect to each other, each with
/// a few sockets and addresses of the server.
pub const STUN_PER_ADDRESS_AT_ONCE: u32 = 64;
/// Addresses whose STUN requests are counted.
pub const STUN_ADDRESSES: usize = CONNECTIONS;

/// Rooms of a server, unless fewer are set with `--max-rooms`.
pub const ROOMS: usize = 4_096;
/// Websocket connections of a server, joined or not.
pub const CONNECTIONS: usize = 8_192;
/// Websocket connections from one address (for IPv6, a /64), loopback excepted.
pub const CONNECTIONS_PER_ADDRESS: usize = 512;
/// Websocket connections that have not joined, and plain HTTP connections, from one address.
pub const UNJOINED_PER_ADDRESS: usize = 64;
/// How long an HTTP connection may wait for its next request, unless set with `--keep-alive`. It is longer than the 60
/// s of most load balancers, so that the balancer is the side that closes. When places are scarce, waiting connections
/// are closed earlier.
pub const KEEP_ALIVE: Duration = Duration::from_secs(75);
/// The times by which one tick of a room may exceed its budget that count.
pub const STRIKES_PER_TICK: u32 = 10;
/// The times by which the ticks of a room exceed their budget, less one for each tick within it, from which on it ticks
/// less often.
pub const STRIKES_SLOWED: u32 = 20;
/// The same, from which on it is closed.
pub const STRIKES_CLOSED: u32 = 100;
/// A room that ticks less often runs one of so many ticks.
pub const TICKS_SLOWED: u32 = 4;
/// The longest time that a server that drains leaves to its rooms.
pub const DRAIN_MAX: Duration = Duration::from_hours(24);
/// The range of `--keep-alive`.
pub const KEEP_ALIVE_RANGE: std::ops::RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(3_600);
/// TCP work in one turn of the driver's event loop, for all connections together. The unit is a byte read or written;
/// other work counts as below. The rest waits for the next turn, after the ticks that are due by then.
pub const TURN_WORK: usize = 256 * 1024;
/// Work that one connection gets in a turn before every other ready connection has had its share.
pub const TURN_SHARE: usize = 32 * 1024;
/// Work of a read or a write on a TCP socket, in addition to its bytes.
pub const CALL_WORK: usize = 2 * 1024;
/// Work of a websocket frame, including control frames and fragments, in addition to its bytes.
pub const WEBSOCKET_FRAME_WORK: usize = 512;
/// Work of an HTTP request, a signaling message, or opening or closing a connection, in addition to its bytes.
pub const REQUEST_WORK: usize = 16 * 1024;
/// Work of a TLS handshake with an ECDSA key, or with the ticket of an earlier session: `cargo bench --bench tls`
/// compares its CPU time with that of a request.
pub const TLS_HANDSHAKE_WORK: usize = 128 * 1024;
/// Work of a TLS handshake with an RSA key of 2,048 bits.
pub const TLS_RSA_HANDSHAKE_WORK: usize = 256 * 1024;
/// TLS handshakes of one address (for IPv6, a /64) per second, loopback and trusted proxies excepted: some 1 % of a
/// core.
pub const TLS_HANDSHAKES_PER_ADDRESS_PER_SECOND: u32 = 32;
/// Burst of [`TLS_HANDSHAKES_PER_ADDRESS_PER_SECOND`]: that of a hundred players who all come back at once, and half of
/// them a second time.
pub const TLS_HANDSHAKES_PER_ADDRESS_AT_ONCE: u32 = 160;
/// How long a connection waits for its TLS handshake before it is closed instead.
pub const TLS_HANDSHAKE_WAIT: Duration = Duration::from_secs(2);
/// Addresses whose TLS handshakes are counted.
pub const TLS_HANDSHAKE_ADDRESSES: usize = CONNECTIONS;
/// TCP connections accepted from each listening socket in one turn of the loop.
pub const TURN_ACCEPTS: usize = 4;
/// Websocket frames of any kind (RFC 6455 §5.2) from one connection per second, with a burst of the same number. Pings,
/// pongs and empty fragments count too. Past twice the limit the connection is closed.
pub const WEBSOCKET_FRAMES_PER_SECOND: u32 = 500;
/// Bytes of a file held in memory at once for one connection.
pub const FILE_CHUNK_BYTES: usize = 16 * 1024;
/// Bytes of each piece of a file, except the last, in its manifest.
pub const PIECE_BYTES: u64 = 256 * 1024;
/// Pieces in the manifest of a file. Longer files have none.
pub const PIECES: u64 = 4_096;
/// Manifests kept in memory.
pub const MANIFESTS: usize = 64;
/// Files that wait to be hashed.
pub const MANIFESTS_QUEUED: usize = 16;
/// Joins and reconnects of all players per second. Past it each player is told when to retry, so that after a restart
/// players reconnect one after the other.
pub const JOINS_PER_SECOND: u32 = 100;
/// Burst of [`JOINS_PER_SECOND`].
pub const JOINS_AT_ONCE: u32 = 256;
/// Joins and reconnects from one address (for IPv6, a /64) per second, loopback excepted. Refused joins and reconnects
/// to unknown sessions count too.
pub const JOINS_PER_ADDRESS_PER_SECOND: u32 = 10;
/// Burst of [`JOINS_PER_ADDRESS_PER_SECOND`].
pub const JOINS_PER_ADDRESS_AT_ONCE: u32 = 64;
/// Players who wait for another with `seek`. Each holds a websocket.
pub const SEEKERS: usize = CONNECTIONS / 2;
/// The same of one address (for IPv6, a /64), loopback excepted.
pub const SEEKERS_PER_ADDRESS: usize = UNJOINED_PER_ADDRESS / 2;
/// How long a room stays with a node of a cluster that is not heard of.
pub const LEASE_TTL: Duration = Duration::from_secs(5);
/// Leases and sessions in one command for the store of a cluster.
pub const LEASES_PER_COMMAND: usize = 100;
/// Nodes under one parent.
pub const MACHINE_NODES: usize = 256;
/// Connections at a parent of nodes whose first line has not arrived, or whose node takes none at the moment.
pub const WAITING_CONNECTIONS: usize = 1_024;
/// Requests to the store of a cluster that are not answered. Others wait.
pub const STORE_REQUESTS: usize = 256;
/// Rooms of other nodes that a node remembers for the time in which the store is away.
pub const KNOWN_ROOMS: usize = 4_096;
/// Rooms that a node of a cluster lists for the others, and that it lists of them.
pub const LISTED_ROOMS: usize = 1_000;
/// Bytes of the rooms that a node lists, in the store of a cluster.
pub const LISTING_BYTES: usize = 64 * 1024;
/// Bytes of the rooms of other nodes that a node reads at once.
pub const LISTED_BYTES: usize = 2 * LISTING_BYTES;
/// Nodes whose rooms a node reads at once.
pub const LISTING_NODES: usize = 64;
/// Nodes of a cluster that are shown to operators.
pub const LISTED_NODES: usize = 1_024;
/// How long a node of a cluster keeps what it has read of the others before it reads it again.
pub const INQUIRY_AGE: Duration = Duration::from_secs(1);
/// How long a request waits for what is read of other nodes.
pub const INQUIRY_TIMEOUT: Duration = Duration::from_secs(1);
/// How long an answer of the store may take. Then the node goes on without.
pub const STORE_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a player who joins may wait until the room's node is known.
pub const LOOKUP_TIMEOUT: Duration = Duration::from_secs(8);
/// How long the store keeps a session that is not saved again.
pub const SESSION_KEPT: Duration = Duration::from_secs(5 * 60);
/// Sessions that wait to be saved in the store.
pub const UNSAVED_SESSIONS: usize = 65_536;
/// Bytes of a saved room: its game, its players, and their sessions.
pub const SNAPSHOT_BYTES: usize = 1024 * 1024;
/// Bytes of saved rooms that wait for the store.
pub const SNAPSHOTS_BYTES: usize = 64 * 1024 * 1024;
/// How often a room of a cluster is saved, if its game can be.
pub const SNAPSHOT_INTERVAL: Duration = Duration::from_secs(5);
/// How long the store keeps a saved room that is not saved again.
pub const SNAPSHOT_KEPT: Duration = Duration::from_secs(5 * 60);
/// How long the ticket can be used with which a node sends a client to another one.
pub const TICKET_LIFETIME: Duration = Duration::from_secs(15);
/// Used tickets that a node remembers. Past it the oldest is forgotten.
pub const TICKETS_REMEMBERED: usize = 65_536;
/// The longest time after which a refused player is told to retry. Past it several players get the same time.
pub const JOIN_RETRY: Duration = Duration::from_secs(30);
/// Addresses whose joins are counted. Past it an address with few joins is forgotten.
pub const JOINING_ADDRESSES: usize = 8_192;
/// Players of a room, unless set with `--max-players`.
pub const PLAYERS_PER_ROOM: usize = 64;
/// The maximum of `--max-players`.
pub const PLAYERS_PER_ROOM_MAX: usize = 1_024;
/// Signaling messages from one connection per second, with a burst of the same number.
pub const SIGNALS_PER_SECOND: u32 = 50;
/// Frames from one player per second, with a burst of the same number.
pub const FRAMES_PER_SECOND: u32 = 250;
/// Packets received on the data channel of one player per second, with a burst of the same number, in addition to one
/// per message sent to the player. A client sends at most 125 packets of inputs ([`INPUT_INTERVAL`]) and a few pings.
pub const UPLINK_PACKETS_PER_SECOND: u32 = 500;
/// Bytes of those packets per second, with a burst of the same number.
pub const UPLINK_BYTES_PER_SECOND: u32 = 256 * 1024;
/// Bytes by which each message to a player raises the limit: a SACK that reports about 60 gaps.
pub const ACKNOWLEDGEMENT_BYTES: u32 = 256;
/// Bytes sent on one player's data channel per second, with a burst of the same number: about 60 states of maximum
/// size. Further messages are dropped.
pub const DOWNLINK_BYTES_PER_SECOND: u32 = 256 * 1024;
/// Audio packets from one player per second, with a burst of the same number: twice those of Opus with 20 ms each.
pub const AUDIO_PACKETS_PER_SECOND: u32 = 100;
/// Bytes of those packets per second, without headers, with a burst of the same number: four times those of a voice at
/// 32 kbit/s.
pub const AUDIO_BYTES_PER_SECOND: u32 = 16_000;
/// Video packets from one player per second, with a burst of the same number.
pub const VIDEO_PACKETS_PER_SECOND: u32 = 1_000;
/// Bytes of those packets per second, without headers, with a burst of the same number: 6 Mbit/s.
pub const VIDEO_BYTES_PER_SECOND: u32 = 750_000;
/// Phases of a tick over which rooms are spread.
pub const PHASE_SLOTS: u32 = 4;

/// Length of a tick in milliseconds, unless the game ([`Game::TICK`](crate::game::Game::TICK)) or `--tick-ms` sets
/// another.
pub const TICK_MS: u32 = 33;
/// The range of tick lengths in milliseconds.
pub const TICK_MS_RANGE: std::ops::RangeInclusive<u32> = 5..=1_000;
/// Returns whether a room can have ticks of this length: within [`TICK_MS_RANGE`], in steps of a nanosecond.
#[must_use]
pub const fn is_tick_length(tick: Duration) -> bool {
    let (shortest, longest) = (*TICK_MS_RANGE.start(), *TICK_MS_RANGE.end());
    tick.as_nanos() >= Duration::from_millis(shortest as u64).as_nanos()
        && tick.as_nanos() <= Duration::from_millis(longest as u64).as_nanos()
}

/// The limits of a room per tick, derived from the limits per second and the tick length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PerTick {
    /// What a player's budget of inputs grows by in each tick, and what an input costs of it.
    pub input_credit: u64,
    /// See [`PerTick::input_credit`].
    pub input_cost: u64,
    /// Inputs of one player taken per tick, of a player who has saved as many: the budget of a tick, within
    /// [`INPUTS_PER_SECOND`], but at least [`INPUT_WINDOW`]. Further inputs wait.
    pub inputs: usize,
    /// Waiting inputs of one player: the budgets of four ticks, but at least that of one and a window. Past it the
    /// oldest is dropped.
    pub input_backlog: usize,
    /// Commands of one player taken per tick: [`COMMANDS_PER_SECOND`], but at least [`COMMANDS_PER_TICK`]. Further
    /// commands wait.
    pub commands: usize,
    /// Waiting commands of one player: [`COMMAND_BACKLOG`] and those that [`FRAMES_PER_SECOND`] allows during a tick.
    /// Past it the player is removed with `flood`.
    pub command_backlog: usize,
    /// Bytes of all players' inputs taken per tick, and separately of their commands: [`BATCH_BYTES_PER_SECOND`], but
    /// at most [`BATCH_BYTES`]. Further messages wait; the players share the bytes.
    pub batch_bytes: usize,
}

impl PerTick {
    /// Returns the limits for ticks of this length, in a game that takes `inputs` of a player per `inputs_in`.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, reason = "ticks have at most a second")]
    pub const fn new(tick: Duration, inputs: usize, inputs_in: Duration) -> PerTick {
        let slack = INPUT_SLACK as u128;
        let input_cost = if inputs_in.is_zero() { slack } else { inputs_in.as_nanos() * slack };
        let most = input_cost * at_least(INPUT_WINDOW, during(tick, INPUTS_PER_SECOND)) as u128;
        let input_credit = tick.as_nanos() * at_least(1, inputs) as u128 * (slack + 1);
        let input_credit = if input_credit < most { input_credit } else { most };
        let budget = input_credit.div_ceil(input_cost) as usize;
        let batch_bytes = during(tick, BATCH_BYTES_PER_SECOND);
        PerTick {
            input_credit: input_credit as u64,
            input_cost: input_cost as u64,
            inputs: at_least(INPUT_WINDOW, budget),
            input_backlog: at_least(budget + INPUT_WINDOW, 4 * budget),
            commands: at_least(COMMANDS_PER_TICK, during(tick, COMMANDS_PER_SECOND)),
            command_backlog: COMMAND_BACKLOG + during(tick, FRAMES_PER_SECOND),
            batch_bytes: if batch_bytes < BATCH_BYTES { batch_bytes } else { BATCH_BYTES },
        }
    }
}

const fn at_least(least: usize, value: usize) -> usize {
    if value < least { least } else { value }
}

/// Returns how many inputs a page that sends 60 a second sends in a tick, rounded up.
#[must_use]
pub const fn inputs_per_tick(tick: Duration) -> usize {
    tick.as_nanos().div_ceil(INPUT_PERIOD.as_nanos()) as usize
}

/// Returns how many events at `per_second` occur in `time`, rounded down. `time` is at most a few seconds.
const fn during(time: Duration, per_second: u32) -> usize {
    (time.as_nanos() * per_second as u128 / 1_000_000_000) as usize
}

/// How long a websocket may stay open without joining, or seeking another player.
pub const JOIN_TIMEOUT: Duration = Duration::from_secs(10);
/// How long others may come before a player who seeks another gets the nearest of those who wait.
pub const SEEK_GATHERING: Duration = Duration::from_secs(1);
/// How long a player waits for a decision that [`Hooks::accept`](crate::hooks::Hooks::accept) postponed.
pub const DECISION_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a peer may take from its offer to an open data channel.
pub const PEER_OPEN_TIMEOUT: Duration = Duration::from_secs(20);
/// How long the offering end waits for the first packet of the other end. Where UDP is blocked, none arrives.
pub const PEER_REACH_TIMEOUT: Duration = Duration::from_secs(8);
/// How long the offering end waits for DTLS once ICE has found a path. A forged or damaged record can break a handshake
/// silently; a new attempt recovers faster than waiting.
pub const PEER_SECURE_TIMEOUT: Duration = Duration::from_secs(4);
/// How long an empty room is kept.
pub const EMPTY_ROOM_LINGER: Duration = Duration::from_secs(10);
/// The grace period: how long a player whose websocket was lost may take to reconnect and resume, unless set with
/// `--grace`.
pub const RESUME_GRACE: Duration = Duration::from_secs(10);
/// The range of `--grace`.
pub const GRACE_RANGE: std::ops::RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(3_600);
/// The grace period of a player whose page was closed or reloaded. A reload is quick.
pub const RELOAD_GRACE: Duration = Duration::from_millis(1_500);
/// Time between two pings on a player's websocket.
pub const HEARTBEAT_INTERVAL: Duration = Duration::from_millis(1_200);
/// Pings that may stay unanswered. When the next one is due the websocket counts as lost.
pub const HEARTBEATS_UNANSWERED: u8 = 3;
/// Heartbeats left out in a row while the data channel delivers, if the client has announced that it takes this.
pub const HEARTBEATS_SKIPPED: u8 = 2;
/// Pings of a websocket whose answers are recognised: the newest.
pub const PINGS_REMEMBERED: usize = 8;
/// Time without delivery on an open data channel, while messages were waiting, after which the websocket carries the
/// frames instead, until the data channel delivers again.
pub const CHANNEL_SILENCE: Duration = Duration::from_millis(1_500);
/// Time without delivery after which both transports are probed.
pub const CHANNEL_DOUBT: Duration = Duration::from_millis(500);
/// Bytes of reliable messages kept for a player until they are acknowledged. A player who reconnects after missing more
/// starts over.
pub const UNACKNOWLEDGED_BYTES: usize = 64 * 1024;
/// Bytes of the recording of one room. Past it the recording ends and the room continues.
pub const JOURNAL_BYTES: usize = 256 * 1024 * 1024;
/// Bytes of recordings waiting for the disk. Past it recordings end.
pub const RECORDING_QUEUE_BYTES: usize = 64 * 1024 * 1024;
/// MiB of all recordings in a directory, unless set with `--record-limit`.
pub const RECORDINGS_MIB: u64 = 1_024;
/// Events for other services that the core holds until it is polled.
pub const LIVE_EVENTS_WAITING: usize = 16_384;
/// Events for other services that wait for the broker.
pub const LIVE_EVENTS_QUEUED: usize = 65_536;
/// Their bytes.
pub const LIVE_EVENTS_QUEUED_BYTES: usize = 64 * 1024 * 1024;
/// Entries between two ticks of a recording; far more than a server ever records.
pub const TOLD_PER_TICK: usize = 1024 * 1024;
/// A gap between two turns of the event loop after which the process counts as having been suspended.
pub const CLOCK_GAP: Duration = Duration::from_millis(250);
/// Least time between two packets of new inputs from one client.
pub const INPUT_INTERVAL: Duration = Duration::from_millis(8);
/// Time between two pings of the game protocol, each way.
pub const PING_INTERVAL: Duration = Duration::from_secs(1);

const _: () = assert!(
    FRAME_BYTES + SCTP_OVERHEAD_BYTES + DTLS_RECORD_OVERHEAD_BYTES <= UDP_PAYLOAD_BYTES,
    "a full frame with every overhead must fit one UDP payload"
);
const _: () = assert!(
    EVENT_BYTES + BODY_PREFIX_BYTES <= UNRELIABLE_BODY_BYTES,
    "a full event must fit its parts even where deflate does not help"
);
const _: () = assert!(INPUT_BYTES + 16 <= PART_BODY_BYTES, "the largest input must fit one part");
const _: () = assert!(FRAME_PARTS <= 16, "part index and count have four bits each");
const _: () = assert!(
    DOWNLINK_BYTES_PER_SECOND as usize >= FRAME_PARTS * UDP_PAYLOAD_BYTES * 1_000 / TICK_MS as usize,
    "the largest state of every tick fits"
);
const _: () = assert!(SDP_BYTES < MEDIA_SDP_BYTES && MEDIA_SDP_BYTES < RELIABLE_UP_BYTES);
const _: () = assert!(
    RELAYED_BYTES_PER_ROOM_PER_SECOND >= 2 * RELAYED_BYTES_PER_SECOND,
    "one player cannot use up the share of a room"
);
const _: () =
    assert!(RELAY_QUEUE_BYTES + 8 * RELIABLE_UP_BYTES < RELIABLE_QUEUE_BYTES, "most of the queue is left to the game");
const _: () =
    assert!(JOINS_PER_ADDRESS_AT_ONCE as usize >= UNJOINED_PER_ADDRESS, "every connection that may wait may join");
const _: () = assert!(
    TLS_HANDSHAKES_PER_ADDRESS_PER_SECOND as u64 * TLS_HANDSHAKE_WAIT.as_secs() >= UNJOINED_PER_ADDRESS as u64,
    "every connection that may wait gets its handshake"
);
const _: () = assert!(TURN_SHARE <= TURN_WORK && REQUEST_WORK + CALL_WORK <= TURN_SHARE, "a share serves a request");
const _: () =
    assert!(2 * TURN_ACCEPTS * REQUEST_WORK <= TURN_WORK / 2, "accepting on two sockets takes at most half of a turn");
const _: () = assert!(
    WEBSOCKET_FRAMES_PER_SECOND >= FRAMES_PER_SECOND + SIGNALS_PER_SECOND + 100,
    "a client within the limits of messages stays within that of frames, pongs and fragments included"
);
const _: () = assert!(COMMAND_BACKLOG > FRAMES_PER_SECOND as usize, "a burst within the limit of frames waits");
const _: () = assert!(COMMANDS_PER_SECOND > FRAMES_PER_SECOND, "commands within the limit of frames do not accumulate");
const _: () = {
    let tick = Duration::from_millis(*TICK_MS_RANGE.start() as u64);
    let shortest = PerTick::new(tick, 1, tick);
    assert!(shortest.batch_bytes >= RELIABLE_UP_BYTES, "every tick takes at least one message");
    assert!(FAN_OUT_BYTES >= FANNED_OUT_BYTES, "every tick fans out at least one input");
};
const _: () = assert!(
    BATCH_BYTES + LIST_PREFIX_BYTES + BODY_PREFIX_BYTES <= RELIABLE_DOWN_BYTES,
    "the inputs of the largest tick are one reliable message"
);
const _: () = assert!(TICK_WINDOW >= BACKOFF_INTERVAL as usize, "a tick window covers the gap that back-off leaves");
const _: () = assert!(
    HEARTBEAT_INTERVAL.as_millis() * (1 + HEARTBEATS_UNANSWERED as u128) <= 5_000,
    "a client that vanishes is noticed within 5 s"
);
const _: () = assert!(
    HEARTBEAT_INTERVAL.as_millis() > PING_INTERVAL.as_millis(),
    "a data channel that delivers is heard in the time of a heartbeat"
);
const _: () = assert!(
    PINGS_REMEMBERED > 2 * HEARTBEATS_UNANSWERED as usize,
    "the answers to all heartbeats, and to one ping between any two, are recognised"
);
const _: () = assert!(CHANNEL_DOUBT.as_millis() * 3 <= CHANNEL_SILENCE.as_millis(), "an answer can arrive in time");
const _: () =
    assert!(CHANNEL_SILENCE.as_millis() > PING_INTERVAL.as_millis(), "the answer to a ping counts as delivery");
const _: () = assert!(UPLINK_PACKETS_PER_SECOND >= 2 * FRAMES_PER_SECOND, "the limit of frames is reached first");
const _: () = assert!(
    UPLINK_BYTES_PER_SECOND as u128 >= 3 * UDP_PAYLOAD_BYTES as u128 * 1_000 / INPUT_INTERVAL.as_millis() / 2,
    "1.5 times the rate of full packets of inputs"
);
