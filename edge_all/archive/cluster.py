"""All parts through Ray Data, on the cores of this machine or of a cluster.

Only names travel: each worker reads its images and writes its tables itself, so nothing piles up. The bundle travels as
bytes, once, and each worker checks it as everybody does who loads one. A part whose worker was killed is answered again
by another; its table has the same name, and is written whole, so no answer is lost or there twice.

Reference: https://docs.ray.io/en/latest/data/data.html
"""

from __future__ import annotations

import io
import json
import logging
import tempfile
import zipfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from edge_all import cluster
from edge_all.archive.sources import File, Part
from edge_all.bundle import Bundle
from edge_all.bundle_files import RECORD, SIGNATURE, read_record, read_signature
from edge_all.progress import Progress
from edge_all.targets import EngineOptions

_BLOCK = 1_000_000
"""Bytes that Ray reckons with for what a worker hands on."""


@dataclass(frozen=True)
class Job:
    """What every worker needs to know.

    Attributes:
        bundle: The bundle, as a ``.zip``.
        target: What answers.
        precision: ``auto``, or what the bundle is loaded at; each machine runs the bundle's probe.
        device: Of the target.
        out: Where the tables go.
    """

    bundle: bytes
    target: str
    precision: str
    device: str | None
    out: str


def job(bundle: Bundle, options: EngineOptions, precision: str, out: str) -> Job:
    """What every worker needs to know of a bundle that was checked here."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as file:
        file.writestr(RECORD, read_record(bundle.path))
        if signature := read_signature(bundle.path):
            file.writestr(SIGNATURE, signature)
        for name in bundle.record["files"]:
            file.writestr(name, bundle.read(name))
    return Job(packed.getvalue(), options.target, precision, options.device, out)


def run(parts: Sequence[Part], job: Job, address: str | None, progress: Progress) -> None:
    """Answer parts on a cluster.

    Args:
        parts: The parts.
        job: What answers, and where the tables go.
        address: Of the cluster, as Ray takes it; None starts Ray on this machine, and ends it.
        progress: Counts parts.
    """
    with cluster.connected(address) as ray:
        _prepare(ray)
        given = ray.data.from_items([{"part": _packed(part)} for part in parts], override_num_blocks=len(parts))
        answered = given.map(
            _Worker,
            fn_constructor_args=([ray.put(job)],),  # in a list, or it would be copied into each worker's own arguments
            compute=_workers(ray, len(parts)),
            num_cpus=1,
        )
        for done, _ in enumerate(answered.iter_rows(), 1):
            progress(done, len(parts))


def _workers(ray: Any, parts: int) -> Any:
    """One for each core that is there, at once; more or fewer later, as the cluster grows and as there is work."""
    return ray.data.ActorPoolStrategy(min_size=1, initial_size=min(cluster.cores(ray), parts), max_size=parts)


def _prepare(ray: Any) -> None:
    import_module("ray.data")
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars, context.print_on_execution_start = False, False
    context.target_max_block_size = _BLOCK
    logging.getLogger("ray.data").setLevel(logging.ERROR)  # it warns of a cluster that is busy as of one that is small


class _Worker:
    """A process of a cluster that answers parts: it loads the bundle once."""

    def __init__(self, jobs: Sequence[Any]) -> None:
        from edge_all import bundle as bundles
        from edge_all import self_check
        from edge_all.archive.store import Store

        job = import_module("ray").get(jobs[0])
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "bundle.zip")
            path.write_bytes(job.bundle)
            loaded = bundles.load(path)
            options = EngineOptions(job.target, job.device, threads=1)
            self._classifier = self_check.load(loaded, options, job.precision, lambda line: None)
        self._store = Store(job.out)

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        from edge_all.archive import answers

        part = _unpacked(row["part"])
        table = answers.answer(part, self._classifier, 1)
        self._store.write(part, table)
        return {"images": len(table)}


def _packed(part: Part) -> str:
    return json.dumps(asdict(part))


def _unpacked(text: str) -> Part:
    fields = json.loads(text)
    return Part(fields["kind"], tuple(File(*file) for file in fields["files"]))
