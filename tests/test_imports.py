"""The one-way dependency and the light runtime, in interpreters of their own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

TOOLCHAIN = ("torch", "torchvision", "timm", "sklearn", "skl2onnx", "onnx", "nncf", "edge_all.export")

HEAVY = (*TOOLCHAIN, "numpy", "PIL", "onnxruntime", "openvino", "rich", "platformdirs", "psutil")


def loaded_after(code: str, modules: tuple[str, ...]) -> list[str]:
    program = f"import sys\n{code}\nprint(*[m for m in {modules!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return done.stdout.split()


@pytest.mark.parametrize(
    "code", ["import edge_all", "import edge_all.cli", "from edge_all.cli import cli; cli.list_commands(None)"]
)
def test_the_command_line_imports_nothing_heavy(code: str) -> None:
    assert loaded_after(code, HEAVY) == []


def test_help_of_every_command_imports_nothing_heavy() -> None:
    code = (
        "from edge_all.cli import cli\n"
        "for name in cli.list_commands(None):\n"
        "    try: cli.main([name, '--help'])\n"
        "    except SystemExit: pass"
    )
    program = f"import sys\n{code}\nprint([m for m in {HEAVY!r} if m in sys.modules], file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"


def test_the_runtime_imports_no_toolchain() -> None:
    root = Path(__file__).parent.parent / "edge_all"
    files = [p for p in root.rglob("*.py") if p.stem != "__init__"]
    names = [".".join(p.relative_to(root.parent).with_suffix("").parts) for p in files]
    assert len(names) > 15
    assert loaded_after("import " + ", ".join(["edge_all", "edge_all.targets", *names]), TOOLCHAIN) == []


def test_public_surface() -> None:
    import edge_all

    for name in edge_all.__all__:
        assert getattr(edge_all, name) is not None
    assert set(edge_all.__all__) <= set(dir(edge_all))
    with pytest.raises(AttributeError):
        _ = edge_all.nonesuch


def test_the_command_line_knows_every_target() -> None:
    """Its own list spares --help an import of numpy."""
    from edge_all import targets
    from edge_all.cli import options

    assert options.TARGETS == targets.TARGETS
