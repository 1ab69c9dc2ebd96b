"""Our own quantization: each part does what it is for, and whole graphs run on both engines."""

from __future__ import annotations

import io
from collections import Counter
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from helpers_graphs import ENGINES, SIZE, Engine, by_onnxruntime, by_openvino, pictures, random_weights

from edge_all.export import backbones
from edge_all.export.graph import edit
from edge_all.export.graph.build import backbone_graph
from edge_all.export.graph.facts import attribute
from edge_all.export.graph.names import NORMALIZED
from edge_all.export.graph.reorder import as_depthwise
from edge_all.export.quantize import layerwise, sensitivity
from edge_all.export.quantize.layerwise import convolution, gptq, input_folding, scales, torch_ops, walk
from edge_all.export.quantize.layerwise.channel_alignment import align_channels
from edge_all.export.quantize.layerwise.placement import place
from edge_all.export.quantize.layerwise.rewrite import is_output_rescale, rewrite

pytestmark = [pytest.mark.slow, pytest.mark.engine]

TAPS = {
    "densenet121": "transition1",
    "efficientnet_lite0": "blocks.2.1",
    "inceptionv3": "Mixed_5c",
    "mobilenetv2": "features.4",
    "resnet101": "layer1.2",
    "vgg19": "features.9",
}
"""Deep enough for every kind of block that a backbone has."""

IMAGES = pictures(8, SIZE, seed=3)


@cache
def graph(name: str) -> onnx.ModelProto:
    return backbone_graph(backbones.load(name), random_weights(name), tap_name=TAPS[name], input_size=SIZE)


@cache
def quantized(name: str, **options: object) -> onnx.ModelProto:
    return layerwise.quantize(graph(name), IMAGES, **options)  # type: ignore[arg-type]


def run(model: onnx.ModelProto, images: np.ndarray = IMAGES) -> np.ndarray:
    return by_onnxruntime(model, image=images)["features"]


def error(features: np.ndarray, wanted: np.ndarray) -> float:
    """Mean squared error of the median channel, as a share of its variance over the images."""
    live = wanted.std(0) > 1e-3 * wanted.std(0).max()
    return float(np.median(((features - wanted) ** 2).mean(0)[live] / wanted.var(0)[live]))


@pytest.mark.parametrize("name", TAPS)
def test_every_listed_backbone_is_a_backbone(name: str) -> None:
    assert TAPS.keys() == set(backbones.names())
    assert any(node.op_type == "Conv" for node in graph(name).graph.node)


@pytest.mark.parametrize("name", TAPS)
@pytest.mark.parametrize("engine", ENGINES)
def test_seven_bits_keep_the_features_of_unseen_images(name: str, engine: Engine) -> None:
    unseen = pictures(12, SIZE, seed=4)
    wanted = run(graph(name), unseen)
    model = quantized(name, weight_bits=7)
    features = np.concatenate([engine(model, image=image[None])["features"] for image in unseen])
    assert error(features, wanted) < 0.05


@pytest.mark.parametrize("name", TAPS)
def test_it_beats_rounding_to_the_nearest(name: str) -> None:
    from edge_all.export.quantize import onnxruntime_qdq

    wanted = run(graph(name))
    nearest = onnxruntime_qdq.quantize(graph(name), IMAGES)
    assert error(_run_in_float(quantized(name)), wanted) < error(_run_in_float(nearest), wanted)


def _run_in_float(model: onnx.ModelProto) -> np.ndarray:
    """Features without fused integer kernels, since these saturate on CPUs without VNNI: by chance more or less."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(["features"], {"image": IMAGES})[0])


@pytest.mark.parametrize("engine", ENGINES)
def test_a_float_convolution_stays_float_between_tensors_in_8_bits(engine: Engine) -> None:
    """ONNX Runtime rounds the weights of one that reads a single scale; here one channel's are far larger."""
    model = edit.copy(graph("efficientnet_lite0"))
    depthwise = layerwise.convolutions(model)[1]
    node = next(node for node in model.graph.node if node.name == depthwise)
    weights = next(item for item in model.graph.initializer if item.name == node.input[1])
    spread = onnx.numpy_helper.to_array(weights).copy()
    spread[0] *= 1000
    weights.CopyFrom(onnx.numpy_helper.from_array(spread, weights.name))
    made = layerwise.quantize(model, IMAGES, weight_bits=7, floating=(depthwise,))
    assert error(engine(made, image=IMAGES)["features"], _run_in_float(made)) < 0.01


@pytest.mark.parametrize("name", TAPS)
def test_no_pair_of_products_overflows_16_bits(name: str) -> None:
    """255 * w1 + 255 * w2 in an int16, as x86 CPUs without VNNI add them."""
    arrays = edit.arrays(quantized(name, weight_bits=7).graph)
    weights = [array.astype(int) for key, array in arrays.items() if key.endswith("/weights")]
    assert weights and max(np.abs(w).max() for w in weights) * 2 * 255 <= 32767


