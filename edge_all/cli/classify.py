"""``edge-all classify``: labels for images and folders."""

from __future__ import annotations

import csv
import json
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edge_all.cli import options

if TYPE_CHECKING:
    from edge_all.classifier import Classifier, Prediction


@click.command("classify")
@click.argument("inputs", metavar="IMAGE|DIR...", nargs=-1, required=True, type=options.PATH)
@click.option("--bundle", type=options.PATH, help="[default: newest in ./models, else the built-in one]")
@click.option("--target", type=click.Choice(options.TARGETS), default="cpu", show_default=True)
@click.option(
    "--precision",
    type=click.Choice(("auto", *options.PRECISIONS)),
    default="auto",
    show_default=True,
    help="auto: the bundle's choice that answers its probe on this machine.",
)
@options.device
@options.threads
@click.option("--json", "form", flag_value="json", help="One JSON object a line.")
@click.option("--csv", "form", flag_value="csv", help="Comma-separated values with a header.")
def command(
    inputs: tuple[Path, ...],
    bundle: Path | None,
    target: str,
    precision: str,
    device: str | None,
    threads: int | None,
    form: str | None,
) -> None:
    """Classify images: one label, with the probability of every class, for each.

    A folder stands for the images below it. Images that cannot be classified are reported, the others are answered all
    the same, and the exit status is 1 at the end.
    """
    from edge_all import bundle as bundles
    from edge_all import image, machine, self_check
    from edge_all.classifier import classify_all, start
    from edge_all.errors import ImageError

    loaded = bundles.load(bundle or bundles.default())
    paths = list(image.find(list(inputs)))
    streams = machine.usable_cores() if len(paths) >= _MANY and target != "gpu" else 1
    if precision == "auto":
        classifier = self_check.choose(loaded, target, device, threads, _warn, streams)
    else:
        classifier = start(loaded, target, precision, device, threads, streams)
        if wrong := self_check.recall(loaded, target, precision, device):
            _warn(f"{precision} on {target} answered differently on this machine ({wrong}): try --precision auto")
    answered, refused = {None: _table, "json": _json, "csv": _csv}[form](classifier)
    failed = 0
    statuses: Counter[str] = Counter()
    for path, found in classify_all(classifier, paths, streams):
        if isinstance(found, ImageError):
            failed += 1
            refused(path, str(found))
        else:
            answered(path, found)
            statuses[found.status] += 1
    if not paths:
        raise ImageError(f"{', '.join(map(str, inputs))}: no image there; wanted files ending in {_suffixes()}")
    if form is None:
        from edge_all.cli.output import NOTICE

        for status, meaning in _MEANINGS.items():
            if statuses[status]:
                click.echo(f"edge-all: {statuses[status]} of {len(paths)} {meaning}", err=True)
        click.echo(NOTICE, err=True)
    if failed:
        click.echo(f"edge-all: {failed} of {len(paths)} could not be classified", err=True)
        sys.exit(1)


_MANY = 32
"""From so many images on, several are in hand at once: the time for one is longer then, the time for all shorter."""

_MEANINGS = {
    "unfamiliar": "unfamiliar: not like the images that the bundle was made from, so no class is named",
    "refer": "undecided (marked ?): no class is probable enough; have them looked at",
}

Answered = Callable[[Path, "Prediction"], None]
Refused = Callable[[Path, str], None]


def _warn(line: str) -> None:
    click.echo(f"edge-all: {line}", err=True)


def _json(classifier: Classifier) -> tuple[Answered, Refused]:
    how = {"target": classifier.target, "precision": classifier.precision}

    def line(path: Path, fields: dict[str, object]) -> None:
        click.echo(json.dumps({"file": click.format_filename(path)} | fields, ensure_ascii=False))

    def answered(path: Path, p: Prediction) -> None:
        line(
            path, {"label": p.label, "status": p.status, "probabilities": p.probabilities, **how, "ms": round(p.ms, 3)}
        )

    return answered, lambda path, error: line(path, {"error": error})


def _csv(classifier: Classifier) -> tuple[Answered, Refused]:
    classes = classifier.bundle.classes
    how = classifier.target, classifier.precision
    table = csv.writer(sys.stdout, lineterminator="\n")
    table.writerow(
        ["file", "label", "status", *(f"p_{name}" for name in classes), "target", "precision", "ms", "error"]
    )

    def answered(path: Path, p: Prediction) -> None:
        probabilities = [f"{v:.6f}" for v in p.probabilities.values()]
        table.writerow(
            [
                click.format_filename(path),
                p.label,
                p.status,
                *probabilities,
                *how,
                f"{p.ms:.3f}",
                "",
            ]
        )

    def refused(path: Path, error: str) -> None:
        table.writerow([click.format_filename(path), "", "", *[""] * len(classes), *how, "", error])

    return answered, refused


def _table(classifier: Classifier) -> tuple[Answered, Refused]:
    """Aligned columns, line by line, so that a long run shows its answers as they come."""
    bundle = classifier.bundle
    click.echo(f"{bundle.name}, {classifier.target} {classifier.precision}: {', '.join(bundle.classes)}", err=True)
    width = max(len("unfamiliar"), *map(len, bundle.classes))

    def answered(path: Path, p: Prediction) -> None:
        unfamiliar = p.status == "unfamiliar"
        label = p.status if unfamiliar else f"{p.label}?" if p.status == "refer" else p.label
        share = "-" if unfamiliar else f"{p.probabilities[p.label]:.1%}"
        click.echo(f"{label:<{width}}  {share:>6}  {p.ms:7.1f} ms  {click.format_filename(path)}")

    def refused(path: Path, error: str) -> None:
        click.echo(f"{'-':<{width}}  {'-':>6}  {'-':>7}     {click.format_filename(path)}")
        click.echo(f"edge-all: {click.format_filename(path)}: {error}", err=True)

    return answered, refused


def _suffixes() -> str:
    from edge_all.image import SUFFIXES

    return " ".join(sorted(SUFFIXES))
