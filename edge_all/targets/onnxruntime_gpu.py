"""Target ``gpu``: ONNX Runtime's CUDA execution provider, and TensorRT's for a graph in 8 bits."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import onnxruntime as ort

from edge_all import cache
from edge_all.errors import TargetError
from edge_all.targets.onnxruntime_cpu import OnnxRuntimeEngine

CUDA, TENSORRT = "CUDAExecutionProvider", "TensorrtExecutionProvider"


def open_engine(model: bytes, device: str | None, threads: int | None, streams: int) -> OnnxRuntimeEngine:
    """Load a graph; its description tells how many nodes ONNX Runtime left to the CPU."""
    precision = "int8" if b"QuantizeLinear" in model else None
    check_available(precision)
    with tempfile.TemporaryDirectory() as folder:
        engine = OnnxRuntimeEngine(model, _providers(precision), threads, profile=Path(folder, "nodes"))
        engine.description += f", {left_to_cpu(engine.count_nodes())}"
    return engine


def _providers(precision: str | None) -> dict[str, dict[str, Any]]:
    """In ONNX Runtime's order of preference, with options.

    Float32 is float32: without TF32, which has three digits. TensorRT builds an engine for minutes, and keeps it:
    https://onnxruntime.ai/docs/execution-providers/TensorRT-ExecutionProvider.html
    """
    cuda = {CUDA: {"use_tf32": False}}
    if precision != "int8":
        return cuda
    kept = cache.folder("engines") / "tensorrt"
    kept.mkdir(parents=True, exist_ok=True)
    options = {"trt_int8_enable": True, "trt_engine_cache_enable": True, "trt_engine_cache_path": str(kept)}
    return {TENSORRT: options} | cuda


def left_to_cpu(nodes: Mapping[tuple[str, str], int]) -> str:
    """In words, how many of the nodes that ran, by (provider, operator), did not run on the GPU."""
    elsewhere = {kind: count for (provider, kind), count in sorted(nodes.items()) if provider not in (CUDA, TENSORRT)}
    kinds = ", ".join(f"{count} {kind}" for kind, count in elsewhere.items())
    return f"{sum(elsewhere.values())} of {sum(nodes.values())} nodes on the CPU" + (f" ({kinds})" if kinds else "")


def check_available(precision: str | None = None) -> None:
    """Whether this ONNX Runtime was built for it; that a GPU answers shows when the graph is loaded."""
    have = ort.get_available_providers()
    if CUDA not in have:
        raise TargetError(
            f"target gpu needs ONNX Runtime's {CUDA}, and this one has {', '.join(have)}: "
            "pip uninstall onnxruntime && pip install onnxruntime-gpu"
        )
    if precision == "int8" and TENSORRT not in have:
        raise TargetError(
            f"INT8 on target gpu needs ONNX Runtime's {TENSORRT}, and this one has {', '.join(have)}: "
            "use --precision fp16, or install TensorRT"
        )
