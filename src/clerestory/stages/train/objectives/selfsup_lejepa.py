"""LeJEPA: views of one picture agree, and the embeddings of all pictures look like a standard Gaussian.

Balestriero & LeCun 2025 (arXiv:2511.08544). Agreement alone is met by one point for all pictures; what forbids that
here is a test, not a teacher or negatives: along random directions the embeddings must pass the Epps–Pulley test of
normality (Epps & Pulley 1983) against N(0, 1), which is smooth and costs O(rows). The paper calls the sum over random
directions SIGReg.

Shape suffixes: V views, B pictures, P width of the embeddings, S directions, K knots of the integral.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from clerestory.core.errors import InputError

FARTHEST = 5.0  # beyond it both characteristic functions count less than 4e-6
KNOTS = 17


def epps_pulley(values_BS: Tensor, knots: int = KNOTS) -> Tensor:
    """How far each column is from a sample of N(0, 1): ``(S,)``, about 1 where it is one, growing with B where not.

    ``B · ∫ |φ(t) - exp(-t²/2)|² exp(-t²/2) dt`` with ``φ`` the column's empirical characteristic function. The function
    is even in ``t``, so half of it is integrated (trapezoids from 0 to 5) and doubled.

    Args:
        values_BS: one sample of B values in each column.
        knots: of the integral.
    """
    t_K = torch.linspace(0, FARTHEST, knots, device=values_BS.device, dtype=values_BS.dtype)
    gauss_K = torch.exp(-0.5 * t_K * t_K)
    weight_K = gauss_K * (FARTHEST / (knots - 1)) * 2
    weight_K[0] /= 2
    weight_K[-1] /= 2
    angle_BSK = values_BS[..., None] * t_K
    gap_SK = (angle_BSK.cos().mean(dim=0) - gauss_K).square() + angle_BSK.sin().mean(dim=0).square()
    return gap_SK @ weight_K * len(values_BS)


def random_directions(width: int, count: int, random: torch.Generator) -> Tensor:
    """Unit columns ``(P, S)``, evenly spread over the sphere."""
    return F.normalize(torch.randn(width, count, generator=random), dim=0)


def sketched_gaussian(rows_BP: Tensor, directions_PS: Tensor) -> Tensor:
    """SIGReg: the mean Epps–Pulley statistic of the rows along the directions."""
    return epps_pulley(rows_BP @ directions_PS).mean()


def lejepa(views_VBP: Tensor, directions_PS: Tensor, gaussian: float) -> Tensor:
    """``(1 - gaussian) · disagreement + gaussian · SIGReg``.

    Disagreement is the mean squared distance of each view from the mean of its picture's views; SIGReg is taken of each
    view by itself, since the views of one picture are no independent sample.

    Args:
        views_VBP: embeddings of at least two views of each picture.
        directions_PS: unit columns, new ones in every step.
        gaussian: weight of the second part, between 0 and 1; the paper's is 0.05.

    Raises:
        InputError: fewer than two views.
    """
    if views_VBP.ndim != 3 or len(views_VBP) < 2:
        raise InputError(f"views of shape {tuple(views_VBP.shape)} cannot agree", "give (views, pictures, width)")
    disagreement = (views_VBP - views_VBP.mean(dim=0)).square().mean()
    normality = torch.stack([sketched_gaussian(view_BP, directions_PS) for view_BP in views_VBP]).mean()
    return (1 - gaussian) * disagreement + gaussian * normality


def exact_epps_pulley(values_B: Tensor) -> Tensor:
    """The integral of ``epps_pulley`` in closed form, O(B²): what the knots approximate."""
    size = len(values_B)
    pairs = torch.exp(-0.5 * (values_B[:, None] - values_B[None]).square()).sum() / size
    single = torch.exp(-0.25 * values_B.square()).sum()
    return math.sqrt(2 * math.pi) * pairs - 2 * math.sqrt(math.pi) * single + size * math.sqrt(2 * math.pi / 3)
