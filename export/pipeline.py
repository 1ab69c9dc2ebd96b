"""The export, step by step: images, features, head, INT8, fused graphs, bundle."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import onnx

from edge_all import bundle as bundles
from edge_all import bundle_place, probe, training_features
from edge_all.bundle import TRAINING_IMAGES, Bundle
from edge_all.progress import Console
from edge_all.record import CarriedRecord, InputCheckRecord, OutsidersRecord, RecordBody, Robustness, TapTable

from . import backbones, features, held_out, outsiders, tap_table, taps
from .assemble import card, carried, familiar, kept_features, record, tap_report, variants
from .assemble.cut import sentence as cut_sentence
from .assemble.probe_inputs import probe_inputs
from .assemble.variants import Variant
from .assemble.verify import Measured, answers, show_outsiders, verify_fused
from .backbones import Backbone, Guard
from .graph import edit, weights
from .graph.build import backbone_graph
from .graph.preprocess import Preprocess
from .graph.weights import Weights
from .head import caught, drift, evaluate, familiarity, input_check, reference, robustness
from .head.drift import Drift
from .head.fit import Head, HeadSpec
from .head.reference import Reference
from .head.robustness import Answering
from .head.scorer import Scorer, positive_classes, resampled
from .images import Images
from .images import read as read_images
from .quantize import float16, schemes
from .quantize.attempt import Attempt, SearchResult
from .quantize.search import search
from .recipe import Recipe
from .taps import sizes
from .taps.pooled import Search


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
    images = read_images(recipe, console)
    training = images.training
    scorer = Scorer(training, resampled(training, images.units), positive_classes(training.classes, recipe.positive))
    pretrained = _load_weights(recipe, backbone, console)
    tap, tap_table, guard, graph = _cut(recipe, backbone, pretrained, images, console)
    recipe = _at_size(recipe, backbone, edit.size(graph))
    fp32 = _measure_fp32(recipe, graph, guard, images, scorer, console)
    searches = _quantize(recipe, fp32, images, console)
    shipped = {target: result.shipped for target, result in searches.items() if result.shipped}
    half = float16.attempt(fp32, console) if "gpu" in recipe.targets else None
    robust = _measure_robustness(fp32, shipped, console)
    head = _fit_head(fp32, console)
    limits = familiar.measure(fp32, shipped)
    referral = held_out.choose_referral(recipe, fp32, limits)
    drifting = _measure_drift(fp32, head, console)
    inputs = _measure_inputs(fp32, console)
    checks = variants.Checks(familiar.limits(limits), drifting)
    graphs = variants.build(fp32, head, shipped, half, checks, record.pipeline_name(recipe))
    console.tell(cut_sentence(graphs[0].cut))
    with console.step("Verifying the fused graphs"):
        verified = verify_fused(graphs, recipe.targets, training, fp32.size)
    with console.step("Showing pictures that are no fields"):
        strangers = show_outsiders(graphs, recipe.targets, fp32.size, referral["threshold"])
    made = held_out.Made(Measured(graphs, fp32, referral["threshold"]), shipped, half)
    body = record.build(
        record.Export(
            recipe=recipe, backbone=backbone, weights=pretrained, places=backbones.places(backbone, tap),
            taps=tap_table, reference=fp32, duplicates=images.duplicates, searches=searches, half=half,
            robustness=robust, familiarity=limits, referral=referral, drift=drifting, input_check=inputs, head=head,
            variants=graphs, verified=verified, outsiders=strangers,
            held_out=held_out.measure(recipe, images, made, console),
        )
    )  # fmt: skip
    _tell_statuses(body, strangers, console)
    files = _files(images, body, graphs, _probe(recipe, head, fp32, graphs))
    if recipe.carry:
        body["carried"], files[carried.FILE] = _carry(recipe, recipe.carry, backbone, pretrained, images, console)
    if recipe.keep_features:
        files[training_features.FILE] = kept_features.pack(fp32, head, images.units)
    bundle = bundles.write(out, body, files, sign)
    if recipe.report and tap_table:
        tap_report.write(recipe.report, body)
    return bundle


def _tell_statuses(body: RecordBody, strangers: OutsidersRecord, console: Console) -> None:
    """How often which status is given."""
    if "caught" in body["referral"]:
        console.tell(caught.sentence(body["referral"]))
    console.tell(familiarity.sentence(body["familiarity"], body["referral"]))
    console.tell(outsiders.sentence(strangers))


def _carry(
    recipe: Recipe, tap: str, backbone: Backbone, pretrained: Weights, images: Images, console: Console
) -> tuple[CarriedRecord, bytes]:
    """A deeper backbone for ``edge-all adapt --fresh``."""
    size = recipe.conditions.size or backbone.input_size
    graph = backbone_graph(backbone, pretrained, tap_name=tap, input_size=size, preprocess=_preprocess(recipe))
    with console.step("Quantizing the carried backbone") as progress:
        return carried.build(graph, backbones.places(backbone, tap), images.training, size, progress)


def _check(recipe: Recipe) -> Path:
    """The bundle's path. Raises now what would otherwise stop the export only at its end."""
    if recipe.tap != taps.AUTO:
        backbones.places(backbones.load(recipe.backbone), recipe.tap)
    if recipe.carry:
        backbones.places(backbones.load(recipe.backbone), recipe.carry)
    tap = recipe.tap.replace(":", "-")
    out = recipe.out or Path("models", f"{recipe.backbone}-{tap}-{recipe.selector}-{recipe.classifier}")
    bundle_place.check_writable(out)
    if recipe.report:
        tap_report.check(recipe.report)
    _schemes(recipe)
    return out


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
) -> taps.Choice:
    part, size = images.without_held_out, recipe.conditions.size or backbone.input_size
    compared = Search(
        backbone=backbone,
        weights=pretrained,
        data=part.training,
        folds=part.folds,
        size=size,
        preprocess=_preprocess(recipe),
        spec=_spec(recipe),
        augmented=recipe.conditions.augment > 0,
        target="openvino" if "openvino" in recipe.targets else "cpu",
        protocol=images.headline,
        units=resampled(part.training, part.units),
        smaller=() if recipe.conditions.size else sizes.smaller(size),
    )
    with console.step("Comparing taps") as progress:
        choice = taps.choose(compared, recipe.prefer, progress)
    console.tell(tap_table.sentence(choice.table))
    return choice


