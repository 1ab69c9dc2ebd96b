"""An average pooling and a pointwise convolution are exchanged where that computes less: the maps stay the same."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from helpers_graphs import ENGINES, pictures
from onnx import TensorProto, helper, numpy_helper

from edge_all.export.graph.facts import size
from edge_all.export.graph.reorder import reorder

pytestmark = pytest.mark.engine

SIZE = (24, 32)
CHANNELS = 6


def _graph(kinds: list[str], gives: int, padded: bool, also_read: bool = False) -> onnx.ModelProto:
    """A convolution of 3 to 6 channels, and then a pooling and a pointwise convolution in the order of `kinds`."""
    rng = np.random.default_rng(0)
    around = {"pads": [1] * 4, "count_include_pad": 1, "kernel_shape": [3, 3]}
    pooling = around if padded else {"strides": [2, 2], "kernel_shape": [2, 2]}
    shapes = {"w": (CHANNELS, 3, 3, 3), "v": (gives, CHANNELS, 1, 1), "b": (gives,)}
    arrays = [numpy_helper.from_array(rng.normal(size=s).astype(np.float32), n) for n, s in shapes.items()]
    nodes = [
        helper.make_node("Cast", ["image"], ["c"], "cast", to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["c"], ["t"], "transpose", perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["t", "w"], ["x"], "first", pads=[1] * 4),
    ]
    source = "x"
    for i, kind in enumerate(kinds):
        inputs, attributes = {"AveragePool": ([source], pooling), "Conv": ([source, "v", "b"], {})}[kind]
        nodes.append(helper.make_node(kind, inputs, [f"y{i}"], f"{kind}_{i}", **attributes))
        source = f"y{i}"
    nodes += [
        helper.make_node("Relu", [name], [f"{name}/out"], f"{name}/out") for name in ("y0", "y1")[not also_read :]
    ]
    outputs = [
        helper.make_tensor_value_info(n.output[0], TensorProto.FLOAT, ["N", None, None, None]) for n in nodes[5:]
    ]
    image = helper.make_tensor_value_info("image", TensorProto.UINT8, ["N", *SIZE, 3])
    graph = helper.make_graph(nodes, "g", [image], outputs, arrays)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


@pytest.mark.parametrize(
    ("kinds", "gives", "padded", "wanted"),
    [
        (["Conv", "AveragePool"], 4, False, ["AveragePool", "Conv"]),  # DenseNet's transition
        (["AveragePool", "Conv"], 4, True, ["Conv", "Conv"]),  # Inception's branch: its bias is added behind
        (["AveragePool", "Conv"], 9, True, ["AveragePool", "Conv"]),
        (["Conv", "AveragePool"], 4, True, ["Conv", "AveragePool"]),
    ],
)
def test_the_order_that_computes_less(kinds: list[str], gives: int, padded: bool, wanted: list[str]) -> None:
    before, after = (_graph(kinds, gives, padded) for _ in range(2))
    reorder(after.graph)
    onnx.checker.check_model(after, full_check=True)
    assert [node.op_type for node in after.graph.node][3:5] == wanted
    images = pictures(2, SIZE)
    for engine in ENGINES:
        exact = engine(before, image=images)["y1/out"]
        np.testing.assert_allclose(engine(after, image=images)["y1/out"], exact, atol=1e-5 * np.abs(exact).max())
    if not padded:
        assert size(after).macs < size(before).macs


def test_an_output_that_others_read_stays() -> None:
    model = _graph(["Conv", "AveragePool"], 4, False, also_read=True)
    before = model.SerializeToString()
    reorder(model.graph)
    assert model.SerializeToString() == before
