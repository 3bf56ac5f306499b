"""Mixtures of experts: routing, dropless dispatch, load balancing, expert report, upcycling."""

from clerestory.models.moe.experts import Mlp, StackedExperts
from clerestory.models.moe.grouped import grouped_linear
from clerestory.models.moe.layer import IMAGE, TEXT, MixtureOfExperts, mixtures
from clerestory.models.moe.losses import LossWeights
from clerestory.models.moe.routing import Routing, route

__all__ = [
    "IMAGE",
    "TEXT",
    "LossWeights",
    "MixtureOfExperts",
    "Mlp",
    "Routing",
    "StackedExperts",
    "grouped_linear",
    "mixtures",
    "route",
]
