"""Cut the channels that no selected feature needs out of a backbone's graph, in FP32 or quantized.

Selection keeps some of the pooled channels. The convolution that makes them need not compute the others: its weights
and bias lose those rows, and so does everything between it and the pooling that works channel by channel (activations,
BatchNorm, depthwise convolutions, quantization), through concatenations and residual additions. A tensor that another
node reads whole stays whole, and one Gather takes the wanted channels from it. Every kept channel is computed from the
same numbers as before, so the cut is exact, unlike pruning by magnitude (Li et al. 2017, arXiv 1608.08710).

There are two passes: backwards, to learn which channels of each tensor are read; forwards, to write the graph with just
those.
"""

from __future__ import annotations

import numpy as np
import onnx

from ..graph import edit
from ..graph.facts import attribute
from ..graph.names import BACKBONE, FEATURES, POOLING, is_pooling, is_preprocess

_UNARY = ("Relu", "Clip", "MaxPool", "AveragePool", "QuantizeLinear", "DequantizeLinear", "BatchNormalization")
"""Operators whose output channels each depend on the same channel of their first input."""


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
    channels = edit.width(model.graph.output[0])
    if not len(kept) or kept.min() < 0 or kept.max() >= channels:
        raise ValueError(f"features {kept} are to stay; wanted some of 0 to {channels - 1}")
    pruned = _Pruning(model).run(np.asarray(kept))
    onnx.checker.check_model(pruned, full_check=True)
    assert edit.width(pruned.graph.output[0]) == len(kept)
    return pruned


