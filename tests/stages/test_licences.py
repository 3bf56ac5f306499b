"""The licences of a model as evidence, on the gate and on the command line."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from tests.report.world import make_world

from clerestory.apps.starter import add_starter
from clerestory.cli.main import run
from clerestory.core.codec import Facts
from clerestory.core.licences.policy import LicencePolicy
from clerestory.core.release import Policy, Rule
from clerestory.stages.licences.config import LicencesConfig
from clerestory.stages.licences.run import check_model_licences
from clerestory.stages.release import gate
from clerestory.store import Store, open_store

RULE = Rule("licences allow it", "blocking_licences", at_most=0, criterion="value", evidence="licences")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(tmp_path)


def test_every_source_that_blocks_is_named_with_its_licence(store: Store) -> None:
    check = check_model_licences(add_starter(store), store)
    blocked = [each for each in check.evidence.findings if each.state == "fail"]
    assert [each.code for each in blocked] == ["CLR-L001", "CLR-L002"]
    assert blocked[0].where == "890 images of pictograms under CC-BY-SA-4.0"
    assert (blocked[0].count, blocked[0].reason) == (890, "share_alike")
    (measured,) = check.evidence.measurements
    assert (measured.value, measured.n) == (2, len(check.chain.links))
    assert store.evidence(check.evidence.id) == check.evidence


def test_a_policy_may_require_that_no_licence_stands_in_the_way(store: Store) -> None:
    model, data = add_starter(store), "d" * 64
    policy = Policy("licences", (RULE,))
    decision = gate(model, store, policy, data, "icons")
    assert decision.verdict == "cannot_decide"
    assert decision.reasons[0].command.startswith("clerestory release licences ")
    check_model_licences(model, store)
    assert gate(model, store, policy, data, "icons").verdict == "refuse"
    generous = LicencePolicy(allow_share_alike=True, allow_unknown=True)
    check_model_licences(model, store, LicencesConfig(licences=generous))
    assert gate(model, store, policy, data, "icons").verdict == "ship"


def test_a_model_of_unknown_data_never_passes(store: Store, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "README.md").write_text("---\nlicense: mit\n---\n")
    model = store.put_model(folder)
    check = check_model_licences(model, store, LicencesConfig(licences=LicencePolicy(allow_unknown=True)))
    assert check.chain.state == "unknown"
    assert [each.code for each in check.evidence.findings if each.state == "fail"] == ["CLR-L003"]
    assert check.evidence.measurements[0].value == 1


def test_new_knowledge_about_the_model_is_new_evidence(store: Store, tmp_path: Path) -> None:
    model = make_world(store, tmp_path / "scratch").final.model
    before = check_model_licences(model, store).evidence
    (trained,) = store.find_evidence("train", model=model)
    facts = Facts({**trained.facts, "licences": ("MIT",), "licence_images": (60,)})
    store.put_evidence(replace(trained, facts=facts, created="2027-01-01T00:00:00+00:00"))
    after = check_model_licences(model, store).evidence
    assert before.subject.config != after.subject.config


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ((), 1),
        (("--set", "licences.allow_share_alike=true"), 3),
        (("--set", "licences.propagates=[]", "--set", "end=output"), 3),
        (("--set", "end=outptu"), 2),
        (("--set", "licence_table=/nowhere.toml"), 2),
    ],
)
def test_the_exit_code_is_the_answer(
    options: tuple[str, ...], code: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["release", "licences", "starter", "--home", str(tmp_path), "--json", *options]) == code
    if code != 2:
        shown = json.loads(capsys.readouterr().out)
        assert shown["state"] == {1: "fails", 3: "unknown"}[code]
        assert {part["basis"] for part in shown["components"]} == {"declared"}
