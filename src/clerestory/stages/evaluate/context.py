"""The subject of an evaluation, and what its suites share: the model, the data by split, results computed once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar, cast

from clerestory.core.evidence import Finding
from clerestory.core.progress import QUIET, Progress
from clerestory.core.sample import Dataset, Sample
from clerestory.models.protocols import Embedder
from clerestory.stages.evaluate.cached_embeddings import Matrix, embed_dataset, embed_texts, read_image
from clerestory.stages.evaluate.config import EvaluateConfig
from clerestory.stages.evaluate.row_builder import RowBuilder
from clerestory.stages.evaluate.samples import choose_splits
from clerestory.store import Store

if TYPE_CHECKING:
    from PIL import Image

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class EvaluationRequest:
    """The subject of an evaluation by digest; enough to know what a suite's evidence would depend on.

    Attributes:
        model, data: digests.
        config: what to measure.
        store: holds evidence and cached answers.
        data_digests: of data that was opened to compute its digest, by name, so that it is opened once.
    """

    model: str
    data: str
    config: EvaluateConfig
    store: Store
    data_digests: dict[str, str] = field(default_factory=dict, compare=False)


class EvaluationContext:
    """One model on one dataset.

    Args:
        model: the evaluated model; each suite names the capabilities it needs.
        data: all of the data, with every split.
        config: what to measure, and on how many samples.
        store: holds cached answers and evidence.
        progress: reports each step.
    """

    def __init__(
        self, model: Any, data: Dataset, config: EvaluateConfig, store: Store, progress: Progress = QUIET
    ) -> None:
        self.model = model
        self.data = data
        self.config = config
        self.store = store
        self.progress = progress
        self._computed: dict[str, Any] = {}

    @property
    def request(self) -> EvaluationRequest:
        """The subject of this evaluation by digest."""
        return EvaluationRequest(self.model.digest, self.data.digest, self.config, self.store)

    @cached_property
    def _splits_and_findings(self) -> tuple[dict[str, Dataset], list[Finding]]:
        return choose_splits(self.data, self.config)

    @property
    def splits(self) -> dict[str, Dataset]:
        """The images of each evaluated split, without skin-tone variants.

        Raises:
            DataError, NotFound: no split can be evaluated.
        """
        return self._splits_and_findings[0]

    @property
    def split_findings(self) -> list[Finding]:
        """What is excluded from ``splits``, and why."""
        return self._splits_and_findings[1]

    @property
    def first_split(self) -> str:
        """The split that suites evaluate which evaluate only one."""
        return next(iter(self.splits))

    @property
    def embedder(self) -> Embedder:
        """The model as an ``Embedder``; whether it is one is checked before a suite that needs it runs."""
        model: Embedder = self.model
        return model

    def row_builder(self) -> RowBuilder:
        """A builder of rows with a column for each group of the data."""
        return RowBuilder({name for sample in self.data for name in sample.groups})

    def embed_images(self, data: Dataset) -> Matrix:
        """Embeddings (N, D) of the images of a dataset; NaN rows where an image cannot be read."""
        return embed_dataset(self.embedder, data, self.store, self.progress, self.config.batch_size)

    def embed_texts(self, texts: list[str]) -> Matrix:
        """Embeddings (N, D) of texts."""
        return embed_texts(self.embedder, texts, self.store.answer_cache, self.config.batch_size)

    def read_image(self, sample: Sample) -> Image.Image | None:
        """The decoded image of a sample, None if it cannot be read."""
        return read_image(self.data, sample)

    def once(self, name: str, compute: Callable[[], T]) -> T:
        """The result of ``compute``, computed by the first suite that needs it under this name."""
        if name not in self._computed:
            self._computed[name] = compute()
        return cast(T, self._computed[name])
