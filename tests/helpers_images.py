"""Image files of unusual kinds: a colour profile, damage in the coded data, bytes that do no harm."""

from __future__ import annotations

import struct


def wide_profile() -> bytes:
    """A colour profile of wide primaries (those of Adobe RGB) and gamma 2.2, by ICC.1:2001, section 6."""
    primaries = ((0.60974, 0.31111, 0.01947), (0.20528, 0.62567, 0.06087), (0.14919, 0.06322, 0.74457))
    name = b"wide\0"
    tags = {
        b"desc": b"desc\0\0\0\0" + struct.pack(">I", len(name)) + name + bytes(78),
        b"cprt": b"text\0\0\0\0none\0",
        b"wtpt": _xyz(0.95045, 1.0, 1.08905),
    }
    for channel, xyz in zip(b"rgb", primaries, strict=True):
        tags[bytes([channel]) + b"XYZ"] = _xyz(*xyz)
        tags[bytes([channel]) + b"TRC"] = b"curv\0\0\0\0" + struct.pack(">IH", 1, 563)
    table, body = struct.pack(">I", len(tags)), b""
    for tag, value in tags.items():
        table += tag + struct.pack(">II", 132 + 12 * len(tags) + len(body), len(value))
        body += value + bytes(-len(value) % 4)
    size = 128 + len(table) + len(body)
    head = struct.pack(">I4sI4s4s4s", size, b"none", 0x02100000, b"mntr", b"RGB ", b"XYZ ")
    head += struct.pack(">6H", 2026, 1, 1, 0, 0, 0) + b"acsp" + bytes(28) + struct.pack(">3i", 63190, 65536, 54061)
    return head.ljust(128, b"\0") + table + body


def _xyz(*values: float) -> bytes:
    return b"XYZ \0\0\0\0" + struct.pack(">3i", *(round(value * 65536) for value in values))


def coded_data(jpeg: bytes) -> int:
    """Where the coded data of a JPEG's last scan begins."""
    at = jpeg.rfind(b"\xff\xda")
    return at + 2 + int.from_bytes(jpeg[at + 2 : at + 4])
