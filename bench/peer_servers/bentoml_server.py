"""BentoML with its adaptive batching: ``bentoml serve bentoml_server:Embedding``; the model is ``$BENCH_MODEL``."""

from __future__ import annotations

import os
from typing import Any

import bentoml  # type: ignore[import-not-found]  # in a venv of its own

from clerestory.models.resolve import open_reference


@bentoml.service(workers=1, traffic={"timeout": 60, "max_concurrency": 1_000})
class Embedding:
    """A list of texts in, their embeddings out."""

    def __init__(self) -> None:
        self.model: Any = open_reference(os.environ["BENCH_MODEL"])

    @bentoml.api(batchable=True, max_batch_size=64, max_latency_ms=60_000)  # type: ignore[untyped-decorator]  # as above
    def embed(self, texts: list[str]) -> list[list[float]]:
        """The embeddings of a batch."""
        rows: list[list[float]] = self.model.embed_texts(texts).tolist()
        return rows
