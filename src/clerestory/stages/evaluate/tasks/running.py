"""Running a task on a model: its rows under every view, and what is measured of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from clerestory.core.codec import Tags
from clerestory.core.errors import DataError
from clerestory.core.evidence import Finding, Measurement, Recipe
from clerestory.core.sample import Dataset, Sample
from clerestory.models.protocols import Capability, Reply
from clerestory.stages.evaluate.context import EvaluationContext
from clerestory.stages.evaluate.shared.captioning import (
    NO_DESCRIPTION,
    CaptionsOrReason,
    cached_captions,
    non_empty_captions,
)
from clerestory.stages.evaluate.shared.embeddings import readable
from clerestory.stages.evaluate.shared.measures import retrieval_measures, scored
from clerestory.stages.evaluate.shared.retrieval_metrics import image_to_text, text_to_image
from clerestory.stages.evaluate.shared.retrieval_split import caption_in, concept_of, make_retrieval_split, normal
from clerestory.stages.evaluate.shared.row_builder import CLEAN, RowBuilder, join
from clerestory.stages.evaluate.shared.sampling import batches
from clerestory.stages.evaluate.suite import SuiteResult
from clerestory.stages.evaluate.tasks.ablations import (
    BLIND_VIEW,
    MAJORITY,
    SHUFFLED,
    frequencies,
    in_half,
    majority_credit,
    shown,
)
from clerestory.stages.evaluate.tasks.classifying import (
    class_items,
    class_logits,
    class_outcomes,
    classes_of,
    embed_samples,
)
from clerestory.stages.evaluate.tasks.items import (
    Item,
    asked_samples,
    items_of,
    learnt_samples,
    open_task_data,
    repeated_options,
)
from clerestory.stages.evaluate.tasks.measuring import answer_measures, group_measures
from clerestory.stages.evaluate.tasks.memoised_queries import Asker, Question
from clerestory.stages.evaluate.tasks.multiple_choice import Statements, answer_items, score_items
from clerestory.stages.evaluate.tasks.scored_item import Outcome, add_row
from clerestory.stages.evaluate.tasks.task import Task, check_model
from clerestory.stats.aggregate import Rows, measure
from clerestory.stats.text import chrf

if TYPE_CHECKING:
    from PIL import Image

CHOICES = ("multiple_choice", "yes_no", "short_answer")
CLASSES = ("zero_shot", "linear_probe", "knn")


def known_models(bench: EvaluationContext) -> list[tuple[str, tuple[Capability, ...]]]:
    """The releases of this store, which are models of our own, with what they can do."""
    able: tuple[Capability, ...] = ("Embedder", "Scorer", "Describer")
    return [(f"{release.name}@{release.number}", able) for release in bench.store.releases()]


def run_task(bench: EvaluationContext, task: Task) -> SuiteResult:
    """Ask the model what a task asks, and measure the answers.

    Raises:
        CapabilityError: the model cannot do it; the models that fit are named.
        DataError: the task's data cannot be opened, or lacks a column.
    """
    capability = check_model(task, bench.model, known_models(bench))
    data = open_task_data(task, bench.progress)
    split, samples = asked_samples(task, data, bench.config.seed)
    if not samples:
        raise DataError(f"the task {task.name!r} has no picture to ask about", "name another split in it")
    found = _asked(bench, task, data, split, samples, capability)
    # What was kept out while the data came in is missing from every number of the task.
    return replace(found, findings=[*(f for f in data.findings if f.severity != "info"), *found.findings])


def _asked(
    bench: EvaluationContext, task: Task, data: Dataset, split: str, samples: Sequence[Sample], capability: Capability
) -> SuiteResult:
    if task.kind == "retrieval":
        return _retrieve(bench, task, data, split, samples)
    if task.kind == "caption":
        return _describe(bench, task, data, split, samples, capability)
    if task.kind in CLASSES:
        return _classify(bench, task, data, split, samples)
    items = items_of(task, samples)
    learnt = items_of(task, [sample for sample in learnt_samples(data) if sample not in set(samples)])
    return ask_items(bench, task, data, split, items, learnt, capability)


def ask_items(
    bench: EvaluationContext,
    task: Task,
    data: Dataset,
    split: str,
    items: Sequence[Item],
    learnt: Sequence[Item],
    capability: Capability,
    statements: Statements | None = None,
) -> SuiteResult:
    """Ask about every item under every view: fully, without the picture, with another one, and by majority.

    Args:
        bench: the model and where answers are kept.
        task: how it is asked and compared.
        data: reads the pictures.
        split: what the rows say.
        items: what to ask.
        learnt: items from which the most frequent answer is known; those asked about where there are none.
        capability: what the model is asked as.
        statements: see ``score_items``.
    """
    table = RowBuilder(task.groups)
    asker = Asker(bench.model, bench.store.answer_cache, bench.config.batch_size, bench.progress)

    def load(sample: Sample) -> Image.Image | None:
        return readable(data, sample)

    clean_I = [np.nan] * len(items)
    for view in (CLEAN, BLIND_VIEW, SHUFFLED):
        pictures = shown(items, view, bench.config.seed)
        if view == SHUFFLED and all(picture is None for picture in pictures):
            continue
        label = f"Asking {task.name} ({view})"
        if capability == "Scorer":
            outcomes = score_items(asker, items, pictures, load, label, statements)
        else:
            outcomes = answer_items(asker, task, items, pictures, load, label)
        clean_I = _add_rows(table, task, split, items, outcomes, view, pictures, clean_I)
    _majority(table, task, split, items, learnt, clean_I)
    return finish(bench, task, split, table, items, _facts(task, items, learnt, capability))


def chance_of(task: Task, item: Item) -> float:
    """What guessing earns on an item: what the task states, else one of its options, else nothing."""
    if task.chance is not None:
        return task.chance
    return 1.0 / len(item.options) if item.options else 0.0


def finish(
    bench: EvaluationContext, task: Task, split: str, table: RowBuilder, items: Sequence[Item], facts: Mapping[str, str]
) -> SuiteResult:
    """The rows of a task with everything measured of them."""
    rows = table.columns()
    where = {"task": task.name, "split": split}
    groups = {name: table.groups[name] for name in task.groups}
    measured, findings = group_measures(rows, where, groups, bench.config.min_group_concepts)
    repeated = repeated_options(items)
    if repeated:
        names = ", ".join(item.sample.id for item in repeated[:8])
        message = f"{len(repeated)} items of the task {task.name!r} offer the same option twice"
        findings.append(Finding("CLR-E050", "warning", "warn", names, message, "make their options differ"))
    return SuiteResult(rows, answer_measures(rows, where) + measured, findings, facts)


def _add_rows(
    table: RowBuilder,
    task: Task,
    split: str,
    items: Sequence[Item],
    outcomes: Sequence[Outcome],
    view: str,
    pictures: Sequence[Sample | None],
    clean_I: list[float],
) -> list[float]:
    """Append the rows of a view, each with its item's score under ``clean`` (I,); gives the latter back."""
    for item, picture, outcome, clean in zip(items, pictures, outcomes, clean_I, strict=True):
        add_row(table, task.name, split, item, outcome, chance_of(task, item), view, picture, clean)
    return [outcome.score for outcome in outcomes] if view == CLEAN else clean_I


