"""Scale a backbone's channels so that those that share 8 bits have like ranges; what it computes stays the same.

Cross-layer equalization (Nagel et al. 2019, arXiv 1906.04721), with the ranges of real activations as in SmoothQuant
(Xiao et al. 2023, arXiv 2211.10438): a channel's factor goes into the weights that make it and comes out of the weights
that read it. Channels that an Add joins share a factor; a ReLU6 bounds it. Where only convolutions of one weight a
channel read it, it is shifted too, through the biases, and has all 8 bits for its own range.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import onnx
from onnx import numpy_helper

from .input_folding import SOURCE
from .rewrite import MAP, is_exit

_BY_WEIGHTS = 0.5, 16.0
_BY_EXIT = 0.75, 64.0
_BY_FACTOR = 1.0, 4096.0
"""How much of the difference between two channels is evened out, and the largest factor, by who reads them. Weights for
several channels have to even out the rest by their own rounding. A convolution of one weight a channel has a step for
each, and leaves no rest; at an exit a peak that few pixels reach is not to set the step, or the many small values that
are pooled with it round to nothing."""

_PASSING = ("Relu", "Clip", "MaxPool", "Identity")


def balance(
    model: onnx.ModelProto, spans: Mapping[str, np.ndarray], rounded: Iterable[str], signed: bool = False
) -> onnx.ModelProto:
    """Even out the channels of the tensors that are going to be rounded.

    Args:
        model: An FP32 backbone, rewritten (`rewrite`).
        spans: Smallest and largest value of each channel of each tensor, ``float32 [2, C]``.
        rounded: The tensors that count.
        signed: Whether to symmetric int8; then a channel that may be shifted is centred, else it starts at zero.

    Returns:
        The same function of the image, but for values beyond the spans at a ReLU6.
    """
    arrays = {i.name: numpy_helper.to_array(i).copy() for i in model.graph.initializer}
    nodes = [n for n in model.graph.node if n.name.startswith("backbone/")]
    channels, of = _number(nodes, arrays)
    shifted = _shifted(channels, of, nodes, arrays)
    start = np.where(shifted, _starts(channels, of, spans, signed), 0.0)
    peaks = {}
    for name, numbers in of.items():
        least, most = spans[name]
        zero = start[channels.find(numbers)]
        peaks[name] = np.maximum(zero - least, most - zero)
    factor = _factors(channels, of, nodes, arrays, peaks, rounded, shifted)
    shift = -start * factor
    by_tensor = {name: channels.find(numbers) for name, numbers in of.items()}

    balanced = onnx.ModelProto()
    balanced.CopyFrom(model)
    for node in balanced.graph.node:
        if node.op_type != "Conv":
            continue
        made, read = by_tensor[node.output[0]], by_tensor[node.input[0]]
        weights, *bias = (arrays[name].astype(np.float64) for name in node.input[1:])
        groups = len(read) // weights.shape[1]
        by_output = np.repeat(read.reshape(groups, -1), len(made) // groups, axis=0)
        weights = weights * factor[made][:, None, None, None] / factor[by_output][:, :, None, None]
        offset = sum(bias) * factor[made] + shift[made] - (weights.sum((2, 3)) * shift[by_output]).sum(1)
        # Under names of their own: nodes may share a constant, and each has factors of its own.
        del node.input[1:]
        node.input.extend([f"{node.name}/balanced", f"{node.name}/offset"])
        balanced.graph.initializer.extend(
            numpy_helper.from_array(value.astype(np.float32), name)
            for name, value in zip(node.input[1:], (weights, offset), strict=True)
        )
    read_names = {name for node in balanced.graph.node for name in node.input}
    kept = [constant for constant in balanced.graph.initializer if constant.name in read_names]
    del balanced.graph.initializer[:]
    balanced.graph.initializer.extend(kept)
    return balanced


def _number(
    nodes: Sequence[onnx.NodeProto], arrays: Mapping[str, np.ndarray]
) -> tuple[_Channels, dict[str, np.ndarray]]:
    """Numbers for the channels of each tensor; channels that must be scaled alike have the same."""
    channels = _Channels()
    of = {SOURCE: channels.new(3)}
    for node in nodes:
        output = node.output[0]
        if node.op_type == "Conv":
            of[output] = channels.new(len(arrays[node.input[1]]))
        elif node.op_type == "Add":
            of[output] = channels.join(of[node.input[0]], of[node.input[1]])
        elif node.op_type == "Concat":
            of[output] = np.concatenate([of[name] for name in node.input])
        elif node.op_type in _PASSING:
            of[output] = of[node.input[0]]
    return channels, of


def _shifted(
    channels: _Channels, of: Mapping[str, np.ndarray], nodes: Sequence[onnx.NodeProto], arrays: Mapping[str, np.ndarray]
) -> np.ndarray:
    """``bool``, by number: channels that may be shifted, since whoever reads them has a bias to make it good.

    Those that a convolution gives with no activation behind it, and that convolutions of one weight a channel read.
    """
    allowed = np.ones(channels.count, bool)
    for node in nodes:
        if node.op_type in ("Relu", "Clip", "Add"):
            allowed[channels.find(of[node.output[0]])] = False
        elif node.op_type == "Conv" and not _one_pixel(node, arrays):
            allowed[channels.find(of[node.input[0]])] = False
    for name, numbers in of.items():
        if name == SOURCE or name.startswith(MAP):
            allowed[channels.find(numbers)] = False
    return allowed


def _starts(
    channels: _Channels, of: Mapping[str, np.ndarray], spans: Mapping[str, np.ndarray], centred: bool
) -> np.ndarray:
    """Each number's smallest value, or the middle of its values."""
    least, most = np.full(channels.count, np.inf), np.full(channels.count, -np.inf)
    for name, numbers in of.items():
        found = channels.find(numbers)
        np.minimum.at(least, found, spans[name][0])
        np.maximum.at(most, found, spans[name][1])
    roots = channels.find(np.arange(channels.count))
    least, most = least[roots], most[roots]
    return (least + most) / 2 if centred else least


