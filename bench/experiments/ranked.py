"""The evaluation of both experiments: the rank of each image's own caption among all captions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from clerestory.core.progress import QUIET
from clerestory.core.sample import TEST, VAL, Dataset
from clerestory.models import open_model
from clerestory.stages.evaluate.config import EvaluateConfig
from clerestory.stages.evaluate.samples import choose_splits, concept_of
from clerestory.stages.evaluate.shared.retrieval_split import make_retrieval_split
from clerestory.stats.ranking import best_ranks
from clerestory.store import open_store

SPLITS = (VAL, TEST)


def ranks(data: Dataset, folder: Path, work: Path) -> dict[str, dict[str, Any]]:
    """The rank of each image's own caption, by split, in the order of the images."""
    model, config, store = open_model(folder), EvaluateConfig(splits=SPLITS), open_store(work / "store")
    results = {}
    for split, samples in choose_splits(data, config)[0].items():
        retrieval = make_retrieval_split(model, split, samples, config, store, QUIET)
        scored, columns = retrieval.scored, np.arange(len(retrieval.captions))
        own_ranks = best_ranks(
            retrieval.embeddings[scored], retrieval.caption_embeddings, retrieval.labels[scored], columns
        )
        results[split] = {
            "ranks": [int(rank) for rank in own_ranks],
            "concepts": [concept_of(retrieval.samples[i], config.language) for i in scored],
            "captions": len(retrieval.captions),
        }
    return results
