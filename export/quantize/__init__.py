"""INT8, per target, from the one FP32 graph of the backbone; the head is fused on afterwards and stays float32.

Each target has its own quantizer because no one output suits both engines: NNCF's ONNX graphs do not load in ONNX
Runtime (per-channel zero points on depthwise convolutions), and ONNX Runtime's QDQ of DenseNet121 crashes OpenVINO.
"""

from __future__ import annotations

from importlib import import_module

import numpy as np
import onnx

_QUANTIZERS = {"cpu": "onnxruntime_qdq", "openvino": "nncf_onnx"}

TARGETS = tuple(_QUANTIZERS)

CALIBRATION_IMAGES = 128
"""Images that activation ranges are measured on; beyond about a hundred nothing changes on these backbones."""

FLOAT_OPERATORS = ("GlobalAveragePool", "ReduceMean", "Flatten", "Reshape", "Squeeze")
"""Pooling into the feature vector stays float: its 8 bits would be the head's input."""


def quantizer(target: str) -> str:
    """Name of the quantizer that makes the INT8 graph of `target`."""
    return _QUANTIZERS[target]


def quantize(model: onnx.ModelProto, target: str, images: np.ndarray) -> onnx.ModelProto:
    """Quantize a backbone's graph for a target.

    Args:
        model: ``uint8 [N, H, W, 3]`` "image" to ``float32 [N, C]`` "features"; `float_nodes` stay float.
        target: One of `TARGETS`.
        images: Calibration images ``uint8 [N, H, W, 3]``, from the training set only.

    Returns:
        The same graph with quantized convolutions.
    """
    module = import_module(f".{_QUANTIZERS[target]}", __package__)
    quantized: onnx.ModelProto = module.quantize(model, images)
    return quantized


def float_nodes(model: onnx.ModelProto) -> list[str]:
    """Names of the nodes that must not be quantized."""
    return [n.name for n in model.graph.node if n.name.startswith("preprocess/") or n.op_type in FLOAT_OPERATORS]
