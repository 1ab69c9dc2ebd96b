"""Write a quantized graph: pairs of QuantizeLinear and DequantizeLinear (QDQ), weights in int8, biases in int32.

The form that both engines fuse into integer kernels:
https://onnxruntime.ai/docs/performance/model-optimizations/quantization.html
Where activations are signed it is TensorRT's, with biases in float32:
https://docs.nvidia.com/deeplearning/tensorrt/latest/inference-library/quantized-types-explicit-quantization.html
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx

from ...graph import edit
from ...graph.facts import attribute
from .placement import Placement
from .rewrite import is_output_rescale
from .scales import Quantization


@dataclass(frozen=True)
class QuantizedConvolution:
    """A convolution in 8 bits.

    Attributes:
        weights: Multiples of the scale, ``int8 [O, I, kH, kW]``.
        scale: ``float32 [O]``.
        bias: ``float32 [O]``.
    """

    weights: np.ndarray
    scale: np.ndarray
    bias: np.ndarray

    @property
    def real(self) -> np.ndarray:
        """The weights' values, ``float32 [O, I, kH, kW]``."""
        return np.asarray(self.weights * self.scale[:, None, None, None])


def write(
    model: onnx.ModelProto,
    placement: Placement,
    scales: Mapping[str, Quantization],
    convolutions: Mapping[str, QuantizedConvolution],
) -> onnx.ModelProto:
    """Write the graph in 8 bits.

    Args:
        model: The FP32 backbone.
        placement: Which tensors are quantized.
        scales: How, by scale owner.
        convolutions: By output; those that are missing stay float.
    """
    writer = _Writer(model.graph, placement, scales, convolutions)
    for node in model.graph.node:
        writer.write(node)
    nodes = writer.nodes
    written = edit.rebuilt(model, nodes.nodes, [*model.graph.initializer, *nodes.initializers()])
    onnx.checker.check_model(written, full_check=True)
    return written


