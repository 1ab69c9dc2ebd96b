"""What is checked in the bytes of a PNG, GIF, BMP or WebP file before Pillow sees it.

Pillow takes long over files with very many parts, and does not check the checksums of a PNG's pixels.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

from edge_all.errors import ImageError
from edge_all.image import limits

_MAX_PIXEL_CHUNKS = 100_000
_MAX_BLOCKS = 200_000
MAX_SLOW_BYTES = 3_000_000
"""Most bytes of a file that Pillow decodes in Python: run-length BMP, PNM in digits."""


def check(form: str, data: bytes) -> None:
    """Check a file.

    Args:
        form: Its format, by Pillow's name.
        data: Its bytes.

    Raises:
        ImageError: It is damaged, holds several images, or is over a limit.
    """
    if form in _CHECKS:
        _CHECKS[form](data)


def check_frames(frames: int) -> None:
    """Refuse more than one image.

    Raises:
        ImageError: There are several.
    """
    if frames > 1:
        raise ImageError(f"holds {frames} frames; one image is wanted: save the frame to be classified as a file")


def check_slow(what: str, data: bytes) -> None:
    """Refuse a large file of a kind that Pillow decodes in Python.

    Raises:
        ImageError: It has more than ``MAX_SLOW_BYTES``.
    """
    if len(data) > MAX_SLOW_BYTES:
        raise ImageError(f"{what} is over the limit of {MAX_SLOW_BYTES / 1e6:.0f} MB; save it as PNG")


def _png(data: bytes) -> None:
    if len(data) >= 24:
        limits.check_size(*struct.unpack_from(">II", data, 16))
    others = pixels = extra = 0
    for kind, content, checksum in _chunks(data):
        if kind == b"acTL" and len(content) == 8 and pixels == 0:
            check_frames(int.from_bytes(content[:4]))
        if kind == b"IDAT":
            pixels += 1
            limits.check_parts(pixels, "chunks of pixels", _MAX_PIXEL_CHUNKS)
        else:
            others += 1
            extra += len(content)
            limits.check_parts(others, "chunks")
            limits.check_extra(extra)
        if kind[:1].isupper() and zlib.crc32(content, zlib.crc32(kind)) != checksum:
            raise ImageError(f"damaged image (checksum of {kind.decode('latin-1')!r}); save or copy it again")


def _chunks(data: bytes) -> Iterator[tuple[bytes, memoryview, int]]:
    """Name, content and checksum of each whole chunk, up to the end."""
    view, at = memoryview(data), 8
    while at + 12 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        end = at + 8 + length
        if end + 4 > len(data):
            return
        yield kind, view[at + 8 : end], int.from_bytes(data[end : end + 4])
        if kind == b"IEND":
            return
        at = end + 4


def _gif(data: bytes) -> None:
    """Count images and blocks (CompuServe GIF89a, section 12)."""
    if len(data) >= 10:
        limits.check_size(*struct.unpack_from("<HH", data, 6))
    frames = blocks = 0
    at = 13 + _palette(data, 10)
    while at < len(data) and data[at] in (0x21, 0x2C):
        if data[at] == 0x2C:
            frames += 1
            at += 11 + _palette(data, at + 9)
        else:
            at += 2
        while at < len(data) and data[at]:
            at += 1 + data[at]
            blocks += 1
            limits.check_parts(blocks, "blocks", _MAX_BLOCKS if frames else limits.MAX_PARTS)
        at += 1
    check_frames(frames)


def _palette(data: bytes, at: int) -> int:
    """Bytes of the palette that a GIF's flags tell of."""
    flags = data[at] if at < len(data) else 0
    return 3 * 2 ** (1 + (flags & 7)) if flags & 0x80 else 0


def _bmp(data: bytes) -> None:
    if len(data) >= 26 and int.from_bytes(data[14:18], "little") >= 40:
        width, height = struct.unpack_from("<ii", data, 18)
        limits.check_size(abs(width), abs(height))
    if len(data) >= 34 and int.from_bytes(data[30:34], "little") in (1, 2):
        check_slow("a run-length coded BMP", data)


def _webp(data: bytes) -> None:
    """Read the size (RFC 9649): libwebp takes memory for three pictures as soon as a file is opened."""
    body = data[20:30].ljust(10, b"\0")
    if data[12:16] == b"VP8X":
        width, height = (1 + int.from_bytes(body[at : at + 3], "little") for at in (4, 7))
    elif data[12:16] == b"VP8L":
        bits = int.from_bytes(body[1:5], "little")
        width, height = 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    else:
        width, height = (value & 0x3FFF for value in struct.unpack_from("<HH", body, 6))
    limits.check_size(width, height)
    limits.check_memory(width * height, 16, len(data))


_CHECKS = {"PNG": _png, "GIF": _gif, "BMP": _bmp, "WEBP": _webp}
