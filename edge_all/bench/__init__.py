"""Measure bundles on this machine: latency, memory and accuracy of the same files.

Every row has a process of its own, so that load time and memory are its own. The rows take turns, so that whatever else
the machine does slows all of them alike.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

from edge_all import targets
from edge_all.bench import verdict
from edge_all.bench.accuracy import Labelled, exported_accuracy, labelled, measured_accuracy, unreadable_notices
from edge_all.bench.child import Child
from edge_all.bench.labels import labels as unique_names
from edge_all.bench.rows import Accuracy, FailedRow, Figures, Job, Row, Subject
from edge_all.bundle import Bundle
from edge_all.errors import EdgeAllError, TargetError
from edge_all.progress import Progress, ignore
from edge_all.targets import EngineOptions

__all__ = [
    "FULL",
    "QUICK",
    "Case",
    "Child",
    "Effort",
    "FailedRow",
    "Labelled",
    "Row",
    "available_cases",
    "labelled",
    "run",
]

_TURN_SECONDS = 0.5
"""How long a row measures before it is the next one's turn."""

_UNITS = 1000
"""Units of progress for each row."""


@dataclass(frozen=True)
class Effort:
    """How long to measure.

    Attributes:
        images: Most images that accuracy is measured on; None is all of them.
        queries: Timed queries wanted for each row.
        seconds: Time after which a row may have fewer.
    """

    images: int | None
    queries: int
    seconds: float


FULL = Effort(images=None, queries=1024, seconds=20.0)
QUICK = Effort(images=200, queries=100, seconds=3.0)
_NONE = Effort(images=None, queries=0, seconds=0.0)


@dataclass(frozen=True)
class Case:
    """A graph to measure.

    Attributes:
        bundle: The bundle.
        precision: ``fp32``, ``fp16`` or ``int8``.
        options: The target, and how its engine is to run.
    """

    bundle: Bundle = field(hash=False)  # its record is a dictionary
    precision: str
    options: EngineOptions

    @property
    def target(self) -> str:
        return self.options.target


def run(
    cases: Iterable[Case],
    *,
    data: Path | None = None,
    labels: Path | None = None,
    effort: Effort = FULL,
    progress: Progress = ignore,
    notice: Callable[[str], object] = lambda line: None,
) -> list[Row | FailedRow]:
    """Measure graphs, turn by turn.

    Args:
        cases: The graphs.
        data: Folder of images, one folder for each class, or the folder of `labels`.
        labels: CSV file, ``file,label``. Without it and `data`, the accuracy is the one that the export measured.
        effort: How long to measure.
        progress: Called with the units of work that are done and those that there are.
        notice: Called with each line that a reader must know of the images: which were left out, and why.

    Returns:
        A row for each case, in order; docs/cli.md lists its fields.

    Raises:
        DataError: There is no image of the bundle's classes in `data`, or none that can be read.
    """
    cases = list(cases)
    bundles = {case.bundle.path: case.bundle for case in cases}
    names = unique_names(bundles.values())
    images = (
        {path: labelled(data, bundle, effort.images, labels) for path, bundle in bundles.items()}
        if data or labels
        else {}
    )
    efforts = dict.fromkeys(cases, effort) | dict.fromkeys(_references(cases) if images else (), _NONE)
    with ExitStack() as stack:
        children: dict[Case, Child] = {}
        errors: dict[Case, str] = {}
        for case, wanted in efforts.items():
            try:
                children[case] = stack.enter_context(Child(_job(case, wanted, images.get(case.bundle.path))))
            except EdgeAllError as error:
                errors[case] = str(error)
        _take_turns(children, errors, progress)
        finished = {case: child.finish() for case, child in children.items() if case not in errors}
    answers = {case: answered for case, (_, answered) in finished.items()}
    _give_notices(images, answers, names, notice)
    rows: list[Row | FailedRow] = []
    for case in cases:
        path = case.bundle.path
        subject: Subject = {"bundle": names[path], "path": str(path), "digest": case.bundle.digest}
        if case in finished:
            rows.append(_row(case, subject, _accuracy(case, images.get(path), answers), finished[case][0]))
        else:
            rows.append({**subject, "target": case.target, "precision": case.precision, "error": errors[case]})
    _mark_front(rows)
    return rows


