"""Run and time backbones in another process: some quantized graphs crash an engine, and the process with it.

A program too: ``python -m edge_all.export.graph.timing`` reads a job as JSON from stdin and writes the medians to
stdout.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx

from .names import IMAGE

if TYPE_CHECKING:
    import openvino as ov

OPTIONS = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
"""Properties of OpenVINO's CPU device, as target ``openvino`` sets them for one image at a time."""

_PROGRAM = ("-P", "-m", __name__)  # -P: no module is taken from the current folder
_ROUNDS, _QUERIES, _SECONDS = 12, 4, 8.0

Query = Callable[[], object]
"""Runs a graph once."""


def times(target: str, graphs: Sequence[onnx.ModelProto]) -> list[float]:
    """Median time of each graph for one image, in alternation, on this machine.

    For OpenVINO each graph is also compiled and run for throughput, as `edge_all.export.features` does it: ONNX
    Runtime's own quantization of DenseNet121 runs compiled for latency, and crashes OpenVINO compiled for throughput.

    Args:
        target: ``cpu`` or ``openvino``.
        graphs: Backbones ``uint8 [N, H, W, 3]`` to ``float32 [N, C]``.

    Returns:
        Milliseconds.

    Raises:
        RuntimeError: The process crashed, or the engine refused a graph.
    """
    with tempfile.TemporaryDirectory() as folder:
        files = [str(Path(folder, f"{i}.onnx")) for i in range(len(graphs))]
        for graph, file in zip(graphs, files, strict=True):
            onnx.save(graph, file)
        job = json.dumps({"target": target, "files": files})
        done = subprocess.run([sys.executable, *_PROGRAM], input=job, capture_output=True, text=True)
    if done.returncode < 0:
        raise RuntimeError(f"it crashes the engine with signal {-done.returncode}")
    if done.returncode:
        raise RuntimeError((done.stderr.strip().splitlines() or ["no message"])[-1])
    return [float(value) for value in json.loads(done.stdout.splitlines()[-1])]


def request(model: bytes | Path, **properties: str | int) -> tuple[ov.InferRequest, list[int]]:
    """Compile a graph of one input for one image at a time, on OpenVINO's CPU device.

    Args:
        model: An ONNX file, or its bytes.
        **properties: Further properties of the device.

    Returns:
        A request, and the input's shape, with 1 as its first dimension.
    """
    import openvino as ov

    core = ov.Core()
    graph = core.read_model(model)
    shape = [1, *(side.get_length() for side in list(graph.input(0).partial_shape)[1:])]
    graph.reshape({graph.input(0): shape})
    return core.compile_model(graph, "CPU", OPTIONS | properties).create_infer_request(), shape


def _main() -> None:
    job = json.load(sys.stdin)
    queries = [_OPEN[job["target"]](file) for file in job["files"]]
    for query in queries:
        for _ in range(3):
            query()
    taken: list[list[float]] = [[] for _ in queries]
    end = time.perf_counter() + _SECONDS
    for turn in range(_ROUNDS):
        for query, samples in zip(queries, taken, strict=True):
            query()
            for _ in range(_QUERIES):
                start = time.perf_counter()
                query()
                samples.append((time.perf_counter() - start) * 1e3)
        if turn and time.perf_counter() > end:
            break
    print(json.dumps([statistics.median(samples) for samples in taken]))


def _onnxruntime(file: str) -> Query:
    import onnxruntime as ort

    from edge_all.targets.onnxruntime_cpu import NO_SPINNING

    options = ort.SessionOptions()
    options.log_severity_level = 3
    # Each session has threads of its own: waiting busily, those of one graph would take the cores from the next, which
    # would seem slower by up to a half.
    options.add_session_config_entry(*NO_SPINNING)
    session = ort.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    image = _image(session.get_inputs()[0].shape[1:])
    return lambda: session.run(None, {IMAGE: image})


def _openvino(file: str) -> Query:
    throughput, shape = request(Path(file), PERFORMANCE_HINT="THROUGHPUT")
    image = _image(shape[1:])
    throughput.infer({0: image})
    latency, _ = request(Path(file))
    return lambda: latency.infer({0: image}, share_inputs=True)


def _image(shape: Sequence[int]) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (1, *shape), dtype=np.uint8)


_OPEN: dict[str, Callable[[str], Query]] = {"cpu": _onnxruntime, "openvino": _openvino}


if __name__ == "__main__":
    _main()
