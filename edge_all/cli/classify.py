"""``edge-all classify``: labels for images and folders."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Generator, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import click

from edge_all import NOTICE
from edge_all.cli import options
from edge_all.cli.output import answers, say, tell
from edge_all.cli.writers import open_writer

if TYPE_CHECKING:
    from edge_all.classifier import Classifier, Prediction
    from edge_all.errors import ImageError


@click.command("classify")
@click.argument("inputs", metavar="IMAGE|DIR|-...", nargs=-1, required=True)
@options.bundle
@options.target
@options.precision
@options.device
@options.threads
@click.option("--json", "form", flag_value="json", help="Print one JSON object a line.")
@click.option("--csv", "form", flag_value="csv", help="Print comma-separated values with a header.")
def command(
    inputs: tuple[str, ...],
    path: Path | None,
    target: str,
    precision: str,
    device: str | None,
    threads: int | None,
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
    from edge_all import self_check
    from edge_all.errors import ImageError
    from edge_all.targets import EngineOptions

    bundle = bundles.load(path or bundles.default())
    sources, not_looked_at = _sources(inputs)
    statuses: Counter[str] = Counter()
    with answers("Classifying", "images") as (progress, write):
        streams = _streams(sum(not source.error for source in sources), target)
        engine = EngineOptions(target, device, threads, streams)
        classifier = self_check.load(bundle, engine, precision, tell)
        _check_any(sources, not_looked_at)
        answered, refused = open_writer(form, classifier, write)
        with closing(_predictions(classifier, sources, streams, digest=form is not None)) as predictions:
            for i, (source, prediction) in enumerate(zip(sources, predictions, strict=True), 1):
                if isinstance(prediction, ImageError):
                    refused(source.name, str(prediction))
                else:
                    statuses[prediction.status] += 1
                    answered(source.name, prediction)
                progress(i, len(sources))
    _sum_up(statuses, not_looked_at, len(sources), for_people=form is None)
    if statuses.total() < len(sources):
        sys.exit(1)


_STDIN = "-"

_URL = "a URL is not fetched; download the image first and give its file"

_NO_NAME = "an empty name; wanted an image or a folder (. is this folder)"

_MANY = 32
"""From so many images on, several are in hand at once: the time for one is longer then, the time for all shorter."""

_MEANINGS = {
    "unfamiliar": "unfamiliar: not like the images that the bundle was made from, so no class is named",
    "refer": "undecided (marked ?): no class is probable enough; have them looked at",
}


class _Source(NamedTuple):
    """Something to classify.

    Attributes:
        name: What it is called in the answer.
        content: A file, or an image file's bytes.
        error: Why it cannot be classified, where that is known already; else empty.
    """

    name: str
    content: Path | bytes
    error: str = ""


def _sources(texts: Sequence[str]) -> tuple[list[_Source], Counter[str]]:
    """What to classify, in order, and how many files of which kinds were found beside it."""
    from edge_all import inputs

    if texts.count(_STDIN) > 1:
        raise click.UsageError("- was given twice; stdin holds one image file")
    own = [_source(text) for text in texts]
    found = inputs.find([Path(text) for text, source in zip(texts, own, strict=True) if source is None])
    items = iter(found.items)
    sources: list[_Source] = []
    for source in own:
        sources += [source] if source else [_Source(str(path), path, error) for path, error in next(items)]
    return sources, found.not_looked_at


def _check_any(sources: Sequence[_Source], not_looked_at: Counter[str]) -> None:
    """Check that there is more than empty folders.

    Raises:
        ImageError: There is not.
    """
    from edge_all import inputs
    from edge_all.errors import ImageError

    if all(source.error == inputs.EMPTY for source in sources):
        beside = f"; not looked at: {inputs.kinds(not_looked_at)}" if not_looked_at else ""
        raise ImageError(f"{', '.join(source.name for source in sources)}: {inputs.EMPTY}{beside}")


def _source(text: str) -> _Source | None:
    """What is no path: stdin, a URL, an empty name; None for a path."""
    if text == _STDIN:
        return _Source(text, _stdin())
    if not text:
        return _Source(text, b"", _NO_NAME)
    if options.is_url(text) and not os.path.exists(text):
        return _Source(text, b"", _URL)
    return None


def _stdin() -> bytes:
    if sys.stdin is None:
        raise click.UsageError("- reads an image file from stdin, which is closed; wanted: classify - < IMAGE")
    if sys.stdin.isatty():
        raise click.UsageError("- reads an image file from stdin, which is a terminal; wanted: classify - < IMAGE")
    return sys.stdin.buffer.read()


def _predictions(
    classifier: Classifier, sources: Sequence[_Source], streams: int, *, digest: bool
) -> Generator[Prediction | ImageError, None, None]:
    """The answer to each source, or what is wrong with it."""
    from edge_all.classifier import classify_all
    from edge_all.errors import ImageError

    contents = [source.content for source in sources if not source.error]
    with closing(classify_all(classifier, contents, streams, digest=digest)) as predictions:
        for source in sources:
            yield ImageError(source.error) if source.error else next(predictions)[1]


def _sum_up(statuses: Counter[str], not_looked_at: Counter[str], asked: int, *, for_people: bool) -> None:
    """Say how many images were answered, and how."""
    from edge_all import inputs

    answered = statuses.total()
    for status, meaning in _MEANINGS.items():
        if statuses[status]:
            tell(f"{statuses[status]} of {answered} {meaning}")
    if for_people:
        say(NOTICE, err=True)
    if answered:
        tell(", ".join(f"{statuses[status]} {status}" for status in ("ok", "refer", "unfamiliar")))
    beside = f" ({inputs.kinds(not_looked_at)})" if not_looked_at else ""
    tell(f"{answered} answered, {asked - answered} refused, {not_looked_at.total()} not looked at{beside}")


def _streams(images: int, target: str) -> int:
    """How many images are in hand at once."""
    from edge_all import machine

    return machine.usable_cores() if images >= _MANY and target != "gpu" else 1
