"""JPEG: decoded by libjpeg-turbo (through simplejpeg), whose every warning is damage.

A JPEG has no checksum. libjpeg goes on after damage, with a warning and with wrong pixels, and Pillow does not tell of
the warning. So a file is decoded strictly. What is unusual but no damage is put right before: segments that decoding
does not need, stray bytes between segments or before the end, and a missing end.
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import simplejpeg

from edge_all.errors import ImageError
from edge_all.image import limits

MAX_WORK = 700_000_000
"""Most pixels times scans: each scan of a progressive JPEG passes over all pixels."""

_SOI, _EOI = b"\xff\xd8", b"\xff\xd9"
_SCAN, _ADOBE, _TABLES = 0xDA, 0xEE, 0xC4
_FRAMES = frozenset({*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC})
_READ = {0xC0, 0xC1, 0xC2, 0xC9, 0xCA}
"""Baseline, extended and progressive, by Huffman and arithmetic coding (ITU T.81, table B.1)."""

_ALONE = frozenset({0x01, *range(0xD0, 0xD9)})
"""Markers without a length."""

_STRAY = re.compile(r"Corrupt JPEG data: (\d+) extraneous bytes before marker 0xd9")
_MOST_STRAY = 16
"""Stray bytes before the end that may have any value. After damage, libjpeg finds whole blocks there: 20 bytes and more
in 3,000 damaged fields."""

_LOST = bytes(32)
"""Zeros of a block that was lost; see `_has_lost_block`."""


@dataclass(frozen=True)
class Header:
    """What stands before the coded data.

    Attributes:
        size: Width and height, in pixels.
        channels: 1 grey, 3 colour, 4 CMYK.
        process: The frame's marker, 0xC0 to 0xCF.
        segments: Marker, begin and end of each segment up to the first scan.
        coded: Where the coded data of the first scan begins.
    """

    size: tuple[int, int]
    channels: int
    process: int
    segments: tuple[tuple[int, int, int], ...]
    coded: int


def plain_size(data: bytes) -> tuple[int, int] | None:
    """Width and height of a JPEG that only needs to be decompressed, in one scan; None for any other file.

    It has three channels of 8 bits in a JFIF file without EXIF, colour profile or further frames (ITU T.81, annex B).
    """
    size, at = None, 2 + _JFIF_BYTES
    if data[:4] != b"\xff\xd8\xff\xe0" or data[4:11] != b"\0\x10JFIF\0" or data[11:12] != b"\1":
        return None
    while data[at : at + 1] == b"\xff" and (marker := data[at + 1 : at + 2]) in _PLAIN:
        if marker == b"\xda":
            return size if data[at + 4 : at + 5] == b"\3" and at < _MAX_PLAIN_HEADER else None
        if marker in (b"\xc0", b"\xc1"):
            bits, height, width, channels = struct.unpack_from(">BHHB", data[at + 4 : at + 10].ljust(6, b"\0"))
            if (bits, channels) != (8, 3):
                return None
            size = width, height
        at += 2 + int.from_bytes(data[at + 2 : at + 4])
    return None


_JFIF_BYTES = 18
_MAX_PLAIN_HEADER = 16_384
_PLAIN = frozenset({b"\xc0", b"\xc1", b"\xda", b"\xc4", b"\xdb", b"\xdd", b"\xfe"})
"""Frames; scan; tables for Huffman and quantization, restart interval, comment."""


def read_plain(data: bytes, out: npt.NDArray[np.uint8] | None = None) -> npt.NDArray[np.uint8] | None:
    """Decode a JPEG of `plain_size` that nothing is unusual about; None where something is.

    Args:
        data: The file's bytes.
        out: Array for the pixels, of the image's size.

    Returns:
        ``uint8 [H, W, 3]``, RGB: `out`, if it was given.
    """
    if _LOST in data:
        return None
    try:
        pixels = simplejpeg.decode_jpeg(data, buffer=out)
    except ValueError:
        return None
    return np.asarray(pixels) if out is None else out


def header(data: bytes) -> Header:
    """Read the segments up to the first scan, and check that decoding stays within the limits.

    Raises:
        ImageError: It is damaged, of a kind that is not read, or over a limit.
    """
    segments: list[tuple[int, int, int]] = []
    frame: tuple[int, bytes] | None = None
    at = 2
    while (at := data.find(b"\xff", at)) >= 0 and at + 4 <= len(data):
        marker = data[at + 1]
        if marker in (0x00, 0xFF) or marker in _ALONE:
            at += 1 if marker == 0xFF else 2
            continue
        length = int.from_bytes(data[at + 2 : at + 4])
        end = at + 2 + length
        if marker == 0xD9 or length < 2 or end > len(data):
            break
        segments.append((marker, at, end))
        limits.check_parts(len(segments), "segments before the coded data")
        limits.check_extra(end)
        if marker in _FRAMES:
            frame = marker, data[at:end]
        at = end
        if marker == _SCAN:
            if frame is None:
                break
            return _checked(data, frame, tuple(segments), at)
    raise ImageError("damaged image (the coded data of a JPEG is missing); save or copy it again")


def _checked(data: bytes, frame: tuple[int, bytes], segments: tuple[tuple[int, int, int], ...], coded: int) -> Header:
    process, segment = frame
    bits, height, width, channels = struct.unpack_from(">BHHB", segment.ljust(10, b"\0"), 4)
    if process not in _READ or bits != 8 or channels not in (1, 3, 4):
        kind = "lossless or hierarchical" if process not in _READ else f"{bits} bits and {channels} channels"
        raise ImageError(f"a JPEG of a kind that is not read ({kind}); save it with 8 bits a channel, in RGB")
    scans = data.count(b"\xff\xda")
    work = width * height * scans * (4 if process > 0xC2 else 1)  # arithmetic coding is slower
    if scans > 1 and work > MAX_WORK:
        raise ImageError(
            f"{width * height / 1e6:.0f} megapixels in {scans} scans is over the limit of {MAX_WORK / 1e6:.0f} "
            "megapixels times scans; save it again as a baseline JPEG"
        )
    # libjpeg keeps the coefficients of all scans, and one row of blocks of a single one.
    limits.check_memory(width * height, 2 * channels if scans > 1 else 0.5, len(data))
    return Header((width, height), channels, process, segments, coded)


def is_unusual(data: bytes) -> bool:
    """Whether brightness and colour are sampled in a proportion that simplejpeg does not take."""
    try:
        simplejpeg.decode_jpeg_header(data)
    except ValueError as error:
        return "subsampling" in str(error)
    return False


def decompress(
    data: bytes, head: Header, divisor: int = 1, out: npt.NDArray[np.uint8] | None = None
) -> npt.NDArray[np.uint8]:
    """Decode in RGB, or in CMYK as stored.

    Args:
        data: The file's bytes.
        head: Its `header`.
        divisor: 1, 2, 4 or 8: each side is divided by it, which leaves out frequencies.
        out: Array for the pixels, of the image's size and channels.

    Returns:
        ``uint8 [ceil(H / divisor), ceil(W / divisor), 3 or 4]``.

    Raises:
        ImageError: It is damaged.
    """
    width, height = (math.ceil(side / divisor) for side in head.size)
    options: dict[str, object] = {"colorspace": "CMYK" if head.channels == 4 else "RGB", "buffer": out}
    options |= {"min_height": height, "min_width": width} if divisor > 1 else {}
    if _has_lost_block(data, head):
        raise ImageError("damaged image (a part of the coded data is lost, filled with zeros); save or copy it again")
    try:
        return _decode(data, options)
    except ValueError:
        cleaned = _cleaned(data, head)
    try:
        return _decode(cleaned, options)
    except ValueError as error:
        if not _is_only_stray(cleaned, str(error)):
            raise ImageError(f"damaged image ({error}); save or copy it again") from None
    return _decode(cleaned, options | {"strict": False})


def _decode(data: bytes, options: Mapping[str, object]) -> npt.NDArray[np.uint8]:
    pixels = simplejpeg.decode_jpeg(data, **options)
    out = options["buffer"]
    return np.asarray(pixels) if out is None else out  # type: ignore[return-value]


def _cleaned(data: bytes, head: Header) -> bytes:
    """The same image without what decoding does not need, such as stray bytes, and with an end."""
    wanted = []
    for marker, begin, end in head.segments:
        segment = data[begin:end]
        if marker == 0xE0 and segment[4:9] == b"JFIF\0":
            wanted.append(segment[:9] + b"\1\1" + segment[11:])  # libjpeg warns of a revision that it does not know
        elif marker < 0xE0 or (marker == _ADOBE and _is_adobe(segment)):
            wanted.append(segment)
    if head.process in (0xC0, 0xC1):  # a sequential scan has all frequencies, whatever its header says
        wanted[-1] = wanted[-1][:-3] + b"\x00\x3f\x00"
    return b"".join([_SOI, *wanted, data[head.coded : _end(data, head)], _EOI])


def _end(data: bytes, head: Header) -> int:
    """Where the coded data ends."""
    end = data.find(_EOI, head.coded)
    return end if end >= 0 else len(data)


def _is_adobe(segment: bytes) -> bool:
    """Whether it is Adobe's, and names a transform that exists: it tells in which colours the channels are."""
    return segment[4:9] == b"Adobe" and len(segment) >= 16 and segment[15] <= 2


