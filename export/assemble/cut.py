"""Cut a backbone to the features that its head reads, and convert the head to read just those."""

from __future__ import annotations

from dataclasses import dataclass

import onnx

from edge_all.record import CutRecord

from ..graph.facts import Size, size
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
    """

    backbone: onnx.ModelProto
    head: onnx.ModelProto
    before: Size
    after: Size

    @property
    def record(self) -> CutRecord:
        """For the bundle's record."""
        return {
            "macs": self.after.macs,
            "macs_uncut": self.before.macs,
            "bytes": self.after.bytes,
            "bytes_uncut": self.before.bytes,
        }


def cut(backbone: onnx.ModelProto, head: Head) -> Cut:
    """Cut the backbone to the features that the head selects; with pca, which reads all, nothing is cut."""
    before = size(backbone)
    if head.kept is None:
        return Cut(backbone, to_onnx(head), before, before)
    pruned = prune(backbone, head.kept)
    return Cut(pruned, to_onnx(head, selected=True), before, size(pruned))


def sentence(parts: Cut) -> str:
    """What cutting saved, for the user."""
    before, after = parts.before, parts.after
    if before == after:
        return "no channel of the backbone can be cut: each one is needed for a selected feature"
    return (
        f"channels that no selected feature needs are cut: {before.macs / 1e6:.1f} -> {after.macs / 1e6:.1f} million "
        f"multiply-accumulates, {before.bytes / 1e6:.2f} -> {after.bytes / 1e6:.2f} MB"
    )
