import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { networkInterfaces } from "node:os";
import { after, before, describe, test } from "node:test";
import puppeteer from "puppeteer-core";
import { connection, launchBrowser, openPage, playing, startServer, until } from "./harness.mjs";
import { startRelay } from "./lossy-relay.mjs";

const DEVICES = [
  "--use-fake-device-for-media-stream",
  "--use-fake-ui-for-media-stream",
  "--autoplay-policy=no-user-gesture-required",
];
/** The share of the loudness that may be another at another time. */
const TOLERANCE = 0.25;

/** Runs in the page, before its own scripts: keeps its peer connections, and measures what it plays. */
function watch() {
  globalThis.connections = [];
  globalThis.RTCPeerConnection = class extends RTCPeerConnection {
    constructor(...args) {
      super(...args);
      globalThis.connections.push(this);
    }
  };
  const connect = AudioNode.prototype.connect;
  AudioNode.prototype.connect = function (to, ...rest) {
    if (to instanceof AudioDestinationNode) {
      const { context } = to;
      context.output ??= new AnalyserNode(context, { fftSize: 8192 });
      globalThis.output = context.output;
      connect.call(this, context.output);
    }
    return connect.call(this, to, ...rest);
  };
}

/** Joins the voices of the page's room, and notes who speaks. A number is the loudness of a tone in place of a microphone. */
async function speak(page, microphone, options = {}) {
  await page.evaluate(
    async ({ microphone, options }) => {
      const { joinVoice } = await import("/rtcade/voice.js");
      if (typeof microphone === "number") {
        const context = new AudioContext();
        const to = context.createMediaStreamDestination();
        const tone = new OscillatorNode(context, { frequency: 440 });
        tone.connect(new GainNode(context, { gain: microphone })).connect(to);
        tone.start();
        microphone = to.stream.getAudioTracks()[0];
      }
      globalThis.voice = await joinVoice(rtcade.room, { microphone, ...options });
      globalThis.speaking = {};
      voice.on("speaking", ({ player, isSpeaking, level }) => (speaking[player] = isSpeaking && level));
    },
    { microphone, options },
  );
}

/** How loud the page plays what it hears. */
const loudness = (page) =>
  page.evaluate(() => {
    const samples = new Float32Array(output.fftSize);
    output.getFloatTimeDomainData(samples);
    return Math.sqrt(samples.reduce((sum, x) => sum + x * x, 0) / samples.length);
  });

/** What the page has received of voices: packets, those lost, and how much of the sound was concealed. */
const received = (page) =>
  page.evaluate(async () => {
    const sum = { packets: 0, lost: 0, concealed: 0, samples: 0 };
    for (const connection of connections) {
      for (const stats of (await connection.getStats()).values()) {
        if (stats.type !== "inbound-rtp" || stats.kind !== "audio") continue;
        sum.packets += stats.packetsReceived;
        sum.lost += stats.packetsLost;
        sum.concealed += stats.concealedSamples;
        sum.samples += stats.totalSamplesReceived;
      }
    }
    return sum;
  });

const hears = (page, player) =>
  until(`player ${player} to be heard`, () => page.evaluate((player) => speaking[player], player));
const hearsNot = (page, player) =>
  until(`player ${player} to be silent`, () => page.evaluate((player) => speaking[player], player), (level) => !level);

async function openPages(browser, server, count) {
  const pages = [];
  for (let index = 0; index < count; index++) {
    const opened = await openPage(browser, "about:blank");
    await opened.page.addInitScript(watch);
    await opened.page.goto(pages[0]?.page.url() ?? server.url);
    await playing(opened.page, "webrtc");
    pages.push({ ...opened, me: (await connection(opened.page)).me });
  }
  return pages;
}

