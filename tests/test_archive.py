"""Archives: what is found, what is answered, what is written where, and that nothing is lost or there twice."""

from __future__ import annotations

import io
import json
import shutil
import signal
import subprocess
import sys
import tarfile
import time
import zipfile
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers_bundle import CLASSES, colour_picture, encoded
from helpers_command import PROGRAM, Command, run_program
from PIL import Image

from edge_all.bundle import Bundle
from edge_all.classifier import start
from edge_all.targets import EngineOptions

pytestmark = pytest.mark.skipif(not find_spec("pyarrow"), reason="the extra archive is not installed")
if find_spec("pyarrow"):
    import fsspec
    import pyarrow as pa
    import pyarrow.parquet as pq

    from edge_all.archive import answers, contents, sources, store
    from edge_all.archive.sources import File, Part
    from edge_all.errors import DataError, EdgeAllError

SHARDED = 8
"""Images of each kind of source in `archive`."""


def picture(number: int) -> bytes:
    """A picture of a strongest channel, as a PNG file."""
    return encoded(colour_picture(number % 3, seed=number), "PNG")


def label(number: int) -> str:
    return CLASSES[2 - number % 3]


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """Files, a tar, a zip and a table of `SHARDED` images each."""
    root = tmp_path / "archive"
    (root / "files" / "deep").mkdir(parents=True)
    for i in range(SHARDED):
        (root / "files" / ("deep" if i % 2 else "") / f"{i}.png").write_bytes(picture(i))
    with tarfile.open(root / "shard.tar", "w") as tar, zipfile.ZipFile(root / "shard.zip", "w") as packed:
        for i in range(SHARDED, 2 * SHARDED):
            member = tarfile.TarInfo(f"{i}.png")
            member.size = len(picture(i))
            tar.addfile(member, io.BytesIO(picture(i)))
            tar.addfile(tarfile.TarInfo(f"{i}.json"))
            packed.writestr(f"{i + SHARDED}.png", picture(i + SHARDED))
    numbers = range(3 * SHARDED, 4 * SHARDED)
    table = pa.table(
        {"path": [f"{i}.png" for i in numbers], "bytes": [picture(i) for i in numbers], "n": list(numbers)}
    )
    pq.write_table(table, root / "table.parquet")
    return root


def rows(out: Path | str) -> list[dict[str, Any]]:
    system, path = fsspec.core.url_to_fs(str(out))
    tables = [system.open(name, "rb") for name in sorted(system.glob(f"{path}/[!.]*.parquet"))]
    return [row for table in tables for row in pq.read_table(table).to_pylist()]


def labels(out: Path | str) -> dict[int, str]:
    """The label of each image, by its number; each is there once."""
    found = [(int(Path(row["file"].split("#")[-1]).stem), row["label"]) for row in rows(out)]
    assert len(found) == len(dict(found)), "an image is there twice"
    return dict(found)


WANTED = {i: label(i) for i in range(4 * SHARDED)}


