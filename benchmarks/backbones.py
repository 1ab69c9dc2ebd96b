"""Gather what exports measured into one table and one file: python benchmarks/backbones.py BUNDLE... [--json FILE]"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from edge_all import bundle


@click.command()
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--json", "report", type=click.Path(path_type=Path), help="Write the records' figures to a file.")
def main(paths: tuple[Path, ...], report: Path | None) -> None:
    """Print a Markdown table of the accuracies of bundles, in percent; in brackets, labels that are FP32's."""
    records = [bundle.load(path).record for path in paths]
    print("| backbone | weights | FP32 `random` | `grouped` | `block` | INT8 cpu, `block` | INT8 openvino, `block` |")
    print("|---|---|---|---|---|---|---|")
    for record in records:
        exact = [f"{record['metrics'][name]['fp32']['accuracy']:.1f}" for name in ("random", "grouped", "block")]
        rounded = [_int8(record, target) for target in ("cpu", "openvino")]
        print(f"| {' | '.join((record['backbone'], record['weights']['source'], *exact, *rounded))} |")
    if report:
        keys = (
            "backbone",
            "tap",
            "selector",
            "classifier",
            "features",
            "weights",
            "metrics",
            "gate",
            "schemes",
            "tools",
        )
        rows = [{key: record[key] for key in keys} for record in records]
        report.write_text(
            json.dumps({"machine": records[0]["machine"], "rows": rows}, indent=1, ensure_ascii=False) + "\n"
        )


def _int8(record: dict[str, Any], target: str) -> str:
    figures = record["metrics"]["block"].get("int8", {}).get("targets", {}).get(target)
    if not figures:
        return "-"
    verdict = record["gate"]["targets"][target]
    note = "" if verdict["passed"] else ", refused"
    note += ", head refitted" if verdict.get("refit") else ""
    return f"{figures['accuracy']:.1f} ({figures['agreement_fp32']:.1f}{note})"


if __name__ == "__main__":
    main()
