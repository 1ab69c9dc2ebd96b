"""What an export takes: python benchmarks/export_time.py NAME=WEIGHTS... --data DIR [--program PATH]... [--json FILE]

Each backbone is exported by each program, one after the other, with an empty cache: to compare this version of
edge_all with another, give the program `edge-all` of the other's venv too. Seconds are those of the whole command and
of its steps as it prints them; memory is the largest of the processes.
"""

from __future__ import annotations

import json
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import click

from edge_all import machine

_STEP = re.compile(r"^(?P<name>[A-Z][^:]*): (?:(?P<minutes>\d+) min)? ?(?:(?P<seconds>[\d.]+) s)?$", re.MULTILINE)


@dataclass(frozen=True)
class Row:
    """One export.

    Attributes:
        backbone: Its name.
        program: Which `edge-all`.
        seconds: Of the whole command.
        processor_s: Seconds of processor time.
        peak_mb: The largest process, in megabytes.
        steps: Seconds of each step, as it was printed.
    """

    backbone: str
    program: str
    seconds: float
    processor_s: float
    peak_mb: float
    steps: dict[str, float]


@click.command()
@click.argument("cases", nargs=-1, required=True)
@click.option("--data", required=True, type=click.Path(path_type=Path))
@click.option("--tap", default="auto", show_default=True)
@click.option("--target", "targets", multiple=True, help="Those of the export where none is given.")
@click.option("--program", "programs", multiple=True, default=(str(Path(sys.executable).with_name("edge-all")),))
@click.option("--json", "report", type=click.Path(path_type=Path))
def main(
    cases: tuple[str, ...],
    data: Path,
    tap: str,
    targets: tuple[str, ...],
    programs: tuple[str, ...],
    report: Path | None,
) -> None:
    """Print a Markdown table, and the steps of each export."""
    print("| backbone | program | s | processor s | peak MB |\n|---|---|---|---|---|", flush=True)
    rows = []
    for case in cases:
        name, weights = case.split("=")
        options = ["--backbone", name, "--weights", weights, "--tap", tap, "--data", str(data)]
        options += [word for target in targets for word in ("--target", target)]
        for program in programs:
            row = _export(name, program, options)
            rows.append(row)
            print(f"| {name} | {program} | {row.seconds:.0f} | {row.processor_s:.0f} | {row.peak_mb:.0f} |")
            print("; ".join(f"{step} {seconds:.0f}" for step, seconds in row.steps.items()), flush=True)
            if report:
                content = {"machine": machine.describe(), "tap": tap, "rows": [asdict(row) for row in rows]}
                report.write_text(json.dumps(content, indent=1) + "\n")


def _export(name: str, program: str, options: list[str]) -> Row:
    """Export once, into a folder that is removed.

    Raises:
        RuntimeError: The export failed.
    """
    with tempfile.TemporaryDirectory() as folder:
        command = [program, "export", *options, "--out", f"{folder}/bundle"]
        environment = {**os.environ, "EDGE_ALL_CACHE": f"{folder}/cache"}
        before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        # A process of its own waits for the export, so that the peak is this export's.
        done = subprocess.run([sys.executable, "-c", _WAIT, *command], capture_output=True, text=True, env=environment)
        seconds, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise RuntimeError(f"the export of {name} by {program} failed:\n{done.stderr[-2000:]}")
    processor = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    steps = {
        step["name"]: 60 * int(step["minutes"] or 0) + float(step["seconds"] or 0)
        for step in _STEP.finditer(done.stderr)
    }
    peak_mb = float(done.stdout.split()[-1]) / 1024
    return Row(name, program, round(seconds, 1), round(processor, 1), round(peak_mb, 1), steps)


_WAIT = """
import resource, subprocess, sys
status = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL).returncode
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
sys.exit(status)
"""


if __name__ == "__main__":
    main()
