"""Groups that the user gives: the patient or the slide of each image, by a file or by the images' names."""

from __future__ import annotations

import re
from pathlib import Path

from edge_all import label_file
from edge_all.errors import DataError

from .listing import Listing
from .record import normalized_name


def assign(listed: Listing, groups: str | None) -> tuple[str, ...]:
    """The group of each image.

    Args:
        listed: The images.
        groups: A CSV file, ``file,group``, or a regular expression that is searched for in each image's path below the
            data set's folder: the group is what its group ``group``, or else its first one, matches. None takes the
            groups of the listing, if it has any.

    Returns:
        Empty where there are no groups.

    Raises:
        DataError: The file cannot be used, the expression is none, groups are given twice, or an image has none.
    """
    if not groups:
        return _checked(listed, tuple(listed.groups), str(listed.names)) if listed.groups else ()
    if listed.groups:
        raise DataError(f"--groups {groups} and the column group of {listed.names} both name groups; give one of them")
    path = Path(groups)
    if path.is_file():
        by_file = label_file.read_groups(path, listed.root)
        return _checked(listed, tuple(by_file.get(normalized_name(file), "") for file in listed.files), str(path))
    if path.suffix.lower() == ".csv":
        raise DataError(f"--groups {groups}: there is no such file; wanted a CSV file, file,group")
    expression = _compiled(groups)
    matches = [expression.search(normalized_name(file)) for file in listed.files]
    number: str | int = "group" if "group" in expression.groupindex else 1
    return _checked(listed, tuple((match[number] or "") if match else "" for match in matches), repr(groups))


def _compiled(text: str) -> re.Pattern[str]:
    try:
        expression = re.compile(text)
    except re.error as error:
        raise DataError(f"--groups {text}: there is no such file, and it is no regular expression ({error})") from None
    if not expression.groups:
        raise DataError(
            f"--groups {text}: there is no such file, and as a regular expression it has no group: put parentheses "
            "around the part that names the patient or the slide"
        )
    return expression


def _checked(listed: Listing, groups: tuple[str, ...], source: str) -> tuple[str, ...]:
    without = [file for file, group in zip(listed.files, groups, strict=True) if not group]
    if without:
        raise DataError(
            f"{len(without)} of {len(groups)} images have no group by {source}, first {without[0]}; every image needs "
            "the group of its patient or slide"
        )
    return groups
