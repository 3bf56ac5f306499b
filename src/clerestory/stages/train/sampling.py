"""Which picture is learnt from in which step: balanced by concept, and a pure function of (seed, step).

Nothing is remembered between steps, so a run that goes on after a kill sees exactly what it would have seen.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from clerestory.stages.train.shuffle import Keyed, Order, Rows


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

    An epoch is as many whole batches as the concepts fill; the few that are left over are others in each epoch.

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
        self._variants = variants
        self._order, self._choice = Order(len(concepts), seed), Keyed(seed, "picture of a concept")

    def epoch(self, step: int) -> int:
        """How often everything has been gone through before ``step``."""
        return step // self.steps_per_epoch

    def draw(self, step: int) -> Rows:
        """The rows of the pictures of step ``step``, ``(batch,)``."""
        epoch, part = divmod(step, self.steps_per_epoch)
        numbers = self._order.take(epoch * len(self._concepts) + part * self.batch, self.batch)
        chance_B2 = self._choice.uniforms(np.full(self.batch, epoch), numbers, 2)
        rows = np.empty(self.batch, np.int64)
        for i, (number, (kind, place)) in enumerate(zip(numbers.tolist(), chance_B2.tolist(), strict=True)):
            concept = self._concepts[number]
            pool = concept.plain
            if concept.variants and (not pool or kind < self._variants):
                pool = concept.variants
            rows[i] = pool[int(place * len(pool))]
        return rows


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
