"""Measure bundles on this machine: latency beside the accuracy of the same file.

Every row runs in a process of its own, so that load time and memory are its own. What the accuracy was measured on is
part of the row: images that the bundle was trained on never count while there are others.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import tempfile
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_all import image, targets
from edge_all.bundle import Bundle
from edge_all.errors import DataError, EdgeAllError, TargetError

TRAINING_IMAGES = "training_images.txt"
"""Bundle file with the first 16 hex digits of the SHA-256 of every image that the head was fitted on."""

Progress = Callable[[int, int], None]


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
class Labelled:
    """Labelled image files.

    Attributes:
        files: Paths.
        labels: Class number of each, in the bundle's order.
        basis: ``unseen`` (never trained on), or ``seen`` (training images: there were no others).
        seen: How many training images were found in the folder.
    """

    files: tuple[str, ...]
    labels: tuple[int, ...]
    basis: str
    seen: int


def labelled(data: Path, bundle: Bundle, limit: int | None = None) -> Labelled:
    """Find a bundle's classes in a folder with one folder a class, training images set apart.

    Args:
        data: The folder.
        bundle: Whose classes and whose training images.
        limit: Most images to return, spread evenly over the folder.

    Raises:
        DataError: No folder of one of the bundle's classes, or no image in them.
    """
    if not data.is_dir():
        raise DataError(f"--data {data}: no such folder; wanted one folder a class: {', '.join(bundle.classes)}")
    folders = {unicodedata.normalize("NFC", path.name): path for path in data.iterdir() if path.is_dir()}
    present = [(folders[name], k) for k, name in enumerate(bundle.classes) if name in folders]
    found = [(path, k) for folder, k in present for path in image.find([folder])]
    if not found:
        raise DataError(f"--data {data}: no image of {', '.join(bundle.classes)}; wanted one folder for each class")
    known = set(bundle.read(TRAINING_IMAGES).decode().split()) if TRAINING_IMAGES in bundle.record["files"] else set()
    fresh = [(path, k) for path, k in found if _digest(path) not in known]
    chosen = fresh or found
    if limit is not None and len(chosen) > limit:
        chosen = [chosen[i * len(chosen) // limit] for i in range(limit)]
    files, labels = zip(*((str(path), k) for path, k in chosen), strict=True)
    return Labelled(files, labels, "unseen" if fresh else "seen", len(found) - len(fresh))


def run(
    bundle: Bundle,
    cases: Iterable[tuple[str, str]],
    *,
    data: Path | None = None,
    effort: Effort = FULL,
    device: str | None = None,
    threads: int | None = None,
    progress: Callable[[str], Progress] = lambda title: lambda done, total: None,
) -> list[dict[str, Any]]:
    """Measure one bundle, a row a (target, precision).

    Args:
        bundle: The bundle.
        cases: Targets and precisions.
        data: Folder with one folder a class. None takes the export's own accuracy and re-checks the probe here.
        effort: How long to measure.
        device: OpenVINO device.
        threads: Threads for one inference.
        progress: Called with a row's title, gives what is called with (done, total).

    Returns:
        Rows as docs/cli.md lists them: ``latency_ms`` is from encoded bytes to label, ``graph_ms`` the engine alone.

    Raises:
        TargetError: A row's process failed.
    """
    images = labelled(data, bundle, effort.images) if data else None
    answers: dict[tuple[str, str], list[int]] = {}

    def measure(target: str, precision: str) -> dict[str, Any]:
        job = {
            "bundle": str(bundle.path), "target": target, "precision": precision, "device": device, "threads": threads,
            "files": images.files if images else None, "queries": effort.queries, "seconds": effort.seconds,
        }  # fmt: skip
        row = _alone(job, progress(f"{bundle.name} {target} {precision}"))
        answers[target, precision] = row.pop("answers")
        return row

    cases = list(cases)
    measured = {case: measure(*case) for case in cases}
    rows = []
    for (target, precision), figures in measured.items():
        row: dict[str, Any] = {"bundle": bundle.name, "digest": bundle.digest}
        row |= {key: bundle.record[key] for key in ("backbone", "tap", "selector", "classifier")}
        row |= {"target": target, "precision": precision}
        if images:
            if (target, "fp32") not in answers and "fp32" in bundle.precisions(target):
                measure(target, "fp32")
            row |= _accuracy(images, bundle.classes, answers[target, precision], answers.get((target, "fp32")))
        else:
            row |= exported_accuracy(bundle, target, precision)
        rows.append(row | figures)
    return rows


def available_cases(
    bundle: Bundle, chosen: Sequence[str], precisions: Sequence[str]
) -> tuple[list[tuple[str, str]], list[str]]:
    """Which rows to measure, and a line for each target that the bundle holds and this machine has not.

    Args:
        bundle: The bundle.
        chosen: Targets that were asked for; empty is every one that the bundle holds and that is there.
        precisions: Precisions that were asked for; empty is every one that the bundle holds.
    """
    cases, missing = [], []
    for target in chosen or bundle.targets:
        wanted = precisions or bundle.precisions(target)
        files = {precision: bundle.model_file(target, precision) for precision in wanted}
        if not chosen:
            try:
                targets.check_available(target)
            except TargetError as error:
                missing.append(f"{target} left out: {error}")
                continue
        cases += [(target, precision) for precision in files]
    return cases, missing


def exported_accuracy(bundle: Bundle, target: str, precision: str) -> dict[str, Any]:
    """What the export measured under ``block``: its figures, not this machine's."""
    figures = bundle.record["metrics"]["block"][precision]
    figures = figures.get("targets", {}).get(target, figures)
    return {
        "accuracy": figures["accuracy"],
        "balanced_accuracy": figures["balanced_accuracy"],
        "agreement_fp32": 100.0 if precision == "fp32" else figures["agreement_fp32"],
        "images": bundle.record["dataset"]["images"],
        "accuracy_on": "export (block)",
    }


