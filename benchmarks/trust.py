"""What the trust in a device rests on, by numbers: mutated images and bundles, damaged fields, kills, long runs.

    python benchmarks/trust.py images --count 100000
    python benchmarks/trust.py bundles --count 20000
    python benchmarks/trust.py fields --data DIR --count 2000
    python benchmarks/trust.py soak --count 20000
    python benchmarks/trust.py kills --count 100
    python benchmarks/trust.py kills --export --count 200

Each prints counts, the longest time and the peak of memory. An input that ends in an error which is not edge_all's own
is printed with its seed, and the exit status is 1.
"""

from __future__ import annotations

import gc
import io
import multiprocessing
import os
import random
import sys
import tempfile
import time
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import click
import held
import numpy as np
import psutil
from PIL import Image

import edge_all
from edge_all import bundle as bundles
from edge_all import bundle_files, machine
from edge_all.cli import main
from edge_all.errors import EdgeAllError, ImageError

FORMS: tuple[tuple[str, str, dict[str, object]], ...] = (
    ("JPEG", "RGB", {"quality": 85}),
    ("JPEG", "RGB", {"progressive": True}),
    ("PNG", "RGB", {}),
    ("PNG", "RGBA", {}),
    ("TIFF", "RGB", {}),
    ("TIFF", "RGB", {"compression": "tiff_lzw"}),
    ("TIFF", "RGB", {"compression": "tiff_adobe_deflate"}),
    ("TIFF", "RGB", {"compression": "jpeg"}),
    ("BMP", "RGB", {}),
    ("GIF", "P", {}),
    ("WEBP", "RGB", {}),
    ("WEBP", "RGB", {"lossless": True}),
    ("PPM", "RGB", {}),
)
NUMBERS = (0, 1, 255, 32_767, 65_535, 70_000, 2**31 - 1, 2**32 - 1)


@click.group()
def cli() -> None:
    """Measure what must hold for any file, any bundle and any fault."""


