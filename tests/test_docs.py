"""The documentation says what the program does: its commands and options, its files, its links."""

from __future__ import annotations

import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from edge_all.cli import cli
from edge_all.errors import install_hint

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
CLI = (DOCS / "cli.md").read_text("utf-8")
COMMANDS = tuple(cli.list_commands(click.Context(cli)))

PAGES = sorted(
    page.relative_to(ROOT).as_posix()
    for pattern in ("*.md", "benchmarks/*.md", ".github/*.md", "docs/**/*.md")
    for page in ROOT.glob(pattern)
    if "study" not in page.parts  # `edge-all study` writes these
)

_OPTION = re.compile(r"(?<![\w-])--?[a-z][a-z0-9-]*")
_FENCED = re.compile(r"^```.*?^```", re.M | re.S)
_PLACEHOLDERS = ("...", "[OPTIONS]")


def read(page: str) -> str:
    return (ROOT / page).read_text("utf-8")


def command(name: str) -> click.Command:
    found = cli.get_command(click.Context(cli), name)
    assert found, f"there is no command {name}"
    return found


def section(name: str) -> str:
    """The part of docs/cli.md under a command's heading; of "" what comes before the first command."""
    start = rf"^## {re.escape(name)}$" if name else r"\A"
    found = re.search(rf"{start}(.*?)(?=^## |\Z)", CLI, re.M | re.S)
    assert found, f"docs/cli.md has no section '## {name}'"
    return found[1]


def explained(name: str) -> set[str]:
    """The options that a command's section explains: those that begin a row of a table."""
    rows = [line.split("|")[1] for line in section(name).splitlines() if line.startswith("| `-")]
    return {option for row in rows for option in _OPTION.findall(row)}


def shown(of: click.Command) -> list[click.Option]:
    """The options that `--help` shows; of a group, those of its commands."""
    if isinstance(of, click.Group) and of is not cli:
        return [option for each in of.commands.values() for option in shown(each)]
    return [option for option in of.params if isinstance(option, click.Option) and not option.hidden]


def test_every_command_has_a_section_and_nothing_else_has() -> None:
    assert sorted(re.findall(r"^## (\S+)$", CLI, re.M)) == sorted(COMMANDS)


@pytest.mark.parametrize("name", ["", *COMMANDS])
def test_every_option_is_explained(name: str) -> None:
    rows = explained(name)
    missing = [option.opts for option in shown(command(name) if name else cli) if not rows & set(option.opts)]
    assert not missing, f"docs/cli.md does not explain {missing} of edge-all {name}"


@pytest.mark.parametrize("name", COMMANDS)
def test_only_options_that_exist_are_explained(name: str) -> None:
    assert explained(name) <= {
        spelling for option in shown(command(name)) for spelling in (*option.opts, *option.secondary_opts)
    }


def command_lines(page: str) -> Iterator[str]:
    """Every `edge-all ...` that stands in code."""
    text = read(page)
    prose = _FENCED.sub("", text).splitlines()
    inline = re.findall(r"`([^`]+)`", "\n".join(line for line in prose if not line.startswith("    ")))
    fenced = [line for block in _FENCED.findall(text) for line in block.splitlines()]
    indented = [line for line in prose if line.startswith("    ")]
    for line in [*fenced, *indented, *inline]:
        bare = " ".join(line.split()).removeprefix("$ ")
        if bare.startswith("edge-all "):
            yield bare


LINES = sorted({(page, line) for page in PAGES for line in command_lines(page)})


def test_command_lines_are_found() -> None:
    assert len(LINES) > 30


