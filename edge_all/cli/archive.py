"""``edge-all archive``: labels for more images than one would wait for."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edge_all import NOTICE
from edge_all.cli import options
from edge_all.cli.output import json_text, progress, say, tell
from edge_all.cluster import check_extra

if TYPE_CHECKING:
    from edge_all.archive.sources import Part
    from edge_all.archive.store import Store
    from edge_all.bundle import Bundle
    from edge_all.targets import EngineOptions


@click.command("archive")
@click.argument("sources", metavar="SOURCE...", nargs=-1, required=True)
@click.option("--out", required=True, metavar="DIR|URL", help="Where the tables go: a folder, or for example s3://....")
@click.option("--address", metavar="HOST:PORT", help="Answer on this Ray cluster; auto is the one of this machine.")
@click.option("--local", is_flag=True, help="Answer on the threads of this machine, even where Ray is installed.")
@options.answering
@click.option("--json", "as_json", is_flag=True, help="Print the counts as one JSON object.")
def command(
    sources: tuple[str, ...],
    out: str,
    address: str | None,
    local: bool,
    path: Path | None,
    target: str,
    precision: str,
    device: str | None,
    threads: int | None,
    keys: Path | None,
    as_json: bool,
) -> None:
    """Classify an archive: folders, patterns, lists (.txt), shards (.tar, .zip), tables (.parquet), on disks and under
    URLs (s3://, gs://, https://, smb://).

    The answers are written as Parquet, a table for each shard or 512 files. What was answered before is left out, so a
    run that was killed, or an archive that has grown, is answered to its end by the same command. An image that cannot
    be classified has the reason in its row, and the exit status is then 1.
    """
    from edge_all import bundle as bundles
    from edge_all.archive import sources as named
    from edge_all.archive.store import SUMMARY, Store
    from edge_all.targets import EngineOptions

    if local and address:
        raise click.UsageError("--local and --address contradict each other; give one of them")
    bundle = bundles.load(path or bundles.default(tell), keys)
    store = Store(out)
    with progress("Listing the images"):
        files = list(named.find(sources))
        parts = [part for part in named.parts(files, store.done(bundle.digest)) if not store.has(part)]
    tell(f"{len(files)} files, shards and tables; {len(parts)} parts are to be answered")
    engine = EngineOptions(target, device, threads)
    if parts:
        _answer(parts, bundle, engine, precision, store, _address(address, local=local))
    statuses, labels = store.counts()
    counts = {status: statuses[status] for status in ("ok", "refer", "unfamiliar", "error")}
    by_label = {label: labels[label] for label in bundle.classes}
    summary = {"images": statuses.total(), **counts, "labels": by_label, "answered_parts": len(parts)}
    summary |= {"bundle": bundle.name, "bundle_digest": bundle.digest}
    store.write_bytes(SUMMARY, (json_text(summary) + "\n").encode())
    if as_json:
        say(json_text(summary))
    else:
        say(", ".join(f"{name} {count}" for name, count in (by_label | counts).items()))
        say(NOTICE, err=True)
    if counts["error"]:
        tell(f"{counts['error']} images cannot be classified: their rows say why")
        sys.exit(1)


def _address(address: str | None, *, local: bool) -> str | None:
    """Where Ray answers; empty where it does not."""
    if local or not find_spec("ray"):
        if address:
            check_extra(address)
        if not local:
            tell("on the threads of this machine; the extra cluster (Ray) answers on several machines")
        return ""
    return address


def _answer(
    parts: list[Part], bundle: Bundle, engine: EngineOptions, precision: str, store: Store, address: str | None
) -> None:
    from dataclasses import replace

    from edge_all import machine, self_check
    from edge_all.archive import cluster, local

    if address == "":
        streams = machine.usable_cores() if engine.target != "gpu" else 1
        classifier = self_check.load(bundle, replace(engine, streams=streams), precision, tell)
        with progress("Classifying", "parts") as report:
            local.run(parts, classifier, store, streams, report)
        return
    with progress("Classifying", "parts") as report:
        cluster.run(parts, cluster.job(bundle, engine, precision, store.url), address, report)