def _cut(
    recipe: Recipe, backbone: Backbone, pretrained: Weights, images: Images, console: Console
) -> tuple[str, TapTable | None, Guard | None, onnx.ModelProto]:
    """Where features are taken, how that was chosen, the early places judged beside it, and the graph up to there."""
    choice = _choose_tap(recipe, backbone, pretrained, images, console) if recipe.tap == taps.AUTO else None
    tap, table = (choice.name, choice.table) if choice else (recipe.tap, None)
    guard = backbones.guard(backbone, tap)
    size = choice.search.size if choice else recipe.conditions.size or backbone.input_size
    places = guard.places if guard else tap
    graph = backbone_graph(backbone, pretrained, tap_name=places, input_size=size, preprocess=_preprocess(recipe))
    if choice and not guard:
        choice.keep(graph)
    return tap, table, guard, graph


def _at_size(recipe: Recipe, backbone: Backbone, size: tuple[int, int]) -> Recipe:
    """The recipe with the size of the input that was chosen; `scale` was given for pixels of the backbone's own."""
    if recipe.conditions.size or size == backbone.input_size:
        return recipe
    scale = recipe.scale and recipe.scale * backbone.input_size[1] / size[1]
    return replace(recipe, conditions=replace(recipe.conditions, size=size), scale=scale)


