"""Examine a model on pictures and captions it has not learnt from."""

from clerestory.stages.evaluate.config import EvaluateConfig
from clerestory.stages.evaluate.freshness import PartState, freshness
from clerestory.stages.evaluate.run import evaluate
from clerestory.stages.evaluate.shared.embeddings import embed_dataset

__all__ = ["EvaluateConfig", "PartState", "embed_dataset", "evaluate", "freshness"]
