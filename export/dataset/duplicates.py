"""Near-duplicate groups: images that show the same spot of a slide, and so must not be split between training and test.

Smear sets are taken by panning a microscope, so the same cells come back shifted, refocused or saved again, and often
under file numbers far apart. Two images count as near duplicates when their thumbnails agree at some shift: the
largest zero-mean normalised cross-correlation (Lewis 1995, "Fast normalized cross-correlation") of 16 x 16 grey
thumbnails, over all shifts of up to `SHIFT` pixels in each axis, reaches `THRESHOLD`. Before that the contrast of each
thumbnail is normalised locally (Jarrett et al. 2009), which takes out illumination, shared by all fields of one
microscope, and lets pale red cells count as much as a few dark nuclei. Turns and flips are not looked for.

Why 0.60: fields of different classes are never the same field, so their pairs show what chance gives. On 2,604 fields
of the public ALL set the largest of those 2.5 million pairs is 0.576, and the pairs within a class just above 0.60 are,
by eye, nearly all one spot of a slide seen twice. Fields with few and large cells, such as the drawn ones, pass it by
chance in about two pairs of 100,000. Such a link does little harm: it keeps two images in one fold.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy.ndimage import uniform_filter
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from edge_all.progress import Progress, ignore

from .record import Dataset

THRESHOLD = 0.60
"""Correlation from which two images are near duplicates."""

SHIFT = 6
"""Largest shift looked at in each axis, in sixteenths of the image; at the largest in both, 39 % still overlaps."""

_WINDOW = 9
"""Side of the window of the local normalisation, in thumbnail pixels: about two red cells of the public set."""

_FLOOR = 4.0
"""Contrast, in grey levels, under which there is noise rather than cells and nothing is amplified."""

_BLOCK = 1024


def groups(dataset: Dataset, *, progress: Progress = ignore) -> npt.NDArray[np.int64]:
    """Number the groups of near duplicates, chains of them included, across classes too.

    A group across classes is kept as one: it would leak like any other, and tells of a labelling error.

    Args:
        dataset: Its digests and thumbnails are looked at, its files and labels are not.
        progress: Called with the blocks of pairs done and in all.

    Returns:
        ``int64 [N]``: groups numbered in order of first appearance; an image without a duplicate is its own group.
    """
    rows, columns = _pairs(_details(dataset.thumbnails), progress)
    _, first, same = np.unique(np.array(dataset.digests), return_index=True, return_inverse=True)
    rows = np.concatenate([rows, np.arange(len(dataset))])
    columns = np.concatenate([columns, first[same]])
    return _components(rows, columns, len(dataset))


def merged(duplicates: npt.NDArray[np.int64], given: Sequence[str]) -> npt.NDArray[np.int64]:
    """Number the smallest groups that keep near-duplicates together, and the images of one given group too.

    Args:
        duplicates: ``int64 [N]``, from `groups`.
        given: The given group of each image; empty where none were given, which leaves `duplicates` as they are.
    """
    if not given:
        return duplicates
    images = np.arange(len(duplicates))
    columns = []
    for numbers in (duplicates, np.array(given)):
        _, first, same = np.unique(numbers, return_index=True, return_inverse=True)
        columns.append(first[same])
    return _components(np.tile(images, 2), np.concatenate(columns), len(images))


def _components(rows: npt.NDArray[np.int64], columns: npt.NDArray[np.int64], count: int) -> npt.NDArray[np.int64]:
    """Number what is linked, directly or not, in order of first appearance: ``int64 [count]``."""
    links = coo_matrix((np.ones(len(rows), bool), (rows, columns)), shape=(count, count))
    _, component = connected_components(links, directed=False)
    _, first, component = np.unique(component, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first)).astype(np.int64)[component]


def _details(thumbnails: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """Grey thumbnails of even contrast, halved: ``uint8 [N, 32, 32, 3]`` to ``float32 [N, 16, 16]``."""
    grey = thumbnails.mean(axis=3, dtype=np.float32)
    grey -= uniform_filter(grey, (0, _WINDOW, _WINDOW), mode="nearest")
    energy = uniform_filter(grey * grey, (0, _WINDOW, _WINDOW), mode="nearest")
    grey /= np.sqrt(energy + _FLOOR**2)
    count, height, width = grey.shape
    return np.asarray(grey.reshape(count, height // 2, 2, width // 2, 2).mean(axis=(2, 4)))


def _pairs(details: npt.NDArray[np.float32], progress: Progress) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Indices of the pairs that reach the threshold, by block: memory stays at a few blocks whatever N is."""
    starts = range(0, len(details), _BLOCK)
    blocks = [(top, left) for top in starts for left in starts if left >= top]
    rows, columns = [], []
    for done, (top, left) in enumerate(blocks, 1):
        best = _best(details[top : top + _BLOCK], details[left : left + _BLOCK], both=top != left)
        row, column = np.nonzero(best >= THRESHOLD)
        rows.append(row + top)
        columns.append(column + left)
        progress(done, len(blocks))
    return np.concatenate(rows), np.concatenate(columns)


def _best(first: npt.NDArray[np.float32], second: npt.NDArray[np.float32], *, both: bool) -> npt.NDArray[np.float32]:
    """Largest correlation over all shifts of each pair; ``float32 [len(first), len(second)]``.

    Within one block (`both` false) the opposite of a shift is met as the pair the other way round.
    """
    best = np.full((len(first), len(second)), -1, np.float32)
    side = first.shape[1]
    for down in range(-SHIFT if both else 0, SHIFT + 1):
        for right in range(-SHIFT, SHIFT + 1):
            one = np.s_[:, max(down, 0) : side + min(down, 0), max(right, 0) : side + min(right, 0)]
            other = np.s_[:, max(-down, 0) : side + min(-down, 0), max(-right, 0) : side + min(-right, 0)]
            np.maximum(best, _unit(first[one]) @ _unit(second[other]).T, out=best)
    return best


def _unit(window: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Rows of zero mean and length one; an empty window, without detail, correlates with nothing."""
    flat = window.reshape(len(window), -1)
    flat = flat - flat.mean(axis=1, keepdims=True)
    length = np.linalg.norm(flat, axis=1, keepdims=True)
    return np.where(length > 1e-3, flat / np.maximum(length, 1e-3), 0)
