"""Evaluate a model on images and captions it was not trained on."""

from typing import TYPE_CHECKING

from clerestory.core.extensions import lazy_exports

if TYPE_CHECKING:
    from clerestory.stages.evaluate.cached_embeddings import embed_dataset
    from clerestory.stages.evaluate.config import EvaluateConfig
    from clerestory.stages.evaluate.diff import SuiteState, freshness
    from clerestory.stages.evaluate.run import evaluate

__all__ = ["EvaluateConfig", "SuiteState", "embed_dataset", "evaluate", "freshness"]

__getattr__ = lazy_exports(
    __name__,
    {
        "EvaluateConfig": ".config",
        "SuiteState": ".diff",
        "embed_dataset": ".cached_embeddings",
        "evaluate": ".run",
        "freshness": ".diff",
    },
)
