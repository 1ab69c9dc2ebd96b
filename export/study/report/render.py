"""The report: ``report.html``, one file with everything in it, and ``report.md`` with its plots beside it."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2

from edge_all.cli.output import NOTICE

from .. import settings
from ..picks import Study
from . import sections
from .blocks import PLOTS, Block, Section

HTML = "report.html"
MARKDOWN = "report.md"


def write(study: Study) -> None:
    """Draw the plots and write both forms of the report into the study's folder."""
    out, title = study.settings.out, "edge_all study"
    content = sections.sections(study)
    settings.write(out / HTML, html(title, content, out / PLOTS))
    settings.write(out / MARKDOWN, markdown(title, content))


def html(title: str, sections: Sequence[Section], plots: Path) -> str:
    """One self-contained page; the figures are read from `plots`."""
    template = resources.files(__package__).joinpath("report.html.jinja").read_text(encoding="utf-8")
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    ready = [{"title": section.title, "blocks": [_with_data(b, plots) for b in section.blocks]} for section in sections]
    return environment.from_string(template).render(title=title, notice=NOTICE, sections=ready)


def markdown(title: str, sections: Sequence[Section]) -> str:
    """The same without pictures, its figures linked."""
    lines = [f"# {title}", "", f"**{NOTICE}**", ""]
    for section in sections:
        lines += [f"## {section.title}", ""]
        for block in section.blocks:
            if block.kind == "text":
                lines += [block.text, ""]
            elif block.kind == "points":
                lines += [*(f"- {line}" for line in block.lines), ""]
            elif block.kind == "table":
                rule = ["---" if i < block.figures else "---:" for i in range(len(block.columns))]
                lines += [_line(block.columns), _line(rule), *(_line(row) for row in block.rows), ""]
            elif block.kind == "plot":
                lines += [f"![{block.caption}]({PLOTS}/{block.file})", "", f"*{block.caption}*", ""]
        if any(block.kind == "pictures" for block in section.blocks):
            lines += [f"The images are in {HTML} alone.", ""]
    return "\n".join(lines).rstrip()


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _with_data(block: Block, plots: Path) -> Any:
    """A block as the template wants it: with the bytes of its images in base64."""
    if block.kind == "plot":
        return vars(block) | {"data": _base64((plots / block.file).read_bytes())}
    if block.kind == "pictures":
        pictures = [{"data": _base64(one.jpeg), "caption": one.caption} for one in block.pictures]
        return {"kind": block.kind, "pictures": pictures}
    return block


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode("ascii")
