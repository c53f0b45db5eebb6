// The game of the second task: a square of 100 m in which ten players walk at 5 m/s, and are hit now and then. World in
// src/lib.rs is the same.

export const ROOM_PLAYERS = 10;

const WORLD_CM = 10_000;
const CM_PER_TICK = 500 * 0.033;
const HITS_PER_TICK = 3 * 0.033;
const HIT = 10;
const HEALTH = 100;

export class World {
  /** Whole numbers, as they are sent: x and y in centimetres, heading in degrees, health, score. */
  walkers = [];
  #positions = [];
  #random = 1;

  constructor() {
    for (let player = 0; player < ROOM_PLAYERS; player++) {
      this.#positions.push({ x: this.#next() * WORLD_CM, y: this.#next() * WORLD_CM, moving: false });
      this.walkers.push({ x: 0, y: 0, heading: 0, health: HEALTH, score: 0 });
    }
  }

  #next() {
    this.#random = (Math.imul(this.#random, 1_664_525) + 1_013_904_223) >>> 0;
    return this.#random / 2 ** 32;
  }

  steer(player, heading, moving) {
    this.walkers[player].heading = heading % 360;
    this.#positions[player].moving = moving;
  }

  /** The next tick, of 33 ms. */
  step() {
    const within = (value) => Math.min(Math.max(value, 0), WORLD_CM);
    for (let player = 0; player < ROOM_PLAYERS; player++) {
      const position = this.#positions[player];
      const walker = this.walkers[player];
      if (position.moving) {
        const angle = (walker.heading * Math.PI) / 180;
        position.x = within(position.x + Math.cos(angle) * CM_PER_TICK);
        position.y = within(position.y + Math.sin(angle) * CM_PER_TICK);
      }
      walker.x = Math.round(position.x);
      walker.y = Math.round(position.y);
    }
    if (this.#next() < HITS_PER_TICK) {
      const hit = this.walkers[Math.floor(this.#next() * ROOM_PLAYERS)];
      const by = this.walkers[Math.floor(this.#next() * ROOM_PLAYERS)];
      hit.health = hit.health <= HIT ? HEALTH : hit.health - HIT;
      by.score = (by.score + 1) % 65_536;
    }
  }
}
