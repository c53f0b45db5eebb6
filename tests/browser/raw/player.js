// A player without the client of this repository: signaling, one data channel, and inputs that are sent once each, so
// that what the channel loses shows. Runs in pages, and in Node with whatever WebRTC stack it is given.

const INPUT = 1;
const INPUT_EVERY_MS = 16;
const JOIN_MS = 15_000;

/**
 * Joins `room` of the server at `url`, and offers a data channel if `channelOptions` says which.
 *
 * Resolves when the server has replied; the channel may not have opened by then. Rejects if it refuses, or takes 15 s.
 */
export async function join(url, room, channelOptions, { WebSocket, RTCPeerConnection, configuration } = globalThis) {
  const frames = [];
  const events = [];
  const clock = () => performance.timeOrigin + performance.now();
  const note = (via, data) => frames.push({ via, at: clock(), bytes: Array.from(new Uint8Array(data)) });

  let pc, channel;
  if (channelOptions) {
    pc = new RTCPeerConnection(configuration);
    channel = pc.createDataChannel("x", channelOptions);
    channel.binaryType = "arraybuffer";
    channel.onmessage = ({ data }) => note("channel", data);
    await pc.setLocalDescription(await pc.createOffer());
  }

  const socket = new WebSocket(new URL("/api", url.replace(/^http/, "ws")).href);
  socket.binaryType = "arraybuffer";
  const reply = await new Promise((resolve, reject) => {
    const late = setTimeout(() => reject(new Error("no reply to join")), JOIN_MS);
    const request = { a: "join", d: { roomId: room, sdp: pc?.localDescription.sdp } };
    socket.onopen = () => socket.send(JSON.stringify(request));
    socket.onclose = ({ code, reason }) => reject(new Error(`the websocket closed: ${code} ${reason}`));
    socket.onmessage = ({ data }) => {
      if (typeof data !== "string") return note("websocket", data);
      const message = JSON.parse(data);
      if (message.a !== "joinR") return events.push(message);
      clearTimeout(late);
      if (message.s && !message.d.sdpError) resolve(message.d);
      else reject(new Error(data));
    };
  });
  await pc?.setRemoteDescription({ type: "answer", sdp: reply.sdp });

  const sentAt = [];
  function sendInput() {
    const sent = sentAt.length;
    const number = reply.inputSeq + sent;
    // Kind, seq, ack 0; then in msgpack the number as u32, the one input, nil, and the tick seen: [number, [nil], 0].
    const header = [INPUT, sent & 0xff, sent >> 8, 0, 0];
    const body = [0x93, 0xce, number >>> 24, number >>> 16, number >>> 8, number, 0x91, 0xc0, 0];
    channel.send(Uint8Array.from([...header, ...body]));
    sentAt.push(clock());
  }

  return {
    pc,
    channel,
    socket,

    /** Sends inputs over the channel for so long. */
    async play(ms) {
      for (const end = performance.now() + ms; performance.now() < end; ) {
        sendInput();
        await new Promise((resolve) => setTimeout(resolve, INPUT_EVERY_MS));
      }
    },

    /** All that has happened so far. `frames` are as they came, with `via` what and the time; inputs left `sentAt`. */
    record: () => ({
      me: reply.player,
      firstInput: reply.inputSeq,
      sent: sentAt.length,
      sentAt: [...sentAt],
      channel: channel?.readyState,
      frames: [...frames],
      events: [...events],
    }),
  };
}
