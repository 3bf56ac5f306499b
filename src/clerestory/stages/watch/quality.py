"""Quality in service: late labels joined to the predictions they are about, by the time of the prediction.

The period of an answer is that of its prediction, not of its label: otherwise the current figure would be that of the
weeks whose labels happen to arrive now. Each figure has its completeness, the share of predictions with a label; with
few labels, or with labels that people give only when something annoys them, the figure is not that of all
predictions.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum

import numpy as np
from sqlalchemy import Connection

from clerestory.core.codec import Tags
from clerestory.stats.intervals import share_interval
from clerestory.store import Store
from clerestory.store.operations.feedback import (
    DOWN,
    RIGHT,
    UP,
    Feedback,
    FeedbackKind,
    latest,
    read_feedback,
)
from clerestory.store.operations.keyed_hash import KeyedHash
from clerestory.store.operations.prediction import Arm, Prediction, RequestKind
from clerestory.store.operations.predictions import PredictionFilter, list_predictions

PAGE = 5_000  # predictions that are read at a time
LABELLED = frozenset(RequestKind) - {RequestKind.EMBEDDINGS}  # nobody can say whether an embedding is right


class Period(StrEnum):
    """The length of time that one row of a table stands for."""

    DAY = "day"
    WEEK = "week"
    MONTH = "month"


@dataclass(frozen=True, slots=True)
class LabelledShare:
    """A share of answers with its interval.

    Attributes:
        value: the share, from 0 to 1.
        n: the answers behind it.
        low, high: the 95 % interval, clustered by user where the requests name one, else by response; None without one.
        method: of the interval, or why there is none.
    """

    value: float
    n: int
    low: float | None
    high: float | None
    method: str


@dataclass(frozen=True, slots=True)
class QualityRow:
    """The quality of one version in one period.

    Attributes:
        period: its first day, ISO 8601.
        version: the release, or the beginning of the digest of another model.
        arm: which side of a rollout answered.
        where: the slice, such as ``language=en``; empty for all.
        predictions: successful predictions of the period.
        labelled: how many of them have a label or a verdict.
        right: the share of judged answers that are right; None if there are none.
        thumbs_up: the share of thumbs that are up; None if there are none.
        sources: judged answers by the source of the label.
    """

    period: str
    version: str
    arm: str
    where: Tags
    predictions: int
    labelled: int
    right: LabelledShare | None
    thumbs_up: LabelledShare | None
    sources: Mapping[str, int] = field(default_factory=dict)

    @property
    def completeness(self) -> float:
        """The share of predictions with a label."""
        return self.labelled / self.predictions if self.predictions else 0.0


@dataclass(slots=True)
class _Cell:
    predictions: int = 0
    labelled: int = 0
    right: list[tuple[bool, str]] = field(default_factory=list)  # and the cluster
    thumbs: list[tuple[bool, str]] = field(default_factory=list)
    sources: Counter[str] = field(default_factory=Counter)


def quality_in_service(
    store: Store,
    wanted: PredictionFilter | None = None,
    period: Period = Period.WEEK,
    slice_by: str = "",
) -> list[QualityRow]:
    """The quality by period of prediction, version and arm, the newest period first.

    Args:
        store: holds the request log and the feedback.
        wanted: which predictions count; all if None.
        period: the length of a row.
        slice_by: one of the facts of the requests, such as ``language``, whose values are told apart; none if empty.
    """
    keyed = KeyedHash(store.files)
    cells: defaultdict[tuple[str, str, str, str], _Cell] = defaultdict(_Cell)
    store.database.ensure_operations()
    with store.database.reading() as connection:
        for items, feedback in _pages(connection, wanted or PredictionFilter()):
            for item in items:
                if item.kind not in LABELLED or item.status >= 400 or item.arm is Arm.SHADOW:
                    continue
                value = item.facts.get(slice_by, "") if slice_by else ""
                key = (start_of(period, item.at).isoformat(), version_of(item), str(item.arm), value)
                _count(cells[key], item, feedback.get(item.response, ()), keyed)
    rows = [_row(key, cell, slice_by) for key, cell in cells.items()]
    return sorted(rows, key=lambda row: (row.period, row.version, row.arm, str(row.where)), reverse=True)


def judge(item: Prediction, said: Feedback, keyed: KeyedHash) -> bool | None:
    """Whether feedback says that an answer is right; None if it does not say."""
    match said.kind:
        case FeedbackKind.VERDICT:
            return said.value == RIGHT
        case FeedbackKind.LABEL if item.label:
            return said.value.strip().casefold() == item.label.strip().casefold()
        case FeedbackKind.CAPTION if item.label and not said.item:
            return keyed.of_caption(said.value) == item.label
        case FeedbackKind.CAPTION | FeedbackKind.LABEL if said.suggested:
            return said.value.strip().casefold() == said.suggested.strip().casefold()
    return None


def version_of(item: Prediction) -> str:
    """The release that answered, or the beginning of the digest of another model."""
    return f"{item.name}@{item.number}" if item.number else f"{item.name} {item.model[:12]}".strip()


def start_of(period: Period, at: float) -> date:
    """The first day of the period of a time, in UTC; weeks begin on Monday."""
    day = datetime.fromtimestamp(at, UTC).date()
    if period is Period.WEEK:
        return day - timedelta(days=day.weekday())
    return day.replace(day=1) if period is Period.MONTH else day


def _pages(
    connection: Connection, wanted: PredictionFilter
) -> Iterator[tuple[list[Prediction], dict[str, list[Feedback]]]]:
    """The predictions with their feedback, ``PAGE`` at a time."""
    before: int | None = None
    while rows := list_predictions(connection, wanted, PAGE, before):
        before = rows[-1][0]
        items = [item for _, item in rows]
        by_response: defaultdict[str, list[Feedback]] = defaultdict(list)
        for said in read_feedback(connection, [item.response for item in items]):
            by_response[said.response].append(said)
        yield items, by_response


def _count(cell: _Cell, item: Prediction, feedback: Sequence[Feedback], keyed: KeyedHash) -> None:
    cell.predictions += 1
    if not feedback:
        return
    cluster = item.subject or item.response
    judged: dict[str, tuple[float, bool, str]] = {}  # the newest that says so counts, for each part of the answer
    for said in latest(feedback):
        if said.kind is FeedbackKind.THUMBS and said.value in (UP, DOWN):
            cell.thumbs.append((said.value == UP, cluster))
        is_right = judge(item, said, keyed)
        if is_right is not None and (said.item not in judged or judged[said.item][0] <= said.at):
            judged[said.item] = (said.at, is_right, said.source)
    cell.labelled += bool(judged)
    for _, is_right, source in judged.values():
        cell.right.append((is_right, cluster))
        cell.sources[source] += 1


def _row(key: tuple[str, str, str, str], cell: _Cell, slice_by: str) -> QualityRow:
    period, version, arm, value = key
    where = Tags({slice_by: value}) if slice_by else Tags()
    shares = (share_of(cell.right), share_of(cell.thumbs))
    return QualityRow(period, version, arm, where, cell.predictions, cell.labelled, *shares, dict(cell.sources))


def share_of(answers: Iterable[tuple[bool, str]]) -> LabelledShare | None:
    """The share of true values, each with its cluster; None of none."""
    answers = list(answers)
    if not answers:
        return None
    numbers = {cluster: i for i, cluster in enumerate(dict.fromkeys(cluster for _, cluster in answers))}
    hits = np.array([float(is_hit) for is_hit, _ in answers])
    interval = share_interval(hits, np.array([numbers[cluster] for _, cluster in answers]))
    value, n = float(hits.mean()), len(answers)
    if isinstance(interval, str):
        return LabelledShare(value, n, None, None, interval)
    return LabelledShare(value, n, interval.low, interval.high, interval.method)
