"""Histogram equalisation inside the graph, to the bit what Pillow's ``ImageOps.equalize`` gives, per channel.

The paper (arXiv 2409.06687) equalises its images. For one channel with histogram h and last non-empty bin b, Pillow's
table is ``(step // 2 + h[0] + ... + h[i - 1]) // step`` with ``step = (sum(h) - h[b]) // 255``, and the identity where
step is 0. All in integers, so there is nothing to round.

Reference: https://github.com/python-pillow/Pillow/blob/main/src/PIL/ImageOps.py
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

LEVELS = 256


def nodes(source: str, size: tuple[int, int]) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto], str]:
    """Nodes that equalise ``uint8 [N, H, W, 3]``.

    Args:
        source: Name of the input.
        size: Height and width.

    Returns:
        Nodes, constants, and the name of the output: ``int32 [N, H, W, 3]`` with values from 0 to 255.
    """
    count = size[0] * size[1]
    made: list[onnx.NodeProto] = []
    constants: list[onnx.TensorProto] = []

    def constant(name: str, value: object, kind: type = np.int64) -> str:
        constants.append(numpy_helper.from_array(np.asarray(value, dtype=kind), f"equalize/{name}"))
        return f"equalize/{name}"

    def add(name: str, kind: str, *inputs: str, **attributes: object) -> str:
        output = f"equalize/{name}"
        made.append(helper.make_node(kind, inputs, [output], name=f"preprocess/equalize/{name}", **attributes))
        return output

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
    return made, constants, add("equalized", "Transpose", shaped, perm=[0, 2, 3, 1])
