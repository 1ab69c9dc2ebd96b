"""Does a bundle notice what is no smear? python benchmarks/outsiders.py --data DIR [--pictures DIR] [--json FILE]

Fields that the bundle was not trained on should pass. Everything else should be `unfamiliar`: crops of the photographs
that scikit-learn and scikit-image ship and of those in `--pictures`, what `edge_all.export.outsiders` draws, smears
blurred by 6 and 10 pixels, and smears in negative. Then the cost of the output
"unfamiliarity" is measured: the graph with it and without it, in alternation, several times.
"""

from __future__ import annotations

import io
import json
import statistics
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TypedDict

import click
import numpy as np
import onnx
from PIL import Image, ImageFilter

from edge_all import bench, load, machine
from edge_all import bundle as bundles
from edge_all.bundle import Bundle
from edge_all.export import outsiders
from edge_all.export.graph import edit, names, timing

SIDE, CROPS, SMEARS = 224, 6, 30
ROUNDS = 7

Kind = str
"""What a picture shows."""


class Cost(TypedDict):
    """What the output "unfamiliarity" costs.

    Attributes:
        ms: Median milliseconds of the graph with it and without it, by round.
        percent: Median over the rounds of what it adds to the time.
    """

    ms: list[list[float]]
    percent: float


@click.command()
@click.option("--data", required=True, type=click.Path(path_type=Path), help="Folder with one folder a class.")
@click.option("--bundle", default=bundles.BUILTIN, type=click.Path(path_type=Path), help="[default: the built-in one]")
@click.option("--pictures", type=click.Path(path_type=Path), help="Folder of more pictures that are no smears.")
@click.option("--target", default="cpu", show_default=True, help="Target that classifies.")
@click.option("--json", "report", type=click.Path(path_type=Path), help="Write the figures to a file.")
def main(data: Path, bundle: Path, pictures: Path | None, target: str, report: Path | None) -> None:
    """Print a table of what was flagged, and what the output "unfamiliarity" costs."""
    classifier = load(bundle, target=target)
    fields = bench.labelled(data, classifier.bundle)
    real = f"fields ({fields.basis})"
    statuses = {real: Counter(classifier.classify(file).status for file in fields.files)}
    for kind, picture in _outsiders([Path(file) for file in fields.files], pictures):
        statuses.setdefault(kind, Counter())[classifier.classify(_png(picture)).status] += 1
    print("| pictures | number | unfamiliar, % | referred, % |\n|---|---|---|---|")
    for kind, counts in statuses.items():
        print(_line(kind, counts))
    print(_line("all but fields", sum((counts for kind, counts in statuses.items() if kind != real), Counter())))
    print()
    costs = {name: _cost(classifier.bundle, name) for name in classifier.bundle.targets}
    for name, cost in costs.items():
        print(f"{name}: {_sentence(cost)}")
    if report:
        content = {"machine": machine.describe(), "bundle": classifier.bundle.name, "digest": classifier.bundle.digest}
        measured = {"target": target, "precision": classifier.precision, "statuses": statuses, "cost": costs}
        report.write_text(json.dumps(content | measured, indent=1) + "\n", encoding="utf-8")


def _cost(bundle: Bundle, target: str) -> Cost:
    """Time the target's preferred graph with and without "unfamiliarity"."""
    model = bundle.read(bundle.model_file(target, bundle.precisions(target)[0]))
    whole = onnx.load_from_string(model)
    others = [output.name for output in whole.graph.output if output.name != names.UNFAMILIARITY]
    bare = edit.extract(whole, [names.IMAGE], others)
    rounds = [timing.times(target, [whole, bare]) for _ in range(ROUNDS)]
    return {"ms": rounds, "percent": 100 * (statistics.median(_ratios(rounds)) - 1)}


def _sentence(cost: Cost) -> str:
    low, high = (100 * (end(_ratios(cost["ms"])) - 1) for end in (min, max))
    text = (
        f"the output adds {cost['percent']:+.1f} % to the time of the graph (median of {ROUNDS} alternating rounds, "
        f"which lie between {low:+.1f} and {high:+.1f} %)"
    )
    return f"{text}: its cost is within measurement noise" if low <= 0 <= high else text


def _ratios(rounds: Sequence[Sequence[float]]) -> list[float]:
    return [with_output / without for with_output, without in rounds]


def _line(kind: Kind, counts: Counter[str]) -> str:
    total = sum(counts.values())
    return f"| {kind} | {total} | {100 * counts['unfamiliar'] / total:.1f} | {100 * counts['refer'] / total:.1f} |"


def _outsiders(fields: Sequence[Path], folder: Path | None) -> Iterator[tuple[Kind, Image.Image]]:
    """Pictures that are no smears, or spoilt ones; the same ones each time."""
    rng = np.random.default_rng(0)
    given = outsiders.pictures_in(folder) if folder else ()
    for picture in (*outsiders.photographs(), *given):
        yield from (("photographs and drawings", crop) for crop in outsiders.crops(picture, rng, CROPS))
    for kind, pixels in outsiders.pictures((SIDE, SIDE)):
        if kind != "photograph":
            yield kind, Image.fromarray(pixels)
    yield from _spoilt(fields)


def _spoilt(fields: Sequence[Path]) -> Iterator[tuple[Kind, Image.Image]]:
    for file in fields[:: max(1, len(fields) // SMEARS)]:
        with Image.open(file) as opened:
            smear = opened.convert("RGB")
        for radius in (6, 10):
            yield f"smears blurred by {radius} px", smear.filter(ImageFilter.GaussianBlur(radius))
        yield "smears in negative", Image.fromarray(255 - np.asarray(smear))


def _png(picture: Image.Image) -> bytes:
    file = io.BytesIO()
    picture.resize((SIDE, SIDE), Image.Resampling.BILINEAR).save(file, "PNG")
    return file.getvalue()


if __name__ == "__main__":
    main()
