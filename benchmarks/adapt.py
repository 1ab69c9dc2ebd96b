"""Is a bundle true at other sites once it is adapted? python benchmarks/adapt.py --data DIR --bundle DIR [--json FILE]

Sites are simulated: the fields that the bundle was not trained on, changed as another lamp, camera, stain, focus or
scale would. Half of them, near-duplicates together, are the technician's, who labels a few of each class; the others
are classified before and after by the graph that would run, INT8. Then the halves change places, so that every field is
tested once. The bundle must have been exported from a part of DIR: --hold-out alone does not do, since the bundle is
fitted on all images in the end.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

import click
import numpy as np
from PIL import Image

from edge_all import bundle as bundles
from edge_all import load, machine
from edge_all.bundle import Bundle
from edge_all.export import features
from edge_all.export.adapt.request import Request, Result
from edge_all.export.adapt.run import adapt
from edge_all.export.dataset import Dataset, groups, read, spread
from edge_all.export.dataset.changes import Change
from edge_all.progress import Console, Progress, ignore

SITES: tuple[Change, ...] = (
    Change("warm lamp", gains=(1.08, 1.0, 0.85)),
    Change("red -20, blue +20 %", gains=(0.8, 1.0, 1.2)),
    Change("gamma 1.5", gamma=1.5),
    Change("haematoxylin x1.4, eosin x0.6", stain=(1.4, 0.6)),
    Change("blur 3 px", blur=3.0),
    Change("another lab: colours, zoom 1.2, blur 1 px", gains=(0.9, 1.05, 1.1), stain=(1.2, 1.1), zoom=1.2, blur=1.0),
    Change("zoom 1.5", zoom=1.5),
)


@dataclass(frozen=True)
class Folder:
    """How many fields of each class a technician labels.

    Attributes:
        name: For the table.
        each: Of every class but the first.
        first: Of the first class, which is Benign in the public set.
    """

    name: str
    each: int
    first: int


FOLDERS = (Folder("5", 5, 5), Folder("10", 10, 10), Folder("5, four fifths Benign", 5, 60))


class Shares(TypedDict):
    """Percent of the test fields."""

    accuracy: float
    ok: float
    wrong_ok: float


class Row(TypedDict):
    """One site with one folder.

    Attributes:
        site: The change.
        folder: How many fields of each class were labelled.
        half: Which half of the fields was the technician's, 1 or 2.
        fields: How many these were.
        tested: How many others were classified.
        before: By the bundle as it is.
        after: By the new one; by the old one again where the gate refused.
        refused: What the gate refused for; empty where it passed.
        home: Accuracy on the kept training features, before and after.
        seconds: What adapting took.
        cpu_seconds: What it took of all cores together, which other work on the machine changes little.
    """

    site: str
    folder: str
    half: int
    fields: int
    tested: int
    before: Shares
    after: Shares
    refused: list[str]
    home: list[float]
    seconds: float
    cpu_seconds: float


@click.command()
@click.option("--data", required=True, type=click.Path(path_type=Path), help="Folder with one folder a class.")
@click.option("--bundle", "path", required=True, type=click.Path(path_type=Path), help="Exported from a part of it.")
@click.option("--site", "wanted", multiple=True, help="Only sites whose name begins so.")
@click.option("--folder", "sizes", multiple=True, help="Only folders whose name begins so.")
@click.option("--half", "halves", multiple=True, type=click.IntRange(1, 2), help="Only this half.  [default: both]")
@click.option("--json", "report", type=click.Path(path_type=Path), help="Write the figures to a file.")
def main(
    data: Path,
    path: Path,
    wanted: tuple[str, ...],
    sizes: tuple[str, ...],
    halves: tuple[int, ...],
    report: Path | None,
) -> None:
    """Print a table of all sites."""
    bundle = bundles.load(path)
    fields = _unseen(read(data), bundle)
    print("| site | labelled a class | half | before: right, ok, wrong with ok | after | home | seconds (CPU) | |")
    print("|" + "---|" * 8)
    rows: list[Row] = []
    for site in SITES:
        if wanted and not site.name.startswith(wanted):
            continue
        pixels = np.stack(list(features.changed(fields, bundle.input_size, site)))
        for folder in FOLDERS:
            for half in halves or (1, 2) if not sizes or folder.name in sizes else ():
                rows.append(_row(bundle, site, folder, fields, pixels, half))
                print(_line(rows[-1]), flush=True)
                if report:
                    about = {"machine": machine.describe(), "bundle": bundle.name, "digest": bundle.digest}
                    report.write_text(json.dumps({**about, "rows": rows}, indent=1) + "\n", encoding="utf-8")


def _unseen(data: Dataset, bundle: Bundle) -> Dataset:
    """The images that the bundle was not trained on, and no near-duplicates of those that it was."""
    known = np.array([digest[:16] in bundle.training_images() for digest in data.digests])
    together = groups(data)
    unseen = ~np.isin(together, together[known])
    if not unseen.any():
        raise click.UsageError(
            f"{bundle.path} was fitted on all images of {data.root}; wanted one exported from a part"
        )
    return data.subset(unseen)


def _first_half(data: Dataset) -> np.ndarray:
    """``bool [N]``: half of the fields of each class; near-duplicates are in one half."""
    together = groups(data)
    chosen = np.zeros(len(data), bool)
    for label in np.unique(data.labels):
        own = np.unique(together[data.labels == label])
        chosen |= np.isin(together, own[::2]) & (data.labels == label)
    return chosen


def _row(bundle: Bundle, site: Change, folder: Folder, fields: Dataset, pixels: np.ndarray, half: int) -> Row:
    labelled = _first_half(fields) if half == 1 else ~_first_half(fields)
    with tempfile.TemporaryDirectory() as room:
        chosen = _chosen(fields.labels, labelled, folder)
        _write(Path(room, "site"), fields, pixels, chosen)
        start, cpu = time.perf_counter(), time.process_time()
        result = adapt(Request(bundle, Path(room, "site"), Path(room, "adapted")), Console(_silent, lambda line: None))
        seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - cpu
        tested = ~labelled
        before = _shares(bundle, pixels[tested], fields.labels[tested])
        after = _shares(result.bundle, pixels[tested], fields.labels[tested]) if result.bundle else before
    home = result.lineage["at_home"]
    return {
        "site": site.name,
        "folder": folder.name,
        "half": half,
        "fields": len(chosen),
        "tested": int(tested.sum()),
        "before": before,
        "after": after,
        "refused": _refused(result),
        "home": [home["before"]["accuracy"], home["after"]["accuracy"]],
        "seconds": round(seconds, 1),
        "cpu_seconds": round(cpu_seconds, 1),
    }


def _chosen(labels: np.ndarray, labelled: np.ndarray, folder: Folder) -> np.ndarray:
    """Numbers of the fields that the technician labels, spread over each class."""
    counts = [folder.first if k == 0 else folder.each for k in range(int(labels.max()) + 1)]
    return np.concatenate(
        [spread(np.flatnonzero(labelled & (labels == label)), count) for label, count in enumerate(counts)]
    )


def _write(root: Path, fields: Dataset, pixels: np.ndarray, chosen: Sequence[int] | np.ndarray) -> None:
    for number in chosen:
        place = root / fields.classes[fields.labels[number]]
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels[number]).save(place / f"{number}.png")


def _shares(bundle: Bundle, pixels: np.ndarray, labels: np.ndarray) -> Shares:
    classifier = load(bundle.path)
    answers = [classifier.classify_pixels(image) for image in pixels]
    right = np.array([answer.top for answer in answers]) == np.array(bundle.classes)[labels]
    ok = np.array([answer.status == "ok" for answer in answers])
    shares = (right.mean(), ok.mean(), (ok & ~right).mean())
    accuracy, answered, wrong = (round(100 * float(share), 2) for share in shares)
    return {"accuracy": accuracy, "ok": answered, "wrong_ok": wrong}


def _refused(result: Result) -> list[str]:
    return [f"{check.name}: {check.after}" for check in result.checks if not check.passed]


def _line(row: Row) -> str:
    before, after = (
        f"{shares['accuracy']:.1f}, {shares['ok']:.1f}, {shares['wrong_ok']:.1f}"
        for shares in (row["before"], row["after"])
    )
    home = " -> ".join(f"{value:.1f}" for value in row["home"])
    refused = f"refused: {'; '.join(row['refused'])}" if row["refused"] else ""
    seconds = f"{row['seconds']:.0f} ({row['cpu_seconds']:.0f})"
    return f"| {row['site']} | {row['folder']} | {row['half']} | {before} | {after} | {home} | {seconds} | {refused} |"


@contextmanager
def _silent(title: str) -> Iterator[Progress]:
    yield ignore


if __name__ == "__main__":
    main()
