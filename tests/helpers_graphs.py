"""Backbones with random weights, pictures, and ONNX graphs run by both engines, for the tests of the toolchain."""

from __future__ import annotations

import io
from collections.abc import Callable
from functools import cache

import numpy as np
import onnx
import torch
from PIL import Image

from edge_all.export import backbones
from edge_all.export.graph import build, weights

SIZE = (75, 80)
"""Height and width of small images: not square, and as high as InceptionV3 needs them."""

Engine = Callable[..., dict[str, np.ndarray]]
"""Runs a graph with the inputs given by name, and returns its outputs by name."""


@cache
def random_weights(name: str) -> weights.Weights:
    return weights.load(backbones.load(name), "random")


@cache
def stages(name: str) -> list[tuple[str, torch.nn.Module]]:
    return weights.network(backbones.load(name), random_weights(name))


@cache
def graph(name: str, place: str, size: tuple[int, int] = SIZE) -> onnx.ModelProto:
    """A backbone with random weights up to a place; whoever changes it copies it first."""
    return build.backbone_graph(backbones.load(name), random_weights(name), tap_name=place, input_size=size)


def pictures(count: int, size: tuple[int, int], seed: int = 0) -> np.ndarray:
    """Smooth seeded colour, ``uint8 [N, H, W, 3]``: of white noise, a deep network gives almost constant features."""
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


def by_onnxruntime(model: onnx.ModelProto, **inputs: np.ndarray) -> dict[str, np.ndarray]:
    """The outputs by name."""
    import onnxruntime as ort

    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, inputs), strict=True))


def by_openvino(model: onnx.ModelProto, **inputs: np.ndarray) -> dict[str, np.ndarray]:
    """The outputs by name."""
    import openvino as ov

    core = ov.Core()
    graph = core.read_model(io.BytesIO(model.SerializeToString()))
    answer = core.compile_model(graph, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})(inputs)
    return {name: value.copy() for output, value in answer.items() for name in output.get_names()}


ENGINES: tuple[Engine, ...] = (by_onnxruntime, by_openvino)


STEPS = ("random_forest", "knn")
"""Classifiers whose probabilities jump: rounding near a threshold may lead to another leaf or neighbour."""


def check_conformance(probabilities: np.ndarray, wanted: np.ndarray, classifier: str, *, least_clear: int) -> None:
    """Compare probabilities ``[N, K]`` with scikit-learn's: the same labels where those are clear, and within 1e-3."""
    ordered = np.sort(wanted, axis=1)
    clear = ordered[:, -1] - ordered[:, -2] > 1e-4
    assert clear.sum() >= least_clear
    same = (probabilities.argmax(1) == wanted.argmax(1))[clear]
    close = np.abs(probabilities - wanted).max(axis=1) <= 1e-3
    enough = 0.995 if classifier in STEPS else 1.0
    assert same.mean() >= enough and close.mean() >= enough


def check_standard(model: onnx.ModelProto) -> None:
    """Every node of a graph is in the standard domain."""
    assert {node.domain for node in model.graph.node} <= {"", "ai.onnx"}
