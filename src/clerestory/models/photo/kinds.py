"""What kind of image the photo encoder is shown: a photograph, a drawing, or neither.

A linear probe on the features that the encoder computes anyway. The photo encoder is for photographs, the starter for
drawings; statistics of the pixels cannot tell these apart once an image is grey, small or compressed.

Shape suffixes: N images, F features, K kinds.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from functools import cache

import numpy as np

from clerestory.models.photo.folder import resource
from clerestory.models.photo.space import Floats

KINDS_FILE = "kinds.safetensors"
MIN_PROBABILITY = 0.8  # below it, a guess is unsure


class ImageKind(StrEnum):
    """The kinds, in the order of the probe's outputs."""

    PHOTOGRAPH = "photograph"  # and paintings, which the photo encoder knows better than the starter does
    DRAWING = "drawing"  # icons, emoji, clip art
    OTHER = "other"  # screenshots, charts, documents


@dataclass(frozen=True, slots=True)
class KindGuess:
    """The most probable kind of an image, and its probability."""

    kind: ImageKind
    probability: float

    @property
    def is_confident(self) -> bool:
        """Whether the probability is high enough to rely on."""
        return self.probability >= MIN_PROBABILITY


@dataclass(frozen=True, slots=True)
class KindProbe:
    """A multinomial logistic regression.

    Attributes:
        weight: ``(F, K)``.
        bias: (K).
    """

    weight: Floats
    bias: Floats

    def probabilities(self, features_NF: Floats) -> Floats:
        """Probabilities ``(N, K)`` of the kinds.

        Args:
            features_NF: as ``PhotoEncoder.features`` returns them.
        """
        logits_NK = features_NF @ self.weight + self.bias
        exponentials_NK: Floats = np.exp(logits_NK - logits_NK.max(axis=1, keepdims=True))
        rows_NK: Floats = exponentials_NK / exponentials_NK.sum(axis=1, keepdims=True)
        return rows_NK

    def guess(self, features_NF: Floats) -> list[KindGuess]:
        """The most probable kind of each image."""
        kinds = tuple(ImageKind)
        rows_NK = self.probabilities(features_NF)
        return [KindGuess(kinds[int(row_K.argmax())], float(row_K.max())) for row_K in rows_NK]


@cache
def kind_probe() -> KindProbe:
    """The probe of the package; ``make photo-kinds`` fits it."""
    from clerestory.models.loading import load_tensors

    tensors, _ = load_tensors(resource(KINDS_FILE))
    return KindProbe(tensors["weight"].float().numpy(), tensors["bias"].float().numpy())
