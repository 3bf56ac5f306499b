"""The training split in memory: images as one array, texts as embeddings, concepts as rows.

Only samples of the training split are read, and of ``val`` for the validation curve; never of ``test``.

Shape suffixes: N images, U images without captions, H and W pixels, C channels, M texts, E shared space.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from clerestory.core.progress import Progress
from clerestory.core.sample import VAL, Dataset, Sample
from clerestory.data.images import decode_sample
from clerestory.models.pixels import to_pixels
from clerestory.models.processor import SPECIAL, make_tokenizer
from clerestory.models.projection import principal_axes
from clerestory.models.protocols import Matrix
from clerestory.models.text_tower import TextTower
from clerestory.stages.train.requirements import check_trainable, is_supplementary, training_samples
from clerestory.stages.train.sampling import (
    ConceptRows,
    SharedCaptions,
    captions_of,
    group_concepts,
    is_skin_tone_variant,
    shared_captions,
)

LANGUAGE = "en"  # the text tower reads English
KEYWORD = "keyword"


@dataclass(frozen=True, slots=True)
class TrainImages:
    """Images with their texts, row by row.

    Attributes:
        pixels_NHWC: uint8.
        caption_N: the row of each image's first caption in ``texts_ME``; images with the same are not negatives of one
            another.
        all_captions: the rows of all its captions, the first one first; each step is trained on one of them.
        keywords: the rows of each image's keywords in ``texts_ME``.
        texts_ME: embeddings of the text tower, unit rows.
        captions: the rows of ``texts_ME`` that are first captions, each once.
        texts: the texts themselves.
    """

    pixels_NHWC: Tensor
    caption_N: Tensor
    keywords: tuple[tuple[int, ...], ...]
    texts_ME: Matrix
    captions: Tensor
    texts: tuple[str, ...]
    all_captions: tuple[tuple[int, ...], ...]

    def caption(self, row: int) -> str:
        """The first caption of one image."""
        return self.texts[int(self.caption_N[row])]

    def distinct_captions(self) -> list[int]:
        """The rows of ``texts_ME`` that are captions, first ones or others, each once and sorted."""
        return sorted({row for rows in self.all_captions for row in rows})


@dataclass(frozen=True, slots=True)
class TrainData:
    """The data of a training run.

    Attributes:
        train: the training images.
        val: the validation images without variants; None if the data has no such split.
        concepts: the concepts to draw from, as rows of ``train``.
        supplement: the same for the supplementary images, whose captions the decoder is not trained on.
        rotation_EE: principal axes of the training captions.
        unlabelled_UHWC: training images without captions, uint8; empty if they are not used.
        unused: the number of training images without captions, if they are not used.
        uncaptioned: the number of training images without captions, used or not.
        shared: the captions that different concepts have in common.
        truncated_texts: the number of texts that are longer than the text tower reads.
    """

    train: TrainImages
    val: TrainImages | None
    concepts: tuple[ConceptRows, ...]
    rotation_EE: Matrix
    unlabelled_UHWC: Tensor
    unused: int = 0
    supplement: tuple[ConceptRows, ...] = ()
    uncaptioned: int = 0
    shared: SharedCaptions = SharedCaptions(0, 0, "", 0)
    truncated_texts: int = 0

    @property
    def size(self) -> int:
        """The number of all training images, with captions and without."""
        return len(self.train.pixels_NHWC) + self.uncaptioned

    def decoder_captions(self) -> list[int]:
        """The captions that the decoder is trained on, as rows of ``train.texts_ME``: all except the supplement's."""
        rows = [row for concept in self.concepts for row in (*concept.plain, *concept.variants)]
        return sorted({caption for row in rows for caption in self.train.all_captions[row]})


