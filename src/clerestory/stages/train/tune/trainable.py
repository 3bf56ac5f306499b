"""The interface between the fine-tuning loop and a model of any kind."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from clerestory.core.codec import Fact
from clerestory.stages.train.tune.caption_pairs import CaptionPairs, Ints
from clerestory.stages.train.tune.config import ModelKind

Floats = NDArray[np.float64]


class TrainableModel(Protocol):
    """A model that is fine-tuned.

    Attributes:
        kind: of model.
        network: the module with all weights.
        digest: of the original model.
        trained: names of the weights that are not locked.
        score_definition: the definition of its scores, for people.
    """

    kind: ModelKind
    network: Any
    digest: str
    trained: frozenset[str]
    score_definition: str

    def prepare(self, pairs: CaptionPairs) -> None:
        """Set the training data and precompute what the steps need."""

    def backward(self, rows: Ints, epochs: Ints) -> float:
        """Add the gradients of the mean loss over some training images; returns the loss.

        Args:
            rows: the images.
            epochs: the epoch of each, which decides on its caption.
        """

    def scores(self, pairs: CaptionPairs) -> Floats:
        """For each image 1 / the rank of its own caption among others ``(N,)``; 0 if that is not finite."""

    def after_step(self) -> None:
        """Clamp trained parameters to their valid range after an optimizer step."""

    def facts(self) -> dict[str, Fact]:
        """Facts about the training for the evidence."""