@pytest.mark.parametrize("name", TAPS)
def test_rewriting_changes_nothing(name: str) -> None:
    model, rewritten = graph(name), rewrite(graph(name))
    wanted = run(model)
    np.testing.assert_allclose(run(rewritten), wanted, atol=1e-5 * np.abs(wanted).max())
    nodes = rewritten.graph.node
    assert not {"BatchNormalization", "AveragePool"} & {node.op_type for node in nodes}
    (rescale,) = filter(is_output_rescale, nodes)
    assert rescale.output[0] == "map_0" and attribute(rescale, "group", 1) == wanted.shape[1]


def test_a_concat_of_a_dense_block_reads_the_one_before_it() -> None:
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
def test_aligning_channels_changes_nothing(name: str, signed: bool) -> None:
    model = rewrite(graph(name))
    aligned = _aligned(model, signed)
    wanted = run(model)
    np.testing.assert_allclose(run(aligned), wanted, atol=1e-4 * np.abs(wanted).max())
    before, after = (_first_weights(m) for m in (model, aligned))
    assert before.shape == after.shape and not np.array_equal(before, after)


def _aligned(model: onnx.ModelProto, signed: bool = False) -> onnx.ModelProto:
    with torch.inference_mode():
        measured = walk.measure(model, walk.preprocessed(model, IMAGES), ())
    return align_channels(model, measured.spans, place(model).scale_owner, signed).model


def _first_weights(model: onnx.ModelProto) -> np.ndarray:
    node = next(node for node in model.graph.node if node.op_type == "Conv")
    return edit.arrays(model.graph)[node.input[1]]


@pytest.mark.parametrize("name", TAPS)
def test_a_sample_from_before_channels_were_aligned(name: str) -> None:
    """It is what would be sampled of the aligned graph: so the FP32 graph is run once only."""
    model = rewrite(graph(name))
    tensors = place(model).scale_owner
    with torch.inference_mode():
        pixels = walk.preprocessed(model, IMAGES)
        before = walk.measure(model, pixels, tensors)
        alignment = align_channels(model, before.spans, tensors)
        after = walk.measure(alignment.model, pixels, tensors)
    for tensor in tensors:
        sample = alignment.sample(tensor, before)
        wanted = np.r_[after.spans[tensor].min(), after.spans[tensor].max(), after.samples[tensor][0]]
        np.testing.assert_allclose(sample, wanted, atol=1e-4 * np.abs(wanted).max(), err_msg=tensor)


def test_small_maps_take_more_images() -> None:
    """Each convolution is quantized for enough patches of its input."""
    images = np.zeros((200, *SIZE, 3), np.uint8)
    early, weights = rewrite(graph("mobilenetv2")), random_weights("mobilenetv2")
    deep = rewrite(backbone_graph(backbones.load("mobilenetv2"), weights, tap_name="last", input_size=SIZE))
    with torch.inference_mode():
        assert len(walk.enough(early, images)) < len(walk.enough(deep, images)) <= 200
        assert len(walk.enough(deep, images[:5])) == 5


def test_the_mean_of_a_quantized_convolution_is_that_of_fp32() -> None:
    """Though the mean was found with the mean image, strides and padding included."""
    generator = torch.Generator().manual_seed(0)
    x, weights = torch.rand(6, 4, 15, 15, generator=generator), torch.randn(8, 4, 3, 3, generator=generator)
    offset = torch.randn(8, generator=generator)
    node = onnx.helper.make_node("Conv", ["x", "w", "b"], ["y"], pads=[1, 1, 1, 1], strides=[2, 2])
    reads = scales.quantization_between(0.0, 1.0)
    inputs = convolution.Pair(x, (x / reads.scale).floor() * reads.scale)  # darker than what was given
    made = convolution.quantize_convolution(node, weights, offset, inputs, reads, 63)
    real, bias = torch.from_numpy(made.real), torch.from_numpy(made.bias)
    wanted = torch_ops.run(node, [x, weights, offset]).mean((0, 2, 3))
    given = torch_ops.run(node, [inputs.quantized, real, bias]).mean((0, 2, 3))
    torch.testing.assert_close(given, wanted, atol=1e-4, rtol=0)


def test_aligning_channels_of_nodes_that_share_their_constants() -> None:
    """torch's exporter stores equal constants once; each reader has its own factors."""
    model = edit.copy(graph("vgg19"))
    convolutions = [node for node in model.graph.node if node.op_type == "Conv"]
    convolutions[3].input[1] = (
        convolutions[2].input[1] if _same_shape(model, *convolutions[2:4]) else convolutions[3].input[1]
    )
    model = rewrite(model)
    wanted = run(model)
    np.testing.assert_allclose(run(_aligned(model)), wanted, atol=1e-4 * np.abs(wanted).max())


