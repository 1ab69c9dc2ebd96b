"""ONNX Runtime's static quantization: QDQ, uint8 activations, int8 weights per channel.

Reference: https://onnxruntime.ai/docs/performance/model-optimizations/quantization.html
"""

from __future__ import annotations

import logging
import tempfile
from pathlib import Path

import numpy as np
import onnx
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

from .schemes import float_nodes


class _Reader(CalibrationDataReader):
    def __init__(self, images: np.ndarray) -> None:
        self._images = iter(images)

    def get_next(self) -> dict[str, np.ndarray] | None:
        image = next(self._images, None)
        return None if image is None else {"image": image[np.newaxis]}


def quantize(model: onnx.ModelProto, images: np.ndarray) -> onnx.ModelProto:
    """See `edge_all.export.quantize.schemes.quantize`."""
    logging.getLogger().setLevel(logging.ERROR)  # it advises to fold BatchNorm, which torch's exporter has done
    with tempfile.TemporaryDirectory() as folder:
        given, made = Path(folder, "fp32.onnx"), Path(folder, "int8.onnx")
        onnx.save(model, given)  # given the model itself, it would move its weights into a file of its own
        quantize_static(
            given,
            made,
            _Reader(images),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            nodes_to_exclude=float_nodes(model),
        )
        return onnx.load(made)
