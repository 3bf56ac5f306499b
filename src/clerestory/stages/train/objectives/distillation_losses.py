"""Losses of self-distillation: the teacher is a moving average of the student's weights.

SILC (Naeem et al. 2023, arXiv:2310.13355), TIPS (Maninis et al. 2024, arXiv:2410.16512) and SigLIP 2 (Tschannen et al.
2025, arXiv:2502.14786) add two such losses late in training: the student's output for a crop must match the teacher's
for the whole image (DINO, arXiv:2104.14294), and its output for masked tokens must match the teacher's unmasked tokens
(iBOT, arXiv:2111.07832). In these papers, the teacher's output is a distribution over prototypes that are trained
alongside. Here the shared space has prototypes from the first step: the captions of the training set, embedded by the
text tower.

Shape suffixes: B images, N captions, E shared space, T tokens, D width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def distillation_loss(
    student_BE: Tensor,
    teacher_BE: Tensor,
    bank_NE: Tensor,
    centre_N: Tensor,
    temperature: float,
    teacher_temperature: float,
) -> Tensor:
    """Cross-entropy of student and teacher, both as softmax distributions over the known captions.

    Args:
        student_BE: unit rows; only they receive gradients.
        teacher_BE: unit rows of other views of the same images.
        bank_NE: the captions that serve as prototypes, unit rows.
        centre_N: the teacher's mean similarities, subtracted so that its output does not become the same for every
            image.
        temperature: of the student's softmax.
        teacher_temperature: of the teacher's; lower, which sharpens the target and prevents a uniform output.
    """
    with torch.no_grad():
        target_BN = ((teacher_BE @ bank_NE.T - centre_N) / teacher_temperature).softmax(dim=-1)
    return -(target_BN * (student_BE @ bank_NE.T / temperature).log_softmax(dim=-1)).sum(dim=-1).mean()


@torch.no_grad()
def update_centre(centre_N: Tensor, teacher_BE: Tensor, bank_NE: Tensor, decay: float = 0.9) -> None:
    """Move the centre towards the teacher's mean similarities in this batch, in place."""
    centre_N.lerp_((teacher_BE @ bank_NE.T).mean(dim=0), 1 - decay)


def masked_token_loss(student_BTD: Tensor, teacher_BTD: Tensor, mask_BT: Tensor) -> Tensor:
    """Mean cosine distance of student and teacher over the masked tokens.

    Args:
        student_BTD: tokens of the masked image, through the student's predictor.
        teacher_BTD: tokens of the whole image.
        mask_BT: which tokens' pixels were masked.
    """
    distance_BT = 1 - F.cosine_similarity(student_BTD, teacher_BTD.detach(), dim=-1)
    return distance_BT[mask_BT].mean()


class TokenPredictor(nn.Module):
    """Maps the student's tokens to the teacher's: two layers, so that the student need not equal its teacher."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.up = nn.Linear(width, 2 * width)
        self.down = nn.Linear(2 * width, width)

    def forward(self, tokens_BTD: Tensor) -> Tensor:
        """``(B, T, D)`` to the same shape."""
        out: Tensor = self.down(F.gelu(self.up(tokens_BTD)))
        return out
