"""The INT8 schemes of each target: how the FP32 backbone can be quantized. The head stays float32.

Our own quantizer, `layerwise`, comes first for every target: its graphs run in 8 bits throughout on both engines. The
others are the alternatives: ONNX Runtime's quantizer, and NNCF's, whose graphs do not load in ONNX Runtime (per-channel
zero points on depthwise convolutions).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib import import_module
from typing import Any

import numpy as np
import onnx

from edge_all import machine
from edge_all.errors import EdgeAllError
from edge_all.progress import Progress, ignore

from ..graph.names import is_backbone


@dataclass(frozen=True)
class Scheme:
    """One way to quantize, as plain data.

    Attributes:
        name: What the bundle's record and the model card call it.
        quantizer: A module of this folder with a function ``quantize(model, images, progress, **options)``.
        options: Keyword arguments of that function.
        images: How many calibration images there are, at most.
        overflows: Whether products of its weights overflow the sums of a CPU that adds them in 16 bits.
    """

    name: str
    quantizer: str
    options: Mapping[str, Any] = field(default_factory=dict)
    images: int = 128
    overflows: bool = False

    def with_float(self, layers: Sequence[str]) -> Scheme:
        """The same scheme with these convolutions in float32; only for `layerwise`."""
        return replace(self, name=f"{self.name}-{len(layers)}-float", options={**self.options, "floating": layers})


_7_BIT = Scheme("layerwise-7bit", "layerwise", {"weight_bits": 7})
_8_BIT = Scheme("layerwise-8bit", "layerwise", {"weight_bits": 8}, overflows=True)
_QDQ = Scheme("qdq-minmax", "onnxruntime_qdq", overflows=True)
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
"""The schemes that are tried for each target, in this order, until one passes the gate.

TensorRT, which runs INT8 for ``gpu``, takes symmetric int8 activations only.

Weights of 7 bits come first: they cost no time. x86 CPUs without VNNI add products of uint8 and int8 in 16 bits, which
overflow with 8-bit weights: there these are tried only where they are asked for (``--scheme``). On such a CPU (AVX2)
MobileNetV2 gives the same label as FP32 on 36 % of the images with 8-bit weights, and on 99.8 % with 7-bit weights. On
CPUs with VNNI both agree with FP32 equally often.
"""


def of_target(target: str) -> tuple[Scheme, ...]:
    """The schemes to try for a target on this machine, without those whose sums overflow on its CPU."""
    schemes = _all_of(target)
    overflows = machine.has_integer_dot_product(machine.instruction_sets()) is False
    return tuple(scheme for scheme in schemes if not (scheme.overflows and overflows))


def named(target: str, name: str) -> Scheme:
    """The scheme of a target that has this name.

    Raises:
        EdgeAllError: There is none.
    """
    by_name = {scheme.name: scheme for scheme in _all_of(target)}
    if name not in by_name:
        raise EdgeAllError(f"--scheme {name} is no INT8 scheme for {target}; wanted one of {', '.join(by_name)}")
    return by_name[name]


def _all_of(target: str) -> tuple[Scheme, ...]:
    """The schemes of a target; one without schemes of its own has those of ``cpu``."""
    return SCHEMES.get(target, SCHEMES["cpu"])


def quantize(
    model: onnx.ModelProto, scheme: Scheme, images: np.ndarray, progress: Progress = ignore
) -> onnx.ModelProto:
    """Quantize a backbone's graph.

    Args:
        model: ``uint8 [N, H, W, 3]`` "image" to ``float32 [N, C]`` "features"; `float_nodes` stay float.
        scheme: How to quantize it.
        images: Calibration images ``uint8 [M, H, W, 3]``, from the training set only.
        progress: Counts parts of the work.

    Returns:
        The same graph with quantized convolutions.
    """
    module = import_module(f".{scheme.quantizer}", __package__)
    quantized: onnx.ModelProto = module.quantize(model, images, progress, **scheme.options)
    return quantized


def float_nodes(model: onnx.ModelProto) -> list[str]:
    """Names of the nodes that must not be quantized: preprocessing, and the pooling that gives the head its input."""
    return [n.name for n in model.graph.node if not is_backbone(n)]
