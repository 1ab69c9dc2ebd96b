"""A bundle adapted to another site: what becomes better, what is kept, and what is refused."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from helpers_adapt import HOME, SITE, field, write_bundle, write_site
from helpers_bundle import CLASSES, exchanged, rewritten, write_colour_bundle
from helpers_command import Command, run_here
from helpers_graphs import ENGINES, check_standard
from PIL import Image

from edge_all import bundle as bundles
from edge_all import load, probe, training_features
from edge_all.bundle import Bundle
from edge_all.errors import BundleError, DataError
from edge_all.export import outsiders
from edge_all.export.adapt import gate, refit, site
from edge_all.export.graph.names import SELECTED
from edge_all.record import Figures

KINDS = ("photograph",)
"""Pictures of other colours look like the classes of a bundle that tells colours apart."""

FEW = "from edge_all.export import outsiders; drawn = outsiders.pictures; "
FEW += f"outsiders.pictures = lambda size: (each for each in drawn(size) if each.kind in {KINDS!r})"


@pytest.fixture(scope="module", autouse=True)
def few_outsiders() -> Iterator[None]:
    """Only those that have nothing of a bundle of colours."""
    drawn = outsiders.pictures
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(outsiders, "pictures", lambda size: (each for each in drawn(size) if each.kind in KINDS))
        yield


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The bundle that is adapted."""
    return write_bundle(tmp_path_factory.mktemp("home") / "small")


@pytest.fixture(scope="module")
def adapted(home: Bundle, tmp_path_factory: pytest.TempPathFactory) -> tuple[Bundle, dict[str, Any], Path]:
    """It, adapted by the command; what this says as JSON; and the site's folder."""
    room = tmp_path_factory.mktemp("adapted")
    folder = write_site(room / "clinic")
    done = run_here("adapt", folder, "--bundle", home.path, "--json", cwd=room)
    assert done.returncode == 0, done.stderr
    return bundles.load(room / "models" / "small-clinic"), json.loads(done.stdout), folder


def right(bundle: Bundle, gains: tuple[float, float, float], precision: str = "int8") -> tuple[float, float]:
    """Shares of new fields that get the right label, and that get a wrong one with ``ok``."""
    rng = np.random.default_rng(77)
    classifier, labels = load(bundle.path, precision=precision), np.arange(90) % len(CLASSES)
    answers = [classifier.classify_pixels(field(int(label), rng, gains)) for label in labels]
    hits = np.array([answer.top == CLASSES[label] for answer, label in zip(answers, labels, strict=True)])
    ok = np.array([answer.status == "ok" for answer in answers])
    return float(hits.mean()), float((ok & ~hits).mean())


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_the_site_gains_and_the_home_keeps(
    home: Bundle, adapted: tuple[Bundle, dict[str, Any], Path], precision: str
) -> None:
    bundle, _, _ = adapted
    assert right(home, SITE, precision)[0] < 0.7
    assert right(bundle, SITE, precision)[0] >= 0.95 and right(bundle, SITE, precision)[1] <= 0.02
    assert right(bundle, HOME, precision)[0] >= 0.95


def test_what_is_before_the_classifier_stays(home: Bundle, adapted: tuple[Bundle, dict[str, Any], Path]) -> None:
    bundle, _, _ = adapted
    for name in ("model.fp32.onnx", "model.cpu.int8.onnx"):
        old, new = (onnx.load_from_string(each.read(name)) for each in (home, bundle))
        check_standard(new)
        before, after = ([node.output[0] for node in each.graph.node] for each in (old, new))
        kept = [name for name in before[: before.index(SELECTED) + 1] if "Svm" not in name]
        assert [name for name in after if name in kept] == kept and len(kept) > 5


