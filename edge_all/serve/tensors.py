"""Tensors of the Open Inference Protocol, version 2: in JSON, or as bytes behind it (the binary tensor extension).

References: https://github.com/kserve/open-inference-protocol, and Triton's ``extension_binary_data.md``.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from edge_all.serve.replies import refusal

MAX_BATCH = 64
"""Most images in one request."""

HEADER_LENGTH = "inference-header-content-length"
"""Header that says where the JSON ends and the bytes begin."""


@dataclass(frozen=True)
class Asked:
    """A request for inference.

    Attributes:
        id: As the client calls it; None where it gave none.
        images: Encoded images as bytes, or pixels ``uint8 [H, W, 3]``.
        outputs: Names of the tensors that are wanted, and whether each is wanted as bytes.
    """

    id: str | None
    images: list[bytes | npt.NDArray[np.uint8]]
    outputs: dict[str, bool]


@dataclass(frozen=True)
class Output:
    """A tensor of an answer: numbers ``float32``, or texts."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    values: Sequence[float] | Sequence[str]

    def as_bytes(self) -> bytes:
        """Its values as the binary extension wants them: each text with its length before it."""
        if self.datatype == "FP32":
            return struct.pack(f"<{len(self.values)}f", *self.values)
        texts = [str(value).encode("utf-8", "surrogatepass") for value in self.values]
        return b"".join(struct.pack("<I", len(text)) + text for text in texts)


def read(body: bytes, header_length: str | None, size: tuple[int, int], known: Sequence[str]) -> Asked:
    """Read a request for inference.

    Args:
        body: The request's body.
        header_length: Of the header `HEADER_LENGTH`; None where all is JSON.
        size: Height and width of the graph's input.
        known: Names of all outputs.

    Raises:
        HTTPException: 400, it is none.
    """
    end = len(body)
    if header_length is not None:
        end = int(header_length[:20]) if header_length.isdecimal() else -1
        if not 0 < end <= len(body):
            raise _bad(f"{HEADER_LENGTH} is {header_length[:20]!r}; wanted the bytes of JSON, up to {len(body)}")
    try:
        head = json.loads(body[:end])
    except (ValueError, RecursionError):
        raise _bad("the body is not JSON") from None
    inputs = _list(_object(head, "the body").get("inputs"), "inputs")
    if len(inputs) != 1:
        raise _bad(f"{len(inputs)} inputs; wanted one: image (UINT8) or encoded (BYTES)")
    name = head.get("id")
    if name is not None and not isinstance(name, str):
        raise _bad("id must be a text")
    return Asked(name, _images(_object(inputs[0], "an input"), body[end:], size), _outputs(head, known))


def write(answer: dict[str, Any], outputs: Sequence[Output], binary: dict[str, bool]) -> tuple[bytes, int | None]:
    """Write an answer.

    Returns:
        The body, and how many of its bytes are JSON; None where all are.
    """
    listed, tail = [], b""
    for output in outputs:
        entry: dict[str, Any] = {"name": output.name, "datatype": output.datatype, "shape": list(output.shape)}
        if binary[output.name]:
            data = output.as_bytes()
            entry["parameters"] = {"binary_data_size": len(data)}
            tail += data
        else:
            entry["data"] = list(output.values)
        listed.append(entry)
    head = json.dumps({**answer, "outputs": listed}, separators=(",", ":")).encode("ascii")
    return head + tail, len(head) if tail else None


def _outputs(head: dict[str, Any], known: Sequence[str]) -> dict[str, bool]:
    every = _parameters(head).get("binary_data_output") is True
    asked = head.get("outputs")
    if asked is None or asked == []:
        return dict.fromkeys(known, every)
    wanted = {}
    for output in _list(asked, "outputs"):
        output = _object(output, "an output")
        name = output.get("name")
        if name not in known:
            raise _bad(f"there is no output {str(name)[:40]!r}; wanted {', '.join(known)}")
        wanted[cast(str, name)] = _parameters(output).get("binary_data", every) is True
    return wanted


