"""The accuracy of a row: measured on images that the bundle was not trained on, where there are any."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np

from edge_all import class_folders, inputs, intervals, label_file, protocols
from edge_all.bench.rows import Accuracy
from edge_all.bundle import Bundle
from edge_all.errors import DataError
from edge_all.record import Score

_NO_FOLDER = "no folder"

_NAMED = 3
"""Files, or folders, that a line names."""


@dataclass(frozen=True)
class Labelled:
    """Labelled image files.

    Attributes:
        files: Paths.
        labels: Class number of each, in the bundle's order.
        basis: ``unseen`` (not trained on), or ``seen`` (training images, because there were no others).
        seen: How many training images there were in the folder.
        unreadable: Files that cannot be read at all, and are not among `files`.
        notices: What a reader must know of the choice of the images, a line each.
        groups: Patient or slide of each image, an empty name where it is not known; empty where none were given.
    """

    files: tuple[str, ...]
    labels: tuple[int, ...]
    basis: str
    seen: int
    unreadable: tuple[str, ...] = ()
    notices: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()


def labelled(data: Path | None, bundle: Bundle, limit: int | None = None, labels: Path | None = None) -> Labelled:
    """List the images of a bundle's classes, without those that it was trained on.

    Args:
        data: Folder with one folder for each class, or with splits of which the one for testing is taken. Case and
            blanks of a folder's name need not be the class's. None is the folder of `labels`.
        bundle: The bundle.
        limit: Most images to return, spread evenly over the folder.
        labels: CSV file, ``file,label[,group][,split]``, that names images and their classes in place of the folders;
            where it has test images, these alone are taken.

    Raises:
        DataError: No folder of one of the bundle's classes, no image in them, or none that can be read.
    """
    groups: Mapping[Path, str] = {}
    if labels:
        everything, notices, groups = _listed(labels, data, bundle.classes)
    else:
        everything, notices = _of_folders(data or Path(), bundle.classes)
    digests = {path: _digest(path) for path, _ in everything}
    readable = [(path, k) for path, k in everything if digests[path]]
    unreadable = tuple(str(path) for path, digest in digests.items() if not digest)
    if not readable:
        raise DataError(f"--data {data or labels}: none of {len(everything)} images can be read, first {unreadable[0]}")
    known = bundle.training_images()
    unseen = [(path, k) for path, k in readable if digests[path] not in known]
    chosen = unseen or readable
    if limit is not None and len(chosen) > limit:
        chosen = [chosen[i * len(chosen) // limit] for i in range(limit)]
    files, numbers = zip(*((str(path), k) for path, k in chosen), strict=True)
    of_images = tuple(groups.get(path, "") for path, _ in chosen) if groups else ()
    seen = len(readable) - len(unseen)
    return Labelled(files, numbers, "unseen" if unseen else "seen", seen, unreadable, tuple(notices), of_images)


def _listed(
    labels: Path, data: Path | None, classes: Sequence[str]
) -> tuple[list[tuple[Path, int]], list[str], dict[Path, str]]:
    """The images that a file of labels lists, the test images alone where it names some; lines as of `_found`; groups.

    Groups are given by the image's path, where the file names them.
    """
    read = label_file.read(labels, data)
    entries = [entry for entry in read.entries if entry.part == label_file.TEST] or read.entries
    notices = list(read.notices)
    if len(entries) < len(read.entries):
        notices.append(
            f"{labels} has splits, and only its {len(entries)} test images of {len(read.entries)} were taken"
        )
    counts = Counter(entry.label for entry in entries)
    matched, spelled = _matched(list(counts), classes, "label")
    numbers = {label: k for k, label in matched.items()}
    if not numbers:
        raise DataError(f"{labels}: no label is one of the classes {', '.join(classes)}; it has {_first(list(counts))}")
    left_out = [f"{count} of {label}" for label, count in counts.most_common() if label not in numbers]
    if left_out:
        total = sum(count for label, count in counts.items() if label not in numbers)
        notices.append(f"{total} images of {labels} were left out, for their label is no class: {_first(left_out)}")
    images = [(read.root / entry.file, numbers[entry.label]) for entry in entries if entry.label in numbers]
    groups = {read.root / entry.file: entry.group for entry in entries if entry.group}
    notices += [*spelled, *_missing(labels, matched, classes)]
    return sorted(images, key=lambda image: image[1]), notices, groups


def _of_folders(data: Path, classes: Sequence[str]) -> tuple[list[tuple[Path, int]], list[str]]:
    """The images of a folder, or of its test split."""
    splits = class_folders.splits(data)
    if not splits:
        return _found(data, classes)
    images, notices = _found(splits["test"], classes)
    return images, [f"{data} holds splits, and only the images of {splits['test']} were taken", *notices]


def _found(data: Path, classes: Sequence[str]) -> tuple[list[tuple[Path, int]], list[str]]:
    """The images of the classes with the classes' numbers, and lines on what was left out and what is not there."""
    wanted = f"wanted one folder for each class: {', '.join(classes)}"
    if not data.exists():
        raise DataError(f"--data {data}: no such folder; {wanted}")
    folders = class_folders.find(data)
    matched, notices = _matched(list(folders), classes, "folder")
    if not matched:
        class_folders.check_layout(data, folders.values())
    images = {
        k: [item.path for item in inputs.find([folders[name]]).items[0] if item.error != inputs.EMPTY]
        for k, name in matched.items()
    }
    if not any(images.values()):
        there = f"it holds {class_folders.listed(folders.values())}" if folders else "it holds no folder"
        raise DataError(f"--data {data}: no image of {', '.join(classes)}, for {there}; {wanted}")
    notices += _left_out(data, [folder for name, folder in folders.items() if name not in matched.values()])
    notices += _missing(data, {k for k, paths in images.items() if paths}, classes)
    return [(path, k) for k, paths in images.items() for path in paths], notices


