"""The score of an item, or why it has none; its row; and the ablations that show how much of a score needs the image.

| condition | the model gets |
|---|---|
| ``clean`` | the image |
| ``blind`` | no image |
| ``shuffled_image`` | the image of another cluster |
| ``majority`` | nothing: no model is asked, the most frequent answer is scored |
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from clerestory.core.digest import digest_bytes
from clerestory.core.rows import Condition, Unscored
from clerestory.core.sample import Sample
from clerestory.stages.evaluate.row_builder import MissingScore, RowBuilder
from clerestory.stages.evaluate.tasks.answer_parsing import normalize_answer, option_score
from clerestory.stages.evaluate.tasks.items import TaskItem

NAN = float("nan")


@dataclass(frozen=True, slots=True)
class ScoredItem:
    """The score of an item under one condition.

    Attributes:
        score: 0…1, 1 is correct; NaN if it has none.
        answer: of the model.
        missing: why there is no score, None if there is one.
        all_orders: 1 if it is correct in every order of the options; NaN if there was one order only.
        confidence: the probability of the answer.
        nll, brier: of the probabilities of all options; NaN if there are none.
        prompt: the text that the model got.
        tokens_in, tokens_out, ms: of generators.
    """

    score: float = NAN
    answer: str = ""
    missing: MissingScore | None = None
    all_orders: float = NAN
    confidence: float = NAN
    nll: float = NAN
    brier: float = NAN
    prompt: str = ""
    tokens_in: float = NAN
    tokens_out: float = NAN
    ms: float = NAN


def add_row(
    builder: RowBuilder,
    task: str,
    split: str,
    item: TaskItem,
    scored: ScoredItem,
    chance: float,
    condition: str = Condition.CLEAN,
    image: Sample | None = None,
    clean_score: float = NAN,
) -> None:
    """Add the row of an item under a condition, with its ``clean`` score; without a correct answer it is unscored."""
    known = bool(item.answers)
    missing = scored.missing if known else MissingScore(Unscored.NO_CORRECT_ANSWER)
    builder.add(
        [item.sample],
        task=task,
        split=split,
        sample=item.sample.id,
        concept=item.cluster,
        query=item.question,
        target=item.answers[0] if known else "",
        answer=scored.answer,
        condition=condition,
        image=image.image if image else "",
        prompt=digest_bytes(scored.prompt.encode()) if scored.prompt else "",
        score=scored.score if known else NAN,
        clean_score=clean_score if known else NAN,
        chance=chance,
        all_orders=scored.all_orders if known else NAN,
        confidence=scored.confidence,
        nll=scored.nll if known else NAN,
        brier=scored.brier if known else NAN,
        tokens_in=scored.tokens_in,
        tokens_out=scored.tokens_out,
        ms=scored.ms,
        **(missing.cells if missing else {}),
    )


def probability_scores(
    probabilities: np.ndarray[tuple[int], np.dtype[np.float64]], correct: int
) -> tuple[float, float, float]:
    """Confidence, negative log-likelihood and Brier score (sum of squares) of probabilities (O,)."""
    target = np.zeros(len(probabilities))
    target[correct] = 1.0
    floor = np.finfo(np.float64).tiny
    nll = -float(np.log(max(float(probabilities[correct]), floor)))
    return float(probabilities.max()), nll, float(((probabilities - target) ** 2).sum())


def ablated_images(items: Sequence[TaskItem], condition: str, seed: int) -> list[Sample | None]:
    """The image of each item under a condition, None for no image.

    ``shuffled_image`` gives the image of another cluster, by a seeded ring over the clusters, so no item keeps its
    own; items of a single cluster have no other image.
    """
    if condition == Condition.BLIND:
        return [None] * len(items)
    if condition != Condition.SHUFFLED_IMAGE:
        return [item.sample for item in items]
    first: dict[str, Sample] = {}
    for item in items:
        first.setdefault(item.cluster, item.sample)
    ring = sorted(first, key=lambda name: hashlib.sha256(f"{seed}/{name}".encode()).digest())
    successor = dict(zip(ring, ring[1:] + ring[:1], strict=True))
    return [first[successor[item.cluster]] if len(ring) > 1 else None for item in items]


def score_majority(items: Sequence[TaskItem], training_items: Sequence[TaskItem]) -> list[ScoredItem]:
    """The score of the most frequent answer, counted on the training items.

    Without training items it is counted on the half of the clusters that an item is not in, so that its own answer does
    not count.
    """
    counts = {half: _answer_counts(training_items) for half in (True, False)}
    if not training_items:
        counts = {half: _answer_counts([item for item in items if _first_half(item) != half]) for half in counts}
    scored = []
    for item in items:
        answer, score = _majority_answer(item, counts[_first_half(item)]) if item.answers else ("", NAN)
        scored.append(ScoredItem(score, answer))
    return scored


def _answer_counts(items: Sequence[TaskItem]) -> Counter[str]:
    """How often each answer is the correct one."""
    return Counter(normalize_answer(item.answers[0]) for item in items if item.answers)


def _first_half(item: TaskItem) -> bool:
    """Which half of the clusters an item is in, by a hash."""
    return hashlib.sha256(item.cluster.encode()).digest()[0] % 2 == 0


def _majority_answer(item: TaskItem, counts: Mapping[str, int]) -> tuple[str, float]:
    """The most frequent answer and its score.

    Options that are equally frequent share the score; without options it is the most frequent answer of all items.
    """
    if not item.options:
        best = max(counts, key=lambda answer: (counts[answer], answer), default="")
        return best, float(best in {normalize_answer(answer) for answer in item.answers})
    frequencies = np.array([counts.get(normalize_answer(option), 0) for option in item.options], dtype=np.float64)
    return item.options[int(frequencies.argmax())], option_score(frequencies, item.correct_option)
