"""Calibration: whether the confidence of a classifier equals its accuracy, before and after temperature scaling.

The classifiers are those of the suite ``classification``; the temperature is fitted on the split ``val`` (Guo et al.
2017). The rows have the task ``calibration`` and the classifier's task as their operation, because the rows of a task
are counted once. The artifact ``reliability`` is a JSON list of reliability diagrams::

    [{"task", "split", "scaled": "no"|"yes", "bins": [{"low", "high", "n", "confidence", "accuracy",
      "interval": [low, high]}, …]}]
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from clerestory.core.codec import Fact, Tags
from clerestory.core.digest import canonical
from clerestory.core.errors import InputError
from clerestory.core.evidence import Finding, Measurement, Recipe
from clerestory.core.rows import CLUSTER_COLUMN, Condition, TaskName
from clerestory.core.sample import VAL
from clerestory.stages.evaluate import findings
from clerestory.stages.evaluate.context import EvaluationContext
from clerestory.stages.evaluate.row_builder import has_scores, rows_matching
from clerestory.stages.evaluate.shared.class_prompts import add_predictions
from clerestory.stages.evaluate.shared.classifiers import Classifiers, fitted_classifiers, predictions
from clerestory.stages.evaluate.suite import MeasuredSlices, Suite, SuiteResult
from clerestory.stats.aggregate import Rows, measure
from clerestory.stats.calibration import fit_temperature, reliability
from clerestory.stats.metrics import metric

SCALED = {"scaled": "yes"}


def run(context: EvaluationContext) -> SuiteResult:
    """One row per scored image and classifier, in every split."""
    bins, builder = context.config.calibration_bins, context.row_builder()
    classifiers = fitted_classifiers(context)
    temperatures, notes = _temperatures(classifiers)
    for one in predictions(context):
        scored = [i for i, reason in enumerate(one.unscored) if not reason]
        samples = [one.samples[i] for i in scored]
        cells = {"task": TaskName.CALIBRATION, "operation": one.task, "split": one.split}
        temperature = temperatures.get(one.task)
        unscored = [one.unscored[i] for i in scored]
        add_predictions(
            builder, context, samples, classifiers.classes, one.logits[scored], unscored, cells, temperature
        )
    rows = builder.columns()
    measurements: list[Measurement] = []
    diagrams: list[dict[str, Any]] = []
    for task in classifiers.logits:
        for split in context.splits:
            slice_ = {"task": str(task), "split": split}
            where = {"task": TaskName.CALIBRATION, "operation": task, "split": split, "condition": Condition.CLEAN}
            measurements += _measurements(rows, where, slice_, bins)
            diagrams += _diagrams(rows, where, slice_, bins)
    if classifiers.val is not None:
        n = len(classifiers.val.labels)
        measurements += [_temperature(task, value, n) for task, value in temperatures.items()]
    facts: dict[str, Fact] = {**classifiers.facts, "calibration.bins": bins}
    return SuiteResult(rows, measurements, notes, facts, {"reliability": canonical(diagrams)})


def _temperatures(classifiers: Classifiers) -> tuple[dict[TaskName, float], list[Finding]]:
    """The temperature of each classifier, where one can be fitted."""
    val = classifiers.val
    if val is None:
        message = f"the split {VAL!r} has no labelled images, so no temperature was fitted"
        return {}, [findings.NO_TEMPERATURE.finding(f"split {VAL}", message)]
    temperatures, notes = {}, []
    for task, logits in classifiers.logits.items():
        try:
            temperatures[task] = fit_temperature(logits(val.features), val.labels)
        except InputError as error:
            notes.append(findings.NO_TEMPERATURE.finding(f"task {task}", error.message, fix=error.fix))
    return temperatures, notes


def _measurements(rows: Rows, where: Mapping[str, str], slice_: Mapping[str, str], bins: int) -> list[Measurement]:
    """Calibration errors and proper scores of one classifier on one split, without and with temperature scaling."""
    found = []
    for prefix, scaled in (("", {}), ("scaled_", SCALED)):
        if not has_scores(rows, where, f"{prefix}confidence"):
            continue
        recipes: tuple[tuple[str, str, str, float, str], ...] = (
            ("ece", "ece_width", f"{prefix}confidence", float(bins), "score"),
            ("ece_mass", "ece_mass", f"{prefix}confidence", float(bins), "score"),
            ("brier", "mean", f"{prefix}brier", 0.0, ""),
            ("nll", "mean", f"{prefix}nll", 0.0, ""),
        )
        for name, statistic, column, parameter, against in recipes:
            recipe = Recipe(statistic, column, Tags(where), CLUSTER_COLUMN, parameter, against)
            found.append(measure(rows, recipe, name, {**slice_, **scaled}))
    return found


def _temperature(task: TaskName, value: float, n: int) -> Measurement:
    """A fitted temperature as a measurement; 1 leaves the confidences as they are."""
    known = metric("temperature")
    reason = "fitted to the split val as a whole, not averaged over its images"
    return Measurement(known.name, value, known.unit, n, None, reason, Tags({"task": task}), known.direction)


def _diagrams(rows: Rows, where: Mapping[str, str], slice_: Mapping[str, str], bins: int) -> list[dict[str, Any]]:
    """The reliability diagrams of one classifier on one split; empty bins are left out."""
    keep = rows_matching(rows, where)
    diagrams = []
    for scaled, column in (("no", "confidence"), ("yes", "scaled_confidence")):
        if not has_scores(rows, where, column):
            continue
        bars = [
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
        diagrams.append({**slice_, "scaled": scaled, "bins": bars})
    return diagrams


SUITE = Suite(
    name="calibration",
    description="whether the confidence of classifications is justified",
    capabilities=("Embedder",),
    settings=("label_field", "calibration_bins"),
    run=run,
    measures=(
        MeasuredSlices(
            (TaskName.ZERO_SHOT, TaskName.LINEAR_PROBE, TaskName.KNN),
            ("ece", "ece_mass", "brier", "nll", "temperature"),
        ),
    ),
)
