import { History, type Context, type Game, type Message, type Room, type Tick } from "rtcade/game";

interface World {
  at: Record<number, number>;
  past: History<{ [player: string]: [number, number] }>;
}

const game: Game<World, Record<number, number>, { hit: number }> = {
  tickMs: 20,
  create: ({ name, seed, tickMs, data }: Room) => ({ at: {}, past: new History(Math.ceil((seed + tickMs) / 20) + name.length + data) }),
  join(game, ctx, player, { name, data, attached, identity }) {
    if (identity?.subject === name || data === attached) ctx.refuse("No.");
    game.at[player] = ctx.random() + ctx.randomInt(0, 9);
    return { map: [] };
  },
  leave(game, _, player, reason) {
    if (reason === "moved") delete game.at[player];
    // @ts-expect-error no such reason
    return reason === "gone";
  },
  resume: (_, ctx, player, { reloaded }) => ctx.log(player, reloaded),
  tick(game, ctx, { number, missed }, batch) {
    for (const { player, input, number, seen, command } of batch) {
      const past = seen === undefined ? undefined : game.past.at(seen)?.[player];
      ctx.event({ except: player }, { hit: (past?.[0] ?? 0) + input.x + Number(number) + command }, { reliable: true });
    }
    ctx.state(game.at);
    ctx.stateForEach((player) => ({ [player]: number + missed + ctx.link(player).rttMs }));
    // @ts-expect-error not a state of this game
    ctx.state("state");
    // @ts-expect-error not an event of this game
    ctx.event("all", { miss: 1 });
    // @ts-expect-error no target
    ctx.event("nobody", { hit: 1 });
    // @ts-expect-error the tick can't be set
    ctx.tick = 1;
    ctx.setTitle(ctx.player(1)?.name ?? null);
  },
  save: ({ at, past }) => ({ at, past: past.save() }),
  load: ({ at, past }) => ({ at, past: new History(32, past) }),
  onError: (_, ctx, error, callback) => (ctx.log(error.message), callback !== "tick"),
};

/** What a module of functions has, as JavaScript does by JSDoc. */
export function tick(world: World, ctx: Context, { number }: Tick, batch: readonly Message<{ x: number }, string>[]): void {
  for (const message of batch) {
    if (message.input === undefined) ctx.kick(message.player, message.command);
    else ctx.state(message.input.x + message.number + message.seen + number);
  }
  for (const { id, connected, link } of ctx.players) ctx.stateTo(id, connected && link.lossUp);
}

// @ts-expect-error a game without a tick
const none: Game = { create: () => ({}) };
console.log(game, none);
