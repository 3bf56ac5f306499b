"""A batch that goes through the model in pieces, and still is one batch to the contrastive loss.

Shape suffixes: B pictures, E shared space.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from clerestory.stages.train.losses import grad_cache_step
from clerestory.stages.train.losses.gradcache import Encoded
from clerestory.stages.train.objectives.objective import Part, Precision, StepContext

if TYPE_CHECKING:
    from clerestory.stages.train.objectives.captions import Captions


def learn_in_pieces(captions: Captions, step: StepContext, pieces: int, precision: Precision) -> dict[str, Part]:
    """Add the gradients of ``captions.losses(step)`` to the parameters, with the memory of one piece.

    They are those of the whole batch up to rounding, but for what looks at other rows of its batch (batch norm, the
    balance of experts, which captions are said in parallel): that sees a piece.

    Args:
        captions: the objective.
        step: the whole batch.
        pieces: how many; never more than samples.
        precision: makes the autocast that forward passes run in.

    Returns:
        The parts of the loss, without a graph.
    """
    pieces = min(pieces, len(step.rows))
    learners = captions.learners(step)
    words = captions.word_count(step, learners)
    values: dict[str, Part] = {}

    def look(number: int) -> Encoded:
        piece = step.piece(number, pieces)
        first_time = not torch.is_grad_enabled()
        with precision():
            images_BE, tokens_BTD, balance = captions.look(piece)
            if first_time:
                return images_BE
            mine = len(range(number, learners, pieces))
            parts = captions.say(piece, tokens_BTD, balance, mine)
        rest = images_BE.new_zeros(())
        for name, part in parts.items():
            # A mean over the words of a piece becomes its share of the mean over all words.
            share = captions.word_count(piece, mine) / words if name == "caption" else 1 / pieces
            rest = rest + part.weight * part.value * share * pieces  # it is averaged over the pieces
            before = values.get(name, Part(torch.zeros((), device=rest.device)))
            values[name] = Part(before.value + share * part.value.detach(), part.weight)
        return images_BE, rest

    def nothing(number: int) -> Tensor:
        return step.pixels_BCSS.new_zeros(0)

    def match(images_BE: Tensor, _: Tensor) -> Tensor:
        order_B = torch.cat([torch.arange(len(step.rows))[first::pieces] for first in range(pieces)])
        values["contrastive"] = Part(captions.match(step, images_BE[order_B.argsort().to(images_BE.device)]))
        return values["contrastive"].value

    grad_cache_step(look, nothing, match, [(number, number) for number in range(pieces)], modules=(step.model,))
    values["contrastive"] = Part(values["contrastive"].value.detach())
    return values
