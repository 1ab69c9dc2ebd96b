"""The files and the record of an adapted bundle."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.util import find_spec
from typing import cast

import numpy as np
import onnx

from edge_all import probe, protocols, training_features
from edge_all.bundle import TRAINING_IMAGES, Bundle
from edge_all.errors import EdgeAllError
from edge_all.record import Adaptation, BeforeAfter, Outsiders, RecordBody, Verified
from edge_all.training_features import TrainingFeatures

from .. import onnx_ops
from ..assemble.probe_inputs import LEAST_MARGIN
from ..assemble.verify import LEAST_AGREEMENT, answers
from ..assemble.versions import versions
from ..head import evaluate, familiarity
from ..head.familiarity import Judge
from . import graphs
from .refit import Answers, Fitted, Limits, Pool
from .request import VIEWS
from .site import Site

_LATER = ("held_out", "drift", "files", "protocol", "digest")
"""Fields that say nothing about the new graphs, or that writing adds."""


@dataclass(frozen=True)
class Outcome:
    """What a bundle is written from.

    Attributes:
        parent: The bundle that is adapted.
        name: Of the new one.
        site: The images of the site.
        pool: What was fitted on.
        fitted: The head that ships.
        limits: When it does not answer.
        answers: Held-out answers to all images of the pool.
        lineage: How it was made.
    """

    parent: Bundle
    name: str
    site: Site
    pool: Pool
    fitted: Fitted
    limits: Limits
    answers: Answers
    lineage: Adaptation


def build(fitted: Fitted, limits: Limits, models: Mapping[str, onnx.ModelProto]) -> dict[str, bytes]:
    """The graphs with the new head, by file."""
    head = onnx_ops.convert_classifier(fitted.classifier)
    extended = familiarity.with_output(head, [Judge(fitted.gaussian, limits.distance)])
    made = {name: graphs.with_head(model, extended) for name, model in models.items()}
    return {name: model.SerializeToString(deterministic=True) for name, model in made.items()}


def verify(
    fitted: Fitted, content: Mapping[str, bytes], images: np.ndarray, inputs: Mapping[str, np.ndarray]
) -> Verified:
    """Compare every new graph with the head that it was made from.

    Args:
        fitted: What the head was made from.
        content: The graphs.
        images: ``uint8 [M, H, W, 3]`` of the site.
        inputs: What the classifier reads of them, ``float32 [M, F]``, by graph.

    Returns:
        Of the graph that differs most.

    Raises:
        EdgeAllError: One gives other labels.
    """
    worst: Verified = {"images": len(images), "agreement": 100.0, "max_difference": 0.0}
    for name, model in content.items():
        fused = answers("cpu", model, images).probabilities
        in_parts = fitted.answer(inputs[name]).probabilities
        agreement = evaluate.agreement(fused, in_parts)
        if agreement < LEAST_AGREEMENT:
            raise EdgeAllError(
                f"{name} gives the label of its parts on {agreement:.0f} % of {len(images)} images, and "
                f"{LEAST_AGREEMENT:.0f} % is wanted: nothing was written"
            )
        worst["agreement"] = min(worst["agreement"], agreement)
        worst["max_difference"] = max(worst["max_difference"], float(np.abs(fused - in_parts).max()))
    return worst


def record(e: Outcome, content: Mapping[str, bytes], verified: Verified) -> RecordBody:
    """The new bundle's record."""
    old = e.parent.record
    body = {name: value for name, value in old.items() if name not in _LATER}
    models = {
        target: {precision: name for precision, name in precisions.items() if name in content}
        for target, precisions in old["models"].items()
    }
    protocol = protocols.headline(old["metrics"])
    changed = {
        "name": e.name,
        "created": e.lineage["created"],
        "models": {target: precisions for target, precisions in models.items() if precisions},
        **limits_record(e, protocol),
        "verified": {f"{t}.{p}": verified for t, precisions in models.items() for p in precisions},
        "held_out": None,
        "lineage": [*old.get("lineage", []), e.lineage],
        "tools": versions(),
    }
    return cast(RecordBody, body | changed)


def limits_record(e: Outcome, protocol: str) -> dict[str, object]:
    """The fields ``familiarity`` and ``referral``, from held-out answers."""
    given = e.pool.labels, e.answers.probabilities
    accepted = evaluate.percent((e.answers.distances <= e.limits.distance).mean(), 2)
    return {
        "familiarity": {
            "protocol": protocol,
            "asked": familiarity.ACCEPTED,
            "limit": e.limits.distance,
            "accepted": {"fp32": accepted},
        },
        "referral": {
            **familiarity.referral(*given, protocol),
            **familiarity.answered(*given, e.limits.threshold),
        },
    }


def lineage(bundle: Bundle, site: Site, at_site: BeforeAfter, strange: Outsiders, *, weight: int) -> Adaptation:
    """How a bundle is made of another one; it is fresh as long as there are no figures of a home."""
    return {
        "parent": bundle.name,
        "parent_digest": bundle.digest,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "site": site.record,
        "views": VIEWS,
        "weight": weight,
        "at_site": at_site,
        "outsiders": strange,
    }


def others(
    e: Outcome, body: RecordBody, content: Mapping[str, bytes], card: str, *, known: frozenset[str]
) -> dict[str, bytes]:
    """All other files: the probe, the lists of what was learnt from, and the card.

    Args:
        e: What is written.
        body: Its record.
        content: Its graphs.
        card: The model card.
        known: Digests of the images that it had learnt from before.
    """
    learnt = known | {digest[:16] for digest in e.site.data.digests}
    return {
        probe.FILE: _probe(e.parent, body, content),
        TRAINING_IMAGES: "".join(f"{digest}\n" for digest in sorted(learnt)).encode(),
        training_features.FILE: training_features.pack(_kept(e)),
        "MODEL_CARD.md": card.encode(),
    }


def _kept(e: Outcome) -> TrainingFeatures:
    """What the next adaptation is fitted on: this one's rows, the site's once each."""
    pool = e.pool
    return TrainingFeatures(pool.inputs, pool.shown, pool.labels, pool.folds, pool.groups, e.answers.probabilities)


def _probe(parent: Bundle, body: RecordBody, content: Mapping[str, bytes]) -> bytes:
    """The same inputs with new answers, without those that rounding could give another label now."""
    inputs = probe.images(parent)
    ordered = np.sort(answers("cpu", next(iter(content.values())), inputs).probabilities, axis=1)
    margin = ordered[:, -1] - ordered[:, -2]
    inputs = inputs[margin >= min(LEAST_MARGIN, margin.max())]
    given = {
        f"{target}.{precision}": answers(_engine(target), content[name], inputs).probabilities
        for target, precisions in body["models"].items()
        for precision, name in precisions.items()
    }
    return probe.pack(inputs, given)


def _engine(target: str) -> str:
    """Where a target's answers are made here: a mini PC need not have OpenVINO."""
    return target if target != "openvino" or find_spec("openvino") else "cpu"
