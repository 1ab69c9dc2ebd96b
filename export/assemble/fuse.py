"""Join a backbone's graph and a head's graph into the one graph that ships."""

from __future__ import annotations

import onnx
from onnx import compose, helper

from ..graph import edit
from ..graph.names import HEAD, SELECTED


def fuse(backbone: onnx.ModelProto, head: onnx.ModelProto, *, name: str) -> onnx.ModelProto:
    """Feed the backbone's "features", or what was "selected" of them, into the head.

    Args:
        backbone: FP32 or quantized: ``uint8 [N, H, W, 3]`` "image" to ``float32 [N, C]`` "features" or "selected".
        head: The same to ``float32 [N, K]`` "probabilities" and ``int64 [N]`` "label".
        name: Name of the graph.

    Returns:
        ``uint8 [N, H, W, 3]`` "image" to "probabilities", "label" and the head's other outputs, in standard operators
        only.

    Raises:
        ValueError: A node is outside the standard ``ai.onnx`` domain, or the channels or the opsets differ.
    """
    features, read = edit.width(backbone.graph.output[0]), edit.width(head.graph.input[0])
    if features != read:
        raise ValueError(f"the backbone gives {features} features and the head takes {read}")
    opset = _opset(backbone)
    if opset != _opset(head):
        raise ValueError(f"the backbone is in opset {opset} and the head in {_opset(head)}")
    inner, joint = compose.add_prefix(head, HEAD, rename_nodes=False), head.graph.input[0].name
    graph = compose.merge_graphs(backbone.graph, inner.graph, io_map=[(joint, f"{HEAD}{joint}")], name=name)
    edit.rename(graph, {f"{HEAD}{name}": name for name in (SELECTED, *(value.name for value in head.graph.output))})
    edit.free_batch(graph)
    fused = helper.make_model(
        graph, producer_name="edge_all", opset_imports=[helper.make_opsetid("", opset)], ir_version=backbone.ir_version
    )
    foreign = sorted({node.domain for node in graph.node} - {"", "ai.onnx"})
    if foreign:
        raise ValueError(f"nodes outside ai.onnx: {', '.join(foreign)}")
    onnx.checker.check_model(fused, full_check=True)
    return fused


def _opset(model: onnx.ModelProto) -> int:
    return next(int(entry.version) for entry in model.opset_import if entry.domain in ("", "ai.onnx"))
