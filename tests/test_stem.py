"""The folded picture: the first convolution on twelve channels gives what it gave on three."""

from __future__ import annotations

from functools import cache

import numpy as np
import onnx
import pytest
from helpers_graphs import ENGINES, Engine, by_openvino, pictures, random_weights

from edge_all.export import backbones
from edge_all.export.graph import edit, timing
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


STEP_OF_TWO = ("mobilenetv2", "efficientnet_lite0", "inceptionv3", "densenet121", "resnet101")


@pytest.mark.engine
@pytest.mark.parametrize(
    ("form", "name"),
    [*(("square", name) for name in STEP_OF_TWO), *(("wide", name) for name in (*STEP_OF_TWO, "vgg19"))],
)
@pytest.mark.parametrize("engine", ENGINES)
def test_a_folded_picture_changes_nothing(form: str, name: str, engine: Engine) -> None:
    plain = _quantized(name)
    folded = stem.FORMS[form](plain)
    assert folded is not None
    images = pictures(3, SIZE)
    # OpenVINO multiplies the sums with their scales in another order where it cannot join what follows.
    np.testing.assert_allclose(
        engine(folded, image=images)["features"],
        engine(plain, image=images)["features"],
        rtol=0,
        atol=1e-4 if form == "wide" and engine is by_openvino else 0,
    )
    before, after = convolutions(plain), convolutions(folded)
    most = {"square": 2, "wide": 3}[form]
    assert before[0].macs < after[0].macs < most * before[0].macs and before[1:] == after[1:]


def test_pixels_are_not_padded_twice() -> None:
    for form in stem.FORMS.values():
        folded = form(_quantized("mobilenetv2"))
        assert folded is not None
        assert sum(node.op_type == "Pad" for node in folded.graph.node) == 1


@pytest.mark.parametrize("changed", ["no bias", "a bias in float"])
def test_another_convolution_is_left_as_it_is(changed: str) -> None:
    model = edit.copy(_quantized("mobilenetv2"))
    first = next(node for node in model.graph.node if node.op_type == "Conv")
    del first.input[2]
    if changed == "a bias in float":
        edit.add_constants(model.graph, {"bias": np.zeros(32, np.float32)})
        first.input.append("bias")
    assert [form(model) for form in stem.FORMS.values()] == [None, None]


def test_a_step_of_one_is_not_folded_to_squares() -> None:
    assert stem.FORMS["square"](_quantized("vgg19")) is None


@pytest.mark.parametrize(
    ("square_ms", "wide_ms", "taken"), [(0.9, 0.95, "square"), (0.95, 0.9, "wide"), (0.99, 1.2, None), (1.2, 1.1, None)]
)
def test_the_fastest_form_is_taken_where_it_saves_something(
    square_ms: float, wide_ms: float, taken: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = _quantized("mobilenetv2")
    own = {None: 1.0, "square": square_ms, "wide": wide_ms}
    monkeypatch.setattr(
        timing, "times", lambda engine, graphs: [2.0, *(ms for ms in own.values() for _ in ("first", "second"))]
    )
    (first, second), fp32_ms, ms = stem.fastest("cpu", plain, (plain, plain))
    assert (fp32_ms, ms) == (2, own[taken])
    wanted = stem.FORMS[taken](plain) if taken else plain
    assert first == wanted and second == wanted