def _one_pixel(node: onnx.NodeProto, arrays: Mapping[str, np.ndarray]) -> bool:
    """Whether a convolution gives each channel times a factor: it has a step for each, so no range matters to it."""
    return arrays[node.input[1]].shape[1:] == (1, 1, 1)


def _factors(
    channels: _Channels,
    of: Mapping[str, np.ndarray],
    nodes: Sequence[onnx.NodeProto],
    arrays: Mapping[str, np.ndarray],
    peaks: Mapping[str, np.ndarray],
    rounded: Iterable[str],
    shifted: np.ndarray,
) -> np.ndarray:
    """A factor for each number of `channels`: 1 for the widest channel of a tensor, more for the others."""
    share, factor = (np.full(channels.count, value) for value in _BY_FACTOR)
    for node in nodes:
        if node.op_type != "Conv":
            continue
        numbers, least = channels.find(of[node.input[0]]), _BY_WEIGHTS
        if is_exit(node):
            numbers, least = numbers[~shifted[numbers]], _BY_EXIT
        elif _one_pixel(node, arrays):
            continue
        share[numbers] = np.minimum(share[numbers], least[0])
        factor[numbers] = np.minimum(factor[numbers], least[1])
    for name in rounded:
        numbers = channels.find(of[name])
        peak = np.maximum(peaks[name], 1e-12)
        np.minimum.at(factor, numbers, (peak.max() / peak) ** share[numbers])
    for node in nodes:
        if node.op_type == "Clip":
            limit = float(arrays[node.input[2]])
            peak = np.maximum(peaks[node.output[0]], 1e-12)
            np.minimum.at(factor, channels.find(of[node.output[0]]), np.maximum(limit / peak, 1.0) ** _BY_WEIGHTS[0])
    for name, numbers in of.items():
        if name == SOURCE or name.startswith(MAP):  # what comes in, and what is pooled, stays as it is
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
