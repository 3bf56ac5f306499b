"""``clerestory data accept``: what an audit says and returns afterwards."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path

import pytest
from tests.support.faulty_data import jpeg, scene

from clerestory.cli.main import run
from clerestory.core.codec import Tags
from clerestory.core.release import Event
from clerestory.store import open_store
from clerestory.store.acceptances import today

LATER = (today() + timedelta(days=90)).isoformat()
KNOWN = ["--set", "licences.allow_unknown=true"]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Six images; one of the test split is also in the training split."""
    monkeypatch.setenv("CLERESTORY_HOME", str(tmp_path / "home"))
    for split, seeds in {"train": (1, 2, 3), "test": (1, 4, 5)}.items():
        (tmp_path / "data" / split).mkdir(parents=True)
        for seed in seeds:
            (tmp_path / "data" / split / f"{split}{seed}.jpg").write_bytes(jpeg(scene(seed)))
    return tmp_path / "data"


def findings_of(folder: Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, dict[str, str]]:
    capsys.readouterr()
    code = run(["data", "audit", str(folder), *KNOWN, "--json"])
    return code, {each["code"]: each["state"] for each in json.loads(capsys.readouterr().out)["findings"]}


def test_an_accepted_problem_is_no_longer_a_no_until_it_grows(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["data", "accept", str(folder), "CLR-A017", "--why", "demo", "--expires", LATER]) == 2
    assert "has not been audited" in capsys.readouterr().err
    assert findings_of(folder, capsys)[0] == 1
    assert run(["data", "accept", str(folder), "a017", "--why", "a demo", "--expires", LATER, "--who", "Ada"]) == 0
    code, states = findings_of(folder, capsys)
    assert (code, states["CLR-A017"]) == (0, "accepted")
    assert run(["data", "audit", str(folder), *KNOWN, "--report", str(folder.parent / "audit.html")]) == 0
    assert f"accepted by Ada until {LATER}: a demo" in capsys.readouterr().out
    assert f"Accepted by Ada until {LATER}: a demo." in (folder.parent / "audit.html").read_text()
    (evidence, *_) = open_store().find_evidence("audit")
    assert {each.state for each in evidence.findings if each.code == "CLR-A017"} == {"fail"}  # as measured
    (folder / "test" / "test2.jpg").write_bytes(jpeg(scene(2)))
    code, states = findings_of(folder, capsys)
    assert (code, states["CLR-A017"]) == (1, "fail")
    assert run(["data", "audit", str(folder), *KNOWN]) == 1
    assert "open again: Ada accepted it when it concerned 1" in capsys.readouterr().out


def test_a_named_sample_stays_accepted_when_others_come(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(["data", "audit", str(folder), *KNOWN])
    accept = ["data", "accept", str(folder), "CLR-A017", "--why", "a demo", "--expires", LATER]
    assert run([*accept, "--sample", "test/test9.jpg"]) == 2
    assert run([*accept, "--sample", "test/test4.jpg"]) == 2
    assert "does not concern" in capsys.readouterr().err
    assert run([*accept, "--sample", "test/test1.jpg"]) == 0
    assert findings_of(folder, capsys)[0] == 0
    (folder / "test" / "test2.jpg").write_bytes(jpeg(scene(2)))
    assert findings_of(folder, capsys)[0] == 1
    assert run([*accept, "--sample", "test/test2.jpg"]) == 0
    assert findings_of(folder, capsys)[0] == 0
    assert run(["data", "accept", str(folder), "CLR-A017", "--withdraw", "--sample", "test/test1.jpg"]) == 2
    assert run(["data", "accept", str(folder), "A017", "--withdraw", "--sample", "test/test1.jpg", "--why", "no"]) == 0
    assert findings_of(folder, capsys)[0] == 1


def test_an_expired_acceptance_is_open_again_and_the_line_says_so(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    details = Tags(code="CLR-A017", expires="2026-01-31", count="1", digest="", samples="[]")
    when = "2026-01-01T00:00:00+00:00"
    open_store().journal.append(Event("finding_accepted", str(folder), "Ada", "for a month", when, details))
    assert run(["data", "audit", str(folder), *KNOWN]) == 1
    assert "open again: the acceptance by Ada expired on 2026-01-31 (for a month)" in capsys.readouterr().out
    assert run(["data", "accept", str(folder), "--list"]) == 0
    assert "expired" in capsys.readouterr().out


def test_what_was_accepted_for_a_folder_holds_for_its_name(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(["data", "audit", str(folder), *KNOWN])
    assert run(["data", "accept", str(folder), "CLR-A017", "--why", "a demo", "--expires", LATER]) == 0
    assert run(["data", "add", str(folder), "--name", "mine"]) == 0
    assert run(["data", "audit", "mine", *KNOWN]) == 0
    other = folder.parent / "other" / "data"
    other.parent.mkdir()
    folder.rename(other)
    assert run(["data", "audit", str(other), *KNOWN]) == 1  # another place of the same name


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["CLR-A0177", "--why", "x", "--expires", LATER], "did you mean: CLR-A017"),
        (["CLR-A017", "--why", "x", "--expires", "2020-02-02"], "has passed"),
        (["CLR-A017", "--why", "x"], "needs an expiry"),
        (["CLR-A017", "--expires", LATER], "needs a reason"),
        (["CLR-A002", "--why", "x", "--expires", LATER], "has no open finding CLR-A002"),
        (["--why", "x", "--expires", LATER], "needs the code of a finding"),
        (["CLR-A017", "--withdraw", "--why", "x"], "no such acceptance"),
    ],
)
def test_wrong_input_is_one_sentence(
    folder: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], sentence: str
) -> None:
    run(["data", "audit", str(folder), *KNOWN])
    capsys.readouterr()
    assert run(["data", "accept", str(folder), *arguments]) == 2
    assert sentence in capsys.readouterr().err
    assert run(["data", "accept", "nodata", *arguments]) == 2
    assert "does not exist" in capsys.readouterr().err
