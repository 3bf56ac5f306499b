"""The backward pass in micro-batches, with a contrastive loss over the whole batch.

Shape suffixes: B images, E shared space, T tokens, D width.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from clerestory.stages.train.losses import grad_cache_step
from clerestory.stages.train.losses.gradcache import Encoded
from clerestory.stages.train.objectives.objective import LossTerm, Precision, StepContext
from clerestory.stages.train.sharding import shard, shard_size


class ContrastiveCaptioner(Protocol):
    """An objective with a contrastive loss over the whole batch and other terms that are means over samples."""

    def encode(self, step: StepContext) -> tuple[Tensor, Tensor, Tensor | None]:
        """Image embeddings ``(B, E)``, tokens ``(B, T, D)`` and the balancing loss."""
        ...

    def contrastive_loss(self, step: StepContext, images_BE: Tensor) -> Tensor:
        """Of the whole batch."""
        ...

    def caption_loss(
        self, step: StepContext, tokens_BTD: Tensor, balance: Tensor | None, num_captioned: int
    ) -> dict[str, LossTerm]:
        """The other terms; ``caption`` is a mean over the tokens of the first ``num_captioned`` samples."""
        ...

    def num_captioned(self, step: StepContext) -> int:
        """The number of samples, the first ones, that the decoder is trained on."""
        ...

    def num_tokens(self, step: StepContext, num_captioned: int) -> int:
        """The number of caption tokens of these samples."""
        ...


def micro_batched_backward(
    objective: ContrastiveCaptioner, step: StepContext, micro_batches: int, precision: Precision
) -> dict[str, LossTerm]:
    """Add the gradients of ``objective.losses(step)`` to the parameters, with the memory of one micro-batch.

    They equal those of the whole batch up to rounding, except for operations across the samples of a batch (batch
    normalisation, expert balancing, the choice of captions predicted in parallel), which see a micro-batch.

    Args:
        objective: with a contrastive loss.
        step: the whole batch.
        micro_batches: their number; at most the number of samples.
        precision: makes the autocast context of the forward passes.

    Returns:
        The terms of the loss, without a graph.
    """
    count = min(micro_batches, len(step.rows))
    captioned = objective.num_captioned(step)
    tokens = objective.num_tokens(step, captioned)
    terms: dict[str, LossTerm] = {}

    def encode_image(index: int) -> Encoded:
        micro = step.micro_batch(index, count)
        first_pass = not torch.is_grad_enabled()
        with precision():
            images_BE, tokens_BTD, balance = objective.encode(micro)
            if first_pass:
                return images_BE
            micro_captioned = shard_size(captioned, index, count)
            micro_terms = objective.caption_loss(micro, tokens_BTD, balance, micro_captioned)
        extra_loss = images_BE.new_zeros(())
        for name, term in micro_terms.items():
            # A mean over the tokens of a micro-batch is weighted by its share of all tokens.
            share = objective.num_tokens(micro, micro_captioned) / tokens if name == "caption" else 1 / count
            extra_loss = extra_loss + term.weight * term.value * share * count  # averaged over the micro-batches
            before = terms.get(name, LossTerm(torch.zeros((), device=extra_loss.device)))
            terms[name] = LossTerm(before.value + share * term.value.detach(), term.weight)
        return images_BE, extra_loss

    def encode_text(index: int) -> Tensor:
        return step.pixels_BCSS.new_zeros(0)  # the text tower is locked; the loss looks its embeddings up

    def loss(images_BE: Tensor, _: Tensor) -> Tensor:
        order_B = torch.cat([shard(torch.arange(len(step.rows)), index, count) for index in range(count)])
        value = objective.contrastive_loss(step, images_BE[order_B.argsort().to(images_BE.device)])
        terms["contrastive"] = LossTerm(value)
        return value

    indices = [(index, index) for index in range(count)]
    grad_cache_step(encode_image, encode_text, loss, indices, modules=(step.model,))
    terms["contrastive"] = LossTerm(terms["contrastive"].value.detach())
    return terms
