"""Generated captions, compared with the image's own captions and with the image itself.

``chrf`` is that of the first caption and ``chrf_best`` the highest of all candidate captions; texts are compared in
lower case. ``cider`` is CIDEr-D of the first caption, with n-gram weights from the captions of the whole split.
``clip_score`` needs a model that embeds. An image without a generated caption is unscored, which is not a score of 0.

The artifact ``examples.captions`` is a JSON list::

    [{"split", "sample", "caption", "chrf", "suggestions": [{"text", "score"}]}]
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from clerestory.core.codec import Fact, Tags
from clerestory.core.digest import canonical
from clerestory.core.evidence import Measurement, Recipe
from clerestory.core.rows import CLUSTER_COLUMN, Condition, TaskName, Unscored
from clerestory.core.sample import Dataset, Sample
from clerestory.models.protocols import Embedder
from clerestory.stages.evaluate.context import EvaluationContext
from clerestory.stages.evaluate.row_builder import MissingScore, RowBuilder, distinct_slices, has_scores
from clerestory.stages.evaluate.samples import (
    batches,
    caption_in,
    concept_of,
    is_in_language,
    normalize_caption,
    select_samples,
)
from clerestory.stages.evaluate.suite import MeasuredSlices, NotApplicable, Suite, SuiteResult
from clerestory.stages.evaluate.tasks.memoised_queries import GeneratedCaptions, cached_captions
from clerestory.stats.aggregate import measure
from clerestory.stats.captions import CiderD, clip_score
from clerestory.stats.text import chrf

NAME_KIND = "name"  # the kind of captions that are references
EXAMPLES_PER_SPLIT = 12


def run(context: EvaluationContext) -> SuiteResult:
    """One row per captioned image."""
    config = context.config
    if not config.caption_samples:
        raise NotApplicable("caption_samples is 0, so no image is captioned", "set caption_samples to 72 or more")
    builder = context.row_builder()
    examples = [example for split in context.splits for example in _caption_split(context, split, builder)]
    rows = builder.columns()
    columns = {
        "chrf": "chrf",
        f"chrf_best_of_{config.captions_per_image}": "chrf_best",
        "cider": "cider",
        "clip_score": "clip_score",
    }
    measurements: list[Measurement] = []
    for where in distinct_slices(rows, ("task", "split"), TaskName.CAPTION):
        for name, column in columns.items():
            if has_scores(rows, where, column):
                recipe = Recipe("mean", column, Tags(where, condition=Condition.CLEAN), CLUSTER_COLUMN)
                measurements.append(measure(rows, recipe, name, where))
    facts: dict[str, Fact] = {
        "captioning.max_samples": config.caption_samples,
        "captioning.captions_per_image": config.captions_per_image,
    }
    return SuiteResult(rows, measurements, [], facts, {"examples.captions": canonical(examples)})


def _caption_split(context: EvaluationContext, split: str, builder: RowBuilder) -> list[dict[str, Any]]:
    """Add a row for each captioned image of a split; returns the first examples."""
    language = context.config.language
    captioned = [sample for sample in context.splits[split] if caption_in(sample, language)]
    samples, answers = _generate(context, split, captioned)
    cider = CiderD([references(sample, language) for sample in captioned]) if len(captioned) > 1 else None
    firsts = ["" if isinstance(answer, MissingScore) else answer[0].text for answer in answers]
    clip_scores = _clip_scores(context, samples, firsts)
    examples: list[dict[str, Any]] = []
    for i, (sample, answer) in enumerate(zip(samples, answers, strict=True)):
        reference = caption_in(sample, language)
        missing, captions = (answer, []) if isinstance(answer, MissingScore) else (None, answer)
        scores = [chrf(normalize_caption(s.text), normalize_caption(reference)) for s in captions]
        builder.add(
            [sample],
            task=TaskName.CAPTION,
            split=split,
            sample=sample.id,
            concept=concept_of(sample, language),
            query=reference,
            answer=firsts[i],
            image=sample.image,
            chrf=scores[0] if scores else np.nan,
            chrf_best=max(scores, default=np.nan),
            cider=cider.score(firsts[i], references(sample, language)) if cider and firsts[i] else np.nan,
            clip_score=clip_scores[i],
            **(missing.cells if missing else {}),
        )
        if captions:
            suggestions = [{"text": s.text, "score": _rounded(s.score)} for s in captions]
            example = {"split": split, "sample": sample.id, "caption": reference, "chrf": round(scores[0], 4)}
            examples.append({**example, "suggestions": suggestions})
    return examples[:EXAMPLES_PER_SPLIT]


def _generate(
    context: EvaluationContext, split: str, captioned: Sequence[Sample]
) -> tuple[list[Sample], list[GeneratedCaptions]]:
    """The selected images with what the model generates; unreadable ones do not count towards ``caption_samples``."""
    config = context.config
    samples: list[Sample] = []
    answers: list[GeneratedCaptions] = []
    readable = 0
    with context.progress.task(f"Captioning images of {split}", min(config.caption_samples, len(captioned))) as bar:
        remaining = batches(select_samples(captioned, len(captioned), config.seed), config.batch_size)
        while readable < config.caption_samples and (batch := next(remaining, None)):
            # Never more than configured, so that another batch size captions the same images.
            batch = batch[: config.caption_samples - readable]
            generated = cached_captions(context, context.data, batch, config.captions_per_image)
            samples += batch
            answers += generated
            readable += sum(not _is_unreadable(answer) for answer in generated)
            bar.advance(len(batch))
    return samples, answers


def _is_unreadable(answer: GeneratedCaptions) -> bool:
    return isinstance(answer, MissingScore) and answer.reason is Unscored.UNREADABLE_IMAGE


def references(sample: Sample, language: str) -> list[str]:
    """The captions that a generated one is compared with: the names in the language, else its first caption."""
    names = [
        caption.text
        for caption in sample.captions
        if caption.kind == NAME_KIND and is_in_language(caption, language) and caption.text.strip()
    ]
    return names or [caption_in(sample, language)]


def _clip_scores(context: EvaluationContext, samples: Sequence[Sample], texts: Sequence[str]) -> list[float]:
    """CLIPScore of each caption with the model's own embeddings; NaN where there is no caption or no embedder."""
    scores_N = np.full(len(samples), np.nan)
    captioned = [i for i, text in enumerate(texts) if text]
    if isinstance(context.model, Embedder) and captioned:
        data = Dataset(context.data.name, [samples[i] for i in captioned], context.data.read)
        row = {sample.id: n for n, sample in enumerate(data)}
        images_ND = context.embed_images(data)
        order = [row[samples[i].id] for i in captioned]
        scores_N[captioned] = clip_score(images_ND[order], context.embed_texts([texts[i] for i in captioned]))
    scores: list[float] = scores_N.tolist()
    return scores


def _rounded(score: float) -> float | None:
    return None if math.isnan(score) else round(float(score), 4)


SUITE = Suite(
    name="captioning",
    description="generating captions for images",
    capabilities=("Captioner",),
    settings=("caption_samples", "captions_per_image"),
    run=run,
    measures=(MeasuredSlices((TaskName.CAPTION,)),),
)