def _missing(place: Path, there: Collection[int], classes: Sequence[str]) -> list[str]:
    """A line on the classes, of those with these numbers, that have no image."""
    missing = [name for k, name in enumerate(classes) if k not in there]
    return [f"{place} holds no image of {', '.join(missing)}: the figures say nothing of that"] if missing else []


def _matched(names: Sequence[str], classes: Sequence[str], what: str) -> tuple[dict[int, str], list[str]]:
    """Names of folders or labels by the number of their class, and a line for each that is not quite the class's."""
    by_key = {class_folders.key(name): name for name in names}
    matched: dict[int, str] = {}
    notices = []
    for k, name in enumerate(classes):
        near = name if name in names else by_key.get(class_folders.key(name))
        if near is not None:
            matched[k] = near
            if near != name:
                notices.append(f"the {what} {near!r} was taken for the class {name!r}")
    return matched, notices


def _left_out(data: Path, folders: Sequence[Path]) -> list[str]:
    """A line on the images that are in none of the classes' folders, if there are any."""
    counts = Counter(
        {folder.name: sum(not item.error for item in inputs.find([folder]).items[0]) for folder in folders}
    )
    counts[_NO_FOLDER] = sum(path.suffix.lower() in inputs.SUFFIXES and path.is_file() for path in data.iterdir())
    if not counts.total():
        return []
    places = [f"{count} in {name}" for name, count in counts.most_common() if count]
    return [f"{counts.total()} images of {data} were left out, for their folder is no class: {_first(places)}"]


def _first(words: Sequence[str]) -> str:
    return ", ".join([*words[:_NAMED], "..."] if len(words) > _NAMED else words)


def unreadable_notices(images: Labelled, answers: Collection[Sequence[int]]) -> list[str]:
    """A line on the files that could not be read, if there are any: they count in no figure.

    Args:
        images: The images.
        answers: Of each row, the number of the class that each file got, -1 for one that could not be classified.
    """
    refused = {file for row in answers for file, answer in zip(images.files, row, strict=True) if answer < 0}
    unreadable = [*images.unreadable, *(file for file in images.files if file in refused)]
    if not unreadable:
        return []
    total = len(images.files) + len(images.unreadable)
    return [f"{len(unreadable)} of {total} images could not be read and count in no figure: {_first(unreadable)}"]


def exported_accuracy(bundle: Bundle, target: str, precision: str) -> Accuracy:
    """The accuracy of a graph that the export measured by cross-validation under the headline protocol."""
    score = _exported_score(bundle, target, precision)
    exported: Accuracy = {
        "accuracy": score["accuracy"],
        "balanced_accuracy": score["balanced_accuracy"],
        "agreement_fp32": 100.0 if precision == "fp32" else score["agreement_fp32"],
        "images": bundle.record["dataset"]["images"],
        "accuracy_on": f"export ({protocols.headline(bundle.record['metrics'])})",
    }
    if "intervals" in score:
        exported["intervals"] = score["intervals"]
    if "sensitivity" in score:
        exported["sensitivity"] = score["sensitivity"]
    if "specificity" in score:
        exported["specificity"] = score["specificity"]
    return exported


def measured_accuracy(
    images: Labelled,
    classes: Sequence[str],
    answers: list[int],
    reference: list[int] | None,
    positive: Sequence[str] = (),
) -> Accuracy:
    """The accuracy on labelled images.

    Args:
        images: The images.
        classes: Class names of the bundle.
        answers: Number of the class that each image got. A file that could not be read has -1, and does not count.
        reference: The same of FP32; None where it was not measured.
        positive: The bundle's positive classes.

    Raises:
        DataError: No image could be read.
    """
    read = [i for i, answer in enumerate(answers) if answer >= 0]
    if not read:
        raise DataError(f"none of {len(answers)} images could be classified, first {images.files[0]}")
    pairs = [(images.labels[i], answers[i]) for i in read]
    present = sorted({label for label, _ in pairs})
    recalls = []
    for k in present:
        right = [answer == k for label, answer in pairs if label == k]
        recalls.append(100 * sum(right) / len(right))
    same = [answers[i] == reference[i] for i in read] if reference else []
    measured: Accuracy = {
        "accuracy": 100 * sum(label == answer for label, answer in pairs) / len(pairs),
        "balanced_accuracy": sum(recalls) / len(recalls),
        "recall": dict(zip((classes[k] for k in present), recalls, strict=True)),
        "agreement_fp32": 100 * sum(same) / len(same) if same else None,
        "images": len(pairs),
        "accuracy_on": f"{images.basis} images",
        "training_images_left_out": images.seen if images.basis == "unseen" else 0,
        "unreadable": len(images.unreadable) + len(answers) - len(read),
    }
    labels, given = np.array(pairs).T
    numbers = [classes.index(name) for name in positive]
    units = intervals.Units.named([images.groups[i] if images.groups else "" for i in read])
    measured["intervals"] = intervals.of_score(labels, given, classes, units, numbers)
    return cast(Accuracy, {**measured, **intervals.detection(labels, given, numbers)})


def _exported_score(bundle: Bundle, target: str, precision: str) -> Score:
    measured = bundle.record["metrics"]
    metrics = measured[protocols.headline(measured)]
    if precision == "int8":
        return metrics["int8"].get("targets", {}).get(target, metrics["int8"])
    return metrics["fp16"] if precision == "fp16" else metrics["fp32"]


def _digest(path: Path) -> str:
    """As in the list of training images; empty for a file that cannot be read."""
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()[:16]
    except OSError:
        return ""
