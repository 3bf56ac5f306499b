"""Out-of-distribution detection: are images of unknown classes recognised as unknown?

Some classes are held out: classifiers are trained on and asked about the others only, and images of the held-out
classes should get lower scores. In-distribution is the positive class of every metric.
"""

from __future__ import annotations

import math
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from clerestory.core.codec import Fact, Tags
from clerestory.core.digest import digest
from clerestory.core.errors import InputError
from clerestory.core.evidence import Finding, Measurement, Recipe
from clerestory.core.rows import CLUSTER_COLUMN, Condition, TaskName
from clerestory.core.sample import TRAIN, VAL
from clerestory.stages.evaluate import findings
from clerestory.stages.evaluate.context import EvaluationContext
from clerestory.stages.evaluate.row_builder import has_scores
from clerestory.stages.evaluate.samples import concept_of
from clerestory.stages.evaluate.shared.class_prompts import (
    MAX_LISTED,
    Classes,
    class_embeddings,
    find_classes,
    logit_scale,
    unscored_reasons,
)
from clerestory.stages.evaluate.shared.classifiers import LabelledFeatures, hold_out_concepts, labelled_features
from clerestory.stages.evaluate.shared.sliced_metrics import Measured, measure_or_explain
from clerestory.stages.evaluate.suite import MeasuredSlices, NotApplicable, Suite, SuiteResult
from clerestory.stats import ood
from clerestory.stats.aggregate import Rows, measure
from clerestory.stats.linear_probe import LinearProbe, select_linear_probe

HELD_OUT_SHARE = 0.3
MIN_CLASSES = 3
NEIGHBOURS = 10
STATISTICS = {"ood_auroc": "auroc", "ood_aupr_in": "aupr_in", "ood_aupr_out": "aupr_out", "ood_fpr95": "fpr95"}

Floats = NDArray[np.float64]


class OodScores(NamedTuple):
    """Scores by name, each (N,) and higher for known classes; how they were computed, and which could not be."""

    values: dict[str, Floats]
    facts: dict[str, Fact]
    findings: list[Finding]


def run(context: EvaluationContext) -> SuiteResult:
    """One row per image of the first split, with every score."""
    classes = find_classes(context)
    known = known_classes(classes, context.config.seed)
    split = context.first_split
    data = context.splits[split]
    embedded = context.embed_images(data)
    unscored = unscored_reasons(classes.of(data), embedded)
    scored = [i for i, reason in enumerate(unscored) if not reason]
    is_known = known.of(data) >= 0
    if len({bool(is_known[i]) for i in scored}) < 2:
        raise NotApplicable(
            f"split {split!r} does not have images of both known and held-out classes", "add images of more classes"
        )
    scores = ood_scores(context, known, embedded[scored].astype(np.float64))
    builder, position = context.row_builder(), {i: n for n, i in enumerate(scored)}
    for i, sample in enumerate(data):
        numbers: dict[str, float] = {}
        if i in position:
            numbers = {f"ood_{name}": float(values[position[i]]) for name, values in scores.values.items()}
            numbers["in_distribution"] = float(is_known[i])
        builder.add(
            [sample],
            task=TaskName.OOD,
            split=split,
            sample=sample.id,
            concept=concept_of(sample, context.config.language),
            image=sample.image,
            unscored=unscored[i],
            target="" if unscored[i] else classes.names[classes.of([sample])[0]],
            **numbers,
        )
    rows = builder.columns()
    measurements, notes = _measurements(rows, split, scores)
    held_out = [name for name in classes.names if name not in known.names]
    facts: dict[str, Fact] = {
        "ood.split": split,
        "ood.label_field": classes.field,
        "ood.in_distribution": known.names[:MAX_LISTED],
        "ood.in_distribution_count": len(known.names),
        "ood.out_of_distribution": tuple(held_out[:MAX_LISTED]),
        "ood.out_of_distribution_count": len(held_out),
    }
    return SuiteResult(rows, measurements, [*scores.findings, *notes], facts | scores.facts)