class _Writer:
    """Writes one quantized graph, node by node, into `nodes`."""

    def __init__(
        self,
        graph: onnx.GraphProto,
        placement: Placement,
        scales: Mapping[str, Quantization],
        convolutions: Mapping[str, QuantizedConvolution],
    ) -> None:
        self.nodes = edit.Nodes()
        self._arrays = edit.arrays(graph)
        self._placement, self._scales, self._convolutions = placement, scales, convolutions
        self._current: dict[str, str] = {}
        """What holds the values of a tensor of the FP32 graph now, where it is not the tensor of that name."""

    def write(self, node: onnx.NodeProto) -> None:
        """Write a node of the FP32 graph in its new form, with the quantization of its output behind it."""
        written = edit.copy(node)
        written.input[:] = [self._current.get(name, name) for name in node.input]
        output = node.output[0]
        if self._is_folded(node) or node.op_type == "Identity":
            self._current[output] = written.input[0]
        elif self._folds_into_scale(node):
            self._rescale_output(node)
        else:
            if output in self._convolutions:
                self._quantize_weights(written, self._of(node.input[0]), self._convolutions[output])
            elif node.name in self._placement.float_layers and node.input[0] in self._placement.scale_owner:
                self._keep_float(written, node.input[0])
            self.nodes.nodes.append(written)
        if output in self._placement.scale_owner:
            self._quantize(written, output)

    def _of(self, tensor: str) -> Quantization:
        """How a tensor is quantized."""
        return self._scales[self._placement.scale_owner[tensor]]

    def _is_folded(self, node: onnx.NodeProto) -> bool:
        """Whether a node is an activation that only cuts off what the quantization of its output cuts off too."""
        if node.name not in self._placement.folded:
            return False
        low, high = self._of(node.output[0]).ends
        if node.op_type == "Relu":
            return low >= 0
        least, most = (float(self._arrays[name]) for name in node.input[1:3])
        return low >= least and high <= most * (1 + 1e-6)

    def _folds_into_scale(self, node: onnx.NodeProto) -> bool:
        """Whether a node is an output rescale of a tensor in uint8; TensorRT's graphs keep it as a convolution."""
        source = node.input[0]
        return is_output_rescale(node) and source in self._placement.scale_owner and not self._of(source).signed

    def _rescale_output(self, node: onnx.NodeProto) -> None:
        """Fold the per-channel factor into the scale of a DequantizeLinear, and the shift into an Add behind it."""
        quantization = self._of(node.input[0])
        weights, bias = (self._arrays[name] for name in node.input[1:])
        scale = self.nodes.constant(f"{node.name}/step", (quantization.scale * weights.ravel()).astype(np.float32))
        zero_point = self.nodes.constant(f"{node.name}/zero", np.full(len(bias), quantization.zero_point, np.uint8))
        inputs, real = [f"{node.input[0]}/q", scale, zero_point], f"{node.name}/real"
        if bias.any():
            self.nodes.add("DequantizeLinear", inputs, real, real, axis=1)
            shift = self.nodes.constant(f"{node.name}/added", bias[:, None, None])
            self.nodes.add("Add", [real, shift], node.output[0], node.name)
        else:
            self.nodes.add("DequantizeLinear", inputs, node.output[0], real, axis=1)

    def _quantize_weights(self, node: onnx.NodeProto, reads: Quantization, convolution: QuantizedConvolution) -> None:
        """Let a convolution read its weights in int8, and its bias in int32, or float32 where TensorRT wants it."""
        weights = self._dequantized(f"{node.name}/weights", convolution.weights, convolution.scale.astype(np.float32))
        if reads.signed:
            bias = self.nodes.constant(f"{node.name}/bias", convolution.bias.astype(np.float32))
        else:
            scale = (reads.scale * convolution.scale).astype(np.float32)
            bias = self._dequantized(f"{node.name}/bias", np.round(convolution.bias / scale).astype(np.int32), scale)
        node.input[:] = [node.input[0], weights, bias]

    def _keep_float(self, node: onnx.NodeProto, tensor: str) -> None:
        """Let a float convolution read a tensor in uint8 through a DequantizeLinear with a scale for each channel.

        ONNX Runtime's optimizer (WeightBiasQuantization) rounds the float weights of a convolution that stands between
        tensors in 8 bits, with one scale for all of them, where it reads a DequantizeLinear with a single scale.
        TensorRT takes single scales only.
        """
        quantization = self._of(tensor)
        if quantization.signed:
            return
        channels = self._arrays[node.input[1]].shape[1] * attribute(node, "group", 1)
        scale = self.nodes.constant(f"{node.name}/read/step", np.full(channels, quantization.scale, np.float32))
        zero = self.nodes.constant(f"{node.name}/read/zero", np.full(channels, quantization.zero_point, np.uint8))
        real = f"{node.name}/read/real"
        node.input[0] = self.nodes.add("DequantizeLinear", [f"{tensor}/q", scale, zero], real, real, axis=1)

    def _dequantized(self, name: str, value: np.ndarray, scale: np.ndarray) -> str:
        """A constant in integers ``[O, ...]``, read through a DequantizeLinear with scales ``float32 [O]``."""
        inputs = [
            self.nodes.constant(name, value),
            self.nodes.constant(f"{name}/step", scale),
            self.nodes.constant(f"{name}/zero", np.zeros(len(scale), value.dtype)),
        ]
        return self.nodes.add("DequantizeLinear", inputs, f"{name}/real", f"{name}/real", axis=0)

    def _quantize(self, node: onnx.NodeProto, tensor: str) -> None:
        """Quantize a tensor, which `node` gives in its new form, and dequantize it for its readers."""
        owner, quantization = self._placement.scale_owner[tensor], self._of(tensor)
        kind = np.int8 if quantization.signed else np.uint8
        scale = self.nodes.constant(f"{owner}/step", np.array(quantization.scale, np.float32))
        zero_point = self.nodes.constant(f"{owner}/zero", np.array(quantization.zero_point, kind))
        q, real = f"{tensor}/q", f"{tensor}/real"
        if node.op_type == "Concat" and not quantization.signed:  # its pieces have its scale: they are joined in 8 bits
            node.input[:] = [f"{piece.removesuffix('/real')}/q" for piece in node.input]
            node.output[0] = q
        else:
            self.nodes.add("QuantizeLinear", [self._current.get(tensor, tensor), scale, zero_point], q, q)
        self._current[tensor] = self.nodes.add("DequantizeLinear", [q, scale, zero_point], real, real)
