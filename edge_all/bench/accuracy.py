"""What a bundle's accuracy is measured on: images that it was trained on never count while there are others."""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_all import image
from edge_all.bundle import Bundle
from edge_all.errors import DataError

TRAINING_IMAGES = "training_images.txt"
"""Bundle file with the first 16 hex digits of the SHA-256 of every image that the head was fitted on."""


@dataclass(frozen=True)
class Labelled:
    """Labelled image files.

    Attributes:
        files: Paths.
        labels: Class number of each, in the bundle's order.
        basis: ``unseen`` (never trained on), or ``seen`` (training images: there were no others).
        seen: How many training images were found in the folder.
    """

    files: tuple[str, ...]
    labels: tuple[int, ...]
    basis: str
    seen: int


def labelled(data: Path, bundle: Bundle, limit: int | None = None) -> Labelled:
    """Find a bundle's classes in a folder with one folder a class, training images set apart.

    Args:
        data: The folder.
        bundle: Whose classes and whose training images.
        limit: Most images to return, spread evenly over the folder.

    Raises:
        DataError: No folder of one of the bundle's classes, or no image in them.
    """
    if not data.is_dir():
        raise DataError(f"--data {data}: no such folder; wanted one folder a class: {', '.join(bundle.classes)}")
    folders = {unicodedata.normalize("NFC", path.name): path for path in data.iterdir() if path.is_dir()}
    present = [(folders[name], k) for k, name in enumerate(bundle.classes) if name in folders]
    found = [(path, k) for folder, k in present for path in image.find([folder])]
    if not found:
        raise DataError(f"--data {data}: no image of {', '.join(bundle.classes)}; wanted one folder for each class")
    known = set(bundle.read(TRAINING_IMAGES).decode().split()) if TRAINING_IMAGES in bundle.record["files"] else set()
    fresh = [(path, k) for path, k in found if _digest(path) not in known]
    chosen = fresh or found
    if limit is not None and len(chosen) > limit:
        chosen = [chosen[i * len(chosen) // limit] for i in range(limit)]
    files, labels = zip(*((str(path), k) for path, k in chosen), strict=True)
    return Labelled(files, labels, "unseen" if fresh else "seen", len(found) - len(fresh))


def exported_accuracy(bundle: Bundle, target: str, precision: str) -> dict[str, Any]:
    """What the export measured under ``block``: its figures, not this machine's."""
    figures = bundle.record["metrics"]["block"][precision]
    figures = figures.get("targets", {}).get(target, figures)
    return {
        "accuracy": figures["accuracy"],
        "balanced_accuracy": figures["balanced_accuracy"],
        "agreement_fp32": 100.0 if precision == "fp32" else figures["agreement_fp32"],
        "images": bundle.record["dataset"]["images"],
        "accuracy_on": "export (block)",
    }


def measured_accuracy(
    images: Labelled, classes: Sequence[str], answers: list[int], reference: list[int] | None
) -> dict[str, Any]:
    """Accuracies in percent; a file that could not be answered counts as wrong (its answer is -1)."""
    pairs = list(zip(images.labels, answers, strict=True))
    recalls = []
    for k in sorted(set(images.labels)):
        own = [answer == k for label, answer in pairs if label == k]
        recalls.append(100 * sum(own) / len(own))
    same = [a == b for a, b in zip(answers, reference, strict=True)] if reference else []
    return {
        "accuracy": 100 * sum(label == answer for label, answer in pairs) / len(pairs),
        "balanced_accuracy": sum(recalls) / len(recalls),
        "recall": dict(zip((classes[k] for k in sorted(set(images.labels))), recalls, strict=True)),
        "agreement_fp32": 100 * sum(same) / len(same) if same else None,
        "images": len(pairs),
        "accuracy_on": f"{images.basis} images",
        "training_images_left_out": images.seen if images.basis == "unseen" else 0,
    }


def _digest(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]
