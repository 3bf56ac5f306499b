"""Fine-tuning a model that answers in words on (picture, question, caption): the loss is that of the caption alone.

One picture goes through the network at a time and gradients add up over the batch. Pictures of such models come as
tiles, flat patches or sizes of their own, and one at a time is right for every one of them.

Shape suffixes: P tokens of the prompt, L tokens of the answer.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from clerestory.models.adapters.hf_chat import ChatModel, continued
from clerestory.models.clip_scorer import GREY
from clerestory.stages.train.losses import IGNORE
from clerestory.stages.train.shuffle import Keyed
from clerestory.stages.train.tune.caption_pairs import Ints, Pairs
from clerestory.stages.train.tune.config import Kind, TuneConfig
from clerestory.stages.train.tune.trainable import Floats
from clerestory.stages.train.tune.weights import own_part, used_by

CHOICES = 4  # captions to choose from: the right one and others of the set


class ChatStudent:
    """An image-text-to-text model that is fine-tuned; see ``Student``.

    Args:
        model: the model.
        config: resolved settings.

    Raises:
        CapabilityError: nothing is left to train.
    """

    kind: Kind = "chat"
    asked = f"1 / rank of the picture's own caption among {CHOICES}, by its likelihood as the answer"

    def __init__(self, model: ChatModel, config: TuneConfig) -> None:
        self.model, self.network, self.digest = model, model.network, model.digest
        self.config = config
        words = used_by(self.network, self._words)
        whole = used_by(self.network, lambda: self.network(**model.inputs(config.question, [GREY])[1]).logits)
        sight = whole - words
        self.trained = {
            "image": own_part(sight, words, "image"),
            "text": own_part(words, sight, "text"),
            "none": whole,
        }[config.lock or "none"]
        self._pairs: Pairs | None = None

    def learn_from(self, pairs: Pairs) -> None:
        """Remember the pictures; nothing is computed ahead."""
        self._pairs = pairs

    def backward(self, rows: Ints) -> float:
        """Add the gradients of the mean over pictures of their captions' cross-entropy per token; returns the mean."""
        if self._pairs is None:
            raise RuntimeError("learn_from comes first")
        total = 0.0
        images, texts = self._pairs.images(rows), self._pairs.texts(rows)
        for image, text in zip(images, texts, strict=True):
            loss = self.network(**self.lesson(image, text)).loss / len(rows)
            loss.backward()
            total += float(loss.detach())
        return total

    def lesson(self, image: object, answer: str) -> dict[str, Tensor]:
        """What the network takes to learn an answer: prompt, answer, end mark; labels for the last two only."""
        prompt, inputs = self.model.inputs(self.config.question, [image])  # type: ignore[list-item]  # a picture
        ids_1L = torch.tensor([[*self.model.answer_ids(prompt, answer), *self._end()]])
        whole = continued(inputs, ids_1L, torch.ones_like(ids_1L))
        labels = whole["input_ids"].clone()
        labels[:, : inputs["input_ids"].shape[1]] = IGNORE
        return {**whole, "labels": labels}

    def scores(self, exam: Pairs) -> Floats:
        """1 / rank of each picture's own caption among a few; which few depends on seed and picture alone."""
        return np.array(list(self._each(exam)))

    def _each(self, exam: Pairs) -> Iterator[float]:
        for row in range(len(exam)):
            options = self._options(exam, row)
            likely = self.model.likelihoods(exam.images([row])[0], self.config.question, options)
            rank = int((likely >= likely[0]).sum())
            yield 1.0 / rank if bool(torch.isfinite(likely).all()) else 0.0

    def _options(self, exam: Pairs, row: int) -> Sequence[str]:
        """The right caption first, and others."""
        own = int(exam.own_N[row])
        others = [i for i in range(len(exam.captions)) if i != own]
        draw = Keyed(self.config.seed, "choices").generator(0, exam.samples[row].id)
        chosen = draw.permutation(len(others))[: CHOICES - 1]
        return [exam.captions[own], *(exam.captions[others[i]] for i in chosen)]

    def settle(self) -> None:
        """Nothing to do."""

    def facts(self) -> dict[str, str]:
        """Loss and question."""
        return {"loss": "cross-entropy of the caption's tokens", "question": self.config.question}

    def _words(self) -> Tensor:
        tokenizer = self.model.tokenizer
        ids = tokenizer("a", return_tensors="pt")["input_ids"]
        logits: Tensor = self.network(input_ids=ids, attention_mask=torch.ones_like(ids)).logits
        return logits

    def _end(self) -> list[int]:
        """The token that ends an answer when the model writes."""
        config = getattr(self.network, "generation_config", None)
        end = getattr(config, "eos_token_id", None)
        end = end[0] if isinstance(end, list | tuple) and end else end
        end = end if isinstance(end, int) else self.model.tokenizer.eos_token_id
        return [] if end is None else [int(end)]
