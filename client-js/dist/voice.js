/*! rtcade: MIT OR Apache-2.0 */

// src/voice.js
import { RtcadeError } from "./index.js";
var TIMEOUT = 1e4;
var RETRY_FIRST = 1e3;
var RETRY_CAP = 3e4;
var METER = 100;
var SPEECH = 5e-3;
var HOLD = 300;
var VOLUME_MAX = 2;
var BITRATE = 32e3;
var GESTURES = ["pointerdown", "keydown"];
var SENTENCES = {
  insecure: "Browsers give the microphone to pages over https and at localhost only. Use an https address.",
  unsupported: "This browser has no WebRTC or no Web Audio, which voice needs.",
  NotAllowedError: "The microphone was not allowed. Allow it in the browser's settings of this page.",
  NotFoundError: "No microphone was found. Connect one.",
  microphone: "The microphone can't be used. Close other programs that use it.",
  timeout: "The server did not answer in time. Try again.",
  unreachable: "Voice could not be connected: UDP to the server is blocked."
};
var failure = (code, sentence) => new RtcadeError("voice", code, sentence != null ? sentence : SENTENCES[code]);
async function capture(microphone) {
  if (!microphone) return null;
  if (typeof microphone === "object") return microphone.clone();
  const { mediaDevices } = navigator;
  if (!mediaDevices) throw failure("insecure");
  const deviceId = microphone === true ? void 0 : { exact: microphone };
  const audio = { deviceId, echoCancellation: true, noiseSuppression: true, autoGainControl: true };
  try {
    return (await mediaDevices.getUserMedia({ audio })).getAudioTracks()[0];
  } catch ({ name }) {
    throw failure("microphone", SENTENCES[name]);
  }
}
async function joinVoice(room, options) {
  const { microphone = true, muted = false, speakers = 4 } = options != null ? options : {};
  const { RTCPeerConnection, AudioContext } = globalThis;
  if (!RTCPeerConnection || !AudioContext) throw failure("unsupported");
  let track = await capture(microphone);
  let isMuted = muted;
  let isOver = false;
  let pc;
  let sender;
  let slots = [];
  let own;
  let offers = 0;
  let attempts = 0;
  let retryTimer;
  const listeners = {};
  const volumes = /* @__PURE__ */ new Map();
  const context = new AudioContext();
  const samples = new Float32Array(1024);
  const wake = () => context.resume().catch(() => {
  });
  const emit = (type, event) => {
    var _a, _b;
    for (const listener2 of [...(_a = listeners[type]) != null ? _a : []]) {
      try {
        listener2(event);
      } catch (error) {
        ((_b = globalThis.reportError) != null ? _b : console.error)(error);
      }
    }
  };
  const meter = (of, gain) => {
    const stream = new MediaStream([of]);
    const element = gain && Object.assign(new Audio(), { srcObject: stream, muted: true });
    element == null ? void 0 : element.play().catch(() => {
    });
    const source = context.createMediaStreamSource(stream);
    const analyser = context.createAnalyser();
    analyser.fftSize = samples.length;
    source.connect(analyser);
    if (gain) analyser.connect(gain).connect(context.destination);
    return {
      player: null,
      gain,
      spokeAt: null,
      measure() {
        analyser.getFloatTimeDomainData(samples);
        return Math.sqrt(samples.reduce((sum, x) => sum + x * x, 0) / samples.length);
      },
      end() {
        source.disconnect();
        analyser.disconnect();
        gain == null ? void 0 : gain.disconnect();
        if (element) element.srcObject = null;
      }
    };
  };
  const hush = (slot) => {
    if (slot.spokeAt !== null) emit("speaking", { player: slot.player, isSpeaking: false, level: 0 });
    slot.spokeAt = null;
  };
  const listen = () => {
    const now = performance.now();
    for (const slot of own ? [own, ...slots] : slots) {
      if (slot.player === null) continue;
      const level = slot.measure();
      if (level >= SPEECH) slot.spokeAt = now;
      if (slot.spokeAt === null) continue;
      if (now - slot.spokeAt > HOLD) hush(slot);
      else emit("speaking", { player: slot.player, isSpeaking: true, level });
    }
  };
  const setGain = ({ player, gain }) => {
    var _a;
    return gain.gain.value = (_a = volumes.get(player)) != null ? _a : 1;
  };
  const onSlots = ({ d: { slots: players } }) => slots.forEach((slot, index) => {
    var _a;
    const player = (_a = players[index]) != null ? _a : null;
    if (slot.player === player) return;
    hush(slot);
    slot.player = player;
    setGain(slot);
  });
  const useTrack = () => {
    own == null ? void 0 : own.end();
    own = track && Object.assign(meter(track), { player: room.me });
    if (track) track.enabled = !isMuted;
    return sender == null ? void 0 : sender.replaceTrack(track);
  };
  const shut = () => {
    if (pc) pc.onconnectionstatechange = null;
    pc == null ? void 0 : pc.close();
    pc = void 0;
    for (const slot of slots) {
      hush(slot);
      slot.end();
    }
    slots = [];
  };
  const exchange = (sdp) => new Promise((resolve, reject) => {
    const id = `voice${++offers}`;
    const settle = (end, value) => {
      clearTimeout(timer);
      off();
      end(value);
    };
    const timer = setTimeout(() => settle(reject, failure("timeout")), TIMEOUT);
    const off = room.on("exchangeSdpR", ({ i, s: success, d, e: code, m: sentence }) => {
      if (i !== id) return;
      if (success) settle(resolve, d.sdp);
      else settle(reject, failure(code, sentence));
    });
    room.signal({ a: "exchangeSdp", i: id, d: { to: "server", sdp } });
  });
  const open = async () => {
    var _a, _b;
    shut();
    clearTimeout(retryTimer);
    const mine = pc = new RTCPeerConnection();
    const codecs = (_a = RTCRtpReceiver.getCapabilities) == null ? void 0 : _a.call(RTCRtpReceiver, "audio").codecs.filter((codec) => /opus/i.test(codec.mimeType));
    const transceivers = Array.from(
      { length: speakers + 1 },
      (_, index) => mine.addTransceiver("audio", index === 0 ? { direction: "sendonly", sendEncodings: [{ maxBitrate: BITRATE }] } : { direction: "recvonly" })
    );
    for (const transceiver of transceivers) (_b = transceiver.setCodecPreferences) == null ? void 0 : _b.call(transceiver, codecs != null ? codecs : []);
    sender = transceivers[0].sender;
    slots = transceivers.slice(1).map(({ receiver }) => meter(receiver.track, context.createGain()));
    await useTrack();
    await mine.setLocalDescription(await mine.createOffer());
    const sdp = await exchange(mine.localDescription.sdp);
    if (mine !== pc) return;
    await mine.setRemoteDescription({ type: "answer", sdp });
    await new Promise((resolve, reject) => {
      const timer = setTimeout(() => reject(failure("unreachable")), TIMEOUT);
      mine.onconnectionstatechange = () => {
        const { connectionState: state } = mine;
        if (state === "connected") {
          clearTimeout(timer);
          attempts = 0;
          resolve();
        } else if (state === "failed" || state === "closed") {
          clearTimeout(timer);
          reject(failure("unreachable"));
          lose();
        }
      };
    });
  };
  const reopen = () => open().catch(lose);
  const lose = () => {
    if (isOver || retryTimer) return;
    shut();
    retryTimer = setTimeout(
      () => {
        retryTimer = void 0;
        reopen();
      },
      Math.min(RETRY_CAP, RETRY_FIRST * 2 ** attempts++) * (0.5 + Math.random() / 2)
    );
  };
  const offs = [
    room.on("eventVoice", onSlots),
    room.on("eventMediaClosed", ({ d: { e: code, m: sentence } }) => {
      if (code === "rate_limited") {
        emit("error", failure(code, sentence));
        voice.leave();
      } else lose();
    }),
    room.on("rejoin", reopen),
    room.on("status", (status) => {
      if (status === "open" && !/^connect/.test(pc == null ? void 0 : pc.connectionState)) reopen();
    }),
    room.on("close", () => voice.leave())
  ];
  const listener = setInterval(listen, METER);
  for (const type of GESTURES) globalThis.addEventListener(type, wake);
  const voice = {
    get muted() {
      return isMuted;
    },
    set muted(value) {
      isMuted = Boolean(value);
      if (track) track.enabled = !isMuted;
    },
    get talking() {
      return !isMuted && track !== null;
    },
    set talking(value) {
      voice.muted = !value;
    },
    volume(player, volume) {
      var _a;
      if (volume >= 0) volumes.set(player, Math.min(VOLUME_MAX, volume));
      slots.filter((slot) => slot.player === player).forEach(setGain);
      return (_a = volumes.get(player)) != null ? _a : 1;
    },
    async devices() {
      if (!navigator.mediaDevices) throw failure("insecure");
      const devices = await navigator.mediaDevices.enumerateDevices();
      return devices.filter(({ kind }) => kind === "audioinput").map(({ deviceId, label }) => ({ deviceId, label }));
    },
    async setMicrophone(other) {
      const next = await capture(other);
      track == null ? void 0 : track.stop();
      track = next;
      if (isOver) track == null ? void 0 : track.stop();
      else await useTrack();
    },
    on(type, listener2) {
      var _a;
      ((_a = listeners[type]) != null ? _a : listeners[type] = /* @__PURE__ */ new Set()).add(listener2);
      return () => {
        listeners[type].delete(listener2);
      };
    },
    leave() {
      if (isOver) return;
      isOver = true;
      shut();
      offs.forEach((off) => off());
      clearTimeout(retryTimer);
      clearInterval(listener);
      for (const type of GESTURES) globalThis.removeEventListener(type, wake);
      track == null ? void 0 : track.stop();
      own == null ? void 0 : own.end();
      context.close();
    }
  };
  wake();
  try {
    await open();
  } catch (error) {
    voice.leave();
    throw error instanceof RtcadeError ? error : failure("internal", error.message);
  }
  return voice;
}
export {
  joinVoice
};
//# sourceMappingURL=voice.js.map
