"""Cut a backbone to the features that its head reads, and convert the head to read just those."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx

from edge_all.record import CutRecord

from ..backbones import Guard
from ..graph import edit
from ..graph.facts import Size, size
from ..graph.names import FEATURES, HEAD
from ..head.fit import Head, to_onnx
from .prune import prune


@dataclass(frozen=True)
class Cut:
    """A backbone and a head that fit together.

    Attributes:
        backbone: Gives the features that the head reads.
        head: Reads them.
        before: The backbone's size with all features.
        after: Its size with the features that the head reads.
        early: Where among these the early place's are, ``int64 [G]``; None where there is none.
    """

    backbone: onnx.ModelProto
    head: onnx.ModelProto
    before: Size
    after: Size
    early: np.ndarray | None = None

    @property
    def record(self) -> CutRecord:
        """For the bundle's record."""
        return {
            "macs": self.after.macs,
            "macs_uncut": self.before.macs,
            "bytes": self.after.bytes,
            "bytes_uncut": self.before.bytes,
        }


def cut(backbone: onnx.ModelProto, head: Head, guard: Guard | None = None) -> Cut:
    """Cut the backbone to the features that the head selects; with pca, which reads all, nothing is cut.

    Args:
        backbone: Gives all features.
        head: Reads the first of them.
        guard: The early place whose features stay beside the selected ones; None is none.
    """
    before = size(backbone)
    early = np.array(guard.columns if guard else (), np.int64)
    if head.kept is None:
        whole = _of_first(to_onnx(head), edit.width(backbone.graph.output[0])) if guard else to_onnx(head)
        return Cut(backbone, whole, before, before, early=early if guard else None)
    pruned = prune(backbone, np.concatenate([head.kept, early]))
    selected, count = to_onnx(head, selected=True), len(head.kept)
    if not guard:
        return Cut(pruned, selected, before, size(pruned))
    all_features = count + len(early)
    return Cut(pruned, _of_first(selected, all_features), before, size(pruned), np.arange(count, all_features))


def _of_first(head: onnx.ModelProto, channels: int) -> onnx.ModelProto:
    """A head's graph that takes so many features, and reads the first of them as before."""
    first, own = f"first_{FEATURES}", edit.copy(head)
    if edit.width(own.graph.input[0]) == channels:
        return own
    nodes = edit.Nodes()
    bounds = {"start": 0, "end": edit.width(own.graph.input[0]), "axis": 1}
    names = [nodes.constant(f"{first}/{name}", np.array([value], np.int64)) for name, value in bounds.items()]
    nodes.add("Slice", [FEATURES, *names], first, f"{HEAD}Slice")
    for node in own.graph.node:
        node.input[:] = [first if name == FEATURES else name for name in node.input]
    edit.set_nodes(own.graph, [*nodes.nodes, *own.graph.node])
    own.graph.initializer.extend(nodes.initializers())
    own.graph.input[0].type.tensor_type.shape.dim[1].dim_value = channels
    onnx.checker.check_model(own, full_check=True)
    return own


def sentence(parts: Cut) -> str:
    """What cutting saved, for the user."""
    before, after = parts.before, parts.after
    if before == after:
        return "no channel of the backbone can be cut: each one is needed for a selected feature"
    return (
        f"channels that no selected feature needs are cut: {before.macs / 1e6:.1f} -> {after.macs / 1e6:.1f} million "
        f"multiply-accumulates, {before.bytes / 1e6:.2f} -> {after.bytes / 1e6:.2f} MB"
    )
