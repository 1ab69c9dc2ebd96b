"""The inverted residuals of a MobileNetV2 in INT8, laid out for `fused.c`."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass

import numpy as np
import onnx

from edge_all.export.graph import edit
from edge_all.export.graph.facts import attribute


class Layer(ctypes.Structure):
    """As `Layer` of fused.c."""

    _fields_ = (
        ("groups", ctypes.c_int32),
        ("vectors", ctypes.c_int32),
        ("zero_point", ctypes.c_int32),
        ("weights", ctypes.c_void_p),
        ("bias", ctypes.c_void_p),
        ("scale", ctypes.c_void_p),
    )


class Sum(ctypes.Structure):
    """As `Sum` of fused.c."""

    _fields_ = tuple((name, ctypes.c_float) for name in ("input_scale", "made_scale", "offset"))


class Block(ctypes.Structure):
    """As `Block` of fused.c."""

    _fields_ = (
        *((name, ctypes.c_int32) for name in ("height", "width", "channels", "step", "first_step", "adds")),
        *((name, Layer) for name in ("expand", "depthwise", "project")),
        ("sum", Sum),
    )


class Net(ctypes.Structure):
    """As `Net` of fused.c."""

    _fields_ = (
        ("blocks", ctypes.c_void_p),
        ("count", ctypes.c_int32),
        ("maps", ctypes.c_void_p),
        ("threads", ctypes.c_int32),
    )


@dataclass(frozen=True)
class Convolution:
    """A convolution of the graph, in integers.

    Attributes:
        weights: ``int8 [C, c, h, w]``.
        bias: ``int32 [C]``, with the zero point of what it reads.
        scale: Of the sums, ``float32 [C]``.
        zero_point: Of what it gives.
        step: In both directions.
        output: What it gives, in real numbers.
    """

    weights: np.ndarray
    bias: np.ndarray
    scale: np.ndarray
    zero_point: int
    step: int
    output: str


class Packed:
    """The blocks of a graph, laid out for vectors of so many lanes.

    Args:
        model: The graph.
        lanes: How many sums are in a vector.

    Attributes:
        blocks: For C; they point to arrays that live as long as this object.
        shapes: Rows, columns and channels of each block's output as it is laid out, and how many of its channels count.
    """

    def __init__(self, model: onnx.ModelProto, lanes: int) -> None:
        self._lanes = lanes
        self._kept: list[np.ndarray] = []
        found = _convolutions(model)
        sums = {node.input[1]: node for node in model.graph.node if node.op_type == "Add"}
        shapes, scales = edit.shapes(model, batch=1), _Scales(model)
        self.blocks = (Block * (len(found) // 3))()
        self.shapes: list[tuple[int, int, int, int]] = []
        channels = 0
        for block, parts in zip(self.blocks, zip(*[iter(found)] * 3, strict=True), strict=True):
            expand, depthwise, project = parts
            height, width = (side * depthwise.step for side in shapes[_producer(model, project.output)][2:])
            block.height, block.width, block.channels = height, width, channels
            block.step, block.first_step = depthwise.step, expand.step if not channels else 0
            block.expand = self._layer(expand, _groups(expand.weights) if channels else _rows(expand.weights))
            block.depthwise = self._layer(depthwise, _columns(depthwise.weights))
            block.project = self._layer(project, _groups(project.weights))
            if adding := sums.get(project.output):
                block.adds, block.sum = 1, scales.of_sum(adding)
            channels = block.project.vectors * lanes
            self.shapes.append((height // depthwise.step, width // depthwise.step, channels, len(project.bias)))

    def _layer(self, convolution: Convolution, weights: np.ndarray) -> Layer:
        """Lay out weights ``int8 [groups, C, 4]``."""
        groups, count, _ = weights.shape
        vectors = -(-count // self._lanes)
        whole = np.zeros((groups, vectors * self._lanes, 4), np.int8)
        whole[:, :count] = weights
        bias, scale = (np.zeros(vectors * self._lanes, kind) for kind in (np.int32, np.float32))
        bias[:count], scale[:count] = convolution.bias, convolution.scale
        self._kept += [whole, bias, scale]
        return Layer(groups, vectors, convolution.zero_point, *(array.ctypes.data for array in (whole, bias, scale)))


class _Scales:
    """Scales and zero points of a graph's tensors in 8 bits."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self._arrays = edit.arrays(model.graph)
        self._readers = edit.readers(model.graph.node)
        self._producers = edit.producers(model.graph.node)

    def read(self, tensor: str) -> tuple[np.float32, int]:
        """Those of a tensor in real numbers that was 8 bits."""
        return self._constants(self._producers[tensor])

    def written(self, tensor: str) -> tuple[np.float32, int]:
        """Those of a tensor in real numbers that becomes 8 bits."""
        return self._constants(self._readers[tensor][0])

    def of_sum(self, adding: onnx.NodeProto) -> Sum:
        """The factors of a sum of two tensors in 8 bits."""
        (first, first_zero), (second, second_zero) = (self.read(name) for name in adding.input)
        scale, zero = self.written(adding.output[0])
        factors = first / scale, second / scale
        return Sum(*factors, zero - (factors[0] * first_zero + factors[1] * second_zero))

    def _constants(self, node: onnx.NodeProto) -> tuple[np.float32, int]:
        scale, zero_point = (self._arrays[name] for name in node.input[1:])
        return np.float32(scale), int(zero_point)