def _same_shape(model: onnx.ModelProto, a: onnx.NodeProto, b: onnx.NodeProto) -> bool:
    shapes = edit.shapes(model)
    return shapes[a.input[1]] == shapes[b.input[1]]


@pytest.mark.parametrize("name", TAPS)
def test_walking_in_torch_is_the_graph(name: str) -> None:
    model = rewrite(graph(name))
    with torch.inference_mode():
        outputs = {NORMALIZED: walk.preprocessed(model, IMAGES[:4])}
        walk.run_nodes(walk.backbone_nodes(model), outputs, walk.constants(model), kept={"map_0"})
    assert outputs.keys() == {"map_0"}
    wanted = run(model, IMAGES[:4])
    np.testing.assert_allclose(outputs["map_0"].mean((2, 3)), wanted, atol=1e-4 * np.abs(wanted).max())


def test_an_operator_that_is_not_known() -> None:
    with pytest.raises(ValueError, match="operator Sigmoid is not known"):
        torch_ops.run(onnx.helper.make_node("Sigmoid", ["x"], ["y"]), [torch.zeros(1)])


def test_float_layers_stay_float() -> None:
    names = layerwise.convolutions(graph("mobilenetv2"))
    model = layerwise.quantize(graph("mobilenetv2"), IMAGES, floating=names)
    np.testing.assert_allclose(run(model), run(graph("mobilenetv2")), rtol=1e-3, atol=1e-5)
    assert not any(node.op_type == "QuantizeLinear" for node in model.graph.node)


def test_signed_activations_have_no_zero_points_and_no_integer_biases() -> None:
    """As TensorRT wants them."""
    model = quantized("mobilenetv2", signed=True)
    arrays = edit.arrays(model.graph)
    zero_points = [array for name, array in arrays.items() if name.endswith("/zero")]
    assert {str(array.dtype) for array in zero_points} == {"int8"} and not any(array.any() for array in zero_points)
    biases = [arrays[node.input[2]] for node in model.graph.node if node.op_type == "Conv"]
    assert len(biases) == 12 + 1, "the layers, and the output rescale of the map"
    assert {str(bias.dtype) for bias in biases} == {"float32"}
    assert error(run(model), run(graph("mobilenetv2"))) < 0.05


