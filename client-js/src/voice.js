import { RtcadeError } from "./index.js";

/** Until the server's answer, and from there until the connection. In ms. */
const TIMEOUT = 10_000;
/** Waits before another attempt, in ms. */
const RETRY_FIRST = 1_000;
const RETRY_CAP = 30_000;
/** How often levels are measured, in ms. */
const METER = 100;
/** The root mean square from which a sample is speech, and how long one speaks after it, in ms. */
const SPEECH = 0.005;
const HOLD = 300;
const VOLUME_MAX = 2;
/** Of a voice, in bits per second. */
const BITRATE = 32_000;
/** What lets a page that was opened without a click make sounds. */
const GESTURES = ["pointerdown", "keydown"];

const SENTENCES = {
  insecure: "Browsers give the microphone to pages over https and at localhost only. Use an https address.",
  unsupported: "This browser has no WebRTC or no Web Audio, which voice needs.",
  NotAllowedError: "The microphone was not allowed. Allow it in the browser's settings of this page.",
  NotFoundError: "No microphone was found. Connect one.",
  microphone: "The microphone can't be used. Close other programs that use it.",
  timeout: "The server did not answer in time. Try again.",
  unreachable: "Voice could not be connected: UDP to the server is blocked.",
};
const failure = (code, sentence) => new RtcadeError("voice", code, sentence ?? SENTENCES[code]);

/** A track of one's own for what the option `microphone` names; `null` for none. */
async function capture(microphone) {
  if (!microphone) return null;
  if (typeof microphone === "object") return microphone.clone();
  const { mediaDevices } = navigator;
  if (!mediaDevices) throw failure("insecure");
  const deviceId = microphone === true ? undefined : { exact: microphone };
  const audio = { deviceId, echoCancellation: true, noiseSuppression: true, autoGainControl: true };
  try {
    return (await mediaDevices.getUserMedia({ audio })).getAudioTracks()[0];
  } catch ({ name }) {
    throw failure("microphone", SENTENCES[name]);
  }
}

export async function joinVoice(room, options) {
  const { microphone = true, muted = false, speakers = 4 } = options ?? {};
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
  const volumes = new Map();
  const context = new AudioContext();
  const samples = new Float32Array(1024);
  const wake = () => context.resume().catch(() => {});

  const emit = (type, event) => {
    for (const listener of [...(listeners[type] ?? [])]) {
      try {
        listener(event);
      } catch (error) {
        (globalThis.reportError ?? console.error)(error);
      }
    }
  };

  /** Measures a track; what is heard of it passes `gain`. */
  const meter = (of, gain) => {
    const stream = new MediaStream([of]);
    // Chromium lets a remote track flow only if an element plays it.
    const element = gain && Object.assign(new Audio(), { srcObject: stream, muted: true });
    element?.play().catch(() => {});
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
        gain?.disconnect();
        if (element) element.srcObject = null;
      },
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
  const setGain = ({ player, gain }) => (gain.gain.value = volumes.get(player) ?? 1);
  const onSlots = ({ d: { slots: players } }) =>
    slots.forEach((slot, index) => {
      const player = players[index] ?? null;
      if (slot.player === player) return;
      hush(slot);
      slot.player = player;
      setGain(slot);
    });

  const useTrack = () => {
    own?.end();
    own = track && Object.assign(meter(track), { player: room.me });
    if (track) track.enabled = !isMuted;
    return sender?.replaceTrack(track);
  };

  const shut = () => {
    if (pc) pc.onconnectionstatechange = null;
    pc?.close();
    pc = undefined;
    for (const slot of slots) {
      hush(slot);
      slot.end();
    }
    slots = [];
  };

  /** Asks the server, and gives the answer. */
  const exchange = (sdp) =>
    new Promise((resolve, reject) => {
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
    const mine = (pc = new RTCPeerConnection());
    const codecs = RTCRtpReceiver.getCapabilities?.("audio").codecs.filter((codec) => /opus/i.test(codec.mimeType));
    const transceivers = Array.from({ length: speakers + 1 }, (_, index) =>
      mine.addTransceiver("audio", index === 0 ? { direction: "sendonly", sendEncodings: [{ maxBitrate: BITRATE }] } : { direction: "recvonly" }),
    );
    for (const transceiver of transceivers) transceiver.setCodecPreferences?.(codecs ?? []);
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
  /** The connection is lost: another follows, unless there is an attempt already. */
  const lose = () => {
    if (isOver || retryTimer) return;
    shut();
    retryTimer = setTimeout(
      () => {
        retryTimer = undefined;
        reopen();
      },
      Math.min(RETRY_CAP, RETRY_FIRST * 2 ** attempts++) * (0.5 + Math.random() / 2),
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
      if (status === "open" && !/^connect/.test(pc?.connectionState)) reopen();
    }),
    room.on("close", () => voice.leave()),
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
      if (volume >= 0) volumes.set(player, Math.min(VOLUME_MAX, volume));
      slots.filter((slot) => slot.player === player).forEach(setGain);
      return volumes.get(player) ?? 1;
    },
    async devices() {
      if (!navigator.mediaDevices) throw failure("insecure");
      const devices = await navigator.mediaDevices.enumerateDevices();
      return devices.filter(({ kind }) => kind === "audioinput").map(({ deviceId, label }) => ({ deviceId, label }));
    },
    async setMicrophone(other) {
      const next = await capture(other);
      track?.stop();
      track = next;
      if (isOver) track?.stop();
      else await useTrack();
    },
    on(type, listener) {
      (listeners[type] ??= new Set()).add(listener);
      return () => {
        listeners[type].delete(listener);
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
      track?.stop();
      own?.end();
      context.close();
    },
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
