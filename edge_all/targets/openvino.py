"""Target ``openvino``: OpenVINO on its CPU, GPU or NPU device."""

from __future__ import annotations

import io
from collections.abc import Mapping
from queue import SimpleQueue

import numpy as np
import numpy.typing as npt

from edge_all import cache
from edge_all.errors import TargetError, in_one_line, install_hint
from edge_all.targets import Answers, EngineOptions, engine_cache

try:
    import openvino as ov
except ImportError:
    raise TargetError(f"target openvino is not installed: {install_hint('openvino')}") from None


_WANTED = Answers._fields
"""The label follows from the probabilities; in the engine it would take a fifth of the head's time."""

_REQUESTS_PER_STREAM = 2
"""On devices other than the CPU, so that a stream can start its next image while the last answer is being read."""


class OpenVinoEngine:
    """A graph compiled by OpenVINO for one device.

    Float parts run in float32 (INFERENCE_PRECISION_HINT): on CPUs with AMX, OpenVINO would otherwise use bfloat16
    without saying so, which is not precise enough for the head. The graph is compiled for a batch of one, which saves a
    quarter to a third of the time against a variable batch size; a larger batch is answered image by image.

    Reference: https://docs.openvino.ai/2025/openvino-workflow/running-inference.html
    """

    def __init__(self, model: bytes, options: EngineOptions) -> None:
        core, device = ov.Core(), options.device or "CPU"
        threads, streams = options.threads, options.streams
        available = core.available_devices
        if device.split(".")[0] not in {name.split(".")[0] for name in available}:
            raise TargetError(f"OpenVINO finds no device {device} here; it finds {', '.join(available) or 'none'}")
        settings: dict[str, str | int] = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
        copies, requests = 1, 1
        if streams > 1 and device == "CPU":
            # A compiled graph for each caller, run by the caller's own thread, which decodes its image as well.
            copies = min(streams, threads or streams)
            settings |= {"INFERENCE_NUM_THREADS": 1, "ENABLE_CPU_PINNING": False}
        elif streams > 1:
            requests = _REQUESTS_PER_STREAM * streams
            settings |= {"PERFORMANCE_HINT": "THROUGHPUT", "NUM_STREAMS": streams}
        elif threads is not None and device == "CPU":
            # Not pinned: each process would take the first cores, and several would share them while others are idle.
            settings |= {"INFERENCE_NUM_THREADS": threads, "ENABLE_CPU_PINNING": False}
        self._requests: SimpleQueue[_Bound] = SimpleQueue()
        digests: list[str | None] = []
        try:
            for i in range(copies):
                compiled, digest = _compiled(core, model, device, settings, options.reuse or i > 0)
                digests.append(digest)
                for _ in range(requests):
                    self._requests.put(_Bound(compiled))
        except Exception as error:  # UnicodeDecodeError too, of a name in its own message
            raise TargetError(f"OpenVINO refuses the graph on device {device}: {in_one_line(error)[-300:]}") from error
        self.cached = digests[0]
        self.description = f"openvino {ov.get_version().split('-')[0]} {device}"

    def run(self, images: npt.NDArray[np.uint8]) -> Answers:
        request = self._requests.get()
        try:
            if len(images) == 1:
                return request.run(images)
            answers = [request.run(images[i : i + 1]) for i in range(len(images))]
        except Exception as error:
            raise TargetError(f"OpenVINO failed to run the graph: {in_one_line(error)[-300:]}") from error
        finally:
            self._requests.put(request)
        given = [answer._asdict() for answer in answers]
        there = [name for name, values in given[0].items() if values is not None]
        return Answers(**{name: np.concatenate([each[name] for each in given]) for name in there})


class _Bound:
    """An inference request whose outputs are bound once, and whose input is bound again only for another array."""

    def __init__(self, compiled: ov.CompiledModel) -> None:
        self._request = compiled.create_infer_request()
        self._image: npt.NDArray[np.uint8] | None = None
        there = {name for output in compiled.outputs for name in output.names}
        self._bound = {name: self._request.get_tensor(name).data for name in _WANTED if name in there}

    def run(self, image: npt.NDArray[np.uint8]) -> Answers:
        """Answer one image, ``uint8 [1, H, W, 3]``; its memory is read in place."""
        if image is not self._image:
            plain = np.require(image, requirements=("C", "W"))  # a copy only where OpenVINO cannot read it
            self._request.set_tensor("image", ov.Tensor(plain, shared_memory=True))
            self._image = plain  # the tensor holds no reference that would keep the memory alive
        self._request.infer(share_outputs=True)
        return Answers(**{name: values.copy() for name, values in self._bound.items()})


def _compiled(
    core: ov.Core, model: bytes, device: str, settings: Mapping[str, str | int], reuse: bool
) -> tuple[ov.CompiledModel, str | None]:
    """Compile a graph for one image, or load what an earlier process compiled on this machine.

    Returns:
        The compiled graph, and its SHA-256 if it was loaded from the cache.
    """
    name = engine_cache.place("openvino", model, {**settings, "device": device, "outputs": " ".join(_WANTED)})
    if reuse and (cached := engine_cache.load_cached(name)):
        try:
            return core.import_model(cached.content, device, settings), cached.digest
        except Exception:  # another version of OpenVINO wrote it
            cache.remove(name)
    graph = core.read_model(io.BytesIO(model))
    for result in graph.get_results():
        if not result.output(0).names.intersection(_WANTED):
            graph.remove_result(result)
    graph.reshape([1, *list(graph.input("image").partial_shape)[1:]])
    compiled = core.compile_model(graph, device, settings)
    if "EXPORT_IMPORT" in core.get_property(device, "OPTIMIZATION_CAPABILITIES"):
        exported = compiled.export_model()  # bytes, or from OpenVINO 2025.1 on a stream
        engine_cache.store(name, exported if isinstance(exported, bytes) else exported.getvalue())
    return compiled, None


def open_engine(model: bytes, options: EngineOptions) -> OpenVinoEngine:
    return OpenVinoEngine(model, options)


def check_available(precision: str | None = None) -> None:
    """Nothing to check: importing this file needs OpenVINO, which always has a CPU device."""
