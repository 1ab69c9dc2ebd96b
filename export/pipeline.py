"""The export, step by step: data, features, head, INT8, gate, fused graphs, bundle."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from edge_all import bundle as bundles
from edge_all import machine, probe
from edge_all.bench.accuracy import TRAINING_IMAGES
from edge_all.bundle import Bundle

from . import backbones, features, taps
from .assemble import card, tap_report, versions
from .assemble.cut import cut, sentence
from .assemble.fuse import fuse
from .assemble.probe_inputs import probe_inputs
from .assemble.verify import graph_key, held_out_scores, probabilities, verify_fused
from .dataset import PROTOCOLS, Dataset, augment, folds, groups, kaggle, leaks, read
from .graph import weights
from .graph.build import backbone_graph
from .graph.preprocess import Preprocess
from .head import evaluate, familiarity, robustness
from .head.evaluate import Rows
from .head.fit import fit_head
from .quantize import calibration, float16, schemes
from .quantize.heads import Exact
from .quantize.search import Attempt, Case, Found, search
from .recipe import Recipe

Step = Callable[[str], AbstractContextManager[features.Progress]]
"""Opens a step under a title and gives what is called with (done, total)."""

Tell = Callable[[str], None]
"""Says one line to the user."""


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
    size = recipe.size or backbone.input_size
    if recipe.tap != taps.AUTO:
        backbones.places(backbone, recipe.tap)  # says at once if there is no such tap
    out = recipe.out or _default_place(recipe)
    bundles.check_writable(out)
    if recipe.report:
        tap_report.check(recipe.report)
    schemes_of = _schemes(recipe)
    fit = partial(
        fit_head, selector=recipe.selector, classifier=recipe.classifier, count=recipe.features, seed=recipe.seed,
        setting=recipe.setting,
    )  # fmt: skip
    preprocess = Preprocess(recipe.equalize, recipe.mask_corner)

    with step("Reading images") as progress:
        everything = read(recipe.data or kaggle.download(), progress=progress)
    data, held_out = _hold_out(everything) if recipe.hold_out else (everything, None)
    duplicates = groups(data)
    splits = {name: folds(data, name, seed=recipe.seed, groups=duplicates) for name in PROTOCOLS}
    with step("Loading the backbone"):
        pretrained = weights.load(backbone, recipe.weights, seed=recipe.seed)
    if not pretrained.pretrained:
        tell(f"weights are {pretrained.source}: this bundle can show that everything works, and nothing else")
    tap_name, compared = recipe.tap, None
    if recipe.tap == taps.AUTO:
        with step("Comparing taps") as progress:
            looked = taps.Search(
                backbone, pretrained, data, splits["block"], size, preprocess, fit,
                least=recipe.features or 1, augmented=recipe.augment > 0, seed=recipe.seed, target=_timed_on(recipe),
            )  # fmt: skip
            tap_name, compared = taps.choose(looked, recipe.prefer, progress)
        tell(taps.sentence(compared))
    places = backbones.places(backbone, tap_name)
    graph = backbone_graph(backbone, pretrained, tap_name=tap_name, input_size=size, preprocess=preprocess)
    count, copied = augment.plan(recipe.augment, recipe.balance, data.labels)
    copies = augment.copies(count, recipe.seed)
    with step("Extracting features") as progress:
        extract = partial(features.extract, graph, data.paths, data.digests, size, progress=progress)
        rows = Rows(extract(), tuple(extract(change=copy) for copy in copies), copied)
    with step("Cross-validating") as progress:
        heads = {}
        for done, (name, split) in enumerate(splits.items()):
            progress(done, len(splits))
            heads[name] = evaluate.fold_heads(rows, data.labels, split, fit)
    answers = {name: evaluate.answer(heads[name], rows.plain, split) for name, split in splits.items()}
    scores = {name: evaluate.score(data.labels, given, data.classes) for name, given in answers.items()}
    exact = Exact(data, rows, splits, heads, answers, scores)
    case = Case(graph, size, exact, calibration.halves(splits["block"], duplicates), fit, copies)
    with step("Changing the light, the focus and the turn") as progress:
        robust: dict[str, Any] = {"protocol": robustness.PROTOCOL, "images": len(robustness.numbers(data))}
        robust["fp32"] = robustness.fp32(case, progress)
    found = {
        target: search(target, case, schemes=schemes, thorough=recipe.thorough, step=step, tell=tell)
        for target, schemes in schemes_of.items()
    }
    int8 = {target: result.shipped for target, result in found.items() if result.shipped}
    half = float16.attempt(case, step, tell) if "gpu" in recipe.targets else None
    with step("The same with INT8"):
        robust["int8"] = {target: robustness.int8(target, made, case) for target, made in int8.items()}

    with step("Fitting the head"):
        head = evaluate.fit(rows, data.labels, fit)
        heads_of = {"fp32": head} | {target: made.trained.ship(head) for target, made in int8.items()}
    name = f"{recipe.backbone}-{recipe.selector}-{recipe.classifier}"
    backbone_of = {"fp32": graph} | {target: made.pair.graphs[0] for target, made in int8.items()}
    cut_of = {key: cut(model, heads_of[key]) for key, model in backbone_of.items()}
    most, familiar = _familiarity(case, int8)
    usual = familiarity.fit(head, rows)
    fused = {}
    for key, made in cut_of.items():
        refitted = key in int8 and int8[key].trained.kind == "refitted"
        gaussian = familiarity.fit(heads_of[key], Rows(int8[key].pair.rows)) if refitted else usual
        knowing = familiarity.with_output(made.head, heads_of[key], gaussian, most)
        fused[key] = fuse(made.backbone, knowing, name=name)
        if key == "fp32" and half and half.verdict["passed"]:
            fused["fp16"] = fuse(float16.convert(made.backbone), knowing, name=name)
            heads_of["fp16"], backbone_of["fp16"] = head, graph
    tell(sentence(cut_of["fp32"]))
    graphs = {key: model.SerializeToString(deterministic=True) for key, model in fused.items()}
    named = {"fp32": "model.fp32.onnx", "fp16": "model.fp16.onnx"}
    named |= _int8_files({target: graphs[target] for target in int8})
    models = {
        target: {precision: named[graph_key(target, precision)] for precision in _precisions(target, graphs)}
        for target in recipe.targets
    }
    with step("Verifying the fused graphs"):
        verified = verify_fused(graphs, models, heads_of, backbone_of, data, size)
    inputs = probe_inputs(data, head.predict_proba(rows.plain), size, drawn=recipe.drawn_probe, seed=recipe.seed)
    answers = {f"{t}.{p}": probabilities(t, graphs[graph_key(t, p)], inputs) for t, ps in models.items() for p in ps}
    kept_apart = None
    if held_out:
        with step("Measuring on the held-out images") as progress:
            kept_apart = held_out_scores(graphs, models, held_out, size, progress)

    record: dict[str, Any] = {
        "name": name,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "classes": list(data.classes),
        "backbone": recipe.backbone,
        "tap": "+".join(place.name for place in places),
        "channels": sum(place.channels for place in places),
        "backbone_macs": max(place.tap.macs for place in places),
        "taps": compared,
        "cut": {key: made.record for key, made in cut_of.items()},
        "augment": recipe.augment,
        "balance": recipe.balance,
        "setting": recipe.setting,
        "selector": recipe.selector,
        "classifier": recipe.classifier,
        "features": head.features,
        "seed": recipe.seed,
        "input": {"height": size[0], "width": size[1], "equalize": recipe.equalize,
                  "mask_corner": recipe.mask_corner,
                  "mean": list(backbone.mean), "std": list(backbone.std)},
        "models": models,
        "metrics": _metrics(exact, found, half),
        "robustness": robust,
        "familiarity": familiar,
        "referral": familiarity.referral(data.labels, exact.answers["block"]),
        "gate": _gate(found),
        "verified": verified,
        "dataset": {"name": everything.root.name, "source": recipe.source or _source(recipe),
                    "images": len(data), "counts": data.counts,
                    "fingerprint": data.fingerprint, "groups": int(duplicates.max()) + 1,
                    "near_duplicates_across_folds": {p: leaks(split, duplicates) for p, split in splits.items()}},
        "held_out": kept_apart,
        "weights": {"source": pretrained.source, "digest": pretrained.digest, "pretrained": pretrained.pretrained},
        "schemes": {target: made.name for target, made in int8.items()},
        "tools": versions.versions(),
        "machine": machine.describe(),
    }  # fmt: skip
    files = {named[key]: content for key, content in graphs.items()}
    files |= {
        probe.FILE: probe.pack(inputs, answers),
        TRAINING_IMAGES: "".join(f"{d[:16]}\n" for d in sorted(data.digests)).encode(),
        "MODEL_CARD.md": card.write(record).encode(),
    }
    tell(familiarity.sentence(record))
    written = bundles.write(out, record, files)
    if recipe.report and compared:
        tap_report.write(recipe.report, record)
    return written


def _familiarity(case: Case, int8: dict[str, Attempt]) -> tuple[float, dict[str, Any]]:
    """The limit of what is familiar, and the share of held-out fields within it, in percent."""
    exact, folds = case.exact, case.exact.splits["block"]
    gaussians = familiarity.fit_folds(exact.heads["block"], exact.rows, folds)
    distances = familiarity.held_out(gaussians, exact.heads["block"], exact.rows.plain, folds)
    most = familiarity.limit(distances)
    accepted = {"fp32": familiarity.accepted(distances, most)}
    for target, made in int8.items():
        if made.trained.kind == "refitted":
            continue  # its heads read other features; only FP32's share is known
        found = np.zeros(len(folds))
        for heads, own in zip(made.trained.heads, made.pair.judged, strict=True):
            found[own] = familiarity.held_out(gaussians, heads["block"], made.pair.rows, folds)[own]
        accepted[target] = familiarity.accepted(found, most)
    return most, {"protocol": "block", "asked": familiarity.ACCEPTED, "limit": most, "accepted": accepted}


def _default_place(recipe: Recipe) -> Path:
    tap = recipe.tap.replace(":", "-")
    return Path("models", "-".join((recipe.backbone, tap, recipe.selector, recipe.classifier)))


def _timed_on(recipe: Recipe) -> str:
    """The engine that taps are timed in: OpenVINO's, where the bundle is for it."""
    return "openvino" if "openvino" in recipe.targets else "cpu"


