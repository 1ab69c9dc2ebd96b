"""Running a backbone in torch, a few images at a time, and what is measured on the way.

A few images at a time, since the maps of all of them are larger than any cache: most of the time would go into memory.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, MutableMapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
import onnxruntime as ort
import torch
from torch import Tensor

from ...dataset import spread
from ...graph import edit
from ...graph.names import IMAGE, NORMALIZED, is_backbone
from . import torch_ops
from .rewrite import is_output_rescale

TOGETHER = 2
"""Images that run together."""

MANY_PATCHES = 6_144
"""Patches of its input, one for each value of its output, that are many for a convolution."""

_LEAST_IMAGES = 32  # however many patches an image has
_SAMPLE = 40_000  # values of each tensor that its scale is fitted to
_LARGEST_TENSOR = 2**29  # bytes of one tensor for all images; about five such tensors are in memory at once


def run_nodes(
    nodes: Sequence[onnx.NodeProto],
    tensors: MutableMapping[str, Tensor],
    constants: Mapping[str, Tensor],
    finish: Callable[[str, Tensor], Tensor] = lambda name, output: output,
    kept: Collection[str] = (),
) -> None:
    """Run nodes in order; a tensor that no later one of them reads is dropped.

    Args:
        nodes: Of a rewritten backbone (`rewrite`).
        tensors: What they read, by name; what is left at the end stays there.
        constants: Of the graph, by name.
        finish: Gives from the name of an output and the output what later nodes read.
        kept: Names of the tensors that are not dropped.
    """
    last_reader = {name: i for i, node in enumerate(nodes) for name in node.input}
    for i, node in enumerate(nodes):
        inputs = [constants[name] if name in constants else tensors[name] for name in node.input if name]
        output = node.output[0]
        tensors[output] = finish(output, torch_ops.run(node, inputs))
        for name in {*node.input, output}:
            if last_reader.get(name, i) == i and name not in kept:
                tensors.pop(name, None)


def backbone_nodes(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    """The nodes from "normalized" to the maps, in order."""
    return [node for node in model.graph.node if is_backbone(node)]


def constants(model: onnx.ModelProto) -> dict[str, Tensor]:
    """The graph's constants by name."""
    return {name: torch.from_numpy(array.copy()) for name, array in edit.arrays(model.graph).items()}


def enough(model: onnx.ModelProto, images: np.ndarray) -> np.ndarray:
    """As many of the images, evenly spread, as the convolutions need.

    These are so many that the convolution with the smallest map reads `MANY_PATCHES` patches of its input; but no more
    than keep the largest tensor of all images within a fixed size.
    """
    sizes, positions = [1], [MANY_PATCHES]

    def measure(name: str, output: Tensor) -> Tensor:
        sizes.append(output.nbytes)
        if name in convolutions:
            positions.append(output[0, 0].numel())
        return output

    nodes = backbone_nodes(model)
    convolutions = {node.output[0] for node in nodes if node.op_type == "Conv" and not is_output_rescale(node)}
    run_nodes(nodes, {NORMALIZED: preprocessed(model, images[:1])}, constants(model), measure)
    count = min(max(_LEAST_IMAGES, -(-MANY_PATCHES // min(positions))), max(1, _LARGEST_TENSOR // max(sizes)))
    return images[spread(np.arange(len(images)), count)]


def preprocessed(model: onnx.ModelProto, images: np.ndarray) -> Tensor:
    """What the first convolution reads, ``float32 [M, 3, H, W]``."""
    preprocessing = edit.extract(model, [IMAGE], [NORMALIZED])
    session = ort.InferenceSession(preprocessing.SerializeToString(), providers=["CPUExecutionProvider"])
    return torch.from_numpy(np.concatenate([session.run(None, {IMAGE: image[np.newaxis]})[0] for image in images]))


@dataclass(frozen=True)
class Statistics:
    """What was measured of a backbone's tensors in FP32, by name.

    Attributes:
        spans: Smallest and largest value of each channel, ``float32 [2, C]``, of every tensor.
        samples: Values ``float32 [S]`` and the channel of each, ``int64 [S]``, of the tensors that were asked for.
    """

    spans: dict[str, np.ndarray]
    samples: dict[str, tuple[np.ndarray, np.ndarray]]


def measure(model: onnx.ModelProto, pixels: Tensor, sampled: Collection[str]) -> Statistics:
    """Measure the tensors of a backbone.

    Args:
        model: An FP32 backbone, rewritten (`rewrite`).
        pixels: What the first convolution reads, ``float32 [M, 3, H, W]``.
        sampled: The tensors to take samples of.
    """
    nodes, arrays = backbone_nodes(model), constants(model)
    spans: dict[str, Tensor] = {}
    samples: dict[str, tuple[list[Tensor], list[Tensor]]] = defaultdict(lambda: ([], []))
    random = torch.Generator().manual_seed(0)

    def note(name: str, values: Tensor) -> Tensor:
        least, most = values.amin((0, 2, 3)), values.amax((0, 2, 3))
        if name in spans:
            least, most = torch.minimum(least, spans[name][0]), torch.maximum(most, spans[name][1])
        spans[name] = torch.stack([least, most])
        if name in sampled:
            count = -(-_SAMPLE * len(values) // len(pixels))
            chosen = torch.randint(values.numel(), (count,), generator=random)
            samples[name][0].append(values.flatten()[chosen])
            samples[name][1].append(chosen // values[0, 0].numel() % values.shape[1])
        return values

    for some in torch.split(pixels, TOGETHER):
        run_nodes(nodes, {NORMALIZED: note(NORMALIZED, some)}, arrays, note)
    return Statistics(
        {name: span.numpy() for name, span in spans.items()},
        {
            name: (torch.cat(values).numpy(), torch.cat(channels).numpy())
            for name, (values, channels) in samples.items()
        },
    )
