"""Retrieval in both directions, by slice, with example queries.

The artifact ``examples.retrieval`` has queries with the candidates that the model ranks first, as a JSON list::

    [{"split", "task", "kind": "best"|"typical"|"worst", "sample", "caption", "concept", "rank", "candidates",
      "neighbours": [{"sample", "caption", "score", "correct"}, …best first]}]

For image to text the query is the image ``sample`` and the neighbours are captions (each with an image that has it);
for text to image the query is the text ``caption`` and the neighbours are images.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clerestory.core.codec import Fact, Tags
from clerestory.core.digest import canonical
from clerestory.core.evidence import Finding, Measurement, Recipe
from clerestory.core.rows import CLUSTER_COLUMN, Condition, TaskName
from clerestory.stages.evaluate.context import EvaluationContext
from clerestory.stages.evaluate.row_builder import distinct_slices, has_scores
from clerestory.stages.evaluate.samples import concept_of
from clerestory.stages.evaluate.shared.retrieval_split import (
    RetrievalSplit,
    image_to_text,
    retrieval_facts,
    retrieval_measurements,
    retrieval_split,
    text_to_image,
)
from clerestory.stages.evaluate.shared.sliced_metrics import Grouping, measure_by_value
from clerestory.stages.evaluate.suite import MeasuredSlices, Suite, SuiteResult
from clerestory.stats.aggregate import Rows, measure
from clerestory.stats.ranking import top

EXAMPLES_PER_KIND = 4
NEIGHBOURS = 6
KINDS = ("best", "typical", "worst")

Floats = NDArray[np.float64]


def run(context: EvaluationContext) -> SuiteResult:
    """One row per image and one per caption, in every split."""
    builder, config = context.row_builder(), context.config
    facts: dict[str, Fact] = {
        "retrieval.language": config.language,
        "retrieval.ties": "pessimistic",
        "retrieval.protocol": config.retrieval_protocol,
    }
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


def retrieval_examples(
    split: RetrievalSplit, image_ranks_P: Floats, caption_ranks_T: Floats, language: str
) -> list[dict[str, Any]]:
    """The best, typical and worst queries in both directions, each of a different concept."""
    first_image = [split.images_of(caption)[0] for caption in range(len(split.captions))]
    concepts = [concept_of(sample, language) for sample in split.samples]
    examples = []
    for kind, i in _selected(image_ranks_P, concepts):
        label = int(split.labels[i])
        scores_T = split.caption_embeddings @ split.embeddings[i]
        neighbours = [
            _neighbour(split, first_image[t], t, scores_T[t], split.caption_groups[t] == split.groups[i])
            for t in top(scores_T, NEIGHBOURS).tolist()
        ]
        example = _example(split, TaskName.IMAGE_TO_TEXT, kind, i, label, float(image_ranks_P[i]), concepts[i])
        examples.append({**example, "candidates": len(split.captions), "neighbours": neighbours})
    caption_concepts = [concepts[first_image[t]] for t in range(len(split.captions))]
    for kind, t in _selected(caption_ranks_T, caption_concepts):
        scores_P = split.embeddings[split.scored] @ split.caption_embeddings[t]
        neighbours = [
            _neighbour(split, i, int(split.labels[i]), scores_P[n], split.groups[i] == split.caption_groups[t])
            for n in top(scores_P, NEIGHBOURS).tolist()
            for i in (int(split.scored[n]),)
        ]
        rank = float(caption_ranks_T[t])
        example = _example(split, TaskName.TEXT_TO_IMAGE, kind, first_image[t], t, rank, caption_concepts[t])
        examples.append({**example, "candidates": len(split.scored), "neighbours": neighbours})
    return examples


def _selected(ranks: Floats, concepts: Sequence[str]) -> list[tuple[str, int]]:
    """The positions with the lowest, middlemost and highest ranks, each of a different concept; NaN is excluded."""
    known = np.flatnonzero(~np.isnan(ranks))
    order = known[np.argsort(ranks[known], kind="stable")]
    middle = order[np.argsort(np.abs(ranks[order] - np.median(ranks[order])), kind="stable")]
    used: set[str] = set()
    selected: list[tuple[str, int]] = []
    for kind, positions in (("worst", order[::-1]), ("best", order), ("typical", middle)):
        count = 0
        for position in positions.tolist():
            if count == EXAMPLES_PER_KIND:
                break
            if concepts[position] not in used:
                used.add(concepts[position])
                selected.append((kind, position))
                count += 1
    return sorted(selected, key=lambda pair: KINDS.index(pair[0]))


def _example(
    split: RetrievalSplit, task: TaskName, kind: str, i: int, t: int, rank: float, concept: str
) -> dict[str, Any]:
    return {
        "split": split.split,
        "task": str(task),
        "kind": kind,
        "sample": split.samples[i].id,
        "caption": split.captions[t],
        "concept": concept,
        "rank": rank,
    }


def _neighbour(split: RetrievalSplit, i: int, t: int, score: float, correct: bool) -> dict[str, Any]:
    return {
        "sample": split.samples[i].id,
        "caption": split.captions[t],
        "score": round(float(score), 4),
        "correct": bool(correct),
    }


SUITE = Suite(
    name="retrieval",
    description="finding captions for images, and images for captions",
    capabilities=("Embedder",),
    settings=("slice_by", "min_slice_concepts", "retrieval_protocol"),
    run=run,
    measures=(MeasuredSlices((TaskName.IMAGE_TO_TEXT, TaskName.TEXT_TO_IMAGE)),),
)
