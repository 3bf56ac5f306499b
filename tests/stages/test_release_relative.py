"""Rules that compare with what is live: they pass, fail or cannot decide, and are derived again from the rows."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from tests.support.paired_rows import Columns, put_evaluation, put_model, rows

from clerestory.core.codec import Tags
from clerestory.core.errors import ConfigError, IntegrityError
from clerestory.core.evidence import Finding
from clerestory.core.release import Decision, Policy, Release, Rule
from clerestory.stages.release import gate, load_policy, promote, run_gate, verify
from clerestory.store import Store

WHERE = Tags(task="image_to_text", split="test")
WHOLE = Rule("no worse", "recall@10", WHERE, no_worse_by=0.01, compare_with="live", alpha=0.01)
GROUPS = dataclasses.replace(WHOLE, name="no style worse", each_group="style", no_worse_by=0.05)
DATA = "d" * 64


class Registry:
    """Releases of one model name, each from rows that a test makes."""

    def __init__(self, store: Store, place: Path) -> None:
        self.store, self.place, self.made = store, place, 0

    def model(self, found: Columns | None, **more: object) -> str:
        self.made += 1
        digest = put_model(self.store, self.place, f"m{self.made}")
        if found is not None:
            put_evaluation(self.store, digest, found, **more)  # type: ignore[arg-type]  # a test's own keywords
        return digest

    def decide(self, model: str, *rules: Rule) -> Decision:
        return gate(model, self.store, Policy("icons", rules), DATA)

    def release(self, model: str, *rules: Rule) -> Release:
        gated = self.gated(model, *rules)
        assert isinstance(gated, Release)
        return gated

    def gated(self, model: str, *rules: Rule) -> Release | Decision:
        return run_gate(self.store, model, DATA, name="icons", policy=Policy("icons", rules), who="Ada", why="test")

    def live(self, found: Columns) -> Release:
        release = self.release(self.model(found), WHOLE)
        promote(release.ref, self.store, "Ada", "first")
        return release


@pytest.fixture
def registry(store: Store, tmp_path: Path) -> Registry:
    return Registry(store, tmp_path / "models")


def failed(findings: list[Finding]) -> list[str]:
    return [finding.message for finding in findings if finding.state == "fail"]


def test_without_a_live_release_there_is_nothing_to_compare_with(registry: Registry) -> None:
    first = registry.release(registry.model(rows(200)), WHOLE, GROUPS)
    assert [(reason.outcome, reason.cause) for reason in first.decision.reasons] == [("pass", "no_reference")] * 2
    assert all("no other release at icons@live" in reason.message for reason in first.decision.reasons)
    assert not failed(verify(first.ref, registry.store))
    promote(first.ref, registry.store, "Ada", "first")
    again = registry.release(first.model, WHOLE, GROUPS)
    assert again.number == first.number, "the live model is not compared with itself"


def test_an_equal_candidate_passes_and_both_pieces_of_evidence_are_named(registry: Registry) -> None:
    live = registry.live(rows(2000))
    candidate = registry.release(registry.model(rows(2000, change={"": (0.008, 0.012)}, seed=3)), WHOLE)
    [reason] = candidate.decision.reasons
    assert reason.outcome == "pass", reason.message
    assert f"against {live.ref}" in reason.message
    held = {registry.store.evidence(each).subject.model for each in candidate.evidence}
    assert held == {candidate.model, live.model}
    assert reason.reference_evidence in candidate.evidence
    assert reason.evidence != reason.reference_evidence
    assert not failed(verify(candidate.ref, registry.store))


def test_two_points_fewer_fail(registry: Registry) -> None:
    registry.live(rows(2000))
    candidate = registry.release(registry.model(rows(2000, change={"": (0.045, 0.0125)}, seed=1)), WHOLE)
    [reason] = candidate.decision.reasons
    assert (candidate.decision.verdict, reason.cause) == ("refuse", "worse")
    assert reason.value is not None
    assert reason.value < 0
    assert (reason.bound, reason.unit) == (0.01, "share")
    assert "worse than the live model" in reason.message
    assert reason.command
    assert not failed(verify(candidate.ref, registry.store))


def test_too_few_samples_cannot_tell_and_say_how_many_more(registry: Registry) -> None:
    registry.live(rows(90))
    candidate = registry.model(rows(90, change={"": (0.1, 0.15)}, seed=2))
    decision = registry.decide(candidate, WHOLE)
    [reason] = decision.reasons
    assert (decision.verdict, reason.cause) == ("cannot_decide", "inconclusive")
    assert reason.additional_rows is not None
    assert reason.additional_rows > 0
    assert "more samples" in reason.message
    assert reason.command.startswith("clerestory compare ")


def test_a_decision_that_cannot_be_made_is_in_the_journal_and_takes_no_number(registry: Registry) -> None:
    first = registry.live(rows(90))
    candidate = registry.model(rows(90, change={"": (0.1, 0.15)}, seed=2))
    for _ in range(2):
        assert registry.gated(candidate, WHOLE) == registry.decide(candidate, WHOLE)
    unmeasured = registry.model(None)
    assert registry.gated(unmeasured, WHOLE) == registry.decide(unmeasured, WHOLE)
    assert [release.ref for release in registry.store.releases("icons")] == [first.ref]
    events = [record.event for record in registry.store.journal.records() if record.event.kind == "undecided"]
    assert [event.subject for event in events] == [candidate, candidate, unmeasured]
    assert not failed(verify("icons@live", registry.store))
    assert registry.release(registry.model(rows(90, hit=0.1)), WHOLE).number == 2, "the next number is the next release"


def test_the_same_decision_is_the_same_release_although_a_suggested_command_differs(registry: Registry) -> None:
    registry.live(rows(2000))
    worse = registry.model(rows(2000, change={"": (0.045, 0.0125)}, seed=1))
    first = registry.release(worse, WHOLE)
    policy = Policy("icons", (WHOLE,))
    again = run_gate(registry.store, worse, DATA, name="icons", policy=policy, source="./photos", tasks=("quiz.toml",))
    assert isinstance(again, Release)
    assert again.decision.verdict == "refuse"
    assert again.ref == first.ref


def test_one_group_that_is_worse_fails_although_the_whole_is_better(registry: Registry) -> None:
    registry.live(rows(3000))
    change = {"twemoji": (0.25, 0.0), "noto": (0.0, 0.6), "openmoji": (0.0, 0.5)}
    model = registry.model(rows(3000, change=change))
    whole, groups = registry.decide(model, WHOLE, GROUPS).reasons
    assert whole.outcome == "pass"
    assert groups.outcome == "fail"
    assert (groups.cause, groups.groups) == ("worse", ("twemoji",))
    assert "worse for twemoji." in groups.message


def test_groups_with_too_few_concepts_are_named_and_not_tested(registry: Registry) -> None:
    def some() -> Columns:
        found = rows(1200)
        found["style"][:6] = "rare"
        return found

    registry.live(some())
    [reason] = registry.decide(registry.model(some()), GROUPS).reasons
    assert reason.outcome == "pass"
    assert "too few concepts to test: rare" in reason.message


def test_an_unknown_group_says_which_there_are(registry: Registry) -> None:
    registry.live(rows(60))
    [reason] = registry.decide(registry.model(rows(60)), dataclasses.replace(GROUPS, each_group="stile")).reasons
    assert (reason.outcome, reason.cause) == ("cannot_decide", "unknown_group")
    assert "they have style" in reason.message


def test_ranks_among_other_numbers_of_answers_are_not_compared(registry: Registry) -> None:
    registry.live(rows(300))
    model = registry.model(rows(300), facts={"candidates.image_to_text.test": 90})
    [reason] = registry.decide(model, WHOLE).reasons
    assert (reason.outcome, reason.cause) == ("cannot_decide", "not_comparable")
    assert "90 for one model, 500 for the other" in reason.message


def test_evidence_of_live_on_other_data_does_not_count(registry: Registry) -> None:
    live = registry.live(rows(300))
    model = registry.model(rows(300), data="e" * 64)
    decision = gate(model, registry.store, Policy("icons", (WHOLE,)), "e" * 64)
    [reason] = decision.reasons
    assert (reason.outcome, reason.cause) == ("cannot_decide", "reference_not_measured")
    assert "never measured, or its evidence is stale" in reason.message
    assert reason.command == f"clerestory evaluate {live.ref} --suites retrieval"


def test_a_forged_relative_outcome_is_found(registry: Registry) -> None:
    registry.live(rows(2000))
    model = registry.model(rows(2000, change={"": (0.1, 0.0)}))
    honest = registry.decide(model, WHOLE)
    assert honest.verdict == "refuse"
    bent = dataclasses.replace(
        honest, verdict="ship", reasons=tuple(dataclasses.replace(r, outcome="pass") for r in honest.reasons)
    )
    alone = dataclasses.replace(
        bent, reasons=tuple(dataclasses.replace(r, reference_evidence="") for r in bent.reasons)
    )
    ids = [each for r in honest.reasons for each in (r.evidence, r.reference_evidence)]
    for forged in (bent, alone):
        release = registry.store.add_release("icons", model, ids, forged, "Eve", "trust me")
        assert any("is recorded as pass" in message for message in failed(verify(release.ref, registry.store)))


def test_changed_rows_of_the_live_model_are_found(registry: Registry) -> None:
    live = registry.live(rows(400))
    candidate = registry.release(registry.model(rows(400, change={"": (0.0, 0.1)})), WHOLE)
    blob = registry.store.evidence(live.evidence[0]).rows
    path = next((registry.store.home / "blobs").rglob(f"{blob}*"))
    path.chmod(0o644)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    assert failed(verify(candidate.ref, registry.store))
    with pytest.raises(IntegrityError):
        promote(candidate.ref, registry.store, "Ada", "go")


HEAD = 'name = "p"\n[[rules]]\nname = "r"\nmetric = "map"\n'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('compare_with = "live"\nat_least = 0.1', "has compare_with but no margin"),
        ('each_group = "style"\nat_most = 0.1', "has each_group but no margin"),
        ("no_worse_by = 0.01", "has a margin but no compare_with"),
        ('no_worse_by = 0.0\ncompare_with = "live"', "allows no random variation"),
        ('no_worse_by = 0.01\ncompare_with = "live"\nalpha = 0.7', "has alpha = 0.7"),
        ('no_worse_by = 0.01\ncompare_with = "live"\nat_least = 0.5', "2 bounds instead of one"),
        ('no_worse_by = 0.01\ncompare_wiht = "live"', "has no setting 'compare_wiht'"),
        ('at_least = 0.1\nevidence = "compare"', "reads evidence 'compare'"),
    ],
)
def test_a_relative_rule_that_cannot_decide_is_no_policy(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "policy.toml"
    path.write_text(HEAD + text, encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        load_policy(path)
    assert message in str(caught.value)


def test_the_shipped_policy_compares_with_live_as_a_whole_and_in_each_style() -> None:
    relative = [rule for rule in load_policy().rules if rule.is_relative]
    assert {rule.each_group for rule in relative} == {"", "style"}
    assert all(rule.compare_with == "live" and rule.why for rule in relative)


def test_what_was_decided_on_the_same_evidence_is_kept_on_request_although_live_has_moved(registry: Registry) -> None:
    early = registry.release(registry.model(rows(300, hit=0.5)), WHOLE)
    registry.live(rows(300))
    asked = {"name": "icons", "policy": Policy("icons", (WHOLE,))}
    kept = run_gate(registry.store, early.model, DATA, reuse_decision=True, **asked)  # type: ignore[arg-type]  # as keywords
    anew = run_gate(registry.store, early.model, DATA, **asked)  # type: ignore[arg-type]  # as keywords
    assert isinstance(kept, Release)
    assert isinstance(anew, Release)
    assert kept.number == early.number
    assert (anew.decision.verdict, anew.number) == ("refuse", 3)


def test_the_live_release_put_to_the_gate_again_is_itself(registry: Registry) -> None:
    registry.live(rows(300))
    better = registry.release(registry.model(rows(300, change={"": (0.0, 0.5)})), WHOLE)
    promote(better.ref, registry.store, "Ada", "better")
    assert registry.release(better.model, WHOLE).number == better.number
