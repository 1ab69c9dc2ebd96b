"""A backbone up to its tap as an ONNX graph: pixels in, pooled features out."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings

import numpy as np
import onnx
import torch
from onnx import TensorProto, compose, helper, numpy_helper
from torch import nn

from . import equalize as equalization
from .backbones import Backbone, tap
from .onnx_ops import OPSET
from .weights import Weights, network


def build(
    backbone: Backbone,
    weights: Weights,
    *,
    tap_name: str = "last",
    input_size: tuple[int, int] | None = None,
    equalize: bool = False,
) -> onnx.ModelProto:
    """Export a backbone.

    Args:
        backbone: Which.
        weights: Its weights.
        tap_name: Where features are taken; nothing above is in the graph.
        input_size: Height and width of the input; None is the backbone's own.
        equalize: Histogram equalisation, per channel, before anything else.

    Returns:
        ``uint8 [N, H, W, 3]`` "image" to ``float32 [N, C]`` "features", N free; nodes are named ``preprocess/...`` and
        ``backbone/...``.
    """
    height, width = input_size or backbone.input_size
    end = tap(backbone, tap_name)
    convolutions = _convolutions(up_to(backbone, weights, end.name), (height, width))
    pixels = _preprocess(backbone, (height, width), equalize)
    graph = compose.merge_graphs(pixels, convolutions, io_map=[("normalized", "x")], name=backbone.name)
    graph.node.extend(
        [
            helper.make_node("GlobalAveragePool", ["map"], ["pooled"], name="backbone/pool"),
            helper.make_node("Flatten", ["pooled"], ["features"], name="backbone/flatten", axis=1),
        ]
    )
    del graph.output[:], graph.value_info[:]
    graph.output.append(helper.make_tensor_value_info("features", TensorProto.FLOAT, ["N", end.channels]))
    model = helper.make_model(
        graph, producer_name="edge_all", opset_imports=[helper.make_opsetid("", OPSET)], ir_version=10
    )
    model = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True)
    onnx.checker.check_model(model, full_check=True)
    return model


def up_to(backbone: Backbone, weights: Weights, name: str) -> nn.Sequential:
    """The stages up to and including `name`: normalised ``float32 [N, 3, H, W]`` in, a feature map out."""
    stages = network(backbone, weights)
    last = [stage for stage, _ in stages].index(name)
    return nn.Sequential(*(module for _, module in stages[: last + 1]))


def _preprocess(backbone: Backbone, size: tuple[int, int], equalize: bool) -> onnx.GraphProto:
    """Pixels to what the network was trained on: ``(x / 255 - mean) / std`` as one product and one sum."""
    mean, std = np.array(backbone.mean), np.array(backbone.std)
    constants = {"preprocess/factor": 1 / (255 * std), "preprocess/offset": -mean / std}
    nodes, arrays, source = [], [], "image"
    if equalize:
        nodes, arrays, source = equalization.nodes("image", size)
    steps = [
        ("Cast", [source], {"to": TensorProto.FLOAT}),
        ("Mul", ["preprocess/Cast", "preprocess/factor"], {}),
        ("Add", ["preprocess/Mul", "preprocess/offset"], {}),
        ("Transpose", ["preprocess/Add"], {"perm": [0, 3, 1, 2]}),
    ]
    for kind, inputs, attributes in steps:
        output = "normalized" if kind == "Transpose" else f"preprocess/{kind}"
        nodes.append(helper.make_node(kind, inputs, [output], name=f"preprocess/{kind}", **attributes))
    arrays += [numpy_helper.from_array(value.astype(np.float32), name) for name, value in constants.items()]
    image = helper.make_tensor_value_info("image", TensorProto.UINT8, ["N", *size, 3])
    out = helper.make_tensor_value_info("normalized", TensorProto.FLOAT, ["N", 3, *size])
    return helper.make_graph(nodes, "preprocess", [image], [out], arrays)


def _convolutions(module: nn.Module, size: tuple[int, int]) -> onnx.GraphProto:
    """torch's own exporter, which folds BatchNorm into the convolutions; its names tidied, its notes dropped."""
    example = torch.zeros(2, 3, *size)
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            module,
            (example,),
            dynamo=True,
            opset_version=OPSET,
            input_names=["x"],
            output_names=["map"],
            dynamic_shapes=({0: torch.export.Dim.DYNAMIC},),
            verbose=False,
        )
    assert program is not None
    graph = program.model_proto.graph
    kept = {"x", "map"}
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
    return graph
