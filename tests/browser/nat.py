"""A NAT between a player's network namespace, in which it is started, and that of the internet, in user space.

    nat.py INTERNET PUBLIC_IP INSIDE_IP SERVER_IP PORT

Datagrams of the player come out of a TUN device, and leave from sockets of PUBLIC_IP in the namespace whose file is
INTERNET. TCP is forwarded from PORT of the player's loopback to PORT of the server. Each line of standard input names a
kind, and is repeated once the NAT is of that kind and has no mappings; the end of the input ends the NAT.
"""

import asyncio
import ctypes
import fcntl
import os
import socket
import struct
import subprocess
import sys

TUNSETIFF = 0x400454CA
IFF_TUN_WITHOUT_INFORMATION = 0x1001
CLONE_NEWNET = 0x40000000
DEVICE = "eth0"
DATAGRAM_BYTES = 65_535
IPV4_HEADER = struct.Struct("!BBHHHBBH4s4s")
UDP_HEADER = struct.Struct("!4H")

# How much of a remote endpoint (nothing, its address, or its address and port) a mapping is for, and how much of it the
# filter compares with those that the player has sent to (RFC 4787, sections 4.1 and 5).
INDEPENDENT, ADDRESS, ADDRESS_AND_PORT = range(3)
KINDS = {
    "full cone": (INDEPENDENT, INDEPENDENT),
    "address restricted": (INDEPENDENT, ADDRESS),
    "port restricted": (INDEPENDENT, ADDRESS_AND_PORT),
    "symmetric": (ADDRESS_AND_PORT, ADDRESS_AND_PORT),
}


def open_device(inside):
    device = os.open("/dev/net/tun", os.O_RDWR)
    fcntl.ioctl(device, TUNSETIFF, struct.pack("16sH22x", DEVICE.encode(), IFF_TUN_WITHOUT_INFORMATION))
    for command in (
        "link set lo up",
        f"address add {inside}/24 dev {DEVICE}",
        f"link set {DEVICE} up",
        f"route add default dev {DEVICE}",
    ):
        subprocess.run(["ip", *command.split()], check=True)
    return device


def enter(namespace):
    with open(namespace) as file:
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.setns(file.fileno(), CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), f"setns to {namespace}")


def checksum(header):
    total = sum(struct.unpack(f"!{len(header) // 2}H", header))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total ^ 0xFFFF


def datagram(source, destination, payload):
    """The packet of a datagram. Over IPv4 it may do without UDP's checksum."""
    length = UDP_HEADER.size + len(payload)
    fields = [0x45, 0, IPV4_HEADER.size + length, 0, 0, 64, socket.IPPROTO_UDP, 0]
    addresses = [socket.inet_aton(source[0]), socket.inet_aton(destination[0])]
    fields[7] = checksum(IPV4_HEADER.pack(*fields, *addresses))
    return IPV4_HEADER.pack(*fields, *addresses) + UDP_HEADER.pack(source[1], destination[1], length, 0) + payload


class Nat:
    def __init__(self, device, public):
        self.device = device
        self.public = public
        self.mapping, self.filtering = KINDS["full cone"]
        self.mappings = {}

    def become(self, kind):
        self.mapping, self.filtering = KINDS[kind]
        for outside, _ in self.mappings.values():
            asyncio.get_running_loop().remove_reader(outside)
            outside.close()
        self.mappings.clear()

    def send(self):
        packet = os.read(self.device, DATAGRAM_BYTES)
        if packet[0] >> 4 != 4 or packet[9] != socket.IPPROTO_UDP:
            return
        inside, remote = (socket.inet_ntoa(packet[at : at + 4]) for at in (12, 16))
        start = 4 * (packet[0] & 15)
        inside_port, remote_port, length, _ = UDP_HEADER.unpack_from(packet, start)
        inside, remote = (inside, inside_port), (remote, remote_port)
        key = (inside, remote[: self.mapping])
        if key not in self.mappings:
            self.mappings[key] = self.map(inside)
        outside, allowed = self.mappings[key]
        allowed.add(remote[: self.filtering])
        try:
            outside.sendto(packet[start + UDP_HEADER.size : start + length], remote)
        except OSError:
            pass  # Such as multicast, which has no route.

    def map(self, inside):
        outside = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        # Where the player has the public address itself there is no NAT.
        outside.bind((self.public, inside[1] if inside[0] == self.public else 0))
        allowed = set()

        def receive():
            payload, remote = outside.recvfrom(DATAGRAM_BYTES)
            if remote[: self.filtering] in allowed:
                os.write(self.device, datagram(remote, inside, payload))

        asyncio.get_running_loop().add_reader(outside, receive)
        return outside, allowed


async def copy(reader, writer):
    try:
        while data := await reader.read(DATAGRAM_BYTES):
            writer.write(data)
            await writer.drain()
    except OSError:
        pass
    finally:
        writer.close()


async def main(internet, public, inside, server, port):
    device = open_device(inside)
    listener = socket.create_server(("127.0.0.1", int(port)))
    enter(internet)
    nat = Nat(device, public)
    loop = asyncio.get_running_loop()
    loop.add_reader(device, nat.send)

    async def forward(near_reader, near_writer):
        far_reader, far_writer = await asyncio.open_connection(server, int(port), local_addr=(public, 0))
        await asyncio.gather(copy(near_reader, far_writer), copy(far_reader, near_writer))

    await asyncio.start_server(forward, sock=listener)
    ended = loop.create_future()

    def obey():
        kind = sys.stdin.readline().strip()
        if not kind:
            loop.remove_reader(sys.stdin)
            ended.set_result(None)
            return
        nat.become(kind)
        print(kind, flush=True)

    loop.add_reader(sys.stdin, obey)
    await ended
    # Connections that are still open end with the program.
    os._exit(0)


asyncio.run(main(*sys.argv[1:]))
