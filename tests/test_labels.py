"""Labels from a CSV file, and splits that are kept: what is read, what is refused and in which line."""

from __future__ import annotations

import hashlib
import shutil
import unicodedata
from pathlib import Path

import pytest

pytest.importorskip("sklearn", reason="the export extra is not installed")

from helpers_bundle import write_colour_bundle

from edge_all import bench, csv_table
from edge_all.bundle import Bundle
from edge_all.errors import DataError
from edge_all.export import dataset as data
from edge_all.export.dataset import synthetic

HEADER = "file,label"


@pytest.fixture
def flat(drawn: Path, tmp_path: Path) -> Path:
    """All drawn images in one folder."""
    root = tmp_path / "flat"
    root.mkdir()
    for file in drawn.glob("*/*.jpg"):
        shutil.copy(file, root)
    return root


def table(flat: Path, *, part: str = "", separator: str = ",") -> list[str]:
    """A header and a line for each image, its class that of its name; with `part`, a column of splits."""
    lines = [separator.join([*HEADER.split(","), *(["split"] if part else [])])]
    for file in sorted(flat.glob("*.jpg")):
        label, _, number = file.stem.partition("-")
        lines.append(separator.join([file.name, label, *([part if int(number) > 8 else "train"] if part else [])]))
    return lines


def write(folder: Path, lines: list[str], *, mark: bool = False) -> Path:
    path = folder / "labels.csv"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8-sig" if mark else "utf-8")
    return path


