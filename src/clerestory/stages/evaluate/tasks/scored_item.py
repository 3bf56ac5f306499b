"""The score of an item, or why it has none; its row; and the ablations that show how much of a score needs the image.

| condition | the model gets |
|---|---|
| ``clean`` | the image |
| ``blind`` | no image |
| ``shuffled_image`` | the image of another cluster |
| ``majority`` | no model: the most frequent answer is scored |
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from clerestory.core.codec import Fact, Tags
from clerestory.core.digest import digest_bytes
from clerestory.core.evidence import Finding, Measurement, Recipe
from clerestory.core.rows import ABLATIONS, CLUSTER_COLUMN, Condition, Unscored
from clerestory.core.sample import Sample
from clerestory.models.protocols import Capability
from clerestory.models.replies.keys import normalize_answer
from clerestory.stages.evaluate import findings
from clerestory.stages.evaluate.row_builder import MissingScore, RowBuilder, has_scores, rows_matching
from clerestory.stages.evaluate.shared.sliced_metrics import Grouping, mean_by_value
from clerestory.stages.evaluate.suite import SuiteResult
from clerestory.stages.evaluate.tasks.answer_parsing import option_score
from clerestory.stages.evaluate.tasks.items import TaskItem, items_with_duplicate_options
from clerestory.stages.evaluate.tasks.task import Task
from clerestory.stats.aggregate import Rows, measure

NAN = float("nan")


@dataclass(frozen=True, slots=True)
class ScoredItem:
    """The score of an item under one condition.

    Attributes:
        score: 0…1, 1 is correct; NaN if it has none.
        answer: of the model.
        missing: why there is no score, None if there is one.
        all_orders: 1 if it is correct in every order of the options; NaN if there was one order only.
        not_understood: 1 if the reply of a generator gave no answer, 0 if it gave one; NaN without a reply.
        confidence: the probability of the answer.
        nll, brier: of the probabilities of all options; NaN if there are none.
        prompt: the text of the query.
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
    not_understood: float = NAN


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
        not_understood=scored.not_understood if known else NAN,
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
    own; with a single cluster there is no other image.
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
    measurements = []
    if has_scores(rows, clean, "not_understood"):
        recipe = Recipe("mean", "not_understood", clean, CLUSTER_COLUMN)
        measurements.append(measure(rows, recipe, "not_understood", where))
    if not has_scores(rows, clean, "score"):
        return measurements
    measurements += [measure(rows, Recipe("mean", "score", clean, CLUSTER_COLUMN), "accuracy", where)]
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
