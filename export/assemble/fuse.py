"""Join a backbone's graph and a head's graph into the one graph that ships."""

from __future__ import annotations

import onnx
from onnx import compose, helper


def fuse(backbone: onnx.ModelProto, head: onnx.ModelProto, *, name: str) -> onnx.ModelProto:
    """Feed the backbone's "features" into the head.

    Args:
        backbone: FP32 or quantized: ``uint8 [N, H, W, 3]`` "image" to ``float32 [N, C]`` "features".
        head: ``float32 [N, C]`` "features" to ``float32 [N, K]`` "probabilities" and ``int64 [N]`` "label".
        name: Name of the graph.

    Returns:
        ``uint8 [N, H, W, 3]`` "image" to "probabilities", "label" and what else the head gives, in standard
        operators only.

    Raises:
        ValueError: A node is outside the standard ``ai.onnx`` domain, or the channels differ.
    """
    given, wanted = (_channels(value) for value in (backbone.graph.output[0], head.graph.input[0]))
    if given != wanted:
        raise ValueError(f"the backbone gives {given} features and the head takes {wanted}")
    inner = compose.add_prefix(head, "head/", rename_nodes=False)
    opset = max(_opset(backbone), _opset(head))
    for model in (backbone, inner):
        if _opset(model) != opset:
            raise ValueError(f"the backbone is in opset {_opset(backbone)} and the head in {_opset(head)}")
    graph = compose.merge_graphs(backbone.graph, inner.graph, io_map=[("features", "head/features")], name=name)
    _rename_outputs(graph, {f"head/{value.name}": value.name for value in head.graph.output})
    for value in (*graph.input, *graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "N"
    fused = helper.make_model(
        graph, producer_name="edge_all", opset_imports=[helper.make_opsetid("", opset)], ir_version=backbone.ir_version
    )
    foreign = sorted({node.domain for node in graph.node} - {"", "ai.onnx"})
    if foreign:
        raise ValueError(f"nodes outside ai.onnx: {', '.join(foreign)}")
    onnx.checker.check_model(fused, full_check=True)
    return fused


def _rename_outputs(graph: onnx.GraphProto, names: dict[str, str]) -> None:
    for node in graph.node:
        node.input[:] = [names.get(value, value) for value in node.input]
        node.output[:] = [names.get(value, value) for value in node.output]
    for value in (*graph.output, *graph.value_info):
        value.name = names.get(value.name, value.name)


def _channels(value: onnx.ValueInfoProto) -> int:
    return int(value.type.tensor_type.shape.dim[1].dim_value)


def _opset(model: onnx.ModelProto) -> int:
    return next(int(entry.version) for entry in model.opset_import if entry.domain in ("", "ai.onnx"))
