"""Whether a file is a graph that an engine may see, told from the file's bytes alone and without the package onnx.

An engine trusts what it is given: it opens the files that a graph names, and it may end the process over a tensor that
is shorter than its shape. So a graph has standard operators only, no graph inside a node, all its tensors in the file,
and the input and the outputs that the record promises.

Reference: https://github.com/onnx/onnx/blob/main/onnx/onnx.proto
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod

from edge_all import protobuf
from edge_all.protobuf import BYTES, FIXED32, FIXED64, VARINT, WireError, message, tags

_MODEL = tags(VARINT, {1: "ir_version"}) | tags(
    BYTES, {7: "graph", 8: "opset_import", 20: "training_info", 25: "functions"}
)
_OPSET = tags(BYTES, {1: "domain"}) | tags(VARINT, {2: "version"})
_GRAPH = tags(BYTES, {1: "node", 5: "initializer", 11: "input", 12: "output", 15: "sparse_initializer"})
_NODE = tags(BYTES, {4: "op_type", 5: "attribute", 7: "domain", 8: "overload"})
_ATTRIBUTE = tags(VARINT, {20: "type"}) | tags(
    BYTES, {5: "tensor", 10: "tensor", **dict.fromkeys((6, 11, 14, 15, 21, 22, 23), "other")}
)
_NUMBERS = {1: "dims", 5: "int32_data", 7: "int64_data", 11: "uint64_data"}
_TENSOR = (
    tags(VARINT, {2: "data_type", 14: "data_location", **_NUMBERS})
    | tags(BYTES, {3: "segment", 4: "float_data", 6: "string_data", 8: "name", 9: "raw_data", **_NUMBERS})
    | tags(BYTES, {10: "double_data", 13: "external_data"})
    | tags(FIXED32, {4: "float_data"})
    | tags(FIXED64, {10: "double_data"})
)
_VALUE = tags(BYTES, {1: "name", 2: "type"})
_TYPE = tags(BYTES, {1: "tensor_type", **dict.fromkeys((4, 5, 8, 9), "other")})
_TENSOR_TYPE = tags(VARINT, {1: "elem_type"}) | tags(BYTES, {2: "shape"})
_SHAPE = tags(BYTES, {1: "dim"})
_DIMENSION = tags(VARINT, {1: "dim_value"}) | tags(BYTES, {2: "dim_param"})
"""Fields that are looked at, by message. An attribute's "other" is a graph, a sparse tensor, a type or a reference."""

_STANDARD = ("", "ai.onnx")
_INNER = frozenset({"If", "Loop", "Scan", "SequenceMap"})
_GRAPH_TYPES = frozenset({5, 10})  # AttributeProto.GRAPH and GRAPHS

_FLOAT, _UINT8, _INT64 = 1, 2, 7

_BITS = {
    **{1: 32, 2: 8, 3: 8, 4: 16, 5: 16, 6: 32, 7: 64, 9: 8, 10: 16, 11: 64, 12: 32, 13: 64, 16: 16},
    **{17: 8, 18: 8, 19: 8, 20: 8, 21: 4, 22: 4},
}
"""Bits of a value, by the number of its type. Texts and complex numbers are not among them."""

_TYPED: Mapping[str, tuple[int, frozenset[int]]] = {
    "float_data": (4, frozenset({1})),
    "double_data": (8, frozenset({11})),
    "int32_data": (0, frozenset({2, 3, 4, 5, 6, 9, 10, *range(16, 23)})),
    "int64_data": (0, frozenset({7})),
    "uint64_data": (0, frozenset({12, 13})),
}
"""Fields with a number for each value: bytes of a number, 0 for a varint, and the types whose values they hold."""

_NEGATIVE = 1 << 63
"""Sizes from here on are negative numbers in the file."""

Fields = Mapping[str, Sequence[int | memoryview]]


class GraphError(ValueError):
    """A file that no engine is given; the message says what is wrong."""


@dataclass(frozen=True)
class Wanted:
    """What the record says of a graph.

    Attributes:
        size: Height and width of the input.
        classes: How many classes there are.
        changes: How many changes runs of fields are judged for; 0 where they are not.
        features: Of a backbone alone, how many features it gives; 0 for a whole graph.
    """

    size: tuple[int, int]
    classes: int
    changes: int = 0
    features: int = 0


