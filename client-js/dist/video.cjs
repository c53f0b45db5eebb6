/*! rtcade: MIT OR Apache-2.0 */
var __defProp = Object.defineProperty;
var __getOwnPropDesc = Object.getOwnPropertyDescriptor;
var __getOwnPropNames = Object.getOwnPropertyNames;
var __hasOwnProp = Object.prototype.hasOwnProperty;
var __export = (target, all) => {
  for (var name in all)
    __defProp(target, name, { get: all[name], enumerable: true });
};
var __copyProps = (to, from, except, desc) => {
  if (from && typeof from === "object" || typeof from === "function") {
    for (let key of __getOwnPropNames(from))
      if (!__hasOwnProp.call(to, key) && key !== except)
        __defProp(to, key, { get: () => from[key], enumerable: !(desc = __getOwnPropDesc(from, key)) || desc.enumerable });
  }
  return to;
};
var __toCommonJS = (mod) => __copyProps(__defProp({}, "__esModule", { value: true }), mod);

// src/video.js
var video_exports = {};
__export(video_exports, {
  joinVideo: () => joinVideo
});
module.exports = __toCommonJS(video_exports);

// src/media.js
var import_index = require("./index.cjs");
var TIMEOUT = 1e4;
var RETRY_FIRST = 1e3;
var RETRY_CAP = 3e4;
var METER = 100;
var SPEECH = 5e-3;
var HOLD = 300;
var VOLUME_MAX = 2;
var BITRATE = 32e3;
var LAYERS = [
  { rid: "q", scaleResolutionDownBy: 4, maxBitrate: 15e4 },
  { rid: "h", scaleResolutionDownBy: 2, maxBitrate: 5e5 },
  { rid: "f", maxBitrate: 17e5 }
];
var CODECS = /opus|VP8|rtx|H264.*mode=1.*42e01f/i;
var SUPERFLUOUS = /^a=(extmap:\d+ (?!.*(audio-level|abs-send|transport-wide|orientation|sdes))|rtcp-xr:|ice-options:).*\r\n/gm;
var GESTURES = ["pointerdown", "click", "keydown"];
var SENTENCES = {
  insecure: "Browsers give microphones and cameras to pages over https and at localhost only. Use an https address.",
  unsupported: "This browser has no WebRTC or no Web Audio, which media need.",
  timeout: "The server did not answer in time. Try again.",
  unreachable: "Media could not be connected: UDP to the server is blocked."
};
var failure = (code, sentence) => new import_index.RtcadeError("media", code, sentence != null ? sentence : SENTENCES[code]);
var DEVICES = {
  audio: { code: "microphone", device: { echoCancellation: true, noiseSuppression: true, autoGainControl: true } },
  video: { code: "camera", device: { width: { ideal: 1280 }, height: { ideal: 720 }, frameRate: { ideal: 30 } } }
};
async function capture(kind, wanted) {
  var _a;
  if (!wanted) return null;
  if (typeof wanted === "object") return wanted.clone();
  const { mediaDevices } = navigator;
  if (!mediaDevices) throw failure("insecure");
  const { code, device } = DEVICES[kind];
  const deviceId = wanted === true ? void 0 : { exact: wanted };
  try {
    return (await mediaDevices.getUserMedia({ [kind]: { deviceId, ...device } })).getTracks()[0];
  } catch ({ name }) {
    const sentences = {
      NotAllowedError: `The ${code} was not allowed. Allow it in the browser's settings of this page.`,
      NotFoundError: `No ${code} was found. Connect one.`
    };
    throw failure(code, (_a = sentences[name]) != null ? _a : `The ${code} can't be used. Close other programs that use it.`);
  }
}
async function devicesOf(kind) {
  if (!navigator.mediaDevices) throw failure("insecure");
  const devices = (await navigator.mediaDevices.enumerateDevices()).filter((device) => device.kind === `${kind}input`);
  return devices.map(({ deviceId, label }) => ({ deviceId, label }));
}
async function joinMedia(room, options) {
  const { microphone = true, muted = false, speakers = 4, camera = false, videos = 0 } = options != null ? options : {};
  const { RTCPeerConnection, AudioContext } = globalThis;
  if (!RTCPeerConnection || !AudioContext) throw failure("unsupported");
  let track = await capture("audio", microphone);
  let picture;
  try {
    picture = await capture("video", camera);
  } catch (error) {
    track == null ? void 0 : track.stop();
    throw error;
  }
  const hasVideo = picture !== null || videos > 0;
  let allowed;
  let isMuted = muted;
  let isOver = false;
  let isAway = false;
  let pc;
  let sender;
  let cameraSender;
  let slots = [];
  let screens = [];
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
  const show = (screen, player) => {
    if (screen.player === player) return;
    if (screen.player !== null) emit("video", { player: screen.player, stream: null });
    screen.player = player;
    if (player !== null) emit("video", { player, stream: screen.stream });
  };
  const onSlots = ({ d: { audio, video } }) => {
    slots.forEach((slot, index) => {
      var _a;
      const player = (_a = audio[index]) != null ? _a : null;
      if (slot.player === player) return;
      hush(slot);
      slot.player = player;
      setGain(slot);
    });
    screens.forEach((screen, index) => {
      var _a;
      return show(screen, (_a = video[index]) != null ? _a : null);
    });
  };
  const useTrack = () => {
    own == null ? void 0 : own.end();
    own = track && Object.assign(meter(track), { player: room.me });
    if (track) track.enabled = !isMuted;
    return sender == null ? void 0 : sender.replaceTrack(track);
  };
  const usePicture = () => cameraSender == null ? void 0 : cameraSender.replaceTrack((allowed == null ? void 0 : allowed.video) === false ? null : picture);
  const shut = () => {
    if (pc) pc.onconnectionstatechange = null;
    pc == null ? void 0 : pc.close();
    pc = void 0;
    for (const slot of slots) {
      hush(slot);
      slot.end();
    }
    slots = [];
    for (const screen of screens) show(screen, null);
    screens = [];
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
    shut();
    clearTimeout(retryTimer);
    const mine = pc = new RTCPeerConnection();
    const add = (kind, init) => {
      var _a, _b;
      const transceiver = mine.addTransceiver(kind, init);
      const codecs = (_a = RTCRtpReceiver.getCapabilities) == null ? void 0 : _a.call(RTCRtpReceiver, kind).codecs.filter(
        (codec) => CODECS.test(codec.mimeType + codec.sdpFmtpLine)
      );
      (_b = transceiver.setCodecPreferences) == null ? void 0 : _b.call(transceiver, codecs != null ? codecs : []);
      return transceiver;
    };
    const receive = (kind, count) => Array.from({ length: count }, () => add(kind, { direction: "recvonly" }).receiver.track);
    sender = add("audio", { direction: "sendonly", sendEncodings: [{ maxBitrate: BITRATE }] }).sender;
    cameraSender = hasVideo ? add("video", { direction: "sendonly", sendEncodings: LAYERS }).sender : null;
    slots = receive("audio", speakers).map((track2) => meter(track2, context.createGain()));
    screens = receive("video", videos).map((track2) => ({ player: null, stream: new MediaStream([track2]) }));
    await useTrack();
    await usePicture();
    await mine.setLocalDescription(await mine.createOffer());
    const sdp = await exchange(mine.localDescription.sdp.replace(SUPERFLUOUS, ""));
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
    room.on("eventMediaSlots", onSlots),
    room.on("eventUserMediaConfiguration", ({ d }) => {
      allowed = d;
      usePicture();
      emit("allowed", d);
    }),
    room.on("eventMediaClosed", ({ d: { e: code, m: sentence } }) => {
      if (code === "rate_limited") {
        emit("error", failure(code, sentence));
        voice.leave();
      } else lose();
    }),
    room.on("rejoin", reopen),
    room.on("status", (status) => {
      if (status === "open" && isAway && !/^connect/.test(pc == null ? void 0 : pc.connectionState)) reopen();
      isAway = status !== "open";
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
    devices: () => devicesOf("audio"),
    cameras: () => devicesOf("video"),
    async setMicrophone(other) {
      const next = await capture("audio", other);
      track == null ? void 0 : track.stop();
      track = next;
      if (isOver) track == null ? void 0 : track.stop();
      else await useTrack();
    },
    async setCamera(other) {
      const next = await capture("video", other);
      picture == null ? void 0 : picture.stop();
      picture = next;
      if (isOver) picture == null ? void 0 : picture.stop();
      else await usePicture();
    },
    /** What the camera sees. */
    get picture() {
      return picture;
    },
    on(type, listener2) {
      var _a;
      ((_a = listeners[type]) != null ? _a : listeners[type] = /* @__PURE__ */ new Set()).add(listener2);
      if (type === "allowed" && allowed) listener2(allowed);
      for (const { player, stream } of type === "video" ? screens : []) if (player !== null) listener2({ player, stream });
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
      picture == null ? void 0 : picture.stop();
      own == null ? void 0 : own.end();
      context.close();
    }
  };
  wake();
  try {
    await open();
  } catch (error) {
    voice.leave();
    throw error instanceof import_index.RtcadeError ? error : failure("internal", error.message);
  }
  return voice;
}

// src/video.js
var joinVideo = (room, options) => joinMedia(room, { camera: true, videos: 4, ...options });
//# sourceMappingURL=video.cjs.map
