"""Verification finds every changed byte of a release, its evidence and its model."""

from __future__ import annotations

import hashlib
import sqlite3
import subprocess
import sys
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests.support.release_life import ALL, Life, failed, flip

from clerestory.core.errors import IntegrityError
from clerestory.core.evidence import Interval
from clerestory.stages.release import promote, register, rollback, verify
from clerestory.stats.rows import read_rows, write_rows


def test_nothing_damaged_becomes_live(life: Life) -> None:
    first, second = life.release(), life.release()
    weights = life.store.model_folder(first.model) / "model.safetensors"
    flip(weights, 7)
    with pytest.raises(IntegrityError, match=str(weights)):
        promote("icons@1", life.store, "Ada", "x")
    flip(weights, 7)
    promote("icons@1", life.store, "Ada", "x")
    promote("icons@2", life.store, "Ada", "x")
    flip(weights, 7)
    with pytest.raises(IntegrityError, match=str(weights)):
        rollback("icons", life.store, "Ada", "x")
    assert life.live() == (second.number, first.number)


# Verification.


def test_a_sound_release_is_verified_with_what_was_checked(life: Life) -> None:
    release = life.release()
    promote("icons@1", life.store, "Ada", "good")
    findings = verify("icons@live", life.store)
    assert {finding.state for finding in findings} == {"pass"}
    said = " / ".join(finding.message for finding in findings)
    for words in (
        "2 files match the digest",
        "4 numbers are reproduced from 640 rows",
        f"{ALL} rules give ship again",
        "the chain of 3 records is intact",
    ):
        assert words in said
    assert failed(verify(release.model[:10], life.store)) == [], "a model without a release is verified too"


def test_a_refused_and_an_undecided_release_are_verified_too(life: Life) -> None:
    life.release(0.1)
    model = life.model()
    life.evaluated(model, code="0" * 64)
    register("icons", life.decide(model), life.store, "Ada", "stale")
    register("icons", life.decide(life.model()), life.store, "Ada", "missing")
    for number in (1, 2, 3):
        assert failed(verify(f"icons@{number}", life.store)) == []
    (stale,) = [finding for finding in verify("icons@2", life.store) if finding.state == "warn"]
    assert (stale.code, stale.details["changed"]) == ("CLR-R003", ("code",))


