"""A bundle's graphs up to what the classifier reads, and with another head behind that.

Everything before the value `SELECTED` stays as it is, with its weights, its INT8 and each graph's own scaler. So an
adapted graph takes the time of the one that it was made of.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper

from edge_all.bundle import Bundle
from edge_all.errors import BundleError

from .. import outsiders
from ..assemble.fuse import fuse
from ..graph import edit
from ..graph.names import FEATURES, HEAD, IMAGE, PROBABILITIES, SELECTED, UNFAMILIARITY


@dataclass(frozen=True)
class Given:
    """What a graph gives for S images.

    Attributes:
        inputs: What the classifier reads, ``float32 [S, F]``.
        probabilities: ``float32 [S, K]``.
        unfamiliarity: ``float32 [S]``; 0 throughout where the graph has no such output.
    """

    inputs: np.ndarray
    probabilities: np.ndarray
    unfamiliarity: np.ndarray


def load(bundle: Bundle) -> dict[str, onnx.ModelProto]:
    """The graphs that can be adapted, by name of their file, FP32's first.

    A refitted INT8 head reads other features than those that were kept, so its graph is left out.

    Raises:
        BundleError: A graph does not say what its classifier reads.
    """
    models, verdicts = bundle.record["models"], bundle.record["gate"]["targets"]
    refitted = {target for target, verdict in verdicts.items() if verdict.get("head") == "refitted"}
    files = dict.fromkeys(precisions["fp32"] for precisions in models.values() if "fp32" in precisions)
    for target, precisions in models.items():
        files |= {name: None for kind, name in precisions.items() if kind != "int8" or target not in refitted}
    graphs = {name: onnx.load_from_string(bundle.read(name)) for name in files}
    for name, graph in graphs.items():
        if not any(SELECTED in node.output for node in graph.graph.node):
            raise BundleError(
                f"{bundle.path}: {name} does not say what its classifier reads: export the bundle again with this "
                "version of edge_all"
            )
    return graphs


def strangers(size: tuple[int, int]) -> Iterator[np.ndarray]:
    """Pictures that are no fields, ``uint8 [H, W, 3]`` each, at the size of a graph's input."""
    return (stranger.pixels for stranger in outsiders.pictures(size))


def run(model: onnx.ModelProto, images: Iterable[np.ndarray]) -> Given:
    """Run a fused graph over images ``uint8 [H, W, 3]``, one at a time."""
    extended = edit.copy(model)
    extended.graph.output.append(onnx.ValueInfoProto(name=SELECTED))
    session = ort.InferenceSession(extended.SerializeToString(), providers=["CPUExecutionProvider"])
    wanted = [SELECTED, PROBABILITIES, UNFAMILIARITY]
    there = [name for name in wanted if name in {output.name for output in session.get_outputs()}]
    rows = [session.run(there, {IMAGE: image[np.newaxis]}) for image in images]
    inputs, probabilities, *rest = (np.concatenate(values) for values in zip(*rows, strict=True))
    return Given(inputs, probabilities, rest[0] if rest else np.zeros(len(inputs), np.float32))


def features(model: onnx.ModelProto, images: Iterable[np.ndarray]) -> np.ndarray:
    """Run a backbone over images ``uint8 [H, W, 3]``, one at a time: ``float32 [S, C]``."""
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return np.concatenate([session.run([FEATURES], {IMAGE: image[np.newaxis]})[0] for image in images])


def scaled(backbone: onnx.ModelProto, mean: np.ndarray, scale: np.ndarray) -> onnx.ModelProto:
    """A backbone whose features, less `mean` and over `scale`, ``[C]`` each, are the value `SELECTED`."""
    nodes = edit.Nodes()
    shift = nodes.constant(f"{HEAD}scale/mean", mean.astype(np.float32))
    factor = nodes.constant(f"{HEAD}scale/factor", (1 / scale).astype(np.float32))
    centred = nodes.add("Sub", [FEATURES, shift], f"{HEAD}scale/centred", f"{HEAD}scale_Sub")
    nodes.add("Mul", [centred, factor], SELECTED, f"{HEAD}scale_Mul")
    extended = edit.copy(backbone)
    nodes.append_to(extended.graph)
    return extended


def with_head(model: onnx.ModelProto, head: onnx.ModelProto) -> onnx.ModelProto:
    """A fused graph with another head.

    Args:
        model: Fused.
        head: "selected" to the outputs.
    """
    return fuse(_up_to_selected(model, edit.width(head.graph.input[0])), head, name=model.graph.name)


def _up_to_selected(model: onnx.ModelProto, features: int) -> onnx.ModelProto:
    needed, nodes = {SELECTED}, []
    for node in reversed(model.graph.node):
        if needed & set(node.output):
            nodes.append(node)
            needed |= set(node.input)
    part = edit.rebuilt(model, reversed(nodes), model.graph.initializer)
    del part.graph.output[:]
    part.graph.output.append(helper.make_tensor_value_info(SELECTED, TensorProto.FLOAT, ["N", features]))
    return part
