"""Which frames of a live view are worth an answer: those of a field that is still and in focus.

Motion is the mean absolute difference of two frames in a row. Focus is the variance of the Laplacian (Pech-Pacheco et
al., "Diatom autofocusing in brightfield microscopy", ICPR 2000, doi 10.1109/ICPR.2000.903548), with two changes. It is
divided by the same of a copy four times smaller: blur takes the fine detail and leaves the coarse, while a field with
more cells has more of both. And it is the covariance of two frames in a row rather than the variance of one, so that
the camera's noise, which is another one in each, counts for nothing. Both measures are taken on small grey copies, of
about the size that a graph sees, and neither depends on the lamp.

The limits were set on fields of the public set (`benchmarks/camera.py` prints what they do).
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

State = Literal["moving", "unfocused", "settled"]

Grey = npt.NDArray[np.float32]

MOST_MOTION = 0.012
"""Difference of two frames, as a part of their brightness, up to which the field is still: about 1 pixel of 224."""

HOLD = 3
"""So many times in a row it must be still, a fifth of a second."""

LEAST_FOCUS = 0.04
"""Below this focus no field is sharp; sharp ones have 0.06 to 1, and those blurred by 1.5 pixels of 224 less."""

FOCUS_SHARE = 0.5
"""Below this part of its own best, since it came to rest, a field has gone out of focus. Of two fields, one may have a
tenth of the other's focus, and both be sharp."""

_SIDE, _LEAST_SIDE, _COARSE = 224, 32, 4
"""Pixels of the longer and least pixels of the shorter side of the copy, and how many make one of the coarse copy."""


class Gate:
    """Judges the frames of one camera, one after the other."""

    def __init__(self) -> None:
        self._before: Copies | None = None
        self._still = 0
        self._best = 0.0

    def look(self, picture: Image.Image) -> State:
        """Judge the next frame, a picture in RGB."""
        before, after = self._before, copies(picture)
        self._before = after
        is_still = before and before.fine.shape == after.fine.shape and motion(before, after) <= MOST_MOTION
        self._still = self._still + 1 if is_still else 0
        if self._still < HOLD or not before:
            self._best = 0.0
            return "moving"
        sharpness = focus(before, after)
        self._best = max(self._best, sharpness)
        return "settled" if sharpness >= max(LEAST_FOCUS, FOCUS_SHARE * self._best) else "unfocused"


class Copies(NamedTuple):
    """Grey copies of a frame.

    Attributes:
        fine: ``float32 [h, w]``, no side over 224 pixels.
        coarse: ``float32 [h / 4, w / 4]``.
    """

    fine: Grey
    coarse: Grey


def copies(picture: Image.Image) -> Copies:
    """The copies of a picture that the measures are taken on."""
    grey, shrink = picture.convert("L"), min(1.0, _SIDE / max(picture.size))
    width, height = (max(_LEAST_SIDE, round(side * shrink)) for side in picture.size)
    fine = grey.resize((width, height), Image.Resampling.BILINEAR, reducing_gap=2.0)
    return Copies(np.asarray(fine, np.float32), np.asarray(fine.reduce(_COARSE), np.float32))


def motion(before: Copies, after: Copies) -> float:
    """How much of the brightness has moved from one frame to the next, each taken relative to its own mean."""
    first, second = (copy.coarse / max(copy.coarse.mean(), 1.0) for copy in (before, after))
    return float(np.abs(first - second).mean())


def focus(before: Copies, after: Copies) -> float:
    """How much detail two frames of a still field have that is finer than four pixels; 0 where they have none."""
    return _detail(before.fine, after.fine) / max(_detail(before.coarse, after.coarse), 1.0)


def _detail(before: Grey, after: Grey) -> float:
    first, second = (_laplacian(grey) for grey in (before, after))
    return float((first * second).mean() - first.mean() * second.mean())


def _laplacian(grey: Grey) -> Grey:
    inner = grey[1:-1, 1:-1]
    return grey[1:-1, :-2] + grey[1:-1, 2:] + grey[:-2, 1:-1] + grey[2:, 1:-1] - 4 * inner
