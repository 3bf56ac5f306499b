"""The images of each step: balanced by concept, and a pure function of (seed, step).

There is no state between steps, so a run resumed after a kill draws exactly what an uninterrupted one draws.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np

from clerestory.core.sample import Sample
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


def captions_of(sample: Sample) -> tuple[str, ...]:
    """The captions of an image, each once: its first one, and the others of that language that are not keywords."""
    if not sample.captions:
        return ()
    first = sample.captions[0]
    others = [c.text for c in sample.captions[1:] if c.kind == first.kind and c.lang == first.lang]
    return tuple(dict.fromkeys(text for text in (first.text, *others) if text))


def draw_captions(captions_N: Sequence[Sequence[int]], rows: Rows, epochs: Rows, seed: int) -> Rows:
    """One caption of each image of a batch, drawn by (seed, epoch, image); an image with one caption always has that.

    Args:
        captions_N: the numbers of each image's captions.
        rows: the images of the batch, ``(B,)``.
        epochs: the epoch of each, ``(B,)``.
        seed: of the draws.

    Returns:
        The number of a caption for each image of the batch, ``(B,)``.
    """
    own = [captions_N[row] for row in rows.tolist()]
    drawn = np.array([captions[0] for captions in own], np.int64)
    if any(len(captions) > 1 for captions in own):
        uniform_B = SampleRng(seed, "caption").uniforms(epochs, rows, 1)[:, 0]
        for i, captions in enumerate(own):
            drawn[i] = captions[int(uniform_B[i] * len(captions))]
    return drawn


class SharedCaptions(NamedTuple):
    """Captions that images of different concepts have in common.

    Attributes:
        concepts: the number of concepts that share a caption with another one.
        total: the number of all concepts.
        caption: the caption of the most concepts; empty if none is shared.
        most: the number of concepts that have it.
    """

    concepts: int
    total: int
    caption: str
    most: int


def shared_captions(captions: Iterable[tuple[str, str]]) -> SharedCaptions:
    """Count the concepts that share a caption, from (concept, caption) of every image.

    The contrastive loss cannot tell such images apart: equal captions are not negatives of one another.
    """
    by_caption: dict[str, set[str]] = {}
    concepts: set[str] = set()
    for concept, caption in captions:
        by_caption.setdefault(caption, set()).add(concept)
        concepts.add(concept)
    shared = {caption: having for caption, having in by_caption.items() if len(having) > 1}
    caption = min(shared, key=lambda text: (-len(shared[text]), text), default="")
    affected = set().union(*shared.values()) if shared else set()
    return SharedCaptions(len(affected), len(concepts), caption, len(shared.get(caption, ())))


def is_skin_tone_variant(groups: Mapping[str, str]) -> bool:
    """Whether the groups of a sample mark it as a skin-tone variant of another image."""
    return groups.get("skin_tone", "none") not in ("none", "")
