"""Engines that run a bundle's graph. A target that is not there is an error, never a silent fallback.

One file an engine; `open_engine` imports only the one that is asked for.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from edge_all.errors import TargetError

_MODULES = {"cpu": "onnxruntime_cpu", "gpu": "onnxruntime_gpu", "openvino": "openvino"}

TARGETS = tuple(_MODULES)


class Answers(NamedTuple):
    """What a graph gave for a batch.

    Attributes:
        probabilities: ``float32 [N, K]``.
        unfamiliarity: ``float32 [N]``, above 1 where a picture is not like the training images; None where the graph
            does not tell.
    """

    probabilities: npt.NDArray[np.float32]
    unfamiliarity: npt.NDArray[np.float32] | None


class Engine(Protocol):
    """A loaded graph. As many threads may run it at once as it was opened with streams.

    Attributes:
        description: Engine, version and device that it really runs on.
    """

    description: str

    def run(self, images: npt.NDArray[np.uint8]) -> Answers:
        """Answer a batch ``uint8 [N, H, W, 3]``."""
        ...


def open_engine(
    target: str, model: bytes, *, device: str | None = None, threads: int | None = None, streams: int = 1
) -> Engine:
    """Load a fused graph into the engine of `target`.

    Args:
        target: One of `TARGETS`.
        model: The ONNX file's bytes.
        device: OpenVINO device (``CPU``, ``GPU``, ``NPU``); only target ``openvino`` has a choice.
        threads: Threads for all inferences together; None leaves it to the engine, which takes the physical cores.
        streams: Inferences at once: 1 answers one image soonest, more answer many images soonest.

    Raises:
        TargetError: The engine or the device is not there, with what to install; or it refuses the graph.
    """
    if device is not None and target != "openvino":
        raise TargetError(f"--device {device} was given for target {target}; only target openvino has devices")
    engine: Engine = _module(target).open_engine(model, device, threads, streams)
    return engine


def check_available(target: str, precision: str | None = None) -> None:
    """Say whether the engine of `target` is there, without loading a graph.

    Args:
        target: One of `TARGETS`.
        precision: Of the graph it is to run; None is any.

    Raises:
        TargetError: It is not; the message says what to install.
    """
    _module(target).check_available(precision)


def _module(target: str) -> Any:
    if target not in _MODULES:
        raise TargetError(f"target {target!r} does not exist; wanted one of {', '.join(TARGETS)}")
    return import_module(f"edge_all.targets.{_MODULES[target]}")