def _source(recipe: Recipe) -> str:
    return "not stated" if recipe.data else f"{kaggle.TITLE}, DOI {kaggle.DOI}"


def _hold_out(everything: Dataset) -> tuple[Dataset, Dataset]:
    """The last ``block`` run of every class goes aside before anything else is done; its near-duplicates go nowhere."""
    last = folds(everything, "block") == 4
    duplicates = groups(everything)
    crossing = np.isin(duplicates, duplicates[last]) & ~last
    return everything.subset(~last & ~crossing), everything.subset(last)


def _schemes(recipe: Recipe) -> dict[str, tuple[schemes.Scheme, ...]]:
    """What is tried for each target."""
    if recipe.scheme is None:
        return {target: schemes.SCHEMES[target] for target in recipe.targets}
    return {target: (schemes.scheme(target, recipe.scheme),) for target in recipe.targets}


def _metrics(exact: Exact, found: dict[str, Found], half: float16.Half | None) -> dict[str, Any]:
    """Scores by protocol and precision; ``int8`` is the worst of the targets, with each target's own beside it."""
    metrics: dict[str, Any] = {}
    for name, score in exact.scores.items():
        metrics[name] = {"fp32": score} | ({"fp16": half.scores[name]} if half else {})
        by_target = {target: result.best.trained.scores[name] for target, result in found.items() if result.best}
        if by_target:
            worst = min(by_target.values(), key=lambda figures: figures["accuracy"])
            metrics[name]["int8"] = worst | {"targets": by_target}
    return metrics