def _convolutions(model: onnx.ModelProto) -> list[Convolution]:
    arrays, producers, scales = edit.arrays(model.graph), edit.producers(model.graph.node), _Scales(model)
    readers, found = edit.readers(model.graph.node), []
    for node in model.graph.node:
        if node.op_type != "Conv":
            continue
        source = producers[node.input[0]]
        read, zero_read = scales.read(source.input[0] if source.op_type == "Transpose" else node.input[0])
        quantizing = readers[node.output[0]][0]
        written, zero_written = scales.written(node.output[0])
        weights, bias = (arrays[producers[name].input[0]] for name in node.input[1:])
        sums = weights.sum((1, 2, 3), dtype=np.int32)
        scale = read * arrays[producers[node.input[1]].input[1]] / written
        output = readers[quantizing.output[0]][0].output[0] if readers[quantizing.output[0]] else node.output[0]
        step = attribute(node, "strides", (1, 1))[0]
        found.append(Convolution(weights, bias - zero_read * sums, scale, zero_written, step, output))
    return found


def _producer(model: onnx.ModelProto, tensor: str) -> str:
    """What a tensor in real numbers was before it was in 8 bits, or itself."""
    producers = edit.producers(model.graph.node)
    node = producers[tensor]
    return producers[node.input[0]].input[0] if node.op_type == "DequantizeLinear" else tensor


def _groups(weights: np.ndarray) -> np.ndarray:
    """``[C, c, 1, 1]`` to ``[c / 4, C, 4]``."""
    count, channels = weights.shape[:2]
    return np.ascontiguousarray(weights.reshape(count, channels // 4, 4).transpose(1, 0, 2))


def _rows(weights: np.ndarray) -> np.ndarray:
    """``[C, 3, 3, 3]`` to ``[9, C, 4]``: nine bytes of each of three rows, and three zeros."""
    rows = np.zeros((len(weights), 3, 12), np.int8)
    rows[:, :, :9] = weights.transpose(0, 2, 3, 1).reshape(len(weights), 3, 9)
    return np.ascontiguousarray(rows.reshape(len(weights), 9, 4).transpose(1, 0, 2))


def _columns(weights: np.ndarray) -> np.ndarray:
    """``[C, 1, 3, 3]`` to ``[3, C, 4]``: a column's three rows and a zero."""
    columns = np.zeros((3, len(weights), 4), np.int8)
    columns[:, :, :3] = weights[:, 0].transpose(2, 0, 1)
    return columns
