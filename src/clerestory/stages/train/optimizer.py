"""Muon for matrices and convolutions, AdamW for everything else.

Muon (Keller Jordan, 2024) replaces a matrix's momentum by the nearest orthogonal matrix, so that every direction is
learnt at the same pace. In short runs that is worth more than what it costs.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn

from clerestory.stages.train.distributed.sharded import like, whole

MOMENTUM = 0.95
ITERATIONS = 4
COEFFICIENTS = (3.4445, -4.7750, 2.0315)


class Optimizer:
    """One step function over all trained parameters.

    Args:
        named: what is trained, by name.
        weight_decay: AdamW's, of matrices and embeddings.
        muon_ratio: Muon's learning rate divided by AdamW's.
    """

    def __init__(self, named: Mapping[str, nn.Parameter], weight_decay: float, muon_ratio: float) -> None:
        self._muon = {name: p for name, p in named.items() if _is_for_muon(name, p)}
        rest = {name: p for name, p in named.items() if name not in self._muon}
        self._ratio = muon_ratio
        self._momentum = {name: torch.zeros_like(p) for name, p in self._muon.items()}
        groups: list[dict[str, Any]] = [
            {"params": [p for p in rest.values() if p.ndim > 1], "weight_decay": weight_decay},
            {"params": [p for p in rest.values() if p.ndim <= 1], "weight_decay": 0.0},
        ]
        self._adam = torch.optim.AdamW(groups, betas=(0.9, 0.98), fused=True)
        self._rest = rest
        for p in rest.values():  # state exists from the first step on, so that loading it needs no warm-up
            self._adam.state[p] = {
                "step": torch.zeros((), device=p.device),
                "exp_avg": torch.zeros_like(p, memory_format=torch.preserve_format),
                "exp_avg_sq": torch.zeros_like(p, memory_format=torch.preserve_format),
            }

    def step(self, learning_rate: float) -> None:
        """Move all parameters along their gradients, then forget the gradients."""
        for group in self._adam.param_groups:
            group["lr"] = learning_rate
        self._adam.step()
        with torch.no_grad():
            for name, p in self._muon.items():
                if p.grad is not None:
                    p.sub_(muon_update(p.grad, self._momentum[name]), alpha=learning_rate * self._ratio)
        self.zero()

    def zero(self) -> None:
        """Forget the gradients."""
        for p in (*self._muon.values(), *self._rest.values()):
            p.grad = None

    def state(self) -> dict[str, Tensor]:
        """Every tensor it remembers, by name."""
        out = {f"muon.{name}": m for name, m in self._momentum.items()}
        for name, p in self._rest.items():
            out |= {f"adam.{key}.{name}": cast(Tensor, value) for key, value in self._adam.state[p].items()}
        return out

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Set every tensor it remembers, in place."""
        with torch.no_grad():
            for name, mine in self.state().items():
                mine.copy_(state[name])


def muon_update(gradient: Tensor, momentum: Tensor) -> Tensor:
    """The step direction for one parameter; updates its momentum in place (Nesterov)."""
    momentum.lerp_(gradient, 1 - MOMENTUM)
    update = gradient.lerp(momentum, MOMENTUM)
    full = whole(update)
    matrix = full.reshape(len(full), -1)
    # The three maps stacked in a query-key-value matrix are separate matrices.
    parts = matrix.chunk(3) if len(matrix) == 3 * matrix.shape[1] else (matrix,)
    return like(torch.cat([orthogonalise(part) for part in parts]).view_as(full), update)


def orthogonalise(matrix: Tensor) -> Tensor:
    """Nearly the orthogonal factor of ``matrix`` (m, n), scaled by ``sqrt(max(1, m/n))``; Newton–Schulz iteration.

    All singular values end between about 0.5 and 1.3, which serves an optimizer as well as exactly 1.
    """
    x = matrix.mT if matrix.shape[0] > matrix.shape[1] else matrix
    x = x / (x.norm() + 1e-7)
    x = _by_gram(x) if x.shape[1] >= 2 * x.shape[0] else _directly(x)
    x = x.mT if matrix.shape[0] > matrix.shape[1] else x
    scaled: Tensor = x * math.sqrt(max(1.0, matrix.shape[0] / matrix.shape[1]))
    return scaled


def _directly(x: Tensor) -> Tensor:
    """The iteration as published: each step multiplies ``x`` (m, n) by an odd polynomial of itself."""
    a, b, c = COEFFICIENTS
    for _ in range(ITERATIONS):
        square = x @ x.mT
        x = a * x + (b * square + c * square @ square) @ x
    return x


def _by_gram(x: Tensor) -> Tensor:
    """The same polynomial worked out on ``x @ x.T`` (m, m) and applied once: much cheaper where n is far above m."""
    a, b, c = COEFFICIENTS
    square = x @ x.mT
    whole = torch.eye(len(square), dtype=x.dtype, device=x.device)
    for _ in range(ITERATIONS):
        factor = b * square + c * square @ square
        factor.diagonal().add_(a)
        whole = factor @ whole
        square = factor @ square @ factor
    return whole @ x


def _is_for_muon(name: str, p: nn.Parameter) -> bool:
    """The image tower's matrices and convolutions; not embeddings, positions, the first layer or the way out.

    Experts are stacks of matrices of which a step may use few, and the decoder sees a share of each batch; AdamW
    serves both, and a step costs a third less of Muon.
    """
    if p.ndim not in (2, 4) or name.startswith("image_tower.stem.0."):
        return False
    hidden = name.startswith(("image_tower.stem.", "image_tower.blocks.", "image_tower.to_tokens"))
    return hidden and ".gate." not in name


def gradient_norm(parameters: Iterable[nn.Parameter], clip: float) -> float:
    """Shorten the gradients to ``clip`` and return the length they had; infinite or NaN when any entry is."""
    return float(whole(nn.utils.clip_grad_norm_(parameters, clip)))
