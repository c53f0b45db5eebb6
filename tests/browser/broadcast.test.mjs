import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { after, before, describe, test } from "node:test";
import puppeteer from "puppeteer-core";
import { connection, controls, launchBrowser, openPage, overlaps, playing, SCREENS, screenshot, startServer, until } from "./harness.mjs";

const DEVICES = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"];
const FIREFOX = process.env.FIREFOX ?? "/usr/bin/firefox-esr";
const HEARD = "--autoplay-policy=no-user-gesture-required";

/** Runs in the page, before its own scripts: keeps what plays its sound, and says whether that is allowed. */
function watchSound() {
  globalThis.contexts = [];
  globalThis.AudioContext = class extends AudioContext {
    constructor(...args) {
      super(...args);
      globalThis.contexts.push(this);
      setTimeout(() => console.info(`${globalThis.contexts.length} contexts: ${this.state}`), 1_000);
    }
  };
}

const shows = (page, text) => until(`the page to show ${text}`, () => page.locator("body").innerText(), (shown) => text.test(shown));
const words = (page) => page.locator("#words").innerText();
const says = (page, text) => until(`the words ${text}`, () => words(page), (shown) => text.test(shown), 30_000);
const messages = (page) => page.locator("#chat li").allInnerTexts();
const viewers = (page, count) =>
  until(`${count} viewers`, () => page.locator("#viewers").innerText(), (text) => text === `${count} viewer${count === 1 ? "" : "s"}`);

/** Waits until the page decodes further frames. */
async function decodes(page) {
  const frames = () => page.evaluate(() => document.querySelector("video").getVideoPlaybackQuality().totalVideoFrames);
  const before = await frames();
  await until("frames", frames, (count) => count > before + 20, 40_000);
}

async function write(page, text) {
  await page.getByLabel("Message", { exact: true }).fill(text);
  await page.getByRole("button", { name: "Send" }).click();
}

async function goLive(page, title) {
  await page.getByRole("link", { name: "Go live" }).click();
  await page.getByLabel("Title").fill(title);
  const start = page.getByRole("button", { name: "Go live" });
  await until("a preview", () => page.evaluate(() => document.querySelector("video").videoWidth));
  await start.click();
  await playing(page, "webrtc");
  return page.evaluate(() => rtcade.room.name);
}

