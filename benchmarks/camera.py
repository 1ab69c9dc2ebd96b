"""What the live view costs, and what its gate lets through: python benchmarks/camera.py [--data DIR] [--json FILE]

`edge-all serve --camera FILE` runs as a program on Micro-Manager's demo camera (512 x 512 in RGB, a still test
pattern), and a client takes the pictures and the events as the page does. From frame to label is counted from when
Micro-Manager has the frame, and the share of a core is the program's, with the camera's thread, which makes the frames.
With --data the gate is tried on fields: as they are, blurred, shifted from frame to frame, and with noise.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from contextlib import suppress
from pathlib import Path
from typing import Any

import click
import numpy as np
import numpy.typing as npt
import psutil
from PIL import Image, ImageFilter

from edge_all import inputs, machine
from edge_all.camera import gate

_CONFIGURATION = """\
Device,Camera,DemoCamera,DCam
Property,Core,Initialize,1
Property,Core,Camera,Camera
Property,Camera,PixelType,32bitRGB
Property,Camera,Mode,Color Test Pattern
Property,Camera,Exposure,{exposure}
"""

_ALONE = """\
import sys, time
from pymmcore_plus import CMMCorePlus
core = CMMCorePlus()
core.loadSystemConfiguration(sys.argv[1])
core.startContinuousSequenceAcquisition(0)
print(flush=True)
time.sleep(600)
"""
"""A program in which the camera runs, and nobody looks."""


@click.command()
@click.option("--seconds", default=60.0, show_default=True, help="How long each row is measured.")
@click.option("--target", default="cpu", show_default=True, help="Target that answers.")
@click.option("--data", type=click.Path(path_type=Path), help="Folder of fields, for the gate.")
@click.option("--json", "report", type=click.Path(path_type=Path), help="Write the figures to a file.")
def main(seconds: float, target: str, data: Path | None, report: Path | None) -> None:
    """Print both tables."""
    figures: dict[str, Any] = {"machine": machine.describe(), "target": target, "rows": []}
    print("| frames/s given | page | frames/s taken | frame to label, p50 | p99 | share of a core | camera alone |")
    print("|---|---|---|---|---|---|---|")
    for exposure in (1000 / 15, 10.0):
        for has_page in (True, False):
            row = _live(exposure, has_page, seconds, target)
            figures["rows"].append(row)
            print(
                f"| {1000 / exposure:.0f} | {'open' if has_page else 'none'} | {row['frames_per_second']:.1f} "
                f"| {row['p50_ms']:.1f} ms | {row['p99_ms']:.1f} ms | {row['cores']:.2f} | {row['cores_alone']:.2f} |"
            )
    if data:
        figures["gate"] = _gate(data)
        print("\n| field | still | in focus |\n|---|---|---|")
        for name, (still, sharp) in figures["gate"].items():
            print(f"| {name} | {still:.1%} | {sharp:.1%} |")
    if report:
        report.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


def _live(exposure: float, has_page: bool, seconds: float, target: str) -> dict[str, float]:
    """One row: the figures of a server whose camera has this exposure, in milliseconds."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "demo.cfg")
        path.write_text(_CONFIGURATION.format(exposure=exposure), encoding="ascii")
        journal = str(Path(folder, "journal.sqlite"))
        alone = _cores([sys.executable, "-c", _ALONE, str(path)], min(seconds, 10))[0]
        words = ["serve", "--camera", str(path), "--port", "0", "--journal", journal, "--target", target]
        program = [sys.executable, "-c", "from edge_all.cli import main; main()", *words]
        cores, ms, frames = _cores(program, seconds, has_page)
    p50, p99 = np.quantile(ms, (0.5, 0.99))
    return {
        "exposure_ms": exposure,
        "page": has_page,
        "labels": len(ms),
        "frames_per_second": frames,
        "p50_ms": float(p50),
        "p99_ms": float(p99),
        "cores": cores,
        "cores_alone": alone,
    }


def _cores(program: list[str], seconds: float, has_page: bool = False) -> tuple[float, list[float], float]:
    """Processor time for each second of a program's, times from frame to label, and frames a second."""
    done = threading.Event()
    with subprocess.Popen(program, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as running:
        assert running.stdout
        address = running.stdout.readline().strip()
        try:
            if has_page:
                for look in (_pictures, _events):
                    threading.Thread(target=look, args=(address, done), daemon=True).start()
            time.sleep(3)
            used, begun, before = _used(running.pid), time.monotonic(), _frames(address)
            labels: dict[str, float] = {}
            while time.monotonic() < begun + seconds:
                time.sleep(0.2)
                if address and (answer := json.loads(_get(f"{address}camera"))["answer"]):
                    labels[answer["time"]] = answer["frame_ms"]
            took = time.monotonic() - begun
            return (_used(running.pid) - used) / took, list(labels.values()), (_frames(address) - before) / took
        finally:
            done.set()
            running.terminate()


def _used(pid: int) -> float:
    """Seconds of processor time of a process."""
    times = psutil.Process(pid).cpu_times()
    return float(times.user + times.system)


def _get(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=10) as answer:
        content: bytes = answer.read()
    return content


def _frames(address: str) -> int:
    if not address:
        return 0
    lines = _get(f"{address}metrics").decode().splitlines()
    return int(next(line for line in lines if line.startswith("edge_all_camera_frames_total ")).split()[1])


def _pictures(address: str, done: threading.Event) -> None:
    with suppress(OSError):  # the server has ended
        while not done.is_set():
            _get(f"{address}camera/frame.jpg")


def _events(address: str, done: threading.Event) -> None:
    with suppress(OSError), urllib.request.urlopen(f"{address}events", timeout=60) as stream:
        while not done.is_set() and stream.readline():
            pass


def _gate(data: Path) -> dict[str, tuple[float, float]]:
    """How much of each kind of picture passes each half of the gate."""
    files = inputs.images_below(data)
    rng = np.random.default_rng(0)
    kinds: dict[str, list[tuple[bool, bool]]] = {}

    def add(name: str, before: Image.Image, after: Image.Image, noise: float = 2) -> None:
        first, second = (_noisy(picture, noise, rng) for picture in (before, after))
        kinds.setdefault(name, []).append(_passes(first, second))

    for file in files[:: max(1, len(files) // 400)]:
        with Image.open(file) as opened:
            whole = opened.convert("RGB")
        add("as it is", whole, whole)
        add("much noise (8 of 255)", whole, whole, 8)
        for radius in (1, 1.5, 2):
            blurred = whole.filter(ImageFilter.GaussianBlur(radius))
            add(f"blurred by {radius:g} pixels", blurred, blurred)
        for pixels in (1, 2, 4):
            add(f"moved by {pixels} pixels", whole, Image.fromarray(np.roll(np.asarray(whole), pixels, 1)))
    return {name: tuple(np.mean(passed, axis=0).tolist()) for name, passed in kinds.items()}


def _noisy(picture: Image.Image, deviation: float, rng: np.random.Generator) -> Image.Image:
    pixels: npt.NDArray[np.float64] = np.asarray(picture) + rng.normal(0, deviation, (*picture.size[::-1], 3))
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def _passes(before: Image.Image, after: Image.Image) -> tuple[bool, bool]:
    """Whether two frames are still, and whether they are in focus, looked at for the first time."""
    copies = gate.copies(before), gate.copies(after)
    return gate.motion(*copies) <= gate.MOST_MOTION, gate.focus(*copies) >= gate.LEAST_FOCUS


if __name__ == "__main__":
    main()
