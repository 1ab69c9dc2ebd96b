"""A tiny bundle whose graph also says how bright an image is: its runs are darker or lighter than they should be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from helpers_bundle import CLASSES, colour_graph, colour_record, encoded
from onnx import ModelProto, TensorProto, helper, numpy_helper
from PIL import Image

from edge_all import bundle as bundles
from edge_all import probe
from edge_all.bundle import Bundle
from edge_all.record import DriftRecord
from edge_all.targets import EngineOptions, open_engine

RUN = 4

DRIFT: DriftRecord = {"run": RUN, "changes": ["darker", "lighter"], "protocol": "block", "runs": 30, "margin": 2.0}

BRIGHTNESS = 100
"""Mean of the images that are as they should be."""


def graph(columns: int = 2) -> bytes:
    """`colour_graph` with "deviation": 1 at 20 levels darker, or lighter, than `BRIGHTNESS`."""
    model = ModelProto.FromString(colour_graph())
    signs = np.resize(np.array([-1, 1], np.float32), columns) / 20
    model.graph.initializer.append(numpy_helper.from_array(np.array([1, 2, 3], np.int64), "all"))
    model.graph.initializer.append(numpy_helper.from_array(np.array([BRIGHTNESS], np.float32), "usual"))
    model.graph.initializer.append(numpy_helper.from_array(signs[np.newaxis], "signs"))
    model.graph.node.extend(
        [
            helper.make_node("ReduceMean", ["float", "all"], ["level"], keepdims=0),
            helper.make_node("Unsqueeze", ["level", "one"], ["column"]),
            helper.make_node("Sub", ["column", "usual"], ["off"]),
            helper.make_node("MatMul", ["off", "signs"], ["deviation"]),
        ]
    )
    model.graph.initializer.append(numpy_helper.from_array(np.array([1], np.int64), "one"))
    model.graph.output.append(helper.make_tensor_value_info("deviation", TensorProto.FLOAT, ["N", columns]))
    return bytes(model.SerializeToString())


def picture(number: int, brightness: int = BRIGHTNESS) -> bytes:
    """An image of this mean brightness; no two numbers give the same bytes."""
    pixels = np.full((48, 64, 3), brightness, np.uint8)
    pixels[0, 0, 0] = number
    pixels[:, :, number % 3] += 20
    pixels[:, :, (number + 1) % 3] -= 20
    return encoded(Image.fromarray(pixels), "PNG")


def write_drift_bundle(out: Path, drift: DriftRecord | None = DRIFT) -> Bundle:
    """A whole bundle around `graph`."""
    graphs = {"model.fp32.onnx": graph(), "model.cpu.int8.onnx": graph()}
    inputs = np.stack([np.full((48, 64, 3), level, np.uint8) for level in (80, 100, 120)])
    answers = {
        f"cpu.{precision}": open_engine(model, EngineOptions()).run(inputs).probabilities
        for precision, model in zip(("fp32", "int8"), graphs.values(), strict=True)
    }
    record: dict[str, Any] = colour_record() | ({"drift": drift} if drift else {})
    contents = graphs | {probe.FILE: probe.pack(inputs, answers), "training_images.txt": b""}
    assert tuple(record["classes"]) == CLASSES
    return bundles.write(out, record, contents)  # type: ignore[arg-type]
