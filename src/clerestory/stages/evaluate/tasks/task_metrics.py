"""From the rows of a task to its measurements, findings and facts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from clerestory.core.codec import Fact, Tags
from clerestory.core.evidence import Finding, Measurement, Recipe
from clerestory.core.rows import ABLATIONS, CLUSTER_COLUMN, Condition
from clerestory.models.protocols import Capability
from clerestory.stages.evaluate import findings
from clerestory.stages.evaluate.row_builder import RowBuilder, has_scores, rows_matching
from clerestory.stages.evaluate.shared.sliced_metrics import Grouping, mean_by_value
from clerestory.stages.evaluate.suite import SuiteResult
from clerestory.stages.evaluate.tasks.items import TaskItem, items_with_duplicate_options
from clerestory.stages.evaluate.tasks.task import Task
from clerestory.stats.aggregate import Rows, measure

MAX_NAMED = 8


def measure_task(
    task: Task,
    split: str,
    builder: RowBuilder,
    items: Sequence[TaskItem],
    facts: Mapping[str, Fact],
    min_group_concepts: int,
) -> SuiteResult:
    """The rows of a task with their measurements and findings.

    Args:
        task: the task.
        split: the evaluated split.
        builder: has the rows of all conditions.
        items: of which duplicate options are reported.
        facts: of the result.
        min_group_concepts: how many concepts a value of a group needs to be measured.
    """
    rows = builder.columns()
    where = {"task": task.name, "split": split}
    measurements, notes = _accuracies(rows, where), _duplicates(task, items)
    for name in task.groups:
        grouping = Grouping(name, builder.groups[name], min_group_concepts, 1, findings.SMALL_GROUP)
        by_value, too_small = mean_by_value(rows, grouping, where, "score", "accuracy")
        measurements += by_value
        notes += too_small
    return SuiteResult(rows, measurements, notes, facts)


def chance_of(task: Task, item: TaskItem) -> float:
    """The score of guessing an item: that of the task, else 1 / the number of options, else 0."""
    if task.chance is not None:
        return task.chance
    return 1.0 / len(item.options) if item.options else 0.0


def task_facts(
    task: Task, capability: Capability, items: Sequence[TaskItem] = (), training_items: Sequence[TaskItem] = ()
) -> dict[str, Fact]:
    """The facts of a task (``docs/reference/evaluation-facts.md``)."""
    facts: dict[str, Fact] = {
        "kind": task.kind,
        "version": task.version,
        "digest": task.digest,
        "capability": capability,
        "licence": task.licence,
    }
    if items:
        facts |= {
            "items": len(items),
            "chance": round(float(np.mean([chance_of(task, item) for item in items])), 6),
            "majority_from": "train" if training_items else "other_half",
        }
        if training_items:
            facts["majority_items"] = len(training_items)
        if task.kind == "multiple_choice":
            facts["duplicate_options"] = len(items_with_duplicate_options(items))
    return {f"task.{task.name}.{name}": value for name, value in facts.items()}


def _accuracies(rows: Rows, where: Mapping[str, str]) -> list[Measurement]:
    """The accuracy under each condition that has scores, and what the image contributes to it."""
    clean = Tags(where, condition=Condition.CLEAN)
    if not has_scores(rows, clean, "score"):
        return []
    measurements = [measure(rows, Recipe("mean", "score", clean, CLUSTER_COLUMN), "accuracy", where)]
    if has_scores(rows, clean, "all_orders"):
        recipe = Recipe("mean", "all_orders", clean, CLUSTER_COLUMN)
        measurements.append(measure(rows, recipe, "accuracy_all_orders", where))
    for condition in ABLATIONS:
        ablated = Tags(where, condition=condition)
        if not has_scores(rows, ablated, "score"):
            continue
        measurements.append(measure(rows, Recipe("mean", "score", ablated, CLUSTER_COLUMN), "accuracy", ablated))
        slice_ = where if condition == Condition.BLIND else ablated
        scored = rows_matching(rows, ablated) & ~np.isnan(rows["score"]) & ~np.isnan(rows["clean_score"])
        if scored.any():
            gain = Recipe("paired", "clean_score", ablated, CLUSTER_COLUMN, against="score")
            measurements.append(measure(rows, gain, "blind_gain", slice_))
        if condition != Condition.SHUFFLED_IMAGE:
            solvable = Recipe("chance_corrected", "score", ablated, CLUSTER_COLUMN, against="chance")
            measurements.append(measure(rows, solvable, "blind_solvable", slice_))
    return measurements


def _duplicates(task: Task, items: Sequence[TaskItem]) -> list[Finding]:
    duplicates = items_with_duplicate_options(items)
    if not duplicates:
        return []
    names = ", ".join(item.sample.id for item in duplicates[:MAX_NAMED])
    message = f"{len(duplicates)} items of the task {task.name!r} have the same option twice"
    return [findings.DUPLICATE_OPTIONS.finding(names, message, count=len(duplicates), task=task.name)]
