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

// src/peers.js
var peers_exports = {};
__export(peers_exports, {
  openPeers: () => openPeers
});
module.exports = __toCommonJS(peers_exports);
var import_index = require("./index.cjs");

// src/limits.js
var PART_BODY_BYTES = 1094;
var FRAME_PARTS = 4;
var UNRELIABLE_BODY_BYTES = FRAME_PARTS * PART_BODY_BYTES;
var STATE_BODY_BYTES = 16 * 1024 + 8;
var RELIABLE_DOWN_BYTES = 1024 * 1024;
var RELIABLE_UP_BYTES = 16 * 1024;
var HEARTBEAT_INTERVAL = 1200;
var HEARTBEATS_SKIPPED = 2;
var UNACKNOWLEDGED_BYTES = 64 * 1024;
var CHANNEL_BACKLOG = 32 * 1024;
var SOCKET_BACKLOG = 64 * 1024;
var SOCKET_SILENCE = 5e3;
var SPARSE_SILENCE = SOCKET_SILENCE + HEARTBEATS_SKIPPED * HEARTBEAT_INTERVAL;

// src/peers.js
var MESSAGE_CHARS = 16 * 1024;
var BACKLOG_CHARS = 2 * MESSAGE_CHARS;
var PACKET_CHARS = 3 * MESSAGE_CHARS;
var PARTS = /[^]{1,2000}/gu;
var PART_CHARS = 2e3;
var FRAME = /^peers (1?\d) (\S{1,40}) (\S{0,40}) ([^]{1,2000})$/u;
var PARTS_QUEUED = 64;
var RELAYED_PER_SECOND = 25;
var SIGNALS_PENDING = 64;
var CANDIDATES_HELD = 32;
var ACKNOWLEDGE = 200;
var BEAT = 2500;
var OFFER = 2;
var RELAY = 4;
var RELAYED_OFFER = 12;
var BYE = '{"b":1}';
var opened = /* @__PURE__ */ new WeakSet();
var wrong = (code, sentence) => new import_index.RtcadeError("game", code, sentence);
function encode(value) {
  let text;
  try {
    text = JSON.stringify(value);
  } catch {
  }
  if ((text == null ? void 0 : text.length) <= MESSAGE_CHARS) return text;
  throw wrong(text ? "too_large" : "bad_value", "A message must be plain JSON of at most 16,384 characters.");
}
var listenTo = (target) => (type, listener) => {
  const handle = ({ detail }) => listener(...detail);
  target.addEventListener(type, handle);
  return () => target.removeEventListener(type, handle);
};
function openPeers(room, { iceServers = room == null ? void 0 : room.iceServers, accept } = {}) {
  if (!(room == null ? void 0 : room.signal) || room.status === "closed" || opened.has(room)) throw wrong("bad_value", "openPeers takes an open room, once.");
  opened.add(room);
  const page = `${"mozInnerScreenX" in globalThis ? "gecko" : ""}${Math.random()}`;
  let count = 0;
  let bad = 0;
  let isMesh = false;
  let isLost = false;
  const all = /* @__PURE__ */ new Map();
  const partial = /* @__PURE__ */ new Map();
  const target = new EventTarget();
  const each = (act, ...details) => [...all.values()].forEach((inner) => inner[act](...details));
  let outbox = [];
  let tokens = RELAYED_PER_SECOND;
  const pump = () => {
    for (; outbox.length && tokens && !isLost; tokens--) {
      room.signal({ a: "exchangeSdp", d: outbox.shift() });
      setTimeout(() => {
        tokens++;
        pump();
      }, 1e3);
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
    const tracks = /* @__PURE__ */ new Map();
    let pc;
    let channels;
    let isOffering;
    let gathering;
    let candidates;
    let signals;
    let beats = 0;
    let newest = 0;
    let sent = 0;
    let received = 0;
    let unacknowledged = [];
    let acknowledgeTimer;
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
    const describe = () => post(JSON.stringify({ d: pc.localDescription }));
    const open = () => {
      isOffering = false;
      candidates = [];
      signals = [];
      if (!globalThis.RTCPeerConnection) return;
      const connection = pc = new RTCPeerConnection({ iceServers });
      const current = (act) => (event) => pc === connection && act(event);
      pc.onnegotiationneeded = current(async () => {
        isOffering = true;
        await connection.setLocalDescription().then(current(describe), () => {
        });
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
      channels = [0, void 0].map((maxRetransmits, id) => {
        const channel = pc.createDataChannel("", { negotiated: true, id, ordered: id > 0, maxRetransmits });
        channel.onopen = channel.onclose = current(look);
        channel.onmessage = current(({ data }) => read(parse(data)));
        return channel;
      });
      for (const [track, streams] of tracks) pc.addTrack(track, ...streams);
    };
    const negotiate = async ({ d: description, c: candidate }) => {
      var _a;
      const connection = pc;
      if (candidate) {
        if ((_a = pc.remoteDescription) == null ? void 0 : _a.sdp.includes(`a=ice-ufrag:${candidate.usernameFragment}`)) return pc.addIceCandidate(candidate);
        return candidates = [...candidates, candidate].slice(-CANDIDATES_HELD);
      }
      const isOffer = description.type === "offer";
      const isPolite = mine[0] === theirs[0] ? room.me > player : mine > theirs;
      const hasOffered = pc.signalingState === "have-local-offer";
      const isCrossed = isOffer && (isOffering || hasOffered);
      if (isOffer ? !isPolite && isCrossed : !hasOffered || description.type !== "answer") return;
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
      if (is("direct") && (!isStuck || before === newest)) beats = 0;
      if (beats % (is("relayed") ? RELAYED_OFFER : OFFER) === 0) renegotiate();
      if (beats >= RELAY && theirs) setStatus(is("direct") ? "connecting" : "relayed");
      if (isStuck && !outbox.length && !is("direct")) sent = before;
      flush();
    };
    const transmit = (packet, id) => channels[id].readyState === "open" && !channels[id].send(packet);
    const carry = (packet) => is("direct") ? transmit(packet, 1) : post(packet);
    const flush = () => {
      if (sent === newest || is("connecting") || is("relayed") && outbox.length) return;
      const packet = `{"n":${sent + 1},"v":[${unacknowledged.slice(sent - newest)}]}`;
      sent = newest;
      carry(packet);
    };
    const acknowledge = () => {
      acknowledgeTimer = 0;
      if (theirs) carry(`{"k":${received}}`);
    };
    const read = (packet) => {
      const { n, v: values, k } = packet != null ? packet : {};
      const taken = k - acknowledged();
      if (Array.isArray(values)) {
        const reliable = n > 0;
        if (reliable) acknowledgeTimer || (acknowledgeTimer = setTimeout(acknowledge, ACKNOWLEDGE));
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
      pc == null ? void 0 : pc.close();
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
        pc == null ? void 0 : pc.addTrack(track, ...streams);
        tracks.set(track, streams);
        return () => {
          tracks.delete(track);
          pc == null ? void 0 : pc.getSenders().forEach((sender) => sender.track === track && pc.removeTrack(sender));
        };
      },
      createDataChannel: (label) => pc == null ? void 0 : pc.createDataChannel(label),
      async stats() {
        var _a, _b;
        const report = (_a = await (pc == null ? void 0 : pc.getStats())) != null ? _a : /* @__PURE__ */ new Map();
        const pair = (_b = [...report.values()].find(({ nominated }) => nominated)) != null ? _b : {};
        const { currentRoundTripTime: rtt } = pair;
        const typeOf = (id) => {
          var _a2;
          return (_a2 = report.get(id)) == null ? void 0 : _a2.candidateType;
        };
        return { rtt: rtt && rtt * 1e3, local: typeOf(pair.localCandidateId), remote: typeOf(pair.remoteCandidateId) };
      },
      close: () => end(true)
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
          pc == null ? void 0 : pc.close();
          open();
          setStatus("connecting");
        }
        theirs = from;
        if (!packet.d && !packet.c) read(packet);
        else if (pc) enqueue(packet);
        else if (!is("closed")) renegotiate();
      }
    };
    all.set(player, inner);
    if (!pc) renegotiate();
    tell("peer", peer);
    return inner;
  };
  const parse = (text) => {
    try {
      if (text.length <= PACKET_CHARS) return Object(JSON.parse(text));
    } catch {
    }
    bad++;
  };
  const known = (player) => {
    var _a;
    const found = room.players.get((_a = player == null ? void 0 : player.player) != null ? _a : player);
    return (found == null ? void 0 : found.socketId) && found.player !== room.me && found;
  };
  const reach = (player) => {
    var _a;
    return known(player) && ((_a = all.get(player.player)) != null ? _a : createPeer(player));
  };
  const onRelayed = ({ d }) => {
    var _a, _b;
    const [, left, from, to, part] = (_a = FRAME.exec(d == null ? void 0 : d.sdp)) != null ? _a : [];
    const player = known([...room.players.values()].find(({ socketId: socketId2 }) => {
      var _a2;
      return socketId2 === ((_a2 = d == null ? void 0 : d.from) == null ? void 0 : _a2.socketId);
    }));
    if (!player || !part) return bad++;
    const { socketId } = player;
    const [expected, begun] = (_b = partial.get(socketId)) != null ? _b : [];
    const text = expected === +left ? begun + part : part;
    partial.delete(socketId);
    if (left > 0) return partial.set(socketId, [left - 1, text]);
    const packet = parse(text);
    if (!packet) return;
    let inner = all.get(player.player);
    if (packet.b) return (inner == null ? void 0 : inner.mine) === to && inner.end();
    const isOurs = to.startsWith(page);
    if (!inner) {
      if (isOurs || accept && !accept(player)) return relay(socketId, page, from, BYE);
      inner = createPeer(player);
    }
    if (!to || to === inner.mine) inner.take(from, packet);
    else if (!isOurs) inner.renegotiate();
  };
  const join = (player) => isMesh && reach(player);
  const subscriptions = [
    room.on("eventExchangeSdp", onRelayed),
    room.on("join", join),
    room.on("leave", ({ player }) => {
      var _a;
      return (_a = all.get(player)) == null ? void 0 : _a.end();
    }),
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
    room.on("close", () => close())
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
      var _a;
      const inner = opened.has(room) && reach(known(player));
      if (!inner) throw wrong("no_such_player", `Nobody else in the room is player ${(_a = player == null ? void 0 : player.player) != null ? _a : player}.`);
      return inner.peer;
    },
    mesh() {
      isMesh = true;
      room.players.forEach(join);
      return peers;
    },
    send: (value) => each("send", value),
    sendReliable: (value) => each("sendReliable", value),
    close: () => close(true)
  };
  return peers;
}
//# sourceMappingURL=peers.cjs.map
