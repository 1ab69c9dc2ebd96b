"""Target ``openvino``: OpenVINO on its CPU, GPU or NPU device."""

from __future__ import annotations

import io

import numpy as np
import numpy.typing as npt

from edge_all.errors import TargetError

try:
    import openvino as ov
except ImportError:
    raise TargetError('target openvino is not installed: pip install "edge-all[openvino]"') from None


class OpenVinoEngine:
    """A graph compiled by OpenVINO for one device.

    Float parts run in float32 (INFERENCE_PRECISION_HINT): on CPUs with AMX, OpenVINO would otherwise take bfloat16
    for them without a word, and the head needs all its digits. It is compiled for exactly one image, which takes a
    quarter to a third off the time of a graph of any batch size; a batch is answered image by image.

    Reference: https://docs.openvino.ai/2025/openvino-workflow/running-inference.html
    """

    def __init__(self, model: bytes, device: str, threads: int | None) -> None:
        core = ov.Core()
        available = core.available_devices
        if device.split(".")[0] not in {name.split(".")[0] for name in available}:
            raise TargetError(f"OpenVINO finds no device {device} here; it finds {', '.join(available) or 'none'}")
        options: dict[str, str | int] = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
        if threads is not None and device == "CPU":
            options["INFERENCE_NUM_THREADS"] = threads
        try:
            graph = core.read_model(io.BytesIO(model))
            graph.reshape([1, *list(graph.input("image").partial_shape)[1:]])
            compiled = core.compile_model(graph, device, options)
        except RuntimeError as error:
            reason = " ".join(str(error).split())[-300:]
            raise TargetError(f"OpenVINO refuses the graph on device {device}: {reason}") from error
        self._request = compiled.create_infer_request()
        self._output = compiled.output("probabilities")
        self.description = f"openvino {ov.get_version().split('-')[0]} {device}"

    def run(self, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        answers = [
            np.array(self._request.infer({"image": image[np.newaxis]}, share_inputs=True)[self._output])
            for image in images
        ]
        return np.concatenate(answers)


def open_engine(model: bytes, device: str | None, threads: int | None) -> OpenVinoEngine:
    return OpenVinoEngine(model, device or "CPU", threads)


def check_available() -> None:
    """Importing this file has shown that OpenVINO is installed; it always has a CPU device."""
