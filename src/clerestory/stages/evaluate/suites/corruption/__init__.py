"""Robustness to corrupted images: nineteen corruptions at five severities each.

The same images of the first split under every condition: image-to-text retrieval against the captions of the split, and
zero-shot classification. Errors are also compared with those of a baseline, the nearest class mean of 8×8 pixels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from clerestory.core.codec import Fact, Tags
from clerestory.core.evidence import Finding, Measurement, Recipe
from clerestory.core.rows import ANY, CLUSTER_COLUMN, TaskName, Unscored
from clerestory.core.sample import TRAIN, Dataset, Sample
from clerestory.data.corruptions import NAMES, SEVERITIES
from clerestory.models.protocols import Embedder
from clerestory.stages.evaluate import findings
from clerestory.stages.evaluate.cached_embeddings import Matrix, embed_dataset
from clerestory.stages.evaluate.context import EvaluationContext
from clerestory.stages.evaluate.row_builder import RowBuilder, has_scores
from clerestory.stages.evaluate.samples import concept_of, select_samples
from clerestory.stages.evaluate.shared.class_prompts import (
    Classes,
    add_predictions,
    class_embeddings,
    class_facts,
    find_classes,
    logit_scale,
    unscored_reasons,
)
from clerestory.stages.evaluate.shared.classifiers import LabelledFeatures, labelled_features
from clerestory.stages.evaluate.shared.retrieval_split import RetrievalSplit, retrieval_split
from clerestory.stages.evaluate.shared.sliced_metrics import Measured, measure_or_explain
from clerestory.stages.evaluate.suite import MeasuredSlices, NotApplicable, Suite, SuiteResult
from clerestory.stages.evaluate.suites.corruption.corrupted_embeddings import (
    MAX_SIDE,
    SIDE,
    CoarseColours,
    CorruptedEmbeddings,
    class_means,
    nearest_class,
)
from clerestory.stats.aggregate import Rows, measure
from clerestory.stats.ranking import best_ranks

RECALL_K = 10
BASELINE = "coarse_colours"

Floats = NDArray[np.float64]


class AnswerKey(NamedTuple):
    """What the embeddings of corrupted images are compared with. K classes, D dimensions.

    Attributes:
        split: the captions.
        classes: of zero-shot classification; None where the data has none.
        prompts_KD: embeddings of the classes, times the logit scale.
        means_KD: class means of the baseline; None where it has no training data.
        train: what the baseline was trained on; None likewise.
    """

    split: RetrievalSplit
    classes: Classes | None = None
    prompts_KD: Floats = np.zeros((0, 0))
    means_KD: Floats | None = None
    train: LabelledFeatures | None = None


def run(context: EvaluationContext) -> SuiteResult:
    """Two rows per image and condition, and one per clean image."""
    config = context.config
    if not config.corruption_samples:
        raise NotApplicable("corruption_samples is 0, so no image is corrupted", "set corruption_samples to 20 or more")
    split = retrieval_split(context, context.first_split)
    candidates = [split.samples[i] for i in split.scored.tolist()]
    samples = select_samples(candidates, config.corruption_samples, config.seed)
    corrupted, baseline = CorruptedEmbeddings(context, samples), CoarseColours()
    key, notes = _answer_key(context, split, baseline)
    models: list[Embedder] = [context.embedder] if key.means_KD is None else [context.embedder, baseline]
    builder = context.row_builder()
    clean = _clean_embeddings(context, samples, models)
    clean_cells = {"task": TaskName.CORRUPTION_BASELINE}
    _add_classes(builder, context, samples, key, clean, clean_cells, [sample.image for sample in samples])
    conditions = [(name, severity) for name in NAMES for severity in SEVERITIES]
    with context.progress.task("Corrupting images", len(conditions)) as bar:
        for name, severity in conditions:
            embedded = corrupted.embed(models, name, severity)
            cells = {"condition": name, "severity": str(severity)}
            keys = corrupted.keys(name, severity)
            _add_ranks(builder, context, samples, key, embedded[0], cells, keys)
            _add_classes(builder, context, samples, key, embedded, {"task": TaskName.ZERO_SHOT, **cells}, keys)
            bar.advance(1)
    rows = builder.columns()
    measurements, more = _measurements(rows, split.split)
    return SuiteResult(rows, measurements, notes + more, _facts(context, key, len(samples)))


def _answer_key(
    context: EvaluationContext, split: RetrievalSplit, baseline: CoarseColours
) -> tuple[AnswerKey, list[Finding]]:
    try:
        classes = find_classes(context)
    except NotApplicable as error:
        where = f"task {TaskName.ZERO_SHOT}"
        return AnswerKey(split), [findings.NO_CORRUPTION_BASELINE.finding(where, error.message, fix=error.fix)]
    prompts_KD = logit_scale(context) * class_embeddings(context, classes)
    train = labelled_features(context, TRAIN, classes, baseline)
    if train is None or train.num_classes < 2:
        message = f"the split {TRAIN!r} has no labelled images of two classes to train the baseline on"
        fix = f"give some images the split {TRAIN!r}, and evaluate on others"
        note = findings.NO_CORRUPTION_BASELINE.finding("mce and relative_mce", message, fix=fix)
        return AnswerKey(split, classes, prompts_KD), [note]
    return AnswerKey(split, classes, prompts_KD, class_means(train, classes), train), []


def _clean_embeddings(
    context: EvaluationContext, samples: Sequence[Sample], models: Sequence[Embedder]
) -> list[Matrix]:
    """(N, D) for each model, of the uncorrupted images, in the order of the samples."""
    data = Dataset(context.data.name, samples, context.data.read)
    position = {sample.id: i for i, sample in enumerate(data)}
    order = [position[sample.id] for sample in samples]
    store, batch_size = context.store, context.config.batch_size
    return [embed_dataset(model, data, store, context.progress, batch_size)[order] for model in models]


def _add_ranks(
    builder: RowBuilder,
    context: EvaluationContext,
    samples: Sequence[Sample],
    key: AnswerKey,
    embedded_ND: Matrix,
    cells: Mapping[str, str],
    image_keys: Sequence[str],
) -> None:
    split = key.split
    position_of = {sample.id: i for i, sample in enumerate(split.samples)}
    positions_N = np.array([position_of[sample.id] for sample in samples], dtype=np.int64)
    groups_N = split.groups[positions_N]
    relevant = np.bincount(split.caption_groups)
    known = np.asarray(~np.isnan(embedded_ND).any(axis=1))
    ranks_N = np.full(len(samples), np.nan)
    ranks_N[known] = best_ranks(embedded_ND[known], split.caption_embeddings, groups_N[known], split.caption_groups)
    for i, sample in enumerate(samples):
        builder.add(
            [sample],
            **{"task": TaskName.IMAGE_TO_TEXT, "split": split.split, **cells},
            **{"sample": sample.id, "concept": concept_of(sample, context.config.language), "image": image_keys[i]},
            **{
                "query": split.captions[split.labels[positions_N[i]]],
                "unscored": "" if known[i] else Unscored.IMAGE_TOO_SMALL,
            },
            **{"rank": float(ranks_N[i]), "relevant": float(relevant[groups_N[i]])},
        )


def _add_classes(
    builder: RowBuilder,
    context: EvaluationContext,
    samples: Sequence[Sample],
    key: AnswerKey,
    embedded: Sequence[Matrix],
    cells: Mapping[str, str],
    image_keys: Sequence[str],
) -> None:
    """Add the predictions of the model; ``reference`` says whether the baseline's is correct."""
    if key.classes is None:
        return
    labels_N = key.classes.of(samples)
    unscored = [
        Unscored.IMAGE_TOO_SMALL if reason == Unscored.UNREADABLE_IMAGE else reason
        for reason in unscored_reasons(labels_N, embedded[0])
    ]
    more: list[dict[str, str | float]] = [{"image": image_key} for image_key in image_keys]
    if key.means_KD is not None:
        nearest_N = nearest_class(np.nan_to_num(embedded[1]), key.means_KD)
        for i, reason in enumerate(unscored):
            if not reason:
                more[i]["reference"] = float(nearest_N[i] == labels_N[i])
    logits_NK = np.nan_to_num(embedded[0].astype(np.float64)) @ key.prompts_KD.T
    shared = {"split": key.split.split, "operation": TaskName.CORRUPTION, **cells}
    add_predictions(builder, context, samples, key.classes, logits_NK, unscored, shared, more=more)


