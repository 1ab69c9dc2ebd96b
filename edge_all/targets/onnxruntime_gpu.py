"""Target ``gpu``: ONNX Runtime's CUDA execution provider, and TensorRT's for a graph in 8 bits."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Mapping
from pathlib import Path

import onnxruntime as ort

from edge_all import cache
from edge_all.errors import TargetError
from edge_all.targets import EngineOptions, engine_cache
from edge_all.targets.onnxruntime_cpu import OnnxRuntimeEngine, ProviderOptions

CUDA, TENSORRT = "CUDAExecutionProvider", "TensorrtExecutionProvider"

_FATAL_ONLY = 4  # ONNX Runtime's severity level

_SMALLEST = (
    b'\x08\x08:7\n\x10\n\x01x\x12\x01y"\x08Identity\x12\x01gZ\x0f\n\x01x\x12\n\n\x08\x08\x01\x12\x04\n\x02\x08\x01'
    b"b\x0f\n\x01y\x12\n\n\x08\x08\x01\x12\x04\n\x02\x08\x01B\x04\n\x00\x10\x11"
)
"""An ONNX file with a single Identity."""


def open_engine(model: bytes, options: EngineOptions) -> OnnxRuntimeEngine:
    """Load a graph; the engine's description says how many nodes ONNX Runtime left to the CPU."""
    precision = "int8" if b"QuantizeLinear" in model else None
    check_available(precision)
    providers, cached = _providers(model, precision, options.reuse)
    try:
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            engine = OnnxRuntimeEngine(model, providers, options.threads, profile=Path(folder, "nodes"))
            engine.description += f", {left_to_cpu(engine.count_nodes())}"
    except (OSError, ValueError):  # there is no place to write to, so the nodes are not counted
        engine = OnnxRuntimeEngine(model, providers, options.threads)
    engine.cached = cached
    return engine


def _providers(model: bytes, precision: str | None, reuse: bool) -> tuple[dict[str, ProviderOptions], str | None]:
    """Execution providers in the order of preference, with options, and the SHA-256 of the cached engine of TensorRT.

    TF32 is off, because it has only three significant digits. TensorRT needs minutes to build an engine and caches it:
    https://onnxruntime.ai/docs/execution-providers/TensorRT-ExecutionProvider.html
    """
    cuda: dict[str, ProviderOptions] = {CUDA: {"use_tf32": False}}
    if precision != "int8":
        return cuda, None
    tensorrt: dict[str, bool | str] = {"trt_int8_enable": True}
    name = engine_cache.place("tensorrt", model, {})
    folder, cached = cache.folder(name), None
    if folder:
        cached = _digest(name, folder) if reuse else None
        if not cached:
            for file in folder.iterdir():
                cache.remove(f"{name}/{file.name}")
        tensorrt |= {"trt_engine_cache_enable": True, "trt_engine_cache_path": str(folder)}
    return {TENSORRT: tensorrt} | cuda, cached


def _digest(name: str, folder: Path) -> str | None:
    """SHA-256 of the files in a folder of the cache; None where there are none, or one that cannot be used."""
    contents = [cache.load(f"{name}/{file.name}", engine_cache.MOST_BYTES) for file in sorted(folder.iterdir())]
    if not contents or None in contents:
        return None
    return hashlib.sha256(b"".join(content for content in contents if content)).hexdigest()


def left_to_cpu(nodes: Mapping[tuple[str, str], int]) -> str:
    """Say how many nodes did not run on the GPU.

    Args:
        nodes: How many nodes ran, by execution provider and operator.
    """
    elsewhere = {kind: count for (provider, kind), count in sorted(nodes.items()) if provider not in (CUDA, TENSORRT)}
    kinds = ", ".join(f"{count} {kind}" for kind, count in elsewhere.items())
    return f"{sum(elsewhere.values())} of {sum(nodes.values())} nodes on the CPU" + (f" ({kinds})" if kinds else "")


def check_available(precision: str | None = None) -> None:
    """Check that this ONNX Runtime was built with CUDA and, for INT8, that TensorRT starts."""
    have = ort.get_available_providers()
    if CUDA not in have:
        raise TargetError(
            f"target gpu needs ONNX Runtime's {CUDA}, and this one has {', '.join(have)}: "
            "pip uninstall onnxruntime && pip install onnxruntime-gpu"
        )
    if precision == "int8" and not (TENSORRT in have and _starts(TENSORRT)):
        raise TargetError(
            f"INT8 on target gpu needs ONNX Runtime's {TENSORRT}, and that does not start here: "
            "use --precision fp16, or install TensorRT"
        )


def _starts(provider: str) -> bool:
    """Whether a session can use a provider: ONNX Runtime also lists those whose libraries are missing."""
    options = ort.SessionOptions()
    options.log_severity_level = _FATAL_ONLY
    session = ort.InferenceSession(_SMALLEST, options, providers=[provider], enable_fallback=0)
    return bool(session.get_providers()[0] == provider)
