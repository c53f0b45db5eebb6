import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { promisify } from "node:util";
import {
  connection,
  launchBrowser,
  openPage,
  playing,
  screenshot,
  SCREENS,
  serverProgram,
  startServer,
  until,
} from "./harness.mjs";

const SEED = 7;
/** To the server, a request of another machine that a proxy passes on. */
const FROM_ELSEWHERE = { extraHTTPHeaders: { "X-Forwarded-For": "198.51.100.7" } };
const NAME = "<img src=x onerror=alert(1)>";

const overlay = (page) => page.locator("rtcade-dev");
const press = (page, name) => overlay(page).getByRole("button", { name, exact: true }).click();
const choose = (page, name) => overlay(page).getByRole("tab", { name }).click();
const slide = (page, name, value) => overlay(page).getByRole("slider", { name }).fill(String(value));
const stats = (page) => page.evaluate(() => rtcade.room.stats);
const isPlayed = async (page) => {
  const { tick, me } = await connection(page);
  await until("the game to go on", () => connection(page), (now) => now.tick > tick + 20 && now.me === me);
};

describe("the dev page over the arena", () => {
  let browser, server, directory, address, page, errors;

  before(async () => {
    directory = await mkdtemp(join(tmpdir(), "rtcade-dev-"));
    server = await startServer();
    browser = await launchBrowser();
    address = `${server.url}r/dev?dev`;
    const options = { ...SCREENS.desktop, permissions: ["clipboard-read", "clipboard-write"] };
    ({ page, errors } = await openPage(browser, address, options));
    await playing(page, "webrtc");
    await overlay(page).getByRole("spinbutton", { name: "Seed" }).fill(String(SEED));
  });

  after(async () => {
    await browser?.close();
    await server?.stop();
    await rm(directory, { recursive: true, force: true });
  });

  test("delays and loses what the sliders say, and the game goes on", async () => {
    await slide(page, "Latency to the server, ms", 150);
    await until("the latency of both ways", () => stats(page), ({ rtt }) => rtt > 250);
    await overlay(page).getByRole("checkbox", { name: "Same both ways" }).uncheck();
    await slide(page, "Loss from the server, %", 25);
    const { loss, transport } = await until("the loss", () => stats(page), ({ loss }) => loss > 0.12);
    assert.ok(loss < 0.5 && transport === "webrtc", `${loss} over ${transport}`);
    assert.equal(await overlay(page).getByRole("slider", { name: "Loss to the server, %" }).inputValue(), "0");
    await isPlayed(page);
    await press(page, "Off");
    await until("what there was before", () => stats(page), ({ rtt, loss }) => rtt < 150 && loss < 0.05);
  });

  test("draws what it measures", async () => {
    const shown = (title) => overlay(page).getByRole("img", { name: title }).getAttribute("aria-label");
    const graphs = ["Round trip", "Jitter", "Loss", "Bytes/s", "Tick gap", "Interpolation delay", "Prediction error", "Corrections"];
    for (const title of graphs) {
      await until(title, () => shown(title), (text) => /\d/.test(text));
    }
    await page.evaluate(() => {
      const announce = globalThis[Symbol.for("rtcade.dev")];
      announce("predict", { stats: { corrections: 3, lastError: 1.5, pending: 2 } });
      announce("interpolate", { delay: 80 });
    });
    await until("an error", () => shown("Prediction error"), (text) => text.endsWith("1.5"));
    await until("a delay", () => shown("Interpolation delay"), (text) => text.endsWith("80 ms"));
  });

  test("drops the websocket, and the session is resumed", async () => {
    const { me } = await connection(page);
    await page.evaluate(() => {
      globalThis.statuses = [];
      rtcade.room.on("status", (status) => statuses.push(status));
    });
    await press(page, "Drop WebSocket");
    const statuses = await until("a return", () => page.evaluate(() => statuses), (list) => list.at(-1) === "open");
    assert.deepEqual(statuses, ["dropped", "resuming", "open"]);
    assert.equal((await connection(page)).me, me);
    await isPlayed(page);
  });

  test("silences UDP until it is let speak", async () => {
    await press(page, "Kill UDP");
    await playing(page, "websocket");
    await isPlayed(page);
    await press(page, "Kill UDP");
    await playing(page, "webrtc");
  });

  test("freezes the tab", async () => {
    await page.evaluate(() => {
      let last = performance.now();
      globalThis.longest = 0;
      setInterval(() => {
        longest = Math.max(longest, performance.now() - last);
        last = performance.now();
      }, 20);
    });
    await overlay(page).getByRole("combobox", { name: "Seconds to freeze" }).selectOption("1");
    await press(page, "Freeze");
    await until("a second without timers", () => page.evaluate(() => longest), (longest) => longest >= 1_000);
    await isPlayed(page);
  });

  test("shows messages in both directions, and what others send as text alone", async () => {
    await choose(page, "Messages");
    const list = overlay(page).getByRole("log", { name: "Messages" });
    const lines = () => list.locator("button").allInnerTexts();
    const filter = overlay(page).getByRole("searchbox", { name: "Filter" });
    for (const [wanted, pattern] of [["state down tick", /↓\s+state( · \w+)?\s+tick \d+\s+(dc|ws)\s+\d+\sB\s+\d+\sB/], ["input up", /↑\s+input( · lost)?\s+#\d+/]]) {
      await filter.fill(wanted);
      const texts = await until(wanted, lines, (texts) => texts.length > 0);
      for (const text of texts) assert.match(text, pattern);
    }
    await filter.fill("state");
    await until("a delta with its ratio", lines, (texts) => texts.some((text) => /Δ \d+%/.test(text)));

    const { page: other } = await openPage(browser, server.url);
    await other.evaluate(async ([address, name]) => {
      const { connect } = await import("/rtcade.js");
      globalThis.guest = await connect(address, { name, storage: null });
    }, [`${server.url}r/dev`, NAME]);
    await filter.fill("eventJoin img");
    await until("the guest", lines, (texts) => texts.some((text) => text.includes("eventJoin")));
    await press(page, "Pause");
    await list.locator("button").first().click();
    await until("the guest's name", () => overlay(page).locator(".tree").innerText(), (text) => text.includes(NAME));
    await press(page, "Text");
    assert.ok((await overlay(page).locator(".tree pre").innerText()).includes(NAME));
    assert.equal(await overlay(page).locator("img, script").count(), 0);
    await other.context().close();
    await press(page, "Paused");
    await filter.fill("");
  });

  test("copies a scenario that `rtcade sim` plays", async () => {
    await choose(page, "Network");
    await press(page, "Bad hotel");
    await slide(page, "Latency from the server, ms", 100);
    await press(page, "Copy scenario");
    const scenario = await until("a copy", () => page.evaluate(() => navigator.clipboard.readText()));
    assert.ok(scenario.includes("latency_ms: 40") && scenario.includes(`--seed ${SEED}`), scenario);
    const file = join(directory, "dev.yml");
    await writeFile(file, scenario);
    const sim = ["sim", "--scenario", file, "--clients", "2", "--seconds", "2", "--seed", String(SEED)];
    const { stdout } = await promisify(execFile)(serverProgram(), sim);
    assert.ok(stdout.includes("dev-page"), stdout);
  });

  test("keeps what is set for the page that is loaded anew, which goes on as the same player", async () => {
    const { me } = await connection(page);
    await Promise.all([page.waitForEvent("load"), press(page, "Reload")]);
    await playing(page, "webrtc");
    assert.equal((await connection(page)).me, me);
    assert.equal(await overlay(page).getByRole("slider", { name: "Latency from the server, ms" }).inputValue(), "100");
    assert.equal(await overlay(page).getByRole("spinbutton", { name: "Seed" }).inputValue(), String(SEED));
    await press(page, "Off");
  });

  test("and the page leave each other alone", async () => {
    const { page: plain } = await openPage(browser, `${server.url}r/dev`);
    await playing(plain, "webrtc");
    const sheets = (page) => page.evaluate(() => [document.styleSheets.length, document.adoptedStyleSheets.length]);
    assert.deepEqual(await sheets(page), await sheets(plain));
    await plain.context().close();
    await page.addStyleTag({ content: "rtcade-dev, body * { display: none !important; font-size: 99px !important; }" });
    assert.ok(await overlay(page).getByRole("button", { name: "Off" }).isVisible());
    const size = await overlay(page).locator("h2").evaluate((title) => getComputedStyle(title).fontSize);
    assert.equal(size, "13px");
    await page.evaluate(() => document.querySelector("style:last-of-type").remove());
    await page.evaluate(() => {
      globalThis.heard = 0;
      addEventListener("keydown", () => heard++);
    });
    const slider = overlay(page).getByRole("slider", { name: "Jitter to the server, ms" });
    await slider.focus();
    await page.keyboard.press("ArrowRight");
    assert.deepEqual([await slider.inputValue(), await page.evaluate(() => heard)], ["1", 0]);
    await press(page, "Off");
    assert.deepEqual(errors, []);
  });

  test("fits windows and phones", async () => {
    await until("some graphs", () => page.evaluate(() => rtcade.world().tick), (tick) => tick > 300);
    await screenshot(page, "dev-desktop");
    const { page: phone } = await openPage(browser, address, SCREENS.upright);
    await playing(phone, "webrtc");
    assert.ok(!(await overlay(phone).getByRole("tab", { name: "Network" }).isVisible()), "collapsed at first");
    await screenshot(phone, "dev-upright-collapsed");
    await overlay(phone).getByRole("button", { name: "Open the dev page" }).click();
    for (const name of ["Network", "Graphs", "Messages"]) {
      await choose(phone, name);
      const sticksOut = await overlay(phone).locator(".body").evaluate((body) => body.scrollWidth - body.clientWidth);
      assert.equal(sticksOut, 0, name);
      await screenshot(phone, `dev-upright-${name.toLowerCase()}`);
    }
    const { x, y, width, height } = await overlay(phone).locator(".panel").boundingBox();
    assert.deepEqual([x, x + width, y + height], [0, 390, 844]);
    await phone.context().close();
  });

  test("is not there, and is not asked for, without ?dev", async () => {
    const { page: plain } = await openPage(browser, "about:blank");
    const asked = [];
    plain.on("request", (request) => asked.push(new URL(request.url()).pathname));
    await plain.goto(`${server.url}r/dev?developer=1`);
    await playing(plain, "webrtc");
    assert.equal(await overlay(plain).count(), 0);
    assert.ok(asked.includes("/rtcade.js") && !asked.includes("/rtcade/dev.js"), String(asked));
    assert.equal(await plain.evaluate(() => globalThis[Symbol.for("rtcade.dev")]), undefined);
    await plain.context().close();
  });

  test("is not served to other machines, whose pages say so and play", async () => {
    const { page: remote } = await openPage(browser, "about:blank", FROM_ELSEWHERE);
    const warnings = [];
    remote.on("console", (message) => message.type() === "warning" && warnings.push(message.text()));
    await remote.goto(address);
    await playing(remote, "webrtc");
    assert.equal(await overlay(remote).count(), 0);
    const refused = await fetch(`${server.url}rtcade/dev.js`, { headers: FROM_ELSEWHERE.extraHTTPHeaders });
    assert.equal(refused.status, 404);
    assert.match(await refused.text(), /start the server with --dev/);
    assert.equal(warnings.length, 1);
    assert.match(warnings[0], /\/rtcade\/dev\.js.*--dev/);
    await remote.context().close();
  });

  test("is not loaded from another host than the page's own", async () => {
    const page = await openPage(browser, "about:blank").then(({ page }) => page);
    const asked = [];
    const warnings = [];
    page.on("request", (request) => asked.push(new URL(request.url()).pathname));
    page.on("console", (message) => message.type() === "warning" && warnings.push(message.text()));
    await page.goto(`${server.url.replace("127.0.0.1", "localhost")}doctor?dev`);
    const code = await page.evaluate(async (url) => {
      const { connect } = await import("/rtcade.js");
      return connect(url).catch(({ code }) => code);
    }, `${server.url}r/dev`);
    assert.equal(code, "origin", "it has gone on to connect");
    assert.ok(!asked.includes("/rtcade/dev.js"), String(asked));
    assert.equal(warnings.length, 1);
    await page.context().close();
  });

  test("is served to all with --dev", async () => {
    const open = await startServer(["--dev"]);
    try {
      const { page: remote } = await openPage(browser, `${open.url}r/dev?dev`, FROM_ELSEWHERE);
      await playing(remote, "webrtc");
      assert.equal(await overlay(remote).count(), 1);
      await remote.context().close();
    } finally {
      await open.stop();
    }
  });
});