@pytest.mark.parametrize("name", TAPS)
def test_the_first_convolution_reads_pixels_as_they_are(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    folded = quantized(name)
    monkeypatch.setattr(input_folding, "fold_normalisation", lambda model: model)
    normalised = quantized.__wrapped__(name)
    kinds = [[node.op_type for node in model.graph.node[:2]] for model in (folded, normalised)]
    padded = any(_pads(normalised))
    assert kinds == [["Pad", "DequantizeLinear"] if padded else ["DequantizeLinear", "Transpose"], ["Reshape", "Cast"]]
    assert not any(_pads(folded)) and padded == (name != "inceptionv3")
    arrays = edit.arrays(normalised.graph)
    scale, zero_point = float(arrays["normalized/step"]), int(arrays["normalized/zero"])
    values = np.arange(256)[:, None] * arrays["preprocess/factor"] + arrays["preprocess/offset"]
    pixels = np.tile(np.arange(256)[:, None], values.shape[1])
    np.testing.assert_allclose(values / scale + zero_point, pixels, atol=1e-3)
    np.testing.assert_array_equal(run(folded), run(normalised))
    features, wanted = (by_openvino(model, image=IMAGES)["features"] for model in (folded, normalised))
    assert error(features, wanted) < 1e-3, "OpenVINO scales integer sums in floating point, and rounds differently"


def _pads(model: onnx.ModelProto) -> tuple[int, ...]:
    return attribute(next(node for node in model.graph.node if node.op_type == "Conv"), "pads", ())


def test_one_normalisation_for_all_channels_changes_nothing_but_the_padding() -> None:
    """InceptionV3's first convolution has none."""
    model = edit.copy(graph("inceptionv3"))
    differing = {"preprocess/factor": [0.017, 0.015, 0.019], "preprocess/offset": [-2.1, -1.5, -1.7]}
    for name, channels in differing.items():
        edit.set_constant(model.graph, name, np.tile(np.array(channels, np.float32), SIZE[1]))
    alike = input_folding.normalise_alike(model)
    assert [len(set(constant)) for constant in input_folding.normalisation(alike)] == [1, 1]
    np.testing.assert_allclose(run(alike), run(model), rtol=1e-4, atol=1e-5)


def test_pixels_that_quantization_would_change_are_normalised_first() -> None:
    model = quantized("mobilenetv2", signed=True)
    assert model.graph.node[0].op_type == "Reshape"
    assert input_folding.fold_normalisation(model) is model


@pytest.mark.parametrize("name", TAPS)
def test_onnxruntime_runs_every_convolution_in_integers(name: str, tmp_path: Path) -> None:
    import onnxruntime as ort

    model, optimized = quantized(name, weight_bits=7), tmp_path / "optimized.onnx"
    options = ort.SessionOptions()
    options.log_severity_level, options.optimized_model_filepath = 3, str(optimized)
    ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    kinds = Counter(node.op_type for node in onnx.load(optimized).graph.node)
    assert kinds["QLinearConv"] == len(layerwise.convolutions(model))
    assert not {"Conv", "FusedConv", "BatchNormalization", "Relu", "Clip", "MaxPool"} & kinds.keys()
    # One is for the map that is pooled; DenseNet's first block requantizes the output of its MaxPool.
    assert kinds["DequantizeLinear"] + kinds["QuantizeLinear"] <= 1 + 2 * (name == "densenet121"), kinds


@pytest.mark.parametrize("name", TAPS)
def test_openvino_runs_every_convolution_in_integers(name: str) -> None:
    import openvino as ov

    model = quantized(name, weight_bits=7)
    read = ov.Core().read_model(io.BytesIO(model.SerializeToString()))
    read.reshape([1, *SIZE, 3])
    compiled = ov.Core().compile_model(read, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    layers = [
        {key: node.get_rt_info()[key].astype(str) for key in ("layerType", "runtimePrecision", "originalLayersNames")}
        for node in compiled.get_runtime_model().get_ops()
    ]
    convolutions = [layer for layer in layers if layer["layerType"] == "Convolution"]
    assert len(convolutions) == len(layerwise.convolutions(model))
    assert [layer for layer in convolutions if layer["runtimePrecision"] not in ("u8", "i8")] == []


def test_the_worst_layer_comes_first() -> None:
    """A layer whose weights need more than 8 bits."""
    model = edit.copy(graph("vgg19"))
    target = [node for node in model.graph.node if node.op_type == "Conv"][1]
    weights = edit.arrays(model.graph)[target.input[1]].copy()
    weights[:, np.random.default_rng(0).integers(weights.shape[1])] *= 0
    weights[:, 0, 0, 0] = 300 * np.abs(weights).max()
    weights[:, 0, 0, 1] = -weights[:, 0, 0, 0]
    edit.set_constant(model.graph, target.input[1], weights)
    assert sensitivity.worst_first(model, IMAGES[:6], {"weight_bits": 4})[0] == target.name


def test_gptq_beats_rounding_to_the_nearest() -> None:
    generator = torch.Generator().manual_seed(0)
    mixing = torch.randn(40, 40, generator=generator)
    inputs = (torch.randn(600, 40, generator=generator) @ mixing)[:, None]
    weights = torch.randn(1, 8, 40, generator=generator)
    scale = gptq.weight_scales(weights[0], 7)[None]
    nearest = (weights / scale[..., None]).round().clamp(-7, 7)
    multiples = gptq.quantize_weights(weights, gptq.second_moments(inputs.transpose(0, 1)), scale, 7)
    assert torch.equal(multiples, multiples.round()) and multiples.abs().max() <= 7

    def output_error(multiples: torch.Tensor) -> float:
        return float((((multiples * scale[..., None] - weights) @ inputs[:, 0].mT) ** 2).sum())

    assert output_error(multiples) < 0.7 * output_error(nearest)


@pytest.mark.parametrize("rows", [3, 8])
def test_adapting_weights_to_quantized_inputs(rows: int) -> None:
    generator = torch.Generator().manual_seed(0)
    exact = torch.randn(2, 500, 6, generator=generator)
    weights = torch.randn(2, rows, 6, generator=generator)
    adapted = gptq.adapt_weights(weights, exact, 1.25 * exact, gptq.second_moments(1.25 * exact))
    assert torch.allclose(adapted, weights / 1.25, atol=0.1) and not torch.allclose(adapted, weights, atol=0.1)


@pytest.mark.parametrize(("low", "high"), [(0.0, 6.0), (-3.0, 5.0), (-4.0, -1.0), (0.0, 0.0)])
@pytest.mark.parametrize("signed", [False, True])
def test_zero_is_always_exact(low: float, high: float, signed: bool) -> None:
    quantization = scales.quantization_between(low, high, signed)
    least, largest = quantization.bounds
    assert least <= quantization.zero_point <= largest and quantization.scale > 0
    ends = quantization.ends
    assert ends[0] <= low + quantization.scale and ends[1] >= high - quantization.scale


def test_a_range_leaves_outliers_out_where_that_costs_less() -> None:
    rng = np.random.default_rng(0)
    values = np.concatenate([rng.normal(size=2_000_000), [60.0]])
    assert scales.fit_quantization(values, 2.0).ends[1] < 30 < scales.fit_quantization(values, np.inf).ends[1]
