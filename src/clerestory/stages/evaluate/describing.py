"""How good the model's descriptions are: chrF against the picture's own caption."""

from __future__ import annotations

from typing import Any

import numpy as np

from clerestory.stages.evaluate.bench import Bench
from clerestory.stages.evaluate.embeddings import readable
from clerestory.stages.evaluate.pieces import batches, choose
from clerestory.stages.evaluate.pool import concept_of, normal
from clerestory.stages.evaluate.table import Table
from clerestory.stats.text import chrf

CAPTION = "caption"
NO_DESCRIPTION = "the model gave no description"


def describe_pool(bench: Bench, split: str, table: Table) -> list[dict[str, Any]]:
    """Describe a chosen part of a split, one row per picture; returns what was said, for the examples.

    ``chrf`` is that of the first suggestion, ``chrf_best`` the highest of all suggestions; texts are compared without
    regard to case. A picture for which nothing is generated is unscored, which is not a score of 0.
    """
    config, model = bench.config, bench.model
    pool, data, progress = bench.pool(split), bench.splits[split], bench.progress
    places = {pool.samples[i].id: int(i) for i in pool.scored}
    chosen = choose((pool.samples[i] for i in pool.scored), config.described, config.seed)
    said: list[dict[str, Any]] = []
    with progress.task(f"Describing pictures of {pool.split}", len(chosen)) as bar:
        for some in batches(chosen, config.batch):
            images = [image for sample in some if (image := readable(data, sample)) is not None]
            for sample, suggestions in zip(some, model.describe(images, config.suggestions), strict=True):
                caption = pool.captions[pool.labels[places[sample.id]]]
                usable = [s for s in suggestions if s.text.strip()]
                scores = [chrf(normal(s.text), normal(caption)) for s in usable]
                table.add(
                    [sample],
                    task=CAPTION,
                    split=pool.split,
                    sample=sample.id,
                    concept=concept_of(sample, config.lang),
                    query=caption,
                    answer=usable[0].text if usable else "",
                    unscored="" if usable else NO_DESCRIPTION,
                    chrf=scores[0] if scores else np.nan,
                    chrf_best=max(scores, default=np.nan),
                )
                if usable:
                    said.append(
                        {
                            "split": pool.split,
                            "sample": sample.id,
                            "caption": caption,
                            "chrf": round(scores[0], 4),
                            "suggestions": [{"text": s.text, "score": round(float(s.score), 4)} for s in usable],
                        }
                    )
            bar.advance(len(some))
    return said
