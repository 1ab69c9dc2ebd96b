"""INT8 for a target: try schemes, evaluate each with the gate, keep the fastest that passes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx

from edge_all.errors import EdgeAllError, in_one_line
from edge_all.progress import Console, Progress, ignore, split
from edge_all.record import FailedScheme, Tried, TriedHead

from .. import features, runners
from ..dataset import augment, spread
from ..features import Rows, Wanted
from ..head.reference import Reference
from . import heads, sensitivity, stem
from .attempt import Attempt, SearchResult
from .calibration import Halves
from .heads import EvaluatedHead, QuantizedPair
from .schemes import Scheme, of_target, quantize

_TIE = 0.97
"""Schemes whose times differ by less than this factor are equally fast; the better agreement decides between them."""


@dataclass(frozen=True)
class Quantizer:
    """Makes two graphs by each scheme, one calibrated on each half of the images; targets share them by scheme.

    Attributes:
        reference: The FP32 pipeline.
        halves: The calibration images of both graphs.
        copies: The changed copies of every image that refitted heads are trained on.
        graphs: What was quantized already, by scheme and half; filled by `pair`.
    """

    reference: Reference
    halves: Halves
    copies: Sequence[augment.Copy] = ()
    graphs: dict[tuple[str, bool], onnx.ModelProto] = field(default_factory=dict)

    def pair(self, scheme: Scheme, progress: Progress = ignore) -> tuple[onnx.ModelProto, onnx.ModelProto]:
        """Two graphs by one scheme: the one that ships, and one that is evaluated on the other's calibration images."""
        first, second = split(progress, [1.0, 1.0])
        return self._half(scheme, True, first), self._half(scheme, False, second)

    def images(self, numbers: np.ndarray, most: int) -> np.ndarray:
        """At most `most` of the images with these numbers, ``uint8 [M, H, W, 3]``."""
        paths = [self.reference.data.paths[i] for i in spread(numbers, most)]
        return np.stack(list(features.decoded(paths, self.reference.size)))

    def _half(self, scheme: Scheme, shipped: bool, progress: Progress) -> onnx.ModelProto:
        key = scheme.name, shipped
        if key not in self.graphs:
            images = self.images(self.halves.shipped if shipped else self.halves.other, scheme.images)
            self.graphs[key] = quantize(self.reference.graph, scheme, images, progress)
        return self.graphs[key]


def search(
    target: str,
    quantizer: Quantizer,
    console: Console,
    *,
    schemes: Sequence[Scheme] | None = None,
    thorough: bool = False,
) -> SearchResult:
    """Find an INT8 backbone for a target.

    Where every scheme loses too much, the convolutions that lose most are put back to float: one, then two, four, and
    so on, up to a quarter of them. Where INT8 is no faster than FP32 that would not help.

    Args:
        target: Of the bundle.
        quantizer: Makes the quantized graphs.
        console: Shows the steps, and says which scheme was refused.
        schemes: What to try; None is the target's own list.
        thorough: Try all schemes, also with refitted heads, and keep the fastest; else the first that passes.
    """
    schemes = of_target(target) if schemes is None else schemes
    attempts: list[Attempt] = []
    tried: list[Tried] = []

    def attempt(scheme: Scheme) -> bool:
        result = _attempt(target, scheme, quantizer, thorough, console)
        if isinstance(result, str):
            tried.append(FailedScheme(scheme=scheme.name, failed=result))
            return False
        made, records = result
        attempts.append(made)
        tried.extend(records)
        return made.passed

    for scheme in schemes:
        if attempt(scheme) and not thorough:
            break
    layerwise = next((scheme for scheme in schemes if scheme.quantizer == "layerwise"), None)
    if layerwise and attempts and not any(made.accurate for made in attempts):
        _with_float_layers(layerwise, quantizer, attempt, console)
    best = _best(attempts)
    if not (best and best.passed):
        console.tell(f"no INT8 for {target} passed the gate: FP32 ships in its place")
    return SearchResult(best, tried)


def _attempt(
    target: str, scheme: Scheme, quantizer: Quantizer, refit: bool, console: Console
) -> tuple[Attempt, list[TriedHead]] | str:
    """Quantize and evaluate. Where no graph could be made, return the reason."""
    try:
        with console.step(f"Quantizing for {target} ({scheme.name})") as progress:
            made, records = _quantize_and_evaluate(target, scheme, quantizer, refit, progress)
    except EdgeAllError:
        raise
    except Exception as error:  # quantizers fail in many ways; another scheme may still pass
        reason = in_one_line(error)[:160]
        console.tell(f"INT8 for {target} by {scheme.name} could not be made ({reason})")
        return reason
    if not made.passed:
        console.tell(_refusal(target, made))
    return made, records


