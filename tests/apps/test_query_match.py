"""Whether a query matches any image: on the starter and some icons, against queries that none can answer."""

from __future__ import annotations

import pytest

from clerestory.apps.confidence import GUESS, fit_search
from clerestory.apps.query_match import random_texts
from clerestory.apps.search import build_index, search
from clerestory.core.sample import Dataset
from clerestory.models import open_reference
from clerestory.store import Store

ANSWERABLE = """
automobile|a red fruit|musical instrument with strings|a person riding a bicycle|a broken heart|hot drink|an angry face
sea creature with tentacles|a rocket going to space|christmas tree|envelope with mail|a pair of scissors
winning a trophy|clock showing time|dog|house|airplane taking off|pizza|laughing until crying|a crown for a king
"""
UNANSWERABLE = """
asdkjh qwe|xvzqpl wrtnk|fjdksla|blorptang vexnil|lkjhgf poiuy|hjkl hjkl|wqertyu mnbvc|ffgh rtyu|1234567890
quarterly tax deduction form|mitochondrial dna sequencing protocol|kubernetes deployment yaml
carburetor gasket for a 1972 datsun|postmodern literary criticism|eigenvalues of a hermitian matrix
plumbing fixture invoice|injection molding machine|prescription drug interaction list|municipal zoning ordinance
the french revolution of 1789
"""


def _queries(text: str) -> list[str]:
    return [query for line in text.strip().splitlines() for query in line.split("|")]


@pytest.fixture(scope="module")
def some_icons(icons: Dataset) -> Dataset:
    """Every style of a third of the concepts, so that each query of the test still has its images."""
    words = ("car", "apple", "guitar", "violin", "bik", "heart", "beverage", "angry", "octopus", "rocket", "christmas")
    words += ("envelope", "scissors", "trophy", "clock", "dog", "house", "airplane", "pizza", "tears", "crown")
    concepts = sorted({sample.concept for sample in icons})
    chosen = set(concepts[::6]) | {c for c in concepts if any(word in c for word in words)}
    return icons.filter(lambda sample: sample.concept in chosen and sample.groups["skin_tone"] == "none")


def test_answerable_and_unanswerable_queries_are_separated(some_icons: Dataset, store: Store) -> None:
    # Slow on a busy machine: it embeds a few thousand icons with the starter.
    model = open_reference("starter")
    index = build_index(model, some_icons, store)
    calibrators = fit_search(model, index, store)
    match = calibrators.query
    assert match is not None
    good, bad = (
        [match.is_answerable(index, row) for row in model.embed_texts(_queries(text))]
        for text in (ANSWERABLE, UNANSWERABLE)
    )
    assert len(good) == len(bad) == 20
    assert sum(good) >= 19
    assert sum(bad) <= 1
    assert match.num_known >= 50  # the held-out concepts of this subset
    assert match.false_alarms / match.num_known <= 0.25
    hits = search(model, index, "asdkjh qwe", 3)
    assert calibrators.of_text(hits, GUESS) == [GUESS] * 3


def test_random_texts_are_always_the_same() -> None:
    assert random_texts(5) == random_texts(9)[:5]
    assert all(1 <= len(text.split()) <= 3 for text in random_texts(50))
