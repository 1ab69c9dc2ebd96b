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

from edge_all.progress import Progress, ignore

from ..graph.names import IMAGE
from .schemes import float_nodes


class _Reader(CalibrationDataReader):  # type: ignore[misc]  # ONNX Runtime has no types
    """Gives the calibration images one by one."""

    def __init__(self, images: np.ndarray, progress: Progress) -> None:
        self._images, self._count, self._progress = enumerate(images, 1), len(images), progress

    def get_next(self) -> dict[str, np.ndarray] | None:
        number, image = next(self._images, (0, None))
        if image is None:
            return None
        self._progress(number, self._count)
        return {IMAGE: image[np.newaxis]}


def quantize(model: onnx.ModelProto, images: np.ndarray, progress: Progress = ignore) -> onnx.ModelProto:
    """See `edge_all.export.quantize.schemes.quantize`."""
    logging.getLogger().setLevel(logging.ERROR)  # it advises to fold BatchNorm, which is done
    with tempfile.TemporaryDirectory() as folder:
        fp32, int8 = Path(folder, "fp32.onnx"), Path(folder, "int8.onnx")
        onnx.save(model, fp32)  # from a model in memory it would move the weights into a file beside it
        quantize_static(
            fp32,
            int8,
            _Reader(images, progress),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            nodes_to_exclude=float_nodes(model),
        )
        return onnx.load(int8)