def check(content: bytes, wanted: Wanted) -> None:
    """Check a graph.

    Args:
        content: The ONNX file's bytes.
        wanted: What its input and its outputs must be.

    Raises:
        GraphError: It is no graph, or not such a graph.
    """
    try:
        model = message(memoryview(content), _MODEL)
        _check_model(model)
        graph = message(_inner(model, "graph"), _GRAPH)
        for node in _messages(graph, "node", _NODE):
            _check_node(node)
        if graph.get("sparse_initializer"):
            raise GraphError("it has sparse tensors")
        initializers = [_check_tensor(tensor) for tensor in _messages(graph, "initializer", _TENSOR)]
        _check_interface(graph, set(initializers), wanted)
    except WireError as error:
        raise GraphError(f"it is no ONNX file: {error}") from None


def _messages(fields: Fields, name: str, names: Mapping[int, str]) -> Sequence[Fields]:
    return [message(_bytes(value, name), names) for value in fields.get(name, ())]


def _bytes(value: int | memoryview, name: str) -> memoryview:
    if isinstance(value, int):
        raise WireError(f"{name} is a number")
    return value


def _inner(fields: Fields, name: str) -> memoryview:
    value = protobuf.one(fields.get(name, ()), name)
    if value is None:
        raise GraphError(f"it has no {name}")
    return _bytes(value, name)


def _number(fields: Fields, name: str) -> int:
    """A number, 0 where it is not given."""
    value = protobuf.one(fields.get(name, ()), name)
    if isinstance(value, memoryview):
        raise WireError(f"{name} is no number")
    return value or 0


def _text(fields: Fields, name: str) -> str:
    value = protobuf.one(fields.get(name, ()), name)
    if value is None:
        return ""
    try:
        return str(_bytes(value, name), "utf-8")
    except UnicodeDecodeError:
        raise WireError(f"{name} is no text") from None


def _check_model(model: Fields) -> None:
    if not 3 <= _number(model, "ir_version") <= 100:
        raise GraphError("it has no version of ONNX")
    for name in ("training_info", "functions"):
        if model.get(name):
            raise GraphError(f"it has {name}")
    opsets = _messages(model, "opset_import", _OPSET)
    domains = [_text(opset, "domain") for opset in opsets]
    if foreign := sorted(set(domains) - set(_STANDARD)):
        raise GraphError(f"it has operators outside ai.onnx: {ascii(foreign[0])}")
    if len(domains) != 1 or not 1 <= _number(opsets[0], "version") <= 1000:
        raise GraphError("wanted one version of the operators of ai.onnx")


def _check_node(node: Fields) -> None:
    kind, domain = _text(node, "op_type"), _text(node, "domain")
    if domain not in _STANDARD or node.get("overload"):
        raise GraphError(f"node {ascii(kind)} is outside ai.onnx: {ascii(domain)}")
    if kind in _INNER or not kind:
        raise GraphError(f"it has a node {kind or 'without an operator'}, which is not allowed")
    for attribute in _messages(node, "attribute", _ATTRIBUTE):
        if attribute.get("other") or _number(attribute, "type") in _GRAPH_TYPES:
            raise GraphError(f"node {ascii(kind)} holds a graph, or something else than numbers and tensors")
        for tensor in _messages(attribute, "tensor", _TENSOR):
            _check_tensor(tensor)


def _check_tensor(tensor: Fields) -> str:
    """Check that a tensor's values are in the file, as many as its shape says; return its name."""
    name = _text(tensor, "name")
    if _number(tensor, "data_location") or tensor.get("external_data") or tensor.get("segment"):
        raise GraphError(f"tensor {ascii(name)} is outside the file")
    kind = _number(tensor, "data_type")
    if kind not in _BITS or tensor.get("string_data"):
        raise GraphError(f"tensor {ascii(name)} is of type {kind}, which no bundle has")
    shape = _dims(tensor)
    bits, values = _BITS[kind], prod(shape)
    given = [field for field in ("raw_data", *_TYPED) if tensor.get(field)]
    if len(given) > 1 or any(size >= _NEGATIVE for size in shape):
        raise GraphError(f"tensor {ascii(name)} has values twice, or a negative size")
    if not given:
        has, wants = 0, values
    elif given == ["raw_data"]:
        has, wants = len(_inner(tensor, "raw_data")), (values * bits + 7) // 8
    else:
        has, wants = _count(tensor, given[0], kind), values if bits >= 8 else (values + 1) // 2
    if has != wants:
        raise GraphError(f"tensor {ascii(name)} has {has} of {wants} bytes or values that its shape {shape} wants")
    return name


