"""The files of a bundle, read from a folder or from a ``.zip``: regular ones only, of the size and SHA-256 recorded."""

from __future__ import annotations

import hashlib
import os
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO

from edge_all.errors import BundleError
from edge_all.record import FileEntry

RECORD = "bundle.json"

SIGNATURE = f"{RECORD}.minisig"
"""The record's signature, where the bundle is signed."""

MAX_RECORD = 4 * 2**20
"""Largest record that is read, in bytes; that of an export has about 20 KiB."""

MAX_SIGNATURE = 20_000
"""Largest signature that is read, in bytes; minisign's own limit is lower."""

_AGAIN = "export or copy the bundle again"

_CHUNK = 2**20

_BOMB_BYTES, _BOMB_RATIO = 16 * 2**20, 200
"""A file in a ``.zip`` that is larger than this, and so many times larger than its packed form, is not unpacked."""

_UNREADABLE = (
    *(OSError, zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, struct.error),
    *(ValueError, OverflowError),
)
"""What Python's zipfile raises over damaged, encrypted and foreign archives, with the errors of reading a file."""


def names(path: Path) -> set[str]:
    """Names of all files in a bundle's folder or ``.zip``.

    Raises:
        BundleError: It cannot be read.
    """
    try:
        if path.is_dir():
            return {entry.name for entry in os.scandir(path)}
        with _regular(path, links=True) as file, zipfile.ZipFile(file) as archive:
            return set(archive.namelist())
    except _UNREADABLE as error:
        raise BundleError(f"{path}: cannot be read ({_reason(error)}); {_AGAIN}") from None


def read_record(path: Path) -> bytes:
    """The bytes of ``bundle.json``."""
    return read(path, RECORD, MAX_RECORD)


def read_signature(path: Path) -> bytes | None:
    """The bytes of the record's signature; None where the bundle is not signed."""
    return read(path, SIGNATURE, MAX_SIGNATURE) if SIGNATURE in names(path) else None


def read(path: Path, name: str, most: int) -> bytes:
    """Read a file of at most so many bytes.

    Raises:
        BundleError: It is missing, larger, no regular file, or cannot be read.
    """
    with _opened(path, name) as (file, size):
        if size > most:
            raise BundleError(f"{path}: {name} has {size} bytes, and at most {most} are read; {_AGAIN}")
        return file.read(size)


def read_checked(path: Path, name: str, entry: FileEntry) -> bytes:
    """Read a file whose size and SHA-256 are those of the record; the bytes returned are the ones that were checked.

    Raises:
        BundleError: They differ, or it is missing, no regular file, or cannot be read.
    """
    with _opened(path, name) as (file, size):
        _check_size(path, name, size, entry)
        content = file.read(entry["bytes"] + 1)
    _check_digest(path, name, hashlib.sha256(content).hexdigest(), entry)
    return content


def check(path: Path, name: str, entry: FileEntry) -> None:
    """Check a file as `read_checked` does, without keeping it in memory."""
    with _opened(path, name) as (file, size):
        _check_size(path, name, size, entry)
        found, left = hashlib.sha256(), size + 1
        while left > 0 and (chunk := file.read(min(_CHUNK, left))):
            found.update(chunk)
            left -= len(chunk)
    _check_digest(path, name, found.hexdigest(), entry)


def _check_size(path: Path, name: str, size: int, entry: FileEntry) -> None:
    if size != entry["bytes"]:
        raise BundleError(f"{path}: {name} has {size} bytes, and {entry['bytes']} are wanted; {_AGAIN}")


def _check_digest(path: Path, name: str, found: str, entry: FileEntry) -> None:
    if found != entry["sha256"]:
        raise BundleError(f"{path}: {name} is damaged (its SHA-256 differs); {_AGAIN}")


@contextmanager
def _opened(path: Path, name: str) -> Iterator[tuple[IO[bytes], int]]:
    """One of a bundle's files, and its size as the folder or the ``.zip`` gives it."""
    try:
        with ExitStack() as stack:
            if path.is_dir():
                file = stack.enter_context(_regular(path / name, links=False))
                yield file, os.fstat(file.fileno()).st_size
            else:
                whole = stack.enter_context(_regular(path, links=True))
                archive = stack.enter_context(zipfile.ZipFile(whole))
                member = _member(archive, name)
                yield stack.enter_context(archive.open(member)), member.file_size
    except (FileNotFoundError, KeyError):
        raise BundleError(f"{path}: {name} is missing; {_AGAIN}") from None
    except _UNREADABLE as error:
        raise BundleError(f"{path}: {name} cannot be read ({_reason(error)}); {_AGAIN}") from None


def _regular(path: Path, *, links: bool) -> IO[bytes]:
    """Open a regular file; a pipe or a device is refused without waiting for it.

    Args:
        path: The file.
        links: Whether it may be a link to one.
    """
    found = path.stat() if links else path.lstat()
    if not stat.S_ISREG(found.st_mode):
        raise ValueError("it is no regular file but a link, a folder, a pipe or a device")
    flags = ["O_BINARY", "O_CLOEXEC", "O_NONBLOCK", *([] if links else ["O_NOFOLLOW"])]
    handle = os.open(path, os.O_RDONLY | sum(getattr(os, flag, 0) for flag in flags))
    if not stat.S_ISREG(os.fstat(handle).st_mode):  # it was exchanged since
        os.close(handle)
        raise ValueError("it is no regular file")
    return os.fdopen(handle, "rb")


def _member(archive: zipfile.ZipFile, name: str) -> zipfile.ZipInfo:
    found = [member for member in archive.infolist() if member.filename == name]
    if not found:
        raise KeyError(name)
    if len(found) > 1:
        raise ValueError(f"the archive holds it {len(found)} times")
    if found[0].file_size > max(_BOMB_BYTES, _BOMB_RATIO * found[0].compress_size):
        raise ValueError(f"{found[0].compress_size} bytes in the archive would become {found[0].file_size}")
    return found[0]


def _reason(error: BaseException) -> str:
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return " ".join(str(text).split())
