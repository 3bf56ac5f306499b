"""Retrieval in both directions, with its slices and the examples a person can look at."""

from __future__ import annotations

from clerestory.core.codec import Tags
from clerestory.core.digest import canonical
from clerestory.core.evidence import Recipe
from clerestory.stages.evaluate.context import EvaluationContext
from clerestory.stages.evaluate.shared.measures import kinds, retrieval_measures, scored, sliced_measures
from clerestory.stages.evaluate.shared.retrieval_metrics import (
    IMAGE_TO_TEXT,
    TEXT_TO_IMAGE,
    facts,
    image_to_text,
    text_to_image,
)
from clerestory.stages.evaluate.shared.row_builder import CLEAN
from clerestory.stages.evaluate.suite import Suite, SuiteResult
from clerestory.stages.evaluate.suites.retrieval.examples import retrieval_examples
from clerestory.stats.aggregate import measure


def run(bench: EvaluationContext) -> SuiteResult:
    """One row per picture and one per distinct caption, in every split."""
    table, lang = bench.table(), bench.config.language
    found = {
        "captions": f"the first caption of each picture in {lang!r}; equal but for case and spaces is equal",
        "image_to_text": "each picture against the distinct captions of its split",
        "text_to_image": "each distinct caption against the pictures of its split; the rank of its best picture",
        "ties": "equal scores count against the model (pessimistic)",
        "left_out": "skin-tone variants",
    }
    shown = []
    for name in bench.splits:
        pool = bench.pool(name)
        pictures, captions = image_to_text(pool, table, lang), text_to_image(pool, table, lang)
        shown += retrieval_examples(pool, pictures, captions, lang)
        found |= facts(pool)
    rows = table.columns()
    measured, findings = [], []
    for where in kinds(rows, ("task", "split"), IMAGE_TO_TEXT, TEXT_TO_IMAGE):
        measured += retrieval_measures(rows, where)
        if scored(rows, where, "precision"):
            recipe = Recipe("mean", "precision", Tags(where, condition=CLEAN), "concept")
            measured.append(measure(rows, recipe, "map", where))
        for group in bench.config.slice_by:
            if group in table.groups:
                slices, small = sliced_measures(rows, where, group, table.groups[group], bench.config)
                measured += slices
                findings += small
    return SuiteResult(rows, measured, findings, found, {"examples.retrieval": canonical(shown)})


SUITE = Suite(
    name="retrieval",
    about="finding captions for pictures, and pictures for captions",
    needs=("Embedder",),
    settings=("slice_by", "slice_concepts"),
    run=run,
)