describe("a broadcast", () => {
  let server, browser, ann, ben, cleo, number;
  const room = () => `${server.url}r/${number}`;

  before(async () => {
    server = await startServer(["--game", "broadcast"]);
    browser = await launchBrowser([...DEVICES, HEARD]);
    ann = await openPage(browser, server.url, SCREENS.desktop);
  });

  after(async () => {
    await browser?.close();
    await server?.stop();
  });

  test("nobody is on air at first", async () => {
    await shows(ann.page, /Nobody is on air/);
    await screenshot(ann.page, "broadcast-start-empty");
  });

  test("a room that nobody publishes in can be watched", async () => {
    const { page } = await openPage(browser, `${server.url}r/100000`);
    await says(page, /Off air/);
    await screenshot(page, "broadcast-off-air");
    await page.context().close();
  });

  test("whoever goes live gets a number of six digits, and sees the preview without sound", async () => {
    await ann.page.getByRole("link", { name: "Go live" }).click();
    await until("a preview", () => ann.page.evaluate(() => document.querySelector("video").videoWidth));
    await screenshot(ann.page, "broadcast-setup");
    await ann.page.goBack();
    number = await goLive(ann.page, "Chess for <b>all</b>");
    assert.match(number, /^[1-9]\d{5}$/);
    assert.ok(ann.page.url().endsWith(`/r/${number}?publish`), ann.page.url());
    assert.equal(await ann.page.locator("#share b").innerText(), number.replace(/(...)(...)/, "$1 $2"));
    assert.equal(await ann.page.evaluate(() => document.querySelector("video").muted), true);
    await viewers(ann.page, 0);
  });

  test("two watch, and decode the frames", async () => {
    ben = await openPage(browser, server.url);
    await shows(ben.page, /Chess for <b>all<\/b>/);
    await screenshot(ben.page, "broadcast-start");
    await ben.page.getByLabel("Room number").fill(number);
    await ben.page.getByRole("button", { name: "Watch" }).click();
    await playing(ben.page, "webrtc");
    cleo = await openPage(browser, room(), SCREENS.upright);
    await playing(cleo.page, "webrtc");
    for (const { page } of [ben, cleo]) {
      await decodes(page);
      assert.equal(await words(page), "");
      assert.equal(await page.locator("h1").innerText(), "Chess for <b>all</b>");
    }
    for (const { page } of [ann, ben, cleo]) await viewers(page, 2);
  });

  test("the sound of the publisher is heard", async () => {
    const { page } = await openPage(browser, "about:blank");
    await page.addInitScript(watchSound);
    await page.goto(room());
    await playing(page, "webrtc");
    await until("sound", () => page.evaluate(() => contexts.some(({ state }) => state === "running")));
    assert.equal(await page.getByRole("button", { name: "Tap for sound" }).isVisible(), false);
    await page.context().close();
  });

  test("messages go both ways, and a late viewer gets those before", async () => {
    await write(ann.page, "Welcome!");
    await write(ben.page, "<i>Hello</i>");
    for (const { page } of [ann, ben, cleo]) await until("two messages", () => messages(page), (all) => all.length === 2);
    const dora = await openPage(browser, room(), SCREENS.aslant);
    await playing(dora.page, "webrtc");
    const [first, second] = await messages(dora.page);
    assert.match(first, /Welcome!$/);
    assert.match(second, / <i>Hello<\/i>$/);
    assert.equal(await dora.page.locator("#chat li").first().getAttribute("class"), "publisher");
    await decodes(dora.page);
    for (const name of ["desktop", "upright", "aslant"]) {
      const page = { desktop: ben, upright: cleo, aslant: dora }[name].page;
      await screenshot(page, `broadcast-watch-${name}`);
      assert.deepEqual(await overlaps(page, ["about", "stage", "chat", "naming"]), [], name);
      const { y } = await page.locator("#chat li").nth(1).boundingBox();
      assert.ok(y - (await page.locator("#chat ol").boundingBox()).y < 60, `${name}: one message is below the other`);
    }
    await screenshot(ann.page, "broadcast-publish");
    assert.deepEqual(dora.errors, []);
    await dora.page.context().close();
  });

  test("whoever writes too much is told", async () => {
    await cleo.page.evaluate(() => {
      for (let count = 0; count < 8; count++) rtcade.room.command({ say: `again ${count}` });
    });
    await shows(cleo.page, /You send too much at once/);
  });

  test("the publisher changes the title, and the list has it", async () => {
    await ann.page.getByLabel("Title").fill("Chess");
    await ann.page.getByRole("button", { name: "Set" }).click();
    await until("the new title", () => ben.page.locator("h1").innerText(), (title) => title === "Chess");
    await viewers(ann.page, 2);
    const [listed, ...others] = await (await fetch(`${server.url}rooms`)).json();
    assert.deepEqual([listed.name, listed.title, listed.players, listed.maxPlayers, others], [number, "Chess", 3, 1_024, []]);
  });

  test("a second publisher is refused in words, and one with a random number gets another", async () => {
    const { page } = await openPage(browser, `${room()}?publish`);
    await until("a preview", () => page.evaluate(() => document.querySelector("video").videoWidth));
    await page.getByRole("button", { name: "Go live" }).click();
    await shows(page, /publishes in this room/);
    await screenshot(page, "broadcast-refused");
    await page.goto(`${room()}?publish=new`);
    await until("a preview", () => page.evaluate(() => document.querySelector("video").videoWidth));
    await page.getByRole("button", { name: "Go live" }).click();
    await playing(page, "webrtc");
    const other = await page.evaluate(() => rtcade.room.name);
    assert.notEqual(other, number);
    assert.ok(page.url().endsWith(`/r/${other}?publish`), page.url());
    await page.getByRole("button", { name: "End", exact: true }).click();
    await shows(page, /On air now/);
    await page.context().close();
  });

  test("a page of the publisher that is loaded again goes on", async () => {
    const { me } = await connection(ann.page);
    await ann.page.reload();
    await playing(ann.page, "webrtc");
    assert.equal((await connection(ann.page)).me, me);
    await decodes(ben.page);
    assert.equal((await messages(ann.page)).length, (await messages(ben.page)).length);
    assert.equal(await ann.page.locator("#title").inputValue(), "Chess");
  });

  test("the publisher shares the screen, and shows the camera again when it ends", async () => {
    const share = (name) => ann.page.getByRole("button", { name, exact: true });
    const width = ({ page }) => page.evaluate(() => document.querySelector("video").videoWidth);
    const screenOf = (width) => [960, 480, 240].includes(width);
    const cameraOf = (width) => [1280, 640, 320].includes(width);
    // The browser's fake screen is as wide as the window.
    await ann.page.setViewportSize({ width: 960, height: 720 });
    await share("Share the screen").click();
    await share("Share another screen").waitFor();
    assert.deepEqual(await ann.page.locator("#camera option:checked").allInnerTexts(), ["Screen"]);
    for (const viewer of [ann, ben, cleo]) await until("the screen", () => width(viewer), screenOf, 30_000);
    for (const { page } of [ben, cleo]) await decodes(page);
    await screenshot(ann.page, "broadcast-screen");
    await ann.page.setViewportSize(SCREENS.desktop.viewport);

    await ann.page.evaluate(() => (navigator.mediaDevices.getDisplayMedia = async () => { throw new DOMException("", "NotAllowedError"); }));
    await share("Share another screen").click();
    await decodes(ben.page);
    assert.equal(await ann.page.locator("#said").innerText(), "");
    assert.ok(screenOf(await width(ann)));

    // As the browser's own button does.
    await ann.page.evaluate(() => {
      const [track] = document.querySelector("video").srcObject.getVideoTracks();
      track.stop();
      track.dispatchEvent(new Event("ended"));
    });
    await shows(ann.page, /The screen is not shared any more/);
    await says(ben.page, /The video has stopped/);
    await ann.page.locator("#camera").selectOption({ index: 1 });
    await share("Share the screen").waitFor();
    for (const viewer of [ann, ben]) await until("the camera", () => width(viewer), cameraOf, 30_000);
    for (const { page } of [ben, cleo]) await decodes(page);
  });

  test("each control has a name", async () => {
    for (const { page } of [ann, ben]) {
      for (const [role, name] of await controls(page)) assert.notEqual(name, "", role);
    }
  });

  test("the publisher publishes from a phone, too", async () => {
    const { page, errors } = await openPage(browser, server.url, SCREENS.upright);
    await goLive(page, "From a phone");
    await screenshot(page, "broadcast-publish-upright");
    assert.equal(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth), true);
    assert.deepEqual(errors, []);
    await page.context().close();
  });

  test("after the end, the viewers see in words that the room is off air, and the next publisher", async () => {
    await ann.page.getByRole("button", { name: "End", exact: true }).click();
    await shows(ann.page, /On air now/);
    for (const { page } of [ben, cleo]) await says(page, /Off air/);
    await screenshot(cleo.page, "broadcast-off-air-upright");
    const { page } = await openPage(browser, `${room()}?publish`);
    await until("a preview", () => page.evaluate(() => document.querySelector("video").videoWidth));
    await page.getByRole("button", { name: "Go live" }).click();
    for (const { page } of [ben, cleo]) await decodes(page);
    await page.context().close();
    await says(ben.page, /Off air/);
    assert.deepEqual(ann.errors.concat(ben.errors, cleo.errors), []);
  });
});

