"""A labelled data set in folders: one folder a class, read once, hashed and thumbnailed on the way."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath

import numpy as np
import numpy.typing as npt

from edge_all import class_folders, image, inputs, record_check
from edge_all.errors import DataError, ImageError
from edge_all.progress import Progress, ignore

from .record import THUMBNAIL, Dataset, normalized_name
from .splits import FOLDS


def read(root: Path, *, progress: Progress = ignore) -> Dataset:
    """Read a folder that holds one sub-folder a class, with that class's images anywhere below it.

    Splits, wrappers and folders of masks are no classes: `edge_all.class_folders` refuses them. Hidden folders and
    files are skipped, and so are files without an image's suffix. Every image is decoded once, on the path that
    training and runtime share, so that a damaged one stops an export before it starts.

    Raises:
        DataError: `root` is not such a folder, its folders are no classes, a class is empty or smaller than the number
            of folds, or an image is damaged.
    """
    root = Path(root)
    folders = _class_folders(root)
    files, labels = [], []
    for label, (name, folder) in enumerate(folders.items()):
        own_files = sorted((path.relative_to(root).as_posix() for path in inputs.images_below(folder)), key=natural_key)
        if not own_files:
            raise DataError(
                f"class folder {folder} holds no image; wanted at least {FOLDS} images a class "
                f"({', '.join(sorted(inputs.SUFFIXES))}): add them or remove the folder"
            )
        if len(own_files) < FOLDS:
            raise DataError(
                f"class {name!r} has {len(own_files)} of the {FOLDS} images that {FOLDS}-fold cross-validation wants; "
                f"add images to {folder} or remove the folder"
            )
        files += own_files
        labels += [label] * len(own_files)
    digests, thumbnails = scan(root, files, progress)
    return Dataset(root, tuple(folders), tuple(files), np.array(labels, np.int64), digests, thumbnails)


def natural_key(file: str) -> tuple[object, ...]:
    """Sort key under which ``WBC-2.jpg`` comes before ``WBC-10.jpg``."""
    # Split at the digits, text and number alternate, so that a number is never compared with text.
    parts = tuple(
        tuple(int(piece) if index % 2 else piece.casefold() for index, piece in enumerate(re.split("([0-9]+)", part)))
        for part in PurePosixPath(normalized_name(file)).parts
    )
    return parts, file


def _class_folders(root: Path) -> dict[str, Path]:
    """Class name to folder, in sorted order of names. Blanks around a folder's name are no part of the class's."""
    folders = class_folders.find(root)
    if not folders:
        raise DataError(f"{root} holds no sub-folder; wanted one sub-folder a class, with that class's images in it")
    class_folders.check_layout(root, folders.values())
    if len(folders) == 1:
        raise DataError(
            f"{root} holds one class folder, {next(iter(folders))!r}; wanted two or more classes: give the folder "
            "above the class folders"
        )
    classes = dict(sorted((name.strip(), folder) for name, folder in folders.items()))
    try:
        record_check.check_classes(list(classes))
    except record_check.RecordError as error:
        raise DataError(f"{root}: a class of a bundle cannot be called so: {error}: rename the folder") from None
    return classes


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