describe("voices in a room", () => {
  let server, browser, ann, ben, cleo;

  before(async () => {
    server = await startServer(["--game", "relay", "--media"]);
    browser = await launchBrowser(DEVICES);
    [ann, ben, cleo] = await openPages(browser, server, 3);
    await speak(ann.page, 0.3);
    await speak(ben.page, true);
    await speak(cleo.page, false);
  });

  after(async () => {
    await browser?.close();
    await server?.stop();
  });

  test("everybody hears whoever speaks, and nobody themselves", async () => {
    for (const listener of [ben, cleo]) await hears(listener.page, ann.me);
    // The microphone of the browser's makes a short sound each second.
    for (const listener of [ann, cleo]) await hears(listener.page, ben.me);
    await until("a loud tone", () => loudness(cleo.page), (loudness) => loudness > 0.05);
    // What was not forwarded, because it was silent, is no loss.
    const { lost, packets } = await received(cleo.page);
    assert.ok(lost < packets / 100, `${lost} of ${packets} were lost`);
    assert.equal(await ann.page.evaluate(() => voice.talking), true);
    assert.equal(await cleo.page.evaluate(() => voice.talking), false);
  });

  test("who is muted is not heard", async () => {
    await ben.page.evaluate(() => (voice.muted = true));
    await hearsNot(cleo.page, ben.me);
    await ann.page.evaluate(() => (voice.muted = true));
    await hearsNot(cleo.page, ann.me);
    await until("silence", () => loudness(cleo.page), (loudness) => loudness < 0.001);
    await ann.page.evaluate(() => (voice.talking = true));
    await hears(cleo.page, ann.me);
  });

  test("each player has a volume of their own", async () => {
    const settled = async (volume) => {
      await cleo.page.evaluate(([player, volume]) => voice.volume(player, volume), [ann.me, volume]);
      let last;
      const isSteady = (now) => Math.abs(now - (last ?? Infinity)) < TOLERANCE * now * 0.2 || ((last = now), false);
      return until("a steady loudness", () => loudness(cleo.page), volume === 0 ? (now) => now === 0 : isSteady);
    };
    const full = await settled(1);
    const half = await settled(0.5);
    assert.ok(Math.abs(half / full - 0.5) < TOLERANCE * 0.5, `${half} of ${full}`);
    await settled(0);
    assert.equal(await cleo.page.evaluate((player) => voice.volume(player), ann.me), 0);
    await settled(1);
  });

  test("a microphone may come later, and another after it", async () => {
    const [{ deviceId }] = await cleo.page.evaluate(() => voice.devices());
    await cleo.page.evaluate((deviceId) => voice.setMicrophone(deviceId), deviceId);
    for (const listener of [ann, ben]) await hears(listener.page, cleo.me);
    await cleo.page.evaluate(() => voice.setMicrophone(false));
    await hearsNot(ann.page, cleo.me);
  });

  test("a connection that is lost is opened again", async () => {
    for (const { page } of [ann, ben]) {
      const before = await page.evaluate(() => connections.push() - 1);
      await page.evaluate((index) => connections[index].close(), before);
      const isAnother = (now) => now.index > before && now.state === "connected";
      const now = () => page.evaluate(() => ({ index: connections.length - 1, state: connections.at(-1).connectionState }));
      await until("another connection", now, isAnother);
    }
    await until("ann to be heard again", async () => {
      await ben.page.evaluate(() => (speaking = {}));
      await hears(ben.page, ann.me);
      return true;
    });
  });

  test("who leaves the voices is not heard, and is still in the room", async () => {
    await ann.page.evaluate(() => voice.leave());
    await hearsNot(ben.page, ann.me);
    assert.equal((await connection(ann.page)).status, "open");
    assert.deepEqual(ann.errors.concat(ben.errors, cleo.errors), []);
  });
});

