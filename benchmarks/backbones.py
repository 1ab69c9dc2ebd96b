"""Gather what exports measured into tables and one file: python benchmarks/backbones.py BUNDLE... [--json FILE]"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from edge_all import bundle

KEYS = ("backbone", "tap", "selector", "classifier", "features", "weights", "metrics", "gate", "schemes", "tools")
LATER = ("taps", "robustness", "familiarity", "referral", "cut", "augment")
"""Fields that bundles made before them lack."""


@click.command()
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--json", "report", type=click.Path(path_type=Path), help="Write the records' figures to a file.")
def main(paths: tuple[Path, ...], report: Path | None) -> None:
    """Print Markdown tables of the accuracies of bundles, in percent; in brackets, labels that are FP32's."""
    records = [bundle.load(path).record for path in paths]
    print("| backbone, tap | FP32 `random` | `grouped` | `block` | INT8 cpu, `block` | INT8 openvino, `block` |")
    print("|---|---|---|---|---|---|")
    for record in records:
        exact = [f"{record['metrics'][name]['fp32']['accuracy']:.1f}" for name in ("random", "grouped", "block")]
        rounded = [_int8(record, target) for target in ("cpu", "openvino")]
        print(f"| {record['backbone']}, {record['tap']} | {' | '.join((*exact, *rounded))} |")
    print("\n| backbone | target | FP32's head | realigned | refitted, with --effort full | ships |")
    print("|---|---|---|---|---|---|")
    for record in records:
        for target, verdict in record["gate"]["targets"].items():
            print(f"| {record['backbone']} | {target} | {' | '.join(_heads(verdict))} |")
    if report:
        content = {"machine": records[0]["machine"], "rows": [_figures(record) for record in records]}
        report.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def _figures(record: dict[str, Any]) -> dict[str, Any]:
    return {key: record[key] for key in KEYS} | {key: record[key] for key in LATER if key in record}


def _int8(record: dict[str, Any], target: str) -> str:
    figures = record["metrics"]["block"].get("int8", {}).get("targets", {}).get(target)
    if not figures:
        return "-"
    note = "" if record["gate"]["targets"][target]["passed"] else ", refused"
    return f"{figures['accuracy']:.1f} ({figures['agreement_fp32']:.1f}{note})"


def _heads(verdict: dict[str, Any]) -> list[str]:
    """Accuracy and agreement under ``block`` with each head on the scheme that ships, or came nearest."""
    tried = {t["head"]: t["block"] for t in verdict["tried"] if t["scheme"] == verdict.get("scheme")}
    given = {kind: f"{block['accuracy']:.2f} ({block['agreement_fp32']:.2f})" for kind, block in tried.items()}
    cells = [given.get(kind, "-") for kind in ("fp32", "realigned", "refitted")]
    return [*cells, f"{verdict['scheme']}, {verdict['head']}" if verdict["passed"] else "FP32"]


if __name__ == "__main__":
    main()
