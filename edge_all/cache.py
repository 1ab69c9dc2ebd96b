"""The cache: files that can be made again, in ``$EDGE_ALL_CACHE``, else in ``edge-all`` in the user's cache folder.

Nothing here raises an error: what cannot be read is not there, and what cannot be written is made again by the next
process. A file of the cache decides about labels, so it is used only where no other user could have written it. This is
checked as ssh checks its keys: the file, its folder and all folders above belong to the user or to root, and nobody
else may write to them. Windows keeps other users out of a user's folders by itself.
"""

from __future__ import annotations

import os
import stat
import sys
from contextlib import suppress
from functools import cache
from pathlib import Path

from edge_all import files, places


def folder(name: str) -> Path | None:
    """A folder of the cache, without symbolic links, made where it is missing; None where none can be used."""
    path = _place(name)
    if path is None:
        return None
    with suppress(OSError):
        _make(path)
        status = path.lstat()
        if stat.S_ISDIR(status.st_mode) and not _others_may_write(status):
            return path
        _refuse(str(path))
    return None


def load(name: str, most: int) -> bytes | None:
    """The content of a file of the cache; None if there is none that can be used.

    Args:
        name: ``FOLDER/FILE``.
        most: A file of more bytes than this is none of ours.
    """
    path = _place(name)
    if path is None:
        return None
    try:
        with open(path, "rb", opener=_open_at_once) as file:
            status = os.fstat(file.fileno())
            if _others_may_write(status):
                _refuse(str(path))
            elif stat.S_ISREG(status.st_mode) and status.st_size <= most:
                return file.read(status.st_size)
    except OSError:
        pass
    return None


def store(name: str, content: bytes) -> None:
    """Write ``FOLDER/FILE``, for this user only."""
    path = _place(name)
    if path is not None:
        with suppress(OSError):
            _make(path.parent)
            _clear(path)
            files.write(path, content, mode=0o600)


def remove(name: str) -> None:
    """Remove ``FOLDER/FILE``."""
    path = _place(name)
    if path is not None:
        with suppress(OSError):
            path.unlink()


def _place(name: str) -> Path | None:
    """Where a file or a folder of the cache is; None where somebody else could have put it there."""
    try:
        base = os.environ.get("EDGE_ALL_CACHE") or places.cache()
        if base is None:
            return None
        above, last = os.path.split(os.path.join(base, name))
        above = os.path.realpath(above)  # links are followed here, and not again when the file is opened
        open_folder = _open_to_others(above)
    except OSError:
        return None
    if open_folder:
        _refuse(open_folder)
        return None
    return Path(above, last)


def _open_to_others(folder: str) -> str | None:
    """The first of a folder and those above it that another user may write to; those that do not exist are left out."""
    each, below = folder, ""
    while each != below:
        try:
            if _others_may_write(os.lstat(each), is_cache=each == folder):
                return each
        except FileNotFoundError:
            pass
        each, below = os.path.dirname(each), each
    return None


def _others_may_write(status: os.stat_result, *, is_cache: bool = True) -> bool:
    """Whether another user may write to a file, or may replace what is in a folder.

    Args:
        status: Of the file or the folder.
        is_cache: In a sticky folder, such as ``/tmp``, others may put files, which is wrong for the cache itself; they
            cannot replace the user's own folders there, so that the cache may lie in one of these.
    """
    if sys.platform == "win32":
        return False
    writable = status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    sticky = stat.S_ISDIR(status.st_mode) and status.st_mode & stat.S_ISVTX
    return bool(status.st_uid not in (0, os.geteuid()) or (writable and (is_cache or not sticky)))


def _clear(path: Path) -> None:
    """Remove a pipe or a link that is in the place of a file: it would be written to."""
    with suppress(FileNotFoundError):
        if not stat.S_ISREG(path.lstat().st_mode):
            path.unlink()


def _open_at_once(path: str, flags: int) -> int:
    """Open a file; no link is followed, and a pipe is not waited for."""
    return os.open(path, flags | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))


def _make(path: Path) -> None:
    """Make a folder, and those above it, for this user only."""
    if not path.is_dir():
        _make(path.parent)
        path.mkdir(mode=0o700, exist_ok=True)


@cache
def _refuse(path: str) -> None:
    """Say once why the cache is not used."""
    import logging

    logging.getLogger("edge_all").warning(
        "%s: another user may write there, so the cache is not used and every start takes longer; "
        "make it yours alone (chown, chmod go-w), or set EDGE_ALL_CACHE to a folder of your own",
        path,
    )
