"""The first convolution on a picture whose pixels are taken together.

Engines are slow with a convolution of three channels: their kernels take four or more at once. So several pixels become
one of twelve channels, and the kernel is laid out to match. `square` takes two by two pixels, `wide` four of a row. The
products are the same, and those that are added have a weight of zero, so that the sums are the same to the bit;
OpenVINO, where it cannot join `wide` to what follows, rounds one value in thousands to a neighbour. Which of them is
faster, if any, depends on the network, the engine and the processor, so they are timed.
"""

from __future__ import annotations

from collections.abc import Callable

import onnx

from ...graph import timing
from . import square, wide

FORMS: dict[str, Callable[[onnx.ModelProto], onnx.ModelProto | None]] = {"square": square.folded, "wide": wide.folded}
"""What makes each form of a quantized backbone, ``uint8 [N, H, W, 3]`` "image" to ``float32 [N, C]`` "features", of
`layerwise`; it returns None where the first convolution is not of its kind."""

_LEAST_GAIN = 0.98
"""Of the time as it is, that a graph with a folded picture may take."""

Pair = tuple[onnx.ModelProto, onnx.ModelProto]


def fastest(engine: str, reference: onnx.ModelProto, graphs: Pair) -> tuple[Pair, float, float]:
    """Fold the pictures of two quantizations of a backbone in the way that is measurably faster, if one is.

    Args:
        engine: That times them; see `timing.times`.
        reference: In float32.
        graphs: Quantized.

    Returns:
        The graphs, folded or as they were, and the median times of the reference and of the first one, in milliseconds.

    Raises:
        RuntimeError: The engine refused a graph, or crashed on it.
    """
    pairs = [graphs]
    for form in FORMS.values():
        first, second = (form(graph) for graph in graphs)
        if first is not None and second is not None:
            pairs.append((first, second))
    fp32_ms, *taken = timing.times(engine, [reference, *(graph for pair in pairs for graph in pair)])
    firsts = taken[::2]
    best = min(range(len(pairs)), key=firsts.__getitem__)
    chosen = best if firsts[best] <= _LEAST_GAIN * firsts[0] else 0
    return pairs[chosen], fp32_ms, firsts[chosen]
