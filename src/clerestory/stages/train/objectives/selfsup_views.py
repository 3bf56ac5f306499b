"""View contrast: two augmented views of an image must be closer to each other than to any other image.

NT-Xent of SimCLR (Chen et al. 2020, arXiv:2002.05709), which SLIP (Mu et al. 2021, arXiv:2112.12750) adds to a
contrastive loss over captions. It needs no captions.

Shape suffixes: B images, P width of the head's space.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from clerestory.core.errors import InputError


class ViewHead(nn.Module):
    """A two-layer head, so that the information that the contrast discards is discarded here and not in the tower.

    Args:
        width: of the tower's pooled tokens.
        hidden: width of the hidden layer.
        out: P.
    """

    def __init__(self, width: int, hidden: int, out: int) -> None:
        super().__init__()
        self.up = nn.Linear(width, hidden, bias=False)
        # Used in training only, so without running statistics: a skipped step leaves no trace.
        self.norm = nn.BatchNorm1d(hidden, track_running_stats=False)
        self.down = nn.Linear(hidden, out, bias=False)

    def forward(self, pooled_BD: Tensor) -> Tensor:
        """``(B, D)`` to ``(B, P)``, not normalised."""
        return cast(Tensor, self.down(F.relu(self.norm(self.up(pooled_BD)))))


def view_contrast(first_BP: Tensor, second_BP: Tensor, temperature: float) -> Tensor:
    """NT-Xent: the positive of a view is the other view of its image; all other views of the batch are negatives.

    Args:
        first_BP: one view of each image, not normalised.
        second_BP: the other view, in the same order.
        temperature: of the softmax.

    Raises:
        InputError: the shapes differ, or there is only one image.
    """
    if first_BP.shape != second_BP.shape or first_BP.ndim != 2 or len(first_BP) < 2:
        raise InputError(
            f"views of shapes {tuple(first_BP.shape)} and {tuple(second_BP.shape)} cannot be contrasted",
            "give two views of each of at least two images",
        )
    size = len(first_BP)
    rows = F.normalize(torch.cat([first_BP, second_BP]), dim=-1)
    logits = rows @ rows.T / temperature
    logits = logits.masked_fill(torch.eye(2 * size, dtype=torch.bool, device=rows.device), -torch.inf)
    positive = torch.arange(2 * size, device=rows.device).roll(size)
    return F.cross_entropy(logits, positive)
