"""Does a bundle know what is no smear? python benchmarks/outsiders.py --data DIR [--pictures DIR] [--json FILE]

Fields that the bundle was not trained on should pass; everything else should be `unfamiliar`: crops of the photographs
that scikit-learn ships, and of those in `--pictures` (scikit-image's data folder has some, with ihc.png for histology),
noise, blank frames, smears blurred by 6 and 10 pixels, smears in negative. Then what the third output costs: the graph
with and without it, alternating, several times.
"""

from __future__ import annotations

import io
import json
import statistics
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import numpy as np
import onnx
from PIL import Image, ImageFilter

from edge_all import bench, classifier, machine
from edge_all import bundle as bundles
from edge_all.export.graph import timing

SIDE, CROPS, SMEARS = 224, 6, 30
ROUNDS = 7


@click.command()
@click.option("--data", required=True, type=click.Path(path_type=Path))
@click.option("--bundle", default=bundles.BUILTIN, type=click.Path(path_type=Path), help="[default: the built-in one]")
@click.option("--pictures", type=click.Path(path_type=Path), help="More pictures that are no smears.")
@click.option("--target", default="cpu", show_default=True)
@click.option("--json", "report", type=click.Path(path_type=Path))
def main(data: Path, bundle: Path, pictures: Path | None, target: str, report: Path | None) -> None:
    """Print a table of what was flagged."""
    loaded = classifier.load(bundle, target=target)
    fields = bench.labelled(data, loaded.bundle)
    counted: dict[str, Counter[str]] = {f"fields ({fields.basis})": Counter()}
    for file in fields.files:
        counted[f"fields ({fields.basis})"][loaded.classify(file).status] += 1
    for kind, picture in _outsiders(fields.files, pictures):
        counted.setdefault(kind, Counter())[loaded.classify(_png(picture)).status] += 1
    print("| pictures | number | unfamiliar, % | referred, % |\n|---|---|---|---|")
    outside: Counter[str] = Counter()
    for kind, found in counted.items():
        print(_line(kind, found))
        if not kind.startswith("fields"):
            outside += found
    print(_line("all but fields", outside))
    print()
    cost = {}
    for name in loaded.bundle.record["models"]:
        cost[name] = _cost(loaded.bundle, name)
        said = f"the output costs {cost[name]['percent']:+.1f} % of the graph's time"
        print(f"{name}: {said} (median of {ROUNDS} runs, alternating)")
    if report:
        content = {"machine": machine.describe(), "bundle": loaded.bundle.name, "digest": loaded.bundle.digest}
        content |= {"target": target, "precision": loaded.precision, "statuses": counted, "cost": cost}
        report.write_text(json.dumps(content, indent=1) + "\n")


def _cost(bundle: bundles.Bundle, target: str) -> dict[str, Any]:
    """Median milliseconds of the preferred graph with and without "unfamiliarity", and the ratio's median."""
    whole = onnx.load_from_string(bundle.read(bundle.model_file(target, bundle.precisions(target)[0])))
    others = [output.name for output in whole.graph.output if output.name != "unfamiliarity"]
    bare = onnx.utils.Extractor(whole).extract_model(["image"], others)
    runs = [timing.times(target, [whole, bare]) for _ in range(ROUNDS)]
    ratio = statistics.median(with_it / without for with_it, without in runs)
    return {"ms": runs, "percent": 100 * (ratio - 1)}


def _line(kind: str, found: Counter[str]) -> str:
    total = sum(found.values())
    return f"| {kind} | {total} | {100 * found['unfamiliar'] / total:.1f} | {100 * found['refer'] / total:.1f} |"


def _outsiders(fields: list[Path], pictures: Path | None) -> Iterator[tuple[str, Image.Image]]:
    import sklearn.datasets

    rng = np.random.default_rng(0)
    shipped = Path(sklearn.datasets.__file__).parent / "images"
    files = [*sorted(shipped.glob("*.jpg")), *(sorted(pictures.iterdir()) if pictures else [])]
    for file in files:
        try:
            with Image.open(file) as opened:
                picture = opened.convert("RGB")
        except (OSError, SyntaxError):
            continue
        if min(picture.size) >= 64:
            kind = "histology" if "ihc" in file.name else "photographs and drawings"
            yield from ((kind, crop) for crop in _crops(picture, rng))
    for i in range(45):
        cells = (SIDE, SIDE) if i < 30 else (8, 8)
        noise = Image.fromarray(rng.integers(0, 256, (*cells, 3), dtype=np.uint8))
        yield "noise", noise.resize((SIDE, SIDE))
    for grey in (0, 20, 60, 128, 200, 240, 255):
        yield "blank", Image.new("RGB", (SIDE, SIDE), (grey, grey, grey))
    for red, green, blue in rng.integers(0, 256, (20, 3)):
        yield "blank", Image.new("RGB", (SIDE, SIDE), (int(red), int(green), int(blue)))
    for file in fields[:: max(1, len(fields) // SMEARS)]:
        with Image.open(file) as opened:
            smear = opened.convert("RGB")
        for radius in (6, 10):
            yield f"smears blurred by {radius} px", smear.filter(ImageFilter.GaussianBlur(radius))
        yield "smears in negative", Image.fromarray(255 - np.asarray(smear))


def _crops(picture: Image.Image, rng: np.random.Generator) -> Iterator[Image.Image]:
    yield picture
    width, height = picture.size
    for _ in range(CROPS):
        side = int(rng.uniform(0.3, 1) * min(width, height))
        x, y = int(rng.integers(0, width - side + 1)), int(rng.integers(0, height - side + 1))
        yield picture.crop((x, y, x + side, y + side))


def _png(picture: Image.Image) -> bytes:
    file = io.BytesIO()
    picture.resize((SIDE, SIDE), Image.Resampling.BILINEAR).save(file, "PNG")
    return file.getvalue()


if __name__ == "__main__":
    main()
