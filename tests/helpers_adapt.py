"""A small bundle that can be adapted, made by hand in less than a second, and fields of sites for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import numpy as np
import onnx
from helpers_bundle import CLASSES, SIZE, colour_record
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from edge_all import bundle as bundles
from edge_all import probe, training_features
from edge_all.bundle import Bundle
from edge_all.export.assemble.fuse import fuse
from edge_all.export.features import Rows
from edge_all.export.graph.edit import IR_VERSION, OPSET
from edge_all.export.head import evaluate, familiarity
from edge_all.export.head.familiarity import Judge
from edge_all.export.head.fit import HeadSpec, to_onnx
from edge_all.record import RecordBody
from edge_all.targets import EngineOptions, open_engine
from edge_all.training_features import TrainingFeatures

HOME = (1.0, 1.0, 1.0)
SITE = (0.62, 0.7, 0.78)
"""Gains of red, green and blue: under the site's lamp the bundle is wrong about many fields."""

_EACH = 40


def field(label: int, rng: np.random.Generator, gains: tuple[float, float, float] = HOME) -> np.ndarray:
    """A picture in which one channel is a little stronger, in another tint each time."""
    pixels = rng.integers(80, 140, (*SIZE, 3)) + rng.normal(0, 3, 3)
    pixels[..., 2 - label] += 25
    return np.clip(pixels * gains, 0, 255).astype(np.uint8)


def write_site(
    root: Path, each: int | tuple[int, ...] = 8, gains: tuple[float, float, float] = SITE, seed: int = 1
) -> Path:
    """A folder of a site's fields, one folder a class; of no image of a class there is no folder."""
    rng = np.random.default_rng(seed)
    counts = (each,) * len(CLASSES) if isinstance(each, int) else each
    for label, (name, count) in enumerate(zip(CLASSES, counts, strict=True)):
        for i in range(count):
            (root / name).mkdir(parents=True, exist_ok=True)
            Image.fromarray(field(label, rng, gains)).save(root / name / f"{i}.png")
    return root


def write_bundle(
    out: Path, *, keep: bool = True, carry: bool = False, classifier: str = "svm", selector: str = "anova"
) -> Bundle:
    """A bundle with an FP32 and an "INT8" graph, which differ a little, and the kept features of 120 images."""
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(len(CLASSES)), _EACH)
    images = np.stack([field(int(label), rng) for label in labels])
    backbone, rough = _backbone(1.0), _backbone(1.002)
    rows = Rows(_features(images), (_features(images[:, ::-1]),))
    folds = np.tile(np.arange(_EACH) * 5 // _EACH, len(CLASSES))
    spec = HeadSpec(selector, classifier, 5)
    heads = [evaluate.fit(rows, labels, spec, folds != k) for k in range(5)]
    head, answers = evaluate.fit(rows, labels, spec), evaluate.answer(heads, rows.plain, folds)
    distances = familiarity.held_out(familiarity.fit_folds(heads, rows, folds), heads, rows.plain, folds)
    limit = familiarity.limit(distances)
    extended = familiarity.with_output(to_onnx(head), [Judge(familiarity.fit(head, rows), limit)])
    graphs = {
        name: fuse(graph, extended, name="small").SerializeToString(deterministic=True)
        for name, graph in (("model.fp32.onnx", backbone), ("model.cpu.int8.onnx", rough))
    }
    names = {"cpu.fp32": "model.fp32.onnx", "cpu.int8": "model.cpu.int8.onnx"}
    engines = {key: open_engine(graphs[name], EngineOptions()) for key, name in names.items()}
    inputs = images[:: len(images) // 6]
    packed = probe.pack(inputs, {key: engine.run(inputs).probabilities for key, engine in engines.items()})
    files = graphs | {probe.FILE: packed, "training_images.txt": b"0123456789abcdef\n"}
    if keep:
        features, shown = rows.training()
        read = familiarity.classifier_input(head, features)
        kept = TrainingFeatures(read, shown, labels, folds, np.arange(len(labels)), answers)
        files[training_features.FILE] = training_features.pack(kept)
    carried: dict[str, Any] = {}
    if carry:
        files["model.deep.int8.onnx"] = rough.SerializeToString(deterministic=True)
        about = {"file": "model.deep.int8.onnx", "tap": "deep", "features": 6, "macs": 1, "scheme": "layerwise-7bit"}
        carried = {"carried": about}
    record = (
        colour_record()
        | carried
        | {
            "name": "small",
            "selector": selector,
            "classifier": classifier,
            "setting": None,
            "features": head.features,
            "familiarity": {"protocol": "block", "asked": 99.0, "limit": limit, "accepted": {"fp32": 99.0}},
            "referral": familiarity.referral(labels, answers),
            "gate": _gate(),
            "robustness": _robustness(),
            "taps": None,
            "tools": {"edge-all": "0"},
        }
    )
    return bundles.write(out, cast(RecordBody, record), files)


def _gate() -> dict[str, Any]:
    return {"passed": True, "targets": {"cpu": {"passed": True, "head": "fp32", "tried": []}}}


def _robustness() -> dict[str, Any]:
    table = {"clean": 90.0, "worst": 80.0, "worst_change": "darker", "changes": {"darker": 80.0}}
    return {"protocol": "block", "images": 30, "fp32": table, "int8": {"cpu": table}}


def _features(images: np.ndarray) -> np.ndarray:
    """Mean and mean square of each channel, as `_backbone` computes them."""
    pixels = images.astype(np.float32) / 255
    return np.concatenate([pixels.mean((1, 2)), (pixels**2).mean((1, 2))], axis=1)


def _backbone(gain: float) -> onnx.ModelProto:
    nodes = [
        helper.make_node("Cast", ["image"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["float", "gain"], ["light"]),
        helper.make_node("ReduceMean", ["light", "axes"], ["mean"], keepdims=0),
        helper.make_node("Mul", ["light", "light"], ["squared"]),
        helper.make_node("ReduceMean", ["squared", "axes"], ["energy"], keepdims=0),
        helper.make_node("Concat", ["mean", "energy"], ["features"], axis=1),
    ]
    graph = helper.make_graph(
        nodes,
        "backbone",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["N", *SIZE, 3])],
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["N", 6])],
        [
            numpy_helper.from_array(np.array(gain / 255, np.float32), "gain"),
            numpy_helper.from_array(np.array([1, 2]), "axes"),
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
