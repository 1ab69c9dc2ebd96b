"""The features of every tap of a backbone: one graph with all taps gives all of them in one pass."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import onnx
from onnx import TensorProto, helper

from edge_all.intervals import Units
from edge_all.progress import Progress, ignore, split

from .. import features
from ..backbones import STD, Backbone
from ..dataset import Dataset, augment, looks
from ..dataset.changes import Change
from ..features import Rows, Wanted
from ..graph import edit
from ..graph.build import backbone_graph
from ..graph.names import FEATURES, IMAGE
from ..graph.preprocess import Preprocess
from ..graph.weights import Weights
from ..head import robustness
from ..head.fit import HeadSpec


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
        changed: Features of the battery's images, ``float32 [M, C]`` by change: under the changes that were asked for,
            and of the first taps alone where no more were.
    """

    graph: onnx.ModelProto
    columns: Mapping[str, np.ndarray]
    rows: Rows
    changed: dict[str, np.ndarray]

    def of(self, taps: Sequence[str]) -> np.ndarray:
        """Numbers of the features of some taps, one tap after the other."""
        return np.concatenate([self.columns[tap] for tap in taps])

    def features_of(self, taps: Sequence[str]) -> tuple[Rows, dict[str, np.ndarray]]:
        """`rows` and `changed` of some taps alone, under the changes that were asked for with all of them."""
        columns = self.of(taps)
        there = {name: changed for name, changed in self.changed.items() if columns.max() < changed.shape[1]}
        return self.rows.take(columns), {name: changed[:, columns] for name, changed in there.items()}

    def graph_of(self, taps: Sequence[str]) -> onnx.ModelProto:
        """The graph up to some of the taps, which gives their features alone."""
        order = list(self.columns)
        concat = next(node for node in self.graph.graph.node if node.output[0] == FEATURES)
        pieces = [piece for tap in taps for piece in concat.input[2 * order.index(tap) : 2 * order.index(tap) + 2]]
        part = edit.extract(self.graph, [IMAGE], pieces)
        part.graph.node.append(helper.make_node(concat.op_type, pieces, [FEATURES], concat.name, axis=1))
        del part.graph.output[:]
        part.graph.output.append(helper.make_tensor_value_info(FEATURES, TensorProto.FLOAT, ["N", len(self.of(taps))]))
        return part


def extract(search: Search, progress: Progress) -> Pooled:
    """Extract the features of all taps, under the hardest changes of the battery alone.

    Args:
        search: What they are compared with.
        progress: Counts images, copies and changed images.
    """
    images, hardest, _ = split(progress, work(search))
    pooled = prepare(search, [tap.name for tap in search.backbone.taps])
    fill(search, pooled, search.all_images[0], images)
    extend(search, pooled, pooled.columns, augment.HARDEST, hardest)
    return pooled


def prepare(search: Search, taps: Sequence[str]) -> Pooled:
    """What gives the features of some taps, by name; they are zero until they are extracted."""
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
    plain, *copies = np.zeros((1 + search.copies, len(search.data), starts[-1]), np.float32)
    return Pooled(graph, columns, Rows(plain, tuple(copies)), {})


def fill(search: Search, pooled: Pooled, images: np.ndarray, progress: Progress) -> None:
    """Extract the features of some images and of the copies that are trained on.

    Args:
        search: What taps are compared with.
        pooled: Where they are put.
        images: ``bool [N]``.
        progress: Counts images and copies.
    """
    changes = [None, *augment.copies(search.copies, search.spec.seed)]
    wanted, size = [Wanted(pooled.graph, images=images)], search.size
    (extracted,) = features.extract_each(wanted, search.data, size, changes, progress)
    for rows, values in zip((pooled.rows.plain, *pooled.rows.copies), extracted, strict=True):
        rows[images] = values


def extend(
    search: Search, pooled: Pooled, taps: Iterable[str], changes: Sequence[Change], progress: Progress = ignore
) -> None:
    """Extract the features of the battery's images under further changes, up to the deepest of some taps.

    Args:
        search: What taps are compared with.
        pooled: Features of its taps, to which these are added.
        taps: Names of these.
        changes: Those of the battery that are to be there; what is there is not made again.
        progress: Counts changed images.
    """
    order = list(pooled.columns)
    first = order[: 1 + max(order.index(tap) for tap in taps)]
    width = len(pooled.of(first))
    missing = [c for c in changes if c.name not in pooled.changed or pooled.changed[c.name].shape[1] < width]
    if missing:
        wanted, tried = [Wanted(pooled.graph_of(first))], search.data.take(search.tried)
        (changed,) = robustness.extract(wanted, tried, search.size, progress, missing)
        pooled.changed.update(changed)


def work(search: Search) -> list[float]:
    """How many pictures are run: the images with their copies, those under the hardest changes, and the others."""
    tried, hardest = len(search.tried), len(augment.HARDEST)
    return [len(search.data) * (1 + search.copies), tried * hardest, tried * (len(augment.BATTERY) - hardest)]
