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
  timeout: "The server did not answer in time. Check your connection and try again.",
  unreachable: "The server could not be reached. Check your connection and try again.",
  unsupported: "This browser has no websockets.",
  version_mismatch: "The server speaks another version. Reload the page.",
};

export const signalingError = (code, message) =>
  new RtcadeError(
    code === "refused" ? "game" : "signaling",
    code,
    message || SIGNALING[code] || `The server refused: ${code}.`,
  );

const OBSTACLE = {
  ice: "UDP to the server is blocked.",
  dtls: "UDP to the server could not be secured.",
  channel: "The data channel to the server closed.",
};

export const channelError = (stage, code, message) =>
  new RtcadeError(
    stage,
    code,
    (message || (code === "unsupported" ? "This browser allows no WebRTC." : OBSTACLE[stage])) +
      " The game goes on over the websocket, perhaps slower.",
  );

/** What became of a player and whether to join again, in the order of the close codes from 4000. */
const GOODBYES = [
  ["left", "You left the room."],
  ["closed", "The server closed the connection.", true],
  ["timeout", "The server did not hear from you in time.", true],
  ["kicked", "You were put out of the room."],
  ["flood", "This page sent too much. Reload the page."],
  ["bad_frame", "This page sent nonsense. Reload the page."],
  ["replaced", "You are playing in another window."],
  ["room_closed", "The room was closed.", true],
  ["shutdown", "The server is going down.", true],
];
const LOST = ["unreachable", "The connection to the server was lost.", true];
const REFUSED = 4100;

/** What a closed websocket means, from its close code and the text beside it. */
export function closure(code, text) {
  const known = GOODBYES[code === 1000 ? 0 : code - 4000] ?? LOST;
  const [reason, sentence, retry = false] =
    code === REFUSED ? [text, `The server refused: ${text}.`, text === "rate_limited"] : known;
  return {
    code,
    reason,
    message: (text && text !== reason ? text : sentence) + (retry ? " Try to join again." : ""),
    retry,
  };
}
