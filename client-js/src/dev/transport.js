import { createDatagrams, createStream } from "./network.js";

const sizeOf = (data) => data.byteLength ?? data.length;
const LOST = { code: 1006, reason: "" };

/**
 * The WebSocket of a page, over a stream that `settings` shape.
 *
 * @param sockets those that are in use; each has `drop()`
 * @param note called with `(way, data)` where the page sends and receives
 */
export const shapedWebSocket = (WebSocket, timers, settings, sockets, note) =>
  class {
    #real;
    #up = createStream(timers, settings, "up");
    #down = createStream(timers, settings, "down");
    #isOver = false;
    onopen = null;
    onmessage = null;
    onerror = null;
    onclose = null;

    constructor(url) {
      const real = (this.#real = new WebSocket(url));
      sockets.add(this);
      const pass = (action, ...how) => this.#down(() => this.#isOver || action(), ...how);
      real.onopen = (event) => pass(() => this.onopen?.(event), 0, true);
      real.onmessage = (event) =>
        pass(() => {
          note("down", event.data);
          this.onmessage?.(event);
        }, sizeOf(event.data));
      real.onerror = (event) => pass(() => this.onerror?.(event));
      real.onclose = (event) => pass(() => this.#end(event));
    }

    get readyState() {
      return this.#real.readyState;
    }

    get bufferedAmount() {
      return this.#real.bufferedAmount;
    }

    set binaryType(type) {
      this.#real.binaryType = type;
    }

    send(data) {
      note("up", data);
      this.#up(() => this.#real.send(data), sizeOf(data));
    }

    close(...how) {
      this.#isOver = true;
      sockets.delete(this);
      this.#up(() => this.#real.close(...how));
    }

    /** Loses the connection as a network does: neither end has said goodbye. */
    drop() {
      if (this.#isOver) return;
      // Without a code the server takes it for broken.
      this.#real.close();
      this.#end(LOST);
    }

    #end(event) {
      this.#isOver = true;
      sockets.delete(this);
      this.onclose?.(event);
    }
  };

function shapedChannel(real, timers, settings, note) {
  const up = createDatagrams(timers, settings, "up", (frame) => {
    try {
      real.send(frame);
    } catch {
      // Closed meanwhile.
    }
  });
  const down = createDatagrams(timers, settings, "down", (event) => {
    if (!shaped.onmessage) return;
    note("down", event.data);
    shaped.onmessage(event);
  });
  const shaped = {
    onopen: null,
    onmessage: null,
    onclose: null,

    get readyState() {
      return real.readyState;
    },

    get bufferedAmount() {
      return real.bufferedAmount;
    },

    set binaryType(type) {
      real.binaryType = type;
    },

    send(frame) {
      if (real.readyState !== "open") return real.send(frame);
      note("up", frame, up(frame) === 0);
    },
  };
  real.onopen = (event) => shaped.onopen?.(event);
  real.onclose = (event) => shaped.onclose?.(event);
  real.onmessage = (event) => {
    if (down(event) === 0) note("down", event.data, true);
  };
  return shaped;
}

/**
 * The RTCPeerConnection of a page, whose data channels are over datagrams that `settings` shape; ICE and DTLS are below
 * them.
 *
 * @param note called with `(way, data, isLost)` where the page sends and receives, and where a datagram from the server
 * is lost
 */
export const shapedPeerConnection = (RTCPeerConnection, timers, settings, note) =>
  function (configuration) {
    const pc = new RTCPeerConnection(configuration);
    const create = pc.createDataChannel;
    pc.createDataChannel = (...how) => shapedChannel(create.apply(pc, how), timers, settings, note);
    return pc;
  };