def test_the_record_says_where_it_comes_from(home: Bundle, adapted: tuple[Bundle, dict[str, Any], Path]) -> None:
    bundle, said, folder = adapted
    (lineage,) = bundle.record["lineage"]
    assert (lineage["parent"], lineage["parent_digest"]) == (home.name, home.digest) and bundle.name == "small-clinic"
    assert lineage["site"]["counts"] == dict.fromkeys(CLASSES, 8) and lineage["site"]["images"] == 24
    assert lineage["at_site"]["after"]["accuracy"] > lineage["at_site"]["before"]["accuracy"]
    after = lineage["at_site"]["after"]
    assert after["low"] < after["accuracy"] <= after["high"]
    assert said["passed"] and said["at_site"] == lineage["at_site"] and said["bundle"].endswith("small-clinic")
    card = bundle.read("MODEL_CARD.md").decode()
    assert "Adapted to a site" in card and "24 fields of clinic" in card and "| home | after | 120 |" in card
    assert "Adapted to a site" not in home.record["name"] and "drift" not in bundle.record
    known = home.training_images() | {hashlib.sha256(f.read_bytes()).hexdigest()[:16] for f in folder.rglob("*.png")}
    assert bundle.training_images() == known


@pytest.mark.engine
@pytest.mark.parametrize("engine", ENGINES)
def test_every_engine_gives_the_new_answers(adapted: tuple[Bundle, dict[str, Any], Path], engine: Any) -> None:
    bundle, _, _ = adapted
    rng = np.random.default_rng(3)
    images = np.stack([field(k, rng, SITE) for k in range(len(CLASSES))])
    model = onnx.load_from_string(bundle.read("model.fp32.onnx"))
    given = engine(model, image=images)
    classifier = load(bundle.path, precision="fp32")
    for i, image in enumerate(images):
        wanted = classifier.classify_pixels(image)
        np.testing.assert_allclose(given["probabilities"][i], list(wanted.probabilities.values()), atol=2e-3)


def test_the_other_commands_take_it(adapted: tuple[Bundle, dict[str, Any], Path], edge_all: Command) -> None:
    bundle, _, folder = adapted
    assert probe.check(load(bundle.path)).passed
    done = edge_all("classify", folder, "--bundle", bundle.path, "--json")
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 0 and len(answers) == 24
    doctor = edge_all("doctor", "--bundle", bundle.path, "--json")
    assert doctor.returncode == 0, doctor.stderr


def test_it_can_be_adapted_again(
    adapted: tuple[Bundle, dict[str, Any], Path], edge_all: Command, tmp_path: Path
) -> None:
    bundle, _, folder = adapted
    kept = training_features.read(bundle)
    assert kept and len(kept.labels) == 120 + 24 and len(kept.shown) == 240 + 4 * 24
    write_site(tmp_path / "annex", gains=(0.8, 0.62, 0.7), seed=4)
    done = edge_all("adapt", "annex", "--bundle", bundle.path, "--out", "third.zip")
    assert done.returncode == 0, done.stderr + done.stdout
    third = bundles.load(tmp_path / "third.zip")
    assert [each["site"]["name"] for each in third.record["lineage"]] == ["clinic", "annex"]
    assert all(right(third, gains)[0] >= 0.95 for gains in (HOME, SITE, (0.8, 0.62, 0.7)))
    known = edge_all("adapt", folder, "--bundle", bundle.path)
    assert known.returncode == 1 and "24 of 24 images are among the bundle's training images" in known.stderr


