"""The classifiers of frozen embeddings that several suites evaluate, and their training data.

They are zero-shot classification, k nearest neighbours and a linear probe, trained on the splits ``train`` and ``val``.
Training images are never evaluated: data without a split ``train`` has no training data. N images, M training images,
D dimensions, K classes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from clerestory.core.codec import Fact
from clerestory.core.digest import digest
from clerestory.core.evidence import Finding
from clerestory.core.rows import TaskName, Unscored
from clerestory.core.sample import TRAIN, VAL, Dataset, Sample
from clerestory.models.protocols import Embedder
from clerestory.stages.evaluate import findings
from clerestory.stages.evaluate.cached_embeddings import embed_dataset
from clerestory.stages.evaluate.context import EvaluationContext
from clerestory.stages.evaluate.samples import is_base_image, select_samples
from clerestory.stages.evaluate.shared.class_prompts import (
    Classes,
    class_embeddings,
    class_facts,
    cluster_of,
    find_classes,
    logit_scale,
    unscored_reasons,
)
from clerestory.stats.linear_probe import NEIGHBOURS, SMOOTHING, VOTE_TEMPERATURE, knn_logits, select_linear_probe

MAX_TRAIN_SAMPLES = 4000
HELD_OUT_SHARE = 0.1
HELD_OUT_CONCEPTS = "held_out_concepts"

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Logits = Callable[[Floats], Floats]


class LabelledFeatures(NamedTuple):
    """Embeddings of M labelled images of one split.

    Attributes:
        features: (M, D) embeddings.
        labels: (M,) class indices.
        concepts: the concept of each image.
        split_size: how many images the split has, skin-tone variants excluded.
    """

    features: Floats
    labels: Ints
    concepts: tuple[str, ...]
    split_size: int

    @property
    def sampled(self) -> bool:
        """Whether the images were sampled from a larger split."""
        return self.split_size > MAX_TRAIN_SAMPLES

    @property
    def num_classes(self) -> int:
        """How many classes occur."""
        return len(set(self.labels.tolist()))


def labelled_features(
    context: EvaluationContext, split: str, classes: Classes, model: Embedder | None = None
) -> LabelledFeatures | None:
    """The labelled, readable ones among at most 4,000 images of a split that is not evaluated; None if there are none.

    Skin-tone variants are excluded: they would make a few concepts count many times. The images are sampled before
    their labels are read, so that every suite embeds the same ones. ``model`` replaces the evaluated model.
    """
    if split in context.splits:
        return None
    base = context.data.filter(lambda sample: sample.split == split and is_base_image(sample))
    sampled = select_samples(base, MAX_TRAIN_SAMPLES, context.config.seed)
    labelled = [sample for sample, label in zip(sampled, classes.of(sampled), strict=True) if label >= 0]
    if not labelled:
        return None
    data = Dataset(context.data.name, labelled, context.data.read)
    config = context.config
    embedded = embed_dataset(model or context.embedder, data, context.store, context.progress, config.batch_size)
    features = embedded.astype(np.float64)
    usable = np.asarray(~np.isnan(features).any(axis=1))
    if not usable.any():
        return None
    concepts = tuple(cluster_of(s, classes, config.language) for s, use in zip(data, usable, strict=True) if use)
    return LabelledFeatures(features[usable], classes.of(data)[usable], concepts, len(base))


def hold_out_concepts(train: LabelledFeatures) -> tuple[LabelledFeatures, LabelledFeatures]:
    """Training data without a tenth of its concepts, selected by a hash, and that tenth to choose the penalty on."""
    held_out = np.array([int(digest({"aside": name})[:8], 16) / 2**32 < HELD_OUT_SHARE for name in train.concepts])
    if not held_out.any() or held_out.all():
        return train, train

    def take(chosen: NDArray[np.bool_]) -> LabelledFeatures:
        concepts = tuple(name for name, use in zip(train.concepts, chosen, strict=True) if use)
        return LabelledFeatures(train.features[chosen], train.labels[chosen], concepts, train.split_size)

    return take(~held_out), take(held_out)


@dataclass
class Classifiers:
    """Classifiers by the name of their task.

    Attributes:
        classes: what they tell apart.
        logits: each turns embeddings (N, D) into logits (N, K).
        val: the labelled images of the split ``val``, None where there are none.
        facts: how they were fitted.
        findings: which could not be fitted, and why.
    """

    classes: Classes
    logits: dict[TaskName, Logits]
    val: LabelledFeatures | None
    facts: dict[str, Fact] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)


class Predictions(NamedTuple):
    """What one classifier predicts on one split: logits (N, K), and why some images are not scored."""

    task: TaskName
    split: str
    samples: Sequence[Sample]
    logits: Floats
    unscored: Sequence[Unscored | str]


def fitted_classifiers(context: EvaluationContext) -> Classifiers:
    """The classifiers of an evaluation, fitted once for all its suites.

    Zero-shot classification needs no data; k-NN and the linear probe need labelled training images of two classes.

    Raises:
        NotApplicable: the data has no classes.
    """
    return context.once("classifiers", lambda: _fit(context))


def predictions(context: EvaluationContext) -> Iterator[Predictions]:
    """The predictions of every classifier on every evaluated split."""
    classifiers = fitted_classifiers(context)
    for split, data in context.splits.items():
        embedded = context.embed_images(data)
        unscored = unscored_reasons(classifiers.classes.of(data), embedded)
        features_ND = np.nan_to_num(embedded.astype(np.float64))
        for task, logits in classifiers.logits.items():
            yield Predictions(task, split, data.samples, logits(features_ND), unscored)


def _fit(context: EvaluationContext) -> Classifiers:
    classes = find_classes(context)
    scale, prompts_KD = logit_scale(context), class_embeddings(context, classes)
    val = labelled_features(context, VAL, classes)
    made = Classifiers(classes, {TaskName.ZERO_SHOT: lambda x_ND: scale * x_ND @ prompts_KD.T}, val)
    made.facts |= class_facts(context, classes)
    train = labelled_features(context, TRAIN, classes)
    if train is None or train.num_classes < 2:
        message = (
            f"the split {TRAIN!r} has no labelled images of two classes, so {TaskName.KNN} and "
            f"{TaskName.LINEAR_PROBE} were not evaluated"
        )
        made.findings.append(findings.NO_TRAINING_DATA.finding(f"split {TRAIN}", message))
    else:
        _fit_trained(made, train)
    return made


def _fit_trained(made: Classifiers, train: LabelledFeatures) -> None:
    num_classes = len(made.classes.names)
    made.logits[TaskName.KNN] = lambda x_ND: knn_logits(x_ND, train.features, train.labels, num_classes)
    fit, held_out = (train, made.val) if made.val is not None else hold_out_concepts(train)
    probe = select_linear_probe(fit.features, fit.labels, held_out.features, held_out.labels, num_classes).probe
    made.logits[TaskName.LINEAR_PROBE] = probe.logits
    made.facts |= {
        "classifiers.train_samples": len(train.labels),
        "classifiers.train_sampled": train.sampled,
        "knn.neighbours": min(NEIGHBOURS, len(train.labels)),
        "knn.temperature": VOTE_TEMPERATURE,
        "knn.smoothing": SMOOTHING,
        "linear_probe.strength": probe.strength,
        "linear_probe.chosen_on": VAL if made.val is not None else HELD_OUT_CONCEPTS,
    }
