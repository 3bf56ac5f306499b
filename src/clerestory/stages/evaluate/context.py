"""What the parts of an evaluation work on: the model, the data cut into pools, and everything asked so far."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

from clerestory.core.evidence import Finding
from clerestory.core.progress import QUIET, Progress
from clerestory.core.sample import Dataset, Sample
from clerestory.models.protocols import Embedder
from clerestory.stages.evaluate.config import EvaluateConfig
from clerestory.stages.evaluate.shared.cached_embeddings import Matrix, embed_texts
from clerestory.stages.evaluate.shared.embeddings import embed_dataset, readable
from clerestory.stages.evaluate.shared.retrieval_split import RetrievalSplit, choose_splits, make_retrieval_split
from clerestory.stages.evaluate.shared.row_builder import RowBuilder
from clerestory.store import Store

if TYPE_CHECKING:
    from PIL import Image


class EvaluationContext:
    """One model on one data set, ready to be examined.

    Args:
        model: what is examined; each part says which capabilities it needs of it.
        data: all of the data, with every split.
        config: what to measure, and on how much.
        store: where answers and evidence are kept.
        progress: told about each step.
    """

    def __init__(
        self, model: Any, data: Dataset, config: EvaluateConfig, store: Store, progress: Progress = QUIET
    ) -> None:
        self.model = model
        self.data = data
        self.config = config
        self.store = store
        self.progress = progress
        self._pools: dict[str, RetrievalSplit] = {}

    @cached_property
    def _chosen(self) -> tuple[dict[str, Dataset], list[Finding]]:
        return choose_splits(self.data, self.config)

    @property
    def splits(self) -> dict[str, Dataset]:
        """The captioned pictures of each split that is evaluated, without skin-tone variants.

        Raises:
            DataError, NotFound: there is nothing to evaluate on.
        """
        return self._chosen[0]

    @property
    def split_findings(self) -> list[Finding]:
        """What was left out of ``splits``, and why."""
        return self._chosen[1]

    def pool(self, split: str) -> RetrievalSplit:
        """A split ready for retrieval, its pictures and captions embedded; needs an ``Embedder``."""
        if split not in self._pools:
            self._pools[split] = make_retrieval_split(
                self.embedder, split, self.splits[split], self.config, self.store, self.progress
            )
        return self._pools[split]

    @property
    def embedder(self) -> Embedder:
        """The model as an ``Embedder``; the engine has checked that it is one before a part that needs it runs."""
        model: Embedder = self.model
        return model

    def table(self) -> RowBuilder:
        """An empty table with a column for each group of the data."""
        return RowBuilder({name for sample in self.data for name in sample.groups})

    def embed(self, data: Dataset) -> Matrix:
        """Embeddings (N, D) of the pictures of a data set; NaN rows where a picture cannot be read."""
        return embed_dataset(self.embedder, data, self.store, self.progress, self.config.batch_size)

    def embed_texts(self, texts: list[str]) -> Matrix:
        """Embeddings (N, D) of texts."""
        return embed_texts(self.embedder, texts, self.store.answer_cache, self.config.batch_size)

    def picture(self, sample: Sample) -> Image.Image | None:
        """The decoded picture of a sample, None where it cannot be read."""
        return readable(self.data, sample)
