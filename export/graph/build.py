"""A backbone up to its tap as an ONNX graph: pixels in, pooled features out."""

from __future__ import annotations

import contextlib
import hashlib
import io
import logging
import warnings
from collections.abc import Sequence

import numpy as np
import onnx
import torch
from onnx import TensorProto, compose, helper
from torch import nn

from edge_all import __version__, cache

from ..backbones import Backbone, Place, places
from . import edit, names
from .preprocess import Preprocess
from .reorder import reorder
from .weights import Weights, network

PLAIN = Preprocess()

_TINY = f"{names.POOLING}tiny"

_PIXELS = "x"

_DIGEST = 32
"""Bytes of the SHA-256 that a cached graph begins with."""

_IMAGE_BY_IMAGE = frozenset(
    ("Add", "AveragePool", "BatchNormalization", "Clip", "Concat", "Conv", "MaxPool", "Mul", "Relu", "Sigmoid")
)
"""Operators that treat each image of a batch alike, and hold no size of one (Concat: along channels)."""

_MOST_BYTES = 2**29
"""Of a cached graph; ResNet101's has 170 million."""


def backbone_graph(
    backbone: Backbone,
    weights: Weights,
    *,
    tap_name: str = "last",
    input_size: tuple[int, int] | None = None,
    preprocess: Preprocess = PLAIN,
) -> onnx.ModelProto:
    """Export a backbone.

    Args:
        backbone: The network.
        weights: Its weights.
        tap_name: Where features are taken, in the form that `edge_all.export.backbones.places` reads. The features of
            several places stand side by side, the averages of each place before its standard deviations. The layers
            behind the last place are not in the graph.
        input_size: Height and width of the input; None is the backbone's own.
        preprocess: What is done to the image before it is normalised.

    Returns:
        ``uint8 [N, H, W, 3]`` "image" to ``float32 [N, C]`` "features", with N free. Its nodes are named
        ``preprocess/...``, ``backbone/...`` and ``pooling/...``.

    Raises:
        EdgeAllError: There is no such tap.
    """
    height, width = input_size or backbone.input_size
    ends = places(backbone, tap_name)
    trunk = Trunk(backbone, weights, [end.tap.name for end in ends])
    convolutions = _convolutions(trunk, (height, width))
    pixels = preprocess.graph(backbone, (height, width))
    graph = compose.merge_graphs(pixels, convolutions, io_map=[(names.NORMALIZED, _PIXELS)], name=backbone.name)
    _pooling(ends).append_to(graph)
    del graph.output[:], graph.value_info[:]
    channels = sum(end.channels for end in ends)
    graph.output.append(helper.make_tensor_value_info(names.FEATURES, TensorProto.FLOAT, ["N", channels]))
    opset = helper.make_opsetid("", edit.OPSET)
    model = helper.make_model(graph, producer_name="edge_all", opset_imports=[opset], ir_version=edit.IR_VERSION)
    model = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True)
    onnx.checker.check_model(model, full_check=True)
    return model


class Trunk(nn.Module):
    """The stages up to the last of some taps: normalised ``float32 [N, 3, H, W]`` in, each tap's feature map out."""

    def __init__(self, backbone: Backbone, weights: Weights, taps: Sequence[str]) -> None:
        super().__init__()
        stages = network(backbone, weights)
        order = [stage for stage, _ in stages]
        self.ends, self.digest = [order.index(tap) for tap in taps], weights.digest
        self.stages = nn.ModuleList(module for _, module in stages[: max(self.ends) + 1])

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        maps = {}
        for i, stage in enumerate(self.stages):
            x = stage(x)
            if i in self.ends:
                maps[i] = x
        return tuple(maps[end] for end in self.ends)


def _pooling(ends: Sequence[Place]) -> edit.Nodes:
    """The global average of each map, and its standard deviation where wanted: ``sqrt(E[x^2] - E[x]^2)``."""
    pooling = edit.Nodes()

    def add(kind: str, *inputs: str, **attributes: int) -> str:
        name = f"{names.POOLING}{kind}_{len(pooling.nodes)}"
        return pooling.add(kind, inputs, name, name, **attributes)

    pieces = []
    for i, end in enumerate(ends):
        average = add("GlobalAveragePool", names.map_name(i))
        pieces.append(add("Flatten", average, axis=1))
        if end.std:
            average_of_squares = add("GlobalAveragePool", add("Mul", names.map_name(i), names.map_name(i)))
            variance = add("Relu", add("Sub", average_of_squares, add("Mul", average, average)))
            tiny = pooling.constant(_TINY, np.array(1e-8, np.float32))  # the slope of sqrt is infinite at zero
            pieces.append(add("Flatten", add("Sqrt", add("Add", variance, tiny)), axis=1))
    if len(pieces) > 1:
        add("Concat", *pieces, axis=1)
    pooling.nodes[-1].output[0] = names.FEATURES
    return pooling


def _convolutions(trunk: Trunk, size: tuple[int, int]) -> onnx.GraphProto:
    """The trunk by torch's own exporter, whose result is cached: it takes from ten seconds to a minute."""
    told = f"{__version__} {torch.__version__} {trunk} {trunk.ends} {trunk.digest} {size}"
    name = f"graphs/{hashlib.sha256(told.encode()).hexdigest()[:32]}.onnx"
    content = cache.load(name, _MOST_BYTES) or b""
    if hashlib.sha256(content[_DIGEST:]).digest() != content[:_DIGEST]:
        exported = _exported(trunk, size).SerializeToString()
        content = hashlib.sha256(exported).digest() + exported
        cache.store(name, content)
    graph = onnx.GraphProto()
    graph.ParseFromString(content[_DIGEST:])
    _tidy(graph, {_PIXELS, *_maps(trunk)})
    reorder(graph)
    return graph


def _exported(trunk: Trunk, size: tuple[int, int]) -> onnx.GraphProto:
    """What torch makes of the trunk, with N free; BatchNorm is folded into the convolutions.

    Torch exports a batch of fixed size in half the time of a free one, and the nodes are the same.
    """
    example = torch.zeros(2, 3, *size)
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            trunk,
            (example,),
            dynamo=True,
            opset_version=edit.OPSET,
            input_names=[_PIXELS],
            output_names=_maps(trunk),
            verbose=False,
        )
    assert program is not None
    graph: onnx.GraphProto = program.model_proto.graph
    if bound := {node.op_type for node in graph.node} - _IMAGE_BY_IMAGE:
        raise ValueError(f"torch exported {', '.join(sorted(bound))}, which may hold the size of the batch")
    edit.free_batch(graph)
    return graph


def _maps(trunk: Trunk) -> list[str]:
    """Names of the outputs."""
    return [names.map_name(i) for i in range(len(trunk.ends))]


def _tidy(graph: onnx.GraphProto, fixed: set[str]) -> None:
    """Rename nodes and all tensors but the fixed ones to ``backbone/...``, and drop the exporter's comments."""
    tensors = [name for node in graph.node for name in (*node.input, *node.output)]
    tensors += [constant.name for constant in graph.initializer]
    renamed: dict[str, str] = {}
    for tensor in tensors:
        if tensor and tensor not in fixed:
            renamed.setdefault(tensor, f"{names.BACKBONE}{len(renamed)}")
    edit.rename(graph, renamed)
    for i, node in enumerate(graph.node):
        node.name = f"{names.BACKBONE}{node.op_type}_{i}"
    for item in (*graph.node, *graph.initializer):
        item.doc_string = ""
        del item.metadata_props[:]
    del graph.value_info[:], graph.metadata_props[:]
