"""From pixels to what a network was trained on, as the first nodes of the graph."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from ..backbones import Backbone
from . import equalize

CORNER = 190 / 224
"""Where the public set's scale bar begins, in parts of the image's width and height: right of it and below it."""

_GREY = 128


@dataclass(frozen=True)
class Preprocess:
    """What is done to an image before it is normalised.

    Attributes:
        equalize: Histogram equalisation, per channel, as in the paper (arXiv 2409.06687).
        mask_corner: The corner at the bottom right, with the scale bar in it, is painted grey first.
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
        constants = {
            "preprocess/factor": np.tile(1 / (255 * std), width).astype(np.float32),
            "preprocess/offset": np.tile(-mean / std, width).astype(np.float32),
            "preprocess/rows": np.array([0, height, width * 3]),
            "preprocess/pixels": np.array([0, height, width, 3]),
        }
        arrays = [numpy_helper.from_array(value, name) for name, value in constants.items()]
        nodes, source = [], "image"
        if self.mask_corner:
            masking, known, source = mask(source, size)
            nodes, arrays = nodes + masking, arrays + known
        if self.equalize:
            equalizing, known, source = equalize.nodes(source, size)
            nodes, arrays = nodes + equalizing, arrays + known
        steps = [
            ("Reshape", [source, "preprocess/rows"], "preprocess/flat", {}),
            ("Cast", ["preprocess/flat"], "preprocess/Cast", {"to": TensorProto.FLOAT}),
            ("Mul", ["preprocess/Cast", "preprocess/factor"], "preprocess/Mul", {}),
            ("Add", ["preprocess/Mul", "preprocess/offset"], "preprocess/Add", {}),
            ("Reshape", ["preprocess/Add", "preprocess/pixels"], "preprocess/whole", {}),
            ("Transpose", ["preprocess/whole"], "normalized", {"perm": [0, 3, 1, 2]}),
        ]
        for kind, inputs, output, attributes in steps:
            name = "preprocess/Transpose" if output == "normalized" else output
            nodes.append(helper.make_node(kind, inputs, [output], name=name, **attributes))
        image = helper.make_tensor_value_info("image", TensorProto.UINT8, ["N", *size, 3])
        out = helper.make_tensor_value_info("normalized", TensorProto.FLOAT, ["N", 3, *size])
        return helper.make_graph(nodes, "preprocess", [image], [out], arrays)


def mask(source: str, size: tuple[int, int]) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto], str]:
    """Nodes that paint the corner at the bottom right of ``uint8 [N, H, W, 3]`` grey.

    Args:
        source: Name of the input.
        size: Height and width.

    Returns:
        Nodes, constants, and the name of the output, of the input's type and shape.
    """
    height, width = size
    constants = {
        "mask/low": (np.arange(height) >= round(CORNER * height)).reshape(-1, 1, 1),
        "mask/right": (np.arange(width) >= round(CORNER * width)).reshape(1, -1, 1),
        "mask/grey": np.array(_GREY, np.uint8),
    }
    nodes = [
        helper.make_node("And", ["mask/low", "mask/right"], ["mask/corner"], name="preprocess/mask/And"),
        helper.make_node("Where", ["mask/corner", "mask/grey", source], ["mask/masked"], name="preprocess/mask/Where"),
    ]
    return nodes, [numpy_helper.from_array(value, name) for name, value in constants.items()], "mask/masked"


def corner(pixels: np.ndarray) -> np.ndarray:
    """What `mask` hides of ``uint8 [H, W, 3]``."""
    height, width = pixels.shape[:2]
    return pixels[round(CORNER * height) :, round(CORNER * width) :]
