"""The question for a domain controller over UDP ([MS-ADTS] section 6.3.3), and a server's answer.

usage: cldap.py server|client ADDRESS
"""
import socket
import sys


def tlv(tag, *parts):
    content = b"".join(parts)
    assert len(content) < 128
    return bytes([tag, len(content)]) + content


def equals(name, value):
    return tlv(0xA3, tlv(4, name), tlv(4, value))


QUESTION = tlv(
    0x30, tlv(2, b"\x01"),
    tlv(0x63, tlv(4), tlv(10, b"\0"), tlv(10, b"\0"), tlv(2, b"\0"), tlv(2, b"\0"), tlv(1, b"\0"),
        tlv(0xA0, equals(b"DnsDomain", b"lab.example"), equals(b"Host", b"CLIENT"),
            equals(b"NtVer", bytes([0x16, 0, 0, 0x20]))),
        tlv(0x30, tlv(4, b"Netlogon"))))
ENTRY = tlv(0x30, tlv(2, b"\x01"),
            tlv(0x64, tlv(4), tlv(0x30, tlv(0x30, tlv(4, b"Netlogon"), tlv(0x31, tlv(4, bytes(32)))))))
DONE = tlv(0x30, tlv(2, b"\x01"), tlv(0x65, tlv(10, b"\0"), tlv(4), tlv(4)))

role, address = sys.argv[1:]
wire = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
if role == "server":
    wire.bind((address, 389))
    while True:
        question, client = wire.recvfrom(4096)
        wire.sendto(ENTRY + DONE, client)
wire.settimeout(2)
wire.sendto(QUESTION, (address, 389))
wire.recvfrom(4096)
