"""The same items seen fully, blindly, with another picture, or not at all: how much of a score needs the picture."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from clerestory.core.sample import Sample
from clerestory.stages.evaluate.shared.row_builder import CLEAN
from clerestory.stages.evaluate.tasks.answer_parsing import credit, normalised
from clerestory.stages.evaluate.tasks.items import Item

BLIND_VIEW, SHUFFLED, MAJORITY = "blind", "shuffled_image", "majority"
VIEWS = (CLEAN, BLIND_VIEW, SHUFFLED, MAJORITY)


def shown(items: Sequence[Item], view: str, seed: int) -> list[Sample | None]:
    """The picture that each item is asked about in a view, None for none.

    ``shuffled_image`` shows the picture of another cluster, by a seeded ring over the clusters, so that nobody keeps
    their own; items of a single cluster have no other picture to show.
    """
    if view == BLIND_VIEW:
        return [None] * len(items)
    if view != SHUFFLED:
        return [item.sample for item in items]
    first: dict[str, Sample] = {}
    for item in items:
        first.setdefault(item.cluster, item.sample)
    ring = sorted(first, key=lambda name: hashlib.sha256(f"{seed}/{name}".encode()).digest())
    follows = dict(zip(ring, ring[1:] + ring[:1], strict=True))
    return [first[follows[item.cluster]] if len(ring) > 1 else None for item in items]


def frequencies(items: Sequence[Item]) -> Counter[str]:
    """How often each answer is the right one."""
    return Counter(normalised(item.answers[0]) for item in items if item.answers)


def in_half(item: Item) -> bool:
    """Which half of the clusters an item is in, by a hash."""
    return hashlib.sha256(item.cluster.encode()).digest()[0] % 2 == 0


def majority_credit(item: Item, frequency: Mapping[str, int]) -> tuple[str, float]:
    """The answer of one who only knows how often each is right, and its score.

    Options that are equally frequent share the score; without options it is the most frequent answer of all.
    """
    if not item.options:
        best = max(frequency, key=lambda answer: (frequency[answer], answer), default="")
        return best, float(best in {normalised(answer) for answer in item.answers})
    counts = np.array([frequency.get(normalised(option), 0) for option in item.options], dtype=np.float64)
    return item.options[int(counts.argmax())], credit(counts, item.right)
