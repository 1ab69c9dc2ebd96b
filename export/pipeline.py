"""The export, step by step: images, features, head, INT8, fused graphs, bundle."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from edge_all import bundle as bundles
from edge_all import bundle_place, probe
from edge_all.bundle import TRAINING_IMAGES, Bundle
from edge_all.progress import Console, split
from edge_all.record import HeldOut, RecordBody, Robustness, TapTable

from . import backbones, features, outsiders, taps
from .assemble import card, record, tap_report, variants
from .assemble.cut import sentence as cut_sentence
from .assemble.probe_inputs import probe_inputs
from .assemble.variants import Variant
from .assemble.verify import held_out_scores, probabilities, show_outsiders, verify_fused
from .backbones import Backbone
from .dataset import PROTOCOLS, Dataset, augment, folds, groups, kaggle, read
from .graph import weights
from .graph.build import backbone_graph
from .graph.preprocess import Preprocess
from .graph.weights import Weights
from .head import drift, evaluate, familiarity, input_check, reference, robustness
from .head.drift import Drift
from .head.fit import Head, HeadSpec
from .head.reference import Reference
from .head.robustness import Answering
from .quantize import float16, schemes
from .quantize.attempt import Attempt, SearchResult
from .quantize.calibration import halves
from .quantize.search import Quantizer, search
from .recipe import Recipe


def export(recipe: Recipe, console: Console, sign: Callable[[bytes], bytes] | None = None) -> Bundle:
    """Export a bundle.

    Args:
        recipe: What to export.
        console: Shows the steps, the measurements, and every request that could not be met.
        sign: Signs the bundle's record (`edge_all.signature.signer`); None leaves it unsigned.

    Returns:
        The bundle as written.

    Raises:
        EdgeAllError: The data, weights, head or output path cannot be used. No bundle is written.
    """
    out = _check(recipe)
    backbone = backbones.load(recipe.backbone)
    images = _read_images(recipe, console)
    pretrained = _load_weights(recipe, backbone, console)
    tap, tap_table = _choose_tap(recipe, backbone, pretrained, images, console)
    fp32 = _measure_fp32(recipe, backbone, pretrained, tap, images, console)
    searches = _quantize(recipe, fp32, images, console)
    shipped = {target: result.shipped for target, result in searches.items() if result.shipped}
    half = float16.attempt(fp32, console) if "gpu" in recipe.targets else None
    robust = _measure_robustness(fp32, shipped, console)
    head = _fit_head(fp32, console)
    familiar = variants.measure_familiarity(fp32, shipped)
    drifting = _measure_drift(fp32, head, console)
    with console.step("Measuring changed images") as progress:
        inputs = input_check.measure(images.training, fp32.size, progress)
    checks = variants.Checks(familiar["limit"], drifting)
    graphs = variants.build(fp32, head, shipped, half, checks, record.pipeline_name(recipe))
    console.tell(cut_sentence(graphs[0].cut))
    with console.step("Verifying the fused graphs"):
        verified = verify_fused(graphs, recipe.targets, images.training, fp32.size)
    referral = familiarity.referral(images.training.labels, fp32.answers["block"])
    with console.step("Showing pictures that are no fields"):
        strangers = show_outsiders(graphs, recipe.targets, fp32.size, referral["threshold"])
    held_out = _score_held_out(recipe, graphs, images, fp32, console)
    body = record.build(
        record.Export(
            recipe=recipe, backbone=backbone, weights=pretrained, places=backbones.places(backbone, tap),
            taps=tap_table, reference=fp32, duplicates=images.duplicates, searches=searches, half=half,
            robustness=robust, familiarity=familiar, drift=drifting, input_check=inputs, head=head, variants=graphs,
            verified=verified, outsiders=strangers, referral=referral, held_out=held_out,
        )
    )  # fmt: skip
    console.tell(familiarity.sentence(body["familiarity"], body["referral"]))
    console.tell(outsiders.sentence(strangers))
    bundle = bundles.write(out, body, _files(images, body, graphs, _probe(recipe, head, fp32, graphs)), sign)
    if recipe.report and tap_table:
        tap_report.write(recipe.report, body)
    return bundle


def _check(recipe: Recipe) -> Path:
    """The bundle's path. Raises now what would otherwise stop the export only at its end."""
    if recipe.tap != taps.AUTO:
        backbones.places(backbones.load(recipe.backbone), recipe.tap)
    tap = recipe.tap.replace(":", "-")
    out = recipe.out or Path("models", f"{recipe.backbone}-{tap}-{recipe.selector}-{recipe.classifier}")
    bundle_place.check_writable(out)
    if recipe.report:
        tap_report.check(recipe.report)
    _schemes(recipe)
    return out


