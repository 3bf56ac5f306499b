"""The first step of the demo: the included photographs are searched with the included model."""

from __future__ import annotations

from clerestory.core.progress import QUIET
from clerestory.flows import PHOTO_QUERIES, search_photographs
from clerestory.store import Store

FOUND = {
    "a cup of coffee": "coffee.png",
    "sheep on a meadow": "sheep.jpg",
    "boats on a river": "boats-in-a-village.jpg",
}
ABSENT = "a birthday cake"


def test_the_demo_finds_the_photographs_it_searches_for_and_says_where_none_matches(store: Store) -> None:
    lines = dict(line.split(": ", 1) for line in search_photographs(store, QUIET))
    assert {*FOUND, ABSENT} == set(PHOTO_QUERIES)
    for query, photograph in FOUND.items():
        assert lines[query].startswith(f"{photograph} ("), lines[query]
    assert "no good match" in lines[ABSENT]
    assert "--data photographs" in lines["search them yourself"]
