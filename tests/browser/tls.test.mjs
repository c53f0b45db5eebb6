import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { X509Certificate } from "node:crypto";
import { copyFile, mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { promisify } from "node:util";
import { connection, launchBrowser, openPage, playing, serverProgram, startServer, until } from "./harness.mjs";

const TRUSTING = { ignoreHTTPSErrors: true };

describe("a page that came over https", () => {
  let directory, live, certificates, server, browser, ann;

  before(async () => {
    directory = await mkdtemp(join(tmpdir(), "rtcade-tls-"));
    live = join(directory, "live.pem");
    certificates = [await makeCertificate("first"), await makeCertificate("second")];
    await copyFile(certificates[0].file, live);
    server = await startServer(["--tls-cert", live, "--tls-key", live]);
    browser = await launchBrowser();
    ann = await openPage(browser, `${server.url}r/lobby`, TRUSTING);
  });

  after(async () => {
    await browser?.close();
    await server?.stop();
    await rm(directory, { recursive: true, force: true });
  });

  /** A certificate for development in a file with its key, and its fingerprint. */
  async function makeCertificate(name) {
    const cache = join(directory, name);
    const env = { ...process.env, XDG_CACHE_HOME: cache };
    await promisify(execFile)(serverProgram(), ["doctor", "--tls-dev", "--listen", "127.0.0.1:0"], { env });
    const file = join(cache, "rtcade", "development.pem");
    const pem = await readFile(file, "utf8");
    return { file, fingerprint: new X509Certificate(pem.slice(pem.indexOf("-----BEGIN CERTIFICATE"))).fingerprint256 };
  }

  /** The fingerprint of the certificate with which the page came. */
  async function fingerprint({ page }) {
    const session = await page.context().newCDPSession(page);
    const state = new Promise((resolve) => session.once("Security.visibleSecurityStateChanged", resolve));
    await session.send("Security.enable");
    const { certificate } = (await state).visibleSecurityState.certificateSecurityState;
    await session.detach();
    return new X509Certificate(Buffer.from(certificate[0], "base64")).fingerprint256;
  }

  const openChannels = (page) =>
    page.evaluate(() => channels.filter(({ channel }) => channel.readyState === "open").map(({ received }) => received));

  test("plays over its data channel, and wss beside it", async () => {
    assert.match(server.url, /^https:/);
    await playing(ann.page, "webrtc");
    assert.equal(await fingerprint(ann), certificates[0].fingerprint);
    assert.equal((await openChannels(ann.page)).length, 1);
  });

  test("plays on while the certificate is replaced, and later pages get the new one", async () => {
    const { me } = await connection(ann.page);
    const [before] = await openChannels(ann.page);
    await copyFile(certificates[1].file, live);
    server.signal("SIGHUP");
    await until("the certificate to be read", async () => server.output, (output) => output.includes("was read again"));

    const ben = await openPage(browser, `${server.url}r/lobby`, TRUSTING);
    await playing(ben.page, "webrtc");
    assert.equal(await fingerprint(ben), certificates[1].fingerprint);

    const [received, ...others] = await until(
      "more states over the same channel",
      () => openChannels(ann.page),
      ([received]) => received > before + 30,
    );
    assert.ok(received > before);
    assert.deepEqual(others, []);
    const now = await connection(ann.page);
    assert.deepEqual([now.me, now.status, now.transport], [me, "open", "webrtc"]);
    assert.equal(await ann.page.evaluate(() => channels.length), 1, "the channel is the first");
    assert.deepEqual([...ann.errors, ...ben.errors], []);
  });

  test("is reached from http, too", async () => {
    const { page, errors } = await openPage(browser, `${server.url.replace("https:", "http:")}r/lobby`, TRUSTING);
    assert.equal(page.url(), `${server.url}r/lobby`);
    await playing(page, "webrtc");
    assert.deepEqual(errors, []);
  });
});
