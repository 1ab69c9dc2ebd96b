"""A labelled data set in folders: one folder a class, read once, hashed and thumbnailed on the way."""

from __future__ import annotations

import hashlib
import os
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath

import numpy as np
import numpy.typing as npt

from edge_all import image, record_check
from edge_all.errors import DataError, ImageError
from edge_all.progress import Progress, ignore

from .record import THUMBNAIL, Dataset, normalized_name
from .splits import FOLDS


def read(root: Path, *, progress: Progress = ignore) -> Dataset:
    """Read a folder that holds one sub-folder a class, with that class's images anywhere below it.

    Hidden folders and files are skipped, and so are files without an image's suffix. Every image is decoded once,
    on the path that training and runtime share, so that a damaged one stops an export before it starts.

    Raises:
        DataError: `root` is not such a folder, a class is empty or smaller than the number of folds, or an image is
            damaged.
    """
    root = Path(root)
    folders = _class_folders(root)
    files, labels = [], []
    for label, (name, folder) in enumerate(folders.items()):
        own_files = sorted((path.relative_to(root).as_posix() for path in image.find([folder])), key=natural_key)
        if not own_files:
            raise DataError(
                f"class folder {folder} holds no image; wanted at least {FOLDS} images a class "
                f"({', '.join(sorted(image.SUFFIXES))}): add them or remove the folder"
            )
        if len(own_files) < FOLDS:
            raise DataError(
                f"class {name!r} has {len(own_files)} of the {FOLDS} images that {FOLDS}-fold cross-validation wants; "
                f"add images to {folder} or remove the folder"
            )
        files += own_files
        labels += [label] * len(own_files)
    digests, thumbnails = _scan(root, files, progress)
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
    """Class name to folder, in sorted order of names."""
    if not root.exists():
        raise DataError(f"{root} does not exist; wanted a folder with one sub-folder a class: check the path")
    if not root.is_dir():
        raise DataError(f"{root} is a file; wanted a folder with one sub-folder a class: give the folder")
    inner = next((path for path in _folders(root) if path.name == "Original" and _folders(path)), None)
    if inner is not None:
        raise DataError(f"{root} holds Original/, not class folders (the Kaggle layout); give {inner}")
    named: dict[str, Path] = {}
    for folder in _folders(root):
        name = normalized_name(folder.name)
        if name in named:
            raise DataError(
                f"{root} holds two folders that are both class {name!r} once their names are normalised (NFC); "
                "rename or merge one"
            )
        named[name] = folder
    if not named:
        raise DataError(f"{root} holds no sub-folder; wanted one sub-folder a class, with that class's images in it")
    if len(named) == 1:
        raise DataError(
            f"{root} holds one class folder, {next(iter(named))!r}; wanted two or more classes: give the folder above "
            "the class folders"
        )
    try:
        record_check.check_classes(list(named))
    except record_check.RecordError as error:
        raise DataError(f"{root}: a class of a bundle cannot be called so: {error}: rename the folder") from None
    return {name: named[name] for name in sorted(named)}


def _folders(root: Path) -> list[Path]:
    try:
        return sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))
    except OSError as error:
        raise DataError(f"{root} cannot be read ({error.strerror or error}); wanted a folder you may read") from None


def _scan(root: Path, files: list[str], progress: Progress) -> tuple[tuple[str, ...], npt.NDArray[np.uint8]]:
    """Hash and thumbnail each file, in threads: Pillow lets go of the interpreter's lock while it decodes."""
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
