"""Measure bundles on this machine: latency beside the accuracy of the same file.

Every row has a process of its own, so that load time and memory are its own. The rows take turns, so that whatever else
the machine does falls on all of them alike.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edge_all import targets
from edge_all.bench.accuracy import TRAINING_IMAGES, Labelled, exported_accuracy, labelled, measured_accuracy
from edge_all.bench.child import Child
from edge_all.bundle import Bundle
from edge_all.errors import EdgeAllError, TargetError

__all__ = [
    "FULL",
    "QUICK",
    "TRAINING_IMAGES",
    "Case",
    "Child",
    "Effort",
    "Labelled",
    "available_cases",
    "labelled",
    "run",
]

Progress = Callable[[int, int], None]

_TURN_SECONDS = 0.5
"""How long a row measures before the next has its turn."""


@dataclass(frozen=True)
class Effort:
    """How long to measure.

    Attributes:
        images: Most images that accuracy is measured on; None is all of them.
        queries: Timed queries wanted for each row.
        seconds: ... unless this time is over first.
    """

    images: int | None
    queries: int
    seconds: float


FULL = Effort(images=None, queries=1024, seconds=20.0)
QUICK = Effort(images=200, queries=100, seconds=3.0)


@dataclass(frozen=True)
class Case:
    """A row to measure."""

    bundle: Bundle = field(hash=False)  # its record is a dictionary
    target: str
    precision: str

    def __str__(self) -> str:
        return f"{self.bundle.name} {self.target} {self.precision}"


def run(
    cases: Iterable[Case],
    *,
    data: Path | None = None,
    effort: Effort = FULL,
    device: str | None = None,
    threads: int | None = None,
    progress: Progress = lambda done, total: None,
) -> list[dict[str, Any]]:
    """Measure rows, turn by turn.

    Args:
        cases: Bundles with targets and precisions.
        data: Folder with one folder a class. None takes the export's own accuracy and re-checks the probe here.
        effort: How long to measure.
        device: OpenVINO device.
        threads: Threads for one inference.
        progress: Called with (done, total) turns, roughly.

    Returns:
        A row for each case, as docs/cli.md lists them: ``latency_ms`` is from encoded bytes to label, ``graph_ms`` the
        engine alone. A row whose process failed holds ``bundle``, ``target``, ``precision`` and ``error``.
    """
    cases = list(cases)
    bundles = {case.bundle.path: case.bundle for case in cases}
    images = {path: labelled(data, bundle, effort.images) for path, bundle in bundles.items()} if data else {}
    extra = _references(cases) if data else []
    with ExitStack() as stack:
        children: dict[Case, Child] = {}
        errors: dict[Case, str] = {}
        for case in [*cases, *extra]:
            found = images.get(case.bundle.path)
            job = {
                "bundle": str(case.bundle.path), "target": case.target, "precision": case.precision,
                "device": device, "threads": threads, "files": found.files if found else None,
                "queries": 0 if case in extra else effort.queries, "seconds": 0 if case in extra else effort.seconds,
            }  # fmt: skip
            try:
                children[case] = stack.enter_context(Child(job))
            except EdgeAllError as error:
                errors[case] = str(error)
        _take_turns(children, errors, progress)
        finished = {case: child.finish() for case, child in children.items() if case not in errors}
    answers = {case: row.pop("answers") for case, row in finished.items()}
    return [
        _row(case, finished[case], images.get(case.bundle.path), answers) if case in finished
        else {"bundle": case.bundle.name, "target": case.target, "precision": case.precision, "error": errors[case]}
        for case in cases
    ]  # fmt: skip


def _take_turns(children: dict[Case, Child], errors: dict[Case, str], progress: Progress) -> None:
    """Every row in its turn, the order turned round each time, until each has measured enough."""
    left = list(children)
    shares = dict.fromkeys(children, 0.0)
    while left:
        for case in tuple(left):
            try:
                shares[case] = children[case].turn(_TURN_SECONDS)
            except EdgeAllError as error:
                errors[case] = str(error)
                shares[case] = 1.0
            if shares[case] >= 1:
                left.remove(case)
            progress(int(1000 * sum(shares.values())), 1000 * len(shares))
        left.reverse()


def _references(cases: Sequence[Case]) -> list[Case]:
    """FP32 of each bundle and target whose INT8 alone was asked for: agreement is measured against it."""
    wanted = {Case(case.bundle, case.target, "fp32"): None for case in cases}
    return [case for case in wanted if case not in cases and "fp32" in case.bundle.precisions(case.target)]


def _row(
    case: Case, figures: dict[str, Any], images: Labelled | None, answers: dict[Case, list[int]]
) -> dict[str, Any]:
    bundle = case.bundle
    row: dict[str, Any] = {"bundle": bundle.name, "digest": bundle.digest}
    row |= {key: bundle.record[key] for key in ("backbone", "tap", "selector", "classifier")}
    row |= {"target": case.target, "precision": case.precision}
    if images:
        reference = answers.get(Case(bundle, case.target, "fp32"))
        row |= measured_accuracy(images, bundle.classes, answers[case], reference)
    else:
        row |= exported_accuracy(bundle, case.target, case.precision)
    return row | figures


def available_cases(bundle: Bundle, chosen: Sequence[str], precisions: Sequence[str]) -> tuple[list[Case], list[str]]:
    """Which rows to measure, and a line for each that the bundle holds and this machine cannot run.

    Args:
        bundle: The bundle.
        chosen: Targets that were asked for; empty is every one that the bundle holds and that is there.
        precisions: Precisions that were asked for; empty is every one that the bundle holds.
    """
    cases, missing = [], []
    for target in chosen or bundle.targets:
        for precision in precisions or bundle.precisions(target):
            bundle.model_file(target, precision)
            if not (chosen and precisions):
                try:
                    targets.check_available(target, precision)
                except TargetError as error:
                    missing.append(f"{target} left out: {error}")
                    continue
            cases.append(Case(bundle, target, precision))
    return cases, list(dict.fromkeys(missing))
