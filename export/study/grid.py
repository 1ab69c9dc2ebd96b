"""The grid: every selector with every classifier on every backbone, under every protocol.

A job is one selection for all classifiers: a backbone, a selector and a protocol. Everything is fitted inside the
training folds. A classifier's setting is the one that does best on one fold of the training images, which was split off
by the same protocol, with scaler and selector fitted on the others; then all three are fitted on all training images.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

import numpy as np
from joblib import Parallel, delayed
from sklearn.calibration import CalibratedClassifierCV

from edge_all import machine

from .. import classifiers
from ..head.evaluate import Rows
from ..head.fit import Selection, select, to_onnx
from . import metrics, table
from .settings import Settings
from .table import Cell, Row


@dataclass(frozen=True)
class Job:
    """Cells that share a selection.

    Attributes:
        backbone: Registered name.
        tap: Where its features are taken.
        selector: Registered name.
        protocol: Of the split.
        classifiers: Those whose cells are not there yet.
    """

    backbone: str
    tap: str
    selector: str
    protocol: str
    classifiers: tuple[str, ...]

    def cell(self, classifier: str) -> Cell:
        return Cell(self.backbone, self.tap, self.selector, classifier, self.protocol)


@dataclass(frozen=True)
class Ground:
    """What all jobs stand on.

    Attributes:
        labels: ``int64 [N]``.
        classes: Their names.
        splits: Fold of each image, ``int64 [N]``, by protocol.
        rows: Features, by backbone.
        count: How many the selector keeps; None is its default.
        seed: Of every random choice.
    """

    labels: np.ndarray
    classes: tuple[str, ...]
    splits: Mapping[str, np.ndarray]
    rows: Mapping[str, Rows]
    count: int | None
    seed: int


@dataclass(frozen=True)
class Finished:
    """What became of a cell.

    Attributes:
        cell: Whose.
        row: Its line in the table.
        probabilities: ``[N, K]``, each image's by a head that has not seen it.
        head: The first fold's, as an ONNX graph, to be timed.
    """

    cell: Cell
    row: Row
    probabilities: np.ndarray
    head: bytes


def missing(settings: Settings, rows: Sequence[Row]) -> list[Job]:
    """The jobs that are still to be done, those of one backbone together."""
    done = {table.cell(row) for row in rows}
    jobs = []
    for backbone, selector, protocol in product(settings.backbones, settings.selectors, settings.protocols):
        whole = Job(backbone, settings.tap(backbone), selector, protocol, settings.classifiers)
        left = tuple(name for name in settings.classifiers if whole.cell(name) not in done)
        if left:
            jobs.append(Job(backbone, whole.tap, selector, protocol, left))
    return jobs


def run(jobs: Sequence[Job], ground: Ground, out: Path, progress: Callable[[int, int], None]) -> None:
    """Do jobs, as many at once as there are cores; each one's cells are on the disk as soon as it is done.

    Args:
        jobs: From `missing`.
        ground: Features, labels and splits.
        out: The study's folder.
        progress: Called with the cells done and in all.
    """
    total, done = sum(len(job.classifiers) for job in jobs), 0
    bare = replace(ground, rows={}, splits={})  # a worker gets only what is its own
    calls = (delayed(work)(job, ground.rows[job.backbone], ground.splits[job.protocol], bare) for job in jobs)
    results: Iterator[list[Finished]] = Parallel(
        n_jobs=machine.usable_cores(), return_as="generator_unordered", pre_dispatch="n_jobs"
    )(calls)
    progress(0, total)
    for finished in results:
        for one in finished:
            table.save_answers(out, one.cell, one.probabilities)
            path = out / "heads" / f"{one.cell.key}.onnx"
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(one.head)
        table.append(out, [one.row for one in finished])
        done += len(finished)
        progress(done, total)


def work(job: Job, rows: Rows, folds: np.ndarray, ground: Ground) -> list[Finished]:
    """Do one job: its cells, in the order of its classifiers."""
    labels = ground.labels
    probabilities = {name: np.zeros((len(labels), len(ground.classes))) for name in job.classifiers}
    chosen: dict[str, list[classifiers.Setting]] = {name: [] for name in job.classifiers}
    seconds = dict.fromkeys(job.classifiers, 0.0)
    first: dict[str, bytes] = {}
    count = int(folds.max()) + 1
    for k in range(count):
        start = time.perf_counter()
        inner_fold = (k + 1) % count
        inner = _select(job, rows, labels, (folds != k) & (folds != inner_fold), ground)
        whole = _select(job, rows, labels, folds != k, ground)
        shared = time.perf_counter() - start
        judged = inner.transform(rows.plain[folds == inner_fold])
        tested = folds == k
        for name in job.classifiers:
            start = time.perf_counter()
            setting = tune(name, inner, judged, labels[folds == inner_fold], ground.seed)
            fitted = whole.classify(name, ground.seed, setting)
            seconds[name] += shared + time.perf_counter() - start
            probabilities[name][tested] = fitted.predict_proba(rows.plain[tested])
            chosen[name].append(setting)
            if k == 0:
                first[name] = to_onnx(fitted).SerializeToString(deterministic=True)
    return [
        Finished(
            job.cell(name),
            vars(job.cell(name))
            | {"setting": usual(chosen[name]), "features": whole.count}
            | metrics.describe(labels, probabilities[name], folds, ground.classes)
            | {"images": len(labels), "fit_s": round(seconds[name], 2), "macs": "", "graph_ms": ""},
            probabilities[name],
            first[name],
        )
        for name in job.classifiers
    ]


def tune(name: str, selection: Selection, judged: np.ndarray, labels: np.ndarray, seed: int) -> classifiers.Setting:
    """The setting of a classifier that labels most images right; at a tie the one that comes first.

    Probabilities do not matter here, so what a classifier wraps to calibrate is fitted without that.

    Args:
        name: A file of ``classifiers/``.
        selection: Fitted on other images.
        judged: ``[M, F]``: selected features of the images to judge by.
        labels: ``int64 [M]``: theirs.
        seed: Of its random choices.
    """
    best, most = classifiers.settings(name)[0], -1.0
    for setting in classifiers.settings(name):
        model = classifiers.build(name, seed, (), setting)
        bare = model.estimator if isinstance(model, CalibratedClassifierCV) else model
        right = float((bare.fit(selection.chosen, selection.labels).predict(judged) == labels).mean())
        if right > most:
            best, most = setting, right
    return best


def usual(settings: Sequence[classifiers.Setting]) -> classifiers.Setting:
    """The setting that most folds chose; at a tie the one chosen first."""
    counted = Counter(json.dumps(setting, sort_keys=True) for setting in settings)
    found: classifiers.Setting = json.loads(counted.most_common(1)[0][0])
    return found


def _select(job: Job, rows: Rows, labels: np.ndarray, images: np.ndarray, ground: Ground) -> Selection:
    whole, shown = rows.training(images)
    return select(whole, labels[shown], shown, selector=job.selector, count=ground.count, seed=ground.seed)
