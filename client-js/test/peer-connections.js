// Peer connections that negotiate as W3C's WebRTC 1.0 says, as far as `rtcade/peers` depends on it, and reach each other
// unless a test says that they don't.

const turn = () => new Promise((resolve) => setImmediate(resolve));
const invalid = (sentence) => Object.assign(new Error(sentence), { name: "InvalidStateError" });

let nextId = 1;
let nextFragment = 1;
let nextChannel = 100;
const alive = new Map();
const trackIds = new Map();

/** What two connections have between them. `gathersAfter` is in turns of the event loop, for each candidate. */
export const net = { isBlocked: false, failsAfter: 15_000, gathersAfter: 1 };

export const connections = () => [...alive.values()];

const write = ({ id, fragment, sections, tracks }) =>
  `v=0\r\npc=${id}\r\na=ice-ufrag:${fragment}\r\nsections=${[...sections]}\r\ntracks=${tracks}\r\n`;
const field = (sdp, name) => sdp.match(new RegExp(`^${name}[=:](.*)\r$`, "m"))[1];
const list = (text) => text.split(",").filter(Boolean);

class FakeChannel {
  readyState = "connecting";
  bufferedAmount = 0;
  sent = [];

  constructor(pc, label, options) {
    Object.assign(this, { pc, label, options });
  }

  send(data) {
    if (this.readyState !== "open") throw invalid("not open");
    this.sent.push(data);
    const other = this.pc.other?.channels.find(({ options }) => options.id === this.options.id);
    if (!net.isBlocked) queueMicrotask(() => other?.onmessage?.({ data }));
  }

  close() {
    const other = this.pc.other?.channels.find(({ options }) => options.id === this.options.id);
    this.become("closed");
    other?.become("closed");
  }

  become(state) {
    if (this.readyState === state) return;
    this.readyState = state;
    (state === "open" ? this.onopen : this.onclose)?.();
  }
}

export class FakePeerConnection {
  id = nextId++;
  signalingState = "stable";
  connectionState = "new";
  channels = [];
  senders = [];
  offersMade = 0;
  #current = { local: null, remote: null };
  #pending = { local: null, remote: null };
  #operations = Promise.resolve();
  #operating = 0;
  #agreed = new Set();
  #restarts = false;
  #fragment = null;
  #reachable = new Set();
  #heardTracks = new Set();
  #spokenTo = null;
  #gathered = [];
  #hasGathered = false;
  /** As in Chromium where the first offer is rolled back before its first candidate. */
  #gathersNothing = false;

  constructor(configuration) {
    this.configuration = configuration;
    alive.set(this.id, this);
  }

  get localDescription() {
    const description = this.#pending.local ?? this.#current.local;
    // With the candidates found so far.
    return description && { ...description, sdp: description.sdp + this.#gathered.map((line) => `a=${line}\r\n`).join("") };
  }

  get remoteDescription() {
    return this.#pending.remote ?? this.#current.remote;
  }

  get fragment() {
    return this.#fragment;
  }

  get other() {
    return alive.get(this.#spokenTo);
  }

  createDataChannel(label, options = { id: nextChannel++ }) {
    const channel = new FakeChannel(this, label, options);
    this.channels.push(channel);
    this.#look();
    if (this.connectionState === "connected") setImmediate(() => this.reach());
    return channel;
  }

  /** As at the end that has not created it. */
  #announce({ label, options }) {
    if (options.negotiated || this.channels.some(({ options: { id } }) => id === options.id)) return;
    const channel = new FakeChannel(this, label, options);
    this.channels.push(channel);
    this.ondatachannel?.({ channel });
  }

  addTrack(track, ...streams) {
    if (this.senders.some((sender) => sender.track === track)) throw invalid("a sender has it");
    this.senders.push({ track, streams });
    this.#agreed.delete("media");
    this.#look();
  }

  getSenders() {
    return this.senders;
  }

  removeTrack(sender) {
    this.senders = this.senders.filter((other) => other !== sender);
    this.#agreed.delete("media");
    this.#look();
  }

  restartIce() {
    this.#restarts = true;
    this.#look();
  }

  setLocalDescription() {
    return this.#operate(() => {
      const isOffer = this.signalingState !== "have-remote-offer";
      const offered = this.#pending.remote;
      const isNew = !this.#fragment || (isOffer ? this.#restarts : field(offered.sdp, "a=ice-ufrag") !== this.#seenFragment());
      if (isNew) this.#fragment = `f${nextFragment++}`;
      const tracks = this.senders.map(({ track }) => track.id);
      for (const { track } of this.senders) trackIds.set(track.id, track);
      const sections = new Set(isOffer ? this.#wanted() : list(field(offered.sdp, "sections")));
      const sdp = write({ id: this.id, fragment: this.#fragment, sections, tracks });
      const description = { type: isOffer ? "offer" : "answer", sdp };
      if (isOffer) {
        this.offersMade++;
        this.#pending.local = description;
        this.signalingState = "have-local-offer";
      } else {
        this.#settle(description, offered);
      }
      if (isNew) this.#gather(this.#fragment);
    });
  }

  setRemoteDescription({ type, sdp }) {
    return this.#operate(() => {
      if (!/^v=0\r\n/.test(sdp)) throw invalid("no SDP");
      const from = Number(field(sdp, "pc"));
      // Another certificate on a transport that has one.
      if (this.#current.remote && from !== Number(field(this.#current.remote.sdp, "pc"))) throw invalid("another fingerprint");
      if (type === "offer") {
        if (this.signalingState === "have-local-offer") {
          this.#pending.local = null;
          this.#gathersNothing ||= !this.#hasGathered;
        }
        this.#pending.remote = { type, sdp };
        this.signalingState = "have-remote-offer";
      } else {
        if (this.signalingState !== "have-local-offer") throw invalid("no offer is open");
        this.#settle(this.#pending.local, { type, sdp });
      }
      if (sdp.includes("a=candidate:")) this.#reachable.add(field(sdp, "a=ice-ufrag"));
      for (const id of list(field(sdp, "tracks"))) {
        if (this.#heardTracks.has(id)) continue;
        this.#heardTracks.add(id);
        this.ontrack?.({ track: trackIds.get(id), streams: [] });
      }
    });
  }

  addIceCandidate({ usernameFragment }) {
    return this.#operate(() => {
      if (!this.remoteDescription) throw invalid("no remote description");
      if (field(this.remoteDescription.sdp, "a=ice-ufrag") !== usernameFragment) throw invalid("of another negotiation");
      this.#reachable.add(usernameFragment);
      this.reach();
      this.other?.reach();
    });
  }

