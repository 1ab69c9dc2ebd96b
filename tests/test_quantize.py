"""Our own quantization: each part against what it must keep, and whole graphs on both engines."""

from __future__ import annotations

import io
from collections import Counter
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from graphs import ENGINES, Run, by_onnxruntime, by_openvino, pictures, random_weights
from onnx import numpy_helper

from edge_all.export import backbones
from edge_all.export.graph.build import backbone_graph
from edge_all.export.graph.facts import attributes
from edge_all.export.graph.reorder import as_depthwise
from edge_all.export.quantize import layerwise, sensitivity
from edge_all.export.quantize.layerwise import gptq, input_folding, scales, torch_ops
from edge_all.export.quantize.layerwise.channel_alignment import balance
from edge_all.export.quantize.layerwise.placement import place
from edge_all.export.quantize.layerwise.rewrite import is_exit, rewrite

TAPS = {
    "densenet121": "transition1",
    "efficientnet_lite0": "blocks.2.1",
    "inceptionv3": "Mixed_5c",
    "mobilenetv2": "features.4",
    "resnet101": "layer1.2",
    "vgg19": "features.9",
}
"""Deep enough for every kind of block that a backbone has."""

SIZE = (75, 75)

IMAGES = pictures(16, SIZE, seed=3)


@cache
def graph(name: str) -> onnx.ModelProto:
    return backbone_graph(backbones.load(name), random_weights(name), tap_name=TAPS[name], input_size=SIZE)


@cache
def quantized(name: str, **options: object) -> onnx.ModelProto:
    return layerwise.quantize(graph(name), IMAGES, **options)  # type: ignore[arg-type]


def run(model: onnx.ModelProto, images: np.ndarray = IMAGES) -> np.ndarray:
    return by_onnxruntime(model, image=images)["features"]


def error(found: np.ndarray, wanted: np.ndarray) -> float:
    """Mean squared error of a channel in shares of its variance over the images: the median channel's."""
    live = wanted.std(0) > 1e-3 * wanted.std(0).max()
    return float(np.median(((found - wanted) ** 2).mean(0)[live] / wanted.var(0)[live]))


@pytest.mark.parametrize("name", TAPS)
def test_every_listed_backbone_is_a_backbone(name: str) -> None:
    assert TAPS.keys() == set(backbones.names())
    assert any(node.op_type == "Conv" for node in graph(name).graph.node)


@pytest.mark.parametrize("name", TAPS)
@pytest.mark.parametrize("engine", ENGINES)
def test_seven_bits_keep_the_features_of_unseen_images(name: str, engine: Run) -> None:
    unseen = pictures(12, SIZE, seed=4)
    wanted = run(graph(name), unseen)
    found = np.concatenate([engine(quantized(name, weight_bits=7), image=image[None])["features"] for image in unseen])
    assert error(found, wanted) < 0.05


@pytest.mark.parametrize("name", TAPS)
def test_it_beats_rounding_to_the_nearest(name: str) -> None:
    from edge_all.export.quantize import onnxruntime_qdq

    wanted = run(graph(name))
    assert error(run(quantized(name)), wanted) < error(run(onnxruntime_qdq.quantize(graph(name), IMAGES)), wanted)


@pytest.mark.parametrize("name", TAPS)
def test_no_pair_of_products_overflows_16_bits(name: str) -> None:
    """255 * w1 + 255 * w2 in an int16, as x86 without VNNI adds them."""
    weights = [
        numpy_helper.to_array(constant).astype(int)
        for constant in quantized(name, weight_bits=7).graph.initializer
        if constant.name.endswith("/weights")
    ]
    assert weights and max(np.abs(w).max() for w in weights) * 2 * 255 <= 32767


@pytest.mark.parametrize("name", TAPS)
def test_rewriting_changes_nothing(name: str) -> None:
    model, rewritten = graph(name), rewrite(graph(name))
    wanted = run(model)
    np.testing.assert_allclose(run(rewritten), wanted, atol=1e-5 * np.abs(wanted).max())
    nodes = rewritten.graph.node
    assert not {"BatchNormalization", "AveragePool"} & {node.op_type for node in nodes}
    (exit,) = filter(is_exit, nodes)
    assert exit.output[0] == "map_0" and attributes(exit)["group"] == wanted.shape[1]


