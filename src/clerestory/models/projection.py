"""The shared space of images and texts, ordered so that a prefix of an embedding is an embedding (Matryoshka).

The text side is a fixed rotation of MiniLM's space onto the principal axes of the training captions: at full width
every similarity equals MiniLM's, and a prefix retains as much of it as its dimension allows. The image side is a
trained linear map into the rotated space.

Shape suffixes: B images or texts, T tokens, D width of the tower, E width of the shared space.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from clerestory.models.protocols import Matrix


class Projection(nn.Module):
    """The projections of both towers into the shared space.

    Args:
        image_width: D of the image tower.
        text_dim: E, which is the text tower's width.
    """

    rotation_EE: Tensor

    def __init__(self, image_width: int, text_dim: int) -> None:
        super().__init__()
        self.image = nn.Linear(image_width, text_dim)
        self.register_buffer("rotation_EE", torch.eye(text_dim))

    def project_images(self, tokens_BTD: Tensor) -> Tensor:
        """Tokens to unit rows ``(B, E)``."""
        return F.normalize(self.image(tokens_BTD.mean(dim=1)), dim=-1)

    def project_texts(self, texts_BE: Tensor) -> Tensor:
        """The text tower's embeddings, rotated, to unit rows ``(B, E)``."""
        return F.normalize(texts_BE @ self.rotation_EE, dim=-1)

    @torch.no_grad()
    def set_rotation(self, rotation_EE: Matrix) -> None:
        """Set the rotation of the text side, such as the ``principal_axes`` of the training captions."""
        self.rotation_EE.copy_(torch.from_numpy(rotation_EE))


def principal_axes(rows_NE: Matrix) -> Matrix:
    """An orthogonal matrix ``(E, E)`` whose columns are the rows' principal axes, strongest first.

    The sign of each column is fixed (its largest entry is positive), so equal rows give an equal matrix.
    """
    rows = rows_NE.astype(np.float64)
    _, axes = np.linalg.eigh(rows.T @ rows)
    axes = axes[:, ::-1]
    signs = np.sign(axes[np.abs(axes).argmax(axis=0), np.arange(axes.shape[1])])
    return np.ascontiguousarray(axes * signs, dtype=np.float32)


def prefix(rows_BE: Tensor, dim: int) -> Tensor:
    """The first ``dim`` columns as unit rows."""
    return F.normalize(rows_BE[:, :dim], dim=-1)
