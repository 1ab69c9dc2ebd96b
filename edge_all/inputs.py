"""From what the user named to image files, with an account of what was not looked at.

Nothing is left out in silence: what cannot be read becomes an item with its reason, and files of other kinds are
counted. A file is told from a folder, a pipe or a device without being opened.
"""

from __future__ import annotations

import os
import stat
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from edge_all.errors import DataError

SUFFIXES = frozenset(
    {
        *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".tif", ".tiff", ".bmp", ".gif", ".webp"),
        *(".ppm", ".pgm", ".pbm", ".pnm", ".pfm"),
    }
)
"""Endings of the files in a folder that count as images; a file that is given by itself may have any name."""

SLIDE_SUFFIXES = frozenset(
    (*(".svs", ".ndpi", ".mrxs", ".scn", ".bif", ".vms", ".vmu", ".svslide"), ".czi", ".dcm", ".tif", ".tiff")
)
"""The same for whole slides."""

NOTHING = "no image there; "
"""How the error of a folder without any image begins."""

EMPTY = f"{NOTHING}wanted files ending in {' '.join(sorted(SUFFIXES))}"
"""The same, where images were looked for."""

HIDDEN = "hidden"
"""Kind of the files and folders whose name begins with a dot."""

UPWARDS = "link upwards"
"""Kind of the links that lead to a folder above the one that was named."""

_LONGEST_ENDING = 12
"""What follows the last dot of a name is no ending if it is longer, the dot included."""


class Item(NamedTuple):
    """A file to be read, or something in its place that cannot be read.

    Attributes:
        path: Where it is: as named, or below a folder as named.
        error: Why it cannot be read, in one line; empty for a file to be read.
    """

    path: Path
    error: str = ""


@dataclass(frozen=True)
class Found:
    """What the user's inputs stand for.

    Attributes:
        items: For each input, in order, its files and what cannot be read among them.
        not_looked_at: How many files and folders were left out, by kind: an ending such as ``.czi``, ``no ending``,
            `HIDDEN` or `UPWARDS`.
    """

    items: tuple[tuple[Item, ...], ...]
    not_looked_at: Counter[str]


def find(named: Sequence[Path], left_out: Collection[Path] = (), suffixes: Collection[str] = SUFFIXES) -> Found:
    """List what files and folders stand for.

    A file stands for itself, whatever its name. A folder stands for the images below it: the regular files whose ending
    is in `SUFFIXES` and that are not hidden, sorted by name, a folder's own before those of its sub-folders. Links are
    followed. Every real folder is searched once, and a file that is named itself is not listed for a folder again.

    Args:
        named: Files and folders.
        left_out: Folders that are not searched.
        suffixes: Endings to look for in folders, in place of `SUFFIXES`.

    Returns:
        What was found. A folder without any image is an item with an error.
    """
    search = _Search(named, left_out, suffixes)
    return Found(tuple(tuple(search.items(path)) for path in named), search.not_looked_at)


def images_below(folder: Path) -> list[Path]:
    """The images below a folder of a data set, in the order of `find`.

    Raises:
        DataError: Something below it cannot be read, so that figures would be those of an unknown part of the images.
    """
    items = list(_Search([folder]).below(folder))
    if errors := [item for item in items if item.error]:
        many = f"{len(errors)} things below {folder} cannot be read, first " if len(errors) > 1 else ""
        raise DataError(f"{many}{errors[0].path}: {errors[0].error}; repair or remove it")
    return [item.path for item in items]


def check_name(folder: Path) -> None:
    """Check that a class can have the name of its folder.

    Raises:
        DataError: The name cannot be written as text; on Linux it may be any bytes.
    """
    try:
        folder.name.encode()
    except UnicodeEncodeError:
        raise DataError(
            f"class folder {folder}: its name is not in UTF-8, so no class can have it; rename the folder"
        ) from None


def kinds(counts: Counter[str], most: int = 5) -> str:
    """Counts in words, such as "3 .czi, 1 .txt": the most frequent kinds, and the rest in one number."""
    frequent = sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))
    words = [f"{count} {kind}" for kind, count in frequent[:most]]
    if rest := sum(count for _, count in frequent[most:]):
        words.append(f"{rest} of other kinds")
    return ", ".join(words)


