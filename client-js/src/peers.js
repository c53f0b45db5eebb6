import { RtcadeError } from "./index.js";
import { CHANNEL_BACKLOG } from "./limits.js";

/** Characters of the JSON of a message. */
const MESSAGE_CHARS = 16 * 1024;
/** Characters of the reliable messages that the other end has not acknowledged; they fit one packet. */
const BACKLOG_CHARS = 2 * MESSAGE_CHARS;
const PACKET_CHARS = 3 * MESSAGE_CHARS;
/** What a message of the relay takes of a packet: up to 2,000 characters, which are less than 8 KiB of UTF-8. */
const PARTS = /[^]{1,2000}/gu;
const PART_CHARS = 2_000;
/** `peers`, how many parts follow, the IDs of both ends (the other's is empty until it is known), and a part. */
const FRAME = /^peers (1?\d) (\S{1,40}) (\S{0,40}) ([^]{1,2000})$/u;
/** Parts to one player that wait for the relay. */
const PARTS_QUEUED = 64;
/** Messages to the relay: the server takes 50 of all kinds per second. */
const RELAYED_PER_SECOND = 25;
/** Signals of one player that wait for the browser. */
const SIGNALS_PENDING = 64;
/** Candidates kept until their description comes. */
const CANDIDATES_HELD = 32;
// Times in ms.
const ACKNOWLEDGE = 200;
/** What nobody has acknowledged for so long is sent again. */
const BEAT = 2_500;
// In beats.
const OFFER = 2;
const RELAY = 4;
const RELAYED_OFFER = 12;

const BYE = '{"b":1}';
const opened = new WeakSet();

const wrong = (code, sentence) => new RtcadeError("game", code, sentence);

function encode(value) {
  let text;
  try {
    text = JSON.stringify(value);
  } catch {}
  if (text?.length <= MESSAGE_CHARS) return text;
  throw wrong(text ? "too_large" : "bad_value", "A message must be plain JSON of at most 16,384 characters.");
}

/** What a listener throws is reported as uncaught. */
const listenTo = (target) => (type, listener) => {
  const handle = ({ detail }) => listener(...detail);
  target.addEventListener(type, handle);
  return () => target.removeEventListener(type, handle);
};

