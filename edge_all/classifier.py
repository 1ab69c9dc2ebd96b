"""A bundle loaded into an engine: images in, predictions out."""

from __future__ import annotations

import hashlib
import math
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from edge_all import __version__, image
from edge_all.bundle import Bundle
from edge_all.clock import now
from edge_all.errors import ImageError, TargetError
from edge_all.input_check import InputCheck
from edge_all.prediction import Prediction
from edge_all.targets import Answers, Engine, EngineOptions, check_available, open_engine


class _Decoded(NamedTuple):
    """Pixels ``uint8 [1, H, W, 3]``, milliseconds of decoding, the image's own width and height, and the SHA-256 of its
    bytes if it is wanted."""

    pixels: npt.NDArray[np.uint8]
    ms: float
    size: tuple[int, int] | None = None
    sha256: str | None = None


class _Ran(NamedTuple):
    """An image, what the engine gave for it, and the milliseconds that it took."""

    decoded: _Decoded
    answers: Answers
    graph_ms: float

    @property
    def unfamiliarity(self) -> float:
        """As of the prediction; 0 where the bundle's graph does not say."""
        return 0.0 if self.answers.unfamiliarity is None else self.answers.unfamiliarity.item()


class Classifier:
    """A bundle loaded into an engine. Make one with `edge_all.load` or `start`.

    Attributes:
        bundle: The bundle.
        target: ``cpu``, ``gpu`` or ``openvino``.
        precision: ``fp32``, ``fp16`` or ``int8``.
        engine: The loaded graph.
    """

    def __init__(self, bundle: Bundle, target: str, precision: str, engine: Engine) -> None:
        self.bundle = bundle
        self.target = target
        self.precision = precision
        self.engine = engine
        self._size, self._classes = bundle.input_size, bundle.classes
        self._least, self._count = bundle.least_probability, len(bundle.classes)
        self._input_check = InputCheck(bundle.input_check) if bundle.input_check else None
        self._buffers = _Buffers(self._size)

    def classify(self, source: Path | str | bytes, *, digest: bool = False) -> Prediction:
        """Classify one image.

        Args:
            source: A path, or an image file's bytes.
            digest: Whether the prediction is to have the SHA-256 of these bytes.

        Raises:
            ImageError: The file is not an image that can be classified.
            TargetError: The engine answered with NaN, or with values that are no probabilities.
        """
        (buffer,) = self._buffers.take(1)
        (prediction,) = self._predictions([self._run(self._decode(source, buffer, digest))])
        return prediction

    def classify_pixels(self, pixels: npt.NDArray[np.uint8]) -> Prediction:
        """Classify one image that is decoded and has the size of the graph's input, ``uint8 [H, W, 3]``.

        Raises:
            TargetError: The engine answered with a value that is not a number.
        """
        start = time.perf_counter()
        (buffer,) = self._buffers.take(1)
        buffer[0] = pixels
        (prediction,) = self._predictions([self._run(_Decoded(buffer, (time.perf_counter() - start) * 1e3))])
        return prediction

    def classify_several_pixels(self, images: Sequence[npt.NDArray[np.uint8]]) -> list[Prediction]:
        """As `classify_pixels`, with several images ``uint8 [1, H, W, 3]``, whose memory the engine reads in place.

        Raises:
            TargetError: The engine answered with a value that is not a number.
        """
        return self._predictions([self._run(_Decoded(image, 0.0)) for image in images])

    def classify_several(
        self, sources: Sequence[Path | str | bytes], *, digest: bool = False
    ) -> list[Prediction | ImageError]:
        """Classify several images in groups: a whole group is decoded first and then answered.

        Each kind of work then finds its own code and data in the processor's caches.

        Args:
            sources: Paths, or image files' bytes.
            digest: Whether the predictions are to have the SHA-256 of these bytes.

        Returns:
            For each source its prediction, or the error of a file that cannot be classified.
        """
        groups = (sources[i : i + GROUP] for i in range(0, len(sources), GROUP))
        return [answer for group in groups for answer in self._classify_group(group, digest)]

    def trace(self, prediction: Prediction) -> dict[str, object]:
        """A prediction with what made it, so that it can be traced: every output writes these fields.

        Args:
            prediction: An answer that this classifier has just given.

        Returns:
            ``label``, ``status``, ``top``, ``probabilities``, ``target``, ``precision``, ``ms``, ``unfamiliarity``,
            ``sha256`` and ``reason`` as in `Prediction`, and what `origin` gives.
        """
        p = prediction
        answer = {"label": p.label, "status": p.status, "top": p.top, "probabilities": p.probabilities}
        engine = {"target": self.target, "precision": self.precision, "ms": round(p.ms, 3)}
        picture = {"unfamiliarity": p.unfamiliarity, "sha256": p.sha256, "reason": p.reason}
        return {**answer, **engine, **picture, **self.origin()}

    def origin(self) -> dict[str, object]:
        """What answers, and when.

        Returns:
            ``threshold``, ``bundle`` (its name), ``bundle_digest``, ``version`` (of edge_all), ``engine`` (with its
            version and its device), ``target``, ``precision``, and ``time`` (now, UTC in ISO 8601).
        """
        return {
            "target": self.target,
            "precision": self.precision,
            "threshold": self._least,
            "bundle": self.bundle.name,
            "bundle_digest": self.bundle.digest,
            "version": __version__,
            "engine": self.engine.description,
            "time": now(),
        }

    def _classify_group(self, sources: Sequence[Path | str | bytes], digest: bool) -> list[Prediction | ImageError]:
        buffers = self._buffers.take(len(sources))
        decoded: list[_Decoded | ImageError] = []
        for source, buffer in zip(sources, buffers, strict=True):
            try:
                decoded.append(self._decode(source, buffer, digest))
            except ImageError as error:
                decoded.append(error)
        given = iter(self._predictions([self._run(known) for known in decoded if isinstance(known, _Decoded)]))
        return [known if isinstance(known, ImageError) else next(given) for known in decoded]

    def _decode(self, source: Path | str | bytes, buffer: npt.NDArray[np.uint8], digest: bool) -> _Decoded:
        """Put an image's pixels into a buffer ``uint8 [1, H, W, 3]``."""
        start = time.perf_counter()
        encoded = source if isinstance(source, bytes) else Path(source)
        if digest and isinstance(encoded, Path):
            encoded = image.read_bytes(encoded)
        size = image.decode_into(encoded, buffer[0])
        ms = (time.perf_counter() - start) * 1e3
        sha256 = hashlib.sha256(encoded).hexdigest() if digest and isinstance(encoded, bytes) else None
        return _Decoded(buffer, ms, size, sha256)

    def _run(self, decoded: _Decoded) -> _Ran:
        start = time.perf_counter()
        return _Ran(decoded, self.engine.run(decoded.pixels), (time.perf_counter() - start) * 1e3)

    def _predictions(self, ran: Sequence[_Ran]) -> list[Prediction]:
        """The predictions for some images, whose reasons are found together."""
        start = time.perf_counter()
        strange = [k for k, own in enumerate(ran) if self._input_check and own.unfamiliarity > 1]
        given = self._input_check.reasons([ran[k].decoded.pixels[0] for k in strange]) if self._input_check else []
        reasons = dict(zip(strange, given, strict=True))
        ms = (time.perf_counter() - start) * 1e3 / max(1, len(ran))
        return [self._prediction(own, reasons.get(k), ms) for k, own in enumerate(ran)]

    def _prediction(self, ran: _Ran, reason: str | None, reason_ms: float) -> Prediction:
        start, answers = time.perf_counter(), ran.answers
        # Python's own numbers: numpy is slower for so few.
        probabilities = answers.probabilities[0].tolist()
        distance = ran.unfamiliarity
        total = sum(probabilities) + 0.0 * distance  # NaN, if that is no number
        is_sound = _LEAST_SUM <= total <= _MOST_SUM and min(probabilities) >= -_TOLERANCE
        if not is_sound or len(probabilities) != self._count:
            raise self._unsound(total)
        most = max(probabilities)
        top = self._classes[probabilities.index(most)]
        status = "unfamiliar" if distance > 1 else "refer" if most < self._least else "ok"
        named = dict(zip(self._classes, probabilities, strict=True))
        label = None if status == "unfamiliar" else top
        deviation = () if answers.deviation is None else tuple(answers.deviation[0].tolist())
        ms = ran.decoded.ms + ran.graph_ms + reason_ms + (time.perf_counter() - start) * 1e3
        limits = None if answers.unfamiliarity is None else distance, self._least
        picture = ran.decoded.size, ran.decoded.sha256
        return Prediction(label, status, top, named, ms, ran.graph_ms, *limits, *picture, deviation, reason)

    def probabilities(self, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Class probabilities ``float32 [N, K]`` of decoded images ``uint8 [N, H, W, 3]``.

        Raises:
            TargetError: The engine answered with NaN, or with values that are no probabilities.
        """
        answers = self.engine.run(images)
        probabilities = answers.probabilities
        if not all(np.isfinite(values).all() for values in answers if values is not None):
            raise self._unsound(math.nan)
        totals = probabilities.sum(1)
        if not (np.abs(totals - 1) <= _TOLERANCE).all() or probabilities.min() < -_TOLERANCE:
            raise self._unsound(float(totals[np.abs(totals - 1).argmax()]))
        if probabilities.shape != (len(images), self._count):
            raise self._unsound(1.0)
        return probabilities

    def _unsound(self, total: float) -> TargetError:
        """The error for an answer that is none, with the sum of its probabilities."""
        what = f"values that are no probabilities (their sum is {total:.3g})" if math.isfinite(total) else "NaN"
        return TargetError(
            f"{self.bundle.name}: {self.engine.description} answered with {what} at {self.precision}; "
            "use --precision fp32 or another --target"
        )


class _Buffers(threading.local):
    """Arrays for pixels. Each thread uses its own ones again and again, so that an engine can read them in place."""

    def __init__(self, size: tuple[int, int]) -> None:
        self._size = size
        self._arrays: list[npt.NDArray[np.uint8]] = []

    def take(self, count: int) -> list[npt.NDArray[np.uint8]]:
        """The first `count` arrays, ``uint8 [1, H, W, 3]`` each; they are the same ones on every call."""
        while len(self._arrays) < count:
            self._arrays.append(np.empty((1, *self._size, 3), np.uint8))
        return self._arrays[:count]


ORIGIN = ("threshold", "bundle", "bundle_digest", "version", "engine", "target", "precision")
"""What `Classifier.origin` gives but for the time: a column each in a table of answers."""

_TOLERANCE = 0.01
"""How far a sum of probabilities may be from 1. The head is in float32 at every precision, and is off by 1e-6."""

_LEAST_SUM, _MOST_SUM = 1 - _TOLERANCE, 1 + _TOLERANCE

GROUP = 8
"""Images that are decoded together; larger groups gain nothing."""


def start(bundle: Bundle, options: EngineOptions, precision: str | None = None) -> Classifier:
    """Load a checked bundle's graph into an engine.

    Args:
        bundle: The bundle.
        options: The target, and how its engine is to run. As many threads may classify at the same time as it has
            streams.
        precision: ``fp32``, ``fp16`` or ``int8``; None takes what the bundle prefers for the target.

    Raises:
        BundleError: The bundle has no graph for that target and precision.
        TargetError: The engine or the device is not there, or it refuses the graph.
    """
    target = options.target
    check_available(target)
    precision = precision or next(iter(bundle.precisions(target)), "int8")
    check_available(target, precision)
    model = bundle.read(bundle.model_file(target, precision))
    return Classifier(bundle, target, precision, open_engine(model, options))
