"""What became of an item: its score, or the reason why it has none; and its row in the table."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from clerestory.core.digest import digest_bytes
from clerestory.core.sample import Sample
from clerestory.stages.evaluate.shared.row_builder import CLEAN, RowBuilder
from clerestory.stages.evaluate.tasks.items import NO_ANSWER, Item

NAN = float("nan")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of an item.

    Attributes:
        score: 0…1, 1 is right; NaN where it is unscored.
        answer: what the model answered.
        unscored: why there is no score, empty where there is one.
        all_orders: 1 where it was right in every order of the options; NaN where there was one order only.
        confidence: probability of the answer.
        nll, brier: of the probabilities of all options; NaN where there are none.
        prompt: the words it was asked with.
        tokens_in, tokens_out, ms: of generators.
    """

    score: float = NAN
    answer: str = ""
    unscored: str = ""
    all_orders: float = NAN
    confidence: float = NAN
    nll: float = NAN
    brier: float = NAN
    prompt: str = ""
    tokens_in: float = NAN
    tokens_out: float = NAN
    ms: float = NAN


def add_row(
    table: RowBuilder,
    task: str,
    split: str,
    item: Item,
    outcome: Outcome,
    chance: float,
    condition: str = CLEAN,
    picture: Sample | None = None,
    clean: float = NAN,
) -> None:
    """Append the row of an item under a condition, beside its ``clean`` score; one without a right answer has none."""
    known = bool(item.answers)
    table.add(
        [item.sample],
        task=task,
        split=split,
        sample=item.sample.id,
        concept=item.cluster,
        query=item.question,
        target=item.answers[0] if known else "",
        answer=outcome.answer,
        unscored=outcome.unscored if known else NO_ANSWER,
        condition=condition,
        image=picture.image if picture else "",
        prompt=digest_bytes(outcome.prompt.encode()) if outcome.prompt else "",
        score=outcome.score if known else NAN,
        clean_score=clean if known else NAN,
        chance=chance,
        all_orders=outcome.all_orders if known else NAN,
        confidence=outcome.confidence,
        nll=outcome.nll if known else NAN,
        brier=outcome.brier if known else NAN,
        tokens_in=outcome.tokens_in,
        tokens_out=outcome.tokens_out,
        ms=outcome.ms,
    )


def probable(probabilities: np.ndarray[tuple[int], np.dtype[np.float64]], right: int) -> tuple[float, float, float]:
    """Confidence, negative log-likelihood and Brier score (sum of squares) of probabilities (O,)."""
    wanted = np.zeros(len(probabilities))
    wanted[right] = 1.0
    floor = np.finfo(np.float64).tiny
    likelihood = -float(np.log(max(float(probabilities[right]), floor)))
    return float(probabilities.max()), likelihood, float(((probabilities - wanted) ** 2).sum())
