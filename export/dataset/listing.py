"""Which images a data set has, and what class, split and group each is of, before any is opened."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from edge_all import class_folders, inputs, label_file, record_check
from edge_all.errors import DataError

from .record import normalized_name
from .splits import FOLDS


@dataclass(frozen=True)
class Listing:
    """The images of a data set, by class and then in natural order of their names.

    Attributes:
        root: The folder that paths are relative to.
        classes: Class names, sorted.
        files: Paths relative to `root`, with forward slashes.
        labels: Number of each image's class.
        parts: ``train``, ``val`` or ``test`` for each image; empty where there are no splits.
        groups: The group of each image; empty where the listing names none.
        notices: What a reader must know, a line each.
        names: What names the classes: the file of labels, or the folder.
    """

    root: Path
    classes: tuple[str, ...]
    files: Sequence[str]
    labels: Sequence[int]
    parts: Sequence[str]
    groups: Sequence[str]
    notices: Sequence[str]
    names: Path


def from_folders(root: Path) -> Listing:
    """The images of a folder that holds one folder a class, or splits that each hold one.

    Raises:
        DataError: It is no such folder, or a class of it holds no image.
    """
    splits = class_folders.splits(root)
    by_part = {part: _class_folders(folder) for part, folder in splits.items()} or {"": _class_folders(root)}
    if splits:
        by_part = _same_names(by_part, splits)
    classes = tuple(sorted(set().union(*by_part.values())))
    images: list[tuple[int, str, str]] = []
    for part, folders in by_part.items():
        for name, folder in folders.items():
            files = [path.relative_to(root).as_posix() for path in inputs.images_below(folder)]
            if not files:
                raise DataError(
                    f"class folder {str(folder)!r} holds no image; wanted at least {FOLDS} images a class "
                    f"({', '.join(sorted(inputs.SUFFIXES))}): add them or remove the folder"
                )
            images += [(classes.index(name), file, part) for file in files]
    return _sorted(root, classes, images, {}, (), root)


def from_labels(path: Path, root: Path | None) -> Listing:
    """The images that a file of labels lists.

    Raises:
        DataError: What is wrong with it, and in which line.
    """
    read = label_file.read(path, root)
    classes = tuple(sorted({entry.label for entry in read.entries}))
    images = [(classes.index(entry.label), entry.file, entry.part) for entry in read.entries]
    groups = {entry.file: entry.group for entry in read.entries} if read.has_groups else {}
    return _sorted(read.root, classes, images, groups, read.notices, path)


def check_classes(listed: Listing) -> None:
    """Check that heads can be fitted on the classes, and that a bundle can have them.

    Raises:
        DataError: There is one class, a name is none for a bundle, or a class has too few images to train on or none.
    """
    root, names = listed.root, listed.names
    if len(listed.classes) == 1:
        what = "holds one class folder" if names == root else "names one class"
        raise DataError(
            f"{names} {what}, {listed.classes[0]!r}; wanted two or more classes"
            + (": give the folder above the class folders" if names == root else "")
        )
    try:
        record_check.check_classes(list(listed.classes))
    except record_check.RecordError as error:
        raise DataError(f"{names}: a class of a bundle cannot be called so: {error}: rename it") from None
    parts = listed.parts or [""] * len(listed.files)
    counts = {
        kind: Counter(label for label, part in zip(listed.labels, parts, strict=True) if (part == "test") is kind)
        for kind in (False, True)
    }
    for label, name in enumerate(listed.classes):
        if (count := counts[False][label]) < FOLDS:
            where = " to train on" if listed.parts else ""
            place = next(f for f, of in zip(listed.files, listed.labels, strict=True) if of == label)
            remedy = f"{root / place.split('/')[0]} or remove the folder" if not listed.parts else "the training split"
            raise DataError(
                f"class {name!r} has {count} of the {FOLDS} images{where} that {FOLDS}-fold cross-validation wants; "
                f"add images to {remedy if names == root else names}"
            )
        if counts[True] and not counts[True][label]:
            raise DataError(f"class {name!r} has no image in the test split of {names}; add some, or remove the class")


def natural_key(file: str) -> tuple[object, ...]:
    """Sort key under which ``WBC-2.jpg`` comes before ``WBC-10.jpg``."""
    # Split at the digits, text and number alternate, so that a number is never compared with text.
    parts = tuple(
        tuple(int(piece) if index % 2 else piece.casefold() for index, piece in enumerate(re.split("([0-9]+)", part)))
        for part in PurePosixPath(normalized_name(file)).parts
    )
    return parts, file


def _sorted(
    root: Path,
    classes: tuple[str, ...],
    images: Sequence[tuple[int, str, str]],
    groups: dict[str, str],
    notices: Sequence[str],
    names: Path,
) -> Listing:
    ordered = sorted(images, key=lambda image: (image[0], natural_key(image[1])))
    files, parts = [file for _, file, _ in ordered], [part for _, _, part in ordered]
    return Listing(
        root,
        classes,
        files,
        labels=[label for label, _, _ in ordered],
        parts=parts if any(parts) else (),
        groups=[groups[file] for file in files] if groups else (),
        notices=notices,
        names=names,
    )


def _same_names(by_part: dict[str, dict[str, Path]], splits: dict[str, Path]) -> dict[str, dict[str, Path]]:
    """The folders of each split by the names that the classes have in the training split."""
    known = {class_folders.key(name): name for name in by_part["train"]}
    for part, folders in by_part.items():
        if unknown := [name for name in folders if class_folders.key(name) not in known]:
            raise DataError(
                f"{splits[part]} holds the class {unknown[0]!r}, and {splits['train']} does not; "
                "give all splits the same classes"
            )
    return {
        part: {known[class_folders.key(name)]: folder for name, folder in folders.items()}
        for part, folders in by_part.items()
    }


def _class_folders(root: Path) -> dict[str, Path]:
    """Class name to folder, in sorted order of names. Blanks around a folder's name are no part of the class's."""
    folders = class_folders.find(root)
    if not folders:
        raise DataError(f"{root} holds no sub-folder; wanted one sub-folder a class, with that class's images in it")
    class_folders.check_layout(root, folders.values())
    return dict(sorted((name.strip(), folder) for name, folder in folders.items()))
