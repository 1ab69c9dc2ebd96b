"""What a study compares, and how; kept beside its results, so that it is only ever continued as it was begun."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edge_all.errors import StudyError

FILE = "settings.json"


@dataclass(frozen=True)
class Settings:
    """What to study.

    Attributes:
        out: The study's folder, a new one or one to continue.
        data: Folder with one folder a class; None takes the Kaggle set through kagglehub.
        backbones: Files of ``backbones/``.
        selectors: Files of ``selectors/``.
        classifiers: Files of ``classifiers/``.
        protocols: Split protocols.
        weights: ``auto``, ``random`` or a file, by backbone; ``auto`` where none is given.
        taps: Where features are taken, by backbone; ``last`` where none is given.
        features: How many features the selector keeps; None is the selector's default.
        augment: Changed copies of every training image.
        balance: Copies of the smallest class's images alone (one of the paper's options).
        equalize: Histogram equalisation in the graph (another).
        size: Height and width of the graph's input (another: 240 x 320); None is the backbone's own.
        mask_corner: Paint the corner with the scale bar grey.
        int8: How many of the best pipelines, one a backbone, are exported with INT8.
        images: Show images of the data set in the report.
        seed: Of every random choice.
    """

    out: Path
    data: Path | None = None
    backbones: tuple[str, ...] = ()
    selectors: tuple[str, ...] = ()
    classifiers: tuple[str, ...] = ()
    protocols: tuple[str, ...] = ()
    weights: Mapping[str, str] = field(default_factory=dict)
    taps: Mapping[str, str] = field(default_factory=dict)
    features: int | None = None
    augment: int = 0
    balance: bool = False
    equalize: bool = False
    size: tuple[int, int] | None = None
    mask_corner: bool = False
    int8: int = 3
    images: bool = True
    seed: int = 0

    def tap(self, backbone: str) -> str:
        """Where its features are taken."""
        return self.taps.get(backbone, "last")

    @property
    def conditions(self) -> dict[str, Any]:
        """All that a cell's figures depend on, beside what its name says."""
        names = ("features", "augment", "balance", "equalize", "mask_corner", "seed")
        return {name: getattr(self, name) for name in names} | {"size": list(self.size) if self.size else None}


def keep(settings: Settings, fingerprint: str, weights: Mapping[str, str]) -> None:
    """Write the settings into the study's folder, or check that it was begun under the same.

    Args:
        settings: What is asked for now.
        fingerprint: Of the data set.
        weights: Digest of the weights, by backbone.

    Raises:
        StudyError: The folder cannot be written, holds something else, or was begun under other conditions.
    """
    wanted = settings.conditions | {"fingerprint": fingerprint, "data": str(settings.data or "")}
    before = load(settings.out) if (settings.out / FILE).exists() else None
    if before is None and settings.out.is_dir() and any(settings.out.iterdir()):
        raise StudyError(f"--out {settings.out}: holds something else than a study; give a new folder")
    for name, value in wanted.items() if before else ():
        if before[name] != value and name != "data":
            raise StudyError(
                f"--out {settings.out}: begun with {name} {before[name]}, and {value} was given; give another --out"
            )
    digests = dict(before["weights"]) if before else {}
    for backbone, digest in weights.items():
        if digests.setdefault(backbone, digest) != digest:
            raise StudyError(
                f"--out {settings.out}: begun with other weights of {backbone} ({digests[backbone][:12]}, and "
                f"{digest[:12]} were given); give another --out"
            )
    sources = (dict(before["weights_from"]) if before else {}) | {
        name: _absolute(settings.weights.get(name, "auto")) for name in weights
    }
    taps = (dict(before["taps"]) if before else {}) | {name: settings.tap(name) for name in weights}
    content = wanted | {"data": str(settings.data.resolve()) if settings.data else ""}
    write(settings.out / FILE, json.dumps(content | {"weights": digests, "weights_from": sources, "taps": taps}))


def load(folder: Path) -> dict[str, Any]:
    """The settings that a study was begun with.

    Raises:
        StudyError: It is no study.
    """
    try:
        found: dict[str, Any] = json.loads((folder / FILE).read_text())
    except (OSError, ValueError) as error:
        raise StudyError(f"{folder}: no study is there ({error}); give the folder of an edge-all study") from None
    return found


def write(path: Path, content: str) -> None:
    """Write a file of a study aside and rename it.

    Raises:
        StudyError: It cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        aside = path.with_name(f".{path.name}.new")
        aside.write_text(content + "\n", encoding="utf-8")
        os.replace(aside, path)
    except OSError as error:
        raise StudyError(f"--out {path.parent}: cannot be written ({error.strerror}); give another folder") from None


def _absolute(weights: str) -> str:
    return weights if weights in ("auto", "random") else str(Path(weights).resolve())