def test_concats_of_a_dense_block_take_what_is_joined_already() -> None:
    def pieces(model: onnx.ModelProto) -> list[int]:
        return [len(n.input) for n in model.graph.node if n.op_type == "Concat" and n.name.startswith("backbone/")]

    assert pieces(graph("densenet121")) == [2, 3, 4, 5, 6, 7]
    assert pieces(rewrite(graph("densenet121"))) == [2] * 6


def test_an_average_that_leaves_its_padding_out() -> None:
    pool = onnx.helper.make_node("AveragePool", ["x"], ["y"], "pool", kernel_shape=[3, 3], pads=[1, 1, 1, 1])
    with pytest.raises(ValueError, match="wanted count_include_pad"):
        as_depthwise(pool, 8, onnx.GraphProto())


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("name", TAPS)
def test_balancing_changes_nothing(name: str, signed: bool) -> None:
    model = rewrite(graph(name))
    placement = place(model, input_folding.SOURCE)
    with torch.inference_mode():
        first = layerwise._preprocessed(model, IMAGES)
        balanced = balance(model, layerwise._spans(model, first), placement.leader, signed)
    wanted = run(model)
    np.testing.assert_allclose(run(balanced), wanted, atol=1e-4 * np.abs(wanted).max())
    before, after = (_first_weights(m) for m in (model, balanced))
    assert before.shape == after.shape and not np.array_equal(before, after)


def _first_weights(model: onnx.ModelProto) -> np.ndarray:
    node = next(node for node in model.graph.node if node.op_type == "Conv")
    return np.asarray(next(numpy_helper.to_array(c) for c in model.graph.initializer if c.name == node.input[1]))


def test_balancing_nodes_that_share_their_constants() -> None:
    """torch's exporter stores equal constants once; each reader has factors of its own."""
    model = onnx.ModelProto()
    model.CopyFrom(graph("vgg19"))
    convolutions = [node for node in model.graph.node if node.op_type == "Conv"]
    convolutions[3].input[1] = (
        convolutions[2].input[1] if _same_shape(model, *convolutions[2:4]) else convolutions[3].input[1]
    )
    model = rewrite(model)
    placement = place(model, input_folding.SOURCE)
    with torch.inference_mode():
        first = layerwise._preprocessed(model, IMAGES)
        balanced = balance(model, layerwise._spans(model, first), placement.leader)
    wanted = run(model)
    np.testing.assert_allclose(run(balanced), wanted, atol=1e-4 * np.abs(wanted).max())


def _same_shape(model: onnx.ModelProto, a: onnx.NodeProto, b: onnx.NodeProto) -> bool:
    shapes = {constant.name: tuple(constant.dims) for constant in model.graph.initializer}
    return shapes[a.input[1]] == shapes[b.input[1]]


@pytest.mark.parametrize("name", TAPS)
def test_walking_in_torch_is_the_graph(name: str) -> None:
    model, seen = rewrite(graph(name)), {}

    def visit(node: onnx.NodeProto, inputs: list[torch.Tensor]) -> torch.Tensor:
        seen[node.output[0]] = torch_ops.run(node, inputs)
        return seen[node.output[0]]

    with torch.inference_mode():
        layerwise._walk(model, layerwise._preprocessed(model, IMAGES[:4]), visit, lambda value: value)
    wanted = run(model, IMAGES[:4])
    np.testing.assert_allclose(seen["map_0"].mean((2, 3)), wanted, atol=1e-4 * np.abs(wanted).max())


def test_an_operator_that_is_not_known() -> None:
    with pytest.raises(ValueError, match="operator Sigmoid is not known"):
        torch_ops.run(onnx.helper.make_node("Sigmoid", ["x"], ["y"]), [torch.zeros(1)])


def test_float_layers_stay_float() -> None:
    names = layerwise.convolutions(graph("mobilenetv2"))
    made = layerwise.quantize(graph("mobilenetv2"), IMAGES, floating=names)
    np.testing.assert_allclose(run(made), run(graph("mobilenetv2")), rtol=1e-3, atol=1e-5)
    assert not any(node.op_type == "QuantizeLinear" for node in made.graph.node)


