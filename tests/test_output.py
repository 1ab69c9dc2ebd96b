"""What is printed: never lost in silence, harmless whatever the names in it, and whole lines when a run is stopped."""

from __future__ import annotations

import csv
import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from helpers_bundle import colour_picture
from helpers_command import PROGRAM, Command
from helpers_terminal import run_on_terminal

from edge_all import machine
from edge_all.bundle import Bundle
from edge_all.classifier import Classifier
from edge_all.cli import bench, output
from edge_all.cli.text import cell, json_line, shown
from edge_all.cli.writers import open_writer
from edge_all.prediction import Prediction

posix = pytest.mark.skipif(sys.platform == "win32", reason="signals, devices and such names are POSIX")
linux = pytest.mark.skipif(sys.platform != "linux", reason="names of any bytes, /dev/full and /proc are Linux's")

HOSTILE = "=a\x1b[31m\n\u202e\u2028\x7f\x9b.png"
"""A formula, a colour, a line's end, a mark of direction, a separator of lines, and two more control characters."""


@posix
def test_stdout_that_is_closed_is_refused_before_the_work(colour_bundle: Bundle, coloured_folder: Path) -> None:
    for words in (f"classify {coloured_folder} --bundle {colour_bundle.path}", "--help"):
        done = subprocess.run(f"{PROGRAM} {words} >&-", shell=True, capture_output=True, text=True)
        assert done.returncode == 1 and done.stderr.startswith("edge-all: stdout is closed")
        assert len(done.stderr.splitlines()) == 1


@linux
@pytest.mark.parametrize(
    "words", ["classify data --bundle colour --json", "classify data --bundle colour", "doctor --bundle colour",
              "classify --help", "--help"],
)  # fmt: skip
def test_a_full_disk_is_one_line(words: str, colour_bundle: Bundle, coloured_folder: Path) -> None:
    command = [PROGRAM, *words.split()]
    with open("/dev/full", "wb") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, cwd=coloured_folder.parent)
    last = done.stderr.splitlines()
    assert done.returncode == 1 and last[-1].startswith("edge-all: stdout cannot be written: No space left on device")
    assert [line for line in last[:-1] if not line.startswith("colour, cpu")] == []


@posix
@pytest.mark.parametrize("end", ["2>&-", "2>/dev/full"])
def test_answers_do_not_need_stderr(end: str, colour_bundle: Bundle, coloured_folder: Path) -> None:
    if "full" in end and not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    words = f"{PROGRAM} classify {coloured_folder} --bundle {colour_bundle.path} --json {end}"
    done = subprocess.run(words, shell=True, stdout=subprocess.PIPE, text=True)
    assert done.returncode == 0 and len(done.stdout.splitlines()) == 12


@posix
@pytest.mark.parametrize("words", ["classify data --bundle colour --csv", "classify data --bundle colour", "bench -h"])
def test_a_reader_that_has_gone_ends_it_quietly(words: str, colour_bundle: Bundle, coloured_folder: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    command = [PROGRAM, *words.split()]
    done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, text=True, cwd=coloured_folder.parent)
    os.close(writing)
    assert done.returncode in (1, 141)
    assert [line for line in done.stderr.splitlines() if not line.startswith("colour, cpu")] == []


def start(*words: object, cwd: Path) -> subprocess.Popen[str]:
    """The command, with Ctrl-C as on a terminal although a shell in the background ignores it."""
    program = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); from edge_all.cli import main; "
    command = [sys.executable, "-c", f"{program} main()", *map(str, words)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=cwd)


@posix
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("images", [20, 60])
def test_a_signal_leaves_whole_lines(
    number: signal.Signals, status: int, images: int, colour_bundle: Bundle, tmp_path: Path
) -> None:
    """From 32 images on, threads decode them."""
    large, folder = tmp_path / "large.png", tmp_path / "many"
    colour_picture(0).resize((1200, 1000)).save(large, compress_level=1)
    folder.mkdir()
    for i in range(images):
        (folder / f"{i:03d}.png").symlink_to(large)
    with start("classify", folder, "--bundle", colour_bundle.path, "--json", cwd=tmp_path) as child:
        assert child.stdout and child.stderr
        first = child.stdout.readline()
        child.send_signal(number)
        rest, said = child.stdout.read(), child.stderr.read()  # communicate() loses what readline() read ahead
    assert child.returncode == status and said == "edge-all: interrupted\n"
    assert (first + rest).endswith("\n")
    rows = [json.loads(line) for line in (first + rest).splitlines()]
    assert [Path(row["file"]).name for row in rows] == [f"{i:03d}.png" for i in range(len(rows))]
    assert len(rows) < images


