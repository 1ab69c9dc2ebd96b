"""Backbones and their graphs: the same for every file of ``export/backbones/``, with no downloads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from helpers_graphs import ENGINES, SIZE, by_onnxruntime, check_standard, eager, graph, pictures, random_weights, stages

from edge_all.errors import EdgeAllError
from edge_all.export import backbones
from edge_all.export.assemble.fuse import fuse
from edge_all.export.graph import build, weights
from edge_all.export.graph.build import backbone_graph
from edge_all.export.graph.edit import OPSET
from edge_all.export.head.fit import HeadSpec, to_onnx

pytestmark = [pytest.mark.slow, pytest.mark.engine]

NAMES = backbones.names()
LARGEST_ERROR = 1e-3
"""Of a feature, relative to the largest one of the image."""

PADDED_BY_SIZE = "efficientnet_lite0"
"""Its padding depends on the size of its input: it is run at its own size, and the others at a small one."""


def relative_error(features: np.ndarray, wanted: np.ndarray) -> float:
    assert features.shape == wanted.shape
    return float((np.abs(features - wanted).max(axis=1) / np.abs(wanted).max(axis=1)).max())


@pytest.mark.parametrize("name", NAMES)
def test_taps_are_what_the_network_says(name: str) -> None:
    backbone = backbones.load(name)
    taps: dict[str, backbones.Tap] = {}
    macs = 0

    def count(module: torch.nn.Module, inputs: object, output: torch.Tensor) -> None:
        nonlocal macs
        weight = module.weight
        assert isinstance(weight, torch.Tensor)
        macs += output.numel() * weight[0].numel()

    with torch.device("meta"):
        values = torch.empty(1, 3, *backbone.input_size)
        for stage, module in backbone.stages(backbone.build().eval()):
            for inner in module.modules():
                if isinstance(inner, torch.nn.Conv2d | torch.nn.Linear):
                    inner.register_forward_hook(count)
            values = module(values)
            taps[stage] = backbones.Tap(stage, values.shape[1], macs)
    assert backbone.taps == tuple(taps[tap.name] for tap in backbone.taps)
    names = [tap.name for tap in backbone.taps]
    assert [stage for stage in taps if stage in names] == names
    assert list(taps)[-1] == backbone.taps[-1].name == backbones.places(backbone, "last")[0].name


def test_an_unknown_tap_is_answered_with_the_list_of_taps() -> None:
    with pytest.raises(EdgeAllError, match=r"features\.99.*features\.14") as caught:
        backbones.places(backbones.load("mobilenetv2"), "features.99")
    assert "\n" not in str(caught.value)


def size_of(backbone: backbones.Backbone) -> tuple[int, int]:
    return backbone.input_size if backbone.name == PADDED_BY_SIZE else SIZE


def graph_of(name: str) -> onnx.ModelProto:
    return graph(name, "last", size_of(backbones.load(name)))


@pytest.mark.parametrize("name", NAMES)
def test_graph_gives_the_features_of_torch(name: str) -> None:
    backbone, model = backbones.load(name), graph_of(name)
    check_standard(model)
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", OPSET)]
    assert not model.functions
    assert all(node.name.startswith(("preprocess/", "backbone/", "pooling/")) for node in model.graph.node)
    assert len({node.name for node in model.graph.node}) == len(model.graph.node)
    kinds = [node.op_type for node in model.graph.node]
    assert not {"Shape", "Pad", "Identity", "Constant"} & set(kinds), "shape arithmetic or leftovers"
    assert name == "densenet121" or "BatchNormalization" not in kinds

    images = pictures(2, size_of(backbone))
    wanted = eager(backbone, [module for _, module in stages(name)], images)
    assert np.isfinite(wanted).all() and wanted.std(axis=1).min() > 0 and np.abs(wanted[0] - wanted[1]).max() > 0
    for engine in ENGINES:
        assert relative_error(engine(model, image=images)["features"], wanted) <= LARGEST_ERROR, engine.__name__
    assert by_onnxruntime(model, image=images[:1])["features"].shape == (1, backbone.taps[-1].channels)


def test_cut_at_a_tap_of_another_size() -> None:
    name = PADDED_BY_SIZE
    backbone = backbones.load(name)
    middle = backbone.taps[len(backbone.taps) // 2]
    model = backbone_graph(backbone, random_weights(name), tap_name=middle.name, input_size=(240, 320))
    images = pictures(3, (240, 320))
    modules = dict(stages(name))
    up_to_tap = list(modules)[: list(modules).index(middle.name) + 1]
    wanted = eager(backbone, [modules[stage] for stage in up_to_tap], images)
    assert wanted.shape == (3, middle.channels)
    for engine in ENGINES:
        assert relative_error(engine(model, image=images)["features"], wanted) <= LARGEST_ERROR, engine.__name__


def test_same_inputs_same_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge_all.cache.load", lambda name, most: None)
    backbone = backbones.load("mobilenetv2")
    models = [backbone_graph(backbone, random_weights(backbone.name), tap_name="features.2") for _ in range(2)]
    assert models[0].SerializeToString(deterministic=True) == models[1].SerializeToString(deterministic=True)


def test_a_graph_that_holds_the_size_of_the_batch_is_refused() -> None:
    class Divided(torch.nn.Unflatten):
        ends = (0,)

    with pytest.raises(ValueError, match=r"torch exported .*Reshape.*, which may hold the size of the batch"):
        build._exported(Divided(1, (1, 3)), (8, 8))  # type: ignore[arg-type]


def test_what_torch_exported_is_kept_and_made_again_where_it_is_damaged(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("EDGE_ALL_CACHE", str(tmp_path))
    exported: list[object] = []
    export = build._exported

    def counted(*given: Any) -> onnx.GraphProto:
        exported.append(given)
        return export(*given)

    monkeypatch.setattr(build, "_exported", counted)

    def made(seed: int = 0) -> bytes:
        backbone = backbones.load("mobilenetv2")
        pretrained = weights.load(backbone, "random", seed=seed)
        graph = backbone_graph(backbone, pretrained, tap_name="features.1", input_size=(32, 32))
        return bytes(graph.SerializeToString(deterministic=True))

    first = made()
    assert made() == first and len(exported) == 1
    assert made(seed=1) != first and len(exported) == 2
    for file in (tmp_path / "graphs").iterdir():
        content = bytearray(file.read_bytes())
        content[-9] ^= 1
        file.write_bytes(content)
    assert made() == first and len(exported) == 3


def test_inception_folds_torchvisions_two_normalisations() -> None:
    from torchvision.models import inception_v3

    model = inception_v3(weights=None, init_weights=False, aux_logits=False, transform_input=True)
    pixels = torch.rand(1, 3, 4, 4)
    usual = (pixels - torch.tensor(backbones.IMAGENET_MEAN).view(3, 1, 1)) / torch.tensor(backbones.IMAGENET_STD).view(
        3, 1, 1
    )
    backbone = backbones.load("inceptionv3")
    folded = (pixels - backbone.mean[0]) / backbone.std[0]
    assert torch.allclose(model._transform_input(usual), folded, atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_fused_with_a_head_gives_the_labels_of_torch(name: str) -> None:
    """torch's features and scikit-learn's head on one side, the one fused graph on the other."""
    backbone = backbones.load(name)
    images = pictures(24, size_of(backbone), seed=2)
    labels = np.arange(24) % 3
    images[labels == 1] //= 2
    images[labels == 2, ..., 0] //= 3
    features = eager(backbone, [module for _, module in stages(name)], images)
    head = HeadSpec(selector="anova", classifier="svm", count=100).fit(features[:18], labels[:18])
    wanted = head.predict_proba(features)
    fused = fuse(graph_of(name), to_onnx(head), name=name)
    check_standard(fused)
    for engine in ENGINES:
        answers = engine(fused, image=images)
        assert np.abs(answers["probabilities"] - wanted).max() <= 1e-3
        np.testing.assert_array_equal(answers["label"], wanted.argmax(axis=1))
