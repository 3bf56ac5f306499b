"""Teach a model from pictures and captions."""

from clerestory.stages.train.config import TrainConfig
from clerestory.stages.train.run import TrainResult, train

__all__ = ["TrainConfig", "TrainResult", "train"]
