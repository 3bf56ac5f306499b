"""Mixtures of experts: routing, dropless dispatch, balance, report card, upcycling, export."""

from clerestory.models.moe.experts import Experts, Mlp
from clerestory.models.moe.grouped import grouped_linear
from clerestory.models.moe.layer import MixtureOfExperts, mixtures
from clerestory.models.moe.losses import IMAGE, TEXT, LossWeights
from clerestory.models.moe.routing import Routing, route

__all__ = [
    "IMAGE",
    "TEXT",
    "Experts",
    "LossWeights",
    "MixtureOfExperts",
    "Mlp",
    "Routing",
    "grouped_linear",
    "mixtures",
    "route",
]