@pytest.mark.parametrize(("classifier", "selector"), [("knn", "pca"), ("random_forest", "anova"), ("svm", "pca")])
def test_every_head_can_be_fitted_again(classifier: str, selector: str, tmp_path: Path) -> None:
    small = write_bundle(tmp_path / "small", classifier=classifier, selector=selector)
    done = run_here("adapt", write_site(tmp_path / "site", 12), "--bundle", small.path, "--out", "new", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert right(bundles.load(tmp_path / "new"), SITE)[0] >= 0.9 > right(small, SITE)[0]


def test_a_head_that_cannot_hold_two_sites_is_refused(edge_all: Command, tmp_path: Path) -> None:
    """Naive Bayes has one Gaussian for each class."""
    bundle = write_bundle(tmp_path / "small", classifier="naive_bayes")
    done = edge_all("adapt", write_site(tmp_path / "site", 12), "--bundle", bundle.path, "--out", "new")
    assert done.returncode == 3 and not (tmp_path / "new").exists() and "site: wrong with ok" in done.stdout


def test_where_there_is_nothing_to_gain_nothing_is_written(home: Bundle, edge_all: Command, tmp_path: Path) -> None:
    write_site(tmp_path / "same", gains=HOME, seed=9)
    done = edge_all("adapt", "same", "--bundle", home.path, "--out", "new")
    assert done.returncode == 3 and not (tmp_path / "new").exists()
    assert "REFUSED" in done.stdout and "nothing was written" in done.stderr and "right on all 24 fields" in done.stderr


def test_wrong_labels_are_refused_with_advice(home: Bundle, edge_all: Command, tmp_path: Path) -> None:
    root = write_site(tmp_path / "site")
    for name, other in zip(CLASSES, (*CLASSES[1:], CLASSES[0]), strict=True):
        for i in range(4):
            one, two = root / name / f"{i}.png", root / other / f"other{i}.png"
            one.rename(two)
    done = edge_all("adapt", root, "--bundle", home.path, "--out", "new", "--json")
    said = json.loads(done.stdout)
    assert done.returncode == 3 and said["bundle"] is None and not said["passed"] and not (tmp_path / "new").exists()
    assert any("more would help" in line for line in said["advice"])
    assert any("with half of the fields" in line for line in said["advice"])


def test_a_class_may_be_missing_at_the_site(home: Bundle, edge_all: Command, tmp_path: Path) -> None:
    done = edge_all("adapt", write_site(tmp_path / "site", (20, 8, 0)), "--bundle", home.path, "--out", "new")
    assert done.returncode == 0, done.stdout + done.stderr
    assert bundles.load(tmp_path / "new").record["lineage"][0]["site"]["counts"][CLASSES[2]] == 0


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda root: (root / "Blue").rename(root / "Purple"), "holds Purple, and the classes of the bundle are Blue"),
        (lambda root: [(root / "Blue" / f"{i}.png").unlink() for i in range(4)], "has 4 images; wanted at least 5"),
        (lambda root: (root / "Blue" / "x.png").write_bytes((root / "Green" / "0.png").read_bytes()), "two classes"),
        (lambda root: (root / "Blue" / "x.png").write_bytes(b"no image"), "x.png"),
    ],
)
def test_folders_that_cannot_be_used(home: Bundle, edge_all: Command, tmp_path: Path, spoil: Any, told: str) -> None:
    root = write_site(tmp_path / "site")
    spoil(root)
    done = edge_all("adapt", root, "--bundle", home.path, "--out", "new")
    assert done.returncode == 1 and told in done.stderr and not (tmp_path / "new").exists()


def test_a_bundle_without_features_cannot_be_adapted(edge_all: Command, tmp_path: Path, colour_bundle: Bundle) -> None:
    root = write_site(tmp_path / "site")
    for bundle in (write_bundle(tmp_path / "bare", keep=False), colour_bundle):
        done = edge_all("adapt", root, "--bundle", bundle.path)
        assert done.returncode == 1 and "holds no features of its training images" in done.stderr


def test_graphs_that_do_not_say_what_the_classifier_reads(home: Bundle, edge_all: Command, tmp_path: Path) -> None:
    other = write_colour_bundle(tmp_path / "colours")
    bundle = write_bundle(tmp_path / "small")
    exchanged(bundle, "model.cpu.int8.onnx", other.read("model.cpu.int8.onnx"))
    done = edge_all("adapt", write_site(tmp_path / "site"), "--bundle", bundle.path)
    assert done.returncode == 1 and "model.cpu.int8.onnx does not say what its classifier reads" in done.stderr


