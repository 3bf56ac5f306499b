"""Statements of people: recorded in the journal, never edited, and refused when they are no evidence."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from tests.support.governed import gated
from tests.support.release_life import Life

from clerestory.core.errors import InputError
from clerestory.core.release import Event
from clerestory.stages.govern.catalogue import Catalogue, Item, load_catalogue
from clerestory.stages.govern.statements import (
    DEFAULT_DAYS,
    MAX_TEXT,
    newest_statements,
    state_items,
    withdraw,
)
from clerestory.stages.govern.verifiers import verifiers
from clerestory.store import Store

RMF = load_catalogue("nist-ai-rmf-1.0", tuple(verifiers()))
NOW = datetime.now(UTC)


def item(name: str) -> list[tuple[Catalogue, Item]]:
    return [(RMF, RMF.item(name))]


def day(days: int) -> str:
    return (NOW + timedelta(days=days)).date().isoformat()


def test_the_newest_statement_counts_and_all_stay_in_the_journal(store: Store) -> None:
    state_items(store, item("GOVERN 2.1"), "First.", who="Ada", expires=day(3))
    both = state_items(store, [*item("GOVERN 2.1"), *item("GOVERN 2.2")], "Both.", who="Grace")
    assert [each.item for each in both] == ["GOVERN 2.1", "GOVERN 2.2"]
    assert both[0].expires == day(DEFAULT_DAYS)
    newest = newest_statements(store.journal.records())
    assert newest["nist-ai-rmf-1.0", "GOVERN 2.1"] == both[0]
    assert [record.event.why for record in store.journal.records()] == ["First.", "Both.", "Both."]
    assert store.journal.verify() == []


def test_a_withdrawn_statement_does_not_bring_back_the_one_before(store: Store) -> None:
    state_items(store, item("GOVERN 2.1"), "First.")
    state_items(store, item("GOVERN 2.1"), "It is out of scope.", not_applicable=True)
    assert next(iter(newest_statements(store.journal.records()).values())).not_applicable
    assert [each.text for each in withdraw(store, item("GOVERN 2.1"), "Wrong.")] == ["It is out of scope."]
    assert newest_statements(store.journal.records()) == {}
    with pytest.raises(InputError, match="no statement about GOVERN 2.1"):
        withdraw(store, item("GOVERN 2.1"), "Again.")
    with pytest.raises(InputError, match="needs a reason"):
        withdraw(store, item("GOVERN 2.1"), " ")


def test_a_statement_carries_the_release_it_is_about(life: Life) -> None:
    release = gated(life)
    (made,) = state_items(life.store, item("GOVERN 1.4"), "Read.", release=release)
    assert (made.release, made.model) == (release.ref, release.model)


@pytest.mark.parametrize(
    ("text", "expires", "who", "words"),
    [
        ("", "", "", "needs a text"),
        (" \n", "", "", "needs a text"),
        ("x" * (MAX_TEXT + 1), "", "", "has 4,001 characters, more than 4,000"),
        ("x", "tomorrow", "", "'tomorrow' is not a date"),
        ("x", "2027-02-30", "", "is not a date"),
        ("x", day(-1), "", "would have expired already"),
        ("x", day(6 * 366), "", "more than five years away"),
        ("x", "", "a\x1b[31mb", "is not a name"),
        ("x", "", "a" * 201, "is not a name"),
    ],
)
def test_what_is_no_statement_is_one_sentence_and_records_nothing(
    store: Store, text: str, expires: str, who: str, words: str
) -> None:
    with pytest.raises(InputError, match=words) as error:
        state_items(store, item("GOVERN 2.1"), text, expires=expires, who=who)
    assert error.value.fix
    assert store.journal.records() == []


def test_the_day_itself_and_strange_letters_are_accepted(store: Store) -> None:
    (made,) = state_items(store, item("GOVERN 2.1"), "Größe 😀\udcff", expires=day(0), who="Ångström")
    assert newest_statements(store.journal.records())["nist-ai-rmf-1.0", "GOVERN 2.1"].text == made.text
    assert "\\xff" in made.text


def test_nobody_states_anything_with_a_clock_in_the_past(store: Store) -> None:
    later = (NOW + timedelta(days=2)).isoformat(timespec="seconds")
    store.journal.append(Event("data_added", "icons", "Ada", "a test", later))
    for call in (
        lambda: state_items(store, item("GOVERN 2.1"), "x", now=NOW),
        lambda: withdraw(store, item("GOVERN 2.1"), "x", now=NOW),
    ):
        with pytest.raises(InputError, match="the clock of this computer says"):
            call()
    assert len(store.journal.records()) == 1
    state_items(store, item("GOVERN 2.1"), "x", now=NOW + timedelta(days=2))