/** Connects the players of a room with each other. See peers.d.ts. */
export function openPeers(room, { iceServers = room?.iceServers, accept } = {}) {
  if (!room?.signal || room.status === "closed" || opened.has(room)) throw wrong("bad_value", "openPeers takes an open room, once.");
  opened.add(room);
  /** Distinguishes this page from the one before it, whose session it may continue, and its browser from others. */
  const page = `${"mozInnerScreenX" in globalThis ? "gecko" : ""}${Math.random()}`;
  let count = 0;
  let bad = 0;
  let isMesh = false;
  /** Without a websocket signals would be lost. */
  let isLost = false;
  /** By player. */
  const all = new Map();
  /** What has come of a packet in several parts, by `socketId`. */
  const partial = new Map();
  const target = new EventTarget();
  const each = (act, ...details) => [...all.values()].forEach((inner) => inner[act](...details));

  // ---- The relay, at a pace that the server takes.

  let outbox = [];
  let tokens = RELAYED_PER_SECOND;
  const pump = () => {
    for (; outbox.length && tokens && !isLost; tokens--) {
      room.signal({ a: "exchangeSdp", d: outbox.shift() });
      setTimeout(() => {
        tokens++;
        pump();
      }, 1000);
    }
    if (!outbox.length) each("flush");
  };
  const relay = (to, mine, theirs, packet) => {
    const parts = packet.match(PARTS);
    if (outbox.filter((entry) => entry.to === to).length + parts.length > PARTS_QUEUED) return;
    parts.forEach((part, n) => outbox.push({ to, sdp: `peers ${parts.length - 1 - n} ${mine} ${theirs} ${part}` }));
    pump();
  };

  const createPeer = ({ player, socketId }) => {
    const mine = `${page}/${++count}`;
    let theirs = "";
    const tracks = new Map();

    let pc;
    let channels;
    let isOffering;
    /** Resolved with the first candidate. */
    let gathering;
    let candidates;
    let signals;
    /** Since the status has changed. */
    let beats = 0;

    /** Numbers of reliable messages: the newest, and the newest that is on its way. */
    let newest = 0;
    let sent = 0;
    let received = 0;
    let unacknowledged = [];
    let acknowledgeTimer;
    /** How many were acknowledged at the last beat. */
    let before;

    const own = new EventTarget();
    const is = (status) => peer.status === status;
    const tell = (type, detail) => {
      for (const to of [own, target]) to.dispatchEvent(new CustomEvent(type, { detail: [detail, peer] }));
    };
    const setStatus = (status) => {
      if (is(status)) return;
      peer.status = status;
      beats = 0;
      sent = acknowledged();
      tell("state", status);
      flush();
    };
    const acknowledged = () => newest - unacknowledged.length;
    const post = (packet) => relay(socketId, mine, theirs, packet);

    // ---- Negotiation, as in the example of W3C's WebRTC 1.0, section 10.7.

    const describe = () => post(JSON.stringify({ d: pc.localDescription }));
    const open = () => {
      isOffering = false;
      candidates = [];
      signals = [];
      if (!globalThis.RTCPeerConnection) return;
      const connection = (pc = new RTCPeerConnection({ iceServers }));
      const current = (act) => (event) => pc === connection && act(event);
      pc.onnegotiationneeded = current(async () => {
        isOffering = true;
        await connection.setLocalDescription().then(current(describe), () => {});
        isOffering = false;
      });
      gathering = new Promise((resolve) => {
        pc.onicecandidate = current(({ candidate }) => resolve(candidate && post(JSON.stringify({ c: candidate }))));
      });
      pc.onconnectionstatechange = current(look);
      pc.ontrack = current((event) => tell("track", event));
      pc.ondatachannel = ({ channel }) => {
        tell("datachannel", channel);
        if (!channel.onmessage) channel.close();
      };
      channels = [0, undefined].map((maxRetransmits, id) => {
        const channel = pc.createDataChannel("", { negotiated: true, id, ordered: id > 0, maxRetransmits });
        channel.onopen = channel.onclose = current(look);
        channel.onmessage = current(({ data }) => read(parse(data)));
        return channel;
      });
      for (const [track, streams] of tracks) pc.addTrack(track, ...streams);
    };
    const negotiate = async ({ d: description, c: candidate }) => {
      const connection = pc;
      if (candidate) {
        if (pc.remoteDescription?.sdp.includes(`a=ice-ufrag:${candidate.usernameFragment}`)) return pc.addIceCandidate(candidate);
        return (candidates = [...candidates, candidate].slice(-CANDIDATES_HELD));
      }
      const isOffer = description.type === "offer";
      // Chromium that has rolled back an offer of media refuses that of Firefox: header extensions keep their numbers.
      const isPolite = mine[0] === theirs[0] ? room.me > player : mine > theirs;
      const hasOffered = pc.signalingState === "have-local-offer";
      const isCrossed = isOffer && (isOffering || hasOffered);
      if (isOffer ? !isPolite && isCrossed : !hasOffered || description.type !== "answer") return;
      // Chromium that rolls back its first offer before its first candidate finds none any more.
      if (isCrossed) await gathering;
      await connection.setRemoteDescription(description);
      if (isOffer) await connection.setLocalDescription();
      if (pc !== connection) return;
      if (isOffer) describe();
      candidates.splice(0).forEach((c) => enqueue({ c }));
    };
    const enqueue = async (signal) => {
      const queue = signals;
      if (queue.length >= SIGNALS_PENDING) return bad++;
      if (queue.push(signal) > 1) return;
      for (; queue === signals && queue.length; queue.shift()) await negotiate(queue[0]).catch(() => bad++);
    };

    // ---- The way, and the search for a direct one.

    /**
     * Offers again, which also brings back a way that was lost. One that works is left alone: some restarts between Chromium
     * and Firefox leave one direction dead.
     */
    const renegotiate = () => {
      if (!pc) post("{}");
      else if (pc.signalingState === "have-local-offer") describe();
      else if (!is("direct") && pc.connectionState !== "connecting") pc.restartIce();
    };
    const look = () => {
      const state = pc.connectionState;
      const isOpen = state === "connected" && channels.every(({ readyState }) => readyState === "open");
      if (isOpen || is("direct")) setStatus(isOpen ? "direct" : "connecting");
      if (state === "failed" && is("connecting")) renegotiate();
    };
    const beat = () => {
      const isStuck = acknowledged() === before;
      before = acknowledged();
      beats++;
      // A way may be dead although the browser takes it for open.
      if (is("direct") && (!isStuck || before === newest)) beats = 0;
      if (beats % (is("relayed") ? RELAYED_OFFER : OFFER) === 0) renegotiate();
      if (beats >= RELAY && theirs) setStatus(is("direct") ? "connecting" : "relayed");
      if (isStuck && !outbox.length && !is("direct")) sent = before;
      flush();
    };

    // ---- Messages. The reliable ones are numbered, so that each is taken once whichever ways it takes.

    const transmit = (packet, id) => channels[id].readyState === "open" && !channels[id].send(packet);
    const carry = (packet) => (is("direct") ? transmit(packet, 1) : post(packet));
    const flush = () => {
      if (sent === newest || is("connecting") || (is("relayed") && outbox.length)) return;
      const packet = `{"n":${sent + 1},"v":[${unacknowledged.slice(sent - newest)}]}`;
      sent = newest;
      carry(packet);
    };
    const acknowledge = () => {
      acknowledgeTimer = 0;
      if (theirs) carry(`{"k":${received}}`);
    };
    const read = (packet) => {
      const { n, v: values, k } = packet ?? {};
      const taken = k - acknowledged();
      if (Array.isArray(values)) {
        const reliable = n > 0;
        if (reliable) acknowledgeTimer ||= setTimeout(acknowledge, ACKNOWLEDGE);
        values.forEach((value, index) => {
          if (reliable && n + index !== received + 1) return;
          if (reliable) received++;
          tell("message", { value, reliable });
        });
      } else if (taken > 0 && k <= sent) {
        unacknowledged = unacknowledged.slice(taken);
      }
    };

    const forget = () => {
      newest = sent = received = 0;
      unacknowledged = [];
    };
    const end = (isTold) => {
      if (is("closed")) return;
      clearInterval(beating);
      clearTimeout(acknowledgeTimer);
      pc?.close();
      pc = null;
      all.delete(player);
      partial.delete(socketId);
      outbox = outbox.filter(({ to }) => to !== socketId);
      if (isTold) post(BYE);
      forget();
      setStatus("closed");
    };

    const peer = {
      player,
      status: "connecting",
      on: listenTo(own),

      send(value) {
        const packet = `{"v":[${encode(value)}]}`;
        if (is("direct")) return channels[0].bufferedAmount <= CHANNEL_BACKLOG && transmit(packet, 0);
        return is("relayed") && !outbox.length && tokens >= packet.length / PART_CHARS && !post(packet);
      },

      sendReliable(value) {
        const encoded = encode(value);
        if (is("closed") || `${unacknowledged}`.length + encoded.length > BACKLOG_CHARS) return false;
        newest++;
        unacknowledged.push(encoded);
        flush();
        return true;
      },

      addTrack(track, ...streams) {
        pc?.addTrack(track, ...streams);
        tracks.set(track, streams);
        return () => {
          tracks.delete(track);
          pc?.getSenders().forEach((sender) => sender.track === track && pc.removeTrack(sender));
        };
      },

      createDataChannel: (label) => pc?.createDataChannel(label),

      async stats() {
        const report = (await pc?.getStats()) ?? new Map();
        const pair = [...report.values()].find(({ nominated }) => nominated) ?? {};
        const { currentRoundTripTime: rtt } = pair;
        const typeOf = (id) => report.get(id)?.candidateType;
        return { rtt: rtt && rtt * 1000, local: typeOf(pair.localCandidateId), remote: typeOf(pair.remoteCandidateId) };
      },

      close: () => end(true),
    };
    open();
    const beating = setInterval(beat, BEAT);
    const inner = {
      ...peer,
      peer,
      mine,
      end,
      flush,
      renegotiate,
      take(from, packet) {
        if (theirs && from !== theirs) {
          forget();
          pc?.close();
          open();
          setStatus("connecting");
        }
        theirs = from;
        if (!packet.d && !packet.c) read(packet);
        else if (pc) enqueue(packet);
        else if (!is("closed")) renegotiate();
      },
    };
    all.set(player, inner);
    if (!pc) renegotiate();
    tell("peer", peer);
    return inner;
  };

  // ---- What comes from the other players.

  const parse = (text) => {
    try {
      if (text.length <= PACKET_CHARS) return Object(JSON.parse(text));
    } catch {}
    bad++;
  };
  const known = (player) => {
    const found = room.players.get(player?.player ?? player);
    return found?.socketId && found.player !== room.me && found;
  };
  const reach = (player) => known(player) && (all.get(player.player) ?? createPeer(player));
  const onRelayed = ({ d }) => {
    const [, left, from, to, part] = FRAME.exec(d?.sdp) ?? [];
    const player = known([...room.players.values()].find(({ socketId }) => socketId === d?.from?.socketId));
    if (!player || !part) return bad++;
    const { socketId } = player;
    const [expected, begun] = partial.get(socketId) ?? [];
    const text = expected === +left ? begun + part : part;
    partial.delete(socketId);
    if (left > 0) return partial.set(socketId, [left - 1, text]);
    const packet = parse(text);
    if (!packet) return;
    let inner = all.get(player.player);
    if (packet.b) return inner?.mine === to && inner.end();
    const isOurs = to.startsWith(page);
    if (!inner) {
      // What this page has closed stays closed.
      if (isOurs || (accept && !accept(player))) return relay(socketId, page, from, BYE);
      inner = createPeer(player);
    }
    if (!to || to === inner.mine) inner.take(from, packet);
    else if (!isOurs) inner.renegotiate();
  };
  const join = (player) => isMesh && reach(player);
  const subscriptions = [
    room.on("eventExchangeSdp", onRelayed),
    room.on("join", join),
    room.on("leave", ({ player }) => all.get(player)?.end()),
    room.on("rejoin", () => {
      each("end");
      room.players.forEach(join);
    }),
    room.on("status", (status) => {
      const wasLost = isLost;
      isLost = status !== "open";
      if (wasLost && !isLost) each("renegotiate");
      pump();
    }),
    room.on("close", () => close()),
  ];
  const close = (isTold) => {
    each("end", isTold);
    for (const unsubscribe of subscriptions) unsubscribe();
    opened.delete(room);
  };

  const peers = {
    on: listenTo(target),

    get all() {
      return [...all.values()].map(({ peer }) => peer);
    },

    get bad() {
      return bad;
    },

    peer(player) {
      const inner = opened.has(room) && reach(known(player));
      if (!inner) throw wrong("no_such_player", `Nobody else in the room is player ${player?.player ?? player}.`);
      return inner.peer;
    },

    mesh() {
      isMesh = true;
      room.players.forEach(join);
      return peers;
    },

    send: (value) => each("send", value),
    sendReliable: (value) => each("sendReliable", value),
    close: () => close(true),
  };
  return peers;
}
