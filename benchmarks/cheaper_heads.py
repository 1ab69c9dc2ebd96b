"""Could the SVM of a bundle be cheaper? python benchmarks/cheaper_heads.py BUNDLE [--json FILE]

Two ways, judged on the bundle's kept features, of the fold that the SVM was not fitted on:

- fewer support vectors: the centres of k-means clusters of them, weighed by least squares so that they give the same
  decisions on the training rows (Burges 1996, Simplified support vector decision rules);
- products of 8 bits with all support vectors: features and vectors rounded to multiples of 6 / 127 standard deviations,
  timed in both engines against the graph of the bundle, in turns.

What is compared are labels and probabilities, of the images as they are and of all rows with their changed copies.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import click
import numpy as np
import onnx
from onnx import helper
from sklearn.cluster import MiniBatchKMeans
from sklearn.metrics.pairwise import rbf_kernel

from edge_all import bundle as bundles
from edge_all import machine, training_features
from edge_all.bundle import Bundle
from edge_all.export.classifiers.svm import Svm
from edge_all.export.graph import edit, timing
from edge_all.export.graph.names import PROBABILITIES, SELECTED
from edge_all.export.head.fit import inner_splits

COUNTS = (3000, 2000, 1500, 1000, 500)
STEP = 6 / 127
TURNS = 400


@click.command(help=__doc__)
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--json", "report", type=click.Path(path_type=Path), help="Write the figures to a file.")
def main(path: Path, report: Path | None) -> None:
    """Print a line for each number of vectors, and one for each engine."""
    bundle = bundles.load(path)
    fewer, products = _fewer(bundle), _products(bundle)
    for row in (*fewer, *products):
        told = (f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}" for name, value in row.items())
        click.echo(", ".join(told))
    if report:
        about = {"machine": machine.describe(), "bundle": bundle.name, "digest": bundle.digest}
        report.write_text(json.dumps(about | {"fewer": fewer, "products": products}, indent=1) + "\n", encoding="utf-8")


def _compared(given: np.ndarray, wanted: np.ndarray, plain: np.ndarray) -> dict[str, float]:
    """Two sets of probabilities ``[N, K]``, and which rows are images as they are, ``bool [N]``."""
    same = given.argmax(1) == wanted.argmax(1)
    off = np.abs(given - wanted).max(1)
    return {
        "same label %": 100 * float(same[plain].mean()),
        "with copies %": 100 * float(same.mean()),
        "probability off, p99": float(np.quantile(off, 0.99)),
        "most": float(off.max()),
    }


def _fewer(bundle: Bundle) -> list[dict[str, float | int | str]]:
    kept = training_features.read(bundle)
    assert kept is not None, "the bundle keeps no features"
    inputs, labels = kept.inputs.astype(np.float64), kept.labels[kept.shown].astype(int)
    last = kept.folds[kept.shown] == kept.folds.max()
    train, test = np.flatnonzero(~last), np.flatnonzero(last)
    svm = Svm(splits=inner_splits(labels[train], kept.shown[train], 0)).fit(inputs[train], labels[train])
    machines, plain = svm.machines_, test < len(kept.labels)
    wanted, decisions = svm.predict_proba(inputs[test]), machines.decisions(inputs[train])
    weights = 1 / (0.3 + np.abs(decisions).min(1))  # what is near a border counts most
    rows: list[dict[str, float | int | str]] = []
    for count in (count for count in COUNTS if count < len(machines.support_)):
        clusters = MiniBatchKMeans(count, random_state=0, n_init=1, batch_size=4096, max_iter=30)
        centres = clusters.fit(machines.support_vectors_).cluster_centers_
        kernel = rbf_kernel(inputs[train], centres, gamma=machines.gamma_)
        products = kernel.T @ (kernel * weights[:, np.newaxis])
        products += 1e-6 * np.trace(products) / count * np.eye(count)
        target = kernel.T @ ((decisions - machines.intercepts_) * weights[:, np.newaxis])
        found = rbf_kernel(inputs[test], centres, gamma=machines.gamma_) @ np.linalg.solve(products, target)
        given = 1 / (1 + np.exp(np.clip((found + machines.intercepts_) * svm.slopes_ + svm.offsets_, -500, 500)))
        compared = _compared(given / given.sum(1, keepdims=True), wanted, plain)
        rows.append({"vectors": count, "of": len(machines.support_), **compared})
    return rows


def _products(bundle: Bundle) -> list[dict[str, float | int | str]]:
    kept = training_features.read(bundle)
    assert kept is not None
    model = onnx.shape_inference.infer_shapes(
        onnx.load_from_string(bundle.read(bundle.model_file(bundle.targets[0], "fp32")))
    )
    exact = edit.extract(model, [SELECTED], [PROBABILITIES])
    rounded = _rounded(exact)
    inputs = kept.inputs.astype(np.float32)
    plain = np.arange(len(inputs)) < len(kept.labels)
    rows: list[dict[str, float | int | str]] = []
    for engine, start in (("ONNX Runtime", _onnxruntime), ("OpenVINO", _openvino)):
        runs = [start(graph) for graph in (exact, rounded)]
        given, wanted = (np.concatenate([run(row[np.newaxis]) for row in inputs]) for run in reversed(runs))
        taken: list[list[float]] = [[], []]
        for turn in range(TURNS):
            for run, samples in zip(runs, taken, strict=True):
                begun = time.perf_counter()
                run(inputs[turn : turn + 1])
                samples.append(1e6 * (time.perf_counter() - begun))
        us = [statistics.median(samples) for samples in taken]
        rows.append({"engine": engine, "float us": us[0], "8 bits us": us[1], **_compared(given, wanted, plain)})
    return rows


def _rounded(exact: onnx.ModelProto) -> onnx.ModelProto:
    """A head whose features and support vectors are rounded, with the product between them in 8 bits."""
    graph = edit.copy(exact)
    arrays = edit.arrays(graph.graph)
    (cast,) = (node for node in graph.graph.node if node.op_type == "Cast" and node.input[0] in arrays)
    (product,) = (node for node in graph.graph.node if cast.output[0] in node.input)
    (factor,) = (node for node in graph.graph.node if node.output[0] == product.input[0])
    times = float(arrays[next(name for name in factor.input if name in arrays)])
    vectors = np.clip(np.rint(arrays[cast.input[0]].astype(np.float32) / STEP), -127, 127).astype(np.int8)
    constants = {
        "step": np.float32(STEP), "middle": np.uint8(128), "vectors": vectors, "vector_step": np.float32(STEP * times),
        "none": np.int8(0),
    }  # fmt: skip
    nodes = [
        helper.make_node("QuantizeLinear", [SELECTED, "step", "middle"], ["rounded"]),
        helper.make_node("DequantizeLinear", ["rounded", "step", "middle"], ["features"]),
        helper.make_node("DequantizeLinear", ["vectors", "vector_step", "none"], ["weights"]),
    ]
    for node in graph.graph.node:
        if node.name in (cast.name, factor.name):
            continue
        node.input[:] = ["features" if name == SELECTED else name for name in node.input]
        if node.name == product.name:
            node.input[:] = ["features", "weights"]
        nodes.append(edit.copy(node))
    for name, value in arrays.items():
        if value.shape == vectors.shape[1:]:  # the squared norms of the vectors
            edit.set_constant(graph.graph, name, ((vectors.astype(np.float32) * np.float32(STEP)) ** 2).sum(0))
    edit.set_nodes(graph.graph, nodes)
    edit.add_constants(graph.graph, {name: np.asarray(value) for name, value in constants.items()})
    edit.drop_unread(graph.graph)
    del graph.graph.value_info[:]
    onnx.checker.check_model(graph, full_check=True)
    return graph


Run = Callable[[np.ndarray], np.ndarray]
"""From ``float32 [1, F]`` to probabilities ``float32 [1, K]``."""


def _onnxruntime(graph: onnx.ModelProto) -> Run:
    import onnxruntime as ort

    session = ort.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
    return lambda inputs: np.asarray(session.run([PROBABILITIES], {SELECTED: inputs})[0])


def _openvino(graph: onnx.ModelProto) -> Run:
    request, _ = timing.request(graph.SerializeToString())

    def run(inputs: np.ndarray) -> np.ndarray:
        request.infer({0: inputs}, share_inputs=True)
        return np.array(request.get_output_tensor(0).data)

    return run


if __name__ == "__main__":
    main()
