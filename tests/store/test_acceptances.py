"""Acceptances: what holds on which day, and what lapses."""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clerestory.core.errors import InputError, NotFound
from clerestory.store import Store, open_store
from clerestory.store.acceptances import (
    Acceptance,
    Lapse,
    accept,
    acceptance_state,
    acceptances,
    check_code,
    expiry_date,
    today,
    withdraw,
)

DAY = date(2026, 6, 15)
SAMPLES = st.lists(st.sampled_from("abcdef"), unique=True, max_size=6)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(tmp_path / "home")


def acceptance(**changes: object) -> Acceptance:
    fields = {
        "code": "CLR-A015",
        "subject": "photos",
        "who": "Ada",
        "why": "frames of one film",
        "when": "2026-06-01T00:00:00+00:00",
        "expires": (today() + timedelta(days=30)).isoformat(),
        "count": 3,
    }
    return Acceptance(**{**fields, **changes})  # type: ignore[arg-type]


def test_what_is_recorded_is_read_back(store: Store) -> None:
    given_ = acceptance(samples=("a, b", 'c"\n'), digest="d" * 64)
    record = accept(store.journal, given_)
    (read,) = acceptances(store.journal, "photos")
    assert read.record == record.seq
    assert acceptance(samples=read.samples, digest=read.digest, record=0) == given_
    assert acceptances(store.journal, "photo") == []
    assert acceptances(store.journal) == [read]
    assert store.journal.verify() == []


def test_a_withdrawn_one_is_gone_and_its_record_is_not(store: Store) -> None:
    accept(store.journal, acceptance())
    accept(store.journal, acceptance(code="CLR-A014"))
    first, second = acceptances(store.journal, "photos")
    withdraw(store.journal, first, "Bob", "they are copies", "2026-06-02T00:00:00+00:00")
    assert acceptances(store.journal, "photos") == [second]
    assert [record.event.kind for record in store.journal.records()] == [
        "finding_accepted",
        "finding_accepted",
        "acceptance_withdrawn",
    ]


def test_it_holds_on_its_last_day_and_not_on_the_next() -> None:
    last = acceptance(expires=DAY.isoformat())
    assert acceptance_state([last], "CLR-A015", ["x"], 1, DAY).is_accepted
    after = acceptance_state([last], "CLR-A015", ["x"], 1, DAY + timedelta(days=1))
    assert (after.is_accepted, after.lapsed) == (False, ((last, Lapse.EXPIRED),))


def test_a_whole_finding_that_grew_is_open_and_named_samples_stay_accepted() -> None:
    whole, named = acceptance(count=2), acceptance(count=2, samples=("a",))
    grown = acceptance_state([whole], "CLR-A015", ["a", "b", "c"], 3, DAY)
    assert (grown.is_accepted, grown.open, grown.lapsed) == (False, ("a", "b", "c"), ((whole, Lapse.GROWN),))
    assert acceptance_state([whole], "CLR-A015", ["b"], 1, DAY).is_accepted
    partly = acceptance_state([named], "CLR-A015", ["a", "b", "c"], 3, DAY)
    assert (partly.is_accepted, partly.open, partly.lapsed) == (False, ("b", "c"), ())
    assert acceptance_state([named], "CLR-A015", ["a"], 1, DAY).is_accepted


def test_a_renewed_acceptance_hides_the_expired_one() -> None:
    old = acceptance(expires=DAY.isoformat(), record=1)
    new = acceptance(record=2)
    state = acceptance_state([old, new], "CLR-A015", ["a"], 1, DAY + timedelta(days=1))
    assert (state.is_accepted, state.lapsed) == (True, ())


@given(SAMPLES, st.lists(SAMPLES.filter(bool), max_size=3))
def test_accepted_and_open_samples_are_all_samples(samples: list[str], named: list[list[str]]) -> None:
    state = acceptance_state([acceptance(samples=tuple(each)) for each in named], "CLR-A015", samples, 6, DAY)
    covered = {sample for each in named for sample in each}
    assert set(state.open) == set(samples) - covered
    assert state.is_accepted == (bool(samples) and set(samples) <= covered)


def test_acceptances_of_another_code_do_not_count() -> None:
    assert not acceptance_state([acceptance(code="CLR-A014")], "CLR-A015", ["a"], 1, DAY).is_accepted


@pytest.mark.parametrize(("written", "known"), [("a015", "CLR-A015"), (" clr-a015 ", "CLR-A015")])
def test_a_code_is_found_in_other_spellings(written: str, known: str) -> None:
    assert check_code(written) == known


def test_what_cannot_be_accepted_is_refused_before_anything_is_recorded(store: Store) -> None:
    with pytest.raises(NotFound) as unknown:
        accept(store.journal, acceptance(code="CLR-A0155"))
    assert "CLR-A015" in unknown.value.closest
    for changes in ({"expires": "2020-01-01"}, {"expires": "soon"}, {"why": " "}, {"who": ""}):
        with pytest.raises(InputError) as refused:
            accept(store.journal, acceptance(**changes))
        assert refused.value.fix
    assert store.journal.records() == []
    assert expiry_date(today().isoformat()) == today().isoformat()
