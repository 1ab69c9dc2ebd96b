"""The entrance of a quantized graph: pixels enter as they are, the first convolution takes their normalisation in."""

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


def alike(model: onnx.ModelProto) -> onnx.ModelProto:
    """Normalise all channels in one way, in steps of whole pixel values, so that pixels need no rounding.

    The convolution that reads `SOURCE` takes what the channels differed by into its weights and bias. It computes what
    it did, but for its padding: that was each channel's mean, and is the whole pixel value nearest to the mean of all
    three.
    """
    moved = onnx.ModelProto()
    moved.CopyFrom(model)
    factor, offset = normalisation(model)
    step, zero = np.float32(factor.mean()), np.rint((-offset / factor).mean())
    arrays = {array.name: array for array in moved.graph.initializer}
    for name, value in ("preprocess/factor", step), ("preprocess/offset", -zero * step):
        arrays[name].CopyFrom(numpy_helper.from_array(np.full(len(factor), value, np.float32), name))
    ratio, shift = factor[:3] / step, offset[:3] + zero * factor[:3]
    for node in moved.graph.node:
        if node.input[0] == SOURCE:
            weights, *bias = (numpy_helper.to_array(arrays[name]) for name in node.input[1:])
            changed = weights * ratio[:, None, None], sum(bias) + (weights * shift[:, None, None]).sum((1, 2, 3))
            # Under names of their own: nodes may share a constant.
            node.input[1:] = [f"{node.name}/weight", f"{node.name}/offset"]
            moved.graph.initializer.extend(
                numpy_helper.from_array(value.astype(np.float32), name)
                for name, value in zip(node.input[1:], changed, strict=True)
            )
    return moved


def direct(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same graph without normalisation, if its rounded pixels are the pixels: exact, and it saves five nodes.

    The zero point goes into the convolution's bias, since engines take longer over one that is not 0. It is what they
    pad with, so the pixels are padded before.

    Precondition: ``uint8`` pixels enter at "preprocess/flat", `SOURCE` is their normalised form, and one convolution
    in integers reads it. Postcondition: no answer changes, but for how OpenVINO rounds. A graph whose first rounding
    loses anything is returned as it is.
    """
    rounding = next((n for n in model.graph.node if n.op_type == "QuantizeLinear" and n.input[0] == SOURCE), None)
    pixels = next(n.input[0] for n in model.graph.node if n.output[0] == "preprocess/flat")
    if rounding is None or not _gives_back(model, rounding) or not _is_uint8(model, pixels):
        return model
    entered = onnx.ModelProto()
    entered.CopyFrom(model)
    graph = entered.graph
    real = next(node for node in graph.node if node.input[0] == rounding.output[0])
    (convolution,) = (node for node in graph.node if real.output[0] in node.input)
    (zero,) = _constants(model, rounding.input[2])
    _without_zero_point(graph, convolution, zero)
    graph.initializer.append(numpy_helper.from_array(np.zeros_like(zero), "preprocess/zero"))

    nodes = []
    pads = next((attribute.ints for attribute in convolution.attribute if attribute.name == "pads"), [])
    if any(pads):
        top, left, bottom, right = pads
        known = {"preprocess/around": np.array([0, top, left, 0, 0, bottom, right, 0]), "preprocess/mean": zero}
        graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in known.items())
        nodes.append(helper.make_node("Pad", [pixels, *known], ["preprocess/padded"]))
        pixels, pads[:] = "preprocess/padded", [0] * 4
    # Scaled before they are turned: the other way round, OpenVINO computes the convolution in float32.
    scaling = [pixels, rounding.input[1], "preprocess/zero"]
    nodes.append(helper.make_node("DequantizeLinear", scaling, ["preprocess/scaled"]))
    nodes.append(helper.make_node("Transpose", ["preprocess/scaled"], real.output, perm=[0, 3, 1, 2]))
    place = list(graph.node).index(real)
    graph.node.remove(real)
    for i, node in enumerate(nodes):
        node.name = f"preprocess/{node.op_type}"
        graph.node.insert(place + i, node)
    ends = ([value.name for value in values] for values in (model.graph.input, model.graph.output))
    entered = onnx.utils.Extractor(entered).extract_model(*ends)  # without what nobody reads any more
    entered.graph.name = model.graph.name
    return entered


def _without_zero_point(graph: onnx.GraphProto, convolution: onnx.NodeProto, zero: np.ndarray) -> None:
    """Let a convolution in integers take the zero point of what it reads into its bias."""
    made_by = {node.output[0]: node for node in graph.node}
    weights, bias = (made_by[name].input[0] for name in convolution.input[1:])
    arrays = {array.name: array for array in graph.initializer}
    summed = numpy_helper.to_array(arrays[weights]).sum((1, 2, 3), dtype=np.int32)
    moved = numpy_helper.to_array(arrays[bias]) - zero.astype(np.int32) * summed
    arrays[bias].CopyFrom(numpy_helper.from_array(moved, bias))


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