def _measurements(rows: Rows, split: str) -> Measured:
    """Each condition by itself, each corruption over its severities, and all of them together."""
    measurements: list[Measurement] = []
    for task in (TaskName.IMAGE_TO_TEXT, TaskName.ZERO_SHOT):
        for name in NAMES:
            for severity in (*map(str, SEVERITIES), ANY):
                where = {"task": task, "split": split, "condition": name, "severity": severity}
                measurements += _of_condition(rows, where)
    notes: list[Finding] = []
    slice_ = {"task": TaskName.ZERO_SHOT, "split": split}
    if has_scores(rows, slice_, "score"):
        recipe = Recipe("mean", "score", Tags({**slice_, "severity": ANY}), CLUSTER_COLUMN)
        measurements.append(measure(rows, recipe, "robust_accuracy", slice_))
    if has_scores(rows, slice_, "reference"):
        tags = Tags(split=split, operation=TaskName.CORRUPTION)
        for name in ("mce", "relative_mce"):
            recipe = Recipe(name, "score", tags, CLUSTER_COLUMN, against="condition")
            compute = partial(measure, rows, recipe, name, slice_)
            found, missing = measure_or_explain(
                compute, f"{name} of {TaskName.ZERO_SHOT}", findings.NO_CORRUPTION_BASELINE
            )
            measurements += found
            notes += missing
    return measurements, notes


