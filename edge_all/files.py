"""Files written aside and renamed, so that a reader sees the old content or the new, and never a part of either.

A link stays: what it leads to gets the content. What is no file on a disk, such as ``/dev/stdout`` or a pipe, is
written to as it is.
"""

from __future__ import annotations

import errno
import os
import secrets
import shutil
import stat
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from edge_all.errors import EdgeAllError


def write(path: Path, content: bytes | str, mode: int = 0o666) -> None:
    """Write a file whole, or leave what was there; text becomes UTF-8.

    Args:
        path: The file.
        content: What it is to hold.
        mode: Permissions of the file, less what the umask forbids.

    Raises:
        OSError: It cannot be written.
    """
    with replacing(path, mode) as aside:
        aside.write_bytes(content.encode() if isinstance(content, str) else content)


@contextmanager
def replacing(path: Path, mode: int = 0o666) -> Iterator[Path]:
    """Give the name of a new, empty file, and put its content at `path` when the block ends without an error.

    Raises:
        OSError: It cannot be written.
    """
    if is_stream(path):
        with tempfile.TemporaryDirectory() as folder:
            aside = Path(folder, f"content{path.suffix}")
            aside.touch()
            yield aside
            _send(path, aside.read_bytes())
        return
    target = destination(path)
    aside = target.with_name(f".{target.stem}.{os.getpid()}-{secrets.token_hex(4)}{target.suffix}")
    try:
        aside.touch(mode, exist_ok=False)
        yield aside
        with suppress(FileNotFoundError):
            shutil.copymode(target, aside)
        aside.replace(target)
    finally:
        aside.unlink(missing_ok=True)


def destination(path: Path) -> Path:
    """Where a path leads: a link is followed to what it stands for, which need not exist.

    Raises:
        OSError: The links lead round in a circle.
    """
    if not path.is_symlink():
        return path
    target = Path(os.path.realpath(path))
    if target.is_symlink():
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path))
    return target


def check_writable(path: Path) -> None:
    """Say before the work begins what would stop a file from being written at its end.

    Raises:
        EdgeAllError: It is a folder, a disk or a socket, or its folder is missing or cannot be written to.
    """
    try:
        target = path if is_stream(path) else destination(path)
        found = target.stat() if target.exists() else None
    except OSError as error:
        raise EdgeAllError(f"{path}: cannot be written ({error.strerror or error}); give another file") from None
    mode = found.st_mode if found else stat.S_IFREG
    if stat.S_ISDIR(mode):
        raise EdgeAllError(f"{path} is a folder; wanted the name of a file to write")
    if stat.S_ISBLK(mode) or stat.S_ISSOCK(mode):
        raise EdgeAllError(f"{path} is no file; wanted the name of a file to write")
    if not target.parent.is_dir():
        raise EdgeAllError(f"{path}: there is no folder {target.parent} to write it into")
    if found and _own_output(found) is not None:
        return
    places = [*([target] if found else []), *([] if is_stream(path) else [target.parent])]
    if not all(os.access(place, os.W_OK) for place in places):
        raise EdgeAllError(f"{path}: cannot be written to; give another file, or the right to write this one")


def is_stream(path: Path) -> bool:
    """Whether a path leads to a device, a pipe, or what this process's own output goes to, and not to another file."""
    try:
        found = path.stat()
    except OSError:
        return False
    return not (stat.S_ISREG(found.st_mode) or stat.S_ISDIR(found.st_mode)) or _own_output(found) is not None


def _own_output(found: os.stat_result) -> int | None:
    """The number of the process's own output, 1 or 2, that goes to this file; None for any other file."""
    if os.name == "nt":  # where a file that is written to is open to no other name
        return None
    for handle in (1, 2):
        with suppress(OSError):
            if os.path.samestat(found, os.fstat(handle)):
                return handle
    return None


def _send(path: Path, content: bytes) -> None:
    """Write to a stream. The process's own output goes on behind the content."""
    handle = _own_output(path.stat())
    if handle is None:
        with open(path, "wb", buffering=0) as file:
            _write_all(file.fileno(), content)
        return
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    _write_all(handle, content)


def _write_all(handle: int, content: bytes) -> None:
    rest = memoryview(content)
    while rest:
        rest = rest[os.write(handle, rest) :]
