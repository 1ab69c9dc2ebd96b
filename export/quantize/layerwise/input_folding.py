"""Fold the normalisation of pixels into the first convolution, so that a quantized graph reads pixels as they are."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto

from ...graph import edit
from ...graph.facts import attribute
from ...graph.names import NORMALIZED, PREPROCESS
from ...graph.preprocess import FACTOR, OFFSET, PIXEL_ROWS


def normalisation(model: onnx.ModelProto) -> tuple[np.ndarray, np.ndarray]:
    """What pixels are multiplied with, and what is added then, for every value of a row, ``float32 [W * 3]`` each."""
    arrays = edit.arrays(model.graph)
    return arrays[FACTOR], arrays[OFFSET]


def normalise_alike(model: onnx.ModelProto) -> onnx.ModelProto:
    """Give all channels one normalisation, whose scale is one pixel value, so that quantization loses nothing.

    The difference between the channels' normalisations is folded into the weights and the bias of the convolution that
    reads "normalized". It computes the same but for its padding: this was the mean of each channel, and becomes the
    pixel value nearest to the mean of all three.
    """
    alike = edit.copy(model)
    graph = alike.graph
    factor, offset = normalisation(model)
    scale, zero_point = np.float32(factor.mean()), np.rint((-offset / factor).mean())
    for name, value in (FACTOR, scale), (OFFSET, -zero_point * scale):
        edit.set_constant(graph, name, np.full(len(factor), value, np.float32))
    ratio, shift = factor[:3] / scale, offset[:3] + zero_point * factor[:3]
    arrays = edit.arrays(graph)
    for node in graph.node:
        if node.input[0] == NORMALIZED:
            weights, *bias = (arrays[name] for name in node.input[1:])
            folded = weights * ratio[:, None, None], sum(bias) + (weights * shift[:, None, None]).sum((1, 2, 3))
            # Under new names, since nodes may share a constant.
            node.input[1:] = [f"{node.name}/weight", f"{node.name}/offset"]
            constants = zip(node.input[1:], folded, strict=True)
            edit.add_constants(graph, {name: value.astype(np.float32) for name, value in constants})
    return alike


def fold_normalisation(model: onnx.ModelProto) -> onnx.ModelProto:
    """Drop the normalisation where the quantized pixels are the pixels: exact, and it saves five nodes.

    The zero point of the pixels is folded into the convolution's bias, since engines are slower with one that is not 0.
    Engines pad with the zero point, so the pixels are padded before.

    Args:
        model: A quantized backbone (`qdq`), in which one convolution in integers reads "normalized".

    Returns:
        The same function of the image, but for how OpenVINO rounds; or the model itself, where the pixels are not
        uint8 or their quantization changes one of them.
    """
    producers = edit.producers(model.graph.node)
    quantizing = next((n for n in model.graph.node if n.op_type == "QuantizeLinear" and n.input[0] == NORMALIZED), None)
    pixels = producers[PIXEL_ROWS].input[0]
    if quantizing is None or not _gives_pixels_back(model, quantizing) or not _is_uint8(model, pixels):
        return model
    folded = edit.copy(model)
    graph = folded.graph
    dequantizing = next(node for node in graph.node if node.input[0] == quantizing.output[0])
    (convolution,) = (node for node in graph.node if dequantizing.output[0] in node.input)
    zero_point = edit.arrays(graph)[quantizing.input[2]]
    _fold_zero_point(graph, convolution, zero_point)

    entrance = edit.Nodes()
    zero = entrance.constant(f"{PREPROCESS}zero", np.zeros_like(zero_point))
    if pads := _take_padding(convolution):
        top, left, bottom, right = pads
        around = entrance.constant(f"{PREPROCESS}around", np.array([0, top, left, 0, 0, bottom, right, 0]))
        mean = entrance.constant(f"{PREPROCESS}mean", zero_point)
        pixels = entrance.add("Pad", [pixels, around, mean], f"{PREPROCESS}padded", f"{PREPROCESS}Pad")
    # Dequantized before they are transposed: in the other order, OpenVINO runs the convolution in float32.
    scaling = [pixels, quantizing.input[1], zero]
    scaled = entrance.add("DequantizeLinear", scaling, f"{PREPROCESS}scaled", f"{PREPROCESS}DequantizeLinear")
    entrance.add("Transpose", [scaled], dequantizing.output[0], f"{PREPROCESS}Transpose", perm=[0, 3, 1, 2])
    nodes = list(graph.node)
    place = nodes.index(dequantizing)
    edit.set_nodes(graph, [*nodes[:place], *entrance.nodes, *nodes[place + 1 :]])
    graph.initializer.extend(entrance.initializers())
    inputs, outputs = ([value.name for value in values] for values in (graph.input, graph.output))
    return edit.extract(folded, inputs, outputs)  # without the nodes that nobody reads any more


def _fold_zero_point(graph: onnx.GraphProto, convolution: onnx.NodeProto, zero_point: np.ndarray) -> None:
    """Fold the zero point of what a convolution in integers reads into its bias."""
    producers, arrays = edit.producers(graph.node), edit.arrays(graph)
    weights, bias = (producers[name].input[0] for name in convolution.input[1:])
    summed = arrays[weights].sum((1, 2, 3), dtype=np.int32)
    edit.set_constant(graph, bias, arrays[bias] - zero_point.astype(np.int32) * summed)


def _take_padding(convolution: onnx.NodeProto) -> tuple[int, ...]:
    """Set a convolution's padding to 0, and return what it was: top, left, bottom, right; empty where it was none."""
    pads = attribute(convolution, "pads", ())
    for entry in convolution.attribute:
        if entry.name == "pads":
            entry.ints[:] = [0] * 4
    return pads if any(pads) else ()


def _is_uint8(model: onnx.ModelProto, tensor: str) -> bool:
    inferred = onnx.shape_inference.infer_shapes(model).graph
    types = {value.name: value.type.tensor_type.elem_type for value in (*inferred.input, *inferred.value_info)}
    return types.get(tensor) == TensorProto.UINT8


def _gives_pixels_back(model: onnx.ModelProto, quantizing: onnx.NodeProto) -> bool:
    """Whether quantizing the normalised form of each pixel value gives this value."""
    arrays = edit.arrays(model.graph)
    scale, zero_point = (arrays[name] for name in quantizing.input[1:3])
    factor, offset = normalisation(model)
    values = np.arange(256, dtype=np.float32)[:, np.newaxis]
    quantized = np.rint((values * factor + offset) / scale) + zero_point
    return zero_point.dtype == np.uint8 and bool((quantized == values).all())
