"""The features of every tap of a backbone: one graph with all taps gives all of them in one pass."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import onnx

from edge_all.intervals import Units
from edge_all.progress import Progress, split

from .. import features
from ..backbones import STD, Backbone
from ..dataset import Dataset, augment, looks
from ..features import Rows, Wanted
from ..graph import edit
from ..graph.build import backbone_graph
from ..graph.names import FEATURES, IMAGE
from ..graph.preprocess import Preprocess
from ..graph.weights import Weights
from ..head import robustness
from ..head.fit import HeadSpec
from ..recipe import Conditions


@dataclass(frozen=True)
class Search:
    """What taps are compared with.

    Attributes:
        backbone: Whose taps.
        weights: Its weights.
        data: The training images.
        folds: ``int64 [N]``, each image's fold under `protocol`.
        size: Height and width of the input, in pixels.
        preprocess: What is done to an image before it is normalised.
        spec: What heads are made of.
        augmented: Whether heads are trained on changed copies too.
        target: Whose engine time is measured in.
        units: What the intervals of the accuracies are resampled over.
        protocol: The split protocol that taps are compared under.
        smaller: Smaller inputs to try with the tap that is chosen, height and width each, the smallest first.
    """

    backbone: Backbone
    weights: Weights
    data: Dataset
    folds: np.ndarray
    size: tuple[int, int]
    preprocess: Preprocess
    spec: HeadSpec
    augmented: bool
    target: str
    units: Units
    protocol: str = "block"
    smaller: Sequence[tuple[int, int]] = ()

    @property
    def copies(self) -> int:
        """Changed copies of each image that a tap is scored with; the head that ships sees as many as asked for."""
        return 1 if self.augmented else 0

    @property
    def tried(self) -> np.ndarray:
        """Numbers of the images that the battery is run on, ``int64 [M]``."""
        return robustness.chosen_images(self.data)

    @cached_property
    def looks(self) -> np.ndarray:
        """The look of each image, ``int64 [N]``."""
        return looks(self.data, seed=self.spec.seed)

    @property
    def all_images(self) -> tuple[np.ndarray, np.ndarray]:
        """All N images, and all M of the battery: ``bool [N]`` and ``bool [M]``."""
        return np.ones(len(self.data), bool), np.ones(len(self.tried), bool)


@dataclass(frozen=True)
class Pooled:
    """The features of some taps, pooled from one graph.

    Attributes:
        graph: The graph.
        columns: Numbers of each tap's features, ``int64 [F]`` by tap.
        rows: Features of all images and their copies.
        changed: Features of the battery's images under each change, ``float32 [M, C]`` by change.
    """

    graph: onnx.ModelProto
    columns: Mapping[str, np.ndarray]
    rows: Rows
    changed: Mapping[str, np.ndarray]

    def of(self, taps: Sequence[str]) -> np.ndarray:
        """Numbers of the features of some taps, one tap after the other."""
        return np.concatenate([self.columns[tap] for tap in taps])

    def features_of(self, taps: Sequence[str]) -> tuple[Rows, dict[str, np.ndarray]]:
        """`rows` and `changed` of some taps alone."""
        columns = self.of(taps)
        return self.rows.take(columns), {name: changed[:, columns] for name, changed in self.changed.items()}

    def graph_of(self, taps: Sequence[str]) -> onnx.ModelProto:
        """The graph up to some of the taps, their maps pooled and the rest removed."""
        order = list(self.columns)
        concat = next(node for node in self.graph.graph.node if node.output[0] == FEATURES)
        ends = [piece for tap in taps for piece in concat.input[2 * order.index(tap) : 2 * order.index(tap) + 2]]
        return edit.extract(self.graph, [IMAGE], ends)


def extract(search: Search, progress: Progress) -> Pooled:
    """Extract the features of all taps.

    Args:
        search: What they are compared with.
        progress: Counts images, copies and changed images.
    """
    images, battery = split(progress, work(search))
    pooled = extract_unchanged(search, [tap.name for tap in search.backbone.taps], images)
    return with_battery(search, pooled, battery)


def extract_unchanged(search: Search, taps: Sequence[str], progress: Progress) -> Pooled:
    """Extract the features of some taps from the images and the copies that are trained on, not from the battery.

    Args:
        search: What they are compared with.
        taps: Their names.
        progress: Counts images and copies.
    """
    wanted = [tap for tap in search.backbone.taps if tap.name in taps]
    graph = backbone_graph(
        search.backbone,
        search.weights,
        tap_name="+".join(tap.name + STD for tap in wanted),
        input_size=search.size,
        preprocess=search.preprocess,
    )
    starts = np.cumsum([0, *(2 * tap.channels for tap in wanted)])
    columns = {tap.name: np.arange(starts[i], starts[i + 1]) for i, tap in enumerate(wanted)}
    conditions = Conditions(augment=search.copies, seed=search.spec.seed)
    return Pooled(graph, columns, features.training_rows(graph, search.data, search.size, conditions, progress), {})


def with_battery(search: Search, pooled: Pooled, progress: Progress) -> Pooled:
    """The same with the features of the battery's images, which are counted."""
    (changed,) = robustness.extract([Wanted(pooled.graph)], search.data.take(search.tried), search.size, progress)
    return replace(pooled, changed=changed)


def work(search: Search) -> list[float]:
    """How many pictures `extract` runs: the images with their copies, and those of the battery."""
    return [len(search.data) * (1 + search.copies), len(search.tried) * len(augment.BATTERY)]
