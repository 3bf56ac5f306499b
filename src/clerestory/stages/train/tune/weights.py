"""The weights of each tower, copies of them, and the interpolation between two copies (WiSE-FT).

Wortsman et al. 2022, "Robust fine-tuning of zero-shot models", arXiv:2109.01903: weights interpolated between the
original and the tuned ones, ``(1 - α)·θ₀ + α·θ₁``, retain much of the performance of both.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import torch
from torch import Tensor, nn

from clerestory.core.errors import CapabilityError
from clerestory.models.model import ClerestoryModel

Weights = dict[str, Tensor]
# Parameters between the towers, by their names in transformers.
SHARED_SCALARS = ("logit_scale", "logit_bias", "temperature")


def all_weights(network: nn.Module) -> Weights:
    """All trainable weights of a network by name; the text side of a Clerestory model is a matrix in a buffer."""
    weights: Weights = dict(network.named_parameters())
    if isinstance(network, ClerestoryModel):
        weights["projection.rotation_EE"] = network.projection.rotation_EE
    return weights


def used_weights(network: nn.Module, forward: Callable[[], Tensor]) -> frozenset[str]:
    """The names of the weights that an output depends on, found by autograd, so for any architecture."""
    weights = all_weights(network)
    before = {name: tensor.requires_grad for name, tensor in weights.items()}
    try:
        for tensor in weights.values():
            tensor.requires_grad_(True)
        with torch.enable_grad():
            out = forward().float().sum()
        grads = torch.autograd.grad(out, list(weights.values()), allow_unused=True)
    finally:
        for name, tensor in weights.items():
            tensor.requires_grad_(before[name])
    return frozenset(name for name, grad in zip(weights, grads, strict=True) if grad is not None)


def unlocked_weights(locked: frozenset[str], others: frozenset[str], tower: str) -> frozenset[str]:
    """The weights to train when those of one tower are locked.

    Args:
        locked: the weights of the locked tower.
        others: the weights of the rest.
        tower: name of the locked tower.

    Raises:
        CapabilityError: the two share weights, so that training one would change the other, or nothing is left.
    """
    if locked & others:
        raise CapabilityError(
            f"the model's towers share {len(locked & others)} weights, so the {tower} tower cannot be locked alone",
            "use --lock none to train both",
        )
    if not others:
        raise CapabilityError(
            f"the model has no weights to train with the {tower} tower locked",
            "use --lock none, or lock the other tower",
        )
    return others


def copy_weights(weights: Mapping[str, Tensor]) -> Weights:
    """Copies that later steps do not change."""
    return {name: tensor.detach().clone() for name, tensor in weights.items()}


@torch.no_grad()
def set_weights(network: nn.Module, values: Mapping[str, Tensor]) -> None:
    """Set some weights of a network."""
    weights = all_weights(network)
    for name, tensor in values.items():
        weights[name].copy_(tensor)


@torch.no_grad()
def interpolate_weights(
    network: nn.Module, before: Mapping[str, Tensor], after: Mapping[str, Tensor], alpha: float
) -> None:
    """Set weights to ``(1 - alpha)·before + alpha·after``; at 0 and 1 bit for bit to one of them."""
    if alpha in (0.0, 1.0):
        set_weights(network, after if alpha else before)
        return
    set_weights(network, {name: torch.lerp(start, after[name], alpha) for name, start in before.items()})


def train_only(network: nn.Module, names: Iterable[str]) -> Weights:
    """Turn gradients on for these weights and off for all others; returns the trained weights."""
    trained = set(names)
    weights = all_weights(network)
    for name, tensor in weights.items():
        tensor.requires_grad_(name in trained)
    return {name: tensor for name, tensor in weights.items() if name in trained}
