"""How fast is an archive answered, and does it stand losses? python benchmarks/archive.py [--images N] [--json FILE]

The archive is drawn: fields of four classes as JPEG files, each with bytes of its own, in 100 shards (.tar). In turns:

- the loop: `edge_all.classify_all` on the images of a tenth of the shards, held in memory; between the other
  turns, since the machine may be slower a few minutes later;
- the threads: `edge-all archive --local` on a hundredth, a tenth and all of the images;
- Ray: `edge-all archive --address` on two and on four raylets of this machine (`ray.cluster_utils`), each
  with a worker;
- losses: the same while every so many seconds a worker is killed with signal 9, and once a raylet.

The tables must then have each image once, with the digest, label and status that the threads gave it; for the last
shard of each turn the digests are computed again.
"""

from __future__ import annotations

import hashlib
import io
import json
import signal
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import click
import numpy as np
import psutil
import pyarrow.parquet as pq
from PIL import Image

from edge_all import bundle as bundles
from edge_all import machine
from edge_all.classifier import start
from edge_all.classify_all import classify_all
from edge_all.export.dataset.synthetic import draw_field
from edge_all.targets import EngineOptions

SHARDS, POOL = 100, 96
"""Shards of the archive, and fields that are drawn for it."""

_COLUMNS = ("file", "sha256", "label", "status", "error")


@dataclass(frozen=True)
class Turn:
    """What a turn took.

    Attributes:
        name: Of the turn.
        images: That were answered.
        seconds: Of the command, from start to end; a cluster is there before.
        loop_per_s: Images a second of the loop: the mean of just before and just after.
        rss_mb: The most memory that all its processes held together, what they share counted once for each.
        killed: Workers, and raylets, that were killed.
    """

    name: str
    images: int
    seconds: float
    loop_per_s: float
    rss_mb: float
    killed: list[int]

    def line(self) -> str:
        """The turn in a line."""
        rate = self.images / self.seconds
        return (
            f"{self.name}: {self.images} images, {rate:.0f} a second, {rate / self.loop_per_s:.2f} of the loop's "
            f"{self.loop_per_s:.0f}, {self.rss_mb:.0f} MB, killed: {self.killed[0]} workers, {self.killed[1]} raylets; "
            "all there once"
        )


@click.command(help=__doc__)
@click.option("--images", default=100_000, show_default=True)
@click.option("--target", default="openvino", show_default=True)
@click.option("--only", help="Names of turns, with commas between them. [default: all]")
@click.option("--rounds", default=1, show_default=True, help="How often the turns are run.")
@click.option("--every", default=20.0, show_default=True, help="Seconds between two kills.")
@click.option("--json", "report", type=click.Path(path_type=Path), help="Write the figures to a file.")
def main(images: int, target: str, only: str | None, rounds: int, every: float, report: Path | None) -> None:
    """Run the turns one after another; print and check each."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        shards = write_shards(root / "shards", images)
        truth: dict[str, tuple[Any, ...]] = {}
        turns: list[Turn] = []
        held, chosen = shards[: max(1, len(shards) // 10)], _chosen(_turns(target, every), only, rounds)
        before = _loop(held, target)
        for number, (name, (share, run)) in enumerate(chosen):
            own = shards[: max(1, round(share * len(shards)))]
            out = root / f"{name.replace(' ', '-')}-{number}"
            (seconds, most), killed = run(own, out)
            after = _loop(held, target)
            speed, before = (before + after) / 2, after
            rows = _rows(out)
            _check(rows, own, truth, images // SHARDS)
            truth = truth or rows
            turns.append(Turn(name, len(rows), seconds, speed, most, killed))
            click.echo(turns[-1].line())
            if report:
                digest = bundles.load(bundles.BUILTIN).digest
                about = {"machine": machine.describe(), "bundle": digest, "target": target}
                measured = [asdict(turn) for turn in turns]
                report.write_text(json.dumps(about | {"turns": measured}, indent=1) + "\n", "utf-8")


class Cost(NamedTuple):
    """What a command took: seconds from start to end, and the most megabytes that its processes held."""

    seconds: float
    megabytes: float


Run = Callable[[Sequence[Path], Path], tuple[Cost, list[int]]]


def _chosen(
    turns: Mapping[str, tuple[float, Run]], only: str | None, rounds: int
) -> list[tuple[str, tuple[float, Run]]]:
    """The turns to run, in their order; the threads first, since the others are compared with them."""
    names = only.split(",") if only else list(turns)
    wanted = [name for name in turns if name in names] * rounds
    if wanted[:1] != ["threads"]:
        wanted = ["threads", *wanted]
    return [(name, turns[name]) for name in wanted]


def _turns(target: str, every: float) -> dict[str, tuple[float, Run]]:
    """The turns by name: which share of the shards each answers, and how; the first answers all."""

    def threads(shards: Sequence[Path], out: Path) -> tuple[Cost, list[int]]:
        return _archive(shards, out, target, ["--local"]), [0, 0]

    def ray(raylets: int, kill: bool) -> Run:
        def run(shards: Sequence[Path], out: Path) -> tuple[Cost, list[int]]:
            with _cluster(raylets) as (address, cluster), _killing(every if kill else None, cluster) as killed:
                return _archive(shards, out, target, ["--address", address]), killed

        return run

    named: dict[str, tuple[float, Run]] = {"threads": (1, threads), "threads on a tenth": (0.1, threads)}
    named |= {"threads on a hundredth": (0.01, threads)}
    for raylets in (2, 4):
        named[f"ray {raylets}"] = (1, ray(raylets, kill=False))
    named["ray 4 with losses"] = (1, ray(4, kill=True))
    return named


def write_shards(folder: Path, images: int) -> list[Path]:
    """An archive of so many images, in shards; each image has a comment of its own, and so a digest of its own."""
    folder.mkdir(parents=True)
    pool = []
    for i in range(POOL):
        encoded = io.BytesIO()
        Image.fromarray(draw_field(i % 4, np.random.default_rng([7, i]))).save(encoded, "JPEG", quality=90)
        pool.append(encoded.getvalue())
    paths = []
    for shard in range(SHARDS):
        paths.append(folder / f"shard-{shard:03d}.tar")
        with tarfile.open(paths[-1], "w") as file:
            for i in range(shard * images // SHARDS, (shard + 1) * images // SHARDS):
                comment = f"{i:012d}".encode()
                content = pool[i % POOL][:2] + b"\xff\xfe" + (len(comment) + 2).to_bytes(2, "big") + comment
                content += pool[i % POOL][2:]
                member = tarfile.TarInfo(f"{i:06d}.jpg")
                member.size = len(content)
                file.addfile(member, io.BytesIO(content))
    return paths


def _loop(shards: Sequence[Path], target: str) -> float:
    """Images a second of `edge_all.classify_all`, in this process, once it is warm."""
    streams = machine.usable_cores()
    classifier = start(bundles.load(bundles.BUILTIN), EngineOptions(target, streams=streams), "int8")
    images = [content for shard in shards for content in _contents(shard).values()]
    list(classify_all(classifier, images[:100], streams, digest=True))
    begun = time.perf_counter()
    count = sum(1 for _ in classify_all(classifier, images, streams, digest=True))
    return count / (time.perf_counter() - begun)


def _contents(shard: Path) -> dict[str, bytes]:
    with tarfile.open(shard) as file:
        return {member.name: file.extractfile(member).read() for member in file}  # type: ignore[union-attr]


def _archive(shards: Sequence[Path], out: Path, target: str, words: Sequence[str]) -> Cost:
    """Run the command on shards."""
    program = Path(sys.executable).with_name("edge-all")
    command = [str(program), "archive", *map(str, shards), "--out", str(out), "--target", target, *words]
    most, begun = 0.0, time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as running:
        while running.poll() is None:
            most = max(most, _held(running.pid))
            with suppress(subprocess.TimeoutExpired):
                running.wait(2)
        seconds = time.perf_counter() - begun
        errors = running.stderr.read() if running.stderr else ""
    if running.returncode:
        raise click.ClickException(errors.strip()[-500:])
    return Cost(seconds, most)


def _held(pid: int) -> float:
    """Megabytes that a process, and all of Ray's workers, hold."""
    workers = [process for process in psutil.process_iter(["cmdline"]) if _is_worker(process)]
    total = 0
    for process in (psutil.Process(pid), *workers):
        with suppress(psutil.Error):
            total += process.memory_info().rss
    return total / 1e6


