import { connect } from "/rtcade.js";
import { openPeers } from "/rtcade/peers.js";
import { openSwarm } from "/rtcade/swarm.js";

const MAP = "/map.bin";
const [WIDTH, HEIGHT] = [5_000, 4_000];

const element = (id) => document.getElementById(id);
const megabytes = (bytes) => `${(bytes / 1e6).toFixed(1)} MB`;

const say = (sentence) => (element("status").textContent = sentence);

function showProgress({ bytes, total, fromServer, fromPeers }) {
  element("server").style.width = `${(100 * fromServer) / total}%`;
  element("peers").style.width = `${(100 * fromPeers) / total}%`;
  element("bar").setAttribute("aria-valuenow", Math.round((100 * bytes) / total));
  say(`${megabytes(bytes)} of ${megabytes(total)}`);
}

/** Every fifth height of every fifth row: sea, shore, grass, rock and snow. */
async function draw(blob) {
  const heights = new Uint8Array(await blob.arrayBuffer());
  const canvas = document.querySelector("canvas");
  const context = canvas.getContext("2d");
  const image = context.createImageData(canvas.width, canvas.height);
  const scale = WIDTH / canvas.width;
  const colours = [[110, 24, 62, 110], [124, 226, 208, 150], [168, 74, 124, 74], [206, 118, 108, 98], [256, 238, 242, 246]];
  for (let y = 0, to = 0; y < HEIGHT; y += scale) {
    for (let x = 0; x < WIDTH; x += scale, to += 4) {
      const height = heights[y * WIDTH + x];
      const slope = height - heights[y * WIDTH + Math.max(0, x - scale)];
      const [, ...colour] = colours.find(([below]) => height < below);
      const light = 0.75 + height / 600 + (height < 110 ? 0 : slope / 24);
      image.data.set([...colour.map((part) => part * light), 255], to);
    }
  }
  context.putImageData(image, 0, 0);
}

try {
  const room = await connect();
  const peers = openPeers(room).mesh();
  const swarm = openSwarm(peers);
  const update = () => {
    const { fromServer, fromPeers, toPeers } = swarm.stats();
    element("from-server").textContent = megabytes(fromServer);
    element("from-peers").textContent = megabytes(fromPeers);
    element("to-peers").textContent = megabytes(toPeers);
    element("players").textContent = peers.all.filter(({ status }) => status === "direct").length;
  };
  setInterval(update, 250);
  const begun = performance.now();
  const map = await swarm.fetch(MAP, { onProgress: showProgress });
  const seconds = (performance.now() - begun) / 1_000;
  update();
  say(`Loaded and checked in ${seconds.toFixed(1)} s. Other players can have it while this page is open.`);
  await draw(map);
  globalThis.example = { room, swarm, map, seconds };
} catch (error) {
  say(error.message);
}
