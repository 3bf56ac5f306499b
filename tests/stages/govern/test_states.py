"""The answer to a requirement: never passed without its verifiers, and the worst of them decides."""

from __future__ import annotations

from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clerestory.stages.govern.catalogue import Item
from clerestory.stages.govern.check import Check, Outcome
from clerestory.stages.govern.statements import Standing, Statement, item_digest, standing_of
from clerestory.stages.govern.states import ItemState, combine

OUTCOMES = st.sampled_from(list(Outcome))
NAMES = ("a", "b", "c")


def statement(item: Item, *, not_applicable: bool = False, **other: str) -> Statement:
    facts = {"expires": "2027-06-30", "item_digest": item_digest(item), "model": "m", "release": "icons@1"} | other
    return Statement("c", item.id, "Ada", "2026-12-01", "It is so.", not_applicable=not_applicable, **facts)


def standing(item: Item, *, today: str = "2026-12-02", intact: bool = True, model: str = "m", **other: str) -> Standing:
    made = statement(item, **other)
    return standing_of(made, item, model=model, today=date.fromisoformat(today), journal_intact=intact)


@given(st.sampled_from("MPS"), st.dictionaries(st.sampled_from(NAMES), OUTCOMES), st.booleans(), st.booleans())
def test_passed_needs_every_verifier_and_every_person(
    kind: str, results: dict[str, Outcome], stated: bool, counts: bool
) -> None:
    item = Item("1", kind, "t", verifiers=NAMES if kind != "S" else ())  # type: ignore[arg-type]
    said = standing(item, today="2026-12-02" if counts else "2028-01-01") if stated else None
    answer = combine("c", item, [Check(name, outcome, "m") for name, outcome in results.items()], said)
    all_passed = set(results) == set(NAMES) and set(results.values()) == {Outcome.PASSED}
    signed = stated and counts
    expected = {"M": all_passed, "P": all_passed and signed, "S": signed}[kind]
    assert (answer.state is ItemState.PASSED) == expected
    assert (answer.basis != "") == expected
    if kind != "S" and Outcome.FAILED in results.values() and set(results) == set(NAMES):
        assert answer.state is ItemState.FAILED
    assert answer.message


@pytest.mark.parametrize("kind", ["M", "P"])
def test_the_worst_outcome_decides(kind: str) -> None:
    item = Item("1", kind, "t", verifiers=("a", "b"))  # type: ignore[arg-type]
    order = (Outcome.FAILED, Outcome.STALE, Outcome.UNTESTED, Outcome.PASSED)
    for i, first in enumerate(order):
        for second in order[i:]:
            checks = [Check("a", second, "second.", command="x"), Check("b", first, "first.", command="y")]
            answer = combine("c", item, checks, standing(item))
            assert answer.state.value == first.value
            assert answer.message.startswith("second. first." if first is second else "first.")


def test_of_checks_that_are_not_its_own_none_counts() -> None:
    item = Item("1", "M", "t", verifiers=("a",))
    answer = combine("c", item, [Check("b", Outcome.PASSED, "m")], None)
    assert answer.state is ItemState.UNTESTED
    assert combine("c", Item("1", "M", "t"), [], None).state is ItemState.UNTESTED


@pytest.mark.parametrize(
    ("change", "state", "words"),
    [
        ({}, ItemState.PASSED, "Ada (2026-12-01, until 2027-06-30) stated: It is so."),
        ({"today": "2027-06-30"}, ItemState.PASSED, "stated"),
        ({"today": "2027-07-01"}, ItemState.STALE, "expired on 2027-06-30"),
        ({"item_digest": "x"}, ItemState.STALE, "another wording"),
        ({"intact": False}, ItemState.FAILED, "changed outside Clerestory"),
    ],
)
def test_a_statement_counts_while_nothing_under_it_has_changed(change, state, words) -> None:
    item = Item("1", "S", "t")
    answer = combine("c", item, [], standing(item, **change))
    assert answer.state is state
    assert words in answer.message


def test_a_signature_holds_for_one_model_and_a_statement_for_all() -> None:
    check = [Check("a", Outcome.PASSED, "m.")]
    signed = Item("1", "P", "t", verifiers=("a",))
    assert combine("c", signed, check, standing(signed)).basis == "measured_and_signed"
    answer = combine("c", signed, check, standing(signed, model="other"))
    assert answer.state is ItemState.STALE
    assert "signed for icons@1, which has another model" in answer.message
    stated = Item("1", "S", "t")
    assert combine("c", stated, [], standing(stated, model="other")).state is ItemState.PASSED


@pytest.mark.parametrize("kind", ["M", "P", "S"])
def test_not_applicable_needs_a_reason_that_still_counts(kind: str) -> None:
    item = Item("1", kind, "t", verifiers=("a",) if kind != "S" else ())  # type: ignore[arg-type]
    made = statement(item, not_applicable=True)
    for day, state in (("2027-06-30", ItemState.NOT_APPLICABLE), ("2027-07-01", ItemState.STALE)):
        said = standing_of(made, item, model="", today=date.fromisoformat(day), journal_intact=True)
        assert combine("c", item, [Check("a", Outcome.FAILED, "m")], said).state is state
