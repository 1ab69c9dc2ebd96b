"""A part answered, as a table: a row for each image, in the order of the part."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain, islice
from typing import Any

from edge_all import parallel
from edge_all.archive.contents import Item, items
from edge_all.archive.sources import FILES, Part
from edge_all.classifier import ORIGIN, Classifier
from edge_all.errors import ImageError
from edge_all.prediction import Prediction

_GROUP = 16
"""Images that a thread takes at once."""

_READERS = 16
"""Files that are fetched at the same time: an object store takes its time for each."""


def answer(part: Part, classifier: Classifier, threads: int) -> Any:
    """Answer all images of a part; those that cannot be classified have the reason in their row.

    Args:
        part: The part.
        classifier: Loaded with as many streams as there are threads.
        threads: How many images are answered at the same time.

    Returns:
        A ``pyarrow.Table``.

    Raises:
        TargetError: The engine failed.
    """

    def classify(group: Sequence[Item]) -> list[tuple[Item, Prediction | str]]:
        contents = [_content(item) for item in group]
        there = [content for content in contents if isinstance(content, bytes)]
        given = iter(classifier.classify_several(there, digest=True))
        answers = [next(given) if isinstance(content, bytes) else content for content in contents]
        return [
            (item, str(answer) if isinstance(answer, ImageError) else answer)
            for item, answer in zip(group, answers, strict=True)
        ]

    found = items(part) if _is_near(part) else parallel.ahead(_fetched, items(part), _READERS)
    groups = iter(lambda: list(islice(found, _GROUP)), [])
    answered = chain.from_iterable(parallel.ahead(classify, groups, threads + 1))
    rows = [_row(item, given, classifier.bundle.classes) for item, given in answered]
    return _table(rows, classifier)


def _is_near(part: Part) -> bool:
    """Whether the images of a part need not be fetched one by one from somewhere else."""
    return part.kind != FILES or all(file.url.startswith("file:") for file in part.files)


def _fetched(item: Item) -> Item:
    """An item whose bytes are here, or whose error is known."""
    content = _content(item)

    def read() -> bytes:
        if isinstance(content, ImageError):
            raise content
        return content

    return item._replace(read=read)


def _content(item: Item) -> bytes | ImageError:
    try:
        return item.read()
    except ImageError as error:
        return error


def _row(item: Item, given: Prediction | str, classes: tuple[str, ...]) -> dict[str, object]:
    file = item.file
    row: dict[str, object] = {
        "file": item.name,
        "size": file.size if file else None,
        "stamp": file.stamp if file else None,
    }
    if isinstance(given, str):
        return row | {"error": given, "status": None, "label": None}
    row |= {"label": given.label, "status": given.status, "top": given.top}
    row |= {f"p_{label}": given.probabilities[label] for label in classes}
    row |= {"unfamiliarity": given.unfamiliarity, "reason": given.reason, "sha256": given.sha256}
    return row | {"error": None}


def _table(rows: list[dict[str, object]], classifier: Classifier) -> Any:
    import pyarrow as pa

    origin: Mapping[str, object] = classifier.origin()
    shares = [(f"p_{label}", pa.float32()) for label in classifier.bundle.classes]
    schema = pa.schema(
        [
            *((name, pa.string()) for name in ("file", "label", "status", "top")),
            *shares,
            ("unfamiliarity", pa.float32()),
            *((name, pa.string()) for name in ("reason", "error", "sha256")),
            ("size", pa.int64()),
            ("stamp", pa.string()),
            *((name, pa.float64() if name == "threshold" else pa.string()) for name in ORIGIN),
        ]
    )
    made = {name: origin[name] for name in ORIGIN}
    return pa.Table.from_pylist([row | made for row in rows], schema=schema)
