"""Does the model notice pictures of what it was not asked about?

Some classes are held out: the classifiers learn and are asked about the others only, and the pictures of the held-out
ones should look unfamiliar. In-distribution is the positive class of every number.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from clerestory.core.codec import Tags
from clerestory.core.digest import digest
from clerestory.core.errors import InputError
from clerestory.core.evidence import Finding, Recipe
from clerestory.models.protocols import logit_scale_of
from clerestory.stages.evaluate.context import EvaluationContext
from clerestory.stages.evaluate.shared.class_prompts import Classes, class_embeddings, find_classes, reasons, shown
from clerestory.stages.evaluate.shared.labelled_features import TRAIN, VAL, LabelledFeatures, cut, lesson, told
from clerestory.stages.evaluate.shared.linear_probe import choose_linear
from clerestory.stages.evaluate.shared.measures import scored
from clerestory.stages.evaluate.shared.retrieval_split import concept_of
from clerestory.stages.evaluate.shared.row_builder import CLEAN, RowBuilder
from clerestory.stages.evaluate.shared.sliced_metrics import CONCEPT, attempt
from clerestory.stages.evaluate.suite import NotApplicable, Suite, SuiteResult
from clerestory.stats import ood
from clerestory.stats.aggregate import measure

OOD = "ood"
SCALE = 100.0
HELD_OUT = 0.3
LEAST_CLASSES = 3
NEIGHBOURS = 10
MEASURES = (
    ("ood_auroc", "auroc"),
    ("ood_aupr_in", "aupr_in"),
    ("ood_aupr_out", "aupr_out"),
    ("ood_fpr95", "fpr95"),
)

Floats = NDArray[np.float64]


class OodScores(NamedTuple):
    """Scores by name, each (N,) and higher for what looks familiar; with what could not be had, and why."""

    values: dict[str, Floats]
    facts: dict[str, str]
    findings: list[Finding]


def run(bench: EvaluationContext) -> SuiteResult:
    """One row per picture of the first split, with every score."""
    classes = find_classes(bench)
    inside = inner_classes(classes, bench.config.seed)
    split, data = next(iter(bench.splits.items()))
    embedded = bench.embed(data)
    why = reasons(classes.of(data), embedded)
    kept = [i for i, reason in enumerate(why) if not reason]
    inner = inside.of(data) >= 0
    if len({bool(inner[i]) for i in kept}) < 2:
        raise NotApplicable(
            f"split {split!r} has no pictures both of held-out classes and of others", "add pictures of more classes"
        )
    scores = familiarity(bench, inside, embedded[kept].astype(np.float64))
    table, place = bench.table(), {i: n for n, i in enumerate(kept)}
    for i, sample in enumerate(data):
        row: dict[str, float] = {}
        if i in place:
            row = {f"ood_{name}": float(values[place[i]]) for name, values in scores.values.items()}
            row["in_distribution"] = float(inner[i])
        concept = concept_of(sample, bench.config.language)
        table.add(
            [sample],
            **{"task": OOD, "split": split, "sample": sample.id, "concept": concept, "image": sample.image},
            **{"unscored": why[i], "target": classes.names[classes.of([sample])[0]] if not why[i] else ""},
            **row,
        )
    return _found(table, split, classes, inside, scores)


def inner_classes(classes: Classes, seed: int) -> Classes:
    """The classes that stay: about three in ten are held out, at least one, by a hash of the seed and their names.

    Raises:
        NotApplicable: fewer than three classes, so that none can be spared.
    """
    count = len(classes.names)
    if count < LEAST_CLASSES:
        raise NotApplicable(
            f"{count} classes are too few to hold one out and still tell the others apart",
            f"name a label with {LEAST_CLASSES} values or more in the setting label",
        )
    out = max(1, min(count - 2, math.floor(HELD_OUT * count)))
    order = sorted(classes.names, key=lambda name: digest({"held out": name, "seed": seed}))
    return classes.only(order[out:])


def familiarity(bench: EvaluationContext, inside: Classes, features_ND: Floats) -> OodScores:
    """Every score of pictures against the classes that were not held out.

    MSP, max logit and energy come from a linear probe on training pictures of these classes; where there are none,
    from the zero-shot logits, and Mahalanobis and k-NN distances are left out.
    """
    scale = logit_scale_of(bench.model) or SCALE
    cosines_NK = features_ND @ class_embeddings(bench, inside).T
    found = {"mcm": ood.mcm(cosines_NK, 1 / scale)}
    notes = {"ood.mcm": f"temperature 1 / {scale:g}", "ood.positive": "in-distribution; every score is higher for it"}
    train = lesson(bench, TRAIN, inside)
    findings = []
    logits_NK = scale * cosines_NK
    if train is None or len(set(train.labels.tolist())) < 2:
        notes["ood.logits"] = f"zero-shot, cosine times {scale:g}"
        message = f"the data has no labelled pictures of two classes in a split {TRAIN!r}"
        findings.append(
            Finding("CLR-E020", "info", "not_applicable", "mahalanobis and knn", f"{message}, so neither was measured")
        )
    else:
        logits_NK, strength = _probe(bench, inside, train, features_ND)
        notes["ood.logits"] = f"linear probe on {told(TRAIN, train)} ; classes kept only; strength {strength:g}"
        k = min(NEIGHBOURS, len(train.labels))
        notes["ood.knn"] = f"distance to neighbour {k} by cosine"
        found["knn"] = ood.knn(features_ND, train.features, k)
        try:
            found["mahalanobis"] = ood.mahalanobis(features_ND, train.features, train.labels)
        except InputError as error:
            findings.append(Finding("CLR-E020", "info", "not_applicable", "mahalanobis", error.message, error.fix))
    found |= {"msp": ood.msp(logits_NK), "max_logit": ood.max_logit(logits_NK), "energy": ood.energy(logits_NK)}
    return OodScores({name: found[name] for name in ood.SCORES if name in found}, notes, findings)


def _probe(
    bench: EvaluationContext, inside: Classes, train: LabelledFeatures, features_ND: Floats
) -> tuple[Floats, float]:
    val = lesson(bench, VAL, inside)
    fit, aside = (train, val) if val is not None else cut(train)
    best = choose_linear(fit.features, fit.labels, aside.features, aside.labels, len(inside.names))
    return best.probe.logits(features_ND), best.probe.strength


def _found(table: RowBuilder, split: str, classes: Classes, inside: Classes, scores: OodScores) -> SuiteResult:
    rows = table.columns()
    measured, findings = [], list(scores.findings)
    where: Mapping[str, str] = {"task": OOD, "split": split, "condition": CLEAN}
    for name in scores.values:
        column = f"ood_{name}"
        if not scored(rows, where, column):
            continue
        slice_ = {"task": OOD, "score": name}
        for measurement, statistic in MEASURES:
            recipe = Recipe(statistic, column, Tags(where), CONCEPT, against="in_distribution")
            take = partial(measure, rows, recipe, measurement, slice_)
            taken, missing = attempt(take, str(Tags(slice_)), "CLR-E020")
            measured += taken
            findings += missing
    out = [name for name in classes.names if name not in inside.names]
    told_ = {
        "ood.in": f"pictures of split {split} of {classes.field}: {shown(inside.names)}",
        "ood.out": f"those of the held-out classes: {shown(out)}",
    }
    return SuiteResult(rows, measured, findings, told_ | scores.facts)


SUITE = Suite(
    name="ood",
    about="noticing pictures of what it was not asked about",
    needs=("Embedder",),
    settings=("label",),
    run=run,
)
