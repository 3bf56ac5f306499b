"""Decisions of the gate, and moves of aliases."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Any

import pytest
from tests.support.release_life import ALL, BOUNDS, DATA, POLICY, Life, failed, flip

from clerestory.core.codec import Facts, Tags
from clerestory.core.digest import canonical
from clerestory.core.errors import Conflict, InputError, IntegrityError, NotFound, Refused
from clerestory.core.evidence import Cost, Evidence, Finding, Interval, Measurement, Subject
from clerestory.core.provenance import now
from clerestory.core.release import Decision, Policy, Rule
from clerestory.core.rows import Unscored
from clerestory.stages.release import gate, promote, register, rollback, verify
from clerestory.stages.release.rules import check_bound

# Judging.


@pytest.mark.parametrize(
    ("bounds", "criterion", "cause", "words"),
    [
        (
            {"at_least": 0.5},
            "interval_bound",
            "meets_bound",
            "even the lower bound meets the required minimum of 50.0 %",
        ),
        ({"at_least": 0.55}, "interval_bound", "below_minimum", "so the claim does not hold with confidence"),
        (
            {"at_least": 0.7},
            "interval_bound",
            "below_minimum",
            "whole interval is below the required minimum of 70.0 %",
        ),
        (
            {"at_most": 0.65},
            "interval_bound",
            "meets_bound",
            "even the upper bound meets the allowed maximum of 65.0 %",
        ),
        (
            {"at_most": 0.62},
            "interval_bound",
            "above_maximum",
            "the upper bound is above the allowed maximum of 62.0 %",
        ),
        ({"at_least": 0.6}, "value", "meets_bound", "which meets the required minimum of 60.0 %"),
        ({"at_least": 0.60001}, "value", "below_minimum", "is 60.000 % (n = 1,234), which is below"),
    ],
)
def test_one_rule_against_one_number(bounds: dict[str, float], criterion: Any, cause: str, words: str) -> None:
    measured = Measurement("recall@10", 0.6, "share", 1234, Interval(0.52, 0.64, "t"), slice=Tags(split="test"))
    rule = Rule("r", "recall@10", Tags(split="test"), criterion=criterion, **bounds)
    reason = check_bound(rule, measured, "e" * 64)
    assert reason.outcome == ("pass" if cause == "meets_bound" else "fail")
    assert (reason.cause, reason.value, reason.low, reason.high, reason.n) == (cause, 0.6, 0.52, 0.64, 1234)
    assert (reason.bound, reason.unit) == (next(iter(bounds.values())), "share")
    assert words in reason.message
    assert "recall@10 (split=test) is 60.0" in reason.message
    assert "n = 1,234" in reason.message


def test_a_number_without_an_interval_cannot_be_compared_by_it() -> None:
    measured = Measurement("recall@10", 0.6, "share", 1, None, "one cluster has no spread")
    reason = check_bound(Rule("r", "recall@10", at_least=0.1), measured, "")
    assert (reason.outcome, reason.cause, reason.message) == (
        "cannot_decide",
        "no_interval",
        "recall@10 has no interval (n = 1): one cluster has no spread.",
    )


# The gate.


def test_a_good_model_may_ship_with_numbers_in_every_reason(life: Life) -> None:
    model = life.model()
    evidence = life.evaluated(model)
    decision = life.decide(model)
    assert decision.verdict == "ship"
    assert decision.command == ""
    assert [(r.outcome, r.evidence, r.command) for r in decision.reasons] == [("pass", evidence.id, "")] * ALL
    assert "is 70.0 % with a 95 % interval of " in decision.reasons[0].message
    assert " ms (n = 40), which meets the allowed maximum of 200.0 ms" in decision.reasons[3].message
    assert decision.policy_digest == hashlib.sha256(canonical(POLICY)).hexdigest()
    assert life.store.blobs.get(decision.policy_digest) == canonical(POLICY)
    assert life.decide(model) == decision, "the same again gives the same decision"


def test_a_weak_model_is_refused_and_one_failed_rule_is_enough(life: Life) -> None:
    model = life.model()
    life.evaluated(model, share=0.1)
    decision = life.decide(model)
    assert decision.verdict == "refuse"
    assert [reason.outcome for reason in decision.reasons] == ["fail", "fail", "fail", "pass", *["pass"] * (ALL - 4)]
    assert decision.command == "", "it was not trained here, so no training would change it"
    facts = Tags(early_model="", preset="nano")
    subject = Subject(model=model, data=DATA)
    life.store.put_evidence(Evidence("train", subject, (), (), Cost(1, 1, 1), now(), facts=facts))
    assert life.decide(model).command == "clerestory train --data icons --preset small"


def test_a_model_that_another_one_started_from_is_not_told_to_be_its_checkpoint(life: Life) -> None:
    start, other = life.model(), life.model()
    life.evaluated(start, share=0.1)
    facts = Tags(start_from=start, preset="nano")
    life.store.put_evidence(Evidence("train", Subject(model=other), (), (), Cost(1, 1, 1), now(), facts=facts))
    assert other[:12] not in life.decide(start).command


def test_commands_name_the_source_of_data_that_have_no_name_in_the_store(life: Life) -> None:
    decision = gate(life.model(), life.store, POLICY, "9" * 64, source="./my photos")
    assert " --data './my photos' --suites" in decision.command


def test_a_claim_on_too_few_samples_names_how_many_more_it_needs(life: Life) -> None:
    model = life.model()
    life.evaluated(model, share=0.35, concepts=20)
    reason = life.decide(model).reasons[0]
    assert reason.additional_rows is not None
    assert f"about {reason.additional_rows:,} more samples" in reason.message
    assert "train" not in reason.command
    enough = life.model()
    life.evaluated(enough, share=0.35, concepts=20 + reason.additional_rows)
    assert life.decide(enough).reasons[0].outcome == "pass"


def test_few_rows_are_not_enough_for_a_claim_with_confidence(life: Life) -> None:
    model = life.model()
    life.evaluated(model, share=0.35, concepts=20)
    assert life.decide(model).reasons[0].outcome == "fail"
    model = life.model()
    life.evaluated(model, share=0.35, concepts=400)
    assert life.decide(model).reasons[0].outcome == "pass"


def test_an_early_checkpoint_is_told_which_model_was_finished(life: Life) -> None:
    early, final = life.model(), life.model()
    life.evaluated(early, share=0.1)
    facts = Tags(early_model=early, preset="nano")
    life.store.put_evidence(Evidence("train", Subject(model=final), (), (), Cost(1, 1, 1), now(), facts=facts))
    assert life.decide(early).command == f"clerestory release gate {final[:12]} --data icons"


def test_without_evidence_nothing_can_be_told(life: Life) -> None:
    model = life.model()
    decision = life.decide(model)
    assert decision.verdict == "cannot_decide"
    assert decision.command == f"clerestory evaluate {model[:12]} --data icons --suites retrieval,latency"
    assert "was never evaluated here (0 pieces of evidence)" in decision.reasons[0].message
    assert {reason.evidence for reason in decision.reasons} == {""}


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ("data", "was produced on other data, so it no longer counts"),
        ("code", "was produced by a different version of the code, so it no longer counts"),
        ("environment", "was produced with other library versions or on another kind of machine, so"),
    ],
)
def test_stale_evidence_no_longer_counts(life: Life, changed: str, words: str) -> None:
    model = life.model()
    stale = life.evaluated(model, **{changed: "0" * 64})
    decision = life.decide(model)
    assert decision.verdict == "cannot_decide"
    assert decision.command == f"clerestory evaluate {model[:12]} --data icons --suites retrieval,latency"
    assert {reason.evidence for reason in decision.reasons} == {stale.id}
    assert {(reason.cause, reason.changed) for reason in decision.reasons} == {("stale", (changed,))}
    assert "recall@10 was 70.0 %, but" in decision.reasons[0].message
    assert words in decision.reasons[0].message
    life.evaluated(model)
    assert life.decide(model).verdict == "ship", "the command helps"


def unanswered(life: Life, task: str, message: str = "1 sample is unscored") -> str:
    """A new model whose evaluation is fine, except that a finding says a sample of one task is unanswered."""
    model, complete = life.model(), life.evaluated(life.model())
    reason = Unscored.NO_ANSWER.value
    finding = Finding("CLR-E008", "warning", "warn", "c0", message, reason=reason, details=Facts(task=task))
    evidence = replace(complete, subject=replace(complete.subject, model=model), findings=(finding,))
    life.store.put_evidence(evidence)
    return model


def causes(decision: Decision) -> dict[str, str]:
    """The cause of each bound, by task."""
    return {rule.where["task"]: each.cause for rule, each in zip(BOUNDS, decision.reasons, strict=True)}


def test_evidence_with_unanswered_samples_of_the_rules_task_does_not_count(life: Life) -> None:
    model = unanswered(life, "text_to_image")
    decision = gate(model, life.store, Policy("p", BOUNDS), DATA, tasks=("mine.toml",))
    assert decision.verdict == "cannot_decide"
    assert decision.command == f"clerestory evaluate {model[:12]} --data icons --task mine.toml --suites retrieval"
    met = dict.fromkeys((rule.where["task"] for rule in BOUNDS), "meets_bound")
    assert causes(decision) == met | {"text_to_image": "unanswered"}
    assert "were unanswered when the model was evaluated" in next(
        reason.message for reason in decision.reasons if reason.cause == "unanswered"
    )
    life.evaluated(model)
    assert life.decide(model, Policy("p", BOUNDS)).verdict == "ship", "the command helps"


def test_the_typed_fields_of_a_finding_decide_and_not_its_message(life: Life) -> None:
    policy = Policy("p", BOUNDS)
    one = life.decide(unanswered(life, "text_to_image", "no answer: HTTP 500"), policy)
    reworded = life.decide(unanswered(life, "text_to_image", "x"), policy)
    assert causes(reworded) == causes(one)
    assert [r.outcome for r in reworded.reasons] == [r.outcome for r in one.reasons]
    other_task = life.decide(unanswered(life, "image_to_text", "no answer: HTTP 500 for text_to_image"), policy)
    assert {task for task, cause in causes(other_task).items() if cause == "unanswered"} == {"image_to_text"}
    none_named = life.decide(unanswered(life, "", "no answer: HTTP 500"), policy)
    assert set(causes(none_named).values()) == {"unanswered"}


def test_another_models_evidence_does_not_count(life: Life) -> None:
    life.evaluated(life.model())
    assert life.decide(life.model()).verdict == "cannot_decide"


def test_a_rule_about_nothing_that_was_measured_names_the_closest(life: Life) -> None:
    model = life.model()
    life.evaluated(model)
    rule = replace(POLICY.rules[0], where=Tags(task="image_to_text", split="tset"))
    decision = life.decide(model, Policy("p", (rule,)))
    assert decision.verdict == "cannot_decide"
    assert "nothing was measured on the split 'tset' (measured: test" in decision.reasons[0].message
    assert not decision.reasons[0].command, "measuring again would not give it either"
    everywhere = replace(POLICY.rules[0], where=Tags())
    other_k = replace(POLICY.rules[0], metric="recall@11")
    no_where, no_metric = life.decide(model, Policy("p", (everywhere, replace(other_k, name="other")))).reasons
    assert 'measured for where = { split = "test", task = "image_to_text" }' in no_where.message
    assert no_metric.message == "recall@11 is not measured; give the rule recall@10."
    assert not no_where.command + no_metric.command


@pytest.mark.parametrize(("chance", "verdict"), [(0.02, "ship"), (0.24, "ship"), (0.9, "ship"), (1.0, "cannot_decide")])
def test_a_metric_that_guessing_always_reaches_decides_nothing(life: Life, chance: float, verdict: str) -> None:
    model = life.model()
    facts = Facts({"chance.recall@10.image_to_text.test": chance})
    life.store.put_evidence(replace(life.evaluated(model, 0.9), facts=facts, created="2026-11-30T09:00:00+00:00"))
    decision = life.decide(model, Policy("p", (replace(BOUNDS[0], at_least=0.25),)))
    assert decision.verdict == verdict
    if verdict == "cannot_decide":
        (reason,) = decision.reasons
        assert reason.cause == "met_by_chance"
        assert "guessing would give" in reason.message


def test_a_rule_about_a_suite_that_was_not_selected_names_the_command_that_runs_it(life: Life) -> None:
    model = life.model()
    life.store.put_evidence(replace(life.evaluated(model), facts=Facts(selected_suites=("retrieval",))))
    rule = replace(POLICY.rules[0], metric="ece", where=Tags(task="zero_shot"))
    (reason,) = life.decide(model, Policy("p", (rule,))).reasons
    assert reason.cause == "unknown_measurement"
    assert reason.message.endswith("ran retrieval only.")
    assert reason.command == f"clerestory evaluate {model[:12]} --data icons --suites calibration"
    never = replace(POLICY.rules[0], metric="recall@10", where=Tags(task="image_to_text", style="no such style"))
    assert not life.decide(model, Policy("p", (never,))).command, "the suite was run, and does not have it"


@pytest.mark.parametrize(
    ("rules", "options"),
    [
        ([("recall@10", {"task": "image_to_text", "split": "test"})], " --suites retrieval"),
        (
            [("ece", {"task": "zero_shot", "split": "test"}), ("accuracy", {"task": "zero_shot", "split": "test"})],
            " --suites calibration,classification",
        ),
        ([("accuracy", {"task": "colours", "split": "test"})], " --task colours.toml --suites tasks"),
        ([("cost_per_1000", {"task": "cost", "of": "zero_shot", "split": "test"})], ""),
        ([("peak_memory", {"task": "memory"}), ("cost_per_1000", {"task": "cost"})], ""),
    ],
)
def test_missing_evidence_is_measured_by_the_fewest_suites(
    life: Life, rules: list[tuple[str, dict[str, str]]], options: str
) -> None:
    """Every rule that lacks evidence names the one command that answers all of them; costs read other suites."""
    policy = Policy(
        "p", tuple(Rule(f"rule {i}", metric, Tags(where), at_least=0.1) for i, (metric, where) in enumerate(rules))
    )
    model, tasks = life.model(), ("colours.toml",) if "--task" in options else ()
    decision = gate(model, life.store, policy, DATA, tasks=tasks)
    assert {reason.command for reason in decision.reasons} == {
        f"clerestory evaluate {model[:12]} --data icons{options}"
    }


def test_only_the_rules_without_evidence_are_measured(life: Life) -> None:
    model = life.model()
    life.store.put_evidence(replace(life.evaluated(model), facts=Facts(selected_suites=("retrieval", "latency"))))
    rule = Rule("ood", "ood_auroc", Tags(task="ood", score="energy"), at_least=0.1)
    decision = life.decide(model, Policy("p", (*BOUNDS, rule)))
    assert decision.command == f"clerestory evaluate {model[:12]} --data icons --suites ood"


def test_a_model_that_is_not_in_the_store(life: Life) -> None:
    with pytest.raises(NotFound, match="no model"):
        life.decide("f" * 64)


def test_damaged_evidence_stops_the_gate(life: Life) -> None:
    model = life.model()
    path = life.store.blobs.path(life.evaluated(model).id)
    flip(path, 10)
    with pytest.raises(IntegrityError, match=str(path)):
        life.decide(model)


# Promote, roll back, roll forward.


def test_a_release_is_numbered_and_rests_on_its_evidence(life: Life) -> None:
    release = life.release()
    (evidence,) = life.store.find_evidence("evaluate")
    assert (release.ref, release.parent, release.evidence) == ("icons@1", 0, (evidence.id,))
    assert (release.who, release.why) == ("Ada", "a test")
    promote("icons@1", life.store, "Ada", "good")
    assert life.release(0.1).parent == 1


def test_only_what_may_ship_is_promoted(life: Life) -> None:
    life.release(0.1)
    with pytest.raises(
        Refused,
        match=r"icons@1 cannot be promoted: the gate's verdict is 'do not ship'; recall@10 .* is 10.0 %",
    ):
        promote("icons@1", life.store, "Ada", "please")
    register("icons", life.decide(life.model()), life.store, "Ada", "not evaluated")
    with pytest.raises(Refused, match=r"the gate's verdict is 'cannot decide'; .* — clerestory evaluate"):
        promote("icons@2", life.store, "Ada", "please")
    assert life.store.aliases() == []


def test_promotions_and_rollbacks_keep_what_was_live_before(life: Life) -> None:
    for _ in range(3):
        life.release()
    seen = []
    for ref in ("icons@1", "icons@2", "icons@3"):
        promote(ref, life.store, "Ada", "good")
        seen.append(life.live())
    assert seen == [(1, 0), (2, 1), (3, 2)]
    rollback("icons", life.store, "Bo", "bad")
    assert life.live() == (2, 1)
    rollback("icons", life.store, "Bo", "bad too")
    assert life.live() == (1, 0)
    with pytest.raises(NotFound, match="no release was live before icons@1"):
        rollback("icons", life.store, "Bo", "what now")
    assert promote("icons@3", life.store, "Ada", "mended").number == 3
    assert life.live() == (3, 1)
    rollback("icons", life.store, "Bo", "no")
    assert life.live() == (1, 0)
    told = [
        (r.event.kind, r.event.subject, r.event.who, r.event.details["from"]) for r in life.store.journal.records()[4:]
    ]
    assert told == [
        ("promoted", "icons@1", "Ada", ""),
        ("promoted", "icons@2", "Ada", "icons@1"),
        ("promoted", "icons@3", "Ada", "icons@2"),
        ("rolled_back", "icons@2", "Bo", "icons@3"),
        ("rolled_back", "icons@1", "Bo", "icons@2"),
        ("promoted", "icons@3", "Ada", "icons@1"),
        ("rolled_back", "icons@1", "Bo", "icons@3"),
    ]
    assert failed(verify("icons@live", life.store)) == []


def test_promoting_what_is_live_changes_nothing(life: Life) -> None:
    life.release()
    first = promote("icons@1", life.store, "Ada", "good")
    length = life.store.journal.head()[0]
    assert promote("icons@1", life.store, "Ada", "again") == first
    assert life.store.journal.head()[0] == length


def test_who_saw_an_older_state_does_not_promote(life: Life) -> None:
    life.release()
    life.release()
    promote("icons@1", life.store, "Ada", "good")
    with pytest.raises(Conflict, match="was moved by another process"):
        promote("icons@2", life.store, "Bo", "I saw nothing live", expected_generation=0)
    assert life.live() == (1, 0)
    assert promote("icons@2", life.store, "Bo", "I saw the first", expected_generation=1).generation == 2


def test_another_alias_leaves_live_and_previous_alone(life: Life) -> None:
    life.release()
    assert promote("icons@1", life.store, "Ada", "look at it", alias="candidate").alias == "candidate"
    assert life.live() == (0, 0)


def test_moves_that_cannot_be_made(life: Life) -> None:
    release = life.release()
    with pytest.raises(InputError, match="needs a reason"):
        promote("icons@1", life.store, "Ada", " ")
    with pytest.raises(NotFound, match=r"is a model and not a release — run the gate on it: clerestory release gate"):
        promote(release.model, life.store, "Ada", "x")
    with pytest.raises(NotFound, match="did you mean icons@1"):
        promote("icons@2", life.store, "Ada", "x")
    with pytest.raises(NotFound, match="did you mean icons"):
        rollback("icon", life.store, "Ada", "x")
    with pytest.raises(NotFound, match="no release of icons is live"):
        rollback("icons", life.store, "Ada", "x")
