"""Signed bundles: made by export, checked by `edge-all verify` and by minisign, and asked for by a setting."""

from __future__ import annotations

import base64
import hashlib
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers_bundle import colour_picture, rewritten, write_colour_bundle
from helpers_command import Command
from helpers_sign import Keys, needs_minisign

from edge_all import bundle as bundles
from edge_all import bundle_files, load, signature
from edge_all.bundle import Bundle
from edge_all.bundle_files import SIGNATURE
from edge_all.errors import BundleError, SigningKeyError, ToolchainError


@pytest.fixture
def maker(tmp_path: Path) -> Keys:
    return Keys(tmp_path, "maker")


@pytest.fixture
def stranger(tmp_path: Path) -> Keys:
    return Keys(tmp_path, "stranger")


def sign(bundle: Bundle, keys: Keys) -> Bundle:
    """Put a signature beside a bundle's record."""
    content = bundle_files.read_record(bundle.path)
    (bundle.path / SIGNATURE).write_bytes(signature.signer(keys.secret, lambda: "")(content))
    return bundle


@pytest.fixture
def signed(colour_bundle: Bundle, maker: Keys) -> Bundle:
    return sign(colour_bundle, maker)


def reseal(bundle: Bundle, **changed: object) -> None:
    rewritten(bundle, lambda record: record.update(changed))


def graph_too(bundle: Bundle) -> None:
    """Another graph, with digests that are right: only the signature can tell."""

    def change(record: dict[str, Any]) -> None:
        content = (bundle.path / "model.cpu.int8.onnx").read_bytes()
        (bundle.path / "model.fp32.onnx").write_bytes(content)
        record["files"]["model.fp32.onnx"] = record["files"]["model.cpu.int8.onnx"]

    rewritten(bundle, change)


@needs_minisign
def test_signed_bundles_load(signed: Bundle, maker: Keys, stranger: Keys, tmp_path: Path) -> None:
    assert bundles.load(signed.path, maker.public).name == "colour"
    assert load(signed.path, keys=str(maker.public), precision="fp32").precision == "fp32"
    (tmp_path / "trusted").mkdir()
    for keys in (maker, stranger):
        shutil.copy(keys.public, tmp_path / "trusted")
    assert bundles.load(signed.path, tmp_path / "trusted").name == "colour"
    with pytest.raises(BundleError, match=f"signed by key {maker.id}, or changed since; wanted one of {stranger.id}"):
        bundles.load(signed.path, stranger.public)


@needs_minisign
@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda bundle: reseal(bundle, name="another"), "or changed since"),
        (lambda bundle: reseal(bundle, classes=["Green", "Blue", "Réd"]), "or changed since"),
        (graph_too, "or changed since"),
        (lambda bundle: (bundle.path / SIGNATURE).unlink(), "not signed, and only signed bundles"),
        (lambda bundle: (bundle.path / SIGNATURE).write_text(""), "its signature is damaged"),
        (lambda bundle: (bundle.path / SIGNATURE).write_bytes(b"\xff" * 100), "its signature is damaged"),
        (lambda bundle: (bundle.path / SIGNATURE).write_bytes(b"x" * 30_000), "at most 20000 are read"),
        (lambda bundle: (bundle.path / "probe.npz").write_bytes(b""), "probe.npz has 0 bytes"),
    ],
)
def test_what_a_signature_notices(
    signed: Bundle, maker: Keys, change: Callable[[Bundle], object], said: str, edge_all: Command
) -> None:
    change(signed)
    with pytest.raises(BundleError, match=said):
        bundles.load(signed.path, maker.public)
    done = edge_all("verify", signed.path, "--key", maker.public)
    assert done.returncode == 1 and said in done.stdout + done.stderr


@needs_minisign
def test_every_flipped_byte_of_a_signature_is_noticed(signed: Bundle, maker: Keys) -> None:
    whole, content = (signed.path / SIGNATURE).read_bytes(), bundle_files.read_record(signed.path)
    trusted = signature.trusted(maker.public)
    assert trusted and signature.check(signed.path, content, whole, trusted) == maker.id
    first = whole.index(b"\n")  # the untrusted comment, which is not signed
    for position in range(first + 1, len(whole) - 1):
        damaged = bytearray(whole)
        damaged[position] ^= 1
        with pytest.raises(BundleError):
            signature.check(signed.path, content, bytes(damaged), trusted)


