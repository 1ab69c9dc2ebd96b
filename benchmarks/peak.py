"""The highest rates that a machine reaches: multiply-accumulates in FP32 and in INT8, and bytes copied.

The roofline (Williams et al. 2009, doi 10.1145/1498765.1498785) is the least time that a graph's convolutions can take.
One convolution takes at least its multiply-accumulates at the highest rate that OpenVINO reaches on any large
convolution. It also takes at least the time to move its bytes: weights at the rate of copies in memory, maps at that of
copies in the cache.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import TensorProto, helper

from edge_all import machine
from edge_all.export.graph import timing
from edge_all.export.graph.edit import IR_VERSION, Nodes
from edge_all.export.graph.facts import Convolution

KIND: dict[str, np.dtype[np.float32] | np.dtype[np.uint8]] = {
    "fp32": np.dtype(np.float32),
    "int8": np.dtype(np.uint8),
}
"""Type of the values of a map, by precision."""

LARGE = ((256, 3, 56), (512, 3, 28), (512, 3, 14), (512, 1, 56), (1024, 1, 28))
"""Channels, kernel and size of the convolutions that the highest rate is measured with."""

LAYERS = 6
"""How many of them one graph has in a row."""

ROUNDS, SECONDS = 5, 0.5
COPIED = {"memory": 48 << 20, "cache": 256 << 10}
"""Bytes that each core copies: far more, and far less, than its cache holds."""


@dataclass(frozen=True)
class Peak:
    """The highest rates that were measured on this machine.

    Attributes:
        macs: Multiply-accumulates per second, by precision.
        bytes: Bytes read and written per second by all cores together, by where they are (a key of `COPIED`).
    """

    macs: dict[str, float]
    bytes: dict[str, float]

    def seconds(self, layer: Convolution, precision: str) -> float:
        """The least time that a convolution takes."""
        moving = layer.weights / self.bytes["memory"] + layer.maps / self.bytes["cache"]
        return max(layer.macs / self.macs[precision], KIND[precision].itemsize * moving)


def measure() -> Peak:
    """Measure them on this machine, which takes about 15 seconds."""
    macs = {precision: max(_rate(*shape, precision) for shape in LARGE) for precision in KIND}
    return Peak(macs, {place: _copied(count) for place, count in COPIED.items()})


def _rate(channels: int, kernel: int, size: int, precision: str) -> float:
    """Multiply-accumulates per second that OpenVINO reaches on some equal convolutions."""
    chain = _chain(channels, kernel, size, precision)
    request, shape = timing.request(chain.SerializeToString())
    image = np.random.default_rng(0).integers(0, 255, shape).astype(KIND[precision])
    seconds = _fastest(lambda: request.infer({0: image}, share_inputs=True))
    return LAYERS * (channels * kernel * size) ** 2 / seconds


def _copied(count: int) -> float:
    """Bytes per second that all cores together read and write, in blocks of so many bytes."""
    cores = machine.usable_cores()
    pairs = [(np.ones(count, np.uint8), np.empty(count, np.uint8)) for _ in range(cores)]
    times = max(1, COPIED["memory"] // count)

    def copy(pair: tuple[np.ndarray, np.ndarray]) -> None:
        for _ in range(times):
            np.copyto(pair[1], pair[0])

    with ThreadPoolExecutor(cores) as pool:
        seconds = _fastest(lambda: list(pool.map(copy, pairs)))
    return 2 * cores * count * times / seconds


def _fastest(query: Callable[[], object]) -> float:
    """The smallest of some rounds' medians, in seconds."""
    medians = []
    for _ in range(ROUNDS):
        samples: list[float] = []
        end = time.perf_counter() + SECONDS / ROUNDS
        while not samples or time.perf_counter() < end:
            start = time.perf_counter()
            query()
            samples.append(time.perf_counter() - start)
        medians.append(statistics.median(samples))
    return min(medians)


def _chain(channels: int, kernel: int, size: int, precision: str) -> onnx.ModelProto:
    """Equal convolutions with a ReLU behind each, in FP32 or between QuantizeLinear and DequantizeLinear."""
    rng = np.random.default_rng(0)
    pads = [kernel // 2] * 4
    weights = rng.integers(-63, 64, (channels, channels, kernel, kernel), np.int8)
    scale = np.array(1 / (30 * kernel * channels**0.5), np.float32)
    quantized = precision == "int8"
    nodes = Nodes()
    activation = weight_scale = []
    if quantized:
        zero_point = nodes.constant("zero", np.array(0, np.uint8))
        activation = [nodes.constant("step", np.array(0.02, np.float32)), zero_point]
        weight_scale = [nodes.constant("scale", scale), nodes.constant("no", np.array(0, np.int8))]
    source = nodes.add("DequantizeLinear", ["image", *activation], "in") if quantized else "image"
    for i in range(LAYERS):
        reads = nodes.constant(f"w{i}", weights if quantized else weights * scale)
        if quantized:
            reads = nodes.add("DequantizeLinear", [reads, *weight_scale], f"w{i}/real")
        nodes.add("Conv", [source, reads], f"y{i}", pads=pads)
        source = nodes.add("Relu", [f"y{i}"], f"z{i}")
        if quantized:
            nodes.add("QuantizeLinear", [source, *activation], f"q{i}")
            source = nodes.add("DequantizeLinear", [f"q{i}", *activation], f"d{i}")
    nodes.add("GlobalAveragePool", [source], "out")
    kind = TensorProto.UINT8 if quantized else TensorProto.FLOAT
    image = helper.make_tensor_value_info("image", kind, ["N", channels, size, size])
    out = helper.make_tensor_value_info("out", TensorProto.FLOAT, ["N", channels, 1, 1])
    graph = helper.make_graph(nodes.nodes, "chain", [image], [out], nodes.initializers())
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=IR_VERSION)
