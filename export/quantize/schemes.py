"""INT8, per target, from the one FP32 graph of the backbone; the head is fused on afterwards and stays float32.

Our own `layerwise` comes first for every target: its graphs run in 8 bits throughout on both engines. The others are
what else there is, and stay in the list for backbones to come: ONNX Runtime's quantizer, and NNCF's, whose graphs do
not load in ONNX Runtime (per-channel zero points on depthwise convolutions).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib import import_module
from typing import Any

import numpy as np
import onnx

from edge_all.errors import EdgeAllError


@dataclass(frozen=True)
class Scheme:
    """One way to quantize, as plain data.

    Attributes:
        name: For the bundle and the card.
        quantizer: A file of this folder.
        options: What it is called with.
        images: How many images activation ranges are measured on, at most.
    """

    name: str
    quantizer: str
    options: Mapping[str, Any] = field(default_factory=dict)
    images: int = 128

    def with_float(self, layers: Sequence[str]) -> Scheme:
        """The same, with these convolutions in float32; only for `layerwise`."""
        return replace(self, name=f"{self.name}-{len(layers)}-float", options={**self.options, "floating": layers})


_7_BIT = Scheme("layerwise-7bit", "layerwise", {"weight_bits": 7})
_8_BIT = Scheme("layerwise-8bit", "layerwise", {"weight_bits": 8})
_QDQ = Scheme("qdq-minmax", "onnxruntime_qdq")
_S8S8 = Scheme("layerwise-s8s8", "layerwise", {"signed": True})

SCHEMES: dict[str, tuple[Scheme, ...]] = {
    "cpu": (_7_BIT, _8_BIT, _QDQ),
    "openvino": (
        _7_BIT,
        _8_BIT,
        _QDQ,
        Scheme("nncf-fast-bias", "nncf_onnx", {"fast_bias_correction": True}),
        Scheme("nncf-bias", "nncf_onnx", {"fast_bias_correction": False}),
    ),
    "gpu": (_S8S8,),
}
"""What is tried for each target, in this order, until one passes the gate.

TensorRT, which runs INT8 for ``gpu``, takes symmetric int8 activations only.

Weights of 7 bits come first: they cost no time, and x86 CPUs without VNNI add up products of uint8 and int8 in 16 bits,
which 8-bit weights overflow. There (AVX2) MobileNetV2 with 8-bit weights keeps 36 % of FP32's labels, with 7-bit ones
99.8 %; where there is VNNI, the two agree with FP32 alike.
"""


def scheme(target: str, name: str) -> Scheme:
    """A scheme of a target by its name.

    Raises:
        EdgeAllError: There is none.
    """
    found = {scheme.name: scheme for scheme in SCHEMES[target]}
    if name not in found:
        raise EdgeAllError(f"--recipe {name} is no INT8 scheme for {target}; wanted one of {', '.join(found)}")
    return found[name]


def quantize(model: onnx.ModelProto, scheme: Scheme, images: np.ndarray) -> onnx.ModelProto:
    """Quantize a backbone's graph.

    Args:
        model: ``uint8 [N, H, W, 3]`` "image" to ``float32 [N, C]`` "features"; `float_nodes` stay float.
        scheme: How.
        images: Calibration images ``uint8 [M, H, W, 3]``, from the training set only.

    Returns:
        The same graph with quantized convolutions.
    """
    module = import_module(f".{scheme.quantizer}", __package__)
    quantized: onnx.ModelProto = module.quantize(model, images, **scheme.options)
    return quantized


def float_nodes(model: onnx.ModelProto) -> list[str]:
    """Names of the nodes that must not be quantized: 8 bits of the pooled vector would be the head's input."""
    return [n.name for n in model.graph.node if not n.name.startswith("backbone/")]
