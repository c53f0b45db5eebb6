// The server's limits (src/limits.rs) as far as they bind a client. Sizes in bytes, times in milliseconds.

export const PART_BODY_BYTES = 1_094;
export const FRAME_PARTS = 4;
export const UNRELIABLE_BODY_BYTES = FRAME_PARTS * PART_BODY_BYTES;
export const RELIABLE_DOWN_BYTES = 1024 * 1024;
export const RELIABLE_UP_BYTES = 16 * 1024;

export const INPUT_WINDOW = 8;
export const INPUT_BYTES = 512;
export const INPUT_INTERVAL = 8;
// Longer than a tick, or a game that sends each tick would send everything twice.
export const INPUT_REPEAT = 50;
export const PING_INTERVAL = 1_000;
export const TICKS_PER_REQUEST = 310;

export const MSGPACK_DEPTH = 16;
export const MSGPACK_ITEMS = 4_096;

/** Bytes waiting in the data channel past which an unreliable frame is dropped instead of queued behind them. */
export const CHANNEL_BACKLOG = 32 * 1024;
/** The same for the websocket. */
export const SOCKET_BACKLOG = 64 * 1024;

export const SIGNALING_TIMEOUT = 10_000;
export const STAGE_TIMEOUT = { ice: 8_000, dtls: 8_000, channel: 5_000 };
