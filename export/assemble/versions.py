"""Versions of what made a bundle."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

import edge_all

_PACKAGES = (
    *("torch", "torchvision", "timm", "scikit-learn", "skl2onnx", "onnx", "onnxruntime"),
    *("openvino", "nncf", "numpy", "pillow"),
)


def versions() -> dict[str, str]:
    """Version of each package of the toolchain that is installed, edge_all's own first."""
    installed = {"edge-all": edge_all.__version__}
    for name in _PACKAGES:
        try:
            installed[name] = version(name)
        except PackageNotFoundError:
            continue
    return installed
