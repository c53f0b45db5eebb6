// libdatachannel (https://github.com/paullouisageneau/libdatachannel), by its bindings for Node.

import { after, before, describe, test } from "node:test";
import { RTCPeerConnection } from "node-datachannel/polyfill";
import { startServer } from "./harness.mjs";
import { CHANNELS, fallsBack, joinHere, losesNothing, playsOverChannel } from "./interop.mjs";

const stack = { configuration: { iceServers: [] }, RTCPeerConnection };

describe("libdatachannel in Node", () => {
  let server;

  before(async () => {
    server = await startServer(["--game", "relay"]);
  });

  after(() => server?.stop());

  async function withPlayer(channelOptions, check) {
    const player = await joinHere(server.url, "libdatachannel", channelOptions, stack);
    try {
      await check(player);
    } finally {
      player.socket.close();
      player.pc.close();
    }
  }

  for (const [how, options] of Object.entries(CHANNELS)) {
    test(`loses nothing over a channel that is ${how}`, () => withPlayer(options, losesNothing));
  }

  test("plays on after channel.close()", () =>
    withPlayer(CHANNELS["in-band"], async (player) => {
      await playsOverChannel(player);
      player.channel.close();
      await fallsBack(player, "no_such_session");
    }));
});
