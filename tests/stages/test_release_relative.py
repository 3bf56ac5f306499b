"""Rules that compare with what is live: they pass, fail or cannot tell, and are derived again from the rows."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from tests.support.paired_rows import Columns, put_examination, put_model, rows

from clerestory.core.codec import Tags
from clerestory.core.errors import ConfigError, IntegrityError
from clerestory.core.evidence import Finding
from clerestory.core.release import Decision, Policy, Release, Rule
from clerestory.stages.release import gate, load_policy, promote, put_to_gate, verify
from clerestory.store import Store

WHERE = Tags(task="image_to_text", split="test")
WHOLE = Rule("no worse", "recall@10", WHERE, no_worse_by=0.01, compare_with="live", alpha=0.01)
GROUPS = dataclasses.replace(WHOLE, name="no style worse", each_group="style", no_worse_by=0.05)
DATA = "d" * 64


class Line:
    """Releases of one line, each from rows that a test makes."""

    def __init__(self, store: Store, place: Path) -> None:
        self.store, self.place, self.made = store, place, 0

    def model(self, found: Columns | None, **more: object) -> str:
        self.made += 1
        digest = put_model(self.store, self.place, f"m{self.made}")
        if found is not None:
            put_examination(self.store, digest, found, **more)  # type: ignore[arg-type]  # a test's own keywords
        return digest

    def decide(self, model: str, *rules: Rule) -> Decision:
        return gate(model, self.store, Policy("icons", rules), DATA)

    def release(self, model: str, *rules: Rule) -> Release:
        return put_to_gate(self.store, model, DATA, name="icons", policy=Policy("icons", rules), who="Ada", why="test")

    def live(self, found: Columns) -> Release:
        release = self.release(self.model(found), WHOLE)
        promote(release.ref, self.store, "Ada", "first")
        return release


@pytest.fixture
def line(store: Store, tmp_path: Path) -> Line:
    return Line(store, tmp_path / "models")


def failed(findings: list[Finding]) -> list[str]:
    return [finding.message for finding in findings if finding.state == "fail"]


def test_without_a_live_release_there_is_nothing_to_compare_with(line: Line) -> None:
    first = line.release(line.model(rows(200)), WHOLE, GROUPS)
    assert [reason.outcome for reason in first.decision.reasons] == ["pass", "pass"]
    assert all("no other release at icons@live" in reason.message for reason in first.decision.reasons)
    assert not failed(verify(first.ref, line.store))
    promote(first.ref, line.store, "Ada", "first")
    again = line.release(first.model, WHOLE, GROUPS)
    assert again.number == first.number, "the live model is not compared with itself"


def test_an_equal_candidate_passes_and_both_pieces_of_evidence_are_named(line: Line) -> None:
    live = line.live(rows(2000))
    candidate = line.release(line.model(rows(2000, change={"": (0.008, 0.012)}, seed=3)), WHOLE)
    [reason] = candidate.decision.reasons
    assert reason.outcome == "pass", reason.message
    assert f"against {live.ref}" in reason.message
    held = {line.store.evidence(each).subject.model for each in candidate.evidence}
    assert held == {candidate.model, live.model}
    assert reason.against in candidate.evidence
    assert reason.evidence != reason.against
    assert not failed(verify(candidate.ref, line.store))


def test_two_points_fewer_fail(line: Line) -> None:
    line.live(rows(2000))
    candidate = line.release(line.model(rows(2000, change={"": (0.045, 0.0125)}, seed=1)), WHOLE)
    [reason] = candidate.decision.reasons
    assert candidate.decision.verdict == "refuse"
    assert "worse than the live model" in reason.message
    assert reason.command
    assert not failed(verify(candidate.ref, line.store))


def test_too_few_samples_cannot_tell_and_say_how_many_more(line: Line) -> None:
    line.live(rows(90))
    candidate = line.release(line.model(rows(90, change={"": (0.1, 0.15)}, seed=2)), WHOLE)
    [reason] = candidate.decision.reasons
    assert candidate.decision.verdict == "cannot_tell"
    assert "more samples" in reason.message
    assert reason.command.startswith("clerestory compare ")
    assert not failed(verify(candidate.ref, line.store))


def test_one_group_that_is_worse_fails_although_the_whole_is_better(line: Line) -> None:
    line.live(rows(3000))
    change = {"twemoji": (0.25, 0.0), "noto": (0.0, 0.6), "openmoji": (0.0, 0.5)}
    model = line.model(rows(3000, change=change))
    whole, groups = line.decide(model, WHOLE, GROUPS).reasons
    assert whole.outcome == "pass"
    assert groups.outcome == "fail"
    assert "worse for twemoji." in groups.message


def test_groups_of_a_few_are_named_and_not_judged(line: Line) -> None:
    def some() -> Columns:
        found = rows(1200)
        found["style"][:6] = "rare"
        return found

    line.live(some())
    [reason] = line.decide(line.model(some()), GROUPS).reasons
    assert reason.outcome == "pass"
    assert "too few to judge: rare" in reason.message


def test_an_unknown_group_says_which_there_are(line: Line) -> None:
    line.live(rows(60))
    [reason] = line.decide(line.model(rows(60)), dataclasses.replace(GROUPS, each_group="stile")).reasons
    assert reason.outcome == "cannot_tell"
    assert "they have style" in reason.message


def test_ranks_among_other_numbers_of_answers_are_not_compared(line: Line) -> None:
    line.live(rows(300))
    model = line.model(rows(300), facts={"candidates.image_to_text.test": "90"})
    [reason] = line.decide(model, WHOLE).reasons
    assert reason.outcome == "cannot_tell"
    assert "one chose among 90 answers and the other among 500" in reason.message


def test_evidence_of_live_on_other_data_does_not_count(line: Line) -> None:
    live = line.live(rows(300))
    model = line.model(rows(300), data="e" * 64)
    decision = gate(model, line.store, Policy("icons", (WHOLE,)), "e" * 64)
    [reason] = decision.reasons
    assert reason.outcome == "cannot_tell"
    assert "never measured, or what was is stale" in reason.message
    assert reason.command == f"clerestory evaluate {live.ref}"


def test_a_forged_relative_outcome_is_found(line: Line) -> None:
    line.live(rows(2000))
    model = line.model(rows(2000, change={"": (0.1, 0.0)}))
    honest = line.decide(model, WHOLE)
    assert honest.verdict == "refuse"
    bent = dataclasses.replace(
        honest, verdict="ship", reasons=tuple(dataclasses.replace(r, outcome="pass") for r in honest.reasons)
    )
    alone = dataclasses.replace(bent, reasons=tuple(dataclasses.replace(r, against="") for r in bent.reasons))
    ids = [each for r in honest.reasons for each in (r.evidence, r.against)]
    for forged in (bent, alone):
        release = line.store.add_release("icons", model, ids, forged, "Eve", "trust me")
        assert any("is recorded as pass" in message for message in failed(verify(release.ref, line.store)))


def test_changed_rows_of_the_live_model_are_found(line: Line) -> None:
    live = line.live(rows(400))
    candidate = line.release(line.model(rows(400, change={"": (0.0, 0.1)})), WHOLE)
    blob = line.store.evidence(live.evidence[0]).rows
    path = next((line.store.home / "blobs").rglob(f"{blob}*"))
    path.chmod(0o644)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    assert failed(verify(candidate.ref, line.store))
    with pytest.raises(IntegrityError):
        promote(candidate.ref, line.store, "Ada", "go")


HEAD = 'name = "p"\n[[rules]]\nname = "r"\nmetric = "m"\n'


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('compare_with = "live"\nat_least = 0.1', "has compare_with but no margin"),
        ('each_group = "style"\nat_most = 0.1', "has each_group but no margin"),
        ("no_worse_by = 0.01", "does not say worse than what"),
        ('no_worse_by = 0.0\ncompare_with = "live"', "leaves no room for chance"),
        ('no_worse_by = 0.01\ncompare_with = "live"\nalpha = 0.7', "has alpha = 0.7"),
        ('no_worse_by = 0.01\ncompare_with = "live"\nat_least = 0.5', "exactly one bound"),
        ('no_worse_by = 0.01\ncompare_wiht = "live"', "has no setting 'compare_wiht'"),
        ('at_least = 0.1\nevidence = "compare"', "reads evidence 'compare'"),
    ],
)
def test_a_relative_rule_that_cannot_decide_is_no_policy(text: str, told: str, tmp_path: Path) -> None:
    path = tmp_path / "policy.toml"
    path.write_text(HEAD + text, encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        load_policy(path)
    assert told in str(caught.value)


def test_the_shipped_policy_compares_with_live_as_a_whole_and_in_each_style() -> None:
    relative = [rule for rule in load_policy().rules if rule.relative]
    assert {rule.each_group for rule in relative} == {"", "style"}
    assert all(rule.compare_with == "live" and rule.why for rule in relative)


def test_what_was_decided_on_the_same_evidence_is_kept_on_request_although_live_has_moved(line: Line) -> None:
    early = line.release(line.model(rows(300, hit=0.5)), WHOLE)
    line.live(rows(300))
    asked = {"name": "icons", "policy": Policy("icons", (WHOLE,))}
    kept = put_to_gate(line.store, early.model, DATA, again=False, **asked)  # type: ignore[arg-type]  # as keywords
    anew = put_to_gate(line.store, early.model, DATA, **asked)  # type: ignore[arg-type]  # as keywords
    assert kept.number == early.number
    assert (anew.decision.verdict, anew.number) == ("refuse", 3)


def test_the_live_release_put_to_the_gate_again_is_itself(line: Line) -> None:
    line.live(rows(300))
    better = line.release(line.model(rows(300, change={"": (0.0, 0.5)})), WHOLE)
    promote(better.ref, line.store, "Ada", "better")
    assert line.release(better.model, WHOLE).number == better.number
