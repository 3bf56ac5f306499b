"""Captions that a model generates, each image captioned once per model and cached by its exact content."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from clerestory.core.provenance import code_digest
from clerestory.core.rows import Unscored
from clerestory.core.sample import Dataset, Sample
from clerestory.models.protocols import CaptionCandidate
from clerestory.stages.evaluate.cached_embeddings import read_image
from clerestory.stages.evaluate.context import EvaluationContext
from clerestory.stages.evaluate.row_builder import MissingScore
from clerestory.store.answer_cache import answer_key

if TYPE_CHECKING:
    from PIL import Image

UNREADABLE = MissingScore(Unscored.UNREADABLE_IMAGE)
NO_CAPTION_WRITTEN = MissingScore(Unscored.NO_CAPTION_WRITTEN)

GeneratedCaptions = list[CaptionCandidate] | MissingScore


def cached_captions(
    context: EvaluationContext, data: Dataset, samples: Sequence[Sample], captions_per_image: int
) -> list[GeneratedCaptions]:
    """The non-empty captions that the model generates for images, or why there are none; needs a ``Captioner``.

    What an endpoint failed to answer is not cached, so that a further evaluation requests it again.
    """
    model, cache = context.model, context.store.answer_cache
    prefix = ("describe", model.digest, code_digest("data/images", "models"), str(captions_per_image))
    keys = [answer_key(*prefix, sample.image) for sample in samples]
    answers: dict[bytes, GeneratedCaptions] = {key: _unpack(value) for key, value in cache.get(keys).items()}
    images: dict[bytes, Image.Image] = {}
    for key, sample in zip(keys, samples, strict=True):
        if key not in answers and key not in images:
            image = read_image(data, sample)
            if image is not None:
                images[key] = image
    if images:
        generated = model.caption_images(list(images.values()), captions_per_image)
        trouble = getattr(model, "last_error", "")
        answered = {key: found for key, found in zip(images, generated, strict=True) if found or not trouble}
        cache.put({key: _pack(found) for key, found in answered.items()})
        answers |= dict.fromkeys(images, MissingScore(Unscored.NO_ANSWER, trouble)) | answered
    return [_non_empty(answers.get(key, UNREADABLE)) for key in keys]


def _non_empty(answer: GeneratedCaptions) -> GeneratedCaptions:
    if isinstance(answer, MissingScore):
        return answer
    return [caption for caption in answer if caption.text.strip()] or NO_CAPTION_WRITTEN


def _pack(captions: Sequence[CaptionCandidate]) -> bytes:
    rows = [[each.text, None if math.isnan(each.score) else float(each.score)] for each in captions]
    return json.dumps(rows, ensure_ascii=False).encode()


def _unpack(value: bytes) -> list[CaptionCandidate]:
    return [CaptionCandidate(text, math.nan if score is None else score) for text, score in json.loads(value)]
