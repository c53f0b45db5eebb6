import { connect } from "rtcade";
import { openPeers } from "rtcade/peers";
import { playSegments, recordSegments, type SegmentPlayer } from "rtcade/segments";
import { openSwarm, type Swarm, type SwarmProgress, type SwarmStats } from "rtcade/swarm";

const peers = openPeers(await connect("/r/lobby")).mesh();
const swarm: Swarm = openSwarm(peers, { uplink: 500_000, minRate: 2_000_000 });
openSwarm(peers);
const { signal } = new AbortController();
const onProgress = ({ bytes, total, fromServer, fromPeers }: SwarmProgress) => console.log(bytes / (total ?? 1), fromServer + fromPeers);
const map: Blob = await swarm.fetch("/map.bin", { signal, onProgress });
await swarm.fetch(new URL("https://example.com/map.bin"));
const sha256: string = await swarm.share(new Uint8Array([1, 2]));
await swarm.share(map);
await swarm.fetch({ sha256, bytes: 2, url: "/segment" }, { signal: undefined });
await swarm.fetch({ sha256 });
await swarm.fetch({ sha256, source: 1 });
const video = document.querySelector("video")!;
const player: SegmentPlayer = playSegments(swarm, video, { type: "video/webm", init: new Uint8Array(), source: 1, onError: console.error });
const stop: () => void = recordSegments(video.srcObject as MediaStream, {
  onInit: ({ type, init }) => console.log(type, init.length),
  onSegment: async (bytes) => player.add({ sha256: await swarm.share(bytes), bytes: bytes.length }),
});
if (recordSegments.isSupported() && playSegments.isSupported()) stop();
player.close();
const { fromServer, fromPeers, toPeers, bad }: SwarmStats = swarm.stats();
console.log(fromServer, fromPeers, toPeers, bad);
swarm.close();
const channel: RTCDataChannel | undefined = peers.peer(1).createDataChannel("mine");
peers.on("datachannel", (theirs, { player }) => (theirs.onmessage = ({ data }) => console.log(data, player, channel?.label)));

// @ts-expect-error not the room
openSwarm(await connect("/r/lobby"));
// @ts-expect-error nothing to load
await swarm.fetch();
// @ts-expect-error read-only
swarm.stats().bad = 1;