def _is_only_stray(data: bytes, warning: str) -> bool:
    """Whether the only warning is of bytes between the last block and the end that hold no image.

    libjpeg names the first warning; this one comes when all blocks are read.
    """
    told = _STRAY.fullmatch(warning)
    if told is None:
        return False
    stray = data[-2 - int(told[1]) : -2]
    return len(stray) <= _MOST_STRAY or len(set(stray)) == 1


def _has_lost_block(data: bytes, head: Header) -> bool:
    """Whether the coded data has zeros where a disk or a copy lost a block.

    Zero bits are the first code of a Huffman table. Where that is a value and not "no more of this block", as in the
    standard's tables for brightness, no image has so many of them in a row (ITU T.81, annexes C and K).
    """
    if head.process not in (0xC0, 0xC1) or data.find(_LOST, head.coded) < 0:
        return False
    if _LOST not in data[head.coded : _end(data, head)].rstrip(b"\0"):  # zeros right before the end are stray bytes
        return False
    tables = b"".join(data[begin + 4 : end] for marker, begin, end in head.segments if marker == _TABLES)
    first = {}
    while len(tables) > 17:
        first[tables[0]] = tables[17]
        tables = tables[17 + sum(tables[1:17]) :]
    return any(symbol != 0 for name, symbol in first.items() if name >= 0x10)
