"""Engines that run a backbone over many images at a time (never eager torch)."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from edge_all import parallel
from edge_all.machine import usable_cores

from .graph.names import FEATURES, IMAGE

Runner = Callable[[Sequence[np.ndarray]], list[np.ndarray]]
"""Gives the features, ``float32 [C]`` each, of images ``uint8 [H, W, 3]``."""


def engine_of(target: str) -> str:
    """The engine that computes features for a target here: OpenVINO for ``openvino``, else ONNX Runtime's CPU."""
    return target if target in _OPEN else "cpu"


def open_runner(engine: str, graph: bytes) -> Runner:
    """Compile a backbone's ONNX file for one of the engines of `engine_of`."""
    return _OPEN[engine](graph)


def _openvino(graph: bytes) -> Runner:
    """As many images in flight as OpenVINO wants."""
    import openvino as ov

    core = ov.Core()
    model = core.read_model(io.BytesIO(graph))
    model.reshape([1, *model.input(0).partial_shape[1:]])
    options = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "THROUGHPUT"}
    queue = ov.AsyncInferQueue(core.compile_model(model, "CPU", options))

    def run(images: Sequence[np.ndarray]) -> list[np.ndarray]:
        rows: dict[int, np.ndarray] = {}
        queue.set_callback(lambda request, i: rows.__setitem__(i, request.get_output_tensor(0).data[0].copy()))
        for i, pixels in enumerate(images):
            queue.start_async({IMAGE: pixels[np.newaxis]}, i)
        queue.wait_all()
        return [rows[i] for i in range(len(images))]

    return run


def _onnxruntime(graph: bytes) -> Runner:
    """One image on each core: small graphs gain little from a second core."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])

    def features(pixels: np.ndarray) -> np.ndarray:
        return np.asarray(session.run([FEATURES], {IMAGE: pixels[np.newaxis]})[0][0])

    return partial(parallel.each, features, threads=usable_cores())


_OPEN: dict[str, Callable[[bytes], Runner]] = {"openvino": _openvino, "cpu": _onnxruntime}
