"""Names of people: one person in any spelling, and names that look like another."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clerestory.core.errors import InputError
from clerestory.core.people import person_key, person_name


@pytest.mark.parametrize(
    "other",
    [
        "bob",
        " BOB ",
        "B\u200bob",
        "\u202ebob",
        "Bo\u00adb",
        "B\ufe0fob",
        "Bob\u3164",
        "\uff22ob",
        "Bob.",
        "B0b",
        "\u0412ob",
    ]
    + ["\u0412\u043e\u044c", "\u0392\u03bf\u03b2"],
)
def test_one_person_in_any_spelling(other: str) -> None:
    assert person_key(other) == person_key("Bob")


@given(st.text(max_size=12))
def test_invisible_characters_and_case_change_no_person(name: str) -> None:
    hidden = "\u200b".join(name) + "\u2060"
    assert person_key(hidden) == person_key(name)


def test_different_people_stay_different() -> None:
    names = ["Bob", "Bobby", "Carol", "Ada", "Иван", "Мария", "Ελένη", "王伟", "José", "Jose", "علی"]
    assert len({person_key(name) for name in names}) == len(names)


@pytest.mark.parametrize("name", ["\u0412ob", "Bo\u03bf", "Ann \u0412ob"])
def test_a_word_of_two_scripts_is_refused(name: str) -> None:
    with pytest.raises(InputError, match="mixes .* and .* letters in one word"):
        person_name(name)


@pytest.mark.parametrize(
    ("name", "shown"),
    [("B\u200bob", "Bob"), (" Ada  Lovelace", "Ada Lovelace"), ("Иван (QA)", "Иван (QA)"), ("Anna 王", "Anna 王")],
)
def test_the_recorded_name_has_no_invisible_character(name: str, shown: str) -> None:
    assert person_name(name) == shown


def test_a_name_without_a_letter_is_refused() -> None:
    with pytest.raises(InputError, match="has no letter"):
        person_name("\u200b\u2060 -")
