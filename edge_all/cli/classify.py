"""``edge-all classify``: labels for images and folders."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Generator, Iterable, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edge_all import NOTICE
from edge_all.cli import options, slides, tiled
from edge_all.cli.output import answers, say, tell
from edge_all.cli.tiled import Counts, Source
from edge_all.cli.writers import open_writer

if TYPE_CHECKING:
    from edge_all.bundle import Bundle
    from edge_all.classifier import Classifier
    from edge_all.cli.writers import Answered, Refused
    from edge_all.drift import Runs
    from edge_all.errors import ImageError
    from edge_all.prediction import Prediction
    from edge_all.progress import Progress


@click.command("classify")
@click.argument("inputs", metavar="IMAGE|DIR|-...", nargs=-1, required=True)
@options.answering
@click.option("--json", "form", flag_value="json", help="Print one JSON object a line.")
@click.option("--csv", "form", flag_value="csv", help="Print comma-separated values with a header.")
@click.option("--tile", is_flag=True, help="Cut frames that are larger than a field into tiles, and count the answers.")
@click.option(
    "--scale",
    type=click.FloatRange(min=0, min_open=True),
    metavar="UM",
    help="With --tile or --out: micrometres that a pixel of the frames or slides shows.  [default: as in the graph's "
    "input; as the slide says]",
)
@click.option(
    "--cell",
    type=click.FloatRange(min=1),
    metavar="PX",
    help="Instead of --scale: how many pixels of the frames or slides a red cell (7.5 um) is across.",
)
@click.option(
    "--out",
    type=options.PATH,
    metavar="DIR",
    help="With --tile: write a picture and a GeoJSON file (for QuPath) of each frame's tiles there. Without it: the "
    "images are whole slides; write Parquet, GeoJSON, a picture and a summary of each there.",
)
def command(
    inputs: tuple[str, ...],
    path: Path | None,
    target: str,
    precision: str,
    device: str | None,
    threads: int | None,
    keys: Path | None,
    form: str | None,
    tile: bool,
    scale: float | None,
    cell: float | None,
    out: Path | None,
) -> None:
    """Classify images: a label and probabilities for each.

    A folder stands for all images below it, and - for one image file on stdin. An image that cannot be classified is
    reported, all others are answered, and the exit status is then 1.

    With --out and without --tile, the images are whole slides (SVS, NDPI, MRXS, SCN, DICOM, pyramidal TIFF, OME-TIFF).
    Their tissue is answered field by field, and a run that was cut short goes on where it was.

    What to photograph, for the built-in bundle: a whole field of a 100x objective. When the field is scaled to 224
    pixels, a red cell is about 16 pixels across. The bundle has seen neither single cells nor other magnifications.

    What its labels mean: Early, Pre and Pro are stages of B-cell precursor ALL (early pre-B, pre-B and pro-B). Benign
    is a smear with haematogones, benign B-cell precursors that look like lymphoblasts.
    """
    from edge_all import bundle as bundles
    from edge_all import self_check
    from edge_all.targets import EngineOptions

    wanted = tiled.wanted(tile, scale, cell, out, inputs)
    bundle = bundles.load(path or bundles.default(tell), keys)
    sources, not_looked_at = _sources(inputs, slides=bool(wanted and wanted.whole_slides))
    unit = "images" if not wanted else "tiles" if wanted.whole_slides else "frames"
    with answers("Classifying", unit) as (progress, write):
        streams = _streams(_MANY if wanted else sum(not source.error for source in sources), target)
        engine = EngineOptions(target, device, threads, streams)
        classifier = self_check.load(bundle, engine, precision, tell)
        _check_any(sources, not_looked_at)
        if wanted and wanted.whole_slides:
            counts = slides.classify(classifier, sources, wanted, streams, form, write, progress)
        elif wanted:
            writer = tiled.open_writer(form, classifier, write)
            counts = tiled.classify(classifier, sources, wanted, streams, writer, progress)
        else:
            whole = open_writer(form, classifier, write)
            with closing(_predictions(classifier, sources, streams, digest=form is not None)) as predictions:
                counts = _classify(sources, predictions, whole, bundle, progress)
    _sum_up(counts, not_looked_at, len(sources), for_people=form is None)
    if counts.answered < len(sources):
        sys.exit(1)


def _classify(
    sources: Sequence[Source],
    predictions: Iterable[Prediction | ImageError],
    writer: tuple[Answered, Refused],
    bundle: Bundle,
    progress: Progress,
) -> Counts:
    """Write the answer to each image as a whole."""
    from edge_all.drift import Runs
    from edge_all.errors import ImageError

    counts, (answered, refused), runs = Counts(), writer, Runs()
    for i, (source, prediction) in enumerate(zip(sources, predictions, strict=True), 1):
        if isinstance(prediction, ImageError):
            refused(source.name, str(prediction))
        else:
            counts.answered += 1
            counts.statuses[prediction.status] += 1
            counts.squeezed += bundle.squeezes(prediction.size)
            _judge_run(runs, bundle, prediction, counts)
            answered(source.name, prediction)
        progress(i, len(sources))
    return counts


def _judge_run(runs: Runs, bundle: Bundle, prediction: Prediction, counts: Counts) -> None:
    """Count the run of fields that ends with a prediction, if one does."""
    from edge_all.drift import REQUESTS

    score = runs.add(REQUESTS, bundle, prediction.deviation)
    if score is None:
        return
    counts.runs += 1
    counts.drifted += score > 1
    if score > (counts.worst.score if counts.worst else 1):
        (counts.worst,) = runs.states()


_STDIN = "-"

_URL = "a URL is not fetched; download the image first and give its file"

_NO_NAME = "an empty name; wanted an image or a folder (. is this folder)"

_MANY = 32
"""From so many images on, several are in hand at once: the time for one is longer then, the time for all shorter."""

_MEANINGS = {
    "unfamiliar": "unfamiliar: not like the images that the bundle was made from, so no class is named",
    "refer": "undecided (marked ?): no class is probable enough; have them looked at",
}


def _sources(texts: Sequence[str], *, slides: bool) -> tuple[list[Source], Counter[str]]:
    """What to classify, in order, and how many files of which kinds were found beside it."""
    from edge_all import inputs

    if texts.count(_STDIN) > 1:
        raise click.UsageError("- was given twice; stdin holds one image file")
    own = [_source(text) for text in texts]
    paths = [Path(text) for text, source in zip(texts, own, strict=True) if source is None]
    found = inputs.find(paths, suffixes=inputs.SLIDE_SUFFIXES if slides else inputs.SUFFIXES)
    items = iter(found.items)
    sources: list[Source] = []
    for source in own:
        sources += [source] if source else [Source(str(path), path, error) for path, error in next(items)]
    return sources, found.not_looked_at


def _check_any(sources: Sequence[Source], not_looked_at: Counter[str]) -> None:
    """Check that there is more than empty folders.

    Raises:
        ImageError: There is not.
    """
    from edge_all import inputs
    from edge_all.errors import ImageError

    if all(source.error.startswith(inputs.NOTHING) for source in sources):
        beside = f"; not looked at: {inputs.kinds(not_looked_at)}" if not_looked_at else ""
        raise ImageError(f"{', '.join(source.name for source in sources)}: {sources[0].error}{beside}")


def _source(text: str) -> Source | None:
    """What is no path: stdin, a URL, an empty name; None for a path."""
    if text == _STDIN:
        return Source(text, _stdin())
    if not text:
        return Source(text, b"", _NO_NAME)
    if options.is_url(text) and not os.path.exists(text):
        return Source(text, b"", _URL)
    return None


def _stdin() -> bytes:
    if sys.stdin is None:
        raise click.UsageError("- reads an image file from stdin, which is closed; wanted: classify - < IMAGE")
    if sys.stdin.isatty():
        raise click.UsageError("- reads an image file from stdin, which is a terminal; wanted: classify - < IMAGE")
    return sys.stdin.buffer.read()


def _predictions(
    classifier: Classifier, sources: Sequence[Source], streams: int, *, digest: bool
) -> Generator[Prediction | ImageError, None, None]:
    """The answer to each source, or what is wrong with it."""
    from edge_all.classify_all import classify_all
    from edge_all.errors import ImageError

    contents = [source.content for source in sources if not source.error]
    with closing(classify_all(classifier, contents, streams, digest=digest)) as predictions:
        for source in sources:
            yield ImageError(source.error) if source.error else next(predictions)[1]


def _sum_up(counts: Counts, not_looked_at: Counter[str], asked: int, *, for_people: bool) -> None:
    """Say how many images were answered, and how."""
    from edge_all import inputs

    statuses, unit = counts.statuses, counts.unit
    for status, meaning in _MEANINGS.items():
        if statuses[status]:
            tell(f"{statuses[status]} of {statuses.total()} {unit}{meaning}")
    if counts.squeezed:
        tell(
            f"{counts.squeezed} frames are far larger than a field: they were squeezed; "
            "see --tile, if they show more than one field"
        )
    if worst := counts.worst:
        from edge_all.drift import QUESTION

        tell(
            f"{counts.drifted} of {counts.runs} runs of {worst.run} neighbouring fields look unlike the training "
            f"images (most like: {worst.change}): {QUESTION}"
        )
    if for_people:
        say(NOTICE, err=True)
    if counts.answered:
        tell(unit + ", ".join(f"{statuses[status]} {status}" for status in counts.told))
    beside = f" ({inputs.kinds(not_looked_at)})" if not_looked_at else ""
    refused = asked - counts.answered
    tell(f"{counts.answered} answered, {refused} refused, {not_looked_at.total()} not looked at{beside}")


def _streams(images: int, target: str) -> int:
    """How many images are in hand at once."""
    from edge_all import machine

    return machine.usable_cores() if images >= _MANY and target != "gpu" else 1
