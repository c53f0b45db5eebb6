// The page's half of the stock game `arena`: its messages, its rule of motion, and what to draw in each frame.

import { connect, type Room } from "rtcade";
import { interpolate } from "rtcade/interpolate";
import { predict } from "rtcade/predict";

/** Units of the arena from its left and top. */
export type Place = readonly [x: number, y: number];
/** Thrust to the right and down, in percent, and whether to dash. */
export type Input = readonly [x: number, y: number, dash: boolean];

type WireDisc = readonly [id: number, place: Place, vx: number, vy: number, score: number, wins: number, flags: number];
type State = readonly [
  isPlaying: boolean,
  secondsLeft: number,
  crowned: number | null,
  discs: readonly WireDisc[],
  gems: readonly Place[],
];
export type Effect =
  | { readonly collected: readonly [id: number, value: number, place: Place] }
  | { readonly bumped: readonly [by: number, whom: number, stolen: number, place: Place] };
type Event =
  | { readonly effects: readonly Effect[] }
  | { readonly won: { readonly actor: number; readonly name: string; readonly score: number } };

/** Lengths in units, speeds in units per second. */
export interface Rules {
  readonly width: number;
  readonly height: number;
  readonly radius: number;
  readonly gemRadius: number;
  readonly topSpeed: number;
  readonly dashSpeed: number;
  readonly maxSpeed: number;
  readonly dragPercent: number;
  readonly wallBouncePercent: number;
  readonly velocityStep: number;
  readonly botNames: readonly string[];
}

export interface Disc {
  /** The player's number; negative for a bot. */
  readonly id: number;
  x: number;
  y: number;
  vx: number;
  vy: number;
  score: number;
  isDashing: boolean;
  isShielded: boolean;
  isReady: boolean;
}

/** What moves the own disc. */
interface Body {
  x: number;
  y: number;
  vx: number;
  vy: number;
  isReady: boolean;
}

/** The newest state, as the server sent it: for what does not move. */
export interface Round {
  readonly isPlaying: boolean;
  readonly secondsLeft: number;
  readonly crowned: number | null;
  readonly discs: readonly Disc[];
  /** The first is the star. */
  readonly gems: readonly Place[];
}

export interface Frame {
  readonly round: Round;
  /** Everyone's discs as they are to be drawn now, the own one last. */
  readonly discs: readonly Disc[];
  /** The own disc; `undefined` in the first moments. */
  readonly own: Disc | undefined;
  /** What has happened since the last frame. */
  readonly effects: readonly Effect[];
}

const DASHING = 1;
const SHIELDED = 2;
const READY = 4;

/** The discs that an effect is about. */
export const actorsOf = (effect: Effect): readonly number[] =>
  "collected" in effect ? [effect.collected[0]] : [effect.bumped[0], effect.bumped[1]];

const clamp = (value: number, low: number, high: number) => Math.min(high, Math.max(low, value));

/** The rule of the server: what one input does to the own disc in one tick. */
function move(disc: Body, [x, y, dash]: Input, dt: number, rules: Rules): void {
  if (dash && disc.isReady) {
    const [headingX, headingY] = x || y ? [x, y] : [disc.vx, disc.vy];
    const length = Math.hypot(headingX, headingY) || 1;
    disc.vx += (headingX / length) * rules.dashSpeed;
    disc.vy += (headingY / length) * rules.dashSpeed;
    disc.isReady = false;
  }
  const drag = (rules.dragPercent / 100) * dt;
  disc.vx += ((x / 100) * rules.topSpeed - disc.vx) * drag;
  disc.vy += ((y / 100) * rules.topSpeed - disc.vy) * drag;
  const speed = Math.hypot(disc.vx, disc.vy);
  if (speed > rules.maxSpeed) {
    disc.vx *= rules.maxSpeed / speed;
    disc.vy *= rules.maxSpeed / speed;
  }
  [disc.x, disc.vx] = bounce(disc.x + disc.vx * dt, disc.vx, rules.width, rules);
  [disc.y, disc.vy] = bounce(disc.y + disc.vy * dt, disc.vy, rules.height, rules);
}

