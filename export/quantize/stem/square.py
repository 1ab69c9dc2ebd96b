"""The first convolution at half the size: four neighbouring pixels as one of twelve channels.

Engines are slow with a convolution of three channels: their kernels take four or more at once. With a step of two, as
most networks have it, the picture can be folded instead (space to depth), and the kernel with it: 3x3 on three channels
becomes 2x2 on twelve. The products are the same, and those that are added have a weight of zero, so that the sums are
the same to the bit. On one core ONNX Runtime's convolution takes 0.44 of the time, and folding the picture 0.22 more.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx

from ..graph import edit, timing
from ..graph.facts import attribute
from ..graph.names import PREPROCESS, is_preprocess

_LEAST_GAIN = 0.98
"""Of the time as it is, that a graph with a folded picture may take."""


def fastest(
    engine: str, reference: onnx.ModelProto, graphs: tuple[onnx.ModelProto, onnx.ModelProto]
) -> tuple[tuple[onnx.ModelProto, onnx.ModelProto], float, float]:
    """Fold the pictures of two quantizations of a backbone where that is measurably faster.

    Args:
        engine: That times them; see `timing.times`.
        reference: In float32.
        graphs: Quantized.

    Returns:
        The graphs, folded or as they were, and the median times of the reference and of the first one, in milliseconds.

    Raises:
        RuntimeError: The engine refused a graph, or crashed on it.
    """
    first, second = (folded(graph) for graph in graphs)
    if first is None or second is None:
        fp32_ms, ms, _ = timing.times(engine, [reference, *graphs])
        return graphs, fp32_ms, ms
    fp32_ms, ms, _, folded_ms, _ = timing.times(engine, [reference, *graphs, first, second])
    return ((first, second), fp32_ms, folded_ms) if folded_ms <= _LEAST_GAIN * ms else (graphs, fp32_ms, ms)


def folded(model: onnx.ModelProto) -> onnx.ModelProto | None:
    """A quantized backbone that folds the picture; None where its first convolution is not of that kind.

    Args:
        model: ``uint8 [N, H, W, 3]`` "image" to ``float32 [N, C]`` "features", of `layerwise`.
    """
    found = _entrance(model)
    if found is None:
        return None
    scaling, convolution = found
    graph = edit.copy(model)
    arrays, producers = edit.arrays(graph.graph), edit.producers(graph.graph.node)
    weights = producers[convolution.input[1]].input[0]
    kernel = _folded_kernel(arrays[weights])
    shapes = edit.shapes(model, batch=1)
    _, _, height, width = shapes[convolution.output[0]]
    size = 2 * (height + kernel.shape[2] - 1), 2 * (width + kernel.shape[3] - 1)
    entrance = _fold_pixels(scaling.input[0], shapes[scaling.input[0]][1:3], size)
    edit.set_constant(graph.graph, weights, kernel)
    for node in graph.graph.node:
        if node.name == convolution.name:
            _set_kernel(node, kernel.shape[2:])
        elif node.name == scaling.name:
            node.input[0] = entrance.nodes[-1].output[0]
    nodes = list(graph.graph.node)
    place = next(i for i, node in enumerate(nodes) if node.name == scaling.name)
    edit.set_nodes(graph.graph, [*nodes[:place], *entrance.nodes, *nodes[place:]])
    graph.graph.initializer.extend(entrance.initializers())
    del graph.graph.value_info[:]
    onnx.checker.check_model(graph, full_check=True)
    return graph


def _entrance(model: onnx.ModelProto) -> tuple[onnx.NodeProto, onnx.NodeProto] | None:
    """The node that scales the pixels, and the convolution that reads them, where both are of the kind."""
    scaling = [node for node in model.graph.node if is_preprocess(node) and node.op_type == "DequantizeLinear"]
    readers, arrays = edit.readers(model.graph.node), edit.arrays(model.graph)
    if len(scaling) != 1 or any(arrays[name].ndim for name in scaling[0].input[1:]):
        return None
    reading = [node for turned in readers[scaling[0].output[0]] for node in readers[turned.output[0]]]
    if len(reading) != 1 or reading[0].op_type != "Conv":
        return None
    (convolution,) = reading
    steps, spread = (attribute(convolution, name, (1, 1)) for name in ("strides", "dilations"))
    weights = edit.producers(model.graph.node).get(convolution.input[1])
    quantized = weights is not None and weights.op_type == "DequantizeLinear" and weights.input[0] in arrays
    plain = steps == (2, 2) and spread == (1, 1) and not any(attribute(convolution, "pads", (0, 0, 0, 0)))
    return (scaling[0], convolution) if plain and quantized else None


def _folded_kernel(weights: np.ndarray) -> np.ndarray:
    """The kernel for a folded picture: ``[C, 3, h, w]`` to ``[C, 12, ceil(h / 2), ceil(w / 2)]``."""
    count, channels, height, width = weights.shape
    even = np.zeros((count, channels, height + height % 2, width + width % 2), weights.dtype)
    even[:, :, :height, :width] = weights
    pairs = even.reshape(count, channels, even.shape[2] // 2, 2, even.shape[3] // 2, 2)  # c, i, y, row, x, column
    return np.ascontiguousarray(pairs.transpose(0, 3, 5, 1, 2, 4)).reshape(
        count, 4 * channels, even.shape[2] // 2, even.shape[3] // 2
    )


def _fold_pixels(source: str, size: tuple[int, ...], wanted: tuple[int, int]) -> edit.Nodes:
    """Nodes that fold ``uint8 [N, H, W, 3]`` to ``[N, h / 2, w / 2, 12]``, cut or padded at the end to h and w before.

    Rows are told apart by slices, which copy whole rows, and columns by the shape alone: transposing takes three times
    as long.
    """
    nodes = edit.Nodes()

    def constant(name: str, values: Sequence[int]) -> str:
        return nodes.constant(f"{PREPROCESS}fold/{name}", np.array(values))

    def add(name: str, kind: str, inputs: Sequence[str], **attributes: int) -> str:
        return nodes.add(kind, inputs, f"{PREPROCESS}fold/{name}/out", f"{PREPROCESS}fold/{name}", **attributes)

    missing = [max(0, most - side) for most, side in zip(wanted, size, strict=True)]
    if any(missing):
        source = add("pad", "Pad", [source, constant("around", [0, 0, 0, 0, 0, *missing, 0])])
    axes, steps, shape = constant("axes", [1, 2]), constant("steps", [2, 1]), None
    rows = []
    for row in (0, 1):
        begin, end = constant(f"begin_{row}", [row, 0]), constant(f"end_{row}", wanted)
        every_second = add(f"rows_{row}", "Slice", [source, begin, end, axes, steps])
        shape = shape or constant("shape", [0, wanted[0] // 2, wanted[1] // 2, 6])
        rows.append(add(f"pairs_{row}", "Reshape", [every_second, shape]))
    add("join", "Concat", rows, axis=3)
    return nodes


def _set_kernel(convolution: onnx.NodeProto, size: tuple[int, ...]) -> None:
    """Give a convolution a kernel of another size, and a step of one."""
    kept = [entry for entry in convolution.attribute if entry.name not in ("kernel_shape", "strides")]
    del convolution.attribute[:]
    convolution.attribute.extend(kept)
    for name, values in (("kernel_shape", size), ("strides", (1, 1))):
        convolution.attribute.append(onnx.helper.make_attribute(name, list(values)))
