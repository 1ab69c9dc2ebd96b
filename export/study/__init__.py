"""A study: the paper's grid under several split protocols, with what is needed to know what its figures are worth.

Everything is kept in the study's folder as it is found. The same command again goes on where it was stopped.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from .. import backbones, features
from ..backbones import Backbone
from ..dataset import Dataset, augment, folds, groups, kaggle, read
from ..graph import weights
from ..graph.build import backbone_graph
from ..graph.preprocess import Preprocess
from ..head.evaluate import Rows
from ..pipeline import Step, Tell
from . import audit, costs, curves, deployed, grid, picks, table
from . import settings as kept
from .picks import Pick
from .report import render
from .settings import Settings

__all__ = ["Pick", "Settings", "picks", "run"]


def run(settings: Settings, *, step: Step, tell: Tell) -> None:
    """Run a study, or go on with one.

    Args:
        settings: What to study.
        step: Progress.
        tell: Notices.

    Raises:
        EdgeAllError: The data, the weights or the folder will not do.
    """
    for name in settings.backbones:
        backbones.places(backbones.load(name), settings.tap(name))  # says at once if there is no such tap
    with step("Reading images") as progress:
        data = read(settings.data or kaggle.download(), progress=progress)
    duplicates = groups(data)
    splits = {name: folds(data, name, seed=settings.seed, groups=duplicates) for name in settings.protocols}
    with step("Loading the backbones"):
        given = {
            name: weights.load(backbones.load(name), settings.weights.get(name, "auto"), seed=settings.seed)
            for name in settings.backbones
        }
    kept.keep(settings, data.fingerprint, {name: found.digest for name, found in given.items()})
    graphs = {
        name: backbone_graph(
            backbones.load(name), found, tap_name=settings.tap(name), input_size=settings.size,
            preprocess=Preprocess(settings.equalize, settings.mask_corner),
        )
        for name, found in given.items()
    }  # fmt: skip
    rows = {}
    for name, graph in graphs.items():
        with step(f"Features of {name}") as progress:
            rows[name] = _features(settings, backbones.load(name), graph, data, progress)
    ground = grid.Ground(data.labels, data.classes, splits, rows, settings.features, settings.seed)
    jobs = grid.missing(settings, table.read(settings.out))
    if jobs:
        with step("Grid") as progress:
            grid.run(jobs, ground, settings.out, progress)
    cells = table.read(settings.out)
    with step("Timing the graphs"):
        cells = costs.fill(settings, cells, graphs)
    study = picks.Study(settings, data, duplicates, ground, graphs, given, cells)
    with step("Colour, scale bar and duplicates"):
        audit.write(study)
    with step("Light, focus, turns and compression") as progress:
        curves.write(study, progress)
    deployed.export_best(study, step=step, tell=tell)
    with step("Report"):
        render.write(study)
    tell(f"{settings.out / render.HTML}: open it in a browser")


def _features(
    settings: Settings, backbone: Backbone, graph: object, data: Dataset, progress: Callable[[int, int], None]
) -> Rows:
    count, copied = augment.plan(settings.augment, settings.balance, data.labels)
    size = settings.size or backbone.input_size
    extract = partial(features.extract, graph, data.paths, data.digests, size, progress=progress)
    copies = tuple(extract(change=copy) for copy in augment.copies(count, settings.seed))
    return Rows(np.asarray(extract()), copies, copied)
