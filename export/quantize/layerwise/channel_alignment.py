"""Scale and shift a backbone's channels so that those that share a scale have like ranges; its function stays the same.

Cross-layer equalization (Nagel et al. 2019, arXiv 1906.04721) with the ranges of real activations, as in SmoothQuant
(Xiao et al. 2023, arXiv 2211.10438): the weights that make a channel are multiplied with its factor, and those that
read it are divided by it. Channels that an Add joins share a factor; a ReLU6 limits it. A channel that only depthwise,
pointwise convolutions read is shifted too, through the biases, so that all 8 bits are spread over its own range.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx

from ...graph import edit
from ...graph.names import NORMALIZED, is_backbone, is_map
from .rewrite import is_output_rescale
from .walk import Statistics

_LEAST_PEAK = 1e-12

_READ_BY_CONVOLUTION = 0.5, 16.0
_READ_BY_OUTPUT_RESCALE = 0.75, 64.0
_READ_BY_CHANNEL = 1.0, 4096.0
"""Limits of a channel's factor, by who reads the channel. The factor is the tensor's largest peak divided by the
channel's, raised to the first number, and at most the second number.

A convolution over several channels makes up for the factors with weights that share 8 bits, so they must not differ
too much. A depthwise, pointwise convolution has a scale for each channel and makes up for any factor. At an output
rescale the limits lie between: a peak that few pixels reach must not decide the scale alone, or the many small values
that are averaged with it would be quantized to zero."""

_PASSING = ("Relu", "Clip", "MaxPool", "Identity")
"""Operators whose output has the channels of their input."""


@dataclass(frozen=True)
class Alignment:
    """A backbone with aligned channels.

    Attributes:
        model: The backbone.
        moved: By tensor: what each channel was multiplied with, and what was added then, ``float64 [C]`` each.
    """

    model: onnx.ModelProto
    moved: Mapping[str, tuple[np.ndarray, np.ndarray]]

    def sample(self, tensor: str, measured: Statistics) -> np.ndarray:
        """A sample of a tensor's values with its extremes, from what was measured before its channels were aligned."""
        factor, shift = self.moved[tensor]
        values, channels = measured.samples[tensor]
        ends = measured.spans[tensor] * factor + shift
        moved = values * factor[channels] + shift[channels]
        return np.asarray(np.r_[ends.min(), ends.max(), moved], np.float32)


