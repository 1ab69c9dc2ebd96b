"""Reading, drawing, grouping and splitting a data set."""

from __future__ import annotations

import csv
import os
import shutil
import sys
import types
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageEnhance

pytest.importorskip("sklearn", reason="the export extra is not installed")

from edge_all.errors import DataError
from edge_all.export import dataset as data
from edge_all.export.dataset import kaggle, synthetic


@pytest.fixture
def root(drawn: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(drawn, tmp_path / "data"))


def message(root: Path) -> str:
    with pytest.raises(DataError) as caught:
        data.read(root)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_read(drawn: Path) -> None:
    seen: list[tuple[int, int]] = []
    found = data.read(drawn, progress=lambda done, total: seen.append((done, total)))
    assert found.classes == synthetic.CLASSES
    assert len(found) == 48 and found.counts == dict.fromkeys(synthetic.CLASSES, 12)
    assert found.labels.dtype == np.int64 and found.labels.tolist() == sorted(found.labels)
    assert found.thumbnails.shape == (48, 32, 32, 3) and found.thumbnails.dtype == np.uint8
    assert seen == [(done, 48) for done in range(1, 49)]
    assert all((drawn / file).is_file() for file in found.files)
    assert found.paths is found.paths, "made once: for each of 2,604 images anew it took a minute"


def test_fingerprint_is_of_content_and_names(drawn: Path, root: Path) -> None:
    before = data.read(drawn).fingerprint
    assert data.read(root).fingerprint == before
    (root / "Benign" / "Benign-001.jpg").rename(root / "Benign" / "renamed.jpg")
    assert data.read(root).fingerprint != before


def test_images_are_taken_in_the_order_of_the_data_set(drawn: Path) -> None:
    found = data.read(drawn)
    taken = found.take(np.array([40, 3, 17, 3]))
    assert taken.files == tuple(found.files[i] for i in (3, 17, 40)) and taken.classes == found.classes
    assert taken.labels.tolist() == found.labels[[3, 17, 40]].tolist()
    assert taken.digests == tuple(found.digests[i] for i in (3, 17, 40))


def test_natural_order_and_nested_folders(root: Path) -> None:
    folder = root / "Pro"
    for old, new in (("Pro-001", "WBC-10"), ("Pro-002", "WBC-2"), ("Pro-003", "wbc-1")):
        (folder / f"{old}.jpg").rename(folder / f"{new}.jpg")
    (folder / "slide 2").mkdir()
    (folder / "Pro-004.jpg").rename(folder / "slide 2" / "a.jpg")
    names = [file for file in data.read(root).files if "WBC" in file.upper() or "slide" in file]
    assert names == ["Pro/slide 2/a.jpg", "Pro/wbc-1.jpg", "Pro/WBC-2.jpg", "Pro/WBC-10.jpg"]


def test_hidden_and_other_files_are_passed_over(root: Path) -> None:
    (root / ".cache").mkdir()
    (root / "notes.txt").write_text("x")
    (root / "Pro" / "._Pro-001.jpg").write_bytes(b"x")
    (root / "Pro" / "Thumbs.db").write_bytes(b"x")
    assert len(data.read(root)) == 48


def test_unicode_class_names(root: Path) -> None:
    decomposed = unicodedata.normalize("NFD", "Früh")
    (root / "Early").rename(root / decomposed)
    (root / "Pre").rename(root / "前B")
    found = data.read(root)
    assert found.classes == ("Benign", "Früh", "Pro", "前B")
    assert all((root / file).is_file() for file in found.files)


def test_two_folders_of_one_normalised_name(root: Path) -> None:
    (root / "Early").rename(root / unicodedata.normalize("NFD", "Früh"))
    (root / "Pre").rename(root / unicodedata.normalize("NFC", "Früh"))
    if len(list(root.iterdir())) < 4:
        pytest.skip("the file system normalises names")
    assert "rename or merge" in message(root)


def test_root_that_is_no_folder_of_classes(drawn: Path, tmp_path: Path) -> None:
    assert "does not exist" in message(tmp_path / "nowhere")
    assert "is a file" in message(drawn / "Pro" / "Pro-001.jpg")
    (tmp_path / "empty").mkdir()
    assert "no sub-folder" in message(tmp_path / "empty")
    assert "no sub-folder" in message(drawn / "Pro")
    shutil.copytree(drawn / "Pro", tmp_path / "one" / "Pro")
    assert "one class folder, 'Pro'" in message(tmp_path / "one")


def test_kaggle_layout_says_which_folder(root: Path, tmp_path: Path) -> None:
    for name in ("Original", "Segmented"):
        shutil.copytree(root, tmp_path / "kaggle" / name)
    assert f"give {tmp_path / 'kaggle' / 'Original'}" in message(tmp_path / "kaggle")
    shutil.rmtree(tmp_path / "kaggle" / "Segmented")
    assert f"give {tmp_path / 'kaggle' / 'Original'}" in message(tmp_path / "kaggle")


