"""Run a task on a model: its rows under every condition, and their measurements."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from clerestory.core.codec import Tags
from clerestory.core.errors import CapabilityError, DataError
from clerestory.core.evidence import Measurement, Recipe
from clerestory.core.rows import CLUSTER_COLUMN, Condition, Unscored
from clerestory.core.sample import Dataset, Sample
from clerestory.models.protocols import Capability, Generator, Reply
from clerestory.models.reasoning import without_reasoning
from clerestory.models.replies.markup import without_markup
from clerestory.stages.evaluate.cached_embeddings import read_image
from clerestory.stages.evaluate.context import EvaluationContext
from clerestory.stages.evaluate.row_builder import MissingScore, RowBuilder, has_scores, join_rows
from clerestory.stages.evaluate.samples import batches, caption_in, concept_of, normalize_caption
from clerestory.stages.evaluate.shared.retrieval_split import (
    image_to_text,
    make_retrieval_split,
    retrieval_measurements,
    text_to_image,
)
from clerestory.stages.evaluate.suite import SuiteResult
from clerestory.stages.evaluate.tasks.classification import classify
from clerestory.stages.evaluate.tasks.items import (
    TaskItem,
    make_items,
    open_task_data,
    select_task_samples,
    training_samples,
)
from clerestory.stages.evaluate.tasks.memoised_queries import MemoisedModel, Query, cached_captions
from clerestory.stages.evaluate.tasks.multiple_choice import Rephrase, score_with_options, score_with_replies
from clerestory.stages.evaluate.tasks.scored_item import (
    NAN,
    ablated_images,
    add_row,
    chance_of,
    measure_task,
    score_majority,
    task_facts,
)
from clerestory.stages.evaluate.tasks.task import Task, check_model
from clerestory.stats.aggregate import Rows, measure
from clerestory.stats.text import chrf

if TYPE_CHECKING:
    from PIL import Image

CLASSIFICATION_KINDS = ("zero_shot", "linear_probe", "knn")


def release_capabilities(context: EvaluationContext) -> list[tuple[str, tuple[Capability, ...]]]:
    """The releases of this store, which are Clerestory models, with their capabilities."""
    clerestory_capabilities: tuple[Capability, ...] = ("Embedder", "Scorer", "Captioner")
    return [(release.ref, clerestory_capabilities) for release in context.store.releases()]


def run_task(context: EvaluationContext, task: Task) -> SuiteResult:
    """Evaluate the model on a task.

    Raises:
        CapabilityError: the model lacks the required capability; names models that have it.
        DataError: the task's data cannot be opened, or lacks a column.
    """
    capability = check_model(task, context.model, release_capabilities(context))
    data = open_task_data(task, context.progress)
    split, samples = select_task_samples(task, data, context.config.seed)
    if not samples:
        raise DataError(f"the task {task.name!r} has no images in split {split!r}", "set another split in the task")
    result = _run(context, task, data, split, samples, capability)
    # Samples that were excluded when the data was opened are missing from every number of the task.
    return replace(result, findings=[*(f for f in data.findings if f.severity != "info"), *result.findings])


def _run(
    context: EvaluationContext,
    task: Task,
    data: Dataset,
    split: str,
    samples: Sequence[Sample],
    capability: Capability,
) -> SuiteResult:
    if task.kind == "retrieval":
        return _retrieve(context, task, data, split, samples)
    if task.kind == "caption":
        return _caption(context, task, data, split, samples, capability)
    if task.kind in CLASSIFICATION_KINDS:
        return classify(context, task, data, split, samples)
    evaluated = set(samples)
    training_items = make_items(task, [sample for sample in training_samples(data) if sample not in evaluated])
    return run_items(context, task, data, split, make_items(task, samples), training_items, capability)


def run_items(
    context: EvaluationContext,
    task: Task,
    data: Dataset,
    split: str,
    items: Sequence[TaskItem],
    training_items: Sequence[TaskItem],
    capability: Capability,
    rephrase: Rephrase | None = None,
) -> SuiteResult:
    """Evaluate the model on items: with, without and with another image; and score the most frequent answer.

    Args:
        context: the model, and the cache of its answers.
        task: its prompts and its scorer.
        data: reads the images.
        split: the evaluated split.
        items: to evaluate.
        training_items: on which the most frequent answer is counted; the items themselves if there are none.
        capability: the capability of the model that is used.
        rephrase: see ``score_with_options``.
    """
    capability = _capability_for(context, task, items, capability)
    builder = RowBuilder(task.groups)
    model = _memoised(context)

    def load(sample: Sample) -> Image.Image | None:
        return read_image(data, sample)

    clean_scores = [NAN] * len(items)
    for condition in (Condition.CLEAN, Condition.BLIND, Condition.SHUFFLED_IMAGE):
        images = ablated_images(items, condition, context.config.seed)
        if condition == Condition.SHUFFLED_IMAGE and all(image is None for image in images):
            continue
        label = f"Evaluating {task.name} ({condition})"
        if capability == "Scorer":
            scored = score_with_options(model, items, images, load, label, rephrase)
        else:
            scored = score_with_replies(model, task, items, images, load, label, condition)
        for item, image, each, clean in zip(items, images, scored, clean_scores, strict=True):
            add_row(builder, task.name, split, item, each, chance_of(task, item), condition, image, clean)
        if condition == Condition.CLEAN:
            clean_scores = [each.score for each in scored]
    for item, each, clean in zip(items, score_majority(items, training_items), clean_scores, strict=True):
        chance = chance_of(task, item)
        add_row(builder, task.name, split, item, each, chance, Condition.MAJORITY, clean_score=clean)
    facts = task_facts(task, capability, items, training_items)
    return measure_task(task, split, builder, items, facts, context.config.min_group_concepts)


def _capability_for(
    context: EvaluationContext, task: Task, items: Sequence[TaskItem], capability: Capability
) -> Capability:
    """The capability to use: a scorer of too few options answers in words.

    Raises:
        CapabilityError: the model can do neither.
    """
    largest = max((len(item.options) for item in items), default=0)
    limit = getattr(context.model, "max_options", None)
    if capability != "Scorer" or limit is None or largest <= limit:
        return capability
    if isinstance(context.model, Generator):
        return "Generator"
    raise CapabilityError(
        f"an item of the task {task.name!r} has {largest} options, and this model scores at most {limit}",
        f"offer at most {limit} options",
    )


def _memoised(context: EvaluationContext) -> MemoisedModel:
    config = context.config
    return MemoisedModel(
        context.model, context.store.answer_cache, config.batch_size, context.progress, config.max_reply_tokens
    )


def _caption_in(reply: Reply, max_reply_tokens: int) -> str | MissingScore:
    """The caption of a reply; its reasoning is left out, and a part of a caption is not one."""
    if reply.cut_off:
        return MissingScore(Unscored.NOT_UNDERSTOOD, f"cut off at {max_reply_tokens:,} tokens")
    text = without_reasoning(reply.text)
    return " ".join(without_markup(text).split()) or MissingScore(Unscored.NO_CAPTION_WRITTEN)


def _retrieve(
    context: EvaluationContext, task: Task, data: Dataset, split: str, samples: Sequence[Sample]
) -> SuiteResult:
    """Image to text and text to image, distinguished by the column ``operation``."""
    config = context.config
    subset = Dataset(data.name, samples, data.read)
    candidates = make_retrieval_split(context.embedder, split, subset, config, context.store, context.progress)
    tables: list[Rows] = []
    measurements: list[Measurement] = []
    for direction in (image_to_text, text_to_image):
        builder = RowBuilder(task.groups)
        direction(candidates, builder, config.language)
        rows: dict[str, NDArray[Any]] = dict(builder.columns())
        rows["operation"] = rows["task"]
        rows["task"] = np.full(len(rows["task"]), task.name, dtype=object)
        where = {"task": task.name, "split": split, "operation": str(rows["operation"][0])}
        measurements += [m for m in retrieval_measurements(rows, where) if m.name in task.metric_names]
        tables.append(rows)
    facts = task_facts(task, "Embedder")
    facts[f"task.{task.name}.items"] = len(samples)
    return SuiteResult(join_rows(tables), measurements, [], facts)


def _caption(
    context: EvaluationContext,
    task: Task,
    data: Dataset,
    split: str,
    samples: Sequence[Sample],
    capability: Capability,
) -> SuiteResult:
    """Captions of a ``Captioner`` or a ``Generator``, compared with the image's own by chrF."""
    builder = RowBuilder(task.groups)
    language = context.config.language
    captions = _generate_captions(context, task, data, samples, capability)
    for sample, caption in zip(samples, captions, strict=True):
        reference = caption_in(sample, language)
        text = caption if isinstance(caption, str) else ""
        missing = caption if isinstance(caption, MissingScore) else None
        if missing is None and not reference:
            missing = MissingScore(Unscored.NO_CAPTION)
        builder.add(
            [sample],
            task=task.name,
            split=split,
            sample=sample.id,
            concept=concept_of(sample, language),
            query=reference,
            answer=text,
            image=sample.image,
            chrf=chrf(normalize_caption(text), normalize_caption(reference)) if text and reference else np.nan,
            **(missing.cells if missing else {}),
        )
    rows = builder.columns()
    where = {"task": task.name, "split": split}
    measurements = []
    if has_scores(rows, where, "chrf"):
        recipe = Recipe("mean", "chrf", Tags(where, condition=Condition.CLEAN), CLUSTER_COLUMN)
        measurements.append(measure(rows, recipe, "chrf", where))
    facts = task_facts(task, capability)
    facts[f"task.{task.name}.items"] = len(samples)
    return SuiteResult(rows, measurements, [], facts)


def _generate_captions(
    context: EvaluationContext, task: Task, data: Dataset, samples: Sequence[Sample], capability: Capability
) -> list[str | MissingScore]:
    """A caption for each sample, or why there is none."""
    config = context.config
    if capability == "Generator":
        queries = [Query(s.image, partial(read_image, data, s), task.prompt_templates[0]) for s in samples]
        replies = _memoised(context).generate(queries, f"Evaluating {task.name}")
        return [_caption_in(reply, config.max_reply_tokens) if isinstance(reply, Reply) else reply for reply in replies]
    captions: list[str | MissingScore] = []
    with context.progress.task(f"Captioning images of {task.name}", len(samples)) as bar:
        for batch in batches(samples, config.batch_size):
            for generated in cached_captions(context, data, batch, 1):
                first = generated if isinstance(generated, MissingScore) else generated[0].text.strip()
                captions.append(first)
            bar.advance(len(batch))
    return captions
