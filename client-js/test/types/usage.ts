import { connect, RtcadeError, type Room } from "rtcade";
import { connect as connectIn } from "rtcade/testing";

type Input = { dx: number };
type Command = { Say: string };
type State = { players: [number, number][] };
type Event = { Scored: number };
type Welcome = { map: string };

type Game = { input: Input; command: Command; state: State; event: Event; welcome: Welcome };

const room: Room<Game> = await connect<Game>("/r/lobby", { name: "Ada" });
declare const maybe: string | undefined;
const { signal } = new AbortController();
await connect(new URL("wss://play.example/api"), { name: maybe, room: maybe, appVersion: maybe, bearer: maybe, signal });
await connect(undefined, { bearer: async () => (await fetch("/token")).text() });
await connect(null, { bearer: () => maybe, reconnectTimeout: Infinity });
const map: string = room.welcome.map;
const off: () => void = room.on("state", (state, { tick, consumed }) => console.log(state.players.length, tick + consumed, map));
const draw = (state: State) => console.log(state.players);
room.once("state", draw);
room.off("state", draw);
const sent: number = room.send({ dx: room.serverTick() });
room.on("tick", ({ inputs }) => inputs.map(({ player, input }) => player + input.dx));
room.on("event", (event, _tick, lane) => console.log(event.Scored, lane === "reliable"));
room.on("rejoin", ({ map }) => console.log(map));
room.on("eventNotice", ({ d }) => console.log(d.text.length));
room.on("status", (status) => console.log(status === "dropped" || status === "resuming"));
room.on("leave", (player, reason) => console.log(player.name, reason === "kicked"));
room.on("close", ({ message, retry }) => console.log(message, retry));
room.on("error", (error) => console.log(error.stage === "ice", error.code === "timeout"));
room.send({ dx: 1 });
room.command({ Say: "hello" });
const rtt: number | null = room.stats.rtt;
if (room.retryAt !== null) room.retryNow();
console.log(off, rtt, sent, room.players.get(room.me)?.name, new Error() instanceof RtcadeError);

// @ts-expect-error no token
await connect("/r/lobby", { bearer: async () => 7 });
// @ts-expect-error an input of another shape
room.send({ dy: 1 });
// @ts-expect-error no such event
room.on("states", () => {});
// @ts-expect-error the room's own to change
room.status = "closed";
// @ts-expect-error tests replace it
await connect("/r/lobby", { WebSocket: class {} });
const environment = { RTCPeerConnection: null, storage: null, page: new EventTarget(), now: () => 0, setTimeout };
const tested: Room<Game> = await connectIn<Game>("/r/lobby", { name: maybe }, environment);
// @ts-expect-error no clock
await connectIn("/r/lobby", {}, { now: 0 });

// Types that a game has not, and those that nobody named.
const partial = await connect<{ input: Input; state: State }>();
partial.on("state", (state) => console.log(state.players));
partial.command({ anything: 1 });
// @ts-expect-error unknown
partial.on("event", (event) => console.log(event.Scored));
// @ts-expect-error unknown
console.log(partial.welcome.map);
// @ts-expect-error no type of a game
await connect<{ inputs: Input }>();
const untyped: Room = await connect();
untyped.send([1]);

// What takes a room by some of its types takes one with more.
const predict = (room: Room<{ input: Input; state: State }>) => room.send({ dx: 1 });
const watch = (room: Room) => room.stats;
predict(tested);
predict(partial);
watch(tested);
// @ts-expect-error a game of other states
predict(await connect<{ input: Input; state: string }>());