def _majority(
    table: RowBuilder, task: Task, split: str, items: Sequence[Item], learnt: Sequence[Item], clean_I: Sequence[float]
) -> None:
    halves = {True: frequencies(learnt), False: frequencies(learnt)}
    if not learnt:
        # Judged by the other half: an item's own answer must not speak for it.
        halves = {side: frequencies([item for item in items if in_half(item) != side]) for side in halves}
    for item, clean in zip(items, clean_I, strict=True):
        frequency = halves[in_half(item)]
        answer, score = majority_credit(item, frequency) if item.answers else ("", float("nan"))
        add_row(table, task.name, split, item, Outcome(score, answer), chance_of(task, item), MAJORITY, clean=clean)


def _facts(task: Task, items: Sequence[Item], learnt: Sequence[Item], capability: str) -> dict[str, str]:
    chances = [chance_of(task, item) for item in items]
    where = f"{len(learnt)} items of the training split" if learnt else "the other half of the items"
    return {
        f"task.{task.name}": f"version {task.version}, kind {task.kind}, {len(items)} items, asked as {capability}",
        f"task.{task.name}.repeated": str(len(repeated_options(items))) if task.kind == "multiple_choice" else "0",
        f"task.{task.name}.digest": task.digest,
        f"task.{task.name}.chance": f"{np.mean(chances):.6f}" if chances else "",
        f"task.{task.name}.majority": f"the most frequent answer of {where}",
        f"task.{task.name}.licence": task.licence or "not stated",
    }


