"""Every verifier: what passes in a good store, and what each fault does to it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tests.support.disks import can_mount, small_disk
from tests.support.governed import context_of, gated, governed, measured, put, trained
from tests.support.release_life import DATA, Life, flip

from clerestory.core.evidence import Finding
from clerestory.core.progress import QUIET
from clerestory.core.provenance import now, stage_code
from clerestory.core.release import Event
from clerestory.stages.govern.catalogue import load_catalogues
from clerestory.stages.govern.check import Check, Outcome, Verifier, run_verifier
from clerestory.stages.govern.context import GovernContext
from clerestory.stages.govern.run import govern
from clerestory.stages.govern.statements import state_items
from clerestory.stages.govern.states import ItemState
from clerestory.stages.govern.verifiers import verifiers
from clerestory.stages.release import promote, verify
from clerestory.store import open_store

ALL = verifiers()
CATALOGUES = load_catalogues("all", tuple(ALL))
# Nothing here has these: no meter of energy; they have tests of their own.
ELSEWHERE = {"energy"}


def outcome(context: GovernContext, name: str) -> Check:
    return run_verifier(ALL[name], context)


def test_in_a_good_store_every_measurable_verifier_passes(life: Life) -> None:
    context, _ = governed(life)
    results = {name: run_verifier(each, context) for name, each in ALL.items()}
    bad = {name: check.message for name, check in results.items() if check.outcome is not Outcome.PASSED}
    assert set(bad) == {name for name, each in ALL.items() if not each.is_measurable} | ELSEWHERE
    assert all(check.message.endswith((".", "!", "?")) for check in results.values())
    for name, each in ALL.items():
        if not each.is_measurable:
            assert results[name].message.startswith("Clerestory cannot measure")
            assert results[name].command == ""


def _raises(context: GovernContext) -> Check:
    raise RuntimeError("broken")


def _nothing(context: GovernContext) -> Check:
    return None  # type: ignore[return-value]


def _other(context: GovernContext) -> Check:
    return Check("another", Outcome.PASSED, "everything is well")


@pytest.mark.parametrize("broken", [_raises, _nothing, _other])
def test_no_item_is_passed_without_its_verifier_having_run(life: Life, broken) -> None:
    """Every measured item passes or does not; with broken verifiers none does, and no signature helps."""
    context, release = governed(life)
    items = [(each, item) for each in CATALOGUES for item in each.items if item.kind != "M"]
    state_items(life.store, items, "Signed.", release=release)
    whole = govern(GovernContext(**_functions(context)), CATALOGUES)
    passed = {(a.catalogue, a.item) for a in whole.answers if a.state is ItemState.PASSED and a.basis != "stated"}
    assert len(passed) > 40
    registry = {name: Verifier(name, each.title, broken) for name, each in ALL.items()}
    result = govern(GovernContext(**_functions(context)), CATALOGUES, registry=registry)
    assert not [a.item for a in result.answers if a.state is ItemState.PASSED and a.basis != "stated"]
    assert all(check.error for check in result.checks.values())
    assert {finding.code for finding in result.evidence.findings} >= {"CLR-G006", "CLR-G003"}
    result = govern(GovernContext(**_functions(context)), CATALOGUES, registry={})
    assert not [a.item for a in result.answers if a.state is ItemState.PASSED and a.basis != "stated"]


def test_one_broken_verifier_takes_exactly_its_items(life: Life) -> None:
    context, release = governed(life)
    items = [(each, item) for each in CATALOGUES for item in each.items if item.kind != "M"]
    state_items(life.store, items, "Signed.", release=release)
    checks = {name: run_verifier(each, context) for name, each in ALL.items()}
    cached = {name: Verifier(name, each.title, lambda _, name=name: checks[name]) for name, each in ALL.items()}
    before = {
        a.item: a.state for a in govern(GovernContext(**_functions(context)), CATALOGUES, registry=cached).answers
    }
    for name in ("journal", "numbers", "leakage", "fairness", "inventory"):
        registry = cached | {name: Verifier(name, "", _raises)}
        result = govern(GovernContext(**_functions(context)), CATALOGUES, registry=registry)
        taken = {a.item for a in result.answers if a.state is not before[a.item]}
        expected = {
            item.id
            for each in CATALOGUES
            for item in each.items
            if name in item.verifiers and before[item.id] is ItemState.PASSED
        }
        assert taken == expected
        assert expected


def _functions(context: GovernContext) -> dict[str, object]:
    """A context of its own, without what another run has read."""
    names = (
        "store",
        "release",
        "verify_release",
        "suite_evidence",
        "model_card",
        "bill_of_materials",
        "audit_findings",
    )
    return {name: getattr(context, name) for name in names}


# The record.


def test_a_damaged_model_file(life: Life) -> None:
    context, release = governed(life)
    flip(life.store.model_folder(release.model) / "model.safetensors", 5)
    for name in ("inventory", "release_files"):
        check = outcome(context, name)
        assert check.outcome is Outcome.FAILED
        assert "model.safetensors" in check.message


def test_damaged_evidence_and_rows(life: Life) -> None:
    context, release = governed(life)
    rows = life.store.evidence(release.evidence[0]).rows
    flip(life.store.blobs.path(rows), 9)
    assert outcome(context, "release_files").outcome is Outcome.FAILED
    assert outcome(context, "numbers").outcome is not Outcome.PASSED
    assert outcome(context, "decision").outcome is not Outcome.PASSED


def test_a_journal_that_was_edited(life: Life) -> None:
    context, _ = governed(life)
    with life.store.database.writing() as connection:
        connection.exec_driver_sql("DROP TRIGGER IF EXISTS journal_no_update")
        names = [row[0] for row in connection.exec_driver_sql("SELECT name FROM sqlite_master WHERE type = 'trigger'")]
        for name in names:
            connection.exec_driver_sql(f"DROP TRIGGER {name}")
        connection.exec_driver_sql("UPDATE journal SET record = replace(record, 'better', 'bitter')")
    for name in ("journal", "event_log", "approval"):
        assert outcome(context, name).outcome is Outcome.FAILED, name


def test_what_the_gate_refused_fails(life: Life) -> None:
    refused = gated(life, 0.1)
    assert refused.decision.verdict == "refuse"
    check = outcome(context_of(life, refused), "decision")
    assert check.outcome is Outcome.FAILED
    assert "do not ship" in check.message
    assert outcome(context_of(life, refused), "approval").outcome is Outcome.UNTESTED


def test_there_is_nothing_to_go_back_to_before_the_second_promotion(life: Life) -> None:
    first = gated(life)
    context = context_of(life, first)
    assert outcome(context, "rollback").outcome is Outcome.UNTESTED
    promote(first.ref, life.store, "Grace", "the first")
    assert "is the first that was live" in outcome(context_of(life, first), "rollback").message
    assert outcome(context_of(life, first), "change_record").outcome is Outcome.UNTESTED
    second = gated(life, 0.72)
    promote(second.ref, life.store, "Grace", "better")
    assert outcome(context_of(life, second), "rollback").outcome is Outcome.PASSED
    flip(life.store.model_folder(first.model) / "model.safetensors", 0)
    assert outcome(context_of(life, second), "rollback").outcome is Outcome.FAILED


# The measurements.


def test_suites_that_are_stale_or_missing(life: Life) -> None:
    _, release = governed(life)
    for name in ("accuracy", "robustness", "fairness", "fresh_evidence"):
        stale = outcome(context_of(life, release, "stale", ("data",)), name)
        assert stale.outcome is Outcome.STALE
        assert "other data" in stale.message
        missing = outcome(context_of(life, release, "missing"), name)
        assert missing.outcome is Outcome.UNTESTED
        assert missing.command.startswith("clerestory evaluate icons@2 --data icons")
        assert outcome(GovernContext(life.store, release), name).outcome is Outcome.UNTESTED


def test_a_suite_without_a_number_has_not_passed(life: Life) -> None:
    context, release = governed(life)
    suite = context.suites["fairness"]
    evidence = life.store.evidence(suite.id)
    note = Finding("CLR-E007", "info", "not_applicable", "suite fairness", "no group has two values")
    empty = replace(evidence, measurements=(), findings=(note,))
    life.store.put_evidence(empty)
    context.suites["fairness"] = replace(suite, id=empty.id)
    check = outcome(context, "fairness")
    assert check.outcome is Outcome.UNTESTED
    assert "no group has two values" in check.message
    flip(life.store.blobs.path(empty.id), 3)
    assert outcome(context, "fairness").outcome is Outcome.FAILED


def test_energy_needs_a_number_of_energy(life: Life) -> None:
    context, release = governed(life)
    assert outcome(context, "energy").outcome is Outcome.UNTESTED
    evidence = context.evaluation
    assert evidence is not None
    context.evaluation = replace(evidence, measurements=(measured("energy_per_1000", task="energy"),))
    assert outcome(context, "energy").outcome is Outcome.PASSED


def test_a_self_test_that_missed_a_fault_or_is_old(life: Life) -> None:
    release = gated(life)
    assert outcome(context_of(life, release), "self_test").outcome is Outcome.UNTESTED
    put(life, "self_test", release.model, code="0" * 64)
    assert outcome(context_of(life, release), "self_test").outcome is Outcome.STALE
    missed = Finding("CLR-E031", "warning", "warn", "shuffled labels", "no gate detected it")
    put(life, "self_test", release.model, findings=(missed,))
    assert outcome(context_of(life, release), "self_test").outcome is Outcome.FAILED


# The data.

FINDINGS = {
    "leakage": ("CLR-A017", "fail"),
    "copies": ("CLR-A015", "warn"),
    "personal_data": ("CLR-A030", "warn"),
    "licences": ("CLR-A040", "fail"),
    "data_quality": ("CLR-A013", "fail"),
}


@pytest.mark.parametrize("name", FINDINGS)
def test_an_open_finding_of_the_audit(life: Life, name: str) -> None:
    release = gated(life)
    trained(life, release.model)
    assert outcome(context_of(life, release), name).outcome is Outcome.UNTESTED
    assert outcome(context_of(life, release), name).command == "clerestory data audit icons"
    put(life, "audit", code="0" * 64)
    assert outcome(context_of(life, release), name).outcome is Outcome.STALE
    code, state = FINDINGS[name]
    found = Finding(code, "error", state, "data", "there is one")  # type: ignore[arg-type]
    put(life, "audit", findings=(found,))
    check = outcome(context_of(life, release), name)
    assert check.outcome is Outcome.FAILED
    assert code in check.message
    accepted = context_of(life, release)
    accepted.audit_findings = lambda _, evidence: [replace(each, state="accepted") for each in evidence.findings]
    assert outcome(accepted, name).outcome is Outcome.PASSED
    assert "accepted finding" in outcome(accepted, name).message


def test_findings_belong_to_one_question_each(life: Life) -> None:
    release = gated(life)
    trained(life, release.model)
    found = [Finding(code, "error", "fail", "data", "there is one") for code in ("CLR-A033", "CLR-A042")]
    put(life, "audit", findings=tuple(found))
    results = {name: outcome(context_of(life, release), name).outcome for name in FINDINGS}
    assert {name for name, result in results.items() if result is Outcome.FAILED} == {"personal_data", "licences"}
    put(life, "audit", findings=(Finding("CLR-A034", "warning", "warn", "data", "a value has few images"),))
    assert outcome(context_of(life, release), "personal_data").outcome is Outcome.PASSED
    put(life, "audit", findings=(Finding("CLR-A050", "error", "fail", "data", "one is in a pack"),))
    assert outcome(context_of(life, release), "leakage").outcome is Outcome.FAILED


def test_a_calibration_names_the_weakest_check(life: Life) -> None:
    context, _ = governed(life)
    assert "the lowest is 50% (n = 100, finding=CLR-A015)" in outcome(context, "audit_calibration").message
    release = gated(life)
    trained(life, release.model)
    fresh = context_of(life, release)
    fresh._codes["audit_calibration"] = "another version"
    assert outcome(fresh, "audit_calibration").outcome is Outcome.STALE


def test_leakage_is_answered_only_for_the_data_of_the_training(life: Life) -> None:
    release = gated(life)
    put(life, "audit")
    assert "is not recorded" in outcome(context_of(life, release), "leakage").message
    life.store.put_evidence(replace(trained(life, release.model), created="2999-01-01T00:00:00+00:00"))
    assert outcome(context_of(life, release), "leakage").outcome is Outcome.PASSED
    other = context_of(life, release)
    assert other.training is not None
    other.training = replace(other.training, subject=replace(other.training.subject, data="e" * 64))
    assert "was not compared with the evaluation data icons" in outcome(other, "leakage").message
    assert outcome(other, "leakage").outcome is Outcome.UNTESTED


def test_a_model_from_elsewhere_has_no_provenance(life: Life) -> None:
    release = gated(life)
    for name in ("provenance", "third_parties", "model_licences", "audit_calibration"):
        assert outcome(context_of(life, release), name).outcome is Outcome.UNTESTED, name
    refused = Finding("CLR-L001", "error", "fail", "icons", "share-alike")
    put(life, "licences", release.model, findings=(refused,))
    assert outcome(context_of(life, release), "model_licences").outcome is Outcome.FAILED


def test_an_approval_names_the_people(life: Life) -> None:
    context, release = governed(life)
    message = outcome(context, "approval").message
    assert "made live by Grace" in message
    assert "submitted by Ada" in message
    assert "better" in message


def test_documents_about_another_model_fail(life: Life) -> None:
    context, release = governed(life)
    wrong = context.bill_of_materials().replace(release.model.encode(), b"0" * 64)
    context.bill_of_materials = lambda: wrong
    context.model_card = lambda: "# icons@77"
    for name in ("bill_of_materials", "model_card"):
        assert outcome(context, name).outcome is Outcome.FAILED, name
    empty = GovernContext(life.store, release)
    for name in ("bill_of_materials", "model_card", "numbers"):
        assert outcome(empty, name).outcome is Outcome.UNTESTED, name


def test_the_code_of_an_audit_is_the_current_one(life: Life) -> None:
    """The fixture would hide a freshness that is never compared."""
    context, _ = governed(life)
    assert life.store.find_evidence("audit", data=DATA)[0].subject.code == stage_code("audit")
    assert context.changed(life.store.find_evidence("audit", data=DATA)[0]) == ()


# Runs.


def test_a_run_is_evidence_and_names_what_changed(life: Life) -> None:
    context, release = governed(life)
    first = govern(context, CATALOGUES)
    assert first.changes is None
    assert life.store.find_evidence("govern", model=release.model)[0].id == first.evidence.id
    assert sum(first.counts().values()) == 72 + 211 + 38 + 9
    assert first.is_clean
    catalogue = CATALOGUES[0]
    state_items(life.store, [(catalogue, catalogue.item("GOVERN 2.1"))], "Roles are clear.", who="Ada")
    flip(life.store.model_folder(release.model) / "model.safetensors", 5)
    second = govern(GovernContext(**_functions(context)), CATALOGUES)
    assert not second.is_clean
    assert second.changes is not None
    changed = {each.item: (each.before.value, each.after.value) for each in second.changes.items}
    assert changed["GOVERN 2.1"] == ("needs_person", "passed")
    assert changed["GOVERN 1.6"] == ("passed", "failed")
    failed = [finding for finding in second.evidence.findings if finding.code == "CLR-G001"]
    assert {finding.details["item"] for finding in failed} >= {"GOVERN 1.6", "A.4.2"}


def test_changes_are_since_the_release_before(life: Life) -> None:
    first = gated(life)
    promote(first.ref, life.store, "Grace", "the first")
    govern(context_of(life, first), CATALOGUES[:1])
    second = gated(life, 0.72)
    govern(context_of(life, second), CATALOGUES[:1])
    result = govern(context_of(life, second), CATALOGUES[:1])
    assert result.changes is not None
    assert result.changes.since == first.ref


def test_the_next_steps_join_suites_and_begin_with_the_cheapest(life: Life) -> None:
    release = gated(life)
    result = govern(context_of(life, release, "missing"), CATALOGUES)
    suites = [step for step in result.steps if " --suites " in step.command]
    assert len(suites) == 1
    assert suites[0].command.endswith("--suites calibration,corruption,fairness,latency,ood,retrieval,validity")
    assert [step.seconds for step in result.steps] == sorted(step.seconds for step in result.steps)
    assert all(step.items for step in result.steps)


@pytest.mark.skipif(not can_mount(), reason="only root may mount a small disk")
def test_a_store_that_can_only_be_read_still_answers(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 8) as disk:
        home = disk.folder / "home"
        with open_store(home) as store:
            store.put_dataset("icons", "icons", DATA, 10, Event("data_added", "icons", "Ada", "a test", now()))
            context, release = governed(Life(store, tmp_path / "models"))
            suites = list(context.suites.values())
        disk.make_read_only()
        notices: list[str] = []
        with open_store(home) as store:
            functions = _functions(context) | {
                "store": store,
                "suite_evidence": lambda: suites,
                "verify_release": lambda: verify(release.ref, store),
            }
            result = govern(GovernContext(**functions), CATALOGUES, _Lines(notices))
            assert result.is_clean
            assert sum(result.counts().values()) == 330
            assert ["the answers are not stored" in line for line in notices] == [True]
            assert store.find_evidence("govern") == []


class _Lines:
    """Keeps the lines of a run."""

    def __init__(self, lines: list[str]) -> None:
        self.write_line = lines.append
        self.task = QUIET.task


def test_a_clock_in_the_past_is_named_and_revives_nothing(life: Life) -> None:
    context, _ = governed(life)
    item = CATALOGUES[0].item("GOVERN 2.1")
    start = datetime.now(UTC)
    state_items(life.store, [(CATALOGUES[0], item)], "Clear.", expires=(start + timedelta(days=2)).date().isoformat())
    later = (start + timedelta(days=9)).isoformat(timespec="seconds")
    life.store.journal.append(Event("data_added", "later", "Ada", "a test", later))
    result = govern(GovernContext(**_functions(context)), CATALOGUES[:1], moment=start)
    assert "CLR-G005" in {finding.code for finding in result.evidence.findings}
    assert next(a for a in result.answers if a.item == "GOVERN 2.1").state is ItemState.STALE