test("a voice gets through where a twentieth of the packets is lost", async () => {
  const relay = await startRelay({ oneWayMs: 20, seed: "voice" });
  const server = await startServer(["--game", "relay", "--media", "--public-addr", `127.0.0.1:${relay.port}`]);
  relay.target = Number(server.output.match(/udp:\/\/\S+:(\d+)/)?.[1] ?? new URL(server.url).port);
  const browser = await launchBrowser(DEVICES);
  try {
    const [ann, ben] = await openPages(browser, server, 2);
    await speak(ann.page, 0.3);
    await speak(ben.page, false);
    await hears(ben.page, ann.me);
    relay.loss = 0.05;
    const from = await received(ben.page);
    const to = await until("ten seconds of packets", () => received(ben.page), ({ packets }) => packets > from.packets + 400);
    assert.ok(to.lost > from.lost, "some were lost");
    const concealed = (to.concealed - from.concealed) / (to.samples - from.samples);
    assert.ok(concealed < 0.25, `${concealed} of it was concealed`);
    assert.ok((await loudness(ben.page)) > 0.05);
  } finally {
    await browser.close();
    await server.stop();
    await relay.close();
  }
});

const firefox = process.env.FIREFOX ?? "/usr/bin/firefox-esr";
// Firefox has no candidate that reaches a loopback address.
const host = Object.values(networkInterfaces()).flat().find(({ family, internal }) => family === "IPv4" && !internal)
  ?.address;

/** Without a sound card it plays nothing: what arrives is counted. */
test("Firefox speaks and receives", { skip: !existsSync(firefox) || !host }, async () => {
  const server = await startServer(["--game", "relay", "--media"], { host });
  const browser = await puppeteer.launch({
    browser: "firefox",
    executablePath: firefox,
    headless: true,
    timeout: 60_000,
    extraPrefsFirefox: {
      "media.devices.insecure.enabled": true,
      "media.getusermedia.insecure.enabled": true,
      "media.navigator.permission.disabled": true,
      "media.navigator.streams.fake": true,
    },
  });
  try {
    const pages = [];
    for (const url of [() => server.url, () => pages[0].url()]) {
      const page = await browser.newPage();
      await page.goto(url());
      await playing(page, "webrtc");
      await page.evaluate(watch);
      await page.evaluate(() => rtcade.room.on("eventMediaSlots", ({ d: { audio } }) => (globalThis.slots = audio)));
      await speak(page, true);
      pages.push(page);
    }
    const [ann, ben] = pages;
    for (const [listener, speaker] of [[ben, ann], [ann, ben]]) {
      const { me } = await connection(speaker);
      await until("a second of packets", () => received(listener), ({ packets }) => packets > 50);
      assert.deepEqual(await listener.evaluate(() => slots), [me, null, null, null]);
    }
    await ann.evaluate(() => (voice.muted = true));
    let last;
    const isSteady = ({ packets }) => packets === last || ((last = packets), false);
    await until("an end of packets", async () => (await ben.evaluate(() => new Promise((r) => setTimeout(r, 500))), received(ben)), isSteady);
  } finally {
    await browser.close();
    await server.stop();
  }
});

test("after a restart of the server the voices are there again", async () => {
  let server = await startServer(["--game", "relay", "--media"]);
  const browser = await launchBrowser(DEVICES);
  try {
    const [ann, ben] = await openPages(browser, server, 2);
    await speak(ann.page, 0.3);
    await speak(ben.page, false);
    await hears(ben.page, ann.me);
    const port = Number(new URL(server.url).port);
    await server.kill();
    await ben.page.evaluate(() => (speaking = {}));
    server = await startServer(["--game", "relay", "--media"], { port });
    for (const { page } of [ann, ben]) await playing(page, "webrtc");
    const { me } = await connection(ann.page);
    await hears(ben.page, me);
  } finally {
    await browser.close();
    await server.stop();
  }
});

test("a server without --media says so, and the microphone is given back", async () => {
  const server = await startServer(["--game", "relay"]);
  const browser = await launchBrowser(DEVICES);
  try {
    const [{ page }] = await openPages(browser, server, 1);
    const error = await page.evaluate(async () => {
      const { joinVoice } = await import("/rtcade/voice.js");
      return joinVoice(rtcade.room, { microphone: true }).then(
        () => "joined",
        ({ name, stage, code, message }) => ({ name, stage, code, message }),
      );
    });
    assert.deepEqual(error, {
      name: "RtcadeError",
      stage: "media",
      code: "bad_sdp",
      message: "The server forwards no voices: start it with --media.",
    });
  } finally {
    await browser.close();
    await server.stop();
  }
});
