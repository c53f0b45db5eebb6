// Generated from the types of the game. `UPDATE_TYPES=1 cargo test` writes it anew.

/**
 * What both ends know from the beginning: the welcome.
 */
export type Arena = { width: number, height: number, walls: Array<Wall>,
/**
 * The direction of each heading. No two browsers have to agree on a sine.
 */
directions: Array<[number, number]>,
/**
 * The radius of a tank.
 */
radius: number,
/**
 * Units per second forwards.
 */
speed: number,
/**
 * Units per second and second.
 */
acceleration: number,
/**
 * Headings per tick.
 */
turn: number,
/**
 * Ticks between two shots.
 */
reload: number,
/**
 * Hits that a tank takes.
 */
armor: number, };

/**
 * What the own inputs move, and nothing else but the touch of another tank.
 */
export type Body = { x: number, y: number,
/**
 * The heading of the hull. It counts on beyond a full turn, so that it can be blended.
 */
hull: number, turret: number,
/**
 * Units per second.
 */
speed: number,
/**
 * Ticks until the gun is loaded.
 */
reload: number, };

export type Command = { "Say": string };

export type Event = { "Shot": { by: number, from: [number, number], to: [number, number], hit: number | null, } } | { "Destroyed": { by: number, tank: number, } } | { "Said": { by: number, text: string, } };

/**
 * What a player holds in one tick.
 */
export type Input = {
/**
 * -1 for backwards, 0, or 1.
 */
drive: number,
/**
 * -1 for left, 0, or 1.
 */
turn: number,
/**
 * The heading of the turret, 0 to 511.
 */
aim: number, fire: boolean, };

export type State = {
/**
 * By player.
 */
tanks: { [key in number]: Tank }, };

export type Tank = { body: Body, name: string,
/**
 * Hits that it can still take; 0 while it is destroyed.
 */
armor: number,
/**
 * The number of the input that has fired its last shot.
 */
shot: number, kills: number, };

/**
 * A wall from one corner to the other.
 */
export type Wall = { left: number, top: number, right: number, bottom: number, };

export interface Types {
  input: Input;
  command: Command;
  state: State;
  event: Event;
  welcome: Arena;
}
