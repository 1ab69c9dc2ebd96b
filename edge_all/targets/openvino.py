"""Target ``openvino``: OpenVINO on its CPU, GPU or NPU device."""

from __future__ import annotations

import io
from collections.abc import Mapping
from queue import SimpleQueue

import numpy as np
import numpy.typing as npt

from edge_all.errors import TargetError
from edge_all.targets import Answers, engine_cache

try:
    import openvino as ov
except ImportError:
    raise TargetError('target openvino is not installed: pip install "edge-all[openvino]"') from None


_WANTED = ("probabilities", "unfamiliarity")
"""The label follows from the probabilities; left to the engine it takes a fifth of the head's time."""

_REQUESTS_PER_STREAM = 2
"""On another device than the CPU, so that a stream has its next image while the answer to its last one is taken."""


class OpenVinoEngine:
    """A graph compiled by OpenVINO for one device.

    Float parts run in float32 (INFERENCE_PRECISION_HINT): on CPUs with AMX, OpenVINO would otherwise take bfloat16
    for them without a word, and the head needs all its digits. It is compiled for exactly one image, which takes a
    quarter to a third off the time of a graph of any batch size; a batch is answered image by image.

    Reference: https://docs.openvino.ai/2025/openvino-workflow/running-inference.html
    """

    def __init__(self, model: bytes, device: str, threads: int | None, streams: int) -> None:
        core = ov.Core()
        available = core.available_devices
        if device.split(".")[0] not in {name.split(".")[0] for name in available}:
            raise TargetError(f"OpenVINO finds no device {device} here; it finds {', '.join(available) or 'none'}")
        options: dict[str, str | int] = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
        copies, requests = 1, 1
        if streams > 1 and device == "CPU":
            # A graph for each caller, run by the caller's own thread: nothing is handed over, and it decodes as well.
            copies = min(streams, threads or streams)
            options |= {"INFERENCE_NUM_THREADS": 1, "ENABLE_CPU_PINNING": False}
        elif streams > 1:
            requests = _REQUESTS_PER_STREAM * streams
            options |= {"PERFORMANCE_HINT": "THROUGHPUT", "NUM_STREAMS": streams}
        elif threads is not None and device == "CPU":
            options["INFERENCE_NUM_THREADS"] = threads
        self._requests: SimpleQueue[_Bound] = SimpleQueue()
        try:
            for _ in range(copies):
                compiled = _compiled(core, model, device, options)
                for _ in range(requests):
                    self._requests.put(_Bound(compiled))
        except RuntimeError as error:
            reason = " ".join(str(error).split())[-300:]
            raise TargetError(f"OpenVINO refuses the graph on device {device}: {reason}") from error
        self.description = f"openvino {ov.get_version().split('-')[0]} {device}"

    def run(self, images: npt.NDArray[np.uint8]) -> Answers:
        request = self._requests.get()
        try:
            if len(images) == 1:
                return request.run(images)
            answers = [request.run(images[i : i + 1]) for i in range(len(images))]
        finally:
            self._requests.put(request)
        far = [answer.unfamiliarity for answer in answers if answer.unfamiliarity is not None]
        return Answers(
            np.concatenate([answer.probabilities for answer in answers]), np.concatenate(far) if far else None
        )


class _Bound:
    """An inference request with its outputs bound once, and its input for as long as that is the same array."""

    def __init__(self, compiled: ov.CompiledModel) -> None:
        self._request = compiled.create_infer_request()
        self._image: npt.NDArray[np.uint8] | None = None
        self._probabilities = self._request.get_tensor("probabilities").data
        told = any("unfamiliarity" in output.names for output in compiled.outputs)
        self._unfamiliarity = self._request.get_tensor("unfamiliarity").data if told else None

    def run(self, image: npt.NDArray[np.uint8]) -> Answers:
        """Answer one image, ``uint8 [1, H, W, 3]``, which is read where it is."""
        if image is not self._image:
            plain = np.require(image, requirements=("C", "W"))  # a copy only where OpenVINO cannot read it
            self._request.set_tensor("image", ov.Tensor(plain, shared_memory=True))
            self._image = plain  # held here: the tensor does not keep it from being freed
        self._request.infer(share_outputs=True)
        far = None if self._unfamiliarity is None else self._unfamiliarity.copy()
        return Answers(self._probabilities.copy(), far)


def _compiled(core: ov.Core, model: bytes, device: str, options: Mapping[str, str | int]) -> ov.CompiledModel:
    """Compile for one image, or take what an earlier process compiled here."""
    kept = engine_cache.place("openvino", model, {**options, "device": device, "outputs": " ".join(_WANTED)})
    known = engine_cache.recall(kept)
    if known is not None:
        try:
            return core.import_model(known, device, options)
        except RuntimeError:  # written by an OpenVINO that this one does not understand
            kept.unlink(missing_ok=True)
    graph = core.read_model(io.BytesIO(model))
    for result in graph.get_results():
        if not result.output(0).names.intersection(_WANTED):
            graph.remove_result(result)
    graph.reshape([1, *list(graph.input("image").partial_shape)[1:]])
    compiled = core.compile_model(graph, device, options)
    if "EXPORT_IMPORT" in core.get_property(device, "OPTIMIZATION_CAPABILITIES"):
        engine_cache.keep(kept, compiled.export_model().getvalue())
    return compiled


def open_engine(model: bytes, device: str | None, threads: int | None, streams: int) -> OpenVinoEngine:
    return OpenVinoEngine(model, device or "CPU", threads, streams)


def check_available(precision: str | None = None) -> None:
    """Importing this file has shown that OpenVINO is installed; it always has a CPU device."""
