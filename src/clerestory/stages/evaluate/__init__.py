"""Examine a model on pictures and captions it has not learnt from."""

from clerestory.stages.evaluate.config import EvaluateConfig
from clerestory.stages.evaluate.describing import as_generator
from clerestory.stages.evaluate.embeddings import embed_dataset
from clerestory.stages.evaluate.run import evaluate

__all__ = ["EvaluateConfig", "as_generator", "embed_dataset", "evaluate"]
