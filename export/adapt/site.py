"""The images of a site: one folder a class, as ``edge-all results --export`` writes it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from edge_all import class_folders, filing, inputs, record_check
from edge_all.errors import DataError
from edge_all.progress import Progress, ignore
from edge_all.record import SiteRecord

from ..dataset import Dataset, groups
from ..dataset.duplicates import merged
from ..dataset.folder import scan
from ..dataset.listing import natural_key

LEAST = 5
"""Fields that a class must have, where it has any."""

FOLDS = 5


@dataclass(frozen=True)
class Site:
    """The images of a site.

    Attributes:
        data: The images, under the classes of the bundle; a class may have none.
        groups: ``int64 [S]``: images that are never on both sides of a split.
        folds: ``int64 [S]``: the fold in which each image is tested.
    """

    data: Dataset
    groups: np.ndarray
    folds: np.ndarray

    @property
    def record(self) -> SiteRecord:
        """For the bundle's record."""
        return {
            "name": self.data.root.resolve().name,
            "images": len(self.data),
            "counts": self.data.counts,
            "fingerprint": self.data.fingerprint,
            "groups": len(np.unique(self.groups)),
        }


def read(root: Path, classes: Sequence[str] | None, known: frozenset[str], progress: Progress = ignore) -> Site:
    """Read a site's folder.

    Images in one sub-folder of a class, such as a slide's or a session's, stay together, and so do near-duplicates.

    Args:
        root: One folder for each class that the site has fields of.
        classes: Those of the bundle; None takes the folders' names.
        known: The first 16 digits of the SHA-256 of the bundle's training images.
        progress: Counts images.

    Raises:
        DataError: A folder is no class of the bundle, a class has too few fields, or an image is damaged or known.
    """
    classes = _named(root) if classes is None else classes
    files, labels = _listed(root, _folders(root, classes))
    digests, thumbnails = scan(root, files, progress)
    data = Dataset(root, tuple(classes), tuple(files), np.array(labels, np.int64), digests, thumbnails)
    _check(data, known)
    together = merged(groups(data), [_session(file) or file for file in files])
    return Site(data, together, folds(data.labels, together))


def folds(labels: np.ndarray, groups: np.ndarray, count: int = FOLDS) -> np.ndarray:
    """Whole groups dealt to folds, the largest first, each to the fold that has fewest of its class.

    Args:
        labels: ``int64 [S]``.
        groups: ``int64 [S]``.
        count: How many folds.

    Returns:
        ``int64 [S]``.
    """
    result = np.zeros(len(labels), np.int64)
    held = np.zeros((count, int(labels.max()) + 1))
    numbers, sizes = np.unique(groups, return_counts=True)
    for group in numbers[np.argsort(-sizes, kind="stable")]:
        members = groups == group
        own = np.bincount(labels[members], minlength=held.shape[1])
        fold = min(range(count), key=lambda k: (held[k][own > 0].sum(), held[k].sum(), k))
        result[members] = fold
        held[fold] += own
    return result


def _session(file: str) -> str:
    """The sub-folder of a class that an image is in, such as ``Benign/slide 3``; empty for none."""
    parts = PurePosixPath(file).parts
    return "/".join(parts[:2]) if len(parts) > 2 else ""


def _named(root: Path) -> list[str]:
    """The names of the folders, which are the classes of a new bundle."""
    names = sorted(name.strip() for name in class_folders.find(root))
    try:
        record_check.check_classes(names)
    except record_check.RecordError as error:
        raise DataError(f"{root}: its folders cannot be the classes of a bundle: {error}") from None
    return names


def _folders(root: Path, classes: Sequence[str]) -> Mapping[Path, int]:
    """The number of the class that each folder holds."""
    by_key = {class_folders.key(name): k for k, name in reversed(list(enumerate(classes)))}
    by_key |= {class_folders.key(filing.folder_name(name)): k for k, name in enumerate(classes)}
    found = class_folders.find(root)
    if not found:
        raise DataError(f"{root} holds no sub-folder; wanted one sub-folder a class, with that class's images in it")
    unknown = [name for name in found if class_folders.key(name) not in by_key]
    if unknown:
        raise DataError(
            f"{root} holds {', '.join(unknown[:4])}, and the classes of the bundle are {', '.join(classes)}: rename or "
            "remove the folder; for other classes, give --fresh"
        )
    return {folder: by_key[class_folders.key(name)] for name, folder in found.items()}


def _listed(root: Path, folders: Mapping[Path, int]) -> tuple[list[str], list[int]]:
    """Paths below `root`, and the number of the class of each, by class and then in natural order."""
    files: list[str] = []
    labels: list[int] = []
    for folder, label in sorted(folders.items(), key=lambda item: item[1]):
        own = sorted((path.relative_to(root).as_posix() for path in inputs.images_below(folder)), key=natural_key)
        if len(own) < LEAST:
            raise DataError(
                f"class folder {folder} has {len(own)} images; wanted at least {LEAST} of each class that the site has "
                "fields of: add images or remove the folder"
            )
        files += own
        labels += [label] * len(own)
    return files, labels


def _check(data: Dataset, known: frozenset[str]) -> None:
    """Refuse images that the bundle was trained on, and images of two classes: they would flatter it, or confuse it."""
    trained = [file for file, digest in zip(data.files, data.digests, strict=True) if digest[:16] in known]
    if trained:
        raise DataError(
            f"{len(trained)} of {len(data)} images are among the bundle's training images, first {trained[0]}; wanted "
            "images of the site that it has not seen: remove them, or adapt the bundle that was exported"
        )
    labels: dict[str, int] = {}
    for file, digest, label in zip(data.files, data.digests, data.labels.tolist(), strict=True):
        if labels.setdefault(digest, label) != label:
            raise DataError(f"{data.root / file} is in the folders of two classes; leave it in one of them")
