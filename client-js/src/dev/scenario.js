import { REORDER_MS, WAYS } from "./network.js";

/** The nodes in the order in which `network.js` asks for their luck. */
function nodes({ loss, duplication, reordering, jitter }) {
  const permille = (percent) => Math.round(percent * 10);
  return [
    loss && `loss_permille: ${permille(loss)}`,
    duplication && `duplicate_permille: ${permille(duplication)}`,
    reordering && `reorder: { permille: ${permille(reordering)}, ms: ${REORDER_MS} }`,
    jitter && `jitter_ms: ${Math.round(jitter)}`,
  ].filter(Boolean);
}

/** The settings as a scenario file of `rtcade sim`. */
export function toScenario(settings) {
  const { up, down, seed, isUdpSilent } = settings;
  // The round trip is halved; what one way takes longer is a node of its own.
  const shared = Math.min(up.latency, down.latency);
  const lines = [`# Play it with: rtcade sim --scenario FILE --seed ${seed}`, "- name: dev-page", `  rtt_ms: ${2 * shared}`];
  for (const way of WAYS) {
    const more = settings[way].latency - shared;
    const list = [...nodes(settings[way]), ...(more ? [`latency_ms: ${more}`] : []), ...(isUdpSilent ? ["no_udp"] : [])];
    if (list.length > 0) lines.push(`  ${way}:`, ...list.map((node) => `    - ${node}`));
  }
  return `${lines.join("\n")}\n`;
}
