"""An alarm with the observations that carry it, and how the reference and recent observations differ."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from clerestory.stages.watch.drift.observations import EMBEDDING, DriftObservation, Embeddings, ObservationTable

NUM_SHOWN = 8  # observations of an alarm
NUM_NEAREST = 3  # references of each
OUTSIDE = 0.95  # quantile of the reference


@dataclass(frozen=True, slots=True)
class NearestReference:
    """An image of the reference that is similar to a live one.

    Attributes:
        id: of the reference.
        similarity: the cosine of the two embeddings.
    """

    id: str
    similarity: float


@dataclass(frozen=True, slots=True)
class CarryingObservation:
    """A live observation that contributes much to an alarm.

    Attributes:
        id: of the observation.
        at: its time; None without.
        score: how far it is in the direction of the drift, in standard deviations of the reference.
        nearest: the most similar images of the reference, the most similar first.
    """

    id: str
    at: float | None
    score: float
    nearest: tuple[NearestReference, ...] = ()


@dataclass(frozen=True, slots=True)
class DriftChange:
    """How recent observations differ from the reference.

    Attributes:
        kind: ``embedding``, ``number`` or ``category``.
        value: the category whose share changed most; empty otherwise.
        reference, recent: of an embedding the share of observations beyond the 95 % point of the reference in the
            direction of the drift, of a number its median, of a category its share.
    """

    kind: str
    value: str
    reference: float
    recent: float


@dataclass(frozen=True, slots=True)
class DriftAlarm:
    """An alarm of one monitor on one slice.

    Attributes:
        monitor: ``embedding`` or the name of a column.
        slice: ``all`` or such as ``style=openmoji``.
        window: the number of the window that raised it, of this slice.
        at: the time of its last observation; None without times.
        began_window, began: the window in which the change probably began, and the time of its first observation.
        spend: what the monitor could spend on the window; on average one false alarm in ``1 / spend`` windows.
        change: how recent observations differ.
        observations: those that carry it, the strongest first.
    """

    monitor: str
    slice: str
    window: int
    at: float | None
    began_window: int
    began: float | None
    spend: float
    change: DriftChange
    observations: tuple[CarryingObservation, ...]


def describe_change(
    monitor: str,
    reference: ObservationTable,
    recent: Sequence[DriftObservation],
    reference_scores: np.ndarray[tuple[int], np.dtype[np.float64]],
    scores: np.ndarray[tuple[int], np.dtype[np.float64]],
) -> DriftChange:
    """How recent observations differ from the reference; scores are projections on the direction of the drift."""
    if monitor == EMBEDDING:
        limit = float(np.quantile(reference_scores, OUTSIDE))
        return DriftChange("embedding", "", float((reference_scores > limit).mean()), float((scores > limit).mean()))
    if monitor in reference.numbers:
        values = np.array([each.numbers.get(monitor, np.nan) for each in recent])
        return DriftChange("number", "", _median(reference.numbers[monitor]), _median(values))
    before = Counter(reference.categories[monitor])
    after = Counter(each.categories.get(monitor, "") for each in recent)
    shares = {name: (before[name] / len(reference), after[name] / len(recent)) for name in {*before, *after}}
    name = max(sorted(shares), key=lambda one: abs(shares[one][1] - shares[one][0]))
    return DriftChange("category", name, *shares[name])


def nearest_references(embedding: Embeddings | None, reference: ObservationTable) -> tuple[NearestReference, ...]:
    """The most similar references of an observation; none if there are no embeddings."""
    if embedding is None or reference.embeddings is None:
        return ()
    rows = reference.embeddings
    lengths = np.linalg.norm(rows, axis=1) * max(float(np.linalg.norm(embedding)), 1e-12)
    cosines = rows @ embedding / np.maximum(lengths, 1e-12)
    best = np.argsort(-cosines, kind="stable")[:NUM_NEAREST]
    return tuple(NearestReference(reference.ids[i], float(cosines[i])) for i in best.tolist())


def _median(values: np.ndarray[tuple[int], np.dtype[np.float64]]) -> float:
    finite = values[np.isfinite(values)]
    return float(np.median(finite)) if len(finite) else 0.0
