"""The folders of a labelled data set: which of them are classes, and the layouts in which they are none.

A split, a wrapper or a folder of masks that passes for a class gives figures that mean nothing, and no error.
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

from edge_all import inputs
from edge_all.errors import DataError

_SPLITS = frozenset({
    "train", "training", "val", "valid", "validation", "dev", "test", "testing", "eval", "evaluation", "holdout",
    "fold", "folds", "split", "splits", "cv",
})  # fmt: skip
_SOURCES = frozenset({
    "original", "originals", "image", "images", "img", "imgs", "picture", "pictures", "photo", "photos", "raw", "data",
})  # fmt: skip
_DERIVED = frozenset({
    "segmented", "segmentation", "segmentations", "mask", "masks", "groundtruth", "annotation", "annotations", "labels",
    "annotated", "overlay", "overlays", "augmented", "augmentation", "processed", "preprocessed",
})  # fmt: skip
_FILLERS = frozenset({"set", "sets", "data", "files", "folder", "folders", "only"})
_UNITS = frozenset({
    "slide", "slides", "patient", "case", "subject", "sample", "specimen", "smear", "field", "batch", "series", "day",
    "session",
})  # fmt: skip
"""Words in names of folders: splits, photographs, what is derived from them, words beside these, parts of a class."""

_ROLES = {
    "train": "train", "training": "train",
    "val": "val", "valid": "val", "validation": "val", "dev": "val",
    "test": "test", "testing": "test", "holdout": "test",
}  # fmt: skip
"""What a split is for, by its name: to fit on, to choose by, or to measure on alone."""

_MANY = 4
"""Names that an error lists."""


def find(root: Path) -> dict[str, Path]:
    """List the folders in a folder, links to folders included, hidden ones left out.

    Returns:
        By name in Unicode's form NFC, sorted by it.

    Raises:
        DataError: `root` is no folder or cannot be read, names differ only by case or blanks, or a link leads to the
            images of another folder or back to `root`.
    """
    if not root.exists():
        raise DataError(f"{root} does not exist; wanted a folder with one sub-folder a class: check the path")
    if not root.is_dir():
        raise DataError(f"{root} is a file; wanted a folder with one sub-folder a class: give the folder")
    folders = _folders(root)
    by_key: dict[str, Path] = {}
    for folder in folders:
        inputs.check_name(folder)
        if not key(folder.name):
            raise DataError(f"{root} holds a folder whose name is blank; give it the name of its class")
        other = by_key.setdefault(key(folder.name), folder)
        if other != folder:
            raise DataError(
                f"{root} holds {other.name!r} and {folder.name!r}, which differ only by case, blanks or the form of "
                "their accents; rename or merge them"
            )
    _check_links(root, folders)
    return {name: folder for name, folder in sorted((_nfc(folder.name), folder) for folder in folders)}


def key(name: str) -> str:
    """A form of a name in which those that differ only by case or blanks are equal."""
    return "".join(_nfc(_nfc(name).casefold()).split())


def listed(folders: Collection[Path]) -> str:
    """The first names of some folders, and how many more there are."""
    named = ", ".join(folder.name for folder in list(folders)[:_MANY])
    return f"{named} and {len(folders) - _MANY} more" if len(folders) > _MANY else named


def split_of(name: str) -> str | None:
    """``train``, ``val`` or ``test``, by the name of a split such as ``Training`` or ``test_set``; None for another."""
    words = _words(name)
    roles = {_ROLES[word] for word in words if word in _ROLES}
    return roles.pop() if len(roles) == 1 and words <= _ROLES.keys() | _FILLERS else None


def splits(root: Path) -> dict[str, Path]:
    """The splits of a folder that holds nothing but one for training, one for testing, and one to choose by or none.

    Returns:
        Folder by ``train``, ``val`` and ``test``; each holds folders, which are the classes. Empty for other folders.
    """
    folders = _folders(root) if root.is_dir() else []
    found = {split_of(folder.name): folder for folder in folders if _folders(folder)}
    whole = len(found) == len(folders) and {"train", "test"} <= found.keys()
    return {name: folder for name, folder in found.items() if name} if whole and None not in found else {}


def check_layout(root: Path, folders: Collection[Path]) -> None:
    """Refuse folders that are no classes: splits, wrappers, and what is derived from the images.

    Args:
        root: The data set.
        folders: Those in it.

    Raises:
        DataError: What was seen, and which folder to give.
    """
    parts = [folder for folder in folders if _is_part(folder)]
    if parts:
        what = "parts of a data set and no classes" if len(parts) > 1 else "a part of a data set and no class"
        raise DataError(f"{root} holds {listed(parts)}: {what}; {_advice(root, parts)}")
    if len(folders) == 1:
        _check_wrapper(root, next(iter(folders)))
    _check_twins(root, folders)
    for folder in folders:
        parts = [inner for inner in _folders(folder) if _names_part(inner.name) and _holds_images(inner)]
        derived = [inner for inner in parts if _words(inner.name) & _DERIVED]
        if derived:
            raise DataError(
                f"class folder {folder} holds {listed(derived)}, made from photographs; wanted photographs alone: move "
                f"{'them' if len(derived) > 1 else 'it'} elsewhere"
            )


def _nfc(text: str) -> str:
    return unicodedata.normalize("NFC", text)


def _folders(root: Path) -> list[Path]:
    try:
        return sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))
    except OSError as error:
        raise DataError(f"{root} cannot be read ({error.strerror or error}); wanted a folder you may read") from None


def _check_links(root: Path, folders: Iterable[Path]) -> None:
    """Every image belongs to one class, so no folder is, or is inside, another one."""
    above = Path(os.path.realpath(root))
    real: dict[Path, Path] = {}
    for folder in folders:
        place = Path(os.path.realpath(folder))
        if above.is_relative_to(place):
            raise DataError(f"{folder} is a link to {place}, which holds {root} itself; remove the link")
        other = real.setdefault(place, folder)
        if other != folder:
            raise DataError(f"{other} and {folder} are the same folder, so no image has one class; remove a link")
    for place, folder in real.items():
        outer = next((real[parent] for parent in place.parents if parent in real), None)
        if outer:
            raise DataError(f"{folder} is a link into {outer}, so its images have two classes; remove the link")


def _words(name: str) -> set[str]:
    """Of ``Trainset_2`` it is ``train``."""
    words: list[str] = re.findall(r"[^\W\d_]+", _nfc(name).casefold())
    return {re.sub("(?<=..)(set|data|images?)$", "", word) for word in words}


def _names_part(name: str) -> bool:
    """Whether a name has words of a data set's parts and no others, such as ``fold_0`` or ``Training images``."""
    words = _words(name)
    parts = _SPLITS | _SOURCES | _DERIVED
    return bool(words & parts) and words <= parts | _FILLERS