def prepare(
    data: Dataset, store_side: int, side: int, tower: TextTower, progress: Progress, unlabelled: bool = False
) -> TrainData:
    """Read the images and embed the texts.

    Args:
        data: with a split ``train``, or without splits, in which case all of it is training data.
        store_side: side of the training images in memory; larger than ``side``, so that zooming stays sharp.
        side: side of the validation images.
        tower: the text tower.
        progress: receives the number of images read.
        unlabelled: whether to read training images without captions, too (except skin-tone variants).

    Raises:
        DataError: there are fewer than two concepts with captions, or all captions are equal.
    """
    check_trainable(data)
    train, uncaptioned = training_samples(data)
    extra = [s for s in uncaptioned if not is_skin_tone_variant(s.groups)] if unlabelled else []
    val = [s for s in data if s.split == VAL and s.caption and not is_skin_tone_variant(s.groups)]
    # Supplementary images come last: their rows follow those of the main images.
    train.sort(key=is_supplementary)
    main = sum(not is_supplementary(s) for s in train)
    concepts, supplement = _concepts(train[:main], 0), _concepts(train[main:], main)
    shared = shared_captions((s.concept or s.caption, s.caption) for s in train[:main])
    with progress.task("Reading images", len(train) + len(extra) + len(val)) as task:
        train_images = _images(train, data, store_side, tower, task.advance)
        unlabelled_UHWC = _pixels(extra, data, store_side, task.advance)
        val_images = _images(val, data, side, tower, task.advance) if val else None
    axes = principal_axes(train_images.texts_ME[train_images.distinct_captions()])
    return TrainData(
        train=train_images,
        val=val_images,
        concepts=tuple(concepts),
        rotation_EE=axes,
        unlabelled_UHWC=unlabelled_UHWC,
        unused=0 if unlabelled else len(uncaptioned),
        supplement=tuple(supplement),
        uncaptioned=len(uncaptioned),
        shared=shared,
        truncated_texts=tower.count_truncated(train_images.texts),
    )


def _concepts(samples: list[Sample], first: int) -> list[ConceptRows]:
    """The concepts of the samples, as rows counted from ``first``."""
    names = [s.concept or s.caption for s in samples]
    _, concepts = group_concepts(names, [is_skin_tone_variant(s.groups) for s in samples])
    return [ConceptRows(*(tuple(first + row for row in rows) for rows in (c.plain, c.variants))) for c in concepts]


def _images(
    samples: list[Sample], data: Dataset, side: int, tower: TextTower, advance: Callable[[int], None]
) -> TrainImages:
    keywords = [_keywords(s) for s in samples]
    captions = [captions_of(s) for s in samples]
    texts = sorted({text for row in (*captions, *keywords) for text in row})
    row_of = {text: i for i, text in enumerate(texts)}
    caption_rows = [row_of[s.caption] for s in samples]
    return TrainImages(
        pixels_NHWC=_pixels(samples, data, side, advance),
        caption_N=torch.tensor(caption_rows),
        keywords=tuple(tuple(row_of[k] for k in row) for row in keywords),
        texts_ME=tower.embed_cached(texts),
        captions=torch.tensor(sorted(set(caption_rows))),
        texts=tuple(texts),
        all_captions=tuple(tuple(row_of[text] for text in own) for own in captions),
    )


def _pixels(samples: list[Sample], data: Dataset, side: int, advance: Callable[[int], None]) -> Tensor:
    """The pixels, ``(N, H, W, C)`` uint8."""
    pixels_NHWC = np.empty((len(samples), side, side, 3), np.uint8)
    for row, sample in enumerate(samples):
        pixels_NHWC[row] = to_pixels([decode_sample(data, sample)], side)[0]
        if row % 100 == 99:
            advance(100)
    return torch.from_numpy(pixels_NHWC)


def _keywords(sample: Sample) -> tuple[str, ...]:
    """English keywords other than the captions themselves, in a fixed order."""
    keywords = {c.text for c in sample.captions[1:] if c.lang == LANGUAGE and c.text and c.kind == KEYWORD}
    return tuple(sorted(keywords - set(captions_of(sample))))


def caption_tokenizer(train_data: TrainData, known: Sequence[str] = SPECIAL) -> PreTrainedTokenizerFast:
    """The decoder's tokenizer: the words of the captions it is trained on; those in ``known`` keep their ids."""
    captions = (train_data.train.texts[row] for row in train_data.decoder_captions())
    return make_tokenizer(captions, base_vocab=known)
