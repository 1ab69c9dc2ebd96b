"""What a study compares, and under which conditions; stored beside its results, so that they are never mixed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TypedDict, cast

from edge_all.errors import StudyError

from ..recipe import Conditions
from .store import write

FILE = "settings.json"


@dataclass(frozen=True)
class Settings:
    """What to study.

    Attributes:
        out: The study's folder, a new one or one to continue.
        conditions: The images, and how heads are trained on them.
        backbones: Files of ``backbones/``.
        selectors: Files of ``selectors/``.
        classifiers: Files of ``classifiers/``.
        protocols: Split protocols; empty is all that the images can be split by.
        weights: ``auto``, ``random`` or a file, by backbone; ``auto`` where none is given.
        taps: Where features are taken, by backbone; ``last`` where none is given.
        int8: How many of the best pipelines are exported with INT8, at most one of each backbone.
        images: Show images of the data set in the report.
        address: Of the Ray cluster that does the grid; None is this machine.
    """

    out: Path
    conditions: Conditions = Conditions()
    backbones: tuple[str, ...] = ()
    selectors: tuple[str, ...] = ()
    classifiers: tuple[str, ...] = ()
    protocols: tuple[str, ...] = ()
    weights: Mapping[str, str] = field(default_factory=dict)
    taps: Mapping[str, str] = field(default_factory=dict)
    int8: int = 3
    images: bool = True
    address: str | None = None

    def tap(self, backbone: str) -> str:
        """Where its features are taken."""
        return self.taps.get(backbone, "last")


class Stored(TypedDict):
    """``settings.json``: what a study was begun with. Cells depend on the first nine, and on the weights."""

    features: int | None
    augment: int
    balance: bool
    equalize: bool
    mask_corner: bool
    seed: int
    size: list[int] | None
    fingerprint: str
    """Of the data set."""
    groups_of: str
    """Digest of the given groups; empty where none were given."""
    data: str
    """Folder of the data set, absolute; empty for the Kaggle set, or where `labels` says where the images are."""
    labels: str
    """File of labels, absolute; empty where the folders are the classes."""
    groups: str
    """As given: a file, absolute, or a regular expression; empty for none."""
    weights: dict[str, str]
    """Digest of the weights, by backbone."""
    weights_from: dict[str, str]
    """``auto``, ``random`` or an absolute path, by backbone."""
    taps: dict[str, str]
    """By backbone."""


_SAME: Final = ("features", "augment", "balance", "equalize", "mask_corner", "seed", "size", "fingerprint")
"""What the cells of a study depend on, beside the groups and the weights."""


def begin(settings: Settings, fingerprint: str, weights: Mapping[str, str], groups_of: str = "") -> None:
    """Write the settings into the study's folder, or check that it was begun under the same conditions.

    Args:
        settings: What is asked for now.
        fingerprint: Of the data set.
        weights: Digest of the weights, by backbone.
        groups_of: Digest of the given groups; empty for none.

    Raises:
        StudyError: The folder cannot be written, holds something else, or was begun under other conditions.
    """
    before = read(settings.out) if (settings.out / FILE).exists() else None
    if before is None and settings.out.is_dir() and any(settings.out.iterdir()):
        raise StudyError(f"--out {settings.out}: holds something else than a study; give a new folder")
    now = _stored(settings, fingerprint, weights, groups_of)
    if before:
        _check_same(settings.out, before, now)
        for name in ("weights", "weights_from", "taps"):
            now[name] = before[name] | now[name]
    write(settings.out / FILE, json.dumps(now))


def read(folder: Path) -> Stored:
    """The settings that a study was begun with.

    Raises:
        StudyError: There is no study in the folder.
    """
    try:
        earlier = dict.fromkeys(("groups_of", "labels", "groups"), "")  # studies begun before these could be given
        return cast(Stored, earlier | json.loads((folder / FILE).read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        raise StudyError(f"{folder}: no study is there ({error}); give the folder of an edge-all study") from None


def _stored(settings: Settings, fingerprint: str, weights: Mapping[str, str], groups_of: str) -> Stored:
    conditions = settings.conditions
    return {
        "features": conditions.features,
        "augment": conditions.augment,
        "balance": conditions.balance,
        "equalize": conditions.equalize,
        "mask_corner": conditions.mask_corner,
        "seed": conditions.seed,
        "size": list(conditions.size) if conditions.size else None,
        "fingerprint": fingerprint,
        "groups_of": groups_of,
        "data": str(conditions.data.resolve()) if conditions.data else "",
        "labels": str(conditions.labels.resolve()) if conditions.labels else "",
        "groups": _absolute(conditions.groups) if conditions.groups else "",
        "weights": dict(weights),
        "weights_from": {name: _weights_from(settings.weights.get(name, "auto")) for name in weights},
        "taps": {name: settings.tap(name) for name in weights},
    }


def _check_same(out: Path, before: Stored, now: Stored) -> None:
    """Refuse to mix results of other conditions or other weights; the same images may lie in another folder."""
    for name in _SAME:
        if before[name] != now[name]:
            raise StudyError(
                f"--out {out}: begun with {name} {before[name]}, and {now[name]} was given; give another --out"
            )
    if before["groups_of"] != now["groups_of"]:
        raise StudyError(f"--out {out}: begun with other groups of images, or without; give another --out")
    for backbone, digest in now["weights"].items():
        earlier = before["weights"].get(backbone, digest)
        if earlier != digest:
            raise StudyError(
                f"--out {out}: begun with other weights of {backbone} ({earlier[:12]}, and {digest[:12]} were given); "
                "give another --out"
            )


def _weights_from(weights: str) -> str:
    return weights if weights in ("auto", "random") else str(Path(weights).resolve())


def _absolute(text: str) -> str:
    """The whole path of a file; any other text, such as a regular expression, as it is."""
    return str(Path(text).resolve()) if Path(text).is_file() else text
