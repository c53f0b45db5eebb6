import { connect } from "rtcade";
import { openPeers, type Peer, type Peers, type PeerStatus } from "rtcade/peers";

const room = await connect<{ state: number }>("/r/lobby");
const peers: Peers = openPeers(room, {
  iceServers: [{ urls: ["stun:stun.example"] }, { urls: "turn:turn.example", username: "a", credential: "b" }],
  accept: ({ player, name }) => player > 1 && name !== "",
});
openPeers(room);
openPeers(room, { iceServers: undefined, accept: undefined });

const peer: Peer = peers.peer(7);
for (const player of room.players.values()) peers.peer(player).close();
const isSent: boolean = peer.send([1, { x: 2 }]) && peer.sendReliable("reliable");
const off: () => void = peer.on("message", ({ value, reliable }, { player }) => console.log(value.x, reliable, player + 1));
off();
peer.on("state", (status: PeerStatus) => console.log(status === "relayed", isSent));
const stop: () => void = peer.addTrack(new MediaStreamTrack(), new MediaStream());
stop();
const { rtt, local }: { rtt: number | undefined; local: string | undefined } = await peer.stats();

const mesh = peers.mesh();
mesh.on("peer", ({ player, status }) => console.log(player, status, rtt, local));
mesh.on("track", ({ track, streams: [stream] }, { player }) => console.log(track.kind, stream?.id, player));
mesh.send(1);
mesh.sendReliable(2);
console.log(mesh.all.length, mesh.bad);
mesh.close();

// @ts-expect-error no such event of one peer
peer.on("peer", () => {});
// @ts-expect-error no such status
const status: PeerStatus = "open";
// @ts-expect-error read-only
peer.status = status;
// @ts-expect-error not a room
openPeers({});
// @ts-expect-error a STUN server without its URL
openPeers(room, { iceServers: [{ username: "a" }] });
