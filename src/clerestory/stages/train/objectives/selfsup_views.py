"""View contrast: two variations of one picture are to be closer to each other than to any other picture.

NT-Xent of SimCLR (Chen et al. 2020, arXiv:2002.05709), which SLIP (Mu et al. 2021, arXiv:2112.12750) adds to a
contrastive loss over captions. Needs no caption.

Shape suffixes: B pictures, P width of the head's space.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from clerestory.core.errors import InputError


class ViewHead(nn.Module):
    """A two-layer head, so that what the contrast throws away is thrown away here and not in the tower.

    Args:
        width: of the tower's pooled tokens.
        hidden: of the layer between.
        out: P.
    """

    def __init__(self, width: int, hidden: int, out: int) -> None:
        super().__init__()
        self.up = nn.Linear(width, hidden, bias=False)
        # Never used outside training, so no running statistics: a skipped step leaves nothing behind.
        self.norm = nn.BatchNorm1d(hidden, track_running_stats=False)
        self.down = nn.Linear(hidden, out, bias=False)

    def forward(self, pooled_BD: Tensor) -> Tensor:
        """``(B, D)`` to ``(B, P)``, of no particular length."""
        return cast(Tensor, self.down(F.relu(self.norm(self.up(pooled_BD)))))


def view_contrast(first_BP: Tensor, second_BP: Tensor, temperature: float) -> Tensor:
    """NT-Xent: every view must find the other view of its picture among all other views of the batch.

    Args:
        first_BP: one view of each picture; rows of any length.
        second_BP: the other view, in the same order.
        temperature: of the softmax.

    Raises:
        InputError: the two are no pairs, or there is only one picture.
    """
    if first_BP.shape != second_BP.shape or first_BP.ndim != 2 or len(first_BP) < 2:
        raise InputError(
            f"views of shapes {tuple(first_BP.shape)} and {tuple(second_BP.shape)} cannot be contrasted",
            "give two views of each of at least two pictures",
        )
    size = len(first_BP)
    rows = F.normalize(torch.cat([first_BP, second_BP]), dim=-1)
    similar = rows @ rows.T / temperature
    similar = similar.masked_fill(torch.eye(2 * size, dtype=torch.bool, device=rows.device), -torch.inf)
    other = torch.arange(2 * size, device=rows.device).roll(size)
    return F.cross_entropy(similar, other)
