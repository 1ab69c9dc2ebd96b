"""What is in a file of weights: sets of named tensors, or the reason why there are none.

A file is told by its first bytes, not by its name. No pickle that can run code is read.
"""

from __future__ import annotations

import pickle
import re
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor

from edge_all.errors import WeightsError

WANTED = "wanted auto, random, or a state dict in a .safetensors, .pth or .pt file"

SUFFIXES = (".safetensors", ".pth", ".pt", ".bin", ".ckpt")
"""Usual endings, to name the file that a folder holds."""

_DEEPEST = 4
"""How deep a set of tensors may lie in a checkpoint."""

_TORCH_PICKLE = b"\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
"""Near the start of what torch.save wrote before it wrote ZIP archives (``torch.serialization.MAGIC_NUMBER``)."""

_LARGEST_HEADER = 100_000_000
"""Bytes that the header of a safetensors file may have (https://github.com/huggingface/safetensors)."""

_KINDS = (
    (b"version https://git-lfs", "a Git LFS pointer in place of the weights; fetch them with git lfs pull"),
    (b"\x89HDF", "an HDF5 file, such as Keras writes; save the network's weights with torch or safetensors"),
    (b"\x1f\x8b", "compressed with gzip; unpack it"),
    (b"7z\xbc\xaf", "a 7z archive; unpack it"),
    (b"Rar!", "a RAR archive; unpack it"),
    (b"\x93NUMPY", "a NumPy array, and no named tensors"),
    (b"GGUF", "a GGUF file; save the network's weights with torch or safetensors"),
    (b"<", "a web page or another XML text; download the file itself, not the page about it"),
)
"""First bytes of other files, and what these are."""


def read(path: Path) -> dict[str, dict[str, Tensor]]:
    """Read the sets of named tensors in a file.

    Returns:
        Each by its place in the file: the keys under which it is found, with dots; "" for the file itself.

    Raises:
        WeightsError: There is no such file, or it holds no tensors that can be read without running code.
    """
    try:
        found = dict(_states(_content(path)))
    except OSError as error:
        raise WeightsError(f"--weights {path}: cannot be read ({error.strerror or error}); {WANTED}") from None
    if not found:
        raise WeightsError(f"--weights {path}: holds no named tensors; {WANTED}")
    return found


def _content(path: Path) -> object:
    _check_is_file(path)
    with path.open("rb") as file:
        first = file.read(1024)
    size = path.stat().st_size
    if not first:
        raise WeightsError(f"--weights {path}: the file is empty; download or copy it again")
    header = int.from_bytes(first[:8], "little")
    if first[8:9] == b"{" and header <= _LARGEST_HEADER:
        return _safetensors(path, size, 8 + header)
    if first[:2] == b"PK":
        _check_archive(path)
    elif _TORCH_PICKLE not in first[:32]:
        raise WeightsError(f"--weights {path}: {_kind(path, first)}; {WANTED}")
    return _torch(path)


def _check_is_file(path: Path) -> None:
    if path.is_dir():
        inside = sorted(file for file in path.iterdir() if file.suffix.lower() in SUFFIXES)
        advice = f"give the file in it, such as {inside[0]}" if inside else WANTED
        raise WeightsError(f"--weights {path}: a folder, and no file; {advice}")
    if not path.exists():
        raise WeightsError(f"--weights {path}: no such file; {WANTED}")
    if not path.is_file():
        raise WeightsError(f"--weights {path}: no regular file; {WANTED}")


def _safetensors(path: Path, size: int, least: int) -> object:
    if size < least:
        raise WeightsError(f"--weights {path}: the file is truncated; download or copy it again")
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except SafetensorError as error:
        raise WeightsError(_damaged(path, error)) from None


def _check_archive(path: Path) -> None:
    """Refuse ZIP archives that torch.save did not write: each begins with the same bytes."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except zipfile.BadZipFile:
        raise WeightsError(f"--weights {path}: the file is truncated; download or copy it again") from None
    inner = {name.partition("/")[2] for name in names}
    if "constants.pkl" in inner or "archive_format" in inner:
        raise WeightsError(
            f"--weights {path}: a TorchScript or exported program, and programs are not run; load it where you trust "
            "it, and save its state dict: torch.save(program.state_dict(), FILE)"
        )
    if "data.pkl" not in inner:
        some = ", ".join(names[:2]) or "nothing"
        raise WeightsError(
            f"--weights {path}: a ZIP archive that holds {some}; unpack it, and give the file of weights"
        )


def _torch(path: Path) -> object:
    try:
        with path.open("rb") as file:  # of a path, torch believes the suffix
            return torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if match := re.search(r"(?:GLOBAL|class|instance of class) ([\w.]*\w)", str(error)):
            raise WeightsError(
                f"--weights {path}: a pickle that needs {match[1]}, such as a whole model, and it could run code; load "
                "it where you trust it, and save the state dict alone: torch.save(model.state_dict(), FILE)"
            ) from None
        raise WeightsError(_damaged(path, error)) from None
    except Exception as error:  # torch raises many kinds on a damaged file
        raise WeightsError(_damaged(path, error)) from None


def _damaged(path: Path, error: Exception) -> str:
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return f"--weights {path}: truncated or damaged ({reason[:120]}); download or copy it again"


def _kind(path: Path, first: bytes) -> str:
    """What a file is that holds no weights."""
    start = first.lstrip(b"\xef\xbb\xbf \t\r\n")
    for beginning, kind in _KINDS:
        if start.startswith(beginning):
            return kind
    if path.suffix.lower() == ".onnx" or b"onnx" in first[:64] or b"pytorch" in first[:64]:
        return "an ONNX graph; give the weights that it was exported from"
    if first[257:262] == b"ustar":
        return "a tar archive; unpack it"
    if first[:1] == b"\x80":
        return "a pickle that torch.save did not write, and it could run code; save the tensors with torch.save"
    if all(byte >= 32 or byte in b"\t\r\n" for byte in first):
        return f"text that begins with {first[:24].decode('utf-8', 'replace')!r}, and no weights"
    return "a file of another kind, or damaged"


def _states(content: object, place: tuple[str, ...] = ()) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """Every set of named tensors in a checkpoint, the outermost first."""
    if not isinstance(content, Mapping) or len(place) > _DEEPEST:
        return
    named = {key: value for key, value in content.items() if isinstance(key, str)}
    tensors = {key: value for key, value in named.items() if isinstance(value, Tensor)}
    if tensors:
        yield ".".join(place), tensors
    for key, value in named.items():
        yield from _states(value, (*place, key))
