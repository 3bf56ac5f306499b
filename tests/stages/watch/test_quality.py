from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.served_requests import DAY, NOW, prediction, verdict, write_feedback, write_predictions

from clerestory.core.codec import Tags
from clerestory.stages.watch.quality import Period, quality_in_service, share_of, start_of
from clerestory.store import Store, open_store
from clerestory.store.operations.feedback import Feedback, FeedbackKind
from clerestory.store.operations.keyed_hash import KeyedHash
from clerestory.store.operations.prediction import Arm, RequestKind
from clerestory.store.operations.predictions import PredictionFilter


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with open_store(tmp_path / "home") as opened:
        yield opened


def test_a_late_label_counts_in_the_period_of_its_prediction(store: Store) -> None:
    old = [prediction(at=NOW - 14 * DAY, label="cat") for _ in range(4)]
    new = [prediction(at=NOW, label="dog") for _ in range(6)]
    write_predictions(store, old + new)
    labels = [Feedback(each.response, FeedbackKind.LABEL, "Cat ", "labels") for each in old[:3]]
    write_feedback(store, [*labels, Feedback(new[0].response, FeedbackKind.LABEL, "cat", "labels")])
    first, second = quality_in_service(store)
    assert (first.period, first.predictions, first.labelled) == ("2025-11-24", 6, 1)
    assert (second.period, second.predictions, second.labelled) == ("2025-11-10", 4, 3)
    assert second.completeness == 0.75
    assert first.right is not None
    assert first.right.value == 0
    assert second.right is not None
    assert (second.right.value, second.right.n) == (1.0, 3)
    assert second.right.low is not None
    assert second.right.low < 1
    assert second.sources == {"labels": 3}


def test_versions_arms_and_slices_are_told_apart(store: Store) -> None:
    items = [
        prediction(number=1),
        prediction(number=2, arm=Arm.CANDIDATE),
        prediction(number=2, arm=Arm.SHADOW),
        prediction(number=1, facts=Tags(language="de")),
        prediction(number=1, kind=RequestKind.EMBEDDINGS),
        prediction(number=1, status=500),
    ]
    write_predictions(store, items)
    rows = quality_in_service(store, slice_by="language")
    found = {(row.version, row.arm, row.where.get("language")): row.predictions for row in rows}
    assert found == {
        ("icons@1", "stable", "en"): 1,
        ("icons@1", "stable", "de"): 1,
        ("icons@2", "candidate", "en"): 1,
    }
    assert all(row.right is None for row in rows)
    only = quality_in_service(store, PredictionFilter(number=2))
    assert [row.version for row in only] == ["icons@2"]


def test_a_caption_is_right_if_it_is_the_suggested_one(store: Store) -> None:
    keyed = KeyedHash(store.files)
    items = [prediction(kind=RequestKind.CAPTION, label=keyed.of_caption("a red bus")) for _ in range(2)]
    write_predictions(store, items)
    captions = ["A red  bus", "a blue bus"]
    write_feedback(store, [Feedback(i.response, FeedbackKind.CAPTION, c) for i, c in zip(items, captions, strict=True)])
    (row,) = quality_in_service(store)
    assert row.right is not None
    assert (row.right.value, row.right.n) == (0.5, 2)


def test_the_newest_word_counts_and_an_empty_correction_withdraws(store: Store) -> None:
    items = [prediction(kind=RequestKind.SEARCH) for _ in range(2)]
    write_predictions(store, items)
    one, other = (item.response for item in items)
    write_feedback(store, [verdict(one, "wrong", item="a", at=1.0), verdict(one, "right", item="b", at=1.0)])
    write_feedback(store, [verdict(one, "right", item="a", source="expert", at=2.0)])
    write_feedback(store, [Feedback(one, FeedbackKind.THUMBS, "down"), Feedback(one, FeedbackKind.THUMBS, "up")])
    correction = Feedback(other, FeedbackKind.CAPTION, "a bus", suggested="a car")
    write_feedback(store, [correction, Feedback(other, FeedbackKind.CAPTION, "", suggested="a car")])
    (row,) = quality_in_service(store)
    assert row.labelled == 1
    assert row.right is not None
    assert (row.right.value, row.right.n) == (1.0, 2)
    assert row.right.method == share_of([(True, "a"), (True, "a")]).method  # type: ignore[union-attr]  # there is one
    assert row.thumbs_up is not None
    assert (row.thumbs_up.value, row.thumbs_up.n) == (1.0, 1)


def test_periods_begin_on_monday_and_on_the_first() -> None:
    assert start_of(Period.WEEK, NOW).isoformat() == "2025-11-24"
    assert start_of(Period.WEEK, NOW + 6 * DAY).isoformat() == "2025-11-24"
    assert start_of(Period.MONTH, NOW).isoformat() == "2025-11-01"
    assert start_of(Period.DAY, NOW + DAY).isoformat() == "2025-11-25"
