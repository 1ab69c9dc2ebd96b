"""Our skl2onnx converters: every head in standard ``ai.onnx`` operators and float32.

skl2onnx's own converters emit ``ai.onnx.ml`` (Scaler, TreeEnsembleClassifier, SVMClassifier ...), which OpenVINO's ONNX
frontend refuses and ONNX Runtime has no CUDA kernels for. One file an estimator: each has ``ESTIMATOR``, the class that
it converts, and ``convert(scope, operator, container)``.

Reference: https://onnx.ai/sklearn-onnx/auto_tutorial/plot_icustom_converter.html
"""

from __future__ import annotations

import pkgutil
from importlib import import_module
from types import ModuleType

import onnx
from onnx import helper
from skl2onnx import convert_sklearn
from skl2onnx.common.data_types import FloatTensorType
from sklearn.base import BaseEstimator
from sklearn.pipeline import Pipeline

from ._graph import OPSET
from .affine import Affine
from .gather import Gather

__all__ = ["OPSET", "convert", "estimators"]


def estimators() -> dict[type, ModuleType]:
    """The converters' modules by the estimator class they convert."""
    files = [module.name for module in pkgutil.iter_modules(__path__) if not module.name.startswith("_")]
    modules = [import_module(f".{name}", __package__) for name in files]
    return {module.ESTIMATOR: module for module in modules}


def convert(pipeline: Pipeline, channels: int, *, selected: bool = False) -> onnx.ModelProto:
    """Convert a fitted pipeline with the steps ``scaler``, ``selector`` and ``classifier``.

    Args:
        pipeline: Fitted on ``float32 [N, channels]``.
        channels: Width of its input.
        selected: The graph gets what the selector would keep, and nothing else; not for PCA.

    Returns:
        A model with "features" in, "probabilities" and "label" out; every node's name starts with ``head/``.
    """
    modules = estimators()
    steps = _gather_first(pipeline)
    if selected:
        steps = steps[1:]
        channels = pipeline["classifier"].n_features_in_
    model = convert_sklearn(
        Pipeline(steps),
        initial_types=[("features", FloatTensorType([None, channels]))],
        target_opset={"": OPSET},
        options={"zipmap": False},
        custom_conversion_functions={kind: module.convert for kind, module in modules.items()},
        custom_shape_calculators={kind: module.shapes for kind, module in modules.items() if hasattr(module, "shapes")},
    )
    return _tidy(model)


def _gather_first(pipeline: Pipeline) -> list[tuple[str, BaseEstimator]]:
    """Steps of the same function, selection first, so that only what is kept is scaled; PCA is one affine map."""
    scaler, selector, classifier = pipeline["scaler"], pipeline["selector"], pipeline["classifier"]
    if hasattr(selector, "get_support"):
        kept = selector.get_support(indices=True)
        steps = [("gather", Gather(kept)), ("scale", Affine.scaling(scaler.mean_[kept], scaler.scale_[kept]))]
    else:
        steps = [("project", Affine.projection(scaler, selector))]
    return [*steps, ("classifier", classifier)]


def _tidy(model: onnx.ModelProto) -> onnx.ModelProto:
    """Plain names, one opset, and the outputs in the order and under the names of the contract."""
    graph = model.graph
    renamed = {"output_label": "label", "output_probability": "probabilities"}
    for node in graph.node:
        node.name = f"head/{node.name}"
        node.input[:] = [renamed.get(name, name) for name in node.input]
        node.output[:] = [renamed.get(name, name) for name in node.output]
    outputs = {renamed.get(value.name, value.name): value for value in graph.output}
    for name, value in outputs.items():
        value.name = name
    ordered = [outputs["probabilities"], outputs["label"]]
    del graph.output[:]
    graph.output.extend(ordered)
    graph.name = "head"
    for value in (*graph.input, *graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "N"
    tidy = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=model.ir_version)
    onnx.checker.check_model(tidy, full_check=True)
    return tidy
