"""From the rows of two evaluations to pairs of scores, one for every question that both models were evaluated on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from clerestory.core.comparison import ConditionFamily, Exclusion
from clerestory.core.errors import Undecided
from clerestory.core.evidence import Evidence
from clerestory.core.rows import ABLATIONS, CLUSTER_COLUMN, MACHINE_TASKS, MIXED, QUESTION_COLUMNS, Condition, TaskName
from clerestory.stats.aggregate import Rows
from clerestory.stats.paired import FEW_CLUSTERS, Floats, Ints
from clerestory.stats.pairing import different_candidates, group_values, groups_of, join

FAMILIES: tuple[ConditionFamily, ...] = ("clean", "corrupted", "perturbed_text")
# Tasks whose rows repeat the scores of other tasks.
DERIVED_TASKS = (TaskName.VALIDITY, TaskName.CORRUPTION_BASELINE, TaskName.CALIBRATION)
TOP_K = 10
MAX_MIXED_SHARE = 0.1
MetricName = Literal["accuracy", "recall@10", "chrf"]
SCORE_COLUMNS: dict[MetricName, str] = {"accuracy": "score", "recall@10": "rank", "chrf": "chrf"}


@dataclass(frozen=True)
class PairedScores:
    """Both models on the same questions, as columns.

    Attributes:
        rows: the stored table: the questions, their groups, and the scores ``a`` and ``b`` if both models have one.
        metrics: the metric of a task and split.
        groups: the columns that are groups of the data.
        exclusions: what could not be compared, and why.
    """

    rows: dict[str, NDArray[Any]]
    metrics: dict[tuple[str, str], MetricName]
    groups: list[str]
    exclusions: list[Exclusion]


class Slice(NamedTuple):
    """The rows of one result: of a task, split and family, either all samples or one value of a group."""

    task: str
    split: str
    family: ConditionFamily
    group: str
    value: str
    indices: Ints


def pair_scores(a: Evidence, b: Evidence, rows_a: Rows, rows_b: Rows) -> PairedScores:
    """Join the rows of two evaluations on their questions.

    Three kinds of rows are left out: timings, which were taken at different times; ablations (questions without their
    image), where a higher score is not better; and ranks among different numbers of candidates.

    Raises:
        Undecided: no task can be compared.
        InputError: the two have no question in common.
    """
    joined = join(rows_a, rows_b)
    tasks, splits = (rows_a[name][joined.a] for name in ("task", "split"))
    families = np.array(
        [
            condition_family(condition, severity)
            for condition, severity in zip(
                _cells(rows_a, "condition", joined.a), _cells(rows_a, "severity", joined.a), strict=True
            )
        ],
        dtype=object,
    )
    scores_a, scores_b = np.full(len(tasks), np.nan), np.full(len(tasks), np.nan)
    metrics: dict[tuple[str, str], MetricName] = {}
    exclusions: list[Exclusion] = []
    for task, split in dict.fromkeys(zip(tasks.tolist(), splits.tolist(), strict=True)):
        if task in MACHINE_TASKS:
            message = f"{task}: timings are not compared pair by pair, because they were taken at different times"
            exclusions.append(Exclusion("machine_dependent", message, task))
            continue
        selected = np.flatnonzero((tasks == task) & (splits == split) & (families != "ablated"))
        metric = _metric(rows_a, joined.a[selected])
        if task in DERIVED_TASKS or metric is None:
            continue
        difference = different_candidates(a.facts, b.facts, task, split) if metric == "recall@10" else ""
        if difference:
            message = f"{task}, {split}: {difference}, so their ranks are not comparable"
            exclusions.append(Exclusion("different_candidates", message, task, split))
            continue
        scores_a[selected] = _scores(rows_a, joined.a[selected], metric)
        scores_b[selected] = _scores(rows_b, joined.b[selected], metric)
        metrics[task, split] = metric
    if joined.only_a or joined.only_b:
        message = (
            f"{joined.only_a:,} questions were evaluated for the first model only, {joined.only_b:,} for the second"
        )
        exclusions.append(Exclusion("unmatched_queries", message))
    if not metrics:
        cause = f": {exclusions[0].message}" if exclusions else ""
        raise Undecided(f"the two evaluations have no task whose scores can be compared sample by sample{cause}", "")
    scored = np.isfinite(scores_a) | np.isfinite(scores_b)
    one_only = np.isnan(scores_a) | np.isnan(scores_b)
    scores_a[one_only], scores_b[one_only] = np.nan, np.nan
    groups = groups_of(rows_a)
    table = _table(rows_a, rows_b, joined.a[scored], joined.b[scored], groups)
    table |= {"family": families[scored], "a": scores_a[scored], "b": scores_b[scored]}
    return PairedScores(table, metrics, groups, list(dict.fromkeys(exclusions)))


def condition_family(condition: str, severity: str) -> ConditionFamily:
    """The family of a condition: ``clean``, ``corrupted``, ``perturbed_text`` or ``ablated``."""
    if severity:
        return "corrupted"
    if condition in ("", Condition.CLEAN):
        return "clean"
    return "ablated" if condition in ABLATIONS else "perturbed_text"


def slices(pairs: PairedScores) -> Iterator[Slice]:
    """The slices to compare: first all samples of each task, split and family, then each value of each group.

    A group counts if it has two values or more and at most a tenth of the rows have several of them. Values with fewer
    than 20 independent concepts are added to ``pairs.exclusions`` and left out.
    """
    rows = pairs.rows
    overall = []
    for task, split in pairs.metrics:
        for family in FAMILIES:
            chosen = (rows["task"] == task) & (rows["split"] == split) & (rows["family"] == family)
            chosen &= np.isfinite(rows["a"]) & np.isfinite(rows["b"])
            if chosen.any():
                overall.append(Slice(task, split, family, "", "", np.flatnonzero(chosen)))
    yield from overall
    too_small: dict[str, set[str]] = {}
    for overall_slice in overall:
        for group in pairs.groups:
            members = _members(rows, group, overall_slice.indices, too_small)
            if len(members) > 1:  # a single value covers almost all rows
                for value, indices in members.items():
                    yield overall_slice._replace(group=group, value=value, indices=indices)
    for group, values in too_small.items():
        names = tuple(sorted(values))
        message = f"{group}: at least one task has fewer than {FEW_CLUSTERS} concepts for {', '.join(names)}"
        pairs.exclusions.append(Exclusion("too_few_clusters", message, group=group, values=names))


def _members(rows: Rows, group: str, indices: Ints, too_small: dict[str, set[str]]) -> dict[str, Ints]:
    """The rows of every value of a group that has enough concepts; the others are added to ``too_small``."""
    cells = rows[group][indices]
    values = group_values(rows, group, indices)
    if len(values) < 2 or np.mean(cells == MIXED) > MAX_MIXED_SHARE:
        return {}
    members = {}
    for value in values:
        chosen = indices[cells == value]
        if len(set(rows[CLUSTER_COLUMN][chosen].tolist())) < FEW_CLUSTERS:
            too_small.setdefault(group, set()).add(value)
        else:
            members[value] = chosen
    return members


def _metric(rows: Rows, indices: Ints) -> MetricName | None:
    """The metric that most of these rows have, the same in all conditions; None if they have none."""
    counts = {
        metric: int(np.isfinite(np.asarray(rows[column])[indices].astype(np.float64)).sum())
        for metric, column in SCORE_COLUMNS.items()
        if column in rows
    }
    best = max(counts, key=counts.__getitem__, default=None)
    return best if best is not None and counts[best] else None


def _scores(rows: Rows, indices: Ints, metric: MetricName) -> Floats:
    """The score of each row, higher is better; NaN if unscored."""
    column = SCORE_COLUMNS[metric]
    if column not in rows:
        return np.full(len(indices), np.nan)
    values: Floats = np.asarray(rows[column])[indices].astype(np.float64)
    if metric == "recall@10":
        return np.where(np.isnan(values), np.nan, (values <= TOP_K).astype(np.float64))
    return values


def _table(rows_a: Rows, rows_b: Rows, indices_a: Ints, indices_b: Ints, groups: list[str]) -> dict[str, NDArray[Any]]:
    shared = (*QUESTION_COLUMNS, CLUSTER_COLUMN, "target", *groups)
    table: dict[str, NDArray[Any]] = {name: _cells(rows_a, name, indices_a) for name in shared}
    for model, rows, indices in (("a", rows_a, indices_a), ("b", rows_b, indices_b)):
        table[f"answer_{model}"] = _cells(rows, "answer", indices)
        for column in ("rank", "confidence"):
            table[f"{column}_{model}"] = (
                np.asarray(rows[column])[indices].astype(np.float64)
                if column in rows
                else np.full(len(indices), np.nan)
            )
    return table


def _cells(rows: Rows, name: str, indices: Ints) -> NDArray[Any]:
    return rows[name][indices] if name in rows else np.full(len(indices), "", dtype=object)
