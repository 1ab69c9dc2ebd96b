"""The study step by step: images, splits, weights, features, grid, costs, audit, curves, exports, report."""

from __future__ import annotations

from collections.abc import Mapping

import onnx

from edge_all.intervals import NEAR_DUPLICATES, Units
from edge_all.progress import Console

from .. import backbones, features
from ..dataset import Dataset, folds, groups, kaggle, read
from ..features import Rows
from ..graph import weights
from ..graph.build import backbone_graph
from ..graph.preprocess import Preprocess
from ..graph.weights import Weights
from . import costs, errors, grid, settings, table
from .audit import write_audit
from .curves import write_curves
from .deployed import export_best
from .grid import Inputs
from .report import render
from .report.results import Results
from .settings import Settings
from .study import Study


def run(asked: Settings, console: Console) -> None:
    """Run a study, or continue one.

    Everything is stored in the study's folder as soon as it is computed. The same command again continues where it was
    stopped.

    Args:
        asked: What to study.
        console: Progress and notices.

    Raises:
        EdgeAllError: The data, the weights or the folder cannot be used.
    """
    for name in asked.backbones:
        backbones.places(backbones.load(name), asked.tap(name))  # an unknown tap fails here, before any work
    with console.step("Reading images") as progress:
        data = read(asked.conditions.data or kaggle.download(), progress=progress)
        duplicates = groups(data)
    splits = {name: folds(data, name, seed=asked.conditions.seed, groups=duplicates) for name in asked.protocols}
    with console.step("Loading the backbones"):
        pretrained = _pretrained(asked)
    settings.begin(asked, data.fingerprint, {name: loaded.digest for name, loaded in pretrained.items()})
    graphs = _graphs(asked, pretrained)
    rows = {name: _features(asked, name, graph, data, console) for name, graph in graphs.items()}
    inputs = Inputs(data.labels, data.classes, splits, rows, asked.conditions.features, asked.conditions.seed)
    jobs = grid.missing(asked, table.read(asked.out))
    if jobs:
        with console.step("Grid") as progress:
            grid.run(jobs, inputs, asked.out, progress)
    with console.step("Timing the graphs"):
        cells = costs.fill(asked, table.read(asked.out), graphs)
    with console.step("Intervals"):
        cells = errors.fill(asked.out, cells, data.labels, Units(duplicates, NEAR_DUPLICATES))
    study = Study(asked, data, duplicates, inputs, graphs, pretrained, cells)
    with console.step("Colour, scale bar and duplicates"):
        audit = write_audit(study)
    with console.step("Light, focus, rotation and compression") as progress:
        curves = write_curves(study, progress)
    deployed = export_best(study, console)
    with console.step("Report"):
        render.write_report(Results(study, audit, curves, deployed))
    console.tell(f"{asked.out / render.HTML}: open it in a browser")


def _pretrained(asked: Settings) -> dict[str, Weights]:
    return {
        name: weights.load(backbones.load(name), asked.weights.get(name, "auto"), seed=asked.conditions.seed)
        for name in asked.backbones
    }


def _graphs(asked: Settings, pretrained: Mapping[str, Weights]) -> dict[str, onnx.ModelProto]:
    """Backbones up to their taps, by name."""
    conditions = asked.conditions
    return {
        name: backbone_graph(
            backbones.load(name), loaded, tap_name=asked.tap(name), input_size=conditions.size,
            preprocess=Preprocess(conditions.equalize, conditions.mask_corner),
        )
        for name, loaded in pretrained.items()
    }  # fmt: skip


def _features(asked: Settings, name: str, graph: onnx.ModelProto, data: Dataset, console: Console) -> Rows:
    size = asked.conditions.size or backbones.load(name).input_size
    with console.step(f"Features of {name}") as progress:
        return features.training_rows(graph, data, size, asked.conditions, progress)