def test_a_refitted_head_is_left_out(edge_all: Command, tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "small")
    rewritten(bundle, lambda record: record["gate"]["targets"]["cpu"].update(head="refitted"))
    done = edge_all("adapt", write_site(tmp_path / "site"), "--bundle", bundle.path, "--out", "new")
    assert done.returncode == 0 and "int8 graph for cpu has a head of its own" in done.stderr
    assert bundles.load(tmp_path / "new").precisions("cpu") == ("fp32",)


def test_sub_folders_stay_together(tmp_path: Path) -> None:
    root = write_site(tmp_path / "site", 12)
    for i in range(12):
        slide = root / "Blue" / f"slide {i % 3}"
        slide.mkdir(exist_ok=True)
        (root / "Blue" / f"{i}.png").rename(slide / f"{i}.png")
    found = site.read(root, CLASSES, frozenset())
    for file in ("slide 0", "slide 1", "slide 2"):
        own = np.array([f"Blue/{file}/" in name for name in found.data.files])
        assert own.sum() == 4 and len(np.unique(found.groups[own])) == 1 and len(np.unique(found.folds[own])) == 1
    with pytest.raises(DataError, match="does not exist"):
        site.read(tmp_path / "nowhere", CLASSES, frozenset())


def test_folds_are_even() -> None:
    labels = np.repeat([0, 1, 2], [40, 10, 5])
    folds = site.folds(labels, np.arange(55))
    for label, count in ((0, 8), (1, 2), (2, 1)):
        assert (np.bincount(folds[labels == label], minlength=5) == count).all()


def test_home_is_moved_to_where_the_site_has_each_class() -> None:
    home = np.array([[0.0, 0], [2, 0], [10, 0], [12, 0], [0, 10], [0, 12]])
    far = [[1.0, 4]] * 9 + [[13, 8]]  # mostly of class 0, which moves by (0, 4); class 1 moves by (2, 8)
    labels = np.array([0, 0, 1, 1, 2, 2] + [0] * 9 + [1])
    pool = refit.Pool(np.concatenate([home, far]), np.arange(16), labels, np.zeros(16, int), np.arange(16), home=6)
    moved, images = pool.moved(np.ones(16, bool))
    assert images.tolist() == [0, 1, 2, 3, 4, 5]
    common = np.array([1.0, 6])
    for label, shift in ((0, (np.array([0.0, 4]) + common) / 2), (1, (np.array([2.0, 8]) + common) / 2), (2, common)):
        np.testing.assert_allclose(moved[labels[:6] == label] - home[labels[:6] == label], [shift, shift])
    nothing, _ = pool.moved(np.arange(16) < 6)
    assert not len(nothing), "without a field of the site there is nowhere to move to"


def test_limits_weigh_home_and_site_alike() -> None:
    pool = refit.Pool(
        inputs=np.zeros((1011, 2), np.float32),
        shown=np.append(np.arange(1010), 0),
        labels=np.zeros(1010, np.int64),
        folds=np.zeros(1010, np.int64),
        groups=np.arange(1010),
        home=1000,
    )
    even = np.full((1011, 2), 0.5)
    far = refit.Answers(even, np.concatenate([np.linspace(0, 1, 1000), np.full(11, 3.0)]))
    assert refit.limits(pool, far).distance == 3
    near = refit.Answers(even, np.concatenate([np.linspace(0, 1, 1000), np.zeros(11)]))
    assert refit.limits(pool, near).distance == pytest.approx(0.99, abs=1e-3)
    sure = np.concatenate([np.linspace(0.9, 1, 1000), np.full(11, 0.5)])
    unsure = refit.Answers(np.stack([sure, 1 - sure], 1), np.zeros(1011))
    assert refit.limits(pool, unsure).threshold >= 0.9, "the site must not lower what home wants"