def test_splits_without_a_test_are_no_classes(root: Path, tmp_path: Path) -> None:
    for name in ("Train", "Val"):
        shutil.copytree(root, tmp_path / "split" / name)
    assert f"such as {tmp_path / 'split' / 'Train'}, or merge them" in message(tmp_path / "split")


@pytest.mark.skipif(os.name == "nt", reason="there no name ends in a blank")
def test_blanks_around_a_name_are_no_part_of_it(root: Path) -> None:
    (root / "Early").rename(root / " Early ")
    found = data.read(root)
    assert found.classes == synthetic.CLASSES and all((root / file).is_file() for file in found.files)
    shutil.copytree(root / " Early ", root / "early")
    assert "rename or merge them" in message(root)


def test_empty_and_small_classes(root: Path) -> None:
    for file in sorted((root / "Pre").iterdir())[4:]:
        file.unlink()
    assert "class 'Pre' has 4 of the 5 images" in message(root)
    (root / "Blank").mkdir()
    assert f"{str(root / 'Blank')!r} holds no image" in message(root)


def test_damaged_images_are_counted_and_the_first_named(root: Path) -> None:
    first, second = root / "Early" / "Early-002.jpg", root / "Pro" / "Pro-001.jpg"
    second.write_bytes(second.read_bytes()[:2000])
    said = message(root)
    assert said.startswith(f"{second}: damaged image") and said.endswith("remove or repair it")
    first.write_bytes(b"")
    said = message(root)
    assert said.startswith(f"2 of 48 images cannot be read, first {first}: the file is empty")


def test_synthetic_is_deterministic(drawn: Path, tmp_path: Path) -> None:
    again = synthetic.draw(tmp_path / "again", per_class=3)
    other = synthetic.draw(tmp_path / "other", per_class=1, seed=1)
    for name in synthetic.CLASSES:
        for index in range(1, 4):
            file = f"{name}/{name}-{index:03d}.jpg"
            assert (again / file).read_bytes() == (drawn / file).read_bytes()
        assert (other / name / f"{name}-001.jpg").read_bytes() != (drawn / name / f"{name}-001.jpg").read_bytes()


@pytest.mark.parametrize("size", [64, 224, 299])
def test_draw_field(size: int) -> None:
    for label in range(len(synthetic.CLASSES)):
        field = synthetic.draw_field(label, np.random.default_rng(7), size=size)
        assert field.shape == (size, size, 3) and field.dtype == np.uint8
        assert field.std() > 5


def test_duplicates_are_grouped(root: Path) -> None:
    source = Image.open(root / "Benign" / "Benign-003.jpg")
    shutil.copy(root / "Benign" / "Benign-001.jpg", root / "Pro" / "copy.jpg")
    Image.open(root / "Benign" / "Benign-002.jpg").save(root / "Benign" / "saved-again.jpg", quality=60)
    ImageEnhance.Brightness(source).enhance(0.9).save(root / "Benign" / "darker.jpg", quality=90)
    found = data.read(root)
    number = dict(zip(found.files, data.groups(found).tolist(), strict=True))
    assert number["Pro/copy.jpg"] == number["Benign/Benign-001.jpg"]
    assert number["Benign/saved-again.jpg"] == number["Benign/Benign-002.jpg"]
    assert number["Benign/darker.jpg"] == number["Benign/Benign-003.jpg"]
    assert len(set(number.values())) == 48


def test_a_panned_field_is_grouped(root: Path) -> None:
    wide = synthetic.draw_field(1, np.random.default_rng(3), size=448)
    for index, (x, y) in enumerate([(0, 0), (60, 35)]):
        Image.fromarray(wide[y : y + 300, x : x + 300]).save(root / "Early" / f"panned-{index}.png")
    found = data.read(root)
    number = dict(zip(found.files, data.groups(found).tolist(), strict=True))
    assert number["Early/panned-0.png"] == number["Early/panned-1.png"]
    assert len(set(number.values())) == 49


def test_group_numbers_are_in_order_of_first_appearance(drawn: Path) -> None:
    found = data.read(drawn)
    assert data.groups(found).tolist() == list(range(48))


def test_blank_images_are_grouped_by_bytes_alone(root: Path) -> None:
    for index, level in enumerate([200, 200, 201]):
        Image.new("RGB", (224, 224), (level,) * 3).save(root / "Pro" / f"blank-{index}.png")
    found = data.read(root)
    number = dict(zip(found.files, data.groups(found).tolist(), strict=True))
    assert number["Pro/blank-0.png"] == number["Pro/blank-1.png"] != number["Pro/blank-2.png"]


