"""Features of a data set's images, computed by an inference engine (never eager torch) and cached by digest."""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Protocol

import numpy as np
import onnx

from edge_all import cache, image
from edge_all.progress import Progress, ignore, split

from .dataset import augment
from .dataset.record import Dataset
from .graph.names import FEATURES, IMAGE
from .recipe import Conditions


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


_AHEAD = 64  # images decoded ahead of the engine

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
    """Run a backbone's graph over images.

    Args:
        model: ``uint8 [N, H, W, 3]`` "image" to ``float32 [N, C]`` "features".
        data: The images; their digests are part of the cache's key.
        size: Height and width of the graph's input.
        target: Whose engine; see `engine_of`.
        change: Made to every image after decoding (see `dataset.augment`); None is none.
        progress: Counts images.

    Returns:
        ``float32 [N, C]``, in the order of `data`.
    """
    graph, target = model.SerializeToString(deterministic=True), engine_of(target)
    name = f"features/{_key(graph, data.digests, size, target, change)}.npy"
    if cached := cache.load(name, len(data) * _MOST_BYTES):
        with suppress(Exception):  # numpy raises many kinds for a damaged file; it is made again
            return np.asarray(np.load(io.BytesIO(cached), allow_pickle=False))
    rows = []
    for done, row in enumerate(_RUN[target](graph, changed(data, size, change)), 1):
        rows.append(row)
        progress(done, len(data))
    features = np.stack(rows).astype(np.float32)
    content = io.BytesIO()
    np.save(content, features, allow_pickle=False)
    cache.store(name, content.getvalue())
    return features


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
    plain, *parts = split(progress, [1.0] * (1 + count))
    rows = extract(model, data, size, progress=plain)
    copies = [
        extract(model, data, size, change=copy, progress=part)
        for copy, part in zip(augment.copies(count, conditions.seed), parts, strict=True)
    ]
    return Rows(rows, tuple(copies), copied)


def engine_of(target: str) -> str:
    """The engine that computes features for a target here: OpenVINO for ``openvino``, else ONNX Runtime's CPU."""
    return target if target in _RUN else "cpu"


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
        queue = [pool.submit(image.decode, path, size) for path in islice(pending, _AHEAD)]
        while queue:
            yield queue.pop(0).result()
            queue += [pool.submit(image.decode, path, size) for path in islice(pending, 1)]


def _run_openvino(graph: bytes, images: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
    """As many images in flight as OpenVINO wants, results in order."""
    import openvino as ov

    core = ov.Core()
    model = core.read_model(io.BytesIO(graph))
    model.reshape([1, *model.input(0).partial_shape[1:]])
    options = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "THROUGHPUT"}
    queue = ov.AsyncInferQueue(core.compile_model(model, "CPU", options))
    finished: dict[int, np.ndarray] = {}
    queue.set_callback(lambda request, i: finished.__setitem__(i, request.get_output_tensor(0).data[0].copy()))
    wanted = 0
    for i, pixels in enumerate(images):
        queue.start_async({IMAGE: pixels[np.newaxis]}, i)
        while wanted in finished:
            yield finished.pop(wanted)
            wanted += 1
    queue.wait_all()
    for i in range(wanted, wanted + len(finished)):
        yield finished.pop(i)


def _run_onnxruntime(graph: bytes, images: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
    import onnxruntime as ort

    session = ort.InferenceSession(graph, providers=["CPUExecutionProvider"])
    for pixels in images:
        yield session.run([FEATURES], {IMAGE: pixels[np.newaxis]})[0][0]


_RUN = {"openvino": _run_openvino, "cpu": _run_onnxruntime}


def _key(
    graph: bytes, digests: Sequence[str], size: tuple[int, int], target: str, change: Changed | None = None
) -> str:
    key = hashlib.sha256(graph)
    limit = os.environ.get("ONEDNN_MAX_CPU_ISA", "")  # it changes what OpenVINO's INT8 kernels answer
    key.update(f"{size} {target} {limit} {' '.join(digests)}".encode())
    if change:
        key.update(change.name.encode())
    return key.hexdigest()[:32]
