"""The probe: a few inputs with the answers they had where the bundle was made, for a device to check itself with."""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edge_all.bundle import Bundle
from edge_all.classifier import Classifier
from edge_all.errors import BundleError

FILE = "probe.npz"

TOLERANCE = {"fp32": 1e-3, "fp16": 0.02, "int8": 0.1}
"""Largest difference of a probability that passes. INT8 kernels round differently on different CPUs."""


@dataclass(frozen=True)
class Verdict:
    """What the probe found.

    Attributes:
        images: How many inputs were run.
        same_label: How many got the label that was expected.
        max_difference: Largest difference of a probability.
        passed: Every label is the same and no probability is off by more than the tolerance.
    """

    images: int
    same_label: int
    max_difference: float
    passed: bool


def images(bundle: Bundle) -> npt.NDArray[np.uint8]:
    """The probe's inputs: ``uint8 [N, H, W, 3]``."""
    return _arrays(bundle)["images"]


def check(classifier: Classifier) -> Verdict:
    """Run the probe on a loaded classifier and compare with the answers of the machine that made the bundle."""
    arrays = _arrays(classifier.bundle)
    key = f"{classifier.target}.{classifier.precision}"
    if key not in arrays:
        raise BundleError(f"{classifier.bundle.path}: {FILE} holds no answers for {key}; export the bundle again")
    wanted = arrays[key]
    given = np.concatenate([classifier.probabilities(image[np.newaxis]) for image in arrays["images"]])
    same = int((given.argmax(1) == wanted.argmax(1)).sum())
    difference = float(np.abs(given - wanted).max())
    passed = same == len(wanted) and difference <= TOLERANCE[classifier.precision]
    return Verdict(len(wanted), same, difference, passed)


def pack(inputs: npt.NDArray[np.uint8], answers: dict[str, npt.NDArray[np.float32]]) -> bytes:
    """The file's bytes, from inputs ``uint8 [N, H, W, 3]`` and the answers ``float32 [N, K]`` by "target.precision"."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, images=inputs, **answers)  # type: ignore[arg-type]
    return buffer.getvalue()


def _arrays(bundle: Bundle) -> dict[str, npt.NDArray[np.uint8]]:
    with np.load(io.BytesIO(bundle.read(FILE)), allow_pickle=False) as archive:
        return dict(archive)
