"""How fast is a whole slide answered? python benchmarks/slides.py [--side 20000] [--rounds 3] [--json FILE]

The slide is drawn: fields of four classes side by side, in a pyramidal TIFF with JPEG tiles, as scanners write it. In
turns, each in a process of its own:

- the slide: `edge-all classify SLIDE --out DIR`, from start to end, with all files that it writes;
- the same on one core;
- the files: `edge-all classify DIR` on as many of the same fields as JPEG files, which is what one would do without it;
- WSInfer, if it is there, with the same network in torch (`slide_peer.py`);
- WSInfer, if it is there: the same network in torch (`slide_peer.py`);
- the floor: OpenVINO's benchmark_app on the same graph, throughput, without reading anything.
"""

from __future__ import annotations

import json
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypedDict

import click
import numpy as np
import psutil
import slide_peer
import tifffile
from PIL import Image

from edge_all import bundle as bundles
from edge_all import machine
from edge_all.export.dataset.synthetic import draw_field

FIELD, TILE, UM = 224, 256, 7.5 / 16
POOL = 96
"""Fields that are drawn; a slide has them many times, in a seeded order."""


class Turn(TypedDict):
    """What a turn took.

    Attributes:
        tiles_per_s: Tiles, or images, a second.
        seconds: From start to end.
        rss_mb: The most memory that the process held.
    """

    tiles_per_s: float
    seconds: float
    rss_mb: float