  async getStats() {
    const pair = { id: "p", nominated: true, currentRoundTripTime: 0.02, localCandidateId: "l", remoteCandidateId: "r" };
    return new Map([
      ["p", pair],
      ["l", { candidateType: "host" }],
      ["r", { candidateType: "srflx" }],
    ]);
  }

  close() {
    this.signalingState = "closed";
    this.connectionState = "closed";
    alive.delete(this.id);
    for (const channel of this.channels) channel.readyState = "closed";
    const { other } = this;
    if (other) for (const channel of other.channels) channel.become("closed");
  }

  /** The way is lost, as the browser notices. */
  become(state) {
    this.connectionState = state;
    this.onconnectionstatechange?.();
  }

  /** Connects both ends where each knows enough of the other. */
  reach() {
    if (this.signalingState !== "stable" || !this.#current.remote) return;
    this.#spokenTo = Number(field(this.#current.remote.sdp, "pc"));
    if (this.connectionState === "new") {
      this.become("connecting");
      setTimeout(() => this.connectionState === "connecting" && this.become("failed"), net.failsAfter);
    }
    const { other } = this;
    if (net.isBlocked || !other?.knows(this) || !this.knows(other)) return;
    for (const end of [this, other]) if (end.connectionState !== "connected") end.become("connected");
    for (const end of [this, other]) for (const channel of end.channels) end.other.#announce(channel);
    for (const end of [this, other]) {
      for (const channel of end.channels) if (channel.readyState === "connecting") channel.become("open");
    }
  }

  knows(other) {
    const remote = this.#current.remote?.sdp;
    if (this.signalingState !== "stable" || !remote || Number(field(remote, "pc")) !== other.id) return false;
    return field(remote, "a=ice-ufrag") === other.fragment && this.#reachable.has(other.fragment);
  }

  #wanted() {
    return [this.channels.length && "app", (this.senders.length || this.#heardTracks.size) && "media"].filter(Boolean);
  }

  #seenFragment() {
    return this.#current.remote && field(this.#current.remote.sdp, "a=ice-ufrag");
  }

  #settle(local, remote) {
    // Only the offerer's wish for a restart has come true.
    if (local.type === "offer") this.#restarts = false;
    this.#current = { local, remote };
    this.#pending = { local: null, remote: null };
    this.signalingState = "stable";
    this.#agreed = new Set(list(field(remote.sdp, "sections")));
    setImmediate(() => this.reach());
  }

  async #gather(fragment) {
    this.#gathered = [];
    for (const n of [1, 2]) {
      for (let turns = 0; turns < net.gathersAfter; turns++) await turn();
      if (fragment !== this.#fragment || this.#gathersNothing) return;
      this.#hasGathered = true;
      this.#gathered.push(`candidate:${n}`);
      this.onicecandidate?.({ candidate: { candidate: `candidate:${n}`, sdpMid: "0", usernameFragment: fragment } });
    }
    this.onicecandidate?.({ candidate: null });
  }

  #operate(operation) {
    this.#operating++;
    const result = this.#operations.then(async () => {
      await turn();
      if (this.signalingState === "closed") return new Promise(() => {});
      try {
        return operation();
      } finally {
        this.#operating--;
        this.#look();
      }
    });
    this.#operations = result.catch(() => {});
    return result;
  }

  #isNegotiationNeeded() {
    return this.#restarts || this.#wanted().some((section) => !this.#agreed.has(section));
  }

  #look() {
    setImmediate(() => {
      if (this.#operating || this.signalingState !== "stable" || !this.#isNegotiationNeeded()) return;
      this.onnegotiationneeded?.();
    });
  }
}
