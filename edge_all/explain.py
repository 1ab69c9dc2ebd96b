"""Which parts of an image move the graph's answer: occlusion, through the graph that is deployed.

Each of 14 x 14 patches is blurred away in turn, and the graph answers the image again. The map holds how far the
probability of the top class falls. It shows where the graph's answer depends on pixels, not where a disease is.

Reference: Zeiler and Fergus, Visualizing and Understanding Convolutional Networks, ECCV 2014 (occlusion sensitivity).
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFilter

from edge_all import image, input_check, machine, overlay, parallel
from edge_all.classifier import Classifier
from edge_all.prediction import Prediction

CELLS = 14
"""Patches along each side: 16 pixels each in a field of 224, the size of a red cell there."""

BLUR = 1 / 28
"""Radius of the blur that takes a patch away, as a share of the image's width.

Cells lose their outline and keep their colour, so that the picture stays a smear. By the deletion test such maps find
the patches that matter better than those of the mean colour, whichever of the two deletes (docs/results.md).
"""

MEANING = "Where the graph's answer depends on pixels, not where a disease is."
"""What every map says."""

UNFAMILIAR = "The image is unfamiliar: no class is named, and its map means as little as one would."
"""What the map of an unfamiliar image says."""

_LITTLE = 0.01
"""If no patch lowers the probability by so much, the map says so."""

_BATCH = 28
"""Images that a GPU answers together; elsewhere each thread answers one after the other."""

_SHARE = 7
"""Images that a thread takes at a time."""

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Explanation:
    """What moves the answer for one image.

    Attributes:
        prediction: The answer for the whole image; the map is about its `top`.
        map: ``float32 [14, 14]``, from the top left: how far the probability of that class falls, 0 to 1, when this
            patch of the graph's input is blurred away; negative where it rises.
        notes: What is to be said with the map, in sentences.
        ms: Time for all of it, in milliseconds.
    """

    prediction: Prediction
    map: npt.NDArray[np.float32]
    notes: tuple[str, ...]
    ms: float


def explain(classifier: Classifier, source: Path | str | bytes, threads: int | None = None) -> Explanation:
    """Find what moves the answer for an image.

    Args:
        classifier: The quickest one is loaded with as many streams as threads work here.
        source: A path, or an image file's bytes.
        threads: How many work at the same time; None takes the cores that this process may use.

    Raises:
        ImageError: The file is not an image that can be classified.
        TargetError: The engine failed, or answered with a value that is not a number.
    """
    start = time.perf_counter()
    data = source if isinstance(source, bytes) else image.read_bytes(Path(source))
    prediction = classifier.classify(data)
    pixels = image.decode(data, classifier.bundle.input_size)
    top = classifier.bundle.classes.index(prediction.top)
    fallen = occlude(classifier, pixels, blurred(pixels), top, threads=threads)
    notes = [MEANING]
    if fallen.max() < _LITTLE:
        notes.append(
            f"No patch alone decides: none costs {_LITTLE * 100:.0f} percentage point, whatever the colours say."
        )
    if prediction.status == "unfamiliar":
        notes.append(UNFAMILIAR)
    return Explanation(prediction, fallen, tuple(notes), (time.perf_counter() - start) * 1e3)


def blurred(pixels: Pixels) -> Pixels:
    """What a patch is replaced by: the image ``uint8 [H, W, 3]``, blurred by `BLUR`."""
    radius = max(1.0, BLUR * pixels.shape[1])
    return np.asarray(Image.fromarray(pixels).filter(ImageFilter.GaussianBlur(radius)))


def occlude(
    classifier: Classifier,
    pixels: Pixels,
    fill: Pixels,
    top: int,
    cells: int = CELLS,
    threads: int | None = None,
) -> npt.NDArray[np.float32]:
    """How far the probability of a class falls, patch by patch.

    Args:
        classifier: What answers.
        pixels: The graph's input, ``uint8 [H, W, 3]``.
        fill: What a patch is replaced by, likewise.
        top: Which class, by its number.
        cells: Patches along each side.
        threads: As for `explain`.

    Returns:
        ``float32 [cells, cells]``.
    """
    places = patches(pixels.shape[:2], cells)
    group, threads = (_BATCH, 1) if classifier.target == "gpu" else (1, threads or machine.usable_cores())

    def answer(own: Sequence[tuple[slice, slice]]) -> list[float]:
        room = np.repeat(pixels[None], group, axis=0)
        found: list[float] = []
        for i in range(0, len(own), group):
            part = own[i : i + group]
            for k, patch in enumerate(part):
                room[k][patch] = fill[patch]
            found += _others(classifier.probabilities(room), top)[: len(part)].tolist()
            for k, patch in enumerate(part):
                room[k][patch] = pixels[patch]
        return found

    whole = _others(classifier.probabilities(pixels[None]), top)[0]
    share = max(group, _SHARE)
    answered = parallel.each(answer, [places[i : i + share] for i in range(0, len(places), share)], threads)
    fallen: npt.NDArray[np.float32] = (np.concatenate(answered) - whole).astype(np.float32)
    return fallen.reshape(cells, cells)


def _others(probabilities: npt.NDArray[np.float32], top: int) -> npt.NDArray[np.float64]:
    """What is left for the other classes, ``[N]``: near 1 a float32 has too few digits for the top class's own."""
    others: npt.NDArray[np.float64] = np.delete(probabilities, top, axis=1).sum(axis=1, dtype=np.float64)
    return others


def patches(size: Iterable[int], cells: int) -> list[tuple[slice, slice]]:
    """Rows and columns of each patch of an image of this height and width, from the top left, line by line."""
    rows, columns = ([round(side * k / cells) for k in range(cells + 1)] for side in size)
    return [
        (slice(top, bottom), slice(left, right))
        for top, bottom in zip(rows, rows[1:], strict=False)
        for left, right in zip(columns, columns[1:], strict=False)
    ]


def overlay_png(classifier: Classifier, data: bytes, threads: int | None = None) -> bytes:
    """The map of an image laid over it, with a scale, as a PNG file.

    Args:
        classifier: As for `explain`.
        data: An image file's bytes.
        threads: As for `explain`.

    Raises:
        ImageError: The file is not an image that can be classified.
        TargetError: The engine failed.
    """
    return draw(explain(classifier, data, threads), image.decode_whole(data, overlay.LEAST))


def draw(explanation: Explanation, picture: Pixels) -> bytes:
    """A map laid over its picture, ``uint8 [h, w, 3]`` of any size, with a scale, as a PNG file."""
    prediction = explanation.prediction
    status = input_check.in_words(prediction.status, prediction.reason)
    title = f"{status}: the map is about {prediction.top}, which is not the answer"
    if prediction.label:
        share = prediction.probabilities[prediction.label]
        title = f"{prediction.label}{'?' if prediction.status == 'refer' else ''}, {share:.1%}"
    scale = "percentage points less probable when blurred away"
    return overlay.heat(picture, explanation.map * 100, title, scale, explanation.notes)
