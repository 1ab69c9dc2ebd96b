"""The folded picture: the first convolution on twelve channels gives what it gave on three."""

from __future__ import annotations

from functools import cache

import numpy as np
import onnx
import pytest
from helpers_graphs import ENGINES, Engine, pictures, random_weights

from edge_all.export import backbones
from edge_all.export.graph import timing
from edge_all.export.graph.build import backbone_graph
from edge_all.export.graph.facts import convolutions
from edge_all.export.quantize import layerwise, stem

pytestmark = pytest.mark.slow

SIZE = (70, 90)
"""Of the input: with a step of two some backbones need a row or a column more than there is, and others fewer."""


@cache
def _quantized(name: str) -> onnx.ModelProto:
    """The first tap alone."""
    backbone = backbones.load(name)
    graph = backbone_graph(backbone, random_weights(name), tap_name=f"{backbone.taps[0].name}:std", input_size=SIZE)
    return layerwise.quantize(graph, pictures(4, SIZE), weight_bits=7)


@pytest.mark.engine
@pytest.mark.parametrize("name", ["mobilenetv2", "efficientnet_lite0", "inceptionv3", "densenet121", "resnet101"])
@pytest.mark.parametrize("engine", ENGINES)
def test_a_folded_picture_changes_nothing(name: str, engine: Engine) -> None:
    plain = _quantized(name)
    folded = stem.folded(plain)
    assert folded is not None
    images = pictures(3, SIZE)
    np.testing.assert_array_equal(engine(folded, image=images)["features"], engine(plain, image=images)["features"])
    before, after = convolutions(plain), convolutions(folded)
    assert before[0].macs < after[0].macs < 2 * before[0].macs and before[1:] == after[1:]


def test_a_step_of_one_is_left_as_it_is() -> None:
    assert stem.folded(_quantized("vgg19")) is None


@pytest.mark.parametrize(("folded_ms", "taken"), [(0.9, True), (0.99, False), (1.2, False)])
def test_a_folded_picture_is_taken_where_it_is_faster(
    folded_ms: float, taken: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(timing, "times", lambda engine, graphs: [2.0, 1.0, 1.0, folded_ms, folded_ms])
    plain = _quantized("mobilenetv2")
    (first, second), fp32_ms, ms = stem.fastest("cpu", plain, (plain, plain))
    assert first == second and fp32_ms == 2 and ms == (folded_ms if taken else 1)
    assert (first == plain) is not taken