def _gate(found: dict[str, Found]) -> dict[str, Any]:
    """The verdict on what ships, or came nearest, with everything that was tried."""
    verdicts: dict[str, dict[str, Any]] = {}
    for target, result in found.items():
        verdicts[target] = {"passed": result.shipped is not None}
        if best := result.best:
            verdicts[target] |= {"scheme": best.scheme.name, "head": best.trained.kind} | best.times
            verdicts[target] |= {key: value for key, value in best.trained.verdict.items() if key != "passed"}
        verdicts[target]["tried"] = result.tried
    return {"passed": all(verdict["passed"] for verdict in verdicts.values()), "targets": verdicts}


def _precisions(target: str, graphs: Mapping[str, bytes]) -> list[str]:
    """What a target gets, the one to prefer first; for ``gpu`` INT8 comes last: it needs TensorRT."""
    asked = ("fp16", "fp32", "int8") if target == "gpu" else ("int8", "fp32")
    return [precision for precision in asked if graph_key(target, precision) in graphs]


def _int8_files(graphs: dict[str, bytes]) -> dict[str, str]:
    """File name of each target's INT8 graph; targets whose graphs are the same share the first one's file."""
    names: dict[bytes, str] = {}
    return {target: names.setdefault(graph, f"model.{target}.int8.onnx") for target, graph in graphs.items()}
