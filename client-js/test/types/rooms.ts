import type { Room } from "rtcade";
import { joinOrCreate, type JoinOrCreateOptions, roomCode } from "rtcade/rooms";

const options: JoinOrCreateOptions = { name: "Ada", filter: { kind: "duel", title: undefined } };
const room: Room<{ input: number }> = await joinOrCreate<{ input: number }>("https://example.com/", options);
room.send(1);
await joinOrCreate();
await joinOrCreate(null, { filter: { title: "Chess" } });
const code: string = roomCode();
roomCode(code);

// @ts-expect-error the room is chosen
await joinOrCreate(null, { room: "lobby" });
// @ts-expect-error a code is a text
roomCode(7);
