"""Cut the channels that no kept feature needs out of a backbone's graph, in FP32 or quantized.

Selection keeps some of the pooled channels. The convolution that makes them need not compute the others: its weights
and bias lose those rows, and so does everything between it and the pooling that works channel by channel (activations,
BatchNorm, depthwise convolutions, rounding), through concatenations and residual additions. A tensor that somebody else
reads whole stays whole, and one Gather takes what is wanted from it. Every kept channel is computed from the same
numbers as before: this is no approximation, unlike pruning by magnitude (Li et al. 2017, arXiv 1608.08710).

Two passes: backwards, which channels of each tensor are read by anybody; forwards, the graph with just those.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import helper, numpy_helper, shape_inference

from ..graph.facts import attributes

_UNARY = ("Relu", "Clip", "MaxPool", "AveragePool", "QuantizeLinear", "DequantizeLinear", "BatchNormalization")
_POOLING = "pooling/"
"""Begins the names of the nodes behind the taps: they are cheap, and cut at their end."""


def prune(model: onnx.ModelProto, kept: np.ndarray) -> onnx.ModelProto:
    """Cut a backbone down to some of its features.

    Args:
        model: ``uint8 [N, H, W, 3]`` "image" to ``float32 [N, C]`` "features", as `edge_all.export.graph.build` or a
            quantizer of `edge_all.export.quantize.schemes` wrote it.
        kept: Numbers of the features that stay, ``int64 [F]``, in the order of the result.

    Returns:
        The same with ``float32 [N, F]`` "features": column i is column ``kept[i]`` of before.

    Raises:
        ValueError: `kept` is empty or out of range.
    """
    channels = model.graph.output[0].type.tensor_type.shape.dim[1].dim_value
    if not len(kept) or kept.min() < 0 or kept.max() >= channels:
        raise ValueError(f"features {kept} are to stay; wanted some of 0 to {channels - 1}")
    cut = _Cut(model).run(np.asarray(kept))
    onnx.checker.check_model(cut, full_check=True)
    assert cut.graph.output[0].type.tensor_type.shape.dim[1].dim_value == len(kept)
    return cut


class _Cut:
    """One run over one graph. Channels are ``int64`` arrays of numbers in the uncut graph, ascending."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self._model = model
        self._constants = {constant.name: constant for constant in model.graph.initializer}
        self._weights = {  # what a quantized convolution reads its weights and bias through
            n.output[0]: n
            for n in model.graph.node
            if n.op_type == "DequantizeLinear" and n.input[0] in self._constants
        }
        self._width = _widths(model)
        self._made_by: dict[str, onnx.NodeProto] = {}
        self._has: dict[str, np.ndarray] = {}
        self._written: list[onnx.NodeProto] = []
        self._new: dict[str, onnx.TensorProto] = {}

    def run(self, kept: np.ndarray) -> onnx.ModelProto:
        wanted = self._wanted(np.unique(kept))
        for node in self._model.graph.node:
            output = node.output[0]
            if output in self._weights:
                continue
            if output in wanted and not len(wanted[output]):
                self._has[output] = wanted[output]
                continue
            copy = onnx.NodeProto()
            copy.CopyFrom(node)
            if output in wanted and not node.name.startswith("preprocess/"):
                self._write(copy, wanted[output])
            self._written.append(copy)
            self._made_by[output] = copy
        self._end(kept)
        return self._assembled(len(kept))

    def _wanted(self, kept: np.ndarray) -> dict[str, np.ndarray]:
        """Channels of each tensor of the backbone that somebody reads."""
        found: dict[str, np.ndarray] = {"features": kept}

        def ask(tensor: str, numbers: np.ndarray) -> None:
            found[tensor] = np.union1d(found.get(tensor, numbers[:0]), numbers)

        for node in reversed(self._model.graph.node):
            output = node.output[0]
            if output not in found or output in self._weights or node.name.startswith("preprocess/"):
                continue
            numbers = found[output]
            if node.op_type in _UNARY or self._is_depthwise(node):
                ask(node.input[0], numbers)
            elif node.op_type == "Concat":
                start = 0
                for piece in node.input:
                    stop = start + self._width[piece]
                    ask(piece, numbers[(numbers >= start) & (numbers < stop)] - start)
                    start = stop
            elif node.op_type == "Add" or node.name.startswith(_POOLING):
                for side in node.input:
                    if side not in self._constants:
                        ask(side, numbers)
            else:
                ask(node.input[0], np.arange(self._width[node.input[0]]))
        return found

    def _write(self, node: onnx.NodeProto, wanted: np.ndarray) -> None:
        """Turn a node's copy into one that makes the wanted channels, or more where that is cheaper."""
        output = node.output[0]
        if node.op_type == "Concat":  # whole pieces stay whole: one Gather behind is cheaper than one before each
            starts = np.cumsum([0, *(self._width[piece] for piece in node.input)])
            pieces = [self._all(piece) + start for piece, start in zip(node.input, starts, strict=False)]
            node.input[:] = [name for name, piece in zip(node.input, pieces, strict=True) if len(piece)]
            self._has[output] = np.concatenate(pieces)
            return
        if node.name.startswith(_POOLING):
            self._has[output] = self._all(node.input[0])
            return
        self._has[output] = wanted
        if node.op_type == "Conv":
            if self._is_depthwise(node):
                node.input[0] = self._taken(node.input[0], wanted)
                for attribute in node.attribute:
                    if attribute.name == "group":
                        attribute.i = len(wanted)
            for i in range(1, len(node.input)):
                node.input[i] = self._rows(node.input[i], wanted, node.output[0])
        elif node.op_type == "Add":
            node.input[:] = [
                self._rows(side, wanted, output) if side in self._constants else self._taken(side, wanted)
                for side in node.input
            ]
        else:
            node.input[0] = self._taken(node.input[0], wanted)
            if node.op_type in ("BatchNormalization", "DequantizeLinear"):
                node.input[1:] = [self._rows(name, wanted, output) for name in node.input[1:]]

    def _end(self, kept: np.ndarray) -> None:
        has = self._has["features"]
        if np.array_equal(has, kept):
            return
        self._made_by["features"].output[0] = "all_features"
        places = self._constant("pooling/kept", np.searchsorted(has, kept))
        self._written.append(helper.make_node("Gather", ["all_features", places], ["features"], "pooling/keep", axis=1))

    def _all(self, tensor: str) -> np.ndarray:
        return self._has.get(tensor, np.arange(self._width[tensor]))

    def _taken(self, tensor: str, wanted: np.ndarray) -> str:
        """A tensor with these channels only; of a rounded one the 8-bit form is gathered."""
        has = self._all(tensor)
        if np.array_equal(has, wanted):
            return tensor
        name = f"{tensor}/kept_{len(self._new)}"
        places = self._constant(f"{name}/places", np.searchsorted(has, wanted))
        maker = self._made_by.get(tensor)
        if maker is not None and maker.op_type == "DequantizeLinear":
            self._written.append(
                helper.make_node("Gather", [maker.input[0], places], [f"{name}/q"], f"{name}/q", axis=1)
            )
            self._written.append(
                helper.make_node("DequantizeLinear", [f"{name}/q", *maker.input[1:]], [name], f"{name}/real")
            )
        else:
            self._written.append(helper.make_node("Gather", [tensor, places], [name], f"backbone/{name}", axis=1))
        self._has[name] = wanted
        return name

    def _rows(self, name: str, wanted: np.ndarray, reader: str) -> str:
        """A constant's rows of these channels, dequantized where the constant is."""
        through = self._weights.get(name)
        if through is None:
            value = numpy_helper.to_array(self._constants[name])
            return (
                name
                if not value.ndim or len(value) == len(wanted)
                else self._constant(f"{name}/of/{reader}", value[wanted])
            )
        copy = onnx.NodeProto()
        copy.CopyFrom(through)
        if self._constants[through.input[1]].dims:  # a step for each channel
            copy.input[:] = [self._rows(part, wanted, reader) for part in through.input]
        else:
            copy.input[0] = self._rows(through.input[0], wanted, reader)
        self._written.append(copy)
        return copy.output[0]

    def _constant(self, name: str, value: np.ndarray) -> str:
        self._new[name] = numpy_helper.from_array(np.ascontiguousarray(value), name)
        return name

    def _is_depthwise(self, node: onnx.NodeProto) -> bool:
        groups = attributes(node).get("group", 1)
        return node.op_type == "Conv" and groups > 1 and groups == self._width[node.output[0]]

    def _assembled(self, features: int) -> onnx.ModelProto:
        cut = onnx.ModelProto()
        cut.CopyFrom(self._model)
        graph = cut.graph
        read = {name for node in self._written for name in node.input}
        constants = [c for c in (*self._model.graph.initializer, *self._new.values()) if c.name in read]
        del graph.node[:], graph.initializer[:], graph.value_info[:]
        graph.node.extend(self._written)
        graph.initializer.extend(constants)
        graph.output[0].type.tensor_type.shape.dim[1].dim_value = features
        return cut


def _widths(model: onnx.ModelProto) -> dict[str, int]:
    """Channels of every tensor: its second dimension."""
    graph = shape_inference.infer_shapes(model).graph
    values = (*graph.value_info, *graph.input, *graph.output)
    shapes = {value.name: value.type.tensor_type.shape.dim for value in values}
    return {name: dims[1].dim_value for name, dims in shapes.items() if len(dims) > 1}
