"""What other rooms may ask of a model, and nothing more; adapters to other people's models implement the same."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Matrix = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Suggestion:
    """A caption the model proposes.

    Attributes:
        text: the words.
        score: the model's own probability for the words, as the geometric mean over words and the end mark, 0..1.
    """

    text: str
    score: float


@runtime_checkable
class Embedder(Protocol):
    """Puts pictures and texts into one space, where the dot product says how well they fit.

    Attributes:
        digest: SHA-256 of the model folder.
        dims: widths at which a prefix of an embedding is an embedding too, ascending.
    """

    digest: str
    dims: tuple[int, ...]

    def embed_images(self, images: Sequence[Image.Image], dim: int | None = None) -> Matrix:
        """Unit rows ``(N, D)``, float32, one for each picture; ``dim`` picks one of ``dims``, None the widest."""

    def embed_texts(self, texts: Sequence[str], dim: int | None = None) -> Matrix:
        """Unit rows ``(N, D)``, float32, one for each text; ``dim`` picks one of ``dims``, None the widest."""


@runtime_checkable
class Generator(Protocol):
    """Writes captions."""

    def describe(self, images: Sequence[Image.Image], n: int = 3) -> list[list[Suggestion]]:
        """Up to ``n`` distinct captions for each picture, best first."""
