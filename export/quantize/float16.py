"""FP16 for target ``gpu``: the backbone's convolutions in half precision, evaluated by the same gate as INT8.

The conversion is ONNX Runtime's own:
https://onnxruntime.ai/docs/performance/model-optimizations/float16.html
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import onnx
from onnxruntime.transformers.float16 import convert_float_to_float16
from onnxruntime.transformers.onnx_model import OnnxModel

from edge_all.progress import Console
from edge_all.record import GateVerdict, Score

from .. import features
from ..graph import edit
from ..graph.names import NORMALIZED, is_backbone, is_pooling, is_preprocess
from ..head import evaluate
from ..head.reference import Reference
from . import gate
from .heads import score_against


@dataclass(frozen=True)
class Half:
    """What half precision costs.

    Attributes:
        scores: By protocol, with ``agreement_fp32``: FP32's heads on the features of the graph in half precision.
        verdict: The gate's.
    """

    scores: Mapping[str, Score]
    verdict: GateVerdict


def convert(backbone: onnx.ModelProto) -> onnx.ModelProto:
    """Convert the convolutions of a backbone to float16.

    Args:
        backbone: ``uint8 [N, H, W, 3]`` "image" to ``float32 [N, C]`` "features".

    Returns:
        A backbone with the same inputs and outputs. Preprocessing and pooling, and so the head behind them, stay in
        float32, with casts where the convolutions begin and end.
    """
    nodes = backbone.graph.node
    preprocessing, pooling = list(filter(is_preprocess, nodes)), list(filter(is_pooling, nodes))
    computed = {name for node in filter(is_backbone, nodes) for name in node.output}
    maps = list(dict.fromkeys(name for node in pooling for name in node.input if name in computed))
    convolutions = edit.extract(onnx.shape_inference.infer_shapes(backbone), [NORMALIZED], maps)
    convolutions = convert_float_to_float16(convolutions, keep_io_types=True)
    OnnxModel(convolutions).topological_sort()  # the converter leaves its casts at the end

    float_constants = edit.tensors_read([*preprocessing, *pooling])
    constants = [constant for constant in backbone.graph.initializer if constant.name in float_constants]
    halved = edit.rebuilt(
        backbone,
        [*preprocessing, *convolutions.graph.node, *pooling],
        [*constants, *convolutions.graph.initializer],
    )
    onnx.checker.check_model(halved, full_check=True)
    return halved


def attempt(reference: Reference, console: Console) -> Half:
    """Answer every image with half precision's features, on ONNX Runtime's CPU, and ask the gate.

    Args:
        reference: The FP32 pipeline.
        console: Shows the step, and says what was refused.
    """
    data = reference.data
    with console.step("Evaluating FP16 for gpu") as progress:
        graph = convert(reference.graph)
        rows = features.extract(graph, data, reference.size, target="cpu", progress=progress)
    answers = {
        protocol: evaluate.answer(reference.heads[protocol], rows, folds)
        for protocol, folds in reference.splits.items()
    }
    scores = score_against(reference, answers)
    protocol = reference.headline
    half = Half(scores, gate.judge(reference.scores[protocol], scores[protocol], data.counts, protocol))
    if not half.verdict["passed"]:
        lost = half.verdict["lost"]
        console.tell(f"FP16 for gpu was refused by the gate (percentage points lost: {lost}): FP32 ships in its place")
    return half
