"""Layouts of a data set: classes are told from splits, wrappers, masks, and folders that are there twice."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from edge_all import class_folders
from edge_all.errors import DataError

CLASSES = ("Benign", "Early")


def lay(root: Path, *files: str) -> Path:
    """Empty files, with the folders that they need."""
    for file in files:
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).touch()
    return root


def classes_in(*folders: str) -> list[str]:
    return [f"{folder}/{name}/1.jpg" for folder in folders for name in CLASSES]


def refusal(root: Path) -> str:
    with pytest.raises(DataError) as caught:
        class_folders.check_layout(root, class_folders.find(root).values())
    assert "\n" not in str(caught.value)
    return str(caught.value)


SPLITS = (
    ("train", "val", "test"),
    ("Training", "Validation"),
    ("TRAIN", "valid ", "Testing"),
    ("fold_0", "fold_1"),
    ("fold0", "Fold 1", "all"),
    ("train_set", "test-data"),
    ("Trainset", "Testset"),
    ("site-A_train", "site-A_test"),
)


@pytest.mark.parametrize("splits", SPLITS)
def test_splits_are_no_classes(splits: tuple[str, ...], tmp_path: Path) -> None:
    said = refusal(lay(tmp_path, *classes_in(*splits)))
    assert "no class" in said and "merge them" in said and any(f"such as {tmp_path / name}" in said for name in splits)


KEPT: tuple[tuple[tuple[str, ...], dict[str, str]], ...] = (
    (("train", "test"), {"train": "train", "test": "test"}),
    (("Train", "valid", "TEST "), {"train": "Train", "val": "valid", "test": "TEST "}),
    (("Trainset_1", "validation", "test-data"), {"train": "Trainset_1", "val": "validation", "test": "test-data"}),
    (("train", "val"), {}),
    (("train", "test", "eval"), {}),
    (("train", "training", "test"), {}),
    (("train", "test", "masks"), {}),
    (("site-A_train", "site-A_test"), {}),
)


@pytest.mark.parametrize(("folders", "roles"), KEPT)
def test_whole_splits_are_told_by_their_names(folders: tuple[str, ...], roles: dict[str, str], tmp_path: Path) -> None:
    root = lay(tmp_path, *classes_in(*folders), "README.md")
    assert class_folders.splits(root) == {role: root / name for role, name in roles.items()}


def test_splits_without_classes_are_none(tmp_path: Path) -> None:
    assert class_folders.splits(lay(tmp_path, "train/1.jpg", "test/Benign/1.jpg")) == {}
    assert class_folders.splits(tmp_path / "nowhere") == {}


@pytest.mark.parametrize("names", [("train", "test"), ("images", "masks"), ("Original", "Segmented")])
def test_parts_without_classes(names: tuple[str, ...], tmp_path: Path) -> None:
    assert "their images have no class" in refusal(lay(tmp_path, *(f"{name}/1.jpg" for name in names)))


@pytest.mark.parametrize(
    ("folders", "give"),
    [
        (("Segmented", "Original"), "Original"),
        (("original", "SEGMENTED"), "original"),
        (("masks", "images"), "images"),
        (("Original",), "Original"),
        (("data",), "data"),
        (("Blood cell Cancer [ALL]",), "Blood cell Cancer [ALL]"),
        (("a/b/c",), "a/b/c"),
        (("archive/train", "archive/test"), "archive"),
        (("C-NMC_Leukemia/training_data/fold_0",), "C-NMC_Leukemia/training_data/fold_0"),
    ],
)
def test_the_folder_to_give_is_named(folders: tuple[str, ...], give: str, tmp_path: Path) -> None:
    assert refusal(lay(tmp_path, *classes_in(*folders))).endswith(f"give {tmp_path / give}")


def test_a_part_beside_classes(tmp_path: Path) -> None:
    root = lay(tmp_path, *classes_in("."), "masks/1.png")
    said = refusal(root)
    assert "holds masks: a part of a data set and no class; move it elsewhere" in said


def test_folders_that_hold_the_same_folders_are_no_classes(tmp_path: Path) -> None:
    said = refusal(lay(tmp_path, *classes_in("Bonn", "Graz"), "Wien/early/1.jpg", "Wien/benign/1.jpg"))
    assert (
        "Bonn, Graz, Wien, which all hold the folders Benign, Early" in said and f"such as {tmp_path / 'Bonn'}" in said
    )


def test_masks_inside_a_class(tmp_path: Path) -> None:
    root = lay(tmp_path, "Benign/images/1.jpg", "Benign/masks/1.png", "Early/images/1.jpg")
    assert f"class folder {tmp_path / 'Benign'} holds masks" in refusal(root)


ACCEPTED: tuple[tuple[str, ...], ...] = (
    ("all/1.bmp", "hem/1.bmp"),
    ("Benign/1.jpg", "Test negative/1.jpg"),
    ("Benign/slide 1/1.jpg", "Benign/slide 2/1.jpg", "Early/slide 1/1.jpg", "Early/slide 2/1.jpg"),
    ("Benign/train/1.jpg", "Benign/test/1.jpg", "Early/train/1.jpg", "Early/test/1.jpg"),
    ("Benign/1.jpg", "Benign/a/1.jpg", "Benign/b/1.jpg", "Early/1.jpg", "Early/a/1.jpg", "Early/b/1.jpg"),
    ("L1/1.jpg", "L2/1.jpg", ".git/config", ".train/1.jpg"),
    ("0/1.jpg", "1/1.jpg"),
)


@pytest.mark.parametrize("files", ACCEPTED)
def test_classes_are_not_taken_for_splits(files: tuple[str, ...], tmp_path: Path) -> None:
    root = lay(tmp_path, *files)
    found = class_folders.find(root)
    class_folders.check_layout(root, found.values())
    assert set(found) == {file.split("/")[0] for file in files if not file.startswith(".")}


@pytest.mark.parametrize(("one", "other"), [("Early", "early"), ("Early", "Early "), ("Pre B", "PreB")])
def test_names_that_differ_by_case_or_blanks(one: str, other: str, tmp_path: Path) -> None:
    root = lay(tmp_path, f"{one}/1.jpg", f"{other}/1.jpg")
    if len(list(root.iterdir())) < 2:
        pytest.skip("the file system takes them for one name")
    with pytest.raises(DataError, match="rename or merge"):
        class_folders.find(root)


@pytest.mark.skipif(os.name == "nt", reason="links need a privilege there")
def test_links_are_followed_and_every_image_has_one_class(tmp_path: Path) -> None:
    lay(tmp_path, "elsewhere/Early/1.jpg", "data/Benign/slide/1.jpg")
    root = tmp_path / "data"
    (root / "Early").symlink_to(tmp_path / "elsewhere" / "Early")
    (root / "Pre").symlink_to(tmp_path / "nowhere")
    assert list(class_folders.find(root)) == ["Benign", "Early"]
    for target, says in (
        (root, "holds .* itself"),
        (root / "Benign", "the same folder"),
        (root / "Benign/slide", "into"),
    ):
        (root / "Pro").symlink_to(target)
        with pytest.raises(DataError, match=says):
            class_folders.find(root)
        (root / "Pro").unlink()
