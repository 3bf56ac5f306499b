"""A model's scores without some samples: those that leak from the training split, or those of a hash pack."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace

import numpy as np

from clerestory.core.codec import Tags
from clerestory.core.errors import ClerestoryError
from clerestory.core.evidence import Measurement
from clerestory.stats.aggregate import recompute
from clerestory.stats.metrics import metric
from clerestory.stats.rows import read_rows
from clerestory.store import Store

EVALUATION = "evaluate"
LEAKED, CONTAMINATED = "leaked", "contaminated"  # why samples are left out; in the slice of a score, with the value:
INCLUDED, EXCLUDED = "included", "excluded"
SLICES = {"split", "task", "condition"}  # of the scores that are corrected: no groups, which would be many


@dataclass(frozen=True, slots=True)
class CorrectedScore:
    """A score with and without some samples.

    Attributes:
        measured: as the evaluation has it.
        corrected: the same without the samples.
        cause: why they are left out: ``LEAKED`` or ``CONTAMINATED``.
    """

    measured: Measurement
    corrected: Measurement
    cause: str = LEAKED

    def measurements(self) -> tuple[Measurement, Measurement]:
        """Both, told apart by their slice; computed from the rows of the evaluation, so without a recipe here."""
        return (
            replace(self.measured, slice=Tags({**self.measured.slice, self.cause: INCLUDED}), recipe=None),
            replace(self.corrected, slice=Tags({**self.corrected.slice, self.cause: EXCLUDED}), recipe=None),
        )


def correct_scores(
    samples: Collection[str], model: str, data: str, store: Store, cause: str = LEAKED
) -> tuple[str, list[CorrectedScore]]:
    """The headline scores of the newest evaluation of a model on this data, without some samples.

    Args:
        samples: ids of the samples to leave out.
        model: its digest.
        data: the digest of the dataset.
        store: holds the evaluation.
        cause: why they are left out.

    Returns:
        The id of the evaluation, empty if there is none, and every headline score of a split that has such samples.
    """
    evaluation = next(
        (e for e in store.find_evidence(EVALUATION, model=model) if e.subject.data == data and e.rows), None
    )
    if evaluation is None:
        return "", []
    rows = read_rows(store.blobs.get(evaluation.rows))
    if "sample" not in rows:
        return evaluation.id, []
    kept = ~np.isin(rows["sample"].astype(str), np.array(sorted(samples), dtype=str))
    rest = {name: values[kept] for name, values in rows.items()}
    corrected = []
    for measured in evaluation.measurements:
        if measured.recipe is None or not metric(measured.name).headline or not set(measured.slice) <= SLICES:
            continue
        try:
            again = recompute(rest, measured)
        except ClerestoryError:  # no sample of the slice is left
            continue
        if again.n != measured.n:
            corrected.append(CorrectedScore(measured, again, cause))
    return evaluation.id, corrected
