"""What inverted residuals fused in C would give: fused.py GRAPH --image FILE [--json FILE]

GRAPH is MobileNetV2 in INT8 up to a tap, as `layer_profile.py --keep` writes it. Its blocks run in `fused.c`, which is
compiled here with gcc, for AVX-512 and for AVX2, both with VNNI, and in both engines: from pixels to the tap's map in
uint8, in turns, each turn in a process of its own. The maps are compared with ONNX Runtime's.

The prototype knows MobileNetV2 alone, and is not shipped.
"""

from __future__ import annotations

import ctypes
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import click
import numpy as np
import onnx
import onnxruntime as ort
from fused_blocks import Net, Packed

from edge_all import image as images
from edge_all import machine
from edge_all.export.graph import edit, timing

SOURCE = Path(__file__).with_suffix(".c")
FLAGS = {"avx512": ["-march=icelake-server"], "avx2": ["-march=haswell", "-mavxvnni"]}
LANES = {"avx512": 16, "avx2": 8}
WAYS = ("onnxruntime", "openvino", *FLAGS)

_MAP = "backbone/map_0/q"
_SECONDS, _SLACK = 1.0, 64

Run = Callable[[], np.ndarray]
"""Answers the image once; the map is ``uint8 [H, W, C]``."""


def fused(model: onnx.ModelProto, pixels: np.ndarray, way: str, threads: int) -> Run:
    """The graph's blocks in `fused.c`."""
    code, packed = _compiled(way), Packed(model, LANES[way])
    first, padding = packed.blocks[0], next(node for node in model.graph.node if node.op_type == "Pad")
    sides = (side * first.first_step + 1 for side in (first.height, first.width))
    padded = np.full((*sides, 3), edit.arrays(model.graph)[padding.input[2]], np.uint8)
    maps = [np.zeros(padded.size + _SLACK, np.uint8)]
    maps += [np.zeros(h * w * c + _SLACK, np.uint8) for h, w, c, _ in packed.shapes]
    places = (ctypes.c_void_p * len(maps))(*(each.ctypes.data for each in maps))
    blocks, outputs = (ctypes.cast(each, ctypes.c_void_p) for each in (packed.blocks, places))
    net = Net(blocks, len(packed.blocks), outputs, threads)
    rows = [b.width * max(b.expand.vectors, b.depthwise.vectors) * LANES[way] for b in packed.blocks]
    code.prepare(-(-(max(rows) + 2 * _SLACK) // 64) * 64, threads)
    height, width, channels, count = packed.shapes[-1]

    def run(_alive: object = (packed, places)) -> np.ndarray:
        padded[1:, 1:] = pixels[0]
        maps[0][: padded.size] = padded.ravel()
        code.run(ctypes.byref(net))
        return maps[-1][: height * width * channels].reshape(height, width, channels)[:, :, :count]

    return run


def _compiled(way: str) -> ctypes.CDLL:
    with tempfile.TemporaryDirectory() as folder:
        library = Path(folder, "fused.so")
        command = ["gcc", "-O3", *FLAGS[way], "-shared", "-fPIC", "-pthread", str(SOURCE), "-o", str(library)]
        subprocess.run(command, check=True)
        code = ctypes.CDLL(str(library))
    code.prepare.argtypes, code.run.argtypes = (ctypes.c_size_t, ctypes.c_int), (ctypes.c_void_p,)
    return code


def onnxruntime(model: onnx.ModelProto, pixels: np.ndarray, _way: str, threads: int) -> Run:
    """The graph in ONNX Runtime."""
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = threads, 3
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])

    def run() -> np.ndarray:
        answer: np.ndarray = session.run(None, {"image": pixels})[0][0]
        return answer.transpose(1, 2, 0)

    return run


def openvino(model: onnx.ModelProto, pixels: np.ndarray, _way: str, threads: int) -> Run:
    """The graph in OpenVINO."""
    request, _ = timing.request(model.SerializeToString(), INFERENCE_NUM_THREADS=threads)

    def run() -> np.ndarray:
        request.infer({0: pixels}, share_inputs=True)
        answer: np.ndarray = request.get_output_tensor().data[0]
        return answer.transpose(1, 2, 0)

    return run


def turn(model: onnx.ModelProto, pixels: np.ndarray, way: str, threads: int) -> dict[str, float]:
    """The median milliseconds of a way, and how its map differs from ONNX Runtime's."""
    run = {"onnxruntime": onnxruntime, "openvino": openvino}.get(way, fused)(model, pixels, way, threads)
    made = run().astype(int)
    wanted = onnxruntime(model, pixels, way, 1)().astype(int)
    samples: list[float] = []
    end = time.perf_counter() + _SECONDS
    while time.perf_counter() < end:
        start = time.perf_counter()
        run()
        samples.append((time.perf_counter() - start) * 1e3)
    difference = np.abs(made - wanted)
    return {"ms": statistics.median(samples), "other": float((difference > 0).mean()), "most": float(difference.max())}


@click.command(help=__doc__)
@click.argument("graph", type=click.Path(exists=True, path_type=Path))
@click.option("--image", type=click.Path(exists=True, path_type=Path), required=True, help="A field.")
@click.option("--rounds", default=5, show_default=True)
@click.option("--json", "report", type=click.Path(path_type=Path), help="Write the figures to a file.")
@click.option("--turn", "one", type=(click.Choice(WAYS), int), help="Print one turn alone: a way, and its threads.")
def main(graph: Path, image: Path, rounds: int, report: Path | None, one: tuple[str, int] | None) -> None:
    """Print a Markdown table."""
    if one:
        model = onnx.load(graph)
        cut = edit.extract(onnx.shape_inference.infer_shapes(model), ["image"], [_MAP])
        pixels = images.decode(image, edit.size(model))[np.newaxis]
        click.echo(json.dumps(turn(cut, pixels, *one)))
        return
    cases = [(way, threads) for threads in (2, 1) for way in WAYS]
    taken: dict[tuple[str, int], list[dict[str, float]]] = {case: [] for case in cases}
    for _ in range(rounds):
        for case in cases:
            words = [sys.executable, __file__, str(graph), "--image", str(image), "--turn", case[0], str(case[1])]
            done = subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True)
            taken[case].append(json.loads(done.stdout))
    click.echo("| way | threads | ms | of OpenVINO's | values unlike ONNX Runtime's |\n|---|---|---|---|---|")
    rows = []
    for way, threads in cases:
        own, others = taken[way, threads], taken["openvino", threads]
        ms = statistics.median(each["ms"] for each in own)
        ratio = statistics.median(a["ms"] / b["ms"] for a, b in zip(own, others, strict=True))
        rows.append({"way": way, "threads": threads, "ratio": round(ratio, 3), **own[0], "ms": round(ms, 4)})
        click.echo(f"| {way} | {threads} | {ms:.3f} | {ratio:.2f} | {own[0]['other']:.2%}, by {own[0]['most']:.0f} |")
    if report:
        content = {"machine": machine.describe(), "graph": graph.name, "rounds": rounds, "rows": rows}
        report.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
