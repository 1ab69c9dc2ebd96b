"""The fused graphs of a bundle: FP32 for every target, and what the gate let pass in INT8 and FP16."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx

from ..features import Rows
from ..head import drift, familiarity
from ..head.drift import Drift
from ..head.familiarity import Early, Gaussian, Judge
from ..head.fit import Head
from ..head.reference import Reference
from ..quantize import float16
from ..quantize.attempt import Attempt
from ..quantize.float16 import Half
from .cut import Cut, cut
from .fuse import fuse


@dataclass(frozen=True)
class Variant:
    """One fused graph.

    Attributes:
        target: Whose it is; None is every target's.
        precision: ``fp32``, ``fp16`` or ``int8``.
        backbone: The uncut backbone whose features the head was fitted for; FP32's for ``fp16`` too.
        head: The head.
        cut: Backbone and head without the channels that no kept feature needs.
        model: The fused graph, an ONNX file's bytes.
        file: Its name in the bundle.
    """

    target: str | None
    precision: str
    backbone: onnx.ModelProto
    head: Head
    cut: Cut
    model: bytes
    file: str


@dataclass(frozen=True)
class Checks:
    """What a graph says beside its answer.

    Attributes:
        limits: Beyond these distances a picture is unfamiliar; see `familiar.limits`.
        drift: How runs of fields are judged; None where they are not.
    """

    limits: np.ndarray
    drift: Drift | None


def build(
    reference: Reference, head: Head, shipped: Mapping[str, Attempt], half: Half | None, checks: Checks, name: str
) -> list[Variant]:
    """Cut, add the outputs of the checks, and fuse.

    A refitted head reads other features than those that runs were judged by, so its graph has no deviation.

    Args:
        reference: The FP32 pipeline.
        head: The head that ships, fitted on all images.
        shipped: The INT8 backbone of each target that has one.
        half: What FP16 lost; None where it was not tried.
        checks: What a graph says beside its answer.
        name: Name of the graphs.
    """
    guard = reference.guard
    early = Early.fit(guard, reference.rows) if guard else None
    of_head = familiarity.fit(head, reference.rows)
    of_early = familiarity.fit(early, reference.rows) if early else None

    def fused(parts: Cut, backbone: onnx.ModelProto, gaussian: Gaussian = of_head, refitted: bool = False) -> bytes:
        judges = [Judge(gaussian, checks.limits[0])]
        if of_early:
            judges.append(Judge(of_early, checks.limits[1], early, parts.early))
        extended = familiarity.with_output(parts.head, judges)
        if checks.drift and not refitted:
            extended = drift.with_output(extended, checks.drift)
        model: bytes = fuse(backbone, extended, name=name).SerializeToString(deterministic=True)
        return model

    parts = cut(reference.graph, head, guard)
    model = fused(parts, parts.backbone)
    variants = [Variant(None, "fp32", reference.graph, head, parts, model, "model.fp32.onnx")]
    if half and half.verdict["passed"]:
        model = fused(parts, float16.convert(parts.backbone))
        variants.append(Variant("gpu", "fp16", reference.graph, head, parts, model, "model.fp16.onnx"))
    for target, attempt in shipped.items():
        backbone, own_head = attempt.pair.graphs[0], attempt.head.ship(head)
        refitted = attempt.head.kind == "refitted"
        own = familiarity.fit(own_head, Rows(attempt.pair.rows)) if refitted else of_head
        parts = cut(backbone, own_head, guard)
        model = fused(parts, parts.backbone, own, refitted)
        same = (v.file for v in variants if v.precision == "int8" and v.model == model)
        file = next(same, f"model.{target}.int8.onnx")
        variants.append(Variant(target, "int8", backbone, own_head, parts, model, file))
    return variants


def by_target(variants: Sequence[Variant], targets: Sequence[str]) -> list[tuple[str, Variant]]:
    """What each target gets, the precision to prefer first. For ``gpu`` INT8 comes last, since it needs TensorRT."""
    pairs = []
    for target in targets:
        for precision in ("fp16", "fp32", "int8") if target == "gpu" else ("int8", "fp32"):
            usable = (v for v in variants if v.precision == precision and v.target in (None, target))
            pairs += [(target, variant) for variant in usable]
    return pairs


def models(variants: Sequence[Variant], targets: Sequence[str]) -> dict[str, dict[str, str]]:
    """File of each graph, by target and precision."""
    files: dict[str, dict[str, str]] = {target: {} for target in targets}
    for target, variant in by_target(variants, targets):
        files[target][variant.precision] = variant.file
    return files
