"""``edge-all bench``: latency on this machine beside the accuracy of the same file."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edge_all import NOTICE, files
from edge_all.cli import options, scores
from edge_all.cli.output import note, print_table, progress, tell
from edge_all.cli.text import cell
from edge_all.errors import EdgeAllError, GateError, TargetError

if TYPE_CHECKING:
    from edge_all.bench import Case, FailedRow, Row
    from edge_all.bundle import Bundle
    from edge_all.record import MachineRecord
    from edge_all.targets import EngineOptions


@click.command("bench")
@click.option(
    "--bundle",
    "paths",
    type=options.PATH,
    metavar="PATH",
    multiple=True,
    help=f"Bundle to measure; may be repeated.  {options.DEFAULT_BUNDLE}",
)
@click.option(
    "--data",
    type=options.DATA,
    metavar="DIR",
    help="Images to measure the accuracy on, in one folder for each class; of train/ and test/, those in test/.  "
    "[default: show the export's accuracy]",
)
@options.labels
@click.option(
    "--target",
    "chosen",
    type=click.Choice(options.TARGETS),
    multiple=True,
    help="Measure on this target; may be repeated.  [default: all that the bundle and this machine have]",
)
@click.option(
    "--precision",
    "precisions",
    type=click.Choice(options.PRECISIONS),
    multiple=True,
    help="Measure at this precision; may be repeated.  [default: all that the bundle has]",
)
@click.option("--quick", is_flag=True, help="Measure roughly: at most 200 images, and 100 queries or 3 s for each row.")
@click.option("--wide", is_flag=True, help="Print all columns, even if the terminal is too narrow for them.")
@click.option("--json", "report", type=options.PATH, metavar="FILE", help="Write the rows and the machine to FILE.")
@click.option("--csv", "table", type=options.PATH, metavar="FILE", help="Write the rows to FILE, one a line.")
@click.option("--plot", type=options.PATH, metavar="FILE", help="Plot accuracy over latency into FILE, a PNG.")
@options.device
@options.threads
@options.keys
def command(
    paths: tuple[Path, ...],
    data: Path | None,
    labels: Path | None,
    chosen: tuple[str, ...],
    precisions: tuple[str, ...],
    quick: bool,
    wide: bool,
    report: Path | None,
    table: Path | None,
    plot: Path | None,
    device: str | None,
    threads: int | None,
    keys: Path | None,
) -> None:
    """Measure bundles on this machine, and say which one to deploy.

    There is a row for each target and precision, with its latency, throughput, memory and accuracy. All rows are
    measured in turns, so that they can be compared. Without --data the accuracy is the one that the export measured.
    In any case the bundle's probe is checked: whether the answers are the same as on the machine that made the bundle.
    """
    from edge_all import bench, bundle, machine
    from edge_all.bench import plot as plots
    from edge_all.bench import verdict
    from edge_all.targets import EngineOptions

    _check_places([path for path in (report, table, plot) if path])
    if plot:
        plots.check_available()
    loaded = [bundle.load(path, keys) for path in paths or [bundle.default(tell)]]
    cases = _cases(loaded, chosen, precisions, EngineOptions(device=device, threads=threads))
    effort = bench.QUICK if quick else bench.FULL
    notices: list[str] = []
    with progress("Measuring") as show:
        rows = bench.run(cases, data=data, labels=labels, effort=effort, progress=show, notice=notices.append)
    measured = [row for row in rows if "error" not in row]
    recommended, why = verdict.deploy(measured)
    if report:
        content = {"machine": machine.describe(), "quick": quick, "rows": rows, "deploy": _deploy(recommended, why)}
        content["notices"] = notices
        files.write(report, json.dumps(content, indent=1) + "\n")
    if table:
        files.write(table, _csv(rows))
    if plot and measured:
        with files.replacing(plot) as aside:
            plots.draw(measured, aside, machine.describe())
    if measured:
        _print(measured, wide)
    for line in notices:
        tell(line)
    for line in [_machine_line(machine.describe()), *(_remarks(measured) if measured else []), NOTICE]:
        note(line)
    note(why, err=False)
    _check_answers(rows, measured)


def _check_answers(rows: Sequence[Row | FailedRow], measured: Sequence[Row]) -> None:
    """End with 3 where a probe disagrees, and with 1 where a row could not be measured."""
    if failed := [row for row in measured if not row["probe"]["passed"]]:
        where = ", ".join(f"{row['bundle']} {row['target']} {row['precision']}" for row in failed)
        raise GateError(f"the probe disagrees on this machine for {where}: do not use it here; try --precision fp32")
    errors = [row["error"] for row in rows if "error" in row]
    for error in errors:
        tell(error)
    if errors:
        sys.exit(1)


def _cases(
    loaded: Sequence[Bundle], chosen: Sequence[str], precisions: Sequence[str], engine: EngineOptions
) -> list[Case]:
    """The rows to measure; what a bundle holds and this machine cannot run is told."""
    from edge_all import bench

    cases: list[Case] = []
    for each in {one.path.resolve(): one for one in loaded}.values():
        available, missing = bench.available_cases(each, chosen, precisions, engine)
        for line in missing:
            tell(f"{each.name}: {line}")
        if not available:
            raise TargetError(
                f"{each.path}: nothing of it can be measured on this machine; it is made for {', '.join(each.targets)}"
            )
        cases += available
    return cases


_LEFT = ("bundle", "tap", "target", "precision", "accuracy on", "*")
"""Columns that are aligned to the left."""

_DETECTION = ("sensitivity %", "specificity %")
"""Columns that are there only where a bundle says which classes are positive."""

_BY_USE = (
    *("acc %", "p50 ms", "=fp32 %", "95 %", "sensitivity %", "specificity %", "p90", "img/s", "MB", "RSS MB", "tap"),
    *("*", "bal %", "p99", "accuracy on", "graph p50", "load ms"),
)
"""The columns that a narrow terminal may lack, the most useful first; bundle, target and precision are always there."""


def _print(rows: Sequence[Row], wide: bool) -> None:
    cells = [_cells(row) for row in rows]
    columns = [name for name in cells[0] if name not in _DETECTION or any(row[name] != "-" for row in cells)]
    right = [name for name in columns if name not in _LEFT]
    by_use = () if wide else _BY_USE
    left_out = print_table(columns, [[row[name] for name in columns] for row in cells], right=right, by_use=by_use)
    if left_out:
        note(f"edge-all: the terminal is too narrow for {', '.join(left_out)}; --wide prints all columns")


def _cells(row: Row) -> dict[str, str]:
    """A row of the table, by column."""
    latency, agreement = row["latency_ms"], row["agreement_fp32"]
    return {
        "bundle": row["bundle"],
        "tap": row["tap"],
        "target": row["target"],
        "precision": row["precision"],
        "accuracy on": f"{row['images']} {row['accuracy_on']}",
        "*": "*" if row.get("pareto") else "",
        "acc %": f"{row['accuracy']:.1f}",
        "95 %": scores.accuracy_interval(row),
        "bal %": f"{row['balanced_accuracy']:.1f}",
        "=fp32 %": "-" if agreement is None else f"{agreement:.1f}",
        "p50 ms": f"{latency['p50']:.2f}",
        "p90": f"{latency['p90']:.2f}",
        "p99": f"{latency['p99']:.2f}",
        "graph p50": f"{row['graph_ms']['p50']:.2f}",
        "img/s": f"{row['throughput_ips']:.0f}",
        "load ms": f"{row['load_ms']:.0f}",
        "RSS MB": f"{row['rss_mb']:.0f}",
        "MB": f"{row['model_mb']:.1f}",
        "sensitivity %": scores.detection(row, "sensitivity"),
        "specificity %": scores.detection(row, "specificity"),
    }


def _deploy(row: Row | None, why: str) -> dict[str, object]:
    """What the report says of the row to deploy."""
    keys = ("bundle", "path", "digest", "target", "precision")
    return {"row": {key: value for key, value in row.items() if key in keys} if row else None, "why": why}


def _remarks(rows: Sequence[Row]) -> list[str]:
    """What a reader must know of these figures."""
    lines = [
        "acc, bal: accuracy and balanced accuracy; =fp32: images with FP32's label; p50, p90, p99: ms from encoded "
        "bytes to label, one image at a time; graph: the engine alone; *: no other row is as accurate and faster."
    ]
    resampled = dict.fromkeys(
        f"{row['intervals']['count']} {row['intervals']['over']}" for row in rows if "intervals" in row
    )
    if resampled:
        lines.append(
            f"95 %: interval of the accuracy, by bootstrap over {', '.join(resampled)}. Rows whose intervals overlap "
            "are not told apart in accuracy, and count as equally accurate for *."
        )
    exported = dict.fromkeys(row["accuracy_on"] for row in rows if "training_images_left_out" not in row)
    if exported:
        by = ", ".join(on.removeprefix("export (").removesuffix(")") for on in exported)
        lines.append(f"Accuracy is the export's own (cross-validated, {by}), not measured here; --data measures it.")
    else:
        seen = dict.fromkeys(row["bundle"] for row in rows if row["accuracy_on"] == "seen images")
        part = dict.fromkeys(row["bundle"] for row in rows if row.get("training_images_left_out"))
        if seen:
            named = ", ".join(seen)
            lines.append(f"WARNING: {named} was trained on every image here: its accuracies say nothing of new slides.")
        if part:
            lines.append(f"Images that {', '.join(part)} was trained on were left out.")
    passed = sum(row["probe"]["passed"] for row in rows)
    lines.append(f"Probe: {passed} of {len(rows)} rows answer as on the machine that made the bundle.")
    return lines


def _machine_line(machine: MachineRecord) -> str:
    engines = ", ".join(f"{name} {version}" for name, version in machine["engines"].items())
    sets = " ".join(machine["instruction_sets"])
    return f"{machine['cpu']} ({sets}), {machine['cores']} cores, {engines}, Python {machine['python']}"


def _csv(rows: Sequence[Row | FailedRow]) -> str:
    """A line a row; a figure inside another has both names."""
    flat = [_flat(row) for row in rows]
    columns = list(dict.fromkeys(name for row in flat for name in row))
    lines = [[cell(name) for name in columns], *([_cell(row.get(name)) for name in columns] for row in flat)]
    return "".join(f"{','.join(line)}\n" for line in lines)


def _cell(value: object) -> str:
    return "" if value is None else cell(value) if isinstance(value, str) else str(value)


def _flat(fields: Mapping[str, object], prefix: str = "") -> dict[str, object]:
    flat: dict[str, object] = {}
    for name, value in fields.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{name}_")
        elif isinstance(value, list):  # an interval
            flat |= {f"{prefix}{name}_{end}": limit for end, limit in zip(("low", "high"), value, strict=True)}
        else:
            flat[prefix + name] = value
    return flat


def _check_places(places: Sequence[Path]) -> None:
    """Say before the measurement what would stop its reports from being written."""
    for place in places:
        files.check_writable(place)
    targets = [files.destination(place).resolve() for place in places]
    for place, target in zip(places, targets, strict=True):
        if targets.count(target) > 1 and not files.is_stream(place):
            raise EdgeAllError(f"{place} is given for two reports; give each a file of its own")
