"""What tells why a picture is unfamiliar: the measures of the training images, as they are and changed in many ways.

The runtime's side, and the method, is `edge_all.input_check`. The changes begin where fields are no longer sure to be
familiar. Between two strengths of a change lies no more than fields differ by themselves.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import partial

import numpy as np
from sklearn.covariance import LedoitWolf

from edge_all import __version__, cache, parallel
from edge_all.input_check import COLOUR, OUT_OF_FOCUS, SCALE, TOO_BRIGHT, TOO_DARK, measures
from edge_all.machine import usable_cores
from edge_all.progress import Progress, ignore
from edge_all.record import InputCheckRecord, Look

from .. import features
from ..dataset import Dataset, spread
from ..dataset.changes import Change

IMAGES = 80
"""Training images that are changed, spread over the data set."""

PASSED = 97.0
"""Percent of images changed in one way, each held out of what it is compared with, that are near enough to their mean
to be given its reason."""

ODDS = 20.0
"""A reason is given where it is so many times as likely as any other."""

_FOLDS = 5

_DIGITS = 5  # of the numbers in the record

_MOST_BYTES = 2**20

LOOKS: Mapping[str, Sequence[Change]] = {
    OUT_OF_FOCUS: [Change(f"blur {blur}", blur=blur) for blur in (2.5, 3.5, 5.0, 7.0, 10.0)],
    SCALE: [Change(f"zoom {zoom}", zoom=zoom) for zoom in (0.5, 0.6, 0.7, 0.8, 1.25, 1.5, 1.8, 2.2, 2.8)],
    TOO_DARK: [
        *(Change(f"gamma {gamma}", gamma=gamma) for gamma in (1.5, 2.0, 2.7)),
        *(Change(f"light {gain}", gains=(gain, gain, gain)) for gain in (0.8, 0.7, 0.6, 0.52, 0.45, 0.38, 0.32)),
    ],
    TOO_BRIGHT: [
        *(Change(f"gamma {gamma}", gamma=gamma) for gamma in (0.65, 0.45)),
        *(Change(f"light {gain}", gains=(gain, gain, gain)) for gain in (1.2, 1.4)),
    ],
    COLOUR: [
        *(
            Change(f"gains {red} {green} {blue}", gains=(red, green, blue))
            for red, green, blue in (
                (0.75, 1.0, 1.0), (1.0, 0.75, 1.0), (1.0, 1.0, 0.75), (0.8, 1.0, 1.2), (1.2, 1.0, 0.8),
                (0.7, 1.0, 1.3), (1.3, 1.0, 0.7), (0.85, 1.15, 0.85), (1.15, 0.85, 1.15),
            )
        ),
        *(Change(f"stain {pair}", stain=pair) for pair in ((1.4, 0.6), (0.6, 1.4), (1.8, 0.5))),
    ],
}  # fmt: skip
"""Changes by the reason that is given for them."""


def measure(data: Dataset, size: tuple[int, int], progress: Progress = ignore) -> InputCheckRecord:
    """Measure training images, as they are and changed.

    Args:
        data: The training images.
        size: Height and width of the graph's input, in pixels.
        progress: Counts changed images.
    """
    chosen = data.take(spread(np.arange(len(data)), IMAGES))
    return solve(_measured(chosen, size, progress), [reason for reason, looks in LOOKS.items() for _ in looks])


def solve(measured: np.ndarray, reasons: Sequence[str]) -> InputCheckRecord:
    """What a picture is compared with, and how near it must be.

    Args:
        measured: ``float64 [1 + L, N, M]``: of N images as they are, and under each of L changes.
        reasons: Of each change.
    """
    folds = np.arange(measured.shape[1]) * _FOLDS // measured.shape[1]
    distances = np.zeros(measured.shape[:2])
    for fold in np.unique(folds):
        means, whitening = _fit(measured[:, folds != fold] if len(np.unique(folds)) > 1 else measured)
        far = (measured[:, folds == fold] - means[:, np.newaxis]) @ whitening
        distances[:, folds == fold] = (far**2).sum(-1)
    limits = np.quantile(distances, PASSED / 100, axis=1)
    means, whitening = _fit(measured)
    looks: list[Look] = [
        {"reason": reason, "measures": _rounded(mean), "limit": round(float(limit), 3)}
        for reason, mean, limit in zip(reasons, means[1:], limits[1:], strict=True)
    ]
    return {
        "home": _rounded(means[0]),
        "looks": looks,
        "whitening": [_rounded(row) for row in whitening],
        "margin": round(2 * float(np.log(ODDS)), 3),
        "images": measured.shape[1],
    }


def _fit(measured: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Means ``[1 + L, M]``, and the matrix ``[M, M]`` after which images scatter alike about them."""
    means = measured.mean(1)
    scatter = LedoitWolf(assume_centered=True).fit((measured - means[:, np.newaxis]).reshape(-1, measured.shape[2]))
    return means, np.linalg.cholesky(scatter.precision_)


def _rounded(values: np.ndarray) -> list[float]:
    return [float(f"{value:.{_DIGITS}g}") for value in values]


def _measured(data: Dataset, size: tuple[int, int], progress: Progress) -> np.ndarray:
    """Measures ``float64 [1 + L, N, M]`` of images as they are and changed; they are cached."""
    changes = [change for looks in LOOKS.values() for change in looks]
    name = f"input_check/{_key(data, size, changes)}.npy"
    if cached := cache.load(name, _MOST_BYTES):
        with suppress(Exception):  # numpy raises many kinds for a damaged file; it is made again
            return np.asarray(np.load(io.BytesIO(cached), allow_pickle=False))
    images = list(zip(features.decoded(data.paths, size), data.digests, strict=True))
    rows = [[measures(pixels) for pixels, _ in images]]
    for done, change in enumerate(changes, 1):
        work = partial(_changed, change)
        rows.append(parallel.each(work, images, usable_cores()))
        progress(done, len(changes))
    found = np.array(rows)
    content = io.BytesIO()
    np.save(content, found, allow_pickle=False)
    cache.store(name, content.getvalue())
    return found


def _changed(change: Change, image: tuple[np.ndarray, str]) -> np.ndarray:
    pixels, digest = image
    return measures(change(pixels, digest))


def _key(data: Dataset, size: tuple[int, int], changes: Sequence[Change]) -> str:
    return hashlib.sha256(f"{__version__} {size} {' '.join(data.digests)} {changes}".encode()).hexdigest()[:32]
