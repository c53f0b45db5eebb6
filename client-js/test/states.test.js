import assert from "node:assert/strict";
import { test } from "node:test";
import { decode, encode, WireError } from "../src/msgpack.js";
import { createStates } from "../src/states.js";
import { fromHex, randomBytes, toHex, vectors } from "./vectors.js";

const { restored, refused, acknowledged } = vectors("delta");

/** As lanes do it: a state that can be read, and is newer than those before, is kept. */
function receive(states, body) {
  const whole = states.restore(body);
  const [tick] = decode(whole, 17, whole.length);
  states.keep(tick);
  return whole;
}
function holding(held) {
  const states = createStates(0);
  for (const body of held) receive(states, fromHex(body));
  return states;
}

for (const { name, held, delta, body } of restored) {
  test(`restores: ${name}`, () => assert.equal(toHex(receive(holding(held), fromHex(delta))), body));
}

for (const { name, held, delta } of refused) {
  test(`gives no state: ${name}`, () => {
    const states = holding(held);
    const before = states.acknowledgement();
    assert.throws(() => receive(states, fromHex(delta)), WireError);
    assert.equal(states.acknowledgement(), before);
  });
}

for (const { name, joined, ticks, ack } of acknowledged) {
  test(`acknowledges: ${name}`, () => {
    const states = createStates(joined);
    let newest;
    for (const tick of ticks) {
      states.restore(Uint8Array.from(encode([tick, null], 8)));
      // Lanes keep no late ones; the first may be any.
      if (newest === undefined || tick > newest) states.keep((newest = tick));
    }
    assert.equal(states.acknowledgement(), ack);
  });
}

test("what is kept is not what the next body is restored into", () => {
  const { held, delta, body } = restored.find(({ name }) => name === "only the tick has changed");
  const states = holding(held);
  const message = fromHex(delta);
  receive(states, message);
  message.fill(0xff);
  // Against the first and then against the second, neither of which has changed.
  for (const n of [1, 2]) assert.equal(toHex(states.restore(fromHex(delta))), body, `${n}`);
});

test("random operations give a state or a WireError, nothing else", () => {
  const { held, delta } = restored[0];
  const states = holding(held);
  for (let seed = 1; seed <= 20_000; seed++) {
    const random = randomBytes(seed);
    const bytes = Uint8Array.from([...fromHex(delta).subarray(0, 6), ...random.bytes(random.below(40))]);
    try {
      states.restore(bytes);
    } catch (error) {
      assert.ok(error instanceof WireError, `seed ${seed}: ${error.stack}`);
    }
  }
});
