"""The accuracy of a row: measured on images that the bundle was not trained on, where there are any."""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edge_all import image
from edge_all.bench.rows import Accuracy
from edge_all.bundle import Bundle
from edge_all.errors import DataError
from edge_all.record import Score


@dataclass(frozen=True)
class Labelled:
    """Labelled image files.

    Attributes:
        files: Paths.
        labels: Class number of each, in the bundle's order.
        basis: ``unseen`` (not trained on), or ``seen`` (training images, because there were no others).
        seen: How many training images there were in the folder.
    """

    files: tuple[str, ...]
    labels: tuple[int, ...]
    basis: str
    seen: int


def labelled(data: Path, bundle: Bundle, limit: int | None = None) -> Labelled:
    """List the images of a bundle's classes, without those that it was trained on.

    Args:
        data: Folder with one folder for each class.
        bundle: The bundle.
        limit: Most images to return, spread evenly over the folder.

    Raises:
        DataError: No folder of one of the bundle's classes, or no image in them.
    """
    if not data.is_dir():
        raise DataError(f"--data {data}: no such folder; wanted one folder for each class: {', '.join(bundle.classes)}")
    folders = {unicodedata.normalize("NFC", path.name): path for path in data.iterdir() if path.is_dir()}
    present = [(folders[name], k) for k, name in enumerate(bundle.classes) if name in folders]
    everything = [(path, k) for folder, k in present for path in image.find([folder])]
    if not everything:
        raise DataError(f"--data {data}: no image of {', '.join(bundle.classes)}; wanted one folder for each class")
    known = bundle.training_images()
    unseen = [(path, k) for path, k in everything if _digest(path) not in known]
    chosen = unseen or everything
    if limit is not None and len(chosen) > limit:
        chosen = [chosen[i * len(chosen) // limit] for i in range(limit)]
    files, labels = zip(*((str(path), k) for path, k in chosen), strict=True)
    return Labelled(files, labels, "unseen" if unseen else "seen", len(everything) - len(unseen))


def exported_accuracy(bundle: Bundle, target: str, precision: str) -> Accuracy:
    """The accuracy of a graph that the export measured by cross-validation under ``block``."""
    score = _exported_score(bundle, target, precision)
    return {
        "accuracy": score["accuracy"],
        "balanced_accuracy": score["balanced_accuracy"],
        "agreement_fp32": 100.0 if precision == "fp32" else score["agreement_fp32"],
        "images": bundle.record["dataset"]["images"],
        "accuracy_on": "export (block)",
    }


def measured_accuracy(
    images: Labelled, classes: Sequence[str], answers: list[int], reference: list[int] | None
) -> Accuracy:
    """The accuracy on labelled images.

    Args:
        images: The images.
        classes: Class names of the bundle.
        answers: Number of the class that each image got. A file that could not be classified has -1, and is wrong.
        reference: The same of FP32; None where it was not measured.
    """
    pairs = list(zip(images.labels, answers, strict=True))
    recalls = []
    for k in sorted(set(images.labels)):
        right = [answer == k for label, answer in pairs if label == k]
        recalls.append(100 * sum(right) / len(right))
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


def _exported_score(bundle: Bundle, target: str, precision: str) -> Score:
    metrics = bundle.record["metrics"]["block"]
    if precision == "int8":
        return metrics["int8"].get("targets", {}).get(target, metrics["int8"])
    return metrics["fp16"] if precision == "fp16" else metrics["fp32"]


def _digest(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]
