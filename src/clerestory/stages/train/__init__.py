"""Train a model on images and captions."""

from typing import TYPE_CHECKING

from clerestory.core.extensions import lazy_exports

if TYPE_CHECKING:
    from clerestory.stages.train.config import TrainConfig
    from clerestory.stages.train.run import TrainResult, train

__all__ = ["TrainConfig", "TrainResult", "train"]

__getattr__ = lazy_exports(__name__, {"TrainConfig": ".config", "TrainResult": ".run", "train": ".run"})