@click.command(help=__doc__)
@click.option("--side", default=20_000, show_default=True, help="Of the slide, in pixels.")
@click.option("--rounds", default=3, show_default=True)
@click.option("--target", default="openvino", show_default=True)
@click.option("--bundle", "path", default=bundles.BUILTIN, type=click.Path(path_type=Path), help="[default: built-in]")
@click.option("--json", "report", type=click.Path(path_type=Path), help="Write the figures to a file.")
def main(side: int, rounds: int, target: str, path: Path, report: Path | None) -> None:
    """Print the medians of all rounds."""
    bundle = bundles.load(path)
    program = [str(Path(sys.executable).with_name("edge-all")), "classify", "--bundle", str(path), "--target", target]
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        fields = [draw_field(i % 4, np.random.default_rng([7, i])) for i in range(POOL)]
        (root / "slides").mkdir()
        slide, images = write_slide(root / "slides" / "slide.tif", fields, side), root / "images"
        tiles = (side // FIELD) ** 2
        _write_files(images, fields, tiles)
        commands = {"slide": [*program, str(slide)], "files": [*program, str(images)]}
        if sys.platform == "linux":
            commands["one core"] = ["taskset", "-c", "0", *commands["slide"]]
        if slide_peer.is_installed():
            commands["wsinfer"] = [*slide_peer.prepare(root, bundle), "--wsi-dir", str(slide.parent)]
        turns: dict[str, list[Turn]] = {name: [] for name in commands}
        floors: list[float] = []
        for number in range(rounds):
            for name, words in commands.items():
                out = str(root / f"{name}{number}")
                where = {"files": ["--json"], "wsinfer": ["--results-dir", out]}.get(name, ["--out", out, "--json"])
                turns[name].append(_turn([*words, *where], tiles))
            floors.append(_floor(bundle.path / bundle.model_file(target, "int8"), bundle.input_size))
            rates = ", ".join(f"{name} {each[-1]['tiles_per_s']:.0f}" for name, each in turns.items())
            click.echo(f"round {number + 1} of {rounds}: {rates}, floor {floors[-1]:.0f}", err=True)
    floor = statistics.median(floors)
    rows = {name: _median(each) for name, each in turns.items()}
    click.echo(f"{tiles} tiles; floor {floor:.0f} a second")
    for name, row in rows.items():
        ratios = [turn["tiles_per_s"] / least for turn, least in zip(turns[name], floors, strict=True)]
        click.echo(
            f"{name}: {row['tiles_per_s']:.0f} a second, {statistics.median(ratios):.2f} of the floor, "
            f"{row['seconds']:.1f} s, {row['rss_mb']:.0f} MB"
        )
    if report:
        about = {"machine": machine.describe(), "bundle": bundle.name, "digest": bundle.digest, "target": target}
        measured = {"side": side, "tiles": tiles, "floor_per_s": floors, "turns": turns}
        report.write_text(json.dumps(about | measured, indent=1) + "\n", encoding="utf-8")


def write_slide(path: Path, fields: list[np.ndarray], side: int, compression: str = "jpeg") -> Path:
    """A square slide of fields in a seeded order, with levels of a quarter and a sixteenth of the side."""
    order = np.random.default_rng(0).integers(0, len(fields), (side // FIELD + 1, side // FIELD + 1))
    dots: dict[str, Any] = {"resolution": (1e4 / UM, 1e4 / UM), "resolutionunit": "CENTIMETER"}
    with tifffile.TiffWriter(path, bigtiff=True) as file:
        for level, times in enumerate((1, 4, 16)):
            pool = [np.asarray(Image.fromarray(field).reduce(times)) for field in fields]
            length = side // times
            file.write(
                _tiles(pool, order, length),
                shape=(length, length, 3),
                dtype=np.uint8,
                tile=(TILE, TILE),
                photometric="rgb",
                compression=compression,
                compressionargs={"level": 90} if compression == "jpeg" else None,
                subfiletype=1 if level else 0,
                metadata=None,
                **(dots if not level else {}),
            )
    return path


def _tiles(pool: list[np.ndarray], order: np.ndarray, side: int) -> Iterator[np.ndarray]:
    """The file's tiles, line by line; a band of them is made at a time."""
    size = len(pool[0])
    for top in range(0, side, TILE):
        band = np.full((TILE, -(-side // TILE) * TILE, 3), 255, np.uint8)
        for row in range(top // size, min(len(order), -(-(top + TILE) // size))):
            line = np.concatenate([pool[k] for k in order[row]], axis=1)[:, :side]
            begin, end = max(top, row * size), min(top + TILE, (row + 1) * size, side)
            if end > begin:
                band[begin - top : end - top, : line.shape[1]] = line[begin - row * size : end - row * size]
        for left in range(0, side, TILE):
            yield band[:, left : left + TILE]


def _write_files(folder: Path, fields: list[np.ndarray], count: int) -> None:
    """As many files as the slide has tiles, in folders of a thousand."""
    for i in range(count):
        place = folder / f"{i // 1000:03d}"
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(fields[i % len(fields)]).save(place / f"{i:06d}.jpg", quality=90)


def _turn(words: list[str], tiles: int) -> Turn:
    begun, most = time.perf_counter(), 0
    with subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as running:
        process = psutil.Process(running.pid)
        while running.poll() is None:
            try:
                most = max(most, process.memory_info().rss)
            except psutil.NoSuchProcess:
                break
            time.sleep(0.05)
        _, errors = running.communicate()
    seconds = time.perf_counter() - begun
    if running.returncode:
        raise click.ClickException(errors.strip()[-500:])
    return {"tiles_per_s": tiles / seconds, "seconds": seconds, "rss_mb": most / 1e6}


def _median(turns: list[Turn]) -> Turn:
    def middle(values: list[float]) -> float:
        return statistics.median(values)

    return {
        "tiles_per_s": middle([turn["tiles_per_s"] for turn in turns]),
        "seconds": middle([turn["seconds"] for turn in turns]),
        "rss_mb": middle([turn["rss_mb"] for turn in turns]),
    }


def _floor(model: Path, size: tuple[int, int]) -> float:
    """Images a second, as OpenVINO's own tool measures them."""
    shape = f"image[1,{size[0]},{size[1]},3]"
    command = [str(Path(sys.executable).with_name("benchmark_app")), "-m", str(model), "-shape", shape]
    command += ["-hint", "tput", "-infer_precision", "f32", "-t", "5", "-d", "CPU"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    figure = re.search(r"Throughput:\s+([\d.]+) FPS", done.stdout)
    assert figure, done.stdout[-500:]
    return float(figure[1])


if __name__ == "__main__":
    main()
