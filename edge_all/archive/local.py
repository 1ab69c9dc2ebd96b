"""All parts, one after another, on the threads of this machine."""

from __future__ import annotations

from collections.abc import Sequence

from edge_all import parallel
from edge_all.archive import answers
from edge_all.archive.sources import Part
from edge_all.archive.store import Store
from edge_all.classifier import Classifier
from edge_all.progress import Progress


def run(parts: Sequence[Part], classifier: Classifier, store: Store, threads: int, progress: Progress) -> None:
    """Answer parts, and write the table of each while the next is answered.

    Raises:
        TargetError: The engine failed.
        EdgeAllError: A table cannot be written.
    """
    tables = answers.answer_each(parts, classifier, threads)
    for done, _ in enumerate(parallel.ahead(lambda answered: store.write(*answered), tables, 1), 1):
        progress(done, len(parts))
