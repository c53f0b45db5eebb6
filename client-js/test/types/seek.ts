import type { Room } from "rtcade";
import { seek, type SeekOptions } from "rtcade/seek";

const options: SeekOptions = { url: new URL("https://example.com/"), name: "Ada", signal: new AbortController().signal };
const room: Room<{ input: number }> = await seek<{ input: number }>("chess", options);
room.send(1);
await seek("chess");
await seek("chess", null);

// @ts-expect-error the server names the room
await seek("chess", { room: "lobby" });
// @ts-expect-error a context is a string
await seek(7);
