"""A deeper backbone that travels with a bundle, for a head on another laboratory's images alone.

Early taps do not travel: what they tell apart on the training images' stain and camera, they do not on others'. A
deeper one does better there, and a bundle that answers from an early tap has none. So it carries one more graph, INT8
alone, for ``edge-all adapt --fresh``.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx

from edge_all.progress import Progress, ignore
from edge_all.record import CarriedRecord

from .. import features
from ..backbones import Place
from ..dataset import Dataset, spread
from ..quantize import schemes

FILE = "model.deep.int8.onnx"

SCHEME = schemes.named("cpu", "layerwise-7bit")
"""Seven bits run right on every CPU, and no gate judges this graph before it has a head."""


def build(
    graph: onnx.ModelProto,
    places: Sequence[Place],
    data: Dataset,
    size: tuple[int, int],
    progress: Progress = ignore,
) -> tuple[CarriedRecord, bytes]:
    """Quantize a backbone.

    Args:
        graph: ``uint8 [N, H, W, 3]`` "image" to ``float32 [N, C]`` "features".
        places: Where these are taken.
        data: The training images, of which some are calibration images.
        size: Height and width of the graph's input.
        progress: Counts parts of the work.

    Returns:
        What the record says of it, and the file's content.
    """
    chosen = data.take(spread(np.arange(len(data)), SCHEME.images))
    images = np.stack(list(features.decoded(chosen.paths, size)))
    quantized = schemes.quantize(graph, SCHEME, images, progress)
    carried: CarriedRecord = {
        "file": FILE,
        "tap": "+".join(place.name for place in places),
        "features": sum(place.channels for place in places),
        "macs": max(place.tap.macs for place in places),
        "scheme": SCHEME.name,
    }
    return carried, quantized.SerializeToString(deterministic=True)
