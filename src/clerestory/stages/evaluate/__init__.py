"""Evaluate a model on images and captions it was not trained on."""

from typing import TYPE_CHECKING

from clerestory.core.extensions import lazy_exports

if TYPE_CHECKING:
    from clerestory.stages.evaluate.config import EvaluateConfig
    from clerestory.stages.evaluate.freshness import SuiteState, freshness
    from clerestory.stages.evaluate.run import evaluate
    from clerestory.stages.evaluate.shared.embeddings import embed_dataset

__all__ = ["EvaluateConfig", "SuiteState", "embed_dataset", "evaluate", "freshness"]

__getattr__ = lazy_exports(
    __name__,
    {
        "EvaluateConfig": ".config",
        "SuiteState": ".freshness",
        "embed_dataset": ".shared.embeddings",
        "evaluate": ".run",
        "freshness": ".freshness",
    },
)
