"""Any model by reference over a folder of pictures: loading, searching, describing, and what is said about it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image
from tests.support.endpoint import MODEL, endpoint
from tests.support.forked import run_command
from tests.support.images import write_circle_images
from tests.support.tiny_hf import make_clip, make_llava
from tests.support.tiny_model import make_tiny_model

import clerestory as cl
from clerestory.apps.captioning import caption_images
from clerestory.apps.loading import CLERESTORY_CAPABILITIES, load_model, privacy_notice
from clerestory.apps.search import build_index, search
from clerestory.core.errors import CapabilityError, InputError, NotFound
from clerestory.data import open_data
from clerestory.models import capabilities, require_capability
from clerestory.store import Store

CLERESTORY = Path(sys.executable).with_name("clerestory")
COLOURS = ("red", "blue", "green", "yellow")


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photographs")
    return write_circle_images(folder, *COLOURS, shift=1)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    make_clip(folder / "clip")
    make_llava(folder / "llava")
    return folder


def test_a_folder_of_photographs_is_searched_with_a_clip(store: Store, photographs: Path, models: Path) -> None:
    loaded, resolved = load_model(store, f"hf:{models / 'clip'}")
    assert resolved.digest == loaded.digest
    assert resolved.release is None
    model, data = require_capability(loaded, "Embedder"), open_data(photographs)
    hits = search(model, build_index(model, data, store), "a red circle", 4)
    assert {hit.sample.id for hit in hits} == {sample.id for sample in data}
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
    with pytest.raises(CapabilityError, match="captioning needs a model that can generate captions"):
        caption_images(loaded, [Image.new("RGB", (9, 9))])


def test_the_python_interface_opens_every_reference_that_commands_take(store: Store, tmp_path: Path) -> None:
    folder = make_tiny_model(tmp_path / "tiny")
    digest = store.put_model(folder)
    assert {cl.open_model(ref, store).digest for ref in (folder, str(folder), digest, digest[:12])} == {digest}
    assert cl.open_model("starter").digest == load_model(store, "starter")[0].digest


@pytest.mark.parametrize("ref", ["startr", "stater", "Starter"])
def test_a_misspelt_starter_is_suggested(store: Store, ref: str) -> None:
    with pytest.raises(NotFound) as error:
        load_model(store, ref)
    assert error.value.closest == ("starter",)


def test_evaluating_a_name_says_to_open_the_model(store: Store, photographs: Path) -> None:
    with pytest.raises(InputError, match="'starter' names a model; evaluate needs it open"):
        cl.evaluate("starter", open_data(photographs), cl.EvaluateConfig(), store)


def test_a_trained_model_has_the_declared_capabilities(store: Store, tmp_path: Path) -> None:
    folder = make_tiny_model(tmp_path / "tiny")
    by_folder, _ = load_model(store, str(folder))
    by_digest, _ = load_model(store, store.put_model(folder))
    assert capabilities(by_folder) == CLERESTORY_CAPABILITIES
    assert by_folder.digest == by_digest.digest


def test_a_folder_needs_no_dot_unless_a_release_has_its_name(
    store: Store, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(models)
    assert load_model(store, "clip")[0].digest == load_model(store, "./clip")[0].digest
    assert load_model(store, "hf:clip")[0].digest == load_model(store, "hf:./clip")[0].digest


def test_an_unknown_reference_is_an_error_of_one_sentence(store: Store) -> None:
    with pytest.raises(NotFound, match="hf:openai/clip"):
        load_model(store, "openai/clip")
    with pytest.raises(NotFound, match="has no model name"):
        load_model(store, "hf:")


def test_a_remote_host_is_announced() -> None:
    assert "api.example.com" in privacy_notice("openai:https://api.example.com/v1#m")
    assert privacy_notice("openai:http://127.0.0.1:1/v1#m") == privacy_notice("hf:a/b") == privacy_notice("") == ""


def run(folder: Path, *arguments: str, code: int = 0, **more: str) -> subprocess.CompletedProcess[str]:
    """Run a command; with variables of the hub in a process that loads its client anew."""
    home = {"CLERESTORY_HOME": str(folder / "home"), "CLERESTORY_WHO": "Ann", "NO_COLOR": "1"}
    environment = {**os.environ, **home, **more}
    if "HF_HOME" in more:
        done = subprocess.run(
            [CLERESTORY, *arguments],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
    else:
        done = run_command(*arguments, folder=folder, environment=environment)
    assert done.returncode == code, (done.stdout, done.stderr)
    assert "Traceback" not in done.stderr
    return done


def test_the_command_line_searches_with_a_folder(tmp_path: Path, photographs: Path, models: Path) -> None:
    chosen = ("--model", str(models / "clip"), "--data", str(photographs), "--json")
    found = json.loads(run(tmp_path, "use", "search", "blue", "circle", *chosen).stdout)
    assert len(found) == len(COLOURS)


def test_the_command_line_describes_through_an_endpoint(tmp_path: Path, photographs: Path) -> None:
    with endpoint() as server:
        picture = str(photographs / "red circle.png")
        done = run(tmp_path, "use", "describe", picture, "--model", server.ref, "--json")
        suggestion = json.loads(done.stdout)[0]["suggestions"][0]
        assert "Write 3 different short captions" in suggestion["text"]
        assert suggestion["score"] is None
        server.always = "refuses"
        done = run(tmp_path, "use", "describe", picture, "--model", server.ref, code=1)
        assert "pictures are not taken" in done.stderr


def test_without_a_network_the_error_explains_how_to_copy_a_model(tmp_path: Path, photographs: Path) -> None:
    offline = {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "hub")}
    arguments = ("use", "search", "x", "--model", "hf:openai/clip-vit-base-patch32", "--data", str(photographs))
    done = run(tmp_path, *arguments, code=2, **offline)
    assert "is not on this machine" in done.stderr
    assert "hf download openai/clip-vit-base-patch32" in done.stderr
    assert "hf:./clip-vit-base-patch32" in done.stderr


def test_a_model_in_the_cache_of_the_hub_needs_no_network(tmp_path: Path, photographs: Path, models: Path) -> None:
    commit = "0123456789abcdef0123456789abcdef01234567"
    place = tmp_path / "hub" / "hub" / "models--someone--tiny-clip"
    shutil.copytree(models / "clip", place / "snapshots" / commit)
    (place / "refs").mkdir()
    (place / "refs" / "main").write_text(commit, encoding="utf-8")
    environment = {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "hub")}
    arguments = ("use", "search", "red", "--data", str(photographs), "--json", "--model")
    by_name = run(tmp_path, *arguments, "hf:someone/tiny-clip", **environment)
    by_folder = run(tmp_path, *arguments, f"hf:{models / 'clip'}")
    assert json.loads(by_name.stdout) == json.loads(by_folder.stdout)


def test_the_command_line_announces_a_remote_host(tmp_path: Path, photographs: Path) -> None:
    with endpoint() as server:
        picture = str(photographs / "red circle.png")
        # 0.0.0.0 reaches this computer, but is no loopback address: it counts as another computer.
        elsewhere = server.ref.replace("127.0.0.1", "0.0.0.0")
        done = run(tmp_path, "use", "describe", picture, "--model", elsewhere, NO_PROXY="*")
        assert "notice: images and text are sent to 0.0.0.0, which is another computer" in done.stderr
        done = run(tmp_path, "use", "describe", picture, "--model", server.ref)
        assert "another computer" not in done.stderr


def test_an_unknown_model_of_an_endpoint_is_an_error_of_one_sentence(tmp_path: Path, photographs: Path) -> None:
    with endpoint() as server:
        ref = server.ref.replace(MODEL, "tiny-visoin")
        done = run(tmp_path, "use", "describe", str(photographs / "red circle.png"), "--model", ref, code=2)
        assert f"did you mean: {MODEL}" in done.stderr