def _is_worker(process: psutil.Process) -> bool:
    return any("_Worker" in word for word in process.info["cmdline"] or ())


@contextmanager
def _cluster(raylets: int) -> Iterator[tuple[str, Any]]:
    """A cluster whose head does no work, with so many other nodes of a worker each."""
    from ray.cluster_utils import Cluster

    cluster: Any = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "object_store_memory": 200_000_000})
    try:
        for _ in range(raylets):
            cluster.add_node(num_cpus=1, object_store_memory=100_000_000)
        yield cluster.address, cluster
    finally:
        cluster.shutdown()


@contextmanager
def _killing(every: float | None, cluster: Any) -> Iterator[list[int]]:
    """Kill a worker every so many seconds, and at the third time a raylet instead; count them."""
    killed, done = [0, 0], threading.Event()

    def kill() -> None:
        chance = np.random.default_rng(0)
        while not done.wait(every):
            workers = [process for process in psutil.process_iter(["cmdline"]) if _is_worker(process)]
            if sum(killed) == 2 and not killed[1]:
                cluster.remove_node(next(iter(cluster.worker_nodes)), allow_graceful=False)
                killed[1] += 1
            elif workers:
                with suppress(psutil.Error):
                    workers[int(chance.integers(len(workers)))].send_signal(signal.SIGKILL)
                    killed[0] += 1

    thread = threading.Thread(target=kill, daemon=True)
    if every:
        thread.start()
    try:
        yield killed
    finally:
        done.set()
        if every:
            thread.join()


def _rows(out: Path) -> dict[str, tuple[Any, ...]]:
    """All answers by the image's name.

    Raises:
        ClickException: One is there twice.
    """
    rows: dict[str, tuple[Any, ...]] = {}
    for path in sorted(out.glob("*.parquet")):
        for name, *answer in zip(*pq.read_table(path, columns=list(_COLUMNS)).to_pydict().values(), strict=True):
            if name in rows:
                raise click.ClickException(f"{name} is answered twice")
            rows[name] = tuple(answer)
    return rows


def _check(
    rows: dict[str, tuple[Any, ...]], shards: Sequence[Path], truth: dict[str, tuple[Any, ...]], count: int
) -> None:
    """Check that each image is there, with the digest of its bytes, and with the answer that it had before."""
    if len(rows) != len(shards) * count:
        raise click.ClickException(f"{len(rows)} answers to {len(shards) * count} images")
    for name, content in _contents(shards[-1]).items():
        if rows[f"file://{shards[-1]}#{name}"][0] != hashlib.sha256(content).hexdigest():
            raise click.ClickException(f"{name} has another digest")
    if any(truth.get(name, answer) != answer for name, answer in rows.items()):
        raise click.ClickException("an answer is another than that of the threads")


if __name__ == "__main__":
    main()