def test_a_weak_head_on_a_site_alone_answers_few() -> None:
    """Of 100 images and a copy of each, the 30 that are told best are right, and a third of the others are wrong."""
    labels, numbers = np.zeros(100, np.int64), np.arange(100)
    pool = refit.Pool(np.zeros((200, 2), np.float32), np.tile(numbers, 2), labels, labels, numbers, home=0)
    right = (numbers < 30) | (numbers % 3 > 0)
    sure = np.linspace(0.99, 0.51, 100)
    shares = np.where(right[:, None], np.stack([sure, 1 - sure], 1), np.stack([1 - sure, sure], 1))
    rows = refit.Answers(np.concatenate([shares, shares]), np.zeros(200))
    limits = refit.limits(pool, rows)
    answered = limits.ok(rows.first(100))
    assert answered.sum() == 30 and right[answered].all()


def _figures(accuracy: float, ok: float = 90.0, wrong_ok: float = 0.0, images: int = 40) -> Figures:
    return {"images": images, "accuracy": accuracy, "low": 0, "high": 100, "ok": ok, "wrong_ok": wrong_ok}


@pytest.mark.parametrize(
    ("before", "after", "passed"),
    [
        (_figures(80), _figures(99), True),
        (_figures(99), _figures(99, ok=95), True),
        (_figures(99), _figures(99), False),
        (_figures(99), _figures(98, ok=99), False),
        (_figures(80), _figures(99, wrong_ok=2.5), True),  # one field of 40
        (_figures(80), _figures(99, wrong_ok=5), False),
    ],
)
def test_the_gate_at_the_site(before: Figures, after: Figures, passed: bool) -> None:
    kept = {"before": _figures(98.6), "after": _figures(98.1)}
    strange = {"images": 30, "ok_before": 0, "ok_after": 0}
    checks = gate.checks({"before": before, "after": after}, kept, strange)  # type: ignore[arg-type]
    assert all(check.passed for check in checks) is passed


def test_the_gate_at_home_and_with_outsiders() -> None:
    better = {"before": _figures(80), "after": _figures(99)}
    for home, ok_after, refused in (
        ({"before": _figures(98.6), "after": _figures(98.0)}, 0, "home: right"),
        ({"before": _figures(98.6), "after": _figures(98.6, wrong_ok=9)}, 0, "home: wrong with ok"),
        ({"before": _figures(98.6), "after": _figures(98.6)}, 1, "outsiders with ok"),
    ):
        strange = {"images": 30, "ok_before": 0, "ok_after": ok_after}
        checks = gate.checks(better, home, strange)  # type: ignore[arg-type]
        assert [check.name for check in checks if not check.passed] == [refused]


