"""Site adaptation, step by step: the site's fields, their features, the head, the gate, the new bundle."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import onnx

from edge_all import bundle as bundles
from edge_all import bundle_place, training_features
from edge_all.bundle import Bundle
from edge_all.errors import BundleError
from edge_all.progress import Console, Progress, split
from edge_all.record import BeforeAfter, Outsiders
from edge_all.training_features import TrainingFeatures

from ..assemble import card
from ..dataset import Dataset
from ..head import familiarity
from ..head.fit import HeadSpec
from . import files, gate, graphs, refit
from .graphs import Given, strangers
from .refit import Answers, Fitted, Limits, Pool
from .request import VIEWS, Request, Result, sample, turned
from .site import read

FOREIGN = 0.8
"""Share of a site's fields that are unfamiliar, from which on a head on them alone is proposed."""


@dataclass(frozen=True)
class Measured:
    """A site's fields and outsiders, through a bundle's graphs.

    Attributes:
        models: The graphs, by file, FP32's first.
        given: What each gives for the site's fields.
        views: What FP32's classifier reads of these and of their turned views, ``float32 [S, F]`` each.
        outsiders: What FP32's graph gives for pictures that show none of the classes.
    """

    models: dict[str, onnx.ModelProto]
    given: dict[str, Given]
    views: list[np.ndarray]
    outsiders: Given


def adapt(request: Request, console: Console, sign: Callable[[bytes], bytes] | None = None) -> Result:
    """Adapt a bundle to a site.

    Args:
        request: What to adapt to what.
        console: Shows the steps.
        sign: Signs the new bundle's record; None leaves it unsigned.

    Returns:
        The new bundle, or why none was written.

    Raises:
        EdgeAllError: The images, the bundle or the output path cannot be used. No bundle is written.
    """
    bundle = request.bundle
    bundle_place.check_writable(request.place)
    kept = _kept(bundle)
    models = graphs.load(bundle)
    _tell_left_out(bundle, models, console)
    with console.step("Reading the site's images") as progress:
        site = read(request.site, bundle.classes, bundle.training_images(), progress)
    with console.step("Extracting features") as progress:
        measured = _measure(bundle, models, site.data, progress)
    _propose_fresh(bundle, measured, console)
    pool = refit.pool(kept, measured.views, site)
    with console.step("Cross-validating"):
        fitted = refit.fit_folds(pool, _spec(bundle))
    rows = refit.held_out(fitted, pool.inputs, pool.folds[pool.shown])
    answers, limits = rows.first(len(pool.labels)), refit.limits(pool, rows)
    with console.step("Fitting the head"):
        final = refit.fit(pool, _spec(bundle))
    at_site = _at_site(pool, bundle, measured, fitted, limits)
    at_home = _at_home(pool, kept, bundle, answers, limits)
    strange = _outsiders(bundle, measured, final, limits)
    lineage = files.lineage(bundle, site, at_site, strange, weight=refit.WEIGHT)
    lineage["at_home"] = at_home
    checks = gate.checks(at_site, at_home, strange)
    if not all(check.passed for check in checks):
        told, with_half = _told_apart(pool, bundle, answers, limits, console)
        advice = gate.advice(pool.labels[pool.home :], bundle.classes, at_site, told, with_half)
        return Result(None, lineage, checks, advice)
    outcome = files.Outcome(bundle, request.name, site, pool, final, limits, answers, lineage)
    with console.step("Verifying the fused graphs"):
        content = files.build(final, limits, models)
        images, numbers = sample(site.data, bundle.input_size)
        inputs = {name: given.inputs[numbers] for name, given in measured.given.items()}
        verified = files.verify(final, content, images, inputs)
    body = files.record(outcome, content, verified)
    others = files.others(outcome, body, content, card.write(body), known=bundle.training_images())
    if "carried" in bundle.record:
        others[bundle.record["carried"]["file"]] = bundle.read(bundle.record["carried"]["file"])
    written = bundles.write(request.place, body, content | others, sign)
    if bundle.drift:
        console.tell("runs of fields are not judged for drift by the new bundle")
    return Result(written, lineage, checks, ())


def _kept(bundle: Bundle) -> TrainingFeatures:
    if place := bundle.record.get("familiarity", {}).get("tap"):
        raise BundleError(
            f"{bundle.path}: its limit of what is familiar is set at {place}, and features are kept of "
            f"{bundle.record['tap']} alone: export it again with --tap auto, or use --fresh"
        )
    kept = training_features.read(bundle)
    if kept is None:
        raise BundleError(
            f"{bundle.path}: holds no features of its training images, which adapting needs; export it again with this "
            "version of edge_all and without --no-adapt"
        )
    return kept


def _spec(bundle: Bundle) -> HeadSpec:
    record = bundle.record
    return HeadSpec(record["selector"], record["classifier"], seed=record["seed"], setting=record.get("setting"))


