"""``edge-all doctor``: whether a bundle can be trusted on this machine, and which of its graphs to use."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edge_all.cli import options
from edge_all.cli.output import json_text, print_table, progress, say, tell
from edge_all.errors import GateError

if TYPE_CHECKING:
    from edge_all.bundle import Bundle
    from edge_all.doctor import Check, Examination, LastRun


@click.command("doctor")
@click.option("--bundle", "path", type=options.PATH, metavar="PATH", help=f"Bundle to check.  {options.DEFAULT_BUNDLE}")
@click.option(
    "--target",
    "chosen",
    type=click.Choice(options.TARGETS),
    multiple=True,
    help="Check this target; may be repeated.  [default: all of the bundle's]",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@options.device
@options.threads
@options.keys
@options.journal
def command(
    path: Path | None,
    chosen: tuple[str, ...],
    as_json: bool,
    device: str | None,
    threads: int | None,
    keys: Path | None,
    journal_path: Path | None,
) -> None:
    """Check that a bundle answers correctly on this machine.

    The CPU and the engines are shown, and every graph of the bundle answers the bundle's probe. The exit status is 3 if
    an answer differs from that of the machine that made the bundle, or if a graph cannot be run. classify --precision
    auto goes by these verdicts. Where there is a journal, the last fields that were answered here are looked at, too: a
    changed lamp, stain or focus shows in them together.
    """
    from edge_all import bundle, doctor
    from edge_all.targets import EngineOptions

    loaded = bundle.load(path or bundle.default(tell), keys)
    with progress("Checking the bundle"):
        report = doctor.examine(loaded, chosen, EngineOptions(device=device, threads=threads))
    report["drift"] = _last_run(loaded, journal_path)
    if as_json:
        say(json_text(report))
    else:
        _print(report)
    unsound = _names(c for c in report["checks"] if c["available"] and not c["probe"]["passed"])
    if unsound:
        raise GateError(
            f"{loaded.name} gives other answers on this machine than on the one that made it: {unsound}; "
            "do not use them here"
        )
    if unjudged := _names(c for c in report["checks"] if c["precision"] and not c["available"]):
        raise GateError(f"{loaded.name}: {unjudged} could not be run here now, so nothing is known of the answers")


def _last_run(bundle: Bundle, path: Path | None) -> LastRun | None:
    """The last fields by a journal; nobody needs to have the default one."""
    from edge_all import doctor, journal_file
    from edge_all.errors import JournalError
    from edge_all.journal import Journal

    try:
        place = path or journal_file.default()
        if not path and not place.exists():
            return None
        with Journal.open(place, create=False) as journal:
            return doctor.last_run(bundle, journal)
    except JournalError as error:
        tell(f"{error}: the last fields are not looked at")
        return None


def _names(checks: Iterable[Check]) -> str:
    return ", ".join(f"{check['target']} {check['precision']}" for check in checks)


def _print(report: Examination) -> None:
    from edge_all.doctor import remark

    machine, devices = report["machine"], report["devices"]
    limit = f" (limited to {machine['limited_to']} by ONEDNN_MAX_CPU_ISA)" if machine["limited_to"] else ""
    lines = {
        "CPU": f"{machine['cpu']}, {machine['cores']} cores, {machine['memory_mb']} MB",
        "for INT8": f"{' '.join(machine['instruction_sets']) or 'no instruction set that is known'}{limit}",
        "engines": ", ".join(f"{name} {version}" for name, version in machine["engines"].items()),
        "ONNX Runtime": ", ".join(devices["onnxruntime"]),
        "OpenVINO": ", ".join(f"{name} ({full})" for name, full in devices["openvino"].items()) or "not installed",
        "bundle": f"{report['name']} ({report['digest'][:16]}) in {report['bundle']}",
    }
    for name, text in lines.items():
        say(f"{name:>12}  {text}")
    say()
    rows = [_cells(check) for check in report["checks"]]
    print_table(["target", "precision", "probe", "labels", "off by", "graph ms"], rows, right=["off by", "graph ms"])
    for check in report["checks"]:
        if check.get("error"):
            say(f"{check['target']} {check['precision'] or ''}: {check['error']}")
    if note := remark(machine["instruction_sets"]):
        say(note)
    if last := report["drift"]:
        from edge_all.drift import QUESTION

        unlike = last["score"] > 1
        look = f"look unlike the training images: {QUESTION}" if unlike else "look familiar"
        say(f"The last {last['run']} fields, up to {last['time']}, {look} ({last['score']:.2f} of the limit)")
    best = report["recommendation"]
    use = f"--target {best['target']} --precision {best['precision']}" if best["target"] else "none of it"
    say()
    say(f"Use here: {use}: {best['why']}.")


def _cells(check: Check) -> list[str]:
    target, precision = check["target"], check["precision"] or "-"
    if not check["available"]:
        return [target, precision, "not run", "-", "-", "-"]
    probe = check["probe"]
    return [
        target, precision, "passed" if probe["passed"] else "FAILED",
        f"{probe['same_label']} of {probe['images']}", f"{probe['max_difference']:.4f}", f"{check['graph_ms']:.2f}",
    ]  # fmt: skip