def available_cases(
    bundle: Bundle,
    chosen: Sequence[str],
    precisions: Sequence[str],
    options: EngineOptions = targets.DEFAULT,
) -> tuple[list[Case], list[str]]:
    """Which of a bundle's graphs to measure.

    Args:
        bundle: The bundle.
        chosen: Targets that were asked for; empty is every one that the bundle holds and that is there.
        precisions: Precisions that were asked for; empty is every one that the bundle holds.
        options: How the engines are to run; `target` is replaced.

    Returns:
        The graphs, and a line for each target that this machine cannot run.
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
            cases.append(Case(bundle, precision, replace(options, target=target)))
    return cases, list(dict.fromkeys(missing))


def _give_notices(
    images: Mapping[Path, Labelled],
    answers: Mapping[Case, list[int]],
    names: Mapping[Path, str],
    notice: Callable[[str], object],
) -> None:
    """What a reader must know of each bundle's images; the bundle is named where there are several."""
    for path, chosen in images.items():
        own = [answered for case, answered in answers.items() if case.bundle.path == path]
        for line in (*chosen.notices, *unreadable_notices(chosen, own)):
            notice(f"{names[path]}: {line}" if len(images) > 1 else line)


def _job(case: Case, effort: Effort, images: Labelled | None) -> Job:
    return {
        "bundle": str(case.bundle.path),
        "digest": case.bundle.digest,
        "target": case.target,
        "precision": case.precision,
        "device": case.options.device,
        "threads": case.options.threads,
        "files": images.files if images else None,
        "queries": effort.queries,
        "seconds": effort.seconds,
    }


def _take_turns(children: Mapping[Case, Child], errors: dict[Case, str], progress: Progress) -> None:
    """Let each row measure in its turn until all have measured enough; the order is reversed after each round."""
    unfinished = list(children)
    shares = dict.fromkeys(children, 0.0)
    while unfinished:
        for case in tuple(unfinished):
            try:
                shares[case] = children[case].turn(_TURN_SECONDS)
            except EdgeAllError as error:
                errors[case] = str(error)
                shares[case] = 1.0
            if shares[case] >= 1:
                unfinished.remove(case)
            progress(int(_UNITS * sum(shares.values())), _UNITS * len(shares))
        unfinished.reverse()


def _references(cases: Sequence[Case]) -> list[Case]:
    """FP32 of each bundle and target of which only INT8 was asked for: agreement is measured against it."""
    references = dict.fromkeys(replace(case, precision="fp32") for case in cases)
    return [case for case in references if case not in cases and "fp32" in case.bundle.precisions(case.target)]


def _accuracy(case: Case, images: Labelled | None, answers: Mapping[Case, list[int]]) -> Accuracy:
    if images is None:
        return exported_accuracy(case.bundle, case.target, case.precision)
    reference = answers.get(replace(case, precision="fp32"))
    positive = case.bundle.record.get("positive", ())
    return measured_accuracy(images, case.bundle.classes, answers[case], reference, positive)


def _mark_front(rows: Sequence[Row | FailedRow]) -> None:
    measured = [row for row in rows if "error" not in row]
    for row, on_front in zip(measured, verdict.front(measured), strict=True):
        row["pareto"] = on_front


def _row(case: Case, subject: Subject, accuracy: Accuracy, figures: Figures) -> Row:
    record = case.bundle.record
    return {
        **subject,
        "backbone": record["backbone"],
        "tap": record["tap"],
        "selector": record["selector"],
        "classifier": record["classifier"],
        "target": case.target,
        "precision": case.precision,
        **accuracy,
        **figures,
        "pareto": False,
    }
