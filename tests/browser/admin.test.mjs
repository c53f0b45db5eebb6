import assert from "node:assert/strict";
import { mkdtemp, readFile, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { controls, launchBrowser, openPage, playing, SCREENS, screenshot, startServer, until } from "./harness.mjs";
import { NO_REDIS, startRedis } from "./redis.mjs";

const TOKEN = "the-token-of-admin.test.mjs";
/** Two of the page's periods, and some. */
const POLLS_MS = 2_500;
/** Rows that a table shows. */
const ROWS = 200;
/** Of names and titles: what would be markup, what turns text around, and what is long. */
const HOSTILE = ['<img src="x" onerror="document.title=1">', "\u202Ereversed", "שלום עולם", "W".repeat(200), "Z\u0335\u0322a\u0337"];

describe("the admin page", () => {
  let browser, directory, server, address, operator, ann, ben;

  before(async () => {
    browser = await launchBrowser();
    directory = await mkdtemp(join(tmpdir(), "rtcade-admin-"));
    ({ server, address } = await startAdministered(["--record", directory]));
    ann = await openPage(browser, `${server.url}r/lobby`);
    ben = await openPage(browser, `${server.url}r/lobby`);
    for (const { page } of [ann, ben]) await playing(page, "webrtc");
    operator = await openPage(browser, address, SCREENS.desktop);
  });

  after(async () => {
    await browser?.close();
    await server?.stop();
    await rm(directory, { recursive: true, force: true });
  });

  const sections = () => operator.page.locator("main > section:visible").count();

  test("shows nothing before the token is given, and says that a wrong one is refused", async () => {
    const { page } = operator;
    assert.equal(await sections(), 0);
    await signIn(page, "certainly-a-wrong-token");
    const refused = page.getByRole("alert");
    await until("a refusal", () => refused.innerText());
    assert.equal(await sections(), 0);
    await signIn(page, TOKEN);
    await page.getByRole("heading", { name: "Rooms" }).waitFor();
    assert.equal(await page.getByLabel(/token of this server/).isVisible(), false);
  });

  test("takes the token out of its address, and keeps it for the tab only", async () => {
    const { page } = await openPage(browser, `${address}#token=${TOKEN}`);
    await page.getByRole("heading", { name: "Rooms" }).waitFor();
    assert.equal(page.url(), address);
    await page.reload();
    await page.getByRole("heading", { name: "Rooms" }).waitFor();
    const other = await page.context().newPage();
    await other.goto(address);
    await other.getByRole("heading", { name: "Sign in" }).waitFor();
    await page.getByRole("button", { name: "Sign out" }).click();
    await page.reload();
    await page.getByRole("heading", { name: "Sign in" }).waitFor();
    await page.context().close();
  });

  test("shows the server and its rooms", async () => {
    const { page } = operator;
    const row = page.getByRole("row", { name: /lobby/ });
    await until("a rate of bytes", () => row.innerText(), (text) => /↓ [\d.]+ kB\/s/.test(text));
    assert.match(await row.innerText(), /\b2 \/ 64\b[^]* µs[^]*% of a tick[^]*recorded/);
    const overview = await page.locator("#overview").innerText();
    assert.match(overview, /Players\n2\n2 WebRTC/);
    assert.match(overview, /CPU\n[\d.]+ %/);
    await screenshot(page, "admin-rooms");
  });

  test("shows a room's players and its state, and leads back", async () => {
    const { page } = operator;
    await page.getByRole("link", { name: "lobby" }).click();
    assert.equal(new URL(page.url()).hash, "#room/lobby");
    await page.getByRole("heading", { name: "lobby" }).waitFor();
    for (const { page: player } of [ann, ben]) {
      const row = page.getByRole("row", { name: await nameOf(player) });
      await until("a measured round trip", () => row.innerText(), (text) => /WebRTC\s+127\.0\.0\.1:\d+\s+[\d.]+ ms/.test(text));
    }
    const tree = page.locator("#state");
    await tree.locator("summary").nth(1).click();
    const shown = await tree.innerText();
    await until("another state", () => tree.innerText(), (text) => text !== shown);
    assert.equal(await tree.locator("details[open]").count(), 2, "what was opened stays open");
    await page.getByRole("button", { name: "Pause" }).click();
    const paused = await tree.innerText();
    await sleep(POLLS_MS);
    assert.equal(await tree.innerText(), paused);
    await page.getByRole("button", { name: "Pause" }).click();
    await until("another state", () => tree.innerText(), (text) => text !== paused);
    await screenshot(page, "admin-room");
    await page.goBack();
    await page.getByRole("heading", { name: "Rooms" }).waitFor();
    const focused = () => page.evaluate(() => document.activeElement.textContent);
    assert.equal(await focused(), "lobby");
    await sleep(POLLS_MS);
    assert.equal(await focused(), "lobby", "the focus stays while values change");
    await page.keyboard.press("Enter");
    await page.getByRole("heading", { name: "lobby" }).waitFor();
  });

  test("has names for its controls, and says what tables and figures mean", async () => {
    const { page } = operator;
    await page.getByRole("button", { name: `Kick ${await nameOf(ann.page)}` }).waitFor();
    const found = await controls(page);
    for (const [role, name] of found) assert.notEqual(name, "", role);
    const name = await nameOf(ann.page);
    for (const action of ["Kick", "Message"]) assert.ok(found.some((control) => control.join() === `button,${action} ${name}`), action);
    const snapshot = await page.locator("body").ariaSnapshot();
    assert.match(snapshot, /navigation "Views"/);
    assert.match(snapshot, /table "Players":\n\s+- rowgroup:\n\s+- row .*:\n\s+- columnheader "Player"/);
    assert.ok(snapshot.includes(`- rowheader "${name} player `), snapshot);
  });

  test("sends a message to a room, to a player, and to all", async () => {
    const { page } = operator;
    const send = async (button, text, sent) => {
      await page.getByRole("button", { name: button, exact: true }).click();
      await page.getByRole("dialog").getByLabel("Message").fill(text);
      await page.getByRole("dialog").getByRole("button", { name: "Send" }).click();
      await told(page, sent);
    };
    const notice = ({ page }) => page.locator("#notice");
    await send("Message to the room", "<b>Dinner</b> is ready.", "The message was sent to 2 players.");
    for (const player of [ann, ben]) {
      await notice(player).filter({ hasText: "<b>Dinner</b> is ready." }).waitFor();
      await notice(player).getByRole("button", { name: "OK" }).click();
      await notice(player).waitFor({ state: "hidden" });
    }
    await send(`Message ${await nameOf(ann.page)}`, "Only you.", "The message was sent to 1 player.");
    await notice(ann).filter({ hasText: "Only you." }).waitFor();
    assert.equal(await notice(ben).isVisible(), false);
    await page.getByRole("link", { name: "All rooms" }).click();
    await send("Message to all", "For everybody.", "The message was sent to 2 players.");
    await notice(ben).filter({ hasText: "For everybody." }).waitFor();
    await screenshot(ben.page, "admin-told");
  });

  test("kicks a player only after a confirmation, who is told the reason", async () => {
    const { page } = operator;
    const name = await nameOf(ann.page);
    await page.getByRole("link", { name: "lobby" }).click();
    const kick = page.getByRole("button", { name: `Kick ${name}` });
    await kick.click();
    const dialog = page.getByRole("dialog");
    assert.equal(await dialog.getByRole("heading").innerText(), `Kick ${name}?`);
    await page.keyboard.press("Escape");
    await dialog.waitFor({ state: "hidden" });
    assert.ok(await kick.evaluate((button) => button === document.activeElement));
    assert.equal(await ann.page.evaluate(() => rtcade.room.status), "open");
    await kick.click();
    await dialog.getByRole("textbox").fill("Be kind.");
    await dialog.getByRole("button", { name: "Kick" }).click();
    await told(page, "The player was removed.");
    await ann.page.locator("#notice").filter({ hasText: "Be kind." }).waitFor();
    await kick.waitFor({ state: "detached" });
    assert.equal(await ann.page.locator("#notice h2").innerText(), "You were removed from the game");
  });

  test("says in the dialog why an action is refused", async () => {
    const { page } = operator;
    await page.getByRole("button", { name: `Kick ${await nameOf(ben.page)}` }).click();
    await page.route("**/kick", (route) => route.fulfill({ status: 404, body: "There is no such player." }));
    await page.getByRole("dialog").getByRole("button", { name: "Kick" }).click();
    const alert = page.getByRole("dialog").getByRole("alert");
    await until("the sentence", () => alert.innerText(), (text) => text === "There is no such player.");
    await page.unroute("**/kick");
    await page.getByRole("button", { name: "Cancel" }).click();
  });

  test("closes a room, whose players join a new one", async () => {
    const { page } = operator;
    await ben.page.evaluate(() => rtcade.room.on("rejoin", () => (globalThis.hasRejoined = true)));
    await page.getByRole("button", { name: "Close the room" }).click();
    await page.getByRole("dialog").getByRole("textbox").fill("It is late.");
    await page.getByRole("dialog").getByRole("button", { name: "Close the room" }).click();
    await told(page, "The room was closed.");
    await page.getByRole("heading", { name: "Rooms" }).waitFor();
    await until("another room", () => ben.page.evaluate(() => globalThis.hasRejoined));
    await ben.page.context().close();
    await page.goto(`${address}#room/nothing`);
    await until("a sentence", () => page.locator("#room-gone").innerText(), (text) => text === "There is no such room.");
  });

  test("has no view of a cluster if there is none", async () => {
    const { page } = operator;
    assert.equal(await page.getByRole("link", { name: "Cluster" }).isVisible(), false);
    await page.evaluate(() => (location.hash = "cluster"));
    const sentence = "The server is not a node of a cluster: start it with --redis URL.";
    await until("the sentence", () => page.locator("#cluster-gone").innerText(), (text) => text === sentence);
    await page.getByRole("link", { name: "Rooms" }).click();
  });

  test("switches recording, and saves recordings", async () => {
    const { page } = operator;
    const record = page.getByRole("switch", { name: /^Record/ });
    await page.getByRole("link", { name: "Recordings" }).click();
    await until("the switch to be on", () => record.isChecked());
    await record.click();
    await told(page, "Rooms that open from now on are not recorded.");
    const { page: unrecorded } = await openPage(browser, `${server.url}r/unrecorded`);
    await playing(unrecorded, "webrtc");
    await unrecorded.context().close();
    const files = await readdir(directory);
    assert.ok(files.length > 0 && files.every((name) => name.startsWith("lobby-")), files.join());
    const [closed] = files.sort();
    const row = page.getByRole("row", { name: closed });
    await until("an end of the recording", () => row.getByText("running").isVisible(), (isRunning) => !isRunning);
    const saved = await download(page, () => row.getByRole("button", { name: `Save ${closed}` }).click());
    assert.equal(saved.name, closed);
    assert.deepEqual(saved.content, await readFile(join(directory, closed)));
    assert.equal(await record.isChecked(), false);
    await record.click();
    await told(page, "Rooms that open from now on are recorded.");
  });

  test("takes a profile, and saves it, and the trace of the loop", async () => {
    const { page } = operator;
    await page.getByRole("link", { name: "Diagnostics" }).click();
    await until("figures of the memory", () => page.locator("#memory").innerText(), (text) => /: \d+ \([\d.]+ MB\)/.test(text));
    await page.getByLabel("Seconds").fill("1");
    await page.getByRole("button", { name: "Start" }).click();
    const note = page.locator("#profile-note");
    await until("a profile", () => note.innerText(), (text) => text.startsWith("The profile is ready: "));
    const profile = await download(page, () => page.getByRole("button", { name: "Save the last profile" }).click());
    assert.match(profile.name, /^profile-\d{8}T\d{6}Z\.folded$/);
    assert.match(`${profile.content}\n`, /^(\S.* \d+\n)*\n?$/);
    const trace = await download(page, () => page.getByRole("button", { name: "Save the loop trace" }).click());
    assert.ok(JSON.parse(trace.content), trace.name);
  });

  test("says what a reload can't use, or that it is done", async () => {
    const { page } = operator;
    await page.getByRole("link", { name: "Rooms" }).click();
    await page.getByRole("button", { name: "Reload configuration" }).click();
    await until("an outcome", () => page.locator("#told p").innerText(), (text) => text.endsWith("."));
    await page.locator("#told").getByRole("button", { name: "OK" }).click();
  });

  test("shows who has done what", async () => {
    const { page } = operator;
    await page.getByRole("link", { name: "Audit log" }).click();
    const table = page.getByRole("table", { name: "Audit log" });
    await table.waitFor();
    const actions = await table.locator("tbody tr td:nth-child(2)").allInnerTexts();
    for (const action of ["message", "kick", "close", "profile"]) assert.ok(actions.includes(action), actions.join());
    assert.match(await table.innerText(), /Be kind\./);
    assert.deepEqual(operator.errors.filter((error) => !/status of (401|404|409)/.test(error)), []);
  });
});

describe("the admin page, whatever the server answers", () => {
  let browser, server, address, page, errors, answers;

  before(async () => {
    browser = await launchBrowser();
    ({ server, address } = await startAdministered());
    const { page: player } = await openPage(browser, `${server.url}r/lobby`);
    await playing(player, "webrtc");
    const read = async (path) => (await fetch(`${address}api/${path}`, { headers: { authorization: `Bearer ${TOKEN}` } })).json();
    const [overview, [room], lobby] = await Promise.all(["overview", "rooms", "rooms/lobby"].map(read));
    const people = HOSTILE.map((name, index) => ({ ...lobby.people[0], name, player: index + 1, socketId: `${index}` }));
    const entities = Array.from({ length: 4_000 }, (_, id) => ({ id, at: [id, 0], name: HOSTILE[id % HOSTILE.length].slice(0, 30) }));
    answers = {
      overview: { ...overview, rooms: 1_000, game: HOSTILE[0] },
      rooms: Array.from({ length: 1_000 }, (_, index) => ({
        ...room, name: `room-${index}`, maxPlayers: 16, title: HOSTILE[index % HOSTILE.length], players: index % 17, tickUs: (index * 7_919) % 40_000,
      })),
      "rooms/room-0": { ...lobby, name: "room-0", title: HOSTILE[3], people, state: { tick: 1, bytes: 300_000, value: { [HOSTILE[0]]: HOSTILE[0], entities } } },
    };
  });

  after(async () => {
    await browser?.close();
    await server?.stop();
  });

  /** Opens the page at `fragment` as on `screen`, with `answers` instead of those of the server. */
  async function open(screen, fragment = "") {
    ({ page, errors } = await openPage(browser, "about:blank", { ...SCREENS[screen], colorScheme: "dark" }));
    await page.route("**/api/**", (route) => {
      const answer = answers[new URL(route.request().url()).pathname.slice("/api/".length)];
      return answer ? route.fulfill({ json: answer }) : route.continue();
    });
    await page.goto(`${address}#token=${TOKEN}`);
    await page.getByRole("heading", { name: "Rooms" }).waitFor();
    if (fragment) await page.evaluate((fragment) => (location.hash = fragment), fragment);
  }

  async function assertHarmless() {
    assert.equal(await page.locator("img, script[src]").count(), 0);
    assert.deepEqual(errors, []);
    const [width, shown] = await page.evaluate(() => [document.documentElement.scrollWidth, innerWidth]);
    assert.ok(width <= shown, `${width} pixels in a window of ${shown}`);
  }

  const firstNames = () => page.locator("tbody th a").evaluateAll((links) => links.slice(0, 3).map(({ textContent }) => textContent));

  test("shows 200 of 1,000 rooms, sorted and filtered, and changes them in place", async () => {
    await open("desktop");
    const rows = page.locator("#view-rooms tbody tr"), note = page.locator("#rooms-note");
    await rows.first().waitFor();
    assert.equal(await rows.count(), ROWS);
    assert.match(await note.innerText(), /^1,000 rooms\. The first 200 are shown, 800 more are not/);
    assert.deepEqual(await firstNames(), ["room-0", "room-1", "room-2"]);
    await rows.evaluateAll((rows) => rows.forEach((row) => (row.isOld = true)));
    for (const room of answers.rooms) room.players += 1;
    await until("new values", () => rows.first().innerText(), (text) => /\b1 \/ 16/.test(text));
    assert.ok(await rows.evaluateAll((rows) => rows.every((row) => row.isOld)), "no row was made anew");
    await page.getByRole("button", { name: "Tick cost" }).click();
    const costliest = answers.rooms.toSorted((a, b) => b.tickUs - a.tickUs).slice(0, 3).map(({ name }) => name);
    assert.deepEqual(await firstNames(), costliest);
    assert.equal(await page.getByRole("columnheader", { name: "Tick cost" }).getAttribute("aria-sort"), "descending");
    await page.getByRole("searchbox", { name: "Filter by name" }).fill("Room-99");
    assert.match(await note.innerText(), /^11 rooms of 1,000\.$/);
    assert.equal(await rows.count(), 11);
    await page.getByRole("searchbox", { name: "Filter by name" }).fill("nonsense");
    assert.equal(await note.innerText(), "No room has such a name.");
    await assertHarmless();
    await page.context().close();
  });

  test("shows a part of a large state, and more when asked", async () => {
    await open("desktop", "#room/room-0");
    const tree = page.locator("#state");
    await tree.locator("summary", { hasText: "entities" }).click();
    const entries = tree.locator("details details > div > div");
    await entries.nth(99).waitFor();
    assert.equal(await entries.count(), 100);
    await tree.getByRole("button", { name: "3,900 more are not shown" }).click();
    await entries.nth(199).waitFor();
    await tree.locator("summary", { hasText: "3:" }).first().click();
    await sleep(POLLS_MS);
    assert.equal(await tree.locator("details[open]").count(), 3, "what was opened stays open");
    const saved = await download(page, () => page.getByRole("button", { name: "Save as JSON" }).click());
    assert.deepEqual(JSON.parse(saved.content), answers["rooms/room-0"].state.value);
    await assertHarmless();
    await page.context().close();
  });

  test("fits on a phone", async () => {
    await open("upright");
    await page.getByRole("link", { name: "room-0", exact: true }).waitFor();
    await assertHarmless();
    await screenshot(page, "admin-rooms-upright");
    await page.getByRole("link", { name: "room-0", exact: true }).click();
    await page.locator("#view-room tbody tr").nth(HOSTILE.length - 1).waitFor();
    await page.locator("#state summary", { hasText: "entities" }).click();
    await assertHarmless();
    await screenshot(page, "admin-room-upright");
    await page.locator("#view-room").getByRole("button", { name: "Kick W" }).click();
    await page.getByRole("dialog").waitFor();
    await assertHarmless();
    await screenshot(page, "admin-kick-upright");
    await page.keyboard.press("Escape");
    for (const view of ["Recordings", "Diagnostics", "Audit log"]) {
      await page.getByRole("link", { name: view }).click();
      await page.getByRole("heading", { name: view }).waitFor();
      await assertHarmless();
    }
    await page.context().close();
  });

  test("says that answers fail or stay out, asks one at a time, and not while it is hidden", async () => {
    await open("desktop");
    await page.getByRole("link", { name: "room-0", exact: true }).waitFor();
    const trouble = page.locator("#trouble");
    const isOverview = (url) => url.pathname === "/api/overview";
    await page.route(isOverview, (route) => route.fulfill({ status: 500, body: "The server has an error." }));
    await until("the sentence", () => trouble.innerText(), (text) => text.startsWith("The server has an error."));
    await page.unroute(isOverview);
    await until("none", () => trouble.isVisible(), (isVisible) => !isVisible);

    let pending = 0, most = 0, asked = 0;
    page.on("requestfailed", () => pending--);
    await page.route(isOverview, () => {
      asked++;
      most = Math.max(most, ++pending);
    });
    await until("the sentence", () => trouble.innerText(), (text) => text.startsWith("The server does not answer."));
    await until("a second question", async () => asked, (count) => count >= 2);
    assert.equal(most, 1);
    await page.unroute(isOverview);
    await until("none", () => trouble.isVisible(), (isVisible) => !isVisible);

    let requests = 0;
    const hide = (isHidden) =>
      page.evaluate((isHidden) => {
        Object.defineProperty(document, "hidden", { configurable: true, value: isHidden });
        document.dispatchEvent(new Event("visibilitychange"));
      }, isHidden);
    await hide(true);
    page.on("request", () => requests++);
    await sleep(POLLS_MS);
    assert.equal(requests, 0);
    await hide(false);
    await until("requests", async () => requests);
    await page.context().close();
  });
});

test("the admin page drains its server, and players see how long is left", async (t) => {
  const browser = await launchBrowser();
  t.after(() => browser.close());
  const { server, address } = await startAdministered();
  t.after(server.kill);
  const { page: player } = await openPage(browser, `${server.url}r/lobby`);
  await playing(player, "webrtc");
  const { page } = await openPage(browser, `${address}#token=${TOKEN}`);
  await page.getByRole("button", { name: "Drain" }).click();
  await page.getByRole("dialog").getByLabel("Seconds").fill("4");
  await page.getByRole("dialog").getByRole("button", { name: "Drain" }).click();
  await told(page, /^The server stops at /);
  await page.getByText("The server is draining: nobody new gets in.").waitFor();
  await page.getByText(/^It stops in \d s\.$/).waitFor();
  await player.locator("#notice").filter({ hasText: /The server stops in \d s\./ }).waitFor();
  await until("the end", () => page.locator("#trouble").innerText(), (text) => text.startsWith("The server cannot be reached."));
  assert.equal(await server.stop(), 0);
});

test("the admin page shows the nodes of a cluster, and that one is gone or Redis is away", async (t) => {
  const redis = await startRedis();
  if (!redis) return t.skip(NO_REDIS);
  t.after(redis.stop);
  const browser = await launchBrowser();
  t.after(() => browser.close());
  const common = ["--redis", redis.url, "--cluster", "admin"];
  const { server: alpha, address } = await startAdministered([...common, "--node", "alpha", "--region", "here"]);
  t.after(alpha.kill);
  const longest = "b".repeat(64);
  const beta = await startServer([...common, "--node", longest]);
  t.after(beta.kill);
  const players = [await openPage(browser, `${beta.url}r/shared`)];
  await playing(players[0].page, "webrtc");
  players.push(await openPage(browser, `${alpha.url}r/shared`));
  await playing(players[1].page, "webrtc");

  const { page, errors } = await openPage(browser, `${address}#token=${TOKEN}`, SCREENS.desktop);
  const { page: phone, errors: errorsOfPhone } = await openPage(browser, `${address}#token=${TOKEN}`, SCREENS.upright);
  for (const screen of [page, phone]) await screen.getByRole("link", { name: "Cluster" }).click();
  const figures = () => page.locator("#cluster-figures").innerText();
  await until("rooms and players of the cluster", figures, (text) => /Rooms\n1\n[^]*Players\n2\n/.test(text));
  assert.match(await figures(), /This node\nalpha\nreaches the store\nNodes\n2\n[^]*Sent elsewhere\n1\n/);
  const row = (name) => page.getByRole("table", { name: "Nodes" }).getByRole("row", { name });
  const ofAlpha = /alpha\s+ws:\S+:\d+\s+open\s+[\d.]+ %\s+of one core\s+0\s+0\s+\d+ s\s+ends in \d\.\d s\s+here/;
  assert.match(await row("alpha").innerText(), ofAlpha);
  assert.match(await row(longest).innerText(), /open\s+[\d.]+ %\s+of one core\s+1\s+2\s/);
  const moves = page.getByRole("table", { name: "Last moves" });
  assert.match(await moves.innerText(), new RegExp(`shared\\s+a client was sent to ${longest}`));
  await page.getByRole("searchbox", { name: "Filter nodes" }).fill("alp");
  assert.equal(await row(longest).count(), 0);
  await page.getByRole("searchbox", { name: "Filter nodes" }).fill("");
  const fits = async (screen, name) => {
    const [width, shown] = await screen.evaluate(() => [document.documentElement.scrollWidth, innerWidth]);
    assert.ok(width <= shown, `${width} pixels in a window of ${shown}`);
    const cells = screen.locator("#view-cluster :is(th, td):visible");
    const tooLong = (all) => all.filter((cell) => cell.scrollWidth > cell.clientWidth).map(({ innerText }) => innerText);
    assert.deepEqual(await cells.evaluateAll(tooLong), [], `${name}: texts that stick out of their cells`);
    await screenshot(screen, name);
  };
  await fits(page, "admin-cluster");
  await fits(phone, "admin-cluster-upright");

  await beta.kill();
  await until("a silent node", () => row(longest).innerText(), (text) => /silent\s[^]*has ended/.test(text));
  await until("its rooms are not counted", figures, (text) => /Nodes\n2\n/.test(text) && !/Players\n2\n/.test(text));
  await fits(page, "admin-cluster-silent");
  await redis.kill();
  const gone = page.locator("#cluster-gone");
  await until("the sentence", () => gone.innerText(), (text) => text.startsWith("The store of the cluster does not"));
  assert.match(await figures(), /alpha\ndoes not reach the store\nNodes\n–/);
  await phone.getByText("The store of the cluster does not answer").waitFor();
  await fits(page, "admin-cluster-away");
  await fits(phone, "admin-cluster-away-upright");
  assert.deepEqual([...errors, ...errorsOfPhone], []);
});

async function startAdministered(args = []) {
  const server = await startServer([...args, "--admin", "127.0.0.1:0"], { env: { ...process.env, RTCADE_ADMIN__TOKEN: TOKEN } });
  const [, address] = await until("the address of the page", async () => server.output.match(/administer it at (http:\S+)/));
  return { server, address };
}

async function signIn(page, token) {
  await page.getByLabel(/token of this server/).fill(token);
  await page.getByRole("button", { name: "Sign in" }).click();
}

const nameOf = (page) => page.evaluate(() => document.querySelector("#name").value);

/** Waits until the page has told `sentence`, as a status. */
function told(page, sentence) {
  const isIt = (text) => (typeof sentence === "string" ? text === sentence : sentence.test(text));
  return until(`"${sentence}"`, () => page.locator("#told [role=status]").innerText(), isIt);
}

async function download(page, start) {
  const [saved] = await Promise.all([page.waitForEvent("download"), start()]);
  return { name: saved.suggestedFilename(), content: await readFile(await saved.path()) };
}
