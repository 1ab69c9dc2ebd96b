"""A graph is checked from its bytes alone before an engine sees it: operators, tensors, input and outputs."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
from google.protobuf.message import DecodeError
from helpers_bundle import CLASSES, SIZE, colour_graph, exchanged, refused_graph, rewritten
from helpers_command import Command
from onnx import AttributeProto, ModelProto, TensorProto, helper, numpy_helper

from edge_all import bundle as bundles
from edge_all import protobuf
from edge_all.bundle import Bundle
from edge_all.errors import BundleError, EdgeAllError
from edge_all.graph_check import GraphError, Wanted, check
from edge_all.targets import EngineOptions, open_engine

GRAPH = colour_graph()
WANTED = Wanted(SIZE, len(CLASSES))


def changed(change: Callable[[ModelProto], object]) -> bytes:
    model = ModelProto.FromString(GRAPH)
    change(model)
    return bytes(model.SerializeToString())


def nested(kind: str) -> Callable[[ModelProto], object]:
    """Put a node with a graph inside it in front."""

    def change(model: ModelProto) -> None:
        inner = helper.make_graph([], "inner", [], [])
        model.graph.node.insert(0, helper.make_node(kind, ["image"], ["x"], body=inner))

    return change


def tensor(name: str, kind: int, dims: list[int], **values: Any) -> Callable[[ModelProto], object]:
    """Add a tensor by hand."""
    return lambda model: model.graph.initializer.append(TensorProto(name=name, data_type=kind, dims=dims, **values))


def external(model: ModelProto) -> None:
    weights = model.graph.initializer[1]
    weights.ClearField("raw_data")
    weights.data_location = TensorProto.EXTERNAL
    weights.external_data.add(key="location", value="/etc/passwd")


def external_attribute(model: ModelProto) -> None:
    value = TensorProto(name="v", data_type=1, dims=[1], data_location=TensorProto.EXTERNAL)
    value.external_data.add(key="location", value="../../secret")
    model.graph.node.append(helper.make_node("Constant", [], ["x"], value=value))


def size(value: str, *dims: int | str) -> Callable[[ModelProto], object]:
    """Another shape of the input or of an output."""

    def change(model: ModelProto) -> None:
        found = next(v for v in (*model.graph.input, *model.graph.output) if v.name == value)
        shape = helper.make_tensor_type_proto(found.type.tensor_type.elem_type, dims)
        found.type.CopyFrom(shape)

    return change


def kind(value: str, number: int) -> Callable[[ModelProto], object]:
    """Another type of the input or of an output."""

    def change(model: ModelProto) -> None:
        found = next(v for v in (*model.graph.input, *model.graph.output) if v.name == value)
        found.type.tensor_type.elem_type = number

    return change


def renamed(old: str, new: str) -> Callable[[ModelProto], object]:
    def change(model: ModelProto) -> None:
        for value in (*model.graph.input, *model.graph.output):
            value.name = new if value.name == old else value.name

    return change


REFUSED: dict[str, tuple[Callable[[ModelProto], object], str]] = {
    "no version": (lambda m: m.ClearField("ir_version"), "no version of ONNX"),
    "no operators": (lambda m: m.ClearField("opset_import"), "one version of the operators"),
    "no graph": (lambda m: m.ClearField("graph"), "it has no graph"),
    "foreign opset": (lambda m: m.opset_import.append(helper.make_opsetid("com.x", 1)), "outside ai.onnx: 'com.x'"),
    "two opsets": (lambda m: m.opset_import.append(helper.make_opsetid("ai.onnx", 9)), "one version of the operators"),
    "foreign node": (lambda m: setattr(m.graph.node[0], "domain", "com.microsoft"), "outside ai.onnx"),
    "function": (lambda m: m.functions.add(name="f", domain="x"), "it has functions"),
    "training": (lambda m: m.training_info.add(), "it has training_info"),
    "loop": (nested("Loop"), "node Loop, which is not allowed"),
    "if": (nested("If"), "node If, which is not allowed"),
    "scan": (nested("Scan"), "node Scan, which is not allowed"),
    "inner graph": (nested("Anything"), "holds a graph"),
    "no operator": (lambda m: m.graph.node[0].ClearField("op_type"), "without an operator"),
    "reference": (
        lambda m: m.graph.node[0].attribute.add(name="to", ref_attr_name="x", type=AttributeProto.INT),
        "holds a graph, or something else",
    ),
    "graph type": (
        lambda m: m.graph.node[0].attribute.append(AttributeProto(name="b", type=AttributeProto.GRAPHS)),
        "holds a graph, or something else",
    ),
    "external": (external, "tensor 'weights' is outside the file"),
    "external attribute": (external_attribute, "tensor 'v' is outside the file"),
    "location alone": (tensor("t", 1, [], data_location=1), "is outside the file"),
    "too short": (tensor("t", 1, [2, 2], raw_data=b"\0" * 12), "has 12 of 16 bytes"),
    "too long": (tensor("t", 1, [2], raw_data=b"\0" * 12), "has 12 of 8 bytes"),
    "nothing": (tensor("t", 1, [2**40, 2**40]), "has 0 of"),
    "negative": (tensor("t", 1, [-1], raw_data=b""), "negative size"),
    "twice": (tensor("t", 1, [1], raw_data=b"\0" * 4, float_data=[1.0]), "values twice"),
    "few numbers": (tensor("t", 1, [3], float_data=[1.0, 2.0]), "has 2 of 3"),
    "few integers": (tensor("t", 7, [3], int64_data=[1, -1]), "has 2 of 3"),
    "other field": (tensor("t", 7, [1], float_data=[1.0]), "has its values in float_data"),
    "texts": (tensor("t", 8, [1], string_data=[b"x"]), "of type 8, which no bundle has"),
    "unknown type": (tensor("t", 99, [1], raw_data=b"x"), "of type 99"),
    "many dimensions": (tensor("t", 1, [1] * 1000, raw_data=b"\0" * 4), "1000 dimensions"),
    "sparse": (lambda m: m.graph.sparse_initializer.add(), "sparse tensors"),
    "classes": (size("probabilities", "N", 4), r"wanted probabilities, float32 \[N, 3\]"),
    "no shape": (size("probabilities"), "wanted probabilities"),
    "probabilities type": (kind("probabilities", TensorProto.DOUBLE), "wanted probabilities"),
    "no probabilities": (renamed("probabilities", "scores"), "wanted probabilities"),
    "label type": (kind("label", TensorProto.INT32), "its output .label"),
    "named twice": (renamed("label", "probabilities"), "named twice"),
    "unfamiliarity": (renamed("label", "unfamiliarity"), "its output .unfamiliarity"),
    "height": (size("image", "N", 49, 64, 3), r"wanted one input, image, uint8 \[N, 48, 64, 3\]"),
    "channels": (size("image", "N", 48, 64, 1), "wanted one input"),
    "rank": (size("image", "N", 48, 64), "wanted one input"),
    "batch of four": (size("image", 4, 48, 64, 3), "wanted one input"),
    "input type": (kind("image", TensorProto.FLOAT), "wanted one input"),
    "input name": (renamed("image", "data"), "wanted one input"),
    "two inputs": (lambda m: m.graph.input.add(name="x").type.tensor_type.shape.dim.add(dim_value=1), "one input"),
    "a sequence": (
        lambda m: m.graph.output.add(name="s").type.sequence_type.elem_type.tensor_type.shape.dim.add(), "is no tensor",
    ),
    "no type": (lambda m: m.graph.output.add(name="s"), "it has no type"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused(name: str) -> None:
    change, said = REFUSED[name]
    with pytest.raises(GraphError, match=said) as caught:
        check(changed(change), WANTED)
    assert "\n" not in str(caught.value)


def test_what_is_accepted() -> None:
    check(GRAPH, WANTED)
    check(changed(tensor("t", 1, [3], float_data=[1.0, 2.0, 3.0])), WANTED)
    check(changed(tensor("t", 3, [3], int32_data=[1, -1, 3])), WANTED)
    check(changed(tensor("t", 22, [3], raw_data=b"\1\2")), WANTED)
    check(changed(tensor("t", 1, [0, 5])), WANTED)
    check(changed(tensor("t", 7, [], int64_data=[5])), WANTED)
    check(changed(lambda m: m.graph.output.add(name="more").type.tensor_type.shape.dim.add(dim_value=7)), WANTED)
    for name in ("model.fp32.onnx", "model.cpu.int8.onnx"):
        check((bundles.BUILTIN / name).read_bytes(), Wanted((224, 224), 4))


def test_old_ways_of_writing_numbers() -> None:
    """One by one, where newer files pack them: dimensions and values by field and wire type."""
    values = b"".join(b"\x25" + struct.pack("<f", value) for value in (1.0, 2.0))
    by_hand = b"\x08\x02" + b"\x10\x01" + values
    merged = with_graph(GRAPH, graph_of(GRAPH) + protobuf_field(5, by_hand))
    check(merged, WANTED)
    assert list(onnx.load_from_string(merged).graph.initializer[-1].float_data) == [1.0, 2.0]


def protobuf_field(number: int, content: bytes) -> bytes:
    return encoded(number << 3 | 2) + encoded(len(content)) + content


def encoded(value: int) -> bytes:
    parts = []
    while value > 127:
        parts.append(value & 127 | 128)
        value >>= 7
    return bytes([*parts, value])


def graph_of(model: bytes) -> bytes:
    return bytes(ModelProto.FromString(model).graph.SerializeToString())


def with_graph(model: bytes, graph: bytes) -> bytes:
    """The model with a graph that is given as bytes."""
    head = ModelProto.FromString(model)
    head.ClearField("graph")
    return bytes(head.SerializeToString()) + protobuf_field(7, graph)


@pytest.mark.parametrize(
    "content",
    [
        b"", b"no graph", b"\xff" * 100, b"\x80" * 11 + b"\1", b"\0\0", b"\x3a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
        b"\x3b\x08\x01\x3c", b"\x39\0\0", b"PK\x03\x04", GRAPH + b"\x3a\x05", GRAPH + GRAPH,
        GRAPH + protobuf_field(7, graph_of(GRAPH)), b"\x0a" + encoded(2**63) + b"x",
        with_graph(GRAPH, protobuf_field(1, b"\x22\x02\xff\xfe")),
    ],
    ids=range(14),
)  # fmt: skip
def test_what_is_no_file_of_onnx(content: bytes) -> None:
    with pytest.raises(GraphError):
        check(content, WANTED)


def test_no_damage_ends_in_another_error() -> None:
    """Every prefix, and many flipped and exchanged bytes."""
    rng = np.random.default_rng(0)
    for length in range(len(GRAPH)):
        with pytest.raises(GraphError):
            check(GRAPH[:length], WANTED)
    passed = 0
    for _ in range(3000):
        damaged = bytearray(GRAPH)
        for position in rng.integers(0, len(GRAPH), rng.integers(1, 4)):
            damaged[position] = rng.integers(0, 256)
        try:
            check(bytes(damaged), WANTED)
            passed += 1
        except GraphError as error:
            assert "\n" not in str(error)
    assert passed, "a name, or a weight, may change"


def test_what_passes_is_read_alike_by_onnx() -> None:
    """No graph may look harmless here and be another one to the engine: what is accepted, onnx reads too."""
    rng = np.random.default_rng(1)
    for _ in range(2000):
        damaged = bytearray(GRAPH)
        damaged[rng.integers(0, len(GRAPH))] ^= 1 << rng.integers(0, 8)
        try:
            check(bytes(damaged), WANTED)
        except GraphError:
            continue
        try:
            model = onnx.load_from_string(bytes(damaged))
        except DecodeError:  # in a part that is not looked at; an engine refuses it as well
            continue
        assert [value.name for value in model.graph.input] == ["image"] and not model.functions
        assert not any(a.HasField("g") or a.graphs for node in model.graph.node for a in node.attribute)
        for array in model.graph.initializer:
            assert array.data_location == TensorProto.DEFAULT
            numpy_helper.to_array(array)


def test_a_deep_nest_is_not_followed() -> None:
    inner = b""
    for _ in range(2000):
        inner = protobuf_field(6, protobuf_field(1, protobuf_field(5, inner)))
    with pytest.raises(GraphError, match="holds a graph"):
        check(with_graph(GRAPH, protobuf_field(1, protobuf_field(4, b"X") + protobuf_field(5, inner))), WANTED)


def test_a_file_of_empty_fields() -> None:
    with pytest.raises(GraphError, match="more than 1000000 fields"):
        check(GRAPH + b"\x30\x00" * 1_000_001, WANTED)


def test_numbers_of_the_wire() -> None:
    assert protobuf.varint(memoryview(b"\xff" * 9 + b"\x01"), 0) == (2**64 - 1, 10)
    for wrong in (b"", b"\x80", b"\xff" * 10, b"\xff" * 9 + b"\x02"):
        with pytest.raises(protobuf.WireError):
            protobuf.varint(memoryview(wrong), 0)
    packed = b"\x01\xac\x02\x00"
    assert list(protobuf.varints(memoryview(packed))) == [1, 300, 0]
    assert protobuf.count_varints(memoryview(packed)) == 3


@pytest.mark.parametrize("name", ["classes", "external", "loop", "height"])
def test_the_bundle_is_refused_by_the_file(colour_bundle: Bundle, name: str, edge_all: Command) -> None:
    exchanged(colour_bundle, "model.cpu.int8.onnx", changed(REFUSED[name][0]))
    with pytest.raises(BundleError, match=r"model\.cpu\.int8\.onnx is not the graph of its record"):
        bundles.load(colour_bundle.path)
    for command in (("classify", "x.png"), ("bench",), ("doctor",)):
        done = edge_all(*command, "--bundle", colour_bundle.path)
        assert done.returncode == 1 and "is not the graph of its record" in done.stderr and not done.stdout


def test_a_record_of_another_graph(colour_bundle: Bundle) -> None:
    def more(record: dict[str, object]) -> None:
        record["classes"] = [*CLASSES, "more"]

    rewritten(colour_bundle, more)
    with pytest.raises(BundleError, match=r"float32 \[N, 4\]"):
        bundles.load(colour_bundle.path)


@pytest.mark.engine
@pytest.mark.parametrize("target", ["cpu", "openvino"])
def test_a_name_that_is_no_text_is_an_error_of_ours(target: str, capfd: pytest.CaptureFixture[str]) -> None:
    """An engine that puts it into its own message raises whatever its language binding raises."""
    if target == "openvino":
        pytest.importorskip("openvino")
    graph = refused_graph().replace(b"Nonsense", b"Nons\xfe\xff\xfee")
    with pytest.raises(EdgeAllError):
        open_engine(graph, EngineOptions(target))
    assert capfd.readouterr().out == "", "ONNX Runtime says on stdout that it goes on with another provider"
