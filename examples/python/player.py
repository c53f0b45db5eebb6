"""Plays without a browser: joins a room of the stock game `arena`, opens the data channel, steers, and prints states.

    python player.py http://127.0.0.1:8080/r/lobby

`Player` and `States` know nothing of the game and may be used for another one. The specification that they follow is
docs/src/protocol.md.
"""

import argparse
import asyncio
import json
import math
import struct
import time
import zlib

import google_crc32c
import msgpack
import websockets
from aiortc import RTCConfiguration, RTCPeerConnection, RTCSessionDescription

# Byte 0 of a frame: bits 7-6 are the version, 0; then two flags; bits 3-0 are the kind.
DEFLATED, PART = 0x20, 0x10
INPUT, PING, PONG, STATE, RELIABLE_EVENT, ACK = 1, 2, 3, 4, 9, 10

INPUT_WINDOW = 8
STATE_HISTORY = 32
STATE_BODY_BYTES = 16 * 1024 + 8
DELTA, BYTE_WISE = 0xC1, 1
# Numbers of frames and inputs are sent modulo this.
WRAP = 1 << 16


class States:
    """The states received: the server sends the difference from one of them."""

    def __init__(self, joined_at):
        self._held = {}
        self._newest = joined_at - 1
        self._before = 0

    def restore(self, body):
        """Gives the whole body of a state. Raises ValueError if it can't be restored: the state is to be dropped."""
        if body[0] != DELTA:
            return body
        codec, baseline, check = struct.unpack_from("<xBHH", body)
        source = self._held.get(baseline)
        if codec != BYTE_WISE or source is None:
            raise ValueError("the baseline of the delta is missing")
        rest = iter(body[6:])
        whole = bytearray()
        at = 0
        for operation in rest:
            copy = operation >> 4
            insert = operation >> 1 & 7
            copy += varint(rest) if copy == 15 else 0
            insert += varint(rest) if insert == 7 else 0
            skip = varint(rest) if operation & 1 else 0
            if copy and not 0 <= at <= len(source) - copy or len(whole) + copy + insert > STATE_BODY_BYTES:
                raise ValueError("the delta copies what is not there")
            whole += source[at : at + copy] if copy else b""
            whole += bytes(next_byte(rest) for _ in range(insert))
            at += copy + insert + (skip >> 1 ^ -(skip & 1))
        if google_crc32c.value(bytes(whole)) & 0xFFFF != check:
            raise ValueError("the delta does not fit its baseline")
        return bytes(whole)

    def keep(self, tick, body):
        """Keeps the state of `tick`, which is newer than those before."""
        ahead = tick - self._newest
        self._before = (self._before << 1 | 1) << ahead - 1 & 0x3F if self._held and ahead <= 6 else 0
        self._newest = tick
        self._held[tick % WRAP] = body
        while len(self._held) > STATE_HISTORY:
            del self._held[next(iter(self._held))]

    def received(self):
        """What each frame to the server says of the states received: the newest, and which of the six before it."""
        return self._newest & 0x3FF | self._before << 10


def next_byte(rest):
    byte = next(rest, None)
    if byte is None:
        raise ValueError("the delta ends early")
    return byte


def varint(rest):
    number = 0
    for shift in (0, 7, 14):
        byte = next_byte(rest)
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number
    raise ValueError("a number of the delta is too long")


