"""The range of real values that 8 bits stand for."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

_SHARES = np.r_[np.linspace(0.1, 0.5, 9), np.linspace(0.55, 1.0, 19)]  # of the extremes, tried as ends of the range
_BINS = 2048
_DEAD = 1e-7  # a range below this is taken for a tensor of zeros: the ratio of two scales must stay a number


@dataclass(frozen=True)
class Quantization:
    """How a tensor is quantized: a real value is ``(q - zero_point) * scale``.

    Attributes:
        scale: Distance of two neighbouring real values.
        zero_point: The q of the real value 0.
        signed: Whether q is a symmetric int8, from -127 to 127, and not a uint8, from 0 to 255.
    """

    scale: float
    zero_point: int
    signed: bool = False

    @property
    def bounds(self) -> tuple[int, int]:
        """The smallest and the largest q."""
        return (-127, 127) if self.signed else (0, 255)

    @property
    def ends(self) -> tuple[float, float]:
        """The smallest and the largest real value."""
        low, high = self.bounds
        return (low - self.zero_point) * self.scale, (high - self.zero_point) * self.scale


def quantization_between(low: float, high: float, signed: bool = False) -> Quantization:
    """The quantization of the values from `low` to `high`; the range is widened to hold zero."""
    low, high = min(low, 0.0), max(high, 0.0)
    if high - low < _DEAD:
        high = 1.0
    if signed:
        return Quantization(max(-low, high) / 127, 0, True)
    scale = (high - low) / 255
    return Quantization(scale, int(np.clip(round(-low / scale), 0, 255)))


def fit_quantization(values: np.ndarray, power: float, signed: bool = False) -> Quantization:
    """The quantization with the least mean error to a power.

    Args:
        values: A sample of a tensor with its extremes.
        power: 2 is the mean squared error. A larger power gives more weight to what is cut off at the ends, and less
            to what is rounded between them; infinity keeps the extremes.
        signed: To symmetric int8, not uint8.
    """
    low, high = float(min(values.min(), 0)), float(max(values.max(), 0))
    best = quantization_between(low, high, signed)
    if high <= low or np.isinf(power):
        return best
    counts, edges = np.histogram(values, bins=_BINS, range=(low, high))
    centres = ((edges[1:] + edges[:-1]) / 2)[counts > 0]
    counts = counts[counts > 0]
    least = np.inf
    for below in _SHARES if low < 0 and not signed else (1.0,):
        for above in _SHARES if high > 0 or signed else (1.0,):
            tried = quantization_between(low * (above if signed else below), high * above, signed)
            error = float((counts * np.abs(_rounded(centres, tried) - centres) ** power).sum())
            if error < least:
                best, least = tried, error
    return best


def _rounded(values: np.ndarray, quantization: Quantization) -> np.ndarray:
    """Values after they were quantized and made real again."""
    scale, zero_point = quantization.scale, quantization.zero_point
    return np.asarray((np.clip(np.round(values / scale) + zero_point, *quantization.bounds) - zero_point) * scale)
