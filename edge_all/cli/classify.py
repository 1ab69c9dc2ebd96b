"""``edge-all classify``: labels for images and folders."""

from __future__ import annotations

import csv
import io
import json
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edge_all import NOTICE
from edge_all.cli import options
from edge_all.cli.output import answers, tell

if TYPE_CHECKING:
    from edge_all.bundle import Bundle
    from edge_all.classifier import Classifier, Prediction
    from edge_all.targets import EngineOptions


@click.command("classify")
@click.argument("inputs", metavar="IMAGE|DIR|-...", nargs=-1, required=True)
@click.option("--bundle", "path", type=options.PATH, metavar="PATH", help=f"Bundle to use.  {options.DEFAULT_BUNDLE}")
@click.option(
    "--target",
    type=click.Choice(options.TARGETS),
    default="cpu",
    show_default=True,
    help="What runs the graph: ONNX Runtime on the CPU or on an NVIDIA GPU, or OpenVINO.",
)
@click.option(
    "--precision",
    type=click.Choice(("auto", *options.PRECISIONS)),
    default="auto",
    show_default=True,
    help="auto: the first one in the bundle that answers its probe on this machine as it should.",
)
@options.device
@options.threads
@options.keys
@click.option("--json", "form", flag_value="json", help="Print one JSON object a line.")
@click.option("--csv", "form", flag_value="csv", help="Print comma-separated values with a header.")
def command(
    inputs: tuple[str, ...],
    path: Path | None,
    target: str,
    precision: str,
    device: str | None,
    threads: int | None,
    keys: Path | None,
    form: str | None,
) -> None:
    """Classify images: a label and probabilities for each.

    A folder stands for all images below it, and - for one image file on stdin. An image that cannot be classified is
    reported, all others are answered, and the exit status is then 1.

    What to photograph, for the built-in bundle: a whole field of a 100x objective. When the field is scaled to 224
    pixels, a red cell is about 16 pixels across. The bundle has seen neither single cells nor other magnifications.

    What its labels mean: Early, Pre and Pro are stages of B-cell precursor ALL (early pre-B, pre-B and pro-B). Benign
    is a smear with haematogones, benign B-cell precursors that look like lymphoblasts.
    """
    from edge_all import bundle as bundles
    from edge_all.classifier import classify_all
    from edge_all.errors import ImageError
    from edge_all.targets import EngineOptions

    bundle = bundles.load(path or bundles.default(tell), keys)
    sources = _sources(inputs)
    statuses: Counter[str] = Counter()
    failed = 0
    with answers("Classifying", "images") as (progress, write):
        streams = _streams(len(sources), target)
        classifier = _load(bundle, EngineOptions(target, device, threads, streams), precision)
        answered, refused = {None: _table, "json": _json, "csv": _csv}[form](classifier, write)
        predictions = classify_all(classifier, [source for _, source in sources], streams)
        for i, ((name, _), (_, prediction)) in enumerate(zip(sources, predictions, strict=True), 1):
            if isinstance(prediction, ImageError):
                failed += 1
                refused(name, _URL if options.is_url(name) else str(prediction))
            else:
                statuses[prediction.status] += 1
                answered(name, prediction)
            progress(i, len(sources))
    if not sources:
        raise ImageError(f"{', '.join(inputs)}: no image there; wanted files ending in {_suffixes()}")
    if form is None:
        for status, meaning in _MEANINGS.items():
            if statuses[status]:
                tell(f"{statuses[status]} of {len(sources)} {meaning}")
        click.echo(NOTICE, err=True)
    if failed:
        tell(f"{failed} of {len(sources)} could not be classified")
        sys.exit(1)


_STDIN = "-"

_URL = "a URL is not fetched; download the image first and give its file"

_MANY = 32
"""From so many images on, several are in hand at once: the time for one is longer then, the time for all shorter."""

_MEANINGS = {
    "unfamiliar": "unfamiliar: not like the images that the bundle was made from, so no class is named",
    "refer": "undecided (marked ?): no class is probable enough; have them looked at",
}

