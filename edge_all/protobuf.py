"""The wire format of Protocol Buffers, read without a library: the fields of a message, without copying their content.

Reference: https://protobuf.dev/programming-guides/encoding/
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
"""Wire types; the two of the old groups are refused."""

_FIXED = {FIXED64: 8, FIXED32: 4}

_MOST_FIELDS = 1_000_000
"""More than any message of a graph has; a file made of empty fields would keep a reader busy for hours."""

_HIGH = bytes(range(128, 256))


class WireError(ValueError):
    """Bytes that are no message."""


def varint(data: memoryview, position: int) -> tuple[int, int]:
    """Read a number of at most 64 bits; return it, and the position behind it."""
    if position < len(data) and data[position] < 128:
        return data[position], position + 1
    value = shift = 0
    for byte in data[position : position + 10]:
        value |= (byte & 127) << shift
        position += 1
        if byte < 128:
            if value >> 64:
                break
            return value, position
        shift += 7
    raise WireError("a number is cut off, or has more than 64 bits")


def tags(wire: int, names: Mapping[int, str]) -> dict[int, str]:
    """Name of each field of a wire type by the tag that it begins with, from the names by number."""
    return {number << 3 | wire: name for number, name in names.items()}


def message(data: memoryview, names: Mapping[int, str]) -> dict[str, list[int | memoryview]]:
    """Read the fields of a message that have one of these tags; all others are stepped over, as every reader does.

    Args:
        data: The whole message.
        names: Name of each field that is wanted, by its tag.

    Returns:
        By name, the values in order: a number for `VARINT`, else the bytes, which are not copied.

    Raises:
        WireError: The bytes are no message.
    """
    found: dict[str, list[int | memoryview]] = {}
    position, end = 0, len(data)
    for _ in range(_MOST_FIELDS):
        if position >= end:
            return found
        tag, position = (data[position], position + 1) if data[position] < 128 else varint(data, position)
        if tag < 8:
            raise WireError("a field has number 0")
        wire, name = tag & 7, names.get(tag)
        value: int | memoryview
        if wire == VARINT:
            value, position = varint(data, position)
        else:
            size, position = (_FIXED[wire], position) if wire in _FIXED else _size(data, position, wire)
            start, position = position, position + size
            if position > end:
                raise WireError("a field is longer than what is left of the file")
            if name is None:
                continue
            value = data[start:position]
        if name is not None:
            found.setdefault(name, []).append(value)
    raise WireError(f"a part of it has more than {_MOST_FIELDS} fields")


def _size(data: memoryview, position: int, wire: int) -> tuple[int, int]:
    """The length of a field of bytes, and the position behind it."""
    if wire != BYTES:
        raise WireError(f"a field is of wire type {wire}")
    return varint(data, position)


def one(found: Iterable[int | memoryview], name: str) -> int | memoryview | None:
    """The value of a field that may be there once; readers of a message differ in what they do with two.

    Raises:
        WireError: It is there twice.
    """
    values = list(found)
    if len(values) > 1:
        raise WireError(f"{name} is given {len(values)} times")
    return values[0] if values else None


def count_varints(data: memoryview) -> int:
    """How many numbers a packed field of varints holds: each ends with a byte below 128."""
    if data and data[-1] >= 128:
        raise WireError("a packed number is cut off")
    return len(bytes(data).translate(None, _HIGH))


def varints(data: memoryview) -> Iterator[int]:
    """The numbers of a packed field of varints."""
    position = 0
    while position < len(data):
        value, position = varint(data, position)
        yield value
