"""How good the model's descriptions are: held against the picture's own caption, and against the picture itself."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from clerestory.core.provenance import code_digest
from clerestory.core.sample import Dataset, Sample
from clerestory.models.protocols import Embedder, Suggestion
from clerestory.stages.evaluate.context import EvaluationContext
from clerestory.stages.evaluate.shared.embeddings import embed_dataset, readable
from clerestory.stages.evaluate.shared.retrieval_split import UNANSWERED, UNREADABLE, caption_in, concept_of, normal
from clerestory.stages.evaluate.shared.row_builder import RowBuilder
from clerestory.stages.evaluate.shared.sampling import batches, choose
from clerestory.stats.captions import CiderD, clip_score
from clerestory.stats.text import chrf
from clerestory.store.answer_cache import answer_key

if TYPE_CHECKING:
    from PIL import Image

CAPTION = "caption"
NAME = "name"
NO_DESCRIPTION = "the model gave no description"

# What the model says of a picture; else the reason why there is nothing.
CaptionsOrReason = list[Suggestion] | str


def describe_split(bench: EvaluationContext, split: str, table: RowBuilder) -> list[dict[str, Any]]:
    """Describe a chosen part of a split, one row per picture; returns what was said, for the examples.

    ``chrf`` is that of the first suggestion, ``chrf_best`` the highest of all suggestions; texts are compared without
    regard to case. ``cider`` is CIDEr-D of the first suggestion, its words weighed by the captions of the whole split.
    ``clip_score`` needs a model that embeds. A picture for which nothing is generated is unscored, which is not a
    score of 0.
    """
    config = bench.config
    captioned = [sample for sample in bench.splits[split] if caption_in(sample, config.language)]
    chosen, answers = _described(bench, split, captioned)
    cider = _cider(captioned, config.language)
    firsts = [usable[0].text if (usable := non_empty_captions(answer)) else "" for answer in answers]
    likeness = _likeness(bench, chosen, firsts)
    said: list[dict[str, Any]] = []
    for i, (sample, answer) in enumerate(zip(chosen, answers, strict=True)):
        caption, usable = caption_in(sample, config.language), non_empty_captions(answer)
        scores = [chrf(normal(s.text), normal(caption)) for s in usable]
        table.add(
            [sample],
            task=CAPTION,
            split=split,
            sample=sample.id,
            concept=concept_of(sample, config.language),
            query=caption,
            answer=firsts[i],
            image=sample.image,
            unscored=answer if isinstance(answer, str) else "" if usable else NO_DESCRIPTION,
            chrf=scores[0] if scores else np.nan,
            chrf_best=max(scores, default=np.nan),
            cider=cider.score(firsts[i], references(sample, config.language)) if cider and firsts[i] else np.nan,
            clip_score=likeness[i],
        )
        if usable:
            said.append(
                {
                    "split": split,
                    "sample": sample.id,
                    "caption": caption,
                    "chrf": round(scores[0], 4),
                    "suggestions": [{"text": s.text, "score": _told(s.score)} for s in usable],
                }
            )
    return said


def non_empty_captions(answer: CaptionsOrReason) -> list[Suggestion]:
    """The suggestions that hold any words."""
    return [suggestion for suggestion in answer if suggestion.text.strip()] if isinstance(answer, list) else []


def references(sample: Sample, lang: str) -> list[str]:
    """The captions that a description is held against: those in the language that are names, else the first."""
    names = [
        each.text
        for each in sample.captions
        if each.kind == NAME and (each.lang == lang or each.lang.startswith(lang + "-")) and each.text.strip()
    ]
    return names or [caption_in(sample, lang)]


def _described(
    bench: EvaluationContext, split: str, captioned: Sequence[Sample]
) -> tuple[list[Sample], list[CaptionsOrReason]]:
    """The chosen pictures and what the model says of them, or why it says nothing.

    Unreadable pictures do not count towards the wanted number.
    """
    config = bench.config
    chosen: list[Sample] = []
    answers: list[CaptionsOrReason] = []
    described = 0
    with bench.progress.task(f"Describing pictures of {split}", min(config.caption_samples, len(captioned))) as bar:
        left = batches(choose(captioned, len(captioned), config.seed), config.batch_size)
        while described < config.caption_samples and (some := next(left, None)):
            # Never more than are wanted, so that another batch size describes the same pictures.
            some = some[: config.caption_samples - described]
            found = cached_captions(bench, bench.data, some, config.captions_per_image)
            chosen += some
            answers += found
            described += sum(answer != UNREADABLE for answer in found)
            bar.advance(len(some))
    return chosen, answers


def cached_captions(
    bench: EvaluationContext, data: Dataset, samples: Sequence[Sample], suggestions: int
) -> list[CaptionsOrReason]:
    """What the model says of pictures, each asked about once and kept by its content; else why it says nothing.

    What an endpoint failed to answer is not kept, so that it is asked again.
    """
    about = ("describe", bench.model.digest, code_digest("data/images", "models"), str(suggestions))
    names = [answer_key(*about, sample.image) for sample in samples]
    known: dict[bytes, CaptionsOrReason] = {
        name: _unpack(value) for name, value in bench.store.answer_cache.get(names).items()
    }
    images: dict[bytes, Image.Image] = {}
    for name, sample in zip(names, samples, strict=True):
        if name not in known and name not in images:
            image = readable(data, sample)
            if image is not None:
                images[name] = image
    if images:
        answers = bench.model.describe(list(images.values()), suggestions)
        trouble = getattr(bench.model, "trouble", "")
        fresh = {name: said for name, said in zip(images, answers, strict=True) if said or not trouble}
        bench.store.answer_cache.put({name: _pack(answer) for name, answer in fresh.items()})
        known |= dict.fromkeys(images, f"{UNANSWERED}: {trouble}") | fresh
    return [known.get(name, UNREADABLE) for name in names]


def _cider(captioned: Sequence[Sample], lang: str) -> CiderD | None:
    return CiderD([references(sample, lang) for sample in captioned]) if len(captioned) > 1 else None


def _likeness(bench: EvaluationContext, samples: Sequence[Sample], texts: Sequence[str]) -> list[float]:
    """CLIPScore of each description with the model's own embeddings; NaN where there is none."""
    found = np.full(len(samples), np.nan)
    places = [i for i, text in enumerate(texts) if text]
    if isinstance(bench.model, Embedder) and places:
        some = Dataset(bench.data.name, [samples[i] for i in places], bench.data.read)
        row = {sample.id: n for n, sample in enumerate(some)}
        images_ND = embed_dataset(bench.embedder, some, bench.store, bench.progress, bench.config.batch_size)
        order = [row[samples[i].id] for i in places]
        found[places] = clip_score(images_ND[order], bench.embed_texts([texts[i] for i in places]))
    told: list[float] = found.tolist()
    return told


def _told(score: float) -> float | None:
    return None if math.isnan(score) else round(float(score), 4)


def _pack(answer: Sequence[Suggestion]) -> bytes:
    rows = [[each.text, None if math.isnan(each.score) else float(each.score)] for each in answer]
    return json.dumps(rows, ensure_ascii=False).encode()


def _unpack(value: bytes) -> list[Suggestion]:
    return [Suggestion(text, math.nan if score is None else score) for text, score in json.loads(value)]
