"""Backbones that some benchmarks quantize by themselves, named ``NAME=TAP[=WEIGHTS]`` on the command line."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnx

from edge_all.export import backbones, features
from edge_all.export.dataset import read, spread
from edge_all.export.graph import weights
from edge_all.export.graph.build import backbone_graph
from edge_all.export.quantize import layerwise


class Quantized(NamedTuple):
    """A backbone up to a tap in INT8."""

    name: str
    tap: str
    graph: onnx.ModelProto


def quantized(case: str, data: Path, images: int = 32) -> Quantized:
    """Quantize a backbone.

    Args:
        case: ``NAME=TAP``, or with ``=WEIGHTS``, a file.
        data: Labelled images, in one folder for each class.
        images: How many of them, spread over all, calibrate it.
    """
    name, tap, source = (*case.split("="), "auto")[:3]
    backbone, files = backbones.load(name), read(data).paths
    graph = backbone_graph(backbone, weights.load(backbone, source, seed=0), tap_name=tap)
    chosen = [files[i] for i in spread(np.arange(len(files)), images)]
    pictures = np.stack(list(features.decoded(chosen, backbone.input_size)))
    return Quantized(name, tap, layerwise.quantize(graph, pictures, weight_bits=7))
