"""Sorting pictures into classes: with words alone, by their neighbours, and by a linear probe; and how sure it is.

The tasks are ``zero_shot``, ``knn`` and ``linear_probe``. The last two learn from the split ``train``; the temperature
that mends the confidences is fitted on ``val``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clerestory.core.codec import Tags
from clerestory.core.digest import canonical
from clerestory.core.errors import InputError
from clerestory.core.evidence import Finding, Measurement, Recipe
from clerestory.core.sample import TEST, TEST_STYLE
from clerestory.models.protocols import logit_scale_of
from clerestory.stages.evaluate.context import EvaluationContext
from clerestory.stages.evaluate.shared.class_prompts import Classes, class_embeddings, facts, find_classes, reasons
from clerestory.stages.evaluate.shared.labelled_features import TRAIN, VAL, LabelledFeatures, cut, lesson, told
from clerestory.stages.evaluate.shared.linear_probe import NEIGHBOURS, SMOOTHING, choose_linear, knn_logits
from clerestory.stages.evaluate.shared.measures import matching, scored
from clerestory.stages.evaluate.shared.prediction_rows import add_answers
from clerestory.stages.evaluate.shared.row_builder import CLEAN
from clerestory.stages.evaluate.shared.sliced_metrics import CONCEPT, mean_by_value
from clerestory.stages.evaluate.suite import Suite, SuiteResult
from clerestory.stats.aggregate import Rows, measure
from clerestory.stats.calibration import fit_temperature, reliability

ZERO_SHOT, KNN, LINEAR = "zero_shot", "knn", "linear_probe"
SCALE = 100.0
SCALED = {"scaled": "yes"}

Floats = NDArray[np.float64]
Logits = Callable[[Floats], Floats]


@dataclass
class Classifiers:
    """What sorts pictures, by name of the task.

    Attributes:
        logits: each turns embeddings (N, D) into logits (N, K).
        temperatures: those fitted on held-out data, with how many pictures.
        facts: how they were made.
        findings: what could not be made, and why.
    """

    logits: dict[str, Logits] = field(default_factory=dict)
    temperatures: dict[str, tuple[float, int]] = field(default_factory=dict)
    facts: dict[str, str] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)


def run(bench: EvaluationContext) -> SuiteResult:
    """One row per picture and task, in every split."""
    classes = find_classes(bench)
    known = make_classifiers(bench, classes)
    table = bench.table()
    for split, data in bench.splits.items():
        embedded = bench.embed(data)
        why = reasons(classes.of(data), embedded)
        for task, logits in known.logits.items():
            values = logits(np.nan_to_num(embedded.astype(np.float64)))
            temperature = known.temperatures.get(task, (None, 0))[0]
            cells = {"task": task, "split": split}
            add_answers(table, bench, data.samples, classes, values, why, cells, temperature)
    rows = table.columns()
    measured, findings, diagrams = [], list(known.findings), []
    for where in present(rows, known.logits, bench.splits):
        measured += certainty(rows, where, bench.config.calibration_bins)
        diagrams += diagram(rows, where, bench.config.calibration_bins)
        for group in bench.config.slice_by:
            if group in table.groups:
                held, least = table.groups[group], bench.config.min_slice_concepts
                found, small = mean_by_value(rows, where, group, held, "score", "accuracy", least)
                measured += found
                findings += small
    measured += [temperature_of(task, *known.temperatures[task]) for task in known.temperatures]
    measured += shifts(rows, known.logits)
    told_ = facts(classes, bench.config.language) | known.facts
    return SuiteResult(rows, measured, findings, told_, {"reliability": canonical(diagrams)})


def make_classifiers(bench: EvaluationContext, classes: Classes) -> Classifiers:
    """Zero-shot always; k-NN and a linear probe where there is something to learn from."""
    made, scale = Classifiers(), scale_of(bench)
    prompts_KD = class_embeddings(bench, classes)
    made.logits[ZERO_SHOT] = lambda x_ND: scale * x_ND @ prompts_KD.T
    made.facts[ZERO_SHOT] = (
        f"cosine times {scale:g}, {told_scale(bench)}; guessing is right in 1 of {len(classes.names)}"
    )
    val = lesson(bench, VAL, classes)
    train = lesson(bench, TRAIN, classes)
    if train is None or len(set(train.labels.tolist())) < 2:
        made.findings.append(_nothing_to_learn_from(f"{KNN} and {LINEAR}"))
    else:
        _learn(made, train, val, len(classes.names))
    if val is None:
        made.findings.append(_no_temperature())
        return made
    for task, logits in made.logits.items():
        try:
            made.temperatures[task] = (fit_temperature(logits(val.features), val.labels), len(val.labels))
        except InputError as error:
            made.findings.append(
                Finding("CLR-E021", "info", "not_applicable", f"task {task}", error.message, error.fix)
            )
    return made


def _learn(made: Classifiers, train: LabelledFeatures, val: LabelledFeatures | None, classes: int) -> None:
    made.logits[KNN] = lambda x_ND: knn_logits(x_ND, train.features, train.labels, classes)
    fit, aside = (train, val) if val is not None else cut(train)
    best = choose_linear(fit.features, fit.labels, aside.features, aside.labels, classes)
    made.logits[LINEAR] = best.probe.logits
    learnt = told(TRAIN, train)
    made.facts[KNN] = (
        f"{min(NEIGHBOURS, len(train.labels))} nearest by cosine of {learnt}, weighed by exp(cosine / 0.07); "
        f"{SMOOTHING:g} of a vote for every class besides"
    )
    chosen = f"{VAL}" if val is not None else "a tenth of the concepts, set aside"
    made.facts[LINEAR] = f"L2 logistic regression on {learnt}; strength {best.probe.strength:g} by the NLL on {chosen}"


def scale_of(bench: EvaluationContext) -> float:
    """What similarities are multiplied by before a softmax: the model's own, else CLIP's 100."""
    return logit_scale_of(bench.model) or SCALE


def told_scale(bench: EvaluationContext) -> str:
    """Where the scale comes from."""
    return "as the model says" if logit_scale_of(bench.model) else "because the model does not say"


def present(rows: Rows, tasks: Mapping[str, object], splits: Mapping[str, object]) -> Iterator[dict[str, str]]:
    """The tasks and splits in which any picture was scored."""
    for task in tasks:
        for split in splits:
            where = {"task": task, "split": split}
            if scored(rows, where, "score"):
                yield where


def certainty(rows: Rows, where: Mapping[str, str], bins: int) -> list[Measurement]:
    """Accuracy, calibration errors and proper scores of one task on one split, scaled by the temperature as well."""
    tags = Tags({**where, "condition": CLEAN})
    found = [measure(rows, Recipe("mean", "score", tags, CONCEPT), "accuracy", where)]
    for prefix, more in (("", {}), ("scaled_", SCALED)):
        if not scored(rows, where, f"{prefix}confidence"):
            continue
        slice_ = {**where, **more}
        recipes: tuple[tuple[str, str, str, float, str], ...] = (
            ("ece", "ece_width", f"{prefix}confidence", float(bins), "score"),
            ("ece_mass", "ece_mass", f"{prefix}confidence", float(bins), "score"),
            ("brier", "mean", f"{prefix}brier", 0.0, ""),
            ("nll", "mean", f"{prefix}nll", 0.0, ""),
        )
        for name, statistic, column, parameter, against in recipes:
            recipe = Recipe(statistic, column, tags, CONCEPT, parameter, against)
            found.append(measure(rows, recipe, name, slice_))
    return found


def temperature_of(task: str, value: float, n: int) -> Measurement:
    """The fitted temperature as a measurement; 1 leaves the confidences as they are."""
    reason = "fitted to the split val as a whole, not averaged over its pictures"
    return Measurement("temperature", value, "ratio", n, None, reason, Tags({"task": task}), "none")


def shifts(rows: Rows, tasks: Mapping[str, object]) -> list[Measurement]:
    """How much accuracy is lost from the split ``test`` to ``test_style``, where both were scored."""
    found = []
    for task in tasks:
        if all(scored(rows, {"task": task, "split": split}, "score") for split in (TEST, TEST_STYLE)):
            tags = Tags({"task": task, "condition": CLEAN})
            recipe = Recipe("contrast", "score", tags, CONCEPT, against=f"split:{TEST}:{TEST_STYLE}")
            found.append(measure(rows, recipe, "shift_gap", {"task": task}))
    return found


def diagram(rows: Rows, where: Mapping[str, str], bins: int) -> list[dict[str, Any]]:
    """The reliability diagrams of one task and split, before and after the temperature.

    Each is ``{"task", "split", "scaled": "no"|"yes", "bins": [{"low", "high", "n", "confidence", "accuracy",
    "interval": [low, high]}, …]}``; empty bins are left out.
    """
    keep, found = matching(rows, where) & ~np.isnan(rows["score"]), []
    for scaled, column in (("no", "confidence"), ("yes", "scaled_confidence")):
        if not scored(rows, where, column):
            continue
        told_ = [
            {
                "low": round(one.low, 6),
                "high": round(one.high, 6),
                "n": one.n,
                "confidence": round(one.confidence, 6),
                "accuracy": round(one.accuracy, 6),
                "interval": [round(one.interval.low, 6), round(one.interval.high, 6)],
            }
            for one in reliability(rows[column][keep], rows["score"][keep], bins)
        ]
        found.append({**where, "scaled": scaled, "bins": told_})
    return found


def _nothing_to_learn_from(what: str) -> Finding:
    message = f"the data has no labelled pictures of two classes in a split {TRAIN!r}, so {what} were not run"
    fix = f"give some pictures the split {TRAIN!r}, and evaluate on others"
    return Finding("CLR-E020", "info", "not_applicable", f"split {TRAIN}", message, fix)


def _no_temperature() -> Finding:
    message = f"the data has no labelled pictures in a split {VAL!r}, so no temperature was fitted"
    return Finding(
        "CLR-E021", "info", "not_applicable", f"split {VAL}", message, f"give some pictures the split {VAL!r}"
    )


SUITE = Suite(
    name="classify",
    about="sorting pictures into classes, and knowing how sure to be",
    needs=("Embedder",),
    settings=("label", "bins", "slice_by", "slice_concepts"),
    run=run,
)
