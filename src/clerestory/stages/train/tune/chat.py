"""Fine-tuning a generative model on (image, question, caption): the loss covers the caption's tokens only.

One image goes through the network at a time and gradients accumulate over the batch. The image inputs of such models
are tiles, flat patches or images of any size, which batches cannot handle uniformly.

Shape suffixes: P tokens of the prompt, L tokens of the answer.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from clerestory.core.codec import Fact
from clerestory.models.adapters.hf_chat import ChatModel, append_options
from clerestory.models.clip_scorer import GREY
from clerestory.stages.train.losses import IGNORE
from clerestory.stages.train.shuffle import SampleRng
from clerestory.stages.train.tune.caption_pairs import CaptionPairs, Ints
from clerestory.stages.train.tune.config import ModelKind, TuneConfig
from clerestory.stages.train.tune.trainable import Floats
from clerestory.stages.train.tune.weights import unlocked_weights, used_weights

NUM_CHOICES = 4  # captions to rank: the correct one and distractors


class TrainableChatModel:
    """An image-text-to-text model that is fine-tuned; see ``TrainableModel``.

    Args:
        model: the model.
        config: resolved settings.

    Raises:
        CapabilityError: nothing is left to train.
    """

    kind: ModelKind = "chat"
    score_definition = f"1 / rank of the image's own caption among {NUM_CHOICES}, by its likelihood as the answer"

    def __init__(self, model: ChatModel, config: TuneConfig) -> None:
        self.model, self.network, self.digest = model, model.network, model.digest
        self.config = config
        language = used_weights(self.network, self._text_only_logits)
        all_used = used_weights(self.network, lambda: self.network(**model.inputs(config.question, [GREY])[1]).logits)
        vision = all_used - language
        self.trained = {
            "image": unlocked_weights(vision, language, "image"),
            "text": unlocked_weights(language, vision, "text"),
            "none": all_used,
        }[config.lock or "none"]
        self._pairs: CaptionPairs | None = None

    def prepare(self, pairs: CaptionPairs) -> None:
        """Set the training data; nothing is precomputed."""
        self._pairs = pairs

    def backward(self, rows: Ints, epochs: Ints) -> float:
        """Add the gradients of the cross-entropy per token, averaged over images; returns that loss."""
        if self._pairs is None:
            raise RuntimeError("call prepare first")
        total = 0.0
        captions = self._pairs.draw(rows, epochs, self.config.seed)
        for row, caption in zip(rows, captions, strict=True):
            inputs = self.training_inputs(self._pairs.image(row), self._pairs.captions[caption])
            loss = self.network(**inputs).loss / len(rows)
            loss.backward()
            total += float(loss.detach())
        return total

    def training_inputs(self, image: object, answer: str) -> dict[str, Tensor]:
        """Network inputs of prompt, answer and end-of-sequence token; labels for the last two only."""
        prompt, inputs = self.model.inputs(self.config.question, [image])  # type: ignore[list-item]  # an image
        ids_1L = torch.tensor([[*self.model.answer_ids(prompt, answer), *self._end()]])
        prompt_length = inputs["input_ids"].shape[1]
        inputs = append_options(inputs, ids_1L, torch.ones_like(ids_1L))
        labels = inputs["input_ids"].clone()
        labels[:, :prompt_length] = IGNORE
        return {**inputs, "labels": labels}

    def scores(self, pairs: CaptionPairs) -> Floats:
        """1 / rank of each image's own caption among a few; the choice depends on seed and image only."""
        return np.array(list(self._reciprocal_ranks(pairs)))

    def _reciprocal_ranks(self, pairs: CaptionPairs) -> Iterator[float]:
        for row in range(len(pairs)):
            options = self._options(pairs, row)
            log_likelihoods = self.model.log_likelihoods(pairs.image(row), self.config.question, options)
            rank = int((log_likelihoods >= log_likelihoods[0]).sum())
            yield 1.0 / rank if bool(torch.isfinite(log_likelihoods).all()) else 0.0

    def _options(self, pairs: CaptionPairs, row: int) -> Sequence[str]:
        """A correct caption first, then those of other images."""
        own = pairs.all_captions[row]
        others = [i for i in range(len(pairs.captions)) if i not in own]
        generator = SampleRng(self.config.seed, "choices").generator(0, pairs.samples[row].id)
        chosen = generator.permutation(len(others))[: NUM_CHOICES - 1]
        correct = own[int(generator.random() * len(own))]
        return [pairs.captions[correct], *(pairs.captions[others[i]] for i in chosen)]

    def after_step(self) -> None:
        """Does nothing: there is nothing to clamp."""

    def facts(self) -> dict[str, Fact]:
        """Loss and question."""
        return {"loss": "cross-entropy of the caption's tokens", "question": self.config.question}

    def _text_only_logits(self) -> Tensor:
        tokenizer = self.model.tokenizer
        ids = tokenizer("a", return_tensors="pt")["input_ids"]
        logits: Tensor = self.network(input_ids=ids, attention_mask=torch.ones_like(ids)).logits
        return logits

    def _end(self) -> list[int]:
        """The end-of-sequence token that the model generates."""
        config = getattr(self.network, "generation_config", None)
        end = getattr(config, "eos_token_id", None)
        end = end[0] if isinstance(end, list | tuple) and end else end
        end = end if isinstance(end, int) else self.model.tokenizer.eos_token_id
        return [] if end is None else [int(end)]
