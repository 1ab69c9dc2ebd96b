"""Converters for skl2onnx that write every head in standard ``ai.onnx`` operators and float32.

skl2onnx's own converters emit ``ai.onnx.ml`` (Scaler, TreeEnsembleClassifier, SVMClassifier ...), which OpenVINO's ONNX
frontend refuses and ONNX Runtime has no CUDA kernels for. Each estimator has one file with ``ESTIMATOR``, the class
that it converts, ``convert(scope, operator, container)``, and ``shapes(operator)`` where skl2onnx does not know the
class.

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
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.pipeline import Pipeline

from ..graph.edit import OPSET, free_batch, rename
from ..graph.names import FEATURES, HEAD, LABEL, PROBABILITIES, SELECTED
from .affine import Affine
from .gather import Gather

__all__ = ["convert", "convert_classifier", "estimators"]


def estimators() -> dict[type, ModuleType]:
    """The converters' modules, by the class of estimator that each converts."""
    files = [module.name for module in pkgutil.iter_modules(__path__) if not module.name.startswith("_")]
    modules = [import_module(f".{name}", __package__) for name in files]
    return {module.ESTIMATOR: module for module in modules}


def convert(pipeline: Pipeline, channels: int, *, selected: bool = False) -> onnx.ModelProto:
    """Convert a fitted pipeline with the steps ``scaler``, ``selector`` and ``classifier``.

    Args:
        pipeline: Fitted on ``float32 [N, channels]``.
        channels: How many features it was fitted on.
        selected: The graph is to read the selected features only, ``float32 [N, F]``; not for PCA.

    Returns:
        ``float32 [N, C]`` "features" to "probabilities" and "label", with `SELECTED` between them; every node's name
        starts with ``head/``.
    """
    steps = _gather_first(pipeline)
    if selected:
        steps = steps[1:]
        channels = pipeline["classifier"].n_features_in_
    return _convert(Pipeline(steps), FEATURES, channels)


def convert_classifier(classifier: ClassifierMixin) -> onnx.ModelProto:
    """Convert the last step alone: ``float32 [N, F]`` "selected" to "probabilities" and "label"."""
    return _convert(Pipeline([("classifier", classifier)]), SELECTED, classifier.n_features_in_)


def _convert(pipeline: Pipeline, reads: str, channels: int) -> onnx.ModelProto:
    modules = estimators()
    known = not hasattr(modules[type(pipeline.steps[-1][1])], "shapes")  # to skl2onnx, which then knows this option
    model = convert_sklearn(
        pipeline,
        initial_types=[(reads, FloatTensorType([None, channels]))],
        target_opset={"": OPSET},
        options={"zipmap": False} if known else None,
        custom_conversion_functions={kind: module.convert for kind, module in modules.items()},
        custom_shape_calculators={kind: module.shapes for kind, module in modules.items() if hasattr(module, "shapes")},
    )
    return _tidy(model)


def _gather_first(pipeline: Pipeline) -> list[tuple[str, BaseEstimator]]:
    """Steps of the same function with selection first, so that only what is selected is scaled; PCA is affine."""
    scaler, selector, classifier = pipeline["scaler"], pipeline["selector"], pipeline["classifier"]
    if hasattr(selector, "get_support"):
        kept = selector.get_support(indices=True)
        steps = [("gather", Gather(kept)), ("scale", Affine.scaling(scaler.mean_[kept], scaler.scale_[kept]))]
    else:
        steps = [("project", Affine.projection(scaler, selector))]
    return [*steps, ("classifier", classifier)]


def _tidy(model: onnx.ModelProto) -> onnx.ModelProto:
    """The toolchain's names, one opset, and the probabilities before the label."""
    graph = model.graph
    names = {"output_label": LABEL, "output_probability": PROBABILITIES}
    scaled = [node.output[0] for node in graph.node if node.name.startswith(Affine.__name__)]
    rename(graph, names | {last: SELECTED for last in scaled[-1:]})
    for node in graph.node:
        node.name = f"{HEAD}{node.name}"
    outputs = {value.name: value for value in graph.output}
    ordered = [outputs[PROBABILITIES], outputs[LABEL]]
    del graph.output[:]
    graph.output.extend(ordered)
    graph.name = "head"
    free_batch(graph)
    tidy = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=model.ir_version)
    onnx.checker.check_model(tidy, full_check=True)
    return tidy
