"""Which frames of a live view are worth an answer: those of a field that is still and in focus.

Motion is the mean absolute difference of two frames in a row. Focus is the variance of the Laplacian (Pech-Pacheco et
al., "Diatom autofocusing in brightfield microscopy", ICPR 2000, doi 10.1109/ICPR.2000.903548), divided by the same of a
copy four times smaller: blur takes the fine detail and leaves the coarse, while a field with more cells has more of
both. Both are measured on a small grey copy, of about the size that a graph sees, and neither depends on the lamp.

The limits were set on fields of the public set (`benchmarks/camera.py` prints what they do).
"""

from __future__ import annotations

from collections import deque
from typing import Literal

import numpy as np
import numpy.typing as npt
from PIL import Image

State = Literal["moving", "unfocused", "settled"]

Grey = npt.NDArray[np.float32]

MOST_MOTION = 0.012
"""Difference of two frames, as a part of their brightness, up to which the field is still: about 1 pixel of 224."""

HOLD = 3
"""So many times in a row it must be still, a fifth of a second."""

LEAST_FOCUS = 0.025
"""Below this focus no field is sharp; sharp ones have 0.04 to 0.3."""

FOCUS_SHARE = 0.25
"""Below this part of the best focus of the last minute the field is out of focus; fields differ by less."""

_MEMORY_SECONDS = 60.0

_SIDE, _LEAST_SIDE, _COARSE = 224, 32, 4
"""Pixels of the longer and least pixels of the shorter side of the copy, and how many make one of the coarse copy."""


class Gate:
    """Judges the frames of one camera, one after the other."""

    def __init__(self) -> None:
        self._before: Grey | None = None
        self._still = 0
        self._recent: deque[tuple[float, float]] = deque()

    def look(self, picture: Image.Image, seconds: float) -> State:
        """Judge the next frame.

        Args:
            picture: In RGB.
            seconds: When it came, by any clock that only goes forward.
        """
        fine, coarse = copies(picture)
        before, self._before = self._before, coarse
        is_still = before is not None and before.shape == coarse.shape and motion(before, coarse) <= MOST_MOTION
        self._still = self._still + 1 if is_still else 0
        if self._still < HOLD:
            return "moving"
        sharpness = focus(fine, coarse)
        self._recent.append((seconds, sharpness))
        while self._recent[0][0] < seconds - _MEMORY_SECONDS:
            self._recent.popleft()
        best = max(value for _, value in self._recent)
        return "settled" if sharpness >= max(LEAST_FOCUS, FOCUS_SHARE * best) else "unfocused"


def copies(picture: Image.Image) -> tuple[Grey, Grey]:
    """The grey copy of a picture, and one that is four times smaller, ``float32 [h, w]``."""
    grey, shrink = picture.convert("L"), min(1.0, _SIDE / max(picture.size))
    width, height = (max(_LEAST_SIDE, round(side * shrink)) for side in picture.size)
    fine = grey.resize((width, height), Image.Resampling.BILINEAR, reducing_gap=2.0)
    return np.asarray(fine, np.float32), np.asarray(fine.reduce(_COARSE), np.float32)


def motion(before: Grey, after: Grey) -> float:
    """How much of the brightness has moved from one copy to the next, each taken relative to its own mean."""
    return float(np.abs(before / max(before.mean(), 1.0) - after / max(after.mean(), 1.0)).mean())


def focus(fine: Grey, coarse: Grey) -> float:
    """How much detail is finer than four pixels; 0 for a picture without any detail."""
    return _laplacian_variance(fine) / max(_laplacian_variance(coarse), 1.0)


def _laplacian_variance(grey: Grey) -> float:
    inner = grey[1:-1, 1:-1]
    return float((grey[1:-1, :-2] + grey[1:-1, 2:] + grey[:-2, 1:-1] + grey[2:, 1:-1] - 4 * inner).var())
