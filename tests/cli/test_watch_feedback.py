"""``clerestory watch feedback|requests|trace|erase`` on a store with a small request log."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from tests.support.released_store import released_store
from tests.support.served_requests import DAY, prediction, verdict, write_feedback, write_predictions

from clerestory.cli.main import run
from clerestory.store import open_store
from clerestory.store.operations.keyed_hash import KeyedHash
from clerestory.store.operations.prediction import Prediction


@pytest.fixture
def home(tmp_path: Path) -> Path:
    with open_store(tmp_path / "home") as store:
        release = released_store(store, tmp_path, count=1)[0]
        assert release.number == 1
    return tmp_path / "home"


def answered(home: Path, count: int = 5) -> list[Prediction]:
    now = time.time() + 2
    with open_store(home) as store:
        model = store.release("icons", 1).model
        subject = KeyedHash(store.files).of_subject("ada")
        items = [prediction(at=now - i, label="cat", model=model, subject=subject) for i in range(count)]
        write_predictions(store, items)
        write_feedback(store, [verdict(items[0].response, "wrong")], now)
    return items


def result(home: Path, capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, object]:
    capsys.readouterr()
    code = run(["watch", *arguments, "--home", str(home), "--json"])
    return code, json.loads(capsys.readouterr().out)


def test_late_labels_are_added_once_and_joined(home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    items = answered(home)
    file = tmp_path / "late.csv"
    lines = [f"{item.response},label,{'cat' if i else 'dog'}" for i, item in enumerate(items)]
    file.write_text("response,kind,value\n" + "\n".join([*lines, "resp_unknown,label,cat", "x,nonsense,cat"]))
    code, done = result(home, capsys, "feedback", "add", str(file))
    assert isinstance(done, dict)
    assert (code, done["added"], done["rejected"]) == (1, 5, 2)
    assert [each["line"] for each in done["problems"]] == [7, 8]
    _, again = result(home, capsys, "feedback", "add", str(file))
    assert isinstance(again, dict)
    assert (again["added"], again["known"]) == (0, 5)
    _, rows = result(home, capsys, "feedback", "--period", "month")
    assert isinstance(rows, list)
    assert sum(row["labelled"] for row in rows) == 5
    assert {row["version"] for row in rows} == {"icons@1"}
    assert run(["watch", "feedback", "--home", str(home)]) == 0
    assert "5 of 5 (100 %)" in capsys.readouterr().out
    file.write_text("response,kind\n")
    assert run(["watch", "feedback", "add", str(file), "--home", str(home)]) == 2
    assert "lacks the column 'value'" in capsys.readouterr().err


def test_requests_are_listed_and_exported(home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    items = answered(home)
    _, listed = result(home, capsys, "requests", "--limit", "2")
    assert isinstance(listed, list)
    assert len(listed) == 2
    _, some = result(home, capsys, "requests", "--with-feedback")
    assert isinstance(some, list)
    assert [each["response"] for each in some] == [items[0].response]
    _, none = result(home, capsys, "requests", "--subject", "grace")
    assert none == []
    out = tmp_path / "requests.csv"
    assert run(["watch", "requests", "--out", str(out), "--home", str(home)]) == 0
    assert out.read_text("utf-8-sig").count("resp_") >= 5
    assert run(["watch", "requests", "--out", str(out), "--home", str(home)]) == 2
    assert run(["watch", "requests", "--since", "yesterday", "--home", str(home)]) == 2


def test_a_trace_leads_from_the_request_to_the_people(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    items = answered(home)
    code, trace = result(home, capsys, "trace", items[0].response[:16])
    assert isinstance(trace, dict)
    found = {item["topic"]: item for item in trace["items"]}
    assert found["promotion"]["answer"].startswith("grace")
    assert "the first" in found["promotion"]["answer"]
    assert "ship" in found["gate"]["answer"]
    assert "wrong" in found["feedback"]["lines"][0]
    assert (found["training"]["state"], found["rollout"]["state"]) == ("missing", "none")
    assert code == 3  # the training is not recorded
    with open_store(home) as store:
        old = prediction(at=time.time() - 400 * DAY)
        write_predictions(store, [old])
    _, trace = result(home, capsys, "trace", old.response)
    assert isinstance(trace, dict)
    found = {item["topic"]: item for item in trace["items"]}
    assert found["promotion"]["state"] == "missing"
    assert "is another model" in found["model"]["answer"]
    assert run(["watch", "trace", "resp_ffffffff", "--home", str(home)]) == 2


def test_a_user_is_erased(home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clerestory.store.operations.retention.time.sleep", lambda seconds: None)
    answered(home)
    assert run(["watch", "erase", "--subject", "ada", "--home", str(home)]) == 2  # no reason
    _, done = result(home, capsys, "erase", "--subject", "ada", "--why", "ticket 7")
    assert isinstance(done, dict)
    assert (done["requests"], done["feedback"]) == (5, 1)
    _, listed = result(home, capsys, "requests")
    assert listed == []
