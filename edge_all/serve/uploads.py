"""The image in a request: its body as it is, or the one file of a form."""

from __future__ import annotations

from dataclasses import dataclass, field

from python_multipart.exceptions import ParseError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import Request

from edge_all.serve.replies import refusal

UNNAMED = "-"
"""What an image without a name is called, as one on stdin."""

_LONGEST_NAME = 255


@dataclass(frozen=True)
class Upload:
    """An image file that a client sent.

    Attributes:
        name: What the client calls it: a file's name without folders. It is only shown, and never opened.
        data: Its bytes.
    """

    name: str
    data: bytes


async def read(request: Request) -> Upload:
    """Read the image in a request.

    Raises:
        HTTPException: 400 or 422, there is not exactly one; or what reading the body raises.
    """
    kind, options = parse_options_header(request.headers.get("content-type", ""))
    body = await request.body()
    if kind.lower() != b"multipart/form-data":
        return Upload(UNNAMED, body)
    boundary = options.get(b"boundary", b"")
    if not boundary:
        raise refusal(400, "a form without a boundary; wanted multipart/form-data with one file")
    files = _files(body, boundary)
    if len(files) != 1:
        raise refusal(422, f"{len(files)} files in the form; wanted exactly one")
    return files[0]


def _files(body: bytes, boundary: bytes) -> list[Upload]:
    parts = _Parts()
    try:
        parser = MultipartParser(boundary, parts.callbacks())  # type: ignore[arg-type]
        parser.write(body)
        parser.finalize()
    except (ParseError, ValueError) as error:
        raise refusal(400, f"the form cannot be read: {error}") from None
    if not parts.complete:
        raise refusal(400, "the form ends too early; send it again")
    return parts.files


@dataclass
class _Parts:
    """Collects the files of a form; fields that are no files are passed over."""

    files: list[Upload] = field(default_factory=list)
    complete: bool = False
    _name: bytes = b""
    _value: bytes = b""
    _file: str | None = None
    _data: bytearray = field(default_factory=bytearray)

    def callbacks(self) -> dict[str, object]:
        return {
            "on_part_begin": self._begin,
            "on_header_field": self._header_name,
            "on_header_value": self._header_value,
            "on_header_end": self._header,
            "on_part_data": self._more,
            "on_part_end": self._end,
            "on_end": self._finish,
        }

    def _begin(self) -> None:
        self._name, self._value, self._file, self._data = b"", b"", None, bytearray()

    def _header_name(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _header(self) -> None:
        if self._name.lower() == b"content-disposition":
            _, options = parse_options_header(self._value)
            if b"filename" in options:
                self._file = plain_name(options[b"filename"].decode("utf-8", "replace"))
        self._name, self._value = b"", b""

    def _more(self, data: bytes, start: int, end: int) -> None:
        if self._file is not None:
            self._data += data[start:end]

    def _end(self) -> None:
        if self._file is not None:
            self.files.append(Upload(self._file, bytes(self._data)))

    def _finish(self) -> None:
        self.complete = True


def plain_name(name: str) -> str:
    """The last part of a name, whatever system its folders are of, so that it is no path."""
    for separator in ("/", "\\", ":"):
        name = name.rpartition(separator)[2]
    return name[-_LONGEST_NAME:] if name not in ("", ".", "..") else UNNAMED