@pytest.fixture(scope="module")
def carrying(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A bundle that carries a deeper backbone."""
    return write_bundle(tmp_path_factory.mktemp("carrying") / "small", carry=True)


def test_a_head_on_another_laboratory_alone(carrying: Bundle, edge_all: Command, tmp_path: Path) -> None:
    root = write_site(tmp_path / "lab", 20)
    for old, new in zip(CLASSES, ("basophil", "lymphocyte", "monocyte"), strict=True):
        (root / old).rename(root / new)
    asked = edge_all("adapt", root, "--bundle", carrying.path)
    assert asked.returncode == 1 and "give --fresh" in asked.stderr
    done = edge_all("adapt", root, "--bundle", carrying.path, "--fresh", "--out", "new")
    assert done.returncode == 0, done.stdout + done.stderr
    bundle = bundles.load(tmp_path / "new")
    assert bundle.classes == ("basophil", "lymphocyte", "monocyte") and bundle.record["tap"] == "deep"
    assert probe.check(load(bundle.path)).passed and "at_home" not in bundle.record["lineage"][0]
    rng, classifier = np.random.default_rng(77), load(bundle.path)
    hits = [classifier.classify_pixels(field(k % 3, rng, SITE)).top == bundle.classes[k % 3] for k in range(60)]
    assert np.mean(hits) >= 0.9
    assert "one site's images alone" in " ".join(bundle.read("MODEL_CARD.md").decode().split())
    assert bundle.training_images().isdisjoint(carrying.training_images())
    more = write_site(tmp_path / "more", 20, gains=(0.8, 0.62, 0.7), seed=8)
    for old, new in zip(CLASSES, bundle.classes, strict=True):
        (more / old).rename(more / new)
    assert edge_all("adapt", more, "--bundle", bundle.path, "--fresh", "--out", "again").returncode == 0


def test_fresh_needs_what_was_carried(home: Bundle, edge_all: Command, tmp_path: Path) -> None:
    done = edge_all("adapt", write_site(tmp_path / "site"), "--bundle", home.path, "--fresh")
    assert done.returncode == 1 and "carries no deeper backbone" in done.stderr and "--carry" in done.stderr


def test_fresh_is_refused_where_nothing_is_told_apart(carrying: Bundle, edge_all: Command, tmp_path: Path) -> None:
    root, rng = tmp_path / "lab", np.random.default_rng(0)
    for name in ("a", "b"):
        (root / name).mkdir(parents=True)
        for i in range(10):
            Image.fromarray(field(0, rng)).save(root / name / f"{i}.png")
    done = edge_all("adapt", root, "--bundle", carrying.path, "--fresh", "--out", "new")
    assert done.returncode == 3 and not (tmp_path / "new").exists() and "the share of one class" in done.stdout


def test_fresh_is_proposed_where_all_is_unfamiliar(carrying: Bundle, edge_all: Command, tmp_path: Path) -> None:
    done = edge_all("adapt", write_site(tmp_path / "site"), "--bundle", carrying.path, "--out", "new")
    assert "unfamiliar to the bundle: if they come from another laboratory, --fresh" in done.stderr


def test_what_is_carried_is_checked(carrying: Bundle, tmp_path: Path) -> None:
    whole = write_bundle(tmp_path / "small", carry=True)
    exchanged(whole, "model.deep.int8.onnx", whole.read("model.fp32.onnx"))
    with pytest.raises(BundleError, match="wanted one output, features"):
        bundles.load(whole.path)
    with pytest.raises(BundleError, match="no graph of its own among files"):
        rewritten(whole, lambda record: record["carried"].update(file="model.fp32.onnx"))
        bundles.load(whole.path)


_ABSENT = ("torch", "torchvision", "timm", "nncf", "openvino", "onnxscript", "kagglehub", "matplotlib", "safetensors")


@pytest.mark.parametrize(("absent", "status"), [(_ABSENT, 0), (("sklearn",), 1), (("skl2onnx",), 1)])
def test_what_it_needs(home: Bundle, tmp_path: Path, absent: tuple[str, ...], status: int) -> None:
    """In an interpreter of its own: no torch, and one line where a package of the extra is missing."""
    write_site(tmp_path / "site")
    program = (
        "import sys\n"
        "class Absent:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name.split('.')[0] in {absent!r}: raise ModuleNotFoundError(name, name=name)\n"
        "sys.meta_path.insert(0, Absent())\n"
        f"{'' if status else FEW}\n"
        "from edge_all.cli import main\n"
        f"sys.argv = ['edge-all', 'adapt', 'site', '--bundle', {str(home.path)!r}, '--out', 'new']\n"
        "main()\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=tmp_path, timeout=300)
    assert done.returncode == status, done.stderr
    if status:
        assert f"adapt needs {absent[0]}" in done.stderr and "[adapt]" in done.stderr
        assert "Traceback" not in done.stderr and not (tmp_path / "new").exists()


def test_a_site_of_pictures_of_another_size(home: Bundle, edge_all: Command, tmp_path: Path) -> None:
    root = write_site(tmp_path / "site")
    for file in root.rglob("*.png"):
        picture = Image.open(file)
        picture.resize((300, 200)).save(file)
    assert edge_all("adapt", root, "--bundle", home.path, "--out", "new").returncode == 0
