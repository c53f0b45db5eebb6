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
/** The layers of a video: the server forwards to each listener the one that their link takes. */
const LAYERS = [
  { rid: "q", scaleResolutionDownBy: 4, maxBitrate: 150_000 },
  { rid: "h", scaleResolutionDownBy: 2, maxBitrate: 500_000 },
  { rid: "f", maxBitrate: 1_700_000 },
];
/** The server forwards H.264 of all profiles; browsers decode all of them, whichever was offered. */
const CODECS = /opus|VP8|rtx|H264.*mode=1.*42e01f/i;
/** Lines of an offer that mean nothing to the server, and would make it too long. */
const SUPERFLUOUS = /^a=(extmap:\d+ (?!.*(audio-level|abs-send|transport-wide|orientation|sdes))|rtcp-xr:|ice-options:).*\r\n/gm;
/** What lets a page that was opened without a click make sounds. */
const GESTURES = ["pointerdown", "click", "keydown"];

const SENTENCES = {
  insecure: "Browsers give microphones and cameras to pages over https and at localhost only. Use an https address.",
  unsupported: "This browser has no WebRTC or no Web Audio, which media need.",
  timeout: "The server did not answer in time. Try again.",
  unreachable: "Media could not be connected: UDP to the server is blocked.",
};
const failure = (code, sentence) => new RtcadeError("media", code, sentence ?? SENTENCES[code]);

const DEVICES = {
  audio: { code: "microphone", device: { echoCancellation: true, noiseSuppression: true, autoGainControl: true } },
  video: { code: "camera", device: { width: { ideal: 1280 }, height: { ideal: 720 }, frameRate: { ideal: 30 } } },
};

/** A track of one's own for what the option `microphone` or `camera` names; `null` for none. */
async function capture(kind, wanted) {
  if (!wanted) return null;
  if (typeof wanted === "object") return wanted.clone();
  const { mediaDevices } = navigator;
  if (!mediaDevices) throw failure("insecure");
  const { code, device } = DEVICES[kind];
  const deviceId = wanted === true ? undefined : { exact: wanted };
  try {
    return (await mediaDevices.getUserMedia({ [kind]: { deviceId, ...device } })).getTracks()[0];
  } catch ({ name }) {
    const sentences = {
      NotAllowedError: `The ${code} was not allowed. Allow it in the browser's settings of this page.`,
      NotFoundError: `No ${code} was found. Connect one.`,
    };
    throw failure(code, sentences[name] ?? `The ${code} can't be used. Close other programs that use it.`);
  }
}

async function devicesOf(kind) {
  if (!navigator.mediaDevices) throw failure("insecure");
  const devices = (await navigator.mediaDevices.enumerateDevices()).filter((device) => device.kind === `${kind}input`);
  return devices.map(({ deviceId, label }) => ({ deviceId, label }));
}

/** Joins the media of a room. See voice.d.ts and video.d.ts. */
export async function joinMedia(room, options) {
  const { microphone = true, muted = false, speakers = 4, camera = false, videos = 0 } = options ?? {};
  const { RTCPeerConnection, AudioContext } = globalThis;
  if (!RTCPeerConnection || !AudioContext) throw failure("unsupported");
  let track = await capture("audio", microphone);
  let picture;
  try {
    picture = await capture("video", camera);
  } catch (error) {
    track?.stop();
    throw error;
  }
  const hasVideo = picture !== null || videos > 0;
  let allowed;
  let isMuted = muted;
  let isOver = false;
  /** Whether the room has lost its connection. */
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
  const show = (screen, player) => {
    if (screen.player === player) return;
    if (screen.player !== null) emit("video", { player: screen.player, stream: null });
    screen.player = player;
    if (player !== null) emit("video", { player, stream: screen.stream });
  };
  const onSlots = ({ d: { audio, video } }) => {
    slots.forEach((slot, index) => {
      const player = audio[index] ?? null;
      if (slot.player === player) return;
      hush(slot);
      slot.player = player;
      setGain(slot);
    });
    screens.forEach((screen, index) => show(screen, video[index] ?? null));
  };

  const useTrack = () => {
    own?.end();
    own = track && Object.assign(meter(track), { player: room.me });
    if (track) track.enabled = !isMuted;
    return sender?.replaceTrack(track);
  };
  /** What may not be published is not sent either. */
  const usePicture = () => cameraSender?.replaceTrack(allowed?.video === false ? null : picture);

  const shut = () => {
    if (pc) pc.onconnectionstatechange = null;
    pc?.close();
    pc = undefined;
    for (const slot of slots) {
      hush(slot);
      slot.end();
    }
    slots = [];
    for (const screen of screens) show(screen, null);
    screens = [];
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
    const add = (kind, init) => {
      const transceiver = mine.addTransceiver(kind, init);
      const codecs = RTCRtpReceiver.getCapabilities?.(kind).codecs.filter((codec) =>
        CODECS.test(codec.mimeType + codec.sdpFmtpLine),
      );
      transceiver.setCodecPreferences?.(codecs ?? []);
      return transceiver;
    };
    const receive = (kind, count) =>
      Array.from({ length: count }, () => add(kind, { direction: "recvonly" }).receiver.track);
    sender = add("audio", { direction: "sendonly", sendEncodings: [{ maxBitrate: BITRATE }] }).sender;
    cameraSender = hasVideo ? add("video", { direction: "sendonly", sendEncodings: LAYERS }).sender : null;
    slots = receive("audio", speakers).map((track) => meter(track, context.createGain()));
    screens = receive("video", videos).map((track) => ({ player: null, stream: new MediaStream([track]) }));
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
      if (status === "open" && isAway && !/^connect/.test(pc?.connectionState)) reopen();
      isAway = status !== "open";
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
    devices: () => devicesOf("audio"),
    cameras: () => devicesOf("video"),
    async setMicrophone(other) {
      const next = await capture("audio", other);
      track?.stop();
      track = next;
      if (isOver) track?.stop();
      else await useTrack();
    },
    async setCamera(other) {
      const next = await capture("video", other);
      picture?.stop();
      picture = next;
      if (isOver) picture?.stop();
      else await usePicture();
    },
    /** What the camera sees. */
    get picture() {
      return picture;
    },
    on(type, listener) {
      (listeners[type] ??= new Set()).add(listener);
      // What happened while the connection opened.
      if (type === "allowed" && allowed) listener(allowed);
      for (const { player, stream } of type === "video" ? screens : []) if (player !== null) listener({ player, stream });
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
      picture?.stop();
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
