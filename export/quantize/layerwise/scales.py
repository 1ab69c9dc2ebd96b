"""The range of values that 8 bits are spread over."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

_SHARES = np.r_[np.linspace(0.1, 0.5, 9), np.linspace(0.55, 1.0, 19)]  # of the extremes, tried as ends of the range
_BINS = 2048
_DEAD = 1e-7  # a range under which a tensor is taken for constant zero: the ratio of two steps must stay a number


@dataclass(frozen=True)
class Scale:
    """Real values are ``(q - zero) * step``: uint8 q from 0 to 255, or signed and symmetric, int8 from -127 to 127."""

    step: float
    zero: int
    signed: bool = False

    @property
    def bounds(self) -> tuple[int, int]:
        """The smallest and the largest q."""
        return (-127, 127) if self.signed else (0, 255)

    @property
    def ends(self) -> tuple[float, float]:
        """The smallest and the largest value."""
        low, high = self.bounds
        return (low - self.zero) * self.step, (high - self.zero) * self.step


def scale_between(low: float, high: float, signed: bool = False) -> Scale:
    """The scale from `low` to `high`; zero is always among its values."""
    low, high = min(low, 0.0), max(high, 0.0)
    if high - low < _DEAD:
        high = 1.0
    if signed:
        return Scale(max(-low, high) / 127, 0, True)
    step = (high - low) / 255
    return Scale(step, int(np.clip(round(-low / step), 0, 255)))


def fit_scale(values: np.ndarray, power: float, signed: bool = False) -> Scale:
    """The scale with the least mean error to a power.

    Args:
        values: A sample of a tensor, its extremes among it.
        power: 2 is the mean square; more weighs what is cut off at the ends against what is rounded; infinity keeps
            the extremes.
        signed: Symmetric int8, not uint8.
    """
    low, high = float(min(values.min(), 0)), float(max(values.max(), 0))
    best = scale_between(low, high, signed)
    if high <= low or np.isinf(power):
        return best
    counts, edges = np.histogram(values, bins=_BINS, range=(low, high))
    centres = ((edges[1:] + edges[:-1]) / 2)[counts > 0]
    counts = counts[counts > 0]
    least = np.inf
    for below in _SHARES if low < 0 and not signed else (1.0,):
        for above in _SHARES if high > 0 or signed else (1.0,):
            scale = scale_between(low * (above if signed else below), high * above, signed)
            rounded = (np.clip(np.round(centres / scale.step) + scale.zero, *scale.bounds) - scale.zero) * scale.step
            error = float((counts * np.abs(rounded - centres) ** power).sum())
            if error < least:
                best, least = scale, error
    return best