/** Runs in the page, before its own scripts: keeps its peer connections. */
function keepConnections() {
  globalThis.connections = [];
  globalThis.RTCPeerConnection = class extends RTCPeerConnection {
    constructor(...args) {
      super(...args);
      globalThis.connections.push(this);
    }
  };
}

describe("a broadcast that viewers share", () => {
  let server, browser, ann, viewers, blocked, number;
  const stats = ({ page }) => page.evaluate(() => rtcade.swarm()?.stats());
  const button = (page, name) => page.getByRole("button", { name, exact: true });

  async function open(screen) {
    const opened = await openPage(browser, "about:blank", screen);
    await opened.page.addInitScript(keepConnections);
    await opened.page.goto(`${server.url}r/${number}`);
    await playing(opened.page, "webrtc");
    return opened;
  }
  async function delay({ page }) {
    await button(page, "Watch delayed").click();
    await shows(page, /Delayed/);
    await decodes(page);
    assert.deepEqual(await page.evaluate(() => [document.querySelector("video").srcObject, document.querySelector("video").currentSrc.split(":")[0]]), [null, "blob"]);
  }
  /** That the page neither asks the server for media nor gets any. */
  const hasNoMedia = ({ page }) =>
    until("an end of media", () => page.evaluate(() => connections.filter((pc) => pc.connectionState !== "closed" && pc.getReceivers().length).length), (count) => count === 0);

  before(async () => {
    server = await startServer(["--game", "broadcast"]);
    // A machine without multicast resolves no names of candidates.
    browser = await launchBrowser([...DEVICES, HEARD, "--disable-features=WebRtcHideLocalIpsWithMdns"]);
    ann = await openPage(browser, server.url, SCREENS.desktop);
  });

  after(async () => {
    await browser?.close();
    await server?.stop();
  });

  test("is so only if the publisher wants it", async () => {
    number = await goLive(ann.page, "Chess");
    const ben = await open(SCREENS.desktop);
    await decodes(ben.page);
    assert.equal(await button(ben.page, "Watch delayed").isVisible(), false);
    await ann.page.getByLabel("Viewers may share the video").check();
    await button(ben.page, "Watch delayed").waitFor();
    await screenshot(ann.page, "broadcast-shared-publish");
    viewers = [ben, await open(SCREENS.upright), await open(SCREENS.desktop)];
    blocked = await open(SCREENS.upright);
    await blocked.page.evaluate(() => {
      const { room } = rtcade;
      const { signal } = room;
      room.signal = (message) => message.d.to === "server" && signal(message);
    });
    await button(blocked.page, "Watch delayed").click();
    await screenshot(blocked.page, "broadcast-shared-waiting");
  });

  test("is played by three who load most of it from each other, and nothing from the server", async () => {
    await Promise.all(viewers.map(delay));
    await Promise.all(viewers.map(hasNoMedia));
    const from = await Promise.all([ann, ...viewers].map(stats));
    await until("half a megabyte for each", () => Promise.all(viewers.map(stats)), (all) => all.every(({ fromPeers }, n) => fromPeers > from[n + 1].fromPeers + 500_000), 60_000);
    await Promise.all(viewers.map(({ page }) => decodes(page)));
    const [published, ...watched] = await Promise.all([ann, ...viewers].map(stats));
    const fromPublisher = published.toPeers - from[0].toPeers;
    const loaded = watched.reduce((sum, { fromPeers }, n) => sum + fromPeers - from[n + 1].fromPeers, 0);
    console.log(`three viewers: ${loaded} bytes, ${fromPublisher} from the publisher`);
    assert.ok(fromPublisher < 0.75 * loaded, `${fromPublisher} of ${loaded}`);
    for (const { fromServer, bad } of [published, ...watched]) assert.deepEqual([fromServer, bad], [0, 0]);
    const behind = await viewers[0].page.evaluate(() => {
      const { buffered, currentTime } = document.querySelector("video");
      return buffered.end(buffered.length - 1) - currentTime;
    });
    assert.ok(behind < 9, `${behind} s behind`);
    await screenshot(viewers[0].page, "broadcast-shared-desktop");
    await screenshot(viewers[1].page, "broadcast-shared-upright");
    assert.deepEqual(await overlaps(viewers[1].page, ["about", "stage", "chat", "naming"]), []);
  });

  test("is watched live by one who reaches nobody", async () => {
    await shows(blocked.page, /no viewer could be reached/);
    await decodes(blocked.page);
    await screenshot(blocked.page, "broadcast-shared-unreachable");
    assert.deepEqual(blocked.errors, []);
    await blocked.page.context().close();
  });

  test("is heard, and can be muted", async () => {
    const { page } = viewers[0];
    const isMuted = () => page.evaluate(() => document.querySelector("video").muted);
    assert.equal(await isMuted(), false);
    const heard = () => page.evaluate(() => document.querySelector("video").webkitAudioDecodedByteCount);
    const before = await heard();
    await until("sound", heard, (bytes) => bytes > before);
    await button(page, "Mute").click();
    assert.equal(await isMuted(), true);
  });

  test("is played by one who comes later, and by those who stay where others leave", async () => {
    const dora = await open(SCREENS.aslant);
    await delay(dora);
    await screenshot(dora.page, "broadcast-shared-aslant");
    assert.deepEqual(dora.errors, []);
    await viewers.pop().page.context().close();
    await dora.page.context().close();
    await Promise.all(viewers.map(({ page }) => decodes(page)));
  });

  test("is played by Firefox, which reaches viewers but not this server's UDP port", { skip: !existsSync(FIREFOX) }, async () => {
    const firefox = await puppeteer.launch({
      browser: "firefox",
      executablePath: FIREFOX,
      headless: true,
      timeout: 60_000,
      extraPrefsFirefox: { "media.peerconnection.ice.obfuscate_host_addresses": false, "media.autoplay.default": 0 },
    });
    try {
      const page = await firefox.newPage();
      await page.goto(`${server.url}r/${number}`);
      const click = () =>
        page.evaluate(() => {
          const button = [...document.querySelectorAll("#words button")].find(({ textContent }) => textContent === "Watch delayed");
          button?.click();
          return Boolean(button);
        });
      await until("the button", click);
      const played = () => page.evaluate(() => [document.querySelector("video").currentTime, document.querySelector("video").getVideoPlaybackQuality().totalVideoFrames]);
      const [from] = await until("a frame", played, ([, frames]) => frames > 0);
      await until("five seconds of it", played, ([time, frames]) => time > from + 5 && frames > 20);
      assert.equal(await page.evaluate(async () => (await import("/rtcade/segments.js")).recordSegments.isSupported()), false);
    } finally {
      await firefox.close();
    }
  });

  test("goes on after another camera, and after the publisher's page is loaded again", async () => {
    const recordings = () => viewers[0].page.evaluate(() => globalThis.recordings);
    await viewers[0].page.evaluate(() => {
      globalThis.recordings = 0;
      rtcade.room.on("event", ({ recording }) => recording && recordings++);
    });
    const [, { value }] = await ann.page.locator("#camera option").evaluateAll((all) => all.map(({ value }) => ({ value })));
    await ann.page.locator("#camera").selectOption("");
    await ann.page.locator("#camera").selectOption(value);
    await until("another recording", recordings);
    await Promise.all(viewers.map(({ page }) => decodes(page)));
    const before = await recordings();
    await ann.page.reload();
    await playing(ann.page, "webrtc");
    assert.equal(await ann.page.getByLabel("Viewers may share the video").isChecked(), true);
    await until("another recording", recordings, (count) => count > before);
    await Promise.all(viewers.map(({ page }) => decodes(page)));
    await Promise.all(viewers.map(hasNoMedia));
  });

  test("is watched live again as the viewer wishes, and when the publisher ends it", async () => {
    const [ben, cleo] = viewers;
    await button(ben.page, "Watch live").click();
    await until("live video", () => ben.page.evaluate(() => Boolean(document.querySelector("video").srcObject)));
    await decodes(ben.page);
    assert.equal(await stats(ben), undefined);
    await ann.page.getByLabel("Viewers may share the video").uncheck();
    await until("live video", () => cleo.page.evaluate(() => Boolean(document.querySelector("video").srcObject)));
    await decodes(cleo.page);
    assert.equal(await cleo.page.locator("#delayed").innerText(), "");
    assert.deepEqual(ann.errors.concat(ben.errors, cleo.errors), []);
  });
});

