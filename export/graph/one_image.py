"""A graph on OpenVINO for one image at a time, as target ``openvino`` compiles it: for measuring."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import openvino as ov

OPTIONS = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}


def request(model: bytes | Path, **more: Any) -> tuple[ov.InferRequest, list[int]]:
    """Compile a graph of one input for a first dimension of 1.

    Args:
        model: An ONNX file, or its bytes.
        more: Further properties of OpenVINO's CPU device.

    Returns:
        A request, and the input's shape.
    """
    import openvino as ov

    core = ov.Core()
    graph = core.read_model(model)
    shape = [1, *(side.get_length() for side in list(graph.input(0).partial_shape)[1:])]
    graph.reshape({graph.input(0): shape})
    return core.compile_model(graph, "CPU", OPTIONS | more).create_infer_request(), shape
