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
var SPAN = 2e4;
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
var BLOCK_GROUP = 160;
var BLOCK = 161;
var TIME = 231;
var KEYFRAME = 128;
var TOP_ID_BYTES = 4;
var numberIn = (bytes, from, to, first = 255) => bytes.slice(from, to).reduce((sum, byte, n) => sum * 256 + (n ? byte : byte & first), 0);
function elementAt(bytes, at) {
  const widthOf = (byte) => Math.clz32(byte) - 23;
  const idBytes = widthOf(bytes[at]);
  const lengthBytes = widthOf(bytes[at + idBytes]);
  const from = at + idBytes + lengthBytes;
  if (!(from <= bytes.length)) return;
  const length = numberIn(bytes, at + idBytes, from, 255 >> lengthBytes);
  const isOpen = length === 2 ** (7 * lengthBytes) - 1;
  return { id: numberIn(bytes, at, at + idBytes), idBytes, from, to: isOpen ? Infinity : from + length };
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
var sizeOf = (parts) => parts.reduce((sum, { length }) => sum + length, 0);
function concat(parts) {
  const whole = new Uint8Array(sizeOf(parts));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}
function clusterOf(elements) {
  const head = new DataView(new ArrayBuffer(12));
  CLUSTER_ID.forEach((byte, at) => head.setUint8(at, byte));
  head.setUint8(4, 1);
  head.setUint32(8, sizeOf(elements));
  return concat([new Uint8Array(head.buffer), ...elements]);
}
function timeElement(ms) {
  const element = new DataView(new ArrayBuffer(10));
  element.setUint8(0, TIME);
  element.setUint8(1, 136);
  element.setBigUint64(2, BigInt(ms));
  return new Uint8Array(element.buffer);
}
function delayBlock(bytes, element, ms) {
  const { id, from } = element;
  if (id === BLOCK_GROUP) {
    for (const inner of elementsIn(bytes, element)) if (inner.id === BLOCK) delayBlock(bytes, { ...inner, id: SIMPLE_BLOCK }, ms);
  }
  if (id !== SIMPLE_BLOCK) return;
  const time = new DataView(bytes.buffer, bytes.byteOffset + from + 1, 2);
  time.setInt16(0, time.getInt16(0) + ms);
}
function createCutter(onInit, onSegment) {
  let pending = new Uint8Array();
  let head = [];
  let track;
  let segment;
  let cluster = [];
  let begin;
  let time;
  const add = ({ bytes, element }) => {
    if (!segment) return;
    delayBlock(bytes, element, time - begin);
    segment.push(bytes);
    if (sizeOf(segment) > SEGMENT_BYTES || time - begin > SPAN) segment = void 0;
  };
  const endCluster = () => {
    cluster == null ? void 0 : cluster.forEach(add);
    cluster = [];
  };
  return (bytes) => {
    pending = concat([pending, bytes]);
    for (let element; element = elementAt(pending, 0); ) {
      const { id, idBytes, from, to } = element;
      const isEntered = id === SEGMENT_ELEMENT || id === CLUSTER;
      const end = isEntered ? from : to;
      if (end > pending.length) return;
      const whole = pending.slice(0, end);
      pending = pending.slice(end);
      if (id === CLUSTER) {
        if (head) onInit(concat(head));
        else endCluster();
        head = void 0;
      } else if (head) {
        if (id === TRACKS) track = videoTrackOf(whole, element);
        head.push(whole);
      } else if (id === TIME) {
        time = numberIn(whole, from, to);
      } else if (idBytes < TOP_ID_BYTES) {
        const part = { bytes: whole, element };
        const isVideo = id === SIMPLE_BLOCK && (whole[from] & 127) === track;
        if (!cluster) add(part);
        else if (!isVideo) cluster.push(part);
        else {
          if (whole[from + 3] & KEYFRAME) {
            if (segment) onSegment(clusterOf(segment));
            begin = time;
            segment = [timeElement(time)];
          }
          cluster.push(part);
          cluster.forEach(add);
          cluster = void 0;
        }
      }
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