def test_signed_activations_have_no_zero_points_and_no_integer_biases() -> None:
    """As TensorRT wants them."""
    made = quantized("mobilenetv2", signed=True)
    arrays = {constant.name: numpy_helper.to_array(constant) for constant in made.graph.initializer}
    zeros = [array for name, array in arrays.items() if name.endswith("/zero")]
    assert {str(zero.dtype) for zero in zeros} == {"int8"} and not any(zero.any() for zero in zeros)
    biases = [arrays[node.input[2]] for node in made.graph.node if node.op_type == "Conv"]
    assert len(biases) == 12 + 1, "the layers, and the exit of the map"
    assert {str(bias.dtype) for bias in biases} == {"float32"}
    assert error(run(made), run(graph("mobilenetv2"))) < 0.05


@pytest.mark.parametrize("name", TAPS)
def test_pixels_go_into_the_first_convolution_as_they_are(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    entered = quantized(name)
    monkeypatch.setattr(input_folding, "direct", lambda model: model)
    normalised = quantized.__wrapped__(name)
    kinds = [[node.op_type for node in model.graph.node[:2]] for model in (entered, normalised)]
    padded = any(_pads(normalised))
    assert kinds == [["Pad", "DequantizeLinear"] if padded else ["DequantizeLinear", "Transpose"], ["Reshape", "Cast"]]
    assert not any(_pads(entered)) and padded == (name != "inceptionv3")
    arrays = {c.name: numpy_helper.to_array(c) for c in normalised.graph.initializer}
    step, zero = float(arrays["normalized/step"]), int(arrays["normalized/zero"])
    values = np.arange(256)[:, None] * arrays["preprocess/factor"] + arrays["preprocess/offset"]
    np.testing.assert_allclose(values / step + zero, np.tile(np.arange(256)[:, None], values.shape[1]), atol=1e-3)
    np.testing.assert_array_equal(run(entered), run(normalised))
    given, wanted = (by_openvino(model, image=IMAGES)["features"] for model in (entered, normalised))
    assert error(given, wanted) < 1e-3, "it adds up in floating point behind the integers, and rounds otherwise"


def _pads(model: onnx.ModelProto) -> list[int]:
    first = next(node for node in model.graph.node if node.op_type == "Conv")
    return list(attributes(first)["pads"])


def test_one_normalisation_for_all_channels_changes_nothing_but_the_padding() -> None:
    """InceptionV3's first convolution has none."""
    model = onnx.ModelProto()
    model.CopyFrom(graph("inceptionv3"))
    differing = {"preprocess/factor": [0.017, 0.015, 0.019], "preprocess/offset": [-2.1, -1.5, -1.7]}
    for constant in model.graph.initializer:
        if constant.name in differing:
            rows = np.tile(np.array(differing[constant.name], np.float32), SIZE[1])
            constant.CopyFrom(numpy_helper.from_array(rows, constant.name))
    alike = input_folding.alike(model)
    assert [len(set(constant)) for constant in input_folding.normalisation(alike)] == [1, 1]
    np.testing.assert_allclose(run(alike), run(model), rtol=1e-4, atol=1e-5)


def test_pixels_that_rounding_would_change_are_rounded() -> None:
    made = quantized("mobilenetv2", signed=True)
    assert made.graph.node[0].op_type == "Reshape"
    assert input_folding.direct(made) is made


@pytest.mark.parametrize("name", TAPS)
def test_onnxruntime_runs_every_convolution_in_integers(name: str, tmp_path: Path) -> None:
    import onnxruntime as ort

    made, optimized = quantized(name, weight_bits=7), tmp_path / "optimized.onnx"
    options = ort.SessionOptions()
    options.log_severity_level, options.optimized_model_filepath = 3, str(optimized)
    ort.InferenceSession(made.SerializeToString(), options, providers=["CPUExecutionProvider"])
    kinds = Counter(node.op_type for node in onnx.load(optimized).graph.node)
    assert kinds["QLinearConv"] == len(layerwise.convolutions(made))
    assert not {"Conv", "FusedConv", "BatchNormalization", "Relu", "Clip", "MaxPool"} & kinds.keys()
    # One of what is pooled; DenseNet's first block takes its maxima from one scale to another.
    assert kinds["DequantizeLinear"] + kinds["QuantizeLinear"] <= 1 + 2 * (name == "densenet121"), kinds


@pytest.mark.parametrize("name", TAPS)
def test_openvino_runs_every_convolution_in_integers(name: str) -> None:
    import openvino as ov

    made = quantized(name, weight_bits=7)
    read = ov.Core().read_model(io.BytesIO(made.SerializeToString()))
    read.reshape([1, *SIZE, 3])
    compiled = ov.Core().compile_model(read, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    told = [
        {key: node.get_rt_info()[key].astype(str) for key in ("layerType", "runtimePrecision", "originalLayersNames")}
        for node in compiled.get_runtime_model().get_ops()
    ]
    convolutions = [one for one in told if one["layerType"] == "Convolution"]
    assert len(convolutions) == len(layerwise.convolutions(made))
    assert [one for one in convolutions if one["runtimePrecision"] not in ("u8", "i8")] == []


def test_the_worst_layer_comes_first() -> None:
    """A layer whose weights need more than 8 bits."""
    model = onnx.ModelProto()
    model.CopyFrom(graph("vgg19"))
    target = [node for node in model.graph.node if node.op_type == "Conv"][1]
    rng = np.random.default_rng(0)
    for constant in model.graph.initializer:
        if constant.name == target.input[1]:
            weights = numpy_helper.to_array(constant).copy()
            weights[:, rng.integers(weights.shape[1])] *= 0
            weights[:, 0, 0, 0] = 300 * np.abs(weights).max()
            weights[:, 0, 0, 1] = -weights[:, 0, 0, 0]
            constant.CopyFrom(numpy_helper.from_array(weights, constant.name))
    assert sensitivity.worst_first(model, IMAGES[:6], {"weight_bits": 4})[0] == target.name


def test_rounding_against_the_nearest_step() -> None:
    generator = torch.Generator().manual_seed(0)
    mixing = torch.randn(40, 40, generator=generator)
    inputs = (torch.randn(600, 40, generator=generator) @ mixing)[:, None]
    weights = torch.randn(1, 8, 40, generator=generator)
    step = gptq.steps(weights[0], 7)[None]
    nearest = (weights / step[..., None]).round().clamp(-7, 7)
    found = gptq.round_weights(weights, inputs, step, 7)
    assert torch.equal(found, found.round()) and found.abs().max() <= 7

    def lost(whole: torch.Tensor) -> float:
        return float((((whole * step[..., None] - weights) @ inputs[:, 0].mT) ** 2).sum())

    assert lost(found) < 0.7 * lost(nearest)


def test_adapting_weights_to_rounded_inputs() -> None:
    generator = torch.Generator().manual_seed(0)
    exact = torch.randn(500, 2, 6, generator=generator)
    weights = torch.randn(2, 3, 6, generator=generator)
    found = gptq.adapted(weights, exact, 1.25 * exact)
    assert torch.allclose(found, weights / 1.25, atol=0.1) and not torch.allclose(found, weights, atol=0.1)


@pytest.mark.parametrize(("low", "high"), [(0.0, 6.0), (-3.0, 5.0), (-4.0, -1.0), (0.0, 0.0)])
@pytest.mark.parametrize("signed", [False, True])
def test_zero_is_always_exact(low: float, high: float, signed: bool) -> None:
    scale = scales.scale_between(low, high, signed)
    least, most = scale.bounds
    assert least <= scale.zero <= most and scale.step > 0
    ends = scale.ends
    assert ends[0] <= low + scale.step and ends[1] >= high - scale.step


def test_a_range_leaves_outliers_out_where_that_costs_less() -> None:
    rng = np.random.default_rng(0)
    values = np.concatenate([rng.normal(size=2_000_000), [60.0]])
    assert scales.fit_scale(values, 2.0).ends[1] < 30 < scales.fit_scale(values, np.inf).ends[1]