class Player:
    """A session in a room."""

    def __init__(self, websocket, peer, channel, reply):
        self.me = reply["player"]
        self.tick_seconds = reply["tickMs"] / 1000
        self.tick = None
        self.state = None
        self.states = {"data channel": 0, "websocket": 0}

        self._websocket = websocket
        self._peer = peer
        self._channel = channel
        self._states = States(reply["tick"])
        self._frames_sent = 0
        self._next_input = reply["inputSeq"]
        self._pending = []  # (number, input, stamp) of what is not acknowledged, oldest first
        self._parts = (None, {})
        self._reliable_received = 0
        self._over_channel = False
        self._to_websocket = asyncio.Queue()

    async def run(self):
        """Handles what arrives until the websocket is closed: text is signaling, binary messages are frames."""
        self._channel.on("message", lambda frame: self._take(frame, "data channel"))
        sender = asyncio.create_task(self._send_to_websocket())
        try:
            async for message in self._websocket:
                if isinstance(message, str):
                    self._take_signal(json.loads(message))
                else:
                    self._take(message, "websocket")
        finally:
            sender.cancel()
            await self._peer.close()

    def send(self, value):
        """Sends an input, again with the unacknowledged ones before it, so that a lost frame costs no input."""
        seen = 16 * (self.tick or 0) % WRAP  # which tick the player sees, in sixteenths: here the newest
        self._pending = [*self._pending, (self._next_input, value, seen)][-INPUT_WINDOW:]
        self._next_input += 1
        numbers, values, stamps = zip(*reversed(self._pending))
        # How much older each one is than the one before it, from -2^15 to 2^15 - 1.
        ages = [(newer - older + WRAP // 2) % WRAP - WRAP // 2 for newer, older in zip(stamps, stamps[1:])]
        self._send_frame(INPUT, [numbers[0], values, stamps[0], *ages])

    async def leave(self):
        await self._websocket.send(json.dumps({"a": "leave"}))
        await self._websocket.close()

    def _take_signal(self, message):
        data = message.get("d", {})
        if message["a"] in ("eventJoin", "eventLeave"):
            print(message["a"], data["player"], data["name"])
        elif message["a"] == "eventChannelClosed":
            print("the game continues over the websocket:", data["m"])

    def _take(self, frame, via):
        kind = frame[0] & 0x0F
        if kind in (RELIABLE_EVENT, ACK):
            self._take_reliable(kind, frame)
            return
        self._over_channel = via == "data channel"
        header = 2 if frame[0] & PART else 1
        seq, consumed = struct.unpack_from("<HH", frame, header)
        body = frame[header + 4 :]
        if frame[0] & PART:
            body = self._assemble(seq, frame[1], body)
        if body is None:
            return
        if frame[0] & DEFLATED:
            body = inflate(body)
        # What follows the newest input that the game has consumed is pending.
        self._pending = [sent for sent in self._pending if 0 < (sent[0] - consumed) % WRAP < WRAP // 2]
        if kind == STATE:
            self._take_state(body, via)
        elif kind == PING:
            self._send_frame(PONG, msgpack.unpackb(body)[:1])

    def _assemble(self, seq, part, body):
        """Keeps the parts of one frame, the newest. Gives its body once all are there."""
        index, count = part >> 4, (part & 0x0F) + 1
        first = (seq - index) % WRAP
        if self._parts[0] != first:
            self._parts = (first, {})
        bodies = self._parts[1]
        bodies[index] = body
        return b"".join(bodies[index] for index in range(count)) if len(bodies) == count else None

    def _take_state(self, body, via):
        try:
            body = self._states.restore(body)
        except ValueError:
            return
        tick, state = msgpack.unpackb(body, strict_map_key=False)
        if self.tick is None or tick > self.tick:
            self._states.keep(tick, body)
            self.tick, self.state = tick, state
            self.states[via] += 1

    def _take_reliable(self, kind, frame):
        (seq,) = struct.unpack_from("<I", frame, 1)
        if kind == RELIABLE_EVENT and seq == self._reliable_received + 1:
            self._reliable_received = seq
            body = inflate(frame[9:]) if frame[0] & DEFLATED else frame[9:]
            print("event", msgpack.unpackb(body, strict_map_key=False)[1])
        if kind == RELIABLE_EVENT:
            header = struct.pack("<BII", ACK, 0, self.tick or 0)
            self._to_websocket.put_nowait(header + msgpack.packb([self._reliable_received]))

    def _send_frame(self, kind, body):
        header = struct.pack("<BHH", kind, self._frames_sent % WRAP, self._states.received())
        self._frames_sent += 1
        frame = header + msgpack.packb(body)
        # The way that the server uses. It begins with the websocket, and returns to it when the channel fails.
        if self._over_channel and self._channel.readyState == "open":
            self._channel.send(frame)
        else:
            self._to_websocket.put_nowait(frame)

    async def _send_to_websocket(self):
        while True:
            await self._websocket.send(await self._to_websocket.get())


def inflate(body):
    return zlib.decompressobj(wbits=-15).decompress(body, 1 << 20)


async def join(url, name):
    """Joins the room at `url`, such as http://127.0.0.1:8080/r/lobby. The data channel opens while the game runs."""
    # The server has a public address: no STUN or TURN server is needed.
    peer = RTCPeerConnection(RTCConfiguration(iceServers=[]))
    channel = peer.createDataChannel("rtcade", negotiated=True, id=0, ordered=False, maxRetransmits=0)
    await peer.setLocalDescription(await peer.createOffer())
    websocket = await websockets.connect(url.replace("http", "ws", 1))
    join = {"version": 0, "name": name, "sdp": peer.localDescription.sdp}
    await websocket.send(json.dumps({"a": "join", "d": join}))
    reply = json.loads(await websocket.recv())
    if not reply["s"]:
        raise ConnectionError(f"{reply['e']}: {reply['m']}")
    player = Player(websocket, peer, channel, reply["d"])
    if "sdp" in reply["d"]:
        await peer.setRemoteDescription(RTCSessionDescription(reply["d"]["sdp"], "answer"))
    else:
        print("no data channel:", reply["d"]["sdpError"]["m"])
    return player


async def play(url, name, seconds):
    """Drives in circles in the arena, whose inputs are (thrust to the right, thrust down, whether to dash)."""
    player = await join(url, name)
    running = asyncio.create_task(player.run())
    end = time.monotonic() + seconds
    next_print = time.monotonic()
    while time.monotonic() < end and not running.done():
        angle = time.monotonic() * 2
        player.send([100 * math.cos(angle), 100 * math.sin(angle), False])
        if player.state and time.monotonic() >= next_print:
            next_print += 1
            _, _, _, discs, _ = player.state
            _, (x, y), *_ = next(disc for disc in discs if disc[0] == player.me)
            received = ", ".join(f"{count} over the {way}" for way, count in player.states.items())
            print(f"tick {player.tick}: player {player.me} at {x}, {y}; states received: {received}", flush=True)
        await asyncio.sleep(player.tick_seconds)
    await player.leave()
    await running


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url")
    parser.add_argument("--name", default="Python")
    parser.add_argument("--seconds", type=float, default=math.inf)
    arguments = parser.parse_args()
    asyncio.run(play(arguments.url, arguments.name, arguments.seconds))
