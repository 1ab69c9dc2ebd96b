"""Four pixels of a row as one of twelve channels; the convolution gives several neighbouring columns at once.

With channels last this is a matter of shapes: nothing is copied, before or after. A kernel of 3x3 with a step of two
becomes one of 3x2 with twice the outputs, and 2.7 times the products, most of them with a weight of zero. ONNX
Runtime's kernels for channels by fours make more than that good.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import onnx

from ...graph import edit
from ...graph.names import BACKBONE, PREPROCESS
from . import entrance
from .entrance import Entrance, FoldNodes

_TOGETHER = 4
"""Pixels; with their three channels the fewest whose channels come by fours."""


class _Size(NamedTuple):
    """What the convolution gives: channels, rows and columns as they were, and the columns that it gives at once."""

    channels: int
    rows: int
    columns: int
    at_once: int

    @property
    def groups(self) -> int:
        """How often it gives them in a row."""
        return -(-self.columns // self.at_once)


def folded(model: onnx.ModelProto) -> onnx.ModelProto | None:
    """As one of `stem.FORMS`."""
    found = entrance.find(model)
    if found is None or found.step not in (1, 2):
        return None
    quantizing = _quantizing(model, found)
    if quantizing is None:
        return None
    graph = edit.copy(model)
    shapes = edit.shapes(model, batch=1)
    _, channels, rows, columns = shapes[found.convolution.output[0]]
    size = _Size(channels, rows, columns, _TOGETHER // found.step)
    kernel = _kernel(found.weights, size.at_once, found.step)
    pixels = found.scaling.input[0]
    before = _fold_pixels(graph, pixels, shapes[pixels][1:3], size.groups + kernel.shape[3] - 1)
    after = _unfold_columns(f"{quantizing.output[0]}/wide", quantizing.output[0], size)
    _repeat_scales(graph.graph, found, size.at_once)
    entrance.put_in(graph, found, kernel, (found.step, 1), before, {quantizing.name: after})
    return graph


def _quantizing(model: onnx.ModelProto, found: Entrance) -> onnx.NodeProto | None:
    """The node that quantizes what the convolution gives, after its activation; None where something else reads it."""
    readers, tensor = edit.readers(model.graph.node), found.convolution.output[0]
    while len(readers[tensor]) == 1:
        (reader,) = readers[tensor]
        if reader.op_type == "QuantizeLinear":
            arrays = edit.arrays(model.graph)
            return None if any(arrays[name].ndim for name in reader.input[1:]) else reader
        if reader.op_type not in ("Relu", "Clip"):
            return None
        tensor = reader.output[0]
    return None


def _kernel(weights: np.ndarray, at_once: int, step: int) -> np.ndarray:
    """The kernel for columns taken together: ``[C, 3, h, w]`` to ``[at_once * C, 12, h, g]``."""
    count, channels, height, width = weights.shape
    groups = -(-(step * (at_once - 1) + width) // _TOGETHER)
    wide = np.zeros((at_once, count, _TOGETHER, channels, height, groups), weights.dtype)
    for column in range(at_once):
        for x in range(width):
            group, place = divmod(step * column + x, _TOGETHER)
            wide[column, :, place, :, :, group] = weights[:, :, :, x]
    return wide.reshape(at_once * count, _TOGETHER * channels, height, groups)


def _repeat_scales(graph: onnx.GraphProto, found: Entrance, times: int) -> None:
    """Give each output of the convolution that is there several times its scale and its bias."""
    arrays = edit.arrays(graph)
    for name in {*found.quantized_weights.input[1:], *found.quantized_bias.input}:
        if arrays[name].ndim:
            edit.set_constant(graph, name, np.tile(arrays[name], times))


def _fold_pixels(graph: onnx.ModelProto, source: str, size: tuple[int, ...], groups: int) -> FoldNodes:
    """Nodes that turn ``uint8 [N, H, W, 3]`` into ``[N, H, groups, 12]``, cut or padded at the end before."""
    nodes, (height, width), wanted = FoldNodes(PREPROCESS), size, groups * _TOGETHER
    source = entrance.pad(graph, source, nodes, (0, max(0, wanted - width)))
    if width > wanted:
        source = _first_columns(nodes, source, wanted)
    nodes.put("together", "Reshape", [source, nodes.numbers("shape", [0, height, groups, _TOGETHER * 3])])
    return nodes


def _unfold_columns(source: str, result: str, size: _Size) -> FoldNodes:
    """Nodes that turn ``uint8 [N, at_once * C, H, groups]`` into ``[N, C, H, W]``; with channels last, shapes alone."""
    nodes, columns = FoldNodes(BACKBONE), size.groups * size.at_once
    last = nodes.put("channels_last", "Transpose", [source], perm=[0, 2, 3, 1])
    shape = nodes.numbers("shape", [0, size.rows, columns, size.channels])
    apart = nodes.put("apart", "Reshape", [last, shape])
    if columns > size.columns:
        apart = _first_columns(nodes, apart, size.columns)
    nodes.put("channels_first", "Transpose", [apart], perm=[0, 3, 1, 2])
    nodes.nodes[-1].output[0] = result
    return nodes


def _first_columns(nodes: FoldNodes, source: str, count: int) -> str:
    """The first columns of ``[N, H, W, C]``."""
    begin, end, axis = (nodes.numbers(name, [value]) for name, value in (("begin", 0), ("end", count), ("axis", 2)))
    return nodes.put("cut", "Slice", [source, begin, end, axis])
