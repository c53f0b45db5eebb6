"""Publishes with WHIP until its input ends, or watches with WHEP until it has seen some: python whip.py publish|watch URL FRAMES"""

import array
import asyncio
import json
import math
import sys
import urllib.error
import urllib.parse
import urllib.request

import av
from aiortc import RTCConfiguration, RTCPeerConnection, RTCSessionDescription, VideoStreamTrack
from aiortc.mediastreams import AudioStreamTrack


WIDTH, HEIGHT = 320, 240
WATCH_SECONDS = 40


class Picture(VideoStreamTrack):
    """Stripes that move."""

    async def recv(self):
        time, base = await self.next_timestamp()
        row = bytes(200 if (x + time // 1_500) % 64 < 32 else 40 for x in range(WIDTH))
        frame = av.VideoFrame(WIDTH, HEIGHT, "yuv420p")
        frame.planes[0].update(row * HEIGHT)
        for plane in frame.planes[1:]:
            plane.update(bytes([90]) * plane.buffer_size)
        frame.pts, frame.time_base = time, base
        return frame


class Tone(AudioStreamTrack):
    """A tone of 440 Hz."""

    async def recv(self):
        silence = await super().recv()
        wave = array.array("h", (
            int(8_000 * math.sin(2 * math.pi * 440 * (silence.pts + index) / silence.sample_rate))
            for index in range(silence.samples)
        ))
        frame = av.AudioFrame(format="s16", layout="mono", samples=silence.samples)
        frame.planes[0].update(wave.tobytes())
        frame.pts, frame.sample_rate, frame.time_base = silence.pts, silence.sample_rate, silence.time_base
        return frame


class Counter:
    """Counts the frames of a track."""

    def __init__(self, track):
        self.frames = 0
        self.width = 0
        self.task = asyncio.ensure_future(self.run(track))

    async def run(self, track):
        while True:
            frame = await track.recv()
            self.frames += 1
            self.width = getattr(frame, "width", 0)


def request(method, url, body=None):
    headers = {"Content-Type": "application/sdp"} if body else {}
    asked = urllib.request.Request(url, data=body and body.encode(), method=method, headers=headers)
    try:
        with urllib.request.urlopen(asked, timeout=10) as answer:
            return answer.status, answer.headers, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.headers, error.read().decode()


async def main(what, url, frames):
    connection = RTCPeerConnection(RTCConfiguration(iceServers=[]))
    counters = {}
    if what == "publish":
        connection.addTrack(Tone())
        connection.addTrack(Picture())
    else:
        for kind in ("audio", "video"):
            connection.addTransceiver(kind, direction="recvonly")
        connection.on("track", lambda track: counters.__setitem__(track.kind, Counter(track)))
    await connection.setLocalDescription(await connection.createOffer())
    status, headers, answer = await asyncio.to_thread(request, "POST", url, connection.localDescription.sdp)
    if status != 201:
        print(json.dumps({"status": status, "answer": answer.strip()}))
        return
    session = urllib.parse.urljoin(url, headers["Location"])
    await connection.setRemoteDescription(RTCSessionDescription(answer, "answer"))
    if what == "publish":
        await asyncio.to_thread(sys.stdin.read)
    else:
        async with asyncio.timeout(WATCH_SECONDS):
            while sum(it.frames >= frames for it in counters.values()) < 2:
                await asyncio.sleep(0.1)
    seen = {kind: {"frames": it.frames, "width": it.width} for kind, it in counters.items()}
    state = connection.connectionState
    ended = [(await asyncio.to_thread(request, "DELETE", session))[0] for _ in range(2)]
    print(json.dumps({"status": status, "state": state, "seen": seen, "ended": ended}))
    await connection.close()


asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
