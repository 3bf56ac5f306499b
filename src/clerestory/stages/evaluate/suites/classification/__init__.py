"""Classification of images: zero-shot, by k nearest neighbours, and by a linear probe.

k-NN and the linear probe are trained on the split ``train``.
"""

from __future__ import annotations

from clerestory.core.codec import Tags
from clerestory.core.evidence import Finding, Measurement, Recipe
from clerestory.core.rows import CLUSTER_COLUMN, Condition, TaskName
from clerestory.core.sample import TEST, TEST_STYLE
from clerestory.stages.evaluate.context import EvaluationContext
from clerestory.stages.evaluate.row_builder import has_scores
from clerestory.stages.evaluate.shared.class_prompts import add_predictions
from clerestory.stages.evaluate.shared.classifiers import fitted_classifiers, predictions
from clerestory.stages.evaluate.shared.sliced_metrics import Grouping, mean_by_value
from clerestory.stages.evaluate.suite import MeasuredSlices, Suite, SuiteResult
from clerestory.stats.aggregate import Rows, measure


def run(context: EvaluationContext) -> SuiteResult:
    """One row per image and classifier, in every split."""
    config, builder = context.config, context.row_builder()
    classifiers = fitted_classifiers(context)
    for one in predictions(context):
        cells = {"task": one.task, "split": one.split}
        add_predictions(builder, context, one.samples, classifiers.classes, one.logits, one.unscored, cells)
    rows = builder.columns()
    measurements: list[Measurement] = []
    notes: list[Finding] = list(classifiers.findings)
    for task in classifiers.logits:
        for where in ({"task": task, "split": split} for split in context.splits):
            if not has_scores(rows, where, "score"):
                continue
            recipe = Recipe("mean", "score", Tags(where, condition=Condition.CLEAN), CLUSTER_COLUMN)
            measurements.append(measure(rows, recipe, "accuracy", where))
            for group in (name for name in config.slice_by if name in builder.groups):
                grouping = Grouping(group, builder.groups[group], config.min_slice_concepts)
                sliced, small = mean_by_value(rows, grouping, where, "score", "accuracy")
                measurements += sliced
                notes += small
        measurements += _shift_gap(rows, task)
    return SuiteResult(rows, measurements, notes, classifiers.facts)


def _shift_gap(rows: Rows, task: str) -> list[Measurement]:
    """The accuracy that is lost from the split ``test`` to ``test_style``, where both were scored."""
    if not all(has_scores(rows, {"task": task, "split": split}, "score") for split in (TEST, TEST_STYLE)):
        return []
    tags = Tags({"task": task, "condition": Condition.CLEAN})
    recipe = Recipe("contrast", "score", tags, CLUSTER_COLUMN, against=f"split:{TEST}:{TEST_STYLE}")
    return [measure(rows, recipe, "shift_gap", {"task": task})]


SUITE = Suite(
    name="classification",
    description="sorting images into classes",
    capabilities=("Embedder",),
    settings=("label_field", "slice_by", "min_slice_concepts"),
    run=run,
    measures=(MeasuredSlices((TaskName.ZERO_SHOT, TaskName.LINEAR_PROBE, TaskName.KNN)),),
)