def align_channels(
    model: onnx.ModelProto, spans: Mapping[str, np.ndarray], quantized: Iterable[str], signed: bool = False
) -> Alignment:
    """Align the ranges of the channels of each tensor that will be quantized.

    Args:
        model: An FP32 backbone, rewritten (`rewrite`).
        spans: Smallest and largest value of each channel of each tensor, ``float32 [2, C]``.
        quantized: The tensors that will be quantized.
        signed: Whether to symmetric int8: then a channel that may be shifted is centred, else it starts at zero.

    Returns:
        A backbone that is the same function of the image, but for values beyond the spans at a ReLU6.
    """
    arrays = edit.arrays(model.graph)
    nodes = [node for node in model.graph.node if is_backbone(node)]
    groups = _ChannelGroups(nodes, arrays)
    shifted = _may_shift(groups, nodes, arrays)
    start = np.where(shifted, _starts(groups, spans, signed), 0.0)
    peaks = {}
    for tensor in groups.tensors:
        least, most = spans[tensor]
        zero = start[groups.of(tensor)]
        peaks[tensor] = np.maximum(zero - least, most - zero)
    factor = _factors(groups, nodes, arrays, peaks, quantized, shifted)
    shift = -start * factor

    aligned = edit.copy(model)
    for node in aligned.graph.node:
        if node.op_type != "Conv":
            continue
        outputs, inputs = groups.of(node.output[0]), groups.of(node.input[0])
        weights, *bias = (arrays[name].astype(np.float64) for name in node.input[1:])
        parts = len(inputs) // weights.shape[1]
        by_output = np.repeat(inputs.reshape(parts, -1), len(outputs) // parts, axis=0)
        weights = weights * factor[outputs][:, None, None, None] / factor[by_output][:, :, None, None]
        offset = sum(bias) * factor[outputs] + shift[outputs] - (weights.sum((2, 3)) * shift[by_output]).sum(1)
        # Under new names: nodes may share a constant, and each has its own factors.
        constants = {f"{node.name}/balanced": weights, f"{node.name}/offset": offset}
        node.input[1:] = list(constants)
        edit.add_constants(aligned.graph, {name: value.astype(np.float32) for name, value in constants.items()})
    edit.drop_unread(aligned.graph)
    moved = {tensor: (factor[groups.of(tensor)], shift[groups.of(tensor)]) for tensor in groups.tensors}
    return Alignment(aligned, moved)


class _ChannelGroups:
    """The channels of all tensors, in groups that must have one factor and one shift (union-find)."""

    def __init__(self, nodes: Sequence[onnx.NodeProto], arrays: Mapping[str, np.ndarray]) -> None:
        self._parent = np.arange(0)
        self._channels = {NORMALIZED: self._new(3)}
        for node in nodes:
            inputs, output = node.input, node.output[0]
            if node.op_type == "Conv":
                self._channels[output] = self._new(len(arrays[inputs[1]]))
            elif node.op_type == "Add":
                self._channels[output] = self._join(self._channels[inputs[0]], self._channels[inputs[1]])
            elif node.op_type == "Concat":
                self._channels[output] = np.concatenate([self._channels[name] for name in inputs])
            elif node.op_type in _PASSING:
                self._channels[output] = self._channels[inputs[0]]

    @property
    def count(self) -> int:
        """How many numbers there are for groups; not every number is one."""
        return len(self._parent)

    @property
    def tensors(self) -> list[str]:
        """Names of all tensors, in order."""
        return list(self._channels)

    def of(self, tensor: str) -> np.ndarray:
        """Numbers of the groups of a tensor's channels, ``int64 [C]``."""
        return self.find(self._channels[tensor])

    def find(self, channels: np.ndarray) -> np.ndarray:
        """Numbers of the groups that some channels belong to."""
        while (self._parent[channels] != channels).any():
            channels = self._parent[channels]
        return channels

    def _new(self, count: int) -> np.ndarray:
        channels = np.arange(len(self._parent), len(self._parent) + count)
        self._parent = np.concatenate([self._parent, channels])
        return channels

    def _join(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        roots = self.find(a)
        self._parent[self.find(b)] = roots
        return roots


def _may_shift(groups: _ChannelGroups, nodes: Sequence[onnx.NodeProto], arrays: Mapping[str, np.ndarray]) -> np.ndarray:
    """Which groups may be shifted, ``bool`` by number, because a bias of every reader can undo it.

    These are the channels that a convolution gives with no activation behind it, and that only depthwise, pointwise
    convolutions read.
    """
    allowed = np.ones(groups.count, bool)
    for node in nodes:
        if node.op_type in ("Relu", "Clip", "Add"):
            allowed[groups.of(node.output[0])] = False
        elif node.op_type == "Conv" and not _scales_channels(node, arrays):
            allowed[groups.of(node.input[0])] = False
    for tensor in filter(_is_fixed, groups.tensors):
        allowed[groups.of(tensor)] = False
    return allowed


def _starts(groups: _ChannelGroups, spans: Mapping[str, np.ndarray], centred: bool) -> np.ndarray:
    """Each group's smallest value, or the middle of its values, by number."""
    least, most = np.full(groups.count, np.inf), np.full(groups.count, -np.inf)
    for tensor in groups.tensors:
        np.minimum.at(least, groups.of(tensor), spans[tensor][0])
        np.maximum.at(most, groups.of(tensor), spans[tensor][1])
    roots = groups.find(np.arange(groups.count))
    least, most = least[roots], most[roots]
    return np.asarray((least + most) / 2 if centred else least)


def _factors(
    groups: _ChannelGroups,
    nodes: Sequence[onnx.NodeProto],
    arrays: Mapping[str, np.ndarray],
    peaks: Mapping[str, np.ndarray],
    quantized: Iterable[str],
    shifted: np.ndarray,
) -> np.ndarray:
    """Each group's factor, by number: 1 for the widest channel of a tensor, more for the others."""
    share, factor = _limits(groups, nodes, arrays, shifted)
    for tensor in quantized:
        numbers = groups.of(tensor)
        peak = np.maximum(peaks[tensor], _LEAST_PEAK)
        np.minimum.at(factor, numbers, (peak.max() / peak) ** share[numbers])
    for node in nodes:
        if node.op_type == "Clip":
            output, bound = node.output[0], float(arrays[node.input[2]])
            peak = np.maximum(peaks[output], _LEAST_PEAK)
            np.minimum.at(factor, groups.of(output), np.maximum(bound / peak, 1.0) ** _READ_BY_CONVOLUTION[0])
    for tensor in filter(_is_fixed, groups.tensors):
        factor[groups.of(tensor)] = 1.0
    return factor


def _limits(
    groups: _ChannelGroups,
    nodes: Sequence[onnx.NodeProto],
    arrays: Mapping[str, np.ndarray],
    shifted: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Each group's share and largest factor, by number: the least that one of its readers allows."""
    share, factor = (np.full(groups.count, value) for value in _READ_BY_CHANNEL)
    for node in nodes:
        if node.op_type != "Conv":
            continue
        numbers, limits = groups.of(node.input[0]), _READ_BY_CONVOLUTION
        if is_output_rescale(node):
            numbers, limits = numbers[~shifted[numbers]], _READ_BY_OUTPUT_RESCALE
        elif _scales_channels(node, arrays):
            continue
        share[numbers] = np.minimum(share[numbers], limits[0])
        factor[numbers] = np.minimum(factor[numbers], limits[1])
    return share, factor


def _scales_channels(node: onnx.NodeProto, arrays: Mapping[str, np.ndarray]) -> bool:
    """Whether a convolution is depthwise and pointwise: it multiplies each channel with a factor."""
    return arrays[node.input[1]].shape[1:] == (1, 1, 1)


def _is_fixed(tensor: str) -> bool:
    """Whether a tensor's values must not change, since nodes outside of the backbone write or read it."""
    return tensor == NORMALIZED or is_map(tensor)
