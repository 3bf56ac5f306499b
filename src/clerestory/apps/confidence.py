"""Calibrated confidence: similarity scores as words that stand for a measured accuracy.

A similarity means nothing to people, and the same value means different things for different models. So before a model
is used, it answers queries with known answers, held out from training where the dataset has such a split. Isotonic
regression of correctness on the score then gives the accuracy that each word stands for. The command line, CSV files
and the pages show these words, never a score.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from math import isnan

import numpy as np
from numpy.typing import NDArray

from clerestory.apps.query_match import QueryMatch, fit_query_match
from clerestory.apps.right_model import photo_encoder
from clerestory.apps.search import SearchHit, SearchIndex
from clerestory.core.codec import decode
from clerestory.core.digest import canonical
from clerestory.core.errors import DataError
from clerestory.core.progress import QUIET, Progress
from clerestory.core.provenance import code_digest
from clerestory.core.sample import TEST, TEST_STYLE, TRAIN, VAL, Dataset, Sample
from clerestory.data.images import decode_sample
from clerestory.models.protocols import AnyModel, Captioner, Embedder
from clerestory.stats.ranking import top
from clerestory.store import Store

MAX_QUERIES = 240
MAX_CAPTIONED = 48
TOP_K = 10
MIN_ANSWERS = 60  # with fewer, no calibrator is fitted
MAX_BINS = 16

NOT_MEASURED = "not measured"  # in place of a label

# Minimum accuracy, level and label. The labels are the same wherever a confidence is shown.
LEVELS = ((0.5, 2, "likely"), (0.15, 1, "possible"), (0.0, 0, "unlikely"))
(_, LIKELY_LEVEL, LIKELY_LABEL), (_, POSSIBLE_LEVEL, POSSIBLE_LABEL), (_, UNLIKELY_LEVEL, UNLIKELY_LABEL) = LEVELS


@dataclass(frozen=True, slots=True)
class Confidence:
    """The confidence of one answer: a label, a level from 0 to 2, and one sentence that explains it."""

    label: str
    level: int
    detail: str


NO_MATCH = Confidence(UNLIKELY_LABEL, UNLIKELY_LEVEL, "The query matches nothing here better than random words do")
FOREIGN = Confidence(
    UNLIKELY_LABEL, UNLIKELY_LEVEL, "The query seems to be in a language that the model was not trained on"
)
UNLIKE = Confidence(UNLIKELY_LABEL, UNLIKELY_LEVEL, "It does not look like what the model was trained on")
# Where no accuracy can be measured: of images without captions, or with captions that each describe one image only.
LIKELY = Confidence(LIKELY_LABEL, LIKELY_LEVEL, "Of 100 random queries, only 1 finds anything this similar")
POSSIBLE = Confidence(POSSIBLE_LABEL, POSSIBLE_LEVEL, "Of 100 random queries, fewer than 10 find anything this similar")
UNLIKELY = Confidence(UNLIKELY_LABEL, UNLIKELY_LEVEL, "Random queries find something this similar too")


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

    def accuracy(self, score: float) -> float:
        """The share of correct answers at this score."""
        return float(np.interp(score, self.scores, self.accuracies))

    def confidence(self, score: float) -> Confidence:
        """The confidence of an answer with this score."""
        accuracy = self.accuracy(score)
        level, label = next((level, label) for minimum, level, label in LEVELS if accuracy >= minimum)
        return Confidence(label, level, f"Of 100 answers with such a score, about {round(100 * accuracy)} were right")


@dataclass(frozen=True, slots=True)
class SearchCalibrators:
    """The calibrators of searching one dataset with one model; None where there were too few answers to fit one.

    Attributes:
        text: of the hits of a text.
        image: of the hits of an image.
        query: whether a text matches any of the images.
    """

    text: ScoreCalibrator | None = None
    image: ScoreCalibrator | None = None
    query: QueryMatch | None = None

    def of_text(self, hits: Sequence[SearchHit], doubt: Confidence | None = None) -> list[Confidence | None]:
        """The confidence of the hits of a text; that of ``doubt`` for all of them if there is a reason for it."""
        if doubt or self.text or self.query is None:
            return [doubt] * len(hits) if doubt else _confidences(self.text, hits)
        likely, possible = self.query.likely, self.query.possible
        return [LIKELY if h.score > likely else POSSIBLE if h.score > possible else UNLIKELY for h in hits]

    def of_image(self, hits: Sequence[SearchHit]) -> list[Confidence | None]:
        """The confidence of the hits of an image."""
        return _confidences(self.image, hits)


@dataclass(frozen=True, slots=True)
class LabelCalibrators:
    """From the probability of a label to how often such a label is right.

    Attributes:
        by_number: each number of labels that was measured, with its calibrator, ascending.
    """

    by_number: tuple[tuple[int, ScoreCalibrator], ...] = ()

    def of(self, num_labels: int) -> ScoreCalibrator | None:
        """The calibrator that was fitted with the next larger number of labels, or the largest; None without any."""
        fitting = [calibrator for number, calibrator in self.by_number if number >= num_labels]
        return fitting[0] if fitting else self.by_number[-1][1] if self.by_number else None


def _confidences(calibrator: ScoreCalibrator | None, hits: Sequence[SearchHit]) -> list[Confidence | None]:
    return [calibrator.confidence(hit.score) if calibrator else None for hit in hits]


def explain(calibrator: ScoreCalibrator | None, queries: str, correct_when: str) -> str:
    """What the confidence labels mean, for the user of a page.

    Args:
        calibrator: the fitted calibrator.
        queries: the kind of its queries, such as "names of things".
        correct_when: one sentence on which answers count as correct.
    """
    if calibrator is None:
        return "The confidence is not measured here, since too few names are known to measure it with."
    held_out = " that the model had never seen in training" if calibrator.held_out else ""
    levels = "; ".join(f"“{label}” at least {round(100 * minimum)} in 100" for minimum, _, label in LEVELS[:-1])
    return (
        f"It was measured on this computer, with {calibrator.num_queries} {queries}{held_out}: {correct_when} "
        f"The words say how many of the answers with such a score were right: {levels}; “{LEVELS[-1][2]}” fewer. "
        "Engineers call this a calibrated confidence."
    )


def fit_search(model: Embedder, index: SearchIndex, store: Store) -> SearchCalibrators:
    """Fit the calibrators of a search, or read them from the store if that was done before."""
    key = _key("search", model, index.data)
    if (cached := store.cache_read(key)) is not None:
        return decode(SearchCalibrators, json.loads(cached))
    queries, held_out = choose_queries(index.samples, np.isfinite(index.embeddings()[:, 0]).tolist())
    rows = [i for i, _ in queries]
    images = index.embeddings()
    texts = model.embed_texts([sample.caption for _, sample in queries]) if queries else images[:0]
    # A caption of one photograph says nothing about which of the others a person would accept as an answer too.
    shown = Counter(concept_of_sample(sample) for sample in index.samples)
    is_shared = 2 * sum(shown[concept_of_sample(sample)] > 1 for _, sample in queries) >= len(queries)
    by_text = _search_answers(index, images @ texts.T, queries, include_query=True) if is_shared else []
    by_image = _search_answers(index, images @ images[rows].T, queries, include_query=False) if is_shared else []
    result = SearchCalibrators(
        text=fit_calibrator(by_text, len(queries), held_out),
        image=fit_calibrator(by_image, len(queries), held_out),
        query=fit_query_match(model, index, texts),
    )
    store.cache_content(key, canonical(result))
    return result


def fit_captions(
    model: AnyModel | Embedder | Captioner, data: Dataset, store: Store, progress: Progress = QUIET
) -> ScoreCalibrator | None:
    """Fit the calibrator of suggested captions, or read it from the store; None if there are too few answers.

    A suggestion is correct if it equals a caption of the image.
    """
    if not isinstance(model, Captioner) or not isinstance(model, Embedder):
        return None  # no remote model is both, so no image is sent anywhere here
    if photo_encoder(model) is not None:
        return None  # a draft for a photograph hardly ever equals a caption, so there is nothing to calibrate
    key = _key("captions", model, data.digest)
    if (cached := store.cache_read(key)) is not None:
        return decode(FittedCaptions, json.loads(cached)).calibrator
    queries, held_out = choose_queries(data.samples)
    samples = [sample for _, sample in queries]
    result = FittedCaptions(_fit_captions(model, data, samples, held_out, progress))
    store.cache_content(key, canonical(result))
    return result.calibrator


@dataclass(frozen=True, slots=True)
class FittedCaptions:
    """A cached calibrator, or None if there were too few answers to fit one."""

    calibrator: ScoreCalibrator | None


def _key(kind: str, model: Embedder, data: str) -> str:
    code = code_digest("data", "models", "apps/confidence", "apps/query_match")
    return f"score-calibrators/{kind}/{model.digest}/{data}/{code}"


def choose_queries(
    samples: Sequence[Sample], readable: Sequence[bool] | None = None
) -> tuple[list[tuple[int, Sample]], bool]:
    """One image of each concept with its row, from a held-out split where there is one; and whether there is."""
    splits = {sample.split for sample in samples}
    held_out = next((split for split in (TEST, VAL, TEST_STYLE) if split in splits), None)
    concepts: dict[str, tuple[int, Sample]] = {}
    for i, sample in enumerate(samples):
        if sample.caption and (readable is None or readable[i]) and held_out in {None, sample.split}:
            concepts.setdefault(concept_of_sample(sample), (i, sample))
    chosen = list(concepts.values())
    step = max(1, len(chosen) // MAX_QUERIES)
    return chosen[::step][:MAX_QUERIES], held_out is not None and TRAIN in splits


def concept_of_sample(sample: Sample) -> str:
    """The concept of a sample, or the caption in its place."""
    return sample.concept or sample.caption.casefold()


def _search_answers(
    index: SearchIndex, scores: NDArray[np.float32], queries: Sequence[tuple[int, Sample]], include_query: bool
) -> list[tuple[float, bool]]:
    """Score and correctness of the first ``TOP_K`` hits of each query; ``scores`` is (images, queries)."""
    answers = []
    for (row, sample), column in zip(queries, scores.T, strict=True):
        hits = [i for i in top(column, TOP_K + 1).tolist() if include_query or i != row]
        answers += [
            (float(column[i]), concept_of_sample(index.samples[i]) == concept_of_sample(sample)) for i in hits[:TOP_K]
        ]
    return answers


def _fit_captions(
    model: Captioner, data: Dataset, samples: Sequence[Sample], held_out: bool, progress: Progress
) -> ScoreCalibrator | None:
    answers, num_captioned = [], 0
    chosen = samples[:: max(1, len(samples) // MAX_CAPTIONED)][:MAX_CAPTIONED]
    with progress.task("Calibrating the model's confidence", len(chosen)) as task:
        for sample in chosen:
            task.advance()
            try:
                image = decode_sample(data, sample)
            except DataError:
                continue
            num_captioned += 1
            captions = {caption.text.casefold() for caption in sample.captions}
            suggestions = model.caption_images([image], 3)[0]
            answers += [(s.score, s.text.casefold() in captions) for s in suggestions if not isnan(s.score)]
    return fit_calibrator(answers, num_captioned, held_out)


def fit_calibrator(answers: Sequence[tuple[float, bool]], num_queries: int, held_out: bool) -> ScoreCalibrator | None:
    """Accuracy by score: bins of equally many answers, then isotonic regression."""
    if len(answers) < MIN_ANSWERS:
        return None
    from scipy.optimize import isotonic_regression  # 0.6 s, and most searches find their calibrators in the store

    ordered = sorted(answers)
    bins = np.array_split(np.array(ordered, dtype=float), max(2, min(MAX_BINS, len(ordered) // (MIN_ANSWERS // 2))))
    scores = [float(one[:, 0].mean()) for one in bins]
    accuracies = isotonic_regression([one[:, 1].mean() for one in bins], weights=[len(one) for one in bins]).x
    rounded = tuple(round(float(accuracy), 4) for accuracy in accuracies)
    return ScoreCalibrator(tuple(scores), rounded, len(ordered), num_queries, held_out)