def known_classes(classes: Classes, seed: int) -> Classes:
    """The classes that are not held out: about seven in ten, by a hash of the seed and their names.

    Raises:
        NotApplicable: fewer than three classes.
    """
    count = len(classes.names)
    if count < MIN_CLASSES:
        raise NotApplicable(
            f"holding out a class takes at least {MIN_CLASSES} classes, and the data has {count}",
            f"set label_field to a group with at least {MIN_CLASSES} values",
        )
    num_held_out = max(1, min(count - 2, math.floor(HELD_OUT_SHARE * count)))
    order = sorted(classes.names, key=lambda name: digest({"held out": name, "seed": seed}))
    return classes.subset(order[num_held_out:])


def ood_scores(context: EvaluationContext, known: Classes, features_ND: Floats) -> OodScores:
    """Every score of images relative to the known classes.

    MSP, max logit and energy come from a linear probe trained on images of these classes. Without training images they
    come from the zero-shot logits, and Mahalanobis and k-NN distances are left out.
    """
    scale = logit_scale(context)
    cosines_NK = features_ND @ class_embeddings(context, known).T
    values = {"mcm": ood.mcm(cosines_NK, 1 / scale)}
    facts: dict[str, Fact] = {"ood.logit_scale": scale}
    notes: list[Finding] = []
    train = labelled_features(context, TRAIN, known)
    if train is None or train.num_classes < 2:
        logits_NK = scale * cosines_NK
        facts["ood.logits"] = TaskName.ZERO_SHOT
        message = f"the split {TRAIN!r} has no labelled images of two classes, so neither was measured"
        notes.append(findings.NO_TRAINING_DATA.finding("mahalanobis and knn", message))
    else:
        probe = _fit_probe(context, known, train)
        logits_NK = probe.logits(features_ND)
        k = min(NEIGHBOURS, len(train.labels))
        facts |= {
            "ood.logits": TaskName.LINEAR_PROBE,
            "ood.probe_strength": probe.strength,
            "ood.train_samples": len(train.labels),
            "ood.neighbours": k,
        }
        values["knn"] = ood.knn(features_ND, train.features, k)
        try:
            values["mahalanobis"] = ood.mahalanobis(features_ND, train.features, train.labels)
        except InputError as error:
            notes.append(findings.NO_TRAINING_DATA.finding("mahalanobis", error.message, fix=error.fix))
    values |= {"msp": ood.msp(logits_NK), "max_logit": ood.max_logit(logits_NK), "energy": ood.energy(logits_NK)}
    return OodScores({name: values[name] for name in ood.SCORES if name in values}, facts, notes)


def _fit_probe(context: EvaluationContext, known: Classes, train: LabelledFeatures) -> LinearProbe:
    val = labelled_features(context, VAL, known)
    fit, held_out = (train, val) if val is not None else hold_out_concepts(train)
    return select_linear_probe(fit.features, fit.labels, held_out.features, held_out.labels, len(known.names)).probe


def _measurements(rows: Rows, split: str, scores: OodScores) -> Measured:
    measurements: list[Measurement] = []
    notes: list[Finding] = []
    where = {"task": TaskName.OOD, "split": split, "condition": Condition.CLEAN}
    for score in scores.values:
        column = f"ood_{score}"
        if not has_scores(rows, where, column):
            continue
        slice_ = {"task": TaskName.OOD, "score": score}
        for name, statistic in STATISTICS.items():
            recipe = Recipe(statistic, column, Tags(where), CLUSTER_COLUMN, against="in_distribution")
            compute = partial(measure, rows, recipe, name, slice_)
            found, missing = measure_or_explain(compute, str(Tags(slice_)), findings.NO_TRAINING_DATA)
            measurements += found
            notes += missing
    return measurements, notes


SUITE = Suite(
    name="ood",
    description="recognising images of unknown classes",
    capabilities=("Embedder",),
    settings=("label_field",),
    run=run,
    measures=(MeasuredSlices((TaskName.OOD,)),),
)
