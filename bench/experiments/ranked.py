"""What both experiments look at: where each picture's own caption comes among all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from clerestory.core.progress import QUIET
from clerestory.core.sample import TEST, VAL, Dataset
from clerestory.models import open_model
from clerestory.stages.evaluate.config import EvaluateConfig
from clerestory.stages.evaluate.shared.retrieval_split import choose_splits, concept_of, make_pool
from clerestory.stats.ranking import best_ranks
from clerestory.store import open_store

SPLITS = (VAL, TEST)


def ranks(data: Dataset, folder: Path, work: Path) -> dict[str, dict[str, Any]]:
    """The rank of each picture's own caption, by split, in the order of the pictures."""
    model, config, store = open_model(folder), EvaluateConfig(splits=SPLITS), open_store(work / "store")
    found = {}
    for split, pictures in choose_splits(data, config)[0].items():
        pool = make_pool(model, split, pictures, config, store, QUIET)
        scored, places = pool.scored, np.arange(len(pool.captions))
        own = best_ranks(pool.embeddings[scored], pool.caption_embeddings, pool.labels[scored], places)
        found[split] = {
            "ranks": [int(rank) for rank in own],
            "concepts": [concept_of(pool.samples[i], config.lang) for i in scored],
            "captions": len(pool.captions),
        }
    return found
