"""Write a quantized graph: pairs of QuantizeLinear and DequantizeLinear (QDQ), weights in int8, biases in int32.

The form that both engines fuse into integer kernels:
https://onnxruntime.ai/docs/performance/model-optimizations/quantization.html
Where activations are signed it is TensorRT's, with biases in float32:
https://docs.nvidia.com/deeplearning/tensorrt/latest/inference-library/quantized-types-explicit-quantization.html
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx
from onnx import helper, numpy_helper

from .placement import Placement
from .rewrite import is_exit
from .scales import Scale


@dataclass(frozen=True)
class Convolution8:
    """A convolution in 8 bits.

    Attributes:
        weights: Multiples of `step`, ``int8 [O, I, kH, kW]``.
        step: ``float32 [O]``.
        bias: ``float32 [O]``.
    """

    weights: np.ndarray
    step: np.ndarray
    bias: np.ndarray


def write(
    model: onnx.ModelProto, placement: Placement, scales: dict[str, Scale], convolutions: dict[str, Convolution8]
) -> onnx.ModelProto:
    """The graph in 8 bits.

    Args:
        model: The FP32 backbone.
        placement: Where it rounds.
        scales: To what, by leader.
        convolutions: By output; those that are missing stay float.
    """
    arrays = {i.name: i for i in model.graph.initializer}
    nodes: list[onnx.NodeProto] = []
    made: dict[str, np.ndarray] = {}
    same: dict[str, str] = {}

    def constant(name: str, value: np.ndarray) -> str:
        made[name] = value
        return name

    def dequantized(name: str, value: np.ndarray, step: np.ndarray) -> str:
        zero = np.zeros(len(step), value.dtype)
        reads = constant(name, value), constant(f"{name}/step", step), constant(f"{name}/zero", zero)
        nodes.append(helper.make_node("DequantizeLinear", reads, [f"{name}/real"], name=f"{name}/real", axis=0))
        return f"{name}/real"

    def rounded(node: onnx.NodeProto, tensor: str) -> None:
        """Round what `node`, already in its new form, gives."""
        scale = scales[placement.leader[tensor]]
        step = constant(f"{placement.leader[tensor]}/step", np.array(scale.step, np.float32))
        zero = constant(f"{placement.leader[tensor]}/zero", np.array(scale.zero, np.int8 if scale.signed else np.uint8))
        q, real = f"{tensor}/q", f"{tensor}/real"
        if node.op_type == "Concat" and not scale.signed:  # its pieces are of one scale: nothing to round
            node.input[:] = [f"{piece.removesuffix('/real')}/q" for piece in node.input]
            node.output[0] = q
        else:
            source = same.get(tensor, tensor)
            nodes.append(helper.make_node("QuantizeLinear", [source, step, zero], [q], name=q))
        nodes.append(helper.make_node("DequantizeLinear", [q, step, zero], [real], name=real))
        same[tensor] = real

    def exit_of(node: onnx.NodeProto) -> list[onnx.NodeProto]:
        """What a channel is multiplied with goes into the step that it is read with."""
        scale = scales[placement.leader[node.input[0]]]
        weights, bias = (numpy_helper.to_array(arrays[name]) for name in node.input[1:])
        step = constant(f"{node.name}/step", (scale.step * weights.ravel()).astype(np.float32))
        zero = constant(f"{node.name}/zero", np.full(len(bias), scale.zero, np.uint8))
        reads, real = [f"{node.input[0]}/q", step, zero], node.output[0] if not bias.any() else f"{node.name}/real"
        made = [helper.make_node("DequantizeLinear", reads, [real], f"{node.name}/real", axis=1)]
        if bias.any():
            offset = constant(f"{node.name}/added", bias[:, None, None])
            made.append(helper.make_node("Add", [real, offset], node.output, node.name))
        return made

    for old in model.graph.node:
        node = onnx.NodeProto()
        node.CopyFrom(old)
        output = node.output[0]
        node.input[:] = [same.get(name, name) for name in node.input]
        absorbed = node.name in placement.absorbed and _absorbed(old, scales[placement.leader[output]], arrays)
        if absorbed or node.op_type == "Identity":
            same[output] = node.input[0]
        elif is_exit(old) and old.input[0] in placement.leader and not scales[placement.leader[old.input[0]]].signed:
            nodes.extend(exit_of(old))
        else:
            if output in convolutions:
                made_of = convolutions[output]
                reads = scales[placement.leader[old.input[0]]]
                weights = dequantized(f"{node.name}/weights", made_of.weights, made_of.step.astype(np.float32))
                if reads.signed:  # TensorRT takes no bias in integers
                    bias = constant(f"{node.name}/bias", made_of.bias.astype(np.float32))
                else:
                    step = (reads.step * made_of.step).astype(np.float32)
                    whole = np.round(made_of.bias / step).astype(np.int32)
                    bias = dequantized(f"{node.name}/bias", whole, step)
                node.input[:] = [node.input[0], weights, bias]
            nodes.append(node)
        if output in placement.leader:
            rounded(node, output)

    written = onnx.ModelProto()
    written.CopyFrom(model)
    del written.graph.node[:], written.graph.initializer[:], written.graph.value_info[:]
    written.graph.node.extend(nodes)
    read = {name for node in nodes for name in node.input}
    written.graph.initializer.extend([array for name, array in arrays.items() if name in read])
    written.graph.initializer.extend([numpy_helper.from_array(value, name) for name, value in made.items()])
    onnx.checker.check_model(written, full_check=True)
    return written


def _absorbed(node: onnx.NodeProto, scale: Scale, arrays: dict[str, onnx.TensorProto]) -> bool:
    """Whether rounding to `scale` alone does what the activation does."""
    low, high = scale.ends
    if node.op_type == "Relu":
        return low >= 0
    least, most = (float(numpy_helper.to_array(arrays[name])) for name in node.input[1:3])
    return low >= least and high <= most * (1 + 1e-6)
