"""Our own post-training quantization: layer by layer, each fitted to what the rounded layers before it really deliver.

Channels are balanced first (`balance`), and every tensor gets its range. Then the images walk through the FP32 graph
and the rounded one side by side: each convolution's weights are adapted to its rounded inputs and rounded (`rounding`),
then its bias, so that the mean is FP32's again (bias correction, Nagel et al. 2019, arXiv 1906.04721), then its output.
The graph that comes out has the form that both engines run in 8 bits throughout (`placement`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import onnx
import onnxruntime as ort
import torch
from onnx import numpy_helper
from torch import Tensor

from ...graph.facts import attributes
from .. import calibration
from . import gptq, input_folding, qdq, torch_ops
from .channel_alignment import balance
from .input_folding import SOURCE
from .placement import Placement, place
from .qdq import Convolution8
from .rewrite import is_exit, rewrite
from .scales import Scale, fit_scale, scale_between

_SAMPLE = 40_000  # values of each tensor that its range is fitted to
_MOST_BIAS = 2**30  # in its own steps, which are an int32
_PATCHES = 6_144  # inputs of a convolution that its weights are rounded for, at least
_MOST_BYTES = 2**30  # of the largest tensor, of all images together; about ten such are in memory at once


def quantize(
    model: onnx.ModelProto,
    images: np.ndarray,
    *,
    weight_bits: int = 8,
    power: float = 2.0,
    signed: bool = False,
    floating: Collection[str] = (),
) -> onnx.ModelProto:
    """See `edge_all.export.quantize.schemes.quantize`.

    Args:
        model: The FP32 backbone.
        images: ``uint8 [M, H, W, 3]``; where they are large and many, some of them do.
        weight_bits: 8, or 7: x86 CPUs without VNNI add up products of 8 bits in 16, which saturates.
        power: Of `scales.fit_scale`.
        signed: Symmetric int8 activations, as TensorRT wants them, instead of uint8.
        floating: Names of convolutions that stay float32.
    """
    model = rewrite(model)
    placement = place(model, SOURCE, floating)
    if SOURCE in placement.leader and not signed:
        model = input_folding.alike(model)
    with torch.inference_mode():
        first = _preprocessed(model, _fitting_in_memory(model, images))
        model = balance(model, _spans(model, first), placement.leader, signed)
        samples = _measure(model, placement, first)
        scales = {
            name: _scale(
                model, name, [t for t, leader in placement.leader.items() if leader == name], samples, power, signed
            )
            for name in dict.fromkeys(placement.leader.values())
        }
        start = Both(first, _rounded(first, scales[SOURCE]) if SOURCE in placement.leader else first)
        rounded = _round(model, placement, scales, start, most=2 ** (weight_bits - 1) - 1)
    return input_folding.direct(qdq.write(model, placement, scales, rounded))


def convolutions(model: onnx.ModelProto) -> list[str]:
    """Names of the backbone's convolutions, in order."""
    return [node.name for node in model.graph.node if node.op_type == "Conv"]


