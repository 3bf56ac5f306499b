"""Learning from one's own average: a teacher that follows the weights names what the student must see.

SILC (Naeem et al. 2023, arXiv:2310.13355), TIPS (Maninis et al. 2024, arXiv:2410.16512) and SigLIP 2 (Tschannen et al.
2025, arXiv:2502.14786) add two such losses late in training: the student must say of a part what the teacher says of
the whole (DINO, arXiv:2104.14294), and must say of what is hidden from it what the teacher sees there (iBOT,
arXiv:2111.07832). There, the teacher speaks in prototypes that are learnt beside. Here the shared space has prototypes
from the first step on: the captions of the training set, which the text tower embeds.

Shape suffixes: B pictures, N captions, E shared space, T tokens, D width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def distil(
    student_BE: Tensor,
    teacher_BE: Tensor,
    bank_NE: Tensor,
    centre_N: Tensor,
    temperature: float,
    teacher_temperature: float,
) -> Tensor:
    """Cross-entropy of the student's captions under the teacher's: both are softmaxes over the known captions.

    Args:
        student_BE: unit rows; gradients flow here alone.
        teacher_BE: unit rows of other views of the same pictures.
        bank_NE: the captions that serve as prototypes, unit rows.
        centre_N: what the teacher says of pictures in general, taken off its similarities, so that it does not say it
            of every picture.
        temperature: of the student's softmax.
        teacher_temperature: of the teacher's; lower, so that the student grows surer, which keeps both from saying the
            same of everything.
    """
    with torch.no_grad():
        wanted_BN = ((teacher_BE @ bank_NE.T - centre_N) / teacher_temperature).softmax(dim=-1)
    return -(wanted_BN * (student_BE @ bank_NE.T / temperature).log_softmax(dim=-1)).sum(dim=-1).mean()


@torch.no_grad()
def update_centre(centre_N: Tensor, teacher_BE: Tensor, bank_NE: Tensor, decay: float = 0.9) -> None:
    """Move the centre towards the teacher's mean similarities of this batch, in place."""
    centre_N.lerp_((teacher_BE @ bank_NE.T).mean(dim=0), 1 - decay)


def masked_tokens(student_BTD: Tensor, teacher_BTD: Tensor, hidden_BT: Tensor) -> Tensor:
    """How unlike the teacher's the student's tokens are where its picture was hidden: mean ``1 - cosine``.

    Args:
        student_BTD: tokens of the picture with holes, through the student's predictor.
        teacher_BTD: tokens of the whole picture.
        hidden_BT: which tokens' pixels were hidden.
    """
    unlike_BT = 1 - F.cosine_similarity(student_BTD, teacher_BTD.detach(), dim=-1)
    return unlike_BT[hidden_BT].mean()


class TokenPredictor(nn.Module):
    """From the student's tokens to the teacher's: two layers, so that the student need not equal its teacher."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.up = nn.Linear(width, 2 * width)
        self.down = nn.Linear(2 * width, width)

    def forward(self, tokens_BTD: Tensor) -> Tensor:
        """``(B, T, D)`` to the same shape."""
        out: Tensor = self.down(F.gelu(self.up(tokens_BTD)))
        return out
