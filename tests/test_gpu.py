"""FP16 and INT8 for target gpu: what is converted, what the gate says, what a bundle carries; all on the CPU."""

from __future__ import annotations

import json
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from helpers_command import Command
from helpers_graphs import by_onnxruntime, check_standard, random_weights
from onnx import TensorProto, numpy_helper

from edge_all import bench, probe
from edge_all import bundle as bundles
from edge_all.errors import TargetError
from edge_all.export import backbones, features
from edge_all.export.dataset import folds, read
from edge_all.export.features import Rows
from edge_all.export.graph.build import backbone_graph
from edge_all.export.head.fit import HeadSpec
from edge_all.export.head.reference import measure
from edge_all.export.head.scorer import Scorer
from edge_all.export.quantize import float16
from edge_all.intervals import Units
from edge_all.progress import Console, Progress, ignore
from edge_all.targets import EngineOptions, onnxruntime_gpu
from edge_all.targets.onnxruntime_cpu import PROVIDER, OnnxRuntimeEngine
from edge_all.targets.onnxruntime_gpu import left_to_cpu

SIZE = (64, 64)


@pytest.fixture(scope="module")
def backbone() -> onnx.ModelProto:
    chosen = backbones.load("mobilenetv2")
    return backbone_graph(chosen, random_weights(chosen.name), tap_name="features.3:std", input_size=SIZE)


def test_convolutions_are_float16_and_the_rest_is_not(backbone: onnx.ModelProto) -> None:
    half = float16.convert(backbone)
    check_standard(half)
    types = {array.name: array.data_type for array in half.graph.initializer}
    for node in half.graph.node:
        if node.op_type == "Conv":
            assert {types[name] for name in node.input[1:]} == {TensorProto.FLOAT16}
        elif node.name.startswith("pooling/"):
            assert TensorProto.FLOAT16 not in {types.get(name) for name in node.input}
    ends = [(value.name, value.type.tensor_type.elem_type) for value in (*half.graph.input, *half.graph.output)]
    assert ends == [("image", TensorProto.UINT8), ("features", TensorProto.FLOAT)]
    casts = [node for node in half.graph.node if node.op_type == "Cast"]
    assert len(casts) == 3, "pixels to float32, to float16 before the convolutions, to float32 behind them"

    images = np.random.default_rng(0).integers(0, 256, (4, *SIZE, 3), dtype=np.uint8)
    exact, rounded = (by_onnxruntime(graph, image=images)["features"] for graph in (backbone, half))
    assert 0 < np.abs(rounded - exact).max() < 0.01 * np.abs(exact).max()


def test_the_gate_can_refuse(tinted: Path, backbone: onnx.ModelProto, monkeypatch: pytest.MonkeyPatch) -> None:
    data = read(tinted)
    rows = Rows(features.extract(backbone, data, SIZE))
    block = folds(data, "block")
    reference = measure(
        backbone, Scorer(data, Units.images(len(data))), rows, {"block": block}, HeadSpec("anova", "svm", count=12)
    )
    said: list[str] = []

    def step(title: str) -> nullcontext[Progress]:
        return nullcontext(ignore)

    console = Console(step, said.append)
    half = float16.attempt(reference, console)
    assert half.verdict["passed"] and half.scores["block"]["agreement_fp32"] >= 95 and not said

    other = onnx.ModelProto()
    other.CopyFrom(backbone)
    first = next(node for node in other.graph.node if node.op_type == "Conv")
    for array in other.graph.initializer:
        if array.name in first.input[1:]:
            array.CopyFrom(numpy_helper.from_array(-numpy_helper.to_array(array), array.name))
    refused = float16.attempt(replace(reference, graph=other), console)
    assert not refused.verdict["passed"] and "FP32 ships in its place" in said[0]


def test_a_bundle_for_gpu(edge_all: Command, tinted: Path, tmp_path: Path) -> None:
    words = ("--backbone", "mobilenetv2", "--weights", "random", "--tap", "features.2", "--resize", "64x64")
    out = tmp_path / "bundle"
    done = edge_all("export", *words, "--augment", 0, "--data", tinted, "--target", "gpu", "--out", out)
    assert done.returncode == 0, done.stderr
    made = bundles.load(out)
    files = {precision: f"model.{precision}.onnx" for precision in ("fp16", "fp32")} | {"int8": "model.gpu.int8.onnx"}
    assert made.record["models"] == {"gpu": files} and list(made.record["models"]["gpu"]) == ["fp16", "fp32", "int8"]
    for precision in ("fp16", "int8"):
        assert made.record["verified"][f"gpu.{precision}"]["agreement"] >= 95
        assert made.record["metrics"]["block"][precision]["agreement_fp32"] >= 95
    card = (out / "MODEL_CARD.md").read_text()
    assert "| block | FP16, gpu |" in card and "- gpu: layerwise-s8s8, head" in card
    assert made.record["gate"]["targets"]["gpu"]["graph_ms"] is None
    assert "fp16" in done.stdout
    inputs = probe.images(made)
    given = {
        precision: OnnxRuntimeEngine(made.read(file), {PROVIDER: {}}, 1).run(inputs).probabilities
        for precision, file in files.items()
    }
    assert 0 < np.abs(given["fp16"] - given["fp32"]).max() < probe.TOLERANCE["fp16"]

    done = edge_all("doctor", "--bundle", out, "--json")
    if onnxruntime_gpu.CUDA not in ort.get_available_providers():
        assert done.returncode == 0 and [check["available"] for check in json.loads(done.stdout)["checks"]] == [False]


