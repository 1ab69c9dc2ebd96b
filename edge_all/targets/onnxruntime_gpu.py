"""Target ``gpu``: ONNX Runtime's CUDA execution provider."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path

import onnxruntime as ort

from edge_all.errors import TargetError
from edge_all.targets.onnxruntime_cpu import OnnxRuntimeEngine

PROVIDER = "CUDAExecutionProvider"


def open_engine(model: bytes, device: str | None, threads: int | None, streams: int) -> OnnxRuntimeEngine:
    """Load a graph; its description tells how many nodes ONNX Runtime left to the CPU."""
    check_available()
    with tempfile.TemporaryDirectory() as folder:
        engine = OnnxRuntimeEngine(model, PROVIDER, threads, profile=Path(folder, "nodes"))
        engine.description += f", {left_to_cpu(engine.count_nodes())}"
    return engine


def left_to_cpu(nodes: Mapping[tuple[str, str], int]) -> str:
    """In words, how many of the nodes that ran, by (provider, operator), did not run on the GPU."""
    elsewhere = {kind: count for (provider, kind), count in sorted(nodes.items()) if provider != PROVIDER}
    kinds = ", ".join(f"{count} {kind}" for kind, count in elsewhere.items())
    return f"{sum(elsewhere.values())} of {sum(nodes.values())} nodes on the CPU" + (f" ({kinds})" if kinds else "")


def check_available() -> None:
    """Whether this ONNX Runtime was built with CUDA; that a GPU answers shows when the graph is loaded."""
    if PROVIDER not in ort.get_available_providers():
        raise TargetError(
            f"target gpu needs ONNX Runtime's {PROVIDER}, and this one has {', '.join(ort.get_available_providers())}: "
            "pip uninstall onnxruntime && pip install onnxruntime-gpu"
        )
