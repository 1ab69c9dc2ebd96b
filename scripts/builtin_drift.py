"""Give the built-in bundle the output that runs of fields are judged by: python scripts/builtin_drift.py DIR

DIR is the folder of the Kaggle set that scripts/builtin was given. Making the whole bundle again on another CPU gives
other INT8 weights, and so other figures; here the graphs keep every node and every constant that they have, and get a
few more. What the classifier reads is taken from the FP32 graph, for the very images that the head was fitted on. The
export of a new bundle does the same within it (edge_all.export.head.drift), with answers of heads that have not seen
the image; those heads are not in the bundle, so here the answers are those of the head that ships. The scale of the
images is written down, too: a red cell is 16 pixels across.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import cast

import numpy as np
import onnx
import onnxruntime as ort

from edge_all import bundle as bundles
from edge_all.export import features
from edge_all.export.assemble import card
from edge_all.export.dataset import Dataset, folds, read, spread
from edge_all.export.graph import edit
from edge_all.export.graph.names import PROBABILITIES
from edge_all.export.head import drift
from edge_all.export.head.drift import Drift, Fields
from edge_all.record import RecordBody

READ = "head/variable"
"""What the classifier of these graphs reads."""


def main(root: Path) -> None:
    bundle = bundles.load(bundles.BUILTIN)
    whole = read(root)
    known = bundle.training_images()
    data = whole.subset(np.array([digest[:16] in known for digest in whole.digests]))
    there = {digest[:16] for digest in data.digests}
    if there != known:
        raise SystemExit(f"{root}: {len(there)} of the {len(known)} training images are there; wanted all")
    names = {name for precisions in bundle.record["models"].values() for name in precisions.values()}
    graphs = {name: onnx.load_from_string(bundle.read(name)) for name in names}
    found = _fit(graphs["model.fp32.onnx"], data, bundle.input_size)
    known_fields = {name: value for name, value in bundle.record.items() if name != "files"}
    added = {"drift": found.record, "scale": bundles.RED_CELL_UM / 16}
    record = cast(RecordBody, known_fields | added)
    contents = {name: bundle.read(name) for name in bundle.record["files"]}
    for name, graph in graphs.items():
        contents[name] = _extended(graph, found).SerializeToString(deterministic=True)
    contents["MODEL_CARD.md"] = card.write(record).encode()
    bundles.write(bundles.BUILTIN, record, contents)


def _fit(graph: onnx.ModelProto, data: Dataset, size: tuple[int, int]) -> Drift:
    extended = edit.copy(graph)
    extended.graph.output.append(onnx.ValueInfoProto(name=READ))
    session = ort.InferenceSession(extended.SerializeToString(), providers=["CPUExecutionProvider"])

    def answers(images: Iterable[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        given = [session.run([READ, PROBABILITIES], {"image": image[np.newaxis]}) for image in images]
        return np.concatenate([g[0] for g in given]).astype(float), np.concatenate([g[1] for g in given]).astype(float)

    inputs, probabilities = answers(features.decoded(data.paths, size))
    chosen = spread(np.arange(len(data)), drift.IMAGES)
    sample = data.take(chosen)
    changed = {change.name: answers(features.changed(sample, size, change)) for change in drift.CHANGES}
    found = drift.solve(Fields(inputs, probabilities, data.labels, folds(data, "block")), chosen, changed)
    if not found:
        raise SystemExit("there are too few neighbouring fields")
    return found


def _extended(graph: onnx.ModelProto, found: Drift) -> onnx.ModelProto:
    nodes = edit.Nodes()
    centre = nodes.constant("deviation/centre", found.centre.astype(np.float32))
    factor = nodes.constant("deviation/factor", found.factor.astype(np.float32))
    centred = nodes.add("Sub", [READ, centre], "deviation/centred", "head/deviation_Sub")
    return drift.appended(graph, nodes, nodes.add("MatMul", [centred, factor], "deviation/projected"), found)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
