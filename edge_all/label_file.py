"""A CSV file that says which class each image has: ``file,label[,group][,split]``; and one of groups alone."""

from __future__ import annotations

import posixpath
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from edge_all import class_folders, csv_table
from edge_all.errors import DataError

TRAIN, VAL, TEST = "train", "val", "test"


class Entry(NamedTuple):
    """An image and what is said of it.

    Attributes:
        file: Its path relative to the data set's folder, with forward slashes, as it is on disk.
        label: Its class, in Unicode's form NFC.
        group: Its patient or slide; empty where there is none.
        part: `TRAIN`, `VAL` or `TEST`; empty where the file has no column ``split``.
    """

    file: str
    label: str
    group: str
    part: str


@dataclass(frozen=True)
class Labels:
    """What a file of labels says.

    Attributes:
        root: The folder that paths are relative to.
        entries: Every image once, in the order of the file.
        has_groups: Whether there is a column ``group``.
        notices: What a reader must know, a line each.
    """

    root: Path
    entries: tuple[Entry, ...]
    has_groups: bool
    notices: tuple[str, ...]


def read(path: Path, root: Path | None) -> Labels:
    """Read a file of labels.

    Args:
        path: The CSV file.
        root: The folder that its paths are relative to and that all images lie in; None is the file's own.

    Raises:
        DataError: A line and what is wrong with it: no such image, or one outside `root`; no label, group or split
            where others have one; one image with two; or labels that differ only by case or blanks.
    """
    root = path.parent if root is None else root
    if not root.is_dir():
        raise DataError(f"{root} is no folder; wanted the folder that the paths in {path} are relative to")
    table = csv_table.read(path, ("file", "label"), ("group", "split"))
    seen: dict[str, tuple[int, Entry]] = {}
    spelled: dict[str, tuple[int, str]] = {}
    for number, cells in table.lines:
        where = f"{path} line {number}"
        entry = _entry(root, cells["file"], cells["label"], cells.get("group", ""), where)
        if "split" in table.columns:
            entry = entry._replace(part=_part(cells["split"], where))
        _check_spelling(spelled, entry.label, number, where)
        before, other = seen.setdefault(entry.file, (number, entry))
        if other != entry:
            raise DataError(f"{where}: {entry.file} is in line {before} too, with {_difference(other, entry)}")
    ignored = ", ".join(table.ignored)
    notices = (f"columns of {path} that were not read: {ignored}",) if ignored else ()
    return Labels(root, tuple(entry for _, entry in seen.values()), "group" in table.columns, notices)


def read_groups(path: Path, root: Path) -> dict[str, str]:
    """Read a file of groups, ``file,group``. Files that are not there do no harm, and neither do other columns.

    Returns:
        Group by path relative to `root`, in Unicode's form NFC.

    Raises:
        DataError: A line and what is wrong with it.
    """
    groups: dict[str, tuple[int, str]] = {}
    for number, cells in csv_table.read(path, ("file", "group")).lines:
        where = f"{path} line {number}"
        file = _nfc(_inside(root, cells["file"].replace("\\", "/"), where))
        if cells["group"]:
            before, other = groups.setdefault(file, (number, cells["group"]))
            if other != cells["group"]:
                raise DataError(f"{where}: {file} is in line {before} too, with group {other!r}")
    return {file: group for file, (_, group) in groups.items()}


def _entry(root: Path, file: str, label: str, group: str, where: str) -> Entry:
    if not label:
        raise DataError(f"{where}: no label; wanted the class of {file or 'an image'}")
    return Entry(_existing(root, file, where), _nfc(label), group, "")


def _existing(root: Path, text: str, where: str) -> str:
    """A path as it is on the disk, where slashes and accents may be written in another way."""
    for spelling in dict.fromkeys(_spellings(text)):
        file = _inside(root, spelling, where)
        if (root / file).is_file():
            return file
    raise DataError(
        f"{where}: there is no file {root / text}; paths are relative to {root}: give that folder as --data"
    )


def _spellings(text: str) -> Iterator[str]:
    for slashed in (text, text.replace("\\", "/")):
        yield slashed
        yield _nfc(slashed)
        yield unicodedata.normalize("NFD", slashed)


def _inside(root: Path, text: str, where: str) -> str:
    """A path relative to `root`, without dots in it."""
    if not text:
        raise DataError(f"{where}: no file; wanted the path of an image")
    if Path(text).is_absolute():
        above = next(
            (folder for folder in (root, root.resolve()) if Path(text).is_relative_to(folder.absolute())), None
        )
        if above is None:
            raise DataError(f"{where}: {text} is not in {root}; give --data a folder that holds all images")
        text = Path(text).relative_to(above.absolute()).as_posix()
    file = posixpath.normpath(text)
    if file == ".." or file.startswith("../"):
        raise DataError(f"{where}: {text} leads out of {root}; give --data a folder that holds all images")
    return file


def _part(word: str, where: str) -> str:
    part = class_folders.split_of(word)
    if part is None:
        raise DataError(f"{where}: split is {word!r}; wanted {TRAIN}, {VAL} or {TEST}")
    return part


def _check_spelling(spelled: dict[str, tuple[int, str]], label: str, number: int, where: str) -> None:
    before, other = spelled.setdefault(class_folders.key(label), (number, label))
    if other != label:
        raise DataError(f"{where}: label {label!r}, and {other!r} in line {before}; write one class in one way")


def _difference(one: Entry, other: Entry) -> str:
    names = {"label": "label", "group": "group", "part": "split"}
    return next(f"{names[name]} {getattr(one, name)!r}" for name in names if getattr(one, name) != getattr(other, name))


def _nfc(text: str) -> str:
    return unicodedata.normalize("NFC", text)
