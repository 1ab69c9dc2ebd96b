"""Target ``gpu``: ONNX Runtime's CUDA execution provider."""

from __future__ import annotations

import onnxruntime as ort

from edge_all.errors import TargetError
from edge_all.targets.onnxruntime_cpu import OnnxRuntimeEngine

PROVIDER = "CUDAExecutionProvider"


def open_engine(model: bytes, device: str | None, threads: int | None, streams: int) -> OnnxRuntimeEngine:
    check_available()
    return OnnxRuntimeEngine(model, PROVIDER, threads)


def check_available() -> None:
    """Whether this ONNX Runtime was built with CUDA; that a GPU answers shows when the graph is loaded."""
    if PROVIDER not in ort.get_available_providers():
        raise TargetError(
            f"target gpu needs ONNX Runtime's {PROVIDER}, and this one has {', '.join(ort.get_available_providers())}: "
            "pip uninstall onnxruntime && pip install onnxruntime-gpu"
        )
