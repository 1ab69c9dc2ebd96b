"""The grid: every selector with every classifier on every backbone, under every protocol.

A job is one selection for all classifiers: a backbone, a selector and a protocol. Everything is fitted inside the
training folds. A classifier's setting is the one that does best on one fold of the training images, which is split off
by the same protocol, with scaler and selector fitted on the others; then scaler, selector and classifier are fitted on
all training images.
"""

from __future__ import annotations

import json
import time
from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from joblib import Parallel, delayed

from edge_all import cluster, files, machine
from edge_all.progress import Progress

from .. import classifiers
from ..classifiers import Setting
from ..features import Rows
from ..head.fit import HeadSpec, Selection, to_onnx
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
        classifiers: Those whose cells are not finished yet.
    """

    backbone: str
    tap: str
    selector: str
    protocol: str
    classifiers: tuple[str, ...]

    def cell(self, classifier: str) -> Cell:
        return Cell(self.backbone, self.tap, self.selector, classifier, self.protocol)


@dataclass(frozen=True)
class Inputs:
    """What all jobs work on.

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
    """The results of a cell.

    Attributes:
        row: Its line in the table.
        probabilities: ``[N, K]``, each image's by a head that has not seen it.
        head: The first fold's, as an ONNX graph, to be timed.
    """

    row: Row
    probabilities: np.ndarray
    head: bytes


def missing(settings: Settings, rows: Sequence[Row]) -> list[Job]:
    """The jobs that are still to be done, those of one backbone together."""
    done = {row.cell for row in rows}
    jobs = []
    for backbone, selector, protocol in product(settings.backbones, settings.selectors, settings.protocols):
        whole = Job(backbone, settings.tap(backbone), selector, protocol, settings.classifiers)
        left = tuple(name for name in settings.classifiers if whole.cell(name) not in done)
        if left:
            jobs.append(replace(whole, classifiers=left))
    return jobs


def run(jobs: Sequence[Job], inputs: Inputs, out: Path, address: str | None, progress: Progress) -> None:
    """Do jobs, as many at once as there are cores; each one's cells are on the disk as soon as it is done.

    Args:
        jobs: From `missing`.
        inputs: Features, labels and splits.
        out: The study's folder.
        address: Of the Ray cluster that does them; None is this machine.
        progress: Counts cells.

    Raises:
        EdgeAllError: There is no cluster at the address.
    """
    total, done = sum(len(job.classifiers) for job in jobs), 0
    progress(0, total)
    for finished in _here(jobs, inputs) if address is None else _on_cluster(jobs, inputs, address):
        for result in finished:
            table.save_probabilities(out, result.row.cell, result.probabilities)
            head_file = table.head_file(out, result.row.cell)
            head_file.parent.mkdir(exist_ok=True)
            files.write(head_file, result.head)
        table.append(out, [result.row for result in finished])
        done += len(finished)
        progress(done, total)


def _here(jobs: Sequence[Job], inputs: Inputs) -> Iterator[list[Finished]]:
    shared = _without_images(inputs)
    calls = (delayed(work)(job, inputs.rows[job.backbone], inputs.splits[job.protocol], shared) for job in jobs)
    results: Iterator[list[Finished]] = Parallel(
        n_jobs=machine.usable_cores(), return_as="generator_unordered", pre_dispatch="n_jobs"
    )(calls)
    yield from results


def _on_cluster(jobs: Sequence[Job], inputs: Inputs, address: str) -> Iterator[list[Finished]]:
    """As tasks of Ray: joblib's own backend for Ray gives all results at the end, and a study keeps each one at once.

    Each backbone's features travel once to each machine. A task whose worker was killed is done again by another.
    """
    with cluster.connected(address) as ray:
        cores, remote = cluster.cores(ray), ray.remote(work)
        shared, sent = ray.put(_without_images(inputs)), dict[str, Any]()
        left, waiting = deque(jobs), list[Any]()
        while left or waiting:
            while left and len(waiting) < cores:
                job = left.popleft()
                if job.backbone not in sent:
                    sent = {job.backbone: ray.put(inputs.rows[job.backbone])}  # the jobs of a backbone are together
                waiting.append(remote.remote(job, sent[job.backbone], inputs.splits[job.protocol], shared))
            (finished,), waiting = ray.wait(waiting)
            yield ray.get(finished)


