"""Measure one tool of peers.py in a process of its own, and print one JSON object.

peers.py starts it, with a folder in which it has put the models and the images' paths.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from edge_all import image

Run = Callable[[np.ndarray], np.ndarray]
"""From ``uint8 [1, H, W, 3]`` to ``float32 [C]``."""

WARM_UP = 20


def main() -> None:
    """Arguments: the folder, the model's file there, the engine, and the number of threads."""
    folder, model, engine, threads = Path(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4])
    asked = json.loads((folder / "images.json").read_text(encoding="utf-8"))
    size = asked["height"], asked["width"]
    encoded = [Path(path).read_bytes() for path in asked["images"]]
    run = ENGINES[engine](folder / model, size, threads)
    features = np.stack([run(image.decode(content, size)[np.newaxis]) for content in encoded])
    for content in encoded[:WARM_UP]:
        run(image.decode(content, size)[np.newaxis])
    whole, graph = [], []
    for content in encoded:
        begun = time.perf_counter()
        pixels = image.decode(content, size)[np.newaxis]
        decoded = time.perf_counter()
        run(pixels)
        ended = time.perf_counter()
        whole.append(1e3 * (ended - begun))
        graph.append(1e3 * (ended - decoded))
    times = {"whole_ms": statistics.median(whole), "features_ms": statistics.median(graph)}
    print(json.dumps(times | {"features": features.tolist()}))


def _openvino(model: Path, size: tuple[int, int], threads: int) -> Run:
    import openvino as ov

    from edge_all.export.graph import timing

    core = ov.Core()
    graph = core.read_model(model)
    graph.reshape([1, *size, 3])
    options: dict[str, Any] = {**timing.OPTIONS, "INFERENCE_NUM_THREADS": threads}
    request = core.compile_model(graph, "CPU", options).create_infer_request()

    def run(pixels: np.ndarray) -> np.ndarray:
        request.infer({0: pixels}, share_inputs=True)
        return np.array(request.get_output_tensor(0).data[0])

    return run


def _onnxruntime(model: Path, size: tuple[int, int], threads: int) -> Run:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    session = ort.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    return lambda pixels: np.asarray(session.run(None, {"image": pixels})[0][0])


def _litert(model: Path, size: tuple[int, int], threads: int) -> Run:
    from ai_edge_litert.interpreter import Interpreter

    interpreter: Any = Interpreter(model_path=str(model), num_threads=threads)
    interpreter.allocate_tensors()
    (taken,), (given,) = interpreter.get_input_details(), interpreter.get_output_details()

    def run(pixels: np.ndarray) -> np.ndarray:
        interpreter.set_tensor(taken["index"], pixels.astype(np.float32))
        interpreter.invoke()
        values = interpreter.get_tensor(given["index"])[0].reshape(given["shape"][1], -1)
        step, zero = given["quantization"]
        if step:  # the map is in 8 bits
            values = (values.astype(np.float32) - zero) * step
        return np.concatenate([values.mean(1), values.std(1)])

    return run


ENGINES: dict[str, Callable[[Path, tuple[int, int], int], Run]] = {
    "OpenVINO": _openvino,
    "ONNX Runtime": _onnxruntime,
    "LiteRT": _litert,
}


if __name__ == "__main__":
    main()
