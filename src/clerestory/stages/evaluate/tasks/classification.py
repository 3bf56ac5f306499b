"""Classification by an ``Embedder``: zero-shot, with a linear probe, with k nearest neighbours.

N images, M training images, T texts, K classes, D dimensions of an embedding.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from clerestory.core.errors import DataError
from clerestory.core.rows import Condition, Unscored
from clerestory.core.sample import VAL, Dataset, Sample
from clerestory.models.protocols import logit_scale_of
from clerestory.stages.evaluate.cached_embeddings import embed_images_by_key, read_image
from clerestory.stages.evaluate.context import EvaluationContext
from clerestory.stages.evaluate.row_builder import MissingScore, RowBuilder
from clerestory.stages.evaluate.suite import SuiteResult
from clerestory.stages.evaluate.tasks.answer_parsing import option_score
from clerestory.stages.evaluate.tasks.items import (
    TRAINED_KINDS,
    TaskItem,
    column_value,
    make_items,
    training_samples,
)
from clerestory.stages.evaluate.tasks.scored_item import (
    NAN,
    ScoredItem,
    ablated_images,
    add_row,
    chance_of,
    measure_task,
    probability_scores,
    score_majority,
    task_facts,
)
from clerestory.stages.evaluate.tasks.task import Task
from clerestory.stats.linear_probe import knn_logits, select_linear_probe
from clerestory.stats.scientific import scipy

Floats = NDArray[np.float64]

NO_TRAINING_IMAGE = MissingScore(Unscored.UNKNOWN_LABEL, "no training image has this label")
HELD_OUT_MODULUS = 10  # one concept in ten is held out


def classify(
    context: EvaluationContext, task: Task, data: Dataset, split: str, samples: Sequence[Sample]
) -> SuiteResult:
    """The rows and measurements of a classification task, with each item's own image and with another one."""
    classes = _classes(task, data)
    items = _class_items(task, samples, classes)
    evaluated = set(samples)
    training = [sample for sample in training_samples(data) if sample not in evaluated]
    training_items = _class_items(task, training, classes)
    trained = _trained_classes(task, items, training_items)
    builder = RowBuilder(task.groups)
    clean_scores = [NAN] * len(items)
    for condition in (Condition.CLEAN, Condition.SHUFFLED_IMAGE):
        images = ablated_images(items, condition, context.config.seed)
        present = [image for image in images if image is not None]
        if len(present) < len(items):
            continue
        logits_NK = _logits(context, task, data, training, classes, _embed(context, data, present))
        scored = [
            each
            if not item.answers or item.answers[0] in trained
            else replace(each, score=NAN, missing=NO_TRAINING_IMAGE)
            for item, each in zip(items, _score(context, task, items, logits_NK), strict=True)
        ]
        for item, image, each, clean in zip(items, images, scored, clean_scores, strict=True):
            add_row(builder, task.name, split, item, each, chance_of(task, item), condition, image, clean)
        if condition == Condition.CLEAN:
            clean_scores = [each.score for each in scored]
    for item, each, clean in zip(items, score_majority(items, training_items), clean_scores, strict=True):
        chance = chance_of(task, item)
        add_row(builder, task.name, split, item, each, chance, Condition.MAJORITY, clean_score=clean)
    facts = task_facts(task, "Embedder", items, training_items)
    facts[f"task.{task.name}.classes"] = len(classes)
    return measure_task(task, split, builder, (), facts, context.config.min_group_concepts)


def _trained_classes(task: Task, items: Sequence[TaskItem], training_items: Sequence[TaskItem]) -> set[str]:
    """The classes that can be predicted: all of them zero-shot, else those with training images.

    Raises:
        DataError: no evaluated image has one of them.
    """
    asked = {answer for item in items for answer in item.answers}
    trained = {answer for item in training_items for answer in item.answers}
    if task.kind not in TRAINED_KINDS or not trained:
        return asked
    if asked and not trained & asked:
        raise DataError(
            f"no class of the {len(items)} evaluated images of the task {task.name!r} has images in the split train",
            "give each class images in both splits (column split), or make it a task of kind zero_shot",
        )
    return trained


def _classes(task: Task, data: Dataset) -> tuple[str, ...]:
    """The classes to choose from: those of the task, else all labels of the data.

    Raises:
        DataError: there are fewer than two.
    """
    labels = (column_value(sample, task.label) for sample in data)
    classes = task.classes or tuple(sorted({label for label in labels if label}))
    if len(classes) < 2:
        raise DataError(
            f"the column {task.label!r} of the task {task.name!r} has {len(classes)} classes, but a task needs two",
            "name another column as label, or add images of other classes",
        )
    return classes


