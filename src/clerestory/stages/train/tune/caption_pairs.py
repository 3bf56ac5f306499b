"""Pictures with a caption each: what is learnt from, and what is looked at to see what is still known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from clerestory.core.digest import digest
from clerestory.core.errors import DataError
from clerestory.core.sample import TRAIN, VAL, Dataset, Sample
from clerestory.data.images import decode_image
from clerestory.stages.train.sampling import is_skin_tone_variant
from clerestory.stages.train.shuffle import Order

Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Pairs:
    """Pictures of one split with their captions.

    Attributes:
        data: where they come from.
        split: of it; empty where it has none.
        samples: the pictures.
        captions: every distinct caption, sorted.
        own_N: the row of each picture's caption.
        groups_N: the number of each picture's concept.
    """

    data: Dataset
    split: str
    samples: tuple[Sample, ...]
    captions: tuple[str, ...]
    own_N: Ints
    groups_N: Ints

    def __len__(self) -> int:
        return len(self.samples)

    def images(self, rows: Sequence[int] | Ints | range) -> list[Image.Image]:
        """The pictures of some rows, decoded."""
        return [decode_image(self.data.read(self.samples[int(row)])) for row in rows]

    def texts(self, rows: Sequence[int] | Ints | range) -> list[str]:
        """The captions of some rows."""
        return [self.captions[self.own_N[int(row)]] for row in rows]

    @property
    def pictures_digest(self) -> str:
        """What the pictures are, in their order."""
        return digest([sample.image for sample in self.samples])

    @property
    def captions_digest(self) -> str:
        """What the captions are, in their order."""
        return digest(list(self.captions))


def pairs_of(data: Dataset, split: str, most: int = 0, seed: int = 0) -> Pairs:
    """Captioned pictures of a split, without skin-tone variants; ``most`` of them, evenly drawn, where that is given.

    Raises:
        DataError: there are none, or all have one caption.
    """
    found = [s for s in data if s.split == split and s.caption and not is_skin_tone_variant(s.groups)]
    if most and len(found) > most:
        found = [found[row] for row in sorted(Order(len(found), seed).take(0, most).tolist())]
    captions = sorted({s.caption for s in found})
    if len(captions) < 2:
        where = f"the split {split!r} of {data.name}" if split else data.name
        splits = ", ".join(sorted({s.split or "none" for s in data}))
        raise DataError(
            f"{where} has {len(captions)} different captions, and at least two are needed to tell pictures apart",
            f"bring in pictures of different things with captions, or name another split (there is {splits})",
        )
    place = {caption: row for row, caption in enumerate(captions)}
    concepts: dict[str, int] = {}
    groups = [concepts.setdefault(s.concept or s.caption, len(concepts)) for s in found]
    own = [place[s.caption] for s in found]
    return Pairs(data, split, tuple(found), tuple(captions), np.array(own), np.array(groups))


def learning_pairs(data: Dataset, most: int, seed: int) -> Pairs:
    """What is learnt from: the ``train`` split, or all of data without splits."""
    splits = {s.split for s in data}
    if TRAIN not in splits and splits != {""}:
        named = ", ".join(sorted(splits - {""}))
        raise DataError(f"{data.name} has no split train (it has {named})", "name the pictures to learn from train")
    return pairs_of(data, TRAIN if TRAIN in splits else "", most, seed)


def watched_pairs(data: Dataset, most: int, seed: int) -> Pairs | None:
    """The validation pictures of the new data, None where it has none to tell apart."""
    try:
        return pairs_of(data, VAL, most, seed)
    except DataError:
        return None
