"""A part answered, as a table: a row for each image, in the order of the part."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain, groupby, islice
from operator import itemgetter
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
    """As `answer_each`, of one part: its table."""
    ((_, table),) = answer_each([part], classifier, threads)
    return table


def answer_each(parts: Sequence[Part], classifier: Classifier, threads: int) -> Iterator[tuple[Part, Any]]:
    """Answer all images of parts, one part after another; those that cannot be classified have the reason in their row.

    While the last images of a part are answered, the first of the next are read already; on one core and from a disk,
    one after the other is faster.

    Args:
        parts: The parts.
        classifier: Loaded with as many streams as there are threads.
        threads: How many images are answered at the same time.

    Yields:
        Each part with its answers, a ``pyarrow.Table``.

    Raises:
        TargetError: The engine failed.
    """

    def classify(given: tuple[Part, Sequence[Item]]) -> tuple[Part, list[_Answered]]:
        part, group = given
        contents = [_content(item) for item in group]
        there = [content for content in contents if isinstance(content, bytes)]
        found = iter(classifier.classify_several(there, digest=True))
        answers = [next(found) if isinstance(content, bytes) else content for content in contents]
        return part, list(zip(group, answers, strict=True))

    work = chain.from_iterable(map(_groups, parts))
    alone = threads == 1 and all(map(_is_on_disk, parts))
    answered = map(classify, work) if alone else parallel.ahead(classify, work, threads + 1)
    for part, groups in groupby(answered, key=itemgetter(0)):
        yield part, _table(list(chain.from_iterable(own for _, own in groups)), classifier)


_Answered = tuple[Item, Prediction | ImageError]


def _groups(part: Part) -> Iterator[tuple[Part, list[Item]]]:
    """The images of a part, some at a time; at first none, so that a part without images is one too."""
    found = items(part) if _is_near(part) else parallel.ahead(_fetched, items(part), _READERS)
    yield part, []
    while group := list(islice(found, _GROUP)):
        yield part, group


def _is_near(part: Part) -> bool:
    """Whether the images of a part need not be fetched one by one from somewhere else."""
    return part.kind != FILES or _is_on_disk(part)


def _is_on_disk(part: Part) -> bool:
    return all(file.url.startswith("file:") for file in part.files)


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


def _table(answered: Sequence[_Answered], classifier: Classifier) -> Any:
    """A row for each image, made column by column: row by row it takes three times as long."""
    import pyarrow as pa

    origin, count = classifier.origin(), len(answered)
    given = [answer if isinstance(answer, Prediction) else None for _, answer in answered]
    files = [item.file for item, _ in answered]

    def of(name: str, kind: Any) -> Any:
        return pa.array([None if answer is None else getattr(answer, name) for answer in given], kind)

    columns = {"file": pa.array([item.name for item, _ in answered], pa.string())}
    columns |= {name: of(name, pa.string()) for name in ("label", "status", "top")}
    for label in classifier.bundle.classes:
        shares = [None if answer is None else answer.probabilities[label] for answer in given]
        columns[f"p_{label}"] = pa.array(shares, pa.float32())
    columns["unfamiliarity"] = of("unfamiliarity", pa.float32())
    columns["reason"] = of("reason", pa.string())
    errors = [str(answer) if isinstance(answer, ImageError) else None for _, answer in answered]
    columns["error"] = pa.array(errors, pa.string())
    columns["sha256"] = of("sha256", pa.string())
    columns["size"] = pa.array([file.size if file else None for file in files], pa.int64())
    columns["stamp"] = pa.array([file.stamp if file else None for file in files], pa.string())
    for name in ORIGIN:
        kind = pa.float64() if name == "threshold" else pa.string()
        columns[name] = pa.repeat(pa.scalar(origin[name], kind), count)
    return pa.table(columns)