def _quantize_and_evaluate(
    target: str, scheme: Scheme, quantizer: Quantizer, refit: bool, progress: Progress
) -> tuple[Attempt, list[TriedHead]]:
    """Quantize, time, extract features, evaluate heads.

    Raises:
        RuntimeError: The engine refused the graph, or crashed on it.
    """
    reference, evaluated = quantizer.reference, quantizer.halves.evaluated_by_shipped
    quantizing, extracting = split(progress, _work(quantizer, scheme, refit))
    graphs = quantizer.pair(scheme, quantizing)
    engine = runners.engine_of(target)
    graphs, fp32_ms, int8_ms = stem.fastest(engine, reference.graph, graphs)
    graph_ms = (fp32_ms, int8_ms) if engine == target else None

    plain, copies = split(extracting, [1.0, refit * 2 * (1.0 + len(quantizer.copies))])
    pair = QuantizedPair(
        graphs, (evaluated, ~evaluated), _rows(target, graphs, (evaluated, ~evaluated), reference, plain)
    )
    tried = [heads.plain(pair, reference), heads.realigned(pair, reference)]
    if refit:
        first, second = _all_rows(target, graphs, quantizer, copies)
        tried.append(heads.refitted(pair, (first, second), reference))
    best = _simplest(tried)
    attempt = Attempt(scheme, pair, best, graph_ms)
    return attempt, [_record(attempt, head) for head in tried]


_QUANTIZE_SECONDS, _EXTRACT_SECONDS = 0.1, 0.004
"""Rough seconds to quantize for one calibration image, and to extract one image's features: weights of the progress."""


def _work(quantizer: Quantizer, scheme: Scheme, refit: bool) -> list[float]:
    """Seconds, roughly, that quantizing and extracting features take."""
    kept = sum((scheme.name, shipped) in quantizer.graphs for shipped in (True, False))
    images = len(quantizer.reference.data) * (1 + 2 * refit * (1 + len(quantizer.copies)))
    return [1 + (2 - kept) * scheme.images * _QUANTIZE_SECONDS, images * _EXTRACT_SECONDS]


def _rows(
    target: str,
    graphs: Sequence[onnx.ModelProto],
    evaluated: Sequence[np.ndarray],
    reference: Reference,
    progress: Progress,
) -> np.ndarray:
    """Features ``float32 [N, C]`` of every image, by the graph that answers for it."""
    rows = np.empty_like(reference.rows.plain)
    wanted = [Wanted(graph, target, images) for graph, images in zip(graphs, evaluated, strict=True)]
    made = features.extract_each(wanted, reference.data, reference.size, [None], progress)
    for images, (of_images,) in zip(evaluated, made, strict=True):
        rows[images] = of_images
    return rows


def _all_rows(target: str, graphs: Sequence[onnx.ModelProto], quantizer: Quantizer, progress: Progress) -> list[Rows]:
    """Features of all images by each graph, and of all their copies."""
    reference, changes = quantizer.reference, [None, *quantizer.copies]
    wanted = [Wanted(graph, target) for graph in graphs]
    made = features.extract_each(wanted, reference.data, reference.size, changes, progress)
    return [Rows(plain, tuple(copies), reference.rows.copied) for plain, *copies in made]


def _record(attempt: Attempt, head: EvaluatedHead) -> TriedHead:
    headline = head.scores[head.verdict["protocol"]]
    return {
        "scheme": attempt.scheme.name,
        "head": head.kind,
        **attempt.times,
        "block": {
            "accuracy": headline["accuracy"],
            "balanced_accuracy": headline["balanced_accuracy"],
            "agreement_fp32": headline["agreement_fp32"],
        },
        **head.verdict,
    }


def _with_float_layers(
    scheme: Scheme, quantizer: Quantizer, attempt: Callable[[Scheme], bool], console: Console
) -> None:
    """Try a scheme with the convolution that loses most in float, then two, four, and so on, until one passes."""
    images = quantizer.images(quantizer.halves.shipped, sensitivity.IMAGES)
    with console.step("Finding the layers that lose most") as progress:
        worst = sensitivity.worst_first(quantizer.reference.graph, images, dict(scheme.options), progress)
    count = 1
    while count <= max(1, len(worst) // 4):
        if attempt(scheme.with_float(worst[:count])):
            return
        count *= 2


def _best(attempts: Sequence[Attempt]) -> Attempt | None:
    """The fastest that passed. Of equally fast ones, and where none passed, the one that agrees most with FP32."""
    passed = [attempt for attempt in attempts if attempt.passed]
    if not passed:
        return max(attempts, key=lambda attempt: _agreement(attempt.head), default=None)
    times = [attempt.graph_ms[1] if attempt.graph_ms else 0.0 for attempt in passed]
    fastest = [attempt for attempt, ms in zip(passed, times, strict=True) if _TIE * ms <= min(times)]
    return max(fastest, key=lambda attempt: _agreement(attempt.head))


_AS_GOOD = 0.1
"""Percentage points of agreement that a head may be under the best one and be taken before it, if it is simpler."""


def _simplest(tried: Sequence[EvaluatedHead]) -> EvaluatedHead:
    """The first of those that pass, or of all, whose agreement is nearly the highest."""
    passed = [head for head in tried if head.verdict["passed"]] or tried
    most = max(map(_agreement, passed))
    return next(head for head in passed if _agreement(head) >= most - _AS_GOOD)


def _agreement(head: EvaluatedHead) -> float:
    return head.scores[head.verdict["protocol"]]["agreement_fp32"]


def _refusal(target: str, attempt: Attempt) -> str:
    verdict = attempt.head.verdict
    if verdict["passed"] and attempt.graph_ms:
        before, after = attempt.graph_ms
        return f"INT8 for {target} by {attempt.name} takes {after:.2f} ms against FP32's {before:.2f} ms: refused"
    lost, allowed = verdict["lost"], verdict["allowed"]
    parts = ", ".join(f"{name} {lost[name]} (allowed {allowed[name]})" for name in lost)
    return f"INT8 for {target} by {attempt.name} was refused by the gate: percentage points lost: {parts}"
