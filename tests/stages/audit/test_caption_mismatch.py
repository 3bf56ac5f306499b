"""Captions that do not fit their image, with embeddings whose truth is known."""

from __future__ import annotations

import numpy as np
import pytest

from clerestory.core.digest import digest_bytes
from clerestory.core.sample import Caption, Dataset, Sample
from clerestory.stages.audit.caption_mismatch import (
    NUM_REFERENCE,
    MismatchScores,
    captions_to_match,
    check_mismatch,
    mismatch_scores,
)


def unit(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def embeddings(num: int, swapped: int, noise: float = 1.5, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Images, captions of which the first ``swapped`` belong to other images, and which of them do."""
    rng = np.random.default_rng(seed)
    content = rng.normal(size=(num, 32))
    images = unit(content + 0.5 * rng.normal(size=(num, 32)) + 2)  # the 2 is common to all, as in real models
    shown = content.copy()
    shown[:swapped] = content[np.roll(np.arange(swapped), 1)]
    general = rng.uniform(0, 3, size=(num, 1))  # some captions are similar to every image
    texts = unit(shown + noise * rng.normal(size=(num, 32)) + 2 + general)
    return images, texts, np.arange(num) < swapped


def dataset(num: int, captions: int = 1) -> Dataset:
    texts = tuple(Caption(f"caption {i}") for i in range(captions))
    samples = [Sample(f"s{i:05}", digest_bytes(str(i).encode()), texts) for i in range(num)]
    return Dataset("test", samples, lambda sample: b"")


@pytest.mark.parametrize("swapped", [50, 100, 300])
def test_swapped_captions_are_found_and_few_others(swapped: int) -> None:
    images, texts, wrong = embeddings(1000, swapped)
    scores = mismatch_scores(images, texts, np.arange(1000), np.arange(1000))
    flagged, expected = scores.flagged(0.2)
    assert expected <= 0.2
    assert 1 - wrong[flagged].mean() <= 0.3
    assert wrong[flagged].sum() >= 0.5 * swapped
    assert scores.share == pytest.approx(swapped / 1000, abs=0.03)
    raw = (images * texts).sum(axis=1)
    assert auroc(-scores.score, wrong) > auroc(-raw, wrong) + 0.02  # a general caption is similar to every image


def test_nothing_is_flagged_where_nothing_is_wrong_or_the_embedder_cannot_tell() -> None:
    data = dataset(1000)
    captions = captions_to_match(data)
    for seed in range(3):
        images, texts, _ = embeddings(1000, 0, seed=seed)
        assert sum(len(found.samples) for found in check_mismatch(data, images, texts, captions)) <= 3
        images, texts, _ = embeddings(1000, 200, noise=1000, seed=seed)
        assert check_mismatch(data, images, texts, captions) == []


def test_the_detection_names_captions_in_the_order_of_the_dataset() -> None:
    data = dataset(600, captions=2)
    images, first, wrong = embeddings(600, 90, noise=0.8)
    texts = np.repeat(first, 2, axis=0)
    texts[1::2] = unit(images + 0.1 * first)  # every second caption fits
    captions = captions_to_match(data)
    assert captions[:3] == [(0, 0), (0, 1), (1, 0)]
    (found,) = check_mismatch(data, images, texts, captions)
    assert (found.code.code, found.checked) == ("CLR-A029", 600)
    assert list(found.samples) == sorted(found.samples)
    assert all(note.startswith("caption 1: mismatch with probability") for note in found.notes.values())
    right = {f"s{i:05}" for i in np.flatnonzero(~wrong)}
    assert len(right & set(found.samples)) <= 0.3 * len(found.samples)
    assert f"{len(found.samples)} of 1,200 captions" in found.message


def test_unreadable_images_copies_and_small_datasets() -> None:
    images, texts, _ = embeddings(400, 40, noise=0.8)
    images[5] = np.nan
    copies = np.arange(400)
    copies[300:] = 299  # copies of one image are not "other" images
    scores = mismatch_scores(images, texts, np.arange(400), copies)
    assert np.isnan(scores.score[5])
    assert np.isfinite(np.delete(scores.score, 5)).all()
    for num in (0, 1, 99):
        few = mismatch_scores(images[:num], texts[:num], np.arange(num), np.arange(num))
        assert not len(few.flagged()[0])
    same = mismatch_scores(images, texts, np.arange(400), np.zeros(400, dtype=np.int64))
    assert not len(same.flagged()[0])  # all samples have one image
    assert check_mismatch(dataset(0), images[:0], texts[:0], []) == []


def test_the_share_of_false_alarms_bounds_what_is_flagged() -> None:
    score = np.array([-2.0, -1, 0, 1, np.nan])
    scores = MismatchScores(score, np.array([1.0, 0.9, 0.5, 0.0, np.nan]), 0.6)
    assert scores.flagged(0.04)[0].tolist() == [0]
    assert scores.flagged(0.05)[0].tolist() == [0, 1]
    positions, expected = scores.flagged(0.2)
    assert (positions.tolist(), expected) == ([0, 1, 2], pytest.approx(0.2))
    assert scores.flagged(1)[0].tolist() == [0, 1, 2, 3]


def test_the_scores_of_a_large_dataset_need_a_sample_of_images_only() -> None:
    images, texts, _ = embeddings(3 * NUM_REFERENCE, 100)
    scores = mismatch_scores(images, texts, np.arange(len(images)), np.arange(len(images)))
    similarity = texts.astype(float) @ images.T.astype(float)
    np.fill_diagonal(similarity, np.nan)
    exact = (np.einsum("nd,nd->n", texts, images) - np.nanmean(similarity, 1)) / np.nanstd(similarity, 1)
    assert np.abs(scores.score - exact).max() < 0.3
    assert np.corrcoef(scores.score, exact)[0, 1] > 0.99


def test_keywords_and_other_languages_are_not_matched() -> None:
    captions = (Caption("a dog"), Caption("pet", kind="keyword"), Caption("ein Hund", "de"))
    data = Dataset("test", [Sample("s", "0" * 64, captions)], lambda sample: b"")
    assert captions_to_match(data) == [(0, 0), (0, 2)]
    assert captions_to_match(data, ("en",)) == [(0, 0)]


def auroc(score: np.ndarray, positive: np.ndarray) -> float:
    return float((score[positive][:, None] > score[~positive]).mean())
