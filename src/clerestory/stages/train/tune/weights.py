"""Which weights belong to which tower, kept copies of them, and the line between two of these (WiSE-FT).

Wortsman et al. 2022, "Robust fine-tuning of zero-shot models", arXiv:2109.01903: the weights on the straight line from
the original to the tuned ones, ``(1 - α)·θ₀ + α·θ₁``, keep much of what both know.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import torch
from torch import Tensor, nn

from clerestory.core.errors import CapabilityError
from clerestory.models.model import ClerestoryModel

Weights = dict[str, Tensor]
# What stands between the towers; the names transformers gives them.
BETWEEN = ("logit_scale", "logit_bias", "temperature")


def all_weights(network: nn.Module) -> Weights:
    """Everything of a network that can be trained, by name; the text side of our own model is a matrix in a buffer."""
    found: Weights = dict(network.named_parameters())
    if isinstance(network, ClerestoryModel):
        found["projection.rotation_EE"] = network.projection.rotation_EE
    return found


def used_by(network: nn.Module, work: Callable[[], Tensor]) -> frozenset[str]:
    """The names of the weights that an output depends on: asked of autograd, so no architecture has to be known."""
    weights = all_weights(network)
    before = {name: tensor.requires_grad for name, tensor in weights.items()}
    try:
        for tensor in weights.values():
            tensor.requires_grad_(True)
        with torch.enable_grad():
            out = work().float().sum()
        grads = torch.autograd.grad(out, list(weights.values()), allow_unused=True)
    finally:
        for name, tensor in weights.items():
            tensor.requires_grad_(before[name])
    return frozenset(name for name, grad in zip(weights, grads, strict=True) if grad is not None)


def own_part(locked: frozenset[str], others: frozenset[str], what: str) -> frozenset[str]:
    """What is left to train when ``locked`` stays as it is.

    Raises:
        CapabilityError: the two share weights, so that training one would change the other, or nothing is left.
    """
    if locked & others:
        raise CapabilityError(
            f"its towers share {len(locked & others)} weights, so the {what} tower cannot be locked alone",
            "use --lock none to train both",
        )
    if not others:
        raise CapabilityError(
            f"with the {what} tower locked there is nothing left to train", "use --lock none, or lock the other tower"
        )
    return others


def copied(weights: Mapping[str, Tensor]) -> Weights:
    """Copies that later steps do not change."""
    return {name: tensor.detach().clone() for name, tensor in weights.items()}


@torch.no_grad()
def put(network: nn.Module, kept: Mapping[str, Tensor]) -> None:
    """Set some weights of a network."""
    weights = all_weights(network)
    for name, tensor in kept.items():
        weights[name].copy_(tensor)


@torch.no_grad()
def put_between(network: nn.Module, before: Mapping[str, Tensor], after: Mapping[str, Tensor], alpha: float) -> None:
    """Set weights to ``(1 - alpha)·before + alpha·after``; at 0 and 1 to the very bits of one of them."""
    if alpha in (0.0, 1.0):
        put(network, after if alpha else before)
        return
    put(network, {name: torch.lerp(start, after[name], alpha) for name, start in before.items()})


def only(network: nn.Module, names: Iterable[str]) -> Weights:
    """Leave gradients on for these weights and nothing else, and return them."""
    chosen = set(names)
    weights = all_weights(network)
    for name, tensor in weights.items():
        tensor.requires_grad_(name in chosen)
    return {name: tensor for name, tensor in weights.items() if name in chosen}
