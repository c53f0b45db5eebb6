// Chromium behind a router that maps its address learns the mapped one from the server that a reply to join names.

import assert from "node:assert/strict";
import { createSocket } from "node:dgram";
import { once } from "node:events";
import { networkInterfaces } from "node:os";
import { test } from "node:test";
import { launchBrowser, openPage, playing, startServer, until } from "./harness.mjs";

/** Chromium gathers no candidates on loopback. */
const addresses = Object.values(networkInterfaces()).flat();
const host = addresses.find(({ family, internal }) => family === "IPv4" && !internal)?.address;

/** Forwards each datagram to `stun` from one other socket, and the responses back, as a router with NAT does. */
async function nat(stun) {
  const [port, ip] = [stun.match(/:(\d+)$/)[1], stun.match(/^stun:(.*):/)[1]];
  const [near, far] = [createSocket("udp4"), createSocket("udp4")];
  let inside;
  near.on("message", (bytes, from) => {
    inside = from;
    far.send(bytes, Number(port), ip);
  });
  far.on("message", (bytes) => near.send(bytes, inside.port, inside.address));
  for (const socket of [near, far]) {
    socket.bind(0, host);
    await once(socket, "listening");
  }
  const close = () => [near, far].forEach((socket) => socket.close());
  return { url: `stun:${host}:${near.address().port}`, mapped: far.address(), close };
}

test("Chromium gathers a server-reflexive candidate", { skip: !host && "no address but loopback" }, async (t) => {
  const server = await startServer(["--game", "relay"], { host });
  t.after(() => server.stop());
  const browser = await launchBrowser();
  t.after(() => browser.close());
  const { page } = await openPage(browser, server.url);
  await playing(page, "webrtc");
  const iceServers = await page.evaluate(
    () =>
      new Promise((resolve, reject) => {
        const socket = new WebSocket(`ws://${location.host}/api`);
        socket.onopen = () => socket.send(JSON.stringify({ a: "join", d: { roomId: "stun" } }));
        socket.onerror = () => reject(new Error("no websocket"));
        socket.onmessage = ({ data }) => typeof data === "string" && resolve(JSON.parse(data).d.iceServers);
      }),
  );
  const { url, mapped, close } = await nat(iceServers[0].urls);
  t.after(close);
  await page.evaluate((urls) => {
    globalThis.candidates = [];
    globalThis.stun = new RTCPeerConnection({ iceServers: [{ urls }] });
    stun.onicecandidate = ({ candidate }) => candidate && candidates.push(candidate.candidate);
    stun.createDataChannel("x");
    stun.createOffer().then((offer) => stun.setLocalDescription(offer));
  }, url);
  const candidate = await until(
    "a server-reflexive candidate",
    () => page.evaluate(() => candidates.find((candidate) => candidate.includes("typ srflx"))),
  );
  assert.ok(candidate.includes(` ${mapped.address} ${mapped.port} typ srflx`), candidate);
});
