"""Images with their captions: the training data of a fine-tuning, and its evaluation sets."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from clerestory.core.digest import digest
from clerestory.core.errors import DataError
from clerestory.core.sample import TRAIN, VAL, Dataset, Sample
from clerestory.data.images import decode_sample
from clerestory.stages.train.requirements import check_training_split
from clerestory.stages.train.sampling import (
    SharedCaptions,
    captions_of,
    draw_captions,
    is_skin_tone_variant,
    shared_captions,
)
from clerestory.stages.train.shuffle import ShuffledOrder

Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class CaptionPairs:
    """Images of one split with their captions.

    Attributes:
        data: the dataset.
        split: of the dataset; empty if it has none.
        samples: one for each image.
        captions: every distinct caption, sorted.
        captions_N: the index of each image's first caption; images with the same are not negatives of one another.
        all_captions: the indices of all its captions, the first one first.
        groups_N: the number of each image's concept.
    """

    data: Dataset
    split: str
    samples: tuple[Sample, ...]
    captions: tuple[str, ...]
    captions_N: Ints
    groups_N: Ints
    all_captions: tuple[tuple[int, ...], ...]

    def __len__(self) -> int:
        return len(self.samples)

    def image(self, row: int) -> Image.Image:
        """The image of a row, decoded. One at a time: a large one takes 100 MB."""
        return decode_sample(self.data, self.samples[int(row)])

    def draw(self, rows: Ints, epochs: Ints, seed: int) -> Ints:
        """The index of the caption that each of some images is trained on in its epoch."""
        return draw_captions(self.all_captions, rows, epochs, seed)

    def own(self, rows: range) -> NDArray[np.bool_]:
        """Which captions are those of each of some images ``(len(rows), M)``."""
        own = np.zeros((len(rows), len(self.captions)), np.bool_)
        for place, row in enumerate(rows):
            own[place, list(self.all_captions[row])] = True
        return own

    def shared(self) -> SharedCaptions:
        """The captions that different concepts have in common."""
        return shared_captions((sample.concept or sample.caption, sample.caption) for sample in self.samples)

    @property
    def images_digest(self) -> str:
        """Digest of the images in their order."""
        return digest([sample.image for sample in self.samples])

    @property
    def captions_digest(self) -> str:
        """Digest of the captions in their order."""
        return digest(list(self.captions))


def split_pairs(data: Dataset, split: str, limit: int = 0, seed: int = 0) -> CaptionPairs:
    """The captioned images of a split without skin-tone variants: ``limit`` of them, sampled evenly, or all if it is 0.

    Raises:
        DataError: there are none, or all have the same caption.
    """
    samples = [s for s in data if s.split == split and s.caption and not is_skin_tone_variant(s.groups)]
    if limit and len(samples) > limit:
        samples = [samples[row] for row in sorted(ShuffledOrder(len(samples), seed).take(0, limit).tolist())]
    own = [captions_of(s) for s in samples]
    captions = sorted({text for texts in own for text in texts})
    different = len({s.caption for s in samples})
    if different < 2:
        where = f"the split {split!r} of {data.name}" if split else data.name
        splits = ", ".join(sorted({s.split or "none" for s in data}))
        raise DataError(
            f"{where} has {different} different captions, and at least two are required to rank captions",
            f"add images of different things with captions, or choose another split (available: {splits})",
        )
    index = {caption: row for row, caption in enumerate(captions)}
    concepts: dict[str, int] = {}
    groups = [concepts.setdefault(s.concept or s.caption, len(concepts)) for s in samples]
    caption_rows = [index[s.caption] for s in samples]
    all_captions = tuple(tuple(index[text] for text in texts) for texts in own)
    return CaptionPairs(
        data, split, tuple(samples), tuple(captions), np.array(caption_rows), np.array(groups), all_captions
    )


def train_pairs(data: Dataset, limit: int, seed: int) -> CaptionPairs:
    """The training data: the ``train`` split, or all samples of data without splits.

    Raises:
        DataError: there is no ``train`` split, or it has no captioned images.
    """
    check_training_split(data)
    splits = {s.split for s in data}
    return split_pairs(data, TRAIN if TRAIN in splits else "", limit, seed)


def val_pairs(data: Dataset, limit: int, seed: int) -> CaptionPairs | None:
    """The validation images of the new data, None if it has too few to rank captions."""
    try:
        return split_pairs(data, VAL, limit, seed)
    except DataError:
        return None
