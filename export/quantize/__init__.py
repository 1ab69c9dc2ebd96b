"""INT8, per target, from the one FP32 graph of the backbone; the head is fused on afterwards and stays float32.

Each target has its own list because no one output suits both engines: NNCF's ONNX graphs do not load in ONNX Runtime
(per-channel zero points on depthwise convolutions), and ONNX Runtime's QDQ of DenseNet121 crashes OpenVINO, which is
why `edge_all.export.int8` tries every graph in a process of its own first.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

import numpy as np
import onnx


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


SCHEMES: dict[str, tuple[Scheme, ...]] = {
    "cpu": (Scheme("qdq-minmax", "onnxruntime_qdq"),),
    "openvino": (
        # All its convolutions run in INT8; of NNCF's graphs OpenVINO 2026.4 runs about half of them in float32.
        Scheme("qdq-minmax", "onnxruntime_qdq"),
        Scheme("nncf-fast-bias", "nncf_onnx", {"fast_bias_correction": True}),
        Scheme("nncf-bias", "nncf_onnx", {"fast_bias_correction": False}),
    ),
}
"""What is tried for each target, in this order, until one passes the gate."""

FLOAT_OPERATORS = ("GlobalAveragePool", "ReduceMean", "Flatten", "Reshape", "Squeeze")
"""Pooling into the feature vector stays float: its 8 bits would be the head's input."""


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
    """Names of the nodes that must not be quantized."""
    return [n.name for n in model.graph.node if n.name.startswith("preprocess/") or n.op_type in FLOAT_OPERATORS]
