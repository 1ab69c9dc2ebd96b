"""The entrance of a quantized graph: where rounding gives every pixel value back, the pixels go in as they are."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

SOURCE = "normalized"
"""The tensor that the preprocessing hands to the first convolution."""


def normalisation(model: onnx.ModelProto) -> tuple[np.ndarray, np.ndarray]:
    """What pixels are multiplied with, and what is added then, for every value of a row ``float32 [W * 3]``."""
    factor, offset = _constants(model, "preprocess/factor", "preprocess/offset")
    return factor, offset


def centred(model: onnx.ModelProto) -> onnx.ModelProto:
    """Where all channels are normalised alike, shift them by under half a step, so that pixels need no rounding.

    With mean 0.5 and std 0.5 a pixel value of 127.5 would be zero, and every pixel would lie between two steps; the
    first convolution's bias takes the shift back.
    """
    moved = onnx.ModelProto()
    moved.CopyFrom(model)
    factor, offset = normalisation(model)
    if len(set(factor)) == len(set(offset)) == 1:
        whole = np.floor(-offset / factor)
        for constant in moved.graph.initializer:
            if constant.name == "preprocess/offset":
                constant.CopyFrom(numpy_helper.from_array((-whole * factor).astype(np.float32), constant.name))
    return moved


def direct(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same graph without normalisation, if its rounded pixels are the pixels: exact, and it saves six nodes.

    Precondition: ``uint8`` pixels enter at "preprocess/flat", and `SOURCE` is their normalised form. Postcondition: no
    answer changes. A graph whose first rounding loses anything is returned as it is.
    """
    rounding = next((n for n in model.graph.node if n.op_type == "QuantizeLinear" and n.input[0] == SOURCE), None)
    pixels = next(n.input[0] for n in model.graph.node if n.output[0] == "preprocess/flat")
    if rounding is None or not _gives_back(model, rounding) or not _is_uint8(model, pixels):
        return model
    entered = onnx.ModelProto()
    entered.CopyFrom(model)
    turned = helper.make_node(
        "Transpose", [pixels], [rounding.output[0]], name="preprocess/Transpose", perm=[0, 3, 1, 2]
    )
    next(node for node in entered.graph.node if node.name == rounding.name).CopyFrom(turned)
    ends = ([value.name for value in values] for values in (model.graph.input, model.graph.output))
    left = onnx.utils.Extractor(entered).extract_model(*ends)  # without what nobody reads any more
    left.graph.name = model.graph.name
    return left


def _is_uint8(model: onnx.ModelProto, tensor: str) -> bool:
    inferred = onnx.shape_inference.infer_shapes(model).graph
    types = {value.name: value.type.tensor_type.elem_type for value in (*inferred.input, *inferred.value_info)}
    return types.get(tensor) == TensorProto.UINT8


def _gives_back(model: onnx.ModelProto, rounding: onnx.NodeProto) -> bool:
    """Whether rounding the normalised form of each pixel value gives this value."""
    step, zero = _constants(model, *rounding.input[1:3])
    factor, offset = normalisation(model)
    values = np.arange(256, dtype=np.float32)[:, np.newaxis]
    rounded = np.rint((values * factor + offset) / step) + zero
    return zero.dtype == np.uint8 and bool((rounded == values).all())


def _constants(model: onnx.ModelProto, *names: str) -> list[np.ndarray]:
    arrays = {one.name: one for one in model.graph.initializer}
    return [numpy_helper.to_array(arrays[name]) for name in names]
