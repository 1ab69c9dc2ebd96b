"""Make one archive with everything that a PC without internet needs: python scripts/wheelhouse.py --help

The archive is a program: `python3 edge_all-VERSION-offline.zip` fills a virtual environment from its wheels.
pip resolves for another system with --platform, but evaluates the markers of requirements, such as
`colorama; sys_platform == "win32"`, for the system that it runs on. So every wheel's requirements are read again here,
for the target, and what is missing is downloaded too, until nothing is.
"""

from __future__ import annotations

import argparse
import email
import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name, parse_wheel_filename

from edge_all import __version__, bundle, files

ROOT = Path(__file__).parent.parent

EXTRAS = ("openvino", "serve", "tiff")

_GLIBC = 35
"""The C library of Ubuntu 22.04, 2.35: wheels for a newer one are left out. Debian 12 has 2.36."""

_MACHINES = {"linux-x86_64": "x86_64", "linux-aarch64": "aarch64", "windows": "AMD64"}
PLATFORMS = tuple(_MACHINES)

_SUMS = "SHA256SUMS"

_DATE = (1980, 1, 1, 0, 0, 0)
"""Of every file in the archive: the same wheels give the same bytes."""


@dataclass(frozen=True)
class Target:
    """A kind of PC: a name of `PLATFORMS`, and its version of Python, such as ``3.11``."""

    platform: str
    python: str

    def tags(self) -> list[str]:
        """The platforms of wheels that it runs, the newest first."""
        machine = _MACHINES[self.platform]
        if self.platform == "windows":
            return ["win_amd64"]
        return [f"manylinux_2_{minor}_{machine}" for minor in range(_GLIBC, 4, -1)] + [
            f"manylinux2014_{machine}",
            f"linux_{machine}",
        ]

    def environment(self) -> dict[str, str]:
        """What its pip compares markers with."""
        windows = self.platform == "windows"
        return {name: str(value) for name, value in default_environment().items()} | {
            "os_name": "nt" if windows else "posix",
            "sys_platform": "win32" if windows else "linux",
            "platform_system": "Windows" if windows else "Linux",
            "platform_machine": _MACHINES[self.platform],
            "python_version": self.python,
            "python_full_version": f"{self.python}.0",
            "implementation_name": "cpython",
            "platform_python_implementation": "CPython",
        }


def here() -> Target:
    """This machine."""
    machine = platform.machine()
    name = "windows" if sys.platform == "win32" else f"linux-{machine}"
    return Target(name, f"{sys.version_info.major}.{sys.version_info.minor}")


def missing(wheels: Iterable[Path], start: Requirement, environment: Mapping[str, str]) -> list[str]:
    """Requirements that no wheel of a folder meets, on their way from one of them.

    Args:
        wheels: The wheels that there are.
        start: The first requirement, with its extras.
        environment: What markers are compared with.
    """
    there = {parse_wheel_filename(wheel.name)[0]: wheel for wheel in wheels}
    unmet: dict[str, None] = {}
    seen: set[tuple[str, str]] = set()
    todo = [start]
    while todo:
        requirement = todo.pop()
        name = canonicalize_name(requirement.name)
        if name not in there or not requirement.specifier.contains(
            parse_wheel_filename(there[name].name)[1], prereleases=True
        ):
            unmet[str(requirement).split(";")[0].strip()] = None
            continue
        for extra in ("", *requirement.extras):
            if (name, extra) not in seen:
                seen.add((name, extra))
                todo += _needed(there[name], dict(environment) | {"extra": extra})
    return sorted(unmet)


def _needed(wheel: Path, environment: dict[str, str]) -> Iterator[Requirement]:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        about = email.message_from_bytes(archive.read(name))
    for line in about.get_all("Requires-Dist") or ():
        requirement = Requirement(line)
        if requirement.marker is None or requirement.marker.evaluate(environment):
            yield requirement


