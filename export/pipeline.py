"""The export, step by step: data, features, head, INT8, gate, fused graphs, bundle."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from edge_all import bundle as bundles
from edge_all import machine, probe
from edge_all.bench import TRAINING_IMAGES
from edge_all.bundle import Bundle

from . import backbone_graph, backbones, calibration, card, evaluate, features, gate, quantize, tools, weights
from .dataset import PROTOCOLS, Dataset, folds, groups, kaggle, leaks, read
from .fuse import fuse
from .head import Head, fit_head
from .head import to_onnx as head_to_onnx
from .probe_inputs import probe_inputs
from .recipe import Recipe
from .verify import graph_key, held_out_scores, probabilities, verify_fused

Step = Callable[[str], AbstractContextManager[features.Progress]]
"""Opens a step under a title and gives what is called with (done, total)."""

Tell = Callable[[str], None]
"""Says one line to the user."""


@dataclass(frozen=True)
class Int8:
    """A target's quantized backbone.

    Attributes:
        graph: What ships.
        features: ``float32 [N, C]``: every training image's, by a graph that was not calibrated on it.
        calibration_images: How many images `graph` was calibrated on.
    """

    graph: onnx.ModelProto
    features: np.ndarray
    calibration_images: int


def export(recipe: Recipe, *, step: Step, tell: Tell) -> Bundle:
    """Export a bundle.

    Args:
        recipe: What to export.
        step: Progress.
        tell: Notices: what was measured, and what did not go as asked.

    Returns:
        The bundle as written.

    Raises:
        EdgeAllError: The data, the weights, the head or the place to write to will not do; nothing is written then.
    """
    backbone = backbones.load(recipe.backbone)
    tap = backbones.tap(backbone, recipe.tap)
    size = recipe.size or backbone.input_size
    out = recipe.out or Path("models", "-".join((recipe.backbone, tap.name, recipe.selector, recipe.classifier)))
    bundles.check_writable(out)
    fit = partial(
        fit_head, selector=recipe.selector, classifier=recipe.classifier, count=recipe.features, seed=recipe.seed
    )

    with step("Reading images") as progress:
        everything = read(recipe.data or kaggle.download(), progress=progress)
    data, held_out = _hold_out(everything) if recipe.hold_out else (everything, None)
    with step("Loading the backbone"):
        pretrained = weights.load(backbone, recipe.weights, seed=recipe.seed)
        graph = backbone_graph.build(backbone, pretrained, tap_name=tap.name, input_size=size, equalize=recipe.equalize)
    if not pretrained.pretrained:
        tell(f"weights are {pretrained.source}: this bundle can show that everything works, and nothing else")
    with step("Extracting features") as progress:
        rows = features.extract(graph, data.paths, data.digests, size, progress=progress)

    duplicates = groups(data)
    splits = {name: folds(data, name, seed=recipe.seed, groups=duplicates) for name in PROTOCOLS}
    with step("Cross-validating") as progress:
        heads = {}
        for done, (name, split) in enumerate(splits.items()):
            progress(done, len(splits))
            heads[name] = evaluate.fold_heads(rows, data.labels, split, fit)
    halves = calibration.halves(splits["block"], duplicates)
    int8 = {}
    for target in recipe.targets:
        if target in quantize.TARGETS:
            with step(f"Quantizing for {target}") as progress:
                int8[target] = _quantize(graph, target, data, size, halves, progress)

    metrics = _metrics(data, splits, heads, rows, int8)
    verdicts = {target: _judge(metrics, target, data) for target in int8}
    shipped = {target: made for target, made in int8.items() if verdicts[target]["passed"]}
    for target in int8.keys() - shipped.keys():
        tell(f"INT8 for {target} was refused by the gate and FP32 ships in its place: {_losses(verdicts[target])}")

    with step("Fitting the head"):
        head = fit(rows, data.labels)
    name = f"{recipe.backbone}-{recipe.selector}-{recipe.classifier}"
    head_graph = head_to_onnx(head)
    fused = {"fp32": fuse(graph, head_graph, name=name)}
    fused |= {target: fuse(made.graph, head_graph, name=name) for target, made in shipped.items()}
    graphs = {key: model.SerializeToString() for key, model in fused.items()}
    models = _models(recipe.targets, shipped)
    with step("Verifying the fused graphs"):
        staged = {"fp32": rows} | {target: made.features for target, made in shipped.items()}
        verified = verify_fused(graphs, models, head, staged, data, size, halves.judged_by_shipped)
    inputs = probe_inputs(data, head.predict_proba(rows), size, drawn=recipe.drawn_probe, seed=recipe.seed)
    answers = {f"{t}.{p}": probabilities(t, graphs[graph_key(t, p)], inputs) for t, ps in models.items() for p in ps}
    with step("Measuring on the held-out images") as progress:
        kept_apart = held_out and held_out_scores(graphs, models, held_out, size, progress)

    record: dict[str, Any] = {
        "name": name,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "classes": list(data.classes),
        "backbone": recipe.backbone,
        "tap": tap.name,
        "channels": tap.channels,
        "backbone_macs": tap.macs,
        "selector": recipe.selector,
        "classifier": recipe.classifier,
        "features": head.features,
        "seed": recipe.seed,
        "input": {"height": size[0], "width": size[1], "equalize": recipe.equalize,
                  "mean": list(backbone.mean), "std": list(backbone.std)},
        "models": models,
        "metrics": metrics,
        "gate": {"passed": len(shipped) == len(int8), "targets": verdicts},
        "verified": verified,
        "dataset": {"name": everything.root.name, "source": recipe.source or _source(recipe),
                    "images": len(data), "counts": data.counts,
                    "fingerprint": data.fingerprint, "groups": int(duplicates.max()) + 1,
                    "near_duplicates_across_folds": {p: leaks(split, duplicates) for p, split in splits.items()}},
        "held_out": kept_apart,
        "weights": {"source": pretrained.source, "digest": pretrained.digest, "pretrained": pretrained.pretrained},
        "quantizers": {t: {"name": quantize.quantizer(t), "calibration_images": m.calibration_images}
                       for t, m in shipped.items()},
        "tools": tools.versions(),
        "machine": machine.describe(),
    }  # fmt: skip
    files = {"model.fp32.onnx": graphs["fp32"]}
    files |= {f"model.{target}.int8.onnx": graphs[target] for target in shipped}
    files |= {
        probe.FILE: probe.pack(inputs, answers),
        TRAINING_IMAGES: "".join(f"{d[:16]}\n" for d in sorted(data.digests)).encode(),
        "MODEL_CARD.md": card.write(record).encode(),
    }
    return bundles.write(out, record, files)


def _source(recipe: Recipe) -> str:
    return "not stated" if recipe.data else f"{kaggle.TITLE}, DOI {kaggle.DOI}"


def _hold_out(everything: Dataset) -> tuple[Dataset, Dataset]:
    """The last ``block`` run of every class goes aside before anything else is done; its near-duplicates go nowhere."""
    last = folds(everything, "block") == 4
    duplicates = groups(everything)
    crossing = np.isin(duplicates, duplicates[last]) & ~last
    return everything.subset(~last & ~crossing), everything.subset(last)


def _quantize(
    graph: onnx.ModelProto,
    target: str,
    data: Dataset,
    size: tuple[int, int],
    halves: calibration.Halves,
    progress: features.Progress,
) -> Int8:
    rows = np.empty((len(data), graph.graph.output[0].type.tensor_type.shape.dim[1].dim_value), np.float32)
    made = {}
    for part, numbers, judged in (
        ("shipped", halves.shipped, halves.judged_by_shipped),
        ("other", halves.other, ~halves.judged_by_shipped),
    ):
        images = np.stack(list(features.decoded([data.paths[i] for i in numbers], size)))
        made[part] = quantize.quantize(graph, target, images)
        chosen = np.flatnonzero(judged)
        rows[judged] = features.extract(
            made[part],
            [data.paths[i] for i in chosen],
            [data.digests[i] for i in chosen],
            size,
            target=target,
            progress=progress,
        )
    return Int8(made["shipped"], rows, len(halves.shipped))


def _metrics(
    data: Dataset,
    splits: dict[str, np.ndarray],
    heads: dict[str, list[Head]],
    rows: np.ndarray,
    int8: dict[str, Int8],
) -> dict[str, Any]:
    """Scores by protocol and precision; ``int8`` is the worst of the targets, with each target's own beside it."""
    metrics: dict[str, Any] = {}
    for name, split in splits.items():
        exact = evaluate.answer(heads[name], rows, split)
        metrics[name] = {"fp32": evaluate.score(data.labels, exact, data.classes)}
        by_target = {}
        for target, made in int8.items():
            rounded = evaluate.answer(heads[name], made.features, split)
            by_target[target] = evaluate.score(data.labels, rounded, data.classes)
            by_target[target]["agreement_fp32"] = evaluate.agreement(rounded, exact)
        if by_target:
            worst = min(by_target.values(), key=lambda figures: figures["accuracy"])
            metrics[name]["int8"] = worst | {"targets": by_target}
    return metrics


def _judge(metrics: dict[str, Any], target: str, data: Dataset) -> dict[str, Any]:
    block = metrics["block"]
    return gate.judge(block["fp32"], block["int8"]["targets"][target], data.counts)


def _losses(verdict: dict[str, Any]) -> str:
    parts = (f"{name} {verdict['lost'][name]} (allowed {verdict['allowed'][name]})" for name in verdict["lost"])
    return ", ".join(parts) + " points"


def _models(targets: tuple[str, ...], shipped: dict[str, Int8]) -> dict[str, dict[str, str]]:
    """File of each target and precision, the one to prefer first."""
    int8 = {target: {"int8": f"model.{target}.int8.onnx"} for target in shipped}
    return {target: int8.get(target, {}) | {"fp32": "model.fp32.onnx"} for target in targets}