@linux
def test_a_signal_ends_the_children_too(colour_bundle: Bundle, tmp_path: Path) -> None:
    child = start("bench", "--bundle", colour_bundle.path, cwd=tmp_path)
    list_of_children = Path(f"/proc/{child.pid}/task/{child.pid}/children")
    while not (numbers := [int(word) for word in list_of_children.read_text().split()]):
        assert child.poll() is None
        time.sleep(0.05)
    child.terminate()
    _, said = child.communicate(timeout=60)
    assert child.returncode == 143 and said == "edge-all: interrupted\n"
    end = time.monotonic() + 10  # a killed process takes a moment to be gone, more on a busy machine
    while (left := [number for number in numbers if machine.is_running(number)]) and time.monotonic() < end:
        time.sleep(0.05)
    assert not left


@posix
def test_a_signal_ends_what_does_not_listen() -> None:
    """As a solver or an engine that does not return to Python for minutes."""
    program = (
        "import hashlib\nfrom edge_all.cli import stop\nstop.at_signals()\n"
        "while True:\n try: print('begun', flush=True), hashlib.pbkdf2_hmac('sha256', b'', b'', 2**31 - 1)\n"
        " except BaseException: pass"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout and child.stdout.readline() == "begun\n"
        child.terminate()
        assert child.wait(timeout=60) == 143


@posix
def test_a_signal_ends_the_processes_of_joblib(tmp_path: Path) -> None:
    """Those of an export and of a study."""
    program = """
import os, time
from joblib.externals.loky import get_reusable_executor
from edge_all.cli import stop
stop.at_signals()
pool = get_reusable_executor(max_workers=1)
print(pool.submit(os.getpid).result(), flush=True)
try:
    pool.submit(time.sleep, 600).result()
except stop.Stop as end:
    stop.leave(end.status)
"""
    command = [sys.executable, "-c", program]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as child:
        assert child.stdout
        worker = int(child.stdout.readline())
        child.terminate()
        _, said = child.communicate(timeout=60)
    assert child.returncode == 143 and not said
    for _ in range(100):  # it gets a signal too, and init takes note of its end
        if not machine.is_running(worker):
            break
        time.sleep(0.05)
    assert not machine.is_running(worker)


@posix
def test_names_act_on_no_terminal_and_in_no_spreadsheet(
    edge_all: Command, colour_bundle: Bundle, tmp_path: Path
) -> None:
    names = [HOSTILE, "-2.png", "@3.png", "+4.png", "\t5.png", 'six, "6";.png', "七.png"]
    for i, name in enumerate(names):
        colour_picture(i % 3, seed=i).save(tmp_path / name)
    words = ("classify", "--bundle", colour_bundle.path)
    exact = edge_all(*words, "--json", "--", *names).stdout.splitlines()
    assert [json.loads(line)["file"] for line in exact] == names
    assert all(line.isprintable() for line in exact) and "七" in exact[-1]
    table = edge_all(*words, "--csv", "--", *names).stdout
    files = [row["file"] for row in csv.DictReader(io.StringIO(table))]
    escaped = r"'=a\x1b[31m\n\u202e\u2028\x7f\x9b.png"
    assert files == [escaped, "'-2.png", "'@3.png", "'+4.png", r"'\t5.png", 'six, "6";.png', "七.png"]
    done = edge_all(*words, "--", *names, "gone\x1b.png")
    assert len(done.stdout.splitlines()) == len(names) + 1
    assert all(line.isprintable() for text in (done.stdout, done.stderr) for line in text.split("\n"))
    assert r"edge-all: gone\x1b.png: cannot be read" in done.stderr


@posix
def test_messages_act_on_no_terminal(edge_all: Command, colour_bundle: Bundle) -> None:
    for words in (
        ("classify", "x.png", "--bundle", HOSTILE),
        ("bench", "--bundle", colour_bundle.path, "--data", HOSTILE),
        ("classify", "x.png", f"--{HOSTILE}"),
        (HOSTILE,),
        ("doctor", HOSTILE),
        ("study", "--weights", f"{HOSTILE}=x"),
    ):
        done = edge_all(*words)
        assert done.returncode in (1, 2) and "a" in done.stderr
        assert all(line.isprintable() for line in done.stderr.split("\n")), done.stderr


def test_answers_on_a_terminal_too(colour_bundle: Bundle, tmp_path: Path) -> None:
    pytest.importorskip("pty")
    colour_picture(0).save(tmp_path / HOSTILE)
    status, text = run_on_terminal("classify", HOSTILE, "--bundle", colour_bundle.path, cwd=tmp_path, delay=0)
    assert status == 0 and r"=a\x1b[31m\n" in text and "\x1b[31m" not in text


@linux
@pytest.mark.parametrize(
    ("form", "encoding"),
    [("--json", "ascii"), ("--json", "latin-1"), ("--csv", "cp932"), (None, "gbk"), ("--json", None), (None, None)],
)
def test_no_encoding_stops_a_run(form: str | None, encoding: str | None, colour_bundle: Bundle, tmp_path: Path) -> None:
    """Without an encoding it is the C locale, with names that are no text."""
    names = ["ü七☃.png", os.fsdecode(b"\xe9.png")]
    for i, name in enumerate(names):
        colour_picture(0, seed=i).save(tmp_path / name)
    where = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("LC_", "LANG", "PYTHONIO", "PYTHONUTF8"))}
    environment |= {"PYTHONIOENCODING": encoding, "PYTHONUTF8": "1"} if encoding else where
    command: list[str | Path] = [PROGRAM, "classify", ".", "gone ☃.png", *([form] if form else [])]
    command += ["--bundle", colour_bundle.path]
    done = subprocess.run(command, capture_output=True, cwd=tmp_path, env=environment)
    lines = done.stdout.splitlines()
    assert done.returncode == 1 and b"2 answered, 1 refused" in done.stderr and b"Traceback" not in done.stderr
    assert len(lines) == (4 if form == "--csv" else 3)
    if form == "--json":
        rows = [json.loads(line.decode("ascii")) for line in lines]
        assert {os.fsencode(row["file"]) for row in rows[:2]} == {os.fsencode(name) for name in names} or encoding
        assert rows[0]["label"] == "Réd" and "error" in rows[2]


