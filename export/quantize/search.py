"""INT8 for a target: try schemes in a child process, judge each by the gate, keep the fastest that passes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import onnx

from edge_all.errors import EdgeAllError

from .. import features
from ..dataset.augment import Copy
from ..graph import timing
from ..head import evaluate
from ..head.evaluate import Rows
from . import calibration, heads, sensitivity
from .heads import Exact, Pair, Trained
from .schemes import SCHEMES, Scheme, quantize

_TIE = 0.97
"""A scheme is faster than another where it takes under this share of its time; else the better agreement decides."""


@dataclass(frozen=True)
class Case:
    """What is quantized.

    Attributes:
        graph: The FP32 backbone.
        size: Height and width of its input.
        exact: FP32's answers.
        halves: Who is calibrated on, and who is judged.
        fit: Fits a head.
        copies: What heads are trained on beside the images as they are.
        made: Quantized graphs by scheme and half, for targets that share a scheme; added to.
    """

    graph: onnx.ModelProto
    size: tuple[int, int]
    exact: Exact
    halves: calibration.Halves
    fit: evaluate.Fit
    copies: Sequence[Copy] = ()
    made: dict[tuple[str, bool], onnx.ModelProto] = field(default_factory=dict)


@dataclass(frozen=True)
class Attempt:
    """A quantized backbone with its best head.

    Attributes:
        scheme: How it was made.
        pair: The graphs; the first ships.
        trained: The head that loses least, of those tried.
        graph_ms: Median time of the backbone for one image, FP32's and this one's, alternating; None where the target
            is not on this machine.
    """

    scheme: Scheme
    pair: Pair
    trained: Trained
    graph_ms: tuple[float, float] | None

    @property
    def passed(self) -> bool:
        """The gate is content, and there is something to gain."""
        gains = self.graph_ms is None or self.graph_ms[1] < self.graph_ms[0]
        return bool(self.trained.verdict["passed"]) and gains

    @property
    def times(self) -> dict[str, float | None]:
        """For the bundle, in milliseconds."""
        fp32, int8 = (round(ms, 3) for ms in self.graph_ms) if self.graph_ms else (None, None)
        return {"fp32_graph_ms": fp32, "graph_ms": int8}

    @property
    def name(self) -> str:
        return self.scheme.name if self.trained.kind == "fp32" else f"{self.scheme.name}, head {self.trained.kind}"


@dataclass(frozen=True)
class Found:
    """What a search came to.

    Attributes:
        best: What ships if it passed; else the one that lost least, and None where no scheme gave a graph.
        tried: A record for each scheme and head: what was lost, or why it failed.
    """

    best: Attempt | None
    tried: list[dict[str, Any]]

    @property
    def shipped(self) -> Attempt | None:
        return self.best if self.best and self.best.passed else None


def search(
    target: str,
    case: Case,
    *,
    schemes: Sequence[Scheme] | None = None,
    thorough: bool = False,
    step: Callable[[str], AbstractContextManager[features.Progress]],
    tell: Callable[[str], None],
) -> Found:
    """Find an INT8 backbone for a target.

    Args:
        target: A key of `SCHEMES`.
        case: What to quantize.
        schemes: What to try; None is the target's own list.
        thorough: Try all of them, with refitted heads as well, and keep the fastest; else the first that passes.
        step: Opens a step under a title.
        tell: Says what was refused.

    Returns:
        The best, and all that was tried. Where no scheme passes, the layers that cost most go back to float, more and
        more of them, up to a quarter.
    """
    schemes = SCHEMES[target] if schemes is None else schemes
    attempts: list[Attempt] = []
    tried: list[dict[str, Any]] = []

    def attempt(scheme: Scheme) -> bool:
        try:
            with step(f"Quantizing for {target} ({scheme.name})") as progress:
                made, records = _attempt(target, scheme, case, thorough, progress)
        except EdgeAllError:
            raise
        except Exception as error:  # quantizers fail in many ways; another scheme may still do
            reason = " ".join(str(error).split())[:160] or type(error).__name__
            tell(f"INT8 for {target} by {scheme.name} could not be made ({reason})")
            tried.append({"scheme": scheme.name, "failed": reason})
            return False
        attempts.append(made)
        tried.extend(records)
        if not made.passed:
            tell(_refusal(target, made))
        return made.passed

    for scheme in schemes:
        if attempt(scheme) and not thorough:
            break
    if not any(a.passed for a in attempts):
        basis = next((s for s in schemes if s.quantizer == "layerwise"), None)
        if basis and attempts:
            _with_float_layers(basis, case, attempt, step)
    best = _best(attempts)
    if not (best and best.passed):
        tell(f"no INT8 for {target} passed the gate: FP32 ships in its place")
    return Found(best, tried)


def _with_float_layers(
    basis: Scheme,
    case: Case,
    attempt: Callable[[Scheme], bool],
    step: Callable[[str], AbstractContextManager[features.Progress]],
) -> None:
    """Try a scheme with its worst layer in float, its worst two, four, and so on, until one passes."""
    numbers = calibration.spread(case.halves.shipped, sensitivity.IMAGES)
    images = np.stack(list(features.decoded([case.exact.data.paths[i] for i in numbers], case.size)))
    with step("Looking for the layers that cost most") as progress:
        worst = sensitivity.worst_first(case.graph, images, dict(basis.options), progress)
    count = 1
    while count <= max(1, len(worst) // 4):
        if attempt(basis.with_float(worst[:count])):
            return
        count *= 2


def _attempt(
    target: str, scheme: Scheme, case: Case, refit: bool, progress: features.Progress
) -> tuple[Attempt, list[dict[str, Any]]]:
    """Quantize, time, extract, judge.

    Raises:
        RuntimeError: The engine refused the graph, or died of it.
    """
    exact, halves = case.exact, case.halves
    graphs = []
    for numbers, shipped in ((halves.shipped, True), (halves.other, False)):
        key = scheme.name, shipped
        if key not in case.made:
            paths = [exact.data.paths[i] for i in calibration.spread(numbers, scheme.images)]
            case.made[key] = quantize(case.graph, scheme, np.stack(list(features.decoded(paths, case.size))))
        graphs.append(case.made[key])
    fp32_ms, int8_ms, _ = timing.times(features.engine_of(target), [case.graph, *graphs])
    graph_ms = (fp32_ms, int8_ms) if features.engine_of(target) == target else None

    judged = halves.judged_by_shipped, ~halves.judged_by_shipped
    data = exact.data
    run = partial(features.extract, size=case.size, target=target, progress=progress)
    quantized = np.empty_like(exact.rows.plain)
    for graph, own in zip(graphs, judged, strict=True):
        part = data.subset(own)
        quantized[own] = run(graph, part.paths, part.digests)
    pair = Pair((graphs[0], graphs[1]), judged, quantized)
    trained = [heads.plain(pair, exact), heads.realigned(pair, exact)]
    if refit:
        first, second = (_whole(graph, case, run) for graph in graphs)
        trained.append(heads.refitted(pair, (first, second), exact, case.fit))
    best = max(trained, key=lambda t: (t.verdict["passed"], t.scores["block"]["agreement_fp32"]))
    made = Attempt(scheme, pair, best, graph_ms)
    records = [
        {"scheme": scheme.name, "head": t.kind}
        | made.times
        | {"block": {key: t.scores["block"][key] for key in ("accuracy", "balanced_accuracy", "agreement_fp32")}}
        | dict(t.verdict)
        for t in trained
    ]
    return made, records


def _whole(graph: onnx.ModelProto, case: Case, run: Callable[..., np.ndarray]) -> Rows:
    """All images by one graph, and all their copies."""
    data = case.exact.data
    changed = [run(graph, data.paths, data.digests, change=copy) for copy in case.copies]
    return Rows(run(graph, data.paths, data.digests), tuple(changed), case.exact.rows.copied)


def _best(attempts: Sequence[Attempt]) -> Attempt | None:
    """The fastest of those that passed; at a tie, and where none passed, the one with the best agreement."""

    def agreement(attempt: Attempt) -> float:
        return float(attempt.trained.scores["block"]["agreement_fp32"])

    passed = [attempt for attempt in attempts if attempt.passed]
    if not passed:
        return max(attempts, key=agreement, default=None)
    taken = [attempt.graph_ms[1] if attempt.graph_ms else 0.0 for attempt in passed]
    return max((a for a, ms in zip(passed, taken, strict=True) if _TIE * ms <= min(taken)), key=agreement)


def _refusal(target: str, attempt: Attempt) -> str:
    if attempt.trained.verdict["passed"] and attempt.graph_ms:
        before, after = attempt.graph_ms
        return f"INT8 for {target} by {attempt.name} takes {after:.2f} ms against FP32's {before:.2f} ms: refused"
    lost, allowed = attempt.trained.verdict["lost"], attempt.trained.verdict["allowed"]
    parts = ", ".join(f"{name} {lost[name]} (allowed {allowed[name]})" for name in lost)
    return f"INT8 for {target} by {attempt.name} was refused by the gate: points lost: {parts}"
