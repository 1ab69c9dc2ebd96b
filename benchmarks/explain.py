"""Do the maps of `edge-all explain` find what matters? python benchmarks/explain.py --data DIR [--json FILE]

The deletion test (Petsiuk et al., RISE, BMVC 2018): the patches of an image are taken away in the order of its map, the
hottest first, and the probability of the top class falls; the sooner, the better the map. The figure is the mean of the
curve, from the whole image to one without any patch: 1 if nothing is lost. Random orders are the yardstick. Each way of
making a map is tested with both ways of deletion, so that no map is tested only with the deletion that it was made by.
"""

from __future__ import annotations

import json
import os
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path

import click
import numpy as np
import numpy.typing as npt

from edge_all import bench, explain, image, machine, self_check
from edge_all import bundle as bundles
from edge_all.classifier import Classifier
from edge_all.targets import EngineOptions

STEPS, RANDOM = 14, 3
"""Points of a curve after its first, and random orders for each image."""

CELLS = explain.CELLS

DIVIDED = 24
"""How many of 7 x 7 patches are divided in four where the map is made from coarse to fine: 145 answers for 196."""

Pixels = npt.NDArray[np.uint8]
Heat = npt.NDArray[np.float32]
Order = npt.NDArray[np.intp]
"""The numbers of all patches, from the top left, in the order in which they are taken away."""


def mean_colour(pixels: Pixels) -> Pixels:
    """The image's mean colour, in every pixel."""
    mean = pixels.reshape(-1, 3).mean(axis=0).round().astype(np.uint8)
    return np.broadcast_to(mean, pixels.shape)


FILLS: dict[str, Callable[[Pixels], Pixels]] = {"blurred": explain.blurred, "mean colour": mean_colour}


@click.command()
@click.option("--data", required=True, type=click.Path(path_type=Path), help="Folder with one folder a class.")
@click.option("--bundle", default=bundles.BUILTIN, type=click.Path(path_type=Path), help="[default: the built-in one]")
@click.option("--target", default="openvino", show_default=True, help="Target that answers.")
@click.option("--images", default=40, show_default=True, help="How many images, evenly out of all.")
@click.option("--json", "report", type=click.Path(path_type=Path), help="Write the figures to a file.")
def main(data: Path, bundle: Path, target: str, images: int, report: Path | None) -> None:
    """Print a table of the deletion test, and what a map takes."""
    options = EngineOptions(target, streams=machine.usable_cores())
    classifier = self_check.load(bundles.load(bundle), options, "auto", print)
    fields = bench.labelled(data, classifier.bundle)
    files = [Path(file) for file in fields.files[:: max(1, len(fields.files) // images)][:images]]
    rng = np.random.default_rng(0)
    areas: dict[tuple[str, str], list[float]] = defaultdict(list)
    times: list[float] = []
    used: list[float] = []
    for file in files:
        before, cpu = time.perf_counter(), os.times()
        prediction = explain.explain(classifier, file).prediction
        times.append(time.perf_counter() - before)
        used.append(sum(os.times()[:2]) - sum(cpu[:2]))
        pixels = image.decode(file, classifier.bundle.input_size)
        top = classifier.bundle.classes.index(prediction.top)
        for deletion, fill in FILLS.items():
            for name, orders in _orders(classifier, pixels, top, rng).items():
                area = statistics.fmean(_area(classifier, pixels, fill(pixels), top, order) for order in orders)
                areas[name, deletion].append(area)
    _print(areas, len(files), fields.basis)
    print(
        f"\nOne map: {CELLS * CELLS + 2} answers, median {statistics.median(times):.2f} s, best {min(times):.2f} s, "
        f"median {statistics.median(used):.2f} s of processor time; {classifier.engine.description}, "
        f"{classifier.precision}, {machine.usable_cores()} cores"
    )
    if report:
        figures = {f"{name} / {deletion}": values for (name, deletion), values in areas.items()}
        content = {"machine": machine.describe(), "bundle": classifier.bundle.name, "digest": classifier.bundle.digest}
        measured = {"images": len(files), "areas": figures, "seconds": times, "processor_seconds": used}
        report.write_text(json.dumps(content | measured, indent=1) + "\n", encoding="utf-8")


def _orders(classifier: Classifier, pixels: Pixels, top: int, rng: np.random.Generator) -> dict[str, Sequence[Order]]:
    """The orders that are compared, by the way in which they are made."""
    made: dict[str, Sequence[Order]] = {"random": [rng.permutation(CELLS * CELLS) for _ in range(RANDOM)]}
    fine = {name: explain.occlude(classifier, pixels, fill(pixels), top) for name, fill in FILLS.items()}
    coarse = explain.occlude(classifier, pixels, explain.blurred(pixels), top, cells=CELLS // 2)
    made |= {f"patches {name}": [_hottest(heat)] for name, heat in fine.items()}
    made["7 x 7 patches blurred"] = [_hottest(_divided(coarse, fine["blurred"], 0))]
    made[f"7 x 7 patches blurred, the {DIVIDED} hottest divided"] = [
        _hottest(_divided(coarse, fine["blurred"], DIVIDED))
    ]
    return made


def _divided(coarse: Heat, fine: Heat, count: int) -> Heat:
    """A coarse map whose hottest patches are divided in four, as if only these had been asked again."""
    heat = np.kron(coarse / 4, np.ones((2, 2), np.float32))
    for k in _hottest(coarse)[:count]:
        row, column = (slice(2 * i, 2 * i + 2) for i in divmod(int(k), coarse.shape[1]))
        heat[row, column] = fine[row, column]
    return heat


def _hottest(heat: Heat) -> Order:
    return np.argsort(-heat.ravel(), kind="stable")


def _area(classifier: Classifier, pixels: Pixels, fill: Pixels, top: int, order: Order) -> float:
    """The mean probability of a class while patches are taken away."""
    patches = explain.patches(pixels.shape[:2], CELLS)
    left = pixels[None].copy()
    curve = [classifier.probabilities(left)[0, top]]
    for part in np.array_split(order, STEPS):
        for k in part:
            left[0][patches[k]] = fill[patches[k]]
        curve.append(classifier.probabilities(left)[0, top])
    return float((sum(curve) - (curve[0] + curve[-1]) / 2) / STEPS)


def _print(areas: dict[tuple[str, str], list[float]], count: int, basis: str) -> None:
    print(f"{count} images ({basis}); area under the curve of deletion, lower is better; in brackets the share of")
    print("images on which it is lower than that of random orders\n")
    print("| order | " + " | ".join(f"deleted: {name}" for name in FILLS) + " |\n|---|" + "---|" * len(FILLS))
    for name in dict.fromkeys(name for name, _ in areas):
        cells = []
        for deletion in FILLS:
            own, other = areas[name, deletion], areas["random", deletion]
            better = sum(a < b for a, b in zip(own, other, strict=True)) / count
            cells.append(f"{statistics.fmean(own):.3f}" + (f" ({better:.0%})" if name != "random" else ""))
        print(f"| {name} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
