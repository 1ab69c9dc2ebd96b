"""The best few pipelines exported with INT8: what a device would run."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TypedDict

from edge_all import bundle as bundles
from edge_all.bundle import Bundle
from edge_all.errors import BundleError
from edge_all.progress import Console
from edge_all.record import Metrics, Robustness

from ..pipeline import export
from . import table
from .picks import Pick
from .store import write
from .study import Study

FILE = "deployed.json"


class GraphTimes(TypedDict):
    """Median time of the backbone for one image, in milliseconds, and whether an INT8 graph ships."""

    fp32: float | None
    int8: float | None
    passed: bool


class Deployed(TypedDict):
    """An exported pipeline; ``deployed.json`` is a list of these."""

    pick: int
    """Its place in the ranking, from 1."""
    pipeline: str
    """Key of its cell."""
    bundle: str
    """Path of the bundle in the study's folder."""
    metrics: Mapping[str, Metrics]
    """By split protocol, as in the bundle's record."""
    graph_ms: dict[str, GraphTimes]
    """By target."""
    megabytes: dict[str, float]
    """Size of each graph's file."""
    robustness: Robustness


def export_best(study: Study, console: Console) -> list[Deployed]:
    """Export the best pipeline of each of the best backbones, and write their scores to ``deployed.json``.

    A bundle that is there already is not made again.
    """
    exported = []
    for pick in picks(study):
        key = pick.row.cell.key
        out = study.settings.out / "bundles" / key
        bundle = _load(out)
        if bundle is None:
            console.tell(f"exporting pick {pick.number}: {key}")
            bundle = export(replace(pick.recipe(), out=out), console)
        exported.append(_deployed(pick, bundle))
    write(study.settings.out / FILE, json.dumps(exported, indent=1))
    return exported


def picks(study: Study) -> list[Pick]:
    """The best pipeline of each backbone, as many as asked for."""
    best: dict[str, Pick] = {}
    everything = [row.cell for row in table.ranking(study.cells)]
    for row in study.ranked:
        number = everything.index(row.cell) + 1
        best.setdefault(row.cell.backbone, Pick(study.settings.out, row, number))
    return list(best.values())[: study.settings.int8]


def _load(path: Path) -> Bundle | None:
    try:
        return bundles.load(path)
    except BundleError:
        return None


def _deployed(pick: Pick, bundle: Bundle) -> Deployed:
    record = bundle.record
    return {
        "pick": pick.number,
        "pipeline": pick.row.cell.key,
        "bundle": f"bundles/{bundle.path.name}",
        "metrics": record["metrics"],
        "graph_ms": {
            target: {"fp32": verdict.get("fp32_graph_ms"), "int8": verdict.get("graph_ms"), "passed": verdict["passed"]}
            for target, verdict in record["gate"]["targets"].items()
        },
        "megabytes": {name: entry["bytes"] / 1e6 for name, entry in record["files"].items() if name.endswith(".onnx")},
        "robustness": record["robustness"],
    }