function bounce(place: number, speed: number, size: number, { radius, wallBouncePercent }: Rules): [number, number] {
  const inside = clamp(place, radius, size - radius);
  return [inside, inside === place ? speed : (-speed * wallBouncePercent) / 100];
}

type Messages = { input: Input; state: State; event: Event; welcome: Rules };
export type ArenaRoom = Room<Messages>;

export interface Arena {
  readonly room: ArenaRoom;
  readonly rules: Rules;
  nameOf(id: number): string;
  /** Sends what `read` gives, once for each tick that has passed. `undefined` before the first state. */
  frame(read: () => Input): Frame | undefined;
  /** Calls `listener` at the end of each round. */
  onWon(listener: (winner: { id: number; name: string; score: number }) => void): void;
}

export async function joinArena(name: string): Promise<Arena> {
  const room = await connect<Messages>(undefined, { name });
  let round: Round | undefined;
  let coming: { tick: number; effect: Effect }[] = [];

  const discsOf = ([, , , discs]: State): Disc[] =>
    discs.map(([id, [x, y], vx, vy, score, , flags]) => {
      const step = room.welcome.velocityStep;
      const isReady = (flags & READY) !== 0;
      const isDashing = (flags & DASHING) !== 0;
      return { id, x, y, vx: vx * step, vy: vy * step, score, isDashing, isShielded: (flags & SHIELDED) !== 0, isReady };
    });

  const own = predict(room, {
    from: (state): Body | undefined => {
      const disc = discsOf(state).find(({ id }) => id === room.me);
      return disc && { x: disc.x, y: disc.y, vx: disc.vx, vy: disc.vy, isReady: disc.isReady };
    },
    step: (disc, input, dt) => move(disc, input, dt, room.welcome),
    fields: { x: "lerp", y: "lerp" },
  });
  const others = interpolate(room, {
    from: discsOf,
    key: ({ id }) => id,
    fields: { x: "lerp", y: "lerp", vx: "lerp", vy: "lerp" },
  });

  room.on("state", (state) => {
    const [isPlaying, secondsLeft, crowned, , gems] = state;
    round = { isPlaying, secondsLeft, crowned, gems, discs: discsOf(state) };
  });
  room.on("event", (event, tick) => {
    if ("effects" in event) coming.push(...event.effects.map((effect) => ({ tick, effect })));
  });
  room.on("rejoin", () => {
    round = undefined;
    coming = [];
  });

  /** The own effects at once, those of others when their discs get there. */
  const isDue = ({ tick, effect }: { tick: number; effect: Effect }) => tick <= others.tick || actorsOf(effect).includes(room.me);

  return {
    room,
    get rules() {
      return room.welcome;
    },
    nameOf(id) {
      const { botNames } = room.welcome;
      return (id < 0 ? botNames[(-id - 1) % botNames.length] : room.players.get(id)?.name) ?? `Player ${id}`;
    },
    frame(read) {
      own.advance(read);
      if (!round) return undefined;
      const discs = [...others.at().values()].filter(({ id }) => id !== room.me);
      const body = own.shown();
      const newest = round.discs.find(({ id }) => id === room.me);
      const ownDisc = body && newest && { ...newest, ...body };
      if (ownDisc) discs.push(ownDisc);
      const effects = coming.filter(isDue).map(({ effect }) => effect);
      coming = coming.filter((each) => !isDue(each));
      return { round, discs, own: ownDisc ?? undefined, effects };
    },
    onWon(listener) {
      room.on("event", (event) => {
        if ("won" in event) listener({ id: event.won.actor, name: event.won.name, score: event.won.score });
      });
    },
  };
}

/** A player's color; bots are gray. Hue in degrees, the others from 0 to 1. */
export function colorOf(id: number): { hue: number; saturation: number; lightness: number } {
  return id < 0
    ? { hue: 220, saturation: 0.2, lightness: 0.66 }
    : { hue: ((id - 1) * 137.508 + 188) % 360, saturation: 0.92, lightness: 0.62 };
}
