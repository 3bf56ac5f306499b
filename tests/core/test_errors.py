from __future__ import annotations

import string

from hypothesis import given, settings
from hypothesis import strategies as st

from clerestory.core.errors import MAX_COMPARED, MAX_NAME, closest

NAMES = [f"animals/{a}{b}{c}-face" for a in string.ascii_lowercase for b in "aeiou" for c in string.ascii_lowercase]


@settings(deadline=None)
@given(st.sampled_from(NAMES), st.integers(8, 15), st.sampled_from("xyz-_"))
def test_a_misspelt_name_is_found_among_very_many(name: str, position: int, letter: str) -> None:
    assert len(NAMES) > MAX_COMPARED
    misspelt = name[:position] + letter + name[position + 1 :]
    assert closest(misspelt, NAMES)
    assert name in closest(misspelt, NAMES, limit=200)


def test_among_few_names_every_one_is_compared() -> None:
    assert closest("ab", ["ba", "cd"]) == ("ba",)  # no pair of letters in common


def test_a_name_longer_than_any_is_not_compared() -> None:
    assert closest("x" * (MAX_NAME + 1), ["x" * (MAX_NAME + 1)]) == ()
    assert closest("x" * 50_000_000, NAMES) == ()
