"""Tasks that an ``Embedder`` does: zero-shot classes, a linear probe, k nearest neighbours.

Legend: N pictures, M pictures to learn from, T texts, K classes, D width of an embedding.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from clerestory.core.errors import DataError
from clerestory.core.sample import VAL, Dataset, Sample
from clerestory.models.protocols import logit_scale_of
from clerestory.stages.evaluate.context import EvaluationContext
from clerestory.stages.evaluate.shared.cached_embeddings import embed_images_by_key
from clerestory.stages.evaluate.shared.embeddings import readable
from clerestory.stages.evaluate.shared.linear_probe import choose_linear, knn_logits
from clerestory.stages.evaluate.shared.retrieval_split import UNREADABLE
from clerestory.stages.evaluate.tasks.answer_parsing import credit
from clerestory.stages.evaluate.tasks.items import Item, cell, items_of, learnt_samples
from clerestory.stages.evaluate.tasks.scored_item import Outcome, probable
from clerestory.stages.evaluate.tasks.task import Task

Floats = NDArray[np.float64]

HELD_OUT = 10


def classes_of(task: Task, data: Dataset) -> tuple[str, ...]:
    """The classes to choose from: those of the task, else all that occur in the data.

    Raises:
        DataError: there are fewer than two.
    """
    found = task.labels or tuple(sorted({name for sample in data if (name := cell(sample, task.label))}))
    if len(found) < 2:
        raise DataError(
            f"the column {task.label!r} of the task {task.name!r} has {len(found)} classes, and choosing needs two",
            "name another column as label, or add pictures of other classes",
        )
    return found


def class_logits(
    bench: EvaluationContext, task: Task, data: Dataset, classes: Sequence[str], images_ND: Floats
) -> Floats:
    """Scores (N, K) of embedded pictures for each class; NaN rows stay NaN.

    Raises:
        DataError: there is nothing to learn from.
    """
    if task.kind == "zero_shot":
        return images_ND @ class_texts(bench, task, classes).T
    lesson = [sample for sample in learnt_samples(data) if cell(sample, task.label) in classes]
    if not lesson:
        raise DataError(
            f"the data of the task {task.name!r} has no split train to learn from",
            "add a column split with train and test, or make it a task of kind zero_shot",
        )
    lesson_MD = embed_samples(bench, data, lesson)
    usable = np.flatnonzero(np.isfinite(lesson_MD).all(axis=1))
    place = {name: i for i, name in enumerate(classes)}
    labels = np.array([place[cell(sample, task.label)] for sample in lesson], dtype=np.int64)[usable]
    kept = [lesson[int(i)] for i in usable]
    lesson_MD = lesson_MD[usable]
    found = np.full((len(images_ND), len(classes)), np.nan)
    known = ~np.isnan(images_ND).any(axis=1)
    if task.kind == "knn":
        found[known] = knn_logits(images_ND[known], lesson_MD, labels, len(classes))
        return found
    aside = _held_out(kept)
    probe = choose_linear(lesson_MD[~aside], labels[~aside], lesson_MD[aside], labels[aside], len(classes)).probe
    found[known] = probe.logits(images_ND[known])
    return found


def class_texts(bench: EvaluationContext, task: Task, classes: Sequence[str]) -> Floats:
    """Unit rows (K, D): for each class the mean over the prompts, made a unit row again (Radford et al. 2021)."""
    texts = [prompt.replace("{label}", name) for name in classes for prompt in task.asked]
    rows_TD = bench.embed_texts(texts).astype(np.float64)
    means_KD = rows_TD.reshape(len(classes), len(task.asked), -1).mean(axis=1)
    unit: Floats = means_KD / np.maximum(np.linalg.norm(means_KD, axis=1, keepdims=True), 1e-12)
    return unit


def embed_samples(bench: EvaluationContext, data: Dataset, samples: Sequence[Sample]) -> Floats:
    """Embeddings (N, D) of some samples of a data set; NaN rows where a picture cannot be read."""
    keys = [sample.image for sample in samples]
    return embed_images_by_key(
        bench.embedder,
        keys,
        lambda place: readable(data, samples[place]),
        bench.store.answer_cache,
        bench.progress,
        bench.config.batch_size,
    ).astype(np.float64)


def class_items(task: Task, samples: Sequence[Sample], classes: Sequence[str]) -> list[Item]:
    """Items whose options are the classes; a label that is no class is no answer."""
    options = tuple(classes)
    return [
        Item(item.sample, "", options, item.answers if set(item.answers) & set(options) else (), item.cluster)
        for item in items_of(task, samples)
    ]


def class_outcomes(bench: EvaluationContext, task: Task, items: Sequence[Item], logits_NK: Floats) -> list[Outcome]:
    """From scores to outcomes; the probabilities of ``zero_shot`` take the model's own temperature, if it tells it."""
    scale = logit_scale_of(bench.model) if task.kind == "zero_shot" else 1.0
    return [_outcome(item, logits_K, scale) for item, logits_K in zip(items, logits_NK, strict=True)]


def _outcome(item: Item, logits_K: Floats, scale: float | None) -> Outcome:
    if np.isnan(logits_K).any():
        return Outcome(unscored=UNREADABLE)
    answer = item.options[int(logits_K.argmax())]
    if not item.answers:
        return Outcome(answer=answer)
    score = credit(logits_K, item.right)
    if scale is None:
        return Outcome(score, answer)
    confidence, nll, brier = probable(softmax(scale * logits_K), item.right)
    return Outcome(score, answer, confidence=confidence, nll=nll, brier=brier)


def _held_out(samples: Sequence[Sample]) -> NDArray[np.bool_]:
    """Which pictures choose the strength of the penalty: the split ``val``, else a tenth by a hash of the concept."""
    aside = np.array([sample.split == VAL for sample in samples])
    if not aside.any() or aside.all():
        names = (sample.concept or sample.id for sample in samples)
        aside = np.array([hashlib.sha256(name.encode()).digest()[0] % HELD_OUT == 0 for name in names])
    if not aside.any() or aside.all():
        aside = np.arange(len(samples)) % 2 == 0
    return aside
