"""Tables of what exports measured: python benchmarks/backbones.py BUNDLE... [--json FILE]"""

from __future__ import annotations

import json
from pathlib import Path

import click

from edge_all import bundle
from edge_all.record import Record, TargetVerdict

KEYS = ("backbone", "tap", "selector", "classifier", "features", "weights", "metrics", "gate", "schemes", "tools")
"""Fields of the record that are written to the file."""

LATER = ("taps", "robustness", "familiarity", "referral", "cut", "augment")
"""Likewise, where the bundle has them: older ones do not."""

HEADS = ("fp32", "realigned", "refitted")


@click.command()
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--json", "report", type=click.Path(path_type=Path), help="Write the figures of the records to a file.")
def main(paths: tuple[Path, ...], report: Path | None) -> None:
    """Print Markdown tables of the accuracies of bundles, in percent; in brackets the share of FP32's labels."""
    records = [bundle.load(path).record for path in paths]
    print("| backbone, tap | FP32 `random` | `grouped` | `block` | INT8 cpu, `block` | INT8 openvino, `block` |")
    print("|---|---|---|---|---|---|")
    for record in records:
        fp32 = [f"{record['metrics'][name]['fp32']['accuracy']:.1f}" for name in ("random", "grouped", "block")]
        int8 = [_int8(record, target) for target in ("cpu", "openvino")]
        print(f"| {record['backbone']}, {record['tap']} | {' | '.join((*fp32, *int8))} |")
    print("\n| backbone | target | FP32's head | realigned | refitted, with --effort full | ships |")
    print("|---|---|---|---|---|---|")
    for record in records:
        for target, verdict in record["gate"]["targets"].items():
            print(f"| {record['backbone']} | {target} | {' | '.join(_heads(verdict))} |")
    if report:
        content = {"machine": records[0]["machine"], "rows": [_figures(record) for record in records]}
        report.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _figures(record: Record) -> dict[str, object]:
    fields: dict[str, object] = {**record}
    return {key: fields[key] for key in (*KEYS, *(key for key in LATER if key in fields))}


def _int8(record: Record, target: str) -> str:
    metrics = record["metrics"]["block"]
    if "int8" not in metrics or target not in metrics["int8"]["targets"]:
        return "-"
    score = metrics["int8"]["targets"][target]
    note = "" if record["gate"]["targets"][target]["passed"] else ", refused"
    return f"{score['accuracy']:.1f} ({score['agreement_fp32']:.1f}{note})"


def _heads(verdict: TargetVerdict) -> list[str]:
    """Accuracy and agreement under ``block`` of each head on the scheme that ships, or came nearest; and what ships."""
    blocks = {
        attempt["head"]: attempt["block"]
        for attempt in verdict["tried"]
        if "head" in attempt and attempt["scheme"] == verdict.get("scheme")
    }
    figures = {kind: f"{block['accuracy']:.2f} ({block['agreement_fp32']:.2f})" for kind, block in blocks.items()}
    ships = f"{verdict['scheme']}, {verdict['head']}" if verdict["passed"] else "FP32"
    return [*(figures.get(kind, "-") for kind in HEADS), ships]


if __name__ == "__main__":
    main()
