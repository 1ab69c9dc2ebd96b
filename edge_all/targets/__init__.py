"""Engines that run a bundle's graph. A target that is not installed is an error, never a silent fallback.

There is one file for each engine; `open_engine` imports only the one that is asked for.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import NamedTuple, Protocol, cast

import numpy as np
import numpy.typing as npt

from edge_all.errors import TargetError

_MODULES = {"cpu": "onnxruntime_cpu", "gpu": "onnxruntime_gpu", "openvino": "openvino"}

TARGETS = tuple(_MODULES)


@dataclass(frozen=True)
class EngineOptions:
    """How a graph is run.

    Attributes:
        target: One of `TARGETS`.
        device: OpenVINO device (``CPU``, ``GPU``, ``NPU``); None is ``CPU``. Only target ``openvino`` has a choice.
        threads: Threads for all inferences together; None leaves it to the engine, which takes the physical cores.
        streams: Inferences at the same time: 1 answers one image soonest, more answer many images soonest.
        reuse: Whether what an earlier process compiled may be loaded from the cache.
        pauses: Whether images come one by one: the engine's threads then sleep between two, and do not wait busily.
    """

    target: str = "cpu"
    device: str | None = None
    threads: int | None = None
    streams: int = 1
    reuse: bool = True
    pauses: bool = False


DEFAULT = EngineOptions()


class Answers(NamedTuple):
    """What a graph gave for a batch.

    Attributes:
        probabilities: ``float32 [N, K]``.
        unfamiliarity: ``float32 [N]``, above 1 where a picture is not like the training images; None where the graph
            has no such output.
        deviation: ``float32 [N, J]``, what each image adds to the score of its run (`edge_all.drift`); None likewise.
    """

    probabilities: npt.NDArray[np.float32]
    unfamiliarity: npt.NDArray[np.float32] | None = None
    deviation: npt.NDArray[np.float32] | None = None


class Engine(Protocol):
    """A loaded graph. As many threads may run it at the same time as it was opened with streams.

    Attributes:
        description: Engine, version, and the device that it really runs on.
        cached: SHA-256 of what was loaded from the cache in place of the graph; None where the graph was compiled.
    """

    description: str
    cached: str | None

    def run(self, images: npt.NDArray[np.uint8]) -> Answers:
        """Answer a batch ``uint8 [N, H, W, 3]``.

        Raises:
            TargetError: The engine failed, for want of memory for instance.
        """
        ...


class _Module(Protocol):
    """What the file of an engine defines."""

    def open_engine(self, model: bytes, options: EngineOptions) -> Engine: ...

    def check_available(self, precision: str | None) -> None: ...


def open_engine(model: bytes, options: EngineOptions) -> Engine:
    """Load a fused graph into an engine.

    Args:
        model: The ONNX file's bytes.
        options: Which engine, and how it is to run.

    Raises:
        TargetError: The engine or the device is not there, with what to install; or it refuses the graph.
    """
    if options.device is not None and options.target != "openvino":
        raise TargetError(
            f"--device {options.device} was given for target {options.target}; only target openvino has devices"
        )
    return _module(options.target).open_engine(model, options)


def check_available(target: str, precision: str | None = None) -> None:
    """Check that the engine of `target` is there, without loading a graph.

    Args:
        target: One of `TARGETS`.
        precision: Of the graph that it is to run; None is any.

    Raises:
        TargetError: It is not there; the message says what to install.
    """
    _module(target).check_available(precision)


def _module(target: str) -> _Module:
    if target not in _MODULES:
        raise TargetError(f"target {target!r} does not exist; wanted one of {', '.join(TARGETS)}")
    return cast(_Module, import_module(f"edge_all.targets.{_MODULES[target]}"))
