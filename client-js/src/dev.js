import { createMessages } from "./dev/messages.js";
import { createMeter } from "./dev/meter.js";
import { settingsFrom } from "./dev/network.js";
import { createOverlay } from "./dev/overlay.js";
import { shapedPeerConnection, shapedWebSocket } from "./dev/transport.js";

const STORED = "rtcade.dev";

/** In the page's tab, so that a reload keeps it. */
const store = {
  read() {
    try {
      return JSON.parse(sessionStorage.getItem(STORED));
    } catch {
      return null;
    }
  },
  write(value) {
    try {
      sessionStorage.setItem(STORED, JSON.stringify(value));
    } catch {
      // Forbidden or full: then a reload begins anew.
    }
  },
};

const stored = store.read() ?? {};
const settings = settingsFrom(stored.settings);
const CONNECTIONS_KEPT = 4;
/** Of the page, the newest last. */
const connections = [];
/** The one that the overlay is about: the newest that lives. */
const shown = () => connections.findLast(({ sockets }) => sockets.size > 0) ?? connections.at(-1);
const instances = {};
let overlay;

/** `rtcade/predict` and `rtcade/interpolate` announce themselves. */
globalThis[Symbol.for("rtcade.dev")] = (kind, instance) => {
  instances[kind] = instance;
};

/** The environment of a connection with its WebSocket and data channels over the network that the overlay sets. */
export function shape(env) {
  if (!globalThis.document) return env;
  const messages = createMessages(env.now);
  const sockets = new Set();
  connections.push({ messages, sockets });
  if (connections.length > CONNECTIONS_KEPT) connections.shift();
  overlay ??= createOverlay({ settings, shown, meter: createMeter(instances), store, stored });
  const noted = (lane) => (way, data, isLost) => messages.note(way, lane, data, isLost);
  return {
    ...env,
    WebSocket: env.WebSocket && shapedWebSocket(env.WebSocket, env, settings, sockets, noted("websocket")),
    RTCPeerConnection:
      env.RTCPeerConnection && shapedPeerConnection(env.RTCPeerConnection, env, settings, noted("data channel")),
  };
}
