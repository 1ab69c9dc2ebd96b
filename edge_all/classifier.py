"""A bundle on a target: images in, predictions out."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edge_all import bundle as bundles
from edge_all import image
from edge_all.bundle import Bundle
from edge_all.errors import ImageError, TargetError
from edge_all.targets import Engine, check_available, open_engine

_LOG = logging.getLogger("edge_all")


@dataclass(frozen=True)
class Prediction:
    """One image's answer.

    Attributes:
        label: The most probable class, whatever `status` says.
        status: ``ok``; ``refer`` where no class is probable enough for an answer; ``unfamiliar`` where the picture is
            not like the images that the bundle was made from, and the label means nothing.
        probabilities: Probability of every class, in the bundle's order.
        ms: Time that it took from the source (a file, or encoded bytes) to the label, in milliseconds.
        graph_ms: The engine's share of it.
    """

    label: str
    status: str
    probabilities: dict[str, float]
    ms: float
    graph_ms: float


class Classifier:
    """A bundle loaded into an engine. Build one with `load`.

    Attributes:
        bundle: What it was loaded from.
        target: ``cpu``, ``gpu`` or ``openvino``.
        precision: ``fp32``, ``fp16`` or ``int8``.
        engine: The engine with its device.
    """

    def __init__(self, bundle: Bundle, target: str, precision: str, engine: Engine) -> None:
        self.bundle = bundle
        self.target = target
        self.precision = precision
        self.engine = engine
        self._size, self._classes = bundle.input_size, bundle.classes
        self._least = bundle.least_probability
        self._rooms = _Rooms(self._size)

    def classify(self, source: Path | str | bytes) -> Prediction:
        """Classify one image: a path, or an image file's bytes.

        Raises:
            ImageError: The file is not an image that can be answered.
        """
        (room,) = self._rooms.take(1)
        return self._answer(room, self._decode(source, room))

    def classify_several(self, sources: Sequence[Path | str | bytes]) -> list[Prediction | ImageError]:
        """Classify some images: a few are decoded before the first is answered, so that each kind of work finds its own
        code and data in the processor's caches. Files that cannot be answered give their errors.
        """
        return [found for i in range(0, len(sources), _TOGETHER) for found in self._few(sources[i : i + _TOGETHER])]

    def _few(self, sources: Sequence[Path | str | bytes]) -> list[Prediction | ImageError]:
        rooms = self._rooms.take(len(sources))
        decoded: list[float | ImageError] = []
        for source, room in zip(sources, rooms, strict=True):
            try:
                decoded.append(self._decode(source, room))
            except ImageError as error:
                decoded.append(error)
        return [
            ms if isinstance(ms, ImageError) else self._answer(room, ms)
            for room, ms in zip(rooms, decoded, strict=True)
        ]

    def _decode(self, source: Path | str | bytes, room: npt.NDArray[np.uint8]) -> float:
        """Put an image's pixels into a room; the milliseconds that it took."""
        start = time.perf_counter()
        encoded = source if isinstance(source, bytes) else Path(source)
        image.decode(encoded, self._size, room[0])
        return (time.perf_counter() - start) * 1e3

    def _answer(self, room: npt.NDArray[np.uint8], decode_ms: float) -> Prediction:
        start = time.perf_counter()
        answers = self.engine.run(room)
        graph_ms = (time.perf_counter() - start) * 1e3
        # As Python's numbers: for so few numpy takes longer.
        given = answers.probabilities[0].tolist()
        far = 0.0 if answers.unfamiliarity is None else answers.unfamiliarity.item()
        if not math.isfinite(sum(given) + far):
            raise self._no_number()
        most = max(given)
        label = self._classes[given.index(most)]
        status = "unfamiliar" if far > 1 else "refer" if most < self._least else "ok"
        named = dict(zip(self._classes, given, strict=True))
        return Prediction(label, status, named, decode_ms + (time.perf_counter() - start) * 1e3, graph_ms)

    def probabilities(self, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Class probabilities ``float32 [N, K]`` of decoded images ``uint8 [N, H, W, 3]``.

        Raises:
            TargetError: The engine answered with something that is no probability.
        """
        answers = self.engine.run(images)
        if not all(np.isfinite(values).all() for values in answers if values is not None):
            raise self._no_number()
        return answers.probabilities

    def _no_number(self) -> TargetError:
        return TargetError(
            f"{self.bundle.name}: {self.engine.description} answered with NaN at {self.precision}; "
            "use --precision fp32 or another --target"
        )


class _Rooms(threading.local):
    """Arrays for pixels, which each thread keeps for its next images: an engine may read them where they are."""

    def __init__(self, size: tuple[int, int]) -> None:
        self._size = size
        self._made: list[npt.NDArray[np.uint8]] = []

    def take(self, count: int) -> list[npt.NDArray[np.uint8]]:
        """So many of ``uint8 [1, H, W, 3]``, always the same ones."""
        while len(self._made) < count:
            self._made.append(np.empty((1, *self._size, 3), np.uint8))
        return self._made[:count]


def classify_all(
    classifier: Classifier, paths: Sequence[Path], streams: int = 1
) -> Iterator[tuple[Path, Prediction | ImageError]]:
    """Classify many files, in order; with several streams, some files at a time in each.

    Args:
        classifier: Loaded with as many `streams`.
        paths: Image files.
        streams: Threads at work.

    Yields:
        Each path, with its prediction or with what is wrong with the file.
    """
    count = 1 if streams == 1 else max(1, min(_TOGETHER, len(paths) // (_AHEAD * streams)))
    groups = [paths[i : i + count] for i in range(0, len(paths), count)]
    if streams == 1:
        for group in groups:
            yield from zip(group, classifier.classify_several(group), strict=True)
        return
    waiting: deque[tuple[Sequence[Path], Future[list[Prediction | ImageError]]]] = deque()
    with ThreadPoolExecutor(streams) as pool:
        for group in groups:
            waiting.append((group, pool.submit(classifier.classify_several, group)))
            while waiting and (waiting[0][1].done() or len(waiting) > _AHEAD * streams):
                first, future = waiting.popleft()
                yield from zip(first, future.result(), strict=True)
        while waiting:
            first, future = waiting.popleft()
            yield from zip(first, future.result(), strict=True)


_TOGETHER = 8  # files of a group: more gain nothing
_AHEAD = 3  # groups in hand for each stream


def load(
    path: Path | str | None = None,
    *,
    target: str = "cpu",
    precision: str | None = None,
    device: str | None = None,
    threads: int | None = None,
) -> Classifier:
    """Load a bundle, check it, and put its graph on a target.

    Args:
        path: A bundle (folder or ``.zip``) or a folder of bundles; None takes the newest in ``./models``, else the
            built-in one.
        target: ``cpu`` (ONNX Runtime), ``gpu`` (ONNX Runtime, CUDA) or ``openvino``.
        precision: ``fp32``, ``fp16`` or ``int8``; None takes what the bundle prefers for the target, and ``auto`` the
            first that has answered the bundle's probe on this machine as it should (`edge_all.self_check`).
        device: OpenVINO device; None is ``CPU``.
        threads: Threads for one inference; None leaves it to the engine.

    Raises:
        BundleError: The bundle is missing, damaged, or has no graph for that target and precision.
        TargetError: The target is not there.
        GateError: With ``auto``, no precision answers the probe here.
    """
    bundle = bundles.load(Path(path) if path else bundles.default())
    if precision != "auto":
        return start(bundle, target, precision, device, threads)
    from edge_all import self_check

    return self_check.choose(bundle, target, device, threads, _LOG.warning)


def start(
    bundle: Bundle,
    target: str = "cpu",
    precision: str | None = None,
    device: str | None = None,
    threads: int | None = None,
    streams: int = 1,
) -> Classifier:
    """Put a checked bundle's graph on a target; the same arguments and errors as `load`.

    With more than one of `streams`, as many threads may classify at once.
    """
    check_available(target)
    precision = precision or next(iter(bundle.precisions(target)), "int8")
    check_available(target, precision)
    model = bundle.read(bundle.model_file(target, precision))
    return Classifier(
        bundle, target, precision, open_engine(target, model, device=device, threads=threads, streams=streams)
    )
