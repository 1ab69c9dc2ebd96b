"""The kept features of a bundle's training images, with which a head can be fitted again where the images are not.

They are what the classifier reads, of every image and its changed copies, in float16: half a kilobyte an image. They
are no images, and none can be drawn from them; but they say something about images that may be a patient's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edge_all import npz
from edge_all.bundle import Bundle
from edge_all.errors import BundleError

FILE = "training_features.npz"

_MAX_BYTES = 2**28
"""Largest file that is unpacked: a million rows of 128 features."""

_LARGEST = 60000.0
"""Beyond what float16 holds there would be infinity."""

_DROPPED = 4
"""Bits of float16's eleven that are not kept: seven tell features apart as well, and take a third less in the file."""

_TYPES = {
    "inputs": np.float16,
    "shown": np.int32,
    "labels": np.int16,
    "folds": np.int16,
    "groups": np.int32,
    "answers": np.float16,
}


@dataclass(frozen=True)
class TrainingFeatures:
    """What a head was fitted on: N images, and M rows, the first N of which are the images as they are.

    The types are those of the file; `pack` takes wider ones too.

    Attributes:
        inputs: What the classifier reads, ``float16 [M, F]``.
        shown: ``int32 [M]``: which image each row shows.
        labels: ``int16 [N]``.
        folds: ``int16 [N]``: fold of each image; neighbouring fields are in one.
        groups: ``int32 [N]``: near-duplicate group of each image.
        answers: Class probabilities ``float16 [N, K]``, each image's by a head that has not seen its fold.
    """

    inputs: npt.NDArray[Any]
    shown: npt.NDArray[Any]
    labels: npt.NDArray[Any]
    folds: npt.NDArray[Any]
    groups: npt.NDArray[Any]
    answers: npt.NDArray[Any]


def pack(kept: TrainingFeatures) -> bytes:
    """The content of the file."""
    return npz.pack({name: _narrowed(getattr(kept, name), kind) for name, kind in _TYPES.items()})


def read(bundle: Bundle) -> TrainingFeatures | None:
    """Those of a bundle; None where it has none.

    Raises:
        BundleError: The file is damaged, or is not of this bundle.
    """
    if FILE not in bundle.record["files"]:
        return None
    try:
        arrays = npz.read(bundle.read(FILE), _MAX_BYTES)
        kept = TrainingFeatures(**{name: arrays[name] for name in _TYPES})
        _check(kept, bundle.record["features"], len(bundle.classes))
    except (npz.NpzError, LookupError):
        raise BundleError(
            f"{bundle.path}: {FILE} holds no features of this bundle; export or copy the bundle again"
        ) from None
    return kept


def rounded(values: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """What a classifier is fitted on, ``[M, F]``, as the file can hold it: float16 with seven significant bits."""
    half = np.clip(values, -_LARGEST, _LARGEST).astype(np.float16)
    unit = 1 << _DROPPED
    bits = (half.view(np.uint16) + np.uint16(unit // 2)) & np.uint16(0x10000 - unit)
    return np.asarray(bits.view(np.float16), np.float32)


def _narrowed(values: npt.NDArray[Any], kind: type) -> npt.NDArray[Any]:
    """As the file holds them; what float16 cannot hold is brought to its largest number."""
    return (np.clip(values, -_LARGEST, _LARGEST) if kind is np.float16 else values).astype(kind)


def _check(kept: TrainingFeatures, features: int, classes: int) -> None:
    """Raises LookupError where sizes, types or values do not fit together."""
    images, rows = len(kept.labels) if kept.labels.ndim else 0, len(kept.shown) if kept.shown.ndim else 0
    shapes = {
        "inputs": (rows, features),
        "shown": (rows,),
        "labels": (images,),
        "folds": (images,),
        "groups": (images,),
        "answers": (images, classes),
    }
    fit = all(getattr(kept, name).shape == shape for name, shape in shapes.items())
    if not fit or not 0 < images <= rows or any(getattr(kept, name).dtype != kind for name, kind in _TYPES.items()):
        raise LookupError
    ranges: list[tuple[npt.NDArray[Any], int]] = [
        (kept.shown, images),
        (kept.labels, classes),
        (kept.folds, 100),
        (kept.groups, 2**31 - 1),
    ]
    if any(values.min() < 0 or values.max() >= end for values, end in ranges):
        raise LookupError
    as_they_are = np.array_equal(kept.shown[:images], np.arange(images))
    if not as_they_are or not np.isfinite(kept.inputs).all() or not np.isfinite(kept.answers).all():
        raise LookupError
    if len(np.unique(kept.labels)) < classes or len(np.unique(kept.folds)) < 2:
        raise LookupError
