"""Loss functions with a small memory footprint."""

from clerestory.stages.train.losses.bank_softmax import bank_softmax_loss
from clerestory.stages.train.losses.cappa import CaptionBatch, autoregressive_inputs, cappa_inputs
from clerestory.stages.train.losses.gradcache import grad_cache_step
from clerestory.stages.train.losses.linear_cross_entropy import IGNORE, linear_cross_entropy
from clerestory.stages.train.losses.matryoshka import matryoshka
from clerestory.stages.train.losses.ring import Ring
from clerestory.stages.train.losses.sigmoid import sigmoid_loss
from clerestory.stages.train.losses.softmax import softmax_loss

__all__ = [
    "IGNORE",
    "CaptionBatch",
    "Ring",
    "autoregressive_inputs",
    "cappa_inputs",
    "bank_softmax_loss",
    "grad_cache_step",
    "linear_cross_entropy",
    "matryoshka",
    "sigmoid_loss",
    "softmax_loss",
]
