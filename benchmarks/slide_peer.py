"""The same network over a slide as others run it: WSInfer (https://github.com/SBU-BMI/wsinfer), torch on the CPU.

WSInfer 0.6.1 finds tissue, reads patches with OpenSlide in the workers of a torch DataLoader, and runs a TorchScript
model in batches of 32. It asks a model hub for a list of models when it is imported; here it gets an empty one. It
needs zarr before version 3 (`pip install wsinfer "zarr<3" h5py`), and may be in a folder of its own, in PYTHONPATH.
"""

from __future__ import annotations

import json
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import nn

from edge_all.bundle import Bundle
from edge_all.export import backbones
from edge_all.export.graph import weights
from edge_all.export.graph.build import Trunk
from edge_all.machine import usable_cores

_RUN = """
import sys
from types import SimpleNamespace
import wsinfer_zoo.client
wsinfer_zoo.client.load_registry = lambda *_: SimpleNamespace(models={})
from wsinfer.cli.cli import cli
cli(sys.argv[1:])
"""


class _Network(nn.Module):
    """A bundle's backbone up to its tap, average and standard deviation of each channel, and a linear classifier."""

    def __init__(self, trunk: Trunk, channels: int, classes: int) -> None:
        super().__init__()
        self.trunk, self.head = trunk, nn.Linear(channels, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        (features,) = self.trunk(x)
        scores: torch.Tensor = self.head(torch.cat([features.mean((2, 3)), features.std((2, 3))], 1))
        return scores


def is_installed() -> bool:
    """Whether WSInfer can be imported."""
    return bool(find_spec("wsinfer") and find_spec("wsinfer_zoo"))


def prepare(folder: Path, bundle: Bundle) -> list[str]:
    """Write the model and its description.

    The weights are random: they make no difference to the time.

    Args:
        folder: For both files.
        bundle: Whose backbone and tap it has. The tap must be a single one with ``:std``.

    Returns:
        The command, but for the folder of the slides and that of the results, which are to follow.
    """
    record = bundle.record
    backbone = backbones.load(record["backbone"])
    (place,) = backbones.places(backbone, record["tap"])
    trunk = Trunk(backbone, weights.load(backbone, "random"), [place.tap.name])
    network = _Network(trunk, place.channels, len(bundle.classes)).eval()
    height, width = bundle.input_size
    with torch.inference_mode():
        model: Any = torch.jit.trace(network, torch.zeros(1, 3, height, width))  # type: ignore[no-untyped-call]
    torch.jit.save(model, str(folder / "model.pt"))
    normal = {"mean": list(backbone.mean), "std": list(backbone.std)}
    described = {
        "spec_version": "1.0",
        "architecture": backbone.name,
        "num_classes": len(bundle.classes),
        "class_names": list(bundle.classes),
        "patch_size_pixels": width,
        "spacing_um_px": bundle.um_per_px,
        "transform": [{"name": "ToTensor"}, {"name": "Normalize", "arguments": normal}],
    }
    (folder / "config.json").write_text(json.dumps(described), encoding="utf-8")
    files = ["--config", str(folder / "config.json"), "--model-path", str(folder / "model.pt")]
    whole = ["--seg-min-object-size-um2", "0", "--seg-binary-threshold", "1"]
    return [sys.executable, "-c", _RUN, "run", *files, "--num-workers", str(usable_cores()), "--speedup", *whole]
