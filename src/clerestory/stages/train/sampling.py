"""Which picture is learnt from in which step: balanced by concept, and a pure function of (seed, step).

Nothing is remembered between steps, so a run that goes on after a kill sees exactly what it would have seen.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.int64]
PERMUTE, VARIANT, TEXT, PICTURE = range(4)  # what a stream of random numbers is used for


def stream(seed: int, purpose: int, position: int) -> np.random.Generator:
    """The random numbers of one purpose at one position; independent of every other."""
    return np.random.default_rng([seed, purpose, position])


@dataclass(frozen=True, slots=True)
class Concept:
    """The pictures that stand for one concept.

    Attributes:
        plain: rows of its ordinary pictures.
        variants: rows of its skin-tone variants.
    """

    plain: tuple[int, ...]
    variants: tuple[int, ...]


class Sampler:
    """Draws batches in which every concept appears at most once, and over an epoch each equally often.

    Args:
        concepts: what to draw from.
        batch: concepts in a step; never more than there are.
        seed: of all draws.
        variants: probability that a skin-tone variant stands for a concept that has any.
    """

    def __init__(self, concepts: Sequence[Concept], batch: int, seed: int, variants: float) -> None:
        self._concepts = tuple(concepts)
        self.batch = min(batch, len(concepts))
        self.steps_per_epoch = len(concepts) // self.batch
        self._seed = seed
        self._variants = variants
        self._order = lru_cache(maxsize=2)(self._permutation)

    def draw(self, step: int) -> Rows:
        """The rows of the pictures of step ``step``, ``(batch,)``."""
        epoch, part = divmod(step, self.steps_per_epoch)
        chosen = self._order(epoch)[part * self.batch : (part + 1) * self.batch]
        random = stream(self._seed, VARIANT, step)
        use_variant, place = random.random(self.batch), random.random(self.batch)
        rows = np.empty(self.batch, np.int64)
        for i, number in enumerate(chosen):
            concept = self._concepts[number]
            pool = concept.plain
            if concept.variants and (not pool or use_variant[i] < self._variants):
                pool = concept.variants
            rows[i] = pool[int(place[i] * len(pool))]
        return rows

    def _permutation(self, epoch: int) -> Rows:
        return stream(self._seed, PERMUTE, epoch).permutation(len(self._concepts))


def group_concepts(concepts: Sequence[str], is_variant: Sequence[bool]) -> tuple[list[str], list[Concept]]:
    """The names of the concepts, sorted, and the rows that stand for each; row ``i`` belongs to ``concepts[i]``."""
    plain: dict[str, list[int]] = {}
    variants: dict[str, list[int]] = {}
    for row, (concept, variant) in enumerate(zip(concepts, is_variant, strict=True)):
        (variants if variant else plain).setdefault(concept, []).append(row)
    names = sorted({*plain, *variants})
    return names, [Concept(tuple(plain.get(n, ())), tuple(variants.get(n, ()))) for n in names]


def is_skin_tone_variant(groups: Mapping[str, str]) -> bool:
    """Whether the groups of a sample say that it is a skin-tone variant of another picture."""
    return groups.get("skin_tone", "none") not in ("none", "")
