"""A backbone up to its tap as an ONNX graph: pixels in, pooled features out."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Sequence

import numpy as np
import onnx
import torch
from onnx import TensorProto, compose, helper, numpy_helper
from torch import nn

from ..backbones import Backbone, Place, places
from ..onnx_ops import OPSET
from .preprocess import Preprocess
from .reorder import reorder
from .weights import Weights, network

PLAIN = Preprocess()


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
        backbone: Which.
        weights: Its weights.
        tap_name: Where features are taken (`edge_all.export.backbones.places`); those of several places stand side by
            side, each place's averages before its standard deviations. Nothing above is in the graph.
        input_size: Height and width of the input; None is the backbone's own.
        preprocess: What is done to the image before it is normalised.

    Returns:
        ``uint8 [N, H, W, 3]`` "image" to ``float32 [N, C]`` "features", N free; nodes are named ``preprocess/...``,
        ``backbone/...`` and ``pooling/...``.
    """
    height, width = input_size or backbone.input_size
    ends = places(backbone, tap_name)
    trunk = Trunk(backbone, weights, [end.tap.name for end in ends])
    convolutions = _convolutions(trunk, (height, width))
    pixels = preprocess.graph(backbone, (height, width))
    graph = compose.merge_graphs(pixels, convolutions, io_map=[("normalized", "x")], name=backbone.name)
    nodes, constants = _pooling(ends)
    graph.node.extend(nodes)
    graph.initializer.extend(constants)
    del graph.output[:], graph.value_info[:]
    graph.output.append(
        helper.make_tensor_value_info("features", TensorProto.FLOAT, ["N", sum(end.channels for end in ends)])
    )
    model = helper.make_model(
        graph, producer_name="edge_all", opset_imports=[helper.make_opsetid("", OPSET)], ir_version=10
    )
    model = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True)
    onnx.checker.check_model(model, full_check=True)
    return model


class Trunk(nn.Module):
    """The stages up to the last of some taps: normalised ``float32 [N, 3, H, W]`` in, each tap's feature map out."""

    def __init__(self, backbone: Backbone, weights: Weights, names: Sequence[str]) -> None:
        super().__init__()
        stages = network(backbone, weights)
        order = [stage for stage, _ in stages]
        self.ends = [order.index(name) for name in names]
        self.stages = nn.ModuleList(module for _, module in stages[: max(self.ends) + 1])

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        maps = {}
        for i, stage in enumerate(self.stages):
            x = stage(x)
            if i in self.ends:
                maps[i] = x
        return tuple(maps[end] for end in self.ends)


def _pooling(ends: Sequence[Place]) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto]]:
    """The global average of each map, and its standard deviation where wanted: ``sqrt(E[x^2] - E[x]^2)``."""
    nodes, pieces = [], []

    def add(kind: str, *inputs: str, **attributes: int) -> str:
        name = f"pooling/{kind}_{len(nodes)}"
        nodes.append(helper.make_node(kind, inputs, [name], name=name, **attributes))
        return name

    for i, end in enumerate(ends):
        average = add("GlobalAveragePool", f"map_{i}")
        pieces.append(add("Flatten", average, axis=1))
        if end.std:
            of_squares = add("GlobalAveragePool", add("Mul", f"map_{i}", f"map_{i}"))
            variance = add("Relu", add("Sub", of_squares, add("Mul", average, average)))
            pieces.append(add("Flatten", add("Sqrt", add("Add", variance, _TINY)), axis=1))
    if len(pieces) > 1:
        add("Concat", *pieces, axis=1)
    nodes[-1].output[0] = "features"
    constants = [numpy_helper.from_array(np.array(1e-8, np.float32), _TINY)]  # no slope of infinity at zero
    return nodes, constants if any(end.std for end in ends) else []


_TINY = "pooling/tiny"


def _convolutions(module: Trunk, size: tuple[int, int]) -> onnx.GraphProto:
    """torch's own exporter, which folds BatchNorm into the convolutions; its names tidied, its notes dropped."""
    example = torch.zeros(2, 3, *size)
    maps = [f"map_{i}" for i in range(len(module.ends))]
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            module,
            (example,),
            dynamo=True,
            opset_version=OPSET,
            input_names=["x"],
            output_names=maps,
            dynamic_shapes=({0: torch.export.Dim.DYNAMIC},),
            verbose=False,
        )
    assert program is not None
    graph = program.model_proto.graph
    kept = {"x", *maps}
    renamed: dict[str, str] = {}

    def tidy(name: str) -> str:
        return name if name in kept or not name else renamed.setdefault(name, f"backbone/{len(renamed)}")

    for i, node in enumerate(graph.node):
        node.input[:] = [tidy(name) for name in node.input]
        node.output[:] = [tidy(name) for name in node.output]
        node.name = f"backbone/{node.op_type}_{i}"
        node.doc_string = ""
        del node.metadata_props[:]
    for value in graph.initializer:
        value.name = tidy(value.name)
        value.doc_string = ""
        del value.metadata_props[:]
    del graph.value_info[:], graph.metadata_props[:]
    reorder(graph)
    return graph
