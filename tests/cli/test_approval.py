"""``clerestory release request``, ``approve``, ``decline`` and what ``show``, ``list`` and ``promote`` say of them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.support.release_life import BOUNDS, DATA, Life

from clerestory.cli.main import run
from clerestory.core.release import ApprovalPolicy, Policy
from clerestory.report import build, collect
from clerestory.report.sign_page import sign_page
from clerestory.stages.release import gate, register
from clerestory.store import Store
from clerestory.store.signing.keys import make_key
from clerestory.web.releases import _release_view


@pytest.fixture
def home(store: Store, tmp_path: Path) -> str:
    """A store with a release that needs two approvals."""
    life = Life(store, tmp_path / "models")
    model = life.model()
    life.evaluated(model)
    policy = Policy("icons", BOUNDS, approval=ApprovalPolicy(2))
    register("icons", gate(model, store, policy, DATA), store, "Ada", "the first")
    return str(store.home)


def test_from_request_to_promotion(home: str, capsys: pytest.CaptureFixture[str]) -> None:
    def release(*words: str) -> int:
        capsys.readouterr()
        return run(["release", *words, "--home", home])

    why = ("--why", "because")
    assert release("promote", "icons@1", *why, "--who", "Eve") == 1
    err = capsys.readouterr().err
    assert "icons@1 cannot be promoted: nobody has requested the approval of icons@1" in err
    assert "clerestory release request icons@1 --why" in err
    assert release("approve", "icons@1", *why, "--who", "Bob") == 2
    assert release("request", "icons@1", *why, "--who", "Rita") == 0
    assert "next: clerestory release approve icons@1" in capsys.readouterr().err
    assert release("approve", "icons@1", *why, "--who", "rita") == 1
    assert release("approve", "icons@1", *why, "--who", "Bob", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["missing"], found["standing"]) == (1, "Pending: 1 of 2 approvals given.")
    assert release("promote", "icons@1", *why, "--who", "Eve") == 1
    assert "a person other than Ada, Rita and Bob runs: clerestory release approve" in capsys.readouterr().err
    assert release("approve", "icons@1", *why, "--who", "Carol") == 0
    assert release("promote", "icons@1", *why, "--who", "Ada") == 1
    assert release("promote", "icons@1", *why, "--who", "Eve") == 0
    assert release("show", "icons@1", "--json") == 0
    approval = json.loads(capsys.readouterr().out)["approval"]
    assert [each["who"] for each in approval["approvals"]] == ["Bob", "Carol"]
    assert (approval["request"]["who"], approval["promoted"]["who"], approval["next"]) == ("Rita", "Eve", "")
    assert release("list") == 0
    out = capsys.readouterr().out
    assert "approved by" in out
    assert "Bob and Carol" in out


def test_decline_and_a_signed_approval(home: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    key = make_key(tmp_path / "bob", "Bob").path
    (Path(home) / "approvers.toml").write_text(f'[[approvers]]\nname = "Bob"\nkey = "{key}.pub"\n', encoding="utf-8")
    common = ("icons@1", "--why", "because", "--home", home)
    assert run(["release", "request", *common, "--who", "Ada"]) == 0
    capsys.readouterr()
    assert run(["release", "approve", *common, "--key", str(key), "--json"]) == 0
    [given] = json.loads(capsys.readouterr().out)["approvals"]
    assert (given["who"], given["identity"]) == ("Bob", "verified")
    assert run(["release", "decline", *common, "--who", "Dora"]) == 0
    assert "Declined by Dora." in capsys.readouterr().out
    assert run(["release", "promote", *common, "--who", "Eve"]) == 1
    assert "Dora declined icons@1" in capsys.readouterr().err


def test_a_declined_release_is_declined_first_everywhere(
    home: str, store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    common = ("icons@1", "--why", "because", "--home", home)
    assert run(["release", "request", *common, "--who", "Rita"]) == 0
    for person in ("Bob", "Dan"):
        assert run(["release", "approve", *common, "--who", person]) == 0
    capsys.readouterr()
    assert run(["release", "promote", *common, "--who", "Eve"]) == 0
    assert "Bob and Dan: both recorded by the account" in capsys.readouterr().out
    assert run(["release", "show", "icons@1", "--home", home]) == 0
    assert "a stated name is not checked" in " ".join(capsys.readouterr().out.split())
    assert run(["release", "decline", "icons@1", "--why", "wrong labels", "--who", "Carol", "--home", home]) == 0
    page = build(collect(store, "icons@1"))
    assert (page.decision.state, page.decision.word) == ("no", "Declined")
    assert page.decision.title.startswith("Carol declined icons@1 on ")
    assert page.decision.title.endswith(": “wrong labels”")
    assert page.decision.lines[0] == "The verdict of the gate stays “Yes”: icons@1 may ship, and it is live."
    summary = sign_page(collect(store, "icons@1"), store)
    assert (summary.state, summary.word, summary.title) == ("no", "Declined", page.decision.title)
    view = _release_view(store, store.release("icons", 1))
    assert view.label.text == "Declined"
    assert view.summary.startswith("Carol declined icons@1 on ")
    assert run(["release", "request", *common, "--who", "Rita"]) == 0
    assert build(collect(store, "icons@1")).decision.word == "Yes", "a new request takes the refusal back"
