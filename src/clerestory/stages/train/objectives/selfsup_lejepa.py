"""LeJEPA: the views of an image agree, and the embeddings of all images are distributed as a standard Gaussian.

Balestriero & LeCun 2025 (arXiv:2511.08544). Agreement alone has a collapsed solution, one point for all images. It is
prevented not by a teacher or negatives but by a statistical test: along random directions the embeddings must pass the
Epps–Pulley test of normality (Epps & Pulley 1983) against N(0, 1), which is smooth and costs O(rows). The paper calls
the mean over random directions SIGReg.

Shape suffixes: V views, B images, P width of the embeddings, S directions, K knots of the integral.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from clerestory.core.errors import InputError

MAX_T = 5.0  # the weight exp(-t²/2) is below 4e-6 beyond
KNOTS = 17


def epps_pulley(values_BS: Tensor, knots: int = KNOTS) -> Tensor:
    """The Epps–Pulley statistic of each column against N(0, 1), ``(S,)``: about 1 if normal, otherwise growing with B.

    ``B · ∫ |φ(t) - exp(-t²/2)|² exp(-t²/2) dt`` with ``φ`` the column's empirical characteristic function. The function
    is even in ``t``, so half of it is integrated (trapezoids from 0 to 5) and doubled.

    Args:
        values_BS: a sample of B values in each column.
        knots: of the integral.
    """
    t_K = torch.linspace(0, MAX_T, knots, device=values_BS.device, dtype=values_BS.dtype)
    gauss_K = torch.exp(-0.5 * t_K * t_K)
    weight_K = gauss_K * (MAX_T / (knots - 1)) * 2
    weight_K[0] /= 2
    weight_K[-1] /= 2
    angle_BSK = values_BS[..., None] * t_K
    gap_SK = (angle_BSK.cos().mean(dim=0) - gauss_K).square() + angle_BSK.sin().mean(dim=0).square()
    return gap_SK @ weight_K * len(values_BS)


def random_directions(width: int, count: int, generator: torch.Generator) -> Tensor:
    """Unit columns ``(P, S)``, uniformly distributed on the sphere."""
    return F.normalize(torch.randn(width, count, generator=generator), dim=0)


def sigreg(rows_BP: Tensor, directions_PS: Tensor) -> Tensor:
    """SIGReg: the mean Epps–Pulley statistic of the rows along the directions."""
    return epps_pulley(rows_BP @ directions_PS).mean()


def lejepa(views_VBP: Tensor, directions_PS: Tensor, sigreg_weight: float) -> Tensor:
    """``(1 - sigreg_weight) · disagreement + sigreg_weight · SIGReg``.

    Disagreement is the mean squared distance of each view from the mean of its image's views; SIGReg is computed for
    each view separately, since the views of one image are not independent.

    Args:
        views_VBP: embeddings of at least two views of each image.
        directions_PS: unit columns, new ones in every step.
        sigreg_weight: between 0 and 1; 0.05 in the paper.

    Raises:
        InputError: fewer than two views.
    """
    if views_VBP.ndim != 3 or len(views_VBP) < 2:
        raise InputError(f"views of shape {tuple(views_VBP.shape)} cannot agree", "give (views, images, width)")
    disagreement = (views_VBP - views_VBP.mean(dim=0)).square().mean()
    normality = torch.stack([sigreg(view_BP, directions_PS) for view_BP in views_VBP]).mean()
    return (1 - sigreg_weight) * disagreement + sigreg_weight * normality


def exact_epps_pulley(values_B: Tensor) -> Tensor:
    """The integral of ``epps_pulley`` in closed form, O(B²); the knots approximate it."""
    size = len(values_B)
    pairs = torch.exp(-0.5 * (values_B[:, None] - values_B[None]).square()).sum() / size
    single = torch.exp(-0.25 * values_B.square()).sum()
    return math.sqrt(2 * math.pi) * pairs - 2 * math.sqrt(math.pi) * single + size * math.sqrt(2 * math.pi / 3)
