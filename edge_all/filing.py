"""Files put into one folder for each label: never over another file, and never a part of one."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from edge_all import files

_FORBIDDEN = re.compile(r'[\x00-\x1f\x7f<>:"/\\|?*]')
"""Characters that a name may not have on one of the systems."""

_DEVICES = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)
"""Names that Windows takes for devices."""

_NO_LINKS = frozenset({errno.EPERM, errno.ENOSYS, errno.EMLINK, errno.EACCES, errno.EOPNOTSUPP, errno.ENOTSUP})
"""What file systems without hard links answer."""


def folder_name(label: str) -> str:
    """A label as the name of one folder, on any system."""
    name = _FORBIDDEN.sub("_", label).strip(" .") or "_"
    return f"_{name}" if _DEVICES.fullmatch(name) else name


def move(source: Path, folder: Path, moved: Callable[[Path], None]) -> Path:
    """Move a file into a folder of the same file system, in one step, under its name or one like it that is free.

    Args:
        source: The file.
        folder: Where to; it is made where it is missing.
        moved: Called with the new path before the old one goes, so that a kill leaves no file that nobody knows.

    Returns:
        The new path.

    Raises:
        OSError: It cannot be moved.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for target in _names(folder, source.name):
        try:
            _rename(source, target, moved)
        except FileExistsError:
            if not _is_same(source, target):
                continue
            moved(target)  # an earlier process was killed in the middle
            source.unlink()
        return target
    raise AssertionError("names do not end")


def put(content: bytes, folder: Path, name: str) -> bool:
    """Write a file into a folder, under its name or one like it that is free.

    Args:
        content: What it is to hold.
        folder: Where; it is made where it is missing.
        name: Of the file.

    Returns:
        False if the folder has a file of this content under such a name already.

    Raises:
        OSError: It cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for target in _names(folder, name):
        if not os.path.lexists(target):
            aside = target.with_name(f".{target.stem}.{os.getpid()}.part")
            try:
                files.write(aside, content)
                _rename(aside, target, lambda path: None)
            except FileExistsError:
                continue
            finally:
                aside.unlink(missing_ok=True)
            return True
        with suppress(OSError):
            if target.stat().st_size == len(content) and target.read_bytes() == content:
                return False
    raise AssertionError("names do not end")


def _names(folder: Path, name: str) -> Iterator[Path]:
    yield folder / name
    stem, suffix = os.path.splitext(name)
    count = 2
    while True:
        yield folder / f"{stem}-{count}{suffix}"
        count += 1


def _rename(source: Path, target: Path, moved: Callable[[Path], None]) -> None:
    """Rename a file.

    Raises:
        FileExistsError: The new name is taken.
        OSError: It cannot be renamed.
    """
    if os.name != "nt":  # where rename replaces what is there, and link does not
        try:
            os.link(source, target)
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
        else:
            moved(target)
            source.unlink()
            return
        if os.path.lexists(target):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target))
    source.rename(target)
    moved(target)


def _is_same(source: Path, target: Path) -> bool:
    try:
        return os.path.samefile(source, target)
    except OSError:
        return False
