"""`edge-all watch` and `edge-all serve` for long: memory, files and threads, time to the answer, kills.

    python benchmarks/microscope.py watch --count 20000
    python benchmarks/microscope.py serve --count 60000 --clients 4
    python benchmarks/microscope.py latency --count 1000
    python benchmarks/microscope.py kills --count 200

The images are drawn fields, each with other bytes. An answer that is lost or repeated makes the exit status 1.
"""

from __future__ import annotations

import http.client
import io
import json
import os
import random
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

import click
import held
import numpy as np
import psutil
from PIL import Image

import edge_all
from edge_all.export.dataset.synthetic import draw_field

_PROGRAM = str(Path(sys.executable).with_name("edge-all"))

_BEHIND = 20
"""So many images may wait for their answer; then no more are written."""


class Fields:
    """JPEG files of drawn fields: a few pictures, each time with a comment of its own."""

    def __init__(self) -> None:
        rng = np.random.default_rng(0)
        self._files = [_jpeg(draw_field(k % 4, rng)) for k in range(40)]

    def __getitem__(self, number: int) -> bytes:
        file, comment = self._files[number % len(self._files)], f"field {number}".encode()
        return file[:2] + b"\xff\xfe" + (len(comment) + 2).to_bytes(2, "big") + comment + file[2:]


@click.group(help=__doc__)
def cli() -> None:
    """Has the commands below."""


@cli.command()
@click.option("--count", default=20_000, show_default=True)
@click.option("--rate", default=60.0, show_default=True, help="Images a second.")
@click.option("--keep", is_flag=True, help="Leave the images in the folder.")
def watch(count: int, rate: float, keep: bool) -> None:
    """Write images into a folder, and see when each is answered."""
    fields = Fields()
    with tempfile.TemporaryDirectory() as room, _started(Path(room), "watch", "in") as child:
        folder, completed, late = Path(room, "in"), dict[str, float](), list[float]()
        answered, process = Counter[str](), psutil.Process(child.pid)

        def read() -> None:
            assert child.stdout
            for line in child.stdout:
                name, now = Path(line.split()[-1]).name, time.monotonic()
                if name in completed:
                    answered[name] += 1
                    late.append(now - completed[name])
                    if not keep:
                        (folder / name).unlink()

        reader = threading.Thread(target=read)
        reader.start()
        states, begun = list[held.Held](), time.monotonic()
        for number in range(count):
            if number % 250 == 0:
                states.append(held.now(process))
            time.sleep(max(0.0, begun + number / rate - time.monotonic()))
            until = time.monotonic() + 60
            while number - len(late) > _BEHIND and time.monotonic() < until:
                time.sleep(0.005)
            name = f"{number:06}.jpg"
            (folder / f"{name}.part").write_bytes(fields[number])
            completed[name] = time.monotonic()
            os.rename(folder / f"{name}.part", folder / name)
        until = time.monotonic() + 60
        while len(late) < count and time.monotonic() < until:
            time.sleep(0.05)
        child.terminate()
        reader.join()
        recorded = _recorded(Path(room, "journal"))
    click.echo(f"{count} images, {count / (time.monotonic() - begun):.0f} a second; {_times(late)}")
    click.echo(held.slopes(states, 250))
    _end(count, answered, recorded)


@cli.command()
@click.option("--count", default=60_000, show_default=True)
@click.option("--clients", default=4, show_default=True)
def serve(count: int, clients: int) -> None:
    """Send images from several clients at once.

    The server's room for sent images is full after 12,000 of them, and its memory no longer grows after 26,000, once
    the allocator has filled the gaps that images of other sizes left: ask for at least 40,000.
    """
    fields = Fields()
    with tempfile.TemporaryDirectory() as room, _served(Path(room)) as (child, port):
        late, states, answered = list[float](), list[held.Held](), Counter[str]()
        process = psutil.Process(child.pid)

        def send(client: int) -> None:
            with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=60)) as connection:
                for number in range(client, count, clients):
                    begun = time.perf_counter()
                    answer = _ask(connection, fields[number], "/classify?record=true")
                    late.append(time.perf_counter() - begun)
                    answered[answer["sha256"]] += 1
                    if number % 250 == 0:
                        states.append(held.now(process))

        threads = [threading.Thread(target=send, args=(client,)) for client in range(clients)]
        begun = time.monotonic()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        spent = time.monotonic() - begun
        child.terminate()
        child.wait()
        recorded = _recorded(Path(room, "journal"))
    click.echo(f"{count} requests of {clients} clients, {count / spent:.0f} a second; {_times(late)}")
    click.echo(held.slopes(states, 250))
    _end(count, answered, recorded)