@dataclass(frozen=True)
class Images:
    """The images of an export.

    Attributes:
        training: What the head is fitted on.
        held_out: What is kept out of everything, to measure the finished bundle on; None without ``hold_out``.
        duplicates: ``int64 [N]``: near-duplicate group of each training image.
        splits: Fold of each training image, ``int64 [N]``, by protocol.
    """

    training: Dataset
    held_out: Dataset | None
    duplicates: np.ndarray
    splits: Mapping[str, np.ndarray]


def _read_images(recipe: Recipe, console: Console) -> Images:
    conditions = recipe.conditions
    with console.step("Reading images") as progress:
        everything = read(conditions.data or kaggle.download(), progress=progress)
    training, held_out = _hold_out(everything) if recipe.hold_out else (everything, None)
    duplicates = groups(training)
    splits = {name: folds(training, name, seed=conditions.seed, groups=duplicates) for name in PROTOCOLS}
    return Images(training, held_out, duplicates, splits)


def _hold_out(everything: Dataset) -> tuple[Dataset, Dataset]:
    """Training and held-out images. The last ``block`` fold is held out; its near-duplicates elsewhere are dropped."""
    last = folds(everything, "block") == 4
    duplicates = groups(everything)
    crossing = np.isin(duplicates, duplicates[last]) & ~last
    return everything.subset(~last & ~crossing), everything.subset(last)


def _load_weights(recipe: Recipe, backbone: Backbone, console: Console) -> Weights:
    with console.step("Loading the backbone"):
        pretrained = weights.load(backbone, recipe.weights, seed=recipe.conditions.seed)
    if not pretrained.pretrained:
        console.tell(f"weights are {pretrained.source}: this bundle can show that everything works, and nothing else")
    return pretrained


def _spec(recipe: Recipe) -> HeadSpec:
    conditions = recipe.conditions
    return HeadSpec(recipe.selector, recipe.classifier, conditions.features, conditions.seed, recipe.setting)


def _preprocess(recipe: Recipe) -> Preprocess:
    return Preprocess(recipe.conditions.equalize, recipe.conditions.mask_corner)


def _choose_tap(
    recipe: Recipe, backbone: Backbone, pretrained: Weights, images: Images, console: Console
) -> tuple[str, TapTable | None]:
    if recipe.tap != taps.AUTO:
        return recipe.tap, None
    compared = taps.Search(
        backbone=backbone,
        weights=pretrained,
        data=images.training,
        folds=images.splits["block"],
        size=recipe.conditions.size or backbone.input_size,
        preprocess=_preprocess(recipe),
        spec=_spec(recipe),
        augmented=recipe.conditions.augment > 0,
        target="openvino" if "openvino" in recipe.targets else "cpu",
    )
    with console.step("Comparing taps") as progress:
        tap, table = taps.choose(compared, recipe.prefer, progress)
    console.tell(taps.sentence(table))
    return tap, table


def _measure_fp32(
    recipe: Recipe, backbone: Backbone, pretrained: Weights, tap: str, images: Images, console: Console
) -> Reference:
    """Build the backbone's graph, extract features and cross-validate."""
    size = recipe.conditions.size or backbone.input_size
    guard = backbones.guard(backbone, tap)
    places = guard.places if guard else tap
    graph = backbone_graph(backbone, pretrained, tap_name=places, input_size=size, preprocess=_preprocess(recipe))
    with console.step("Extracting features") as progress:
        rows = features.training_rows(graph, images.training, size, recipe.conditions, progress)
    with console.step("Cross-validating") as progress:
        spec = replace(_spec(recipe), columns=guard.head if guard else None)
        measured = reference.measure(graph, images.training, rows, images.splits, spec, progress)
    return replace(measured, guard=guard)


