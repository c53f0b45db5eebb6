/** Bits per second of what is recorded. */
const VIDEO_RATE = 1_000_000;
const AUDIO_RATE = 64_000;
/** The time between two keyframes, at which segments begin. In ms. */
const SEGMENT = 1_000;
/** How often the recorder delivers what it has, in ms. */
const SLICE = 250;
/** A recording without keyframes is cut off, in bytes. */
const SEGMENT_BYTES = 1024 * 1024;
/** The time of a block in its cluster has 16 bits. In ms. */
const SPAN = 20_000;

const TYPE = 'video/webm; codecs="vp8,opus"';

/** How far behind the newest segment the video plays, and how far behind at most, in seconds. */
const DELAY = 3;
const DELAY_CAP = 8;
/** What has been played is kept for so long, in seconds. */
const PLAYED = 20;
/** A rest that is too short to be played, in seconds. */
const REST = 0.1;
/** How long a segment is waited for, and how often the position is looked at, in ms. */
const PATIENCE = 6_000;
const LOOK = 250;

// ---- WebM: elements of an ID, a length and a body (RFC 8794 and RFC 9559).

const SEGMENT_ELEMENT = 0x18538067;
const CLUSTER = 0x1f43b675;
const CLUSTER_ID = [0x1f, 0x43, 0xb6, 0x75];
const TRACKS = 0x1654ae6b;
const TRACK = 0xae;
const TRACK_NUMBER = 0xd7;
const TRACK_TYPE = 0x83;
const VIDEO_TYPE = 1;
const SIMPLE_BLOCK = 0xa3;
const BLOCK_GROUP = 0xa0;
const BLOCK = 0xa1;
const TIME = 0xe7;
const KEYFRAME = 0x80;
/** IDs of so many bytes are those of what may follow a cluster. */
const TOP_ID_BYTES = 4;

const numberIn = (bytes, from, to, first = 0xff) =>
  bytes.slice(from, to).reduce((sum, byte, n) => sum * 256 + (n ? byte : byte & first), 0);

/** The element at `at`: its ID and its body; nothing if its head is not complete. A body without an end goes on for ever. */
function elementAt(bytes, at) {
  const widthOf = (byte) => Math.clz32(byte) - 23;
  const idBytes = widthOf(bytes[at]);
  const lengthBytes = widthOf(bytes[at + idBytes]);
  const from = at + idBytes + lengthBytes;
  if (!(from <= bytes.length)) return;
  const length = numberIn(bytes, at + idBytes, from, 0xff >> lengthBytes);
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
    const valueOf = (wanted) => bytes[entries.find(({ id }) => id === wanted)?.from];
    if (valueOf(TRACK_TYPE) === VIDEO_TYPE) return valueOf(TRACK_NUMBER);
  }
}

const sizeOf = (parts) => parts.reduce((sum, { length }) => sum + length, 0);

function concat(parts) {
  const whole = new Uint8Array(sizeOf(parts));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}

/** A cluster whose length is known, so that it is complete without what follows. */
function clusterOf(elements) {
  const head = new DataView(new ArrayBuffer(12));
  CLUSTER_ID.forEach((byte, at) => head.setUint8(at, byte));
  head.setUint8(4, 0x01);
  head.setUint32(8, sizeOf(elements));
  return concat([new Uint8Array(head.buffer), ...elements]);
}

function timeElement(ms) {
  const element = new DataView(new ArrayBuffer(10));
  element.setUint8(0, TIME);
  element.setUint8(1, 0x88);
  element.setBigUint64(2, BigInt(ms));
  return new Uint8Array(element.buffer);
}

/** Moves the time of a block, which counts from that of its cluster. */
function delayBlock(bytes, element, ms) {
  const { id, from } = element;
  if (id === BLOCK_GROUP) for (const inner of elementsIn(bytes, element)) if (inner.id === BLOCK) delayBlock(bytes, { ...inner, id: SIMPLE_BLOCK }, ms);
  if (id !== SIMPLE_BLOCK) return;
  const time = new DataView(bytes.buffer, bytes.byteOffset + from + 1, 2);
  time.setInt16(0, time.getInt16(0) + ms);
}

/**
 * Cuts a WebM stream into what stands before its first cluster, and clusters of which each begins with a keyframe. Clusters
 * that begin with none are added to the one before: Firefox plays no others. Takes the stream in any pieces.
 */
