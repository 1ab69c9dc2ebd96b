"""Target ``cpu``: ONNX Runtime's CPU execution provider."""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from edge_all import cache
from edge_all.errors import TargetError
from edge_all.targets import Answers, EngineOptions, engine_cache

ort.disable_telemetry_events()  # versions for Windows that do not know the variable which edge_all/__init__.py sets

PROVIDER = "CPUExecutionProvider"

ProviderOptions = Mapping[str, bool | str]
"""Options of an execution provider, by name."""

_ERRORS_ONLY = 3  # ONNX Runtime's severity level; its warnings about hardware discovery do not help the user

NO_SPINNING = ("session.force_spinning_stop", "1")
"""Its threads sleep between two images: waiting busily, they take a third of a core when images come 15 a second."""


class OnnxRuntimeEngine:
    """A graph in ONNX Runtime on exactly the provider that was asked for.

    Reference: https://onnxruntime.ai/docs/api/python/api_summary.html
    """

    def __init__(
        self,
        model: bytes,
        providers: Mapping[str, ProviderOptions],
        threads: int | None,
        profile: Path | None = None,
        reuse: bool = True,
        pauses: bool = False,
    ) -> None:
        """Load a graph.

        Args:
            model: The ONNX file's bytes.
            providers: Execution providers with their options; the first must be the one that starts.
            threads: For one inference; None leaves it to ONNX Runtime.
            profile: First part of a file's path; the nodes that run are recorded there until `count_nodes` is called.
            reuse: Whether the CPU's cached form of the graph may be loaded.
            pauses: Whether threads sleep between two images.

        Raises:
            TargetError: ONNX Runtime refuses the graph, or the first provider does not start.
        """
        options = ort.SessionOptions()
        if profile:
            options.enable_profiling, options.profile_file_prefix = True, str(profile)
        options.log_severity_level = _ERRORS_ONLY
        if pauses:
            options.add_session_config_entry(*NO_SPINNING)
        if threads is not None:
            options.intra_op_num_threads = threads
        try:
            self._session, self.cached = _session(model, options, providers, reuse)
        except Exception as error:  # onnxruntime's exceptions share no base class
            raise TargetError(f"ONNX Runtime refuses the graph: {_first_line(error)}") from error
        provider, obtained = next(iter(providers)), self._session.get_providers()[0]
        if obtained != provider:
            raise TargetError(f"ONNX Runtime was asked for {provider} and started {obtained}")
        self.description = f"onnxruntime {ort.__version__} {provider}"

        outputs = {output.name for output in self._session.get_outputs()}
        self._wanted = [name for name in Answers._fields if name in outputs]

    def run(self, images: npt.NDArray[np.uint8]) -> Answers:
        try:
            given = self._session.run(self._wanted, {"image": images})
        except Exception as error:  # onnxruntime's exceptions share no base class
            raise TargetError(f"ONNX Runtime failed to run the graph: {_first_line(error)}") from error
        return Answers(**dict(zip(self._wanted, given, strict=True)))

    def count_nodes(self) -> Counter[tuple[str, str]]:
        """Answer a blank image; return how many nodes ran, by execution provider and operator."""
        height, width = self._session.get_inputs()[0].shape[1:3]
        self.run(np.zeros((1, height, width, 3), np.uint8))
        events = json.loads(Path(self._session.end_profiling()).read_text())
        ran = {event["args"]["node_index"]: event["args"] for event in events if "provider" in event.get("args", {})}
        return Counter((args["provider"], args["op_name"]) for args in ran.values())


def _session(
    model: bytes, options: ort.SessionOptions, providers: Mapping[str, ProviderOptions], reuse: bool
) -> tuple[ort.InferenceSession, str | None]:
    """Open a graph. On the CPU the form that ONNX Runtime optimized for this machine is cached between processes.

    Returns:
        The session, and the SHA-256 of the cached form if that was loaded.
    """
    listed = [(name, dict(provider_options)) for name, provider_options in providers.items()]
    if list(providers) != [PROVIDER]:
        return ort.InferenceSession(model, options, providers=listed, enable_fallback=0), None
    name = engine_cache.place("onnxruntime", model, {})
    if reuse and (cached := engine_cache.load_cached(name)):
        level = options.graph_optimization_level
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        try:
            return ort.InferenceSession(cached.content, options, providers=listed, enable_fallback=0), cached.digest
        except Exception:  # onnxruntime's exceptions share no base class
            cache.remove(name)
            options.graph_optimization_level = level
    session, place = None, cache.folder("engines")
    if place is None:
        return ort.InferenceSession(model, options, providers=listed, enable_fallback=0), None
    try:  # beside the cached files, where nobody else can exchange the file before it is read
        with tempfile.TemporaryDirectory(dir=place, ignore_cleanup_errors=True) as folder:
            optimized = Path(folder, "optimized.onnx")
            options.optimized_model_filepath = str(optimized)
            session = ort.InferenceSession(model, options, providers=listed, enable_fallback=0)
            engine_cache.store(name, optimized.read_bytes())
    except Exception:  # what cannot be written is not cached; a graph that is refused is refused below
        options.optimized_model_filepath = ""
    return session or ort.InferenceSession(model, options, providers=listed, enable_fallback=0), None


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def open_engine(model: bytes, options: EngineOptions) -> OnnxRuntimeEngine:
    """Load a graph. With several streams, each caller's own thread does all the work for its image."""
    threads = 1 if options.streams > 1 else options.threads
    return OnnxRuntimeEngine(model, {PROVIDER: {}}, threads, reuse=options.reuse, pauses=options.pauses)


def check_available(precision: str | None = None) -> None:
    """Nothing to check: the CPU provider is in every build of ONNX Runtime."""
