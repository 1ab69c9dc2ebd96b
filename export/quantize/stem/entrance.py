"""Where a quantized backbone reads its pixels, and how a convolution is given another kernel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, TypeGuard

import numpy as np
import onnx

from ...graph import edit
from ...graph.facts import attribute
from ...graph.names import PREPROCESS, is_preprocess


class Entrance(NamedTuple):
    """The first nodes of a quantized backbone.

    Attributes:
        scaling: Scales the pixels.
        convolution: Reads them, as ``[N, 3, H, W]``.
        step: Of the convolution, in both directions.
        quantized_weights: Scales its weights.
        quantized_bias: Scales its bias.
        weights: Of the convolution, ``int8 [C, 3, h, w]``.
    """

    scaling: onnx.NodeProto
    convolution: onnx.NodeProto
    step: int
    quantized_weights: onnx.NodeProto
    quantized_bias: onnx.NodeProto
    weights: np.ndarray


def find(model: onnx.ModelProto) -> Entrance | None:
    """The entrance of a quantized backbone; None where it does not begin with a convolution in integers, unpadded."""
    scaling = [node for node in model.graph.node if is_preprocess(node) and node.op_type == "DequantizeLinear"]
    readers, arrays = edit.readers(model.graph.node), edit.arrays(model.graph)
    if len(scaling) != 1 or any(arrays[name].ndim for name in scaling[0].input[1:]):
        return None
    reading = [node for turned in readers[scaling[0].output[0]] for node in readers[turned.output[0]]]
    if len(reading) != 1 or reading[0].op_type != "Conv":
        return None
    (convolution,) = reading
    steps, spread = (attribute(convolution, name, (1, 1)) for name in ("strides", "dilations"))
    producers = edit.producers(model.graph.node)
    weights, bias = (producers.get(name) for name in [*convolution.input[1:], "", ""][:2])
    plain = steps[0] == steps[1] and spread == (1, 1) and not any(attribute(convolution, "pads", (0, 0, 0, 0)))
    if not (plain and _is_constant(weights, arrays) and _is_constant(bias, arrays)):
        return None
    return Entrance(scaling[0], convolution, steps[0], weights, bias, arrays[weights.input[0]])


def _is_constant(node: onnx.NodeProto | None, arrays: Mapping[str, np.ndarray]) -> TypeGuard[onnx.NodeProto]:
    """Whether a node scales a constant in integers."""
    return node is not None and node.op_type == "DequantizeLinear" and node.input[0] in arrays


class FoldNodes(edit.Nodes):
    """New nodes with names of their own.

    Args:
        prefix: Of the part of the graph that they belong to; see `edge_all.export.graph.names`.
    """

    def __init__(self, prefix: str) -> None:
        super().__init__()
        self._prefix = f"{prefix}fold/"

    def numbers(self, name: str, values: Sequence[int]) -> str:
        """A constant ``int64 [n]``."""
        return self.constant(self._prefix + name, np.array(values))

    def put(self, name: str, kind: str, inputs: Sequence[str], **attributes: int | Sequence[int]) -> str:
        """A node, and the name of what it gives."""
        return self.add(kind, inputs, f"{self._prefix}{name}/out", self._prefix + name, **attributes)


def pad(model: onnx.ModelProto, pixels: str, nodes: FoldNodes, missing: Sequence[int]) -> str:
    """Let pixels have so many rows and columns more at the end; where they are padded anyway, by the same node.

    Args:
        model: Whose padding is changed.
        pixels: Their name, ``uint8 [N, H, W, 3]``.
        nodes: Get another node where one is needed.
        missing: Rows and columns.

    Returns:
        The name of the pixels that were padded.
    """
    if not any(missing):
        return pixels
    around = np.array([0, 0, 0, 0, 0, *missing, 0])
    padding = edit.producers(model.graph.node).get(pixels)
    if padding is not None and padding.op_type == "Pad":
        edit.set_constant(model.graph, padding.input[1], edit.arrays(model.graph)[padding.input[1]] + around)
        return pixels
    return nodes.put("pad", "Pad", [pixels, nodes.constant(f"{PREPROCESS}fold/around", around)])


def put_in(
    model: onnx.ModelProto,
    found: Entrance,
    kernel: np.ndarray,
    steps: Sequence[int],
    before: FoldNodes,
    behind: Mapping[str, FoldNodes] | None = None,
) -> None:
    """Let pixels pass some nodes before they are scaled, and give the convolution another kernel and other steps.

    Postcondition: the model is a valid one.

    Args:
        model: Which is changed.
        found: Its entrance.
        kernel: ``int8 [C, c, h, w]``.
        steps: Of the kernel, down and across.
        before: What the pixels pass; the last node gives what is scaled.
        behind: What the output of a node passes, by that node's name; the first node reads it under a new name, and the
            last one gives it under the name that it had.
    """
    behind = behind or {}
    edit.set_constant(model.graph, found.quantized_weights.input[0], kernel)
    nodes: list[onnx.NodeProto] = []
    for node in model.graph.node:
        if node.name == found.scaling.name:
            node.input[0] = before.nodes[-1].output[0]
            nodes += before.nodes
        nodes.append(node)
        if node.name == found.convolution.name:
            _set_kernel(node, kernel.shape[2:], steps)
        if node.name in behind:
            node.output[0] = behind[node.name].nodes[0].input[0]
            nodes += behind[node.name].nodes
    edit.set_nodes(model.graph, nodes)
    for new in (before, *behind.values()):
        model.graph.initializer.extend(new.initializers())
    del model.graph.value_info[:]
    onnx.checker.check_model(model, full_check=True)


def _set_kernel(convolution: onnx.NodeProto, size: Sequence[int], steps: Sequence[int]) -> None:
    """Give a convolution a kernel of another size, and other steps."""
    kept = [entry for entry in convolution.attribute if entry.name not in ("kernel_shape", "strides")]
    del convolution.attribute[:]
    convolution.attribute.extend(kept)
    for name, values in (("kernel_shape", size), ("strides", steps)):
        convolution.attribute.append(onnx.helper.make_attribute(name, list(values)))