test("where the browser keeps a page silent, a tap gives it sound", async () => {
  const server = await startServer(["--game", "broadcast"]);
  const browser = await launchBrowser(DEVICES);
  try {
    const ann = await openPage(browser, server.url);
    const number = await goLive(ann.page, "Music");
    for (const screen of ["desktop", "upright"]) {
      const { page } = await openPage(browser, "about:blank", SCREENS[screen]);
      await page.addInitScript(watchSound);
      // Whatever a test asks of the page counts as a click in it.
      const silence = page.waitForEvent("console", (message) => message.text() === "2 contexts: suspended");
      await page.goto(`${server.url}r/${number}`);
      await silence;
      const tap = page.getByRole("button", { name: "Tap for sound" });
      assert.equal(await tap.isVisible(), true);
      await screenshot(page, `broadcast-silent-${screen}`);
      assert.equal(await page.evaluate(() => contexts.some(({ state }) => state === "running")), false);
      if (screen === "upright") await tap.tap();
      else await tap.click();
      await tap.waitFor({ state: "hidden" });
      const states = () => page.evaluate(() => contexts.map(({ state }) => state).filter((state) => state !== "closed"));
      await until("all that plays to run", states, (all) => all.length > 0 && all.every((state) => state === "running"));
    }
  } finally {
    await browser.close();
    await server.stop();
  }
});

test("a server without video, and one that is gone, are told in words", async () => {
  const server = await startServer(["--game", "broadcast", "--media=audio"]);
  const browser = await launchBrowser(DEVICES);
  try {
    const { page } = await openPage(browser, `${server.url}r/123456`);
    await says(page, /forwards no video.*--media=video/s);
    await server.kill();
    await shows(page, /Connection lost\n+The server does not answer/);
    await screenshot(page, "broadcast-lost");
  } finally {
    await browser.close();
    await server.kill();
  }
});