def _accuracy(
    images: Labelled, classes: Sequence[str], answers: list[int], reference: list[int] | None
) -> dict[str, Any]:
    """Accuracies in percent; a file that could not be answered counts as wrong (its answer is -1)."""
    pairs = list(zip(images.labels, answers, strict=True))
    recalls = []
    for k in sorted(set(images.labels)):
        own = [answer == k for label, answer in pairs if label == k]
        recalls.append(100 * sum(own) / len(own))
    same = [a == b for a, b in zip(answers, reference, strict=True)] if reference else []
    return {
        "accuracy": 100 * sum(label == answer for label, answer in pairs) / len(pairs),
        "balanced_accuracy": sum(recalls) / len(recalls),
        "recall": dict(zip((classes[k] for k in sorted(set(images.labels))), recalls, strict=True)),
        "agreement_fp32": 100 * sum(same) / len(same) if same else None,
        "images": len(pairs),
        "accuracy_on": f"{images.basis} images",
        "training_images_left_out": images.seen if images.basis == "unseen" else 0,
    }


def _alone(job: dict[str, Any], progress: Progress) -> dict[str, Any]:
    """Run a job in a fresh interpreter (edge_all.bench_worker), which writes lines of JSON: progress, then the row."""
    command = [sys.executable, "-m", "edge_all.bench_worker"]
    with (
        tempfile.TemporaryFile("w+") as complaints,
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=complaints, text=True) as child,
    ):
        assert child.stdin and child.stdout
        child.stdin.write(json.dumps(job))
        child.stdin.close()
        for text in child.stdout:
            line = json.loads(text)
            if "row" in line:
                return dict(line["row"])
            if "error" in line:
                raise EdgeAllError(line["error"])
            progress(*line["progress"])
        code = child.wait()
        complaints.seek(0)
        last = (complaints.read().strip().splitlines() or ["no message"])[-1]
    where = f"{job['target']} {job['precision']}"
    raise TargetError(f"{job['bundle']}: {where} died while it was measured (exit {code}): {last}")


def _digest(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]
