// The server's limits (src/limits.rs) as far as they bind a client. Sizes in bytes, times in milliseconds.

export const PART_BODY_BYTES = 1_094;
export const FRAME_PARTS = 4;
export const UNRELIABLE_BODY_BYTES = FRAME_PARTS * PART_BODY_BYTES;
/** Of a state, inflated and restored from a delta. */
export const STATE_BODY_BYTES = 16 * 1024 + 8;
/** States kept, to restore deltas from. */
export const STATE_HISTORY = 32;
/** After so many states they are acknowledged even if there is nothing else to send. */
export const STATES_UNREPORTED = 6;
export const RELIABLE_DOWN_BYTES = 1024 * 1024;
export const RELIABLE_UP_BYTES = 16 * 1024;
export const RELIABLE_HEADER_BYTES = 9;

export const INPUT_WINDOW = 8;
export const INPUT_BYTES = 512;
export const INPUT_INTERVAL = 8;
// Longer than a tick, or a game that sends each tick would send everything twice.
export const INPUT_REPEAT = 50;
export const PING_INTERVAL = 1_000;
export const HEARTBEAT_INTERVAL = 1_200;
export const HEARTBEATS_SKIPPED = 2;
/** Of what the server has not acknowledged; it is kept to be sent again. */
export const UNACKNOWLEDGED_BYTES = 64 * 1024;
/** Commands sent again per tick: the server takes 16. */
export const REPEATED_PER_TICK = 4;
export const TICKS_PER_REQUEST = 310;
/** The longest tick that a server may name. */
export const TICK_MS_MAX = 60_000;

/** Nesting of one value of a game; what stands around it in a body comes on top. */
export const MSGPACK_DEPTH = 16;
/** Arrays around an input on its way up, around one that is fanned out, and around a state or an event. */
export const INPUTS_WRAPPING = 2;
export const TICKS_WRAPPING = 3;
export const AT_TICK_WRAPPING = 1;
/** Elements of one value that goes to the server. */
export const MSGPACK_ITEMS = 4_096;

/** Bytes waiting in the data channel past which an unreliable frame is dropped instead of queued behind them. */
export const CHANNEL_BACKLOG = 32 * 1024;
/** The same for the websocket. */
export const SOCKET_BACKLOG = 64 * 1024;

export const SIGNALING_TIMEOUT = 10_000;
/** How long a request waits for the offer that may go with it. */
export const OFFER_PATIENCE = 2_000;
/** Servers that send a request on, one after the other. */
export const REDIRECTS = 4;
/** When to ask again, in ms, after the server that was named could not be reached. */
export const REDIRECT_RETRY = 1_000;
export const STAGE_TIMEOUT = { ice: 8_000, dtls: 4_000, channel: 5_000 };

/** A websocket that has brought nothing for so long is dead: four heartbeats were due. */
export const SOCKET_SILENCE = 5_000;
/** The same while the data channel delivers: the server may leave out HEARTBEATS_SKIPPED before each. */
export const SPARSE_SILENCE = SOCKET_SILENCE + HEARTBEATS_SKIPPED * HEARTBEAT_INTERVAL;
/** One that a page finds so when it wakes, and the data channel too, is not waited for. */
export const SOCKET_STALE = 2_000;
/** A channel that is open and has brought nothing for so long is passed by until it does. */
export const CHANNEL_SILENCE = 1_500;

/** Before the first try to come back, at most; each further try doubles it. */
export const BACKOFF_FIRST = 250;
export const BACKOFF_CAP = 5_000;
/** On top of a wait that the server asks for, at most. */
export const PACE_JITTER = 500;
/** How long a client tries to come back, the waits that the server asks for not counted. */
export const COMEBACK_TIMEOUT = 60_000;
/** How long in all. */
export const COMEBACK_END = 300_000;
export const RESUME_TIMEOUT = 5_000;
/** Before a channel that failed is offered again, the first time aside, which is at once; each further try doubles it. */
export const OFFER_FIRST = 10_000;
export const OFFER_CAP = 60_000;