def test_a_flipped_byte_anywhere_in_model_or_evidence_is_refused_and_its_file_named(life: Life) -> None:
    release = life.release()
    (evidence,) = life.store.find_evidence("evaluate")
    folder = life.store.model_folder(release.model)
    blobs = [evidence.id, evidence.rows, evidence.artifacts["examples"], release.decision.policy_digest]
    files = [folder / "config.json", folder / "model.safetensors", *map(life.store.blobs.path, blobs)]
    for path in files:
        size = path.stat().st_size
        for at in (0, size // 3, size - 1):
            flip(path, at)
            wrong = failed(verify("icons@1", life.store))
            assert str(path) in {finding.where for finding in wrong}, f"{path.name}, byte {at}"
            flip(path, at)
        content = path.read_bytes()
        path.unlink()
        assert str(path) in {finding.where for finding in failed(verify("icons@1", life.store))}
        path.write_bytes(content)
    assert failed(verify("icons@1", life.store)) == []


def test_a_number_that_does_not_follow_from_its_rows_is_found(life: Life) -> None:
    model = life.model()
    honest = life.evaluated(model, share=0.3)
    claims = list(honest.measurements)
    claims[0] = replace(claims[0], value=0.9, interval=Interval(0.8, 0.95, "t"))
    life.store.put_evidence(replace(honest, measurements=tuple(claims)))
    decision = life.decide(model)
    assert decision.reasons[0].outcome == "pass", "the gate takes evidence at its word"
    register("icons", decision, life.store, "Eve", "trust me")
    (finding,) = failed(verify("icons@1", life.store))
    assert finding.code == "CLR-R001"
    assert "recall@10[split=test, task=image_to_text] is 0.9 (n = 200), but the rows give 0.3" in finding.message


def test_swapped_rows_are_found(life: Life) -> None:
    model = life.model()
    honest = life.evaluated(model, share=0.7)
    rows = read_rows(life.store.blobs.get(honest.rows))
    rows["concept"] = np.array([f"{name}x" if i % 2 else name for i, name in enumerate(rows["concept"])], dtype=object)
    rows["concept"][:100] = "one"
    life.store.put_evidence(replace(honest, rows=life.store.blobs.put(write_rows(rows))))
    register("icons", life.decide(model), life.store, "Eve", "x")
    assert {finding.code for finding in failed(verify("icons@1", life.store))} == {"CLR-R001"}


def test_a_decision_that_does_not_follow_from_its_evidence_is_found(life: Life) -> None:
    model = life.model()
    life.evaluated(model, share=0.1)
    honest = life.decide(model)
    bent = tuple(replace(reason, outcome="pass") for reason in honest.reasons)
    register("icons", replace(honest, verdict="ship"), life.store, "Eve", "only the verdict")
    register("icons", replace(honest, verdict="ship", reasons=bent), life.store, "Eve", "the reasons too")
    register("icons", replace(honest, verdict="ship", reasons=bent[3:]), life.store, "Eve", "the bad ones left out")
    told = [{finding.message for finding in failed(verify(f"icons@{number}", life.store))} for number in (1, 2, 3)]
    assert told[0] == {"the recorded verdict is ship, the rules give refuse"}
    assert "the rule 'captions of unseen concepts' is recorded as pass, the evidence gives fail" in told[1]
    assert told[2] == {f"its reasons are not those of the {ALL} rules of its policy"}


def test_evidence_of_a_better_model_cannot_be_borrowed(life: Life) -> None:
    good, bad = life.model(), life.model()
    life.evaluated(good)
    register("icons", replace(life.decide(good), model=bad), life.store, "Eve", "x")
    assert failed(verify("icons@1", life.store))[0].code == "CLR-R002"


def test_a_release_or_journal_changed_in_the_database_is_found(life: Life) -> None:
    life.release(0.1)
    with closing(sqlite3.connect(life.store.home / "store.db")) as connection, connection:
        for name in ("releases_no_update", "journal_no_update"):
            connection.execute(f"DROP TRIGGER {name}")
        connection.execute("""UPDATE releases SET body = replace(body, '"verdict":"refuse"', '"verdict":"ship"')""")
    with pytest.raises(IntegrityError, match="icons@1 differs from the one in the journal"):
        promote("icons@1", life.store, "Eve", "it says ship")
    assert "CLR-S001" in {finding.code for finding in failed(verify("icons@1", life.store))}
    with closing(sqlite3.connect(life.store.home / "store.db")) as connection, connection:
        connection.execute("UPDATE journal SET record = replace(record, 'Ada', 'Eve') WHERE seq = 2")
    assert "CLR-S004" in {finding.code for finding in failed(verify("icons@1", life.store))}


def test_the_text_tower_a_model_names_is_checked(life: Life, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("clerestory.models.text_tower")
    tower = tmp_path / "tower"
    tower.mkdir()
    weights = tower / "model.safetensors"
    weights.write_bytes(b"the weights of a tower")
    monkeypatch.setenv("CLERESTORY_TEXT_TOWER", str(tower))
    model = life.model(text_tower_digest=hashlib.sha256(weights.read_bytes()).hexdigest())

    def states() -> dict[str, str]:
        return {f.where: f.state for f in verify(model, life.store) if f.code == "CLR-R004"}

    assert states() == {"text tower": "pass"}
    flip(weights, 3)
    assert states() == {"text tower": "fail"}
    weights.unlink()
    assert states() == {"text tower": "not_run"}


def test_release_does_not_import_torch() -> None:
    heavy = "import sys, clerestory.stages.release; print('torch' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", heavy], text=True) == "False\n"
