"""The report: ``report.html``, one file with everything in it, and ``report.md`` with its plots beside it."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

import jinja2

from edge_all import NOTICE

from ..store import write
from . import sections
from .blocks import PLOTS, Block, Pictures, Plot, Points, Section, Table, Text
from .results import Results

HTML = "report.html"
MARKDOWN = "report.md"


def write_report(results: Results) -> None:
    """Draw the plots and write both forms of the report into the study's folder."""
    out, title = results.study.settings.out, "edge_all study"
    content = sections.sections(results)
    write(out / HTML, html(title, content, out / PLOTS))
    write(out / MARKDOWN, markdown(title, content))


def html(title: str, sections: Sequence[Section], plots: Path) -> str:
    """One page that needs no other file; the PNGs are read from the folder `plots`."""
    template = resources.files(__package__).joinpath("report.html.jinja").read_text(encoding="utf-8")
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    ready = [{"title": section.title, "blocks": [_with_data(b, plots) for b in section.blocks]} for section in sections]
    return environment.from_string(template).render(title=title, notice=NOTICE, sections=ready)


def markdown(title: str, sections: Sequence[Section]) -> str:
    """The same without images of the data set; the plots are linked."""
    lines = [f"# {title}", "", f"**{NOTICE}**", ""]
    for section in sections:
        lines += [f"## {section.title}", ""]
        for block in section.blocks:
            lines += _markdown(block)
        if any(isinstance(block, Pictures) for block in section.blocks):
            lines += [f"The images are shown in {HTML} only.", ""]
    return "\n".join(lines).rstrip()


def _markdown(block: Block) -> list[str]:
    match block:
        case Text():
            return [block.text, ""]
        case Points():
            return [*(f"- {line}" for line in block.lines), ""]
        case Table():
            rule = ["---" if i < block.figures else "---:" for i in range(len(block.columns))]
            return [_line(block.columns), _line(rule), *(_line(row) for row in block.rows), ""]
        case Plot():
            return [f"![{block.caption}]({PLOTS}/{block.file})", "", f"*{block.caption}*", ""]
        case Pictures():
            return []


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _with_data(block: Block, plots: Path) -> object:
    """A block as the template reads it: with the bytes of its images in base64."""
    match block:
        case Plot():
            return vars(block) | {"data": _base64((plots / block.file).read_bytes())}
        case Pictures():
            pictures = [{"data": _base64(picture.jpeg), "caption": picture.caption} for picture in block.pictures]
            return {"kind": block.kind, "pictures": pictures}
        case _:
            return block


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode("ascii")
