"""The images of a data set, with their labels, digests and thumbnails, as one record."""

from __future__ import annotations

import hashlib
import unicodedata
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

THUMBNAIL = 32
"""Side of a thumbnail, in pixels."""


@dataclass(frozen=True, eq=False)
class Dataset:
    """The images of a data set, by class and then in natural order of their names; compared by `fingerprint`.

    Attributes:
        root: The folder that was read.
        classes: Class names, NFC-normalised and sorted; a label is an index into them.
        files: Paths relative to `root`, with forward slashes, as they are on disk.
        labels: ``int64 [N]``.
        digests: SHA-256 of each file's bytes, in hex.
        thumbnails: ``uint8 [N, 32, 32, 3]``.
        parts: ``train``, ``val`` or ``test`` for each image; empty where the data set has no splits of its own.
        given: The given group of each image, such as a patient or a slide; empty where none were given.
        notices: What a reader must know of the choice of the images, a line each.
    """

    root: Path
    classes: tuple[str, ...]
    files: tuple[str, ...]
    labels: npt.NDArray[np.int64]
    digests: tuple[str, ...]
    thumbnails: npt.NDArray[np.uint8]
    parts: tuple[str, ...] = ()
    given: tuple[str, ...] = ()
    notices: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.files)

    @property
    def fingerprint(self) -> str:
        """SHA-256, in hex, over the sorted lines ``digest path``: the same wherever the folder lies.

        A line names the class too where it is not the first folder of the path.
        """
        images = zip(self.digests, self.files, self.labels.tolist(), strict=True)
        lines = sorted(f"{digest} {normalized_name(file)}{self._label(file, label)}" for digest, file, label in images)
        return hashlib.sha256("\n".join(lines).encode("utf-8", "surrogateescape")).hexdigest()

    @property
    def given_digest(self) -> str:
        """SHA-256, in hex, over which images are of one given group, whatever it is called; empty without groups."""
        first = {group: file for group, file in zip(reversed(self.given), reversed(self.files), strict=False)}
        lines = sorted(
            f"{normalized_name(file)}\t{first[group]}" for file, group in zip(self.files, self.given, strict=False)
        )
        return hashlib.sha256("\n".join(lines).encode("utf-8", "surrogateescape")).hexdigest() if lines else ""

    def _label(self, file: str, label: int) -> str:
        name = self.classes[label]
        return "" if normalized_name(file).split("/")[0].strip() == name else f"\t{name}"

    @cached_property
    def paths(self) -> list[Path]:
        """The files' full paths."""
        return [self.root / file for file in self.files]

    def subset(self, chosen: npt.NDArray[np.bool_]) -> Dataset:
        """The images where `chosen`, ``bool [N]``, is true, under the same classes."""
        numbers = np.flatnonzero(chosen)
        files, digests, parts, given = (
            tuple(values[i] for i in numbers) if values else ()
            for values in (self.files, self.digests, self.parts, self.given)
        )
        return Dataset(
            self.root, self.classes, files, self.labels[numbers], digests, self.thumbnails[numbers], parts, given,
            self.notices,
        )  # fmt: skip

    def take(self, numbers: npt.NDArray[np.int64]) -> Dataset:
        """The images with these numbers, each once and in the data set's order, under the same classes."""
        return self.subset(np.isin(np.arange(len(self)), numbers))

    @property
    def counts(self) -> dict[str, int]:
        """Number of images of each class."""
        counts = np.bincount(self.labels, minlength=len(self.classes))
        return dict(zip(self.classes, counts.tolist(), strict=True))


def normalized_name(text: str) -> str:
    """A name in Unicode's form NFC, so that names written on different systems compare equal."""
    return unicodedata.normalize("NFC", text)


def spread(numbers: npt.NDArray[np.int64], most: int) -> npt.NDArray[np.int64]:
    """At most `most` of some image numbers, evenly spread; images are sorted by class and file."""
    places = np.linspace(0, len(numbers) - 1, min(most, len(numbers))).round().astype(int)
    return np.asarray(numbers[places])
