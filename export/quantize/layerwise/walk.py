"""Walking through a backbone node by node with many images at once, and what is measured on the way."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import numpy as np
import onnx
import onnxruntime as ort
import torch
from torch import Tensor

from ...dataset import spread
from ...graph import edit
from ...graph.names import IMAGE, NORMALIZED, is_backbone
from . import torch_ops
from .placement import Placement

_SAMPLE = 40_000  # values of each tensor that its scale is fitted to
_LARGEST_TENSOR = 2**30  # bytes of one tensor for all images; about ten such tensors are in memory at once

Value = TypeVar("Value")


def visit_nodes(
    model: onnx.ModelProto,
    pixels: Value,
    visit: Callable[[onnx.NodeProto, list[Value]], Value],
    constant: Callable[[Tensor], Value],
) -> None:
    """Visit the backbone's nodes in order; a tensor is dropped after its last reader.

    Args:
        model: An FP32 backbone, rewritten (`rewrite`).
        pixels: What the first convolution reads.
        visit: Gives a node's output from its inputs.
        constant: Gives the form of a constant that `visit` takes.
    """
    nodes = [node for node in model.graph.node if is_backbone(node)]
    last_reader = {name: i for i, node in enumerate(nodes) for name in node.input}
    arrays = {name: torch.from_numpy(array.copy()) for name, array in edit.arrays(model.graph).items()}
    values = {NORMALIZED: pixels} | {name: constant(array) for name, array in arrays.items()}
    for i, node in enumerate(nodes):
        values[node.output[0]] = visit(node, [values[name] for name in node.input if name])
        for name in set(node.input):
            if last_reader[name] == i:
                del values[name]


def fitting_in_memory(model: onnx.ModelProto, images: np.ndarray) -> np.ndarray:
    """All images, or as many of them, evenly spread, as keep their largest tensor within a fixed size."""
    sizes = []

    def visit(node: onnx.NodeProto, inputs: list[Tensor]) -> Tensor:
        output = torch_ops.run(node, inputs)
        sizes.append(output.nbytes)
        return output

    visit_nodes(model, preprocessed(model, images[:1]), visit, unchanged)
    return images[spread(np.arange(len(images)), max(1, _LARGEST_TENSOR // max(sizes)))]


def preprocessed(model: onnx.ModelProto, images: np.ndarray) -> Tensor:
    """What the first convolution reads, ``float32 [M, 3, H, W]``."""
    preprocessing = edit.extract(model, [IMAGE], [NORMALIZED])
    session = ort.InferenceSession(preprocessing.SerializeToString(), providers=["CPUExecutionProvider"])
    return torch.from_numpy(np.concatenate([session.run(None, {IMAGE: image[np.newaxis]})[0] for image in images]))


def spans(model: onnx.ModelProto, pixels: Tensor) -> dict[str, np.ndarray]:
    """Smallest and largest value of each channel of each tensor in FP32, ``float32 [2, C]``."""
    by_tensor = {NORMALIZED: _span(pixels)}

    def visit(node: onnx.NodeProto, inputs: list[Tensor]) -> Tensor:
        output = torch_ops.run(node, inputs)
        by_tensor[node.output[0]] = _span(output)
        return output

    visit_nodes(model, pixels, visit, unchanged)
    return by_tensor


def samples(model: onnx.ModelProto, placement: Placement, pixels: Tensor) -> dict[str, np.ndarray]:
    """A sample of the FP32 values of each tensor that is quantized, its extremes first."""
    by_tensor = {NORMALIZED: _sample(pixels)}

    def visit(node: onnx.NodeProto, inputs: list[Tensor]) -> Tensor:
        output = torch_ops.run(node, inputs)
        name = node.output[0]
        if name in placement.scale_owner:
            by_tensor[name] = _sample(output)
        return output

    visit_nodes(model, pixels, visit, unchanged)
    return by_tensor


def unchanged(value: Tensor) -> Tensor:
    """The value itself: the form of a constant for a walk in FP32 only."""
    return value


def _span(values: Tensor) -> np.ndarray:
    return np.asarray(torch.stack([values.amin((0, 2, 3)), values.amax((0, 2, 3))]))


def _sample(values: Tensor) -> np.ndarray:
    flat = values.flatten()
    sample = flat[:: max(1, flat.numel() // _SAMPLE)]
    return np.asarray(torch.cat([flat.min()[None], flat.max()[None], sample]))
