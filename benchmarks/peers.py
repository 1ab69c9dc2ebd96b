"""A cut network, quantized by us and by the tools that others would use, from encoded bytes to features.

    python benchmarks/peers.py --backbone mobilenetv2 --weights FILE --tap features.4:std --data DIR --json FILE

Each tool is used by its own guide, with the same images for calibration; what pools the maps stays in float:

- ours: `layerwise-7bit`, on OpenVINO and on ONNX Runtime, with a folded picture where that is faster;
- nncf: `nncf.quantize` of OpenVINO's model, with nothing but the images, on OpenVINO
  (https://docs.openvino.ai/2025/openvino-workflow/model-optimization-guide/quantizing-models-post-training.html);
- qdq: `quantize_static` with weights per channel and uint8 activations, on ONNX Runtime
  (https://onnxruntime.ai/docs/performance/model-optimizations/quantization.html);
- litert: `litert_torch` with PT2E's static quantization per channel, on LiteRT with XNNPACK, if it is installed; NumPy
  pools its map (https://github.com/google-ai-edge/litert-torch);
- fp32: the graph before quantization, on OpenVINO.

Each tool has a process of its own (`peers_turn.py`), round after round. The error is that of the features of other
images than those of the calibration, in standard deviations of each feature over these images.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import TypedDict, cast

import click
import numpy as np
import onnx

from edge_all import image, machine
from edge_all.export import backbones
from edge_all.export.backbones import Backbone
from edge_all.export.dataset import read
from edge_all.export.graph import weights
from edge_all.export.graph.build import Trunk, backbone_graph
from edge_all.export.graph.weights import Weights
from edge_all.export.quantize import schemes, stem

OURS = "ours, OpenVINO"

IMAGES, TESTED, THREADS = 128, 300, 2
"""Images for calibration, other images for the error and the time, and threads of each engine."""


class Turn(TypedDict):
    """What peers_turn.py prints: medians in milliseconds, and the features of each image."""

    whole_ms: float
    features_ms: float
    features: list[list[float]]


class Row(TypedDict):
    """A tool in an engine.

    Attributes:
        tool: Both.
        bytes_to_features_ms: Median of the rounds' medians.
        features_ms: Likewise, without decoding.
        ratio: To ours on OpenVINO, from bytes to features: median of the rounds' ratios.
        error_median: Over the features, of the root of the mean squared error in standard deviations.
        error_mean: Likewise.
    """

    tool: str
    bytes_to_features_ms: float
    features_ms: float
    ratio: float
    error_median: float
    error_mean: float


@click.command(help=__doc__)
@click.option("--backbone", "name", required=True)
@click.option("--weights", "source", default="auto", show_default=True)
@click.option("--tap", required=True)
@click.option("--data", type=click.Path(exists=True, path_type=Path), required=True, help="One folder for each class.")
@click.option("--rounds", default=7, show_default=True)
@click.option("--json", "report", type=click.Path(path_type=Path), help="Write the figures to a file.")
def main(name: str, source: str, tap: str, data: Path, rounds: int, report: Path | None) -> None:
    """Print a Markdown table."""
    backbone = backbones.load(name)
    pretrained = weights.load(backbone, source, seed=0)
    paths = read(data).paths
    files = [paths[i] for i in np.random.default_rng(0).permutation(len(paths))[: IMAGES + TESTED]]
    pictures = np.stack([image.decode(file, backbone.input_size) for file in files[:IMAGES]])
    with tempfile.TemporaryDirectory() as folder:
        root, (height, width) = Path(folder), backbone.input_size
        asked = {"height": height, "width": width, "images": [str(file) for file in files[IMAGES:]]}
        (root / "images.json").write_text(json.dumps(asked), encoding="utf-8")
        models = _models(root, backbone_graph(backbone, pretrained, tap_name=tap), pictures)
        if find_spec("litert_torch"):
            models["litert, LiteRT"] = _litert(root, backbone, pretrained, tap, pictures)
        turns: dict[str, list[Turn]] = {tool: [] for tool in models}
        for number in range(rounds):
            for tool, model in models.items():
                turns[tool].append(_turn(root, model, tool.partition(", ")[2]))
            click.echo(f"round {number + 1} of {rounds}", err=True)
    rows = _rows(turns)
    click.echo(
        "| tool, engine | bytes to features, ms | features, ms | times ours on OpenVINO | error, median | mean |"
    )
    click.echo("|---|---|---|---|---|---|")
    for row in rows:
        click.echo(
            f"| {row['tool']} | {row['bytes_to_features_ms']:.3f} | {row['features_ms']:.3f} | {row['ratio']:.2f} "
            f"| {row['error_median']:.3f} | {row['error_mean']:.3f} |"
        )
    if report:
        about = {"machine": machine.describe(), "backbone": name, "tap": tap, "threads": THREADS, "rounds": rounds}
        report.write_text(json.dumps(about | {"rows": rows}, indent=1) + "\n", encoding="utf-8")


def _turn(root: Path, model: str, engine: str) -> Turn:
    program = str(Path(__file__).with_name("peers_turn.py"))
    command = [sys.executable, program, str(root), model, engine, str(THREADS)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return cast(Turn, json.loads(done.stdout.splitlines()[-1]))


def _rows(turns: dict[str, list[Turn]]) -> list[Row]:
    exact = np.array(turns["fp32, OpenVINO"][0]["features"])
    ours = np.array([turn["whole_ms"] for turn in turns[OURS]])
    rows: list[Row] = []
    for tool, of_tool in turns.items():
        whole = np.array([turn["whole_ms"] for turn in of_tool])
        errors = (np.array(of_tool[0]["features"]) - exact) / np.maximum(exact.std(0), 1e-9)
        sizes = np.sqrt((errors**2).mean(0))
        rows.append(
            {
                "tool": tool,
                "bytes_to_features_ms": float(np.median(whole)),
                "features_ms": float(np.median([turn["features_ms"] for turn in of_tool])),
                "ratio": float(np.median(whole / ours)),
                "error_median": float(np.median(sizes)),
                "error_mean": float(sizes.mean()),
            }
        )
    return rows


def _models(root: Path, graph: onnx.ModelProto, pictures: np.ndarray) -> dict[str, str]:
    """Write the models; their files by tool and engine."""
    import nncf
    import openvino as ov

    ours, qdq = (
        schemes.quantize(graph, schemes.named("cpu", scheme), pictures) for scheme in ("layerwise-7bit", "qdq-minmax")
    )
    (ours_cpu, _), _, _ = stem.fastest("cpu", graph, (ours, ours))  # as an export does
    onnx.save(ours, root / "ours.onnx")
    onnx.save(ours_cpu, root / "ours_cpu.onnx")
    onnx.save(qdq, root / "qdq.onnx")
    onnx.save(graph, root / "fp32.onnx")
    converted = ov.Core().read_model(root / "fp32.onnx")
    converted.reshape([1, *pictures.shape[1:]])
    with contextlib.redirect_stdout(sys.stderr):  # it draws progress bars there
        by_nncf = nncf.quantize(converted, nncf.Dataset([picture[np.newaxis] for picture in pictures]))
    ov.save_model(by_nncf, root / "nncf.xml", compress_to_fp16=False)
    return {
        OURS: "ours.onnx",
        "nncf, OpenVINO": "nncf.xml",
        "fp32, OpenVINO": "fp32.onnx",
        "ours, ONNX Runtime": "ours_cpu.onnx",
        "qdq, ONNX Runtime": "qdq.onnx",
    }


def _litert(root: Path, backbone: Backbone, pretrained: Weights, tap: str, pictures: np.ndarray) -> str:
    """The network in torch up to its map, quantized and converted; the name of its file."""
    import litert_torch
    import torch
    from litert_torch.quantize.pt2e_quantizer import PT2EQuantizer, get_symmetric_quantization_config
    from litert_torch.quantize.quant_config import QuantConfig
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

    (place,) = backbones.places(backbone, tap)
    mean, std = (torch.tensor(value).view(1, 3, 1, 1) for value in (backbone.mean, backbone.std))

    class Cut(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.trunk = Trunk(backbone, pretrained, [place.tap.name])

        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            (values,) = self.trunk((pixels.permute(0, 3, 1, 2) / 255 - mean) / std)
            return cast(torch.Tensor, values)

    first = (torch.from_numpy(pictures[:1]).float(),)
    quantizer = PT2EQuantizer().set_global(get_symmetric_quantization_config(is_per_channel=True))
    with torch.inference_mode(), contextlib.redirect_stdout(sys.stderr):
        prepared = prepare_pt2e(torch.export.export(Cut().eval(), first).module(), quantizer)
        for picture in pictures:
            prepared(torch.from_numpy(picture[np.newaxis]).float())
        quantized = convert_pt2e(prepared, fold_quantize=False)
    with contextlib.redirect_stdout(sys.stderr):
        model = litert_torch.convert(quantized, first, quant_config=QuantConfig(pt2e_quantizer=quantizer))
        model.export(str(root / "litert.tflite"))
    return "litert.tflite"


if __name__ == "__main__":
    main()
