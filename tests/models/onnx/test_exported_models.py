"""Models exported to ONNX answer as their sources do, and only an export that the journal names is opened."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image
from tests.support.shared import shared_folder

pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")
pytest.importorskip("onnxscript", reason="the extra onnx is not installed")

from clerestory.apps.exported_models import RUNTIME, export_onnx, find_export, open_export
from clerestory.apps.loading import load_model, open_stored
from clerestory.apps.registration import stored_model
from clerestory.core.errors import CapabilityError, ConfigError, IntegrityError
from clerestory.core.release import Event
from clerestory.models import Captioner, Embedder
from clerestory.models.onnx.export import MIN_COSINE, TEXTS, compare, test_images
from clerestory.models.onnx.folder import IMAGE_GRAPH
from clerestory.store import Store, open_store

test_images.__test__ = False  # type: ignore[attr-defined]  # it makes images, and tests nothing

# What a server does without; importing one of these fails as if it were not installed.
BLOCKED = ("torch", "transformers", "scipy", "pyarrow", "phonenumbers", "pandas", "huggingface_hub")
BLOCKING_SERVER = f"""
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {BLOCKED!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Blocked())
from clerestory.cli.main import main
main()
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with the exports of the starter and of photos; three exports take half a minute."""

    def make(folder: Path) -> None:
        with open_store(folder / "home") as store:
            for ref in ("starter", "photos"):
                digest = stored_model(store, ref)
                export_onnx(store, open_stored(store, digest), ref)

    return shared_folder(tmp_path_factory, "exported", make) / "home"


def start(home: Path, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", BLOCKING_SERVER, *arguments, "--home", str(home)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def cosines(first: np.ndarray[Any, Any], second: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    products: np.ndarray[Any, Any] = (first * second).sum(axis=1)
    return products


@pytest.mark.parametrize("ref", ["starter", "photos"])
def test_an_export_answers_as_its_source_does(home: Path, ref: str) -> None:
    with open_store(home) as store:
        digest = stored_model(store, ref)
        source, exported = open_stored(store, digest), open_export(store, digest, ref)
    assert isinstance(source, Embedder)
    assert exported.digest == source.digest == digest
    images = [*test_images(), Image.new("RGB", (7, 300), "red"), Image.new("P", (1, 1))]
    for dim in source.dims:
        assert cosines(source.embed_images(images, dim), exported.embed_images(images, dim)).min() >= MIN_COSINE
        assert cosines(source.embed_texts(TEXTS, dim), exported.embed_texts(TEXTS, dim)).min() >= MIN_COSINE
    assert exported.embed_images([]).shape == exported.embed_texts([]).shape == (0, source.dims[-1])
    expected = {**source.facts(), "runtime": "onnxruntime"}
    assert exported.facts() == expected
    if isinstance(source, Captioner):
        assert isinstance(exported, Captioner)
        texts = [[[c.text for c in each] for each in m.caption_images(images, 2)] for m in (source, exported)]
        assert texts[0] == texts[1]
        scores = [[c.score for each in m.caption_images(images, 2) for c in each] for m in (source, exported)]
        np.testing.assert_allclose(scores[0], scores[1], rtol=1e-3)


def test_a_second_export_returns_the_first(home: Path) -> None:
    with open_store(home) as store:
        digest = stored_model(store, "starter")
        records = len(store.journal.records(digest, kinds=("exported",)))
        again = export_onnx(store, open_stored(store, digest), "starter")
        assert len(store.journal.records(digest, kinds=("exported",))) == records == 1
        assert again.comparison is not None
        assert again.comparison.equal_captions == again.comparison.captions > 0


def test_a_model_that_answers_differently_is_refused(home: Path) -> None:
    with open_store(home) as store:
        digest = stored_model(store, "starter")
        source, exported = open_stored(store, digest), open_export(store, digest, "starter")
    exported._arrays["rotation"] = np.roll(exported._arrays["rotation"], 1, axis=1)
    with pytest.raises(IntegrityError, match="answers differently"):
        compare(source, exported, test_images()[:2])


@pytest.fixture
def own_home(home: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    subprocess.run(["cp", "-r", str(home), str(tmp_path / "home")], check=True)
    return tmp_path / "home"


def test_a_changed_file_of_an_export_is_refused(own_home: Path) -> None:
    with open_store(own_home) as store:
        digest = stored_model(store, "starter")
        folder = find_export(store, digest)
        assert folder is not None
        graph = folder / IMAGE_GRAPH
        content = bytearray(graph.read_bytes())
        content[len(content) // 2] ^= 1
        graph.write_bytes(content)
        with pytest.raises(IntegrityError, match="has changed"):
            open_export(store, digest, "starter")


def test_an_export_that_the_journal_does_not_name_is_refused(own_home: Path, tmp_path: Path) -> None:
    with open_store(own_home) as store:
        digest = stored_model(store, "starter")
        folder = find_export(store, digest)
        assert folder is not None
        other = tmp_path / "other"
        subprocess.run(["cp", "-r", str(folder), str(other)], check=True)
        settings = json.loads((other / "config.json").read_text(encoding="utf-8"))
        (other / "config.json").write_text(json.dumps({**settings, "logit_scale": 1.0}), encoding="utf-8")
        forged = store.put_model(other)
        store.cache_put(f"onnx/1/{digest}", store.blobs.put(json.dumps({"export": forged}).encode()))
        with pytest.raises(IntegrityError, match="the journal does not name"):
            find_export(store, digest)


def test_the_runtime_can_be_chosen(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(RUNTIME, "onnx")
    with open_store(home) as store:
        model, resolved = load_model(store, "starter")
        assert model.facts()["runtime"] == "onnxruntime"
        assert resolved.digest == model.digest
        monkeypatch.setenv(RUNTIME, "tensorflow")
        with pytest.raises(ConfigError, match="CLERESTORY_RUNTIME is 'tensorflow'"):
            load_model(store, "starter")


def test_a_model_without_an_export_is_named_with_the_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(RUNTIME, "onnx")
    with open_store(tmp_path / "home") as store, pytest.raises(CapabilityError) as caught:
        load_model(store, "starter")
    assert "has no export to ONNX" in caught.value.message
    assert "clerestory release export starter --onnx" in caught.value.fix


def test_a_server_runs_without_torch_scipy_and_pyarrow(home: Path) -> None:
    process = start(home, "serve", "--model", "starter", "--data", "none", "--port", "0", "--json")
    try:
        assert process.stdout is not None
        url = json.loads(_json_text(process))["url"].rstrip("/")
        with httpx.Client(base_url=url, timeout=60) as client, open_store(home) as store:
            _wait_ready(client)
            source, _ = load_model(store, "starter")
            assert isinstance(source, Embedder)
            body = {"input": list(TEXTS), "model": "starter"}
            answer = client.post("/v1/embeddings", json=body)
            assert answer.status_code == 200, answer.text
            rows = np.array([each["embedding"] for each in answer.json()["data"]], np.float32)
            assert cosines(rows, source.embed_texts(TEXTS)).min() >= MIN_COSINE
            assert answer.json()["usage"]["prompt_tokens"] > len(TEXTS)
            for path in ("/describe", "/releases", "/data", "/governance", "/v1/models", "/openapi.json", "/healthz"):
                assert client.get(path).status_code == 200, path
            assert client.get("/v1/models/starter").json()["facts"]["runtime"] == "onnxruntime"
    finally:
        process.terminate()
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    assert "Traceback" not in errors


def test_a_command_that_needs_torch_says_what_to_install(home: Path) -> None:
    process = start(home, "release", "export", "starter", "--onnx")
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 2
    assert errors.startswith("error: exporting a model needs torch")
    assert "Traceback" not in output + errors


def test_the_journal_records_who_exported(home: Path) -> None:
    with open_store(home) as store:
        event = _exported(store)
        assert event.who
        assert event.details["runtime"] == "onnx"


def _exported(store: Store) -> Event:
    return store.journal.records(stored_model(store, "starter"), kinds=("exported",))[0].event


def _json_text(process: subprocess.Popen[str]) -> str:
    """The JSON object that the server prints when it listens."""
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line)
        try:
            json.loads("".join(lines))
        except ValueError:
            continue
        return "".join(lines)
    raise AssertionError(process.communicate()[1])


def _wait_ready(client: httpx.Client) -> None:
    until = time.monotonic() + 120
    while client.get("/readyz").status_code != 200:
        assert time.monotonic() < until, client.get("/readyz").text
        time.sleep(0.05)
