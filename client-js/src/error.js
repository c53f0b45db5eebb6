/** A failure that a player can be told of: `message` says what happened and what to do. */
export class RtcadeError extends Error {
  constructor(stage, code, message) {
    super(message);
    this.name = "RtcadeError";
    this.stage = stage;
    this.code = code;
  }
}

const SIGNALING = {
  aborted: "Connecting was cancelled.",
  bad_address: "This is not the address of a room. Use a full one, such as https://example.com/r/lobby.",
  bad_value: "The player's data can't be sent as JSON. Use plain values, without cycles.",
  bearer: "This page could not get a token. Sign in and try again.",
  blocked: "The browser blocked the connection. Add the server to connect-src of the page's Content-Security-Policy.",
  mixed_content: "A page over https can't reach a server over http. Use an https address.",
  redirects: "The servers send this page to and fro. Try again.",
  policy: "The server does not allow this connection. Ask its operator.",
  timeout: "The server did not answer in time. Check the address and your connection, then try again.",
  too_large: "The request to join has more than 16 KiB. Send less data.",
  unreachable: "The server could not be reached. Check the address and your connection, then try again.",
  unsupported: "This browser has no websockets. Use another browser.",
  version_mismatch: "The server's answer can't be read. Reload the page.",
};
const text = (value, otherwise) => (typeof value === "string" && value.trim() ? value : otherwise);

export const signalingError = (code, message) =>
  new RtcadeError(
    code === "refused" ? "game" : "signaling",
    text(code, "internal"),
    text(message, SIGNALING[code] ?? `The server refused: ${text(code, "internal")}.`),
  );

const OBSTACLE = {
  offer: "The browser could not prepare a data channel.",
  unsupported: "This browser allows no WebRTC.",
  ice: "UDP to the server is blocked.",
  dtls: "Encryption over UDP to the server failed.",
  channel: "The data channel to the server failed.",
  bad_sdp: "The browser can't use the server's answer.",
};

export const channelError = (stage, code, message) =>
  new RtcadeError(
    stage,
    text(code, "internal"),
    `${text(message, OBSTACLE[code] ?? OBSTACLE[stage])} The game continues over the websocket, which may be slower.`,
  );

/** What became of a player and whether to join again, in the order of the close codes from 4000. */
const GOODBYES = [
  ["left", "You left the room."],
  ["closed", "The server closed the connection.", true],
  ["timeout", "The connection to the server timed out.", true],
  ["kicked", "You were removed from the room."],
  ["flood", "This page sent too much. Reload the page."],
  ["bad_frame", "This page sent a message that the server can't read. Reload the page."],
  ["replaced", "You are playing in another window."],
  ["room_closed", "The room was closed.", true],
  ["shutdown", "The server is shutting down.", true],
];
const LOST = ["unreachable", "The connection to the server was lost.", true];
const REFUSED = 4100;
/** Close codes of RFC 6455 §7.4.1 that would be the same at the next try. */
const POLICIES = { 1008: "policy", 1009: "too_large" };

/** What a closed websocket means, from its close code and the text beside it. */
export function closure(code, said) {
  const refusal = code === REFUSED ? text(said, "internal") : POLICIES[code];
  const [reason, sentence, retry = false] = refusal
    ? [refusal, signalingError(refusal).message, refusal === "rate_limited"]
    : (GOODBYES[code === 1000 ? 0 : code - 4000] ?? LOST);
  return {
    code,
    reason,
    message: (text(said) && said !== reason ? said : sentence) + (retry ? " Try to join again." : ""),
    retry,
  };
}
