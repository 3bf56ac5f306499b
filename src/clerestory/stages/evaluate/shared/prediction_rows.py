"""The rows of a classification: one per picture, with its answer, how sure the model was, and what that cost it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from clerestory.core.sample import Sample
from clerestory.stages.evaluate.shared.class_prompts import Classes
from clerestory.stages.evaluate.shared.retrieval_split import concept_of
from clerestory.stages.evaluate.shared.row_builder import RowBuilder
from clerestory.stats.calibration import brier_each, nll_each, probabilities

if TYPE_CHECKING:
    from clerestory.stages.evaluate.context import EvaluationContext

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Column = Floats | list[str]


def outcomes(logits_NK: Floats, labels_N: Ints, temperature: float | None = None) -> dict[str, Floats]:
    """The number columns of N scored answers; ``scaled_…`` ones as well where there is a temperature.

    The answer is the class of the highest logit, the first of equal ones.
    """
    found = {"score": (logits_NK.argmax(axis=1) == labels_N).astype(np.float64)}
    found["chance"] = np.full(len(labels_N), 1 / logits_NK.shape[1])
    for prefix, heat in (("", 1.0), ("scaled_", temperature)):
        if heat is not None:
            p_NK = probabilities(logits_NK, heat)
            found[f"{prefix}confidence"] = np.clip(p_NK.max(axis=1), 0.0, 1.0)
            found[f"{prefix}nll"] = nll_each(logits_NK, labels_N, heat)
            found[f"{prefix}brier"] = brier_each(p_NK, labels_N)
    return found


def add_answers(
    table: RowBuilder,
    bench: EvaluationContext,
    samples: Sequence[Sample],
    classes: Classes,
    logits_NK: Floats,
    why: Sequence[str],
    cells: Mapping[str, str],
    temperature: float | None = None,
    more: Sequence[Mapping[str, str | float]] = (),
) -> None:
    """A row for each of N pictures; those with a reason in ``why`` are unscored, and their logits are not looked at.

    ``cells`` are the same in all rows, ``more`` has those of each row where it is given; they go before the others.
    """
    labels_N = classes.of(samples)
    scored = [i for i, reason in enumerate(why) if not reason]
    numbers = outcomes(logits_NK[scored], labels_N[scored], temperature) if scored else {}
    answers = logits_NK[scored].argmax(axis=1).tolist() if scored else []
    place = {i: n for n, i in enumerate(scored)}
    for i, sample in enumerate(samples):
        row: dict[str, str | float] = dict(cells)
        if i in place:
            row |= {name: float(column[place[i]]) for name, column in numbers.items()}
            row["answer"] = classes.names[answers[place[i]]]
        row |= {
            "sample": sample.id,
            "concept": concept_of(sample, bench.config.language),
            "target": classes.names[labels_N[i]] if labels_N[i] >= 0 else "",
            "image": sample.image,
            "unscored": why[i],
        }
        row |= more[i] if more else {}
        table.add([sample], **row)
