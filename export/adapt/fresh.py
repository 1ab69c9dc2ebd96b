"""A head on a site's images alone, at the deeper tap that a bundle carries: for another laboratory, or other classes.

Nothing of the old head is kept, so there is no home to lose, and all features are scaled and none is selected: what the
classifier reads then depends on no label. Cross-validation is by runs of neighbouring files, with groups whole, as an
export's ``block``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import cast

import numpy as np
import onnx

from edge_all import bundle as bundles
from edge_all import bundle_place
from edge_all.bundle import Bundle
from edge_all.errors import BundleError
from edge_all.progress import Console, split
from edge_all.record import BeforeAfter, CarriedRecord, Figures, Outsiders, RecordBody, Score

from .. import features
from ..assemble import lineage
from ..assemble.verify import answers
from ..assemble.versions import versions
from ..dataset import folds
from ..head import evaluate
from ..head.fit import HeadSpec
from . import files, gate, graphs, refit
from .files import Outcome
from .request import VIEWS, Request, Result, sample, turned
from .site import Site, read

SPEC = HeadSpec("none", "svm")
"""What the head is made of; nothing is selected."""

MODEL = "model.int8.onnx"

_KEPT = ("backbone", "input", "weights", "carried", "machine")
"""Fields of the old record that are true of the new bundle."""


def adapt(request: Request, console: Console, sign: Callable[[bytes], bytes] | None = None) -> Result:
    """Fit a head on a site's images alone.

    Args:
        request: The bundle that carries the backbone, the site, and the new bundle's place.
        console: Shows the steps.
        sign: Signs the new bundle's record; None leaves it unsigned.

    Raises:
        EdgeAllError: The images, the bundle or the output path cannot be used. No bundle is written.
    """
    bundle = request.bundle
    bundle_place.check_writable(request.place)
    carried, deep = _carried(bundle)
    with console.step("Reading the site's images") as progress:
        site = _in_runs(read(request.site, None, frozenset(), progress))
    with console.step("Extracting features") as progress:
        parts = split(progress, [1.0] * VIEWS)
        views = [
            graphs.features(deep, turned(site.data, bundle.input_size, turns, part)) for turns, part in enumerate(parts)
        ]
    mean, scale = np.concatenate(views).mean(0), np.maximum(np.concatenate(views).std(0), 1e-6)
    pool = refit.alone([(view - mean) / scale for view in views], site)
    with console.step("Cross-validating"):
        fitted = refit.fit_folds(pool, SPEC, weight=1)
    rows = refit.held_out(fitted, pool.inputs, pool.folds[pool.shown])
    plain, limits = rows.first(len(pool.labels)), refit.limits(pool, rows)
    with console.step("Fitting the head"):
        final = refit.fit(pool, SPEC, weight=1)
    pictures = (graphs.features(deep, graphs.strangers(bundle.input_size)) - mean) / scale
    strange: Outsiders = {
        "images": len(pictures),
        "ok_before": 0,
        "ok_after": int(limits.ok(final.answer(pictures)).sum()),
    }
    after = gate.figures(pool.labels, pool.groups, plain.probabilities, limits.ok(plain))
    at_site: BeforeAfter = {"before": _before(bundle, site), "after": after}
    described = files.lineage(bundle, site, at_site, strange, weight=1)
    checks = gate.fresh_checks(at_site, pool.labels, strange)
    if not all(check.passed for check in checks):
        right = plain.probabilities.argmax(1) == pool.labels
        told = gate.advice(pool.labels, site.data.classes, at_site, (right, limits.ok(plain)), None)
        return Result(None, described, checks, told)
    outcome = Outcome(bundle, request.name, site, pool, final, limits, plain, described)
    base = {MODEL: graphs.scaled(deep, mean, scale)}
    with console.step("Verifying the fused graph"):
        content = files.build(final, limits, base)
        images, numbers = sample(site.data, bundle.input_size)
        verified = files.verify(final, content, images, {MODEL: pool.inputs[numbers]})
    body = _record(outcome, carried, content)
    body["verified"] = {f"{target}.int8": verified for target in body["models"]}
    others = files.others(outcome, body, content, lineage.fresh_card(body), known=frozenset())
    contents = content | others | {carried["file"]: bundle.read(carried["file"])}
    return Result(bundles.write(request.place, body, contents, sign), described, checks, ())


def _carried(bundle: Bundle) -> tuple[CarriedRecord, onnx.ModelProto]:
    carried = bundle.record.get("carried")
    if carried is None:
        raise BundleError(
            f"{bundle.path}: carries no deeper backbone, which --fresh needs; export it again with --carry TAP, such "
            "as blocks.5.3:std of efficientnet_lite0, or export a bundle from these images"
        )
    return carried, onnx.load_from_string(bundle.read(carried["file"]))


def _in_runs(site: Site) -> Site:
    """The same with runs of neighbouring files as folds; a group is where its first image is."""
    _, first, group = np.unique(site.groups, return_index=True, return_inverse=True)
    return replace(site, folds=folds(site.data, "block")[first][group])


def _before(bundle: Bundle, site: Site) -> Figures:
    """Figures of the old bundle's preferred graph; of a class that it does not have, nothing is right."""
    data = site.data
    name = next(iter(next(iter(bundle.record["models"].values())).values()))
    given = answers("cpu", bundle.read(name), features.decoded(data.paths, bundle.input_size))
    number = {name: k for k, name in enumerate(bundle.classes)}
    labels = np.array([number.get(data.classes[label], -1) for label in data.labels])
    unfamiliar = np.zeros(len(data)) if given.unfamiliarity is None else given.unfamiliarity
    ok = (unfamiliar <= 1) & (given.probabilities.max(1) >= bundle.least_probability)
    return gate.figures(labels, site.groups, given.probabilities, ok)


def _record(e: Outcome, carried: CarriedRecord, content: dict[str, bytes]) -> RecordBody:
    old, data = e.parent.record, e.site.data
    score: Score = {**evaluate.score(data.labels, e.answers.probabilities, data.classes), "agreement_fp32": 100.0}
    targets = [target for target in old["models"] if target != "gpu"] or ["cpu"]
    body = {name: value for name, value in old.items() if name in _KEPT} | {
        "name": e.name,
        "created": e.lineage["created"],
        "classes": list(data.classes),
        "tap": carried["tap"],
        "channels": carried["features"],
        "backbone_macs": carried["macs"],
        "taps": None,
        "augment": 0,
        "balance": False,
        "setting": None,
        "selector": SPEC.selector,
        "classifier": SPEC.classifier,
        "features": carried["features"],
        "seed": SPEC.seed,
        "models": {target: dict.fromkeys(["int8"], MODEL) for target in targets},
        "metrics": {"block": {"fp32": score, "int8": {**score, "targets": dict.fromkeys(targets, score)}}},
        **files.limits_record(e, "block"),
        "gate": {"passed": True, "targets": {}},
        "dataset": {
            "name": e.lineage["site"]["name"],
            "source": "not stated",
            "images": len(data),
            "counts": data.counts,
            "fingerprint": data.fingerprint,
            "groups": e.lineage["site"]["groups"],
            "near_duplicates_across_folds": {},
        },
        "held_out": None,
        "lineage": [*old.get("lineage", []), e.lineage],
        "schemes": dict.fromkeys(targets, carried["scheme"]),
        "tools": versions(),
    }
    return cast(RecordBody, body)