def _fitting_in_memory(model: onnx.ModelProto, images: np.ndarray) -> np.ndarray:
    """All images, or so many of them, evenly spread, that their largest tensor is no larger than wanted."""
    largest = 0

    def visit(node: onnx.NodeProto, inputs: list[Tensor]) -> Tensor:
        nonlocal largest
        output = torch_ops.run(node, inputs)
        largest = max(largest, output.nbytes)
        return output

    _walk(model, _preprocessed(model, images[:1]), visit, _itself)
    return images[calibration.spread(np.arange(len(images)), max(1, _MOST_BYTES // largest))]


def _preprocessed(model: onnx.ModelProto, images: np.ndarray) -> Tensor:
    """What the first convolution reads, ``float32 [M, 3, H, W]``."""
    front = onnx.utils.Extractor(model).extract_model(["image"], [SOURCE])
    session = ort.InferenceSession(front.SerializeToString(), providers=["CPUExecutionProvider"])
    return torch.from_numpy(np.concatenate([session.run(None, {"image": image[np.newaxis]})[0] for image in images]))


Value = TypeVar("Value")


def _walk(
    model: onnx.ModelProto,
    pixels: Value,
    visit: Callable[[onnx.NodeProto, list[Value]], Value],
    constant: Callable[[Tensor], Value],
) -> None:
    """Visit the backbone's nodes in order; a tensor is dropped after its last reader."""
    nodes = [n for n in model.graph.node if n.name.startswith("backbone/")]
    last = {name: i for i, node in enumerate(nodes) for name in node.input}
    arrays = {i.name: torch.from_numpy(numpy_helper.to_array(i).copy()) for i in model.graph.initializer}
    known = {SOURCE: pixels} | {name: constant(array) for name, array in arrays.items()}
    for i, node in enumerate(nodes):
        known[node.output[0]] = visit(node, [known[name] for name in node.input if name])
        for name in set(node.input):
            if last[name] == i:
                del known[name]


def _itself(value: Tensor) -> Tensor:
    return value


def _spans(model: onnx.ModelProto, pixels: Tensor) -> dict[str, np.ndarray]:
    """Smallest and largest value of each channel of each tensor, ``float32 [2, C]``."""
    found = {SOURCE: _span(pixels)}

    def visit(node: onnx.NodeProto, inputs: list[Tensor]) -> Tensor:
        output = torch_ops.run(node, inputs)
        found[node.output[0]] = _span(output)
        return output

    _walk(model, pixels, visit, _itself)
    return found


def _span(values: Tensor) -> np.ndarray:
    return torch.stack([values.amin((0, 2, 3)), values.amax((0, 2, 3))]).numpy()


def _measure(model: onnx.ModelProto, placement: Placement, pixels: Tensor) -> dict[str, np.ndarray]:
    """A sample of each rounded tensor in FP32, its extremes first."""
    samples = {SOURCE: _sample(pixels)}

    def visit(node: onnx.NodeProto, inputs: list[Tensor]) -> Tensor:
        output = torch_ops.run(node, inputs)
        name = node.output[0]
        if name in placement.leader:
            samples[name] = _sample(output)
        return output

    _walk(model, pixels, visit, _itself)
    return samples


def _sample(values: Tensor) -> np.ndarray:
    flat = values.flatten()
    spread = flat[:: max(1, flat.numel() // _SAMPLE)]
    return np.asarray(torch.cat([flat.min()[None], flat.max()[None], spread]))


def _scale(
    model: onnx.ModelProto, name: str, members: list[str], samples: dict[str, np.ndarray], power: float, signed: bool
) -> Scale:
    if name == SOURCE:  # every pixel value is possible, whatever the sample holds
        factor, offset = input_folding.normalisation(model)
        return scale_between(float(offset.min()), float((255 * factor + offset).max()), signed)
    return fit_scale(np.concatenate([samples[member] for member in members]), power, signed)


@dataclass(frozen=True)
class Both:
    """A tensor in FP32, and as the quantized graph has it."""

    exact: Tensor
    rounded: Tensor


def _round(
    model: onnx.ModelProto,
    placement: Placement,
    scales: dict[str, Scale],
    start: Both,
    *,
    most: int,
) -> dict[str, Convolution8]:
    """Each convolution in 8 bits, by its output's name."""
    found: dict[str, Convolution8] = {}

    def visit(node: onnx.NodeProto, inputs: list[Both]) -> Both:
        name = node.output[0]
        exact = torch_ops.run(node, [given.exact for given in inputs])
        if _in_8_bits(node, placement):
            reads = scales[placement.leader[node.input[0]]]
            weights, step = _rounded_weights(node, inputs, most)
            output = torch_ops.run(node, [inputs[0].rounded, weights * step[:, None, None, None]])
            bias = (exact - output).mean((0, 2, 3))
            beyond = bias.abs() > _MOST_BIAS * reads.step * step  # nothing but a bias is left of these channels
            step = torch.where(beyond, bias.abs() / (_MOST_BIAS * reads.step), step)
            weights[beyond] = 0
            output[:, beyond] = 0
            bias = (bias / (reads.step * step)).round() * reads.step * step
            output += bias[:, None, None]
            found[name] = Convolution8(weights.numpy().astype(np.int8), step.numpy(), bias.numpy())
        else:
            output = torch_ops.run(node, [given.rounded for given in inputs])
        if name in placement.leader:
            output = _rounded(output, scales[placement.leader[name]])
        return Both(exact, output)

    _walk(model, start, visit, lambda value: Both(value, value))
    return found


def _in_8_bits(node: onnx.NodeProto, placement: Placement) -> bool:
    """Whether a node is a convolution whose weights are rounded."""
    reads_rounded = node.op_type == "Conv" and node.input[0] in placement.leader
    return reads_rounded and node.name not in placement.floating and not is_exit(node)


def _rounded(values: Tensor, scale: Scale) -> Tensor:
    return torch.fake_quantize_per_tensor_affine(values, scale.step, scale.zero, *scale.bounds)


def _rounded_weights(node: onnx.NodeProto, inputs: list[Both], most: int) -> tuple[Tensor, Tensor]:
    """Weights as multiples ``float32 [O, I, kH, kW]`` of steps ``float32 [O]``."""
    x, weights = inputs[0], inputs[1].exact
    given = attributes(node)
    groups = given.get("group", 1)
    exact, rounded = (_patches(side, weights.shape[2:], given, groups) for side in (x.exact, x.rounded))
    by_group = weights.reshape(groups, len(weights) // groups, -1)
    by_group = gptq.adapted(by_group, exact, rounded)
    step = gptq.steps(by_group.flatten(0, 1), most)
    whole = gptq.round_weights(by_group, rounded, step.reshape(groups, -1), most)
    return whole.reshape(weights.shape), step


def _patches(x: Tensor, kernel: torch.Size, given: Mapping[str, Any], groups: int) -> Tensor:
    """A sample of what a convolution reads for one output each, ``float32 [S, G, D]``."""
    strides = given.get("strides", (1, 1))
    windows = torch_ops.padded(x, given).unfold(2, kernel[0], strides[0]).unfold(3, kernel[1], strides[1])
    images, channels, rows, columns = windows.shape[:4]
    total = images * rows * columns
    wanted = min(total, max(_PATCHES, 2 * channels // groups * kernel.numel()))
    chosen = torch.randperm(total, generator=torch.Generator().manual_seed(0))[:wanted]
    n, i, j = chosen // (rows * columns), chosen // columns % rows, chosen % columns
    return windows[n, :, i, j].reshape(wanted, groups, -1)
