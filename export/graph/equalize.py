"""Histogram equalization inside the graph, to the bit what Pillow's ``ImageOps.equalize`` gives, per channel.

The paper (arXiv 2409.06687) equalizes its images. For one channel with histogram h and last non-empty bin b, Pillow's
table is ``(step // 2 + h[0] + ... + h[i - 1]) // step`` with ``step = (sum(h) - h[b]) // 255``, and the identity where
step is 0. All numbers are integers, so the result is exact.

Reference: https://github.com/python-pillow/Pillow/blob/main/src/PIL/ImageOps.py
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike
from onnx import TensorProto

from . import edit, names

LEVELS = 256


def equalize(nodes: edit.Nodes, source: str, size: tuple[int, int]) -> str:
    """Add nodes that equalize the histograms of ``uint8 [N, H, W, 3]``.

    Args:
        nodes: Where the nodes and their constants are added.
        source: Name of the input.
        size: Height and width.

    Returns:
        Name of the output: ``int32 [N, H, W, 3]`` with values from 0 to 255.
    """
    count = size[0] * size[1]

    def constant(name: str, value: ArrayLike, kind: DTypeLike = np.int64) -> str:
        return nodes.constant(f"equalize/{name}", np.asarray(value, dtype=kind))

    def add(name: str, kind: str, *inputs: str, **attributes: Any) -> str:
        return nodes.add(kind, inputs, f"equalize/{name}", f"{names.PREPROCESS}equalize/{name}", **attributes)

    zero, one, last = constant("0", 0, np.int32), constant("1", 1, np.int32), constant("255", 255, np.int32)
    planes = add("planes", "Transpose", source, perm=[0, 3, 1, 2])
    flat = add("flat", "Reshape", planes, constant("rows", [-1, count]))
    level = add("level", "Cast", flat, to=TensorProto.INT64)
    batch = add("batch", "Slice", add("shape", "Shape", level), constant("from", [0]), constant("to", [1]))
    empty = add("empty", "Expand", zero, add("table_shape", "Concat", batch, constant("levels", [LEVELS]), axis=0))
    ones = add("ones", "Expand", one, add("pixel_shape", "Concat", batch, constant("pixels", [count]), axis=0))
    histogram = add("histogram", "ScatterElements", empty, level, ones, axis=1, reduction="add")

    brightest = add("brightest", "ReduceMax", level, constant("along", [1]), keepdims=1)
    in_last = add("in_last", "GatherElements", histogram, brightest, axis=1)
    step = add("step", "Div", add("others", "Sub", constant("count", count, np.int32), in_last), last)
    safe = add("safe", "Max", step, one)
    total = add("total", "CumSum", histogram, constant("axis", 1), exclusive=1)
    half = add("half", "Div", safe, constant("2", 2, np.int32))
    stretched = add("stretched", "Min", add("divided", "Div", add("sum", "Add", half, total), safe), last)
    same = constant("same", np.arange(LEVELS)[np.newaxis], np.int32)
    table = add("table", "Where", add("flat_image", "Equal", step, zero), same, stretched)
    looked_up = add("looked_up", "GatherElements", table, level, axis=1)
    shaped = add("shaped", "Reshape", looked_up, constant("as_planes", [-1, 3, *size]))
    return add("equalized", "Transpose", shaped, perm=[0, 2, 3, 1])