export function createCutter(onInit, onSegment) {
  let pending = new Uint8Array();
  let head = [];
  let track;
  /** The elements of the segment, and those of the cluster until its first frame of the video. */
  let segment;
  let cluster = [];
  /** Of these, in ms. */
  let begin;
  let time;

  const add = ({ bytes, element }) => {
    if (!segment) return;
    delayBlock(bytes, element, time - begin);
    segment.push(bytes);
    if (sizeOf(segment) > SEGMENT_BYTES || time - begin > SPAN) segment = undefined;
  };
  const endCluster = () => {
    cluster?.forEach(add);
    cluster = [];
  };

  return (bytes) => {
    pending = concat([pending, bytes]);
    for (let element; (element = elementAt(pending, 0)); ) {
      const { id, idBytes, from, to } = element;
      const isEntered = id === SEGMENT_ELEMENT || id === CLUSTER;
      const end = isEntered ? from : to;
      if (end > pending.length) return;
      const whole = pending.slice(0, end);
      pending = pending.slice(end);
      if (id === CLUSTER) {
        if (head) onInit(concat(head));
        else endCluster();
        head = undefined;
      } else if (head) {
        if (id === TRACKS) track = videoTrackOf(whole, element);
        head.push(whole);
      } else if (id === TIME) {
        time = numberIn(whole, from, to);
      } else if (idBytes < TOP_ID_BYTES) {
        const part = { bytes: whole, element };
        const isVideo = id === SIMPLE_BLOCK && (whole[from] & 0x7f) === track;
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
          cluster = undefined;
        }
      }
    }
  };
}

/** Records a stream in segments. See segments.d.ts. */
export function recordSegments(stream, { onInit, onSegment, onEnd }) {
  const codecs = stream.getAudioTracks().length ? "vp8,opus" : "vp8";
  const type = `video/webm; codecs="${codecs}"`;
  const recorder = new MediaRecorder(stream, {
    mimeType: type,
    videoBitsPerSecond: VIDEO_RATE,
    audioBitsPerSecond: AUDIO_RATE,
    videoKeyFrameIntervalDuration: SEGMENT,
  });
  const cut = createCutter((init) => onInit({ type, init }), onSegment);
  let isOver = false;
  /** What is delivered is read in order. */
  let last = Promise.resolve();
  recorder.ondataavailable = ({ data }) => {
    last = last.then(async () => {
      const bytes = new Uint8Array(await data.arrayBuffer());
      if (!isOver) cut(bytes);
    });
  };
  recorder.onstop = () => isOver || onEnd?.();
  recorder.start(SLICE);
  return () => {
    isOver = true;
    if (recorder.state !== "inactive") recorder.stop();
  };
}

/** Whether the recorder makes keyframes when it is told to. Firefox makes one in about 8 s. */
recordSegments.isSupported = () => {
  const { MediaRecorder, MediaStream } = globalThis;
  if (!MediaRecorder?.isTypeSupported(TYPE)) return false;
  let isRead = false;
  new MediaRecorder(new MediaStream(), {
    get videoKeyFrameIntervalDuration() {
      isRead = true;
    },
  });
  return isRead;
};

/** Plays segments in a video. See segments.d.ts. */
export function playSegments(swarm, video, { type, init, source, onError }) {
  const Source = globalThis.ManagedMediaSource ?? globalThis.MediaSource;
  const media = new Source();
  const url = URL.createObjectURL(media);
  const loads = new Set();
  const queue = [init];
  let buffer;
  let isWaiting = true;
  let isOver = false;

  const fail = (error) => {
    if (isOver) return;
    player.close();
    onError?.(error);
  };
  /** The first position from `time` on that can be played. */
  const playableFrom = (time) => {
    for (let n = 0; n < video.buffered.length; n++) {
      if (video.buffered.end(n) > time + REST) return Math.max(time, video.buffered.start(n));
    }
  };
  /** Goes past what is missing, and waits until enough is there. */
  const steer = () => {
    const { buffered, currentTime: time } = video;
    const edge = buffered.length && buffered.end(buffered.length - 1);
    const from = playableFrom(edge - time > DELAY_CAP ? edge - DELAY : time);
    if (from === undefined) {
      isWaiting = true;
      return video.pause();
    }
    if (isWaiting && edge - from < DELAY) return;
    if (from > time + REST) video.currentTime = from;
    if (!isWaiting) return;
    isWaiting = false;
    video.play().catch(() => (isWaiting = true));
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
  // A segment that is no WebM ends the source.
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
      const blob = await swarm.fetch({ sha256, bytes, source }, { signal: load.signal }).catch(() => {});
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
    },
  };
  return player;
}
playSegments.isSupported = () => Boolean((globalThis.ManagedMediaSource ?? globalThis.MediaSource)?.isTypeSupported(TYPE));
