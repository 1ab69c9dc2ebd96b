"""Site adaptation, step by step: the site's fields, their features, the head, the gate, the new bundle."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx

from edge_all import bundle as bundles
from edge_all import bundle_place, training_features
from edge_all.bundle import Bundle
from edge_all.errors import BundleError
from edge_all.progress import Console, Progress, split
from edge_all.record import Adaptation, BeforeAfter, Outsiders
from edge_all.training_features import TrainingFeatures

from .. import features
from ..dataset import Dataset, spread
from ..dataset.changes import Change
from ..head import familiarity
from ..head.fit import HeadSpec
from . import files, gate, graphs, outsiders, refit
from .gate import Check
from .graphs import Given
from .refit import Answers, Fitted, Limits, Pool
from .site import Site, read

VIEWS = 4
"""Quarter turns of every field of the site, itself included, that the head is fitted on."""

COMPARED = 32
"""Fields that the new graphs are compared with their heads on."""


@dataclass(frozen=True)
class Request:
    """What to adapt to what.

    Attributes:
        bundle: The bundle.
        site: The folder of the site's images.
        out: The new bundle's folder or ``.zip``; None is ``models/NAME-SITE``.
    """

    bundle: Bundle
    site: Path
    out: Path | None = None

    @property
    def name(self) -> str:
        """Of the new bundle."""
        return f"{self.bundle.name}-{self.site.resolve().name}"[:200].strip()


@dataclass(frozen=True)
class Result:
    """What came of it.

    Attributes:
        bundle: As written; None where the gate refused.
        lineage: What was measured.
        checks: What the gate looked at.
        advice: What would help, where it refused.
    """

    bundle: Bundle | None
    lineage: Adaptation
    checks: Sequence[Check]
    advice: Sequence[str]


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
    out = request.out or Path("models", request.name)
    bundle_place.check_writable(out)
    kept = _kept(bundle)
    models = graphs.load(bundle)
    _tell_left_out(bundle, models, console)
    with console.step("Reading the site's images") as progress:
        site = read(request.site, bundle.classes, bundle.training_images(), progress)
    with console.step("Extracting features") as progress:
        measured = _measure(bundle, models, site.data, progress)
    pool = refit.pool(kept, measured.views, site)
    with console.step("Cross-validating"):
        fitted = refit.fit_folds(pool, _spec(bundle))
    answers = refit.held_out(fitted, pool.inputs[: len(pool.labels)], pool.folds)
    limits = refit.limits(pool, answers)
    with console.step("Fitting the head"):
        final = refit.fit(pool, _spec(bundle))
    at_site = _at_site(pool, bundle, measured, fitted, limits)
    at_home = _at_home(pool, kept, bundle, answers, limits)
    strange = _outsiders(bundle, measured, final, limits)
    lineage = _lineage(bundle, site, at_site, at_home, strange)
    checks = gate.checks(at_site, at_home, strange)
    if not all(check.passed for check in checks):
        right, ok, with_half = _told_apart(pool, bundle, answers, limits, console)
        return Result(None, lineage, checks, gate.advice(pool, bundle.classes, at_site, right, ok, with_half))
    outcome = files.Outcome(bundle, request.name, site, pool, final, limits, answers, lineage)
    with console.step("Verifying the fused graphs"):
        content = files.build(final, limits, models)
        verified = files.verify(final, content, *_sample(bundle, site.data, measured))
    body = files.record(outcome, content, verified)
    written = bundles.write(out, body, content | files.others(outcome, body, content), sign)
    if bundle.drift:
        console.tell("runs of fields are not judged for drift by the new bundle")
    return Result(written, lineage, checks, ())


def _kept(bundle: Bundle) -> TrainingFeatures:
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
        name: graphs.run(model, _counted(data, size, None, part))
        for (name, model), part in zip(models.items(), parts[: len(models)], strict=True)
    }
    turned = [
        graphs.run(first, _counted(data, size, Change(f"{turn} quarter turns", turns=turn), part)).inputs
        for turn, part in enumerate(parts[len(models) :], 1)
    ]
    views = [next(iter(given.values())).inputs, *turned]
    return Measured(models, given, views, graphs.run(first, outsiders.pictures(size)))


def _counted(data: Dataset, size: tuple[int, int], change: Change | None, progress: Progress) -> Iterator[np.ndarray]:
    for done, image in enumerate(features.changed(data, size, change), 1):
        yield image
        progress(done, len(data))


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
        gaussian = familiarity.fit_inputs(inputs[folds[kept.shown] != k])
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


def _lineage(bundle: Bundle, site: Site, at_site: BeforeAfter, at_home: BeforeAfter, strange: Outsiders) -> Adaptation:
    return {
        "parent": bundle.name,
        "parent_digest": bundle.digest,
        "created": files.now(),
        "fresh": False,
        "site": site.record,
        "views": VIEWS,
        "weight": refit.WEIGHT,
        "at_site": at_site,
        "at_home": at_home,
        "outsiders": strange,
    }


def _told_apart(
    pool: Pool, bundle: Bundle, answers: Answers, limits: Limits, console: Console
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Which of the site's fields are right and which are ok, and which would be right with half of them to fit on."""
    site = answers.take(pool.at_site)
    labels = pool.labels[pool.home :]
    right = site.probabilities.argmax(1) == labels
    if right.all():
        return right, limits.ok(site), None
    left_out = pool.at_site & (np.cumsum(pool.at_site) % 2 == 0)
    with console.step("Fitting on half of the fields"):
        fitted = refit.fit_folds(pool, _spec(bundle), left_out)
    plain = pool.inputs[: len(pool.labels)][pool.at_site]
    less = refit.held_out(fitted, plain, pool.folds[pool.home :])
    return right, limits.ok(site), less.probabilities.argmax(1) == labels


def _sample(bundle: Bundle, data: Dataset, measured: Measured) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Some of the site's fields, and what each graph's classifier reads of them."""
    numbers = spread(np.arange(len(data)), COMPARED)
    images = np.stack(list(features.decoded(data.take(numbers).paths, bundle.input_size)))
    return images, {name: given.inputs[numbers] for name, given in measured.given.items()}