def _images(tensor: dict[str, Any], tail: bytes, size: tuple[int, int]) -> list[bytes | npt.NDArray[np.uint8]]:
    shape = _shape(tensor)
    kind = tensor.get("name"), tensor.get("datatype")
    binary = _parameters(tensor).get("binary_data_size")
    if binary is not None and (type(binary) is not int or binary != len(tail)):
        raise _bad(f"binary_data_size is {str(binary)[:20]}, and {len(tail)} bytes follow the JSON")
    if binary is None and tail:
        raise _bad("bytes follow the JSON, and no input has a binary_data_size")
    if kind == ("image", "UINT8"):
        if shape[1:] != (*size, 3) or not 1 <= shape[0] <= MAX_BATCH:
            raise _bad(f"shape {list(shape)}; wanted [N, {size[0]}, {size[1]}, 3], with N from 1 to {MAX_BATCH}")
        pixels = _pixels(tensor.get("data"), math.prod(shape)) if binary is None else np.frombuffer(tail, np.uint8)
        if pixels.size != math.prod(shape):
            raise _bad(f"{pixels.size} values; shape {list(shape)} wants {math.prod(shape)}")
        return list(pixels.reshape(shape))
    if kind == ("encoded", "BYTES"):
        texts = _decoded(tensor.get("data")) if binary is None else _split(tail)
        if shape not in ((len(texts),), (len(texts), 1)) or not 1 <= len(texts) <= MAX_BATCH:
            raise _bad(f"{len(texts)} images with shape {list(shape)}; wanted [N], with N from 1 to {MAX_BATCH}")
        return list(texts)
    raise _bad(f"input {str(kind[0])[:40]!r} of {str(kind[1])[:40]!r}; wanted image of UINT8, or encoded of BYTES")


def _pixels(data: object, count: int) -> npt.NDArray[np.uint8]:
    """Values from JSON, flat or nested as the shape says."""
    flat = _list(data, "data")
    while flat and isinstance(flat[0], list):
        if not all(isinstance(part, list) for part in flat):
            raise _bad("data is nested unevenly")
        flat = [value for part in flat for value in part]
    if len(flat) != count:
        raise _bad(f"{len(flat)} values in data; the shape wants {count}")
    if not all(type(value) is int and 0 <= value <= 255 for value in flat):
        raise _bad("data of UINT8 must be whole numbers from 0 to 255")
    return np.array(flat, np.uint8)


def _decoded(data: object) -> list[bytes]:
    """Images from JSON, in base64."""
    texts = _list(data, "data")
    try:
        return [base64.b64decode(text, validate=True) for text in texts]
    except (binascii.Error, ValueError, TypeError):
        raise _bad("data of BYTES in JSON must be base64") from None


def _split(tail: bytes) -> list[bytes]:
    parts, at = [], 0
    while at < len(tail):
        length = int.from_bytes(tail[at : at + 4], "little")
        if at + 4 + length > len(tail):
            raise _bad("an element of BYTES is longer than the data")
        parts.append(tail[at + 4 : at + 4 + length])
        at += 4 + length
        if len(parts) > MAX_BATCH:
            raise _bad(f"over {MAX_BATCH} images in one request")
    return parts


def _shape(tensor: dict[str, Any]) -> tuple[int, ...]:
    shape = _list(tensor.get("shape"), "shape")
    if not all(type(side) is int and 0 <= side < 2**31 for side in shape) or not 1 <= len(shape) <= 4:
        raise _bad("shape must be one to four whole numbers")
    return tuple(shape)


def _parameters(of: dict[str, Any]) -> dict[str, Any]:
    given = of.get("parameters")
    return {} if given is None else _object(given, "parameters")


def _object(value: object, what: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _bad(f"{what} must be an object")
    return value


def _list(value: object, what: str) -> list[Any]:
    if not isinstance(value, list):
        raise _bad(f"{what} must be a list")
    return value


def _bad(error: str) -> Exception:
    return refusal(400, error)
