"""What the model is told while it trains, and how little memory telling it takes."""

from clerestory.stages.train.losses.icons import captioning, contrastive
from clerestory.stages.train.losses.ring import Ring
from clerestory.stages.train.losses.sigmoid import sigmoid_loss
from clerestory.stages.train.losses.softmax import softmax_loss

__all__ = ["Ring", "captioning", "contrastive", "sigmoid_loss", "softmax_loss"]
