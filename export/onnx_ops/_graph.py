"""Writing nodes into a skl2onnx container."""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import TensorProto

OPSET = 18
"""The ai.onnx version of every graph that the toolchain writes."""

_TYPES = {"float32": TensorProto.FLOAT, "int64": TensorProto.INT64, "bool": TensorProto.BOOL}


class Graph:
    """Adds nodes and constants under unique names, in float32."""

    def __init__(self, scope: Any, operator: Any, container: Any) -> None:
        self._scope, self._container = scope, container
        self._name = type(operator.raw_operator).__name__
        self.input: str = operator.inputs[0].full_name
        self.outputs: list[str] = [value.full_name for value in operator.outputs]

    def constant(self, value: np.ndarray) -> str:
        """An initializer: floating-point values become float32."""
        array = np.asarray(value)
        array = array.astype(np.float32) if array.dtype.kind == "f" else array.astype(np.int64)
        name = self._scope.get_unique_variable_name(f"{self._name}_constant")
        self._container.add_initializer(name, _TYPES[array.dtype.name], array.shape, array.ravel().tolist())
        return str(name)

    def add(
        self, kind: str, *inputs: str | np.ndarray, to: str | None = None, outputs: int = 1, **attributes: Any
    ) -> Any:
        """Add a node; arrays among the inputs become constants.

        Args:
            kind: Operator, at the project's opset.
            *inputs: Names, or arrays.
            to: Name of the output; None makes a new one.
            outputs: How many there are, where `to` is None.
            **attributes: The operator's.

        Returns:
            The output's name, or a tuple of them.
        """
        names = [value if isinstance(value, str) else self.constant(value) for value in inputs]
        made = [to] if to else [self._scope.get_unique_variable_name(f"{self._name}_{kind}") for _ in range(outputs)]
        node = self._scope.get_unique_operator_name(f"{self._name}_{kind}")
        self._container.add_node(kind, names, made, name=node, op_domain="", op_version=OPSET, **attributes)
        return made[0] if len(made) == 1 else tuple(made)

    def answer(self, probabilities: str) -> None:
        """End a classifier: its probabilities, and the first most probable class."""
        label, output = self.outputs
        self.add("Identity", probabilities, to=output)
        self.add("ArgMax", probabilities, to=label, axis=1, keepdims=0)
