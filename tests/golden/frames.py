"""Frames by hand, sent over a veth pair between two network namespaces and captured there.

For what no program at hand sends: tunnels that the kernel has no driver for, and broken packets.
Used by the `record` scripts of the cases; needs root, iproute2 and tcpdump.
"""
import ctypes
import os
import socket
import struct
import subprocess
import time

CLONE_NEWNET = 0x40000000
LEFT, RIGHT = "tyto-rec-left", "tyto-rec-right"
MAC = {LEFT: bytes.fromhex("020000000001"), RIGHT: bytes.fromhex("020000000002")}


def checksum(data):
    data += b"\0" * (len(data) % 2)
    total = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def address(text):
    family = socket.AF_INET6 if ":" in text else socket.AF_INET
    return socket.inet_pton(family, text)


def ip4(src, dst, proto, payload, ident=0, flags=0, ttl=64, total=None):
    total = 20 + len(payload) if total is None else total
    head = struct.pack(">BBHHHBBH", 0x45, 0, total, ident, flags, ttl, proto, 0) + address(src) + address(dst)
    return head[:10] + struct.pack(">H", checksum(head)) + head[12:] + payload


def ip6(src, dst, proto, payload, ttl=64):
    return struct.pack(">IHBB", 6 << 28, len(payload), proto, ttl) + address(src) + address(dst) + payload


def ip(src, dst, proto, payload, **more):
    return (ip6 if ":" in src else ip4)(src, dst, proto, payload, **more)


def pseudo(src, dst, proto, length):
    if ":" in src:
        return address(src) + address(dst) + struct.pack(">IBBBB", length, 0, 0, 0, proto)
    return address(src) + address(dst) + struct.pack(">BBH", 0, proto, length)


def udp(src, dst, sport, dport, payload, length=None):
    length = 8 + len(payload) if length is None else length
    head = struct.pack(">HHHH", sport, dport, length, 0)
    total = checksum(pseudo(src, dst, 17, length) + head + payload) or 0xFFFF
    return head[:6] + struct.pack(">H", total) + payload


def udp_packet(src, dst, sport, dport, payload):
    return ip(src, dst, 17, udp(src, dst, sport, dport, payload))


def talk(left, right, port=4000):
    """A datagram and its answer, as IP packets: (sender, packet)."""
    return [
        (LEFT, udp_packet(left, right, 40000, port, b"hello, is anybody there?")),
        (RIGHT, udp_packet(right, left, port, 40000, b"yes")),
    ]


def ethernet(sender, kind, payload):
    other = RIGHT if sender == LEFT else LEFT
    return MAC[other] + MAC[sender] + struct.pack(">H", kind) + payload


def frame(sender, packet):
    return ethernet(sender, 0x0800 if packet[0] >> 4 == 4 else 0x86DD, packet)


def run(*words, **more):
    return subprocess.run(words, check=True, **more)


def record(frames, out):
    """Sends the frames, each from its namespace, and captures them on the right side."""
    for netns in LEFT, RIGHT:
        run("ip", "netns", "add", netns)
    try:
        run("ip", "-n", LEFT, "link", "add", "wire", "type", "veth", "peer", "name", "wire", "netns", RIGHT)
        for netns in LEFT, RIGHT:
            # Nothing but what is sent here: no address, no neighbour discovery.
            run("ip", "netns", "exec", netns, "sysctl", "-qw", "net.ipv6.conf.all.disable_ipv6=1",
                "net.ipv6.conf.wire.disable_ipv6=1")
            run("ip", "-n", netns, "link", "set", "wire", "up")
        time.sleep(1)
        capture = subprocess.Popen(["ip", "netns", "exec", RIGHT, "tcpdump", "-q", "-U", "-i", "wire", "-w", out],
                                   stderr=subprocess.DEVNULL)
        time.sleep(2)
        sockets = {netns: packet_socket(netns) for netns in (LEFT, RIGHT)}
        for sender, content in frames:
            sockets[sender].send(content)
            time.sleep(0.01)
        time.sleep(1)
        capture.terminate()
        capture.wait()
    finally:
        for netns in LEFT, RIGHT:
            subprocess.run(["ip", "netns", "del", netns], check=False)


def enter(namespace):
    if ctypes.CDLL(None, use_errno=True).setns(namespace, CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "setns")


def packet_socket(netns):
    """A packet socket that stays in `netns`."""
    home = os.open("/proc/self/ns/net", os.O_RDONLY)
    there = os.open(f"/run/netns/{netns}", os.O_RDONLY)
    enter(there)
    opened = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    opened.bind(("wire", 0))
    enter(home)
    return opened
