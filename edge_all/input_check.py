"""Why a picture is unfamiliar: what a microscope may have done to it, told from a few measures of its pixels.

The record says what the training images measure on average as they are, and changed in many ways: out of focus, too
dark, in another colour, at another scale. An unfamiliar picture gets the reason of the nearest of these, in the metric
in which fields scatter alike in all directions (linear discriminant analysis; Hastie et al. 2009, "The Elements of
Statistical Learning", section 4.3). It gets none where the nearest is the training images as they are, where it is
near none of them, as another laboratory's pictures and photographs are, and where another reason is nearly as near.

The measures are the logarithms of how much brightness varies in each octave of length, which lost focus and another
scale change in different ways, and of three levels of each colour.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from edge_all import limits
from edge_all.record import InputCheckRecord

OUT_OF_FOCUS, SCALE, COLOUR, TOO_DARK, TOO_BRIGHT = "out of focus", "scale", "colour", "too dark", "too bright"

REASONS = (OUT_OF_FOCUS, SCALE, COLOUR, TOO_DARK, TOO_BRIGHT)
"""What a bundle of this version may name."""

_BANDS = limits.MEASURES - 10
"""Octaves of length, from two pixels on; what varies more slowly is one measure more, and three levels of three colours
are nine."""

_STRIDE = 4
"""The levels are those of every fourth pixel of every fourth line."""

_TOGETHER = 8
"""Pictures that are measured together: more would not fit into a processor's cache."""

_LEVELS = (0.05, 0.5, 0.95)
"""Shares of the pixels that are darker than a level."""

_LEAST_VARIANCE, _LEAST_LEVEL = 0.05, 4.0
"""Added before a logarithm is taken: below them a camera has nothing but noise. In squared levels, and levels, of
255."""


class InputCheck:
    """What tells why a picture is unfamiliar."""

    def __init__(self, record: InputCheckRecord) -> None:
        self._whitening = np.array(record["whitening"])
        self._looks = np.array([record["home"], *(look["measures"] for look in record["looks"])]) @ self._whitening
        self._reasons = np.array(["", *(look["reason"] for look in record["looks"])])
        self._limits = np.array([0.0, *(look["limit"] for look in record["looks"])])
        self._margin = record["margin"]

    def reasons(self, images: Sequence[npt.NDArray[np.uint8]]) -> list[str | None]:
        """The reason for which each picture is unfamiliar, or None where nothing stands out.

        Args:
            images: The graph's inputs, ``uint8 [H, W, 3]`` each. Some are measured together, which is faster.
        """
        groups = (images[i : i + _TOGETHER] for i in range(0, len(images), _TOGETHER))
        return [self.named(measured) for group in groups for measured in measures(np.stack(group))]

    def named(self, measured: npt.NDArray[np.float64]) -> str | None:
        """The reason for measures ``float64 [M]``, as of `measures`."""
        distances = ((self._looks - measured @ self._whitening) ** 2).sum(1)
        nearest = distances.argmin()
        reason, distance = str(self._reasons[nearest]), distances[nearest]
        other = distances[self._reasons != reason].min(initial=np.inf)
        stands_out = reason and distance <= self._limits[nearest] and other - distance >= self._margin
        return reason if stands_out else None


def measures(images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
    """What is measured of a picture, ``float64 [M]``, or of several, ``float64 [N, M]``.

    Args:
        images: ``uint8 [H, W, 3]`` or ``uint8 [N, H, W, 3]``, no side under 32 pixels.
    """
    height, width = (side - side % 2**_BANDS for side in images.shape[-3:-1])
    sums = _of_colours(images[..., :height, :width, :])
    squares, parts = [_mean_square(sums) / 9], 3
    for _ in range(_BANDS):
        lines = sums[..., ::2, :] + sums[..., 1::2, :]
        sums, parts = lines[..., ::2] + lines[..., 1::2], 4 * parts
        squares.append(_mean_square(sums) / parts**2)
    mean = sums.mean((-1, -2), dtype=np.float64) / parts
    within = -np.diff([*squares, mean**2], axis=0).T  # the mean of all squares is alike: what varies is left
    few = images[..., _STRIDE // 2 :: _STRIDE, _STRIDE // 2 :: _STRIDE, :]
    few = np.moveaxis(few.reshape(*images.shape[:-3], -1, 3), -1, -2)
    places = [round(share * (few.shape[-1] - 1)) for share in _LEVELS]
    few = np.sort(few, kind="stable")  # of bytes a radix sort, which is faster than a partition
    levels = few[..., places].swapaxes(-1, -2).reshape(*images.shape[:-3], -1)
    logs = [np.log(np.maximum(within, 0) + _LEAST_VARIANCE), np.log(levels + _LEAST_LEVEL)]
    return np.asarray(np.concatenate(logs, axis=-1))


def _of_colours(images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """The sum of the three colours, ``[..., H, W]``."""
    sums = np.add(images[..., 0], images[..., 1], dtype=np.uint16)  # half as wide as the result: half the time
    sums += images[..., 2]
    return sums.astype(np.float32)


def _mean_square(values: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """Over the last two axes.

    Without the threads of a linear algebra library, which would wait for each other where images are answered.
    """
    exact = values.reshape(*values.shape[:-2], -1).astype(np.float64)
    return np.asarray(np.einsum("...i,...i->...", exact, exact) / exact.shape[-1])


def in_words(status: str, reason: str | None) -> str:
    """A status with its reason, such as ``unfamiliar: out of focus``."""
    return f"{status}: {reason}" if reason else status
