"""The images of each step: balanced by concept, and a pure function of (seed, step).

There is no state between steps, so a run resumed after a kill draws exactly what an uninterrupted one draws.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from clerestory.stages.train.shuffle import Rows, SampleRng, ShuffledOrder


class RowSampler(Protocol):
    """Draws the batches of a run."""

    batch_size: int

    def epoch(self, step: int) -> int:
        """The number of complete passes over the data before ``step``."""
        ...

    def draw(self, step: int) -> Rows:
        """The rows of the images of step ``step``, ``(batch_size,)``."""
        ...


@dataclass(frozen=True, slots=True)
class ConceptRows:
    """The images of one concept.

    Attributes:
        plain: rows of its ordinary images.
        variants: rows of its skin-tone variants.
    """

    plain: tuple[int, ...]
    variants: tuple[int, ...]


class ConceptSampler:
    """Draws batches in which every concept appears at most once, and equally often over an epoch.

    An epoch has as many full batches as there are concepts for; the few concepts left over differ between epochs.

    Args:
        concepts: to draw from.
        batch_size: concepts in a step; at most the number of concepts.
        seed: of all draws.
        variant_prob: probability that a skin-tone variant is drawn for a concept that has one.
    """

    def __init__(self, concepts: Sequence[ConceptRows], batch_size: int, seed: int, variant_prob: float) -> None:
        self._concepts = tuple(concepts)
        self.batch_size = min(batch_size, len(concepts))
        self.steps_per_epoch = len(concepts) // self.batch_size
        self._variant_prob = variant_prob
        self._order, self._choice = ShuffledOrder(len(concepts), seed), SampleRng(seed, "picture of a concept")

    def epoch(self, step: int) -> int:
        """The number of complete passes over the concepts before ``step``."""
        return step // self.steps_per_epoch

    def draw(self, step: int) -> Rows:
        """The rows of the images of step ``step``, ``(batch_size,)``."""
        epoch, batch = divmod(step, self.steps_per_epoch)
        numbers = self._order.take(epoch * len(self._concepts) + batch * self.batch_size, self.batch_size)
        uniform_B2 = self._choice.uniforms(np.full(self.batch_size, epoch), numbers, 2)
        rows = np.empty(self.batch_size, np.int64)
        for i, (number, (kind, place)) in enumerate(zip(numbers.tolist(), uniform_B2.tolist(), strict=True)):
            concept = self._concepts[number]
            candidates = concept.plain
            if concept.variants and (not candidates or kind < self._variant_prob):
                candidates = concept.variants
            rows[i] = candidates[int(place * len(candidates))]
        return rows


def group_concepts(concepts: Sequence[str], is_variant: Sequence[bool]) -> tuple[list[str], list[ConceptRows]]:
    """The sorted names of the concepts, and the rows of each; row ``i`` shows ``concepts[i]``."""
    plain: dict[str, list[int]] = {}
    variants: dict[str, list[int]] = {}
    for row, (concept, variant) in enumerate(zip(concepts, is_variant, strict=True)):
        (variants if variant else plain).setdefault(concept, []).append(row)
    names = sorted({*plain, *variants})
    return names, [ConceptRows(tuple(plain.get(n, ())), tuple(variants.get(n, ()))) for n in names]


def is_skin_tone_variant(groups: Mapping[str, str]) -> bool:
    """Whether the groups of a sample mark it as a skin-tone variant of another image."""
    return groups.get("skin_tone", "none") not in ("none", "")
