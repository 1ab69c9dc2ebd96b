"""A tiny bundle made by hand, drawn pictures, and the command as a user runs it."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from edge_all import bundle as bundles
from edge_all import probe
from edge_all.bundle import Bundle
from edge_all.targets import open_engine

CLASSES = ("Blue", "Green", "Réd")
SIZE = (48, 64)


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Nothing is read from, or left in, the user's cache."""
    os.environ["EDGE_ALL_CACHE"] = str(tmp_path_factory.mktemp("cache"))


def colour_graph(gain: float = 8.0) -> bytes:
    """A graph that names the strongest colour channel: the same inputs and outputs as a fused one."""
    weights = np.eye(3, dtype=np.float32)[::-1].copy() * gain / 255
    nodes = [
        helper.make_node("Cast", ["image"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["float", "axes"], ["mean"], keepdims=0),
        helper.make_node("MatMul", ["mean", "weights"], ["scores"]),
        helper.make_node("Softmax", ["scores"], ["probabilities"], axis=1),
        helper.make_node("ArgMax", ["probabilities"], ["label"], axis=1, keepdims=0),
    ]
    graph = helper.make_graph(
        nodes,
        "colour",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["N", *SIZE, 3])],
        [
            helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["N", 3]),
            helper.make_tensor_value_info("label", TensorProto.INT64, ["N"]),
        ],
        [
            numpy_helper.from_array(np.array([1, 2], dtype=np.int64), "axes"),
            numpy_helper.from_array(weights, "weights"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    return model.SerializeToString()


def colour_picture(channel: int, seed: int = 0, size: tuple[int, int] = SIZE) -> Image.Image:
    """Noise with one strong channel (0 red, 1 green, 2 blue)."""
    pixels = np.random.default_rng(seed).integers(0, 120, (*size, 3), dtype=np.uint8)
    pixels[..., channel] += 120
    return Image.fromarray(pixels)


def write_colour_bundle(out: Path, known: tuple[str, ...] = ()) -> Bundle:
    """A whole bundle around `colour_graph`; its "int8" is the same function with a lower gain."""
    graphs = {"model.fp32.onnx": colour_graph(), "model.cpu.int8.onnx": colour_graph(7.5)}
    inputs = np.stack([np.asarray(colour_picture(k, seed=9)) for k in range(3)])
    answers = {
        f"cpu.{precision}": open_engine("cpu", graphs[name]).run(inputs).probabilities
        for precision, name in (("fp32", "model.fp32.onnx"), ("int8", "model.cpu.int8.onnx"))
    }
    figures = {"accuracy": 90.0, "balanced_accuracy": 89.0, "agreement_fp32": 99.0}
    record = {
        "name": "colour",
        "classes": list(CLASSES),
        "backbone": "none",
        "tap": "last",
        "selector": "anova",
        "classifier": "svm",
        "features": 3,
        "input": {"height": SIZE[0], "width": SIZE[1]},
        "models": {"cpu": {"int8": "model.cpu.int8.onnx", "fp32": "model.fp32.onnx"}},
        "metrics": {"block": {"fp32": figures, "int8": figures}},
        "dataset": {"images": 30},
    }
    training = "".join(f"{digest[:16]}\n" for digest in known).encode()
    return bundles.write(
        out, record, graphs | {probe.FILE: probe.pack(inputs, answers), "training_images.txt": training}
    )


@pytest.fixture
def colour_bundle(tmp_path: Path) -> Bundle:
    return write_colour_bundle(tmp_path / "colour")


@pytest.fixture
def coloured_folder(tmp_path: Path) -> Path:
    """Four pictures a class, in one folder a class."""
    root = tmp_path / "data"
    for k, name in enumerate(CLASSES):
        (root / name).mkdir(parents=True)
        for i in range(4):
            colour_picture(2 - k, seed=10 * k + i).save(root / name / f"{i}.png")
    return root


@pytest.fixture
def edge_all(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """The installed command, run in `tmp_path`."""

    def run(*words: object, timeout: float = 120, **kw: object) -> subprocess.CompletedProcess[str]:
        command = [str(Path(sys.executable).with_name("edge-all")), *map(str, words)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, cwd=tmp_path, **kw)  # type: ignore[call-overload]
        assert "Traceback" not in done.stderr, done.stderr
        return done

    return run


def encoded(image: Image.Image, form: str, **kw: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **kw)
    return buffer.getvalue()


def check_standard(model: onnx.ModelProto) -> None:
    """Every node of a graph is in the standard domain."""
    assert {node.domain for node in model.graph.node} <= {"", "ai.onnx"}
