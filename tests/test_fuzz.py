"""Whatever comes in, the answer is an answer or an error of ours. Seeded here; ``./scripts/fuzz MINUTES`` goes on."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from helpers_bundle import CLASSES, colour_picture
from helpers_command import run_here
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from strategies import FORMS, archives, images, mutated, names, records, seed

from edge_all import bundle as bundles
from edge_all import bundle_checks, image, load
from edge_all.bundle import BUILTIN
from edge_all.bundle_files import RECORD
from edge_all.classifier import Classifier
from edge_all.errors import BundleError, DataError, EdgeAllError, ImageError

settings.register_profile(
    "edge_all", deadline=None, derandomize=True, max_examples=60, suppress_health_check=list(HealthCheck)
)
settings.register_profile("night", settings.get_profile("edge_all"), derandomize=False, max_examples=20_000)
settings.load_profile(os.environ.get("EDGE_ALL_FUZZ", "edge_all"))

SIZE = (48, 64)


@pytest.mark.parametrize("form", FORMS)
def test_the_seeds_are_read(form: str) -> None:
    assert image.decode(seed(form), SIZE).shape == (*SIZE, 3)


@settings(max_examples=8 * settings().max_examples)
@given(images())
def test_any_image_is_decoded_or_refused(given: tuple[str, bytes]) -> None:
    try:
        pixels = image.decode(given[1], SIZE)
    except ImageError as error:
        assert "\n" not in str(error) and len(str(error)) > 8
    else:
        assert pixels.shape == (*SIZE, 3) and pixels.dtype == np.uint8


@pytest.mark.engine
@pytest.mark.parametrize("target", ["cpu", "openvino"])
@settings(max_examples=settings().max_examples // 3)
@given(data=st.data())
def test_any_image_is_answered_or_refused(target: str, data: st.DataObject) -> None:
    classifier = _classifiers.setdefault(target, load(BUILTIN, target=target))
    try:
        answer = classifier.classify(data.draw(images())[1])
    except ImageError:
        return
    assert abs(sum(answer.probabilities.values()) - 1) < 1e-3 and answer.status in ("ok", "refer", "unfamiliar")


_classifiers: dict[str, Classifier] = {}


@given(record=records())
def test_any_record_is_loaded_or_refused(record: dict[str, object], tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.getbasetemp() / "record"
    shutil.copytree(BUILTIN, folder, dirs_exist_ok=True)
    try:
        record["digest"] = bundle_checks.digest(record)
    except ValueError:  # NaN is not written
        return
    (folder / RECORD).write_text(json.dumps(record))
    try:
        load(folder)
    except EdgeAllError as error:
        assert "\n" not in str(error)


@given(archive=archives())
def test_any_archive_is_loaded_or_refused(archive: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.getbasetemp() / "bundle.zip"
    path.write_bytes(archive)
    try:
        bundles.load(path)
    except BundleError as error:
        assert "\n" not in str(error)


@given(data=st.data())
def test_any_graph_is_loaded_or_refused(data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    """The digests are right, and the graph is not."""
    folder = tmp_path_factory.getbasetemp() / "graph"
    built_in = bundles.load(BUILTIN)
    files = {name: built_in.read(name) for name in built_in.record["files"]}
    name = built_in.model_file("cpu", "int8")
    files[name] = data.draw(mutated(files[name]))
    body = {key: value for key, value in built_in.record.items() if key not in ("protocol", "files", "digest")}
    bundles.write(folder, body, files)  # type: ignore[arg-type]
    try:
        load(folder).classify(seed("png"))
    except EdgeAllError as error:
        assert "\n" not in str(error)


@given(name=names())
def test_any_name_is_told_in_one_line(name: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("name")
    try:
        (folder / f"{name}.png").write_bytes(seed("png"))
    except (OSError, ValueError):  # no file can be called so here
        return
    lines = run_here("classify", ".", "--json", cwd=folder).stdout.splitlines()
    if not f"{name}.png".startswith("."):
        assert len(lines) == 1 and json.loads(lines[0])["file"].endswith(f"{name}.png")
    for line in run_here("classify", ".", cwd=folder).stdout.split("\n"):
        assert "\x1b" not in line and "\t" not in line


@given(data=st.data())
def test_any_data_set_is_read_or_refused(data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    from edge_all.export.dataset import read

    root = tmp_path_factory.mktemp("data")
    for number, label in enumerate(data.draw(st.lists(names() | st.sampled_from(CLASSES), min_size=1, max_size=4))):
        folder = root / label / data.draw(st.sampled_from([".", "train", "deep/er"]))
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except (OSError, ValueError):
            return
        for i in range(data.draw(st.integers(0, 6))):
            colour_picture(number % 3, seed=i).save(folder / f"{i}.png")
    try:
        read(Path(root))
    except DataError as error:
        assert "\n" not in str(error)