def _of_condition(rows: Rows, where: Mapping[str, str]) -> list[Measurement]:
    """Recall@10 or accuracy under one condition; ``severity=*`` is every severity, and not in the slice."""
    slice_ = {name: value for name, value in where.items() if value != ANY}
    retrieval = where["task"] == TaskName.IMAGE_TO_TEXT
    column, name = ("rank", f"recall@{RECALL_K}") if retrieval else ("score", "accuracy")
    if not has_scores(rows, slice_, column):
        return []
    statistic, parameter = ("share_at_most", float(RECALL_K)) if retrieval else ("mean", 0.0)
    return [measure(rows, Recipe(statistic, column, Tags(where), CLUSTER_COLUMN, parameter), name, slice_)]


def _facts(context: EvaluationContext, key: AnswerKey, samples: int) -> dict[str, Fact]:
    facts: dict[str, Fact] = {
        "corruption.samples": samples,
        "corruption.split": key.split.split,
        "corruption.corruptions": len(NAMES),
        "corruption.severities": len(SEVERITIES),
        "corruption.max_side": MAX_SIDE,
    }
    if key.train is not None:
        facts["corruption.baseline"] = BASELINE
        facts["corruption.baseline_side"] = SIDE
        facts["corruption.baseline_train_samples"] = len(key.train.labels)
    return facts | (class_facts(context, key.classes) if key.classes else {})


SUITE = Suite(
    name="corruption",
    description="robustness to corrupted images: noise, blur, weather, compression",
    capabilities=("Embedder",),
    settings=("label_field", "corruption_samples", "retrieval_protocol"),
    run=run,
    measures=(
        MeasuredSlices((TaskName.IMAGE_TO_TEXT, TaskName.ZERO_SHOT), keys=("condition",)),
        MeasuredSlices((TaskName.ZERO_SHOT,), ("robust_accuracy", "mce", "relative_mce")),
    ),
)
