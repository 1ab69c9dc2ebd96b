"""Target ``cpu``: ONNX Runtime's CPU execution provider."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from edge_all.errors import TargetError

_ERRORS_ONLY = 3  # ONNX Runtime's severity level: its warnings about hardware discovery are no news to the user


class OnnxRuntimeEngine:
    """A graph in ONNX Runtime on exactly the provider that was asked for.

    Reference: https://onnxruntime.ai/docs/api/python/api_summary.html
    """

    def __init__(self, model: bytes, provider: str, threads: int | None) -> None:
        options = ort.SessionOptions()
        options.log_severity_level = _ERRORS_ONLY
        if threads is not None:
            options.intra_op_num_threads = threads
        try:
            self._session = ort.InferenceSession(model, options, providers=[provider])
        except Exception as error:  # onnxruntime's exceptions share no base class
            raise TargetError(f"ONNX Runtime refuses the graph: {str(error).splitlines()[0]}") from error
        obtained = self._session.get_providers()[0]
        if obtained != provider:
            raise TargetError(f"ONNX Runtime was asked for {provider} and came up with {obtained}")
        self.description = f"onnxruntime {ort.__version__} {provider}"

    def run(self, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        probabilities: npt.NDArray[np.float32] = self._session.run(["probabilities"], {"image": images})[0]
        return probabilities


def open_engine(model: bytes, device: str | None, threads: int | None) -> OnnxRuntimeEngine:
    return OnnxRuntimeEngine(model, "CPUExecutionProvider", threads)


def check_available() -> None:
    """ONNX Runtime's CPU provider is in every build of it."""
