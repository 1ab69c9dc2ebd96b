"""Channels are cut exactly: those that stay are computed from the same numbers as before, in FP32 and in INT8."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from helpers_graphs import ENGINES, SIZE, by_onnxruntime, graph, pictures

from edge_all.export.assemble.cut import cut, sentence
from edge_all.export.assemble.fuse import fuse
from edge_all.export.assemble.prune import prune
from edge_all.export.graph import edit
from edge_all.export.graph.facts import size
from edge_all.export.head.fit import HeadSpec
from edge_all.export.head.fit import to_onnx as head_to_onnx
from edge_all.export.quantize import layerwise, stem

pytestmark = [pytest.mark.slow, pytest.mark.engine]

PLACES = {
    "mobilenetv2": ["last", "features.6", "features.3:std+features.6:std"],  # 6 ends in a residual sum
    "efficientnet_lite0": ["blocks.2.1"],
    "resnet101": ["layer1.2"],
    "densenet121": ["denseblock1", "relu5"],
    "inceptionv3": ["Mixed_5c", "Mixed_6a+Mixed_6b:std"],  # 6a feeds the layers above it, whole
    "vgg19": ["last"],
}
CASES = [(name, place) for name, places in PLACES.items() for place in places]


def _kept(channels: int, share: float = 0.3) -> np.ndarray:
    return np.sort(np.random.default_rng(0).choice(channels, max(1, int(share * channels)), replace=False))


def _width(model: onnx.ModelProto) -> int:
    return edit.width(model.graph.output[0])


@pytest.mark.parametrize(("name", "place"), CASES)
def test_kept_features_are_those_of_before(name: str, place: str) -> None:
    model = graph(name, place)
    kept = _kept(_width(model))
    pruned = prune(model, kept)
    images = pictures(2, SIZE)
    for engine in ENGINES:
        wanted = engine(model, image=images)["features"][:, kept]
        np.testing.assert_allclose(engine(pruned, image=images)["features"], wanted, atol=1e-5 * np.abs(wanted).max())
    before, after = size(model), size(pruned)
    assert after.bytes < before.bytes and after.macs <= before.macs
    if place in ("last", "features.6", "Mixed_5c", "layer1.2"):
        assert after.macs < before.macs, "the last convolution computes channels that nobody reads"


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("mobilenetv2", "features.6"),
        ("mobilenetv2", "last"),
        ("densenet121", "denseblock1"),  # its channels are shifted, and the output rescale undoes it
        ("inceptionv3", "Mixed_5c:std"),
        ("vgg19", "features.3:std+features.8"),
    ],
)
def test_quantized_graphs_too(name: str, place: str) -> None:
    images = pictures(2, SIZE)
    model = layerwise.quantize(graph(name, place), images, weight_bits=7)
    kept = _kept(_width(model))
    pruned = prune(model, kept)
    assert size(pruned).macs < size(model).macs and pruned.ByteSize() < model.ByteSize()
    for engine in ENGINES:
        wanted = engine(model, image=images)["features"][:, kept]
        np.testing.assert_allclose(engine(pruned, image=images)["features"], wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("form", stem.FORMS)
@pytest.mark.parametrize(
    ("name", "place"),
    [("mobilenetv2", "features.1:std"), ("mobilenetv2", "features.6"), ("densenet121", "denseblock1")],
)
def test_with_a_folded_picture_too(name: str, place: str, form: str) -> None:
    images = pictures(2, SIZE)
    model = layerwise.quantize(graph(name, place), images, weight_bits=7)
    folded = stem.FORMS[form](model)
    assert folded is not None
    kept = _kept(_width(model))
    pruned = prune(folded, kept)
    assert len(kept) == _width(pruned) < _width(folded)
    wanted = by_onnxruntime(model, image=images)["features"][:, kept]
    np.testing.assert_allclose(by_onnxruntime(pruned, image=images)["features"], wanted, rtol=1e-5, atol=1e-6)


def test_order_and_range_of_the_features_that_stay() -> None:
    model = graph("mobilenetv2", "features.4")
    images = pictures(2, SIZE)
    every = by_onnxruntime(model, image=images)["features"]
    order = np.array([30, 2, 7])
    np.testing.assert_allclose(by_onnxruntime(prune(model, order), image=images)["features"], every[:, order], 1e-5)
    whole = prune(model, np.arange(32))
    np.testing.assert_allclose(by_onnxruntime(whole, image=images)["features"], every, rtol=1e-6)
    assert size(whole).macs == size(model).macs
    for wrong in ([], [32], [-1]):
        with pytest.raises(ValueError, match="wanted some of 0 to 31"):
            prune(model, np.array(wrong, int))


@pytest.mark.parametrize("selector", ["anova", "pca"])
def test_a_cut_bundle_answers_as_an_uncut_one(selector: str) -> None:
    model, images = graph("mobilenetv2", "features.6:std"), pictures(24, SIZE, seed=2)
    labels = np.arange(24) % 3
    images[labels == 1] //= 2
    features = by_onnxruntime(model, image=images)["features"]
    head = HeadSpec(selector=selector, classifier="svm", count=20).fit(features, labels)
    parts = cut(model, head)
    uncut, pruned = fuse(model, head_to_onnx(head), name="x"), fuse(parts.backbone, parts.head, name="x")
    answers, wanted = (by_onnxruntime(fused, image=images)["probabilities"] for fused in (pruned, uncut))
    assert np.abs(answers - wanted).max() <= 1e-5
    assert ("no channel" in sentence(parts)) == (selector == "pca") == (parts.before == parts.after)
