"""Whether a query matches any image: on the starter and some icons, against queries that none can answer."""

from __future__ import annotations

import json
import string
from pathlib import Path

import numpy as np
import pytest

from clerestory.apps.confidence import NO_MATCH, SearchCalibrators, fit_search
from clerestory.apps.query_match import fit_query_match, random_texts, random_words
from clerestory.apps.search import build_index, search
from clerestory.core.sample import Caption, Dataset, Sample
from clerestory.data import open_data
from clerestory.models import open_reference, require_capability
from clerestory.store import Store

# The method was chosen without any of these; an earlier one was tried on those that are not "new".
QUERIES = json.loads(Path(__file__).with_name("queries.json").read_text(encoding="utf-8"))


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
    passed = [
        [match.is_answerable(index, row) for row in model.embed_texts(QUERIES[kind])]
        for kind in ("answerable", "new_answerable", "unanswerable", "new_unanswerable")
    ]
    assert [len(each) for each in passed] == [20] * 4
    good, new_good, bad, new_bad = map(sum, passed)
    assert good >= 18
    assert new_good >= 16
    assert bad <= 2
    assert new_bad <= 2
    assert match.num_known >= 40  # half of the held-out concepts of this subset
    assert match.false_alarms / match.num_known <= 0.25
    assert match.misses / match.num_random <= 0.25
    hits = search(model, index, "asdkjh qwe", 3)
    assert calibrators.of_text(hits, NO_MATCH) == [NO_MATCH] * 3


def test_random_words_are_in_no_caption() -> None:
    samples = [Sample("1", "0" * 64, (Caption("an absent friend"),))]
    vocabulary = ["absent", "friend", "the", "18th", *(f"word{letter}" for letter in string.ascii_lowercase)]
    texts = random_words(vocabulary, samples, 20)
    assert texts == random_words(reversed(vocabulary), samples, 20)
    assert {word[:4] for text in texts for word in text.split()} == {"word"}
    assert {len(text.split()) for text in texts} == {2, 3}
    assert random_words(["one", "word"], samples, 20) == []


def test_random_texts_are_always_the_same() -> None:
    assert random_texts(5) == random_texts(9)[:5]
    assert all(1 <= len(text.split()) <= 3 for text in random_texts(50))


ANSWERABLE = ("a cat", "purple flowers", "snowy mountains", "boats at the beach", "a cup of coffee", "an astronaut")
UNANSWERABLE = ("a plate of sushi", "a computer screen", "children on a swing", "a pizza", "a wedding", "an old car")


def test_without_captions_random_words_tell_what_photographs_can_answer(store: Store) -> None:
    model = require_capability(open_reference("photos"), "Embedder")
    index = build_index(model, open_data("photographs"), store)
    match = fit_query_match(model, index, np.zeros((0, model.dims[-1]), np.float32))
    assert match is not None
    assert match.misses == pytest.approx(match.num_random / 10, abs=1)

    def answerable(queries: tuple[str, ...]) -> int:
        return sum(match.is_answerable(index, row) for row in model.embed_texts(queries))

    assert answerable(ANSWERABLE) >= 5
    assert answerable(UNANSWERABLE) <= 1
    hits = search(model, index, "a cat", 3)
    words = [c.label for c in SearchCalibrators(query=match).of_text(hits) if c]
    assert words == ["likely", "unlikely", "unlikely"]