def _is_part(folder: Path) -> bool:
    """Whether a folder is a part of a data set, by its name; a longer name, such as ``site-A_train``, needs folders."""
    return _names_part(folder.name) or bool(_words(folder.name) & _SPLITS and _folders(folder))


def _check_wrapper(root: Path, folder: Path) -> None:
    """Refuse a single folder around class folders."""
    inner = _inner(folder)
    classes = _folders(inner)
    if len(classes) > 1:
        raise DataError(
            f"{root} holds one folder, {folder.name}, and the folders {listed(classes)} are in it; wanted one "
            f"sub-folder a class: give {inner}"
        )


def _check_twins(root: Path, folders: Iterable[Path]) -> None:
    """Refuse folders that hold the same sub-folders: these are the classes, and the folders splits or sites."""
    by_inner: dict[frozenset[str], list[Path]] = {}
    for folder in folders:
        inner = [path for path in _folders(folder) if not _names_part(path.name) and not _words(path.name) & _UNITS]
        if len(inner) > 1 and not _holds_images(folder):
            by_inner.setdefault(frozenset(key(path.name) for path in inner), []).append(folder)
    twins = max(by_inner.values(), key=len, default=[])
    if len(twins) > 1:
        raise DataError(
            f"{root} holds {listed(twins)}, which all hold the folders {listed(_folders(twins[0]))}: if these are the "
            f"classes, give one of the former, such as {twins[0]}, or merge them; if not, move the images out of them"
        )


def _holds_images(folder: Path) -> bool:
    return any(path.suffix.lower() in inputs.SUFFIXES and path.is_file() for path in folder.iterdir())


def _advice(root: Path, parts: Sequence[Path]) -> str:
    """What to give in place of a folder that holds parts of a data set."""
    with_classes = [part for part in parts if _folders(part)]
    if not with_classes:
        if len(parts) == len(_folders(root)):
            return "their images have no class: sort them into one folder for each class"
        return f"move {'them' if len(parts) > 1 else 'it'} elsewhere, so that every folder is a class"
    inner = _inner(_preferred(with_classes))
    if len(with_classes) > 1 and all(_words(part.name) & _SPLITS for part in with_classes):
        return f"give one of them, such as {inner}, or merge them into one folder for each class"
    return f"give {inner}"


def _preferred(parts: Sequence[Path]) -> Path:
    """The part with photographs rather than masks, and with training rather than test images."""
    for wanted in (_SOURCES - _DERIVED, frozenset({"train", "training"})):
        chosen = [part for part in parts if _words(part.name) & wanted and not _words(part.name) & _DERIVED]
        if chosen:
            return chosen[0]
    return next((part for part in parts if not _words(part.name) & _DERIVED), parts[0])


def _inner(folder: Path) -> Path:
    """The folder of classes, or of splits that are kept, below a wrapper or a part."""
    while (inner := _folders(folder)) and not splits(folder):
        parts = [path for path in inner if _is_part(path) and _folders(path)]
        if parts:
            folder = _preferred(parts)
        elif len(inner) == 1 and _folders(inner[0]):
            folder = inner[0]
        else:
            break
    return folder
