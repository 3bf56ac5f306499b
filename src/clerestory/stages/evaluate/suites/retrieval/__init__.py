"""Retrieval in both directions, by slice, with example queries."""

from __future__ import annotations

from functools import partial

from clerestory.core.codec import Fact, Tags
from clerestory.core.digest import canonical
from clerestory.core.evidence import Finding, Measurement, Recipe
from clerestory.core.rows import CLUSTER_COLUMN, Condition, TaskName
from clerestory.stages.evaluate.context import EvaluationContext
from clerestory.stages.evaluate.row_builder import distinct_slices, has_scores
from clerestory.stages.evaluate.shared.retrieval_split import (
    image_to_text,
    retrieval_facts,
    retrieval_measurements,
    retrieval_split,
    text_to_image,
)
from clerestory.stages.evaluate.shared.sliced_metrics import Grouping, measure_by_value
from clerestory.stages.evaluate.suite import Suite, SuiteResult
from clerestory.stages.evaluate.suites.retrieval.examples import retrieval_examples
from clerestory.stats.aggregate import Rows, measure


def run(context: EvaluationContext) -> SuiteResult:
    """One row per image and one per distinct caption, in every split."""
    builder, config = context.row_builder(), context.config
    facts: dict[str, Fact] = {"retrieval.language": config.language}
    examples = []
    for name in context.splits:
        split = retrieval_split(context, name)
        image_ranks_P = image_to_text(split, builder, config.language)
        caption_ranks_T = text_to_image(split, builder, config.language)
        examples += retrieval_examples(split, image_ranks_P, caption_ranks_T, config.language)
        facts |= retrieval_facts(split)
    rows = builder.columns()
    measurements: list[Measurement] = []
    notes: list[Finding] = []
    for where in distinct_slices(rows, ("task", "split"), TaskName.IMAGE_TO_TEXT, TaskName.TEXT_TO_IMAGE):
        measurements += retrieval_measurements(rows, where)
        if has_scores(rows, where, "precision"):
            recipe = Recipe("mean", "precision", Tags(where, condition=Condition.CLEAN), CLUSTER_COLUMN)
            measurements.append(measure(rows, recipe, "map", where))
        for group in (name for name in config.slice_by if name in builder.groups):
            grouping = Grouping(group, builder.groups[group], config.min_slice_concepts)
            sliced, small = measure_by_value(rows, grouping, where, "rank", partial(_of_value, rows, where, grouping))
            measurements += sliced
            notes += small
    return SuiteResult(rows, measurements, notes, facts, {"examples.retrieval": canonical(examples)})


def _of_value(rows: Rows, where: dict[str, str], grouping: Grouping, value: str) -> list[Measurement]:
    return retrieval_measurements(rows, {**where, grouping.name: value}, {**where, grouping.column: value})


SUITE = Suite(
    name="retrieval",
    description="finding captions for images, and images for captions",
    capabilities=("Embedder",),
    settings=("slice_by", "min_slice_concepts"),
    run=run,
)
