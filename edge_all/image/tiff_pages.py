"""The directories of a TIFF file, read for what decides whether its pixels can be read right (TIFF 6.0, BigTIFF)."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from edge_all.errors import ImageError
from edge_all.image import limits

SIGNATURES = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
"""First bytes of a TIFF: little- and big-endian, classic and BigTIFF."""

_TYPES = {1: "u1", 3: "u2", 4: "u4", 7: "u1", 16: "u8"}
"""Numbers without a sign, and bytes, by the type of a field."""

_NEEDED = frozenset(
    {254, 256, 257, 258, 259, 262, 266, 273, 277, 278, 279, 284, 317, 320, 322, 323, 324, 325, 338, 339}
)
"""Fields without which, or with a wrong value of which, the pixels would be others."""

_MAX_FIELDS = 4096
_MAX_VALUES = 2_000_000


@dataclass(frozen=True)
class Page:
    """One directory of a file.

    Attributes:
        number: Its place in the file, from 0.
        fields: Values by tag, of fields of whole numbers.
    """

    number: int
    fields: Mapping[int, tuple[int, ...]]

    def value(self, tag: int, default: int) -> int:
        """The only, or the first, value of a field."""
        return (self.fields.get(tag) or (default,))[0]

    @property
    def is_whole(self) -> bool:
        """Whether it is an image of its own, and not the thumbnail, or the mask, of another page."""
        return not self.value(254, 0) & 0b101 and self.value(255, 1) != 2

    @property
    def size(self) -> tuple[int, int]:
        """Width and height, in pixels."""
        return self.value(256, 0), self.value(257, 0)

    @property
    def samples(self) -> int:
        """Values a pixel."""
        return self.value(277, 1)

    @property
    def bits(self) -> tuple[int, ...]:
        """Bits of each value."""
        return self.fields.get(258) or (1,)

    @property
    def compression(self) -> int:
        return self.value(259, 1)

    @property
    def photometric(self) -> int:
        """0 white is zero, 1 black is zero, 2 RGB, 3 palette, 5 CMYK, 6 YCbCr."""
        return self.value(262, -1)

    @property
    def is_separate(self) -> bool:
        """Whether each channel is stored by itself."""
        return self.samples > 1 and self.value(284, 1) == 2

    @property
    def piece_size(self) -> tuple[int, int]:
        """Width and height of a tile, or of a strip."""
        width, height = self.size
        if 322 in self.fields:
            return self.value(322, 0), self.value(323, 0)
        return width, min(height, self.value(278, height) or height)

    @property
    def piece_bytes(self) -> int:
        """Bytes of a decoded tile or strip."""
        width, height = self.piece_size
        values = width * (1 if self.is_separate else self.samples)
        return height * ((values * self.bits[0] + 7) // 8)

    @property
    def offsets(self) -> tuple[int, ...]:
        """Where each tile or strip begins."""
        return self.fields.get(324) or self.fields.get(273) or ()

    @property
    def lengths(self) -> tuple[int, ...]:
        """Stored bytes of each tile or strip."""
        return self.fields.get(325) or self.fields.get(279) or ()


def pages(data: bytes) -> list[Page]:
    """Read the directories of a file; one that points back to an earlier one ends the list.

    Raises:
        ImageError: A directory is damaged, or there are too many.
    """
    order = "<" if data[:2] == b"II" else ">"
    big = data[2:4] in (b"+\0", b"\0+")
    found: dict[int, Page] = {}
    try:
        at = struct.unpack_from(order + ("Q" if big else "I"), data, 8 if big else 4)[0]
        while at and at not in found:
            limits.check_parts(len(found) + 1, "TIFF directories")
            fields, after = _fields(data, at, order, big)
            found[at] = Page(len(found), fields)
            at = after
    except (struct.error, ValueError, OverflowError):
        if not any(page.is_whole for page in found.values()):
            raise ImageError("damaged image (the directory of a TIFF file); save or copy it again") from None
    if not found:
        raise ImageError("damaged image (a TIFF file without a directory); save or copy it again")
    return list(found.values())


def _fields(data: bytes, at: int, order: str, big: bool) -> tuple[dict[int, tuple[int, ...]], int]:
    """The fields of the directory at `at`, and where the next one is."""
    count_form, entry_form, offset_form = ("Q", "HHQ", "Q") if big else ("H", "HHI", "I")
    width = struct.calcsize(order + offset_form)
    count = struct.unpack_from(order + count_form, data, at)[0]
    if count > _MAX_FIELDS:
        raise ValueError("too many fields")
    at += struct.calcsize(order + count_form)
    fields = {}
    for _ in range(count):
        tag, kind, number = struct.unpack_from(order + entry_form, data, at)
        at += struct.calcsize(order + entry_form)
        if kind in _TYPES and 0 < number <= _MAX_VALUES:
            form = np.dtype(order + _TYPES[kind])
            size = form.itemsize * number
            start = at if size <= width else struct.unpack_from(order + offset_form, data, at)[0]
            if start + size <= len(data):
                fields[tag] = tuple(np.frombuffer(data, form, number, start).tolist())
            elif tag in _NEEDED:
                raise ValueError("a field that lies outside the file")
        at += width
    return fields, struct.unpack_from(order + offset_form, data, at)[0]
