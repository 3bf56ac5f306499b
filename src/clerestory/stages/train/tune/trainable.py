"""What the loop of a fine-tuning asks of a model, whichever kind it is."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from clerestory.stages.train.tune.caption_pairs import Ints, Pairs
from clerestory.stages.train.tune.config import Kind

Floats = NDArray[np.float64]


class Student(Protocol):
    """A model that is fine-tuned.

    Attributes:
        kind: of model.
        network: with all its weights.
        digest: of the model it was.
        trained: names of the weights that are not locked.
        asked: what its scores are, in words.
    """

    kind: Kind
    network: Any
    digest: str
    trained: frozenset[str]
    asked: str

    def learn_from(self, pairs: Pairs) -> None:
        """Make ready what the steps read."""

    def backward(self, rows: Ints) -> float:
        """Add the gradients of the mean loss over some pictures; returns the loss."""

    def scores(self, exam: Pairs) -> Floats:
        """For each picture 1 / the rank of its own caption among others ``(N,)``; 0 where that is no number."""

    def settle(self) -> None:
        """Bring trained numbers back into their range after a step."""

    def facts(self) -> dict[str, str]:
        """What a reader needs to know of how it was trained."""
