"""The words of a query as a person writes them; the pages and the command line read them with one function."""

from __future__ import annotations

import pytest

from clerestory.apps.folder_index.query import MAX_QUERY_LENGTH, parse_query


@pytest.mark.parametrize(
    ("text", "words", "without"),
    [
        ("beach -people", "beach", ("people",)),
        ("-people  beach", "beach", ("people",)),
        ('beach -"a street lamp" sunset -dog', "beach sunset", ("a street lamp", "dog")),
        ("a t-shirt", "a t-shirt", ()),
        ("before - after", "before - after", ()),
        ("x --y", "x --y", ()),
        ("-straße 海-辺", "海-辺", ("straße",)),
        ("  ", "", ()),
        ("-only", "", ("only",)),
    ],
)
def test_a_word_after_a_minus_is_avoided(text: str, words: str, without: tuple[str, ...]) -> None:
    assert parse_query(text)[1:] == (words, without, "")


def test_a_query_that_is_too_long_is_cut_and_said_to_be() -> None:
    parsed = parse_query("dog " * 1250)
    assert len(parsed.text) <= MAX_QUERY_LENGTH
    assert parsed.words == parsed.text
    assert parsed.problem == "the query has 4,999 characters, and only the first 300 are searched for"
    assert not parse_query("x" * MAX_QUERY_LENGTH).problem