def test_groups_do_not_depend_on_the_block(drawn: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = data.read(drawn)
    monkeypatch.setattr("edge_all.export.dataset.duplicates.THRESHOLD", 0.35)
    whole = data.groups(found)
    monkeypatch.setattr("edge_all.export.dataset.duplicates._BLOCK", 13)
    assert 1 < len(set(whole.tolist())) < 48
    assert data.groups(found).tolist() == whole.tolist()


@pytest.mark.parametrize("protocol", data.PROTOCOLS)
def test_folds(drawn: Path, protocol: str) -> None:
    found = data.read(drawn)
    groups = np.arange(48) // 2
    folds = data.folds(found, protocol, groups=groups)
    assert folds.shape == (48,) and folds.dtype == np.int64
    for label in range(4):
        counts = np.bincount(folds[found.labels == label], minlength=5)
        assert (counts > 0).all() and counts.sum() == 12
    assert np.array_equal(folds, data.folds(found, protocol, groups=groups))
    if protocol == "grouped":
        assert data.leaks(folds, groups) == 0
        assert data.leaks(np.arange(48) % 5, groups) == 48
    if protocol == "block":
        for label in range(4):
            run = folds[found.labels == label]
            assert (np.diff(run) >= 0).all()
            assert np.bincount(run).tolist() == [len(part) for part in np.array_split(np.arange(12), 5)]
    else:
        assert not np.array_equal(folds, data.folds(found, protocol, groups=groups, seed=1))


def test_folds_find_their_own_groups(root: Path) -> None:
    for index in range(1, 6):
        shutil.copy(root / "Pre" / f"Pre-{index:03d}.jpg", root / "Pre" / f"copy-{index}.jpg")
    found = data.read(root)
    assert data.leaks(data.folds(found, "grouped", groups=data.groups(found)), data.groups(found)) == 0


def test_folds_that_cannot_be(drawn: Path) -> None:
    found = data.read(drawn)
    with pytest.raises(ValueError, match="random, grouped, block"):
        data.folds(found, "patient")
    with pytest.raises(ValueError, match="2 or more"):
        data.folds(found, "block", k=1)
    with pytest.raises(DataError, match="12 images for 13 folds"):
        data.folds(found, "random", k=13)
    with pytest.raises(DataError, match="1 groups of near-duplicate images"):
        data.folds(found, "grouped", groups=found.labels)


def fake_kagglehub(monkeypatch: pytest.MonkeyPatch, download: object) -> None:
    monkeypatch.setitem(sys.modules, "kagglehub", types.SimpleNamespace(dataset_download=download))


def test_kaggle(
    drawn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def download(handle: str) -> str:
        print("Downloading", handle)
        print("100%", file=sys.stderr)
        return str(tmp_path)

    shutil.copytree(drawn, tmp_path / "Blood cells" / "Original")
    fake_kagglehub(monkeypatch, download)
    assert kaggle.download() == tmp_path / "Blood cells" / "Original"
    assert capsys.readouterr() == ("", "")


def test_kaggle_that_cannot_be_reached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(handle: str) -> str:
        raise ConnectionError("no route\nto host " * 20)

    fake_kagglehub(monkeypatch, fails)
    with pytest.raises(DataError, match="ConnectionError.*--data DIR.*edge-all demo"):
        kaggle.download()
    fake_kagglehub(monkeypatch, lambda handle: str(tmp_path))
    with pytest.raises(DataError, match="no Original/ folder.*--data DIR"):
        kaggle.download()
    monkeypatch.setitem(sys.modules, "kagglehub", None)
    with pytest.raises(DataError, match="not installed.*--data DIR.*edge-all demo"):
        kaggle.download()


@pytest.mark.real_data
@pytest.mark.skipif("EDGE_ALL_DATA" not in os.environ, reason="EDGE_ALL_DATA names no folder")
def test_real_data() -> None:
    root = Path(os.environ["EDGE_ALL_DATA"])
    found = data.read(root)
    groups = data.groups(found)
    leaks = {}
    for protocol in data.PROTOCOLS:
        folds = data.folds(found, protocol, groups=groups)
        assert all(len(np.unique(folds[found.labels == label])) == 5 for label in range(len(found.classes)))
        leaks[protocol] = data.leaks(folds, groups)
    assert leaks["grouped"] == 0 and leaks["block"] <= leaks["random"]
    assert all(len(set(found.labels[groups == group])) == 1 for group in np.unique(groups))
    if not (root / "groups.csv").is_file():
        return
    with (root / "groups.csv").open(newline="") as stream:
        listed = {row["file"]: int(row["group"]) for row in csv.DictReader(stream)}
    given = np.array([listed[file] for file in found.files])
    same = given[:, None] == given
    # The list holds fields that agree without a shift; panned ones make our groups larger, so recall alone is held.
    assert (groups[:, None] == groups)[same].all()