@cli.command()
@click.option("--count", default=1000, show_default=True)
@click.option("--target", default="cpu", show_default=True)
def latency(count: int, target: str) -> None:
    """Compare what a request takes with what the classifier takes, image by image in turns."""
    fields, classifier = Fields(), edge_all.load(target=target)
    inside, over = list[float](), list[float]()
    with (
        tempfile.TemporaryDirectory() as room,
        _served(Path(room), "--target", target) as (_, port),
        closing(http.client.HTTPConnection("127.0.0.1", port, timeout=60)) as connection,
    ):
        for number in range(count + 50):
            begun = time.perf_counter()
            classifier.classify(fields[number])
            between = time.perf_counter()
            _ask(connection, fields[number], "/classify")
            if number >= 50:
                inside.append(between - begun)
                over.append(time.perf_counter() - between)
    added = [there - here for here, there in zip(inside, over, strict=True)]
    click.echo(f"classify {_times(inside)}; request {_times(over)}; added p50 {1e3 * statistics.median(added):.2f} ms")


@cli.command()
@click.option("--count", default=200, show_default=True)
def kills(count: int) -> None:
    """Kill watch at random moments while images come, and count the answers at the end."""
    fields, rng, written = Fields(), random.Random(0), 0
    with tempfile.TemporaryDirectory() as name:
        room = Path(name)
        (room / "in").mkdir()
        for _ in range(count):
            words = _words(room, "watch", "in")
            child = subprocess.Popen(words, cwd=room, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            until = time.monotonic() + rng.uniform(0, 1.2)
            while time.monotonic() < until:
                (room / "in" / f"{written:06}.jpg").write_bytes(fields[written])
                written += 1
                time.sleep(0.01)
            child.kill()
            child.wait()
        subprocess.run(_words(room, "watch", "in", "--once"), cwd=room, check=True, capture_output=True)
        recorded = _recorded(room / "journal")
    click.echo(f"{count} kills, {written} images")
    _end(written, recorded, recorded)


def _jpeg(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).resize((224, 224)).save(file, "JPEG", quality=90)
    return file.getvalue()


def _words(room: Path, *words: str) -> list[str]:
    return [_PROGRAM, *words, "--journal", str(room / "journal")]


@contextmanager
def _started(room: Path, *words: str) -> Iterator[subprocess.Popen[str]]:
    """Run edge-all in a folder, with a folder `in` for images and a journal there."""
    (room / "in").mkdir()
    with open(room / "told", "w+", encoding="utf-8") as told:
        child = subprocess.Popen(
            _words(room, *words), cwd=room, stdout=subprocess.PIPE, stderr=told, text=True, encoding="utf-8"
        )
        try:
            until = time.monotonic() + 60
            while "medical device" not in (text := (room / "told").read_text(encoding="utf-8")):
                if child.poll() is not None or time.monotonic() > until:
                    raise click.ClickException(f"edge-all did not start: {text}")
                time.sleep(0.05)
            yield child
        finally:
            child.kill()
            child.wait()


@contextmanager
def _served(room: Path, *words: str) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """Serve on a free port."""
    with _started(room, "serve", "--port", "0", "--rate", "100000", *words) as child:
        assert child.stdout
        address = child.stdout.readline()
        yield child, int(address.rstrip().rstrip("/").rsplit(":", 1)[1])


def _ask(connection: http.client.HTTPConnection, body: bytes, path: str) -> dict[str, str]:
    connection.request("POST", path, body, {"Content-Type": "image/jpeg"})
    response = connection.getresponse()
    content = response.read()
    if response.status != 200:
        raise click.ClickException(f"{response.status} {content[:200]!r}")
    answer: dict[str, str] = json.loads(content)
    return answer


def _recorded(journal: Path) -> Counter[str]:
    """How often each image's digest is in the journal."""
    with closing(sqlite3.connect(journal)) as opened:
        return Counter(digest for (digest,) in opened.execute("SELECT sha256 FROM entries"))


def _times(seconds: Sequence[float]) -> str:
    ordered = sorted(1e3 * value for value in seconds)
    at = [ordered[int(share * (len(ordered) - 1))] for share in (0.5, 0.99, 1)]
    return "p50 {:.2f}, p99 {:.2f}, longest {:.2f} ms".format(*at)


def _end(count: int, answered: Counter[str], recorded: Counter[str]) -> None:
    """Say what was lost or repeated, and end with 1 if anything was."""
    lost = count - len(answered), count - len(recorded)
    repeated = answered.total() - len(answered), recorded.total() - len(recorded)
    click.echo(f"lost: {lost[0]} answers, {lost[1]} entries; repeated: {repeated[0]} answers, {repeated[1]} entries")
    sys.exit(any((*lost, *repeated)))


if __name__ == "__main__":
    cli()
