"""A backbone and its head ready to be joined: what selection dropped is computed no more."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import onnx

from ..graph.facts import Size, size
from ..head.fit import Head, to_onnx
from .prune import prune


@dataclass(frozen=True)
class Cut:
    """Both parts.

    Attributes:
        backbone: Gives the features that the head takes.
        head: As a graph.
        before: The backbone's size, with all features.
        after: And with those that were kept.
    """

    backbone: onnx.ModelProto
    head: onnx.ModelProto
    before: Size
    after: Size

    @property
    def record(self) -> dict[str, Any]:
        """For the bundle."""
        return {
            "macs": self.after.macs,
            "macs_uncut": self.before.macs,
            "bytes": self.after.bytes,
            "bytes_uncut": self.before.bytes,
        }


def cut(backbone: onnx.ModelProto, head: Head) -> Cut:
    """Cut the backbone to the features that the head keeps; with pca, which mixes all, nothing is cut."""
    before = size(backbone)
    if head.kept is None:
        return Cut(backbone, to_onnx(head), before, before)
    lesser = prune(backbone, head.kept)
    return Cut(lesser, to_onnx(head, selected=True), before, size(lesser))


def sentence(made: Cut) -> str:
    """What cutting saved, for the user."""
    before, after = made.before, made.after
    if before == after:
        return "no channel of the backbone can be cut: every one feeds a feature that is kept"
    return (
        f"channels that no kept feature needs are cut: {before.macs / 1e6:.1f} -> {after.macs / 1e6:.1f} million "
        f"multiply-accumulates, {before.bytes / 1e6:.2f} -> {after.bytes / 1e6:.2f} MB"
    )
