import { after, before, describe, test } from "node:test";
import { RTCPeerConnection } from "werift";
import { startServer } from "./harness.mjs";
import { CHANNELS, SILENCE_MS, fallsBack, joinHere, losesNothing, playsOverChannel } from "./interop.mjs";

const stack = {
  configuration: {
    // Loopback addresses are left out unless they are named.
    iceAdditionalHostAddresses: ["127.0.0.1"],
    // Where there is none, werift asks one of its own choice on the internet. No host has a name like this (RFC 2606).
    iceServers: [{ urls: "stun:stun.invalid:3478" }],
  },
  RTCPeerConnection: class extends RTCPeerConnection {
    /** werift announces an unordered channel of limited retransmissions as an ordered one: adds the missing bit. */
    createDataChannel(label, options) {
      const channel = super.createDataChannel(label, options);
      const UNORDERED = 0x80;
      for (const [, , open] of channel.sctp.dataChannelQueue) open[1] |= UNORDERED;
      return channel;
    }
  },
};

/**
 * werift numbers its DTLS records from 1 again after its Finished, which went on from the records before: the server
 * takes the record of the same number for a replay (RFC 6347 §4.1.2.6). After so many frames from the server, it was
 * one that only acknowledged some.
 */
const FRAMES_PAST_THE_REPLAY = 40;

describe("werift in Node", () => {
  let server;

  before(async () => {
    server = await startServer(["--game", "relay"]);
  });

  after(() => server?.stop());

  async function withPlayer(channelOptions, check) {
    const player = await joinHere(server.url, "werift", channelOptions, stack);
    try {
      await check(player);
    } finally {
      player.socket.close();
      await player.pc.close();
    }
  }

  for (const [how, options] of Object.entries(CHANNELS)) {
    test(`loses nothing over a channel that is ${how}`, () =>
      withPlayer(options, async (player) => {
        await playsOverChannel(player, FRAMES_PAST_THE_REPLAY);
        await losesNothing(player);
      }));
  }

  test("plays on after channel.close()", () =>
    withPlayer(CHANNELS["in-band"], async (player) => {
      await playsOverChannel(player);
      player.channel.close();
      await fallsBack(player, "no_such_session");
    }));

  // What pc.close() comes to in werift.
  test("plays on when it goes silent", () =>
    withPlayer(CHANNELS["in-band"], async (player) => {
      await playsOverChannel(player);
      await player.pc.close();
      await fallsBack(player, "no_such_session", SILENCE_MS);
    }));
});
