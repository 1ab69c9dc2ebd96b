"""What rows are called: names that tell bundles apart, and the images that an accuracy was measured on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path

from edge_all.bundle import Bundle

_FORMS: tuple[Callable[[Bundle], str], ...] = (
    lambda bundle: bundle.name,
    lambda bundle: bundle.path.resolve().name,
    lambda bundle: f"{bundle.path.resolve().name} {bundle.digest[:8]}",
    lambda bundle: str(bundle.path),
)
"""Of a bundle, from the shortest name to the one that no other bundle has."""


def labels(bundles: Iterable[Bundle]) -> dict[Path, str]:
    """Name bundles: by the name in the record, or by the folder where two bundles of one recipe have the same name.

    Where the folders have the same name too, the first eight digits of the digest follow. A copy of a bundle is named
    by its path.

    Args:
        bundles: Each at a path of its own.

    Returns:
        The name by the bundle's path.
    """
    bundles = list(bundles)
    forms = {bundle.path: 0 for bundle in bundles}
    while True:
        named = {bundle.path: _FORMS[forms[bundle.path]](bundle) for bundle in bundles}
        uses = Counter(named.values())
        longer = [path for path, name in named.items() if uses[name] > 1 and forms[path] < len(_FORMS) - 1]
        if not longer:
            return named
        for path in longer:
            forms[path] += 1


def measured_on(images: int, accuracy_on: str) -> str:
    """The images that an accuracy was measured on, in words, such as "200 unseen images"."""
    return f"{images} {accuracy_on}" if accuracy_on.endswith("images") else f"{images} images of the {accuracy_on}"
