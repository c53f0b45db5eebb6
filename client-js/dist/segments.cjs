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

// src/segments.js
var segments_exports = {};
__export(segments_exports, {
  createCutter: () => createCutter,
  playSegments: () => playSegments,
  recordSegments: () => recordSegments
});
module.exports = __toCommonJS(segments_exports);
var VIDEO_RATE = 1e6;
var AUDIO_RATE = 64e3;
var SEGMENT = 1e3;
var SLICE = 250;
var SEGMENT_BYTES = 1024 * 1024;
var TYPE = 'video/webm; codecs="vp8,opus"';
var DELAY = 3;
var DELAY_CAP = 8;
var PLAYED = 20;
var REST = 0.1;
var PATIENCE = 6e3;
var LOOK = 250;
var SEGMENT_ELEMENT = 408125543;
var CLUSTER = 524531317;
var CLUSTER_ID = [31, 67, 182, 117];
var TRACKS = 374648427;
var TRACK = 174;
var TRACK_NUMBER = 215;
var TRACK_TYPE = 131;
var VIDEO_TYPE = 1;
var SIMPLE_BLOCK = 163;
var KEYFRAME = 128;
var TOP_ID_BYTES = 4;
function elementAt(bytes, at) {
  const widthOf = (byte) => Math.clz32(byte) - 23;
  const idBytes = widthOf(bytes[at]);
  const lengthBytes = widthOf(bytes[at + idBytes]);
  const from = at + idBytes + lengthBytes;
  if (!(from <= bytes.length)) return;
  const number = (start, end, first) => bytes.slice(start, end).reduce((sum, byte, n) => sum * 256 + (n ? byte : byte & first), 0);
  const length = number(at + idBytes, from, 255 >> lengthBytes);
  const isOpen = length === 2 ** (7 * lengthBytes) - 1;
  return { id: number(at, at + idBytes, 255), idBytes, from, to: isOpen ? Infinity : from + length };
}
function* elementsIn(bytes, { from, to }) {
  for (let at = from; at < to; ) {
    const element = elementAt(bytes, at);
    if (!element) return;
    yield element;
    at = element.to;
  }
}
function videoTrackOf(bytes, tracks) {
  for (const track of elementsIn(bytes, tracks)) {
    if (track.id !== TRACK) continue;
    const entries = [...elementsIn(bytes, track)];
    const valueOf = (wanted) => {
      var _a;
      return bytes[(_a = entries.find(({ id }) => id === wanted)) == null ? void 0 : _a.from];
    };
    if (valueOf(TRACK_TYPE) === VIDEO_TYPE) return valueOf(TRACK_NUMBER);
  }
}
function concat(parts) {
  const whole = new Uint8Array(parts.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}
function clusterOf(parts) {
  const head = new DataView(new ArrayBuffer(12));
  CLUSTER_ID.forEach((byte, at) => head.setUint8(at, byte));
  head.setUint8(4, 1);
  head.setUint32(8, parts.reduce((sum, { length }) => sum + length, 0));
  return [new Uint8Array(head.buffer), ...parts];
}
function createCutter(onInit, onSegment) {
  let pending = new Uint8Array();
  let head = [];
  let track;
  let clusters = [];
  let elements;
  let isKeyed;
  const endSegment = () => {
    if (clusters.length) onSegment(concat(clusters));
    clusters = [];
  };
  const endCluster = () => {
    if (isKeyed || clusters.length) clusters.push(...clusterOf(elements));
    if (clusters.reduce((sum, { length }) => sum + length, 0) > SEGMENT_BYTES) clusters = [];
  };
  return (bytes) => {
    pending = concat([pending, bytes]);
    for (let element; element = elementAt(pending, 0); ) {
      const { id, idBytes, from, to } = element;
      const isEntered = id === SEGMENT_ELEMENT || id === CLUSTER;
      const end = isEntered ? from : to;
      if (end > pending.length) return;
      const whole = pending.slice(0, end);
      if (id === CLUSTER) {
        if (head) onInit(concat(head));
        else endCluster();
        head = void 0;
        elements = [];
        isKeyed = void 0;
      } else if (head) {
        if (id === TRACKS) track = videoTrackOf(pending, element);
        head.push(whole);
      } else if (idBytes < TOP_ID_BYTES) {
        if (isKeyed === void 0 && id === SIMPLE_BLOCK && (pending[from] & 127) === track) {
          isKeyed = (pending[from + 3] & KEYFRAME) > 0;
          if (isKeyed) endSegment();
        }
        elements.push(whole);
      }
      pending = pending.slice(end);
    }
  };
}
function recordSegments(stream, { onInit, onSegment, onEnd }) {
  const codecs = stream.getAudioTracks().length ? "vp8,opus" : "vp8";
  const type = `video/webm; codecs="${codecs}"`;
  const recorder = new MediaRecorder(stream, {
    mimeType: type,
    videoBitsPerSecond: VIDEO_RATE,
    audioBitsPerSecond: AUDIO_RATE,
    videoKeyFrameIntervalDuration: SEGMENT
  });
  const cut = createCutter((init) => onInit({ type, init }), onSegment);
  let isOver = false;
  let last = Promise.resolve();
  recorder.ondataavailable = ({ data }) => {
    last = last.then(async () => {
      const bytes = new Uint8Array(await data.arrayBuffer());
      if (!isOver) cut(bytes);
    });
  };
  recorder.onstop = () => isOver || (onEnd == null ? void 0 : onEnd());
  recorder.start(SLICE);
  return () => {
    isOver = true;
    if (recorder.state !== "inactive") recorder.stop();
  };
}
recordSegments.isSupported = () => {
  const { MediaRecorder: MediaRecorder2, MediaStream } = globalThis;
  if (!(MediaRecorder2 == null ? void 0 : MediaRecorder2.isTypeSupported(TYPE))) return false;
  let isRead = false;
  new MediaRecorder2(new MediaStream(), {
    get videoKeyFrameIntervalDuration() {
      isRead = true;
    }
  });
  return isRead;
};
function playSegments(swarm, video, { type, init, source, onError }) {
  var _a;
  const Source = (_a = globalThis.ManagedMediaSource) != null ? _a : globalThis.MediaSource;
  const media = new Source();
  const url = URL.createObjectURL(media);
  const loads = /* @__PURE__ */ new Set();
  const queue = [init];
  let buffer;
  let isWaiting = true;
  let isOver = false;
  const fail = (error) => {
    if (isOver) return;
    player.close();
    onError == null ? void 0 : onError(error);
  };
  const playableFrom = (time) => {
    for (let n = 0; n < video.buffered.length; n++) {
      if (video.buffered.end(n) > time + REST) return Math.max(time, video.buffered.start(n));
    }
  };
  const steer = () => {
    const { buffered, currentTime: time } = video;
    const edge = buffered.length && buffered.end(buffered.length - 1);
    const from = playableFrom(edge - time > DELAY_CAP ? edge - DELAY : time);
    if (from === void 0) {
      isWaiting = true;
      return video.pause();
    }
    if (isWaiting && edge - from < DELAY) return;
    if (from > time + REST) video.currentTime = from;
    if (!isWaiting) return;
    isWaiting = false;
    video.play().catch(() => isWaiting = true);
  };
  const append = () => {
    if (!buffer || buffer.updating || media.readyState !== "open") return;
    steer();
    const { buffered } = buffer;
    try {
      if (queue.length) buffer.appendBuffer(queue.shift());
      else if (buffered.length && video.currentTime - buffered.start(0) > 2 * PLAYED) buffer.remove(0, video.currentTime - PLAYED);
    } catch (error) {
      fail(error);
    }
  };
  media.onsourceopen = () => {
    URL.revokeObjectURL(url);
    try {
      buffer = media.addSourceBuffer(type);
    } catch (error) {
      return fail(error);
    }
    buffer.onupdateend = append;
    append();
  };
  media.onsourceended = () => fail(new Error("The browser can't play the segments."));
  video.disableRemotePlayback = true;
  video.srcObject = null;
  video.src = url;
  const looking = setInterval(append, LOOK);
  const player = {
    async add({ sha256, bytes }) {
      const load = new AbortController();
      const timer = setTimeout(() => load.abort(), PATIENCE);
      loads.add(load);
      const blob = await swarm.fetch({ sha256, bytes, source }, { signal: load.signal }).catch(() => {
      });
      loads.delete(load);
      clearTimeout(timer);
      if (!blob || isOver) return false;
      queue.push(await blob.arrayBuffer());
      append();
      return true;
    },
    close() {
      if (isOver) return;
      isOver = true;
      clearInterval(looking);
      for (const load of loads) load.abort();
      video.removeAttribute("src");
      video.load();
    }
  };
  return player;
}
playSegments.isSupported = () => {
  var _a, _b;
  return Boolean((_b = (_a = globalThis.ManagedMediaSource) != null ? _a : globalThis.MediaSource) == null ? void 0 : _b.isTypeSupported(TYPE));
};
//# sourceMappingURL=segments.cjs.map
