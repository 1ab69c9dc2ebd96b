"""Names that every graph of the toolchain uses: tensors between its parts, and prefixes of the nodes of each part.

image -> preprocess/... -> normalized -> backbone/... -> map_0, map_1, ... -> pooling/... -> features
features -> head/... -> selected -> head/... -> probabilities, label, unfamiliarity, deviation
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx

IMAGE = "image"
"""``uint8 [N, H, W, 3]``, RGB: the input."""

NORMALIZED = "normalized"
"""``float32 [N, 3, H, W]``: what the first convolution reads."""

MAP = "map_"
"""Prefix of the feature maps that are pooled, ``float32 [N, C, h, w]``: ``map_0`` is the first tap's."""

FEATURES = "features"
"""``float32 [N, C]``: what the backbone gives and the head reads."""

SELECTED = "selected"
"""``float32 [N, F]``, scaled and selected: what the classifier and the checks beside it read. Site adaptation replaces
what comes after it."""

PROBABILITIES = "probabilities"
"""``float32 [N, K]``, by class."""

LABEL = "label"
"""``int64 [N]``: number of the most probable class."""

UNFAMILIARITY = "unfamiliarity"
"""``float32 [N]``: squared distance to the training images, divided by its limit."""

DEVIATION = "deviation"
"""``float32 [N, J]``: what a field adds to the score of its run for each change that is looked for, as a share of the
limit."""

PREPROCESS = "preprocess/"
"""Prefix of the nodes from the image to `NORMALIZED`."""

BACKBONE = "backbone/"
"""Prefix of the nodes from `NORMALIZED` to the maps."""

POOLING = "pooling/"
"""Prefix of the nodes from the maps to `FEATURES`."""

HEAD = "head/"
"""Prefix of the nodes behind `FEATURES`."""


def map_name(number: int) -> str:
    """The feature map of the tap of this number, counted from 0."""
    return f"{MAP}{number}"


def is_map(tensor: str) -> bool:
    """Whether a tensor is a feature map that is pooled."""
    return tensor.startswith(MAP)


def is_preprocess(node: onnx.NodeProto) -> bool:
    """Whether a node lies between the image and `NORMALIZED`."""
    return node.name.startswith(PREPROCESS)


def is_backbone(node: onnx.NodeProto) -> bool:
    """Whether a node lies between `NORMALIZED` and the maps."""
    return node.name.startswith(BACKBONE)


def is_pooling(node: onnx.NodeProto) -> bool:
    """Whether a node lies between the maps and `FEATURES`."""
    return node.name.startswith(POOLING)
