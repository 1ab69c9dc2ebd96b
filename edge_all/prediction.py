"""The answer for one image."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Prediction:
    """The answer for one image.

    Attributes:
        label: The class that is named; None where `status` is ``unfamiliar``.
        status: ``ok``; ``refer`` where no class is probable enough for an answer; ``unfamiliar`` where the picture is
            not like the images that the bundle was made from, so that no class is named.
        top: The most probable class, whatever `status` is.
        probabilities: Probability of every class, in the bundle's order.
        ms: Time from the source (a file, or encoded bytes) to the label, in milliseconds.
        graph_ms: The part of this time that the engine took.
        size: Width and height of the image in its file, in pixels; None where decoded pixels were given.
        unfamiliarity: How far the picture is from the training images; above 1 it is ``unfamiliar``. None where the
            bundle's graph does not say.
        threshold: Where the most probable class is less probable than this, `status` is ``refer``.
        sha256: Of the bytes that were classified, in hexadecimal digits; None where it was not asked for.
        deviation: What the image adds to the scores of its run (`edge_all.drift`); empty where the bundle's graph does
            not say.
        reason: Why the picture is ``unfamiliar``, one of `edge_all.input_check.REASONS`; None where nothing stands out,
            where the bundle does not know, and where `status` is another.
    """

    label: str | None
    status: str
    top: str
    probabilities: dict[str, float]
    ms: float
    graph_ms: float
    unfamiliarity: float | None = None
    threshold: float = 0.0
    size: tuple[int, int] | None = None
    sha256: str | None = None
    deviation: tuple[float, ...] = ()
    reason: str | None = None
