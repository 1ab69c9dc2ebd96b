"""From pixels to the values that a network was trained on, as the first nodes of the graph."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx
from onnx import TensorProto, helper

from ..backbones import Backbone
from .edit import Nodes
from .equalize import equalize
from .names import IMAGE, NORMALIZED, PREPROCESS

CORNER = 190 / 224
"""Where the scale bar of the public data set begins, as a share of the image's width and height: right of it, below."""

FACTOR, OFFSET = f"{PREPROCESS}factor", f"{PREPROCESS}offset"
"""Constants ``float32 [W * 3]``: what the values of a row of pixels are multiplied with, and what is added then."""

PIXEL_ROWS = f"{PREPROCESS}flat"
"""The pixels as whole rows ``[N, H, W * 3]``: the input of the normalisation."""

_GREY = 128


@dataclass(frozen=True)
class Preprocess:
    """What is done to an image before it is normalised.

    Attributes:
        equalize: Equalize the histogram of each channel, as in the paper (arXiv 2409.06687).
        mask_corner: First paint the corner at the bottom right, with the scale bar in it, grey.
    """

    equalize: bool = False
    mask_corner: bool = False

    def graph(self, backbone: Backbone, size: tuple[int, int]) -> onnx.GraphProto:
        """The nodes, named ``preprocess/...``.

        Args:
            backbone: Whose mean and standard deviation: ``(x / 255 - mean) / std``, as one product and one sum.
            size: Height and width.

        Returns:
            ``uint8 [N, H, W, 3]`` "image" to ``float32 [N, 3, H, W]`` "normalized". The product and the sum are taken
            over whole rows ``[N, H, W * 3]``: ONNX Runtime is tens of times slower at them over three values at a time.
        """
        (height, width), mean, std = size, np.array(backbone.mean), np.array(backbone.std)
        nodes = Nodes()
        factor = nodes.constant(FACTOR, np.tile(1 / (255 * std), width).astype(np.float32))
        offset = nodes.constant(OFFSET, np.tile(-mean / std, width).astype(np.float32))
        as_rows = nodes.constant(f"{PREPROCESS}rows", np.array([0, height, width * 3]))
        as_pixels = nodes.constant(f"{PREPROCESS}pixels", np.array([0, height, width, 3]))
        source = IMAGE
        if self.mask_corner:
            source = mask(nodes, source, size)
        if self.equalize:
            source = equalize(nodes, source, size)
        nodes.add("Reshape", [source, as_rows], PIXEL_ROWS, PIXEL_ROWS)
        values = nodes.add("Cast", [PIXEL_ROWS], f"{PREPROCESS}Cast", f"{PREPROCESS}Cast", to=TensorProto.FLOAT)
        product = nodes.add("Mul", [values, factor], f"{PREPROCESS}Mul", f"{PREPROCESS}Mul")
        normalized = nodes.add("Add", [product, offset], f"{PREPROCESS}Add", f"{PREPROCESS}Add")
        whole = nodes.add("Reshape", [normalized, as_pixels], f"{PREPROCESS}whole", f"{PREPROCESS}whole")
        nodes.add("Transpose", [whole], NORMALIZED, f"{PREPROCESS}Transpose", perm=[0, 3, 1, 2])
        image = helper.make_tensor_value_info(IMAGE, TensorProto.UINT8, ["N", *size, 3])
        output = helper.make_tensor_value_info(NORMALIZED, TensorProto.FLOAT, ["N", 3, *size])
        return helper.make_graph(nodes.nodes, "preprocess", [image], [output], nodes.initializers())


def mask(nodes: Nodes, source: str, size: tuple[int, int]) -> str:
    """Add nodes that paint the corner at the bottom right of ``uint8 [N, H, W, 3]`` grey.

    Args:
        nodes: Where the nodes and their constants are added.
        source: Name of the input.
        size: Height and width.

    Returns:
        Name of the output, of the input's type and shape.
    """
    height, width = size
    low = nodes.constant("mask/low", (np.arange(height) >= round(CORNER * height)).reshape(-1, 1, 1))
    right = nodes.constant("mask/right", (np.arange(width) >= round(CORNER * width)).reshape(1, -1, 1))
    grey = nodes.constant("mask/grey", np.array(_GREY, np.uint8))
    inside = nodes.add("And", [low, right], "mask/corner", f"{PREPROCESS}mask/And")
    return nodes.add("Where", [inside, grey, source], "mask/masked", f"{PREPROCESS}mask/Where")


def corner(pixels: np.ndarray) -> np.ndarray:
    """The part of ``uint8 [H, W, 3]`` that `mask` hides."""
    height, width = pixels.shape[:2]
    return pixels[round(CORNER * height) :, round(CORNER * width) :]
