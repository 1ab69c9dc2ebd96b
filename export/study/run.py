"""The study step by step: images, splits, weights, features, grid, costs, audit, curves, exports, report."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import onnx

from edge_all import protocols
from edge_all.errors import DataError
from edge_all.progress import Console

from .. import backbones, features
from ..dataset import Dataset, divide, every, groups, merged
from ..features import Rows
from ..graph import weights
from ..graph.build import backbone_graph
from ..graph.preprocess import Preprocess
from ..graph.weights import Weights
from ..head.scorer import resampled
from ..images import read_all
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
        divided = divide(read_all(asked.conditions, progress), hold_out=False)
        data, duplicates = divided.training, groups(divided.training)
    for line in divided.sentences:
        console.tell(line)
    splits = _splits(asked, data, duplicates)
    asked = replace(asked, protocols=tuple(splits))
    with console.step("Loading the backbones"):
        pretrained = _pretrained(asked)
    digests = {name: loaded.digest for name, loaded in pretrained.items()}
    settings.begin(asked, data.fingerprint, digests, data.given_digest)
    graphs = _graphs(asked, pretrained)
    rows = {name: _features(asked, name, graph, data, console) for name, graph in graphs.items()}
    inputs = Inputs(data.labels, data.classes, splits, rows, asked.conditions.features, asked.conditions.seed)
    jobs = grid.missing(asked, table.read(asked.out))
    if jobs:
        with console.step("Grid") as progress:
            grid.run(jobs, inputs, asked.out, asked.address, progress)
    with console.step("Timing the graphs"):
        cells = costs.fill(asked, table.read(asked.out), graphs)
    with console.step("Intervals"):
        cells = errors.fill(asked.out, cells, data.labels, resampled(data, merged(duplicates, data.given)))
    study = Study(asked, data, duplicates, inputs, graphs, pretrained, cells)
    with console.step("Colour, corner and duplicates"):
        audit = write_audit(study)
    with console.step("Light, focus, rotation and compression") as progress:
        curves = write_curves(study, progress)
    deployed = export_best(study, console)
    with console.step("Report"):
        render.write_report(Results(study, audit, curves, deployed))
    console.tell(f"{asked.out / render.HTML}: open it in a browser")


def _splits(asked: Settings, data: Dataset, duplicates: np.ndarray) -> dict[str, np.ndarray]:
    """The folds under each protocol that was asked for, or under all.

    Raises:
        DataError: Groups are wanted and were not given, or a class is in too few folds to tune on one and test another.
    """
    given = protocols.GIVEN_GROUPS
    if given in asked.protocols and not data.given:
        raise DataError(f"--protocol {given} was given without groups: give --groups too, or leave it out")
    splits = every(data, duplicates, merged(duplicates, data.given), asked.conditions.seed)
    for label, name in enumerate(data.classes if given in splits else ()):
        if (count := len(np.unique(splits[given][data.labels == label]))) < 3:
            raise DataError(
                f"the groups of class {name!r} are in {count} folds, and a study wants three: to train, to tune and to "
                "test; add images of other groups"
            )
    return {name: splits[name] for name in asked.protocols or splits}


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