def _without_images(inputs: Inputs) -> Inputs:
    """What every worker gets beside the features and folds of its job."""
    return replace(inputs, rows={}, splits={})


def work(job: Job, rows: Rows, folds: np.ndarray, inputs: Inputs) -> list[Finished]:
    """Do one job: its cells, in the order of its classifiers."""
    labels, count = inputs.labels, int(folds.max()) + 1
    probabilities = {name: np.zeros((len(labels), len(inputs.classes))) for name in job.classifiers}
    settings: dict[str, list[Setting]] = {name: [] for name in job.classifiers}
    seconds = dict.fromkeys(job.classifiers, 0.0)
    first_heads: dict[str, bytes] = {}
    for k in range(count):
        start = time.perf_counter()
        tuning_fold = (k + 1) % count
        for_tuning = _select(job, rows, (folds != k) & (folds != tuning_fold), inputs)
        selection = _select(job, rows, folds != k, inputs)
        shared_seconds = time.perf_counter() - start
        evaluated = for_tuning.transform(rows.plain[folds == tuning_fold])
        tested = folds == k
        for name in job.classifiers:
            start = time.perf_counter()
            setting = tune(name, for_tuning, evaluated, labels[folds == tuning_fold], inputs.seed)
            head = selection.classify(HeadSpec(job.selector, name, inputs.count, inputs.seed, setting))
            seconds[name] += shared_seconds + time.perf_counter() - start
            probabilities[name][tested] = head.predict_proba(rows.plain[tested])
            settings[name].append(setting)
            if k == 0:
                first_heads[name] = to_onnx(head).SerializeToString(deterministic=True)
    return [
        Finished(
            Row(
                cell=job.cell(name),
                setting=most_chosen(settings[name]),
                features=selection.count,
                scores=metrics.scores(labels, probabilities[name], folds, inputs.classes),
                images=len(labels),
                fit_s=round(seconds[name], 2),
            ),
            probabilities[name],
            first_heads[name],
        )
        for name in job.classifiers
    ]


def tune(name: str, selection: Selection, evaluated: np.ndarray, labels: np.ndarray, seed: int) -> Setting:
    """The setting of a classifier that labels most images right; at a tie the one that comes first.

    Only labels matter here, so nothing is fitted for the probabilities.

    Args:
        name: A file of ``classifiers/``.
        selection: Fitted on other images.
        evaluated: ``[M, F]``: selected features of the images to evaluate on.
        labels: ``int64 [M]``: theirs.
        seed: Of its random choices.
    """
    best, most = classifiers.settings(name)[0], -1.0
    for setting in classifiers.settings(name):
        model = classifiers.build(name, seed, (), setting)
        accuracy = float((model.fit(selection.selected, selection.labels).predict(evaluated) == labels).mean())
        if accuracy > most:
            best, most = setting, accuracy
    return best


def most_chosen(settings: Sequence[Setting]) -> Setting:
    """The setting that most folds chose; at a tie the one chosen first."""
    counts = Counter(json.dumps(setting, sort_keys=True) for setting in settings)
    setting: Setting = json.loads(counts.most_common(1)[0][0])
    return setting


def _select(job: Job, rows: Rows, images: np.ndarray, inputs: Inputs) -> Selection:
    features, shown = rows.training(images)
    spec = HeadSpec(job.selector, job.classifiers[0], inputs.count, inputs.seed)
    return spec.select(features, inputs.labels[shown], shown)
