"""A labelled data set: listed, and then every image read once, hashed and thumbnailed on the way."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edge_all import image
from edge_all.errors import DataError, ImageError
from edge_all.progress import Progress, ignore

from . import listing
from .given import assign
from .record import THUMBNAIL, Dataset


def read(
    root: Path | None, *, labels: Path | None = None, groups: str | None = None, progress: Progress = ignore
) -> Dataset:
    """Read labelled images: one folder a class, splits of such folders, or what a file of labels lists.

    Splits that are whole (`edge_all.class_folders.splits`) are kept. Other splits, wrappers and folders of masks are no
    classes and are refused. Hidden folders and files are skipped, and so are files without an image's suffix. Every
    image is decoded once, on the path that training and runtime share, so that a damaged one stops an export before it
    starts.

    Args:
        root: The folder; None is the one that the file of labels is in.
        labels: A CSV file, ``file,label[,group][,split]``; None takes the folders' names.
        groups: A CSV file, ``file,group``, or a regular expression (`edge_all.export.dataset.given.assign`).
        progress: Counts images.

    Raises:
        DataError: `root` is not such a folder, its folders are no classes, a class has fewer images to train on than
            there are folds, an image has no group, or an image is damaged.
    """
    listed = listing.from_labels(labels, root) if labels else listing.from_folders(Path(root or "."))
    listing.check_classes(listed)
    given = assign(listed, groups)
    digests, thumbnails = scan(listed.root, listed.files, progress)
    return Dataset(
        listed.root, listed.classes, tuple(listed.files), np.array(listed.labels, np.int64), digests, thumbnails,
        tuple(listed.parts), given, tuple(listed.notices),
    )  # fmt: skip


def scan(
    root: Path, files: Sequence[str], progress: Progress = ignore
) -> tuple[tuple[str, ...], npt.NDArray[np.uint8]]:
    """Hash and thumbnail each file, in threads: Pillow lets go of the interpreter's lock while it decodes.

    Returns:
        SHA-256 of each file in hex, and ``uint8 [N, 32, 32, 3]``.

    Raises:
        DataError: A file cannot be read as an image.
    """
    digests: list[str] = []
    thumbnails = np.zeros((len(files), THUMBNAIL, THUMBNAIL, 3), np.uint8)
    damaged: list[tuple[str, str]] = []
    with ThreadPoolExecutor(min(16, os.cpu_count() or 1)) as pool:
        for index, (digest, result) in enumerate(pool.map(lambda file: _scan_file(root / file), files)):
            digests.append(digest)
            if isinstance(result, str):
                damaged.append((files[index], result))
            else:
                thumbnails[index] = result
            progress(index + 1, len(files))
    if damaged:
        file, reason = damaged[0]
        many = f"{len(damaged)} of {len(files)} images cannot be read, first " if len(damaged) > 1 else ""
        raise DataError(f"{many}{root / file}: {reason}; remove or repair {'them' if len(damaged) > 1 else 'it'}")
    return tuple(digests), thumbnails


def _scan_file(path: Path) -> tuple[str, npt.NDArray[np.uint8] | str]:
    """Digest and ``uint8 [32, 32, 3]`` thumbnail, or the reason why there is none."""
    try:
        data = path.read_bytes()
        return hashlib.sha256(data).hexdigest(), image.decode(data, (THUMBNAIL, THUMBNAIL))
    except OSError as error:
        return "", f"cannot be read: {error.strerror or error}"
    except ImageError as error:
        return "", str(error)
