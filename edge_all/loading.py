"""`edge_all.load`: from a path to a classifier."""

from __future__ import annotations

import logging
from pathlib import Path

from edge_all import bundle as bundles
from edge_all import self_check
from edge_all.classifier import Classifier
from edge_all.targets import EngineOptions

_LOG = logging.getLogger("edge_all")


def load(
    path: Path | str | None = None,
    *,
    target: str = "cpu",
    precision: str | None = None,
    device: str | None = None,
    threads: int | None = None,
    keys: Path | str | None = None,
) -> Classifier:
    """Load a bundle, check it, and load its graph into an engine.

    Args:
        path: A bundle (folder or ``.zip``) or a folder of bundles; None takes the newest in ``./models``, else the
            built-in one.
        target: ``cpu`` (ONNX Runtime), ``gpu`` (ONNX Runtime, CUDA) or ``openvino``.
        precision: ``fp32``, ``fp16`` or ``int8``; None takes what the bundle prefers for the target, and ``auto`` the
            first that answers the bundle's probe correctly on this machine (`edge_all.self_check`). A precision that
            did not when it was last checked here is loaded if it is asked for, and the logger ``edge_all`` warns.
        device: OpenVINO device; None is ``CPU``.
        threads: Threads for one inference; None leaves it to the engine.
        keys: A file with a public key of minisign's, or a folder of them (``*.pub``): only a bundle that one of them
            has signed is loaded. None takes ``$EDGE_ALL_KEYS``; without that, a bundle need not be signed.

    Raises:
        BundleError: The bundle is missing, damaged, not signed as asked, or has no graph for that target and precision.
        SigningKeyError: `keys` are none.
        ToolchainError: A signature is asked for, and py-minisign is not installed.
        TargetError: The engine or the device is not there, or it refuses the graph.
        GateError: With ``auto``, no precision answers the probe correctly on this machine.
    """
    bundle = bundles.load(Path(path) if path else bundles.default(_LOG.warning), Path(keys) if keys else None)
    options = EngineOptions(target, device, threads)
    return self_check.load(bundle, options, precision, _LOG.warning)