def _tell_left_out(bundle: Bundle, models: dict[str, onnx.ModelProto], console: Console) -> None:
    for target in bundle.targets:
        for precision in bundle.precisions(target):
            if bundle.model_file(target, precision) not in models:
                console.tell(
                    f"the {precision} graph for {target} has a head of its own (refitted), and is left out: FP32 ships"
                )


def _measure(bundle: Bundle, models: dict[str, onnx.ModelProto], data: Dataset, progress: Progress) -> Measured:
    """Run the site's fields through every graph, and their turned views and outsiders through FP32's."""
    size, (first, *_) = bundle.input_size, models.values()
    parts = split(progress, [1.0] * (len(models) + VIEWS - 1))
    given = {
        name: graphs.run(model, turned(data, size, 0, part))
        for (name, model), part in zip(models.items(), parts[: len(models)], strict=True)
    }
    others = [
        graphs.run(first, turned(data, size, turns, part)).inputs for turns, part in enumerate(parts[len(models) :], 1)
    ]
    views = [next(iter(given.values())).inputs, *others]
    return Measured(models, given, views, graphs.run(first, strangers(size)))


def _propose_fresh(bundle: Bundle, measured: Measured, console: Console) -> None:
    """Say so where nearly all fields are unfamiliar to the bundle."""
    unfamiliar = np.mean([given.unfamiliarity > 1 for given in measured.given.values()])
    if unfamiliar >= FOREIGN:
        how = "--fresh" if "carried" in bundle.record else "a bundle exported from them, or with --carry, and --fresh"
        console.tell(
            f"{100 * unfamiliar:.0f} % of these fields are unfamiliar to the bundle: if they come from another "
            f"laboratory, {how} gives a head on them alone, which may do better"
        )


def _at_site(pool: Pool, bundle: Bundle, measured: Measured, fitted: Sequence[Fitted], limits: Limits) -> BeforeAfter:
    """Figures on the site's fields, of the graph that is right least often afterwards."""
    labels, groups, folds = (values[pool.home :] for values in (pool.labels, pool.groups, pool.folds))
    found: list[BeforeAfter] = []
    for given in measured.given.values():
        after = refit.held_out(fitted, given.inputs, folds)
        sure = given.probabilities.max(1) >= bundle.least_probability
        found.append(
            {
                "before": gate.figures(labels, groups, given.probabilities, sure & (given.unfamiliarity <= 1)),
                "after": gate.figures(labels, groups, after.probabilities, limits.ok(after)),
            }
        )
    return min(found, key=lambda both: (both["after"]["accuracy"], -both["after"]["wrong_ok"]))


def _at_home(pool: Pool, kept: TrainingFeatures, bundle: Bundle, answers: Answers, limits: Limits) -> BeforeAfter:
    """Figures on the kept features of the training images as they are, by heads that have not seen their fold."""
    home = ~pool.at_site
    labels, groups, folds = pool.labels[home], pool.groups[home], pool.folds[home]
    inputs = kept.inputs.astype(np.float64)
    distances = np.zeros(len(labels))
    for k in np.unique(folds):
        there = folds[kept.shown] != k
        gaussian = familiarity.fit_inputs(inputs[there], familiarity.row_weights(kept.shown[there]))
        distances[folds == k] = gaussian.distance(inputs[: len(labels)][folds == k])
    before = Answers(kept.answers.astype(np.float64), distances)
    most = bundle.record.get("familiarity", {}).get("limit", np.inf)
    was = Limits(most, bundle.least_probability)
    after = answers.take(home)
    return {
        "before": gate.figures(labels, groups, before.probabilities, was.ok(before)),
        "after": gate.figures(labels, groups, after.probabilities, limits.ok(after)),
    }


def _outsiders(bundle: Bundle, measured: Measured, final: Fitted, limits: Limits) -> Outsiders:
    given = measured.outsiders
    before = (given.unfamiliarity <= 1) & (given.probabilities.max(1) >= bundle.least_probability)
    after = limits.ok(final.answer(given.inputs))
    return {"images": len(before), "ok_before": int(before.sum()), "ok_after": int(after.sum())}


def _told_apart(
    pool: Pool, bundle: Bundle, answers: Answers, limits: Limits, console: Console
) -> tuple[tuple[np.ndarray, np.ndarray], np.ndarray | None]:
    """Which of the site's fields are right and which are ok, and which would be right with half of them to fit on."""
    site = answers.take(pool.at_site)
    labels = pool.labels[pool.home :]
    right = site.probabilities.argmax(1) == labels
    if right.all():
        return (right, limits.ok(site)), None
    left_out = pool.at_site & (np.cumsum(pool.at_site) % 2 == 0)
    with console.step("Fitting on half of the fields"):
        fitted = refit.fit_folds(pool, _spec(bundle), left_out)
    plain = pool.inputs[: len(pool.labels)][pool.at_site]
    less = refit.held_out(fitted, plain, pool.folds[pool.home :])
    return (right, limits.ok(site)), less.probabilities.argmax(1) == labels
