"""Features of a data set's images, through an inference engine (never eager torch), cached by digest."""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Protocol

import numpy as np
import onnx

from edge_all import cache, image

Progress = Callable[[int, int], None]


class Changed(Protocol):
    """A named change of decoded pixels ``uint8 [H, W, 3]``, which may depend on the file's SHA-256."""

    @property
    def name(self) -> str: ...

    def __call__(self, pixels: np.ndarray, digest: str) -> np.ndarray: ...


_AHEAD = 64  # images decoded ahead of the engine


def extract(
    model: onnx.ModelProto,
    files: Sequence[Path],
    digests: Sequence[str],
    size: tuple[int, int],
    *,
    target: str = "openvino",
    change: Changed | None = None,
    progress: Progress | None = None,
) -> np.ndarray:
    """Run a backbone's graph over images.

    Args:
        model: ``uint8 [N, H, W, 3]`` "image" to ``float32 [N, C]`` "features".
        files: Image files.
        digests: Their SHA-256, part of the cache's key.
        size: Height and width of the graph's input.
        target: Whose engine; see `engine_of`.
        change: Made to every image after decoding (`edge_all.export.dataset.augment`); None is none.
        progress: Called with (done, total).

    Returns:
        ``float32 [N, C]``, in the order of `files`.
    """
    data, target = model.SerializeToString(deterministic=True), engine_of(target)
    cached = cache.folder("features") / f"{_key(data, digests, size, target, change)}.npy"
    if cached.exists():
        try:
            return np.load(cached, allow_pickle=False)
        except (ValueError, OSError):  # a damaged cache entry is made again
            cached.unlink(missing_ok=True)
    run = {"openvino": _run_openvino, "cpu": _run_onnxruntime}[target]
    rows = []
    pixels = decoded(files, size)
    if change:
        pixels = (change(image, digest) for image, digest in zip(pixels, digests, strict=True))
    for done, row in enumerate(run(data, pixels), 1):
        rows.append(row)
        if progress:
            progress(done, len(files))
    features = np.stack(rows).astype(np.float32)
    content = io.BytesIO()
    np.save(content, features, allow_pickle=False)
    cache.store(cached, content.getvalue())
    return features


def engine_of(target: str) -> str:
    """Who answers for a target here, ``openvino`` or ``cpu``: ONNX Runtime's CPU for a GPU, which may be elsewhere."""
    return "cpu" if target == "gpu" else target


def decoded(files: Sequence[Path], size: tuple[int, int]) -> Iterator[np.ndarray]:
    """Yield ``uint8 [H, W, 3]`` for each file, in order, decoded ahead in threads."""
    pending = iter(files)
    with ThreadPoolExecutor() as pool:
        queue = [pool.submit(image.decode, path, size) for path in islice(pending, _AHEAD)]
        while queue:
            yield queue.pop(0).result()
            queue += [pool.submit(image.decode, path, size) for path in islice(pending, 1)]


def _run_openvino(data: bytes, images: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
    """As many images in flight as OpenVINO wants, results in order."""
    import openvino as ov

    core = ov.Core()
    model = core.read_model(io.BytesIO(data))
    model.reshape([1, *model.input(0).partial_shape[1:]])
    options = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "THROUGHPUT"}
    queue = ov.AsyncInferQueue(core.compile_model(model, "CPU", options))
    finished: dict[int, np.ndarray] = {}
    queue.set_callback(lambda request, i: finished.__setitem__(i, request.get_output_tensor(0).data[0].copy()))
    wanted = 0
    for i, pixels in enumerate(images):
        queue.start_async({"image": pixels[np.newaxis]}, i)
        while wanted in finished:
            yield finished.pop(wanted)
            wanted += 1
    queue.wait_all()
    for i in range(wanted, wanted + len(finished)):
        yield finished.pop(i)


def _run_onnxruntime(data: bytes, images: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
    import onnxruntime as ort

    session = ort.InferenceSession(data, providers=["CPUExecutionProvider"])
    for pixels in images:
        yield session.run(["features"], {"image": pixels[np.newaxis]})[0][0]


def _key(data: bytes, digests: Sequence[str], size: tuple[int, int], target: str, change: Changed | None = None) -> str:
    whole = hashlib.sha256(data)
    limit = os.environ.get("ONEDNN_MAX_CPU_ISA", "")  # it changes what OpenVINO's INT8 kernels answer
    whole.update(f"{size} {target} {limit} {' '.join(digests)}".encode())
    if change:
        whole.update(change.name.encode())
    return whole.hexdigest()[:32]