def _logits(
    context: EvaluationContext,
    task: Task,
    data: Dataset,
    training: Sequence[Sample],
    classes: Sequence[str],
    images_ND: Floats,
) -> Floats:
    """Scores (N, K) of embedded images for each class; NaN rows stay NaN.

    Raises:
        DataError: there are no training images.
    """
    if task.kind == "zero_shot":
        return images_ND @ _class_embeddings(context, task, classes).T
    labelled = [sample for sample in training if column_value(sample, task.label) in classes]
    if not labelled:
        raise DataError(
            f"the data of the task {task.name!r} has no labelled images in the split train besides the evaluated ones",
            "add a column split with train and test, or make it a task of kind zero_shot",
        )
    train_MD = _embed(context, data, labelled)
    readable = np.flatnonzero(np.isfinite(train_MD).all(axis=1))
    indices = {name: i for i, name in enumerate(classes)}
    labels_M = np.array([indices[column_value(s, task.label)] for s in labelled], dtype=np.int64)[readable]
    train_MD = train_MD[readable]
    logits_NK = np.full((len(images_ND), len(classes)), np.nan)
    embedded = ~np.isnan(images_ND).any(axis=1)
    if task.kind == "knn":
        logits_NK[embedded] = knn_logits(images_ND[embedded], train_MD, labels_M, len(classes))
        return logits_NK
    held_out = _held_out([labelled[int(i)] for i in readable])
    probe = select_linear_probe(
        train_MD[~held_out], labels_M[~held_out], train_MD[held_out], labels_M[held_out], len(classes)
    ).probe
    logits_NK[embedded] = probe.logits(images_ND[embedded])
    return logits_NK


def _class_embeddings(context: EvaluationContext, task: Task, classes: Sequence[str]) -> Floats:
    """Unit rows (K, D): the normalised mean of the embeddings of each class's prompts (Radford et al. 2021)."""
    prompts = task.prompt_templates
    texts = [prompt.replace("{label}", name) for name in classes for prompt in prompts]
    embedded_TD = context.embed_texts(texts).astype(np.float64)
    means_KD = embedded_TD.reshape(len(classes), len(prompts), -1).mean(axis=1)
    unit_KD: Floats = means_KD / np.maximum(np.linalg.norm(means_KD, axis=1, keepdims=True), 1e-12)
    return unit_KD


def _embed(context: EvaluationContext, data: Dataset, samples: Sequence[Sample]) -> Floats:
    """Embeddings (N, D) of some samples of a dataset, which may repeat; NaN rows for unreadable images."""
    return embed_images_by_key(
        context.embedder,
        [sample.image for sample in samples],
        lambda i: read_image(data, samples[i]),
        context.store.answer_cache,
        context.progress,
        context.config.batch_size,
        names=[sample.id for sample in samples],
    ).astype(np.float64)


def _class_items(task: Task, samples: Sequence[Sample], classes: Sequence[str]) -> list[TaskItem]:
    """Items whose options are the classes; an item whose label is not a class has no answer."""
    options = tuple(classes)
    return [
        TaskItem(item.sample, "", options, item.answers if set(item.answers) & set(options) else (), item.cluster)
        for item in make_items(task, samples)
    ]


def _score(context: EvaluationContext, task: Task, items: Sequence[TaskItem], logits_NK: Floats) -> list[ScoredItem]:
    """The scores of the items; the probabilities of ``zero_shot`` use the model's own temperature, if it has one."""
    scale = logit_scale_of(context.model) if task.kind == "zero_shot" else 1.0
    return [_score_item(item, logits_K, scale) for item, logits_K in zip(items, logits_NK, strict=True)]


def _score_item(item: TaskItem, logits_K: Floats, scale: float | None) -> ScoredItem:
    if np.isnan(logits_K).any():
        return ScoredItem(missing=MissingScore(Unscored.UNREADABLE_IMAGE))
    answer = item.options[int(logits_K.argmax())]
    if not item.answers:
        return ScoredItem(answer=answer)
    score = option_score(logits_K, item.correct_option)
    if scale is None:
        return ScoredItem(score, answer)
    confidence, nll, brier = probability_scores(scipy.special.softmax(scale * logits_K), item.correct_option)
    return ScoredItem(score, answer, confidence=confidence, nll=nll, brier=brier)


def _held_out(samples: Sequence[Sample]) -> NDArray[np.bool_]:
    """The images that select the penalty: the split ``val``, else a tenth by a hash of the concept."""
    held_out = np.array([sample.split == VAL for sample in samples])
    if not held_out.any() or held_out.all():
        names = (sample.concept or sample.id for sample in samples)
        hashes = (hashlib.sha256(name.encode()).digest()[0] for name in names)
        held_out = np.array([value % HELD_OUT_MODULUS == 0 for value in hashes])
    if not held_out.any() or held_out.all():
        held_out = np.arange(len(samples)) % 2 == 0
    return held_out
