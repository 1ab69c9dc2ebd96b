"""Writing nodes into a skl2onnx container."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from onnx import TensorProto, helper

from ..graph.edit import OPSET

_TYPES = {"float32": TensorProto.FLOAT, "int64": TensorProto.INT64, "bool": TensorProto.BOOL}


class Graph:
    """Adds nodes and constants under unique names, in float32."""

    def __init__(self, scope: Any, operator: Any, container: Any) -> None:
        self._scope, self._container = scope, container
        self._name = type(operator.raw_operator).__name__
        self.input: str = operator.inputs[0].full_name
        self.outputs: list[str] = [value.full_name for value in operator.outputs]

    def constant(self, value: ArrayLike) -> str:
        """Add an initializer and return its name: floating-point values become float32, others int64."""
        array = np.asarray(value)
        array = array.astype(np.float32) if array.dtype.kind == "f" else array.astype(np.int64)
        name = self._scope.get_unique_variable_name(f"{self._name}_constant")
        self._container.add_initializer(name, _TYPES[array.dtype.name], array.shape, array.ravel().tolist())
        return str(name)

    def half(self, value: np.ndarray) -> str:
        """A constant in float32, kept as float16 where that holds the same numbers, in half the bytes."""
        half = value.astype(np.float16)
        if not np.array_equal(half, value):
            return self.constant(value)
        name = self._scope.get_unique_variable_name(f"{self._name}_constant")
        tensor = helper.make_tensor(name, TensorProto.FLOAT16, half.shape, half.tobytes(), raw=True)
        self._container.add_initializer(name, TensorProto.FLOAT16, half.shape, tensor)
        output = self._new_tensor("Cast")
        self._add("Cast", [str(name)], [output], to=TensorProto.FLOAT)
        return output

    def add(self, kind: str, *inputs: str | np.ndarray, to: str | None = None, **attributes: Any) -> str:
        """Add a node of one output; arrays among the inputs become constants.

        Args:
            kind: Operator, at the project's opset.
            *inputs: Names, or arrays.
            to: Name of the output; None makes a new one.
            **attributes: The operator's.

        Returns:
            The output's name.
        """
        names = self._names(inputs)
        output = self._new_tensor(kind) if to is None else to
        self._add(kind, names, [output], **attributes)
        return output

    def add_several(self, kind: str, *inputs: str | np.ndarray, outputs: int, **attributes: Any) -> list[str]:
        """As `add`, of a node with several outputs: returns their names."""
        names = self._names(inputs)
        new = [self._new_tensor(kind) for _ in range(outputs)]
        self._add(kind, names, new, **attributes)
        return new

    def answer(self, probabilities: str) -> None:
        """End a classifier: its probabilities, and the number of the most probable class, the first at a tie."""
        label, output = self.outputs
        self.add("Identity", probabilities, to=output)
        self.add("ArgMax", probabilities, to=label, axis=1, keepdims=0)

    def _names(self, inputs: tuple[str | np.ndarray, ...]) -> list[str]:
        return [value if isinstance(value, str) else self.constant(value) for value in inputs]

    def _new_tensor(self, kind: str) -> str:
        return str(self._scope.get_unique_variable_name(f"{self._name}_{kind}"))

    def _add(self, kind: str, inputs: list[str], outputs: list[str], **attributes: Any) -> None:
        node = self._scope.get_unique_operator_name(f"{self._name}_{kind}")
        self._container.add_node(kind, inputs, outputs, name=node, op_domain="", op_version=OPSET, **attributes)