def build(folder: Path) -> Path:
    """Build the wheel of this project."""
    command = [sys.executable, "-m", "build", "--wheel", "--outdir", str(folder), str(ROOT)]
    done = subprocess.run(command, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        sys.exit(f"{done.stdout}\nThe wheel of edge_all cannot be built, as stands above")
    (wheel,) = folder.glob("*.whl")
    return wheel


def download(target: Target, wheel: Path, extras: Sequence[str], folder: Path) -> None:
    """Download what a kind of PC needs, into a folder of its own."""
    start = Requirement(f"edge_all[{','.join(extras)}]")
    wanted = [f"{wheel}[{','.join(extras)}]"]
    while True:
        _pip(target, wanted, folder)
        more = missing(folder.glob("*.whl"), start, target.environment())
        if not more:
            return
        if set(more) <= set(wanted):
            sys.exit(f"{target.platform}, Python {target.python}: pip does not find {', '.join(more)}")
        wanted += more


def _pip(target: Target, wanted: Sequence[str], folder: Path) -> None:
    tags = [word for tag in target.tags() for word in ("--platform", tag)]
    command = ["download", "--quiet", "--only-binary=:all:", "--dest", str(folder), "--implementation", "cp"]
    command += ["--python-version", target.python, *tags, *wanted]
    if subprocess.run([sys.executable, "-m", "pip", *command], check=False).returncode:
        sys.exit(f"{target.platform}, Python {target.python}: pip found no set of wheels, as it says above")


def pack(out: Path, room: Path, targets: Sequence[Target], extras: Sequence[str]) -> None:
    """Write the archive of a folder with ``wheels`` and ``models``."""
    about = {"version": __version__, "extras": list(extras), "targets": [vars(target) for target in targets]}
    (room / "wheelhouse.json").write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
    shutil.copyfile(Path(__file__).with_name("wheelhouse_install.py"), room / "__main__.py")
    paths = (path for path in room.rglob("*") if path.is_file() and path.name != _SUMS)
    names = sorted(path.relative_to(room).as_posix() for path in paths)
    sums = "".join(f"{hashlib.sha256((room / name).read_bytes()).hexdigest()}  {name}\n" for name in names)
    (room / _SUMS).write_text(sums, encoding="utf-8")
    with files.replacing(out) as aside, zipfile.ZipFile(aside, "w") as archive:
        for name in [*names, _SUMS]:
            member = zipfile.ZipInfo(name, _DATE)
            member.external_attr = 0o644 << 16
            archive.writestr(member, (room / name).read_bytes())


def check(out: Path) -> None:
    """Install the archive here, without a network where that can be taken away, and classify an image."""
    alone = ["unshare", "--net"] if sys.platform == "linux" and shutil.which("unshare") and os.geteuid() == 0 else []
    with tempfile.TemporaryDirectory() as room:
        field = Path(room, "field.ppm")
        field.write_bytes(b"P6 64 64 255\n" + bytes(range(192)) * 64)
        subprocess.run([*alone, sys.executable, "-I", out.resolve(), "--into", "pc"], check=True, cwd=room)
        program = Path(room, "pc", "Scripts" if os.name == "nt" else "bin", "edge-all")
        for target in ("cpu", "openvino"):
            words = ("classify", field, "--target", target, "--json")
            subprocess.run([*alone, program, *words], check=True, cwd=room, env={"PATH": os.environ["PATH"]})
    print(f"installed and answered here{', without a network' if alone else ''}", file=sys.stderr)


def main() -> None:
    """Make the archive that the command line asks for."""
    parser = argparse.ArgumentParser(description="Make one archive that installs edge_all on a PC without internet.")
    parser.add_argument(
        "--platform", action="append", choices=(*PLATFORMS, "here"), help="for this system [default: all three]"
    )
    parser.add_argument("--python", action="append", metavar="3.11", help="for this version [default: this machine's]")
    parser.add_argument("--bundle", action="append", type=Path, default=[], metavar="DIR", help="with this bundle, too")
    parser.add_argument("--extras", default=",".join(EXTRAS), help="parts of edge_all [default: %(default)s]")
    parser.add_argument("--out", type=Path, default=Path(f"dist/edge_all-{__version__}-offline.zip"), metavar="FILE")
    parser.add_argument("--no-check", action="store_true", help="do not install the archive here at the end")
    given = parser.parse_args()
    names = [here().platform if name == "here" else name for name in given.platform or PLATFORMS]
    targets = [Target(name, python) for name in names for python in given.python or [here().python]]
    extras = given.extras.split(",")
    given.out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=given.out.parent, prefix=".wheelhouse-") as room:
        built, packed = Path(room, "built"), Path(room, "packed")
        wheel = build(built)
        (packed / "wheels").mkdir(parents=True)
        for target in targets:
            folder = Path(room, f"{target.platform}-{target.python}")
            download(target, wheel, extras, folder)
            for found in folder.glob("*.whl"):
                found.replace(packed / "wheels" / found.name)
            print(f"{target.platform}, Python {target.python}: whole", file=sys.stderr)
        for path in given.bundle:
            loaded = bundle.load(path)
            shutil.copytree(loaded.path, packed / "models" / loaded.path.name)
        pack(given.out, packed, targets, extras)
    print(f"{given.out}: {given.out.stat().st_size / 1e6:.0f} MB", file=sys.stderr)
    if here() in targets and not given.no_check:
        check(given.out)


if __name__ == "__main__":
    main()
