"""A model in memory with everything that a request needs of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from clerestory import models
from clerestory.apps.confidence import LabelCalibrators, SearchCalibrators
from clerestory.apps.query_language import QueryLanguages
from clerestory.apps.right_model import photo_encoder
from clerestory.apps.training_reference import TrainingReference
from clerestory.core.release import Release
from clerestory.models import AnyModel, Captioner, Embedder
from clerestory.models.text_tower_files import MAX_TOKENS
from clerestory.models.word_pieces import load_word_pieces
from clerestory.web.search_index import ImageSearcher


@dataclass(frozen=True, eq=False)
class LoadedModel:
    """A loaded model with its index; a request uses one from start to end, even if the model is swapped meanwhile.

    Attributes:
        ref: its name for people: ``icons@3``, or the reference of another model.
        release: the served release; None for any other model.
        model: the model itself.
        searcher: the searchable images; None without images, or if the model is not an Embedder.
        search: from the scores of a search to confidence.
        reference: the calibration of its captions, and the statistics of its training images.
        languages: recognises queries in a language that the model was not trained on.
        tokens: counts the tokens of a text; None where the tokenizer is not known.
        labels: from the probability of a label to how often it is right.
        load_seconds: the time it took to load.
        remote_host: the host that images and text are sent to; empty if the model runs on this computer.
        unlike: how many of the images to search do not look like the training images, and how many were checked.
    """

    ref: str
    release: Release | None
    model: AnyModel
    searcher: ImageSearcher | None
    search: SearchCalibrators
    reference: TrainingReference
    languages: QueryLanguages
    tokens: TokenCounter | None
    load_seconds: float
    remote_host: str = ""
    unlike: tuple[int, int] = (0, 0)
    labels: LabelCalibrators = field(default_factory=LabelCalibrators)

    @cached_property
    def names(self) -> frozenset[str]:
        """The references that name it whatever else is in the store."""
        release = self.release
        return frozenset({self.ref, self.model.digest} | ({release.name, f"{release.name}@live"} if release else set()))

    @property
    def number(self) -> int:
        """The number of its release; 0 for any other model."""
        return self.release.number if self.release is not None else 0

    @cached_property
    def embedder(self) -> Embedder | None:
        """The model if it is an Embedder."""
        return self.model if isinstance(self.model, Embedder) else None

    @property
    def can_describe(self) -> bool:
        """Whether the model writes captions, or tags photographs."""
        return self.writes_captions or photo_encoder(self.model) is not None

    @property
    def writes_captions(self) -> bool:
        """Whether the model writes captions."""
        return isinstance(self.model, Captioner)

    @property
    def drafts_captions(self) -> bool:
        """Whether it writes captions of photographs beside their tags."""
        return self.writes_captions and photo_encoder(self.model) is not None

    @property
    def capabilities(self) -> tuple[str, ...]:
        """The protocols that the model implements, by name."""
        return models.capabilities(self.model)


class TokenCounter:
    """Counts the tokens of a text as the text tower does."""

    limit = MAX_TOKENS

    def __init__(self, tower: Path) -> None:
        self._tokenizer = load_word_pieces(tower)

    def count(self, texts: Sequence[str]) -> list[int]:
        """The number of tokens of each text, begin and end tokens included."""
        # Unlike `encode`, this lets other threads run.
        return [len(encoding) for encoding in self._tokenizer.encode_batch(list(texts))]
