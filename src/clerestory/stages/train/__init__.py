"""Teach a model from pictures and captions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from clerestory.stages.train.config import TrainConfig
    from clerestory.stages.train.run import TrainResult, train

__all__ = ["TrainConfig", "TrainResult", "train"]


def __getattr__(name: str) -> Any:
    """The names above, imported on first use: the processes that prepare pictures need none of them."""
    if name == "TrainConfig":
        from clerestory.stages.train.config import TrainConfig

        return TrainConfig
    if name in __all__:
        from clerestory.stages.train import run

        return getattr(run, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
