"""Features of a data set's images, computed by an inference engine (never eager torch) and cached by digest."""

from __future__ import annotations

import hashlib
import io
import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Protocol

import numpy as np
import onnx

from edge_all import cache, image, parallel
from edge_all.machine import usable_cores
from edge_all.progress import Progress, ignore

from .dataset import augment
from .dataset.changes import WIDTH
from .dataset.record import Dataset
from .recipe import Conditions
from .runners import engine_of, open_runner


@dataclass(frozen=True)
class Rows:
    """Features of a data set's images.

    Attributes:
        plain: ``float32 [N, C]``: the images as they are.
        copies: ``float32 [N, C]`` each: all images changed by one of `dataset.augment.copies`, to be trained on too.
        copied: ``bool [N]``: the images whose copies are trained on; None is all.
    """

    plain: np.ndarray
    copies: tuple[np.ndarray, ...] = ()
    copied: np.ndarray | None = None

    def take(self, columns: np.ndarray) -> Rows:
        """Only the features of these numbers."""
        return Rows(self.plain[:, columns], tuple(rows[:, columns] for rows in self.copies), self.copied)

    def of(self, images: np.ndarray) -> Rows:
        """Only the images where `images`, ``bool [N]``, is true."""
        copied = None if self.copied is None else self.copied[images]
        return Rows(self.plain[images], tuple(rows[images] for rows in self.copies), copied)

    def training(self, images: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Images with their copies.

        Args:
            images: ``bool [N]``: which; None is all.

        Returns:
            ``float32 [M, C]``, and which image each row shows, ``int64 [M]``.
        """
        numbers = np.arange(len(self.plain)) if images is None else np.flatnonzero(images)
        again = numbers if self.copied is None else numbers[self.copied[numbers]]
        features = np.concatenate([self.plain[numbers], *(copy[again] for copy in self.copies)])
        return features, np.concatenate([numbers, np.tile(again, len(self.copies))])


class Changed(Protocol):
    """A named change of decoded pixels ``uint8 [H, W, 3]``, which may depend on the file's SHA-256."""

    @property
    def name(self) -> str: ...

    def __call__(self, pixels: np.ndarray, digest: str) -> np.ndarray: ...


@dataclass(frozen=True)
class Wanted:
    """A graph, and the images whose features it gives.

    Attributes:
        model: ``uint8 [N, H, W, 3]`` "image" to ``float32 [N, C]`` "features".
        target: Whose engine; see `runners.engine_of`.
        images: ``bool [N]``; None is all.
    """

    model: onnx.ModelProto
    target: str = "openvino"
    images: np.ndarray | None = None


_TOGETHER = 64
"""Images that are changed and run together, and that are decoded ahead of the engine."""

_MOST_BYTES = 2**20  # of one image's features; the widest taps have a few thousand numbers


def extract(
    model: onnx.ModelProto,
    data: Dataset,
    size: tuple[int, int],
    *,
    target: str = "openvino",
    change: Changed | None = None,
    progress: Progress = ignore,
) -> np.ndarray:
    """Run one graph over images under one change: see `extract_each`.

    Returns:
        ``float32 [N, C]``, in the order of `data`.
    """
    ((rows,),) = extract_each([Wanted(model, target)], data, size, [change], progress)
    return rows


def extract_each(
    wanted: Sequence[Wanted],
    data: Dataset,
    size: tuple[int, int],
    changes: Sequence[Changed | None],
    progress: Progress = ignore,
) -> list[list[np.ndarray]]:
    """Run graphs over images under changes; each image is decoded once, and changed once in each way.

    Args:
        wanted: The graphs.
        data: The images; their digests are part of the cache's key.
        size: Height and width of the graphs' input.
        changes: Made to every image after decoding (see `dataset.augment`); None is none.
        progress: Counts images times changes.

    Returns:
        ``float32 [M, C]`` for each graph and each change: of the graph's images, in the order of `data`.
    """
    jobs = [_jobs(one, data, size, changes) for one in wanted]
    missing = [job for row in jobs for job in row if job.features is None]
    _run(missing, data, size, progress)
    return [[job.result() for job in row] for row in jobs]


def keep(
    model: onnx.ModelProto, data: Dataset, size: tuple[int, int], known: Iterable[tuple[Changed | None, np.ndarray]]
) -> None:
    """Put features into the cache that another graph gave for the same places, so that they are not computed again.

    Args:
        model: A backbone, as for `extract`.
        data: The images.
        size: Height and width of the graph's input.
        known: Changes that were made to the images, and the features, ``float32 [N, C]``, under each.
    """
    changes, features = zip(*known, strict=True)
    for job, rows in zip(_jobs(Wanted(model), data, size, changes), features, strict=True):
        if job.features is None:
            replace(job, rows=list(rows)).result()


def training_rows(
    model: onnx.ModelProto,
    data: Dataset,
    size: tuple[int, int],
    conditions: Conditions,
    progress: Progress = ignore,
) -> Rows:
    """Features of all images, and of the changed copies that heads are trained on.

    Args:
        model: A backbone, as for `extract`.
        data: The images.
        size: Height and width of the graph's input.
        conditions: How many copies there are, and of which images.
        progress: Counts images and copies.
    """
    count, copied = augment.plan(conditions.augment, conditions.balance, data.labels)
    changes = [None, *augment.copies(count, conditions.seed)]
    ((plain, *copies),) = extract_each([Wanted(model)], data, size, changes, progress)
    return Rows(plain, tuple(copies), copied)


def changed(data: Dataset, size: tuple[int, int], change: Changed | None) -> Iterator[np.ndarray]:
    """Yield each image, ``uint8 [H, W, 3]``, with a change made to it; None is none."""
    pixels = decoded(data.paths, size)
    if change is None:
        return pixels
    return (change(image, digest) for image, digest in zip(pixels, data.digests, strict=True))


def decoded(files: Sequence[Path], size: tuple[int, int]) -> Iterator[np.ndarray]:
    """Yield ``uint8 [H, W, 3]`` for each file, in order, decoded ahead in threads."""
    pending = iter(files)
    with ThreadPoolExecutor() as pool:
        queue = [pool.submit(image.decode, path, size) for path in islice(pending, _TOGETHER)]
        while queue:
            yield queue.pop(0).result()
            queue += [pool.submit(image.decode, path, size) for path in islice(pending, 1)]


@dataclass
class _Job:
    """One graph under one change.

    Attributes:
        graph: An ONNX file's bytes.
        engine: Of `runners.engine_of`.
        images: ``bool [N]``.
        change: None is none.
        name: In the cache.
        features: ``float32 [M, C]``; None until they are there.
        rows: Those made so far, ``float32 [C]`` each.
    """

    graph: bytes
    engine: str
    images: np.ndarray
    change: Changed | None
    name: str
    features: np.ndarray | None = None
    rows: list[np.ndarray] = field(default_factory=list)

    def result(self) -> np.ndarray:
        """The features; those that were made now go into the cache."""
        if self.features is None:
            self.features = np.stack(self.rows).astype(np.float32)
            content = io.BytesIO()
            np.save(content, self.features, allow_pickle=False)
            cache.store(self.name, content.getvalue())
        return self.features


def _jobs(wanted: Wanted, data: Dataset, size: tuple[int, int], changes: Sequence[Changed | None]) -> list[_Job]:
    """One graph under each change, with the features that the cache has."""
    graph, engine = wanted.model.SerializeToString(deterministic=True), engine_of(wanted.target)
    images = np.ones(len(data), bool) if wanted.images is None else wanted.images
    digests = [data.digests[i] for i in np.flatnonzero(images)]
    names = [f"features/{_key(graph, digests, size, engine, change)}.npy" for change in changes]
    return [
        _Job(graph, engine, images, change, name, _cached(name, len(digests)))
        for change, name in zip(changes, names, strict=True)
    ]


def _cached(name: str, images: int) -> np.ndarray | None:
    if content := cache.load(name, images * _MOST_BYTES):
        with suppress(Exception):  # numpy raises many kinds for a damaged file; it is made again
            return np.asarray(np.load(io.BytesIO(content), allow_pickle=False))
    return None


def _run(jobs: Sequence[_Job], data: Dataset, size: tuple[int, int], progress: Progress) -> None:
    """Run jobs; each graph is compiled once."""
    by_change: dict[Changed | None, list[_Job]] = defaultdict(list)
    for job in jobs:
        by_change[job.change].append(job)
    opened = {(job.engine, job.graph) for job in jobs}
    run = {(engine, graph): open_runner(engine, graph) for engine, graph in opened}
    needed = np.flatnonzero(np.any([job.images for job in jobs], axis=0)) if jobs else ()
    pixels, done = decoded([data.paths[i] for i in needed], size), 0
    for start in range(0, len(needed), _TOGETHER):
        some = [(int(i), next(pixels)) for i in needed[start : start + _TOGETHER]]
        for change, of_change in by_change.items():
            shown = dict(parallel.each(partial(_changed, data, change), some, usable_cores()) if change else some)
            for job in of_change:
                job.rows += run[job.engine, job.graph]([shown[i] for i, _ in some if job.images[i]])
            done += len(some)
            progress(done, len(needed) * len(by_change))


def _changed(data: Dataset, change: Changed, numbered: tuple[int, np.ndarray]) -> tuple[int, np.ndarray]:
    i, pixels = numbered
    return i, change(pixels, data.digests[i])


def _key(graph: bytes, digests: Sequence[str], size: tuple[int, int], engine: str, change: Changed | None) -> str:
    key = hashlib.sha256(graph)
    limit = os.environ.get("ONEDNN_MAX_CPU_ISA", "")  # it changes what OpenVINO's INT8 kernels answer
    key.update(f"{size} {engine} {limit} {' '.join(digests)}".encode())
    if change:
        key.update(f"{change.name} in a field {WIDTH} wide".encode())
    return key.hexdigest()[:32]
