"""How much is lost when pictures go bad: nineteen corruptions, five severities each.

The same pictures of the first split under every condition: image to text against the captions of the split, and
zero-shot classification. The errors are also held against a plain baseline's, the nearest class by 8×8 colour pixels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from clerestory.core.codec import Tags
from clerestory.core.evidence import Finding, Measurement, Recipe
from clerestory.core.sample import Dataset, Sample
from clerestory.data.corruptions import NAMES, SEVERITIES
from clerestory.models.protocols import Embedder, logit_scale_of
from clerestory.stages.evaluate.context import EvaluationContext
from clerestory.stages.evaluate.shared.class_prompts import Classes, class_embeddings, facts, find_classes, reasons
from clerestory.stages.evaluate.shared.embeddings import embed_dataset
from clerestory.stages.evaluate.shared.labelled_features import TRAIN, LabelledFeatures, lesson, told
from clerestory.stages.evaluate.shared.measures import scored
from clerestory.stages.evaluate.shared.prediction_rows import add_answers
from clerestory.stages.evaluate.shared.retrieval_metrics import IMAGE_TO_TEXT
from clerestory.stages.evaluate.shared.retrieval_split import UNREADABLE, RetrievalSplit, concept_of
from clerestory.stages.evaluate.shared.row_builder import RowBuilder
from clerestory.stages.evaluate.shared.sampling import choose
from clerestory.stages.evaluate.shared.sliced_metrics import CONCEPT, attempt
from clerestory.stages.evaluate.suite import NotApplicable, Suite, SuiteResult
from clerestory.stages.evaluate.suites.corruption.corrupted_embeddings import (
    SIDE,
    CoarseColours,
    CorruptedEmbeddings,
    centroids,
    nearest,
)
from clerestory.stats.aggregate import ANY, Rows, measure
from clerestory.stats.ranking import best_ranks

ZERO_SHOT = "zero_shot"
# Clean answers of the same pictures, for relative errors; not among those of the whole split.
BASE = "corruption_base"
CORRUPTION = "corruption"
SCALE = 100.0
K = 10
TOO_SMALL = "the picture is too small to be corrupted"

Floats = NDArray[np.float64]


class AnswerKey(NamedTuple):
    """What the answers about a picture are judged by.

    Attributes:
        pool: the split's captions.
        classes: of zero-shot classification; None where the data has none.
        prompts_KD: their embeddings, times the logit scale.
        means_KD: what the baseline learnt; None where there is nothing to learn from.
    """

    pool: RetrievalSplit
    classes: Classes | None
    prompts_KD: Floats
    means_KD: Floats | None


def run(bench: EvaluationContext) -> SuiteResult:
    """Two rows per picture and condition, and one for each clean picture's class."""
    config = bench.config
    if not config.corruption_samples:
        raise NotApplicable("no picture is to be corrupted", "set corrupted to 20 or more")
    split = next(iter(bench.splits))
    pool = bench.pool(split)
    samples = choose([pool.samples[i] for i in pool.scored.tolist()], config.corruption_samples, config.seed)
    degraded, baseline = CorruptedEmbeddings(bench, samples), CoarseColours()
    judge, learnt, findings = _judge(bench, pool, baseline)
    models: list[Embedder] = [bench.embedder]
    if judge.means_KD is not None:
        models.append(baseline)
    table = bench.table()
    clean = _clean(bench, samples, models)
    _add_classes(table, bench, samples, judge, clean, {"task": BASE}, [sample.image for sample in samples])
    conditions = [(name, severity) for name in NAMES for severity in SEVERITIES]
    with bench.progress.task("Corrupting pictures", len(conditions)) as bar:
        for name, severity in conditions:
            embedded = degraded.embed(models, name, severity)
            cells = {"condition": name, "severity": str(severity)}
            keys = degraded.keys(name, severity)
            _add_ranks(table, bench, samples, judge, embedded[0], cells, keys)
            _add_classes(table, bench, samples, judge, embedded, {"task": ZERO_SHOT, **cells}, keys)
            bar.advance(1)
    rows = table.columns()
    measured, more = _measures(rows, split)
    notes = {
        CORRUPTION: f"{len(samples)} pictures of split {split}, chosen by a hash of the seed, under {len(NAMES)} "
        f"corruptions × {len(SEVERITIES)} severities; {IMAGE_TO_TEXT} against the captions of the whole split",
    }
    if learnt is not None:
        notes["corruption.reference"] = (
            f"nearest class mean of {SIDE}×{SIDE} colour pixels, learnt from {told(TRAIN, learnt)}; "
            "mce divides by its errors"
        )
    notes |= facts(judge.classes, config.language) if judge.classes else {}
    return SuiteResult(rows, measured, findings + more, notes)


def _judge(
    bench: EvaluationContext, pool: RetrievalSplit, baseline: CoarseColours
) -> tuple[AnswerKey, LabelledFeatures | None, list[Finding]]:
    try:
        classes = find_classes(bench)
    except NotApplicable as error:
        note = Finding("CLR-E023", "info", "not_applicable", f"task {ZERO_SHOT}", error.message, error.fix)
        return AnswerKey(pool, None, np.zeros((0, 0)), None), None, [note]
    prompts_KD = (logit_scale_of(bench.model) or SCALE) * class_embeddings(bench, classes)
    learnt = lesson(bench, TRAIN, classes, baseline)
    if learnt is None or len(set(learnt.labels.tolist())) < 2:
        message = f"the baseline has no labelled pictures of two classes in a split {TRAIN!r} to learn from"
        fix = f"give some pictures the split {TRAIN!r}, and evaluate on others"
        note = Finding("CLR-E023", "info", "not_applicable", "mce and relative_mce", message, fix)
        return AnswerKey(pool, classes, prompts_KD, None), None, [note]
    return AnswerKey(pool, classes, prompts_KD, centroids(learnt, classes)), learnt, []


