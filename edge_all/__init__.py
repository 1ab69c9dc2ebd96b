"""Classify acute lymphoblastic leukaemia from blood-smear images on a mini PC.

    >>> import edge_all
    >>> classifier = edge_all.load()                  # the built-in bundle, or edge_all.load("models/NAME")
    >>> classifier.classify("field.jpg").label        # doctest: +SKIP
    'Benign'

Research software, not a medical device. Names are imported on first use, so that ``import edge_all`` is fast.
"""

from __future__ import annotations

import os
import sys
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edge_all.classifier import Classifier
    from edge_all.errors import EdgeAllError
    from edge_all.loading import load
    from edge_all.prediction import Prediction

# The engines report their use to their makers, unless this is there before they are imported.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
sys.modules["openvino_telemetry"] = None  # type: ignore[assignment] # OpenVINO and NNCF go on without it

__version__ = "0.1.0"

NOTICE = "Research software, not a medical device: no label here is a diagnosis."
"""What every output for people says."""

__all__ = ["NOTICE", "Classifier", "EdgeAllError", "Prediction", "__version__", "load"]

_HOMES = {
    "Classifier": "edge_all.classifier",
    "EdgeAllError": "edge_all.errors",
    "Prediction": "edge_all.prediction",
    "load": "edge_all.loading",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'edge_all' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