@pytest.mark.parametrize("local", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_every_image_of_an_archive_is_answered_once(
    edge_all: Command, colour_bundle: Bundle, archive: Path, tmp_path: Path, local: bool
) -> None:
    if not local and not find_spec("ray"):
        pytest.skip("the extra cluster is not installed")
    out = tmp_path / "out"
    words = ("archive", archive, "--bundle", colour_bundle.path, "--out", out, "--target", "cpu", "--json")
    done = edge_all(*words, "--local") if local else run_program(*words, cwd=tmp_path, timeout=300)
    assert done.returncode == 0, done.stderr
    assert labels(out) == WANTED
    summary = json.loads(done.stdout)
    assert summary["images"] == summary["ok"] == 4 * SHARDED and summary["answered_parts"] == 4
    assert summary["labels"] == {name: list(WANTED.values()).count(name) for name in CLASSES}
    assert json.loads((out / "summary.json").read_text("utf-8")) == summary
    row = rows(out)[0]
    assert row["bundle_digest"] == colour_bundle.digest and row["engine"] and len(row["sha256"]) == 64
    assert sum(row[f"p_{name}"] for name in CLASSES) == pytest.approx(1, abs=1e-5)

    again = edge_all(*words, "--local")
    assert json.loads(again.stdout) == summary | {"answered_parts": 0}
    (archive / "files" / "99.png").write_bytes(picture(99))
    grown = json.loads(edge_all(*words, "--local").stdout)
    assert grown["images"] == 4 * SHARDED + 1 and grown["answered_parts"] == 1
    assert labels(out) == WANTED | {99: label(99)}


def test_patterns_lists_and_urls(edge_all: Command, colour_bundle: Bundle, archive: Path, tmp_path: Path) -> None:
    listed = tmp_path / "list.txt"
    listed.write_text(f"{archive}/files/0.png\n\n{(archive / 'files/deep/1.png').as_uri()}\n", "utf-8")
    memory = fsspec.filesystem("memory")
    memory.pipe_file("/bucket/3.png", picture(3))
    named = (listed, f"{archive}/files/*.png", "memory://bucket")
    done = edge_all("archive", *named, "--bundle", colour_bundle.path, "--out", "memory://answers/a", "--local")
    assert done.returncode == 0, done.stderr
    assert labels("memory://answers/a") == {i: label(i) for i in (0, 1, 2, 3, 4, 6)}
    assert json.loads(memory.cat_file("/answers/a/summary.json"))["images"] == 6


@pytest.mark.skipif(sys.platform == "win32", reason="links take a right that users lack")
def test_links_are_followed(edge_all: Command, colour_bundle: Bundle, archive: Path, tmp_path: Path) -> None:
    """A data set that is made of links, one of which leads nowhere."""
    linked, out = tmp_path / "linked", tmp_path / "out"
    linked.mkdir()
    for file in (archive / "files").rglob("*.png"):
        (linked / file.name).symlink_to(file)
    (linked / "99.png").symlink_to(tmp_path / "gone.png")
    done = edge_all("archive", linked, "--bundle", colour_bundle.path, "--out", out, "--local")
    assert done.returncode == 1 and "1 images cannot be classified" in done.stderr
    answered = labels(out)
    assert answered.pop(99) is None
    assert answered == {i: label(i) for i in range(SHARDED)}


def test_poison_is_told_and_all_else_is_answered(
    edge_all: Command, colour_bundle: Bundle, archive: Path, tmp_path: Path
) -> None:
    (archive / "files" / "noise.png").write_bytes(bytes(range(256)))
    (archive / "files" / "empty.jpg").touch()
    content = (archive / "shard.tar").read_bytes()
    (archive / "cut.tar").write_bytes(content[: len(content) // 2])
    (archive / "noise.zip").write_bytes(b"PK\3\4 no more")
    pq.write_table(pa.table({"n": [1, 2]}), archive / "numbers.parquet")
    out = tmp_path / "out"
    done = edge_all("archive", archive, "--bundle", colour_bundle.path, "--out", out, "--local", "--json")
    assert done.returncode == 1 and "their rows say why" in done.stderr
    errors = {Path(row["file"]).name: row["error"] for row in rows(out) if row["error"]}
    assert set(errors) == {"noise.png", "empty.jpg", "cut.tar", "noise.zip", "numbers.parquet"}
    assert "damaged" in errors["cut.tar"] and "no column holds bytes" in errors["numbers.parquet"]
    found = {int(Path(row["file"].split("#")[-1]).stem): row["label"] for row in rows(out) if not row["error"]}
    assert found == WANTED and json.loads(done.stdout)["error"] == 5


def test_a_shard_cannot_fill_the_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contents, "MAX_FILE_BYTES", 1000)
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("bomb.png", bytes(1_000_000))
        packed.writestr("good.png", b"x")
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        member = tarfile.TarInfo("large.png")
        member.size = 5000
        tar.addfile(member, io.BytesIO(bytes(5000)))
    (tmp_path / "large.png").write_bytes(bytes(2000))
    for part in sources.parts(sources.find([str(tmp_path)])):
        for item in contents.items(part):
            if item.name.endswith("good.png"):
                assert item.read() == b"x"
            else:
                with pytest.raises(EdgeAllError, match="bytes"):
                    item.read()


def test_answers_of_two_bundles_are_not_mixed(
    edge_all: Command, colour_bundle: Bundle, archive: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    assert edge_all("archive", archive, "--bundle", colour_bundle.path, "--out", out, "--local").returncode == 0
    done = edge_all("archive", archive, "--out", out, "--local")
    assert done.returncode == 1 and "holds answers of another bundle" in done.stderr


def test_words_that_do_not_fit(edge_all: Command, archive: Path, tmp_path: Path) -> None:
    out = ("--out", tmp_path / "out")
    for words, status, told in (
        ((archive, *out, "--local", "--address", "auto"), 2, "contradict each other"),
        ((tmp_path / "nothing", *out), 1, "cannot be read"),
        (("nosuch://bucket", *out), 1, "cannot be reached"),
        ((f"{archive}/*.gif", *out), 1, "no image, shard or table is there"),
    ):
        done = edge_all("archive", *words)
        assert done.returncode == status and told in done.stderr, done.stderr
    (tmp_path / "file").touch()
    done = edge_all("archive", archive, "--out", tmp_path / "file" / "x")
    assert done.returncode == 1 and "cannot be used" in done.stderr


def test_the_name_of_a_part_is_that_of_its_files(archive: Path) -> None:
    files = list(sources.find([str(archive)]))
    names = {part.name for part in sources.parts(files)}
    assert len(names) == 4 == len({part.name for part in sources.parts(sources.find([str(archive)]))} & names)
    touched = archive / "shard.tar"
    with touched.open("ab") as file:
        file.write(bytes(512))
    assert len({part.name for part in sources.parts(sources.find([str(archive)]))} & names) == 3
    with pytest.raises(DataError):
        list(sources.find([str(archive / "nothing")]))


@pytest.mark.parametrize("threads", [1, 2])
def test_parts_follow_one_another_and_may_be_empty(
    threads: int, colour_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From a disk and on one core, by the caller's own thread."""
    classifier = start(colour_bundle, EngineOptions("cpu", streams=threads), "fp32")
    if threads == 1:
        monkeypatch.delattr("edge_all.parallel.ahead")
    parts = []
    for shard, count in enumerate((20, 0, 3)):
        path = tmp_path / f"{shard}.tar"
        with tarfile.open(path, "w") as file:
            for i in range(count):
                content = picture(i)
                member = tarfile.TarInfo(f"{i}.png")
                member.size = len(content)
                file.addfile(member, io.BytesIO(content))
        parts.append(Part("tar", (File(f"file://{path}", path.stat().st_size, "now"),)))
    answered = list(answers.answer_each(parts, classifier, threads))
    assert [part for part, _ in answered] == parts
    for (part, table), count in zip(answered, (20, 0, 3), strict=True):
        assert table["file"].to_pylist() == [f"{part.files[0].url}#{i}.png" for i in range(count)]
        assert table["label"].to_pylist() == [label(i) for i in range(count)]
        assert table.schema == answered[0][1].schema


def test_a_killed_run_is_ended_by_the_next(colour_bundle: Bundle, tmp_path: Path) -> None:
    """Killed for real while it is slow, three times; every image has one row at the end."""
    root, out, count = tmp_path / "files", tmp_path / "out", 60
    root.mkdir()
    for i in range(count):
        (root / f"{i}.png").write_bytes(picture(i))
    slow = (
        "import time; from edge_all.archive import answers, sources; from edge_all.cli import main\n"
        "sources.PART_FILES, quick = 5, answers._content\n"
        "def slower(*given): time.sleep(0.06); return quick(*given)\n"
        "answers._content = slower; main()"
    )
    words = ["archive", str(root), "--bundle", str(colour_bundle.path), "--out", str(out), "--target", "cpu", "--local"]
    out.mkdir()
    (out / ".files-0.1-2.parquet").write_bytes(b"PAR1")  # what a kill in the middle of a table leaves
    for _ in range(3):
        before = len(list(out.glob("[!.]*.parquet")))
        with subprocess.Popen([sys.executable, "-c", slow, *words], stderr=subprocess.PIPE) as running:
            end = time.monotonic() + 60
            while time.monotonic() < end and len(list(out.glob("[!.]*.parquet"))) < before + 2:
                time.sleep(0.02)
            running.send_signal(getattr(signal, "SIGKILL", signal.SIGTERM))
        assert len(list(out.glob("[!.]*.parquet"))) >= before + 2
    done = subprocess.run([PROGRAM, *words], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert labels(out) == {i: label(i) for i in range(count)}


def test_tables_are_read_without_threads_that_outlive_the_command(tmp_path: Path) -> None:
    """Arrow's own threads may hold Python's objects when the process ends, and abort it then: every third time."""
    for i in range(12):
        pq.write_table(pa.table({"status": ["ok"] * 20, "label": ["Red"] * 20}), tmp_path / f"{i}.parquet")
    code = f"from edge_all.archive.store import Store; print(Store({str(tmp_path)!r}).counts()[1]['Red'])"
    for _ in range(8):
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
        assert (done.returncode, done.stdout.strip()) == (0, "240"), done.stderr


@pytest.mark.slow
@pytest.mark.skipif(not find_spec("ray"), reason="the extra cluster is not installed")
def test_killed_workers_lose_nothing(colour_bundle: Bundle, tmp_path: Path) -> None:
    """Ray's workers are killed while they answer; each part is answered by another, and is there once."""
    import psutil

    out, root, count = tmp_path / "out", tmp_path / "shards", 400
    root.mkdir()
    for shard in range(20):
        with tarfile.open(root / f"{shard}.tar", "w") as tar:
            for i in range(shard * count // 20, (shard + 1) * count // 20):
                member = tarfile.TarInfo(f"{i}.png")
                member.size = len(picture(i))
                tar.addfile(member, io.BytesIO(picture(i)))
    words = [PROGRAM, "archive", str(root), "--bundle", str(colour_bundle.path), "--out", str(out), "--target", "cpu"]
    killed = 0
    with subprocess.Popen(words, stderr=subprocess.PIPE, stdout=subprocess.PIPE) as running:
        end = time.monotonic() + 240
        while running.poll() is None and time.monotonic() < end:
            there = len(list(out.glob("*.parquet")))
            if killed < 2 and there > killed:
                for child in psutil.Process(running.pid).children(recursive=True):
                    with suppress(psutil.Error):  # it ended by itself since it was listed
                        if "_Worker" in " ".join(child.cmdline()) and killed < there:
                            child.kill()
                            killed += 1
            time.sleep(0.01)
        assert running.wait(60) == 0, (running.stderr.read() if running.stderr else b"")[-2000:]
    assert killed, "no worker was there to be killed"
    assert labels(out) == {i: label(i) for i in range(count)}


@pytest.mark.slow
@pytest.mark.skipif(not (find_spec("moto") and find_spec("s3fs")), reason="no S3 server is installed")
def test_an_object_store(
    edge_all: Command, colour_bundle: Bundle, archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Images are read from an S3 server, and tables are written to it."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.setenv(name, "testing")
        monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        system = fsspec.filesystem("s3")
        system.mkdir("bucket")
        system.put(str(archive), "bucket/archive", recursive=True)
        words = (
            "archive",
            "s3://bucket/archive",
            "--bundle",
            colour_bundle.path,
            "--out",
            "s3://bucket/out",
            "--local",
        )
        done = edge_all(*words)
        assert done.returncode == 0, done.stderr
        assert labels("s3://bucket/out") == WANTED
        assert "0 parts are to be answered" in edge_all(*words).stderr
    finally:
        server.stop()


def test_without_the_extra(edge_all: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "fsspec", None)
    monkeypatch.setitem(sys.modules, "fsspec.core", None)
    done = edge_all("archive", tmp_path, "--out", tmp_path / "o")
    assert done.returncode == 1 and "pip install" in done.stderr and "archive" in done.stderr


def test_a_damaged_table_is_told(edge_all: Command, colour_bundle: Bundle, archive: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    words = ("archive", archive / "files", "--bundle", colour_bundle.path, "--out", out, "--local")
    assert edge_all(*words).returncode == 0
    (table,) = out.glob("*.parquet")
    table.write_bytes(table.read_bytes()[:100])
    done = edge_all(*words)
    assert done.returncode == 1 and f"{table.name}: cannot be read" in done.stderr and "remove it" in done.stderr
    shutil.rmtree(out)
    assert edge_all(*words).returncode == 0
    assert store.Store(str(out)).counts()[0]["ok"] == SHARDED


def test_an_image_is_answered_as_classify_does(
    edge_all: Command, colour_bundle: Bundle, archive: Path, tmp_path: Path
) -> None:
    large = np.asarray(colour_picture(0, seed=5, size=(96, 128)))
    Image.fromarray(large).save(archive / "files" / "large.jpg", quality=95)
    out = tmp_path / "out"
    words = ("--bundle", colour_bundle.path, "--target", "cpu")
    assert edge_all("archive", archive / "files", "--out", out, *words, "--local").returncode == 0
    done = edge_all("classify", archive / "files", *words, "--json")
    single = {Path(line["file"]).name: line for line in map(json.loads, done.stdout.splitlines())}
    for row in rows(out):
        given = single[Path(row["file"]).name]
        assert [row[key] for key in ("label", "status", "sha256")] == [
            given[key] for key in ("label", "status", "sha256")
        ]
        assert row["p_Green"] == pytest.approx(given["probabilities"]["Green"], abs=1e-6)
