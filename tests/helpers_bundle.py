"""A tiny bundle made by hand, and drawn pictures for it."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
from onnx import ModelProto, TensorProto, helper, numpy_helper
from PIL import Image

from edge_all import bundle as bundles
from edge_all import bundle_checks, probe
from edge_all.bundle import Bundle
from edge_all.record import RecordBody
from edge_all.targets import EngineOptions, open_engine

CLASSES = ("Blue", "Green", "Réd")
SIZE = (48, 64)


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
    return bytes(model.SerializeToString())


def colour_picture(channel: int, seed: int = 0, size: tuple[int, int] = SIZE) -> Image.Image:
    """Noise with one strong channel (0 red, 1 green, 2 blue)."""
    pixels = np.random.default_rng(seed).integers(0, 120, (*size, 3), dtype=np.uint8)
    pixels[..., channel] += 120
    return Image.fromarray(pixels)


def encoded(image: Image.Image, form: str, **kw: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **kw)
    return buffer.getvalue()


def write_colour_bundle(out: Path, known: tuple[str, ...] = ()) -> Bundle:
    """A whole bundle around `colour_graph`; its "int8" is the same function with a lower gain."""
    graphs = {"model.fp32.onnx": colour_graph(), "model.cpu.int8.onnx": colour_graph(7.5)}
    inputs = np.stack([np.asarray(colour_picture(k, seed=9)) for k in range(3)])
    answers = {
        f"cpu.{precision}": open_engine(graphs[name], EngineOptions()).run(inputs).probabilities
        for precision, name in (("fp32", "model.fp32.onnx"), ("int8", "model.cpu.int8.onnx"))
    }
    training = "".join(f"{digest[:16]}\n" for digest in known).encode()
    packed = probe.pack(inputs, answers)
    others = {probe.FILE: packed, "training_images.txt": training}
    return bundles.write(out, cast(RecordBody, colour_record()), graphs | others)


def colour_record() -> dict[str, Any]:
    """The record of `write_colour_bundle`: the built-in bundle's, without what speaks of its own classes and graphs.

    It refers nothing: no image has to be clear to be answered.
    """
    record: dict[str, Any] = json.loads((bundles.BUILTIN / "bundle.json").read_text("utf-8"))
    for name in (
        "protocol",
        "files",
        "digest",
        "referral",
        "familiarity",
        "taps",
        "cut",
        "gate",
        "robustness",
        "drift",
        "scale",
    ):
        del record[name]
    for name in ("positive", "input_check", "outsiders", "carried"):
        record.pop(name, None)
    figures = {"accuracy": 90.0, "balanced_accuracy": 89.0, "macro_f1": 88.0, "recall": dict.fromkeys(CLASSES, 89.0)}
    compared = figures | {"images": 30, "agreement_fp32": 99.0}
    return record | {
        "name": "colour",
        "classes": list(CLASSES),
        "backbone": "none",
        "tap": "last",
        "selector": "anova",
        "classifier": "svm",
        "features": 3,
        "input": record["input"] | {"height": SIZE[0], "width": SIZE[1]},
        "models": {"cpu": {"int8": "model.cpu.int8.onnx", "fp32": "model.fp32.onnx"}},
        "metrics": {"block": {"fp32": figures | {"images": 30}, "int8": compared | {"targets": {"cpu": compared}}}},
        "gate": {"passed": True, "targets": {}},
        "dataset": record["dataset"] | {"images": 30, "counts": dict.fromkeys(CLASSES, 10)},
        "held_out": None,
        "verified": {},
        "tools": {},
    }


def rewritten(bundle: Bundle, change: Callable[[dict[str, Any]], object]) -> None:
    """Change a bundle's record where it is, and make its digest right again."""
    place = bundle.path / "bundle.json"
    record = json.loads(place.read_text("utf-8"))
    change(record)
    record["digest"] = bundle_checks.digest(record)
    place.write_text(json.dumps(record), encoding="utf-8")


def exchanged(bundle: Bundle, name: str, content: bytes) -> Bundle:
    """The same bundle where it is, digests valid, with another content of one file."""
    record = {key: value for key, value in bundle.record.items() if key != "files"}
    files = {name: bundle.read(name) for name in bundle.record["files"]}
    return bundles.write(bundle.path, cast(RecordBody, record), files | {name: content})


def refused_graph() -> bytes:
    """A graph that is as a record wants it, and that every engine refuses: it has an operator that there is not."""
    model = ModelProto.FromString(colour_graph())
    model.graph.node[0].op_type = "Nonsense"
    return bytes(model.SerializeToString())
