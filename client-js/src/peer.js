import { channelError } from "./error.js";
import { CHANNEL_BACKLOG, CHANNEL_SILENCE, STAGE_TIMEOUT } from "./limits.js";

/** The peer connection to the server and its one unreliable data channel. Throws where there is no WebRTC. */
export function createPeer({ RTCPeerConnection, setTimeout, clearTimeout, now }) {
  const pc = new RTCPeerConnection({ iceServers: [] });
  let channel;
  try {
    channel = pc.createDataChannel("rtcade", { negotiated: true, id: 0, ordered: false, maxRetransmits: 0 });
  } catch (error) {
    pc.close();
    throw error;
  }
  channel.binaryType = "arraybuffer";
  let stage = null;
  let timer;
  let heardAt;

  const isOpen = () => stage === "open" && channel.readyState === "open";
  const close = () => {
    clearTimeout(timer);
    stage = null;
    channel.onopen = channel.onmessage = channel.onclose = null;
    pc.oniceconnectionstatechange = pc.onconnectionstatechange = null;
    pc.close();
  };

  return {
    isOpen,
    /** Whether it is open and has brought something within `ms`. */
    isAlive: (ms = CHANNEL_SILENCE) => isOpen() && now() - heardAt < ms,
    close,

    /** The offer. Candidates are not awaited: the server learns the address from the first packet. */
    async offer() {
      await pc.setLocalDescription(await pc.createOffer());
      return pc.localDescription.sdp;
    },

    /**
     * Takes the server's answer and opens the channel, each stage within its time. `onFail` gets `(stage, code)`, and
     * whatever sentence the server had, by way of `fail`.
     */
    accept(sdp, onOpen, onMessage, onFail) {
      const fail = (failed, code, sentence) => {
        if (stage === null) return;
        close();
        onFail(failed, code, sentence);
      };
      this.fail = fail;
      const enter = (entered) => {
        stage = entered;
        clearTimeout(timer);
        if (STAGE_TIMEOUT[stage]) timer = setTimeout(() => fail(entered, "timeout"), STAGE_TIMEOUT[stage]);
      };
      pc.oniceconnectionstatechange = pc.onconnectionstatechange = () => {
        const { iceConnectionState: ice, connectionState: all } = pc;
        if (ice === "failed") fail("ice", "unreachable");
        else if (all === "failed") fail("dtls", "unreachable");
        else {
          if (stage === "ice" && (ice === "connected" || ice === "completed")) enter("dtls");
          if (stage === "dtls" && all === "connected") enter("channel");
        }
      };
      channel.onopen = () => {
        enter("open");
        heardAt = now();
        onOpen();
      };
      channel.onmessage = (message) => {
        heardAt = now();
        onMessage(message);
      };
      channel.onclose = () => fail("channel", "unreachable");
      enter("ice");
      (async () => pc.setRemoteDescription({ type: "answer", sdp }))().catch(() => fail("ice", "bad_sdp"));
    },

    /** False where the channel backs up: what can't leave now would arrive late. */
    send(bytes) {
      if (channel.bufferedAmount > CHANNEL_BACKLOG) return false;
      try {
        channel.send(bytes);
        return true;
      } catch {
        return false;
      }
    },
  };
}

/**
 * Makes a peer and its offer, or says why there is none: `result` becomes `{peer, sdp}` or, after `patience` at the latest,
 * `{obstacle}`, and never rejects. `cancel` ends it, with the peer that it has given.
 */
export function prepareOffer(env, patience) {
  let peer;
  let timer;
  const cancel = () => {
    env.clearTimeout(timer);
    peer?.close();
  };
  const result = new Promise((resolve) => {
    const giveUp = (code) => {
      cancel();
      resolve({ obstacle: channelError("ice", code) });
    };
    try {
      peer = createPeer(env);
    } catch {
      return giveUp(env.RTCPeerConnection ? "offer" : "unsupported");
    }
    timer = env.setTimeout(() => giveUp("offer"), patience);
    peer.offer().then(
      (sdp) => {
        env.clearTimeout(timer);
        resolve({ peer, sdp });
      },
      () => giveUp("offer"),
    );
  });
  return { result, cancel };
}
