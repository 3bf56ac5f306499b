from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.images import solid_image
from tests.support.released_store import released_store
from tests.support.served_requests import prediction, write_feedback, write_predictions

from clerestory.apps.corrections import (
    DECIDED,
    MADE,
    NO_IMAGE,
    correction_effect,
    corrections_of,
    decide_corrections,
    effect_sentence,
    make_corrected_version,
)
from clerestory.apps.datasets import load_dataset
from clerestory.core.errors import InputError
from clerestory.core.sample import Dataset
from clerestory.store import Store, open_store
from clerestory.store.operations.feedback import CorrectionState, Feedback, FeedbackKind
from clerestory.store.operations.kept_images import KeptImages
from clerestory.store.operations.prediction import RequestKind

ACCEPTED, DECLINED = CorrectionState.ACCEPTED, CorrectionState.DECLINED


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with open_store(tmp_path / "home") as opened:
        yield opened


def correct(store: Store, data: Dataset) -> list[int]:
    """Four corrections: of a sample, of a kept image, of one that was not kept, and none (the suggested caption)."""
    items = [prediction(kind=RequestKind.CAPTION) for _ in range(4)]
    write_predictions(store, items)
    one, kept, lost, same = (item.response for item in items)
    KeptImages(store.files).keep(kept, solid_image())
    caption = FeedbackKind.CAPTION
    write_feedback(
        store,
        [
            Feedback(one, caption, "a corrected caption", item=data.samples[0].id),
            Feedback(kept, caption, "a plain square", suggested="a circle"),
            Feedback(lost, caption, "something else", suggested="a circle"),
            Feedback(same, caption, "A circle", suggested="a circle"),
        ],
    )
    return [each.number for each in corrections_of(store, data)]


def test_accepted_corrections_become_a_new_version(store: Store, few_icons: Dataset) -> None:
    numbers = correct(store, few_icons)
    assert len(numbers) == 3
    assert [each.problem for each in corrections_of(store, few_icons)] == ["", "", NO_IMAGE]
    with pytest.raises(InputError, match="cannot be accepted"):
        decide_corrections(store, few_icons, numbers, ACCEPTED, "ada", "they are right")
    with pytest.raises(InputError, match="reason"):
        decide_corrections(store, few_icons, numbers[:1], ACCEPTED, "ada", "")
    with pytest.raises(InputError, match="no correction is accepted"):
        make_corrected_version(store, few_icons, "icons", "better")
    decide_corrections(store, few_icons, numbers[:2], ACCEPTED, "ada", "they are right")
    decide_corrections(store, few_icons, numbers[2:], DECLINED, "ada", "not clear")
    made = make_corrected_version(store, few_icons, "icons", "better", who="ada")
    assert (made.changed, made.added, made.samples) == (1, 1, len(few_icons) + 1)
    data = load_dataset(store, "better")
    assert data.digest == made.digest
    old, new = few_icons.samples[0], data[few_icons.samples[0].id]
    assert new.caption == "a corrected caption"
    assert old.caption not in {caption.text for caption in new.captions}
    (added,) = [sample for sample in data if sample.id.startswith("feedback/")]
    assert (added.caption, data.read(added)) == ("a plain square", solid_image())
    kinds = [record.event.kind for record in store.journal.records()]
    assert (kinds.count(DECIDED), kinds.count(MADE)) == (2, 1)
    assert store.journal.verify() == []
    assert "corrected caption" not in str(store.journal.records())  # the journal has numbers and digests
    with pytest.raises(InputError, match="already"):
        make_corrected_version(store, few_icons, "icons", "better")


def test_the_effect_compares_the_release_that_answered_with_the_new_one(
    store: Store, few_icons: Dataset, tmp_path: Path
) -> None:
    released_store(store, tmp_path, count=2)
    items = [prediction(kind=RequestKind.SEARCH) for _ in range(12)]
    write_predictions(store, items)
    said = [
        Feedback(item.response, FeedbackKind.CAPTION, f"a thing {i}", item=few_icons.samples[i].id)
        for i, item in enumerate(items)
    ]
    write_feedback(store, said)
    with pytest.raises(InputError, match="no accepted"):
        correction_effect(store, few_icons, "icons@2")
    numbers = [each.number for each in corrections_of(store, few_icons)]
    decide_corrections(store, few_icons, numbers, ACCEPTED, "ada", "a test")
    same = correction_effect(store, few_icons, "icons@1")
    assert (same.fixed, same.broken) == (0, 0)  # the release that answered is compared with itself
    effect = correction_effect(store, few_icons, "icons@2")
    assert effect.corrections == 12
    assert effect.fixed <= effect.wrong_before
    if effect.wrong_before:
        assert effect.share is not None
        assert effect.share.n == effect.wrong_before
    assert effect.sentence.startswith("Your 12 corrections fixed")
    assert effect_sentence(store, "icons@2") == effect.sentence
    assert not effect.trained_on_them