Answered = Callable[[str, "Prediction"], None]
Refused = Callable[[str, str], None]
Write = Callable[[str], None]


def _sources(inputs: Sequence[str]) -> list[tuple[str, Path | bytes]]:
    """What to classify, in order: the name to show, and a file or an image file's bytes."""
    from edge_all import image

    if inputs.count(_STDIN) > 1:
        raise click.UsageError("- was given twice; stdin holds one image file")
    sources: list[tuple[str, Path | bytes]] = []
    for text in inputs:
        if text == _STDIN:
            sources.append((text, _stdin()))
        elif options.is_url(text):
            sources.append((text, Path(text)))
        else:
            sources += [(click.format_filename(path), path) for path in image.find([Path(text)])]
    return sources


def _stdin() -> bytes:
    if sys.stdin.isatty():
        raise click.UsageError("- reads an image file from stdin, which is a terminal; wanted: classify - < IMAGE")
    return sys.stdin.buffer.read()


def _streams(images: int, target: str) -> int:
    """How many images are in hand at once."""
    from edge_all import machine

    return machine.usable_cores() if images >= _MANY and target != "gpu" else 1


def _load(bundle: Bundle, engine: EngineOptions, precision: str) -> Classifier:
    from edge_all import self_check
    from edge_all.classifier import start

    if precision == "auto":
        return self_check.choose(bundle, engine, tell)
    classifier = start(bundle, engine, precision)
    if wrong := self_check.load_cached(bundle, engine, precision):
        tell(f"{precision} on {engine.target} answered differently on this machine ({wrong}): try --precision auto")
    return classifier


def _json(classifier: Classifier, write: Write) -> tuple[Answered, Refused]:
    engine = {"target": classifier.target, "precision": classifier.precision}

    def line(name: str, fields: dict[str, object]) -> None:
        write(json.dumps({"file": name} | fields, ensure_ascii=False))

    def answered(name: str, p: Prediction) -> None:
        answer = {"label": p.label, "status": p.status, "probabilities": p.probabilities}
        line(name, answer | engine | {"ms": round(p.ms, 3)})

    return answered, lambda name, error: line(name, {"error": error})


def _csv(classifier: Classifier, write: Write) -> tuple[Answered, Refused]:
    classes = classifier.bundle.classes
    engine = classifier.target, classifier.precision

    def line(*cells: str) -> None:
        text = io.StringIO()
        csv.writer(text, lineterminator="").writerow(cells)
        write(text.getvalue())

    def answered(name: str, p: Prediction) -> None:
        line(name, p.label, p.status, *(f"{v:.6f}" for v in p.probabilities.values()), *engine, f"{p.ms:.3f}", "")

    def refused(name: str, error: str) -> None:
        line(name, "", "", *[""] * len(classes), *engine, "", error)

    line("file", "label", "status", *(f"p_{name}" for name in classes), "target", "precision", "ms", "error")
    return answered, refused


def _table(classifier: Classifier, write: Write) -> tuple[Answered, Refused]:
    """Aligned columns, line by line, so that a long run shows its answers as they come."""
    bundle = classifier.bundle
    click.echo(f"{bundle.name}, {classifier.target} {classifier.precision}: {', '.join(bundle.classes)}", err=True)
    width = max(len("unfamiliar"), *map(len, bundle.classes))

    def answered(name: str, p: Prediction) -> None:
        unfamiliar = p.status == "unfamiliar"
        label = p.status if unfamiliar else f"{p.label}?" if p.status == "refer" else p.label
        share = "-" if unfamiliar else f"{p.probabilities[p.label]:.1%}"
        write(f"{label:<{width}}  {share:>6}  {p.ms:7.1f} ms  {name}")

    def refused(name: str, error: str) -> None:
        write(f"{'-':<{width}}  {'-':>6}  {'-':>7}     {name}")
        tell(f"{name}: {error}")

    return answered, refused


def _suffixes() -> str:
    from edge_all.image import SUFFIXES

    return " ".join(sorted(SUFFIXES))
