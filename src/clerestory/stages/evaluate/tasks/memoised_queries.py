"""Asking a model, each question once: answers are kept by the model, the exact picture and the exact words."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from clerestory.core.progress import QUIET, Progress
from clerestory.core.provenance import code_digest
from clerestory.models.protocols import Generator, Reply, Request, Scorer, Scores
from clerestory.stages.evaluate.shared.retrieval_split import UNANSWERED, UNREADABLE
from clerestory.stages.evaluate.shared.sampling import batches
from clerestory.store.answer_cache import AnswerCache, answer_key

if TYPE_CHECKING:
    from PIL import Image

BLIND = ""
MOST_TOKENS = 32
NO_SCORES = f"{UNANSWERED}: the model gave no scores"
EMPTY_REPLY = f"{UNANSWERED}: the reply is empty"


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked.

    Attributes:
        image: SHA-256 of the exact picture bytes; ``BLIND`` for a question without a picture.
        load: gives that picture, None where it cannot be read.
        words: the question, or the whole prompt of a generator.
        options: to be scored; empty for a generator.
    """

    image: str
    load: Callable[[], Image.Image | None]
    words: str
    options: tuple[str, ...] = ()


class Asker:
    """One model and the memory of what it answered.

    Args:
        model: a ``Scorer`` or a ``Generator``.
        memo: where answers are kept; errors are not, so that they are asked again.
        batch: questions at a time, and pictures held at a time.
        progress: told about each batch.
    """

    def __init__(self, model: Any, memo: AnswerCache, batch: int = 64, progress: Progress = QUIET) -> None:
        self.model = model
        self.memo = memo
        self.batch = batch
        self.progress = progress

    def scores(self, questions: Sequence[Question], label: str) -> list[Scores | str]:
        """Log-probabilities of each question's options, or why there are none; needs a ``Scorer``."""
        model: Scorer = self.model
        about = ("scores", model.digest, code_digest("data/images", "models"))
        keys = [answer_key(*about, q.image, q.words, *q.options) for q in questions]

        def ask(some: Sequence[Question], images: Sequence[Image.Image | None]) -> list[bytes | str]:
            found = model.score_options(images, [q.words for q in some], [q.options for q in some])
            trouble = getattr(model, "trouble", "")
            why = f"{UNANSWERED}: {trouble}" if trouble else NO_SCORES
            return [_scores_bytes(scores, len(q.options)) or why for scores, q in zip(found, some, strict=True)]

        answers = self._ask(keys, questions, ask, label)
        return [np.frombuffer(a, dtype="<f8") if isinstance(a, bytes) else a for a in answers]

    def replies(self, questions: Sequence[Question], label: str) -> list[Reply | str]:
        """What the model says, or why it says nothing; needs a ``Generator``. Greedy, so that it says it again."""
        model: Generator = self.model
        about = ("reply", model.digest, code_digest("data/images", "models"), str(MOST_TOKENS), "0")
        keys = [answer_key(*about, q.image, q.words) for q in questions]

        def ask(some: Sequence[Question], images: Sequence[Image.Image | None]) -> list[bytes | str]:
            pairs = zip(some, images, strict=True)
            requests = [Request(q.words, () if image is None else (image,), MOST_TOKENS) for q, image in pairs]
            return [_reply_bytes(reply) for reply in model.generate(requests)]

        answers = self._ask(keys, questions, ask, label)
        return [Reply(**json.loads(a)) if isinstance(a, bytes) else a for a in answers]

    def _ask(
        self,
        keys: Sequence[bytes],
        questions: Sequence[Question],
        ask: Callable[[Sequence[Question], Sequence[Image.Image | None]], list[bytes | str]],
        label: str,
    ) -> list[bytes | str]:
        """The answer to each question, or the reason why there is none; what is known is not asked."""
        known: dict[bytes, bytes | str] = dict(self.memo.get(list(dict.fromkeys(keys))))
        missing = {key: q for key, q in zip(keys, questions, strict=True) if key not in known}
        if not missing:
            return [known[key] for key in keys]
        with self.progress.task(label, len(missing)) as bar:
            for some in batches(missing.items(), self.batch):
                loaded = [(key, q, q.load()) for key, q in some]
                known |= {key: UNREADABLE for key, q, image in loaded if image is None and q.image != BLIND}
                usable = [each for each in loaded if each[0] not in known]
                if usable:
                    answers = ask([q for _, q, _ in usable], [image for _, _, image in usable])
                    fresh = dict(zip((key for key, _, _ in usable), answers, strict=True))
                    self.memo.put({key: answer for key, answer in fresh.items() if isinstance(answer, bytes)})
                    known |= fresh
                bar.advance(len(some))
        return [known[key] for key in keys]


def _scores_bytes(scores: Scores, options: int) -> bytes:
    """The scores as bytes; empty when they are none: all NaN, or not one for each option."""
    found = np.asarray(scores, dtype=np.float64)
    if found.shape != (options,) or np.isnan(found).any() or (found == np.inf).any() or (found == -np.inf).all():
        return b""
    return np.ascontiguousarray(found, dtype="<f8").tobytes()


def _reply_bytes(reply: Reply) -> bytes | str:
    if reply.error:
        return f"{UNANSWERED}: {reply.error}"
    return json.dumps(asdict(reply)).encode() if reply.text.strip() else EMPTY_REPLY
