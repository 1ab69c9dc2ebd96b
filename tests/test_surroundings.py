"""What lies around has no say and hears nothing: modules in the current folder, the network, files of the engines."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import onnx
import pytest
from helpers_bundle import colour_graph, colour_picture
from helpers_command import PROGRAM, Command, every_core

from edge_all import bundle
from edge_all.bundle import Bundle

PLANTED = ("statistics", "numpy", "json", "onnxruntime")

_CI = ("CI", "TF_BUILD", "JENKINS_URL", "GITHUB_ACTIONS")
"""With these the engines are silent by themselves."""


@pytest.fixture
def planted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A current folder with modules of others in it, each of which leaves a file if it is run."""
    for name in PLANTED:
        (tmp_path / f"{name}.py").write_text("open(__file__ + '.ran', 'w').close()\nraise SystemExit('planted')\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PYTHONSAFEPATH", raising=False)
    return tmp_path


@pytest.mark.parametrize("words", [("doctor",), ("bench", "--quick")])
def test_a_measurement_takes_no_module_from_the_current_folder(
    edge_all_program: Command, colour_bundle: Bundle, planted: Path, words: tuple[str, ...]
) -> None:
    done = edge_all_program(*words, "--bundle", colour_bundle.path)
    assert done.returncode == 0, done.stderr
    assert not list(planted.glob("*.ran"))


def test_timing_takes_no_module_from_the_current_folder(planted: Path) -> None:
    from edge_all.export.graph import timing

    (taken,) = timing.times("cpu", [onnx.load_from_string(colour_graph())])
    assert taken > 0 and not list(planted.glob("*.ran"))


def test_workers_of_the_toolchain_take_no_module_from_the_current_folder(planted: Path) -> None:
    """joblib's processes, which fit heads in `export` and `study`; the command line sets what they inherit."""
    program = (
        "import operator, os\n"
        "from edge_all import cli\n"
        "def fit():\n"
        "    from joblib import Parallel, delayed\n"
        "    print(*Parallel(2)(delayed(operator.add)(i, 1) for i in range(2)))\n"
        "cli.cli = fit\n"
        "cli.main()\n"
    )
    with every_core():
        done = subprocess.run([sys.executable, "-P", "-c", program], capture_output=True, text=True, timeout=60)
    assert done.stdout.split() == ["1", "2"], done.stderr
    assert not list(planted.glob("*.ran"))


@pytest.mark.parametrize(
    "words",
    [
        ("classify", "picture.png"),
        ("classify", "picture.png", "--target", "openvino"),
        ("bench", "--quick", "--precision", "int8", "--target", "cpu"),
        ("doctor", "--target", "openvino"),
    ],
    ids=" ".join,
)
def test_no_command_opens_an_internet_socket_or_leaves_files(tmp_path: Path, words: tuple[str, ...]) -> None:
    pytest.importorskip("openvino")
    strace = shutil.which("strace")
    if not strace or subprocess.run([strace, "-qq", "true"], capture_output=True).returncode:
        pytest.skip("strace is not installed, or may not trace here")
    colour_picture(0).save(tmp_path / "picture.png")
    home, temporary, calls = (tmp_path / name for name in ("home", "temporary", "calls"))
    home.mkdir()
    temporary.mkdir()
    environment = {name: value for name, value in os.environ.items() if name not in _CI}
    environment |= {"HOME": str(home), "TMPDIR": str(temporary), "XDG_CACHE_HOME": str(home)}
    done = subprocess.run(
        [strace, "-f", "-qq", "-e", "trace=socket", "-o", calls, PROGRAM, *words, "--bundle", bundle.BUILTIN],
        capture_output=True,
        text=True,
        env=environment,
        cwd=tmp_path,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert not re.findall(r"socket\(AF_INET.*", calls.read_text())
    assert not [*home.rglob("*"), *temporary.rglob("*")]
