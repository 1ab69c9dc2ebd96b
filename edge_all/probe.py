"""The probe: a few inputs with the answers of the exporting machine, with which a device checks itself."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edge_all import npz
from edge_all.bundle import Bundle
from edge_all.classifier import Classifier
from edge_all.errors import BundleError

FILE = "probe.npz"

TOLERANCE = {"fp32": 1e-3, "fp16": 0.02, "int8": 0.1}
"""Largest difference of a probability that passes, by precision. INT8 kernels round differently on different CPUs."""


_MAX_BYTES = 2**28
"""Largest probe that is unpacked; it has a few images."""


@dataclass(frozen=True)
class Verdict:
    """How a graph answered the probe.

    Attributes:
        images: How many inputs were run.
        same_label: How many of them got the expected label.
        max_difference: Largest difference of a probability; 1 where an answer is not a number.
        passed: Whether all labels are the same and no difference is over the tolerance.
    """

    images: int
    same_label: int
    max_difference: float
    passed: bool


def images(bundle: Bundle) -> npt.NDArray[np.uint8]:
    """The probe's inputs: ``uint8 [N, H, W, 3]``."""
    return _arrays(bundle)["images"]


def check(classifier: Classifier) -> Verdict:
    """Run the probe on a loaded classifier and compare its answers with those of the exporting machine.

    Raises:
        BundleError: The probe has no answers for this target and precision.
        TargetError: The engine fails.
    """
    arrays = _arrays(classifier.bundle)
    key = f"{classifier.target}.{classifier.precision}"
    if key not in arrays:
        raise BundleError(f"{classifier.bundle.path}: {FILE} holds no answers for {key}; export the bundle again")
    expected = arrays[key]
    answers = np.concatenate([_probabilities(classifier, image) for image in arrays["images"]])
    same = int(((answers.argmax(1) == expected.argmax(1)) & np.isfinite(answers).all(1)).sum())
    difference = float(np.nan_to_num(np.abs(answers - expected), nan=1.0).max())
    passed = same == len(expected) and difference <= TOLERANCE[classifier.precision]
    return Verdict(len(expected), same, difference, passed)


def pack(inputs: npt.NDArray[np.uint8], answers: dict[str, npt.NDArray[np.float32]]) -> bytes:
    """Make the probe's file.

    Args:
        inputs: ``uint8 [N, H, W, 3]``.
        answers: Class probabilities ``float32 [N, K]``, by "target.precision".

    Returns:
        The file's bytes.
    """
    return npz.pack({"images": inputs, **answers})


def _probabilities(classifier: Classifier, image: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """The answer for one image, ``float32 [1, K]``: NaN throughout where a value of it is not a number."""
    answers = classifier.engine.run(image[np.newaxis])
    if all(np.isfinite(values).all() for values in answers if values is not None):
        return answers.probabilities
    return np.full_like(answers.probabilities, np.nan)


def _arrays(bundle: Bundle) -> dict[str, npt.NDArray[np.uint8]]:
    """The probe's arrays, which are checked against the record before their content is unpacked."""
    wrong = BundleError(f"{bundle.path}: {FILE} is no probe of this bundle; export it again")
    try:
        found = npz.read(bundle.read(FILE), _MAX_BYTES)
        inputs = found["images"]
        answers = [values for name, values in found.items() if name != "images"]
    except (npz.NpzError, LookupError):
        raise wrong from None
    shape = (len(inputs), len(bundle.classes)) if inputs.ndim else ()
    if inputs.dtype != np.uint8 or inputs.shape[1:] != (*bundle.input_size, 3) or not len(inputs):
        raise wrong
    if any(values.shape != shape or values.dtype != np.float32 or not np.isfinite(values).all() for values in answers):
        raise wrong
    return found
