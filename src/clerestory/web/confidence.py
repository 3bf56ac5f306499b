"""Calibrated confidence: similarity scores as words that stand for a measured accuracy.

A similarity means nothing to people, and the same value means different things for different models. So when a model is
loaded, it answers queries with known answers, held out from training where the dataset has such a split. Isotonic
regression of correctness on the score then gives the accuracy that each word stands for.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import isotonic_regression

from clerestory.apps.search import SearchIndex
from clerestory.core.codec import decode
from clerestory.core.digest import canonical
from clerestory.core.errors import DataError
from clerestory.core.provenance import code_digest
from clerestory.core.sample import TEST, TEST_STYLE, TRAIN, VAL, Dataset, Sample
from clerestory.data.images import decode_sample
from clerestory.models.protocols import Captioner, Embedder
from clerestory.stats.ranking import top
from clerestory.store import Store

MAX_QUERIES = 240
MAX_CAPTIONED = 48
TOP_K = 10
MIN_ANSWERS = 60  # with fewer, no calibrator is fitted
MAX_BINS = 16

# Minimum accuracy, level and label.
LEVELS = ((0.7, 3, "very sure"), (0.4, 2, "fairly sure"), (0.15, 1, "not so sure"), (0.0, 0, "a guess"))


@dataclass(frozen=True, slots=True)
class Confidence:
    """The confidence of one answer: a label, a level from 0 to 3, and one sentence that explains it."""

    label: str
    level: int
    detail: str


@dataclass(frozen=True, slots=True)
class ScoreCalibrator:
    """A monotone map from scores to accuracy.

    Attributes:
        scores: mean score of each bin, rising.
        accuracies: share of correct answers at these scores, never falling.
        num_answers: the number of answers it was fitted on.
        num_queries: the number of queries they belong to.
        held_out: whether all queries are about samples outside the training split.
    """

    scores: tuple[float, ...]
    accuracies: tuple[float, ...]
    num_answers: int
    num_queries: int
    held_out: bool

    def confidence(self, score: float) -> Confidence:
        """The confidence of an answer with this score."""
        accuracy = float(np.interp(score, self.scores, self.accuracies))
        level, label = next((level, label) for minimum, level, label in LEVELS if accuracy >= minimum)
        return Confidence(label, level, f"Of 100 answers with such a score, about {round(100 * accuracy)} were right")


@dataclass(frozen=True, slots=True)
class Calibrators:
    """The calibrators of one model on one dataset; None where there were too few answers to fit one."""

    text_search: ScoreCalibrator | None = None
    image_search: ScoreCalibrator | None = None
    captions: ScoreCalibrator | None = None


def explain(calibrator: ScoreCalibrator | None, queries: str, correct_when: str) -> str:
    """What the confidence labels mean, for the user of a page.

    Args:
        calibrator: the fitted calibrator.
        queries: the kind of its queries, such as "names of things".
        correct_when: one sentence on which answers count as correct.
    """
    if calibrator is None:
        return "It has not been measured for these pictures, since too few of them have known names."
    held_out = " that the model had never seen in training" if calibrator.held_out else ""
    levels = "; ".join(f"“{label}” at least {round(100 * minimum)} in 100" for minimum, _, label in LEVELS[:-1])
    return (
        f"It was measured on this computer, with {calibrator.num_queries} {queries}{held_out}: {correct_when} "
        f"The words say how many of the answers with such a score were right: {levels}; “{LEVELS[-1][2]}” fewer. "
        "Engineers call this a calibrated confidence."
    )


def fit_calibrators(
    model: Embedder | Captioner, index: SearchIndex | None, data: Dataset | None, store: Store
) -> Calibrators:
    """Fit the calibrators, or read them from the store if that was done before."""
    if index is None or data is None or not isinstance(model, Embedder):
        return Calibrators()
    key = f"score-calibrators/{model.digest}/{data.digest}/{code_digest('data', 'models', 'web/confidence')}"
    cached = store.cache_get(key)
    if cached is not None:
        return decode(Calibrators, json.loads(store.blobs.get(cached)))
    queries, held_out = _choose_queries(index)
    rows = [i for i, _ in queries]
    result = Calibrators()
    if queries:
        images = index.embeddings()
        texts = model.embed_texts([sample.caption for _, sample in queries])
        by_text = _search_answers(index, images @ texts.T, queries, include_query=True)
        by_image = _search_answers(index, images @ images[rows].T, queries, include_query=False)
        result = Calibrators(
            text_search=_fit(by_text, len(queries), held_out),
            image_search=_fit(by_image, len(queries), held_out),
            captions=_fit_captions(model, data, [sample for _, sample in queries], held_out),
        )
    store.cache_content(key, canonical(result))
    return result


def _choose_queries(index: SearchIndex) -> tuple[list[tuple[int, Sample]], bool]:
    """One image of each concept with its row in the index, from a held-out split where the dataset has one."""
    readable = np.isfinite(index.embeddings()[:, 0])
    splits = {sample.split for sample in index.samples}
    held_out = next((split for split in (TEST, VAL, TEST_STYLE) if split in splits), None)
    concepts: dict[str, tuple[int, Sample]] = {}
    for i, sample in enumerate(index.samples):
        if sample.caption and readable[i] and held_out in {None, sample.split}:
            concepts.setdefault(_concept(sample), (i, sample))
    chosen = list(concepts.values())
    step = max(1, len(chosen) // MAX_QUERIES)
    return chosen[::step][:MAX_QUERIES], held_out is not None and TRAIN in splits


def _concept(sample: Sample) -> str:
    return sample.concept or sample.caption.casefold()


def _search_answers(
    index: SearchIndex, scores: NDArray[np.float32], queries: Sequence[tuple[int, Sample]], include_query: bool
) -> list[tuple[float, bool]]:
    """Score and correctness of the first ``TOP_K`` hits of each query; ``scores`` is (images, queries)."""
    answers = []
    for (row, sample), column in zip(queries, scores.T, strict=True):
        hits = [i for i in top(column, TOP_K + 1).tolist() if include_query or i != row]
        answers += [(float(column[i]), _concept(index.samples[i]) == _concept(sample)) for i in hits[:TOP_K]]
    return answers


def _fit_captions(
    model: Embedder | Captioner, data: Dataset, samples: Sequence[Sample], held_out: bool
) -> ScoreCalibrator | None:
    """Fit on suggested captions; one is correct if it equals a caption of the image."""
    if not isinstance(model, Captioner):
        return None  # no remote model is both an Embedder and a Captioner, so no image is sent anywhere here
    answers, num_captioned = [], 0
    for sample in samples[:: max(1, len(samples) // MAX_CAPTIONED)][:MAX_CAPTIONED]:
        try:
            image = decode_sample(data, sample)
        except DataError:
            continue
        num_captioned += 1
        captions = {caption.text.casefold() for caption in sample.captions}
        answers += [(s.score, s.text.casefold() in captions) for s in model.caption_images([image], 3)[0]]
    return _fit(answers, num_captioned, held_out)


def _fit(answers: Sequence[tuple[float, bool]], num_queries: int, held_out: bool) -> ScoreCalibrator | None:
    """Accuracy by score: bins of equally many answers, then isotonic regression."""
    if len(answers) < MIN_ANSWERS:
        return None
    ordered = sorted(answers)
    bins = np.array_split(np.array(ordered, dtype=float), max(2, min(MAX_BINS, len(ordered) // (MIN_ANSWERS // 2))))
    scores = [float(one[:, 0].mean()) for one in bins]
    accuracies = isotonic_regression([one[:, 1].mean() for one in bins], weights=[len(one) for one in bins]).x
    rounded = tuple(round(float(accuracy), 4) for accuracy in accuracies)
    return ScoreCalibrator(tuple(scores), rounded, len(ordered), num_queries, held_out)
