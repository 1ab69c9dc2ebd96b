"""PNM: the header read within bounds, and binary pixels with their own range (https://netpbm.sourceforge.net/doc)."""

from __future__ import annotations

import re

import numpy as np
import numpy.typing as npt

from edge_all.errors import ImageError
from edge_all.image import checks, colour, limits

_SPACE = rb"(?:[ \t\r\n\v\f]|#[^\r\n]*[\r\n])"
_NUMBER = _SPACE + rb"+([0-9]{1,10})"
_BITMAP = re.compile(rb"P[14]" + 2 * _NUMBER + rb"[ \t\r\n\v\f#]")
_VALUES = re.compile(rb"P[2356]" + 3 * _NUMBER + rb"[ \t\r\n\v\f]")
_MAX_HEADER = 65_536


def read(data: bytes) -> npt.NDArray[np.uint8] | None:
    """Decode a binary PGM or PPM, scaled from its own range to 8 bits.

    Returns:
        ``uint8 [H, W]`` or ``uint8 [H, W, 3]``; None for the other kinds, which Pillow reads.

    Raises:
        ImageError: It is damaged or over a limit.
    """
    head = (_BITMAP if data[1:2] in b"14" else _VALUES).match(data[:_MAX_HEADER])
    if head is None:
        raise ImageError("damaged image (the header of a PNM file); save or copy it again")
    width, height = int(head[1]), int(head[2])
    limits.check_size(width, height)
    if data[1:2] in b"123":
        checks.check_slow("a PNM file in digits", data)
    if data[1:2] not in b"56":
        return None
    highest, channels = int(head[3]), 3 if data[1:2] == b"6" else 1
    if not 0 < highest < 65_536:
        raise ImageError("damaged image (the range of a PNM file); save or copy it again")
    form = np.dtype(np.uint8 if highest < 256 else ">u2")
    count = width * height * channels
    limits.check_memory(width * height, 4 + channels * (form.itemsize + 1), len(data))
    if len(data) - head.end() < count * form.itemsize:
        raise ImageError("damaged image (the file ends before its pixels do); save or copy it again")
    stored = np.frombuffer(data, form, count, head.end()).reshape((height, width, channels))
    as_is = highest == 255
    pixels = stored.astype(np.uint8, copy=False) if as_is else colour.scaled(stored.astype(np.uint16), highest)
    if highest > 255:
        colour.check_range(stored.max(keepdims=True), highest)
    return pixels[..., 0] if channels == 1 else pixels
