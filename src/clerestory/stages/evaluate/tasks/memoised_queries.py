"""Memoised queries of a model: answers are cached by model, exact image and exact text, so each query is sent once.

The answers are scores of options, replies to prompts, and captions.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from clerestory.core.progress import QUIET, Progress
from clerestory.core.provenance import code_digest
from clerestory.core.rows import Unscored
from clerestory.core.sample import Dataset, Sample
from clerestory.data.images import image_batches
from clerestory.models.protocols import CaptionCandidate, GenerationRequest, Generator, Reply, Scorer, Scores
from clerestory.stages.evaluate.cached_embeddings import read_image
from clerestory.stages.evaluate.context import EvaluationContext
from clerestory.stages.evaluate.row_builder import MissingScore
from clerestory.store.answer_cache import AnswerCache, answer_key

if TYPE_CHECKING:
    from PIL import Image

NO_IMAGE = ""
UNREADABLE = MissingScore(Unscored.UNREADABLE_IMAGE)
NO_SCORES = MissingScore(Unscored.NO_ANSWER, "the model gave no scores")
EMPTY_REPLY = MissingScore(Unscored.NO_ANSWER, "the reply is empty")
NO_CAPTION_WRITTEN = MissingScore(Unscored.NO_CAPTION_WRITTEN)

GeneratedCaptions = list[CaptionCandidate] | MissingScore


@dataclass(frozen=True, slots=True)
class Query:
    """One query.

    Attributes:
        image: SHA-256 of the exact image bytes; ``NO_IMAGE`` for a query without an image.
        load: returns the image, None if it cannot be read.
        text: the question, or the whole prompt of a generator.
        options: the options to score; empty for a generator.
    """

    image: str
    load: Callable[[], Image.Image | None]
    text: str
    options: tuple[str, ...] = ()


class MemoisedModel:
    """A model whose answers are cached.

    Args:
        model: a ``Scorer`` or a ``Generator``.
        cache: of the answers; errors are not cached, so their queries are sent again.
        batch_size: queries per batch, and images held at a time.
        progress: reports each batch.
        max_reply_tokens: the limit of a reply.
    """

    def __init__(
        self,
        model: Any,
        cache: AnswerCache,
        batch_size: int = 64,
        progress: Progress = QUIET,
        max_reply_tokens: int = 256,
    ) -> None:
        self.model = model
        self.max_reply_tokens = max_reply_tokens
        self.cache = cache
        self.batch_size = batch_size
        self.progress = progress

    def score_options(self, queries: Sequence[Query], label: str) -> list[Scores | MissingScore]:
        """Log-probabilities of each query's options, or why there are none; needs a ``Scorer``."""
        model: Scorer = self.model
        prefix = ("scores", model.digest, code_digest("data/images", "models"))
        keys = [answer_key(*prefix, query.image, query.text, *query.options) for query in queries]

        def send(batch: Sequence[Query], images: Sequence[Image.Image | None]) -> list[bytes | MissingScore]:
            scored = model.score_options(images, [q.text for q in batch], [q.options for q in batch])
            error = getattr(model, "last_error", "")
            missing = MissingScore(Unscored.NO_ANSWER, error) if error else NO_SCORES
            return [_pack_scores(scores, len(q.options)) or missing for scores, q in zip(scored, batch, strict=True)]

        answers = self._answers(keys, queries, send, label)
        return [np.frombuffer(each, dtype="<f8") if isinstance(each, bytes) else each for each in answers]

    def generate(self, queries: Sequence[Query], label: str) -> list[Reply | MissingScore]:
        """The reply to each query, or why there is none; needs a ``Generator``. Greedy, so it is reproducible."""
        model: Generator = self.model
        limit = self.max_reply_tokens
        prefix = ("reply", model.digest, code_digest("data/images", "models"), str(limit), "0")
        keys = [answer_key(*prefix, query.image, query.text) for query in queries]

        def send(batch: Sequence[Query], images: Sequence[Image.Image | None]) -> list[bytes | MissingScore]:
            pairs = zip(batch, images, strict=True)
            requests = [GenerationRequest(q.text, () if image is None else (image,), limit) for q, image in pairs]
            return [_pack_reply(reply) for reply in model.generate(requests)]

        answers = self._answers(keys, queries, send, label)
        return [Reply(**json.loads(each)) if isinstance(each, bytes) else each for each in answers]

    def _answers(
        self,
        keys: Sequence[bytes],
        queries: Sequence[Query],
        send: Callable[[Sequence[Query], Sequence[Image.Image | None]], list[bytes | MissingScore]],
        label: str,
    ) -> list[bytes | MissingScore]:
        """The answer to each query, or why there is none; only queries without a cached answer are sent."""
        answers: dict[bytes, bytes | MissingScore] = dict(self.cache.get(list(dict.fromkeys(keys))))
        missing = {key: query for key, query in zip(keys, queries, strict=True) if key not in answers}
        if not missing:
            return [answers[key] for key in keys]
        with self.progress.task(label, len(missing)) as bar:
            for batch in image_batches(missing.items(), lambda item: item[1].load(), self.batch_size):
                answers |= self._send_batch(batch, send)
                bar.advance(len(batch))
        return [answers[key] for key in keys]

    def _send_batch(
        self,
        batch: Sequence[tuple[tuple[bytes, Query], Image.Image | None]],
        send: Callable[[Sequence[Query], Sequence[Image.Image | None]], list[bytes | MissingScore]],
    ) -> dict[bytes, bytes | MissingScore]:
        usable = [(key, q, image) for (key, q), image in batch if image is not None or q.image == NO_IMAGE]
        answers: dict[bytes, bytes | MissingScore] = {key: UNREADABLE for (key, _), _ in batch}
        if usable:
            received = send([query for _, query, _ in usable], [image for _, _, image in usable])
            new = dict(zip((key for key, _, _ in usable), received, strict=True))
            self.cache.put({key: answer for key, answer in new.items() if isinstance(answer, bytes)})
            answers |= new
        return answers