@needs_minisign
def test_an_independent_reading_of_the_format(signed: Bundle, maker: Keys) -> None:
    """As minisign's documentation says it, with an Ed25519 of another library."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    lines = (signed.path / SIGNATURE).read_text().splitlines()
    key = base64.b64decode(maker.public.read_text().splitlines()[1])
    one, overall = base64.b64decode(lines[1]), base64.b64decode(lines[3])
    assert key[:2] == b"Ed" and one[:2] == b"ED" and one[2:10] == key[2:10]
    content = (signed.path / "bundle.json").read_bytes()
    public = Ed25519PublicKey.from_public_bytes(key[10:])
    public.verify(one[10:], hashlib.blake2b(content).digest())
    comment = lines[2].removeprefix("trusted comment: ")
    public.verify(overall, one[10:] + comment.encode())
    assert "file:bundle.json" in comment


@needs_minisign
@pytest.mark.skipif(not shutil.which("minisign"), reason="the program minisign is not installed")
def test_minisign_itself_checks_it(signed: Bundle, tmp_path: Path, edge_all: Command) -> None:
    """And what it has made is understood here: its keys, and its signature of a record."""
    program, record = str(shutil.which("minisign")), str(signed.path / "bundle.json")

    def run(*words: str) -> None:
        subprocess.run([program, *words], cwd=tmp_path, check=True, capture_output=True)

    run("-V", "-p", "maker.pub", "-m", record)
    run("-G", "-W", "-p", "its.pub", "-s", "its.key")
    run("-S", "-s", "its.key", "-m", record)
    assert edge_all("verify", signed.path, "--key", "its.pub").returncode == 0
    made = bundles.write(tmp_path / "made", *_parts(signed), signature.signer(tmp_path / "its.key", lambda: ""))
    run("-V", "-p", "its.pub", "-m", str(made.path / "bundle.json"))


def _parts(bundle: Bundle) -> tuple[Any, dict[str, bytes]]:
    record = {key: value for key, value in bundle.record.items() if key != "files"}
    return record, {name: bundle.read(name) for name in bundle.record["files"]}


@needs_minisign
def test_a_signed_zip(colour_bundle: Bundle, maker: Keys, tmp_path: Path) -> None:
    signer = signature.signer(maker.secret, lambda: "")
    for name in ("new.zip", "new"):
        made = bundles.write(tmp_path / name, *_parts(colour_bundle), signer)
        assert bundles.load(made.path, maker.public).digest == made.digest
        bundles.write(made.path, *_parts(colour_bundle))
        with pytest.raises(BundleError, match="not signed"):
            bundles.load(made.path, maker.public)
        bundles.write(made.path, *_parts(colour_bundle), signer)
    with zipfile.ZipFile(tmp_path / "new.zip") as archive:
        assert SIGNATURE in archive.namelist()


@needs_minisign
def test_a_setting_under_which_only_signed_bundles_load(
    signed: Bundle, maker: Keys, stranger: Keys, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, edge_all: Command
) -> None:
    picture, unsigned = tmp_path / "red.png", write_colour_bundle(tmp_path / "unsigned").path
    colour_picture(0).save(picture)
    commands = (("classify", picture, "--precision", "fp32"), ("bench", "--quick", "--precision", "fp32"), ("doctor",))
    for words in commands:
        for path, keys in ((unsigned, maker), (signed.path, stranger)):
            done = edge_all(*words, "--bundle", path, "--keys", keys.public)
            assert done.returncode == 1 and "signed" in done.stderr and not done.stdout
    monkeypatch.setenv(signature.ENVIRONMENT, str(maker.public))
    for words in commands:
        assert edge_all(*words, "--bundle", signed.path).returncode == 0
        done = edge_all(*words, "--bundle", unsigned)
        assert done.returncode == 1 and "not signed, and only signed bundles" in done.stderr and not done.stdout
    for path in (unsigned, bundles.BUILTIN):
        with pytest.raises(BundleError, match="not signed"):
            load(path)
    assert edge_all("classify", picture, "--bundle", signed.path, "--keys", stranger.public).returncode == 1


@needs_minisign
@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda place: None, "cannot be read"),
        (lambda place: place.write_text("no key"), "not a key"),
        (lambda place: place.write_bytes(b"\xff\n\xff\n"), "not a key"),
        (Path.mkdir, "no public key"),
    ],
)
def test_keys_that_are_none(colour_bundle: Bundle, tmp_path: Path, make: Callable[[Path], None], said: str) -> None:
    make(tmp_path / "keys")
    with pytest.raises(SigningKeyError, match=said):
        bundles.load(colour_bundle.path, tmp_path / "keys")


def test_an_empty_setting_is_no_setting(colour_bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(signature.ENVIRONMENT, "")
    with pytest.raises(SigningKeyError, match="EDGE_ALL_KEYS is empty"):
        bundles.load(colour_bundle.path)


@needs_minisign
def test_a_key_with_a_password(tmp_path: Path, colour_bundle: Bundle) -> None:
    keys, content = Keys(tmp_path, "locked", "secret"), bundle_files.read_record(colour_bundle.path)
    made = signature.signer(keys.secret, lambda: "secret")(content)
    trusted = signature.trusted(keys.public)
    assert trusted and signature.check(colour_bundle.path, content, made, trusted) == keys.id
    with pytest.raises(SigningKeyError, match="wrong password"):
        signature.signer(keys.secret, lambda: "other")


def test_verify_says_what_it_found(colour_bundle: Bundle, edge_all: Command) -> None:
    for path in (colour_bundle.path, bundles.BUILTIN):
        done = edge_all("verify", path)
        assert done.returncode == 0 and [line.split()[:2] for line in done.stdout.splitlines()] == [
            ["signature", "-"], ["record", "ok"], ["files", "ok"], ["graphs", "ok"],
        ]  # fmt: skip
        assert "not signed" in done.stdout
    (colour_bundle.path / "probe.npz").write_bytes(b"")
    done = edge_all("verify", colour_bundle.path)
    assert done.returncode == 1 and "files      FAILED" in done.stdout and "graphs     ok" in done.stdout
    reseal(colour_bundle, classes=["a", "b", "c", "d"])
    done = edge_all("verify", colour_bundle.path)
    assert done.returncode == 1 and "record     FAILED" in done.stdout and "graphs" not in done.stdout
    assert edge_all("verify", "nothing").returncode == 1


@needs_minisign
def test_verify_names_the_key(signed: Bundle, maker: Keys, stranger: Keys, edge_all: Command) -> None:
    done = edge_all("verify", signed.path)
    assert done.returncode == 0 and f"by key {maker.id}, not checked" in done.stdout
    done = edge_all("verify", signed.path, "--key", maker.public)
    assert done.returncode == 0 and f"by key {maker.id}, which is trusted" in done.stdout
    done = edge_all("verify", signed.path, "--key", stranger.public)
    assert done.returncode == 1 and "signature  FAILED" in done.stdout


def test_without_the_extra(
    colour_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, edge_all: Command
) -> None:
    monkeypatch.setitem(sys.modules, "minisign", None)
    (tmp_path / "some.pub").write_text("a key")
    for words in (("verify", colour_bundle.path, "--key", "some.pub"), ("doctor", "--keys", "some.pub"),
                  ("export", "--backbone", "vgg19", "--sign", "some.pub")):  # fmt: skip
        done = edge_all(*words)
        assert done.returncode == 1 and "py-minisign, which is not installed" in done.stderr and "[sign]" in done.stderr
    assert edge_all("verify", colour_bundle.path).returncode == 0
    with pytest.raises(ToolchainError):
        bundles.load(colour_bundle.path, tmp_path / "some.pub")


@needs_minisign
def test_export_checks_the_key_before_the_work(maker: Keys, edge_all: Command) -> None:
    done = edge_all("export", "--backbone", "vgg19", "--data", "nothing", "--sign", maker.public)
    assert done.returncode == 1 and "not a key" in done.stderr


def test_the_key_is_not_needed_to_see_who_signed() -> None:
    assert signature.key_id(b"") == signature.key_id(b"a\nb") == signature.key_id(b"\xff\n\xff") == "unknown"
