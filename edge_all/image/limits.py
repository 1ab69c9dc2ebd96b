"""What one image may cost: bytes read, pixels, memory and time. Whatever is over a limit is refused by its name.

Each reader derives from a file's header what decoding it takes, and asks here before it decodes. With these limits, an
image takes at most 512 MB and, on one core of a mini PC, about 5 seconds.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from edge_all.errors import ImageError

MAX_PIXELS = 64_000_000
"""Largest image that is decoded."""

MIN_SIDE = 32
"""Shortest side, in pixels, that is accepted: a smaller image shows no cell."""

MAX_FILE_BYTES = 256_000_000
"""Largest file that is read."""

MAX_MEMORY = 512_000_000
"""Most bytes for the file and its decoded pixels together."""

MAX_PARTS = 4096
"""Most parts of a file, such as segments, chunks or directories, that describe the image and hold no pixels."""

MAX_EXTRA = 32_000_000
"""Most bytes of a file before the pixels, such as comments and profiles, each of which is copied."""


def read(path: Path) -> bytes:
    """The bytes of a regular file.

    Raises:
        ImageError: It cannot be read, is no regular file (a device, a pipe, a folder), or is over ``MAX_FILE_BYTES``.
    """
    try:
        _check_regular(os.stat(path))
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
        with open(handle, "rb", buffering=0) as file:
            size = _check_regular(os.fstat(handle))
            return file.read(size)
    except OSError as error:
        raise ImageError(f"cannot be read: {error.strerror or error}") from None
    except ValueError:  # a NUL in the name
        raise ImageError("cannot be read: no file can have this name") from None


def check_size(width: int, height: int) -> None:
    """Refuse an image with too many pixels, or too few.

    Raises:
        ImageError: It is outside the limits.
    """
    if width * height > MAX_PIXELS:
        raise ImageError(
            f"{width}x{height} pixels ({width * height / 1e6:.0f} megapixels) is over the limit of "
            f"{MAX_PIXELS / 1e6:.0f} megapixels; crop or scale it first"
        )
    if min(width, height) < MIN_SIDE:
        raise ImageError(f"{width}x{height} pixels is too small; wanted at least {MIN_SIDE}x{MIN_SIDE}")


def check_memory(pixels: int, bytes_each: float, file_bytes: int) -> None:
    """Refuse an image whose decoding takes too much memory.

    Args:
        pixels: How many it has.
        bytes_each: Bytes that all copies of a pixel take at the same time.
        file_bytes: Length of the file.

    Raises:
        ImageError: It takes more than ``MAX_MEMORY``.
    """
    need = pixels * bytes_each + file_bytes
    if need > MAX_MEMORY:
        raise ImageError(
            f"decoding its {pixels / 1e6:.0f} megapixels takes {need / 1e6:.0f} MB of memory, over the limit of "
            f"{MAX_MEMORY / 1e6:.0f} MB; crop or scale it first"
        )


def check_parts(count: int, what: str, most: int = MAX_PARTS) -> None:
    """Refuse a file that is cut into too many parts, each of which takes time.

    Raises:
        ImageError: It has more than `most`.
    """
    if count > most:
        raise ImageError(f"over the limit of {most} {what}; save it again")


def check_extra(count: int) -> None:
    """Refuse a file with too many bytes that hold no pixels.

    Raises:
        ImageError: It has more than ``MAX_EXTRA``.
    """
    if count > MAX_EXTRA:
        raise ImageError(
            f"over the limit of {MAX_EXTRA / 1e6:.0f} MB beside the pixels; save it again without comments"
        )


def _check_regular(status: os.stat_result) -> int:
    """The file's size."""
    if not stat.S_ISREG(status.st_mode):
        kinds = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket"}
        raise ImageError(
            f"cannot be read: it is {kinds.get(stat.S_IFMT(status.st_mode), 'a device')} and no image file"
        )
    if status.st_size > MAX_FILE_BYTES:
        raise ImageError(
            f"{status.st_size / 1e6:.0f} MB is over the limit of {MAX_FILE_BYTES / 1e6:.0f} MB for a file; "
            "crop or scale the image first"
        )
    return status.st_size
