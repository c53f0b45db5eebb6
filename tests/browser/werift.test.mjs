import { after, before, describe, test } from "node:test";
import { RTCPeerConnection } from "werift";
import { startServer } from "./harness.mjs";
import { IN_BAND, fallsBack, joinHere, losesNothing, playsOverChannel } from "./interop.mjs";

// werift leaves loopback addresses out unless they are named.
const werift = { RTCPeerConnection, configuration: { iceServers: [], iceAdditionalHostAddresses: ["127.0.0.1"] } };

describe("werift in Node", () => {
  let server, player;

  before(async () => {
    server = await startServer(["--game", "relay"]);
    player = await joinHere(server.url, "werift", IN_BAND, werift);
  });

  after(async () => {
    player?.socket.close();
    await player?.pc.close();
    await server?.stop();
  });

  test("loses nothing over a channel opened in-band", () => losesNothing(player));
});