def _clean(
    bench: EvaluationContext, samples: Sequence[Sample], models: Sequence[Embedder]
) -> list[NDArray[np.float32]]:
    """(N, D) for each model, of the pictures as they are; the order is that of the samples."""
    data = Dataset(bench.data.name, samples, bench.data.read)
    place = {sample.id: i for i, sample in enumerate(data)}
    order = [place[sample.id] for sample in samples]
    return [embed_dataset(model, data, bench.store, bench.progress, bench.config.batch_size)[order] for model in models]


def _add_ranks(
    table: RowBuilder,
    bench: EvaluationContext,
    samples: Sequence[Sample],
    judge: AnswerKey,
    embedded_ND: NDArray[np.float32],
    cells: Mapping[str, str],
    keys: Sequence[str],
) -> None:
    pool = judge.pool
    label = {sample.id: int(place) for sample, place in zip(pool.samples, pool.labels, strict=True)}
    labels_N = np.array([label[sample.id] for sample in samples], dtype=np.int64)
    known = np.asarray(~np.isnan(embedded_ND).any(axis=1))
    ranks_N = np.full(len(samples), np.nan)
    everything = np.arange(len(pool.captions))
    ranks_N[known] = best_ranks(embedded_ND[known], pool.caption_embeddings, labels_N[known], everything)
    for i, sample in enumerate(samples):
        table.add(
            [sample],
            **{"task": IMAGE_TO_TEXT, "split": pool.split, **cells},
            **{"sample": sample.id, "concept": concept_of(sample, bench.config.language), "image": keys[i]},
            **{"query": pool.captions[labels_N[i]], "unscored": "" if known[i] else TOO_SMALL},
            **{"rank": float(ranks_N[i]), "relevant": 1.0},
        )


def _add_classes(
    table: RowBuilder,
    bench: EvaluationContext,
    samples: Sequence[Sample],
    judge: AnswerKey,
    embedded: Sequence[NDArray[np.float32]],
    cells: Mapping[str, str],
    keys: Sequence[str],
) -> None:
    """The answers of the model, and in ``reference`` whether the baseline was right."""
    if judge.classes is None:
        return
    labels_N = judge.classes.of(samples)
    why = [TOO_SMALL if each == UNREADABLE else each for each in reasons(labels_N, embedded[0])]
    more: list[dict[str, str | float]] = [{"image": key} for key in keys]
    if judge.means_KD is not None:
        told_N = nearest(np.nan_to_num(embedded[1]), judge.means_KD)
        for i, reason in enumerate(why):
            if not reason:
                more[i]["reference"] = float(told_N[i] == labels_N[i])
    logits_NK = np.nan_to_num(embedded[0].astype(np.float64)) @ judge.prompts_KD.T
    shared = {"split": judge.pool.split, "operation": CORRUPTION, **cells}
    add_answers(table, bench, samples, judge.classes, logits_NK, why, shared, more=more)


def _measures(rows: Rows, split: str) -> tuple[list[Measurement], list[Finding]]:
    """Each condition by itself, each corruption over its severities, and all of them together."""
    measured: list[Measurement] = []
    for task in (IMAGE_TO_TEXT, ZERO_SHOT):
        where = {"task": task, "split": split}
        for name in NAMES:
            for severity in (*map(str, SEVERITIES), ANY):
                measured += _one(rows, {**where, "condition": name, "severity": severity})
    findings: list[Finding] = []
    where = {"task": ZERO_SHOT, "split": split}
    every = {**where, "severity": ANY}
    if scored(rows, where, "score"):
        recipe = Recipe("mean", "score", Tags(every), CONCEPT)
        measured.append(measure(rows, recipe, "robust_accuracy", where))
    if scored(rows, where, "reference"):
        for name in ("mce", "relative_mce"):
            recipe = Recipe(name, "score", Tags(split=split, operation=CORRUPTION), CONCEPT, against="condition")
            take = partial(measure, rows, recipe, name, where)
            found, missing = attempt(take, f"{name} of {ZERO_SHOT}", "CLR-E023")
            measured += found
            findings += missing
    return measured, findings


def _one(rows: Rows, where: Mapping[str, str]) -> list[Measurement]:
    """Recall@10 or accuracy under one condition; ``severity=*`` is all of a corruption's, and not in the slice."""
    slice_ = {name: value for name, value in where.items() if value != ANY}
    column, name = ("rank", f"recall@{K}") if where["task"] == IMAGE_TO_TEXT else ("score", "accuracy")
    if not scored(rows, slice_, column):
        return []
    statistic, parameter = ("share_at_most", float(K)) if column == "rank" else ("mean", 0.0)
    return [measure(rows, Recipe(statistic, column, Tags(where), CONCEPT, parameter), name, slice_)]


SUITE = Suite(
    name="corrupt",
    about="pictures that have gone bad: noise, blur, weather, compression",
    needs=("Embedder",),
    settings=("label", "corrupted"),
    run=run,
)
