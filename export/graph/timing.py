"""Run and time backbones in a process of its own: some quantized graphs kill an engine, and the process with it.

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
from typing import Any

import numpy as np
import onnx

from . import one_image

_PROGRAM = ("-m", __name__)
_ROUNDS, _QUERIES, _SECONDS = 12, 4, 8.0


def times(target: str, graphs: Sequence[onnx.ModelProto]) -> list[float]:
    """Median time of each graph for one image, alternating, on this machine.

    For OpenVINO each is also compiled for throughput, as `edge_all.export.features` does it: ONNX Runtime's own
    quantization of DenseNet121 survives the one and not the other.

    Args:
        target: ``cpu`` or ``openvino``.
        graphs: Backbones ``uint8 [N, H, W, 3]`` to ``float32 [N, C]``.

    Returns:
        Milliseconds.

    Raises:
        RuntimeError: The process died, or the engine refused a graph.
    """
    with tempfile.TemporaryDirectory() as folder:
        files = [str(Path(folder, f"{i}.onnx")) for i in range(len(graphs))]
        for graph, file in zip(graphs, files, strict=True):
            onnx.save(graph, file)
        job = json.dumps({"target": target, "files": files})
        done = subprocess.run([sys.executable, *_PROGRAM], input=job, capture_output=True, text=True)
    if done.returncode < 0:
        raise RuntimeError(f"it kills the engine by signal {-done.returncode}")
    if done.returncode:
        raise RuntimeError((done.stderr.strip().splitlines() or ["no message"])[-1])
    return [float(value) for value in json.loads(done.stdout.splitlines()[-1])]


def _main() -> None:
    job = json.load(sys.stdin)
    opened = [_OPEN[job["target"]](file) for file in job["files"]]
    for ask in opened:
        for _ in range(3):
            ask()
    taken: list[list[float]] = [[] for _ in opened]
    end = time.perf_counter() + _SECONDS
    for turn in range(_ROUNDS):
        for ask, samples in zip(opened, taken, strict=True):
            ask()
            for _ in range(_QUERIES):
                start = time.perf_counter()
                ask()
                samples.append((time.perf_counter() - start) * 1e3)
        if turn and time.perf_counter() > end:
            break
    print(json.dumps([statistics.median(samples) for samples in taken]))


def _onnxruntime(file: str) -> Callable[[], Any]:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 3
    session = ort.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    image = _image(session.get_inputs()[0].shape[1:])
    return lambda: session.run(None, {"image": image})


def _openvino(file: str) -> Callable[[], Any]:
    request, shape = one_image.request(Path(file), PERFORMANCE_HINT="THROUGHPUT")
    image = _image(shape[1:])
    request.infer({0: image})
    request, _ = one_image.request(Path(file))
    return lambda: request.infer({0: image}, share_inputs=True)


def _image(shape: Sequence[int]) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (1, *shape), dtype=np.uint8)


_OPEN: dict[str, Callable[[str], Callable[[], Any]]] = {"cpu": _onnxruntime, "openvino": _openvino}


if __name__ == "__main__":
    _main()
