"""An endpoint is evaluated, gated, released and compared as long as it answers a few fixed requests alike."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.cli.test_external_models import GATE, QUIZ, Shell, shell
from tests.support.endpoint import MODEL, endpoint
from tests.support.tiny_hf import make_clip

from clerestory.apps.loading import load_model, open_stored, privacy_notice, remote_host_of
from clerestory.core.errors import IntegrityError, Undecided
from clerestory.models.adapters import http_client
from clerestory.models.adapters.endpoint_reference import QUESTIONS, fingerprint, reference_digest
from clerestory.models.adapters.openai import Endpoint, open_endpoint
from clerestory.store import open_store

__all__ = ["shell"]  # the fixture
LETTERS = {"A": -0.4, "B": -1.5, "C": -2.5, "D": -3.0}  # an endpoint that scores


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests are tried as often as usual, in less time; ``tests/models/test_openai.py`` checks the waits."""
    monkeypatch.setattr(http_client, "MAX_WAIT_SECONDS", 0.01)


def gate(shell: Shell, ref: str, code: int = 0) -> Any:
    return shell.json("release", "gate", ref, *GATE, code=code)


def test_an_endpoint_goes_through_the_whole_life(shell: Shell, tmp_path: Path) -> None:
    make_clip(tmp_path / "clip")
    with endpoint(logprobs=LETTERS) as served:
        found = shell.json("evaluate", served.ref, *QUIZ)
        digest = found["subject"]["model"]
        assert "CLR-E010" in {finding["code"] for finding in found["findings"]}
        shell.text("evaluate", served.ref, *QUIZ)
        assert shell.suggested == [f"clerestory release gate {digest[:12]} --task mine.toml"]
        released = gate(shell, served.ref)
        assert (released["model"], released["number"]) == (digest, 1)
        assert "cannot be pinned" in released["notes"]["not_pinned"]
        assert released["notes"]["endpoint"] == served.address
        assert int(released["notes"]["fingerprint_requests"]) >= 1
        assert gate(shell, digest[:12])["number"] == 1
        shell.text("release", "promote", "quiz@1", "--why", "first")
        assert "cannot be pinned" in shell.text("release", "show", "quiz@live")
        assert shell.json("release", "verify", "quiz@live")["passed"]
        shell.text("evaluate", "./clip", *QUIZ)
        assert gate(shell, "./clip")["number"] == 2
        shell.json("compare", "./clip", "quiz@live", *QUIZ, "--margin", "0.9")
        page = shell.json("report", served.ref, "--data", "quiz.csv", "--out", "r.html")
        assert json.loads(Path(page["json"]).read_text(encoding="utf-8"))["model"] == digest
        with open_store() as store:
            assert load_model(store, "quiz@live")[0].digest == digest


def test_an_endpoint_that_answers_otherwise_is_another_model(shell: Shell) -> None:
    with endpoint(logprobs=LETTERS) as served:
        shell.text("evaluate", served.ref, *QUIZ)
        first = gate(shell, served.ref)["model"]
        served.content = "another model answers"
        error = shell.text("release", "gate", "quiz@1", *GATE, code=1)
        with open_store() as store:
            with pytest.raises(IntegrityError, match="no longer the model that was evaluated"):
                open_stored(store, first)
            assert load_model(store, served.ref)[0].digest != first
        undecided = gate(shell, served.ref, code=3)
        assert undecided["decision"]["reasons"][0]["cause"] == "not_measured"
        served.content = None
        assert gate(shell, served.ref)["model"] == first, "the answers of before are the model of before"
        assert error is not None


def test_a_busy_endpoint_is_not_taken_for_another_model(shell: Shell) -> None:
    with endpoint() as served, open_store() as store:
        digest = load_model(store, served.ref)[0].digest
        served.moods = ["ok", *["broken"] * 40]  # after the request that tries whether it scores
        assert load_model(store, served.ref)[0].digest == digest


def test_an_endpoint_that_answers_nothing_is_not_taken_for_the_evaluated_model(shell: Shell) -> None:
    with endpoint(logprobs=LETTERS) as served, open_store() as store:
        served.moods = ["ok", *["broken"] * 40]
        unknown = load_model(store, served.ref)[0].digest
        served.moods = []
        shell.text("evaluate", served.ref, *QUIZ)
        digest = gate(shell, served.ref)["model"]
        assert digest != unknown, "answers that were missing are asked for again"
        served.moods = ["ok", *["broken"] * 40]
        with pytest.raises(Undecided, match="answered none of the fixed requests"):
            open_stored(store, digest)


def test_an_answer_that_differs_from_one_request_to_the_next_is_no_part_of_the_fingerprint() -> None:
    with endpoint() as served:
        model = open_endpoint(served.ref)
        assert isinstance(model, Endpoint)
        assert set(fingerprint(model)) == set(QUESTIONS)
        before = model.digest
        model.pin(fingerprint(model))
        assert model.digest == reference_digest(model.reference) != before


def test_the_release_of_a_remote_endpoint_says_where_images_go(tmp_path: Path) -> None:
    folder = tmp_path / "remote"
    folder.mkdir()
    reference = {"endpoint": "https://models.example/v1", "model": MODEL, "parameters": []}
    (folder / "endpoint.json").write_text(json.dumps(reference), encoding="utf-8")
    with open_store(tmp_path / "home") as store:
        digest = store.put_model(folder)
        assert remote_host_of(store.model_folder(digest)) == "models.example"
        assert "sent to models.example" in privacy_notice(digest, store)
