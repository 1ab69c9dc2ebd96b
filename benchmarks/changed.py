"""What does a bundle say when the microscope changes? python benchmarks/changed.py --data DIR [--json FILE]

Fields that the bundle was not trained on are changed in one way each: focus, light, colour, stain, scale, noise,
compression. Counted are the right labels, the statuses, and what can hurt somebody: wrong labels with status ``ok``.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TypedDict

import click
import numpy as np

from edge_all import bundle as bundles
from edge_all import load, machine
from edge_all.classifier import Classifier
from edge_all.export import features
from edge_all.export.dataset import Dataset, read
from edge_all.export.dataset.changes import Change

CHANGES: tuple[Change, ...] = (
    Change("as they are"),
    Change("quarter turn", turns=1),
    Change("blur 2 px", blur=2.0),
    Change("blur 2.5 px", blur=2.5),
    Change("blur 3 px", blur=3.0),
    Change("blur 4 px", blur=4.0),
    Change("gamma 0.7", gamma=0.7),
    Change("gamma 1.5", gamma=1.5),
    Change("gamma 1.8", gamma=1.8),
    Change("red -20 %, blue +20 %", gains=(0.8, 1.0, 1.2)),
    Change("red +20 %, blue -20 %", gains=(1.2, 1.0, 0.8)),
    Change("30 % darker", gains=(0.7, 0.7, 0.7)),
    Change("30 % brighter", gains=(1.3, 1.3, 1.3)),
    Change("uneven light, 30 %", uneven=0.3),
    Change("haematoxylin x1.4, eosin x0.6", stain=(1.4, 0.6)),
    Change("haematoxylin x0.7, eosin x1.3", stain=(0.7, 1.3)),
    Change("zoom 0.75", zoom=0.75),
    Change("zoom 1.2", zoom=1.2),
    Change("zoom 1.5", zoom=1.5),
    Change("noise of 10 levels", noise=10.0),
    Change("JPEG quality 30", jpeg=30),
    Change("zoom 1.2, blur 1 px, gamma 1.3", zoom=1.2, blur=1.0, gamma=1.3),
)


class Row(TypedDict):
    """Fields under one change, in percent of all of them but for `wrong_of_ok`.

    Attributes:
        accuracy: The most probable class is the right one.
        unfamiliar: Status `unfamiliar`.
        ok: Status `ok`.
        wrong_ok: A wrong label with status `ok`.
        wrong_of_ok: The same, in percent of those with status `ok`.
    """

    accuracy: float
    unfamiliar: float
    ok: float
    wrong_ok: float
    wrong_of_ok: float


@click.command()
@click.option("--data", required=True, type=click.Path(path_type=Path), help="Folder with one folder a class.")
@click.option("--bundle", "path", default=bundles.BUILTIN, type=click.Path(path_type=Path), help="[default: built-in]")
@click.option("--target", default="cpu", show_default=True, help="Target that classifies.")
@click.option("--json", "report", type=click.Path(path_type=Path), help="Write the figures to a file.")
def main(data: Path, path: Path, target: str, report: Path | None) -> None:
    """Print a table with a line for each change."""
    classifier, dataset = load(path, target=target), read(data)
    known = classifier.bundle.training_images()
    unseen = dataset.subset(np.array([digest[:16] not in known for digest in dataset.digests]))
    if not len(unseen):
        raise click.ClickException(f"{data}: the bundle was trained on all of its images")
    rows = {change.name: _row(classifier, unseen, change) for change in CHANGES}
    print(f"{len(unseen)} fields; percent\n")
    print("| change | accuracy | unfamiliar | ok | wrong and ok | of ok |\n|---|---|---|---|---|---|")
    for name, row in rows.items():
        print(f"| {name} | " + " | ".join(f"{row[key]:.1f}" for key in ("accuracy", "unfamiliar", "ok")), end="")
        print(f" | {row['wrong_ok']:.2f} | {row['wrong_of_ok']:.2f} |")
    if report:
        content = {"machine": machine.describe(), "bundle": classifier.bundle.name, "digest": classifier.bundle.digest}
        measured = {"target": target, "precision": classifier.precision, "fields": len(unseen), "changes": rows}
        report.write_text(json.dumps(content | measured, indent=1) + "\n", encoding="utf-8")


def _row(classifier: Classifier, data: Dataset, change: Change) -> Row:
    images = features.changed(data, classifier.bundle.input_size, change)
    answers = [classifier.classify_pixels(pixels) for pixels in images]
    right = np.array([data.classes[k] for k in data.labels]) == [answer.top for answer in answers]
    status = np.array([answer.status for answer in answers])
    ok = status == "ok"
    return {
        "accuracy": 100 * float(right.mean()),
        "unfamiliar": 100 * float((status == "unfamiliar").mean()),
        "ok": 100 * float(ok.mean()),
        "wrong_ok": 100 * float((ok & ~right).mean()),
        "wrong_of_ok": 100 * float((ok & ~right).sum() / max(1, ok.sum())),
    }


if __name__ == "__main__":
    main()
