"""All parts, one after another, on the threads of this machine."""

from __future__ import annotations

from collections.abc import Sequence

from edge_all.archive import answers
from edge_all.archive.sources import Part
from edge_all.archive.store import Store
from edge_all.classifier import Classifier
from edge_all.progress import Progress


def run(parts: Sequence[Part], classifier: Classifier, store: Store, threads: int, progress: Progress) -> None:
    """Answer parts, and write the table of each before the next is begun.

    Raises:
        TargetError: The engine failed.
        EdgeAllError: A table cannot be written.
    """
    for done, part in enumerate(parts, 1):
        store.write(part, answers.answer(part, classifier, threads))
        progress(done, len(parts))