class _Pruning:
    """One run over one graph. Channels are ``int64`` arrays of numbers in the uncut graph, ascending.

    Attributes:
        _constants: The uncut graph's constants.
        _dequantized: By output, the nodes through which quantized convolutions read their weights and biases.
        _width: How many channels each tensor of the uncut graph has.
        _present: The channels that each written tensor has, where these are not all.
        _producers: The written node that computes each tensor.
        _written: The new nodes and constants.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        self._model = model
        self._constants = edit.arrays(model.graph)
        self._dequantized = {
            node.output[0]: node
            for node in model.graph.node
            if node.op_type == "DequantizeLinear" and node.input[0] in self._constants
        }
        self._width = edit.channels(model)
        self._present: dict[str, np.ndarray] = {}
        self._producers: dict[str, onnx.NodeProto] = {}
        self._written = edit.Nodes()

    def run(self, kept: np.ndarray) -> onnx.ModelProto:
        """The cut graph."""
        read = self._channels_read(np.unique(kept))
        for node in self._model.graph.node:
            output = node.output[0]
            if output in self._dequantized:
                continue
            if output in read and not len(read[output]):
                self._present[output] = read[output]
                continue
            written = edit.copy(node)
            if output in read and not is_preprocess(node):
                self._cut_node(written, read[output])
            self._written.nodes.append(written)
            self._producers[output] = written
        self._order_features(kept)
        constants = [*self._model.graph.initializer, *self._written.initializers()]
        pruned = edit.rebuilt(self._model, self._written.nodes, constants)
        pruned.graph.output[0].type.tensor_type.shape.dim[1].dim_value = len(kept)
        return pruned

    def _channels_read(self, kept: np.ndarray) -> dict[str, np.ndarray]:
        """The channels of each tensor of backbone and pooling that some node reads."""
        read = {FEATURES: kept}
        for node in reversed(self._model.graph.node):
            output = node.output[0]
            if output not in read or output in self._dequantized or is_preprocess(node):
                continue
            for tensor, channels in self._needs(node, read[output]):
                read[tensor] = np.union1d(read.get(tensor, channels[:0]), channels)
        return read

    def _needs(self, node: onnx.NodeProto, channels: np.ndarray) -> list[tuple[str, np.ndarray]]:
        """What a node reads of which tensors, to give some channels of its output."""
        if node.op_type in _UNARY or self._is_depthwise(node):
            return [(node.input[0], channels)]
        if node.op_type == "Concat":
            stops = np.cumsum([self._width[piece] for piece in node.input])
            starts = np.concatenate([[0], stops[:-1]])
            return [
                (piece, channels[(channels >= start) & (channels < stop)] - start)
                for piece, start, stop in zip(node.input, starts, stops, strict=True)
            ]
        if node.op_type == "Add" or is_pooling(node):
            return [(side, channels) for side in node.input if side not in self._constants]
        return [(node.input[0], np.arange(self._width[node.input[0]]))]

    def _cut_node(self, node: onnx.NodeProto, wanted: np.ndarray) -> None:
        """Let a node give the wanted channels, or more where that is cheaper.

        Postcondition: `_present` says which channels it gives.
        """
        output = node.output[0]
        if node.op_type == "Concat":  # whole pieces stay whole: one Gather behind is cheaper than one before each
            starts = np.cumsum([0, *(self._width[piece] for piece in node.input)])
            pieces = [self._channels(piece) + start for piece, start in zip(node.input, starts, strict=False)]
            node.input[:] = [name for name, piece in zip(node.input, pieces, strict=True) if len(piece)]
            self._present[output] = np.concatenate(pieces)
            return
        if is_pooling(node):
            self._present[output] = self._channels(node.input[0])
            return
        if node.op_type not in ("Conv", "Add", *_UNARY):  # of another layout: it gives all that it gave
            return
        self._present[output] = wanted
        if node.op_type == "Conv":
            self._cut_convolution(node, wanted)
        elif node.op_type == "Add":
            node.input[:] = [
                self._rows(side, wanted, output) if side in self._constants else self._gathered(side, wanted)
                for side in node.input
            ]
        else:
            node.input[0] = self._gathered(node.input[0], wanted)
            if node.op_type in ("BatchNormalization", "DequantizeLinear"):
                node.input[1:] = [self._rows(name, wanted, output) for name in node.input[1:]]

    def _cut_convolution(self, node: onnx.NodeProto, wanted: np.ndarray) -> None:
        if self._is_depthwise(node):
            node.input[0] = self._gathered(node.input[0], wanted)
            for entry in node.attribute:
                if entry.name == "group":
                    entry.i = len(wanted)
        for i in range(1, len(node.input)):
            node.input[i] = self._rows(node.input[i], wanted, node.output[0])

    def _order_features(self, kept: np.ndarray) -> None:
        """Put the features into the wanted order, where they are not in it."""
        present = self._present[FEATURES]
        if np.array_equal(present, kept):
            return
        unordered = f"all_{FEATURES}"
        self._producers[FEATURES].output[0] = unordered
        places = self._written.constant(f"{POOLING}kept", np.searchsorted(present, kept))
        self._written.add("Gather", [unordered, places], FEATURES, f"{POOLING}keep", axis=1)

    def _channels(self, tensor: str) -> np.ndarray:
        """The channels that a written tensor has."""
        return self._present.get(tensor, np.arange(self._width[tensor]))

    def _gathered(self, tensor: str, wanted: np.ndarray) -> str:
        """A tensor with the wanted channels only; a quantized one is gathered in 8 bits."""
        present = self._channels(tensor)
        if np.array_equal(present, wanted):
            return tensor
        name = f"{tensor}/kept_{len(self._written.constants)}"
        places = self._written.constant(f"{name}/places", np.searchsorted(present, wanted))
        producer = self._producers.get(tensor)
        if producer is not None and producer.op_type == "DequantizeLinear":
            q = self._written.add("Gather", [producer.input[0], places], f"{name}/q", f"{name}/q", axis=1)
            self._written.add("DequantizeLinear", [q, *producer.input[1:]], name, f"{name}/real")
        else:
            self._written.add("Gather", [tensor, places], name, f"{BACKBONE}{name}", axis=1)
        self._present[name] = wanted
        return name

    def _rows(self, name: str, wanted: np.ndarray, reader: str) -> str:
        """The rows of a constant for the wanted channels, dequantized where the constant is."""
        dequantizing = self._dequantized.get(name)
        if dequantizing is None:
            value = self._constants[name]
            if not value.ndim or len(value) == len(wanted):
                return name
            return self._written.constant(f"{name}/of/{reader}", value[wanted])
        written = edit.copy(dequantizing)
        if self._constants[written.input[1]].ndim:  # a scale for each channel
            written.input[:] = [self._rows(part, wanted, reader) for part in written.input]
        else:
            written.input[0] = self._rows(written.input[0], wanted, reader)
        self._written.nodes.append(written)
        return str(written.output[0])

    def _is_depthwise(self, node: onnx.NodeProto) -> bool:
        groups = attribute(node, "group", 1)
        return node.op_type == "Conv" and groups > 1 and groups == self._width[node.output[0]]
