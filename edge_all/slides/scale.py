"""Micrometres and pixels of a slide's levels."""

from __future__ import annotations

import math

from edge_all.tiles import Box

_FINEST, _COARSEST = 0.02, 5.0
"""Micrometres a pixel of a microscope's scan; a resolution for printing gives other numbers, and is none."""


def plausible(um_per_px: float) -> float | None:
    """A scale, or None where no microscope has it."""
    return um_per_px if math.isfinite(um_per_px) and _FINEST <= um_per_px <= _COARSEST else None


def scaled(box: Box, downsample: float) -> tuple[int, int]:
    """Width and height of a part of level 0 in pixels of a level, at least one each."""
    width, height = box.right - box.left, box.bottom - box.top
    return max(1, round(width / downsample)), max(1, round(height / downsample))