_Identity = tuple[int, int] | str
"""What two paths to one folder have in common."""


class _Search:
    """A search through all that was named, in which every folder is entered once."""

    def __init__(
        self, named: Sequence[Path], left_out: Collection[Path] = (), suffixes: Collection[str] = SUFFIXES
    ) -> None:
        self._suffixes = suffixes
        self.not_looked_at: Counter[str] = Counter()
        self._left_out = frozenset(left_out)
        self._entered: set[_Identity] = set()
        self._repeated = 0
        folders = {path for path in named if _is_folder(path)}
        self._folders = folders
        self._named = set(_places(path for path in named if path not in folders) if folders else ())

    def items(self, named: Path) -> Iterator[Item]:
        """What one input stands for."""
        if named not in self._folders:
            yield Item(named)
            return
        repeated, any_item = self._repeated, False
        for item in self.below(named):
            any_item = True
            yield item
        if not any_item and self._repeated == repeated:
            yield Item(named, f"{NOTHING}wanted files ending in {' '.join(sorted(self._suffixes))}")

    def below(self, start: Path) -> Iterator[Item]:
        """The images below a folder, and what cannot be read there."""
        above = {_identity(folder) for folder in Path(os.path.realpath(start)).parents}
        waiting = [start]
        while waiting:
            folder = waiting.pop()
            try:
                identity = _identity(folder)
                if identity in above:
                    self.not_looked_at[UPWARDS] += 1
                    continue
                if identity in self._entered:
                    self._repeated += 1
                    continue
                self._entered.add(identity)
                with os.scandir(folder) as listed:
                    entries = sorted(listed, key=lambda entry: entry.name)
            except OSError as error:
                yield Item(folder, f"cannot be read: {error.strerror or error}")
                continue
            inner: list[Path] = []
            yield from self._look(folder, identity, entries, inner)
            waiting += reversed(inner)

    def _look(
        self, folder: Path, identity: _Identity, entries: Sequence[os.DirEntry[str]], inner: list[Path]
    ) -> Iterator[Item]:
        """A folder's own images, and what is no file; its sub-folders are added to `inner`."""
        for entry in entries:
            name = entry.name
            if name.startswith("."):
                self.not_looked_at[HIDDEN] += 1
                continue
            try:
                if entry.is_dir():
                    inner += {folder / name} - self._left_out
                elif not entry.is_file():
                    yield Item(folder / name, _what(folder / name))
                elif (ending := os.path.splitext(name)[1].lower()) not in self._suffixes:
                    self.not_looked_at[ending if 1 < len(ending) <= _LONGEST_ENDING else "no ending"] += 1
                elif (identity, name) in self._named:
                    self._repeated += 1
                else:
                    yield Item(folder / name)
            except OSError as error:
                yield Item(folder / name, f"cannot be read: {error.strerror or error}")


def _is_folder(path: Path) -> bool:
    """Whether a path leads to a folder; one that leads nowhere, or is no possible name, does not."""
    try:
        return stat.S_ISDIR(os.stat(path).st_mode)
    except (OSError, ValueError):
        return False


def _places(files: Iterable[Path]) -> Iterator[tuple[_Identity, str]]:
    """The folder and the name of each file."""
    for file in files:
        try:
            yield _identity(file.parent), file.name
        except (OSError, ValueError):
            continue


def _identity(folder: Path) -> _Identity:
    """What tells a folder from all others; some file systems of Windows number none of their files."""
    status = os.stat(folder)
    return (status.st_dev, status.st_ino) if status.st_ino else os.path.realpath(folder)


_SPECIAL = {
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def _what(path: Path) -> str:
    """What stands where a file was wanted, as an error.

    Raises:
        OSError: It cannot be found out.
    """
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        return "a link that leads nowhere; wanted an image file"
    return f"{_SPECIAL.get(stat.S_IFMT(mode), 'no regular file')}; wanted an image file"