def cached_captions(
    context: EvaluationContext, data: Dataset, samples: Sequence[Sample], captions_per_image: int
) -> list[GeneratedCaptions]:
    """The non-empty captions that the model generates for images, or why there are none; needs a ``Captioner``.

    Failed requests of an endpoint are not cached, so a further evaluation repeats them.
    """
    model, cache = context.model, context.store.answer_cache
    prefix = ("describe", model.digest, code_digest("data/images", "models"), str(captions_per_image))
    keys = [answer_key(*prefix, sample.image) for sample in samples]
    answers: dict[bytes, GeneratedCaptions] = {key: _unpack_captions(value) for key, value in cache.get(keys).items()}
    missing = {key: sample for key, sample in zip(keys, samples, strict=True) if key not in answers}
    for batch in image_batches(missing.items(), lambda item: read_image(data, item[1]), max(1, len(missing))):
        answers |= _caption_batch(model, batch, captions_per_image, cache)
    return [_non_empty(answers.get(key, UNREADABLE)) for key in keys]


def _caption_batch(
    model: Any, batch: Sequence[tuple[tuple[bytes, Sample], Image.Image | None]], n: int, cache: AnswerCache
) -> dict[bytes, GeneratedCaptions]:
    images = {key: image for (key, _), image in batch if image is not None}
    if not images:
        return {}
    generated = model.caption_images(list(images.values()), n)
    error = getattr(model, "last_error", "")
    answered = {key: texts for key, texts in zip(images, generated, strict=True) if texts or not error}
    cache.put({key: _pack_captions(texts) for key, texts in answered.items()})
    return dict.fromkeys(images, MissingScore(Unscored.NO_ANSWER, error)) | answered


def _non_empty(answer: GeneratedCaptions) -> GeneratedCaptions:
    if isinstance(answer, MissingScore):
        return answer
    return [caption for caption in answer if caption.text.strip()] or NO_CAPTION_WRITTEN


def _pack_captions(captions: Sequence[CaptionCandidate]) -> bytes:
    rows = [[each.text, None if math.isnan(each.score) else float(each.score)] for each in captions]
    return json.dumps(rows, ensure_ascii=False).encode()


def _unpack_captions(value: bytes) -> list[CaptionCandidate]:
    return [CaptionCandidate(text, math.nan if score is None else score) for text, score in json.loads(value)]


def _pack_scores(scores: Scores, num_options: int) -> bytes:
    """The scores as bytes; empty if they are unusable: NaN, infinite, or not one for each option."""
    values = np.asarray(scores, dtype=np.float64)
    if values.shape != (num_options,) or np.isnan(values).any() or (values == np.inf).any():
        return b""
    if (values == -np.inf).all():
        return b""
    return np.ascontiguousarray(values, dtype="<f8").tobytes()


def _pack_reply(reply: Reply) -> bytes | MissingScore:
    if reply.error:
        return MissingScore(Unscored.NO_ANSWER, reply.error)
    return json.dumps(asdict(reply)).encode() if reply.text.strip() or reply.cut_off else EMPTY_REPLY
