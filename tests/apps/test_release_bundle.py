"""A release is bundled, verified and its key changed from the command line."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.support.release_life import POLICY, Life

from clerestory.apps.datasets import add_dataset
from clerestory.cli.main import run
from clerestory.stages.release import gate, register
from clerestory.store import open_store


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a store in ``home``, whose release was evaluated on a dataset that can be opened."""
    monkeypatch.setenv("CLERESTORY_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    store = open_store()
    (tmp_path / "shapes").mkdir()
    for seed in range(12):
        pixels = np.random.default_rng(seed).integers(0, 256, (64, 64, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "shapes" / f"{seed}.png")
        (tmp_path / "shapes" / f"{seed}.txt").write_text(f"a secret caption of image {seed}")
    data = add_dataset(store, str(tmp_path / "shapes"), "shapes", why="a test")
    life = Life(store, tmp_path / "models")
    model = life.model()
    life.evaluated(model, data=data.digest)
    register("icons", gate(model, store, POLICY, data.digest), store, "Ada", "a test")
    return tmp_path


def test_a_bundle_from_the_command_line(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["key", "make", "ada.key", "--owner", "Ada"]) == 0
    assert run(["release", "bundle", "icons@1", "--out", "icons.zip", "--key", "ada.key", "--json"]) == 0
    captured = capsys.readouterr()
    assert "notice" not in captured.err
    with zipfile.ZipFile("icons.zip") as archive:
        names = archive.namelist()
        documents = {name.partition("/")[2] for name in names if name.startswith("documents/")}
        assert {"model-card.md", "data-sheet.md", "croissant.json"} <= documents
        assert not any(name.endswith((".png", ".jpg", ".csv")) for name in names)
        assert not any(b"secret caption" in archive.read(name) for name in names)
        png = (place / "shapes" / "0.png").read_bytes()
        assert not any(png[20:60] in archive.read(name) for name in names)
    assert run(["release", "verify-bundle", "icons.zip", "--key", "ada.key.pub", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["verified"], found["problems"], found["release"]) == (True, [], "icons@1")
    content = bytearray((place / "icons.zip").read_bytes())
    content[len(content) // 2] ^= 1
    (place / "icons.zip").write_bytes(content)
    assert run(["release", "verify-bundle", "icons.zip", "--key", "ada.key.pub", "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert found["verified"] is False
    assert found["problems"][0]["kind"] == "file"


def test_data_that_has_changed_is_not_described(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (place / "shapes" / "1.png").unlink()
    assert run(["key", "make", "k"]) == 0
    assert run(["release", "bundle", "icons@1", "--out", "folder", "--key", "k"]) == 0
    assert "notice: no data sheet and no Croissant metadata: " in capsys.readouterr().err
    assert not (place / "folder" / "documents" / "data-sheet.md").exists()
    assert run(["release", "verify-bundle", "folder", "--key", "k.pub"]) == 0


def test_a_new_key_and_a_revoked_one(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["key", "make", "old", "--owner", "Ada"]) == 0
    assert run(["key", "rotate", "old", "new", "--why", "once a year"]) == 0
    assert run(["release", "bundle", "icons@1", "--out", "b.zip", "--key", "new", "--without-model"]) == 0
    verify = ["release", "verify-bundle", "b.zip", "--key", "old.pub"]
    assert run(verify) == 1
    assert "another key than yours" in capsys.readouterr().out
    assert run([*verify, "--statement", "new.rotation.json"]) == 0
    revoke = ["key", "revoke", "new", "--reason", "compromised", "--why", "a stolen laptop", "--until", "2026-01-01"]
    assert run(revoke) == 0
    capsys.readouterr()
    assert run([*verify, "--statement", "new.rotation.json", "--statement", "new.revocation.json"]) == 1
    assert "signatures of this key are refused after 2026-01-01T23:59:59+00:00" in capsys.readouterr().out
    assert run(["key", "list", "--json"]) == 0
    listed = {Path(each["file"]).name: each["kind"] for each in json.loads(capsys.readouterr().out)}
    assert listed == {"old": "private", "new": "private"}
    assert run(["key", "show", "new.pub", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["owner"] == "Ada"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["key", "make", "home/k"], "is inside the store"),
        (["key", "make", "k"], "already exists"),
        (["key", "make", "shapes/0.txt/k"], "is a file, not a folder"),
        (["key", "show", "shapes/0.txt"], "is not an Ed25519 public key"),
        (["key", "list", "k"], "is not a folder"),
        (["key", "rotate", "k.pub", "n", "--why", "x"], "is a public key"),
        (["key", "revoke", "k", "--reason", "bored"], "is not a reason"),
        (["key", "revoke", "k", "--reason", "lost", "--until", "soon"], "is not a time"),
        (["release", "bundle", "icons@1", "--out", "b.zip", "--key", "missing"], "there is no key file missing"),
        (["release", "bundle", "icons@1", "--out", "b.zip", "--key", "home/keys/copy"], "is inside the store"),
        (["release", "bundle", "icons@9", "--out", "b.zip", "--key", "k"], "icons@9"),
        (["release", "bundle", "icons@1", "--out", "shapes", "--key", "k"], "is not empty"),
        (
            ["release", "verify-bundle", "missing.zip", "--key", "k.pub"],
            "missing.zip cannot be read: there is no such file",
        ),
        (["release", "verify-bundle", "shapes", "--key", "k"], "k is not an Ed25519 public key"),
        (["release", "verify-bundle", "shapes", "--key", "k.pub", "--statement", "k.pub"], "k.pub is damaged, or not"),
    ],
)
def test_wrong_input_is_one_sentence(
    place: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], words: str
) -> None:
    assert run(["key", "make", "k"]) == 0
    (place / "home" / "keys" / "copy").write_bytes((place / "k").read_bytes())
    capsys.readouterr()
    assert run(arguments) == 2
    error = capsys.readouterr().err
    assert words in error
    assert error.count("error: ") == 1
    assert "Traceback" not in error
    assert not (place / "b.zip").exists()
