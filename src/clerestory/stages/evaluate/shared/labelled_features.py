"""What classifiers learn from: embeddings and labels of the training and the validation split.

Pictures to learn from are never pictures to be judged on: data without a ``train`` split has nothing to learn from.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from clerestory.core.digest import digest
from clerestory.core.sample import Dataset
from clerestory.models.protocols import Embedder
from clerestory.stages.evaluate.shared.class_prompts import Classes
from clerestory.stages.evaluate.shared.embeddings import embed_dataset
from clerestory.stages.evaluate.shared.retrieval_split import PLAIN_SKIN, concept_of
from clerestory.stages.evaluate.shared.sampling import choose

if TYPE_CHECKING:
    from clerestory.stages.evaluate.context import EvaluationContext

TRAIN, VAL = "train", "val"
MOST = 4000
HELD_OUT = 0.1

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


class LabelledFeatures(NamedTuple):
    """Pictures that classifiers may look at.

    Attributes:
        features: (M, D) embeddings.
        labels: (M,) class numbers.
        concepts: the M concepts.
        of: how many pictures the split has, variants left out.
    """

    features: Floats
    labels: Ints
    concepts: tuple[str, ...]
    of: int


def lesson(
    bench: EvaluationContext, split: str, classes: Classes, model: Embedder | None = None
) -> LabelledFeatures | None:
    """The labelled, readable ones among at most 4,000 pictures of a split, by a hash of the seed; None for none.

    Without skin-tone variants: they would make a few concepts count many times. The pictures are chosen before their
    labels are looked at, so that every part of an evaluation embeds the same ones. ``model`` is the bench's own unless
    another is given.
    """
    if split in bench.splits:
        return None
    there = bench.data.where(lambda s: s.split == split and s.groups.get("skin_tone", "") in PLAIN_SKIN)
    some = choose(there, MOST, bench.config.seed)
    taken = [sample for sample, label in zip(some, classes.of(some), strict=True) if label >= 0]
    if not taken:
        return None
    data = Dataset(bench.data.name, taken, bench.data.read)
    config = bench.config
    embedded = embed_dataset(model or bench.embedder, data, bench.store, bench.progress, config.batch_size).astype(
        np.float64
    )
    usable = np.asarray(~np.isnan(embedded).any(axis=1))
    if not usable.any():
        return None
    concepts = tuple(concept_of(s, config.language) for s, use in zip(data, usable, strict=True) if use)
    return LabelledFeatures(embedded[usable], classes.of(data)[usable], concepts, len(there))


def cut(train: LabelledFeatures) -> tuple[LabelledFeatures, LabelledFeatures]:
    """A tenth of the concepts set aside, by a hash: what to fit on, and what to choose the penalty on."""
    aside = np.array([int(digest({"aside": name})[:8], 16) / 2**32 < HELD_OUT for name in train.concepts])
    if not aside.any() or aside.all():
        return train, train

    def take(which: NDArray[np.bool_]) -> LabelledFeatures:
        concepts = tuple(name for name, use in zip(train.concepts, which, strict=True) if use)
        return LabelledFeatures(train.features[which], train.labels[which], concepts, train.of)

    return take(~aside), take(aside)


def told(name: str, found: LabelledFeatures) -> str:
    """How many pictures of a split were learnt from, in words."""
    chosen = (
        f"the labelled ones among {MOST:,} chosen by a hash of the seed" if found.of > MOST else "all labelled ones"
    )
    return f"{len(found.labels)} pictures of {name} ({chosen}; no skin-tone variants)"