def _measure_fp32(
    recipe: Recipe, graph: onnx.ModelProto, guard: Guard | None, images: Images, scorer: Scorer, console: Console
) -> Reference:
    """Extract features and cross-validate."""
    with console.step("Extracting features") as progress:
        rows = features.training_rows(graph, images.training, edit.size(graph), recipe.conditions, progress)
    with console.step("Cross-validating") as progress:
        spec = replace(_spec(recipe), columns=guard.head if guard else None)
        measured = reference.measure(graph, scorer, rows, images.splits, spec, progress)
    return replace(measured, guard=guard)


def _schemes(recipe: Recipe) -> dict[str, tuple[schemes.Scheme, ...]]:
    """The INT8 schemes to try for each target."""
    if recipe.scheme is None:
        return {target: schemes.of_target(target) for target in recipe.targets}
    return {target: (schemes.named(target, recipe.scheme),) for target in recipe.targets}


def _quantize(recipe: Recipe, fp32: Reference, images: Images, console: Console) -> dict[str, SearchResult]:
    """Search an INT8 backbone for each target."""
    quantizer = held_out.quantizer_of(recipe, fp32, images)
    return {
        target: search(target, quantizer, console, schemes=tried, thorough=recipe.thorough)
        for target, tried in _schemes(recipe).items()
    }


def _measure_robustness(fp32: Reference, shipped: Mapping[str, Attempt], console: Console) -> Robustness:
    quantized = {
        target: [
            Answering(graph, images, heads[fp32.headline], attempt.pair.rows)
            for graph, images, heads in zip(
                attempt.pair.graphs, attempt.pair.evaluated, attempt.head.heads, strict=True
            )
        ]
        for target, attempt in shipped.items()
    }
    with console.step("Measuring robustness") as progress:
        exact, int8 = robustness.measure(fp32, quantized, progress)
    images = len(robustness.chosen_images(fp32.data))
    return {"protocol": fp32.headline, "images": images, "fp32": exact, "int8": int8}


def _fit_head(fp32: Reference, console: Console) -> Head:
    """The head that ships: fitted on all training images."""
    with console.step("Fitting the head"):
        return evaluate.fit(fp32.rows, fp32.data.labels, fp32.spec)


def _measure_inputs(fp32: Reference, console: Console) -> InputCheckRecord:
    with console.step("Measuring changed images") as progress:
        return input_check.measure(fp32.data, fp32.size, progress)


def _measure_drift(fp32: Reference, head: Head, console: Console) -> Drift | None:
    with console.step("Measuring runs of images") as progress:
        drifting = drift.measure(fp32, head, progress)
    if not drifting:
        console.tell(
            f"runs of images are not judged for drift: that takes {drift.LEAST_RUNS} runs of {drift.RUN} neighbouring "
            "images of a class"
        )
    return drifting


def _probe(recipe: Recipe, head: Head, fp32: Reference, graphs: list[Variant]) -> bytes:
    """The probe's file: a few inputs, and what each graph answers to them on each target."""
    exact = head.predict_proba(fp32.rows.plain)
    seed = recipe.conditions.seed
    inputs = probe_inputs(fp32.data, exact, fp32.size, drawn=recipe.drawn_probe, seed=seed)
    given = {
        f"{target}.{variant.precision}": answers(target, variant.model, inputs).probabilities
        for target, variant in variants.by_target(graphs, recipe.targets)
    }
    return probe.pack(inputs, given)


def _files(images: Images, body: RecordBody, graphs: list[Variant], packed: bytes) -> dict[str, bytes]:
    """The bundle's files, all but the record."""
    digests = sorted(digest[:16] for digest in images.training.digests)
    return {variant.file: variant.model for variant in graphs} | {
        probe.FILE: packed,
        TRAINING_IMAGES: "".join(f"{digest}\n" for digest in digests).encode(),
        "MODEL_CARD.md": card.write(body).encode(),
    }