def answers(form: str | None, monkeypatch: pytest.MonkeyPatch) -> tuple[list[str], str]:
    """The lines for three answers of a bundle whose classes have hostile names, and what went to stderr."""
    said = io.StringIO()
    monkeypatch.setattr(sys, "stderr", said)
    classes = (HOSTILE, "@sum", "Pre")
    name = f"n{HOSTILE}"
    bundle: Any = SimpleNamespace(
        name=name, classes=classes, input_size=(8, 8), least_probability=0.5, digest="d", input_check=None
    )
    classifier = Classifier(bundle, "cpu", "int8", cast(Any, SimpleNamespace(description="engine")))
    lines: list[str] = []
    answered, refused = open_writer(form, classifier, lines.append)
    shares = dict(zip(classes, (0.5, 0.3, 0.2), strict=True))
    answered("a.png", Prediction(HOSTILE, "ok", HOSTILE, shares, 1.0, 0.5))
    answered("b.png", Prediction("@sum", "refer", "@sum", shares, 1.0, 0.5))
    answered("c.png", Prediction(None, "unfamiliar", "Pre", shares, 1.0, 0.5))
    refused("d.png", "damaged")
    return lines, said.getvalue()


def test_class_names_of_a_bundle_are_as_harmless(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [json.loads(line) for line in answers("json", monkeypatch)[0]]
    assert [row.get("label") for row in rows] == [HOSTILE, "@sum", None, None]
    assert rows[2]["top"] == "Pre" and rows[0]["top"] == HOSTILE and rows[3] == {"file": "d.png", "error": "damaged"}
    lines, _ = answers("csv", monkeypatch)
    table = list(csv.DictReader(lines))
    assert len(lines) == 5 and [row["top"] for row in table] == [f"'{shown(HOSTILE)}", "'@sum", "Pre", ""]
    assert [row["label"] for row in table] == [f"'{shown(HOSTILE)}", "'@sum", "", ""]
    assert all(line.isprintable() for line in lines)
    lines, said = answers(None, monkeypatch)
    assert [line.split()[0] for line in lines] == [shown(HOSTILE), "@sum?", "unfamiliar", "-"]
    assert all(line.isprintable() for line in [*lines, *said.splitlines()]) and len(said.splitlines()) == 2


def test_tables_are_as_harmless(capsys: pytest.CaptureFixture[str]) -> None:
    output.print_table(["bundle", HOSTILE], [[HOSTILE, "1"], ["[red]x[/red]", "2"]], right=[HOSTILE])
    text = capsys.readouterr().out
    assert all(line.isprintable() for line in text.splitlines()) and len(text.splitlines()) == 4
    assert "[red]x[/red]" in text
    row: Any = {"bundle": HOSTILE, "recall": {HOSTILE: 90.0}, "agreement_fp32": None, "accuracy": -1.5}
    columns, cells = csv.reader(io.StringIO(bench._csv([row])))
    assert columns == ["bundle", f"recall_{shown(HOSTILE)}", "agreement_fp32", "accuracy"]
    assert cells == [f"'{shown(HOSTILE)}", "90.0", "", "-1.5"]


def test_text() -> None:
    assert shown("plain ünï 七 \u3000") == "plain ünï 七 \u3000" and shown("👩\u200d🔬") == "👩\u200d🔬"
    assert shown("a\tb\nc", keep="\n") == "a\\tb\nc" and shown("\udce9") == "\\udce9"
    assert cell("plain") == "plain" and cell("a;b") == '"a;b"' and cell("") == ""
    utf8, latin = (io.TextIOWrapper(io.BytesIO(), encoding=name) for name in ("utf-8", "latin-1"))
    assert json_line({"é": "\x7f"}, utf8) == r'{"\u00e9": "\u007f"}' and json_line("é", utf8) == '"é"'
    assert json_line("é", latin) == r'"\u00e9"' and json.loads(json_line("\udce9", utf8)) == "\udce9"