@cli.command()
@click.option("--count", default=10_000, show_default=True)
@click.option("--target", "targets", multiple=True, default=("cpu", "openvino"), show_default=True)
def images(count: int, targets: tuple[str, ...]) -> None:
    """Mutate small images of seven formats and classify them on each engine in turn."""
    seeds = [_encoded(*form) for form in FORMS]
    classifiers = [edge_all.load(bundles.BUILTIN, target=target) for target in targets]

    def attempt(rng: random.Random, number: int) -> str:
        form = number % len(seeds)
        answer = classifiers[number // len(seeds) % len(classifiers)].classify(_mutated(rng, seeds[form]))
        return f"{FORMS[form][0]} {answer.status}"

    _run(count, attempt, lambda number: f"{FORMS[number % len(FORMS)][0]} refused")


@cli.command("bundles")
@click.option("--count", default=2_000, show_default=True)
def mutated_bundles(count: int) -> None:
    """Mutate the built-in bundle as a ``.zip``, and its record and its graphs with digests that fit, and load them."""
    built_in = bundles.load(bundles.BUILTIN)
    whole = {name: built_in.read(name) for name in built_in.record["files"]}
    body = {key: value for key, value in built_in.record.items() if key not in ("protocol", "files", "digest")}
    graph = built_in.model_file("cpu", "int8")
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name in (bundle_files.RECORD, *whole):
            archive.write(bundles.BUILTIN / name, name)

    def attempt(rng: random.Random, number: int) -> str:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "b.zip")
            if number % 2:
                path.write_bytes(_mutated(rng, packed.getvalue()))
            else:
                path = path.with_suffix("")
                bundles.write(path, body, whole | {graph: _mutated(rng, whole[graph])})  # type: ignore[arg-type]
            edge_all.load(path, target=("cpu", "openvino")[number // 2 % 2])
            return "loaded"

    _run(count, attempt, lambda _: "refused")


@cli.command()
@click.option("--data", type=click.Path(exists=True, path_type=Path), required=True, help="A folder of JPEG fields.")
@click.option("--count", default=2_000, show_default=True)
@click.option("--target", default="cpu", show_default=True)
def fields(data: Path, count: int, target: str) -> None:
    """Damage real fields in their coded data, and count those that get another label with ``ok``."""
    files = sorted(path for path in data.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg"))
    classifier = edge_all.load(bundles.BUILTIN, target=target)
    kinds: dict[str, Callable[[random.Random, bytes, int], bytes]] = {
        "64 zero bytes": lambda _, data, at: data[:at] + bytes(64) + data[at + 64 :],
        "700 bytes cut out": lambda _, data, at: data[:at] + data[at + 700 :],
        "cut off": lambda _, data, at: data[:at],
        "16 other bytes": lambda rng, data, at: data[:at] + rng.randbytes(16) + data[at + 16 :],
        "one other bit": lambda rng, data, at: data[:at] + bytes([data[at] ^ 1 << rng.randrange(8)]) + data[at + 1 :],
    }
    for kind, damaged in kinds.items():
        rng, told = random.Random(0), Counter[str]()
        for _ in range(count):
            whole = rng.choice(files).read_bytes()
            scan = whole.rindex(b"\xff\xda")
            begin = scan + 2 + int.from_bytes(whole[scan + 2 : scan + 4])
            broken = damaged(rng, whole, rng.randrange(begin, len(whole) - 702))
            try:
                answer = classifier.classify(broken)
            except ImageError:
                told["refused"] += 1
                continue
            same = answer.top == classifier.classify(whole).top
            told[f"{answer.status}, {'same' if same else 'other'} label"] += 1
        click.echo(f"{kind}: {dict(told)}")


@cli.command()
@click.option("--count", default=20_000, show_default=True)
@click.option("--target", "targets", multiple=True, default=("cpu", "openvino"), show_default=True)
def soak(count: int, targets: tuple[str, ...]) -> None:
    """Classify in one process and print the slope of memory, open files and threads over the last quarter."""
    field = _encoded("JPEG", "RGB", {"quality": 90})
    for target in targets:
        classifier = edge_all.load(bundles.BUILTIN, target=target)
        states, process, every = list[held.Held](), psutil.Process(), max(1, count // 40)
        for number in range(count):
            classifier.classify(field)
            if number % every == 0:
                gc.collect()
                states.append(held.now(process))
        click.echo(f"{target}: {held.slopes(states, every)}")


@cli.command()
@click.option("--count", default=100, show_default=True)
@click.option(
    "--export", "exporting", is_flag=True, help="Kill exports (the extra export is needed) in place of classify."
)
def kills(count: int, exporting: bool) -> None:
    """Kill a command at random times, and look for lost bundles and for what is left over after the next run."""
    if sys.platform == "win32":
        raise click.ClickException("Windows has no kill -9; run this on Linux or macOS")
    forks = multiprocessing.get_context("forkserver")
    with tempfile.TemporaryDirectory() as folder:
        room = Path(folder)
        (room / "field.jpg").write_bytes(_encoded("JPEG", "RGB", {"quality": 90}))
        words = ["classify", "field.jpg"]
        if exporting:
            from edge_all.export.dataset.synthetic import draw

            forks.set_forkserver_preload(["edge_all.export.pipeline"])  # a process would take longer to load torch
            draw(room / "data", per_class=6)
            words = ["export", "--backbone", "efficientnet_lite0", "--weights", "random", "--tap", "blocks.0.0:std"]
            words += ["--data", "data", "--out", "bundle", "--augment", "0", "--resize", "64x64"]
            words += ["--target", "cpu", "--scheme", "layerwise-7bit"]

        def run(seconds: float | None = None) -> None:
            child = forks.Process(target=_command, args=(words, room))
            child.start()
            child.join(seconds)
            if child.exitcode is None:
                child.kill()
                child.join()
            elif child.exitcode:
                raise click.ClickException(f"the command failed: {(room / 'told').read_text()}")

        run()
        begun = time.perf_counter()
        run()
        whole = time.perf_counter() - begun
        before, rng, lost = _listing(room), random.Random(0), 0
        for _ in range(count):
            run(rng.uniform(0, 1.1 * whole))
            if exporting:
                try:
                    edge_all.load(room / "bundle")
                except EdgeAllError as error:
                    lost += 1
                    click.echo(error)
        run()
        left = sorted(set(_listing(room)) - set(before))
        click.echo(
            f"{count} killed of runs of {whole:.1f} s: {lost} bundles lost, left over after the next run: {left}"
        )
    sys.exit(bool(lost or left))


def _command(words: list[str], room: Path) -> None:
    """Run edge-all in a folder, with a cache of its own there; what it prints goes to a file."""
    os.chdir(room)
    os.environ["EDGE_ALL_CACHE"] = str(room / "cache")
    told = os.open("told", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(told, 1)
    os.dup2(told, 2)
    sys.argv[1:] = words
    status = 1
    try:
        main()
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 1
    finally:
        sys.stdout.flush()
        os._exit(status)  # multiprocessing would wait for joblib's workers, which stay for a while


def _listing(room: Path) -> list[str]:
    return [str(path.relative_to(room)) for path in room.rglob("*") if "cache" not in path.parts]


def _run(count: int, attempt: Callable[[random.Random, int], str], refused: Callable[[int], str]) -> None:
    """Try each number, and count what comes of it."""
    told, others, longest = Counter[str](), 0, (0.0, -1)
    for number in range(count):
        begun = time.perf_counter()
        try:
            told[attempt(random.Random(number), number)] += 1
        except EdgeAllError:
            told[refused(number)] += 1
        except Exception as error:
            others += 1
            click.echo(f"seed {number}: {type(error).__name__}: {error}")
        longest = max(longest, (time.perf_counter() - begun, number))
    for what in sorted(told):
        click.echo(f"{what}: {told[what]}")
    click.echo(
        f"{count} tried, {others} ended in other errors; longest {longest[0]:.2f} s (seed {longest[1]}), "
        f"peak memory {machine.peak_memory_mb():.0f} MB"
    )
    sys.exit(bool(others))


def _encoded(form: str, mode: str, options: dict[str, object]) -> bytes:
    coarse = Image.fromarray(np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8))
    file = io.BytesIO()
    coarse.resize((96, 72), Image.Resampling.BICUBIC).convert(mode).save(file, form, **options)
    return file.getvalue()


def _mutated(rng: random.Random, data: bytes) -> bytes:
    """Change, cut out, put in, double or cut off some bytes; half of the time near the beginning, in the header."""
    out = bytearray(data)
    for _ in range(rng.randint(1, 6)):
        at = rng.randrange(len(out) if rng.random() < 0.5 else min(len(out), 300))
        length = rng.randint(1, 64)
        match rng.randrange(7):
            case 0:
                out[at] ^= 1 << rng.randrange(8)
            case 1:
                out[at] = rng.choice((0, 1, 0x7F, 0x80, 0xFE, 0xFF))
            case 2:
                out[at : at + 4] = rng.choice(NUMBERS).to_bytes(4, rng.choice(("little", "big")))
            case 3:
                del out[at : at + length]
            case 4:
                out[at:at] = rng.randbytes(length)
            case 5:
                out[at:at] = out[at : at + length]
            case _:
                if rng.random() < 0.3:
                    del out[at:]
        if not out:
            return b""
    return bytes(out)


if __name__ == "__main__":
    cli()