def _classify(
    bench: EvaluationContext, task: Task, data: Dataset, split: str, samples: Sequence[Sample]
) -> SuiteResult:
    classes = classes_of(task, data)
    items = class_items(task, samples, classes)
    learnt = class_items(task, [s for s in learnt_samples(data) if s not in set(samples)], classes)
    table = RowBuilder(task.groups)
    clean_I = [np.nan] * len(items)
    for view in (CLEAN, SHUFFLED):
        pictures = shown(items, view, bench.config.seed)
        seen = [picture for picture in pictures if picture is not None]
        if len(seen) < len(items):
            continue
        logits_NK = class_logits(bench, task, data, classes, embed_samples(bench, data, seen))
        outcomes = class_outcomes(bench, task, items, logits_NK)
        clean_I = _add_rows(table, task, split, items, outcomes, view, pictures, clean_I)
    _majority(table, task, split, items, learnt, clean_I)
    facts = _facts(task, items, learnt, "Embedder") | {f"task.{task.name}.classes": str(len(classes))}
    return finish(bench, task, split, table, (), facts)


def _retrieve(
    bench: EvaluationContext, task: Task, data: Dataset, split: str, samples: Sequence[Sample]
) -> SuiteResult:
    """Pictures to captions and captions to pictures, told apart by the column ``operation``."""
    some = Dataset(data.name, samples, data.read)
    pool = make_retrieval_split(bench.embedder, split, some, bench.config, bench.store, bench.progress)
    tables: list[Rows] = []
    measured: list[Measurement] = []
    for direction in (image_to_text, text_to_image):
        table = RowBuilder(task.groups)
        direction(pool, table, bench.config.language)
        rows: dict[str, NDArray[Any]] = dict(table.columns())
        rows["operation"] = rows["task"]
        rows["task"] = np.full(len(rows["task"]), task.name, dtype=object)
        where = {"task": task.name, "split": split, "operation": str(rows["operation"][0])}
        measured += [m for m in retrieval_measures(rows, where) if m.name in task.measured]
        tables.append(rows)
    facts = _facts(task, (), (), "Embedder")
    facts[f"task.{task.name}"] = f"version {task.version}, kind retrieval, {len(samples)} pictures"
    return SuiteResult(join(tables), measured, [], facts)


def _describe(
    bench: EvaluationContext, task: Task, data: Dataset, split: str, samples: Sequence[Sample], capability: Capability
) -> SuiteResult:
    """Captions of a ``Describer`` or a ``Generator``, compared with the picture's own by chrF."""
    table = RowBuilder(task.groups)
    lang = bench.config.language
    for sample, (said, why) in zip(samples, _said(bench, task, data, samples, capability), strict=True):
        own = caption_in(sample, lang)
        table.add(
            [sample],
            task=task.name,
            split=split,
            sample=sample.id,
            concept=concept_of(sample, lang),
            query=own,
            answer=said,
            unscored=why or ("" if own else "no caption in the language"),
            image=sample.image,
            chrf=chrf(normal(said), normal(own)) if said and own else np.nan,
        )
    rows = table.columns()
    where = {"task": task.name, "split": split}
    measured = []
    if scored(rows, where, "chrf"):
        recipe = Recipe("mean", "chrf", Tags(where, condition=CLEAN), "concept")
        measured.append(measure(rows, recipe, "chrf", where))
    return SuiteResult(rows, measured, [], _facts(task, (), (), capability))


def _said(
    bench: EvaluationContext, task: Task, data: Dataset, samples: Sequence[Sample], capability: Capability
) -> list[tuple[str, str]]:
    """For each sample a caption, or why there is none."""
    if capability == "Generator":
        asker = Asker(bench.model, bench.store.answer_cache, bench.config.batch_size, bench.progress)
        questions = [Question(s.image, partial(readable, data, s), task.asked[0]) for s in samples]
        replies = asker.replies(questions, f"Asking {task.name}")
        return [(r.text.strip(), "") if isinstance(r, Reply) else ("", r) for r in replies]
    found: list[tuple[str, str]] = []
    with bench.progress.task(f"Describing pictures of {task.name}", len(samples)) as bar:
        for some in batches(samples, bench.config.batch_size):
            found += [_first(said) for said in cached_captions(bench, data, some, 1)]
            bar.advance(len(some))
    return found


def _first(said: CaptionsOrReason) -> tuple[str, str]:
    if isinstance(said, str):
        return "", said
    usable = non_empty_captions(said)
    return (usable[0].text.strip(), "") if usable else ("", NO_DESCRIPTION)
