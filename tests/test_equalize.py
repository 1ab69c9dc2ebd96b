"""Histogram equalization in the graph against Pillow's, to the bit."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from helpers_graphs import ENGINES, Engine, pictures, random_weights
from PIL import Image, ImageOps

from edge_all.export import backbones
from edge_all.export.graph import edit
from edge_all.export.graph.build import backbone_graph
from edge_all.export.graph.equalize import equalize
from edge_all.export.graph.preprocess import Preprocess

pytestmark = pytest.mark.engine


def equalization_graph(size: tuple[int, int]) -> onnx.ModelProto:
    nodes = edit.Nodes()
    nodes.add("Cast", [equalize(nodes, "image", size)], "features", to=onnx.TensorProto.FLOAT)
    image = onnx.helper.make_tensor_value_info("image", onnx.TensorProto.UINT8, ["N", *size, 3])
    out = onnx.helper.make_tensor_value_info("features", onnx.TensorProto.FLOAT, ["N", *size, 3])
    graph = onnx.helper.make_graph(nodes.nodes, "equalize", [image], [out], nodes.initializers())
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", edit.OPSET)], ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    return model


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("size", [(224, 224), (240, 320), (17, 30), (3, 5)])
def test_equalization_is_pillows_to_the_bit(engine: Engine, size: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    dark = np.clip(rng.normal(20, 6, (*size, 3)), 0, 255).astype(np.uint8)
    two = np.where(rng.random((*size, 3)) < 0.1, 7, 200).astype(np.uint8)
    images = np.stack([
        rng.integers(0, 256, (*size, 3), dtype=np.uint8), np.full((*size, 3), 131, np.uint8), two, dark,
        *pictures(2, size), np.zeros((*size, 3), np.uint8), np.full((*size, 3), 255, np.uint8),
    ])  # fmt: skip
    wanted = np.stack([np.asarray(ImageOps.equalize(Image.fromarray(picture))) for picture in images])
    equalized = engine(equalization_graph(size), image=images)["features"]
    assert np.array_equal(equalized, wanted)
    assert np.array_equal(engine(equalization_graph(size), image=images[2:3])["features"], wanted[2:3])


def test_equalization_inside_a_backbone() -> None:
    backbone, weights = backbones.load("mobilenetv2"), random_weights("mobilenetv2")
    graphs = [
        backbone_graph(
            backbone, weights, tap_name="features.2", input_size=(64, 64), preprocess=Preprocess(equalize=on)
        )
        for on in (True, False)
    ]
    images = pictures(2, (64, 64)) // 3
    equalized = np.stack([np.asarray(ImageOps.equalize(Image.fromarray(picture))) for picture in images])
    for engine in ENGINES:
        inside, before = engine(graphs[0], image=images), engine(graphs[1], image=equalized)
        np.testing.assert_allclose(inside["features"], before["features"], rtol=1e-4, atol=1e-5)
