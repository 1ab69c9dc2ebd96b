"""What the archive of scripts/wheelhouse runs as: python3 edge_all-VERSION-offline.zip [--into FOLDER]

It needs nothing but Python, and no network.
"""

import argparse
import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import zipfile

ARCHIVE = os.path.dirname(os.path.abspath(__file__))


def main() -> None:
    """Install into a virtual environment of its own."""
    parser = argparse.ArgumentParser(prog=os.path.basename(ARCHIVE), description="Installs edge_all without internet.")
    parser.add_argument("--into", default="edge-all", metavar="FOLDER", help="where to [default: %(default)s]")
    into = os.path.abspath(parser.parse_args().into)
    with zipfile.ZipFile(ARCHIVE) as archive, tempfile.TemporaryDirectory() as room:
        about = json.loads(archive.read("wheelhouse.json"))
        check_machine(about["targets"])
        archive.extractall(room)
        check_sums(room)
        if subprocess.call([sys.executable, "-m", "venv", into]):
            sys.exit("No virtual environment can be made; on Debian and Ubuntu, its package is python3-venv")
        programs = os.path.join(into, "Scripts" if os.name == "nt" else "bin")
        wanted = f"edge_all[{','.join(about['extras'])}]=={about['version']}"
        wheels = os.path.join(room, "wheels")
        pip = [os.path.join(programs, "python"), "-m", "pip", "--isolated", "--disable-pip-version-check"]
        if subprocess.call([*pip, "install", "--quiet", "--no-index", "--find-links", wheels, wanted]):
            sys.exit("The wheels cannot be installed, as pip says above")
        if os.path.isdir(os.path.join(room, "models")):
            shutil.copytree(os.path.join(room, "models"), os.path.join(into, "models"), dirs_exist_ok=True)
    print("Installed: " + os.path.join(programs, "edge-all"))


def check_machine(targets: list[dict[str, str]]) -> None:
    """Stop where the archive has no wheels for this system or this Python."""
    system = "windows" if os.name == "nt" else sys.platform + "-" + platform.machine()
    python = f"{sys.version_info[0]}.{sys.version_info[1]}"
    if {"platform": system, "python": python} not in targets:
        wanted = ", ".join(f"{target['platform']} with Python {target['python']}" for target in targets)
        sys.exit(f"This is {system} with Python {python}, and the archive is for {wanted}")


def check_sums(room: str) -> None:
    """Stop where a file is not what it was."""
    with open(os.path.join(room, "SHA256SUMS"), encoding="utf-8") as sums:
        for line in sums:
            wanted, name = line.rstrip("\n").split("  ", 1)
            with open(os.path.join(room, *name.split("/")), "rb") as file:
                if hashlib.sha256(file.read()).hexdigest() != wanted:
                    sys.exit(name + ": damaged; copy the archive again")


if __name__ == "__main__":
    main()
