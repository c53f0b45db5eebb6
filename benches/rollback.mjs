// How often rtcade/rollback corrects its predictions, by path, in virtual time: `node benches/rollback.mjs`. Two players
// change their input every 1 to 9 ticks of 33 ms, and frames come 60 times a second. The output is a Markdown table.

import { rollback } from "../client-js/src/rollback.js";
import { Relay } from "../client-js/test/relay.js";

const SETTLING_MS = 10_000;
const SECONDS = 60;

async function measure(rtt, loss) {
  const relay = new Relay(4);
  const sessions = [];
  let frames = 0;
  let depth = 0;
  for (let n = 0; n < 2; n++) {
    const page = await relay.join({ oneWay: rtt / 2, jitter: 4, loss });
    const session = rollback(page.room, { init: () => ({ ticks: 0 }), step: ({ ticks }) => ({ ticks: ticks + 1 }) });
    let until = 0;
    page.show(() => {
      if (!(session.tick < until)) {
        until = (session.tick ?? 0) + 1 + relay.below(9);
        session.input(relay.below(5));
      }
      session.update();
      frames++;
      depth += session.tick - session.confirmed || 0;
    });
    sessions.push(session);
    await relay.pass(2_500);
  }
  await relay.pass(SETTLING_MS);
  const before = sessions.map(({ stats }) => ({ ...stats }));
  frames = depth = 0;
  await relay.pass(SECONDS * 1_000);
  const sum = (name) => sessions.reduce((sum, { stats }, n) => sum + stats[name] - before[n][name], 0) / sessions.length;
  const perSecond = (name) => (sum(name) / SECONDS).toFixed(1);
  const deepest = Math.max(...sessions.map(({ stats }) => stats.deepest));
  return [`${rtt} ms`, `${loss * 100} %`, (depth / frames).toFixed(1), perSecond("rollbacks"), deepest, perSecond("late"), sum("stalls")];
}

const row = (cells) => console.log(`| ${cells.join(" | ")} |`);
row(["round trip", "loss each way", "ticks predicted", "rollbacks per s", "deepest", "late inputs per s", "stalls per min"]);
row(Array(7).fill("---"));
for (const rtt of [20, 50, 100, 150, 200, 300, 400]) for (const loss of [0, 0.05]) row(await measure(rtt, loss));