@pytest.mark.parametrize(("page", "line"), LINES)
def test_every_command_line_parses(page: str, line: str) -> None:
    """With click's own parser: the command, its options, their choices and numbers. Files need not exist."""
    words = [word for word in shlex.split(line, comments=True)[1:] if word not in _PLACEHOLDERS]
    while words and words[0].startswith("-"):
        assert words.pop(0) in explained("")
    if not words or words[0] == "COMMAND":
        return
    name, *given = words
    assert name in COMMANDS, f"there is no command {name}"
    if not given:
        return  # the command's name, in a sentence
    found = command(name)
    if isinstance(found, click.Group) and "|" not in given[0]:
        name, *given = given
        assert name in found.commands, f"there is no command {name}"
        found = found.commands[name]
    try:
        found.make_context(name, given)
    except click.exceptions.Exit:
        pass  # --help
    except click.UsageError as error:
        pytest.fail(error.format_message())


def anchors(page: Path) -> set[str]:
    """Of a page's headings, as GitHub and MkDocs write them."""
    titles = re.findall(r"^#+ (.+)$", _FENCED.sub("", page.read_text("utf-8")), re.M)
    return {re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES)
def test_every_link_leads_somewhere(page: str) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", _FENCED.sub("", read(page))):
        if re.match("[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        there = (ROOT / page).parent / path if path else ROOT / page
        assert there.exists(), f"{target}: there is no such file"
        assert not anchor or anchor in anchors(there), f"{target}: there is no such heading"
        if page.startswith("docs/"):
            assert there.resolve().is_relative_to(DOCS), f"{target}: the site holds docs/ and nothing else"


@pytest.mark.parametrize("page", PAGES)
def test_every_file_that_is_named_exists(page: str) -> None:
    """A path such as `export/taps.py`, or a module's name alone; a name in capitals stands for any."""
    text = read(page)
    paths = re.findall(r"`((?:edge_all|export|benchmarks|tests|scripts|docs)/[\w./-]*)`", text)
    assert not [path for path in paths if not Path(path).stem.isupper() and not (ROOT / path).exists()]
    modules = {path.name for folder in ("edge_all", "export") for path in (ROOT / folder).rglob("*.py")}
    missing = sorted(set(re.findall(r"`(\w+\.py)`", text)) - modules)
    assert not missing


def test_the_site_has_every_page() -> None:
    listed = re.findall(r": (\S+\.md)$", read("mkdocs.yml"), re.M)
    assert sorted(listed) == sorted(page.relative_to(DOCS).as_posix() for page in DOCS.rglob("*.md"))


def test_the_readme_is_short() -> None:
    assert len(read("README.md").splitlines()) < 120


_TEXTS = frozenset({"", ".py", ".md", ".toml", ".yml", ".yaml", ".json", ".cff", ".jinja", ".txt"})

_BY_NAME = re.compile(
    r"\b(?:(?:pip|pipx|uv|conda)[\w ]* (?:install|add|run)|uvx)\b[^\n`]*?[ \"'{]edge[-_]all(?:[\[\"'`\\=<>~ ]|$)", re.M
)


def test_every_installation_is_from_a_checkout_or_a_wheel() -> None:
    """Nothing is published under this name, so that to install it by its name fails, or runs a stranger's code."""
    for line in (
        "pip install -U edge-all",
        'pip install torch "edge_all[plot]"',
        "uv pip install edge-all>=1",
        "uvx edge-all",
    ):
        assert _BY_NAME.search(line)
    assert not _BY_NAME.search(install_hint("openvino"))
    folders = ("edge_all", "export", "docs", "benchmarks", "scripts", "tests", ".github", ".ci")
    files = [path for folder in folders for path in (ROOT / folder).rglob("*")] + list(ROOT.iterdir())
    texts = [path for path in files if path.suffix in _TEXTS and path.is_file() and path != Path(__file__)]
    assert len(texts) > 200
    told = {path: _BY_NAME.findall(path.read_text("utf-8", errors="ignore")) for path in texts}
    assert not {name: lines for name, lines in told.items() if lines}


def test_every_extra_that_is_installed_exists() -> None:
    extras = tomllib.loads(read("pyproject.toml"))["project"]["optional-dependencies"]
    named = {
        name
        for page in PAGES
        for names in re.findall(r"(?:whl|\.)\[([\w,]+)\]", read(page))
        for name in names.split(",")
    }
    assert named
    assert named <= set(extras)