def refusal(path: Path, root: Path | None = None) -> str:
    with pytest.raises(DataError) as caught:
        data.read(root, labels=path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("separator", [",", ";"])
@pytest.mark.parametrize("mark", [False, True])
def test_labels_need_not_be_folders(flat: Path, separator: str, mark: bool) -> None:
    found = data.read(None, labels=write(flat, table(flat, separator=separator), mark=mark))
    assert found.root == flat and found.classes == synthetic.CLASSES
    assert found.counts == dict.fromkeys(synthetic.CLASSES, 12) and found.parts == () == found.given
    assert all(file.startswith(found.classes[label]) for file, label in zip(found.files, found.labels, strict=True))


def test_a_file_of_labels_that_says_what_the_folders_say_gives_the_same_data_set(drawn: Path, tmp_path: Path) -> None:
    lines = [HEADER, *(f"{path.relative_to(drawn).as_posix()},{path.parent.name}" for path in drawn.glob("*/*.jpg"))]
    path = write(tmp_path, lines)
    found, folders = data.read(drawn, labels=path), data.read(drawn)
    assert found.files == folders.files and found.fingerprint == folders.fingerprint
    other = write(tmp_path, [line.replace(",Pro", ",Late") for line in lines])
    assert data.read(drawn, labels=other).fingerprint != folders.fingerprint


def test_columns_of_no_meaning_are_said(flat: Path) -> None:
    lines = table(flat)
    path = write(flat, [f"Age,{lines[0].upper()},Site", *(f"40,{line},A" for line in lines[1:])])
    assert data.read(None, labels=path).notices == (f"columns of {path} that were not read: Age, Site",)


def test_slashes_and_accents_may_be_written_in_another_way(flat: Path) -> None:
    folder = flat / unicodedata.normalize("NFD", "Früh")
    folder.mkdir()
    for file in flat.glob("Early*"):
        file.rename(folder / file.name)
    lines = [line for line in table(flat) if "Early" not in line]
    lines += [f"{unicodedata.normalize('NFC', 'Früh')}\\{file.name},Early" for file in folder.iterdir()]
    found = data.read(None, labels=write(flat, lines))
    assert found.counts["Early"] == 12 and all(path.is_file() for path in found.paths)


def test_whole_paths_may_lie_in_the_folder(flat: Path, tmp_path: Path) -> None:
    lines = table(flat)
    path = write(tmp_path, [lines[0], *(f"{flat.absolute() / line}" for line in lines[1:])])
    assert data.read(flat, labels=path).files == data.read(None, labels=write(flat, lines)).files


REFUSED = {
    "no column of labels": ([(0, "file,class")], "line 1: no column 'label' among file, class"),
    "two columns of files": ([(0, "file,label,file")], "line 1: two columns 'file'"),
    "too many cells": ([(3, "Benign-003.jpg,Benign,x")], "line 4: 3 cells under 2 columns"),
    "a quote that does not end": ([(48, '"Pro-012.jpg,Pro')], "line 4"),
    "no label": ([(5, "Benign-005.jpg,")], "line 6: no label; wanted the class of Benign-005.jpg"),
    "no file": ([(5, ",Benign")], "line 6: no file"),
    "a file that is not there": ([(2, "nothing.jpg,Benign")], "line 3: there is no file"),
    "one image in two classes": ([(2, "Benign-001.jpg,Pro")], "line 3: Benign-001.jpg is in line 2 too, with label"),
    "one class in two spellings": ([(7, "Benign-007.jpg,benign ")], "line 8: label 'benign', and 'Benign' in line 2"),
    "a path that leads out": ([(4, "a/../../x.jpg,Benign")], "line 5: a/../../x.jpg leads out of"),
    "a whole path elsewhere": ([(4, "/x.jpg,Benign")], "line 5: /x.jpg is not in"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_wrong_is_said_with_its_line(name: str, flat: Path) -> None:
    changes, said = REFUSED[name]
    lines = table(flat)
    for number, line in changes:
        lines[number] = line
    path = write(flat, lines)
    message = refusal(path)
    assert message.startswith(str(path)) and said in message


def test_an_image_may_be_listed_twice_in_one_class(flat: Path) -> None:
    lines = table(flat)
    assert len(data.read(None, labels=write(flat, [*lines, "", "./" + lines[1]]))) == 48


def test_files_that_are_no_tables(flat: Path, tmp_path: Path) -> None:
    assert "cannot be read" in refusal(tmp_path / "nothing.csv")
    path = tmp_path / "x.csv"
    for content, said in (
        (b"", "is empty"),
        (b"file,label\n", "no line"),
        ("file,label\nä,b".encode("utf-16"), "UTF-8"),
    ):
        path.write_bytes(content)
        assert said in refusal(path)
    assert "is no folder" in refusal(write(flat, table(flat)), flat / "Benign-001.jpg")


def test_classes_of_a_file_of_labels(flat: Path) -> None:
    lines = table(flat)
    one = write(flat, [line for line in lines if "Pro" in line or line == HEADER])
    assert "labels.csv names one class, 'Pro'; wanted two or more classes" in refusal(one)
    few = write(flat, lines[:-9])
    assert "class 'Pro' has 3 of the 5 images" in refusal(few) and refusal(few).endswith(f"add images to {few}")


def test_the_column_of_splits_is_kept(flat: Path) -> None:
    found = data.read(None, labels=write(flat, table(flat, part="Test")))
    assert found.parts.count("test") == 16 and found.parts.count("train") == 32
    divided = data.divide(found, hold_out=False)
    assert divided.held_out and set(divided.held_out.parts) == {"test"} and len(divided.held_out) == 16
    assert divided.protocol == "the data set's own test split"
    with pytest.raises(DataError, match="has test images of its own"):
        data.divide(found, hold_out=True)


def test_words_of_splits(flat: Path) -> None:
    lines = table(flat, part="evaluation")
    assert "line 10: split is 'evaluation'; wanted train, val or test" in refusal(write(flat, lines))
    lines = [line.replace("evaluation", "") for line in lines]
    assert "line 10: split is ''" in refusal(write(flat, lines))


def split(drawn: Path, root: Path, *parts: str) -> Path:
    """The drawn images in splits, as many in each."""
    for file in drawn.glob("*/*.jpg"):
        number = int(file.stem.partition("-")[2]) - 1
        folder = root / parts[number * len(parts) // 12] / file.parent.name
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, folder)
    return root


def test_splits_are_kept_as_they_are(drawn: Path, tmp_path: Path) -> None:
    found = data.read(split(drawn, tmp_path / "s", "train", "Validation", "test"))
    assert found.classes == synthetic.CLASSES and len(found) == 48
    divided = data.divide(found, hold_out=False)
    assert len(divided.training) == 32 and set(divided.training.parts) == {"train", "val"}
    assert divided.held_out and all(file.startswith("test/") for file in divided.held_out.files)
    (said,) = divided.sentences
    assert said == (
        "the data set's own splits are kept: 32 images are trained on (16 of train, 16 of val), and 16 test images are "
        "kept out"
    )


def test_near_duplicates_of_test_images_are_dropped_from_training(drawn: Path, tmp_path: Path) -> None:
    root = split(drawn, tmp_path / "s", "train", "test")
    shutil.copy(root / "test" / "Pro" / "Pro-009.jpg", root / "train" / "Pro" / "again.jpg")
    divided = data.divide(data.read(root), hold_out=False)
    assert divided.crossing == 1 and "train/Pro/again.jpg" not in divided.training.files
    assert len(divided.training) == 24 and "1 more were dropped" in next(iter(divided.sentences))


def test_splits_of_other_classes(drawn: Path, tmp_path: Path) -> None:
    root = split(drawn, tmp_path / "s", "train", "test")
    (root / "test" / "Pro").rename(root / "test" / "pro")
    assert data.read(root).classes == synthetic.CLASSES
    (root / "test" / "pro").rename(root / "test" / "Late")
    with pytest.raises(DataError, match="test holds the class 'Late', and .*train does not"):
        data.read(root)
    shutil.rmtree(root / "test" / "Late")
    with pytest.raises(DataError, match="class 'Pro' has no image in the test split"):
        data.read(root)
    for file in sorted((root / "train" / "Early").iterdir())[3:]:
        file.unlink()
    with pytest.raises(DataError, match="class 'Early' has 3 of the 5 images to train on"):
        data.read(root)


def test_bench_takes_the_test_images_and_says_so(colour_bundle: Bundle, coloured_folder: Path, tmp_path: Path) -> None:
    root = tmp_path / "splits"
    for name in ("train", "test"):
        shutil.copytree(coloured_folder, root / name)
    (root / "test" / "Blue" / "0.png").unlink()
    chosen = bench.labelled(root, colour_bundle)
    assert len(chosen.files) == 11 and all("test" in Path(file).parts for file in chosen.files)
    assert chosen.notices == (f"{root} holds splits, and only the images of {root / 'test'} were taken",)


def test_bench_with_a_file_of_labels(colour_bundle: Bundle, coloured_folder: Path) -> None:
    files = sorted(path.relative_to(coloured_folder).as_posix() for path in coloured_folder.rglob("*.png"))
    lines = [f"{file},{file.split('/')[0].replace('Green', 'GREEN').replace('Blue', 'Azure')}" for file in files]
    path = write(coloured_folder, [HEADER, *lines])
    chosen = bench.labelled(None, colour_bundle, labels=path)
    assert len(chosen.files) == 8 and sorted(set(chosen.labels)) == [1, 2]
    left_out, spelled, missing = chosen.notices
    assert left_out == f"4 images of {path} were left out, for their label is no class: 4 of Azure"
    assert spelled == "the label 'GREEN' was taken for the class 'Green'" and "no image of Blue" in missing
    halves = [f"{line},{'test' if i % 2 else 'train'}" for i, line in enumerate(lines)]
    chosen = bench.labelled(coloured_folder, colour_bundle, labels=write(coloured_folder, [f"{HEADER},split", *halves]))
    assert len(chosen.files) == 4 and "only its 6 test images of 12 were taken" in chosen.notices[0]
    with pytest.raises(DataError, match="no label is one of the classes"):
        bench.labelled(None, colour_bundle, labels=write(coloured_folder, [HEADER, f"{files[0]},x"]))


def test_bench_knows_the_images_of_a_file_of_labels_that_were_trained_on(coloured_folder: Path, tmp_path: Path) -> None:
    files = sorted(coloured_folder.rglob("*.png"))
    known = tuple(hashlib.sha256(path.read_bytes()).hexdigest() for path in files[:5])
    bundle = write_colour_bundle(tmp_path / "some", known=known)
    lines = [f"{path.relative_to(coloured_folder).as_posix()},{path.parent.name}" for path in files]
    chosen = bench.labelled(None, bundle, labels=write(coloured_folder, [HEADER, *lines]))
    assert (len(chosen.files), chosen.basis, chosen.seen) == (7, "unseen", 5)


def test_tables_in_themselves(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text('A;B\n\n" x ";"1\n2"\n', encoding="utf-8")
    read = csv_table.read(path, ("a",), ("b", "c"))
    assert read.columns == ("a", "b") and read.lines == ((4, {"a": "x", "b": "1\n2"}),)
