"""``edge-all bench``: latency on this machine beside the accuracy of the same file."""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Callable, Sequence
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
@click.option("--csv", "table", type=options.PATH, metavar="FILE", help="Write the rows to FILE, one a line.")
@click.option("--plot", type=options.PATH, metavar="FILE", help="Draw accuracy over latency into FILE, a PNG.")
@options.device
@options.threads
def command(
    paths: tuple[Path, ...],
    data: Path | None,
    chosen: tuple[str, ...],
    precisions: tuple[str, ...],
    quick: bool,
    report: Path | None,
    table: Path | None,
    plot: Path | None,
    device: str | None,
    threads: int | None,
) -> None:
    """Measure latency, throughput, memory and accuracy of bundles on this machine, and say which to deploy.

    All rows are measured in turns, so that they can be compared. Without --data the accuracy shown is the one the
    export measured, and the bundle's probe is re-checked here.
    """
    from edge_all import bench, bundle, machine
    from edge_all.bench import plot as drawing
    from edge_all.bench import verdict
    from edge_all.cli.output import NOTICE, progress
    from edge_all.errors import GateError, TargetError

    for path in (report, table, plot):
        _check_writable(path)
    if plot:
        drawing.check_available()
    cases: list[bench.Case] = []
    for path in paths or [bundle.default()]:
        loaded = bundle.load(path)
        own, missing = bench.available_cases(loaded, chosen, precisions)
        for line in missing:
            click.echo(f"edge-all: {loaded.name}: {line}", err=True)
        if not own:
            raise TargetError(f"{path}: nothing to measure here; it is made for {', '.join(loaded.targets)}")
        cases += own
    effort = bench.QUICK if quick else bench.FULL
    with progress("Measuring") as show:
        rows = bench.run(cases, data=data, effort=effort, device=device, threads=threads, progress=show)
    measured = [row for row in rows if "error" not in row]
    for row, best in zip(measured, verdict.pareto(measured), strict=True):
        row["pareto"] = best
    recommended, why = verdict.deploy(measured)
    if report:
        keys = ("bundle", "digest", "target", "precision")
        named = {key: recommended[key] for key in keys} if recommended else None
        content = {"machine": machine.describe(), "quick": quick, "rows": rows, "deploy": {"row": named, "why": why}}
        _write(report, lambda aside: aside.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n"))
    if table:
        _write(table, lambda aside: aside.write_text(_csv(rows)))
    if plot and measured:
        _write(plot, lambda aside: drawing.draw(measured, aside, machine.describe()))
    if measured:
        _print(measured)
    click.echo(_machine_line(machine.describe()), err=True)
    for line in _remarks(measured, data):
        click.echo(line, err=True)
    click.echo(NOTICE, err=True)
    click.echo(why)
    if failed := [row for row in measured if not row["probe"]["passed"]]:
        where = ", ".join(f"{row['bundle']} {row['target']} {row['precision']}" for row in failed)
        raise GateError(f"the probe disagrees on this machine for {where}: do not use it here; try --precision fp32")
    if len(measured) < len(rows):
        for row in rows:
            if "error" in row:
                click.echo(f"edge-all: {row['error']}", err=True)
        sys.exit(1)


def _print(rows: Sequence[dict[str, Any]]) -> None:
    from edge_all.cli.output import print_table

    left = ["bundle", "tap", "target", "precision", "accuracy on"]
    columns = [*left, *"*|acc %|bal %|=fp32 %|p50 ms|p90|p99|graph p50|img/s|load ms|RSS MB|MB".split("|")]
    print_table(columns, [_cells(row) for row in rows], right=[name for name in columns if name not in left])


def _cells(row: dict[str, Any]) -> list[str]:
    latency, agreement = row["latency_ms"], row["agreement_fp32"]
    return [
        row["bundle"], row["tap"], row["target"], row["precision"], f"{row['images']} {row['accuracy_on']}",
        "*" if row["pareto"] else "",
        f"{row['accuracy']:.1f}", f"{row['balanced_accuracy']:.1f}", "-" if agreement is None else f"{agreement:.1f}",
        f"{latency['p50']:.2f}", f"{latency['p90']:.2f}", f"{latency['p99']:.2f}", f"{row['graph_ms']['p50']:.2f}",
        f"{row['throughput_ips']:.0f}", f"{row['load_ms']:.0f}", f"{row['rss_mb']:.0f}", f"{row['model_mb']:.1f}",
    ]  # fmt: skip


def _remarks(rows: Sequence[dict[str, Any]], data: Path | None) -> list[str]:
    """What a reader must know of these figures."""
    lines = [
        "p50, p90, p99: from encoded bytes to label, one image at a time; graph: the engine alone; "
        "*: no other row is as accurate and faster."
    ]
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


def _csv(rows: Sequence[dict[str, Any]]) -> str:
    """A line a row; a figure inside another has both names."""
    flat = [_flat(row) for row in rows]
    columns = list(dict.fromkeys(name for row in flat for name in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(flat)
    return text.getvalue()


def _flat(fields: dict[str, Any], before: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in fields.items():
        if isinstance(value, dict):
            found |= _flat(value, f"{before}{name}_")
        else:
            found[before + name] = value
    return found


def _check_writable(path: Path | None) -> None:
    """Before the measurement, not after it."""
    from edge_all.errors import EdgeAllError

    if path and path.is_dir():
        raise EdgeAllError(f"{path} is a folder; wanted the name of a file to write")
    if path and not path.parent.is_dir():
        raise EdgeAllError(f"{path}: there is no folder {path.parent} to write it into")


def _write(path: Path, fill: Callable[[Path], object]) -> None:
    """Write aside and rename."""
    aside = path.with_name(f".{path.name}.writing")
    try:
        fill(aside)
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)