def _schemes(recipe: Recipe) -> dict[str, tuple[schemes.Scheme, ...]]:
    """The INT8 schemes to try for each target."""
    if recipe.scheme is None:
        return {target: schemes.of_target(target) for target in recipe.targets}
    return {target: (schemes.named(target, recipe.scheme),) for target in recipe.targets}


def _quantize(recipe: Recipe, fp32: Reference, images: Images, console: Console) -> dict[str, SearchResult]:
    """Search an INT8 backbone for each target."""
    count, _ = augment.plan(recipe.conditions.augment, recipe.conditions.balance, images.training.labels)
    copies = augment.copies(count, recipe.conditions.seed)
    quantizer = Quantizer(fp32, halves(images.splits["block"], images.duplicates), copies)
    return {
        target: search(target, quantizer, console, schemes=tried, thorough=recipe.thorough)
        for target, tried in _schemes(recipe).items()
    }


def _measure_robustness(fp32: Reference, shipped: Mapping[str, Attempt], console: Console) -> Robustness:
    with console.step("Measuring robustness") as progress:
        first, *rest = split(progress, [1.0] * (1 + len(shipped)))
        exact = robustness.fp32(fp32, first)
        int8 = {}
        for (target, attempt), part in zip(shipped.items(), rest, strict=True):
            pair, of_folds = attempt.pair, [heads[robustness.PROTOCOL] for heads in attempt.head.heads]
            sides = [
                Answering(graph, images, heads, pair.rows)
                for graph, images, heads in zip(pair.graphs, pair.evaluated, of_folds, strict=True)
            ]
            int8[target] = robustness.int8(target, fp32, sides, part)
    images = len(robustness.chosen_images(fp32.data))
    return {"protocol": robustness.PROTOCOL, "images": images, "fp32": exact, "int8": int8}


def _fit_head(fp32: Reference, console: Console) -> Head:
    """The head that ships: fitted on all training images."""
    with console.step("Fitting the head"):
        return evaluate.fit(fp32.rows, fp32.data.labels, fp32.spec)


def _measure_drift(fp32: Reference, head: Head, console: Console) -> Drift | None:
    with console.step("Measuring runs of fields") as progress:
        drifting = drift.measure(fp32, head, progress)
    if not drifting:
        console.tell(
            f"runs of fields are not judged for drift: that takes {drift.LEAST_RUNS} runs of {drift.RUN} neighbouring "
            "images of a class"
        )
    return drifting


def _score_held_out(
    recipe: Recipe, graphs: list[Variant], images: Images, fp32: Reference, console: Console
) -> HeldOut | None:
    if images.held_out is None:
        return None
    with console.step("Measuring on the held-out images") as progress:
        return held_out_scores(graphs, recipe.targets, images.held_out, fp32.size, progress)


def _probe(recipe: Recipe, head: Head, fp32: Reference, graphs: list[Variant]) -> bytes:
    """The probe's file: a few inputs, and what each graph answers to them on each target."""
    exact = head.predict_proba(fp32.rows.plain)
    seed = recipe.conditions.seed
    inputs = probe_inputs(fp32.data, exact, fp32.size, drawn=recipe.drawn_probe, seed=seed)
    answers = {
        f"{target}.{variant.precision}": probabilities(target, variant.model, inputs)
        for target, variant in variants.by_target(graphs, recipe.targets)
    }
    return probe.pack(inputs, answers)


def _files(images: Images, body: RecordBody, graphs: list[Variant], packed: bytes) -> dict[str, bytes]:
    """The bundle's files, all but the record."""
    digests = sorted(digest[:16] for digest in images.training.digests)
    return {variant.file: variant.model for variant in graphs} | {
        probe.FILE: packed,
        TRAINING_IMAGES: "".join(f"{digest}\n" for digest in digests).encode(),
        "MODEL_CARD.md": card.write(body).encode(),
    }