def _dims(tensor: Fields) -> list[int]:
    shape: list[int] = []
    for value in tensor.get("dims", ()):
        shape += [value] if isinstance(value, int) else protobuf.varints(value)
    if len(shape) > 16:
        raise GraphError(f"a tensor has {len(shape)} dimensions")
    return shape


def _count(tensor: Fields, field: str, kind: int) -> int:
    """How many values a field holds that has a number for each, packed or one by one."""
    size, kinds = _TYPED[field]
    if kind not in kinds:
        raise GraphError(f"a tensor of type {kind} has its values in {field}")
    count = 0
    for value in tensor[field]:
        if isinstance(value, int):
            count += 1
        elif not size:
            count += protobuf.count_varints(value)
        elif len(value) % size:
            raise WireError(f"{field} is cut off")
        else:
            count += len(value) // size
    return count


def _check_interface(graph: Fields, initializers: set[str], wanted: Wanted) -> None:
    """Check names, types and shapes of the input and of the outputs that are read."""
    inputs = [value for value in map(_value, _messages(graph, "input", _VALUE)) if value[0] not in initializers]
    height, width = wanted.size
    if inputs != [("image", _UINT8, (None, height, width, 3))]:
        raise GraphError(f"wanted one input, image, uint8 [N, {height}, {width}, 3]; it has {_named(inputs)}")
    outputs = [_value(value) for value in _messages(graph, "output", _VALUE)]
    named = {name: (kind, shape) for name, kind, shape in outputs}
    if len(named) < len(outputs) or len(inputs) + len(outputs) > 100:
        raise GraphError("an output is named twice")
    if wanted.features:
        if outputs != [("features", _FLOAT, (None, wanted.features))]:
            raise GraphError(f"wanted one output, features, float32 [N, {wanted.features}]; it has {_named(outputs)}")
        return
    known: dict[str, tuple[int, tuple[int | None, ...]]] = {
        "probabilities": (_FLOAT, (None, wanted.classes)),
        "label": (_INT64, (None,)),
        "unfamiliarity": (_FLOAT, (None,)),
    }
    if wanted.changes:
        known["deviation"] = (_FLOAT, (None, wanted.changes))
    if named.get("probabilities") != known["probabilities"]:
        raise GraphError(f"wanted probabilities, float32 [N, {wanted.classes}]; it has {_named(outputs)}")
    if wrong := [value for value in outputs if value[0] in known and value[1:] != known[value[0]]]:
        raise GraphError(f"its output {_named(wrong)} is not what the format says")


Value = tuple[str, int, tuple[int | None, ...] | None]
"""Name, number of the type, and shape, in which None stands for any batch."""


def _value(fields: Fields) -> Value:
    name = _text(fields, "name")
    kinds = message(_inner(fields, "type"), _TYPE)
    if set(kinds) != {"tensor_type"}:
        raise GraphError(f"{ascii(name)} is no tensor")
    tensor = message(_inner(kinds, "tensor_type"), _TENSOR_TYPE)
    if not tensor.get("shape"):
        return name, _number(tensor, "elem_type"), None
    dimensions = _messages(message(_inner(tensor, "shape"), _SHAPE), "dim", _DIMENSION)
    sizes = [_number(dimension, "dim_value") if dimension.get("dim_value") else None for dimension in dimensions]
    return name, _number(tensor, "elem_type"), tuple(sizes)


def _named(values: Sequence[Value]) -> str:
    text = ", ".join(f"{name} of type {kind} {list(shape or ())}" for name, kind, shape in values) or "none"
    return ascii(text[:200])
