"""The arrays of a bundle's ``.npz``, checked before they are unpacked: no pickle, no more memory than is allowed."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

_BROKEN = (
    *(OSError, ValueError, LookupError, EOFError, RuntimeError, NotImplementedError, OverflowError, SyntaxError),
    *(zipfile.BadZipFile, zlib.error, struct.error),
)
"""What zipfile and numpy raise over damaged and foreign files."""

_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


class NpzError(ValueError):
    """A content that is no such file."""


def read(content: bytes, most: int) -> dict[str, npt.NDArray[Any]]:
    """Read all arrays of a file.

    Args:
        content: The file's bytes.
        most: The most bytes that the arrays may have together.

    Raises:
        NpzError: It is no such file, or larger, or an array is not as long as its shape says.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            if sum(member.file_size for member in archive.infolist()) > most:
                raise ValueError
            for member in archive.infolist():
                _check(archive, member)
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            return dict(arrays)
    except _BROKEN:
        raise NpzError from None


def pack(arrays: dict[str, npt.NDArray[Any]]) -> bytes:
    """The content of a file with these arrays, by name."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
    return buffer.getvalue()


def _check(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> None:
    """Check that an array has as many bytes as its header says: numpy makes room for it before it reads it."""
    with archive.open(member) as file:
        version = np.lib.format.read_magic(file)
        shape, _, dtype = _HEADERS[version](file)
        if dtype.hasobject or dtype.itemsize * prod(shape) + file.tell() != member.file_size:
            raise ValueError
