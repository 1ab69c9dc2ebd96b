"""FP16 for target ``gpu``: the backbone's convolutions in half precision, judged by the same gate as INT8.

The conversion is ONNX Runtime's own:
https://onnxruntime.ai/docs/performance/model-optimizations/float16.html
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import onnx
from onnxruntime.transformers.float16 import convert_float_to_float16
from onnxruntime.transformers.onnx_model import OnnxModel

from .. import features
from ..head import evaluate
from . import gate
from .layerwise.input_folding import SOURCE
from .search import Case


@dataclass(frozen=True)
class Half:
    """What half precision costs.

    Attributes:
        scores: By protocol, with ``agreement_fp32``: FP32's heads on the features of the graph in half precision.
        verdict: The gate's.
    """

    scores: Mapping[str, dict[str, Any]]
    verdict: Mapping[str, Any]


def convert(backbone: onnx.ModelProto) -> onnx.ModelProto:
    """The same graph with its convolutions in float16.

    Args:
        backbone: ``uint8 [N, H, W, 3]`` "image" to ``float32 [N, C]`` "features".

    Returns:
        Of the same inputs and outputs; normalisation, pooling and so the head behind it stay in float32, with casts
        where the convolutions begin and end.
    """
    nodes, arrays = backbone.graph.node, backbone.graph.initializer
    ends = [[node for node in nodes if node.name.startswith(part)] for part in ("preprocess/", "pooling/")]
    computed = {name for node in nodes if node.name.startswith("backbone/") for name in node.output}
    maps = list(dict.fromkeys(name for node in ends[1] for name in node.input if name in computed))
    convolutions = onnx.utils.Extractor(onnx.shape_inference.infer_shapes(backbone)).extract_model([SOURCE], maps)
    convolutions = convert_float_to_float16(convolutions, keep_io_types=True)
    OnnxModel(convolutions).topological_sort()  # the converter leaves its casts at the end

    halved = onnx.ModelProto()
    halved.CopyFrom(backbone)
    del halved.graph.node[:], halved.graph.initializer[:], halved.graph.value_info[:]
    halved.graph.node.extend([*ends[0], *convolutions.graph.node, *ends[1]])
    read = {name for end in ends for node in end for name in node.input}
    halved.graph.initializer.extend([array for array in arrays if array.name in read])
    halved.graph.initializer.extend(convolutions.graph.initializer)
    onnx.checker.check_model(halved, full_check=True)
    return halved


def attempt(
    case: Case, step: Callable[[str], AbstractContextManager[features.Progress]], tell: Callable[[str], None]
) -> Half:
    """Answer every image with half precision's features, on ONNX Runtime's CPU, and ask the gate.

    Args:
        case: The FP32 backbone and its answers.
        step: Opens a step under a title.
        tell: Says what was refused.
    """
    exact, data = case.exact, case.exact.data
    with step("Judging FP16 for gpu") as progress:
        graph = convert(case.graph)
        rows = features.extract(graph, data.paths, data.digests, case.size, target="cpu", progress=progress)
    scores = {}
    for name, split in exact.splits.items():
        given = evaluate.answer(exact.heads[name], rows, split)
        agreement = evaluate.agreement(given, exact.answers[name])
        scores[name] = evaluate.score(data.labels, given, data.classes) | {"agreement_fp32": agreement}
    half = Half(scores, gate.judge(exact.scores["block"], scores["block"], data.counts))
    if not half.verdict["passed"]:
        tell(f"FP16 for gpu was refused by the gate (points lost: {half.verdict['lost']}): FP32 ships in its place")
    return half
