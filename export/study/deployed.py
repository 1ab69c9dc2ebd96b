"""The best few pipelines exported, with INT8: what a device would really run."""

from __future__ import annotations

import json
from typing import Any

from edge_all import bundle as bundles
from edge_all.bundle import Bundle
from edge_all.errors import BundleError

from ..pipeline import Step, Tell, export
from . import settings, table
from .picks import Pick, Study

FILE = "deployed.json"


def export_best(study: Study, *, step: Step, tell: Tell) -> None:
    """Export the best pipeline of each of the best backbones, and keep their scores in ``deployed.json``.

    A bundle that is there already is not made again.
    """
    rows = []
    for pick in best(study):
        out = study.settings.out / "bundles" / table.cell(pick.row).key
        bundle = _known(out)
        if bundle is None:
            tell(f"exporting pick {pick.number}: {table.cell(pick.row).key}")
            bundle = export(pick.recipe(out=out), step=step, tell=tell)
        rows.append(_row(pick, bundle))
    settings.write(study.settings.out / FILE, json.dumps(rows, indent=1))


def best(study: Study) -> list[Pick]:
    """The best pipeline of each backbone, as many as asked for."""
    found: dict[str, Pick] = {}
    everything = [table.cell(row) for row in table.ranking(study.cells)]
    for row in study.own:
        number = everything.index(table.cell(row)) + 1
        found.setdefault(row["backbone"], Pick(study.settings.out, row, number))
    return list(found.values())[: study.settings.int8]


def _known(out: Any) -> Bundle | None:
    try:
        return bundles.load(out)
    except BundleError:
        return None


def _row(pick: Pick, bundle: Bundle) -> dict[str, Any]:
    record = bundle.record
    targets = record["gate"]["targets"]
    return {
        "pick": pick.number,
        "pipeline": table.cell(pick.row).key,
        "bundle": f"bundles/{bundle.path.name}",
        "metrics": record["metrics"],
        "graph_ms": {
            target: {"fp32": verdict.get("fp32_graph_ms"), "int8": verdict.get("graph_ms"), "passed": verdict["passed"]}
            for target, verdict in targets.items()
        },
        "megabytes": {name: entry["bytes"] / 1e6 for name, entry in record["files"].items() if name.endswith(".onnx")},
        "robustness": record["robustness"],
    }
