"""Figures on held-out images: of what ships, or where that is fitted on them too, of the same made without them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from edge_all.progress import Console
from edge_all.record import Familiarity, HeldOut, Referral

from .assemble import familiar, record, risk, variants
from .assemble.verify import Measured, held_out_scores
from .dataset import augment, groups, merged
from .head import caught, evaluate, familiarity, reference
from .head.reference import Reference
from .head.scorer import Scorer, resampled
from .images import Images
from .quantize.attempt import Attempt, SearchResult
from .quantize.calibration import halves
from .quantize.float16 import Half
from .quantize.search import Quantizer, search
from .recipe import Recipe


@dataclass(frozen=True)
class Made:
    """What ships.

    Attributes:
        measured: Its graphs, and what they were made from.
        shipped: The INT8 backbone of each target that has one.
        half: What FP16 lost; None where it was not tried.
    """

    measured: Measured
    shipped: Mapping[str, Attempt]
    half: Half | None


def measure(recipe: Recipe, images: Images, made: Made, console: Console) -> HeldOut | None:
    """Score graphs on the held-out images.

    Args:
        recipe: Of the export.
        images: Its images.
        made: What ships.
        console: Shows the steps.

    Returns:
        None where nothing is held out.
    """
    held_out = images.held_out
    if held_out is None:
        return None
    measured = made.measured if images.part.all() else _made_without(recipe, images, made, console)
    units = resampled(held_out, merged(groups(held_out), held_out.given))
    scorer = Scorer(held_out, units, made.measured.reference.scorer.positive)
    with console.step("Measuring on the held-out images") as progress:
        scores = held_out_scores(measured, recipe.targets, scorer, progress)
    fitted = len(measured.reference.data)
    return {"protocol": images.held_out_as, "images": len(held_out), "fitted": fitted, "scores": scores}


def _made_without(recipe: Recipe, images: Images, made: Made, console: Console) -> Measured:
    """What ships, made again in the same way without the held-out images; INT8 by the schemes that were found."""
    part, shipping = images.without_held_out, made.measured.reference
    scorer = Scorer(part.training, resampled(part.training, part.units), shipping.scorer.positive)
    with console.step("Cross-validating without the held-out images") as progress:
        rows = shipping.rows.of(images.part)
        fp32 = reference.measure(shipping.graph, scorer, rows, part.splits, shipping.spec, progress)
    fp32 = replace(fp32, guard=shipping.guard)
    quantizer = quantizer_of(recipe, fp32, part)
    again: dict[str, SearchResult] = {}
    for target, attempt in made.shipped.items():
        refit = attempt.head.kind == "refitted"
        again[target] = search(target, quantizer, console, schemes=[attempt.scheme], thorough=refit)
    shipped = {target: result.shipped for target, result in again.items() if result.shipped}
    limits = familiar.measure(fp32, shipped)
    head = evaluate.fit(fp32.rows, fp32.data.labels, fp32.spec)
    checks = variants.Checks(familiar.limits(limits), None)
    graphs = variants.build(fp32, head, shipped, made.half, checks, record.pipeline_name(recipe))
    return Measured(graphs, fp32, choose_referral(recipe, fp32, limits)["threshold"])


def quantizer_of(recipe: Recipe, fp32: Reference, images: Images) -> Quantizer:
    """What quantizes a pipeline that was fitted on these images."""
    count, _ = augment.plan(recipe.conditions.augment, recipe.conditions.balance, fp32.data.labels)
    copies = augment.copies(count, recipe.conditions.seed)
    return Quantizer(fp32, halves(images.folds, images.units), copies)


def choose_referral(recipe: Recipe, fp32: Reference, limits: Familiarity) -> Referral:
    """When to refer: by coverage and by the risk under changes, or by the sensitivity that is wanted."""
    answers = fp32.answers[limits["protocol"]]
    by_coverage = familiarity.referral(fp32.data.labels, answers, limits["protocol"])
    if recipe.sensitivity is None:
        return risk.referral(by_coverage, fp32, limits)
    unfamiliar = familiar.unfamiliar(fp32, limits)
    return caught.referral(by_coverage, fp32.scorer, answers, unfamiliar, recipe.sensitivity)
