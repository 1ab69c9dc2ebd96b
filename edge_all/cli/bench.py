"""``edge-all bench``: latency on this machine beside the accuracy of the same file."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from edge_all.cli import options


@click.command("bench")
@click.option("--bundle", "paths", type=options.PATH, multiple=True, help="Bundle to measure; may be repeated.")
@click.option("--data", type=options.PATH, help="Labelled images, one folder a class, to measure the accuracy on here.")
@click.option("--target", "chosen", type=click.Choice(options.TARGETS), multiple=True, help="[default: all there are]")
@click.option("--precision", "precisions", type=click.Choice(options.PRECISIONS), multiple=True, help="[default: all]")
@click.option("--quick", is_flag=True, help="A rough answer: 200 images, 100 queries or 3 s a row.")
@click.option("--json", "report", type=options.PATH, metavar="FILE", help="Write the rows and the machine to FILE.")
@options.device
@options.threads
def command(
    paths: tuple[Path, ...],
    data: Path | None,
    chosen: tuple[str, ...],
    precisions: tuple[str, ...],
    quick: bool,
    report: Path | None,
    device: str | None,
    threads: int | None,
) -> None:
    """Measure latency, throughput, memory and accuracy of bundles on this machine.

    Without --data the accuracy shown is the one the export measured, and the bundle's probe is re-checked here.
    """
    from edge_all import bench, bundle, machine
    from edge_all.cli.output import NOTICE, progress
    from edge_all.errors import GateError, TargetError

    rows: list[dict[str, Any]] = []
    for path in paths or [bundle.default()]:
        loaded = bundle.load(path)
        cases, missing = bench.available_cases(loaded, chosen, precisions)
        for line in missing:
            click.echo(f"edge-all: {line}", err=True)
        if not cases:
            raise TargetError(f"{path}: nothing to measure here; it is made for {', '.join(loaded.targets)}")
        effort = bench.QUICK if quick else bench.FULL
        with progress(loaded.name) as show:
            rows += bench.run(
                loaded, cases, data=data, effort=effort, device=device, threads=threads, progress=lambda title: show
            )
    if report:
        _write(report, {"machine": machine.describe(), "quick": quick, "rows": rows})
    _print(rows)
    click.echo(_machine_line(machine.describe()), err=True)
    for line in _remarks(rows, data):
        click.echo(line, err=True)
    click.echo(NOTICE, err=True)
    if failed := [row for row in rows if not row["probe"]["passed"]]:
        where = ", ".join(f"{row['bundle']} {row['target']} {row['precision']}" for row in failed)
        raise GateError(f"the probe disagrees on this machine for {where}: do not use it here; try --precision fp32")


def _print(rows: Sequence[dict[str, Any]]) -> None:
    from edge_all.cli.output import print_table

    left = ["bundle", "target", "precision", "accuracy on"]
    columns = [*left, *"acc %|bal %|=fp32 %|p50 ms|p90|p99|graph p50|img/s|load ms|RSS MB|MB".split("|")]
    print_table(columns, [_cells(row) for row in rows], right=[name for name in columns if name not in left])


def _cells(row: dict[str, Any]) -> list[str]:
    latency, agreement = row["latency_ms"], row["agreement_fp32"]
    return [
        row["bundle"], row["target"], row["precision"], f"{row['images']} {row['accuracy_on']}",
        f"{row['accuracy']:.1f}", f"{row['balanced_accuracy']:.1f}", "-" if agreement is None else f"{agreement:.1f}",
        f"{latency['p50']:.2f}", f"{latency['p90']:.2f}", f"{latency['p99']:.2f}", f"{row['graph_ms']['p50']:.2f}",
        f"{row['throughput_ips']:.0f}", f"{row['load_ms']:.0f}", f"{row['rss_mb']:.0f}", f"{row['model_mb']:.1f}",
    ]  # fmt: skip


def _remarks(rows: Sequence[dict[str, Any]], data: Path | None) -> list[str]:
    """What a reader must know of these figures."""
    lines = ["p50, p90, p99: from encoded bytes to label, one image at a time; graph: the engine alone."]
    if not data:
        lines.append("Accuracy is the export's own (cross-validated, block), not measured here; --data measures it.")
    else:
        seen = dict.fromkeys(row["bundle"] for row in rows if row["accuracy_on"] == "seen images")
        part = dict.fromkeys(row["bundle"] for row in rows if row["training_images_left_out"])
        if seen:
            named = ", ".join(seen)
            lines.append(f"WARNING: {named} was trained on every image here: its accuracies say nothing of new slides.")
        if part:
            lines.append(f"Images that {', '.join(part)} was trained on were left out.")
    passed = sum(row["probe"]["passed"] for row in rows)
    lines.append(f"Probe: {passed} of {len(rows)} rows answer as on the machine that made the bundle.")
    return lines


def _machine_line(machine: dict[str, Any]) -> str:
    engines = ", ".join(f"{name} {version}" for name, version in machine["engines"].items())
    sets = " ".join(machine["instruction_sets"])
    return f"{machine['cpu']} ({sets}), {machine['cores']} cores, {engines}, Python {machine['python']}"


def _write(path: Path, report: dict[str, Any]) -> None:
    """Write aside and rename."""
    aside = path.with_name(f".{path.name}.writing")
    try:
        aside.write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n")
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)