def test_an_engine_of_tensorrt_from_the_cache_is_known_by_its_content(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGE_ALL_CACHE", str(tmp_path / "cache"))
    options, cached = onnxruntime_gpu._providers(b"a graph", "int8", True)
    folder = Path(str(options[onnxruntime_gpu.TENSORRT]["trt_engine_cache_path"]))
    assert cached is None and folder.is_dir() and not list(folder.iterdir())
    digests = set()
    for content in (b"an engine", b"another"):
        (folder / "x.engine").write_bytes(content)
        digests.add(onnxruntime_gpu._providers(b"a graph", "int8", True)[1])
    assert len(digests - {None}) == 2
    assert onnxruntime_gpu._providers(b"another graph", "int8", True)[1] is None
    assert onnxruntime_gpu._providers(b"a graph", "int8", False)[1] is None and not list(folder.iterdir())
    monkeypatch.setenv("EDGE_ALL_CACHE", str(Path(__file__)))
    options, cached = onnxruntime_gpu._providers(b"a graph", "int8", True)
    assert cached is None and "trt_engine_cache_enable" not in options[onnxruntime_gpu.TENSORRT]


def test_int8_on_a_gpu_is_tensorrts(monkeypatch: pytest.MonkeyPatch, colour_bundle: bundles.Bundle) -> None:
    monkeypatch.setattr(ort, "get_available_providers", lambda: [onnxruntime_gpu.CUDA, PROVIDER])
    onnxruntime_gpu.check_available("fp16")
    with pytest.raises(TargetError, match="INT8 on target gpu needs ONNX Runtime's TensorrtExecutionProvider"):
        onnxruntime_gpu.check_available("int8")
    with pytest.raises(TargetError, match="use --precision fp16"):
        onnxruntime_gpu.open_engine(b"a graph with a QuantizeLinear", EngineOptions("gpu"))

    record = colour_bundle.record | {"models": {"gpu": {"fp32": "model.fp32.onnx", "int8": "model.cpu.int8.onnx"}}}
    for_gpu = replace(colour_bundle, record=record)
    cases, missing = bench.available_cases(for_gpu, (), ())
    assert [case.precision for case in cases] == ["fp32"]
    assert len(missing) == 1 and missing[0].startswith("gpu left out: INT8 on target gpu needs")
    assert [case.precision for case in bench.available_cases(for_gpu, ("gpu",), ("int8",))[0]] == ["int8"]

    assert onnxruntime_gpu._starts(PROVIDER)
    monkeypatch.setattr(ort, "get_available_providers", lambda: [onnxruntime_gpu.TENSORRT, onnxruntime_gpu.CUDA])
    monkeypatch.setattr(onnxruntime_gpu, "_starts", {onnxruntime_gpu.TENSORRT: True}.__getitem__)
    onnxruntime_gpu.check_available("int8")
    assert not bench.available_cases(for_gpu, (), ())[1]


def test_nodes_are_counted(colour_bundle: bundles.Bundle, tmp_path: Path) -> None:
    model = colour_bundle.read("model.fp32.onnx")
    engine = OnnxRuntimeEngine(model, {PROVIDER: {}}, 1, profile=tmp_path / "nodes")
    nodes = engine.count_nodes()
    assert nodes[("CPUExecutionProvider", "ReduceMean")] == nodes[("CPUExecutionProvider", "ArgMax")] == 1
    assert left_to_cpu(nodes).startswith(f"{sum(nodes.values())} of {sum(nodes.values())} nodes on the CPU (1 ArgMax")


def test_only_what_is_not_on_the_gpu_is_told() -> None:
    gpu = {("TensorrtExecutionProvider", "TRTKernel"): 1, ("CUDAExecutionProvider", "Conv"): 49}
    assert left_to_cpu(gpu | {("CPUExecutionProvider", "Gather"): 2}) == "2 of 52 nodes on the CPU (2 Gather)"
    assert left_to_cpu(gpu) == "0 of 50 nodes on the CPU"
