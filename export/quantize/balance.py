"""Scale a backbone's channels so that those that share 8 bits have like ranges; what it computes stays the same.

Cross-layer equalization (Nagel et al. 2019, arXiv 1906.04721), with the ranges of real activations as in SmoothQuant
(Xiao et al. 2023, arXiv 2211.10438): a channel's factor goes into the weights that make it and comes out of the weights
that read it. Channels that an Add joins share a factor; a ReLU6 bounds it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import onnx
from onnx import numpy_helper

from .pixels import SOURCE

_SHARE = 0.5
"""How much of the difference between two channels is evened out; the rest is left to the weights' own rounding."""

_MOST = 16.0

_PASSING = ("Relu", "Clip", "MaxPool", "AveragePool")


def balance(model: onnx.ModelProto, peaks: Mapping[str, np.ndarray], rounded: Iterable[str]) -> onnx.ModelProto:
    """Even out the channels of the tensors that are going to be rounded.

    Args:
        model: An FP32 backbone.
        peaks: Largest absolute value of each channel of each tensor, ``float32 [C]``.
        rounded: The tensors that count.

    Returns:
        The same function of the image, but for values beyond the peaks at a ReLU6.
    """
    arrays = {i.name: numpy_helper.to_array(i).copy() for i in model.graph.initializer}
    nodes = [n for n in model.graph.node if n.name.startswith("backbone/")]
    channels = _Channels()
    of = {SOURCE: channels.new(3)}
    for node in nodes:
        output = node.output[0]
        if node.op_type in ("Conv", "BatchNormalization"):
            of[output] = channels.new(len(arrays[node.input[1]]))
        elif node.op_type == "Add":
            of[output] = channels.join(of[node.input[0]], of[node.input[1]])
        elif node.op_type == "Concat":
            of[output] = np.concatenate([of[name] for name in node.input])
        elif node.op_type in _PASSING:
            of[output] = of[node.input[0]]
    factor = _factors(channels, of, nodes, arrays, peaks, rounded)
    made_by = {node.output[0]: factor[channels.find(of[node.output[0]])] for node in nodes if node.output[0] in of}
    made_by[SOURCE] = np.ones(3)

    balanced = onnx.ModelProto()
    balanced.CopyFrom(model)
    for node in balanced.graph.node:
        if node.op_type not in ("Conv", "BatchNormalization"):
            continue
        made, read = made_by[node.output[0]], made_by[node.input[0]]
        constants = [arrays[name] for name in node.input[1:]]
        if node.op_type == "Conv":
            by_group = read.reshape(-1, constants[0].shape[1])
            by_output = np.repeat(by_group, len(made) // len(by_group), axis=0)
            constants[0] = constants[0] * made[:, None, None, None] / by_output[:, :, None, None]
            constants[1:] = [bias * made for bias in constants[1:]]
        else:
            scale, bias, mean, variance = constants
            constants = [scale * made / read, bias * made, mean * read, variance]
        # Under names of their own: nodes may share a constant, and each has factors of its own.
        node.input[1:] = [f"{node.name}/{i}" for i in range(len(constants))]
        balanced.graph.initializer.extend(
            numpy_helper.from_array(value.astype(np.float32), name)
            for name, value in zip(node.input[1:], constants, strict=True)
        )
    read_names = {name for node in balanced.graph.node for name in node.input}
    kept = [constant for constant in balanced.graph.initializer if constant.name in read_names]
    del balanced.graph.initializer[:]
    balanced.graph.initializer.extend(kept)
    return balanced


def _factors(
    channels: _Channels,
    of: Mapping[str, np.ndarray],
    nodes: Sequence[onnx.NodeProto],
    arrays: Mapping[str, np.ndarray],
    peaks: Mapping[str, np.ndarray],
    rounded: Iterable[str],
) -> np.ndarray:
    """A factor for each number of `channels`: 1 for the widest channel of a tensor, up to `_MOST` for the others."""
    factor = np.full(channels.count, _MOST)
    for name in rounded:
        peak = np.maximum(peaks[name], 1e-12)
        wanted = (peak.max() / peak) ** _SHARE
        np.minimum.at(factor, channels.find(of[name]), wanted)
    for node in nodes:
        if node.op_type == "Clip":
            limit = float(arrays[node.input[2]])
            peak = np.maximum(peaks[node.output[0]], 1e-12)
            np.minimum.at(factor, channels.find(of[node.output[0]]), np.maximum(limit / peak, 1.0) ** _SHARE)
    for name, numbers in of.items():
        if name == SOURCE or name.startswith("map_"):  # what comes in, and what is pooled, stays as it is
            factor[channels.find(numbers)] = 1.0
    return factor


class _Channels:
    """Numbers for channels; some turn out to be one and the same."""

    def __init__(self) -> None:
        self._parent = np.arange(0)

    @property
    def count(self) -> int:
        return len(self._parent)

    def new(self, count: int) -> np.ndarray:
        numbers = np.arange(len(self._parent), len(self._parent) + count)
        self._parent = np.concatenate([self._parent, numbers])
        return numbers

    def find(self, numbers: np.ndarray) -> np.ndarray:
        while (self._parent[numbers] != numbers).any():
            numbers = self._parent[numbers]
        return numbers

    def join(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        roots = self.find(a)
        self._parent[self.find(b)] = roots
        return roots
