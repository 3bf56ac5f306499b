"""The space that photographs and texts share: that of the text tower, reached from the features of a photograph.

A photograph gets there on up to three ways, each a unit row, which are mixed:

- by class names (ConSE: Norouzi et al., "Zero-Shot Learning by Convex Combination of Semantic Embeddings", ICLR 2014):
  the probabilities of the classes weigh the embeddings of their names and definitions;
- by the general head, a ridge regression from the features to captions, fitted on openly licensed photographs;
- by a head of the user's own, fitted in the same way on own captions.

A text is centred on ordinary captions and divided by the standard deviation of its similarity to photographs in
general, so that similarities of different texts are comparable: a text that is a little similar to everything does not
win, and the best similarity of a text that nothing matches is low. As embeddings are unit rows, the length that this
takes away goes into the first coordinate, which is 0 for every photograph.

Shape suffixes: N photographs or texts, K classes, F features, E width of the text tower, D width of an embedding.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clerestory.models.protocols import Matrix

Floats = NDArray[np.floating[Any]]

TEMPERATURE = 2.0  # of the class probabilities; 1.5 to 3 are equally good
LEVEL_SCALE = 0.5  # of the features of the levels below the last
EPSILON = 1e-12


@dataclass(frozen=True, slots=True)
class LinearHead:
    """A ridge regression from features to the space.

    Attributes:
        mean: of the features (F) in the training photographs.
        weight: ``(F, D - 1)``.
        share: of the other ways in the mixture, 0..1.
    """

    mean: Floats
    weight: Floats
    share: float

    def predict(self, features_NF: Floats) -> Floats:
        """Rows ``(N, D - 1)``, not normalised."""
        rows: Floats = (features_NF - self.mean) @ self.weight
        return rows


@dataclass(frozen=True)  # without slots, for its cached property
class PhotoSpace:
    """The maps of photographs and texts into the space.

    Attributes:
        classes: embeddings of the classes ``(K, D - 1)``.
        class_mean: the mean embedding by class names of photographs in general (D - 1).
        text_centre: the embedding of ordinary captions (E).
        text_map: ``(E, D - 1)``, a partial whitening and a rotation to principal axes.
        spread: ``(D - 1, D - 1)``, the covariance of photographs, plus a multiple of the identity.
        general: the general head.
        own: the user's own head, if any.
    """

    classes: Floats
    class_mean: Floats
    text_centre: Floats
    text_map: Floats
    spread: Floats
    general: LinearHead
    own: LinearHead | None = None

    @property
    def width(self) -> int:
        """The width D of an embedding."""
        return int(self.classes.shape[1]) + 1

    def embed_features(self, features_NF: Floats, logits_NK: Floats) -> Matrix:
        """Unit rows ``(N, D)`` of photographs.

        Args:
            features_NF: as ``join_features`` returns them.
            logits_NK: class logits.
        """
        by_class_N = unit_rows(class_probabilities(logits_NK) @ self.classes - self.class_mean)
        rows_N = self.mix(by_class_N, self.general.predict(features_NF), self.general)
        if self.own is not None:
            rows_N = self.mix(rows_N, self.own.predict(features_NF), self.own)
        return np.concatenate([np.zeros((len(rows_N), 1)), rows_N], axis=1).astype(np.float32)

    @staticmethod
    def mix(others_N: Floats, predicted_N: Floats, head: LinearHead) -> Floats:
        """Unit rows of the mixture of a head's predictions with the other ways."""
        return unit_rows(head.share * others_N + (1 - head.share) * unit_rows(predicted_N))

    def directions(self, texts_NE: Floats) -> Floats:
        """The directions ``(N, D - 1)`` of texts among photographs, unit rows.

        Args:
            texts_NE: embeddings of the text tower.
        """
        return unit_rows((texts_NE - self.text_centre) @ self.text_map)

    def embed_texts(self, texts_NE: Floats) -> Matrix:
        """Unit rows ``(N, D)`` of embeddings of the text tower."""
        rows_N = self.directions(texts_NE)
        deviation_N = np.sqrt(np.einsum("nd,de,ne->n", rows_N, self.spread, rows_N))
        length_N1 = (self.smallest_deviation / deviation_N)[:, None].clip(0, 1)
        return np.concatenate([np.sqrt(1 - length_N1**2), rows_N * length_N1], axis=1).astype(np.float32)

    @cached_property
    def smallest_deviation(self) -> float:
        """The least standard deviation that the similarity of any text to photographs can have."""
        return float(np.sqrt(np.linalg.eigvalsh(self.spread)[0]))

    def with_own_head(self, own: LinearHead) -> PhotoSpace:
        """The space with a user's own head. Texts are scaled as before: own photographs are of few kinds of things."""
        return replace(self, own=own)

    def without_own_head(self) -> PhotoSpace:
        """The space as it is without own captions."""
        return replace(self, own=None)

    def tensors(self) -> dict[str, Floats]:
        """The arrays by name, for a file; ``from_tensors`` reads them."""
        named = {f.name: getattr(self, f.name) for f in fields(self) if isinstance(getattr(self, f.name), np.ndarray)}
        for name in ("general", "own"):
            if (head := getattr(self, name)) is not None:
                named |= {f"{name}.mean": head.mean, f"{name}.weight": head.weight}
                named[f"{name}.share"] = np.array([head.share], np.float32)
        return named

    @classmethod
    def from_tensors(cls, named: dict[str, Floats]) -> PhotoSpace:
        """The space of the arrays that ``tensors`` returned.

        Raises:
            KeyError: an array is missing.
        """
        heads = {
            name: LinearHead(named[f"{name}.mean"], named[f"{name}.weight"], float(named[f"{name}.share"][0]))
            for name in ("general", "own")
            if name == "general" or f"{name}.weight" in named
        }
        classes, class_mean, text_centre = named["classes"], named["class_mean"], named["text_centre"]
        own = heads.get("own")
        return cls(classes, class_mean, text_centre, named["text_map"], named["spread"], heads["general"], own)


def join_features(last_NF: Floats, levels_NF: Floats) -> Floats:
    """The features ``(N, F)`` that the heads read: roots of the last ones, as these are skewed, and those below."""
    return np.concatenate([np.sqrt(last_NF), LEVEL_SCALE * levels_NF], axis=1)


def class_probabilities(logits_NK: Floats) -> Floats:
    """Softmax ``(N, K)`` at ``TEMPERATURE``."""
    scaled_NK = (logits_NK - logits_NK.max(axis=1, keepdims=True)) / TEMPERATURE
    exponentials_NK: Floats = np.exp(scaled_NK)
    probabilities_NK: Floats = exponentials_NK / exponentials_NK.sum(axis=1, keepdims=True)
    return probabilities_NK


def unit_rows(rows_ND: Floats) -> Floats:
    """Rows of length 1; a row of zeros remains."""
    rows: Floats = rows_ND / np.maximum(np.linalg.norm(rows_ND, axis=1, keepdims=True), EPSILON)
    return rows
