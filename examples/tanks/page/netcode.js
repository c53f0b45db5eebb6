// @ts-check
// What the page predicts and what it interpolates.
import { step } from "./rules.js";

/** @typedef {import("./types.js").Types} Types */
/** @typedef {import("./types.js").Input} Input */
/** @typedef {import("./types.js").Body} Body */
/** @typedef {import("./types.js").Tank} Tank */
/** @typedef {Pick<import("/rtcade.js").Room<Types>, "me" | "welcome">} Room */

const fields = /** @type {const} */ ({ x: "lerp", y: "lerp", hull: "lerp", turret: "lerp" });
/** @type {(before: Body, after: Body) => boolean} */
const teleported = (before, after) => Math.hypot(after.x - before.x, after.y - before.y) > 60;
/** @type {(tank: Tank | undefined) => Body | undefined} */
const alive = (tank) => (tank && tank.armor > 0 ? tank.body : undefined);

/**
 * The own tank, for `predict`.
 * @param {Room} room @param {(tank: Body, number: number) => void} fired called once for each shot, with its input
 * @returns {import("/rtcade/predict.js").PredictOptions<Input, Types["state"], Body>}
 */
export const ownTank = (room, fired) => ({
  from: ({ tanks }) => alive(tanks[room.me]),
  step: (tank, input, dt, { number, isReplay }) => {
    if (step(room.welcome, tank, input, dt) && !isReplay) fired(tank, number);
  },
  fields,
  teleported,
});

/**
 * The tanks of the others, for `interpolate`.
 * @param {Room} room
 */
export const otherTanks = (room) => ({
  /** @param {Types["state"]} state */
  from: ({ tanks }) => {
    /** @type {{ [id: string]: Body }} */
    const bodies = {};
    for (const [id, tank] of Object.entries(tanks)) {
      const body = alive(tank);
      if (body && id !== String(room.me)) bodies[id] = body;
    }
    return bodies;
  },
  fields,
  teleported,
});
