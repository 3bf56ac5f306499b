"""Muon for hidden matrices and convolutions, AdamW for everything else.

Muon (Keller Jordan, 2024) replaces a matrix's momentum by the nearest orthogonal matrix, so that all directions are
learned at the same pace. In short runs the gain exceeds the cost.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn

from clerestory.stages.train.distributed.sharded_tensors import full_tensor, shard_like

MOMENTUM = 0.95
ITERATIONS = 4
COEFFICIENTS = (3.4445, -4.7750, 2.0315)


class Optimizer:
    """Muon and AdamW as one optimizer.

    Args:
        named: the trained parameters by name.
        weight_decay: of AdamW, for matrices and embeddings.
        muon_ratio: Muon's learning rate divided by AdamW's.
    """

    def __init__(self, named: Mapping[str, nn.Parameter], weight_decay: float, muon_ratio: float) -> None:
        self._muon = {name: p for name, p in named.items() if _is_for_muon(name, p)}
        adamw = {name: p for name, p in named.items() if name not in self._muon}
        self._muon_ratio = muon_ratio
        self._momentum = {name: torch.zeros_like(p) for name, p in self._muon.items()}
        groups: list[dict[str, Any]] = [
            {"params": [p for p in adamw.values() if p.ndim > 1], "weight_decay": weight_decay},
            {"params": [p for p in adamw.values() if p.ndim <= 1], "weight_decay": 0.0},
        ]
        self._adamw_optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.98), fused=True)
        self._adamw = adamw
        for p in adamw.values():  # the state exists before the first step, so that it can be loaded
            self._adamw_optimizer.state[p] = {
                "step": torch.zeros((), device=p.device),
                "exp_avg": torch.zeros_like(p, memory_format=torch.preserve_format),
                "exp_avg_sq": torch.zeros_like(p, memory_format=torch.preserve_format),
            }

    def step(self, learning_rate: float) -> None:
        """Update all parameters, then clear the gradients."""
        for group in self._adamw_optimizer.param_groups:
            group["lr"] = learning_rate
        self._adamw_optimizer.step()
        with torch.no_grad():
            for name, p in self._muon.items():
                if p.grad is not None:
                    p.sub_(muon_direction(p.grad, self._momentum[name]), alpha=learning_rate * self._muon_ratio)
        self.zero_grad()

    def zero_grad(self) -> None:
        """Clear the gradients."""
        for p in (*self._muon.values(), *self._adamw.values()):
            p.grad = None

    def state(self) -> dict[str, Tensor]:
        """Every tensor of its state, by name."""
        out = {f"muon.{name}": m for name, m in self._momentum.items()}
        for name, p in self._adamw.items():
            out |= {f"adam.{key}.{name}": cast(Tensor, value) for key, value in self._adamw_optimizer.state[p].items()}
        return out

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Set every tensor of its state, in place."""
        with torch.no_grad():
            for name, tensor in self.state().items():
                tensor.copy_(state[name])


def muon_direction(gradient: Tensor, momentum: Tensor) -> Tensor:
    """The update direction of one parameter; updates its momentum in place (Nesterov)."""
    momentum.lerp_(gradient, 1 - MOMENTUM)
    update = gradient.lerp(momentum, MOMENTUM)
    full = full_tensor(update)
    matrix = full.reshape(len(full), -1)
    # The three maps stacked in a query-key-value matrix are separate matrices.
    matrices = matrix.chunk(3) if len(matrix) == 3 * matrix.shape[1] else (matrix,)
    return shard_like(torch.cat([orthogonalise(m) for m in matrices]).view_as(full), update)


def orthogonalise(matrix: Tensor) -> Tensor:
    """Approximately the orthogonal factor of ``matrix`` (m, n), times ``sqrt(max(1, m/n))``; Newton–Schulz iteration.

    All singular values end between about 0.5 and 1.3, which for an optimizer is as good as exactly 1.
    """
    x = matrix.mT if matrix.shape[0] > matrix.shape[1] else matrix
    x = x / (x.norm() + 1e-7)
    x = _newton_schulz_gram(x) if x.shape[1] >= 2 * x.shape[0] else _newton_schulz(x)
    x = x.mT if matrix.shape[0] > matrix.shape[1] else x
    scaled: Tensor = x * math.sqrt(max(1.0, matrix.shape[0] / matrix.shape[1]))
    return scaled


def _newton_schulz(x: Tensor) -> Tensor:
    """The published iteration: each step multiplies ``x`` (m, n) by an odd polynomial of itself."""
    a, b, c = COEFFICIENTS
    for _ in range(ITERATIONS):
        square = x @ x.mT
        x = a * x + (b * square + c * square @ square) @ x
    return x


def _newton_schulz_gram(x: Tensor) -> Tensor:
    """The same polynomial evaluated on ``x @ x.T`` (m, m) and applied once: much cheaper if n is far above m."""
    a, b, c = COEFFICIENTS
    square = x @ x.mT
    product = torch.eye(len(square), dtype=x.dtype, device=x.device)
    for _ in range(ITERATIONS):
        factor = b * square + c * square @ square
        factor.diagonal().add_(a)
        product = factor @ product
        square = factor @ square @ factor
    return product @ x


def _is_for_muon(name: str, p: nn.Parameter) -> bool:
    """Whether it is a hidden matrix or convolution of the image tower; embeddings, the first and last layers are not.

    Experts are stacks of matrices of which a step may use few, and the decoder sees a share of each batch: both are
    left to AdamW, which makes Muon's part of a step a third cheaper.
    """
    if p.ndim not in (2, 4) or name.startswith("image_tower.stem.0."):
        return False
    hidden = name.startswith(("image_tower.stem.", "image_tower.blocks.", "image_tower.to_tokens"))
    return hidden and ".gate." not in name


def clip_gradients(parameters: Iterable[nn.Parameter], max_norm: float) -> float:
    """Clip the gradients and return their norm before; it is infinite or NaN if any entry is."""
    return float(full_tensor(nn.utils.clip_grad_norm_(parameters, max_norm)))
